//! What the relay counts and measures, and why connections end.

pub(crate) mod counters;
pub(crate) mod end_reason;
pub(crate) mod histogram;
