//! One listening socket, and what the kernel is told about the sockets it accepts.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::token;
use crate::relay::limits::NOT_SENT_LOW_WATER_BYTES;

/// Connections that the kernel completes ahead of the relay; it may allow fewer.
const BACKLOG: i32 = 1024;

/// What became of an attempt to accept.
#[derive(Debug)]
pub(super) enum Accepted {
    Stream(TcpStream, SocketAddr),
    /// Nobody waits.
    Nobody,
    /// Somebody came and is gone.
    Lost(io::Error),
    /// Somebody waits, and cannot be accepted: for want of a descriptor or of memory, as a rule.
    Exhausted(io::Error),
}

#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    pub(super) local_addr: SocketAddr,
    /// Somebody may wait.
    pub(super) is_ready: bool,
}

impl Listener {
    /// Listens on `addr`; where the system has no IPv6, `[::]` means every IPv4 interface.
    pub(super) fn bind(addr: SocketAddr, index: usize, registry: &Registry) -> io::Result<Self> {
        Self::bind_exactly(addr, index, registry).or_else(|error| match without_ipv6(addr, &error) {
            Some(addr) => Self::bind_exactly(addr, index, registry),
            None => Err(error),
        })
    }

    fn bind_exactly(addr: SocketAddr, index: usize, registry: &Registry) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            // `[::]` means every interface, IPv4 included.
            socket.set_only_v6(false)?;
        }
        // Sockets of an earlier run that linger in TIME_WAIT do not keep the port from us.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Linux hands both options down to what is accepted, which saves two calls for each.
        set_stream_options(&SockRef::from(&socket))?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let mut socket = TcpListener::from_std(socket.into());
        registry.register(&mut socket, token::of_listener(index), Interest::READABLE)?;
        let local_addr = socket.local_addr()?;
        Ok(Self { socket, local_addr, is_ready: false })
    }

    pub(super) fn accept(&mut self) -> Accepted {
        match self.socket.accept() {
            Ok((stream, addr)) => {
                if cfg!(not(target_os = "linux")) {
                    // A stream without them works, if less well.
                    let _ = set_stream_options(&SockRef::from(&stream));
                }
                Accepted::Stream(stream, addr)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_ready = false;
                Accepted::Nobody
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                Accepted::Lost(error)
            }
            // An error that lasts must not keep the loop busy.
            Err(error) => Accepted::Exhausted(error),
        }
    }
}

/// What to listen on instead of `[::]` if the error says that there is no IPv6.
fn without_ipv6(addr: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_missing = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
        || error.kind() == io::ErrorKind::AddrNotAvailable;
    (is_missing && addr.ip() == Ipv6Addr::UNSPECIFIED).then(|| (Ipv4Addr::UNSPECIFIED, addr.port()).into())
}

/// Messages leave at once, and what the network has not taken waits in the relay, where replies
/// can overtake it.
fn set_stream_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_ipv6_every_interface_means_every_ipv4_interface() {
        let missing = io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error());
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        let everywhere: SocketAddr = "[::]:8787".parse().unwrap();
        assert_eq!(without_ipv6(everywhere, &missing), Some("0.0.0.0:8787".parse().unwrap()));
        assert_eq!(without_ipv6(everywhere, &in_use), None);
        assert_eq!(without_ipv6("[::1]:8787".parse().unwrap(), &missing), None);
    }

    #[test]
    fn accepted_streams_send_at_once_and_keep_little_in_the_kernel() {
        let poll = mio::Poll::new().unwrap();
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), 0, poll.registry()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr).unwrap();
        let Accepted::Stream(stream, _) = listener.accept() else { panic!("a client waits") };
        let options = SockRef::from(&stream);
        assert!(options.tcp_nodelay().unwrap());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(options.tcp_notsent_lowat().unwrap(), NOT_SENT_LOW_WATER_BYTES);
        assert!(matches!(listener.accept(), Accepted::Nobody));
    }
}
