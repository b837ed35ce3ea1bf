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

/// The events that a stream is registered for. Linux also reports urgent data: a read stops at it, and needs a second
/// read for the bytes after it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::net) const INTEREST: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in crate::net) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The remedy if the process may not listen on a port.
pub(in crate::net) const PORT_REMEDY: &str = if cfg!(any(target_os = "linux", target_os = "android")) {
    "use a port above 1023 or grant CAP_NET_BIND_SERVICE"
} else {
    "use a port above 1023"
};

/// Whether an accepted stream inherits the options of its listener.
pub(in crate::net) const INHERITS_STREAM_OPTIONS: bool = cfg!(target_os = "linux");

/// `--help` needs no note here.
#[cfg(feature = "cli")]
pub(super) const HELP_NOTE: &str = "";

/// Lets the relay listen although sockets of an earlier run are still in `TIME_WAIT`.
pub(in crate::net) fn set_listener_options(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Turns off Nagle's algorithm, so that messages leave at once. Also limits the unsent bytes in the kernel, so that
/// they wait in the relay instead, where replies can overtake them.
pub(in crate::net) fn set_stream_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.set_tcp_notsent_lowat(crate::relay::limits::NOT_SENT_LOW_WATER_BYTES) {
        // Systems that emulate Linux may lack the option. Replies then wait longer behind a large message.
        log::debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
    }
    Ok(())
}

/// Whether the error says that the system lacks the address family, usually IPv6.
pub(in crate::net) fn is_family_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Opens a file for reading without waiting. Opening a FIFO would otherwise wait for a writer.
pub(in crate::net) fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The descriptor is readable while the server has events, including a request of a
/// [`StopHandle`](crate::StopHandle). A host can wait for it together with its own descriptors:
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
///     // If the wait is longer than poll(2) allows, wait without a timeout.
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
// A build flag of mio replaces epoll or kqueue by poll(2), which has no descriptor.
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
    fn missing_ipv6_is_recognised_by_its_error() {
        assert!(is_family_missing(&io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error())));
        assert!(!is_family_missing(&io::Error::from_raw_os_error(Errno::ADDRINUSE.raw_os_error())));
    }
}
