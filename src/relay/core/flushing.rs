//! Writes what waits to the streams.

use std::io::{Read, Write};

use super::relay::Relay;
use crate::relay::client::connection::{FlushEnd, Hold};
use crate::relay::client::outbox::{Backlog, Outbox};
use crate::relay::effect::Effect;
use crate::relay::ids::ConnectionId;
use crate::relay::limits::{EARLY_FLUSH_BYTES, WRITE_BYTES_PER_TURN};

/// The result of writing to one connection.
pub(super) struct Flushed {
    pub(super) end: FlushEnd,
    pub(super) has_taken: bool,
}

impl<S: Read + Write> Relay<S> {
    /// Flushes each touched connection once. A connection that has used up its share, or that another flush touches,
    /// goes on in the next turn: two connections that hold each other back must not alternate within one turn.
    pub(super) fn flush_touched(&mut self) {
        let mut left_over = Vec::new();
        let touched = self.touched.len();
        for index in 0..touched {
            if let Some(&id) = self.touched.get(index)
                && self.flush(id)
            {
                left_over.push(id);
            }
        }
        self.touched.drain(..touched);
        for id in left_over {
            self.touch(id);
        }
    }

    /// Writes a large amount that was just read while it is in the cache. It writes about as much as was read, so
    /// that the share of the peer in this turn stays bounded.
    pub(super) fn flush_early(&mut self, id: ConnectionId, bytes_read: usize) {
        let Some(peer) = self.peer_of(id) else { return };
        if let Some(slot) = self.slots.get(peer)
            && slot.connection.outbox().is_some_and(|outbox| outbox.backlog().bytes >= EARLY_FLUSH_BYTES)
        {
            // The flush at the end of the turn acts on the result.
            self.flush_connection(peer, bytes_read);
            self.touch(peer);
        }
        self.settle(peer);
    }

    /// Flushes one connection. Returns whether it has more to write at once.
    pub(super) fn flush(&mut self, id: ConnectionId) -> bool {
        let Some(slot) = self.slots.find_mut(id) else { return false };
        slot.is_touched = false;
        let Some(Flushed { end, has_taken }) = self.flush_connection(id, WRITE_BYTES_PER_TURN) else {
            return false;
        };
        match end {
            FlushEnd::Idle | FlushEnd::More => {}
            FlushEnd::Shut => self.effects.push_back(Effect::ShutdownWrite(id)),
            FlushEnd::Gone => {
                self.remove(id);
                return false;
            }
        }
        let peer = self.peer_of(id);
        if has_taken
            && let Some(peer) = peer
            && self.slots.get(peer).is_some_and(|peer| peer.connection.is_noted_held())
        {
            self.make_ready(peer);
            self.touch(peer);
        }
        self.settle(id);
        let hold = self.update_held(id, peer);
        let Some(slot) = self.slots.get(id) else { return false };
        if hold == Hold::Free || slot.connection.is_failed() {
            self.make_ready(id);
        } else if hold == Hold::Starved {
            // The reason for the hold may have changed to a lack of memory. Then it is served again only when memory
            // is free.
            self.starve(id);
        }
        self.arm(id);
        end == FlushEnd::More
    }

    /// Writes what waits for one connection, and counts the messages that its stream takes, unless the client is to
    /// confirm them.
    fn flush_connection(&mut self, id: ConnectionId, bytes_max: usize) -> Option<Flushed> {
        let slot = self.slots.get_mut(id)?;
        let backlog = |outbox: Option<&Outbox>| outbox.map_or(Backlog::default(), Outbox::backlog);
        let before = backlog(slot.connection.outbox());
        let end = slot.connection.flush(&mut self.pool, bytes_max, self.now.tick);
        let after = backlog(slot.connection.outbox());
        let written = before.messages - after.messages;
        let unkept = std::mem::take(&mut self.pool.unkept);
        let delivered = if slot.connection.is_keeping() { unkept } else { written };
        // A client that is closing has left its session, but still gets what waited for it in a shutdown.
        match slot.membership() {
            Some(membership) => self.note_delivered(membership, delivered),
            None => self.counters.messages_delivered.add(&slot.client_type().peer(), delivered),
        }
        if written > 0 || after.messages > 0 {
            self.list_unconfirmed(id);
        }
        Some(Flushed { end, has_taken: after.bytes < before.bytes })
    }
}
