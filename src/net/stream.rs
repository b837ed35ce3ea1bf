//! What the relay reads and writes: a connection, plain or within TLS.
//!
//! A Unix-domain socket is handled as a [`TcpStream`], too. The relay uses only what every stream socket can do, and a
//! third variant would cost eight bytes in every connection.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::files::FileError;
use super::platform;
#[cfg(feature = "tls")]
use super::tls::{TlsAcceptor, TlsStream};
use crate::config::{Naming, TlsFiles};

/// A client's non-blocking stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Ends the writing direction. Reading goes on.
    ///
    /// # Errors
    /// `WouldBlock` if bytes must be flushed first; any other error means that the stream has failed.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.shutdown_write(),
        }
    }

    /// Closes the stream. Within TLS it first tries once, without waiting, to send a `close_notify`.
    pub(super) fn finish(self) {
        match self {
            Self::Plain(socket) => drop(socket),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.finish(),
        }
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.socket_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => platform::read(socket, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => platform::read_vectored(socket, buffers),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read_vectored(buffers),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(slices),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write_vectored(slices),
        }
    }

    /// Makes a system call only if TLS holds unsent bytes.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket().deregister(registry)
    }
}

/// Makes a [`Stream`] from each accepted socket.
#[derive(Debug)]
pub(super) struct Streams {
    #[cfg(feature = "tls")]
    tls: Option<TlsAcceptor>,
}

#[cfg_attr(
    not(feature = "tls"),
    expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "there is only one kind of stream")
)]
impl Streams {
    /// Reads the certificate and its key, if the configuration names them: streams are then within TLS.
    pub(super) fn new(files: &TlsFiles, naming: Naming) -> Result<Self, FileError> {
        #[cfg(not(feature = "tls"))]
        let _ = (files, naming);
        Ok(Self {
            #[cfg(feature = "tls")]
            tls: TlsAcceptor::from_files(files, naming)?,
        })
    }

    /// The scheme of the relay's URL.
    pub(super) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "wss";
        }
        "ws"
    }

    /// With `has_proxy_header`, the stream begins with a PROXY protocol header, before TLS.
    pub(super) fn accept(&self, socket: TcpStream, has_proxy_header: bool) -> io::Result<Stream> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Stream::Tls(Box::new(tls.accept(socket, has_proxy_header)?)));
        }
        #[cfg(not(feature = "tls"))]
        let _ = has_proxy_header;
        Ok(Stream::Plain(socket))
    }

    /// Reads the certificate and its key again, for new connections. Returns whether the configuration names them.
    pub(super) fn reload(&mut self) -> Result<bool, FileError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.reload().map(|()| true);
        }
        Ok(false)
    }
}
