//! What waits to be sent to one client, and in which order its socket gets it.
//!
//! | part | what is in it | when it is sent |
//! | --- | --- | --- |
//! | queue | messages from the peer, notices about the peer, the close frame | in order, after the lanes |
//! | lane of replies | the answer in HTTP, error messages | after the message that has begun |
//! | lane of control frames | pings and pongs during a large message | after the fragment that has begun |
//!
//! A control frame may be sent between two fragments of a message (RFC 6455, section 5.4). Small messages are queued
//! as complete frames, many in one buffer, a *run*. A larger one is a [message in transit](crate::relay::transit): the
//! queue holds a cursor, and each fragment carries what has arrived since the last one.
//!
//! A stream may hold bytes that it has taken, as a TLS stream does. A message counts as written once the stream has
//! *flushed* its last byte. Until then it stays in the queue, because it may have to move to another connection. If the
//! client is to confirm it, it then becomes [unconfirmed](Unconfirmed).

mod arrivals;
mod item;
mod kept;
mod lane;
mod pool;
#[cfg(test)]
mod tests;
mod unconfirmed;
mod undelivered;
mod write;

use std::collections::VecDeque;

use crate::relay::limits::{HIGH_WATER_BYTES, LOW_WATER_BYTES, NOTICES_WAITING_MAX, RUN_BYTES_MAX};
use crate::relay::transit::{Cursor, TransitKey, Transits};
use crate::relay::wire::frame::{Opcode, ServerHeader};
pub use arrivals::ArrivalGroup;
use arrivals::ArrivalTimes;
use item::{Item, RelayFrame, Run, Slices};
use kept::{KeptItem, KeptRun};
use lane::Lane;

pub use pool::Pool;
pub use unconfirmed::Unconfirmed;
pub use undelivered::{RemovedMessage, Undelivered};
pub use write::Keeping;

/// Why [`Outbox::write_to`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// Everything is written and flushed.
    Drained,
    /// All that has arrived is written. The rest of a message in transit is still to come; the queue behind it waits.
    MessageIncomplete,
    /// The socket refuses bytes until it reports that it is writable.
    Blocked,
    /// The allowance is used up. The socket may take more.
    Allowance,
}

/// How much waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Application messages that are not completely written.
    pub messages: u64,
    /// Bytes that are not written. For messages in transit this is the payload that has arrived; for everything else,
    /// whole frames with their headers.
    pub bytes: usize,
}

/// What the stream has taken of the queue and has not flushed.
#[derive(Clone, Copy, Debug, Default)]
struct Unflushed {
    /// Completely taken items, at the front of the queue.
    items: usize,
    /// Bytes, counted as in `queued_bytes`.
    bytes: usize,
    /// Completely taken small messages.
    messages: u64,
}

/// The queue and the two lanes of one client. Holds bytes, counts and cursors, and no stream.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Control frames that overtake the rest of a message in transit. At other times control frames go to `replies`.
    controls: Lane,
    replies: Lane,
    queue: VecDeque<Item>,
    /// When its small messages arrived, as far as this was recorded.
    arrivals: ArrivalTimes,
    unflushed: Unflushed,
    /// Bytes of the queue that are not flushed; see [`Backlog::bytes`]. This includes the frames of the relay.
    queued_bytes: usize,
    /// Messages of the queue that are not flushed.
    queued_messages: u64,
    /// Memory of the queue in bytes, without that of messages in transit or for a client that has come back.
    queue_small_bytes: usize,
    /// Notices in the queue, and the close if there is one.
    queued_relay_frames: usize,
    are_replies_congested: bool,
    /// The socket has refused bytes since it last took everything.
    is_blocked: bool,
    /// The client has a part of a message and will not get the rest. From now on it can receive only control frames.
    is_cut_short: bool,
}

impl Outbox {
    /// Whether nothing waits, in the queue or in a lane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.replies.is_empty() && self.controls.is_empty()
    }

    /// Whether the queue holds more than `bytes_max` bytes, or its small messages take more than `small_bytes_max`
    /// bytes of memory. The second limit does not apply to a single message, because one must always be possible.
    #[must_use]
    pub const fn is_queue_over(&self, bytes_max: usize, small_bytes_max: usize) -> bool {
        self.queued_bytes > bytes_max
            || (self.queued_messages > 1 && self.queue_small_bytes > small_bytes_max)
    }

    /// Whether the lanes hold more than `small_bytes_max` bytes.
    #[must_use]
    pub const fn are_replies_over(&self, small_bytes_max: usize) -> bool {
        self.controls.len() + self.replies.len() > small_bytes_max
    }

    /// Whether more notices wait than a client may leave unread. If so, the caller closes the client.
    #[must_use]
    pub const fn is_queue_full_of_notices(&self) -> bool {
        self.queued_relay_frames > NOTICES_WAITING_MAX
    }

    /// Whether reading the client must pause, because it does not take the replies to what it sent. Starts above
    /// [`HIGH_WATER_BYTES`] and ends at [`LOW_WATER_BYTES`].
    #[must_use]
    pub const fn are_replies_congested(&self) -> bool {
        self.are_replies_congested
    }

    /// Whether the socket has refused bytes since it last took everything.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// How much waits in the queue.
    #[must_use]
    pub const fn backlog(&self) -> Backlog {
        Backlog { messages: self.queued_messages, bytes: self.queued_bytes }
    }

    /// Adds text frames, or the answer in HTTP, to the lane of replies. After a message that was cut short it does
    /// nothing.
    pub fn reply(&mut self, pool: &mut Pool, write_frames: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_cut_short {
            self.replies.append(pool, self.is_blocked, write_frames);
            self.mark();
        }
    }

    /// Adds a control frame. It overtakes the queue, and also the rest of a large message that has begun.
    pub fn control(&mut self, pool: &mut Pool, write_frame: impl FnOnce(&mut Vec<u8>)) {
        // Outside a large message the replies are sent next anyway. The control frame must not overtake them: the first
        // may be the answer to the upgrade (status 101).
        let lane = if self.is_in_message() { &mut self.controls } else { &mut self.replies };
        lane.append(pool, self.is_blocked, write_frame);
        self.mark();
    }

    /// Whether the client has received a part of a message in transit, but not all of it.
    fn is_in_message(&self) -> bool {
        self.is_cut_short || matches!(self.front(), Some(Item::InTransit(cursor)) if cursor.is_begun())
    }

    /// The first item that the stream has not completely taken.
    fn front(&self) -> Option<&Item> {
        self.queue.get(self.unflushed.items)
    }

    /// Memory in bytes, without that of messages in transit.
    #[must_use]
    pub fn small_bytes(&self) -> usize {
        self.queue_small_bytes + self.controls.capacity() + self.replies.capacity()
    }

    /// Queues a copy of a small application message.
    ///
    /// While the socket takes bytes, buffers come from the pool and soon return to it, so their size does not matter.
    /// While it refuses them, a buffer may stay for long and is grown only as far as its content needs.
    pub fn push_small(&mut self, pool: &mut Pool, opcode: Opcode, payload: &[u8]) {
        let header = ServerHeader::new(opcode, true, payload.len());
        let header = header.as_bytes();
        let frame_bytes = header.len() + payload.len();
        self.queued_messages += 1;
        self.queued_bytes += frame_bytes;
        // A run that the stream has completely taken is counted in `unflushed.items`: nothing may be added to it.
        let is_all_taken = self.queue.len() == self.unflushed.items;
        let run = match self.queue.back_mut() {
            Some(Item::Run(run))
                if !is_all_taken && !run.is_returned && run.bytes.len() + frame_bytes <= RUN_BYTES_MAX =>
            {
                run
            }
            Some(_) | None => {
                let bytes = if self.is_blocked { Vec::new() } else { pool.take_run_buffer() };
                self.queue_small_bytes += bytes.capacity();
                self.queue.push_back(Item::Run(Run::new(bytes)));
                let Some(Item::Run(run)) = self.queue.back_mut() else {
                    debug_assert!(false, "a run was just pushed");
                    return;
                };
                run
            }
        };
        // The vector may grow below; the difference keeps the account of memory exact.
        let bytes_before = run.bytes.capacity();
        if self.is_blocked {
            reserve_kept(&mut run.bytes, frame_bytes);
        }
        run.bytes.extend_from_slice(header);
        run.bytes.extend_from_slice(payload);
        run.messages += 1;
        self.queue_small_bytes += run.bytes.capacity() - bytes_before;
    }

    /// Queues a message in transit, of which `bytes` bytes have arrived.
    pub fn push_transit(&mut self, cursor: Cursor, bytes: usize) {
        self.queued_messages += 1;
        self.queued_bytes += bytes;
        self.queue.push_back(Item::InTransit(cursor));
    }

    /// Records that `bytes` more bytes of a message in its queue have arrived.
    pub const fn note_more(&mut self, bytes: usize) {
        self.queued_bytes += bytes;
    }

    /// Removes a message that will never be complete from the queue; `None` if it is not there. If the client has
    /// received a part of it, nothing in the queue can follow: the caller then [takes](Self::take_messages) the rest.
    pub fn remove_incomplete(&mut self, key: TransitKey, pool: &mut Pool) -> Option<RemovedMessage> {
        let is_it = |item: &Item| matches!(item, Item::InTransit(cursor) if cursor.key() == key);
        // From the back: its sender sends one message at a time, so it is near the end of the queue.
        let index = self.queue.iter().rposition(is_it)?;
        let is_begun = index == self.unflushed.items && self.is_in_message();
        if is_begun {
            self.cut_short(&pool.transits);
        }
        let Some(Item::InTransit(cursor)) = self.queue.remove(index) else {
            debug_assert!(false, "the item at this index was found above");
            return None;
        };
        // What the stream took of it without a flush must not be subtracted again at the next flush.
        self.queued_messages -= 1;
        self.queued_bytes -= cursor.unwritten_bytes(pool.transits.get(key));
        self.unflushed.bytes -= cursor.unflushed_bytes();
        pool.transits.give_up(cursor);
        Some(if is_begun { RemovedMessage::Begun } else { RemovedMessage::Unseen })
    }

    /// Prepares for the loss of the queue's front: keeps the rest of a frame that the socket has begun to take, so that
    /// the client still finds the start of the next frame. If it has a part of a large message, only control frames may
    /// follow, and the replies are dropped.
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
            // The rest of the frame goes to the front of the lane of control frames, which is sent first.
            let mut controls = Lane::default();
            slices.as_slice().iter().for_each(|slice| controls.append_kept(slice));
            self.controls.waiting().for_each(|frames| controls.append_kept(frames));
            self.controls = controls;
        }
    }

    /// Records when the last `messages` queued messages arrived, in microseconds modulo 2³².
    pub fn note_arrivals(&mut self, messages: u64, micros: u32) {
        self.arrivals.push(messages, micros);
    }

    /// Queues a frame of the relay itself behind everything that waits: a notice keeps its position among the messages,
    /// and the close frame comes last.
    pub fn push_relay_frame(&mut self, write_frame: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes);
        self.queued_bytes += bytes.len();
        self.queue_small_bytes += bytes.capacity();
        self.queued_relay_frames += 1;
        self.queue.push_back(Item::RelayFrame(RelayFrame { bytes, taken: 0 }));
    }

    /// Takes the messages that are not completely written out of the queue, each from its start, and drops the relay's
    /// own frames between them, which are for this connection only. The rest of a frame that the socket has begun to
    /// take stays, so that the client still finds the start of the next frame.
    ///
    /// `unconfirmed` has what was written before and is to be kept, too. Otherwise that counts as delivered.
    pub fn take_messages(&mut self, unconfirmed: Option<Unconfirmed>, pool: &mut Pool) -> Undelivered {
        self.cut_short(&pool.transits);
        let mut undelivered = Undelivered::default();
        let (mut written, mut before) = (0, [0; 2]);
        if let Some(mut unconfirmed) = unconfirmed {
            (written, before) = (unconfirmed.messages(), unconfirmed.written_before);
            let (items, arrivals) = unconfirmed.take_items();
            undelivered.arrivals = arrivals;
            for item in items {
                undelivered.push(item, &pool.transits);
            }
        } else if let Some(Item::Run(run)) = self.queue.front_mut() {
            run.pass_flushed();
        }
        undelivered.arrivals.append(&std::mem::take(&mut self.arrivals));
        for item in std::mem::take(&mut self.queue) {
            match item {
                Item::RelayFrame(_) => {}
                Item::Run(run) => {
                    let (start, messages) = (run.kept_start, run.messages);
                    let bytes = run.into_bytes(&mut pool.transits);
                    let run = KeptRun::new(bytes, start, messages, pool);
                    undelivered.push(KeptItem::Run(run), &pool.transits);
                }
                Item::InTransit(cursor) => {
                    // The message starts again for the next connection, if its first bytes are still in memory.
                    if let Some(keeper) = pool.transits.park(cursor) {
                        undelivered.push(KeptItem::Message(keeper), &pool.transits);
                        continue;
                    }
                    undelivered.given_up += 1;
                    // Only a message that has begun can be lost; it comes right behind those that were written.
                    before = before.map(|before| before - u64::from(before > written));
                }
            }
        }
        self.unflushed = Unflushed::default();
        self.queued_bytes = 0;
        self.queue_small_bytes = 0;
        self.queued_messages = 0;
        self.queued_relay_frames = 0;
        undelivered.note_written(written, before, pool);
        undelivered
    }

    /// Queues messages that another connection did not receive or confirm.
    pub fn append(&mut self, undelivered: Undelivered, pool: &mut Pool) {
        self.queued_bytes += undelivered.bytes();
        self.queued_messages += undelivered.messages();
        self.arrivals.append(&undelivered.arrivals);
        // If nothing is kept for clients that come back, these are messages like any other.
        let is_returned = pool.transits.keeps_written();
        for item in undelivered.items {
            let item = match item {
                KeptItem::Message(keeper) => Item::InTransit(pool.transits.resume(keeper)),
                KeptItem::Run(run) => {
                    let messages = run.messages();
                    let (bytes, start) = run.into_bytes(&mut pool.transits);
                    if is_returned {
                        pool.transits.memory.charge_returned(0, bytes.capacity());
                    } else {
                        self.queue_small_bytes += bytes.capacity();
                    }
                    Item::Run(Run::of_kept(bytes, start, messages, is_returned))
                }
            };
            self.queue.push_back(item);
        }
    }

    /// Adds a ping that asks whether the client has everything that was written.
    pub fn ask(&mut self, keeping: &mut Keeping<'_>, pool: &mut Pool) {
        // The ping must not ask for what the run at the front still holds: that would have to be counted by message.
        if let Some(Item::Run(run)) = self.queue.front_mut() {
            let (frames, messages) = run.pass_flushed();
            keeping.unconfirmed.keep_copy(frames, messages, pool);
        }
        *keeping.asked = keeping.asked.wrapping_add(1);
        let number = *keeping.asked;
        keeping.unconfirmed.note_asked(number, keeping.now);
        self.ping(Some(number), pool);
    }

    /// Adds a ping. Its payload is `number`, or empty.
    pub fn ping(&mut self, number: Option<u32>, pool: &mut Pool) {
        let payload = number.map_or_else(String::new, |number| number.to_string());
        let header = ServerHeader::new(Opcode::Ping, true, payload.len());
        self.control(pool, |out| {
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(payload.as_bytes());
        });
    }

    /// The message in transit that is written next, or was begun.
    #[must_use]
    pub fn front_message(&self) -> Option<TransitKey> {
        match self.queue.front() {
            Some(Item::InTransit(cursor)) => Some(cursor.key()),
            Some(Item::Run(_) | Item::RelayFrame(_)) | None => None,
        }
    }

    /// The memory of small messages for a client that has come back, for the check of invariants.
    #[cfg(any(test, debug_assertions))]
    #[must_use]
    pub fn returned_bytes(&self) -> usize {
        let returned = self.queue.iter().map(|item| match item {
            Item::Run(run) if run.is_returned => run.bytes.capacity(),
            Item::Run(_) | Item::InTransit(_) | Item::RelayFrame(_) => 0,
        });
        returned.sum()
    }

    /// The cursors in its queue, for the check of invariants.
    #[cfg(any(test, debug_assertions))]
    pub fn cursors(&self) -> impl Iterator<Item = &Cursor> {
        self.queue.iter().filter_map(|item| match item {
            Item::InTransit(cursor) => Some(cursor),
            Item::Run(_) | Item::RelayFrame(_) => None,
        })
    }

    /// Updates whether the replies are congested. Call after each change of a lane.
    fn mark(&mut self) {
        let mark = if self.are_replies_congested { LOW_WATER_BYTES } else { HIGH_WATER_BYTES };
        self.are_replies_congested = self.controls.len() + self.replies.len() > mark;
    }
}

/// Makes room for `more` bytes that may stay for long, with little spare capacity.
fn reserve_kept(buffer: &mut Vec<u8>, more: usize) {
    if buffer.capacity() - buffer.len() < more {
        // Growing by a quarter bounds the spare capacity and still moves each byte only a few times.
        buffer.reserve_exact(more.max(buffer.len() / 4));
    }
}

/// Adds bytes that may stay for long.
fn append_kept(buffer: &mut Vec<u8>, bytes: &[u8]) {
    reserve_kept(buffer, bytes.len());
    buffer.extend_from_slice(bytes);
}

/// Moves the content to memory of exactly its size, and returns the old buffer to the pool.
fn compact(buffer: &mut Vec<u8>, pool: &mut Pool) {
    let compact = buffer.as_slice().to_vec();
    pool.give_buffer(std::mem::replace(buffer, compact));
}
