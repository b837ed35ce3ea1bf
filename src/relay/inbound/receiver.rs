//! The receive buffer of the whole loop, and tungstenite behind it.

use std::io::{self, Read, Write};
use std::ops::Range;

use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::Refused;
use crate::relay::frame::{FrameHeader, Opcode};
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
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            filled: 0..0,
            context: WebSocketContext::new(Role::Server, Some(context_config(TUNGSTENITE_READ_BUFFER_BYTES))),
        }
    }
}

/// Sizes are checked at the header, before tungstenite sees the frame.
fn context_config(read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(read_buffer_bytes).max_message_size(None).max_frame_size(None)
}

impl Receiver {
    /// Bytes received and not yet consumed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.filled.clone()).unwrap_or_default()
    }

    /// Consumes `count` bytes, or all there are.
    pub fn consume(&mut self, count: usize) {
        self.filled.start = (self.filled.start + count).min(self.filled.end);
    }

    /// Consumes everything.
    pub fn clear(&mut self) {
        self.filled = 0..0;
    }

    /// Reads once into the buffer, behind what `kept` brings along.
    ///
    /// The second value tells whether the stream may have more.
    pub fn read_behind<R: Read>(&mut self, kept: &[u8], stream: &mut R) -> io::Result<(usize, bool)> {
        // What is kept of a small frame or a head is smaller than the buffer, see `limits`.
        let room = self.buffer.get_mut(kept.len()..).unwrap_or_default();
        let count = stream.read(room)?;
        let is_full = count == room.len();
        if let Some(front) = self.buffer.get_mut(..kept.len()) {
            front.copy_from_slice(kept);
        }
        self.filled = 0..kept.len() + count;
        Ok((count, is_full))
    }

    /// Takes the frame of `frame_bytes` that the buffer begins with through tungstenite.
    pub(super) fn take_small(&mut self, header: FrameHeader, frame_bytes: usize) -> Result<Message, Refused> {
        let frame = self.filled.start..(self.filled.start + frame_bytes).min(self.filled.end);
        self.filled.start = frame.end;
        let frame = self.buffer.get_mut(frame).unwrap_or_default();
        disguise(frame, header);
        let result = self.context.read(&mut FrameSource(frame));
        if result.is_err() {
            let config = context_config(TUNGSTENITE_READ_BUFFER_BYTES);
            self.context = WebSocketContext::new(Role::Server, Some(config));
        }
        result.map_err(|error| refusal_of(&error))
    }
}

/// Takes a frame that has memory of its own through tungstenite, which unmasks it in place.
pub(super) fn take_large(header: FrameHeader, mut frame: Vec<u8>) -> Result<Message, Refused> {
    disguise(&mut frame, header);
    WebSocketContext::from_partially_read(frame, Role::Server, Some(context_config(0)))
        .read(&mut FrameSource(&[]))
        .map_err(|error| refusal_of(&error))
}

/// Makes every frame but a whole text message a final binary one, which tungstenite unmasks and
/// hands out as it is.
fn disguise(frame: &mut [u8], header: FrameHeader) {
    if let (Some(first), false) = (frame.first_mut(), header.is_final && header.opcode == Opcode::Text) {
        *first = 0x82;
    }
}

/// Headers were checked before: all that is left to go wrong is the text.
fn refusal_of(error: &tungstenite::Error) -> Refused {
    if let tungstenite::Error::Utf8(_) = error {
        CloseReason::NotUtf8.into()
    } else {
        CloseReason::Protocol("Malformed frame").into()
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
