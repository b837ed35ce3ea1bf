//! What waits for one client, in the order in which its socket gets it.
//!
//! The *queue* holds application messages and, in their place between them, notices and the close
//! frame. Two lanes overtake it: a *reply* (the answer to the upgrade, an error message) goes out
//! as soon as the message begun is through; a *control* frame, which may stand between two
//! fragments (RFC 6455, section 5.4), as soon as the fragment is. Small messages stand as ready
//! frames in runs; a longer one is a [message in transit](super::transit), of which the queue has a cursor: it leaves in
//! fragments of what has arrived.
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

use super::frame::{Opcode, ServerHeader};
use super::limits::{
    HIGH_WATER_BYTES, LOW_WATER_BYTES, NOTICES_WAITING_MAX, RUN_BYTES_MAX, WRITE_SLICES_MAX,
};
use super::transit::{Cursor, TransitKey, Transits};
use arrivals::Arrivals;
pub use arrivals::Arrived;
use item::{Item, Own, Run, Slices};
use lane::Lane;

pub use pool::Pool;

/// How far a call of [`Outbox::write_to`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// Nothing waits any more.
    Drained,
    /// All that has arrived is written; the rest of a message is still to come.
    Waiting,
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
    /// Bytes that are not written: payload of messages in transit, as far as it has arrived; of all else, frames.
    pub bytes: usize,
}

/// The application messages that waited for a connection which will not get them. They go into
/// [another outbox](Outbox::append) or are [given up](Waiting::give_up).
#[derive(Debug, Default)]
#[must_use]
pub struct Waiting {
    items: VecDeque<Item>,
    arrivals: Arrivals,
    bytes: usize,
    small_bytes: usize,
    /// How many messages these are.
    pub messages: u64,
    /// Messages that the client has got a part of, and whose start is not in memory any more.
    pub lost: u64,
}

impl Waiting {
    /// Frees the memory of the messages. Returns how many there were, those lost included.
    pub fn give_up(self, pool: &mut Pool) -> u64 {
        for item in self.items {
            match item {
                Item::InTransit(cursor) => pool.transits.give_up(cursor),
                Item::Run(run) => pool.give_buffer(run.bytes),
                Item::Own(_) => {}
            }
        }
        self.messages + self.lost
    }
}

/// What became of a message that will never be whole; see [`Outbox::cut`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The client had nothing of it, and will see nothing of it.
    Unseen,
    /// It has a part, to which nothing can be added but control frames.
    Begun,
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
    arrivals: Arrivals,
    unflushed: Unflushed,
    queued_bytes: usize,
    queued_messages: u64,
    /// Memory of the queue, that of messages in transit left out.
    queue_small_bytes: usize,
    /// Notices in the queue, and the close if there is one.
    queued_own: usize,
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
    pub fn cut(&mut self, key: TransitKey, pool: &mut Pool) -> Option<Cut> {
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
        Some(if is_begun { Cut::Begun } else { Cut::Unseen })
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
    pub fn push_own(&mut self, write_frame: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::new();
        write_frame(&mut frame);
        self.queued_bytes += frame.len();
        self.queue_small_bytes += frame.capacity();
        self.queued_own += 1;
        self.queue.push_back(Item::Own(Own { frame, taken: 0 }));
    }

    /// Takes the messages that are not written in full, each from its start, and drops the notices among
    /// them. A frame that the stream has begun on stays, so that whatever comes next is still a frame to
    /// the client.
    pub fn take_messages(&mut self, transits: &mut Transits) -> Waiting {
        self.cut_short(transits);
        let mut waiting = Waiting { arrivals: std::mem::take(&mut self.arrivals), ..Waiting::default() };
        for mut item in std::mem::take(&mut self.queue) {
            match &mut item {
                Item::Own(_) => continue,
                Item::Run(run) => {
                    run.rewind();
                    waiting.bytes += run.bytes.len();
                }
                Item::InTransit(_) => {}
            }
            if let Item::InTransit(cursor) = item {
                let Some(cursor) = transits.rewind(cursor) else {
                    waiting.lost += 1;
                    continue;
                };
                waiting.bytes += cursor.waiting_bytes(transits.get(cursor.key()));
                item = Item::InTransit(cursor);
            }
            waiting.small_bytes += item.small_bytes();
            waiting.items.push_back(item);
        }
        waiting.messages = self.queued_messages - waiting.lost;
        self.unflushed = Unflushed::default();
        self.queued_bytes = 0;
        self.queue_small_bytes = 0;
        self.queued_messages = 0;
        self.queued_own = 0;
        waiting
    }

    /// Queues messages that another connection did not get; those it [lost](Waiting::lost) are the caller's to report.
    pub fn append(&mut self, mut waiting: Waiting) {
        self.queue.append(&mut waiting.items);
        self.arrivals.append(&waiting.arrivals);
        self.queued_bytes += waiting.bytes;
        self.queue_small_bytes += waiting.small_bytes;
        self.queued_messages += waiting.messages;
    }

    /// The cursors in its queue. For checks.
    #[cfg(any(test, debug_assertions))]
    pub fn cursors(&self) -> impl Iterator<Item = &Cursor> {
        self.queue.iter().filter_map(|item| match item {
            Item::InTransit(cursor) => Some(cursor),
            Item::Run(_) | Item::Own(_) => None,
        })
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
        self.plan(&pool.transits, allowance);
        match self.write_once(socket, &pool.transits, allowance)? {
            None => {
                self.is_blocked = false;
                Ok(Step::Ended(WriteEnd::Waiting))
            }
            Some(0) => Err(io::ErrorKind::WriteZero.into()),
            Some(taken) => {
                self.advance(taken, pool);
                Ok(Step::Taken(taken))
            }
        }
    }

    /// Plans a fragment of each message in transit that the next write may come to.
    fn plan(&mut self, transits: &Transits, allowance: usize) {
        let mut bytes = 0;
        for item in self.queue.iter_mut().skip(self.unflushed.items).take(WRITE_SLICES_MAX) {
            if let Item::InTransit(cursor) = item {
                cursor.plan(transits.get(cursor.key()));
            }
            bytes += item.writable_bytes();
            if bytes >= allowance || !item.is_ending() {
                return;
            }
        }
    }

    /// Writes once; `None` if nothing can be written.
    fn write_once<W: Write>(
        &self,
        socket: &mut W,
        transits: &Transits,
        allowance: usize,
    ) -> io::Result<Option<usize>> {
        let mut slices = Slices::within(allowance);
        let Turns { frame, message, is_reply_next } = self.turns();
        if let Some(front) = self.front() {
            front.gather(transits, 0, frame, &mut slices);
            self.controls.waiting().for_each(|frames| slices.push(frames));
            front.gather(transits, frame, message, &mut slices);
        } else {
            self.controls.waiting().for_each(|frames| slices.push(frames));
        }
        if is_reply_next {
            self.replies.waiting().for_each(|frames| slices.push(frames));
            let mut skip = frame + message;
            for item in self.queue.iter().skip(self.unflushed.items) {
                if slices.is_full() {
                    break;
                }
                item.gather(transits, std::mem::take(&mut skip), usize::MAX, &mut slices);
                if !item.is_ending() {
                    break;
                }
            }
        }
        match slices.as_slice() {
            [] => Ok(None),
            [one] => socket.write(one).map(Some),
            many => socket.write_vectored(many).map(Some),
        }
    }

    /// What may be written before the lanes have their turns.
    fn turns(&self) -> Turns {
        let Some(front) = self.front() else {
            return Turns { frame: 0, message: 0, is_reply_next: true };
        };
        let frame = front.begun_bytes();
        match front {
            Item::InTransit(cursor) if cursor.is_begun() => {
                Turns { frame, message: cursor.planned_bytes() - frame, is_reply_next: cursor.is_ending() }
            }
            Item::InTransit(_) | Item::Run(_) | Item::Own(_) => {
                Turns { frame, message: 0, is_reply_next: true }
            }
        }
    }

    /// Accounts for bytes that the socket took, in the order in which [`Self::write_once`] gave them.
    fn advance(&mut self, taken: usize, pool: &mut Pool) {
        let Turns { frame, message, .. } = self.turns();
        let mut left = taken;
        let of_frame = left.min(frame);
        self.advance_queue(of_frame, &mut pool.transits);
        left -= of_frame;
        left -= self.controls.advance(left, pool);
        let of_message = left.min(message);
        self.advance_queue(of_message, &mut pool.transits);
        left -= of_message;
        left -= self.replies.advance(left, pool);
        self.advance_queue(left, &mut pool.transits);
        self.mark();
    }

    fn advance_queue(&mut self, mut taken: usize, transits: &mut Transits) {
        while taken > 0 {
            let Some(front) = self.queue.get_mut(self.unflushed.items) else {
                debug_assert!(false, "what the stream took was there");
                return;
            };
            let of_item = taken.min(front.writable_bytes());
            debug_assert!(of_item > 0, "what the stream took was there");
            taken -= of_item;
            let is_done = match front {
                Item::Run(run) => {
                    self.unflushed.messages += run.advance(of_item);
                    self.unflushed.bytes += of_item;
                    run.taken == run.bytes.len()
                }
                Item::Own(own) => {
                    own.taken += of_item;
                    self.unflushed.bytes += of_item;
                    own.taken == own.frame.len()
                }
                Item::InTransit(cursor) => {
                    self.unflushed.bytes += cursor.advance(transits.get(cursor.key()), of_item).1;
                    cursor.is_done()
                }
            };
            if is_done {
                self.unflushed.items += 1;
            } else if of_item == 0 {
                return;
            }
        }
    }

    /// Accounts for what the stream has flushed, which is all that it had taken: that is written.
    fn release_flushed(&mut self, pool: &mut Pool) {
        let Unflushed { items, bytes, messages } = std::mem::take(&mut self.unflushed);
        self.queued_bytes -= bytes;
        self.queued_messages -= messages;
        self.arrivals.take(messages, &mut pool.delivered);
        for _ in 0..items {
            let Some(done) = self.queue.pop_front() else { break };
            self.queue_small_bytes -= done.small_bytes();
            match done {
                Item::Run(run) => pool.give_buffer(run.bytes),
                Item::Own(_) => self.queued_own -= 1,
                Item::InTransit(cursor) => {
                    self.queued_messages -= 1;
                    let micros = pool.transits.finish(&cursor);
                    arrivals::note(&mut pool.delivered, Arrived { micros, messages: 1 });
                }
            }
        }
        match self.queue.front_mut() {
            Some(Item::Run(run)) => run.unwritten_start = run.frame_start,
            Some(Item::InTransit(cursor)) => cursor.release(&mut pool.transits),
            Some(Item::Own(_)) | None => {}
        }
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
                compact(&mut run.bytes, pool);
                self.queue_small_bytes += run.bytes.capacity();
            }
        }
        self.controls.compact(pool);
        self.replies.compact(pool);
    }

    fn mark(&mut self) {
        let mark = if self.are_replies_congested { LOW_WATER_BYTES } else { HIGH_WATER_BYTES };
        self.are_replies_congested = self.controls.len() + self.replies.len() > mark;
    }
}

/// How many bytes are written before control frames have their turn, and between them and replies; and whether replies
/// have theirs then, and the rest of the queue behind them.
struct Turns {
    /// The rest of the frame that the socket has begun to take.
    frame: usize,
    /// The rest of what is planned of the message begun.
    message: usize,
    /// Otherwise more of that message has to come first.
    is_reply_next: bool,
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
