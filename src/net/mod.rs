//! Sockets, signals, files, and the poll that waits for them.
//!
//! | module | its one job |
//! | --- | --- |
//! | `platform` | what differs between systems |
//! | `token` | mio's tokens: what an event is about |
//! | `files`, `access_files` | the files that settings name; API keys and address rules among them |
//! | `listener`, `inherited` | listening sockets: opened here, or passed on by a supervisor |
//! | `tls` | TLS for the streams of clients |
//! | `stream` | what the relay reads and writes: a connection, plain or within TLS |
//! | `descriptors` | how many connections the limit on open files allows |
//! | `event_loop` | [`Server`]: waits for events, passes them to the relay and performs its effects |
//! | `health_check` | asks a running relay whether it is healthy |

mod access_files;
mod descriptors;
mod event_loop;
mod files;
#[cfg(feature = "cli")]
mod health_check;
#[cfg(feature = "cli")]
mod inherited;
mod listener;
mod platform;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod token;

pub use event_loop::{BindError, Server, StopHandle, Stopped, Turn};
pub use files::FileError;
#[cfg(feature = "cli")]
pub use health_check::check_health;
#[cfg(feature = "cli")]
pub use inherited::{Inherited, InheritedError};
pub use platform::raise_file_limit;
#[cfg(feature = "cli")]
pub use platform::{Dropped, HELP_NOTE, LogOutput, write_last};
