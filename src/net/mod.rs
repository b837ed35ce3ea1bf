//! Sockets, signals, files, and the poll that waits for them.
//!
//! | module | its one job |
//! | --- | --- |
//! | `platform` | what differs between systems |
//! | `token` | mio's tokens: what an event is about |
//! | `files`, `access_files` | the files that settings name; API keys and address rules among them |
//! | `listener`, `inherited` | listening sockets: those opened here, and those that a supervisor hands on |
//! | `tls` | TLS for the streams of clients |
//! | `stream` | what the relay reads and writes: a connection, bare or within TLS |
//! | `descriptors` | how many connections there are descriptors for |
//! | `event_loop` | [`Server`]: waits for events, feeds them to the relay and does what it asks |
//! | `health_check` | asks a running relay whether it is healthy |

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
