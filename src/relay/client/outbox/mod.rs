//! What waits for one client, in the order in which its socket gets it.
//!
//! The *queue* holds application messages and, in their place between them, notices and the close
//! frame. Two lanes overtake it: a *reply* (the answer to the upgrade, an error message) goes out
//! as soon as the message begun is through; a *control* frame, which may stand between two
//! fragments (RFC 6455, section 5.4), as soon as the fragment is. Small messages stand as ready
//! frames in runs; a longer one is a [message in transit](crate::relay::transit), of which the queue has a
//! cursor: it leaves in fragments of what has arrived.
//!
//! A stream may keep what it takes, as one does that encrypts. A message is written once the stream has
//! *flushed* its last byte; until then it stays in the queue, for it may have to go to another connection.

mod arrivals;
mod item;
mod lane;
mod pool;
#[cfg(test)]
mod tests;
mod undelivered;
mod write;

use std::collections::VecDeque;

use crate::relay::limits::{HIGH_WATER_BYTES, LOW_WATER_BYTES, NOTICES_WAITING_MAX, RUN_BYTES_MAX};
use crate::relay::transit::{Cursor, TransitKey, Transits};
use crate::relay::wire::frame::{Opcode, ServerHeader};
pub use arrivals::ArrivalGroup;
use arrivals::ArrivalTimes;
use item::{Item, RelayFrame, Run, Slices};
use lane::Lane;

pub use pool::Pool;
pub use undelivered::{RemovedMessage, Undelivered};

/// How far a call of [`Outbox::write_to`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// Nothing waits any more.
    Drained,
    /// All that has arrived is written; the rest of a message is still to come.
    MessageIncomplete,
    /// The socket takes no more until it says so.
    Blocked,
    /// The allowance is used up; the socket may take more.
    Allowance,
}

/// How much waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Application messages that are not written in full.
    pub messages: u64,
    /// Bytes that are not written: payload of messages in transit, as far as it has arrived; of all else, frames.
    pub bytes: usize,
}

/// What the stream has taken of the queue since it last flushed all.
#[derive(Clone, Copy, Debug, Default)]
struct Unflushed {
    /// Items taken in full, at the front of the queue.
    items: usize,
    /// Bytes, as they are counted in the queue.
    bytes: usize,
    /// Small messages of which it has taken the last byte.
    messages: u64,
}

/// The two lanes of one client. Nothing in it but bytes, counts and cursors.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Control frames that overtake the rest of a message in transit; otherwise they are replies.
    controls: Lane,
    replies: Lane,
    queue: VecDeque<Item>,
    /// When its small messages came, as far as it was noted.
    arrivals: ArrivalTimes,
    unflushed: Unflushed,
    queued_bytes: usize,
    queued_messages: u64,
    /// Memory of the queue, that of messages in transit left out.
    queue_small_bytes: usize,
    /// Notices in the queue, and the close if there is one.
    queued_relay_frames: usize,
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

    /// Whether more than `bytes_max` wait in the queue, or small messages among it take more than `small_bytes_max` of
    /// memory, which one of them alone may.
    #[must_use]
    pub const fn is_queue_over(&self, bytes_max: usize, small_bytes_max: usize) -> bool {
        self.queued_bytes > bytes_max
            || (self.queued_messages > 1 && self.queue_small_bytes > small_bytes_max)
    }

    /// Whether replies take more than `small_bytes_max`.
    #[must_use]
    pub const fn are_replies_over(&self, small_bytes_max: usize) -> bool {
        self.controls.len() + self.replies.len() > small_bytes_max
    }

    /// Whether more notices wait than a client may leave unread.
    #[must_use]
    pub const fn is_queue_full_of_notices(&self) -> bool {
        self.queued_relay_frames > NOTICES_WAITING_MAX
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

    /// Whether the client has some of a message in transit, and not all.
    fn is_in_message(&self) -> bool {
        self.is_cut_short || matches!(self.front(), Some(Item::InTransit(cursor)) if cursor.is_begun())
    }

    /// The first item that the stream has not taken in full.
    fn front(&self) -> Option<&Item> {
        self.queue.get(self.unflushed.items)
    }

    /// Bytes of memory that what waits takes, those of messages in transit left out.
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
                let bytes = if self.is_blocked { Vec::new() } else { pool.take_buffer() };
                self.queue_small_bytes += bytes.capacity();
                self.queue.push_back(Item::Run(Run::new(bytes)));
                let Some(Item::Run(run)) = self.queue.back_mut() else { return };
                run
            }
        };
        let bytes_before = run.bytes.capacity();
        if self.is_blocked {
            reserve_kept(&mut run.bytes, frame_bytes);
        }
        run.bytes.extend_from_slice(header);
        run.bytes.extend_from_slice(payload);
        self.queue_small_bytes += run.bytes.capacity() - bytes_before;
    }

    /// Queues a message in transit, of which `bytes` have arrived.
    pub fn push_transit(&mut self, cursor: Cursor, bytes: usize) {
        self.queued_messages += 1;
        self.queued_bytes += bytes;
        self.queue.push_back(Item::InTransit(cursor));
    }

    /// Notes that more of a message in its queue has arrived.
    pub const fn note_more(&mut self, bytes: usize) {
        self.queued_bytes += bytes;
    }

    /// Takes a message that will never be whole out of the queue; `None` if it is not in it. If the client has a part
    /// of it, nothing in the queue can follow: its messages are yet to be [taken](Self::take_messages).
    pub fn remove_incomplete(&mut self, key: TransitKey, pool: &mut Pool) -> Option<RemovedMessage> {
        let is_it = |item: &Item| matches!(item, Item::InTransit(cursor) if cursor.key() == key);
        let index = self.queue.iter().rposition(is_it)?;
        let is_begun = index == self.unflushed.items && self.is_in_message();
        if is_begun {
            self.cut_short(&pool.transits);
        }
        let Some(Item::InTransit(cursor)) = self.queue.remove(index) else { return None };
        self.queued_messages -= 1;
        self.queued_bytes -= cursor.unwritten_bytes(pool.transits.get(key));
        self.unflushed.bytes -= cursor.unflushed_bytes();
        pool.transits.give_up(cursor);
        Some(if is_begun { RemovedMessage::Begun } else { RemovedMessage::Unseen })
    }

    /// Lets the client have the rest of a frame that its socket has begun to take, so that whatever comes next is
    /// still a frame to it; and nothing else but control frames, if that frame is a part of a message.
    fn cut_short(&mut self, transits: &Transits) {
        let begun_bytes = self.front().map_or(0, Item::begun_bytes);
        if self.is_in_message() {
            self.is_cut_short = true;
            self.replies = Lane::default();
        }
        if begun_bytes > 0 {
            let mut slices = Slices::within(usize::MAX);
            if let Some(front) = self.front() {
                front.gather(transits, 0, begun_bytes, &mut slices);
            }
            let mut controls = Lane::default();
            slices.as_slice().iter().for_each(|slice| controls.append_kept(slice));
            self.controls.waiting().for_each(|frames| controls.append_kept(frames));
            self.controls = controls;
        }
    }

    /// Notes when the `messages` queued last had come, in microseconds modulo 2³².
    pub fn note_arrivals(&mut self, messages: u64, micros: u32) {
        self.arrivals.push(messages, micros);
    }

    /// Queues a frame of the relay's own behind everything that waits: a notice keeps its place
    /// among the messages, a close comes last.
    pub fn push_relay_frame(&mut self, write_frame: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes);
        self.queued_bytes += bytes.len();
        self.queue_small_bytes += bytes.capacity();
        self.queued_relay_frames += 1;
        self.queue.push_back(Item::RelayFrame(RelayFrame { bytes, taken: 0 }));
    }

    /// Takes the messages that are not written in full, each from its start, and drops the notices among
    /// them. A frame that the stream has begun on stays, so that whatever comes next is still a frame to
    /// the client.
    pub fn take_messages(&mut self, transits: &mut Transits) -> Undelivered {
        self.cut_short(transits);
        let mut undelivered =
            Undelivered { arrivals: std::mem::take(&mut self.arrivals), ..Undelivered::default() };
        for mut item in std::mem::take(&mut self.queue) {
            match &mut item {
                Item::RelayFrame(_) => continue,
                Item::Run(run) => {
                    run.rewind();
                    undelivered.bytes += run.bytes.len();
                }
                Item::InTransit(_) => {}
            }
            if let Item::InTransit(cursor) = item {
                let Some(cursor) = transits.rewind(cursor) else {
                    undelivered.lost += 1;
                    continue;
                };
                undelivered.bytes += cursor.waiting_bytes(transits.get(cursor.key()));
                item = Item::InTransit(cursor);
            }
            undelivered.small_bytes += item.small_bytes();
            undelivered.items.push_back(item);
        }
        undelivered.messages = self.queued_messages - undelivered.lost;
        self.unflushed = Unflushed::default();
        self.queued_bytes = 0;
        self.queue_small_bytes = 0;
        self.queued_messages = 0;
        self.queued_relay_frames = 0;
        undelivered
    }

    /// Queues messages that another connection did not get; those it [lost](Undelivered::lost) are the caller's to report.
    pub fn append(&mut self, mut undelivered: Undelivered) {
        self.queue.append(&mut undelivered.items);
        self.arrivals.append(&undelivered.arrivals);
        self.queued_bytes += undelivered.bytes;
        self.queue_small_bytes += undelivered.small_bytes;
        self.queued_messages += undelivered.messages;
    }

    /// The cursors in its queue. For checks.
    #[cfg(any(test, debug_assertions))]
    pub fn cursors(&self) -> impl Iterator<Item = &Cursor> {
        self.queue.iter().filter_map(|item| match item {
            Item::InTransit(cursor) => Some(cursor),
            Item::Run(_) | Item::RelayFrame(_) => None,
        })
    }

    fn mark(&mut self) {
        let mark = if self.are_replies_congested { LOW_WATER_BYTES } else { HIGH_WATER_BYTES };
        self.are_replies_congested = self.controls.len() + self.replies.len() > mark;
    }
}

/// Makes room for `more` bytes that may stay for long: a buffer of them is little larger than what it holds.
fn reserve_kept(buffer: &mut Vec<u8>, more: usize) {
    if buffer.capacity() - buffer.len() < more {
        // A quarter more than there is, so that each byte is moved a few times at most.
        buffer.reserve_exact(more.max(buffer.len() / 4));
    }
}

fn append_kept(buffer: &mut Vec<u8>, bytes: &[u8]) {
    reserve_kept(buffer, bytes.len());
    buffer.extend_from_slice(bytes);
}

/// Moves bytes to memory that they fill, and gives that in which they stood back.
fn compact(buffer: &mut Vec<u8>, pool: &mut Pool) {
    let compact = buffer.as_slice().to_vec();
    pool.give_buffer(std::mem::replace(buffer, compact));
}
