//! Unix-domain sockets, which mio does not support on Windows.

use std::io;
use std::path::Path;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
#[cfg(any(test, feature = "cli"))]
use socket2::Socket;

/// Has no values: no such listener exists on Windows.
#[derive(Debug)]
pub(in crate::net) enum LocalListener {}

impl LocalListener {
    pub(in crate::net) fn bind(_: &Path, _: i32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(any(test, feature = "cli"))]
    pub(in crate::net) fn adopt(_: Socket) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::net) fn accept(&self) -> io::Result<TcpStream> {
        match *self {}
    }
}

impl Source for LocalListener {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        match *self {}
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        match *self {}
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        match *self {}
    }
}
