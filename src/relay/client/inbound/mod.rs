//! Reads messages out of the bytes that a client sends.
//!
//! One [`Receiver`] serves all connections: what arrives lands in its buffer.
//!
//! - A message in one small frame, as nearly all are, is unmasked and checked where it stands in the buffer.
//! - Any other is unmasked and checked piece by piece, while its bytes are still in the cache, and collected in
//!   memory of its own: up to 16 KiB in a buffer, and beyond that as a [message in transit](crate::relay::transit).
//! - Control frames go through tungstenite.
//!
//! What is kept per connection is plain: the raw start of a frame, and the message that is not whole. A
//! connection between two messages keeps nothing. Headers are checked first, so that a frame is refused at its
//! header.

mod incoming;
mod partial;
mod receiver;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::ops::Range;

use crate::relay::limits::{FRAME_HEADER_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};
use crate::relay::time::Tick;
use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::frame::{FrameHeader, Opcode, parse_header};
use crate::relay::wire::json::{InvalidJson, check_text, check_text_and_type};
use crate::relay::wire::message::{ClientError, CloseReason, answer_to_close};

pub use incoming::{Content, Incoming, MessageType, Rules, Violation};
use partial::Partial;
pub use receiver::Receiver;

/// Set in the first byte of a control frame (RFC 6455, section 5.5).
const CONTROL_BIT: u8 = 0x08;

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
    /// The raw start of a frame.
    kept: Vec<u8>,
    /// A fragmented message is open: a continuation must come next.
    in_message: bool,
    message: Option<Partial>,
    /// Length of the frame that is kept, its header included; 0 while that is not known.
    kept_frame_bytes: usize,
    /// Bytes of a frame's payload still to be thrown away.
    skip: u64,
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
    pub fn exclude_held_time(&mut self, held: std::time::Duration) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since = unfinished.since.map(|since| since.after(held));
            unfinished.moved_at = unfinished.moved_at.after(held);
        }
    }

    /// The message in transit that is on its way from this client, and why it is not JSON, if that is known.
    #[must_use]
    pub fn transit(&self) -> Option<(TransitKey, Option<InvalidJson>)> {
        let message = self.unfinished.as_ref()?.message.as_ref()?;
        Some((message.transit()?, message.invalid_json()))
    }

    /// Throws away the rest of the message in transit as it comes. What has come of it is for the caller to give up;
    /// `is_told` if its sender knows why.
    pub fn skip_transit(&mut self, is_told: bool) {
        let message = self.unfinished.as_mut().and_then(|unfinished| unfinished.message.as_mut());
        debug_assert!(message.is_some(), "only a message under way is skipped");
        if let Some(message) = message {
            message.skip(is_told);
        }
    }

    /// Bytes of memory held, those of a message in transit left out.
    #[must_use]
    pub fn small_bytes(&self) -> usize {
        let Some(unfinished) = &self.unfinished else { return 0 };
        size_of::<Unfinished>()
            + unfinished.kept.capacity()
            + unfinished.message.as_ref().map_or(0, Partial::small_bytes)
    }

    /// Bytes of these that the check of a text takes.
    #[must_use]
    pub fn check_bytes(&self) -> usize {
        let message = self.unfinished.as_ref().and_then(|unfinished| unfinished.message.as_ref());
        message.map_or(0, Partial::check_bytes)
    }

    /// How many bytes to read for what has begun, and no further: to the end of the frame, or of its header.
    /// `None` if nothing has begun.
    #[must_use]
    pub fn missing_bytes(&self) -> Option<usize> {
        let unfinished = self.unfinished.as_ref()?;
        let of_message = unfinished.message.as_ref().and_then(Partial::frame_rest);
        let of_frame = unfinished.kept_frame_bytes.max(FRAME_HEADER_BYTES_MAX);
        let missing = of_message.map_or(of_frame.saturating_sub(unfinished.kept.len()), |(bytes, _)| bytes);
        Some(missing.max(1))
    }

    /// Forgets the message that is not whole: what comes is to be discarded.
    pub fn abandon(&mut self, transits: &mut Transits) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.discard(transits);
        }
    }

    /// Reads once. The bytes land in `receiver`, at most `bytes_max` of them, or in the memory of a message in transit.
    ///
    /// Returns how many came, zero at the end of the stream, and whether the stream may have more.
    pub fn read_from<R: Read>(
        &mut self,
        stream: &mut R,
        receiver: &mut Receiver,
        transits: &mut Transits,
        bytes_max: usize,
    ) -> io::Result<(usize, bool)> {
        receiver.clear();
        let Some(unfinished) = &mut self.unfinished else {
            return receiver.read_behind(&[], stream, bytes_max);
        };
        if let Some(message) = &mut unfinished.message
            && let Some((place, is_for_all)) = message.direct_read_memory(transits)
        {
            let place_bytes = place.len();
            let bytes_behind = if is_for_all { bytes_max } else { 0 };
            let result = receiver.read_past(place, stream, bytes_behind);
            let Ok((count @ 1.., may_have_more)) = result else {
                message.return_direct_read_memory(transits);
                return result;
            };
            message.accept_direct_read(count.min(place_bytes), transits);
            unfinished.has_moved = true;
            return Ok((count, may_have_more));
        }
        let result = receiver.read_behind(&unfinished.kept, stream, bytes_max);
        if result.is_ok() {
            unfinished.kept.clear();
        }
        result
    }

    /// Takes the next whole thing out of what was read; `None` once only part of one is left.
    pub fn next(
        &mut self,
        receiver: &mut Receiver,
        transits: &mut Transits,
        rules: Rules,
    ) -> Result<Option<Incoming>, Violation> {
        loop {
            if let Some(incoming) = self.continue_message(receiver, transits, rules)? {
                return Ok(Some(incoming));
            }
            let header = match parse_header(receiver.bytes(), self.is_in_message()) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(None),
                Err(error) => return Err(CloseReason::Protocol(error.reason()).into()),
            };
            if header.opcode.is_control() {
                return self.take_control(header, receiver);
            }
            if rules.discard {
                self.begin_skipping(header);
                continue;
            }
            let payload_bytes = self.check_size(header, rules.size_max)?;
            if header.is_whole_message() && payload_bytes <= SMALL_MESSAGE_BYTES_MAX {
                if header.frame_bytes() <= receiver.bytes().len() {
                    receiver.consume(header.header_bytes);
                    let range = receiver.take_unmasked(header.mask, payload_bytes);
                    self.end_message();
                    return take_small(header.opcode, range, receiver, rules).map(Some);
                }
                if payload_bytes <= rules.small_bytes_max {
                    return Ok(None);
                }
            }
            self.begin_frame(header, payload_bytes, receiver, rules);
        }
    }

    /// Goes on with what was begun: bytes to be thrown away, or those of a frame under way.
    fn continue_message(
        &mut self,
        receiver: &mut Receiver,
        transits: &mut Transits,
        rules: Rules,
    ) -> Result<Option<Incoming>, Violation> {
        let Some(unfinished) = &mut self.unfinished else { return Ok(None) };
        if rules.discard {
            unfinished.discard(transits);
        }
        unfinished.skip(receiver);
        let Some(message) = &mut unfinished.message else { return Ok(None) };
        if message.frame_rest().is_none() {
            return Ok(None);
        }
        unfinished.has_moved |= !receiver.bytes().is_empty();
        message.accept_payload(receiver, transits, rules)?;
        if !message.end_frame() {
            return Ok(None);
        }
        // One that is refused stays, for what has come of it is to be given up.
        message.check_end()?;
        let message = unfinished.message.take();
        self.end_message();
        Ok(message.map(Partial::finish))
    }

    /// Keeps what is left in `receiver` for the next read, and nothing if nothing is. To be called
    /// once after every read that brought something.
    pub fn keep_rest(&mut self, receiver: &mut Receiver, now: Tick) {
        let rest = receiver.bytes();
        if let [first, ..] = rest {
            let is_data = first & CONTROL_BIT == 0;
            // A header that is wrong has been refused, or what follows is not looked at.
            let header = parse_header(rest, self.is_in_message()).ok().flatten();
            let frame_bytes = header.map_or(0, FrameHeader::frame_bytes);
            let unfinished = self.begin_unfinished();
            unfinished.has_moved |= is_data;
            unfinished.kept.clear();
            // The start of one frame does not keep the memory that more of the frame before it took.
            if unfinished.kept.capacity() > 2 * rest.len().max(FRAME_HEADER_BYTES_MAX) {
                unfinished.kept = Vec::new();
            }
            unfinished.kept.extend_from_slice(rest);
            unfinished.kept_frame_bytes = frame_bytes;
            receiver.clear();
        } else if let Some(unfinished) = &mut self.unfinished {
            unfinished.kept = Vec::new();
            unfinished.kept_frame_bytes = 0;
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

    /// Whether a continuation must come next.
    fn is_in_message(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.in_message)
    }

    fn begin_unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }

    /// The next message's time begins with its own first byte.
    fn end_message(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since = None;
        }
    }

    /// The length of a data frame's payload, if its message may become that long.
    fn check_size(&self, header: FrameHeader, size_max: usize) -> Result<usize, Violation> {
        let message = self.unfinished.as_ref().and_then(|unfinished| unfinished.message.as_ref());
        let before = message.map_or(0, Partial::len);
        let bytes = header.payload_bytes.saturating_add(before as u64);
        match (usize::try_from(header.payload_bytes), usize::try_from(bytes)) {
            (Ok(payload_bytes), Ok(bytes)) if bytes <= size_max => Ok(payload_bytes),
            (_, _) => Err(Violation {
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

    /// Begins a data frame that is not a small message by itself.
    fn begin_frame(
        &mut self,
        header: FrameHeader,
        payload_bytes: usize,
        receiver: &mut Receiver,
        rules: Rules,
    ) {
        let unfinished = self.begin_unfinished();
        let message = unfinished.message.get_or_insert_with(|| Partial::new(header, rules));
        receiver.consume(header.header_bytes);
        message.begin_frame(header, payload_bytes);
        unfinished.has_moved = true;
        unfinished.in_message = !header.is_final;
    }

    fn begin_skipping(&mut self, header: FrameHeader) {
        let unfinished = self.begin_unfinished();
        unfinished.in_message = !header.is_final;
        unfinished.skip = header.payload_bytes.saturating_add(header.header_bytes as u64);
    }

    fn take_control(
        &mut self,
        header: FrameHeader,
        receiver: &mut Receiver,
    ) -> Result<Option<Incoming>, Violation> {
        if header.frame_bytes() > receiver.bytes().len() {
            return Ok(None);
        }
        let payload = receiver.take_control(header)?;
        if self.unfinished.as_ref().is_some_and(|unfinished| !unfinished.in_message) {
            self.end_message();
        }
        match header.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(payload))),
            Opcode::Close => {
                // Nothing follows a close, not even another one.
                let over = |reason| Violation { reason, error: None, is_framing_intact: false };
                let (code, answer) = answer_to_close(&payload).map_err(over)?;
                Ok(Some(Incoming::Close { code, answer }))
            }
            Opcode::Pong | Opcode::Text | Opcode::Binary | Opcode::Continuation => Ok(Some(Incoming::Pong)),
        }
    }
}

/// Checks a message that stands whole in the receive buffer, unmasked.
fn take_small(
    opcode: Opcode,
    range: Range<usize>,
    receiver: &Receiver,
    rules: Rules,
) -> Result<Incoming, Violation> {
    if opcode != Opcode::Text {
        return Ok(Incoming::Binary(Content::Received(range)));
    }
    let text = receiver.range(range.clone());
    let checked = if rules.wants_type {
        check_text_and_type(text).map(|found| found.map(MessageType::from))
    } else {
        check_text(text).map(|()| None)
    };
    Incoming::text(Content::Received(range), checked)
}

impl Unfinished {
    fn is_over(&self) -> bool {
        !self.in_message && self.skip == 0 && self.kept.is_empty() && self.message.is_none()
    }

    fn skip(&mut self, receiver: &mut Receiver) {
        if self.skip > 0 {
            let available = receiver.bytes().len();
            let count = usize::try_from(self.skip).unwrap_or(usize::MAX).min(available);
            receiver.consume(count);
            self.skip -= count as u64;
        }
    }

    /// Forgets the message and throws away the rest of its frame as it comes.
    fn discard(&mut self, transits: &mut Transits) {
        let Some(message) = self.message.take() else { return };
        if let Some(key) = message.transit() {
            transits.detach_sender(key);
        }
        if let Some((missing, is_final)) = message.frame_rest() {
            self.skip = missing as u64;
            self.in_message = !is_final;
        }
    }
}
