//! A listening Unix-domain socket.

use std::io;
use std::path::Path;

use mio::event::Source;
use mio::net::{TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};

use super::super::edges::ARE_EDGES_TRUE;
use super::socket_file::SocketFile;

/// A Unix-domain socket that listens, non-blocking.
#[derive(Debug)]
pub(in crate::net) struct LocalListener {
    /// Removes the file if it is ours, before the socket is closed.
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

    /// Takes over a non-blocking socket that listens already; its file, if it has one, stays.
    #[cfg(any(test, feature = "cli"))]
    pub(in crate::net) fn adopt(socket: Socket) -> io::Result<Self> {
        socket.set_cloexec(true)?;
        Ok(Self { _file: None, listener: UnixListener::from_std(socket.into()) })
    }

    pub(in crate::net) fn accept(&self) -> io::Result<TcpStream> {
        // mio would look at the client's address, and panics where its path fills all of it.
        match SockRef::from(&self.listener).accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                Ok(TcpStream::from_std(socket.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ARE_EDGES_TRUE => {
                // Tells mio that the next client is to be told of, unless it is here by now.
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
