//! What waits for one client, in the order in which its socket gets it.
//!
//! The *queue* holds application messages and, in their place between them, notices and the close
//! frame. Two lanes overtake it: a *reply* (the answer to the upgrade, an error message) goes out
//! as soon as the message begun is through; a *control* frame, which may stand between two
//! fragments (RFC 6455, section 5.4), as soon as the fragment is. Small messages stand as ready
//! frames in runs; a longer one is a [message in transit](super::transit), of which the queue has a cursor: it leaves in
//! fragments of what has arrived.

mod arrivals;
mod item;
mod lane;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Write};

use super::frame::{Opcode, ServerHeader};
use super::limits::{
    HIGH_WATER_BYTES, LOW_WATER_BYTES, NOTICES_WAITING_MAX, QUEUE_CAPACITY_KEPT, RUN_BYTES_MAX,
    SPARE_BUFFERS_BYTES_MAX, SPARE_OUTBOXES_MAX, WRITE_SLICES_MAX,
};
use super::transit::{Cursor, TransitKey, Transits};
use arrivals::Arrivals;
pub use arrivals::Arrived;
use item::{Item, Own, Run, Slices};
use lane::Lane;

/// Buffers and outboxes between two uses, so that small messages need no allocation each.
#[derive(Debug, Default)]
pub struct Pool {
    buffers: Vec<Vec<u8>>,
    buffers_bytes: usize,
    #[expect(clippy::vec_box, reason = "connections hold boxes, and get them back as they are")]
    outboxes: Vec<Box<Outbox>>,
    /// Messages in transit, and the account of all memory.
    pub transits: Transits,
    /// Messages that streams have taken in full since this was last emptied, as far as it was
    /// [noted](Outbox::note_arrivals) when they came.
    pub delivered: Vec<Arrived>,
}

impl Pool {
    /// Nothing to use again, and this for messages in transit.
    #[must_use]
    pub fn new(transits: Transits) -> Self {
        Self { transits, ..Self::default() }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.buffers_bytes -= buffer.capacity();
        buffer
    }

    fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        // A buffer without room is none, and would not count.
        let is_kept =
            buffer.capacity() > 0 && self.buffers_bytes + buffer.capacity() <= SPARE_BUFFERS_BYTES_MAX;
        if is_kept {
            buffer.clear();
            self.buffers_bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }

    /// An empty outbox.
    #[must_use]
    pub fn take_outbox(&mut self) -> Box<Outbox> {
        self.outboxes.pop().unwrap_or_default()
    }

    /// Takes back an outbox that has run empty.
    pub fn give_outbox(&mut self, mut outbox: Box<Outbox>) {
        debug_assert!(outbox.is_empty());
        if self.outboxes.len() < SPARE_OUTBOXES_MAX {
            outbox.queue.shrink_to(QUEUE_CAPACITY_KEPT);
            outbox.is_cut_short = false;
            self.outboxes.push(outbox);
        }
    }
}

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

/// How much waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Application messages that the socket has not taken in full.
    pub messages: u64,
    /// Bytes that it has not taken: payload of messages in transit, as far as it has arrived; of all else, frames.
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

/// The two lanes of one client. Nothing in it but bytes, counts and cursors.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Control frames that overtake the rest of a message in transit; otherwise they are replies.
    controls: Lane,
    replies: Lane,
    queue: VecDeque<Item>,
    /// When its small messages came, as far as it was noted.
    arrivals: Arrivals,
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
        self.is_cut_short || matches!(self.queue.front(), Some(Item::InTransit(cursor)) if cursor.is_begun())
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
        let run = match self.queue.back_mut() {
            Some(Item::Run(run)) if run.bytes.len() + frame_bytes <= RUN_BYTES_MAX => run,
            Some(_) | None => {
                let bytes = if self.is_blocked { Vec::new() } else { pool.take_buffer() };
                self.queue_small_bytes += bytes.capacity();
                self.queue.push_back(Item::Run(Run { bytes, taken: 0, frame_start: 0 }));
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
        let is_begun = index == 0 && self.is_in_message();
        if is_begun {
            self.cut_short(&pool.transits);
        }
        let Some(Item::InTransit(cursor)) = self.queue.remove(index) else { return None };
        self.queued_messages -= 1;
        self.queued_bytes -= cursor.noted_waiting_bytes(pool.transits.get(key));
        pool.transits.give_up(cursor);
        Some(if is_begun { Cut::Begun } else { Cut::Unseen })
    }

    /// Lets the client have the rest of a frame that its socket has begun to take, so that whatever comes next is
    /// still a frame to it; and nothing else but control frames, if that frame is a part of a message.
    fn cut_short(&mut self, transits: &Transits) {
        let begun_bytes = self.queue.front().map_or(0, Item::begun_bytes);
        if self.is_in_message() {
            self.is_cut_short = true;
            self.replies = Lane::default();
        }
        if begun_bytes > 0 {
            let mut slices = Slices::within(usize::MAX);
            if let Some(front) = self.queue.front() {
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

    /// Takes the messages that the socket has not taken in full, each from its start, and drops the
    /// notices among them. A frame that the socket has begun on stays, so that whatever comes
    /// next is still a frame to the client.
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

    /// Hands the socket as much as it takes, up to about `allowance` bytes; returns how many it
    /// took and why it ended there.
    pub fn write_to<W: Write>(
        &mut self,
        socket: &mut W,
        pool: &mut Pool,
        allowance: usize,
    ) -> io::Result<(usize, WriteEnd)> {
        let mut total = 0;
        loop {
            if self.is_empty() {
                self.is_blocked = false;
                return Ok((total, WriteEnd::Drained));
            }
            if total >= allowance {
                return Ok((total, WriteEnd::Allowance));
            }
            self.plan(&pool.transits, allowance - total);
            match self.write_once(socket, &pool.transits, allowance - total) {
                Ok(None) => {
                    self.is_blocked = false;
                    return Ok((total, WriteEnd::Waiting));
                }
                Ok(Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Some(taken)) => {
                    total += taken;
                    self.advance(taken, pool);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.give_back_spare_room(pool);
                    return Ok((total, WriteEnd::Blocked));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Plans a fragment of each message in transit that the next write may come to.
    fn plan(&mut self, transits: &Transits, allowance: usize) {
        let mut bytes = 0;
        for item in self.queue.iter_mut().take(WRITE_SLICES_MAX) {
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
        if let Some(front) = self.queue.front() {
            front.gather(transits, 0, frame, &mut slices);
            self.controls.waiting().for_each(|frames| slices.push(frames));
            front.gather(transits, frame, message, &mut slices);
        } else {
            self.controls.waiting().for_each(|frames| slices.push(frames));
        }
        if is_reply_next {
            self.replies.waiting().for_each(|frames| slices.push(frames));
            let mut skip = frame + message;
            for item in &self.queue {
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
        let Some(front) = self.queue.front() else {
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
        self.advance_queue(of_frame, pool);
        left -= of_frame;
        left -= self.controls.advance(left, pool);
        let of_message = left.min(message);
        self.advance_queue(of_message, pool);
        left -= of_message;
        left -= self.replies.advance(left, pool);
        self.advance_queue(left, pool);
        self.mark();
    }

    fn advance_queue(&mut self, mut taken: usize, pool: &mut Pool) {
        while taken > 0 {
            let Some(front) = self.queue.front_mut() else {
                debug_assert!(false, "what the socket took was there");
                return;
            };
            let of_item = taken.min(front.writable_bytes());
            taken -= of_item;
            let is_done = match front {
                Item::Run(run) => {
                    let completed = run.advance(of_item);
                    self.queued_messages -= completed;
                    self.queued_bytes -= of_item;
                    self.arrivals.take(completed, &mut pool.delivered);
                    run.taken == run.bytes.len()
                }
                Item::Own(own) => {
                    own.taken += of_item;
                    self.queued_bytes -= of_item;
                    own.taken == own.frame.len()
                }
                Item::InTransit(cursor) => {
                    let (_, of_payload) = cursor.advance(&mut pool.transits, of_item);
                    self.queued_bytes -= of_payload;
                    cursor.is_done()
                }
            };
            if is_done {
                self.pop_front(pool);
            } else if of_item == 0 {
                debug_assert!(false, "what the socket took was there");
                return;
            }
        }
    }

    fn pop_front(&mut self, pool: &mut Pool) {
        let Some(done) = self.queue.pop_front() else { return };
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
