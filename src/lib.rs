//! A WebSocket relay.
#![forbid(unsafe_code)]

pub mod relay;
