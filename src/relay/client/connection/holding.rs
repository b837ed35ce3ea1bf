//! When a client is not read although it might be, and that the time is not reckoned against it.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Connection, Phase};
use crate::relay::client::outbox::Outbox;
use crate::relay::limits::RECEIVE_BUFFER_BYTES;
use crate::relay::memory::Memory;
use crate::relay::time::Tick;

/// Whether a client is read, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is read.
    Free,
    /// Too much waits for it or its peer, or it sends faster than its rate allows.
    Congested,
    /// There is no memory for what it sends.
    Starved,
}

impl<S: Read + Write> Connection<S> {
    /// Whether the client may neither be judged for its silence nor be read, given what waits for
    /// its peer and what memory is left.
    ///
    /// Once the end of the stream is known to lie ahead, a peer holds the reading back only with far
    /// too much waiting: what can still come is what the kernel holds already, and the client's end
    /// is to be noticed. Its own replies, which may be many times what it sends, hold it back still.
    pub fn hold(&self, peer: Option<&Outbox>, memory: &Memory, now: Tick) -> Hold {
        match self.phase {
            Phase::Head(_) if self.is_starved(memory) => Hold::Starved,
            Phase::Head(_) | Phase::Closing(_) | Phase::Ending(_) => Hold::Free,
            Phase::Open if self.is_starved(memory) => Hold::Starved,
            Phase::Open if self.is_congested(peer, memory, now) => Hold::Congested,
            Phase::Open => Hold::Free,
        }
    }

    /// Whether too much waits for the client or its peer, or its rate does not allow it to be read.
    fn is_congested(&self, peer: Option<&Outbox>, memory: &Memory, now: Tick) -> bool {
        if self.outbox.is_none() && peer.is_none() && self.meters.is_none() {
            return false;
        }
        let small_bytes_max = memory.small_queue_bytes_max();
        let are_replies_many =
            |outbox: &Outbox| outbox.are_replies_congested() || outbox.are_replies_over(small_bytes_max);
        if self.outbox().is_some_and(are_replies_many) {
            return true;
        }
        if self.is_read_closed() {
            return peer.is_some_and(|peer| peer.is_queue_over(memory.ended_bytes_max(), usize::MAX));
        }
        // It goes on once half of what stopped it is gone.
        let share = if self.is_held { 2 } else { 1 };
        peer.is_some_and(|peer| peer.is_queue_over(memory.receiver_bytes_max() / share, small_bytes_max))
            || self.pace().is_some_and(|pace| now < pace.resumes_at())
    }

    /// Whether what comes is thrown away, but for a close.
    pub const fn is_discarding(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Ending(_))
    }

    /// How many bytes to read at once: as many as possible of what is thrown away, because it takes no memory.
    /// Otherwise, where memory is short, little, and no more than what has begun needs.
    pub fn read_bytes_max(&self, memory: &Memory) -> usize {
        if self.is_discarding() {
            return RECEIVE_BUFFER_BYTES;
        }
        match self.inbound.missing_bytes() {
            Some(missing_bytes) if memory.is_short_of_chunks() || !memory.has_small_room() => {
                missing_bytes.min(memory.piece_bytes_max())
            }
            Some(_) | None => memory.read_bytes_max(),
        }
    }

    /// Whether something is to be read for which there may be no memory. What has begun is read on as long as there
    /// is any.
    pub fn is_starved(&self, memory: &Memory) -> bool {
        let is_looked_at = matches!(self.phase, Phase::Head(_) | Phase::Open);
        let has_room = if self.inbound.missing_bytes().is_some() {
            memory.has_least_room()
        } else {
            memory.has_small_room()
        };
        self.is_readable && is_looked_at && !has_room
    }

    /// Notes whether the client is held. The time between does not count against it. Returns whether that is news.
    pub fn set_held(&mut self, hold: Hold, now: Tick) -> bool {
        let (is_held, is_starved) = (hold != Hold::Free, hold == Hold::Starved);
        if is_starved && self.is_held && !self.is_starved {
            self.inbound.exclude_held_time(now.since(self.held_since));
            self.held_since = now;
        }
        self.is_starved = is_starved;
        if self.is_held == is_held {
            return false;
        }
        self.is_held = is_held;
        if is_held {
            self.held_since = now;
        } else {
            self.inbound.exclude_held_time(now.since(self.held_since));
            self.received_at = now;
        }
        true
    }

    /// Whether the client was held when that was last worked out.
    pub const fn is_noted_held(&self) -> bool {
        self.is_held
    }

    /// How long the client has been held, for the log.
    pub fn held_for(&self, now: Tick) -> Option<Duration> {
        self.is_held.then(|| now.since(self.held_since))
    }
}
