//! When a client is not read although it might be, and that the time is not reckoned against it.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Connection, Phase};
use crate::relay::client::outbox::Outbox;
use crate::relay::memory::Memory;
use crate::relay::time::Tick;

impl<S: Read + Write> Connection<S> {
    /// Whether the client may neither be judged for its silence nor be read, given what waits for
    /// its peer and what memory is left.
    ///
    /// Once the end of the stream is known to lie ahead, a peer holds the reading back only with far
    /// too much waiting: what can still come is what the kernel holds already, and the client's end
    /// is to be noticed. Its own replies, which may be many times what it sends, hold it back still.
    pub fn is_held(&self, peer: Option<&Outbox>, memory: &Memory, now: Tick) -> bool {
        match self.phase {
            Phase::Open => {}
            Phase::Head(_) => return self.is_starved(memory),
            Phase::Closing(_) | Phase::Ending(_) => return false,
        }
        let small_bytes_max = memory.small_queue_bytes_max();
        let are_replies_many =
            |outbox: &Outbox| outbox.are_replies_congested() || outbox.are_replies_over(small_bytes_max);
        if self.outbox().is_some_and(are_replies_many) || self.is_starved(memory) {
            return true;
        }
        if self.is_read_closed() {
            return peer.is_some_and(|peer| peer.is_queue_over(memory.ended_bytes_max(), usize::MAX));
        }
        // It goes on once half of what stopped it is gone.
        let share = if self.is_held { 2 } else { 1 };
        let bytes_max = memory.receiver_bytes_max() / share;
        peer.is_some_and(|peer| peer.is_queue_over(bytes_max, small_bytes_max))
            || self.pace().is_some_and(|pace| now < pace.resumes_at())
    }

    /// Whether what comes is thrown away, but for a close.
    pub const fn is_discarding(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Ending(_))
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

    /// Notes that the client is held, or no longer; the time between is not reckoned against it. `is_starved` if it is
    /// held because memory is short.
    ///
    /// Returns whether that is news.
    pub fn set_held(&mut self, is_held: bool, is_starved: bool, now: Tick) -> bool {
        if is_starved && self.is_held && !self.is_starved {
            self.inbound.excuse(now.since(self.held_since));
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
            self.inbound.excuse(now.since(self.held_since));
            self.heard_at = now;
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
