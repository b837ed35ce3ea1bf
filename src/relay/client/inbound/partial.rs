//! An incomplete message that is not in one small frame: the part that has arrived, unmasked and checked.

use super::receiver::Received;
use super::{Content, Incoming, MessageType, Receiver, Rules};
use crate::relay::limits::{CHUNK_BYTES, DIRECT_READ_BYTES_MIN};
use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::frame::{FrameHeader, Opcode, unmask};
use crate::relay::wire::json::{InvalidJson, TextCheck, TextError};

/// An incomplete message. It exists from its first frame header to the last byte of its last frame.
#[derive(Debug)]
pub(super) struct Partial {
    opcode: Opcode,
    /// The state of the text's check; `None` for a binary message.
    check: Option<TextCheck>,
    requires_json: bool,
    /// A direct read found that it is not UTF-8. The next [`accept_payload`](Self::accept_payload) returns the error,
    /// because a read itself cannot.
    is_not_utf8: bool,
    /// Payload bytes that have arrived, over all fragments.
    len: usize,
    store: PartialMemory,
    /// The frame whose payload is incomplete; `None` between two fragments.
    frame: Option<FrameRest>,
}

/// Where the bytes that have arrived are.
#[derive(Debug)]
enum PartialMemory {
    /// In a buffer, at most `Rules::small_bytes_max` of them.
    Small(Vec<u8>),
    /// In a message in transit. This connection is its sender.
    InTransit(TransitKey),
    /// Nowhere: the message has no receiver or is not JSON. The rest is still checked, and then discarded.
    Skipped {
        /// The sender has been sent an error for it.
        is_told: bool,
    },
}

/// What is still to come of a frame.
#[derive(Debug)]
struct FrameRest {
    /// Payload bytes.
    bytes: usize,
    /// Rotated so that its first byte applies to the next byte of the payload.
    mask: [u8; 4],
    is_final: bool,
}

impl Partial {
    /// A message whose first frame has this header.
    pub(super) fn new(header: FrameHeader, rules: Rules) -> Self {
        Self {
            opcode: header.opcode,
            check: (header.opcode == Opcode::Text).then(|| TextCheck::new(rules.wants_type)),
            requires_json: rules.requires_json,
            is_not_utf8: false,
            len: 0,
            store: PartialMemory::Small(Vec::new()),
            frame: None,
        }
    }

    /// Payload bytes that have arrived.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The message in transit that holds its bytes.
    pub(super) const fn transit(&self) -> Option<TransitKey> {
        match &self.store {
            PartialMemory::InTransit(key) => Some(*key),
            PartialMemory::Small(_) | PartialMemory::Skipped { .. } => None,
        }
    }

    /// Why it is not JSON, if the rules require JSON and this is known already.
    pub(super) fn invalid_json(&self) -> Option<InvalidJson> {
        self.check.as_ref().filter(|_| self.requires_json).and_then(TextCheck::invalid_json)
    }

    /// Discards the rest as it arrives.
    pub(super) fn skip(&mut self, is_told: bool) {
        self.store = PartialMemory::Skipped { is_told };
    }

    /// Memory in bytes, without that of a message in transit.
    pub(super) fn small_bytes(&self) -> usize {
        let content = if let PartialMemory::Small(bytes) = &self.store { bytes.capacity() } else { 0 };
        content + self.check_bytes()
    }

    /// Memory of the check in bytes. It grows with the nesting of the text, to at most an eighth of the text's length.
    pub(super) fn check_bytes(&self) -> usize {
        self.check.as_ref().map_or(0, TextCheck::heap_bytes)
    }

    /// Begins a frame of the message.
    pub(super) fn begin_frame(&mut self, header: FrameHeader, payload_bytes: usize) {
        self.frame = Some(FrameRest { bytes: payload_bytes, mask: header.mask, is_final: header.is_final });
    }

    /// How many bytes are missing of the current frame, and whether the message ends with it. `None` between fragments.
    pub(super) fn frame_rest(&self) -> Option<(usize, bool)> {
        self.frame.as_ref().map(|frame| (frame.bytes, frame.is_final))
    }

    /// Takes what `receiver` has of the current frame: unmasks, checks and stores it.
    pub(super) fn accept_payload(
        &mut self,
        receiver: &mut Receiver,
        transits: &mut Transits,
        rules: Rules,
    ) -> Result<(), CloseReason> {
        let Some(frame) = &mut self.frame else {
            debug_assert!(false, "the caller has seen that a frame is incomplete");
            return Ok(());
        };
        let taken = receiver.take(frame.bytes);
        let bytes = receiver.taken_mut(taken);
        // Binary data that is discarded is not looked at, so it stays masked.
        if self.check.is_some() || !matches!(self.store, PartialMemory::Skipped { .. }) {
            unmask(bytes, frame.mask);
        }
        frame.pass(bytes.len());
        self.len += bytes.len();
        // Checked before it is stored, so that no receiver gets bytes that are not valid.
        let is_utf8 = self.check.as_mut().is_none_or(|check| check.push(bytes).is_ok());
        if self.is_not_utf8 || !is_utf8 {
            return Err(CloseReason::NotUtf8);
        }
        if self.invalid_json().is_some() {
            self.reject(transits);
        } else {
            self.store(taken, receiver, transits, rules);
        }
        Ok(())
    }

    /// Adds the bytes to the message. It becomes a message in transit once it is too long for a small buffer.
    fn store(&mut self, taken: Received, receiver: &mut Receiver, transits: &mut Transits, rules: Rules) {
        match &mut self.store {
            PartialMemory::Small(before) if self.len <= rules.small_bytes_max => {
                before.extend_from_slice(receiver.taken(taken));
            }
            PartialMemory::Small(before) => {
                // The bytes so far move to the message in transit, which from now on holds all of them.
                let key = transits.begin(self.opcode);
                if !before.is_empty() {
                    transits.append(key, before);
                }
                self.store = PartialMemory::InTransit(key);
                receiver.move_to(taken, key, transits);
            }
            PartialMemory::InTransit(key) => receiver.move_to(taken, *key, transits),
            PartialMemory::Skipped { .. } => {}
        }
    }

    /// Drops a text that is not JSON. If it was released, its receivers have a part of it: the caller removes it from
    /// their queues first, and then calls [`skip`](Self::skip).
    fn reject(&mut self, transits: &mut Transits) {
        match self.store {
            // The routing sees `invalid_json`, informs the sender and removes the message from the receiver's queue.
            PartialMemory::InTransit(key) if transits.get(key).is_released() => {}
            PartialMemory::InTransit(key) => {
                transits.detach_sender(key);
                self.skip(false);
            }
            PartialMemory::Small(_) => self.skip(false),
            PartialMemory::Skipped { .. } => {}
        }
    }

    /// Memory of the message to read the next bytes into, and whether it is enough for the rest of the frame. `None` if
    /// the rest is too short to be worth it, or if memory is short.
    ///
    /// After the read, call [`accept_direct_read`](Self::accept_direct_read), or, if it returned nothing,
    /// [`return_direct_read_memory`](Self::return_direct_read_memory).
    pub(super) fn direct_read_memory<'a>(&self, transits: &'a mut Transits) -> Option<(&'a mut [u8], bool)> {
        let missing =
            self.frame.as_ref().map(|frame| frame.bytes).filter(|&bytes| bytes > DIRECT_READ_BYTES_MIN)?;
        let target = transits.free_mut(self.transit()?, missing.min(CHUNK_BYTES))?;
        let is_whole_rest = target.len() == missing;
        Some((target, is_whole_rest))
    }

    /// Returns the memory of [`direct_read_memory`](Self::direct_read_memory) after a read that returned nothing.
    pub(super) fn return_direct_read_memory(&self, transits: &mut Transits) {
        let key = self.transit();
        debug_assert!(key.is_some(), "only a message in transit has memory for direct reads");
        if let Some(key) = key {
            transits.give_back_free(key);
        }
    }

    /// Unmasks, checks and adds the first `count` bytes of [`direct_read_memory`](Self::direct_read_memory), which were
    /// read.
    pub(super) fn accept_direct_read(&mut self, count: usize, transits: &mut Transits) {
        let (PartialMemory::InTransit(key), Some(frame)) = (&self.store, &mut self.frame) else {
            debug_assert!(false, "only an incomplete frame of a message in transit is read directly");
            return;
        };
        let bytes = transits.read_mut(*key, count);
        unmask(bytes, frame.mask);
        frame.pass(count);
        self.len += count;
        self.is_not_utf8 |= self.check.as_mut().is_some_and(|check| check.push(bytes).is_err());
        // Bytes become a part of the message only once they are checked: a receiver may get them at once.
        if self.invalid_json().is_some() {
            self.reject(transits);
        } else if !self.is_not_utf8 {
            transits.extend(*key, count);
        }
    }

    /// Ends the current frame if it is complete. Returns whether the message is complete, too.
    pub(super) fn end_frame(&mut self) -> bool {
        let Some(frame) = self.frame.take_if(|frame| frame.bytes == 0) else { return false };
        frame.is_final
    }

    /// Checks that a complete message does not end in the middle of a UTF-8 character.
    pub(super) fn check_end(&self) -> Result<(), CloseReason> {
        let is_whole = self.check.as_ref().is_none_or(TextCheck::is_whole_utf8);
        if is_whole { Ok(()) } else { Err(CloseReason::NotUtf8) }
    }

    /// Turns the complete message into what it yields. Call [`check_end`](Self::check_end) first.
    pub(super) fn finish(self) -> Incoming {
        let Self { opcode, check, len, store, .. } = self;
        let checked = match check.map(TextCheck::finish) {
            // `check_end` has refused text that is not UTF-8, so the second pattern does not occur.
            None | Some(Err(TextError::NotUtf8)) => Ok(None),
            Some(Ok(found)) => Ok(found.map(MessageType::from)),
            Some(Err(TextError::InvalidJson(error))) => Err(error),
        };
        let content = match store {
            PartialMemory::Small(bytes) => Content::Joined(bytes),
            PartialMemory::InTransit(key) => Content::InTransit(key, len),
            PartialMemory::Skipped { is_told } => {
                return Incoming::Skipped(checked.err().filter(|_| !is_told));
            }
        };
        if opcode == Opcode::Text { Incoming::Text(content, checked) } else { Incoming::Binary(content) }
    }
}

impl FrameRest {
    /// Moves on by `count` bytes of the payload.
    fn pass(&mut self, count: usize) {
        // The mask repeats every four bytes of the payload (RFC 6455, section 5.3).
        self.mask.rotate_left(count % 4);
        self.bytes -= count;
    }
}
