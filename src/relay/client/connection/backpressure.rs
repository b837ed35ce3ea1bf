//! When the relay pauses reading a client. While it does, the client is *held*; that time does not count towards the
//! client's timeouts.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Connection, Phase};
use crate::relay::client::outbox::Outbox;
use crate::relay::limits::RECEIVE_BUFFER_BYTES;
use crate::relay::memory::Memory;
use crate::relay::time::Tick;

/// Whether reading a client is paused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is not paused.
    Free,
    /// Too much waits for it or its peer, or it sends faster than its rate allows.
    Congested,
    /// There is no memory for what it sends.
    Starved,
}

impl<S: Read + Write> Connection<S> {
    /// Whether reading must pause, given what waits for the peer and how much memory is free.
    ///
    /// Once the client is known to have ended its stream, the peer's queue pauses reading only at a much higher limit:
    /// at most the kernel's buffer can still come, and the relay has to notice the end. Replies to the client pause its
    /// reading as before, because they may be many times larger than what it sends.
    pub fn hold(&self, peer: Option<&Outbox>, memory: &Memory, now: Tick) -> Hold {
        match self.phase {
            Phase::Head(_) | Phase::Open if self.is_starved(memory) => Hold::Starved,
            Phase::Open if self.is_congested(peer, memory, now) => Hold::Congested,
            Phase::Head(_) | Phase::Open | Phase::Closing(_) | Phase::Ending(_) => Hold::Free,
        }
    }

    /// Whether too much waits for the client or its peer, or the client is over its rate.
    fn is_congested(&self, peer: Option<&Outbox>, memory: &Memory, now: Tick) -> bool {
        // The usual case: no outbox on either side, no rate limit.
        if self.outbox.is_none() && peer.is_none() && self.pace().is_none() {
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
        // Hysteresis: a held client is read again only at half the limit, so that it does not alternate with every
        // write.
        let share = if self.is_held { 2 } else { 1 };
        peer.is_some_and(|peer| peer.is_queue_over(memory.receiver_bytes_max() / share, small_bytes_max))
            || self.pace().is_some_and(|pace| now < pace.resumes_at())
    }

    /// Whether input is discarded. A closing client's control frames are still read, for its close frame.
    pub const fn is_discarding(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Ending(_))
    }

    /// How many bytes to read at once. Input that is discarded takes no memory, so the whole receive buffer is used.
    /// Otherwise, if memory is short, the read is small and does not go beyond the unfinished frame.
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

    /// Whether there is input but too little memory to read it. A client in the middle of a message is read as
    /// long as any is free, because only the end of the message frees what it holds; a new message needs more.
    pub fn is_starved(&self, memory: &Memory) -> bool {
        let is_looked_at = matches!(self.phase, Phase::Head(_) | Phase::Open);
        let has_room = if self.inbound.missing_bytes().is_some() {
            memory.has_least_room()
        } else {
            memory.has_small_room()
        };
        self.is_readable && is_looked_at && !has_room
    }

    /// Records whether the client is held, and returns whether that changed. When a hold ends, the timeouts of the
    /// client continue without the time that it lasted.
    pub fn set_held(&mut self, hold: Hold, now: Tick) -> bool {
        let (is_held, is_starved) = (hold != Hold::Free, hold == Hold::Starved);
        // The starved timeout counts from `held_since`. A hold whose reason becomes a lack of memory starts again
        // here, so that the time before does not count towards that timeout.
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

    /// Whether the client was held at the last call of [`set_held`](Self::set_held).
    pub const fn is_noted_held(&self) -> bool {
        self.is_held
    }

    /// How long the client has been held, for the log.
    pub fn held_for(&self, now: Tick) -> Option<Duration> {
        self.is_held.then(|| now.since(self.held_since))
    }
}
