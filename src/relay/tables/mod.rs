//! Data structures that the layers below share: timers, keyed hashes, orders and rates.

pub(crate) mod idle_order;
pub(crate) mod keyed_hash;
pub(crate) mod meter;
pub(crate) mod wheel;
