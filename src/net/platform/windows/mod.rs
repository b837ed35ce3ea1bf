//! Windows.

mod local_listener;
#[cfg(feature = "cli")]
mod signals;
#[cfg(feature = "cli")]
mod stderr;

use std::fs::File;
use std::io;
use std::path::Path;

use mio::Interest;
#[cfg(feature = "cli")]
use socket2::SockAddr;
use socket2::{SockRef, Socket};

use crate::admin::Process;
#[cfg(feature = "cli")]
use crate::config::ListenAddress;

pub(in crate::net) use local_listener::LocalListener;
#[cfg(feature = "cli")]
pub(in crate::net) use signals::ProcessSignals;
#[cfg(feature = "cli")]
pub use stderr::{Dropped, LogOutput, write_last};

/// The events that a stream is registered for.
pub(in crate::net) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The remedy if the process may not listen on a port.
pub(in crate::net) const PORT_REMEDY: &str =
    "choose a port that no other program has to itself and Windows has not reserved";

/// Whether an accepted stream inherits the options of its listener.
pub(in crate::net) const INHERITS_STREAM_OPTIONS: bool = false;

/// Windows has no limit on sockets. This is more than memory allows.
const UNLIMITED: usize = 1 << 20;

/// What is missing on Windows.
#[cfg(feature = "cli")]
pub(super) const HELP_NOTE: &str = "
On Windows there are no Unix-domain sockets (unix:/PATH), no systemd and no reload
of files while the relay runs: restart it. Ctrl-C, Ctrl-Break and closing the
console stop it cleanly; Windows allows 5 seconds for the last of these.
";

const WSAEAFNOSUPPORT: i32 = 10_047;

/// Sets no option: on Windows, `SO_REUSEADDR` would let another program take over the port.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(in crate::net) fn set_listener_options(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Turns off Nagle's algorithm, so that messages leave at once.
pub(in crate::net) fn set_stream_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)
}

/// Whether the error says that the system lacks the address family, usually IPv6.
pub(in crate::net) fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WSAEAFNOSUPPORT)
}

/// Opens a file for reading.
pub(in crate::net) fn open_at_once(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Does nothing: Windows has no limit on open files.
///
/// # Errors
/// Never.
pub fn raise_file_limit() -> io::Result<()> {
    Ok(())
}

/// How many files the process may have open.
#[must_use]
pub(in crate::net) const fn file_limit() -> usize {
    UNLIMITED
}

/// The figures that need no `unsafe` call: only the open descriptors.
pub(in crate::net) fn read_process(open_fds: u64) -> Process {
    Process { open_fds: Some(open_fds), ..Process::default() }
}

/// Always an error: Windows has no inherited sockets.
#[cfg(feature = "cli")]
pub(in crate::net) fn inherited_sockets() -> io::Result<Vec<Socket>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "sockets are taken over on Linux only; leave the variable out and use --listen",
    ))
}

#[cfg(feature = "cli")]
pub(in crate::net) fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.local_addr().map(|_| true)
}

#[cfg(feature = "cli")]
pub(in crate::net) fn listen_address(address: &SockAddr) -> Option<ListenAddress> {
    address.as_socket().map(ListenAddress::Tcp)
}
