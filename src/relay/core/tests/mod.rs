//! The whole engine on a virtual clock: what the contract says of time, order and pressure.

mod access;
mod counting;
mod delivery;
mod drain;
mod health;
mod hook;
mod line;
mod memory;
mod pressure;
mod sessions;
mod standstill;
mod streaming;
mod timing;
mod world;
