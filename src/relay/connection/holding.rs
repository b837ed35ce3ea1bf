//! When a client is not read although it might be, and that the time is not reckoned against it.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Connection, Phase};
use crate::relay::budget::Budget;
use crate::relay::outbox::Outbox;
use crate::relay::time::Tick;

impl<S: Read + Write> Connection<S> {
    /// Whether the client may neither be judged for its silence nor be read, given what waits for
    /// its peer and what there is room for.
    ///
    /// Once the end of the stream is known to lie ahead, a peer holds the reading back only with far
    /// too much waiting: what can still come is what the kernel holds already, and the client's end
    /// is to be noticed. Its own replies, which may be many times what it sends, hold it back still.
    pub fn is_held(&self, peer: Option<&Outbox>, budget: &Budget, now: Tick) -> bool {
        match self.phase {
            Phase::Open => {}
            Phase::Head(_) => return self.is_starved(budget),
            Phase::Closing(_) | Phase::Ending(_) => return false,
        }
        if self.inbound.asked().is_some() {
            // Whoever has announced more than it has sent, and sends nothing, holds itself back.
            return self.is_readable || self.inbound.is_awaited_frame_whole();
        }
        let small_bytes_max = budget.small_queue_bytes_max();
        let are_replies_many =
            |outbox: &Outbox| outbox.are_replies_congested() || outbox.are_replies_over(small_bytes_max);
        if self.outbox().is_some_and(are_replies_many) || self.is_starved(budget) {
            return true;
        }
        if self.is_read_closed() {
            return peer.is_some_and(Outbox::is_queue_overfull);
        }
        peer.is_some_and(|peer| {
            peer.is_queue_congested() || peer.is_queue_over(budget.small_queue_bytes_max())
        }) || self.pace().is_some_and(|pace| now < pace.resumes_at())
    }

    /// Whether what comes is thrown away, but for a close.
    pub const fn is_discarding(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Ending(_))
    }

    /// Whether something is to be read for which there may be no room. What has begun is read to its end, for
    /// which there is.
    pub fn is_starved(&self, budget: &Budget) -> bool {
        let is_gated =
            matches!(self.phase, Phase::Head(_) | Phase::Open) && self.inbound.missing_bytes().is_none();
        self.is_readable && is_gated && !budget.has_small_room()
    }

    /// Notes that the client is held, or no longer; the time between is not reckoned against it.
    ///
    /// Returns whether that is news.
    pub fn set_held(&mut self, is_held: bool, now: Tick) -> bool {
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
