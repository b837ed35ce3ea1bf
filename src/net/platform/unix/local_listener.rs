//! A listening Unix-domain socket.

use std::io;
use std::path::Path;

use mio::event::Source;
use mio::net::{TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};

use super::super::edges::IS_EDGE_TRIGGERED;
use super::socket_file::SocketFile;

/// A non-blocking Unix-domain socket that listens.
#[derive(Debug)]
pub(in crate::net) struct LocalListener {
    /// Removes the file that `bind` made. Declared first, so that it is dropped before the socket is closed.
    _file: Option<SocketFile>,
    listener: UnixListener,
}

impl LocalListener {
    pub(in crate::net) fn bind(path: &Path, backlog: i32) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let file = SocketFile::listen(&socket, path, backlog)?;
        Ok(Self { _file: Some(file), listener: UnixListener::from_std(socket.into()) })
    }

    /// Takes over a non-blocking socket that listens already. Its file is not removed.
    #[cfg(any(test, feature = "cli"))]
    pub(in crate::net) fn adopt(socket: Socket) -> io::Result<Self> {
        socket.set_cloexec(true)?;
        Ok(Self { _file: None, listener: UnixListener::from_std(socket.into()) })
    }

    pub(in crate::net) fn accept(&self) -> io::Result<TcpStream> {
        // Not through mio, which parses the client's address, and panics if the path has the maximum length.
        match SockRef::from(&self.listener).accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                Ok(TcpStream::from_std(socket.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !IS_EDGE_TRIGGERED => {
                // mio reports the next client only after one of its own calls would block. A client may have come
                // since.
                let (stream, _) = self.listener.accept()?;
                Ok(TcpStream::from_std(Socket::from(std::os::fd::OwnedFd::from(stream)).into()))
            }
            Err(error) => Err(error),
        }
    }
}

impl Source for LocalListener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.listener.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.listener.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.listener.deregister(registry)
    }
}
