//! One listening socket, and the options of the sockets that it accepts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::platform::{self, LocalListener, set_stream_options};
use super::token;
use crate::config::ListenAddress;

/// Connections that the kernel may complete before the relay accepts them. The kernel may lower it.
const BACKLOG: i32 = 1024;
/// The address of all clients of Unix-domain sockets. They are on this machine, like clients on the loopback interface.
const UNIX_CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The result of an attempt to accept.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A client, and its address ([`UNIX_CLIENT`] on a Unix-domain socket).
    Stream(TcpStream, SocketAddr),
    /// No connection is waiting.
    NoneWaiting,
    /// The connection ended before it was accepted. Others may be waiting.
    Lost(io::Error),
    /// A connection is waiting but cannot be accepted, usually because descriptors or memory are used up.
    Exhausted(io::Error),
}

/// A listening socket that is registered with the poll.
#[derive(Debug)]
pub(super) struct Listener {
    /// Identifies the listener in its token.
    pub(super) index: usize,
    pub(super) socket: ListeningSocket,
    /// A connection may be waiting. Set by an event, cleared when `accept` finds none.
    pub(super) is_ready: bool,
}

impl Listener {
    pub(super) fn new(socket: ListeningSocket, index: usize, registry: &Registry) -> io::Result<Self> {
        let mut listener = Self { index, socket, is_ready: false };
        registry.register(listener.socket.source(), token::of_listener(index), Interest::READABLE)?;
        Ok(listener)
    }

    pub(super) fn accept(&mut self) -> Accepted {
        match self.socket.accept() {
            Ok((socket, client_addr)) => Accepted::Stream(socket, client_addr),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_ready = false;
                Accepted::NoneWaiting
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                Accepted::Lost(error)
            }
            // The error may persist (EMFILE), so the caller pauses instead of trying again in the same turn.
            Err(error) => Accepted::Exhausted(error),
        }
    }
}

/// A non-blocking socket that listens.
#[derive(Debug)]
pub(super) struct ListeningSocket {
    /// Where it listens. Port 0 is replaced by the port that the system chose.
    pub(super) address: ListenAddress,
    kind: ListenerKind,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix(LocalListener),
}

impl ListeningSocket {
    pub(super) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => {
                let kind = ListenerKind::Unix(LocalListener::bind(path, BACKLOG)?);
                Ok(Self { address: address.clone(), kind })
            }
        }
    }

    /// Takes over a socket that already listens at `address`. The file of a Unix-domain socket stays when it is
    /// closed.
    #[cfg(any(test, feature = "cli"))]
    pub(super) fn adopt(socket: Socket, address: ListenAddress) -> io::Result<Self> {
        // A supervisor may pass on a blocking socket.
        socket.set_nonblocking(true)?;
        let kind = match address {
            ListenAddress::Tcp(_) => {
                set_stream_options(&SockRef::from(&socket))?;
                ListenerKind::Tcp(TcpListener::from_std(socket.into()))
            }
            ListenAddress::Unix(_) => ListenerKind::Unix(LocalListener::adopt(socket)?),
        };
        Ok(Self { address, kind })
    }

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.kind {
            ListenerKind::Tcp(listener) => {
                let (socket, client_addr) = listener.accept()?;
                if !platform::INHERITS_STREAM_OPTIONS {
                    // The options only affect speed and memory, so an error is ignored.
                    let _ = set_stream_options(&SockRef::from(&socket));
                }
                Ok((socket, client_addr))
            }
            ListenerKind::Unix(listener) => Ok((listener.accept()?, UNIX_CLIENT)),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.kind {
            ListenerKind::Tcp(listener) => listener,
            ListenerKind::Unix(listener) => listener,
        }
    }
}

/// Listens on `addr`. If the system has no IPv6, `[::]` means every IPv4 interface.
fn bind_tcp(addr: SocketAddr) -> io::Result<ListeningSocket> {
    bind_tcp_exactly(addr).or_else(|error| match without_ipv6(addr, &error) {
        Some(addr) => bind_tcp_exactly(addr),
        None => Err(error),
    })
}

fn bind_tcp_exactly(addr: SocketAddr) -> io::Result<ListeningSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // `[::]` means every interface, IPv4 included.
        socket.set_only_v6(false)?;
    }
    platform::set_listener_options(&socket)?;
    socket.set_nonblocking(true)?;
    // On Linux accepted sockets inherit both options, which saves two system calls for each.
    set_stream_options(&SockRef::from(&socket))?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from_std(socket.into());
    let address = ListenAddress::Tcp(socket.local_addr()?);
    Ok(ListeningSocket { address, kind: ListenerKind::Tcp(socket) })
}

/// `0.0.0.0` instead of `[::]`, if the error says that the system has no IPv6.
fn without_ipv6(addr: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    // With IPv6 compiled in but turned off, the family exists but `::` does not.
    let is_missing = platform::is_family_missing(error) || error.kind() == io::ErrorKind::AddrNotAvailable;
    (is_missing && addr.ip() == Ipv6Addr::UNSPECIFIED).then(|| (Ipv4Addr::UNSPECIFIED, addr.port()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ipv6_all_interfaces_means_all_ipv4_interfaces() {
        let missing = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        let everywhere: SocketAddr = "[::]:8787".parse().unwrap();
        assert_eq!(without_ipv6(everywhere, &missing), Some("0.0.0.0:8787".parse().unwrap()));
        assert_eq!(without_ipv6(everywhere, &in_use), None);
        assert_eq!(without_ipv6("[::1]:8787".parse().unwrap(), &missing), None);
    }

    #[test]
    fn accepted_streams_have_no_delay_and_a_low_water_mark_for_unsent_bytes() {
        let bound = ListeningSocket::bind(&([127, 0, 0, 1], 0).into()).unwrap();
        let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(std.local_addr().unwrap());
        let adopted = ListeningSocket::adopt(std.into(), address).unwrap();
        let poll = mio::Poll::new().unwrap();
        for (index, socket) in [bound, adopted].into_iter().enumerate() {
            let mut listener = Listener::new(socket, index, poll.registry()).unwrap();
            let ListenAddress::Tcp(address) = listener.socket.address else { panic!("no address of TCP") };
            let _client = std::net::TcpStream::connect(address).unwrap();
            let Accepted::Stream(stream, _) = listener.accept() else { panic!("a client waits") };
            let options = SockRef::from(&stream);
            assert!(options.tcp_nodelay().unwrap());
            #[cfg(any(target_os = "linux", target_os = "android"))]
            assert_eq!(options.tcp_notsent_lowat().unwrap(), crate::relay::limits::NOT_SENT_LOW_WATER_BYTES);
            assert!(matches!(listener.accept(), Accepted::NoneWaiting));
        }
    }
}
