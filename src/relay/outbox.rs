//! What waits for one client, in the order in which its socket gets it.
//!
//! The *queue* holds application messages and, in their place between them, notices and the close
//! frame. Two lanes overtake it: a *reply* (the answer to the upgrade, an error message) goes out
//! as soon as the message begun is through; a *control* frame, which may stand between two
//! fragments (RFC 6455, section 5.4), as soon as the fragment is. Small messages stand as ready
//! frames in runs; a large one is shared, not copied, and leaves in fragments whose headers are
//! made beside it.
//!
//! A stream may keep what it takes, as one does that encrypts. A message is written once the stream has
//! *flushed* its last byte; until then it stays in the queue, for it may have to go to another connection.

mod arrivals;
mod item;
mod lane;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Write};

use super::buffer::Buffer;
use super::frame::{Opcode, ServerHeader};
use super::limits::{HIGH_WATER_BYTES, LOW_WATER_BYTES, NOTICES_WAITING_MAX, OVERFULL_BYTES, RUN_BYTES_MAX};
use super::payload::Payload;
use arrivals::Arrivals;
pub use arrivals::Arrived;
use item::{Item, Large, Run, Slices};
use lane::Lane;
pub use pool::Pool;

/// How far a call of [`Outbox::write_to`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// Nothing waits any more.
    Drained,
    /// The socket takes no more until it says so.
    Blocked,
    /// The allowance is used up; the socket may take more.
    Allowance,
}

/// What one step of a write came to.
enum Step {
    /// The stream has taken so many bytes.
    Taken(usize),
    Ended(WriteEnd),
}

/// How much waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Application messages that are not written in full.
    pub messages: u64,
    /// Bytes that are not written, headers and the relay's own frames in the queue included.
    pub bytes: usize,
}

/// The application messages that waited for a connection which will not get them.
#[derive(Debug, Default)]
pub struct Waiting {
    items: VecDeque<Item>,
    arrivals: Arrivals,
    bytes: usize,
    small_bytes: usize,
    /// How many messages these are.
    pub messages: u64,
}

/// What the stream has taken of the queue since it last flushed all.
#[derive(Clone, Copy, Debug, Default)]
struct Unflushed {
    /// Items taken in full, at the front of the queue.
    items: usize,
    bytes: usize,
    /// Application messages of which it has taken the last byte.
    messages: u64,
}

/// The two lanes of one client. Nothing in it but bytes, counts and payloads.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the lanes")]
pub struct Outbox {
    /// Control frames that overtake the rest of a large message; otherwise they are replies.
    controls: Lane,
    replies: Lane,
    queue: VecDeque<Item>,
    /// When its messages came, as far as it was noted.
    arrivals: Arrivals,
    /// Bytes of the first item that is not taken in full, headers included, that the stream has taken.
    front_taken: usize,
    unflushed: Unflushed,
    queued_bytes: usize,
    queued_messages: u64,
    /// Memory of the queue, that of large payloads left out.
    queue_small_bytes: usize,
    /// Notices in the queue, and the close if there is one.
    queued_own: usize,
    is_queue_congested: bool,
    are_replies_congested: bool,
    /// Since the socket last took everything, it has refused some.
    is_blocked: bool,
    /// The client has part of a message whose rest it will not get: nothing but control frames may
    /// follow.
    is_cut_short: bool,
}

impl Outbox {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.replies.is_empty() && self.controls.is_empty()
    }

    /// Whether the peer's reading must pause: more than the high-water mark waits, and more than
    /// one message; until no more than the low-water mark, or one message, is left.
    #[must_use]
    pub const fn is_queue_congested(&self) -> bool {
        self.is_queue_congested
    }

    /// Whether more than one message waits, and small ones among them take more than `small_bytes_max`.
    #[must_use]
    pub const fn is_queue_over(&self, small_bytes_max: usize) -> bool {
        self.queued_messages > 1 && self.queue_small_bytes > small_bytes_max
    }

    /// Whether replies take more than `small_bytes_max`.
    #[must_use]
    pub const fn are_replies_over(&self, small_bytes_max: usize) -> bool {
        self.controls.len() + self.replies.len() > small_bytes_max
    }

    /// Whether so much waits that the peer is not even read to its end.
    #[must_use]
    pub const fn is_queue_overfull(&self) -> bool {
        self.queued_messages > 1 && self.queued_bytes > OVERFULL_BYTES
    }

    /// Whether more notices wait than a client may leave unread.
    #[must_use]
    pub const fn is_queue_full_of_notices(&self) -> bool {
        self.queued_own > NOTICES_WAITING_MAX
    }

    /// Whether the client's own reading must pause, because it does not take the replies to what
    /// it sent; same marks.
    #[must_use]
    pub const fn are_replies_congested(&self) -> bool {
        self.are_replies_congested
    }

    /// Whether the socket, since it last took everything, has refused some.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether a large message is next in the queue.
    #[must_use]
    pub fn is_large_next(&self) -> bool {
        matches!(self.queue.front(), Some(Item::Large(_)))
    }

    /// What waits in the queue.
    #[must_use]
    pub const fn backlog(&self) -> Backlog {
        Backlog { messages: self.queued_messages, bytes: self.queued_bytes }
    }

    /// Lets text frames, or the answer in HTTP, overtake the messages that wait.
    pub fn reply(&mut self, pool: &mut Pool, write_frames: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_cut_short {
            self.replies.append(pool, self.is_blocked, write_frames);
            self.mark();
        }
    }

    /// Lets a control frame overtake them, and the rest of a large message begun as well.
    pub fn control(&mut self, pool: &mut Pool, write_frame: impl FnOnce(&mut Vec<u8>)) {
        // Elsewhere the replies are next in any case, and the first of them may be the 101.
        let lane = if self.is_in_message() { &mut self.controls } else { &mut self.replies };
        lane.append(pool, self.is_blocked, write_frame);
        self.mark();
    }

    /// Whether the client has some fragments of a message, and not all.
    fn is_in_message(&self) -> bool {
        self.is_cut_short || (self.front_taken > 0 && matches!(self.front(), Some(Item::Large(_))))
    }

    /// The first item that the stream has not taken in full.
    fn front(&self) -> Option<&Item> {
        self.queue.get(self.unflushed.items)
    }

    /// Bytes of memory that what waits takes, those left out that are room from the budget.
    #[must_use]
    pub fn small_bytes(&self) -> usize {
        self.queue_small_bytes + self.controls.capacity() + self.replies.capacity()
    }

    /// Queues a small application message; a copy of it.
    ///
    /// While the socket takes what it is given, buffers come from the pool and soon return; when
    /// it does not, they grow little further than what waits in them asks for.
    pub fn push_small(&mut self, pool: &mut Pool, opcode: Opcode, payload: &[u8]) {
        let header = ServerHeader::new(opcode, true, payload.len());
        let header = header.as_bytes();
        let frame_bytes = header.len() + payload.len();
        self.queued_messages += 1;
        self.queued_bytes += frame_bytes;
        let is_all_taken = self.queue.len() == self.unflushed.items;
        let run = match self.queue.back_mut() {
            Some(Item::Run(run)) if !is_all_taken && run.bytes.len() + frame_bytes <= RUN_BYTES_MAX => run,
            Some(_) | None => {
                let bytes: Buffer = if self.is_blocked { Vec::new() } else { pool.take_buffer() }.into();
                self.queue_small_bytes += bytes.capacity();
                self.queue.push_back(Item::Run(Run { bytes, frame_start: 0, unwritten_start: 0 }));
                let Some(Item::Run(run)) = self.queue.back_mut() else { return };
                run
            }
        };
        let bytes_before = run.bytes.capacity();
        if self.is_blocked {
            run.bytes.reserve_kept(frame_bytes);
        }
        run.bytes.append(header);
        run.bytes.append(payload);
        self.queue_small_bytes += run.bytes.capacity() - bytes_before;
        self.mark();
    }

    /// Queues a large application message, which has at least one byte.
    pub fn push_large(&mut self, opcode: Opcode, payload: Payload) {
        debug_assert!(!payload.is_empty(), "it would be a small one");
        let large = Large::new(opcode, payload);
        self.queued_messages += 1;
        self.queued_bytes += large.wire_len();
        self.queue.push_back(Item::Large(Box::new(large)));
        self.mark();
    }

    /// Notes when the `messages` queued last had come, in microseconds modulo 2³².
    pub fn note_arrivals(&mut self, messages: u64, micros: u32) {
        self.arrivals.push(messages, micros);
    }

    /// Queues a frame of the relay's own behind everything that waits: a notice keeps its place
    /// among the messages, a close comes last.
    pub fn push_own(&mut self, write_frame: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::new();
        write_frame(&mut frame);
        self.queued_bytes += frame.len();
        self.queue_small_bytes += frame.capacity();
        self.queued_own += 1;
        self.queue.push_back(Item::Own(frame));
        self.mark();
    }

    /// Takes the messages that are not written in full, each from its start, and drops the notices among
    /// them. A frame that the stream has begun on stays, so that whatever comes next is still a frame to
    /// the client.
    pub fn take_messages(&mut self) -> Waiting {
        let begun = self.begun_frame_rest();
        if self.is_in_message() {
            self.is_cut_short = true;
            self.replies = Lane::default();
        }
        if !begun.is_empty() {
            let mut controls = Lane::default();
            controls.append_kept(&begun);
            self.controls.waiting().for_each(|frames| controls.append_kept(frames));
            self.controls = controls;
        }
        let mut items = std::mem::take(&mut self.queue);
        items.retain_mut(|item| {
            if let Item::Run(run) = item {
                run.rewind();
            }
            !matches!(item, Item::Own(_))
        });
        let waiting = Waiting {
            bytes: items.iter().map(Item::wire_len).sum(),
            small_bytes: items.iter().map(Item::small_bytes).sum(),
            items,
            arrivals: std::mem::take(&mut self.arrivals),
            messages: self.queued_messages,
        };
        self.front_taken = 0;
        self.unflushed = Unflushed::default();
        self.queued_bytes = 0;
        self.queue_small_bytes = 0;
        self.queued_messages = 0;
        self.queued_own = 0;
        self.mark();
        waiting
    }

    fn begun_frame_rest(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Some((front, frame_end)) = self.begun_frame() {
            let mut slices = Slices::within(usize::MAX);
            front.gather(self.front_taken, frame_end, &mut slices);
            for slice in slices.as_slice() {
                rest.extend_from_slice(slice);
            }
        }
        rest
    }

    /// Queues messages that another connection did not get.
    pub fn append(&mut self, mut waiting: Waiting) {
        self.queue.append(&mut waiting.items);
        self.arrivals.append(&waiting.arrivals);
        self.queued_bytes += waiting.bytes;
        self.queue_small_bytes += waiting.small_bytes;
        self.queued_messages += waiting.messages;
        self.mark();
    }

    /// Hands the socket as much as it takes, up to about `allowance` bytes, once it has flushed what it took
    /// before; returns how many it took and why it ended there.
    pub fn write_to<W: Write>(
        &mut self,
        socket: &mut W,
        pool: &mut Pool,
        allowance: usize,
    ) -> io::Result<(usize, WriteEnd)> {
        let mut total = 0;
        loop {
            match self.write_step(socket, pool, allowance.saturating_sub(total)) {
                Ok(Step::Taken(taken)) => total += taken,
                Ok(Step::Ended(end)) => return Ok((total, end)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.give_back_spare_room(pool);
                    return Ok((total, WriteEnd::Blocked));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn write_step<W: Write>(
        &mut self,
        socket: &mut W,
        pool: &mut Pool,
        allowance: usize,
    ) -> io::Result<Step> {
        socket.flush()?;
        self.release_flushed(pool);
        if self.is_empty() {
            self.is_blocked = false;
            return Ok(Step::Ended(WriteEnd::Drained));
        }
        if allowance == 0 {
            return Ok(Step::Ended(WriteEnd::Allowance));
        }
        match self.write_once(socket, allowance)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            taken => {
                self.advance(taken, pool);
                Ok(Step::Taken(taken))
            }
        }
    }

    fn write_once<W: Write>(&self, socket: &mut W, allowance: usize) -> io::Result<usize> {
        let mut slices = Slices::within(allowance);
        let (frame_end, message_end) = self.overtaking_points();
        if let Some(front) = self.front() {
            front.gather(self.front_taken, frame_end, &mut slices);
            self.controls.waiting().for_each(|frames| slices.push(frames));
            front.gather(frame_end, message_end, &mut slices);
        } else {
            self.controls.waiting().for_each(|frames| slices.push(frames));
        }
        self.replies.waiting().for_each(|frames| slices.push(frames));
        let mut from = message_end;
        for item in self.queue.iter().skip(self.unflushed.items) {
            if slices.is_full() {
                break;
            }
            item.gather(from, item.wire_len(), &mut slices);
            from = 0;
        }
        match slices.as_slice() {
            [one] => socket.write(one),
            many => socket.write_vectored(many),
        }
    }

    /// The front item and where its current frame ends, if the stream has taken part of that frame.
    fn begun_frame(&self) -> Option<(&Item, usize)> {
        let front = self.front()?;
        let (start, end) = front.frame_at(self.front_taken);
        (start < self.front_taken).then_some((front, end))
    }

    /// How far the front item must be taken before a control frame may overtake, and before a reply
    /// may: the end of the frame begun, and of the message begun.
    fn overtaking_points(&self) -> (usize, usize) {
        let frame_end = self.begun_frame().map_or(self.front_taken, |(_, frame_end)| frame_end);
        match self.front() {
            Some(Item::Large(large)) if self.front_taken > 0 => (frame_end, large.wire_len()),
            Some(_) | None => (frame_end, frame_end),
        }
    }

    /// Accounts for bytes that the socket took, in the order in which [`Self::write_once`] gave them.
    fn advance(&mut self, taken: usize, pool: &mut Pool) {
        let (frame_end, message_end) = self.overtaking_points();
        let mut left = taken;
        let of_frame = left.min(frame_end - self.front_taken);
        self.advance_queue(of_frame);
        left -= of_frame;
        left -= self.controls.advance(left, pool);
        let of_message = left.min(message_end - frame_end);
        self.advance_queue(of_message);
        left -= of_message;
        left -= self.replies.advance(left, pool);
        self.advance_queue(left);
        self.mark();
    }

    fn advance_queue(&mut self, mut taken: usize) {
        self.unflushed.bytes += taken;
        while taken > 0 {
            let Some(front) = self.queue.get_mut(self.unflushed.items) else { break };
            let wire_len = front.wire_len();
            let of_item = taken.min(wire_len - self.front_taken);
            taken -= of_item;
            self.front_taken += of_item;
            self.unflushed.messages += front.advance_to(self.front_taken);
            if self.front_taken == wire_len {
                self.front_taken = 0;
                self.unflushed.items += 1;
            }
        }
    }

    /// Accounts for what the stream has flushed, which is all that it had taken: that is written.
    fn release_flushed(&mut self, pool: &mut Pool) {
        let Unflushed { items, bytes, messages } = std::mem::take(&mut self.unflushed);
        if bytes == 0 {
            return;
        }
        self.queued_bytes -= bytes;
        self.queued_messages -= messages;
        self.arrivals.take(messages, &mut pool.delivered);
        for _ in 0..items {
            let Some(done) = self.queue.pop_front() else { break };
            self.queue_small_bytes -= done.small_bytes();
            match done {
                Item::Run(run) => pool.give_buffer(run.bytes.into_spare()),
                Item::Own(_) => self.queued_own -= 1,
                Item::Large(large) => large.payload.give_back(&mut pool.blocks),
            }
        }
        if let Some(Item::Run(run)) = self.queue.front_mut() {
            run.unwritten_start = run.frame_start;
        }
        self.mark();
    }

    /// Once the socket blocks, what waits may wait long: it keeps no more room than it fills.
    fn give_back_spare_room(&mut self, pool: &mut Pool) {
        if self.is_blocked {
            return;
        }
        self.is_blocked = true;
        for item in &mut self.queue {
            if let Item::Run(run) = item {
                self.queue_small_bytes -= run.bytes.capacity();
                pool.give_buffer(run.bytes.compact());
                self.queue_small_bytes += run.bytes.capacity();
            }
        }
        self.controls.compact(pool);
        self.replies.compact(pool);
    }

    fn mark(&mut self) {
        let passes = |was: bool, bytes: usize| bytes > if was { LOW_WATER_BYTES } else { HIGH_WATER_BYTES };
        self.is_queue_congested =
            self.queued_messages > 1 && passes(self.is_queue_congested, self.queued_bytes);
        self.are_replies_congested =
            passes(self.are_replies_congested, self.controls.len() + self.replies.len());
    }
}
