//! The books of the memory budget, kept from what the contract says and what the relay has read.
//!
//! Large messages are reckoned to the byte: which frame needs how much room follows from its header. What
//! small things take is the rest of the relay's account, and only bounded: by what waits from below, and by
//! what may wait from above.

use apptuner_relay::relay::limits::{
    BLOCK_BYTES, FRAGMENT_BYTES_MAX, HEAD_BYTES_MAX, HIGH_WATER_BYTES, PAGE_BYTES, RECEIVE_BUFFER_BYTES,
    RUN_BYTES_MAX, SHORT_READ_BYTES, SMALL_MESSAGE_BYTES_MAX, SMALL_ROOM_BYTES_MIN, SMALL_SHARE,
    SPARE_BLOCK_BYTES, SPARE_BUFFERS_BYTES_MAX,
};

use super::conn::{Conn, Phase};
use super::{Check, Model, expect};

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

/// A message that has begun and is not one small frame.
#[derive(Debug)]
pub(super) struct Message {
    /// When it began, among all.
    pub order: u64,
    pub is_fragmented: bool,
    /// Bytes of its frames so far, the one under way included.
    pub bytes: usize,
    /// Its room; none while it is small.
    pub room: usize,
}

/// The room of a message in one frame.
fn room_of_frame(bytes: usize) -> usize {
    if bytes <= SPARE_BLOCK_BYTES { SPARE_BLOCK_BYTES } else { bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES }
}

impl Message {
    /// Room that it lacks to become `bytes` long.
    fn need(&self, bytes: usize, size_max: usize) -> usize {
        if !self.is_fragmented {
            return room_of_frame(bytes);
        }
        if self.room == 0 && bytes <= SMALL_MESSAGE_BYTES_MAX {
            return 0;
        }
        let blocks = bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        blocks.min(room_of_frame(size_max)) - self.room
    }

    /// What it keeps of its room once it is whole: of one block little more than its bytes, if they are few.
    pub(super) fn room_when_whole(&self) -> usize {
        let fitting = room_of_frame(self.bytes);
        let is_fitted = self.is_fragmented && self.room <= BLOCK_BYTES && fitting <= self.room / 2;
        if is_fitted { fitting } else { self.room }
    }
}

impl Conn {
    /// Begins the frame whose header the relay has read; the room that it needs first.
    pub(super) fn begin_frame(&mut self, size_max: usize, next_order: &mut u64) -> usize {
        let Some(frame) = self.units.front().and_then(|unit| unit.frame) else { return 0 };
        let is_header_read = self.read >= self.unit_start + frame.header_bytes as u64;
        let is_small =
            frame.is_final && self.message.is_none() && frame.payload_bytes <= SMALL_MESSAGE_BYTES_MAX;
        if self.is_frame_begun || !is_header_read || is_small {
            return 0;
        }
        let message = self.message.get_or_insert_with(|| {
            *next_order += 1;
            Message { order: *next_order, is_fragmented: !frame.is_final, bytes: 0, room: 0 }
        });
        let bytes = message.bytes + frame.payload_bytes;
        let need = message.need(bytes, size_max);
        if need == 0 {
            message.bytes = bytes;
            self.is_frame_begun = true;
        }
        need
    }

    /// The frame has its room.
    fn grant(&mut self, room: usize) {
        let Some(frame) = self.units.front().and_then(|unit| unit.frame) else { return };
        let Some(message) = &mut self.message else { return };
        message.room += room;
        message.bytes += frame.payload_bytes;
        self.is_frame_begun = true;
        self.awaiting = None;
    }

    /// Nothing that it was about to send is wanted any more.
    pub(super) fn abandon(&mut self) {
        self.abandoned_room = self.fragments_room().or(self.abandoned_room);
        self.message = None;
        self.is_frame_begun = false;
        self.awaiting = None;
    }

    /// What it waits for in line: when its message began, whether it comes in fragments, the room it lacks.
    fn place(&self) -> Option<(u64, bool, usize)> {
        let message = self.message.as_ref()?;
        Some((message.order, message.is_fragmented, self.awaiting?))
    }

    /// Room of a message in fragments that are not all there.
    fn fragments_room(&self) -> Option<usize> {
        let message = self.message.as_ref().filter(|message| message.is_fragmented)?;
        (message.room > 0).then_some(message.room)
    }

    fn large_bytes(&self) -> usize {
        self.queue_room + self.message.as_ref().map_or(0, |message| message.room)
    }

    /// Whether all of the frame that waits for room has arrived.
    pub(super) fn is_awaited_frame_whole(&self) -> bool {
        self.awaiting.is_some() && self.units.front().is_some_and(|unit| unit.end <= self.read)
    }

    /// Whether it waits for room and may not be judged: it has sent more than was looked at.
    pub(super) fn is_held_for_room(&self) -> bool {
        self.awaiting.is_some() && (self.is_readable || self.is_awaited_frame_whole())
    }

    /// Whether so many small messages wait for it that its peer may have been left unread, if at some time no
    /// more than `limit` might.
    pub(super) const fn may_be_over(&self, limit: usize) -> bool {
        let queued = self.queued_small_bytes();
        self.messages() > 1 && queued > 0 && 2 * queued + RUN_MEMORY_MAX > limit
    }

    /// Bytes read that make no whole thing yet, or that are not looked at before there is room.
    fn unfinished_bytes(&self) -> usize {
        let is_counted = matches!(self.phase, Phase::Head | Phase::Open);
        let bytes = if is_counted { self.read - self.unit_start } else { 0 };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What small things take of the relay's memory at least.
    fn small_bytes_min(&self) -> usize {
        let kept = if self.awaiting.is_some() { self.unfinished_bytes() } else { 0 };
        self.queued_small_bytes().saturating_sub(self.reader.len()) + kept
    }

    /// And at most. Buffers are no larger than twice what they held since they last were empty, and go
    /// once they are.
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
            // Between two fragments it may keep what the header of the next needs.
            Phase::Closing if self.read == self.unit_start && !self.in_message => 0,
            Phase::Closing => RECEIVE_BUFFER_BYTES,
            Phase::Open => {
                // What is kept of a small frame stands where more was kept of the one before it.
                let kept = match self.unfinished_bytes() {
                    0 => 0,
                    bytes => {
                        bytes.min(RECEIVE_BUFFER_BYTES) + SMALL_MESSAGE_BYTES_MAX + PAGE_BYTES + SMALL_CHANGE
                    }
                };
                let joined = if self.message.is_some() {
                    2 * SMALL_MESSAGE_BYTES_MAX + PAGE_BYTES + SMALL_CHANGE
                } else {
                    0
                };
                kept + joined
            }
        }
    }
}

impl Model {
    /// A large frame has its room.
    pub(super) fn granted(&mut self, wire: usize, bytes: usize) -> Check {
        let is_immediate = self.asking.take_if(|asking| *asking == (wire, bytes)).is_some();
        let has_waited = self.conns[wire].awaiting == Some(bytes);
        expect(is_immediate || has_waited, || format!("wire {wire} is given {bytes} bytes of room unasked"))?;
        self.expect_first(wire)?;
        self.conns[wire].grant(bytes);
        // Whoever is closed may be gone by now, and what waited for it with it: that is known once it is given back.
        let open = self.conns.iter().filter(|conn| conn.phase == Phase::Open);
        self.expect_share_kept(open.map(Conn::large_bytes).sum())?;
        self.expect_one_can_finish()?;
        if is_immediate {
            self.progress(wire);
        } else {
            self.conns[wire].is_resuming = true;
        }
        Ok(())
    }

    fn expect_share_kept(&self, large: usize) -> Check {
        let share = self.large_share();
        expect(large <= share, || format!("large messages take {large} of {share} bytes"))
    }

    /// A large frame waits for room.
    pub(super) fn awaits(&mut self, wire: usize, bytes: usize) -> Check {
        let is_asked = self.asking.take_if(|asking| *asking == (wire, bytes)).is_some();
        expect(is_asked, || format!("wire {wire} waits for {bytes} bytes of room that it does not need"))?;
        self.conns[wire].awaiting = Some(bytes);
        self.conns[wire].awaiting_since = Some(self.now.tick);
        self.totals.room_awaited += 1;
        Ok(())
    }

    pub(super) fn resumed(&mut self, wire: usize) {
        self.conns[wire].is_resuming = false;
        self.conns[wire].resumed_at = self.now.tick;
        self.progress(wire);
    }

    /// Room goes first to the message that began first. One in fragments that has room already may pass, for it may
    /// be the one that has to finish; and those in fragments that have to leave room for that one, with all others
    /// in fragments behind them, let those pass that come in one frame.
    fn expect_first(&self, wire: usize) -> Check {
        let Some(message) = &self.conns[wire].message else { return Ok(()) };
        if message.is_fragmented && message.room > 0 {
            return Ok(());
        }
        let first_of = |of_fragments: bool| {
            self.waiting().filter(|(_, is_fragmented, _)| *is_fragmented == of_fragments).min()
        };
        let has_to_go_first = |(.., need): &(u64, bool, usize)| message.is_fragmented || self.is_safe(*need);
        let before = [first_of(false), first_of(true).filter(has_to_go_first)].into_iter().flatten().min();
        let passed = before.filter(|(order, ..)| *order < message.order);
        expect(passed.is_none(), || {
            format!("wire {wire} has its room before {passed:?}, which began earlier")
        })
    }

    fn waiting(&self) -> impl Iterator<Item = (u64, bool, usize)> + Clone {
        self.conns.iter().filter_map(Conn::place)
    }

    fn large_bytes(&self) -> usize {
        self.conns.iter().map(Conn::large_bytes).sum()
    }

    const fn large_share(&self) -> usize {
        self.settings.max_buffered - self.settings.max_buffered / SMALL_SHARE
    }

    /// What small messages may take: half, but nothing that the longest message needs.
    fn small_share(&self) -> usize {
        let max = self.settings.max_buffered;
        let beside_the_longest = max.saturating_sub(room_of_frame(self.settings.max_message_size));
        beside_the_longest.clamp(max / SMALL_SHARE, max / 2)
    }

    /// What they never take.
    fn sure_share(&self) -> usize {
        self.settings.max_buffered - self.small_share()
    }

    /// Whether a message in fragments may certainly be given so much: whichever of those that have some is the
    /// one that must be able to finish, the longest message still fits beside the others.
    fn is_safe(&self, need: usize) -> bool {
        let rooms = self.conns.iter().filter_map(|conn| conn.fragments_room().or(conn.abandoned_room));
        let Some(least) = rooms.clone().min() else { return true };
        rooms.sum::<usize>() - least + need + room_of_frame(self.settings.max_message_size)
            <= self.sure_share()
    }

    /// One of the messages in fragments can become as long as any message, whatever the others wait for.
    fn expect_one_can_finish(&self) -> Check {
        let rooms = self.conns.iter().filter_map(Conn::fragments_room);
        let others = rooms.clone().sum::<usize>() - rooms.max().unwrap_or(0);
        let longest = room_of_frame(self.settings.max_message_size);
        expect(others == 0 || others + longest <= self.sure_share(), || {
            format!("{others} bytes in fragments leave none of them {longest}")
        })
    }

    /// What is on the relay's account after a turn.
    pub fn account(&mut self, buffered: usize) -> Check {
        let max = self.settings.max_buffered;
        let besides = SHORT_READ_ANSWERS + ONE_READ_BESIDES + self.live() * UNASKED_BYTES_MAX;
        expect(buffered <= max + besides, || format!("{buffered} bytes on an account of {max}"))?;
        let large = self.large_bytes();
        self.expect_share_kept(large)?;
        let small = buffered.checked_sub(large);
        let small =
            small.ok_or_else(|| format!("{buffered} bytes on the account, {large} in large messages"))?;
        let least: usize = self.conns.iter().map(Conn::small_bytes_min).sum();
        expect(small >= least, || format!("{small} bytes in small messages, where {least} wait"))?;
        self.small_room = self.small_share().saturating_sub(small).min(max.saturating_sub(buffered));
        self.turns_without_small_room += u64::from(self.lacks_small_room());
        self.note_queue_limit();
        self.expect_line_moves(small)
    }

    /// Once the relay rests, it holds no more than what waits or is not finished.
    pub fn account_at_rest(&self, buffered: usize) -> Check {
        let small = buffered - self.large_bytes();
        let most: usize = self.conns.iter().map(Conn::small_bytes_max).sum();
        expect(small <= most, || format!("{small} bytes in small messages, where at most {most} wait"))
    }

    /// Nobody waits in vain: the first in line needs more than is free, and those in fragments do not wait for
    /// each other.
    fn expect_line_moves(&self, small: usize) -> Check {
        let kept = small.max(self.settings.max_buffered / SMALL_SHARE);
        let large = self.large_bytes();
        let free = self.settings.max_buffered.saturating_sub(large + kept);
        let Some(first) = self.waiting().min() else { return Ok(()) };
        // Whoever has room in fragments already may be the one that goes before all others.
        let is_blocked = |before: u64| {
            let holders = self.conns.iter().filter(|conn| conn.fragments_room().is_some());
            let before_all = holders.filter_map(Conn::place).any(|(.., need)| need > free);
            before_all || self.waiting().any(|(order, _, need)| order < before && need > free)
        };
        for fragmented in [false, true] {
            let first = self.waiting().filter(|(_, is_fragmented, _)| *is_fragmented == fragmented).min();
            let Some((order, _, need)) = first else { continue };
            let may_wait = need > free || is_blocked(order) || (fragmented && !self.is_safe(need));
            expect(may_wait, || format!("{first:?} waits in vain: {free} bytes are free"))?;
        }
        let fragments: usize = self.conns.iter().filter_map(Conn::fragments_room).sum();
        let do_all_wait =
            self.conns.iter().all(|conn| conn.fragments_room().is_none() || conn.awaiting.is_some());
        let is_nothing_else_there = large == fragments && small <= self.settings.max_buffered / SMALL_SHARE;
        expect(fragments == 0 || !do_all_wait || !is_nothing_else_there, || {
            format!("messages in fragments wait for each other, first {first:?}")
        })
    }

    /// Whether there is room for what a read may bring that nobody has asked room for.
    pub(super) const fn lacks_small_room(&self) -> bool {
        self.small_room < SMALL_ROOM_BYTES_MIN
    }

    /// Whether there may have been none for a moment within this turn, before what waits was written.
    pub fn may_lack_small_room(&mut self) -> bool {
        self.note_small_room();
        self.lacked_small_room
    }

    pub(super) fn note_small_room(&mut self) {
        let small = SPARE_BUFFERS_BYTES_MAX + self.conns.iter().map(Conn::small_bytes_max).sum::<usize>();
        let room = self.small_share().min(self.settings.max_buffered.saturating_sub(self.large_bytes()));
        self.lacked_small_room |= room.saturating_sub(small) < SMALL_ROOM_BYTES_MIN;
    }

    /// How many bytes of small messages may wait for one client: eight times the high-water mark, or their whole
    /// share, while nothing of it is used; and by the cube of what is left of it.
    fn note_queue_limit(&mut self) {
        let share = self.small_share();
        let left = (self.small_room * 256 / share).pow(3);
        let limit = (share.min(8 * HIGH_WATER_BYTES) * left) >> 24;
        for conn in &mut self.conns {
            conn.queue_limit = conn.queue_limit.min(limit);
        }
    }

    /// Whoever waits for room and has ended its stream, or lost it, is gone at once.
    pub(super) fn expect_none_gone_waits(&self) -> Check {
        for (wire, conn) in self.conns.iter().enumerate() {
            let waits = conn.phase == Phase::Open && conn.awaiting.is_some();
            expect(!waits || !conn.has_ended_stream, || {
                format!("wire {wire} has ended its stream and still waits for room")
            })?;
        }
        Ok(())
    }

    /// Whoever waits for room and sends nothing, although it could, is ended at the stall timeout.
    pub(super) fn expect_idle_waiter_in_time(&mut self, wire: usize) -> Check {
        let now = self.now.tick;
        let stall_timeout = self.settings.stall_timeout;
        let conn = &mut self.conns[wire];
        let is_idle = conn.phase == Phase::Open && conn.awaiting.is_some() && !conn.is_held_for_room();
        let since = if is_idle { Some(conn.idle_since.unwrap_or(now)) } else { None };
        conn.idle_since = since;
        let is_in_time = since.is_none_or(|since| now < since.after(stall_timeout));
        expect(is_in_time, || format!("wire {wire} waits for room and sends nothing since {since:?}"))
    }
}
