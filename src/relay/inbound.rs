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

mod fragments;
mod receiver;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use bytes::Bytes;
use tungstenite::{Message, Utf8Bytes};

use super::frame::{FrameHeader, Opcode, parse_header};
use super::limits::{FRAME_HEADER_BYTES_MAX, READ_STEP_BYTES, SMALL_MESSAGE_BYTES_MAX};
use super::message::{ClientError, CloseReason, answer_to_close};
use super::time::Tick;

use fragments::Fragments;
pub use receiver::Receiver;
use receiver::take_large;

/// Set in the first byte of a control frame (RFC 6455, section 5.5).
const CONTROL_BIT: u8 = 0x08;

/// Something whole that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Whether frames can still be told apart in what follows, and the client's close be heard.
    pub is_framing_intact: bool,
}

impl From<CloseReason> for Refused {
    fn from(reason: CloseReason) -> Self {
        let is_framing_intact = !matches!(reason, CloseReason::Protocol(_));
        Self { reason, error: None, is_framing_intact }
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
    /// When the last byte of it came. Control frames between its fragments are none of it.
    moved_at: Tick,
    /// Some of it came in the current read.
    has_moved: bool,
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
    Large(LargeFrame),
}

#[derive(Debug)]
struct LargeFrame {
    header: FrameHeader,
    /// Its length, header included.
    frame_bytes: usize,
    /// What has come, and zeros a little ahead of it: each byte of the memory is zeroed once,
    /// however small the pieces are that the frame comes in.
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbound {
    /// When the first byte came of a message that has not arrived whole, and when the last one so
    /// far; `None` between messages.
    #[must_use]
    pub fn unfinished_since(&self) -> Option<(Tick, Tick)> {
        let unfinished = self.unfinished.as_ref()?;
        Some((unfinished.since?, unfinished.moved_at))
    }

    /// Reckons the time in which the relay did not read out of the age of an unfinished message.
    pub fn excuse(&mut self, held: std::time::Duration) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since = unfinished.since.map(|since| since.after(held));
            unfinished.moved_at = unfinished.moved_at.after(held);
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
        let Some(unfinished) = &mut self.unfinished else { return receiver.read_behind(&[], stream) };
        match &mut unfinished.frame {
            PartialFrame::Large(large) if large.filled < large.frame_bytes => {
                unfinished.has_moved = true;
                large.read_from(stream)
            }
            PartialFrame::Small(bytes) => {
                let result = receiver.read_behind(bytes, stream);
                if result.is_ok() {
                    bytes.clear();
                }
                result
            }
            PartialFrame::Large(_) | PartialFrame::None => receiver.read_behind(&[], stream),
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
            let in_message = self.unfinished.as_ref().is_some_and(|unfinished| unfinished.in_message);
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
                let frame = receiver.bytes().get(..frame_bytes).unwrap_or_default().to_vec();
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
        if let [first, ..] = rest {
            let is_data = first & CONTROL_BIT == 0;
            let unfinished = self.begin_unfinished();
            unfinished.has_moved |= is_data;
            match &mut unfinished.frame {
                PartialFrame::Small(kept) => kept.extend_from_slice(rest),
                frame @ (PartialFrame::None | PartialFrame::Large(_)) => {
                    *frame = PartialFrame::Small(rest.to_vec());
                }
            }
            receiver.clear();
        } else if let Some(unfinished) = &mut self.unfinished
            && let PartialFrame::Small(_) = unfinished.frame
        {
            unfinished.frame = PartialFrame::None;
        }
        if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.is_over()) {
            self.unfinished = None;
        }
        if let Some(unfinished) = &mut self.unfinished {
            if std::mem::take(&mut unfinished.has_moved) || unfinished.since.is_none() {
                unfinished.moved_at = now;
            }
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
        let before = self.unfinished.as_ref().map_or(0, |unfinished| unfinished.message.len());
        let bytes = header.payload_bytes.saturating_add(before as u64);
        match usize::try_from(header.payload_bytes) {
            Ok(payload_bytes) if bytes <= size_max as u64 => Ok(header.header_bytes + payload_bytes),
            Ok(_) | Err(_) => Err(Refused {
                reason: CloseReason::TooLarge,
                error: Some(ClientError::MessageTooLarge {
                    bytes,
                    at_least: !header.is_final,
                    limit: size_max,
                }),
                is_framing_intact: true,
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
        bytes.try_reserve_exact(frame_bytes).map_err(|_| CloseReason::NoRoom)?;
        bytes.extend_from_slice(receiver.bytes());
        receiver.clear();
        let filled = bytes.len();
        let large = LargeFrame { header, frame_bytes, bytes, filled };
        self.begin_unfinished().frame = PartialFrame::Large(large);
        Ok(())
    }

    fn begin_skipping(&mut self, header: FrameHeader) {
        let unfinished = self.begin_unfinished();
        unfinished.in_message = !header.is_final;
        unfinished.skip = header.payload_bytes.saturating_add(header.header_bytes as u64);
    }

    fn skip(&mut self, receiver: &mut Receiver) {
        if let Some(unfinished) = &mut self.unfinished
            && unfinished.skip > 0
        {
            let available = receiver.bytes().len();
            let count = usize::try_from(unfinished.skip).unwrap_or(usize::MAX).min(available);
            receiver.consume(count);
            unfinished.skip -= count as u64;
        }
    }

    /// Makes of a frame's payload what the frame was; `None` for a fragment before the last.
    fn accept(&mut self, header: FrameHeader, message: Message) -> Result<Option<Incoming>, Refused> {
        let incoming = self.interpret(header, message);
        if let Some(unfinished) = &mut self.unfinished
            && !unfinished.in_message
        {
            // The next message's time begins with its own first byte.
            unfinished.since = None;
        }
        incoming
    }

    fn interpret(&mut self, header: FrameHeader, message: Message) -> Result<Option<Incoming>, Refused> {
        if let Message::Text(text) = message {
            return Ok(Some(Incoming::Text(text)));
        }
        let payload = message.into_data();
        match header.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(payload))),
            Opcode::Pong => Ok(Some(Incoming::Pong)),
            Opcode::Close => {
                // Nothing follows a close, not even another one.
                let over = |reason| Refused { reason, error: None, is_framing_intact: false };
                let (code, answer) = answer_to_close(&payload).map_err(over)?;
                Ok(Some(Incoming::Close { code, answer }))
            }
            Opcode::Binary if header.is_final => Ok(Some(Incoming::Binary(payload))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.accept_fragment(header, &payload),
        }
    }

    fn accept_fragment(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Incoming>, Refused> {
        let unfinished = self.begin_unfinished();
        match header.opcode {
            Opcode::Text => unfinished.message = Fragments::Text { text: String::new(), split: Vec::new() },
            Opcode::Binary => unfinished.message = Fragments::Binary(Vec::new()),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        unfinished.has_moved = true;
        unfinished.in_message = !header.is_final;
        unfinished.message.push(payload)?;
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
        if let PartialFrame::Large(large) = &self.frame {
            self.skip = (large.frame_bytes - large.filled) as u64;
            self.in_message = !large.header.is_final;
            self.frame = PartialFrame::None;
        }
    }

    fn take_whole_large(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        match &mut self.frame {
            PartialFrame::Large(large) if large.filled == large.frame_bytes => {
                let whole = (large.header, std::mem::take(&mut large.bytes));
                self.frame = PartialFrame::None;
                Some(whole)
            }
            PartialFrame::Large(_) | PartialFrame::Small(_) | PartialFrame::None => None,
        }
    }
}

impl LargeFrame {
    fn read_from<R: Read>(&mut self, stream: &mut R) -> io::Result<(usize, bool)> {
        if self.bytes.len() - self.filled < READ_STEP_BYTES / 2 {
            self.bytes.resize(self.frame_bytes.min(self.filled + READ_STEP_BYTES), 0);
        }
        let room = self.bytes.get_mut(self.filled..).unwrap_or_default();
        let count = stream.read(room)?;
        let is_full = count == room.len();
        self.filled += count;
        Ok((count, is_full))
    }
}
