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
            return self.keep(id, Membership { session, client_type }, opcode, &content);
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

    /// Keeps a small message for a peer that is expected to come back. Tells the sender that there is no peer now.
    fn keep(&mut self, id: ConnectionId, sender: Membership, opcode: Opcode, content: &Content) {
        let micros = self.now.wrapped_micros();
        let bytes = content.len() as u64;
        let peer = sender.client_type.peer();
        if !self.keeps_messages() {
            return self.tell_missing(id, sender, false);
        }
        let expected = self.sessions.expected(sender.session, peer, self.now.tick);
        let Some(kept) = expected else { return self.tell_missing(id, sender, false) };
        let is_first = kept.messages() == 0;
        let payload = match content {
            Content::Received(range) => self.receiver.range(range.clone()),
            Content::Joined(bytes) => bytes,
            Content::InTransit(..) => &[],
        };
        kept.push_small(&mut self.pool.transits, opcode, payload, micros);
        self.counters.message_bytes.observe(bytes, 1);
        self.note_kept(id, sender, 1, bytes);
        if is_first {
            self.arm_session(sender.session);
        }
        self.tell_missing(id, sender, true);
    }

    /// Counts what was accepted for a peer that is away.
    fn note_kept(&mut self, id: ConnectionId, sender: Membership, messages: u64, bytes: u64) {
        self.counters.messages_accepted.add(&sender.client_type, messages);
        self.counters.bytes_accepted.add(&sender.client_type, bytes);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.counts_mut().add_in(messages, bytes);
        }
        self.trim_kept(sender.session, sender.client_type.peer());
    }

    fn tell_missing(&mut self, id: ConnectionId, sender: Membership, is_kept: bool) {
        let peer = sender.client_type.peer();
        self.tell(id, &ClientError::PeerNotConnected { peer, is_kept });
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

    /// Releases a message in transit to the peer of its sender, or keeps it for a peer that is expected. Returns
    /// whether there is one. If no peer is connected, the sender is told; if none is expected, the message is
    /// dropped.
    pub(super) fn release(&mut self, id: ConnectionId, key: TransitKey) -> bool {
        let Some(Membership { session, client_type }) = self.slots.get(id).and_then(Slot::membership) else {
            debug_assert!(false, "only members send");
            return false;
        };
        self.sessions.note_activity(session, self.now.tick);
        let Some(peer) = self.sessions.peer(session, client_type) else {
            return self.release_to_absent(id, Membership { session, client_type }, key);
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

    /// Keeps a message in transit for a peer that is expected. Returns whether one is.
    fn release_to_absent(&mut self, id: ConnectionId, sender: Membership, key: TransitKey) -> bool {
        let peer = sender.client_type.peer();
        let is_kept =
            self.keeps_messages() && self.sessions.expected(sender.session, peer, self.now.tick).is_some();
        self.tell_missing(id, sender, is_kept);
        if !is_kept {
            self.pool.transits.detach_sender(key);
            return false;
        }
        let keeper = self.pool.transits.keep(key);
        let bytes = self.pool.transits.take_news(key);
        let Some(kept) = self.sessions.kept_mut(sender.session, peer) else {
            debug_assert!(false, "the peer is expected");
            return false;
        };
        kept.push_message(&self.pool.transits, keeper);
        debug!(target: SESSIONS, "conn={id} bytes={bytes} Message kept");
        self.note_kept(id, sender, 1, bytes);
        self.arm_session(sender.session);
        true
    }

    /// Tells the receiver of a released message that more of it has arrived.
    fn note_more(&mut self, id: ConnectionId, key: TransitKey) {
        let bytes = self.pool.transits.take_news(key);
        let Some(Membership { session, client_type }) = self.slots.get(id).and_then(Slot::membership) else {
            return;
        };
        self.sessions.note_activity(session, self.now.tick);
        let Some(peer) = self.sessions.peer(session, client_type) else {
            return self.note_more_kept(id, Membership { session, client_type }, bytes);
        };
        if bytes > 0 {
            if let Some(slot) = self.slots.get_mut(peer) {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                slot.connection.outbox_mut(&mut self.pool).note_more(bytes);
            }
            self.carried(id, peer, client_type).bytes += bytes;
        }
        self.touch(peer);
    }

    /// More of a message that is kept has arrived.
    fn note_more_kept(&mut self, id: ConnectionId, sender: Membership, bytes: u64) {
        let kept = self.sessions.kept_mut(sender.session, sender.client_type.peer());
        debug_assert!(kept.is_some(), "a message with a receiver has one that is expected");
        if let Some(kept) = kept {
            kept.note_more(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        self.note_kept(id, sender, 0, bytes);
    }

    /// Ends a message in transit that has arrived whole and is valid.
    fn end_transit(&mut self, id: ConnectionId, key: TransitKey, message_type: Option<&str>) {
        let is_there = self.pool.transits.get(key).is_released() || self.release(id, key);
        let is_forwarded = is_there && self.pool.transits.get(key).has_receivers();
        self.log_message(id, message_type, is_forwarded);
        if !is_there {
            return;
        }
        if self.pool.transits.get(key).is_wanted() {
            self.note_more(id, key);
        }
        self.pool.transits.end(key, self.now.wrapped_micros());
        self.forget_transit(key);
    }

    /// Whether a message was released and all its receivers have left.
    fn is_orphaned(&self, key: TransitKey) -> bool {
        let transit = self.pool.transits.get(key);
        transit.is_released() && !transit.is_wanted()
    }
}
