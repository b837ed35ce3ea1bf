//! What happens to the bytes between the socket and the core.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::encode::{append_encoded, encoded, encoded_handshake};
use super::interrupted::{read_uninterrupted, write_uninterrupted};
use super::scratch::{Destination, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Scratch};
use crate::relay::http::proxy_header::{self, ProxyHeader};

/// The type of the record that a client begins with (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// The answer to whoever speaks no TLS here. Most of them are browsers and curl, with `http` for `https`.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 44\r\nConnection: close\r\n\r\n\
    This port speaks TLS: use https:// or wss://";
/// A byte that no request begins with.
const NO_REQUEST: u8 = 0;
/// Most that the core may write before the handshake is through: it refuses, or closes.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Records in a row with nothing in them that is for the core, in bytes: more is an attack. A
/// handshake, with a chain of certificates for its largest part, goes the other way.
const FRUITLESS_BYTES_MAX: usize = 64 * 1024;

/// All of it but the socket.
pub(super) struct Engine {
    session: UnbufferedServerConnection,
    phase: TlsPhase,
    /// What was received of a record that is not whole; of handshakes, of a message.
    received: Vec<u8>,
    /// What was decrypted and did not fit into the reader's buffers.
    decrypted: Vec<u8>,
    /// What the core wrote before the handshake was through.
    held: Vec<u8>,
    /// What is encrypted and the socket did not take.
    unsent: Vec<u8>,
    /// The client has said, or its socket has, that nothing more comes.
    is_input_over: bool,
    /// The writing side of the socket is to be shut down behind what is unsent.
    is_shut: bool,
}

/// What the bytes on the socket are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsPhase {
    /// The header of a proxy, which is handed through.
    ProxyHeader,
    /// They should have been, and were not: whatever comes is the core's to refuse, as it is.
    Bare,
    /// The first of them is not here yet.
    Begun,
    /// A handshake, which is not through.
    Handshake,
    /// TLS records.
    Open,
    /// No TLS, or a handshake that failed. What the client has to know is in `unsent`; the core is
    /// shown a byte that it must refuse, and does what it does behind a refusal: it waits until
    /// the client has read that. The answer that it writes goes nowhere.
    Refused { is_shown: bool },
    /// Records that cannot be trusted.
    Failed,
}

/// What working through the records led to.
enum TlsStep {
    /// More bytes are needed to go on.
    Starved,
    /// Something may have been decrypted.
    Progress,
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Engine {
    /// With `has_proxy_header`, the header of a proxy comes before everything else.
    pub(super) fn new(session: UnbufferedServerConnection, has_proxy_header: bool) -> Self {
        Self {
            session,
            phase: if has_proxy_header { TlsPhase::ProxyHeader } else { TlsPhase::Begun },
            received: Vec::new(),
            decrypted: Vec::new(),
            held: Vec::new(),
            unsent: Vec::new(),
            is_input_over: false,
            is_shut: false,
        }
    }

    pub(super) const fn phase(&self) -> TlsPhase {
        self.phase
    }

    /// Whether nothing more comes.
    pub(super) const fn is_input_over(&self) -> bool {
        self.is_input_over
    }

    /// Whether something goes out behind the handshake, which a read brings to its end.
    pub(super) const fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Fills `destination` as far as the socket gives anything.
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
                TlsPhase::ProxyHeader | TlsPhase::Begun | TlsPhase::Handshake | TlsPhase::Open => {}
                TlsPhase::Bare => return self.read_bare(socket, destination),
                TlsPhase::Refused { .. } => return self.read_refused(socket, destination),
                TlsPhase::Failed => return Err(broken()),
            }
            if self.is_input_over {
                return Ok(());
            }
            // A short read has emptied the socket, but for its end: that is looked for only if there
            // is nothing else to return.
            if is_drained && filled_before > 0 {
                return Ok(());
            }
            let Some((count, is_full)) = self.receive(socket, scratch, destination)? else { return Ok(()) };
            is_drained = !is_full;
            fruitless_bytes += count;
            if destination.filled_bytes() > filled_before {
                fruitless_bytes = 0;
            } else if fruitless_bytes > FRUITLESS_BYTES_MAX {
                self.phase = TlsPhase::Failed;
            }
        }
        Ok(())
    }

    /// Reads once from the socket and decrypts what has come. Returns how many bytes that were, and
    /// whether there may be more; `None` if there is nothing.
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
        // No more than there is room for, or else the rest of a record: so none is ever kept that is whole,
        // of which no event would tell.
        let wanted = missing_bytes(&self.received).max(1).max(destination.room_bytes().saturating_sub(kept));
        let end = (kept + wanted).min(incoming.len());
        let place = incoming.get_mut(kept..end).unwrap_or_default();
        let count = match read_uninterrupted(socket, place) {
            Ok(0) => {
                self.is_input_over = true;
                if self.phase != TlsPhase::Open {
                    // There will be no session to send anything in.
                    self.refuse(true);
                }
                return Ok(None);
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_full = count == place.len();
        self.received = Vec::new();
        let mut filled = incoming.get_mut(..kept + count).unwrap_or_default();
        if self.phase == TlsPhase::ProxyHeader {
            let header_bytes = self.hand_through(filled, kept, destination);
            filled = filled.get_mut(header_bytes..).unwrap_or_default();
        }
        if filled.is_empty() || matches!(self.phase, TlsPhase::ProxyHeader | TlsPhase::Bare) {
            return Ok(Some((count, is_full)));
        }
        if self.phase == TlsPhase::Begun {
            self.begin(filled);
        }
        if !matches!(self.phase, TlsPhase::Refused { .. }) {
            let rest = self.work(filled, destination);
            self.received = rest.to_vec();
        }
        // What the handshake calls for goes out at once, and at the latest with the next flush.
        if !self.unsent.is_empty() {
            let _ = self.flush(socket);
        }
        Ok(Some((count, is_full)))
    }

    /// Gives the core what has come of a proxy's header, of which it has seen `seen_bytes`. Returns its length
    /// once it is whole.
    fn hand_through(
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
                self.phase = TlsPhase::Begun;
                bytes
            }
            ProxyHeader::Malformed => {
                self.phase = TlsPhase::Bare;
                self.held = Vec::new();
                received.len()
            }
        };
        let rest = destination.fill(received.get(seen_bytes..header_bytes).unwrap_or_default());
        self.decrypted.extend_from_slice(rest);
        header_bytes
    }

    /// Tells TLS from anything else.
    fn begin(&mut self, received: &[u8]) {
        if received.first() == Some(&HANDSHAKE_RECORD) {
            self.phase = TlsPhase::Handshake;
        } else {
            self.unsent.extend_from_slice(NOT_TLS);
            self.refuse(false);
        }
    }

    fn refuse(&mut self, is_shown: bool) {
        self.held = Vec::new();
        self.phase = TlsPhase::Refused { is_shown };
    }

    /// Shows the core a byte to refuse, and then what the client goes on to send.
    fn read_refused(
        &mut self,
        socket: &mut TcpStream,
        destination: &mut Destination<'_, '_>,
    ) -> io::Result<()> {
        if self.phase != (TlsPhase::Refused { is_shown: true }) {
            self.phase = TlsPhase::Refused { is_shown: true };
            destination.fill(&[NO_REQUEST]);
        }
        self.read_bare(socket, destination)
    }

    /// Reads what the socket has, as it is.
    fn read_bare(&mut self, socket: &mut TcpStream, destination: &mut Destination<'_, '_>) -> io::Result<()> {
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
                self.decrypted = Vec::new();
            }
        }
    }

    /// Works through what was received, as long as there is room for what comes of it; returns the
    /// rest.
    fn work<'a>(&mut self, received: &'a mut [u8], destination: &mut Destination<'_, '_>) -> &'a [u8] {
        let mut start = 0;
        while destination.room_bytes() > 0 {
            let rest = received.get_mut(start..).unwrap_or_default();
            let (discard, step) = self.step(rest, Some(&mut *destination));
            start += discard;
            match step {
                Ok(TlsStep::Progress) => {}
                Ok(TlsStep::Starved) => break,
                Err(()) => {
                    self.fail(received.get_mut(start..).unwrap_or_default());
                    return &[];
                }
            }
        }
        let rest = received.get_mut(start..).unwrap_or_default();
        if rest.len() > RECORD_BYTES_MAX && destination.room_bytes() > 0 {
            // A message of the handshake longer than any record: no client is that long-winded.
            self.fail(rest);
            return &[];
        }
        rest
    }

    /// Has rustls take one step. Returns how many bytes of `received` it is done with, and `Err` if
    /// the client broke the protocol.
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
                data.done();
                Ok(TlsStep::Progress)
            }
            ConnectionState::PeerClosed => {
                self.is_input_over = true;
                Ok(TlsStep::Progress)
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                if self.phase == TlsPhase::Handshake {
                    self.phase = TlsPhase::Open;
                    let held = std::mem::take(&mut self.held);
                    if !held.is_empty() {
                        append_encoded(&mut self.unsent, |out| encoded(traffic.encrypt(&held, out)));
                    }
                }
                Ok(TlsStep::Starved)
            }
            ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(TlsStep::Starved),
            // None was offered.
            ConnectionState::ReadEarlyData(_) | _ => Err(()),
        };
        (discard, step)
    }

    /// The client broke the protocol. It gets to know how, by the alert that rustls has prepared; what
    /// was received is not looked at again, nor `rest`, which is left of it.
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
            self.refuse(false);
        }
    }

    pub(super) fn write(
        &mut self,
        socket: &mut TcpStream,
        scratch: &mut Scratch,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self.phase {
            TlsPhase::Open => {}
            TlsPhase::ProxyHeader | TlsPhase::Begun | TlsPhase::Handshake => return self.hold(slices),
            TlsPhase::Bare => {
                let bare = slices.iter().find(|slice| !slice.is_empty());
                return bare.map_or(Ok(0), |slice| write_uninterrupted(socket, slice));
            }
            TlsPhase::Refused { .. } => return Ok(slices.iter().map(|slice| slice.len()).sum()),
            TlsPhase::Failed => return Err(broken()),
        }
        self.flush(socket)?;
        self.settle()?;
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
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(encrypted.get(taken..).unwrap_or_default());
        Ok(plain.len())
    }

    /// Keeps what is written before the handshake is through.
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

    /// Lets rustls put out what it has of its own, such as the answer to a renewal of keys, which it wants to
    /// before it encrypts.
    fn settle(&mut self) -> io::Result<()> {
        let mut received = std::mem::take(&mut self.received);
        let mut start = 0;
        loop {
            let (discard, step) = self.step(received.get_mut(start..).unwrap_or_default(), None);
            start += discard;
            match step {
                Ok(TlsStep::Progress) => {}
                Ok(TlsStep::Starved) => break,
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

    /// Hands the socket what it did not take before; `WouldBlock` if that is still too much.
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
        if std::mem::take(&mut self.is_shut) {
            socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Ends our side of the stream behind what is unsent; a flush then does it.
    pub(super) fn shut(&mut self) {
        self.close_notify();
        self.is_shut = true;
    }

    /// Puts the alert that ends our side of the stream behind what is unsent, once
    /// (RFC 8446, section 6.1).
    pub(super) fn close_notify(&mut self) {
        if self.phase != TlsPhase::Open || self.settle().is_err() {
            return;
        }
        let UnbufferedStatus { state, .. } = self.session.process_tls_records(&mut self.received);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            append_encoded(&mut self.unsent, |out| encoded(traffic.queue_close_notify(out)));
        }
    }
}

/// Bytes that the record is short of that `received` begins with, or its header if that is not whole.
fn missing_bytes(received: &[u8]) -> usize {
    let total = match received.get(..RECORD_HEADER_BYTES) {
        Some(&[_, _, _, high, low]) => RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])),
        _ => RECORD_HEADER_BYTES,
    };
    total.saturating_sub(received.len())
}
