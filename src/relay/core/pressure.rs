//! Who is charged for what, and what becomes of those for whom there is no [memory](crate::relay::memory).

use std::io::{Read, Write};

use log::debug;

use super::relay::Relay;
use crate::relay::client::connection::{Hold, Phase};
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::CONNECTIONS_PER_TURN;
use crate::relay::wire::message::CloseReason;

impl<S: Read + Write> Relay<S> {
    /// Whether reading from a connection may bring something and is allowed to. A client that
    /// failed while it was held is gone, and so is one that ended its stream while it was held for want of room.
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

    /// Works out anew whether a client is held, given its peer, and notes it.
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

    /// Brings the account up to date with what a connection holds. A client whose text is nested so deeply that its
    /// check does not fit is closed.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let memory = &mut self.pool.transits.memory;
        let Some(slot) = self.slots.find_mut(id) else { return };
        let may_check_take = memory.may_check_take(slot.connection.inbound.check_bytes());
        // A connection whose small memory does not fit 32 bits is not worth eight bytes of every other.
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

    /// Notes a client that is not read because memory is short.
    pub(super) fn starve(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id)
            && !slot.is_starved
        {
            slot.is_starved = true;
            self.starved_clients += 1;
            self.counters.reads_starved += 1;
            self.starved.push_back(id);
        }
        // Those that are gone are taken out once they are as many as all others.
        if self.starved.len() > 2 * self.slots.len() {
            self.starved.retain(|&id| self.slots.find(id).is_some());
        }
    }

    /// There was no memory for what a client sends for as long as it may have to wait.
    pub(super) fn end_starved(&mut self, id: ConnectionId) {
        let is_request =
            self.slots.get(id).is_some_and(|slot| matches!(slot.connection.phase, Phase::Head(_)));
        if is_request {
            self.refuse(id, Refusal::ConnectionLimit, AnswerForm::default());
        } else {
            self.fail(id, CloseReason::NoRoom);
        }
    }

    /// Has those read that were not because memory was short, once it is not. Bounded; the rest have their turn in the
    /// next one.
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
