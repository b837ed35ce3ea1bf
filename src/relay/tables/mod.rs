//! Data structures for the layers below: timers, keyed hashes, linked lists and rates.

pub(crate) mod idle_order;
pub(crate) mod keyed_hash;
pub(crate) mod meter;
pub(crate) mod wheel;
