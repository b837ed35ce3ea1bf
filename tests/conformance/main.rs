//! RFC 6455 without sockets: the bytes that a client sends, and all that it gets back.
//!
//! The rows are the cases of the Autobahn|Testsuite and have its numbers, so that plain `cargo test` checks what
//! `tests/autobahn/run` checks. Rows without a number are our own. Each row is sent whole, byte by byte, in the suite's
//! pieces and with a message after it, to an echo over the relay's own connections.
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
