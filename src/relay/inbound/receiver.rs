//! The receive buffer of the whole loop, and tungstenite behind it.

use std::io::{self, IoSliceMut, Read, Write};
use std::ops::Range;

use tungstenite::Bytes;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::Refused;
use crate::relay::budget::Order;
use crate::relay::frame::{FrameHeader, unmask};
use crate::relay::limits::{RECEIVE_BUFFER_BYTES, TUNGSTENITE_READ_BUFFER_BYTES};
use crate::relay::message::CloseReason;

/// The receive buffer and the tungstenite context that all connections take turns at.
#[derive(Debug)]
pub struct Receiver {
    buffer: Box<[u8]>,
    /// The bytes in `buffer` not yet made sense of.
    filled: Range<usize>,
    /// Between two frames it holds nothing, see the module's documentation.
    context: WebSocketContext,
    messages_begun: Order,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            filled: 0..0,
            context: new_context(),
            messages_begun: 0,
        }
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
        self.buffer.get(self.filled.clone()).unwrap_or_default()
    }

    /// Bytes of the buffer, consumed or not, until something is read into it again.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Consumes `count` bytes, or all there are.
    pub fn consume(&mut self, count: usize) {
        self.filled.start = (self.filled.start + count).min(self.filled.end);
    }

    /// Consumes everything.
    pub fn clear(&mut self) {
        self.filled = 0..0;
    }

    /// The place in line of a message that begins now.
    pub(super) const fn next_order(&mut self) -> Order {
        self.messages_begun += 1;
        self.messages_begun
    }

    /// Puts back bytes that were kept; they are fewer than the buffer has.
    pub(super) fn load(&mut self, kept: &[u8]) {
        let count = kept.len().min(self.buffer.len());
        if let (Some(front), Some(kept)) = (self.buffer.get_mut(..count), kept.get(..count)) {
            front.copy_from_slice(kept);
        }
        self.filled = 0..count;
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
        let room = self.buffer.get_mut(kept.len()..).unwrap_or_default();
        let bytes = room.len().min(bytes_max);
        let room = room.get_mut(..bytes).unwrap_or_default();
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
        let bytes_max = bytes_max.min(self.buffer.len());
        let behind = self.buffer.get_mut(..bytes_max).unwrap_or_default();
        let (place_bytes, room) = (place.len(), place.len() + behind.len());
        let count = stream.read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(behind)])?;
        self.filled = 0..count.saturating_sub(place_bytes);
        // A stream that knows no vectored reads fills the first place at most.
        Ok((count, count == room || count == place_bytes))
    }

    /// Consumes the next `bytes`, or as many as there are; returns where they stand.
    fn take(&mut self, bytes: usize) -> Range<usize> {
        let range = self.filled.start..(self.filled.start + bytes).min(self.filled.end);
        self.filled.start = range.end;
        range
    }

    /// Unmasks and consumes the next `bytes`, of which there are as many; returns where they stand.
    pub(super) fn take_unmasked(&mut self, mask: [u8; 4], bytes: usize) -> Range<usize> {
        let range = self.take(bytes);
        unmask(self.buffer.get_mut(range.clone()).unwrap_or_default(), mask);
        range
    }

    /// Consumes the next `bytes`, or as many as there are, and hands them out as they stand.
    pub(super) fn take_mut(&mut self, bytes: usize) -> &mut [u8] {
        let range = self.take(bytes);
        self.buffer.get_mut(range).unwrap_or_default()
    }

    /// Takes the control frame that the buffer begins with through tungstenite.
    ///
    /// It sees a final binary frame, which it unmasks and hands out as it is: the context has no state that
    /// one connection could leave to the next.
    pub(super) fn take_control(&mut self, header: FrameHeader) -> Result<Bytes, Refused> {
        let range = self.take(header.frame_bytes());
        let frame = self.buffer.get_mut(range).unwrap_or_default();
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
