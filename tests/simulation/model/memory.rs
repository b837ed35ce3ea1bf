//! The memory budget: what the relay may keep, at most and at least, and where it may be short of it.
//!
//! How the relay shares its memory is not known here. What is known of it is the sum after each turn, and from that how
//! much may have been in use at any time within the next.

use apptuner_relay::relay::internals::limits::{
    CHUNK_BYTES, FRAGMENT_BYTES_MAX, FRAME_HEADER_BYTES_MAX, HEAD_BYTES_MAX, HIGH_WATER_BYTES,
    KEPT_BYTES_MAX, LEAST_FREE_BYTES, LEAST_READ_BYTES, RECEIVE_BUFFER_BYTES, RUN_BYTES_MAX,
    SHORT_READ_BYTES, SMALL_MESSAGE_BYTES_MAX, SMALL_ROOM_BYTES_MIN, SMALL_SHARE, SPARE_BUFFERS_BYTES_MAX,
};

use super::conn::{Conn, Phase};
use super::{Check, Model, expect};

const PAGE_BYTES: usize = 4096;
/// Memory of a buffer that most is written of: it grows by a quarter, in whole pages.
const RUN_MEMORY_MAX: usize = RUN_BYTES_MAX + RUN_BYTES_MAX / 4 + PAGE_BYTES;

/// The shortest frame that is answered: an empty text, its header and mask.
const ANSWERED_BYTES_MIN: usize = 6;
/// The longest answer to a frame so short: an error message, of some 130 bytes.
const ANSWER_BYTES_MAX: usize = 160;
/// What one short read may bring: an answer to each of the frames in it. Nobody is read once there is not room
/// for one small message and such a read; what it brings beyond that is over the budget.
const SHORT_READ_ANSWERS: usize = SHORT_READ_BYTES / ANSWERED_BYTES_MIN * ANSWER_BYTES_MAX;
/// What is made besides, at most once in a read: room for the next replies in a buffer of at most the high-water
/// mark, and the rest of a fragment that a client replaced in mid-message is still given.
const ONE_READ_BESIDES: usize = HIGH_WATER_BYTES / 8 + FRAGMENT_BYTES_MAX;
/// What each connection may be given without any read, when its peer goes or it is ended: notice, error and close.
const UNASKED_BYTES_MAX: usize = 1_024;
/// What a text that is half checked takes, and what a buffer is made for at least.
const SMALL_CHANGE: usize = 1_024;
/// What each byte read may come to in answers.
const ANSWERS_PER_BYTE: usize = ANSWER_BYTES_MAX / ANSWERED_BYTES_MIN + 1;

/// Memory that a message in transit may take, of which so much has arrived and so much of that is written. Chunks are
/// at least half full, but for the first and the last; what is written in part stays.
pub(super) fn transit_bytes_max(arrived: usize, written: usize) -> usize {
    let kept = if arrived <= KEPT_BYTES_MAX { arrived } else { arrived - written + CHUNK_BYTES };
    2 * kept + 2 * CHUNK_BYTES
}

impl Conn {
    /// Whether so many small messages wait for it, or so much in all, that its peer may have been left unread, if at
    /// some time no more than these limits might.
    pub(super) fn may_be_over(&self, limit: usize, bytes_limit: usize) -> bool {
        let queued = self.queued_small_bytes();
        (self.messages() > 1 && queued > 0 && 2 * queued + RUN_MEMORY_MAX > limit)
            || 2 * self.queued_bytes() > bytes_limit
    }

    /// Bytes read that make no whole thing yet.
    fn unfinished_bytes(&self) -> usize {
        let is_counted = matches!(self.phase, Phase::Head | Phase::Open);
        let bytes = if is_counted { self.read - self.unit_start } else { 0 };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What it takes of the relay's memory at least.
    fn bytes_min(&self) -> usize {
        let small = self.queued_small_bytes().saturating_sub(self.reader.len());
        small + self.transit_bytes().0 + self.held_bytes()
    }

    /// What small things take at most. Buffers are no larger than twice what they held since they last were empty, and
    /// go once they are.
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
            // Between two fragments, and before a payload that is thrown away, it may keep what tells frames apart.
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

    /// All that it takes at most.
    fn bytes_max(&self) -> usize {
        let held = self.held_bytes();
        let held = if held > 0 { transit_bytes_max(held, 0) } else { 0 };
        self.small_bytes_max() + self.transit_bytes().1 + held
    }
}

impl Model {
    /// What is on the relay's account after a turn.
    pub fn account(&mut self, buffered: usize) -> Check {
        let max = self.settings.max_buffered;
        let besides = SHORT_READ_ANSWERS + ONE_READ_BESIDES + self.live() * UNASKED_BYTES_MAX;
        expect(buffered <= max + besides, || format!("{buffered} bytes on an account of {max}"))?;
        let least: usize = self.conns.iter().map(Conn::bytes_min).sum();
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

    /// Once the relay rests, it holds no more than what waits or is not finished.
    pub fn account_at_rest(&self, buffered: usize) -> Check {
        let most: usize = self.conns.iter().map(Conn::bytes_max).sum();
        expect(buffered <= most, || format!("{buffered} bytes on the account, where at most {most} wait"))
    }

    /// A read may take so much before the turn ends.
    pub(super) fn note_use(&mut self, bytes: usize) {
        self.used_max += 2 * CHUNK_BYTES + bytes * ANSWERS_PER_BYTE;
        self.note_limits();
    }

    /// What chunks may at least still take.
    const fn free_chunk_bytes(&self) -> usize {
        let max = self.settings.max_buffered;
        (max - max / SMALL_SHARE).saturating_sub(self.used_max)
    }

    pub(super) const fn may_be_short_of_chunks(&self) -> bool {
        self.free_chunk_bytes() < CHUNK_BYTES
    }

    /// Whether there may have been less memory than is held back of a message.
    pub(super) const fn may_be_short_of_hold(&self) -> bool {
        self.free_chunk_bytes() < HIGH_WATER_BYTES
    }

    fn free_small_bytes(&self) -> usize {
        let conns = self.conns.iter().map(Conn::small_bytes_max).sum::<usize>();
        let small = (SPARE_BUFFERS_BYTES_MAX + conns).min(self.used_max);
        let max = self.settings.max_buffered;
        (max / 2).saturating_sub(small).min(max.saturating_sub(self.used_max))
    }

    /// Whether there may be no room for what a read may bring.
    pub(super) fn lacks_room(&self) -> bool {
        self.free_small_bytes() < SMALL_ROOM_BYTES_MIN.max(LEAST_FREE_BYTES)
    }

    /// Whether there may have been none at some time in this turn.
    pub fn may_lack_room(&mut self) -> bool {
        self.note_room();
        self.lacked_room
    }

    pub(super) fn note_room(&mut self) {
        self.lacked_room |= self.lacks_room();
    }

    /// How much may wait for one client: of small messages eight times the high-water mark, or their whole share, while
    /// nothing of it is used, and by the cube of what is left of it; in all the mark, or what chunks have left.
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
