//! Acts on what `client::connection::backpressure` decides: notes which clients are held, and keeps the
//! [memory](crate::relay::memory) account.

use std::io::{Read, Write};

use log::debug;

use super::relay::Relay;
use crate::relay::client::connection::{Hold, Phase};
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::CONNECTIONS_PER_TURN;
use crate::relay::wire::close_reason::CloseReason;

impl<S: Read + Write> Relay<S> {
    /// Whether a read from a connection may bring something and is allowed. Removes a connection that has failed
    /// while it was held, and ends one that has ended its stream while there was no memory for it.
    pub(super) fn may_read(&mut self, id: ConnectionId) -> bool {
        let peer = self.peer_of(id);
        let hold = self.update_held(id, peer);
        let Some(slot) = self.slots.find(id) else { return false };
        if hold == Hold::Free {
            return slot.connection.is_readable();
        }
        if slot.connection.is_failed() {
            self.lose(id);
        } else if hold == Hold::Starved && slot.connection.is_read_closed() {
            self.end_of_stream(id);
        } else if hold == Hold::Starved {
            self.starve(id);
        }
        false
    }

    /// Works out whether a client is held, given its peer, and notes it.
    pub(super) fn update_held(&mut self, id: ConnectionId, peer: Option<ConnectionId>) -> Hold {
        let now = self.now.tick;
        let Some((slot, peer)) = self.slots.with_peer(id, peer) else { return Hold::Free };
        let connection = &mut slot.connection;
        let peer_outbox = peer.and_then(|peer| peer.connection.outbox());
        let hold = connection.hold(peer_outbox, &self.pool.transits.memory, now);
        let held_for = connection.held_for(now);
        if connection.set_held(hold, now) {
            match held_for {
                None => {
                    self.counters.reads_paused += 1;
                    debug!("conn={id} Reading paused until less waits");
                }
                Some(held_for) => {
                    debug!("conn={id} held_ms={} Reading resumed", held_for.as_millis());
                }
            }
        }
        hold
    }

    /// Charges the memory account for what a connection holds now. Closes a client whose text is nested so deeply
    /// that there is no memory for the check.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let memory = &mut self.pool.transits.memory;
        let Some(slot) = self.slots.find_mut(id) else { return };
        let may_check_take = memory.may_check_take(slot.connection.inbound.check_bytes());
        // Saturates at 4 GiB. A wider field would cost every connection eight bytes.
        let bytes = u32::try_from(slot.connection.small_bytes()).unwrap_or(u32::MAX);
        if bytes != slot.charged_bytes {
            memory.charge_small(slot.charged_bytes, bytes);
            slot.charged_bytes = bytes;
        }
        if !may_check_take {
            self.fail(id, CloseReason::NoRoom);
            self.settle(id);
        }
    }

    /// Notes that a client is not read because memory is short.
    pub(super) fn starve(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id)
            && !slot.is_starved
        {
            slot.is_starved = true;
            self.starved_clients += 1;
            self.counters.reads_starved += 1;
            self.starved.push_back(id);
        }
        // Entries of ended connections are removed when they are as many as all others, so this costs constant time
        // on average.
        if self.starved.len() > 2 * self.slots.len() {
            self.starved.retain(|&id| self.slots.find(id).is_some());
        }
    }

    /// Ends a client for whose data there was no memory until its deadline.
    pub(super) fn end_starved(&mut self, id: ConnectionId) {
        let is_request =
            self.slots.get(id).is_some_and(|slot| matches!(slot.connection.phase, Phase::Head(_)));
        if is_request {
            self.refuse(id, Refusal::ConnectionLimit, AnswerForm::default());
        } else {
            self.fail(id, CloseReason::NoRoom);
        }
    }

    /// Serves the clients that were not read because memory was short, when it no longer is. Bounded; the rest follow
    /// in the next turn.
    pub(super) fn serve_starved(&mut self) {
        for _ in 0..CONNECTIONS_PER_TURN {
            if !self.is_starved_served() {
                break;
            }
            let Some(id) = self.starved.pop_front() else { break };
            if let Some(slot) = self.slots.find_mut(id) {
                slot.is_starved = false;
                self.starved_clients -= 1;
            }
            self.make_ready(id);
            self.touch(id);
        }
        if self.pool.transits.memory.keeps_too_much() {
            self.receiver.renew(&mut self.pool.transits.memory);
        }
    }
}
