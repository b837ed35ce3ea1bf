//! A relay that pairs a desktop app with a mobile app over WebSocket connections and carries JSON messages
//! between them.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod entropy;
pub mod net;
pub mod relay;

pub use config::Config;
pub use net::{BindError, Server, StopHandle, Stopped, Turn};
