//! Attacks on the real binary. Each one is a published vulnerability of a similar server. The contract says what is
//! allowed; these tests check that an attack harms neither the relay nor other clients.
// Memory, processor time and descriptors are read from /proc.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "real sockets live in real time")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets the unexpected fails by panicking, and then prints the relay's log"
)]
#![allow(dead_code, reason = "some of what is shared serves only the tests of the contract")]

#[path = "../contract/answer.rs"]
mod answer;
#[path = "../contract/client.rs"]
mod client;
#[path = "../contract/frame.rs"]
mod frame;
#[path = "../contract/harness.rs"]
mod harness;
#[path = "../contract/processor.rs"]
mod processor;
#[cfg(feature = "tls")]
#[path = "../contract/secure.rs"]
mod secure;
#[path = "../contract/stream.rs"]
mod stream;

mod bystanders;
mod footprint;

mod budget;
mod connections;
mod floods;
mod fragments;
mod frames;
mod heads;
mod json;
mod log;
mod operator;
