//! Decrypts what the socket receives, and encrypts what the core writes.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::encode::{append_encoded, encoded, encoded_handshake};
use super::interrupted::{read_uninterrupted, write_uninterrupted};
use super::phase::TlsPhase;
use super::scratch::{Destination, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Scratch};
use crate::relay::http::proxy_header::{self, ProxyHeader};

/// The type of a client's first record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// The answer to a client that does not speak TLS. Most are browsers and curl with `http` instead of `https`.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 44\r\nConnection: close\r\n\r\n\
    This port speaks TLS: use https:// or wss://";
/// A byte that no HTTP request can begin with.
const NO_REQUEST: u8 = 0;
/// Bytes that the core may write before the handshake is complete. It then writes only a refusal or a close.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of records in a row that carry nothing for the core. More are an attack: the large part of a handshake, the
/// certificates, goes from the relay to the client.
const FRUITLESS_BYTES_MAX: usize = 64 * 1024;

/// The TLS state of one connection, without its socket.
pub(super) struct Engine {
    session: UnbufferedServerConnection,
    phase: TlsPhase,
    /// Received bytes of an incomplete record; during the handshake, of an incomplete message.
    received: Vec<u8>,
    /// Decrypted bytes that did not fit into the reader's buffers.
    decrypted: Vec<u8>,
    /// What the core wrote before the handshake was complete.
    held: Vec<u8>,
    /// Encrypted bytes that the socket did not take.
    unsent: Vec<u8>,
    /// The client has ended its direction of the stream, by an alert or by TCP.
    is_input_over: bool,
    /// The writing direction of the socket is shut down once `unsent` is sent.
    is_shutdown_due: bool,
}

/// The result of one step through the received records.
enum TlsStep {
    /// More bytes are needed to go on.
    NeedMore,
    /// Something may have been decrypted.
    Progress,
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Engine {
    /// With `has_proxy_header`, the stream begins with a PROXY protocol header.
    pub(super) fn new(session: UnbufferedServerConnection, has_proxy_header: bool) -> Self {
        Self {
            session,
            phase: if has_proxy_header { TlsPhase::ProxyHeader } else { TlsPhase::Start },
            received: Vec::new(),
            decrypted: Vec::new(),
            held: Vec::new(),
            unsent: Vec::new(),
            is_input_over: false,
            is_shutdown_due: false,
        }
    }

    pub(super) const fn phase(&self) -> TlsPhase {
        self.phase
    }

    /// Whether the client has ended its direction of the stream.
    pub(super) const fn is_input_over(&self) -> bool {
        self.is_input_over
    }

    /// Whether written bytes wait for the end of the handshake, which only reading can complete.
    pub(super) const fn has_held_bytes(&self) -> bool {
        !self.held.is_empty()
    }

    /// Fills `destination` until it is full or the socket has no more bytes.
    pub(super) fn read(
        &mut self,
        socket: &mut TcpStream,
        scratch: &mut Scratch,
        destination: &mut Destination<'_, '_>,
    ) -> io::Result<()> {
        self.give_decrypted(destination);
        let mut fruitless_bytes = 0;
        let mut is_drained = false;
        while destination.room_bytes() > 0 {
            let filled_before = destination.filled_bytes();
            match self.phase {
                TlsPhase::ProxyHeader | TlsPhase::Start | TlsPhase::Handshake | TlsPhase::Open => {}
                TlsPhase::PassThrough => return self.read_raw(socket, destination),
                TlsPhase::Refused { .. } => return self.read_refused(socket, destination),
                TlsPhase::Failed => return Err(broken()),
            }
            if self.is_input_over {
                return Ok(());
            }
            // A short read has emptied the socket. Only the end of the stream may be left, and that can wait for the
            // next call if this one has bytes to return.
            if is_drained && filled_before > 0 {
                return Ok(());
            }
            let Some((count, is_full)) = self.receive(socket, scratch, destination)? else { return Ok(()) };
            is_drained = !is_full;
            // Alerts, empty records and the like make rustls work without giving the core anything.
            fruitless_bytes += count;
            if destination.filled_bytes() > filled_before {
                fruitless_bytes = 0;
            } else if fruitless_bytes > FRUITLESS_BYTES_MAX {
                self.phase = TlsPhase::Failed;
            }
        }
        Ok(())
    }

    /// Reads once from the socket and decrypts what was received. Returns the number of bytes read, and whether the
    /// socket may hold more; `None` if it had none.
    fn receive(
        &mut self,
        socket: &mut TcpStream,
        scratch: &mut Scratch,
        destination: &mut Destination<'_, '_>,
    ) -> io::Result<Option<(usize, bool)>> {
        let incoming = &mut *scratch.incoming;
        let kept = self.received.len();
        if let Some(place) = incoming.get_mut(..kept) {
            place.copy_from_slice(&self.received);
        }
        // Read no more than `destination` has room for, or the rest of one record. Otherwise whole records could stay
        // in `received`, and no event would report them.
        let wanted = missing_bytes(&self.received).max(1).max(destination.room_bytes().saturating_sub(kept));
        let end = (kept + wanted).min(incoming.len());
        let place = incoming.get_mut(kept..end).unwrap_or_default();
        let count = match read_uninterrupted(socket, place) {
            Ok(0) => {
                self.is_input_over = true;
                if self.phase != TlsPhase::Open {
                    // Without a handshake no answer can be sent.
                    self.refuse(true);
                }
                return Ok(None);
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_full = count == place.len();
        // The kept bytes are in `incoming` now. What is left of it after decryption is copied back.
        self.received = Vec::new();
        let mut filled = incoming.get_mut(..kept + count).unwrap_or_default();
        if self.phase == TlsPhase::ProxyHeader {
            let header_bytes = self.pass_proxy_header(filled, kept, destination);
            filled = filled.get_mut(header_bytes..).unwrap_or_default();
        }
        if filled.is_empty() || matches!(self.phase, TlsPhase::ProxyHeader | TlsPhase::PassThrough) {
            return Ok(Some((count, is_full)));
        }
        if self.phase == TlsPhase::Start {
            self.check_first_byte(filled);
        }
        if !matches!(self.phase, TlsPhase::Refused { .. }) {
            let rest = self.process(filled, destination);
            self.received = rest.to_vec();
        }
        // Send the handshake's answer now. What the socket does not take goes out with the next flush.
        if !self.unsent.is_empty() {
            let _ = self.flush(socket);
        }
        Ok(Some((count, is_full)))
    }

    /// Passes to the core what was received of a PROXY protocol header, except the first `seen_bytes`, which it has
    /// already. Returns how many of the `received` bytes belong to the header.
    fn pass_proxy_header(
        &mut self,
        received: &[u8],
        seen_bytes: usize,
        destination: &mut Destination<'_, '_>,
    ) -> usize {
        let header_bytes = match proxy_header::parse(received) {
            ProxyHeader::NeedMore => {
                self.received = received.to_vec();
                received.len()
            }
            ProxyHeader::Whole { bytes, .. } => {
                self.phase = TlsPhase::Start;
                bytes
            }
            ProxyHeader::Malformed => {
                // The core writes its refusal in plain text; nothing held may come before it.
                self.phase = TlsPhase::PassThrough;
                self.held = Vec::new();
                received.len()
            }
        };
        let rest = destination.fill(received.get(seen_bytes..header_bytes).unwrap_or_default());
        self.decrypted.extend_from_slice(rest);
        header_bytes
    }

    /// Checks by the first byte whether the client speaks TLS.
    fn check_first_byte(&mut self, received: &[u8]) {
        if received.first() == Some(&HANDSHAKE_RECORD) {
            self.phase = TlsPhase::Handshake;
        } else {
            self.unsent.extend_from_slice(NOT_TLS);
            self.refuse(false);
        }
    }

    fn refuse(&mut self, is_byte_given: bool) {
        self.held = Vec::new();
        self.phase = TlsPhase::Refused { is_byte_given };
    }

    /// Gives the core one byte that it must refuse, and then what the client sends.
    fn read_refused(
        &mut self,
        socket: &mut TcpStream,
        destination: &mut Destination<'_, '_>,
    ) -> io::Result<()> {
        if self.phase != (TlsPhase::Refused { is_byte_given: true }) {
            self.phase = TlsPhase::Refused { is_byte_given: true };
            destination.fill(&[NO_REQUEST]);
        }
        self.read_raw(socket, destination)
    }

    /// Reads from the socket without decrypting.
    fn read_raw(&mut self, socket: &mut TcpStream, destination: &mut Destination<'_, '_>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while destination.room_bytes() > 0 && !self.is_input_over {
            let bytes = destination.room_bytes().min(buffer.len());
            let place = buffer.get_mut(..bytes).unwrap_or_default();
            match read_uninterrupted(socket, place) {
                Ok(0) => self.is_input_over = true,
                Ok(count) => {
                    destination.fill(place.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn give_decrypted(&mut self, destination: &mut Destination<'_, '_>) {
        if !self.decrypted.is_empty() {
            let rest = destination.fill(&self.decrypted).len();
            self.decrypted.drain(..self.decrypted.len() - rest);
            if self.decrypted.is_empty() {
                // Frees the memory: an idle connection must hold none.
                self.decrypted = Vec::new();
            }
        }
    }

    /// Processes `received` while `destination` has room. Returns the bytes that are left.
    fn process<'a>(&mut self, received: &'a mut [u8], destination: &mut Destination<'_, '_>) -> &'a [u8] {
        let mut start = 0;
        while destination.room_bytes() > 0 {
            let rest = received.get_mut(start..).unwrap_or_default();
            let (discard, step) = self.step(rest, Some(&mut *destination));
            start += discard;
            match step {
                Ok(TlsStep::Progress) => {}
                Ok(TlsStep::NeedMore) => break,
                Err(()) => {
                    self.fail(received.get_mut(start..).unwrap_or_default());
                    return &[];
                }
            }
        }
        let rest = received.get_mut(start..).unwrap_or_default();
        if rest.len() > RECORD_BYTES_MAX && destination.room_bytes() > 0 {
            // A handshake message longer than any record. No real client sends one.
            self.fail(rest);
            return &[];
        }
        rest
    }

    /// Lets rustls take one step. Returns how many bytes of `received` it has consumed, and `Err` if
    /// the client broke the protocol. Without a `destination`, decrypted bytes are kept for the next read.
    fn step(
        &mut self,
        received: &mut [u8],
        destination: Option<&mut Destination<'_, '_>>,
    ) -> (usize, Result<TlsStep, ()>) {
        let UnbufferedStatus { mut discard, state } = self.session.process_tls_records(received);
        let Ok(state) = state else { return (discard, Err(())) };
        let step = match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                let mut destination = destination;
                // Take all of them. What does not fit into `destination` is kept decrypted.
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    let rest = match &mut destination {
                        Some(destination) => destination.fill(record.payload),
                        None => record.payload,
                    };
                    self.decrypted.extend_from_slice(rest);
                }
                Ok(TlsStep::Progress)
            }
            ConnectionState::EncodeTlsData(mut data) => {
                append_encoded(&mut self.unsent, |out| encoded_handshake(data.encode(out)));
                Ok(TlsStep::Progress)
            }
            ConnectionState::TransmitTlsData(data) => {
                // The data is in `unsent`, which keeps the order, so rustls may go on.
                data.done();
                Ok(TlsStep::Progress)
            }
            ConnectionState::PeerClosed => {
                self.is_input_over = true;
                Ok(TlsStep::Progress)
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                if self.phase == TlsPhase::Handshake {
                    // The first time that rustls can encrypt: the handshake is complete.
                    self.phase = TlsPhase::Open;
                    let held = std::mem::take(&mut self.held);
                    if !held.is_empty() {
                        append_encoded(&mut self.unsent, |out| encoded(traffic.encrypt(&held, out)));
                    }
                }
                Ok(TlsStep::NeedMore)
            }
            ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(TlsStep::NeedMore),
            // The relay does not offer early data.
            ConnectionState::ReadEarlyData(_) | _ => Err(()),
        };
        (discard, step)
    }

    /// Ends a connection whose client broke the protocol. Queues the alert that rustls has prepared, and drops what was
    /// received, including `rest`.
    fn fail(&mut self, rest: &mut [u8]) {
        while self.session.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) = self.session.process_tls_records(rest).state
        {
            append_encoded(&mut self.unsent, |out| encoded_handshake(data.encode(out)));
        }
        self.received = Vec::new();
        if self.phase == TlsPhase::Open {
            self.phase = TlsPhase::Failed;
        } else {
            // Before the handshake is complete the client gets time to read the alert.
            self.refuse(false);
        }
    }

    /// Encrypts and writes the beginning of `slices`. Returns how many of their bytes were taken; encrypted bytes that
    /// the socket does not take are kept in `unsent`.
    pub(super) fn write(
        &mut self,
        socket: &mut TcpStream,
        scratch: &mut Scratch,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self.phase {
            TlsPhase::Open => {}
            TlsPhase::ProxyHeader | TlsPhase::Start | TlsPhase::Handshake => return self.hold(slices),
            TlsPhase::PassThrough => {
                let bare = slices.iter().find(|slice| !slice.is_empty());
                return bare.map_or(Ok(0), |slice| write_uninterrupted(socket, slice));
            }
            // The answer is in `unsent` already. The core must believe that its own was written.
            TlsPhase::Refused { .. } => return Ok(slices.iter().map(|slice| slice.len()).sum()),
            TlsPhase::Failed => return Err(broken()),
        }
        // Older records go first. This also bounds `unsent`: nothing is encrypted while it is not empty.
        self.flush(socket)?;
        self.queue_own_records()?;
        let (plain, outgoing) = scratch.join(slices);
        let UnbufferedStatus { state, .. } = self.session.process_tls_records(&mut self.received);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            self.phase = TlsPhase::Failed;
            return Err(broken());
        };
        let encrypted = loop {
            match encoded(traffic.encrypt(plain, outgoing)) {
                Ok(Some(count)) => break outgoing.get(..count).unwrap_or_default(),
                Ok(None) => return Err(broken()),
                Err(required) => outgoing.resize(required, 0),
            }
        };
        let taken = match write_uninterrupted(socket, encrypted) {
            Ok(taken) => taken,
            // The bytes are encrypted under the next record number, so they count as written and wait in `unsent`.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(encrypted.get(taken..).unwrap_or_default());
        Ok(plain.len())
    }

    /// Keeps what is written before the handshake is complete.
    fn hold(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for slice in slices {
            let room = HELD_BYTES_MAX - self.held.len();
            let taken = slice.get(..room).unwrap_or(slice);
            self.held.extend_from_slice(taken);
            count += taken.len();
        }
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    /// Moves rustls's own records to `unsent`, such as the answer to a key update. rustls does not encrypt before that
    /// is done.
    fn queue_own_records(&mut self) -> io::Result<()> {
        let mut received = std::mem::take(&mut self.received);
        let mut start = 0;
        loop {
            let (discard, step) = self.step(received.get_mut(start..).unwrap_or_default(), None);
            start += discard;
            match step {
                Ok(TlsStep::Progress) => {}
                Ok(TlsStep::NeedMore) => break,
                Err(()) => {
                    self.fail(received.get_mut(start..).unwrap_or_default());
                    return Err(broken());
                }
            }
        }
        received.drain(..start.min(received.len()));
        self.received = received;
        Ok(())
    }

    /// Writes `unsent` to the socket.
    ///
    /// # Errors
    /// `WouldBlock` if the socket does not take all of it.
    pub(super) fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let mut start = 0;
        let result = loop {
            let Some(rest) = self.unsent.get(start..).filter(|rest| !rest.is_empty()) else { break Ok(()) };
            match write_uninterrupted(socket, rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => start += taken,
                Err(error) => break Err(error),
            }
        };
        self.unsent.drain(..start.min(self.unsent.len()));
        result?;
        self.unsent = Vec::new();
        if std::mem::take(&mut self.is_shutdown_due) {
            socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Ends our direction of the stream after `unsent`. The flush that sends the last byte shuts the socket down.
    pub(super) fn queue_shutdown(&mut self) {
        self.queue_close_notify();
        self.is_shutdown_due = true;
    }

    /// Appends to `unsent`, once, the alert that ends our direction of the stream (RFC 8446, section 6.1).
    pub(super) fn queue_close_notify(&mut self) {
        if self.phase != TlsPhase::Open || self.queue_own_records().is_err() {
            return;
        }
        let UnbufferedStatus { state, .. } = self.session.process_tls_records(&mut self.received);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            append_encoded(&mut self.unsent, |out| encoded(traffic.queue_close_notify(out)));
        }
    }
}

/// Bytes that are missing from the first record in `received`, or from its header if that is incomplete.
fn missing_bytes(received: &[u8]) -> usize {
    let total = match received.get(..RECORD_HEADER_BYTES) {
        Some(&[_, _, _, high, low]) => RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])),
        _ => RECORD_HEADER_BYTES,
    };
    total.saturating_sub(received.len())
}
