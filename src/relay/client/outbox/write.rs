//! Writing an outbox to its stream, and accounting for what the stream has taken and flushed.

use std::io::{self, Write};

use super::arrivals::ArrivalTimes;
use super::item::{Item, Run, Slices};
use super::{ArrivalGroup, Outbox, Pool, Unconfirmed, Unflushed, WriteEnd, arrivals, compact};
use crate::relay::limits::WRITE_SLICES_MAX;
use crate::relay::time::Tick;
use crate::relay::transit::{Cursor, Transits};

/// Where messages go once they are written, if the client is to confirm them.
#[derive(Debug)]
pub struct Keeping<'a> {
    /// The messages that are written and not confirmed.
    pub unconfirmed: &'a mut Unconfirmed,
    /// The number of the last ping that asked for a confirmation.
    pub asked: &'a mut u32,
    /// The current time.
    pub now: Tick,
}

/// The result of one system call.
enum WriteStep {
    /// The stream has taken this many bytes.
    Taken(usize),
    /// No more can be written now.
    Ended(WriteEnd),
}

/// Where the lanes may overtake the queue. The order of one write is: `frame_bytes` of the queue's front, the control
/// frames, `message_bytes` of the queue's front, and, if `is_reply_next`, the replies and the rest of the queue.
struct LaneTurns {
    /// The rest of the frame of which the stream has taken a part.
    frame_bytes: usize,
    /// The rest of the planned fragment of a message in transit that has begun; 0 if none has.
    message_bytes: usize,
    /// The message that has begun ends with `message_bytes`, or none has begun.
    is_reply_next: bool,
}

impl Outbox {
    /// Writes to the socket until it refuses bytes, nothing is left, or about `allowance` bytes are written. Each write
    /// waits until the stream has flushed what it took before. Returns how many bytes were taken, and why it ended.
    ///
    /// Without `keeping`, a message that is written is forgotten.
    pub fn write_to<W: Write>(
        &mut self,
        socket: &mut W,
        pool: &mut Pool,
        mut keeping: Option<Keeping<'_>>,
        allowance: usize,
    ) -> io::Result<(usize, WriteEnd)> {
        let mut total = 0;
        loop {
            match self.write_step(socket, pool, keeping.as_mut(), allowance.saturating_sub(total)) {
                Ok(WriteStep::Taken(taken)) => total += taken,
                Ok(WriteStep::Ended(end)) => return Ok((total, end)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.release_spare_capacity(pool);
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
        mut keeping: Option<&mut Keeping<'_>>,
        allowance: usize,
    ) -> io::Result<WriteStep> {
        // A stream that cannot flush returns `WouldBlock` here, so it never holds bytes of two writes.
        socket.flush()?;
        self.release_flushed(pool, keeping.as_deref_mut());
        if let Some(keeping) = keeping
            && keeping.unconfirmed.ask_at().is_some_and(|at| at <= keeping.now)
        {
            self.ask(keeping, pool);
        }
        if self.is_empty() {
            self.is_blocked = false;
            return Ok(WriteStep::Ended(WriteEnd::Drained));
        }
        if allowance == 0 {
            return Ok(WriteStep::Ended(WriteEnd::Allowance));
        }
        self.plan(&pool.transits, allowance);
        match self.write_once(socket, &pool.transits, allowance)? {
            None => {
                self.is_blocked = false;
                Ok(WriteStep::Ended(WriteEnd::MessageIncomplete))
            }
            // Every slice has bytes, so a stream that takes none is broken. To go on would loop forever.
            Some(0) => Err(io::ErrorKind::WriteZero.into()),
            Some(taken) => {
                self.advance(taken, pool);
                Ok(WriteStep::Taken(taken))
            }
        }
    }

    /// Plans the next fragment of each message in transit that the next write may reach.
    fn plan(&mut self, transits: &Transits, allowance: usize) {
        let mut bytes = 0;
        for item in self.queue.iter_mut().skip(self.unflushed.items).take(WRITE_SLICES_MAX) {
            if let Item::InTransit(cursor) = item {
                cursor.plan(transits.get(cursor.key()));
            }
            bytes += item.writable_bytes();
            // The write goes no further: the allowance is used up, or the message is to continue first.
            if bytes >= allowance || !item.is_ending() {
                return;
            }
        }
    }

    /// Writes once. `None` if nothing can be written: the rest of the first message has not arrived.
    fn write_once<W: Write>(
        &self,
        socket: &mut W,
        transits: &Transits,
        allowance: usize,
    ) -> io::Result<Option<usize>> {
        if let Some(bytes) = self.only_small_messages() {
            return socket.write(bytes).map(Some);
        }
        let mut slices = Slices::within(allowance);
        let LaneTurns { frame_bytes, message_bytes, is_reply_next } = self.turns();
        if let Some(front) = self.front() {
            front.gather(transits, 0, frame_bytes, &mut slices);
            self.controls.waiting().for_each(|frames| slices.push(frames));
            front.gather(transits, frame_bytes, message_bytes, &mut slices);
        } else {
            self.controls.waiting().for_each(|frames| slices.push(frames));
        }
        if is_reply_next {
            self.replies.waiting().for_each(|frames| slices.push(frames));
            // The start of the front was added above.
            let mut skip = frame_bytes + message_bytes;
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

    /// The bytes that wait, if they are small messages in one buffer and nothing else. This is the usual case, and it
    /// needs no list of slices.
    fn only_small_messages(&self) -> Option<&[u8]> {
        let is_one = self.queue.len() == self.unflushed.items + 1;
        match self.front()? {
            Item::Run(run) if is_one && self.are_lanes_empty() => run.bytes.get(run.taken..),
            Item::Run(_) | Item::RelayFrame(_) | Item::InTransit(_) => None,
        }
    }

    const fn are_lanes_empty(&self) -> bool {
        self.controls.is_empty() && self.replies.is_empty()
    }

    /// How much of the queue is written before each lane.
    fn turns(&self) -> LaneTurns {
        let Some(front) = self.front() else {
            return LaneTurns { frame_bytes: 0, message_bytes: 0, is_reply_next: true };
        };
        let frame_bytes = front.begun_bytes();
        match front {
            Item::InTransit(cursor) if cursor.is_begun() => LaneTurns {
                frame_bytes,
                message_bytes: cursor.planned_bytes() - frame_bytes,
                is_reply_next: cursor.is_ending(),
            },
            Item::InTransit(_) | Item::Run(_) | Item::RelayFrame(_) => {
                LaneTurns { frame_bytes, message_bytes: 0, is_reply_next: true }
            }
        }
    }

    /// Accounts for bytes that the stream took, in the order in which [`Self::write_once`] passed them.
    fn advance(&mut self, taken: usize, pool: &mut Pool) {
        // Without frames in the lanes, everything came from the queue.
        if self.are_lanes_empty() {
            self.advance_queue(taken, &mut pool.transits);
            return self.mark();
        }
        let LaneTurns { frame_bytes, message_bytes, .. } = self.turns();
        let mut left = taken;
        let of_frame = left.min(frame_bytes);
        self.advance_queue(of_frame, &mut pool.transits);
        left -= of_frame;
        left -= self.controls.advance(left, pool);
        let of_message = left.min(message_bytes);
        self.advance_queue(of_message, &mut pool.transits);
        left -= of_message;
        left -= self.replies.advance(left, pool);
        self.advance_queue(left, &mut pool.transits);
        self.mark();
    }

    /// Accounts for bytes that the stream took of the queue. They stay in the queue until they are flushed.
    fn advance_queue(&mut self, mut taken: usize, transits: &mut Transits) {
        while taken > 0 {
            let Some(front) = self.queue.get_mut(self.unflushed.items) else {
                debug_assert!(false, "the stream took no more than it was given");
                return;
            };
            let of_item = taken.min(front.writable_bytes());
            debug_assert!(of_item > 0, "the stream took no more than it was given");
            taken -= of_item;
            let is_done = match front {
                Item::Run(run) => {
                    self.unflushed.messages += run.advance(of_item);
                    self.unflushed.bytes += of_item;
                    run.taken == run.bytes.len()
                }
                Item::RelayFrame(frame) => {
                    frame.taken += of_item;
                    self.unflushed.bytes += of_item;
                    frame.taken == frame.bytes.len()
                }
                Item::InTransit(cursor) => {
                    self.unflushed.bytes += cursor.advance(transits.get(cursor.key()), of_item).1;
                    cursor.is_done()
                }
            };
            if is_done {
                self.unflushed.items += 1;
            } else if of_item == 0 {
                // Only if the assertion above fails: do not loop forever in a release build.
                return;
            }
        }
    }

    /// Accounts for a flush: everything that the stream had taken is written, and leaves the queue.
    fn release_flushed(&mut self, pool: &mut Pool, mut keeping: Option<&mut Keeping<'_>>) {
        let Unflushed { items, bytes, messages } = std::mem::take(&mut self.unflushed);
        self.queued_bytes -= bytes;
        self.queued_messages -= messages;
        if keeping.is_none() {
            self.arrivals.take(messages, &mut pool.delivered);
        }
        for _ in 0..items {
            let Some(done) = self.queue.pop_front() else {
                debug_assert!(false, "the items that the stream took are at the front of the queue");
                break;
            };
            self.queue_small_bytes -= done.small_bytes();
            match done {
                Item::Run(mut run) => {
                    if let Some(keeping) = &mut keeping {
                        note_run_written(&mut run, &mut self.arrivals, pool, keeping);
                    }
                    let (start, messages) = (run.kept_start, run.messages);
                    let bytes = run.into_bytes(&mut pool.transits);
                    pool.last_run_bytes = bytes.len();
                    match &mut keeping {
                        None => pool.give_buffer(bytes),
                        Some(keeping) => keeping.unconfirmed.keep_run(bytes, start, messages, pool),
                    }
                }
                Item::RelayFrame(_) => self.queued_relay_frames -= 1,
                // Small messages were subtracted above, together. This one brings its own time of arrival.
                Item::InTransit(cursor) => {
                    self.queued_messages -= 1;
                    finish_message(cursor, pool, keeping.as_deref_mut());
                }
            }
        }
        // The new front may be partly written.
        match self.queue.front_mut() {
            Some(Item::Run(run)) => match keeping {
                None => _ = run.note_flushed(),
                Some(keeping) => note_run_written(run, &mut self.arrivals, pool, keeping),
            },
            Some(Item::InTransit(cursor)) => cursor.release(&mut pool.transits),
            Some(Item::RelayFrame(_)) | None => {}
        }
    }

    /// Called when the socket refuses bytes. What waits may now wait for long, so it moves to memory of its size, and
    /// the large buffers return to the pool.
    fn release_spare_capacity(&mut self, pool: &mut Pool) {
        // While the socket stays blocked, whatever is added is already in memory of its size.
        if self.is_blocked {
            return;
        }
        self.is_blocked = true;
        for item in &mut self.queue {
            // What was kept is in memory of its size already.
            if let Item::Run(run) = item
                && !run.is_returned
            {
                self.queue_small_bytes -= run.bytes.capacity();
                compact(&mut run.bytes, pool);
                self.queue_small_bytes += run.bytes.capacity();
            }
        }
        self.controls.compact(pool);
        self.replies.compact(pool);
    }
}

/// Accounts for small messages of a run that are written and to be confirmed. Only those that were not written before,
/// on another connection, are measured. So runs and messages in transit are noted in the order of the queue.
fn note_run_written(run: &mut Run, arrivals: &mut ArrivalTimes, pool: &mut Pool, keeping: &mut Keeping<'_>) {
    let (messages, bytes) = run.note_flushed();
    if messages == 0 {
        return;
    }
    let again = keeping.unconfirmed.again().min(messages);
    let mut groups = std::mem::take(&mut pool.written);
    arrivals.take(again, &mut groups);
    groups.drain(..).for_each(|group| keeping.unconfirmed.note_arrivals(group));
    arrivals.take(messages - again, &mut groups);
    for group in groups.drain(..) {
        keeping.unconfirmed.note_arrivals(group);
        arrivals::note(&mut pool.delivered, group);
    }
    pool.written = groups;
    keeping.unconfirmed.note_written(messages, bytes, keeping.now);
}

/// Accounts for a message in transit that is written.
fn finish_message(cursor: Cursor, pool: &mut Pool, keeping: Option<&mut Keeping<'_>>) {
    let transit = pool.transits.get(cursor.key());
    let bytes = usize::try_from(transit.arrived_bytes()).unwrap_or(usize::MAX);
    let micros = transit.whole_at();
    debug_assert!(micros.is_some(), "only a whole message has an end");
    let micros = micros.unwrap_or_default();
    let mut is_new = true;
    match keeping {
        None => pool.transits.give_up(cursor),
        Some(keeping) => {
            is_new = keeping.unconfirmed.again() == 0;
            if let Some(keeper) = pool.transits.park(cursor) {
                keeping.unconfirmed.keep_message(keeper);
                keeping.unconfirmed.note_written(1, bytes, keeping.now);
            } else {
                keeping.unconfirmed.note_unkept();
                pool.unkept += 1;
            }
        }
    }
    if is_new {
        arrivals::note(&mut pool.delivered, ArrivalGroup { micros, messages: 1 });
    }
}
