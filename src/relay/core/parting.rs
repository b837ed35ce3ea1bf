//! How connections and sessions end, and which clients are told.

use std::io::{Read, Write};

use log::{debug, info};

use super::record::{End, SESSIONS};
use super::relay::Relay;
use super::slots::{Membership, Slot};
use crate::relay::client::connection::Phase;
use crate::relay::client::inbound::Violation;
use crate::relay::client::outbox::{Outbox, RemovedMessage, Undelivered};
use crate::relay::counts::end_reason::EndReason;
use crate::relay::effect::Effect;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::limits::CLOSE_TIMEOUT;
use crate::relay::sessions::{Left, Session, SessionKey};
use crate::relay::time::Tick;
use crate::relay::transit::TransitKey;
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::message::{Logged, SystemMessage};

/// The code in the log when no close frame ended a connection (RFC 6455, section 7.4.1).
const ABNORMAL_CLOSURE: u16 = 1006;

impl<S: Read + Write> Relay<S> {
    /// Answers a client's close, and lets the stream end.
    pub(super) fn close_from_client(&mut self, id: ConnectionId, code: u16, answer: &CloseReason) {
        let now = self.now.tick;
        self.leave(id, EndReason::ClientClosed, code);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.answer_close(answer, &self.receiver, &mut self.pool, now);
            self.touch(id);
        }
    }

    /// Closes a client that did what the relay does not allow, or was too slow, and tells it why.
    pub(super) fn fail(&mut self, id: ConnectionId, reason: CloseReason) {
        self.fail_for(id, &Violation::from(reason));
    }

    /// Closes a client for what it sent, and tells it why.
    pub(super) fn fail_for(&mut self, id: ConnectionId, violation: &Violation) {
        let Violation { reason, error, is_framing_intact } = violation;
        let now = self.now.tick;
        let end_reason = EndReason::from(reason);
        debug!(
            "conn={id} reason={} code={} Closing: {}",
            end_reason.as_str(),
            reason.code(),
            Logged(reason.shown())
        );
        if let Some(error) = error {
            // Before it leaves, so that the line of its end counts this error.
            self.note_error(id, error);
        }
        self.leave(id, end_reason, reason.code());
        if let Some(error) = error {
            self.reply(id, SystemMessage::Error(error));
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.fail(reason, *is_framing_intact, &mut self.pool, now);
            self.touch(id);
        }
    }

    /// Tells a client that shows no life why it is closed, as far as its socket takes it, and drops it.
    pub(super) fn cut(&mut self, id: ConnectionId, reason: CloseReason) {
        self.fail_for(id, &Violation { is_framing_intact: false, ..Violation::from(reason) });
        let now = self.now.tick;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.cut(&mut self.pool, now);
        }
    }

    /// Ends a client that has ended its stream. Answers that wait for it are still written.
    pub(super) fn end_of_stream(&mut self, id: ConnectionId) {
        self.note_loss(id);
        self.end_after_input(id);
    }

    fn end_after_input(&mut self, id: ConnectionId) {
        let now = self.now.tick;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.end_after_input(&mut self.pool, now);
            self.touch(id);
        }
    }

    /// Drops a client whose stream has failed.
    pub(super) fn lose(&mut self, id: ConnectionId) {
        self.note_loss(id);
        self.remove(id);
    }

    /// Notes that a client is gone without a close frame, before or after it joined a session.
    fn note_loss(&mut self, id: ConnectionId) {
        let is_request =
            self.slots.get(id).is_some_and(|slot| matches!(slot.connection.phase, Phase::Head(_)));
        if is_request {
            self.note_request_end(id, End::of_request(EndReason::Lost, 0));
        }
        self.leave(id, EndReason::Lost, ABNORMAL_CLOSURE);
    }

    /// Takes a client out of its session and tells its peer: first how many messages of the peer it will not get,
    /// then that it is gone. What it has not confirmed or received is kept for its return, if it is expected. Does
    /// nothing if the client is in no session any more.
    pub(super) fn leave(&mut self, id: ConnectionId, reason: EndReason, code: u16) {
        self.credit();
        let Some(membership) = self.slots.get_mut(id).and_then(Slot::leave) else { return };
        self.cut_unfinished(id, membership);
        let mut messages = self.take_messages(id);
        // What is kept may never reach a client that joined without the secret with which the session was claimed.
        let is_expected = self.keeps_messages() && reason != EndReason::Unproven;
        let (undelivered, kept) = if is_expected {
            // These are counted now; what is kept counts when it is given up.
            let given_up = std::mem::take(&mut messages.given_up) + messages.trim(&mut self.pool);
            (given_up, Some(messages))
        } else {
            (messages.discard(&mut self.pool), None)
        };
        let has_kept = kept.as_ref().map_or(0, Undelivered::messages);
        let Some(slot) = self.slots.get_mut(id) else { return };
        let host = slot.connection.remote.address.host();
        self.note_end(id, membership, End { reason, code, undelivered, kept: has_kept });
        let client_type = membership.client_type;
        let left = self.sessions.leave(membership.session, client_type, id, (host, kept), self.now.tick);
        let Left::Gone(peer) = left else { return };
        if let Some(session) = self.sessions.get(membership.session) {
            let logged = Logged(session.id.as_str());
            let title = client_type.title();
            info!(target: SESSIONS, "conn={id} session={logged} {title} disconnected from session {logged}: {code}");
        }
        match peer {
            Some(peer) => {
                self.tell_undelivered(peer, undelivered);
                self.notify(peer, SystemMessage::PeerDisconnected(client_type));
                // The peer may have been held back by what waited for this client.
                self.make_ready(peer);
                if has_kept > 0 {
                    self.arm_session(membership.session);
                }
            }
            // No client can return to it during a shutdown.
            None if self.drain.is_some() => drop(self.end_session(membership.session)),
            None => self.arm_session(membership.session),
        }
    }

    /// Queues a notice about the peer behind the messages that wait. Closes a client that leaves too many notices
    /// unread.
    pub(super) fn notify(&mut self, id: ConnectionId, message: SystemMessage<'_>) {
        let now = self.now.unix_millis;
        self.queue(id, |outbox, _| outbox.push_relay_frame(|out| message.write_frame(now, out)));
        let outbox = self.slots.get(id).and_then(|slot| slot.connection.outbox());
        if outbox.is_some_and(Outbox::is_queue_full_of_notices) {
            self.fail(id, CloseReason::NoticesUnread);
        }
    }

    /// Closes a client from the relay's side. The close frame goes behind everything that waits for the client.
    pub(super) fn close(&mut self, id: ConnectionId, reason: &CloseReason, deadline: Tick) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.close(reason, &mut self.pool, deadline, self.now.tick);
            self.touch(id);
        }
    }

    /// Closes the clients of a session that has ended. Each is told how many of its messages the other did not get.
    pub(super) fn close_session(&mut self, session: &Session) {
        let clients =
            [ClientType::Desktop, ClientType::Mobile].map(|client_type| session.client(client_type));
        let [desktop, mobile] = clients;
        // What waits for a client that has a part is taken next, like what waits for the others.
        self.cut_unfinished_in(session);
        let sides = [(ClientType::Desktop, desktop, mobile), (ClientType::Mobile, mobile, desktop)];
        // Both are told before the end of either is noted: its line in the log has the number of errors.
        let undelivered = sides.map(|(_, client, peer)| {
            let messages = client.map_or_else(Undelivered::default, |client| self.take_messages(client));
            let undelivered = messages.discard(&mut self.pool);
            if let Some(peer) = peer {
                self.tell_undelivered(peer, undelivered);
            }
            undelivered
        });
        for ((client_type, client, _), undelivered) in sides.into_iter().zip(undelivered) {
            let Some((id, slot)) = client.and_then(|client| Some((client, self.slots.get_mut(client)?)))
            else {
                continue;
            };
            slot.leave();
            let end = End { reason: EndReason::SessionTimeout, code: 1000, undelivered, kept: 0 };
            self.note_end_with_session(id, client_type, session.id.as_str(), end);
        }
        let deadline = self.now.tick.after(CLOSE_TIMEOUT);
        for client in clients.into_iter().flatten() {
            self.close(client, &CloseReason::SessionTimeout, deadline);
        }
    }

    /// Ends a session. A client is told only if what was kept of its messages is given up.
    pub(super) fn end_session(&mut self, key: SessionKey) -> Option<Session> {
        // A shutdown has the keys of sessions that have ended.
        if !self.sessions.contains(key) {
            return None;
        }
        for client_type in ClientType::ALL {
            self.give_up_kept(key, client_type);
        }
        let session = self.sessions.remove(key)?;
        self.note_session_end(&session);
        Some(session)
    }

    /// Cuts short the message that a client has begun to send. `membership` is its membership in the session, which
    /// it may have left already.
    pub(super) fn cut_unfinished(&mut self, id: ConnectionId, membership: Membership) {
        let transit = self.slots.get(id).and_then(|slot| slot.connection.inbound.transit());
        if let Some((key, _)) = transit {
            self.skip(id, true);
            self.cut_transit(membership, key);
        }
    }

    /// Cuts short the messages that the clients of an ended session have begun to send. The clients are about to be
    /// closed. Returns those that have a part of such a message: nothing that waits for them can follow it.
    pub(super) fn cut_unfinished_in(&mut self, session: &Session) -> Vec<ConnectionId> {
        let mut begun = Vec::new();
        for sender in ClientType::ALL {
            let Some(id) = session.client(sender) else { continue };
            let transit = self.slots.get(id).and_then(|slot| slot.connection.inbound.transit());
            let Some((key, _)) = transit else { continue };
            self.skip(id, true);
            // The receiver may have left before.
            if let Some(receiver) = session.client(sender.peer())
                && self.cut_for(receiver, sender, key)
            {
                begun.push(receiver);
            }
            self.forget_transit(key);
        }
        begun
    }

    /// Takes a message that will never be whole from its receiver. A receiver that has a part of it is closed,
    /// because WebSocket has no way to take the part back.
    pub(super) fn cut_transit(&mut self, sender: Membership, key: TransitKey) {
        let receiver = self.sessions.peer(sender.session, sender.client_type);
        let is_begun = receiver.is_some_and(|receiver| self.cut_for(receiver, sender.client_type, key));
        let kept = self.sessions.kept_mut(sender.session, sender.client_type.peer());
        if kept.is_some_and(|kept| kept.remove_incomplete(key, &mut self.pool.transits)) {
            self.counters.messages_cut_short.add(&sender.client_type, 1);
            // With nothing kept, the session may end before the window is over.
            self.arm_session(sender.session);
        }
        self.forget_transit(key);
        if is_begun && let Some(receiver) = receiver.filter(|&receiver| self.is_member(receiver)) {
            self.fail(receiver, CloseReason::CutShort);
        }
    }

    /// Takes a message from one receiver. Returns whether the receiver has a part of it.
    fn cut_for(&mut self, receiver: ConnectionId, sender: ClientType, key: TransitKey) -> bool {
        // Counts the message as accepted before it is counted as cut short.
        self.credit();
        let Some(slot) = self.slots.get_mut(receiver) else { return false };
        let Some(cut) = slot.connection.remove_incomplete_message(key, &mut self.pool) else { return false };
        debug!(target: SESSIONS, "conn={receiver} cut={cut:?} Message cut short");
        self.counters.messages_cut_short.add(&sender, 1);
        self.touch(receiver);
        cut == RemovedMessage::Begun
    }

    /// Detaches a message from its sender. If it was released, its size is measured.
    pub(super) fn forget_transit(&mut self, key: TransitKey) {
        let transit = self.pool.transits.get(key);
        if transit.is_released() {
            self.counters.message_bytes.observe(transit.noted_bytes(), 1);
        }
        self.pool.transits.detach_sender(key);
    }

    /// Skips the rest of the message that a client is sending.
    pub(super) fn skip(&mut self, id: ConnectionId, is_told: bool) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.inbound.skip_transit(is_told);
        }
    }

    fn is_member(&self, id: ConnectionId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.membership().is_some())
    }

    /// Removes a connection and gives its stream back to the host.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if self.slots.find(id).is_none() {
            return;
        }
        // Messages can be left if it has left its session with a queue, as in a shutdown.
        let undelivered = self.take_messages(id).discard(&mut self.pool);
        let Some(mut slot) = self.slots.remove(id) else { return };
        self.starved_clients -= usize::from(slot.is_starved);
        let sender = slot.client_type().peer();
        self.counters.messages_undelivered.add(&sender, undelivered);
        slot.connection.inbound.abandon(&mut self.pool.transits);
        debug_assert!(slot.membership().is_none(), "a connection leaves its session before it is removed");
        if let Some(alarm) = slot.timer {
            self.wheel.cancel(alarm.key);
        }
        self.pool.transits.memory.charge_small(slot.charged_bytes, 0);
        self.gate.release(&slot.connection.remote);
        self.settle_hosts();
        self.effects.push_back(Effect::Close { id, stream: slot.connection.stream });
        debug!("conn={id} Gone");
        if let Some(retry) = self.accept_retry.take() {
            // A descriptor is free now.
            self.wheel.cancel(retry);
        }
    }
}
