//! The one receive buffer of the event loop, and the tungstenite context that reads control frames.

use std::io::{self, IoSliceMut, Read, Write};
use std::ops::Range;

use tungstenite::Bytes;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::Violation;
use crate::relay::limits::{RECEIVE_BUFFER_BYTES, SWAP_BYTES_MIN, TUNGSTENITE_READ_BUFFER_BYTES};
use crate::relay::memory::{Chunk, Memory};
use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::frame::{FrameHeader, unmask};

/// The receive buffer and the tungstenite context, which all connections use one after the other. Between the reads of
/// two connections neither holds anything.
#[derive(Debug)]
pub struct Receiver {
    buffer: Chunk,
    /// The bytes in `buffer` that are not consumed.
    filled: Range<usize>,
    /// Has no state between two frames; see [`take_control`](Self::take_control).
    context: WebSocketContext,
}

/// The position of consumed bytes in the buffer. Valid until the next read into it.
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

    /// Bytes of the buffer, consumed or not. They stay until the next read into it.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> &[u8] {
        self.buffer.as_slice().get(range).unwrap_or_default()
    }

    fn range_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.buffer.as_mut_slice().get_mut(range).unwrap_or_default()
    }

    /// Consumes `count` bytes, or all if there are fewer.
    pub fn consume(&mut self, count: usize) {
        self.filled.start = (self.filled.start + count).min(self.filled.end);
    }

    /// Consumes everything.
    pub fn clear(&mut self) {
        self.filled = 0..0;
    }

    /// Puts the stored start of a frame at the front of the buffer.
    fn load(&mut self, kept: &[u8]) {
        let front = self.range_mut(0..kept.len());
        debug_assert!(front.len() == kept.len(), "the stored start of a frame fits into the buffer");
        front.copy_from_slice(kept);
        self.filled = 0..kept.len();
    }

    /// Reads once into the buffer, at most `bytes_max` bytes, behind the stored start of a frame in `kept`.
    ///
    /// Returns how many bytes came, and whether the stream may have more.
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
        // Only now: after an error the buffer must be empty, and the caller still has `kept`.
        self.load(kept);
        self.filled.end += count;
        Ok((count, is_full))
    }

    /// Reads once into `target`, and into the buffer at most `bytes_max` of the bytes behind it.
    ///
    /// Returns how many bytes came in total, and whether the stream may have more.
    pub(super) fn read_past<R: Read>(
        &mut self,
        target: &mut [u8],
        stream: &mut R,
        bytes_max: usize,
    ) -> io::Result<(usize, bool)> {
        let behind = self.range_mut(0..bytes_max.min(RECEIVE_BUFFER_BYTES));
        let (target_bytes, room) = (target.len(), target.len() + behind.len());
        let count = stream.read_vectored(&mut [IoSliceMut::new(target), IoSliceMut::new(behind)])?;
        self.filled = 0..count.saturating_sub(target_bytes);
        // A stream without vectored reads fills `target` at most, and may have more then.
        Ok((count, count == room || count == target_bytes))
    }

    /// Consumes the next `bytes` bytes, or all if there are fewer. Returns their position.
    pub(super) fn take(&mut self, bytes: usize) -> Received {
        let received =
            Received { start: self.filled.start, end: (self.filled.start + bytes).min(self.filled.end) };
        self.filled.start = received.end;
        received
    }

    /// The consumed bytes at a position.
    pub(super) fn taken(&self, received: Received) -> &[u8] {
        self.range(received.range())
    }

    /// The same, to unmask them in the buffer.
    pub(super) fn taken_mut(&mut self, received: Received) -> &mut [u8] {
        self.range_mut(received.range())
    }

    /// Consumes and unmasks the next `bytes` bytes, and returns their position. The caller has checked that they are
    /// there.
    pub(super) fn take_unmasked(&mut self, mask: [u8; 4], bytes: usize) -> Range<usize> {
        let received = self.take(bytes);
        unmask(self.taken_mut(received), mask);
        received.range()
    }

    /// Adds the consumed bytes to a message in transit. If they are many and the last in the buffer, the message takes
    /// the whole buffer and the receiver gets a new one; otherwise they are copied.
    pub(super) fn move_to(&mut self, received: Received, key: TransitKey, transits: &mut Transits) {
        let is_much = received.end - received.start >= SWAP_BYTES_MIN && self.filled.is_empty();
        if is_much && let Some(chunk) = transits.memory.try_take_chunk() {
            let chunk = std::mem::replace(&mut self.buffer, chunk);
            transits.append_chunk(key, chunk, received.start, received.end);
        } else {
            transits.append(key, self.taken(received));
        }
    }

    /// Returns the buffer to `memory`, from which `move_to` may have taken it, and allocates another.
    pub fn renew(&mut self, memory: &mut Memory) {
        self.clear();
        memory.exchange_unused(std::mem::replace(&mut self.buffer, Chunk::standalone()));
    }

    /// Reads the control frame at the front of the buffer with tungstenite, and returns its payload.
    ///
    /// tungstenite is given a final binary frame instead, which it unmasks and returns. A control frame would change
    /// the state of the context, for example to closing, and that state would pass to the next connection.
    pub(super) fn take_control(&mut self, header: FrameHeader) -> Result<Bytes, Violation> {
        let received = self.take(header.frame_bytes());
        let frame = self.buffer.as_mut_slice().get_mut(received.range()).unwrap_or_default();
        debug_assert!(!frame.is_empty(), "a control frame has a header");
        if let Some(first) = frame.first_mut() {
            // FIN and the opcode of a binary frame.
            *first = 0x82;
        }
        let result = self.context.read(&mut FrameSource(frame));
        // A context that returned an error may be closed, which would affect all connections.
        if result.is_err() {
            self.context = new_context();
        }
        // The header is checked and the frame is complete, so this error does not occur.
        result
            .map(tungstenite::Message::into_data)
            .map_err(|_| CloseReason::Protocol("Malformed frame").into())
    }
}

/// A stream from which one frame can be read, and then nothing for now.
struct FrameSource<'a>(&'a [u8]);

impl Read for FrameSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // An empty read would be the end of the stream, and close the context.
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

/// Nothing is written: tungstenite would write only pongs and close frames, and it never reads a ping or close frame.
impl Write for FrameSource<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
