//! Everything that differs between operating systems. No other file of the crate depends on the system.
//!
//! | | Linux | macOS, FreeBSD | Windows |
//! | --- | --- | --- | --- |
//! | events | epoll, edge-triggered | kqueue with `EV_CLEAR` | mio imitates edges on top of AFD's levels |
//! | a short read | has emptied the socket | has emptied the socket | the socket is read until it blocks |
//! | the end of the stream | `EPOLLRDHUP` | `EV_EOF` of the read filter | `AFD_POLL_DISCONNECT` |
//! | writing has failed | `EPOLLERR`, `EPOLLHUP` | `EV_EOF` with an error | `AFD_POLL_ABORT` |
//! | requests to stop | signals | signals | console events |
//! | Unix-domain sockets | yes | yes | no |
//! | inherited sockets | yes | no | no |
//!
//! Partial writes are the same everywhere: the relay writes until the socket would block, and every system then
//! reports when it takes bytes again.

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

/// Text that `--help` adds on this system.
#[cfg(feature = "cli")]
pub const HELP_NOTE: &str = system::HELP_NOTE;

/// The signals, or console events, received since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SignalsTaken {
    /// The number of requests to stop.
    pub(super) stops: usize,
    /// SIGHUP: files are to be read again. If the configuration names none, the terminal is gone.
    pub(super) is_hangup: bool,
    /// The time after which the system ends the process; `None` if it does not.
    pub(super) grace_max: Option<Duration>,
}
