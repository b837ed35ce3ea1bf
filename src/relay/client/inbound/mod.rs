//! Turns the bytes that a client sends into checked messages and control frames.
//!
//! One [`Receiver`] serves all connections. Its buffer takes what a read returns, with one exception: the rest of a
//! large frame is read directly into the memory of its message.
//!
//! - A message in one small frame, the usual case, is unmasked and checked inside the receive buffer.
//! - Any other message is unmasked and checked in parts as they arrive, while the bytes are still in the cache. The
//!   parts are collected in memory of their own: up to 16 KiB in a buffer, above that as a
//!   [message in transit](crate::relay::transit).
//! - Control frames go through tungstenite.
//!
//! A connection stores only the raw start of an incomplete frame and the state of an incomplete message; between two
//! messages it stores nothing. A header is checked before its payload has arrived, so a frame that breaks a rule is
//! refused at its header.

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
use crate::relay::wire::close_reason::{CloseReason, answer_to_close};
use crate::relay::wire::frame::{FrameHeader, Opcode, parse_header};
use crate::relay::wire::json::{InvalidJson, check_text, check_text_and_type};
use crate::relay::wire::message::ClientError;

pub use incoming::{Content, Incoming, MessageType, Rules, Violation};
use partial::Partial;
pub use receiver::Receiver;

/// Set in the first byte of a control frame (RFC 6455, section 5.5).
const CONTROL_BIT: u8 = 0x08;

/// The state of reading one connection. Between two messages it is a null pointer.
#[derive(Debug, Default)]
pub struct Inbound {
    unfinished: Option<Box<Unfinished>>,
}

/// What has arrived of a frame or message that is not complete.
#[derive(Debug, Default)]
struct Unfinished {
    /// When its first byte came. `None` until [`Inbound::keep_rest`] knows that something is incomplete.
    since: Option<Tick>,
    /// When its last byte came. Control frames between its fragments do not count.
    moved_at: Tick,
    /// The current read brought bytes of it.
    has_moved: bool,
    /// The raw start of a frame, still masked: at most a header, a control frame or a small message.
    kept: Vec<u8>,
    /// A fragmented message is open: the next data frame must be a continuation.
    in_message: bool,
    /// The message whose frame, or whose next fragment, is still to come. `None` while its data is discarded.
    message: Option<Partial>,
    /// Length of the frame in `kept`, its header included; 0 while that is not known.
    kept_frame_bytes: usize,
    /// Bytes of the current frame that are still to be discarded.
    skip: u64,
}

impl Inbound {
    /// When the first byte of an incomplete message came, and when its last byte so far. `None` between messages.
    #[must_use]
    pub fn unfinished_since(&self) -> Option<(Tick, Tick)> {
        let unfinished = self.unfinished.as_ref()?;
        Some((unfinished.since?, unfinished.moved_at))
    }

    /// Moves the times of an incomplete message by `held`, the time in which the relay did not read, so that this time
    /// does not count towards the message's timeouts.
    pub fn exclude_held_time(&mut self, held: std::time::Duration) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since = unfinished.since.map(|since| since.after(held));
            unfinished.moved_at = unfinished.moved_at.after(held);
        }
    }

    /// The message in transit that this client is sending, and why it is not JSON if that is known already.
    #[must_use]
    pub fn transit(&self) -> Option<(TransitKey, Option<InvalidJson>)> {
        let message = self.unfinished.as_ref()?.message.as_ref()?;
        Some((message.transit()?, message.invalid_json()))
    }

    /// Discards the rest of the message in transit as it arrives. The caller detaches the sender from what has arrived.
    /// `is_told` says that the sender has been sent an error for this message: it gets no second one at its end.
    pub fn skip_transit(&mut self, is_told: bool) {
        let message = self.unfinished.as_mut().and_then(|unfinished| unfinished.message.as_mut());
        debug_assert!(message.is_some(), "only an incomplete message is skipped");
        if let Some(message) = message {
            message.skip(is_told);
        }
    }

    /// Memory in bytes, without that of a message in transit.
    #[must_use]
    pub fn small_bytes(&self) -> usize {
        let Some(unfinished) = &self.unfinished else { return 0 };
        size_of::<Unfinished>()
            + unfinished.kept.capacity()
            + unfinished.message.as_ref().map_or(0, Partial::small_bytes)
    }

    /// The part of [`small_bytes`](Self::small_bytes) that the check of a text takes.
    #[must_use]
    pub fn check_bytes(&self) -> usize {
        let message = self.unfinished.as_ref().and_then(|unfinished| unfinished.message.as_ref());
        message.map_or(0, Partial::check_bytes)
    }

    /// How many bytes are missing until the current frame ends. An incomplete header counts as the longest header.
    /// `None` between messages.
    #[must_use]
    pub fn missing_bytes(&self) -> Option<usize> {
        let unfinished = self.unfinished.as_ref()?;
        let of_message = unfinished.message.as_ref().and_then(Partial::frame_rest);
        let of_frame = unfinished.kept_frame_bytes.max(FRAME_HEADER_BYTES_MAX);
        let missing = of_message.map_or(of_frame.saturating_sub(unfinished.kept.len()), |(bytes, _)| bytes);
        // A read of no bytes would look like the end of the stream.
        Some(missing.max(1))
    }

    /// Drops the incomplete message. The rest of its current frame is discarded as it arrives.
    pub fn abandon(&mut self, transits: &mut Transits) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.discard(transits);
        }
    }

    /// Reads once: at most `bytes_max` bytes into `receiver`, or the rest of a large frame directly into the memory of
    /// its message in transit.
    ///
    /// Returns how many bytes came, zero at the end of the stream, and whether the stream may have more.
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
            && let Some((target, is_whole_rest)) = message.direct_read_memory(transits)
        {
            let target_bytes = target.len();
            // If the frame does not end with the target, bytes behind it stay in the socket: the next read puts them
            // directly into the message, without a copy.
            let bytes_behind = if is_whole_rest { bytes_max } else { 0 };
            let result = receiver.read_past(target, stream, bytes_behind);
            let Ok((count @ 1.., may_have_more)) = result else {
                message.return_direct_read_memory(transits);
                return result;
            };
            message.accept_direct_read(count.min(target_bytes), transits);
            unfinished.has_moved = true;
            return Ok((count, may_have_more));
        }
        let result = receiver.read_behind(&unfinished.kept, stream, bytes_max);
        // After an error, such as `WouldBlock`, the receiver is empty, and the bytes are needed for the next read.
        if result.is_ok() {
            unfinished.kept.clear();
        }
        result
    }

    /// Takes the next complete message or control frame out of what was read. `None` once only an incomplete one is
    /// left; the caller then calls [`keep_rest`](Self::keep_rest).
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
            // From here on memory may be taken: the announced size is within the limit.
            if header.is_whole_message() && payload_bytes <= SMALL_MESSAGE_BYTES_MAX {
                if header.frame_bytes() <= receiver.bytes().len() {
                    receiver.consume(header.header_bytes);
                    let range = receiver.take_unmasked(header.mask, payload_bytes);
                    self.end_message();
                    return take_small(header.opcode, range, receiver, rules).map(Some);
                }
                // A small message waits for its rest in the raw start of its frame, to be checked in one pass.
                if payload_bytes <= rules.small_bytes_max {
                    return Ok(None);
                }
            }
            self.begin_frame(header, payload_bytes, receiver, rules);
        }
    }

    /// Continues with what earlier reads have begun: discards bytes, or adds bytes to the current frame's message.
    /// Returns the message if that completes it.
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
        // A refused message stays here until `abandon`, which detaches it from its message in transit.
        message.check_end()?;
        let message = unfinished.message.take();
        self.end_message();
        Ok(message.map(Partial::finish))
    }

    /// Stores what is left in `receiver` for the next read. Call once after every read that returned bytes: it also
    /// updates the times of the incomplete message.
    pub fn keep_rest(&mut self, receiver: &mut Receiver, now: Tick) {
        let rest = receiver.bytes();
        if let [first, ..] = rest {
            let is_data = first & CONTROL_BIT == 0;
            // An error needs no handling here: `next` has refused this header, or the connection discards its input.
            let header = parse_header(rest, self.is_in_message()).ok().flatten();
            let frame_bytes = header.map_or(0, FrameHeader::frame_bytes);
            let unfinished = self.begin_unfinished();
            unfinished.has_moved |= is_data;
            unfinished.kept.clear();
            // A short start of this frame must not hold the larger memory that the frame before needed.
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

    /// Whether the next data frame must be a continuation.
    fn is_in_message(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.in_message)
    }

    fn begin_unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }

    /// Ends the time of a message, so that the time of the next one begins with its own first byte.
    fn end_message(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since = None;
        }
    }

    /// The length of a data frame's payload, or the violation if its message would exceed `size_max` bytes.
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

    /// Begins a data frame that is a fragment, or whose message is large.
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

    /// Begins to discard a data frame, its header included.
    fn begin_skipping(&mut self, header: FrameHeader) {
        let unfinished = self.begin_unfinished();
        unfinished.in_message = !header.is_final;
        unfinished.skip = header.payload_bytes.saturating_add(header.header_bytes as u64);
    }

    /// Takes a control frame; `None` until all of it has arrived. It may come between two fragments of a message.
    fn take_control(
        &mut self,
        header: FrameHeader,
        receiver: &mut Receiver,
    ) -> Result<Option<Incoming>, Violation> {
        if header.frame_bytes() > receiver.bytes().len() {
            return Ok(None);
        }
        let payload = receiver.take_control(header)?;
        // The start of this control frame may have been stored, and timed like a message. Between the fragments of a
        // message that time belongs to the message.
        if self.unfinished.as_ref().is_some_and(|unfinished| !unfinished.in_message) {
            self.end_message();
        }
        match header.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(payload))),
            Opcode::Close => {
                // After a close frame that is not valid there is nothing to wait for: no second one may follow.
                let over = |reason| Violation { reason, error: None, is_framing_intact: false };
                let (code, answer) = answer_to_close(&payload).map_err(over)?;
                Ok(Some(Incoming::Close { code, answer }))
            }
            Opcode::Pong | Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                Ok(Some(Incoming::Pong(payload)))
            }
        }
    }
}

/// Checks an unmasked message that is complete in the receive buffer.
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

    /// Discards bytes of the current frame.
    fn skip(&mut self, receiver: &mut Receiver) {
        if self.skip > 0 {
            let available = receiver.bytes().len();
            let count = usize::try_from(self.skip).unwrap_or(usize::MAX).min(available);
            receiver.consume(count);
            self.skip -= count as u64;
        }
    }

    /// Drops the message and discards the rest of its current frame as it arrives.
    fn discard(&mut self, transits: &mut Transits) {
        let Some(message) = self.message.take() else { return };
        if let Some(key) = message.transit() {
            transits.detach_sender(key);
        }
        // Without a current frame `in_message` is right already: the next fragments are discarded frame by frame.
        if let Some((missing, is_final)) = message.frame_rest() {
            self.skip = missing as u64;
            self.in_message = !is_final;
        }
    }
}
