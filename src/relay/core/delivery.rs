//! Confirmation, and what is kept until then: when a message counts as delivered, and when it is given up.
//!
//! | a message that was accepted | counts as | when |
//! | --- | --- | --- |
//! | is confirmed by a pong | delivered | the pong comes |
//! | is written to a client that cannot confirm | delivered | its last byte is written |
//! | is written, and memory is needed while its receiver is connected | delivered | its memory is freed |
//! | is kept for a client that is away, and memory is needed or too much is kept | undelivered | its memory is freed |
//! | is kept for a client that does not come back in time | undelivered | the redelivery window ends |
//! | was written on three connections and never confirmed | undelivered | the third connection ends |

use std::io::{Read, Write};

use log::debug;

use super::record::SESSIONS;
use super::relay::Relay;
use super::slots::{Membership, Slot};
use crate::relay::client::connection::Evicted;
use crate::relay::client::outbox::{ArrivalGroup, Unconfirmed, Undelivered};
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::sessions::SessionKey;
use crate::relay::wire::message::{Logged, SystemMessage};

impl<S: Read + Write> Relay<S> {
    /// Whether messages are kept for clients that come back: not during a shutdown, in which none can.
    pub(super) const fn keeps_messages(&self) -> bool {
        self.pool.transits.keeps_written() && self.drain.is_none()
    }

    /// Handles a pong, which may confirm messages.
    pub(super) fn confirm(&mut self, id: ConnectionId, payload: &[u8]) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(membership) = slot.membership() else { return };
        let Some(messages) = slot.connection.confirm(payload, &mut self.pool) else { return };
        slot.connection.counts_mut().confirmed += messages;
        self.unlist_unconfirmed(id);
        self.list_unconfirmed(id);
        debug!(target: SESSIONS, "conn={id} messages={messages} Confirmed");
        let now = self.now.wrapped_micros();
        for ArrivalGroup { micros, messages } in self.pool.confirmed.drain(..) {
            let millis = u64::from(now.wrapping_sub(micros) / 1_000);
            self.counters.confirm_millis.observe(millis, u64::from(messages));
        }
        self.counters.messages_confirmed.add(&membership.client_type.peer(), messages);
        self.note_delivered(membership, messages);
        // The flush that follows asks for the rest.
        self.touch(id);
    }

    /// Counts messages for a receiver as delivered, and tells their sender if it asked for that.
    pub(super) fn note_delivered(&mut self, receiver: Membership, messages: u64) {
        if messages == 0 {
            return;
        }
        let sender = receiver.client_type.peer();
        self.counters.messages_delivered.add(&sender, messages);
        if !self.pool.transits.keeps_written() {
            return;
        }
        let sender = self.sessions.peer(receiver.session, receiver.client_type);
        if let Some(sender) = sender
            && self.slots.get(sender).is_some_and(|slot| slot.connection.wants_receipts())
        {
            self.reply(sender, SystemMessage::Delivered(messages));
        }
    }

    /// A client has shown that it answers no pings. From now on its messages count as delivered once they are written.
    pub(super) fn stop_keeping(&mut self, id: ConnectionId) {
        self.unlist_unconfirmed(id);
        let Some(slot) = self.slots.get_mut(id) else { return };
        if !slot.connection.is_keeping() {
            return;
        }
        let messages = slot.connection.stop_keeping(&mut self.pool);
        debug!(target: SESSIONS, "conn={id} messages={messages} No longer asked to confirm");
        if let Some(membership) = self.slots.get(id).and_then(Slot::membership) {
            self.note_delivered(membership, messages);
        }
    }

    /// Takes the messages that a client has not confirmed, or not received in full.
    pub(super) fn take_messages(&mut self, id: ConnectionId) -> Undelivered {
        self.unlist_unconfirmed(id);
        let slot = self.slots.get_mut(id);
        slot.map_or_else(Undelivered::default, |slot| slot.connection.take_messages(&mut self.pool))
    }

    /// Puts a client with something that gives way at the end of the order in which it does.
    pub(super) fn list_unconfirmed(&mut self, id: ConnectionId) {
        // Its links are dropped with what is idle, so it must be out of the order before.
        let keeps_written = self.pool.transits.keeps_written();
        let is_idle = |slot: &Slot<S>| slot.connection.unconfirmed().is_some_and(Unconfirmed::is_idle);
        if self.slots.get(id).is_some_and(is_idle) {
            self.unlist_unconfirmed(id);
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.connection.drop_idle_unconfirmed();
        if keeps_written {
            slot.connection.remember_start();
        }
        let unconfirmed = slot.connection.unconfirmed_mut().filter(|unconfirmed| !unconfirmed.is_listed);
        if let Some(unconfirmed) = unconfirmed {
            unconfirmed.is_listed = true;
            self.unconfirmed.push_back(id, &mut self.slots);
        }
    }

    /// Takes a client out of that order.
    pub(super) fn unlist_unconfirmed(&mut self, id: ConnectionId) {
        let unconfirmed = self.slots.get_mut(id).and_then(|slot| slot.connection.unconfirmed_mut());
        if unconfirmed.is_some_and(|unconfirmed| std::mem::take(&mut unconfirmed.is_listed)) {
            self.unconfirmed.remove(id, &mut self.slots);
        }
    }

    /// Frees cached memory until the next read finds what the limits promise: first what is written and not confirmed,
    /// then what is kept for clients that are away.
    pub(super) fn make_room(&mut self) {
        while self.pool.transits.memory.is_crowded() {
            if !self.evict_unconfirmed() && !self.evict_kept() {
                break;
            }
        }
    }

    /// Gives up the oldest item that is written and not confirmed. Returns false if there is none.
    fn evict_unconfirmed(&mut self) -> bool {
        while let Some(id) = self.unconfirmed.first {
            let evicted = self.slots.get_mut(id).and_then(|slot| slot.connection.evict(&mut self.pool));
            match evicted {
                Some(Evicted::Messages(messages)) => {
                    debug!(target: SESSIONS, "conn={id} messages={messages} Not kept: memory is short");
                    if let Some(membership) = self.slots.get(id).and_then(Slot::membership) {
                        self.note_delivered(membership, messages);
                    }
                    return true;
                }
                Some(Evicted::Start) => {
                    debug!(target: SESSIONS, "conn={id} messages=0 Not kept: memory is short");
                    return true;
                }
                // It is listed again once it has more.
                None => self.unlist_unconfirmed(id),
            }
        }
        false
    }

    /// Gives up what is kept for the client that has been gone for longest, as far as necessary. Returns false if
    /// nothing is kept.
    fn evict_kept(&mut self) -> bool {
        let Some((session, client_type)) = self.sessions.longest_gone() else { return false };
        let mut messages = 0;
        while self.pool.transits.memory.is_crowded()
            && let Some(kept) = self.sessions.kept_mut(session, client_type)
            && kept.messages() > 0
        {
            messages += kept.evict(&mut self.pool);
        }
        self.note_given_up(session, client_type, messages);
        // With nothing kept, the session may end before the window is over.
        self.arm_session(session);
        true
    }

    /// Keeps no more for a client that is away than one client may have.
    pub(super) fn trim_kept(&mut self, session: SessionKey, client_type: ClientType) {
        let Some(kept) = self.sessions.kept_mut(session, client_type) else { return };
        let messages = kept.trim(&mut self.pool);
        self.note_given_up(session, client_type, messages);
    }

    /// Gives up everything that is kept for a client that is away, and no longer expects it.
    pub(super) fn give_up_kept(&mut self, session: SessionKey, client_type: ClientType) {
        let messages = self.sessions.take_kept(session, client_type).discard(&mut self.pool);
        self.note_given_up(session, client_type, messages);
    }

    /// Gives up everything that a client has not confirmed or received.
    pub(super) fn give_up_messages(
        &mut self,
        receiver: ConnectionId,
        session: SessionKey,
        client_type: ClientType,
    ) {
        let messages = self.take_messages(receiver).discard(&mut self.pool);
        self.note_given_up(session, client_type, messages);
    }

    /// Counts messages for a client as given up, and tells the place that sent them, if a client is there.
    fn note_given_up(&mut self, session: SessionKey, receiver: ClientType, messages: u64) {
        if messages == 0 {
            return;
        }
        let sender = receiver.peer();
        if let Some(session) = self.sessions.get(session) {
            let (session, receiver) = (Logged(session.id.as_str()), receiver.as_str());
            debug!(target: SESSIONS, "session={session} client={receiver} messages={messages} Given up");
        }
        self.counters.messages_undelivered.add(&sender, messages);
        if self.pool.transits.keeps_written() {
            self.counters.messages_given_up.add(&sender, messages);
        }
        if let Some(sender) = self.sessions.peer(session, receiver) {
            self.tell_undelivered(sender, messages);
        }
    }
}
