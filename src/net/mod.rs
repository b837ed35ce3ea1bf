//! Sockets, signals and the poll that waits for them.

mod descriptors;
mod event_loop;
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "the certificate is the only file"))]
mod files;
mod listener;
mod signals;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod token;

pub use descriptors::raise_file_limit;
pub use event_loop::{BindError, Server, StopHandle, Stopped, Turn};
pub use files::FileError;
