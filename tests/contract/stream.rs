//! A test client's connection to the relay: plain or within TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

#[cfg(feature = "tls")]
use crate::secure::Secure;

/// A blocking connection. Clones of it may read and write at the same time.
pub(crate) struct Stream {
    pub(crate) socket: TcpStream,
    #[cfg(feature = "tls")]
    secure: Option<Secure>,
}

impl Stream {
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self {
            socket,
            #[cfg(feature = "tls")]
            secure: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn secure(socket: TcpStream, secure: Secure) -> Self {
        Self { socket, secure: Some(secure) }
    }

    /// The TLS session.
    #[cfg(feature = "tls")]
    pub(crate) fn session(&self) -> &Secure {
        self.secure.as_ref().expect("a stream within TLS")
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            #[cfg(feature = "tls")]
            secure: self.secure.clone(),
        })
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// Waits for something to read and leaves it there.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.peek(&self.socket);
        }
        self.socket.peek(buffer)
    }

    /// Ends the writing direction.
    pub(crate) fn finish_sending(&self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            // If the relay does not read, the end is sent later, after unsent bytes.
            let (secure, socket) = (secure.clone(), self.socket.try_clone()?);
            std::thread::spawn(move || {
                let _ = secure.close_notify(&socket).and_then(|()| socket.shutdown(Shutdown::Write));
            });
            return Ok(());
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Makes dropping the connection reset it (RST).
    pub(crate) fn reset(&self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.read(&self.socket, buffer);
        }
        self.socket.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.write(&self.socket, bytes);
        }
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
