//! The checks of the fuzz targets as plain functions. The nightly fuzzer calls them with its own inputs, and `cargo
//! test` with the inputs in `seeds`. Each begins with the statement that it tries to refute.

pub mod access_files;
pub mod admin;
mod answer;
mod choices;
pub mod frame;
mod frames;
pub mod handshake;
pub mod hosts;
pub mod message;
mod origins;
pub mod proxy_header;
mod ranges;
pub mod relay;
pub mod session;
pub mod transit;
pub mod wheel;
mod wire;
