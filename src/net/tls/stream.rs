//! One client's connection within TLS.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::net::TcpStream;
use rustls::server::UnbufferedServerConnection;

use super::engine::Engine;
use super::scratch::{Destination, Scratch};

/// A non-blocking TLS stream over a socket.
///
/// A read fills its buffers as far as the socket has bytes, like a read from the socket itself. If it also meets the
/// end of the stream, or a failure, it shuts down the socket's reading direction. That causes an event, and the next
/// read reports the end or the failure.
///
/// The stream keeps encrypted bytes that the socket does not take. `flush` writes them.
pub(in crate::net) struct TlsStream {
    socket: TcpStream,
    /// Locked for the length of one call.
    scratch: Arc<Mutex<Scratch>>,
    engine: Engine,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("phase", &self.engine.phase()).finish_non_exhaustive()
    }
}

impl TlsStream {
    pub(super) fn new(
        socket: TcpStream,
        session: UnbufferedServerConnection,
        scratch: Arc<Mutex<Scratch>>,
        has_proxy_header: bool,
    ) -> Self {
        Self { socket, scratch, engine: Engine::new(session, has_proxy_header) }
    }

    pub(in crate::net) fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Ends our direction of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if the socket does not take all unsent bytes. A later flush completes the shutdown.
    pub(in crate::net) fn shutdown_write(&mut self) -> io::Result<()> {
        self.engine.queue_shutdown();
        self.engine.flush(&mut self.socket)
    }

    /// Sends a `close_notify` if the socket takes it now, and closes the connection.
    pub(in crate::net) fn finish(mut self) {
        self.engine.queue_close_notify();
        // The connection ends in any case.
        let _ = self.engine.flush(&mut self.socket);
    }
}

/// Locks the buffers. A poisoned lock does no harm: each call overwrites their content.
fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut destination = Destination::new(buffers);
        let scratch = &mut *lock(&self.scratch);
        let result = self.engine.read(&mut self.socket, scratch, &mut destination);
        let count = destination.filled_bytes();
        // The caller takes a read that does not fill its buffers for the last one, and waits for an event.
        if count > 0 && (self.engine.is_input_over() || result.is_err()) && destination.room_bytes() > 0 {
            // An error means that the socket has failed, and an event reports that, too.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        match result {
            // The next read returns the error again.
            Err(_) if count > 0 => Ok(count),
            Err(error) => Err(error),
            Ok(()) if count > 0 || self.engine.is_input_over() || destination.room_bytes() == 0 => Ok(count),
            Ok(()) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let scratch = &mut *lock(&self.scratch);
        self.engine.write(&mut self.socket, scratch, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.engine.flush(&mut self.socket)?;
        if self.engine.has_held_bytes() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}
