//! Application messages: to the peer, or back to the sender as an error.

use std::io::{Read, Write};

use log::debug;

use super::record::SESSIONS;
use super::relay::Relay;
use super::slots::{Membership, Slot};
use crate::relay::client::connection::Phase;
use crate::relay::client::inbound::{Content, MessageType};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::SMALL_MESSAGE_BYTES_MAX;
use crate::relay::transit::TransitKey;
use crate::relay::wire::frame::Opcode;
use crate::relay::wire::json::InvalidJson;
use crate::relay::wire::message::{ClientError, SystemMessage};

impl<S: Read + Write> Relay<S> {
    pub(super) fn take_text(
        &mut self,
        id: ConnectionId,
        content: Content,
        checked: Result<Option<MessageType>, InvalidJson>,
    ) {
        let message_type = match checked {
            Ok(message_type) => message_type,
            Err(error) => {
                return match content {
                    Content::InTransit(key, _) => self.spoil_transit(id, key, error),
                    Content::Received(_) | Content::Joined(_) => {
                        self.tell(id, &ClientError::InvalidJson(error));
                    }
                };
            }
        };
        let may_be_ping = self.settings.answer_pings && content.len() <= SMALL_MESSAGE_BYTES_MAX;
        if may_be_ping && message_type.as_deref() == Some("ping") {
            return self.reply(id, SystemMessage::Pong);
        }
        self.forward(id, Opcode::Text, content, message_type.as_deref());
    }

    /// Queues an application message for the peer, or tells the sender that there is none.
    pub(super) fn forward(
        &mut self,
        id: ConnectionId,
        opcode: Opcode,
        content: Content,
        message_type: Option<&str>,
    ) {
        if let Content::InTransit(key, _) = content {
            return self.end_transit(id, key, message_type);
        }
        let Some(Membership { session, client_type }) = self.slots.get(id).and_then(Slot::membership) else {
            return;
        };
        self.sessions.note_activity(session, self.now.tick);
        let peer = self.sessions.peer(session, client_type);
        self.log_message(id, message_type, peer.is_some());
        let Some((peer, slot)) = peer.and_then(|peer| Some((peer, self.slots.get_mut(peer)?))) else {
            return self.tell(id, &ClientError::PeerNotConnected(client_type.peer()));
        };
        let bytes = content.len() as u64;
        let outbox = slot.connection.outbox_mut(&mut self.pool);
        match content {
            Content::Received(range) => outbox.push_small(&mut self.pool, opcode, self.receiver.range(range)),
            Content::Joined(bytes) => outbox.push_small(&mut self.pool, opcode, &bytes),
            Content::InTransit(..) => debug_assert!(false, "ended above"),
        }
        self.counters.message_bytes.observe(bytes, 1);
        let carried = self.carried(id, peer, client_type);
        carried.messages += 1;
        carried.small_messages += 1;
        carried.bytes += bytes;
        self.touch(peer);
    }

    /// Passes on what has arrived of the message in transit from this client.
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
            // If nothing has arrived, it was a control frame between two fragments, which is no activity.
            self.note_more(id, key);
        }
    }

    /// Handles a message in transit that is not JSON. Its sender is told, and receivers that have a part of it are
    /// closed. If all receivers have left, the sender has been told `undelivered` already, and the rest is skipped
    /// whether it is JSON or not.
    fn spoil_transit(&mut self, id: ConnectionId, key: TransitKey, error: InvalidJson) {
        if self.is_orphaned(key) {
            return self.forget_transit(key);
        }
        self.tell(id, &ClientError::InvalidJson(error));
        if let Some(membership) = self.slots.get(id).and_then(Slot::membership) {
            self.cut_transit(membership, key);
        }
    }

    /// Releases a message in transit to the peer of its sender. Returns whether there is a peer. If not, the sender
    /// is told, and the message is dropped.
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
        debug!(target: SESSIONS, "conn={id} peer={peer} bytes={bytes} Message released");
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

    /// Ends a message in transit that has arrived whole and is valid.
    fn end_transit(&mut self, id: ConnectionId, key: TransitKey, message_type: Option<&str>) {
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

    /// Whether a message was released and all its receivers have left.
    fn is_orphaned(&self, key: TransitKey) -> bool {
        let transit = self.pool.transits.get(key);
        transit.is_released() && transit.receivers() == 0
    }
}
