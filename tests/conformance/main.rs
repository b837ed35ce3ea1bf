//! RFC 6455 without sockets: what a client sends, in bytes, and all that it gets back.
//!
//! The rows stand for the cases of the Autobahn|Testsuite and carry their numbers, so that plain `cargo test`
//! proves what `tests/autobahn/run` does; a row without a number is ours. Each is sent whole, byte by byte,
//! in the suite's chops and with a message behind it, to an echo over the relay's own connections.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails by panicking"
)]

mod client;
mod echo;
#[path = "../contract/frame.rs"]
mod frame;

mod closing;
mod control;
mod fragmentation;
mod framing;
mod utf8;
