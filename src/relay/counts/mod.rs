//! What the relay counts and measures, and the reasons why connections end.

pub(crate) mod counters;
pub(crate) mod end_reason;
pub(crate) mod histogram;
