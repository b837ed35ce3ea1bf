//! What differs between systems. No other file of the crate asks which one it runs on.
//!
//! | | Linux | macOS, FreeBSD | Windows |
//! | --- | --- | --- | --- |
//! | events | epoll, edge-triggered | kqueue with `EV_CLEAR` | mio makes edges of the levels of AFD |
//! | a short read | has emptied the socket | has emptied the socket | the socket is read until it blocks |
//! | the end of the stream | `EPOLLRDHUP` | `EV_EOF` of the read filter | `AFD_POLL_DISCONNECT` |
//! | writing has failed | `EPOLLERR`, `EPOLLHUP` | `EV_EOF` with an error | `AFD_POLL_ABORT` |
//! | what is asked to stop it | signals | signals | console events |
//! | Unix-domain sockets | yes | yes | no |
//! | inherited sockets | yes | no | no |
//!
//! A partial write needs no rule: the relay writes on until the socket refuses, after which every system tells when
//! it takes bytes again.

mod edges;
#[cfg(not(feature = "cli"))]
mod no_signals;
#[cfg(any(windows, not(feature = "cli")))]
mod no_supervisor;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::time::Duration;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub(super) use edges::{read, read_vectored, readiness_of};
#[cfg(not(feature = "cli"))]
pub(super) use no_signals::ProcessSignals;
#[cfg(any(windows, not(feature = "cli")))]
pub(super) use no_supervisor::Supervisor;
pub use system::raise_file_limit;
#[cfg(feature = "cli")]
pub use system::{Dropped, LogOutput, write_last};
pub(super) use system::{
    INHERITS_STREAM_OPTIONS, INTEREST, LocalListener, PORT_REMEDY, file_limit, is_family_missing,
    open_at_once, read_process, set_listener_options, set_stream_options,
};
#[cfg(feature = "cli")]
pub(super) use system::{ProcessSignals, inherited_sockets, is_listening, listen_address};
#[cfg(all(unix, feature = "cli"))]
pub(super) use unix::Supervisor;

/// What `--help` adds on this system.
#[cfg(feature = "cli")]
pub const HELP_NOTE: &str = system::HELP_NOTE;

/// What the system asks of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SignalsTaken {
    /// How often to stop.
    pub(super) stops: usize,
    /// To read files again; where there is none, that the terminal is gone.
    pub(super) is_hangup: bool,
    /// After which time the system ends the process, if it will.
    pub(super) grace_max: Option<Duration>,
}
