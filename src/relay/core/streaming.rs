//! Messages in transit: when they are released to their receivers, and what becomes of those that will never be whole.

use std::io::{Read, Write};

use log::debug;

use super::relay::Relay;
use super::slots::{Membership, Slot};
use crate::relay::client::connection::Phase;
use crate::relay::client::outbox::Cut;
use crate::relay::client::traffic::Carried;
use crate::relay::counts::counters;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::sessions::Session;
use crate::relay::transit::TransitKey;
use crate::relay::wire::json::InvalidJson;
use crate::relay::wire::message::{ClientError, CloseReason};

impl<S: Read + Write> Relay<S> {
    /// Hands on what has arrived of a message in transit from this client.
    pub(super) fn advance_transit(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get(id).filter(|slot| matches!(slot.connection.phase, Phase::Open))
        else {
            return;
        };
        let Some((key, invalid_json)) = slot.connection.inbound.transit() else { return };
        if let Some(error) = invalid_json {
            self.skip(id, true);
            return self.spoil_transit(id, key, error);
        }
        let transit = self.pool.transits.get(key);
        if !transit.is_released() {
            let hold_bytes = self.pool.transits.memory.hold_bytes() as u64;
            if transit.arrived_bytes() >= hold_bytes && !self.release(id, key) {
                self.skip(id, true);
            }
        } else if self.is_orphaned(key) {
            self.skip(id, true);
            self.forget_transit(key);
        } else if transit.arrived_bytes() > transit.noted_bytes() {
            // A ping between two fragments brings nothing, and is no activity.
            self.note_more(id, key);
        }
    }

    /// A message in transit turns out to be no JSON: its sender is told why its receivers go. If they had gone before,
    /// it knows what became of the message, and the rest, right or not, is skipped.
    pub(super) fn spoil_transit(&mut self, id: ConnectionId, key: TransitKey, error: InvalidJson) {
        if self.is_orphaned(key) {
            return self.forget_transit(key);
        }
        self.tell(id, &ClientError::InvalidJson(error));
        if let Some(membership) = self.slots.get(id).and_then(Slot::membership) {
            self.cut_transit(membership, key);
        }
    }

    /// Whether all receivers that a message was given are gone.
    fn is_orphaned(&self, key: TransitKey) -> bool {
        let transit = self.pool.transits.get(key);
        transit.is_released() && transit.receivers() == 0
    }

    /// Throws away the rest of the message that a client is sending.
    fn skip(&mut self, id: ConnectionId, is_told: bool) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.inbound.skip_transit(is_told);
        }
    }

    /// Gives a message to the peer of its sender; whether there is one. If not, the sender is told, and the message
    /// forgotten.
    pub(super) fn release(&mut self, id: ConnectionId, key: TransitKey) -> bool {
        let Some(Membership { session, client_type }) = self.slots.get(id).and_then(Slot::membership) else {
            debug_assert!(false, "only members send");
            return false;
        };
        self.sessions.note_activity(session, self.now.tick);
        let Some(peer) = self.sessions.peer(session, client_type) else {
            self.pool.transits.detach_sender(key);
            self.tell(id, &ClientError::PeerNotConnected(client_type.peer()));
            return false;
        };
        let cursor = self.pool.transits.release(key);
        let bytes = self.pool.transits.take_news(key);
        debug!("conn={id} peer={peer} bytes={bytes} Message released");
        if let Some(slot) = self.slots.get_mut(peer) {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            slot.connection.outbox_mut(&mut self.pool).push_transit(cursor, bytes);
        }
        let carried = self.carried(id, peer, client_type);
        carried.messages += 1;
        carried.bytes += bytes;
        self.touch(peer);
        true
    }

    /// Tells the receiver of a released message that more of it has arrived.
    fn note_more(&mut self, id: ConnectionId, key: TransitKey) {
        let bytes = self.pool.transits.take_news(key);
        let Some(Membership { session, client_type }) = self.slots.get(id).and_then(Slot::membership) else {
            return;
        };
        let Some(peer) = self.sessions.peer(session, client_type) else {
            debug_assert!(false, "a message with a receiver has one in the session");
            return;
        };
        self.sessions.note_activity(session, self.now.tick);
        if bytes > 0 {
            if let Some(slot) = self.slots.get_mut(peer) {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                slot.connection.outbox_mut(&mut self.pool).note_more(bytes);
            }
            self.carried(id, peer, client_type).bytes += bytes;
        }
        self.touch(peer);
    }

    /// All of a message in transit has arrived, and is right.
    pub(super) fn end_transit(&mut self, id: ConnectionId, key: TransitKey, message_type: Option<&str>) {
        let is_there = self.pool.transits.get(key).is_released() || self.release(id, key);
        let is_forwarded = is_there && self.pool.transits.get(key).receivers() > 0;
        self.log_message(id, message_type, is_forwarded);
        if !is_there {
            return;
        }
        if is_forwarded {
            self.note_more(id, key);
        }
        self.pool.transits.end(key, self.now.wrapped_micros());
        self.forget_transit(key);
    }

    /// What this client leaves unfinished will never be whole. `membership` is that in its session, which it may have
    /// left.
    pub(super) fn cut_unfinished(&mut self, id: ConnectionId, membership: Membership) {
        let transit = self.slots.get(id).and_then(|slot| slot.connection.inbound.transit());
        if let Some((key, _)) = transit {
            self.skip(id, true);
            self.cut_transit(membership, key);
        }
    }

    /// Takes a message from its receiver that will never be whole. One that has a part of it is closed, for a
    /// WebSocket has no way to take a part back.
    pub(super) fn cut_transit(&mut self, sender: Membership, key: TransitKey) {
        let receiver = self.sessions.peer(sender.session, sender.client_type);
        let is_begun = receiver.is_some_and(|receiver| self.cut_for(receiver, sender.client_type, key));
        self.forget_transit(key);
        if is_begun && let Some(receiver) = receiver.filter(|&receiver| self.is_member(receiver)) {
            self.fail(receiver, &CloseReason::CutShort, None, true);
        }
    }

    fn is_member(&self, id: ConnectionId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.membership().is_some())
    }

    /// What the clients of a session that ends leave unfinished will never be whole. They are about to be closed.
    pub(super) fn cut_unfinished_in(&mut self, session: &Session) {
        for sender in ClientType::ALL {
            let Some(id) = session.client(sender) else { continue };
            let transit = self.slots.get(id).and_then(|slot| slot.connection.inbound.transit());
            let Some((key, _)) = transit else { continue };
            self.skip(id, true);
            // The receiver may have gone before.
            if let Some(receiver) = session.client(sender.peer())
                && self.cut_for(receiver, sender, key)
            {
                self.drop_messages(receiver, sender);
            }
            self.forget_transit(key);
        }
    }

    /// Takes a message from one receiver; whether that has a part of it.
    fn cut_for(&mut self, receiver: ConnectionId, sender: ClientType, key: TransitKey) -> bool {
        // What was carried so far is counted before the message is.
        self.credit();
        let Some(slot) = self.slots.get_mut(receiver) else { return false };
        let Some(cut) = slot.connection.cut_message(key, &mut self.pool) else { return false };
        debug!("conn={receiver} cut={cut:?} Message cut short");
        counters::add(&mut self.counters.messages_cut_short, sender as usize, 1);
        self.touch(receiver);
        cut == Cut::Begun
    }

    /// What waits for a client that has a part of a message can never follow it.
    fn drop_messages(&mut self, id: ConnectionId, sender: ClientType) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let undelivered = slot.connection.take_messages(&mut self.pool).give_up(&mut self.pool);
        counters::add(&mut self.counters.messages_undelivered, sender as usize, undelivered);
    }

    /// The sender has done with a message. If receivers were given it, it is measured.
    fn forget_transit(&mut self, key: TransitKey) {
        let transit = self.pool.transits.get(key);
        if transit.is_released() {
            self.counters.message_bytes.observe(transit.noted_bytes(), 1);
        }
        self.pool.transits.detach_sender(key);
    }

    /// What the read under way has brought for the peer.
    pub(super) fn carried(
        &mut self,
        from: ConnectionId,
        to: ConnectionId,
        sender: ClientType,
    ) -> &mut Carried {
        self.carried.get_or_insert_with(|| Carried::new(from, to, sender))
    }
}
