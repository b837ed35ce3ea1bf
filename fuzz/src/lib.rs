//! What the fuzz targets check, as plain functions: nightly's fuzzer calls them with inputs that it
//! makes, and `cargo test` with those in `seeds`. Each begins with the sentence that it tries to
//! refute.

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
