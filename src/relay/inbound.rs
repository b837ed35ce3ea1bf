//! Reads messages out of the bytes that a client sends.
//!
//! One [`Receiver`] serves all connections: what arrives lands in its buffer, whole frames go
//! from there through tungstenite, and only what is left over is kept per connection, as plain
//! bytes: an unfinished frame, and the text or bytes of a message whose last fragment has not
//! come. A connection between two messages keeps nothing.
//!
//! Frame headers are checked here first, so that a frame is refused at its header, and then
//! handed to tungstenite as a final frame: fragments and control frames under the opcode
//! `binary`, so that its context has no state that one connection could leave to the next.

use std::io::{self, Read, Write};
use std::ops::Range;

use bytes::Bytes;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Message, Utf8Bytes};

use super::frame::{FrameHeader, Opcode, parse_header};
use super::limits::{
    FRAME_HEADER_BYTES_MAX, READ_STEP_BYTES, RECEIVE_BUFFER_BYTES, SMALL_MESSAGE_BYTES_MAX,
    TUNGSTENITE_READ_BUFFER_BYTES,
};
use super::message::{ClientError, CloseReason, answer_to_close};
use super::time::Tick;

/// Stands for the code of a close frame that carried none; never sent.
const NO_STATUS_RECEIVED: u16 = 1005;

/// Something whole that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message; it is UTF-8.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong; all it tells is that the client lives.
    Pong,
    /// A close frame. Nothing may follow it.
    Close {
        /// Its code; 1005 if it carried none (RFC 6455, section 7.1.5).
        code: u16,
        /// What it is answered with.
        answer: CloseReason,
    },
}

/// What a client sent is refused: the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// What goes into the close frame.
    pub reason: CloseReason,
    /// What the client is told before it.
    pub error: Option<ClientError>,
}

impl From<CloseReason> for Refused {
    fn from(reason: CloseReason) -> Self {
        Self {
            reason,
            error: None,
        }
    }
}

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
            context: WebSocketContext::new(
                Role::Server,
                Some(context_config(TUNGSTENITE_READ_BUFFER_BYTES)),
            ),
        }
    }
}

/// Sizes are checked at the header, before tungstenite sees the frame.
fn context_config(read_buffer_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer_bytes)
        .max_message_size(None)
        .max_frame_size(None)
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
    pub fn read_behind<R: Read>(
        &mut self,
        kept: &[u8],
        stream: &mut R,
    ) -> io::Result<(usize, bool)> {
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
    fn take_small(&mut self, header: FrameHeader, frame_bytes: usize) -> Result<Message, Refused> {
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
fn take_large(header: FrameHeader, mut frame: Vec<u8>) -> Result<Message, Refused> {
    disguise(&mut frame, header);
    WebSocketContext::from_partially_read(frame, Role::Server, Some(context_config(0)))
        .read(&mut FrameSource(&[]))
        .map_err(|error| refusal_of(&error))
}

/// Makes every frame but a whole text message a final binary one, which tungstenite unmasks and
/// hands out as it is.
fn disguise(frame: &mut [u8], header: FrameHeader) {
    if let (Some(first), false) = (
        frame.first_mut(),
        header.is_final && header.opcode == Opcode::Text,
    ) {
        *first = 0x82;
    }
}

/// Headers were checked before: all that is left to go wrong is the text.
fn refusal_of(error: &tungstenite::Error) -> Refused {
    match error {
        tungstenite::Error::Utf8(_) => CloseReason::NotUtf8.into(),
        _ => CloseReason::Protocol("Malformed frame").into(),
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

/// One connection's side of reading: at rest it is a null pointer.
#[derive(Debug, Default)]
pub struct Inbound {
    unfinished: Option<Box<Unfinished>>,
}

/// What has arrived of a frame or message whose end has not.
#[derive(Debug, Default)]
struct Unfinished {
    /// When the first byte of it came; `None` until this is known to be the start of something.
    since: Option<Tick>,
    frame: PartialFrame,
    /// Whether a fragmented message is open.
    in_message: bool,
    message: Fragments,
    /// Bytes of a frame's payload still to be thrown away.
    skip: u64,
}

#[derive(Debug, Default)]
enum PartialFrame {
    #[default]
    None,
    /// The start of a frame that, once whole, fits the receive buffer.
    Small(Vec<u8>),
    /// The start of a larger one, in memory reserved for all of it.
    Large {
        header: FrameHeader,
        frame_bytes: usize,
        bytes: Vec<u8>,
    },
}

/// The fragments of one message, unmasked and joined.
#[derive(Debug, Default)]
enum Fragments {
    #[default]
    None,
    /// Text, and the start of a character that a fragment ended in.
    Text {
        text: String,
        split: Vec<u8>,
    },
    Binary(Vec<u8>),
}

impl Inbound {
    /// When the first byte came of a message that has not arrived whole; `None` between messages.
    #[must_use]
    pub fn unfinished_since(&self) -> Option<Tick> {
        self.unfinished.as_ref()?.since
    }

    /// Reckons the time in which the relay did not read out of the age of an unfinished message.
    pub fn excuse(&mut self, held: std::time::Duration) {
        if let Some(since) = self
            .unfinished
            .as_mut()
            .and_then(|unfinished| unfinished.since.as_mut())
        {
            *since = since.after(held);
        }
    }

    /// Reads once. The bytes land in `receiver`, or in the memory of a large frame under way.
    ///
    /// Returns how many came, zero at the end of the stream, and whether the stream may have more.
    pub fn read_from<R: Read>(
        &mut self,
        stream: &mut R,
        receiver: &mut Receiver,
    ) -> io::Result<(usize, bool)> {
        receiver.clear();
        let partial = self
            .unfinished
            .as_mut()
            .map(|unfinished| &mut unfinished.frame);
        match partial {
            Some(PartialFrame::Large {
                frame_bytes, bytes, ..
            }) if bytes.len() < *frame_bytes => {
                let before = bytes.len();
                let step = (*frame_bytes - before).min(READ_STEP_BYTES);
                bytes.resize(before + step, 0);
                let result = stream.read(bytes.get_mut(before..).unwrap_or_default());
                bytes.truncate(before + result.as_ref().map_or(0, |&count| count.min(step)));
                result.map(|count| (count, count == step))
            }
            Some(PartialFrame::Small(bytes)) => {
                let result = receiver.read_behind(bytes, stream);
                if result.is_ok() {
                    bytes.clear();
                }
                result
            }
            Some(PartialFrame::Large { .. } | PartialFrame::None) | None => {
                receiver.read_behind(&[], stream)
            }
        }
    }

    /// Takes the next whole thing out of what was read; `None` once only part of one is left.
    ///
    /// `size_max` is the largest message in bytes. With `discard` data frames are thrown away as
    /// they come, whatever their size, and only control frames are handed out.
    pub fn next(
        &mut self,
        receiver: &mut Receiver,
        size_max: usize,
        discard: bool,
    ) -> Result<Option<Incoming>, Refused> {
        if let Some(unfinished) = &mut self.unfinished {
            if discard {
                unfinished.discard();
            }
            if let Some((header, frame)) = unfinished.take_whole_large() {
                let message = take_large(header, frame)?;
                if let Some(incoming) = self.accept(header, message)? {
                    return Ok(Some(incoming));
                }
            }
        }
        loop {
            self.skip(receiver);
            let in_message = self
                .unfinished
                .as_ref()
                .is_some_and(|unfinished| unfinished.in_message);
            let header = match parse_header(receiver.bytes(), in_message) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(None),
                Err(error) => return Err(CloseReason::Protocol(error.reason()).into()),
            };
            if discard && !header.opcode.is_control() {
                self.begin_skipping(header);
                continue;
            }
            let frame_bytes = self.check_size(header, size_max)?;
            if frame_bytes > receiver.bytes().len() {
                if frame_bytes > SMALL_MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX {
                    self.begin_large(header, frame_bytes, receiver)?;
                }
                return Ok(None);
            }
            let message = if frame_bytes > SMALL_MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX {
                let frame = receiver
                    .bytes()
                    .get(..frame_bytes)
                    .unwrap_or_default()
                    .to_vec();
                receiver.consume(frame_bytes);
                take_large(header, frame)?
            } else {
                receiver.take_small(header, frame_bytes)?
            };
            if let Some(incoming) = self.accept(header, message)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Keeps what is left in `receiver` for the next read, and nothing if nothing is. To be called
    /// once after every read that brought something.
    pub fn keep_rest(&mut self, receiver: &mut Receiver, now: Tick) {
        let rest = receiver.bytes();
        if !rest.is_empty() {
            match &mut self.begin_unfinished().frame {
                PartialFrame::Small(kept) => kept.extend_from_slice(rest),
                frame => *frame = PartialFrame::Small(rest.to_vec()),
            }
            receiver.clear();
        } else if let Some(unfinished) = &mut self.unfinished
            && let PartialFrame::Small(_) = unfinished.frame
        {
            unfinished.frame = PartialFrame::None;
        }
        if self
            .unfinished
            .as_ref()
            .is_some_and(|unfinished| unfinished.is_over())
        {
            self.unfinished = None;
        }
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since.get_or_insert(now);
        }
    }

    fn begin_unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }

    /// The length of the whole frame, if the message that it belongs to may become that long.
    fn check_size(&self, header: FrameHeader, size_max: usize) -> Result<usize, Refused> {
        if header.opcode.is_control() {
            return Ok(header.header_bytes + usize::try_from(header.payload_bytes).unwrap_or(0));
        }
        let before = self
            .unfinished
            .as_ref()
            .map_or(0, |unfinished| unfinished.message.len());
        let bytes = header.payload_bytes.saturating_add(before as u64);
        match usize::try_from(header.payload_bytes) {
            Ok(payload_bytes) if bytes <= size_max as u64 => {
                Ok(header.header_bytes + payload_bytes)
            }
            Ok(_) | Err(_) => Err(Refused {
                reason: CloseReason::TooLarge,
                error: Some(ClientError::MessageTooLarge {
                    bytes,
                    at_least: !header.is_final,
                    limit: size_max,
                }),
            }),
        }
    }

    /// Makes room for a large frame, exactly, and moves what has come of it there.
    fn begin_large(
        &mut self,
        header: FrameHeader,
        frame_bytes: usize,
        receiver: &mut Receiver,
    ) -> Result<(), Refused> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(frame_bytes)
            .map_err(|_| CloseReason::NoRoom)?;
        bytes.extend_from_slice(receiver.bytes());
        receiver.clear();
        self.begin_unfinished().frame = PartialFrame::Large {
            header,
            frame_bytes,
            bytes,
        };
        Ok(())
    }

    fn begin_skipping(&mut self, header: FrameHeader) {
        let unfinished = self.begin_unfinished();
        unfinished.in_message = !header.is_final;
        unfinished.skip = header
            .payload_bytes
            .saturating_add(header.header_bytes as u64);
    }

    fn skip(&mut self, receiver: &mut Receiver) {
        if let Some(unfinished) = &mut self.unfinished
            && unfinished.skip > 0
        {
            let available = receiver.bytes().len();
            let count = usize::try_from(unfinished.skip)
                .unwrap_or(usize::MAX)
                .min(available);
            receiver.consume(count);
            unfinished.skip -= count as u64;
        }
    }

    /// Makes of a frame's payload what the frame was; `None` for a fragment before the last.
    fn accept(
        &mut self,
        header: FrameHeader,
        message: Message,
    ) -> Result<Option<Incoming>, Refused> {
        let incoming = self.interpret(header, message);
        if let Some(unfinished) = &mut self.unfinished
            && !unfinished.in_message
        {
            // The next message's time begins with its own first byte.
            unfinished.since = None;
        }
        incoming
    }

    fn interpret(
        &mut self,
        header: FrameHeader,
        message: Message,
    ) -> Result<Option<Incoming>, Refused> {
        let payload = match message {
            Message::Text(text) => return Ok(Some(Incoming::Text(text))),
            message => message.into_data(),
        };
        match header.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(payload))),
            Opcode::Pong => Ok(Some(Incoming::Pong)),
            Opcode::Close => match answer_to_close(&payload) {
                answer @ CloseReason::Echo(..) => {
                    let code = if payload.is_empty() {
                        NO_STATUS_RECEIVED
                    } else {
                        answer.code()
                    };
                    Ok(Some(Incoming::Close { code, answer }))
                }
                refusal => Err(refusal.into()),
            },
            Opcode::Binary if header.is_final => Ok(Some(Incoming::Binary(payload))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.accept_fragment(header, &payload)
            }
        }
    }

    fn accept_fragment(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Incoming>, Refused> {
        let unfinished = self.begin_unfinished();
        match header.opcode {
            Opcode::Text => {
                unfinished.message = Fragments::Text {
                    text: String::new(),
                    split: Vec::new(),
                }
            }
            Opcode::Binary => unfinished.message = Fragments::Binary(Vec::new()),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        unfinished.message.push(payload)?;
        unfinished.in_message = !header.is_final;
        if unfinished.in_message {
            return Ok(None);
        }
        std::mem::take(&mut unfinished.message).finish()
    }
}

impl Unfinished {
    fn is_over(&self) -> bool {
        !self.in_message && self.skip == 0 && matches!(self.frame, PartialFrame::None)
    }

    /// Forgets the message and throws away the rest of a large frame as it comes.
    fn discard(&mut self) {
        self.message = Fragments::None;
        if let PartialFrame::Large {
            frame_bytes,
            bytes,
            header,
        } = &self.frame
        {
            self.skip = (frame_bytes - bytes.len()) as u64;
            self.in_message = !header.is_final;
            self.frame = PartialFrame::None;
        }
    }

    fn take_whole_large(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        match &mut self.frame {
            PartialFrame::Large {
                header,
                frame_bytes,
                bytes,
            } if bytes.len() == *frame_bytes => {
                let whole = (*header, std::mem::take(bytes));
                self.frame = PartialFrame::None;
                Some(whole)
            }
            PartialFrame::Large { .. } | PartialFrame::Small(_) | PartialFrame::None => None,
        }
    }
}

impl Fragments {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Text { text, split } => text.len() + split.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), CloseReason> {
        match self {
            Self::None => Ok(()),
            Self::Text { text, split } => push_text(text, split, payload),
            Self::Binary(bytes) => {
                bytes.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Option<Incoming>, Refused> {
        match self {
            Self::None => Ok(None),
            Self::Text { text, split } if split.is_empty() => Ok(Some(Incoming::Text(text.into()))),
            Self::Text { .. } => Err(CloseReason::NotUtf8.into()),
            Self::Binary(bytes) => Ok(Some(Incoming::Binary(bytes.into()))),
        }
    }
}

/// Appends a fragment of text, each byte checked once, at the earliest moment that proves it wrong.
fn push_text(
    text: &mut String,
    split: &mut Vec<u8>,
    mut payload: &[u8],
) -> Result<(), CloseReason> {
    while let (false, [next, rest @ ..]) = (split.is_empty(), payload) {
        split.push(*next);
        payload = rest;
        match std::str::from_utf8(split) {
            Ok(character) => {
                text.push_str(character);
                split.clear();
            }
            Err(error) if error.error_len().is_some() => return Err(CloseReason::NotUtf8),
            Err(_) => {}
        }
    }
    let mut chunks = payload.utf8_chunks();
    if let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let is_cut_short =
            std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if chunks.next().is_some() || !(chunk.invalid().is_empty() || is_cut_short) {
            return Err(CloseReason::NotUtf8);
        }
        split.extend_from_slice(chunk.invalid());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
