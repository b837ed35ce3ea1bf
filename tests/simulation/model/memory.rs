//! The memory budget: what the relay may keep, at most and at least, and where it may be short of memory.
//!
//! The model does not know how the relay divides its memory. It knows the sum after each turn, and derives from it how
//! much may have been in use at any time during the next turn.

use apptuner_relay::relay::internals::limits::{
    CHUNK_BYTES, FRAGMENT_BYTES_MAX, FRAME_HEADER_BYTES_MAX, HEAD_BYTES_MAX, HIGH_WATER_BYTES,
    KEPT_BYTES_MAX, LEAST_FREE_BYTES, LEAST_READ_BYTES, RECEIVE_BUFFER_BYTES, RUN_BYTES_MAX,
    SHORT_READ_BYTES, SMALL_MESSAGE_BYTES_MAX, SMALL_ROOM_BYTES_MIN, SMALL_SHARE, SPARE_BUFFERS_BYTES_MAX,
};

use super::conn::{Conn, Phase};
use super::expected::Message;
use super::{Check, Model, expect};

const PAGE_BYTES: usize = 4096;
/// Memory of a buffer that is mostly written: it grows by a quarter, in whole pages.
const RUN_MEMORY_MAX: usize = RUN_BYTES_MAX + RUN_BYTES_MAX / 4 + PAGE_BYTES;

/// The shortest frame that gets an answer: an empty text with its header and mask.
const ANSWERED_BYTES_MIN: usize = 6;
/// The longest answer to so short a frame: an error message of about 130 bytes.
const ANSWER_BYTES_MAX: usize = 160;
/// What one short read may add: an answer to each of its frames. No client is read unless there is room for one small
/// message and such a read. What a read adds beyond that exceeds the budget.
const SHORT_READ_ANSWERS: usize = SHORT_READ_BYTES / ANSWERED_BYTES_MIN * ANSWER_BYTES_MAX;
/// Allocated in addition, at most once per read: room for the next replies in a buffer of at most the high-water mark,
/// and the rest of a fragment that is still sent to a client replaced inside a message.
const ONE_READ_BESIDES: usize = HIGH_WATER_BYTES / 8 + FRAGMENT_BYTES_MAX;
/// What each connection may be sent without any read, when its peer leaves or it is ended: notice, error and close.
const UNASKED_BYTES_MAX: usize = 1_024;
/// The memory of a half-checked text, and the smallest size of a buffer.
const SMALL_CHANGE: usize = 1_024;
/// Bytes of answers per byte read.
const ANSWERS_PER_BYTE: usize = ANSWER_BYTES_MAX / ANSWERED_BYTES_MIN + 1;

/// The most memory of a message in transit, of which `arrived` bytes have arrived and `written` of them are written.
/// Chunks are at least half full, except the first and the last. A partly written chunk stays.
pub(super) fn transit_bytes_max(arrived: usize, written: usize) -> usize {
    let is_kept = arrived <= KEPT_BYTES_MAX || written == 0;
    let kept = if is_kept { arrived } else { arrived - written + CHUNK_BYTES };
    2 * kept + 2 * CHUNK_BYTES
}

impl Conn {
    /// Whether so much may be queued for it, in small messages or in all, that its peer may have been left unread. The
    /// limits are the least that applied at some time.
    pub(super) fn may_be_over(&self, limit: usize, bytes_limit: usize) -> bool {
        let queued = self.queued_small_bytes();
        (self.messages() > 1 && queued > 0 && 2 * queued + RUN_MEMORY_MAX > limit)
            || 2 * self.queued_bytes() > bytes_limit
    }

    /// Bytes read of an incomplete unit.
    fn unfinished_bytes(&self) -> usize {
        let is_counted = matches!(self.phase, Phase::Head | Phase::Open);
        let bytes = if is_counted { self.read - self.unit_start } else { 0 };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The least memory that it uses.
    fn bytes_min(&self) -> usize {
        let small = self.queued_small_bytes().saturating_sub(self.reader.len());
        small + self.transit_bytes().0 + self.held_bytes() + kept_bytes_min(self.unconfirmed.iter())
    }

    /// The least memory of what it has not confirmed and gives way. A buffer that is partly written does not.
    fn cached_bytes_min(&self) -> usize {
        let small: usize =
            self.unconfirmed.iter().filter(|of| !of.is_in_transit).map(Message::queued_bytes).sum();
        let of_queue = if self.messages() > 0 { small.min(RUN_MEMORY_MAX) } else { 0 };
        kept_bytes_min(self.unconfirmed.iter()) - of_queue
    }

    /// The most memory of its small items. A buffer is at most twice as large as its content since it was last empty,
    /// and is freed when it is empty.
    fn small_bytes_max(&self) -> usize {
        if self.phase == Phase::Gone {
            return 0;
        }
        let queued = self.queued_small_bytes();
        let queue = if queued > 0 { 2 * queued + RUN_MEMORY_MAX } else { 0 };
        let waits = self.waiting() > 0 || self.blocked_since.is_some();
        let cut =
            if self.is_cut_short || self.begun.is_some() { FRAGMENT_BYTES_MAX + SMALL_CHANGE } else { 0 };
        let replies = if waits { 2 * self.replies_bytes_given + cut + PAGE_BYTES + SMALL_CHANGE } else { 0 };
        queue + replies + self.inbound_bytes_max()
    }

    fn inbound_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Gone | Phase::Ending => 0,
            Phase::Head => {
                if self.read > self.unit_start {
                    HEAD_BYTES_MAX
                } else {
                    0
                }
            }
            // Between two fragments, and before a payload that is discarded, the frame reader's state may be kept.
            Phase::Closing if self.read == self.unit_start && !self.in_message && !self.is_in_refused => 0,
            Phase::Closing => RECEIVE_BUFFER_BYTES,
            Phase::Open => {
                let kept = match self.unfinished_bytes() {
                    0 => 0,
                    bytes => 2 * bytes.min(FRAME_HEADER_BYTES_MAX + SMALL_MESSAGE_BYTES_MAX) + SMALL_CHANGE,
                };
                let joined = if self.incoming.is_some() || self.in_message {
                    2 * SMALL_MESSAGE_BYTES_MAX + PAGE_BYTES + SMALL_CHANGE
                } else {
                    0
                };
                kept + joined
            }
        }
    }

    /// The most memory that it uses.
    fn bytes_max(&self) -> usize {
        let held = self.held_bytes();
        let held = if held > 0 { transit_bytes_max(held, 0) } else { 0 };
        self.small_bytes_max() + self.transit_bytes().1 + held + kept_bytes_max(self.unconfirmed.iter())
    }
}

/// The least memory of messages that are kept whole.
fn kept_bytes_min<'a>(kept: impl Iterator<Item = &'a Message>) -> usize {
    kept.map(Message::queued_bytes).sum()
}

/// The most. Of the first buffer, some of the oldest messages may have been given up.
fn kept_bytes_max<'a>(kept: impl Iterator<Item = &'a Message>) -> usize {
    let (mut transit, mut small) = (0, 0);
    for message in kept {
        if message.is_in_transit {
            transit += 2 * message.noted + 2 * CHUNK_BYTES;
        } else {
            small += message.queued_bytes();
        }
    }
    transit + if small > 0 { 2 * small + RUN_MEMORY_MAX } else { 0 }
}

impl Model {
    /// Checks the memory that the relay reports after a turn.
    pub fn account(&mut self, buffered: usize) -> Check {
        let max = self.settings.max_buffered;
        let besides = SHORT_READ_ANSWERS + ONE_READ_BESIDES + self.live() * UNASKED_BYTES_MAX;
        expect(buffered <= max + besides, || format!("{buffered} bytes on an account of {max}"))?;
        let kept: usize = self.sessions.values().map(|session| kept_bytes_min(session.kept())).sum();
        let least = self.conns.iter().map(Conn::bytes_min).sum::<usize>() + kept;
        expect(buffered >= least, || format!("{buffered} bytes on the account, where {least} wait"))?;
        if self.may_be_short_of_chunks() {
            for conn in &mut self.conns {
                conn.queue_mut().for_each(|message| message.was_short = true);
            }
        }
        self.used_max = buffered;
        self.note_limits();
        Ok(())
    }

    /// When the relay rests, it holds only what is queued or incomplete.
    pub fn account_at_rest(&self, buffered: usize) -> Check {
        let kept = self.sessions.values().flat_map(|session| session.away.iter().flatten());
        let kept: usize = kept.map(|away| kept_bytes_max(away.kept.iter())).sum();
        let most = self.conns.iter().map(Conn::bytes_max).sum::<usize>() + kept;
        expect(buffered <= most, || format!("{buffered} bytes on the account, where at most {most} wait"))
    }

    /// Notes that a read may use this much more before the turn ends.
    pub(super) fn note_use(&mut self, bytes: usize) {
        self.used_max += 2 * CHUNK_BYTES + bytes * ANSWERS_PER_BYTE;
        self.note_limits();
    }

    /// Notes that this many bytes were written, and that the relay may keep copies of them, and of the first of their
    /// frames.
    pub(super) const fn note_copied(&mut self, bytes: usize) {
        if self.keeps() {
            self.used_max += bytes + bytes / 4 + SMALL_MESSAGE_BYTES_MAX + PAGE_BYTES;
        }
    }

    /// Notes that the messages of a client move. Their memory may be counted twice until the client is served next.
    pub(super) fn note_moved(&mut self, wire: usize) {
        if self.keeps() {
            self.used_max += self.conns[wire].small_bytes_max();
        }
    }

    /// The most memory that is in use and does not give way.
    fn claimed_max(&self) -> usize {
        let kept: usize = self.sessions.values().map(|session| kept_bytes_min(session.kept())).sum();
        let cached = self.conns.iter().map(Conn::cached_bytes_min).sum::<usize>() + kept;
        self.used_max.saturating_sub(cached)
    }

    /// Whether memory may be so short that what is kept gives way.
    pub(super) const fn may_be_crowded(&self) -> bool {
        let max = self.settings.max_buffered;
        self.used_max > max - max / SMALL_SHARE
    }

    /// The least memory that is free for chunks.
    fn free_chunk_bytes(&self) -> usize {
        let max = self.settings.max_buffered;
        (max - max / SMALL_SHARE).saturating_sub(self.claimed_max())
    }

    pub(super) fn may_be_short_of_chunks(&self) -> bool {
        self.free_chunk_bytes() < CHUNK_BYTES
    }

    /// Whether there may have been less memory than is held back of a message.
    pub(super) fn may_be_short_of_hold(&self) -> bool {
        self.free_chunk_bytes() < HIGH_WATER_BYTES
    }

    fn free_small_bytes(&self) -> usize {
        let conns = self.conns.iter().map(Conn::small_bytes_max).sum::<usize>();
        let small = (SPARE_BUFFERS_BYTES_MAX + conns).min(self.used_max);
        let max = self.settings.max_buffered;
        (max / 2).saturating_sub(small).min(max.saturating_sub(self.claimed_max()))
    }

    /// Whether there may be too little memory for what a read may bring.
    pub(super) fn lacks_room(&self) -> bool {
        self.free_small_bytes() < SMALL_ROOM_BYTES_MIN.max(LEAST_FREE_BYTES)
    }

    /// Whether there may have been too little at some time in this turn.
    pub fn may_lack_room(&mut self) -> bool {
        self.note_room();
        self.lacked_room
    }

    pub(super) fn note_room(&mut self) {
        self.lacked_room |= self.lacks_room();
    }

    /// Notes how much may be queued for one client. Small messages: between eight times the high-water mark and their
    /// whole share, by the cube of the free part of it. In all: the high-water mark, or what chunks have left.
    fn note_limits(&mut self) {
        let share = self.settings.max_buffered / 2;
        let left = (self.free_small_bytes() * 256 / share).pow(3);
        let limit = (share.min(8 * HIGH_WATER_BYTES) * left) >> 24;
        let free = self.free_chunk_bytes();
        let bytes_limit = if free < CHUNK_BYTES { LEAST_READ_BYTES } else { free.min(HIGH_WATER_BYTES) };
        for conn in &mut self.conns {
            conn.queue_limit = conn.queue_limit.min(limit);
            conn.bytes_limit = conn.bytes_limit.min(bytes_limit);
        }
    }
}
