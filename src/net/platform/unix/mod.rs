//! Linux, macOS, the BSDs.

#[cfg(feature = "cli")]
mod inherited;
mod limits;
mod local_listener;
mod process;
#[cfg(feature = "cli")]
mod signals;
mod socket_file;
#[cfg(feature = "cli")]
mod stderr;
#[cfg(feature = "cli")]
mod supervisor;

use std::fs::{File, OpenOptions};
use std::io;
#[cfg(not(mio_unsupported_force_poll_poll))]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mio::Interest;
use rustix::fs::OFlags;
use rustix::io::Errno;
use socket2::{SockRef, Socket};

#[cfg(feature = "cli")]
pub(in crate::net) use inherited::{inherited_sockets, is_listening, listen_address};
pub(in crate::net) use limits::file_limit;
pub use limits::raise_file_limit;
pub(in crate::net) use local_listener::LocalListener;
pub(in crate::net) use process::read as read_process;
#[cfg(feature = "cli")]
pub(in crate::net) use signals::ProcessSignals;
#[cfg(feature = "cli")]
pub use stderr::{Dropped, LogOutput, write_last};
#[cfg(feature = "cli")]
pub(in crate::net) use supervisor::Supervisor;

/// What a stream is watched for. Where the system tells of urgent data, that is part of it: a read ends where it
/// was, and a further one brings what is behind.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::net) const INTEREST: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in crate::net) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// What helps where a port may not be listened on.
pub(in crate::net) const PORT_REMEDY: &str = if cfg!(any(target_os = "linux", target_os = "android")) {
    "use a port above 1023 or grant CAP_NET_BIND_SERVICE"
} else {
    "use a port above 1023"
};

/// Whether an accepted stream has the options of its listener.
pub(in crate::net) const INHERITS_STREAM_OPTIONS: bool = cfg!(target_os = "linux");

/// Nothing to add.
#[cfg(feature = "cli")]
pub(super) const HELP_NOTE: &str = "";

/// Sockets of an earlier run that linger in `TIME_WAIT` do not keep the port from us.
pub(in crate::net) fn set_listener_options(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Messages leave at once, and what the network has not taken waits in the relay, where replies can overtake it.
pub(in crate::net) fn set_stream_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.set_tcp_notsent_lowat(crate::relay::limits::NOT_SENT_LOW_WATER_BYTES) {
        // Systems that stand in for Linux may lack it. Replies then wait behind more of a message.
        log::debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
    }
    Ok(())
}

/// Whether the error says that the system lacks the family of the address: IPv6, as a rule.
pub(in crate::net) fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Opens a file to read it, without waiting for whatever else may be at its path: a FIFO would otherwise be waited
/// for until somebody writes.
pub(in crate::net) fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The descriptor that is readable while something is ready for the server, a [`StopHandle`](crate::StopHandle)'s
/// request included. A host waits for it beside what else it waits for:
///
/// ```
/// use std::io;
/// use std::os::fd::{AsFd, BorrowedFd};
/// use std::time::Duration;
///
/// use apptuner_relay::{Config, Server, Stopped, Turn};
/// use rustix::event::{PollFd, PollFlags, poll};
/// use rustix::time::Timespec;
///
/// /// Waits until the server has something to do, or `own`, the host's own descriptor, is readable.
/// fn wait(server: &Server, own: BorrowedFd<'_>) -> io::Result<()> {
///     // Longer than poll(2) can wait means without an end.
///     let timeout = server.next_wait().and_then(|wait| Timespec::try_from(wait).ok());
///     let mut fds = [PollFd::new(server, PollFlags::IN), PollFd::new(&own, PollFlags::IN)];
///     rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
///     Ok(())
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listen = vec![([127, 0, 0, 1], 0).into()];
/// # let (own, _other_end) = std::os::unix::net::UnixStream::pair()?;
/// let mut server = Server::bind(&Config { listen, ..Config::default() })?;
/// # server.stop_handle().stop()?;
/// let stopped = loop {
///     wait(&server, own.as_fd())?;
///     // The host serves its own descriptor here.
///     if let Turn::Stopped(stopped) = server.turn(Some(Duration::ZERO))? {
///         break stopped;
///     }
/// };
/// assert_eq!(stopped, Stopped::Cleanly);
/// # Ok(())
/// # }
/// ```
// mio can be told to wait with poll(2) instead, which has no descriptor.
#[cfg(not(mio_unsupported_force_poll_poll))]
impl AsFd for crate::net::Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

#[cfg(not(mio_unsupported_force_poll_poll))]
impl AsRawFd for crate::net::Server {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_ipv6_is_told_by_its_error() {
        assert!(is_family_missing(&io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error())));
        assert!(!is_family_missing(&io::Error::from_raw_os_error(Errno::ADDRINUSE.raw_os_error())));
    }
}
