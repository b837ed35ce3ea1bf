//! How a stream is handed what waits, and what it has taken is accounted for.

use std::io::{self, Write};

use super::item::{Item, Slices};
use super::{ArrivalGroup, Outbox, Pool, Unflushed, WriteEnd, arrivals, compact};
use crate::relay::limits::WRITE_SLICES_MAX;
use crate::relay::transit::Transits;

/// What one step of a write came to.
enum WriteStep {
    /// The stream has taken so many bytes.
    Taken(usize),
    Ended(WriteEnd),
}

/// How many bytes are written before control frames have their turn, and between them and replies; and whether replies
/// have theirs then, and the rest of the queue behind them.
struct LaneTurns {
    /// The rest of the frame that the socket has begun to take.
    frame: usize,
    /// The rest of what is planned of the message begun.
    message: usize,
    /// Otherwise more of that message has to come first.
    is_reply_next: bool,
}

impl Outbox {
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
        allowance: usize,
    ) -> io::Result<WriteStep> {
        socket.flush()?;
        self.release_flushed(pool);
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
            Some(0) => Err(io::ErrorKind::WriteZero.into()),
            Some(taken) => {
                self.advance(taken, pool);
                Ok(WriteStep::Taken(taken))
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
        if let Some(bytes) = self.only_small_messages() {
            return socket.write(bytes).map(Some);
        }
        let mut slices = Slices::within(allowance);
        let LaneTurns { frame, message, is_reply_next } = self.turns();
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

    /// What waits, if it is small messages in one buffer and nothing else, as it is most of the time: one slice, for
    /// which no list of slices needs to be made.
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

    /// What may be written before the lanes have their turns.
    fn turns(&self) -> LaneTurns {
        let Some(front) = self.front() else {
            return LaneTurns { frame: 0, message: 0, is_reply_next: true };
        };
        let frame = front.begun_bytes();
        match front {
            Item::InTransit(cursor) if cursor.is_begun() => LaneTurns {
                frame,
                message: cursor.planned_bytes() - frame,
                is_reply_next: cursor.is_ending(),
            },
            Item::InTransit(_) | Item::Run(_) | Item::RelayFrame(_) => {
                LaneTurns { frame, message: 0, is_reply_next: true }
            }
        }
    }

    /// Accounts for bytes that the socket took, in the order in which [`Self::write_once`] gave them.
    fn advance(&mut self, taken: usize, pool: &mut Pool) {
        if self.are_lanes_empty() {
            self.advance_queue(taken, &mut pool.transits);
            return self.mark();
        }
        let LaneTurns { frame, message, .. } = self.turns();
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
                Item::RelayFrame(_) => self.queued_relay_frames -= 1,
                Item::InTransit(cursor) => {
                    self.queued_messages -= 1;
                    let micros = pool.transits.finish(&cursor);
                    arrivals::note(&mut pool.delivered, ArrivalGroup { micros, messages: 1 });
                }
            }
        }
        match self.queue.front_mut() {
            Some(Item::Run(run)) => run.unwritten_start = run.frame_start,
            Some(Item::InTransit(cursor)) => cursor.release(&mut pool.transits),
            Some(Item::RelayFrame(_)) | None => {}
        }
    }

    /// Once the socket blocks, what waits may wait long: it keeps no more room than it fills.
    fn release_spare_capacity(&mut self, pool: &mut Pool) {
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
}
