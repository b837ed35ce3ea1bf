//! Sockets, signals and the poll that waits for them.

mod access_files;
mod descriptors;
mod event_loop;
mod files;
mod health_check;
mod inherited;
mod listener;
mod platform;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod token;

pub use event_loop::{BindError, Server, StopHandle, Stopped, Turn};
pub use files::FileError;
pub use health_check::check_health;
pub use inherited::{Inherited, InheritedError};
pub use platform::{Dropped, HELP_NOTE, LogOutput, raise_file_limit, write_last};
