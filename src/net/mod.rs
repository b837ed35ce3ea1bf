//! Sockets, signals and the poll that waits for them.

mod descriptors;
mod event_loop;
mod listener;
mod signals;
mod token;

pub use descriptors::raise_file_limit;
pub use event_loop::{BindError, Server, StopHandle, Stopped, Turn};
