//! The contract, `src/guide/protocol.md`, clause by clause, against the real binary: each test starts a relay of its
//! own on port 0.
#![allow(clippy::disallowed_methods, reason = "real sockets live in real time")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets the unexpected fails by panicking, and then prints the relay's log"
)]

mod answer;
mod client;
mod frame;
mod harness;
// Uses processor times from /proc.
#[cfg(target_os = "linux")]
mod processor;
#[cfg(feature = "tls")]
mod secure;
mod stream;

mod access;
mod activation;
mod admin;
mod budget;
mod delivery;
mod health_check;
mod http;
mod kept;
mod logging;
mod messages;
mod pressure;
mod process;
mod receipts;
#[cfg(target_os = "linux")]
mod rest;
mod session_life;
mod standstill;
mod streaming;
mod supervisor;
mod system_messages;
#[cfg(feature = "tls")]
mod tls;
mod unix_socket;
mod upgrade;
mod websocket;
