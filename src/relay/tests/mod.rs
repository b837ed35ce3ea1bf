//! The whole engine on a virtual clock: what the contract says of time, order and pressure.

mod pressure;
mod sessions;
mod timing;
mod world;
