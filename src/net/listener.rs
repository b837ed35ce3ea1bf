//! One listening socket, and what the kernel is told about the sockets it accepts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket_file::SocketFile;
use super::token;
use crate::config::ListenAddress;
use crate::relay::limits::NOT_SENT_LOW_WATER_BYTES;

/// Connections that the kernel completes ahead of the relay; it may allow fewer.
const BACKLOG: i32 = 1024;
/// What clients of a Unix-domain socket count as: they are on this machine, as those of the loopback interface are.
const UNIX_CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What became of an attempt to accept.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A client, and its address: of a Unix-domain socket [`UNIX_CLIENT`].
    Stream(TcpStream, SocketAddr),
    /// Nobody waits.
    Nobody,
    /// Somebody came and is gone.
    Lost(io::Error),
    /// Somebody waits, and cannot be accepted: for want of a descriptor or of memory, as a rule.
    Exhausted(io::Error),
}

/// A listening socket that is watched, and whether somebody waits there.
#[derive(Debug)]
pub(super) struct Listener {
    /// By which its token is told from those of other listeners.
    pub(super) index: usize,
    pub(super) socket: ListeningSocket,
    /// Somebody may wait.
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

/// A socket that listens, non-blocking.
#[derive(Debug)]
pub(super) struct ListeningSocket {
    /// Where it listens, with the port that was chosen where 0 was asked for.
    pub(super) address: ListenAddress,
    /// Removes the file if it is ours, before the socket is closed.
    _file: Option<SocketFile>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    pub(super) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => bind_unix(path),
        }
    }

    /// Takes over a socket that listens at `address` already; its file, if it has one, stays.
    pub(super) fn adopt(socket: Socket, address: ListenAddress) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        let kind = match address {
            ListenAddress::Tcp(_) => {
                set_stream_options(&SockRef::from(&socket))?;
                Kind::Tcp(TcpListener::from_std(socket.into()))
            }
            ListenAddress::Unix(_) => Kind::Unix(UnixListener::from_std(socket.into())),
        };
        Ok(Self { address, _file: None, kind })
    }

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (socket, client_addr) = listener.accept()?;
                if cfg!(not(target_os = "linux")) {
                    // A stream without them works, if less well.
                    let _ = set_stream_options(&SockRef::from(&socket));
                }
                Ok((socket, client_addr))
            }
            Kind::Unix(listener) => {
                // mio would look at the client's address, and panics where its path fills all of it.
                let (socket, _) = SockRef::from(listener).accept()?;
                socket.set_nonblocking(true)?;
                Ok((TcpStream::from_std(socket.into()), UNIX_CLIENT))
            }
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.kind {
            Kind::Tcp(listener) => listener,
            Kind::Unix(listener) => listener,
        }
    }
}

/// Listens on `addr`; where the system has no IPv6, `[::]` means every IPv4 interface.
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
    // Sockets of an earlier run that linger in TIME_WAIT do not keep the port from us.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Linux hands both options down to what is accepted, which saves two calls for each.
    set_stream_options(&SockRef::from(&socket))?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from_std(socket.into());
    let address = ListenAddress::Tcp(socket.local_addr()?);
    Ok(ListeningSocket { address, _file: None, kind: Kind::Tcp(socket) })
}

fn bind_unix(path: &Path) -> io::Result<ListeningSocket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = SocketFile::listen(&socket, path, BACKLOG)?;
    let address = ListenAddress::Unix(path.to_owned());
    Ok(ListeningSocket {
        address,
        _file: Some(file),
        kind: Kind::Unix(UnixListener::from_std(socket.into())),
    })
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
    if let Err(error) = socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER_BYTES) {
        // Systems that stand in for Linux may lack it. Only, replies then wait behind more of a message.
        log::debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
    }
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
            assert_eq!(options.tcp_notsent_lowat().unwrap(), NOT_SENT_LOW_WATER_BYTES);
            assert!(matches!(listener.accept(), Accepted::Nobody));
        }
    }
}
