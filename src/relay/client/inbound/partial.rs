//! A message that does not come in one small frame: what has arrived of it, unmasked and checked.

use super::receiver::Received;
use super::{Content, Incoming, MessageType, Receiver, Rules};
use crate::relay::limits::{CHUNK_BYTES, DIRECT_READ_BYTES_MIN};
use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::frame::{FrameHeader, Opcode, unmask};
use crate::relay::wire::json::{InvalidJson, TextCheck, TextError};
use crate::relay::wire::message::CloseReason;

#[derive(Debug)]
pub(super) struct Partial {
    opcode: Opcode,
    /// What is left to check; `None` for a binary message.
    check: Option<TextCheck>,
    requires_json: bool,
    /// It was found not to be UTF-8 while it was read in place.
    is_not_utf8: bool,
    /// Bytes that have arrived.
    len: usize,
    store: PartialMemory,
    /// The frame whose payload is on its way.
    frame: Option<FrameRest>,
}

/// Where the bytes are.
#[derive(Debug)]
enum PartialMemory {
    /// So few that they need no message in transit.
    Small(Vec<u8>),
    InTransit(TransitKey),
    /// Nobody is to get it; the rest is checked and thrown away.
    Skipped {
        /// Its sender knows why.
        is_told: bool,
    },
}

/// What is still to come of a frame.
#[derive(Debug)]
struct FrameRest {
    bytes: usize,
    /// Turned so that its first byte is for the next byte of the payload.
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

    /// Length in bytes of what has arrived.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The message in transit that it is.
    pub(super) const fn transit(&self) -> Option<TransitKey> {
        match &self.store {
            PartialMemory::InTransit(key) => Some(*key),
            PartialMemory::Small(_) | PartialMemory::Skipped { .. } => None,
        }
    }

    /// Why it is not JSON, if it has to be and that is known already.
    pub(super) fn invalid_json(&self) -> Option<InvalidJson> {
        self.check.as_ref().filter(|_| self.requires_json).and_then(TextCheck::invalid_json)
    }

    /// Throws away the rest of it as it comes.
    pub(super) fn skip(&mut self, is_told: bool) {
        self.store = PartialMemory::Skipped { is_told };
    }

    /// Bytes of memory, those of a message in transit left out.
    pub(super) fn small_bytes(&self) -> usize {
        let content = if let PartialMemory::Small(bytes) = &self.store { bytes.capacity() } else { 0 };
        content + self.check_bytes()
    }

    /// Bytes of memory of the check: they are many only if the text is nested deeply, an eighth of it at most.
    pub(super) fn check_bytes(&self) -> usize {
        self.check.as_ref().map_or(0, TextCheck::heap_bytes)
    }

    /// Begins a frame.
    pub(super) fn begin_frame(&mut self, header: FrameHeader, payload_bytes: usize) {
        self.frame = Some(FrameRest { bytes: payload_bytes, mask: header.mask, is_final: header.is_final });
    }

    /// How many bytes the frame under way still lacks, and whether the message ends with it.
    pub(super) fn frame_rest(&self) -> Option<(usize, bool)> {
        self.frame.as_ref().map(|frame| (frame.bytes, frame.is_final))
    }

    /// Takes what `receiver` has of the frame under way.
    pub(super) fn accept_payload(
        &mut self,
        receiver: &mut Receiver,
        transits: &mut Transits,
        rules: Rules,
    ) -> Result<(), CloseReason> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        let taken = receiver.take(frame.bytes);
        let bytes = receiver.taken_mut(taken);
        if self.check.is_some() || !matches!(self.store, PartialMemory::Skipped { .. }) {
            unmask(bytes, frame.mask);
        }
        frame.pass(bytes.len());
        self.len += bytes.len();
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

    fn store(&mut self, taken: Received, receiver: &mut Receiver, transits: &mut Transits, rules: Rules) {
        match &mut self.store {
            PartialMemory::Small(before) if self.len <= rules.small_bytes_max => {
                before.extend_from_slice(receiver.taken(taken));
            }
            PartialMemory::Small(before) => {
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

    /// Forgets a text that is not JSON, unless its receivers have been given it: they have to be told first.
    fn reject(&mut self, transits: &mut Transits) {
        match self.store {
            PartialMemory::InTransit(key) if transits.get(key).is_released() => {}
            PartialMemory::InTransit(key) => {
                transits.detach_sender(key);
                self.skip(false);
            }
            PartialMemory::Small(_) => self.skip(false),
            PartialMemory::Skipped { .. } => {}
        }
    }

    /// The memory that the next bytes may be read into at once, and whether it is for all that the frame lacks;
    /// `None` where they are too few to pay for it, or memory is short.
    pub(super) fn direct_read_memory<'a>(&self, transits: &'a mut Transits) -> Option<(&'a mut [u8], bool)> {
        let missing =
            self.frame.as_ref().map(|frame| frame.bytes).filter(|&bytes| bytes > DIRECT_READ_BYTES_MIN)?;
        let place = transits.free_mut(self.transit()?, missing.min(CHUNK_BYTES))?;
        let is_for_all = place.len() == missing;
        Some((place, is_for_all))
    }

    /// Gives memory of [`direct_read_memory`](Self::direct_read_memory) back that nothing was read into.
    pub(super) fn return_direct_read_memory(&self, transits: &mut Transits) {
        if let Some(key) = self.transit() {
            transits.give_back_free(key);
        }
    }

    /// Takes the first `count` bytes of [`direct_read_memory`](Self::direct_read_memory), which have been read.
    pub(super) fn accept_direct_read(&mut self, count: usize, transits: &mut Transits) {
        if let (PartialMemory::InTransit(key), Some(frame)) = (&self.store, &mut self.frame) {
            let bytes = transits.read_mut(*key, count);
            unmask(bytes, frame.mask);
            frame.pass(count);
            self.len += count;
            self.is_not_utf8 |= self.check.as_mut().is_some_and(|check| check.push(bytes).is_err());
            if self.invalid_json().is_some() {
                self.reject(transits);
            } else if !self.is_not_utf8 {
                transits.extend(*key, count);
            }
        }
    }

    /// Ends the frame under way if it is whole; whether the message is, too.
    pub(super) fn end_frame(&mut self) -> bool {
        let Some(frame) = self.frame.take_if(|frame| frame.bytes == 0) else { return false };
        frame.is_final
    }

    /// Checks that the message, of which all has arrived, does not end in the middle of a character.
    pub(super) fn check_end(&self) -> Result<(), CloseReason> {
        let is_whole = self.check.as_ref().is_none_or(TextCheck::is_whole_utf8);
        if is_whole { Ok(()) } else { Err(CloseReason::NotUtf8) }
    }

    /// What the whole message is, whose [end](Self::check_end) was checked.
    pub(super) fn finish(self) -> Incoming {
        let Self { opcode, check, len, store, .. } = self;
        let checked = match check.map(TextCheck::finish) {
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
    /// Takes note of `count` bytes of the payload.
    fn pass(&mut self, count: usize) {
        self.mask.rotate_left(count % 4);
        self.bytes -= count;
    }
}
