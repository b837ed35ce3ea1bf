//! The receive buffer of the whole loop, and tungstenite behind it.

use std::io::{self, IoSliceMut, Read, Write};
use std::ops::Range;

use tungstenite::Bytes;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::Violation;
use crate::relay::limits::{RECEIVE_BUFFER_BYTES, SWAP_BYTES_MIN, TUNGSTENITE_READ_BUFFER_BYTES};
use crate::relay::memory::{Chunk, Memory};
use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::frame::{FrameHeader, unmask};
use crate::relay::wire::message::CloseReason;

/// The receive buffer and the tungstenite context that all connections take turns at.
#[derive(Debug)]
pub struct Receiver {
    buffer: Chunk,
    /// The bytes in `buffer` not yet made sense of.
    filled: Range<usize>,
    /// Between two frames it holds nothing, see the module's documentation.
    context: WebSocketContext,
}

/// Where consumed bytes stand in the buffer, until something is read into it again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    start: usize,
    end: usize,
}

impl Received {
    const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self { buffer: Chunk::standalone(), filled: 0..0, context: new_context() }
    }
}

fn new_context() -> WebSocketContext {
    let config = WebSocketConfig::default().read_buffer_size(TUNGSTENITE_READ_BUFFER_BYTES);
    WebSocketContext::new(Role::Server, Some(config))
}

impl Receiver {
    /// Bytes received and not yet consumed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.range(self.filled.clone())
    }

    /// Bytes of the buffer, consumed or not, until something is read into it again.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> &[u8] {
        self.buffer.as_slice().get(range).unwrap_or_default()
    }

    fn range_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.buffer.as_mut_slice().get_mut(range).unwrap_or_default()
    }

    /// Consumes `count` bytes, or all there are.
    pub fn consume(&mut self, count: usize) {
        self.filled.start = (self.filled.start + count).min(self.filled.end);
    }

    /// Consumes everything.
    pub fn clear(&mut self) {
        self.filled = 0..0;
    }

    /// Puts back bytes that were kept; they are fewer than the buffer has.
    fn load(&mut self, kept: &[u8]) {
        let front = self.range_mut(0..kept.len());
        debug_assert!(front.len() == kept.len(), "no more is kept than the buffer holds");
        front.copy_from_slice(kept);
        self.filled = 0..kept.len();
    }

    /// Reads once into the buffer, at most `bytes_max`, behind what `kept` brings along.
    ///
    /// The second value tells whether the stream may have more.
    pub fn read_behind<R: Read>(
        &mut self,
        kept: &[u8],
        stream: &mut R,
        bytes_max: usize,
    ) -> io::Result<(usize, bool)> {
        let bytes = (RECEIVE_BUFFER_BYTES - kept.len()).min(bytes_max);
        let room = self.range_mut(kept.len()..kept.len() + bytes);
        let count = stream.read(room)?;
        let is_full = count == room.len();
        self.load(kept);
        self.filled.end += count;
        Ok((count, is_full))
    }

    /// Reads once into `place`, and at most `bytes_max` of what comes behind it into the buffer, which is no
    /// smaller.
    ///
    /// Returns how many bytes came in all, and whether the stream may have more.
    pub(super) fn read_past<R: Read>(
        &mut self,
        place: &mut [u8],
        stream: &mut R,
        bytes_max: usize,
    ) -> io::Result<(usize, bool)> {
        let behind = self.range_mut(0..bytes_max.min(RECEIVE_BUFFER_BYTES));
        let (place_bytes, room) = (place.len(), place.len() + behind.len());
        let count = stream.read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(behind)])?;
        self.filled = 0..count.saturating_sub(place_bytes);
        // A stream that knows no vectored reads fills the first place at most.
        Ok((count, count == room || count == place_bytes))
    }

    /// Consumes the next `bytes`, or as many as there are; returns where they stand.
    pub(super) fn take(&mut self, bytes: usize) -> Received {
        let received =
            Received { start: self.filled.start, end: (self.filled.start + bytes).min(self.filled.end) };
        self.filled.start = received.end;
        received
    }

    /// What was taken last, as it stands.
    pub(super) fn taken(&self, received: Received) -> &[u8] {
        self.range(received.range())
    }

    /// The same, to be changed where it stands.
    pub(super) fn taken_mut(&mut self, received: Received) -> &mut [u8] {
        self.range_mut(received.range())
    }

    /// Unmasks and consumes the next `bytes`, of which there are as many; returns where they stand.
    pub(super) fn take_unmasked(&mut self, mask: [u8; 4], bytes: usize) -> Range<usize> {
        let received = self.take(bytes);
        unmask(self.taken_mut(received), mask);
        received.range()
    }

    /// Adds what was taken last to a message. Much of it goes with the buffer that it stands in, if nothing is behind
    /// it and there is another buffer; else it is copied.
    pub(super) fn move_to(&mut self, received: Received, key: TransitKey, transits: &mut Transits) {
        let is_much = received.end - received.start >= SWAP_BYTES_MIN && self.filled.is_empty();
        if is_much && let Some(chunk) = transits.memory.try_take_chunk() {
            let chunk = std::mem::replace(&mut self.buffer, chunk);
            transits.append_chunk(key, chunk, received.start, received.end);
        } else {
            transits.append(key, self.taken(received));
        }
    }

    /// Gives a buffer that came from `memory` back to it.
    pub fn renew(&mut self, memory: &mut Memory) {
        self.clear();
        memory.exchange_unused(std::mem::replace(&mut self.buffer, Chunk::standalone()));
    }

    /// Takes the control frame that the buffer begins with through tungstenite.
    ///
    /// It sees a final binary frame, which it unmasks and hands out as it is: the context has no state that
    /// one connection could leave to the next.
    pub(super) fn take_control(&mut self, header: FrameHeader) -> Result<Bytes, Violation> {
        let received = self.take(header.frame_bytes());
        let frame = self.buffer.as_mut_slice().get_mut(received.range()).unwrap_or_default();
        if let Some(first) = frame.first_mut() {
            *first = 0x82;
        }
        let result = self.context.read(&mut FrameSource(frame));
        if result.is_err() {
            self.context = new_context();
        }
        // Headers were checked before: nothing is left to go wrong.
        result
            .map(tungstenite::Message::into_data)
            .map_err(|_| CloseReason::Protocol("Malformed frame").into())
    }
}

/// A stream that holds one frame.
struct FrameSource<'a>(&'a [u8]);

impl Read for FrameSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

/// tungstenite writes only pongs and closes, and never sees a ping or a close.
impl Write for FrameSource<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
