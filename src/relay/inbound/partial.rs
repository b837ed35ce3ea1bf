//! A message that does not come in one small frame: what has arrived of it, unmasked and checked.

use std::io;

use super::{Content, Incoming, MessageType, Refused, Rules};
use crate::relay::budget::{Ask, Order, Room, room_of_fragments, room_of_frame};
use crate::relay::buffer::Buffer;
use crate::relay::frame::{FrameHeader, Opcode, unmask};
use crate::relay::json::TextCheck;
use crate::relay::limits::{DIRECT_READ_BYTES_MIN, READ_STEP_BYTES, SMALL_MESSAGE_BYTES_MAX};
use crate::relay::message::CloseReason;
use crate::relay::payload::{Payload, SpareBlocks};

/// The buffer of a small message in fragments, at most.
const JOINED_BYTES_MAX: usize = SMALL_MESSAGE_BYTES_MAX + SMALL_MESSAGE_BYTES_MAX / 4;

#[derive(Debug)]
pub(super) struct Partial {
    order: Order,
    is_fragmented: bool,
    /// What is left to check; `None` for a binary message.
    check: Option<TextCheck>,
    /// It was found not to be UTF-8 while it was read in place.
    is_not_utf8: bool,
    content: Store,
    /// The frame whose payload is on its way.
    frame: Option<Rest>,
    /// The room that the next frame waits for.
    pub(super) asked: Option<Ask>,
}

#[derive(Debug)]
enum Store {
    Small(Buffer),
    Large(Payload),
}

/// What is still to come of a frame.
#[derive(Debug)]
struct Rest {
    bytes: usize,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    is_final: bool,
}

impl Partial {
    /// A message whose first frame has this header.
    pub(super) fn new(header: FrameHeader, order: Order, rules: Rules) -> Self {
        Self {
            order,
            is_fragmented: !header.is_final,
            check: (header.opcode == Opcode::Text).then(|| TextCheck::new(rules.wants_type)),
            is_not_utf8: false,
            content: Store::Small(Buffer::default()),
            frame: None,
            asked: None,
        }
    }

    /// Length in bytes of what has arrived.
    pub(super) const fn len(&self) -> usize {
        match &self.content {
            Store::Small(bytes) => bytes.len(),
            Store::Large(payload) => payload.len(),
        }
    }

    /// Whether it has room from the budget.
    pub(super) const fn has_room(&self) -> bool {
        matches!(self.content, Store::Large(_))
    }

    /// The order under which it may ask for more room than it has.
    pub(super) const fn fragments_order(&self) -> Option<Order> {
        match &self.content {
            Store::Large(_) if self.is_fragmented => Some(self.order),
            Store::Large(_) | Store::Small(_) => None,
        }
    }

    /// Bytes of memory that are not room from the budget, or will be before there is any.
    pub(super) fn small_bytes(&self) -> usize {
        match &self.content {
            // As much as its buffer ever takes, which grows by a quarter.
            Store::Small(bytes) if self.is_fragmented => JOINED_BYTES_MAX.max(bytes.capacity()),
            Store::Small(_) | Store::Large(_) => 0,
        }
    }

    /// Bytes of memory of the check: they are many only if the text is nested deeply, an eighth of it at most.
    pub(super) fn check_bytes(&self) -> usize {
        self.check.as_ref().map_or(0, TextCheck::heap_bytes)
    }

    /// What the message needs before it can take a frame that makes it `bytes` long; `None` if nothing.
    pub(super) fn ask(&mut self, bytes: usize, rules: Rules) -> Option<Ask> {
        let capacity = match &self.content {
            Store::Small(_) if self.is_fragmented && bytes <= SMALL_MESSAGE_BYTES_MAX => return None,
            Store::Small(_) => 0,
            Store::Large(payload) => payload.capacity(),
        };
        let wanted =
            if self.is_fragmented { room_of_fragments(bytes, rules.size_max) } else { room_of_frame(bytes) };
        let (order, is_fragmented) = (self.order, self.is_fragmented);
        let missing = wanted.checked_sub(capacity).filter(|&missing| missing > 0);
        self.asked = missing.map(|bytes| Ask { order, bytes, is_fragmented });
        self.asked
    }

    /// Takes the room that it asked for.
    pub(super) fn give_room(&mut self, room: Room, spare: &mut SpareBlocks) -> io::Result<()> {
        self.asked = None;
        match &mut self.content {
            Store::Large(payload) => payload.grow(room)?,
            Store::Small(_) if !self.is_fragmented => {
                self.content = Store::Large(Payload::for_frame(room, spare)?);
            }
            Store::Small(bytes) => {
                let mut payload = Payload::for_fragments();
                payload.grow(room)?;
                payload.append(bytes.as_slice());
                self.content = Store::Large(payload);
            }
        }
        Ok(())
    }

    /// Begins a frame, for which there is room.
    pub(super) fn begin_frame(&mut self, header: FrameHeader, payload_bytes: usize) {
        self.frame = Some(Rest { bytes: payload_bytes, mask: header.mask, is_final: header.is_final });
    }

    /// How many bytes the frame under way still lacks, and whether the message ends with it.
    pub(super) fn frame_rest(&self) -> Option<(usize, bool)> {
        self.frame.as_ref().map(|frame| (frame.bytes, frame.is_final))
    }

    /// Takes bytes of the frame under way, which are unmasked where they stand.
    pub(super) fn absorb(&mut self, bytes: &mut [u8]) -> Result<(), CloseReason> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        frame.take(bytes);
        match &mut self.content {
            Store::Small(content) => content.append_kept(bytes),
            Store::Large(payload) => payload.append(bytes),
        }
        let is_utf8 = self.check.as_mut().is_none_or(|check| check.push(bytes).is_ok());
        if self.is_not_utf8 || !is_utf8 { Err(CloseReason::NotUtf8) } else { Ok(()) }
    }

    /// The memory that the next bytes may be read into at once, and whether it is for all that the frame lacks;
    /// `None` where that is too little to pay for it.
    pub(super) fn place_mut(&mut self) -> Option<(&mut [u8], bool)> {
        let missing =
            self.frame.as_ref().map(|frame| frame.bytes).filter(|&bytes| bytes > DIRECT_READ_BYTES_MIN)?;
        match &mut self.content {
            Store::Large(payload) => {
                let place = payload.free_mut(missing.min(READ_STEP_BYTES));
                let is_for_all = place.len() == missing;
                Some((place, is_for_all))
            }
            Store::Small(_) => None,
        }
    }

    /// Takes the first `count` bytes of [`place_mut`](Self::place_mut), which have been read.
    pub(super) fn absorb_in_place(&mut self, count: usize) {
        if let (Store::Large(payload), Some(frame)) = (&mut self.content, &mut self.frame) {
            let bytes = payload.free_mut(count);
            frame.take(bytes);
            self.is_not_utf8 |= self.check.as_mut().is_some_and(|check| check.push(bytes).is_err());
            payload.advance(count);
        }
    }

    /// Ends the frame under way if it is whole; whether the message is, too.
    pub(super) fn end_frame(&mut self) -> bool {
        let Some(frame) = self.frame.take_if(|frame| frame.bytes == 0) else { return false };
        frame.is_final
    }

    /// What the whole message is.
    pub(super) fn finish(self) -> Result<Incoming, Refused> {
        let content = match self.content {
            Store::Small(bytes) => Content::Joined(bytes),
            Store::Large(payload) => Content::Large(if self.is_fragmented { payload.fit() } else { payload }),
        };
        match self.check {
            None => Ok(Incoming::Binary(content)),
            Some(check) => Incoming::text(content, check.finish().map(|found| found.map(MessageType::from))),
        }
    }
}

impl Rest {
    fn take(&mut self, bytes: &mut [u8]) {
        unmask(bytes, self.mask);
        self.mask.rotate_left(bytes.len() % 4);
        self.bytes -= bytes.len();
    }
}
