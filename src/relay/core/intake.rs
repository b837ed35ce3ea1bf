//! What clients send, and where it goes.

use std::io::{Read, Write};

use log::{debug, info};

use super::admission::Pass;
use super::record::End;
use super::relay::{MESSAGES, Relay};
use super::slots::{Membership, Slot};
use crate::relay::client::connection::Phase;
use crate::relay::client::inbound::{Content, Incoming, MessageType, Refused, Rules};
use crate::relay::client::outbox::{Outbox, Pool, Waiting};
use crate::relay::client::traffic::Carried;
use crate::relay::counts::counters;
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::{
    Answer, AnswerForm, HeadRules, Progress, Refusal, RefusalReason, Upgrade, Verdict, write_health,
    write_nothing, write_preflight, write_refusal, write_switching_protocols,
};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::{LINGER_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};
use crate::relay::sessions::{Joined, SessionsFull};
use crate::relay::wire::frame::Opcode;
use crate::relay::wire::json::InvalidJson;
use crate::relay::wire::message::{ClientError, CloseReason, Logged, SystemMessage};

impl<S: Read + Write> Relay<S> {
    /// Makes sense of what one read brought; `count` bytes, most of them in the receiver.
    pub(super) fn take_in(&mut self, id: ConnectionId, count: usize) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        match &mut slot.connection.phase {
            Phase::Head(reader) => {
                let rules = HeadRules {
                    // A proxy that speaks the PROXY protocol says there whom it speaks for, and nowhere else.
                    proxies: Some(&self.proxies).filter(|proxies| {
                        !self.settings.proxy_protocol && proxies.contains(slot.connection.arrival.client)
                    }),
                    origins: &self.settings.allow_origin,
                };
                let mut refused_path = None;
                let progress = reader.push_and_note(self.receiver.bytes(), rules, &mut refused_path);
                self.take_head(id, progress, refused_path.as_deref());
            }
            Phase::Open => self.take_frames(id, count),
            Phase::Closing(_) | Phase::Ending(_) => {
                if slot.connection.is_discarding_too_much(count, self.now.tick) {
                    debug!("conn={id} bytes={LINGER_BYTES_MAX} Still sending after its end");
                    self.remove(id);
                } else {
                    self.take_frames(id, count);
                }
            }
        }
    }

    fn take_head(&mut self, id: ConnectionId, progress: Progress, refused_path: Option<&str>) {
        match progress {
            Progress::NeedMore => {}
            Progress::Proxied { consumed, client } => {
                self.receiver.consume(consumed);
                if let Some(Err(refusal)) = client.map(|client| self.identify(id, client)) {
                    self.turn_away(id, refusal, AnswerForm::default());
                } else if !self.receiver.bytes().is_empty() {
                    self.take_in(id, 0);
                }
            }
            Progress::Done { consumed, client, origin, verdict } => {
                self.receiver.consume(consumed);
                let head_only = verdict.is_head_only();
                let form = AnswerForm { head_only, origin: origin.as_deref(), path: refused_path };
                match client.map_or(Ok(()), |client| self.identify(id, client)) {
                    Ok(()) => self.follow(id, verdict, form),
                    Err(refusal) => self.turn_away(id, refusal, form),
                }
            }
        }
    }

    /// Does what a request asks for.
    fn follow(&mut self, id: ConnectionId, verdict: Verdict, form: AnswerForm<'_>) {
        if !verdict.is_for_everybody()
            && let Some(refusal) = self.refusal_outside(id)
        {
            return self.refuse(id, refusal, form);
        }
        match verdict {
            Verdict::Upgrade(upgrade) => {
                self.admit(id, &upgrade);
                self.take_frames(id, 0);
            }
            Verdict::Issue(credentials) => self.issue(id, &credentials, form),
            Verdict::Health { .. } => {
                let body = self.health();
                self.note_end(id, None, End { reason: EndReason::Answered, code: 200, undelivered: 0 });
                self.answer(id, |out| write_health(&body, form, out));
            }
            Verdict::Preflight { methods } => {
                self.note_end(id, None, End { reason: EndReason::Answered, code: 204, undelivered: 0 });
                self.answer(id, |out| write_preflight(methods, form.origin, out));
            }
            Verdict::Nothing => {
                self.note_end(id, None, End { reason: EndReason::Answered, code: 204, undelivered: 0 });
                self.answer(id, write_nothing);
            }
            Verdict::Refuse { refusal, .. } => self.refuse(id, refusal, form),
        }
    }

    fn health(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let timestamp = self.now.unix_millis;
        // The one that asks is not meant.
        let (connections, sessions) = (self.connections().saturating_sub(1), self.sessions());
        format!(
            concat!(
                r#"{{"status":"healthy","service":"apptuner-relay","version":"{}","timestamp":{},"#,
                r#""connections":{},"sessions":{}}}"#
            ),
            version, timestamp, connections, sessions
        )
    }

    /// Answers in HTTP and ends the connection.
    pub(super) fn answer(&mut self, id: ConnectionId, write_answer: impl FnOnce(&mut Vec<u8>)) {
        self.queue(id, |outbox, pool| outbox.reply(pool, write_answer));
        self.end(id);
    }

    /// Refuses a request, or a connection before it has made one.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: Refusal, form: AnswerForm<'_>) {
        let reason = RefusalReason::from(refusal);
        let Answer { status, sentence, .. } = refusal.answer();
        debug!(
            "conn={id} status={status} reason={} path={} Request refused: {sentence}",
            reason.as_str(),
            Logged(form.path.unwrap_or("-"))
        );
        counters::add(&mut self.counters.requests_refused, reason as usize, 1);
        let end = End { reason: EndReason::Refused, code: status, undelivered: 0 };
        self.note_end(id, None, end);
        self.answer(id, |out| write_refusal(refusal, form, out));
    }

    /// Lets a client into its session, or says why not.
    fn admit(&mut self, id: ConnectionId, upgrade: &Upgrade) {
        debug_assert!(
            self.drain.is_none(),
            "no session begins during a shutdown: requests are refused by then"
        );
        let path = upgrade.path();
        let form = AnswerForm { path: Some(&path), ..AnswerForm::default() };
        let Pass { claim } = match self.authorize(id, upgrade) {
            Ok(pass) => pass,
            Err(refusal) => return self.refuse_unproven(id, refusal, form),
        };
        if claim.is_none() && self.is_place_contested(id, upgrade) {
            return self.refuse(id, Refusal::Contested, form);
        }
        if claim.is_some() {
            self.expel_unproven(&upgrade.session_id);
        }
        let Ok(joined) = self.join(id, upgrade) else {
            return self.refuse(id, Refusal::ConnectionLimit, form);
        };
        if let Some(claim) = claim {
            self.sessions.claim(joined.session, claim);
        }
        self.welcome(id, upgrade, joined);
    }

    /// Gives a client its place in its session.
    fn join(&mut self, id: ConnectionId, upgrade: &Upgrade) -> Result<Joined, SessionsFull> {
        let Upgrade { client_type, session_id, .. } = upgrade;
        let session = self.sessions.find(session_id).and_then(|key| self.sessions.get(key));
        if let Some(old) = session.and_then(|session| session.client(*client_type))
            && let Some(membership) = self.slots.get(old).and_then(Slot::membership)
        {
            // This may end its peer, of which the newcomer is to know.
            self.cut_unfinished(old, membership);
        }
        let now = self.now.tick;
        self.sessions.join(session_id, *client_type, id, now).or_else(|SessionsFull| {
            self.end_longest_empty_session();
            self.sessions.join(session_id, *client_type, id, now)
        })
    }

    /// What follows from a join: the answer to the upgrade, what the newcomer has to know, what was waiting for the
    /// connection that it replaces, and the news for its peer.
    fn welcome(&mut self, id: ConnectionId, upgrade: &Upgrade, joined: Joined) {
        let Upgrade { client_type, session_id, .. } = upgrade;
        let client_type = *client_type;
        counters::add(&mut self.counters.joins, client_type as usize, 1);
        let logged = Logged(session_id.as_str());
        info!("conn={id} session={logged} {} connected to session {logged}", client_type.title());
        let waiting = match joined.replaced {
            Some(old) => {
                self.note_replacement(id, old, joined.session, client_type);
                self.replace(old, client_type)
            }
            None => Waiting::default(),
        };
        let lost = waiting.lost;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.join(Membership { session: joined.session, client_type });
            slot.connection.open(&self.settings);
        }
        let now = self.now.unix_millis;
        self.queue(id, |outbox, pool| {
            outbox.reply(pool, |out| {
                write_switching_protocols(upgrade, out);
                SystemMessage::Connected(client_type, session_id).write_frame(now, out);
                if joined.peer.is_some() {
                    SystemMessage::PeerConnected(client_type.peer()).write_frame(now, out);
                }
            });
            outbox.append(waiting);
        });
        if let Some(peer) = joined.peer {
            self.tell_undelivered(peer, lost);
            self.notify(peer, SystemMessage::PeerConnected(client_type));
            // What held the peer back waited for the connection that was replaced.
            self.make_ready(peer);
        }
        self.arm_session(joined.session);
    }

    /// Takes all whole things out of what was read, and keeps the rest.
    fn take_frames(&mut self, id: ConnectionId, count: usize) {
        let now = self.now.tick;
        let mut messages = 0;
        while let Some(slot) = self.slots.get_mut(id) {
            let transits = &mut self.pool.transits;
            let rules = Rules {
                size_max: self.settings.max_message_size,
                wants_type: self.settings.answer_pings || self.is_logging_messages,
                requires_json: true,
                // What may have to be answered is not given to anybody before it is whole.
                small_bytes_max: if self.settings.answer_pings {
                    SMALL_MESSAGE_BYTES_MAX
                } else {
                    transits.memory.small_message_bytes_max()
                },
                discard: false,
            };
            match slot.connection.next_incoming(&mut self.receiver, transits, rules, now) {
                Ok(Some(incoming)) => {
                    messages += u64::from(incoming.is_message());
                    self.take_incoming(id, incoming);
                }
                Ok(None) => break,
                Err(Refused { reason, error, is_framing_intact }) => {
                    self.fail(id, &reason, error.as_ref(), is_framing_intact);
                }
            }
        }
        self.receiver.clear();
        self.advance_transit(id);
        self.credit();
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.spend(messages, count, now);
        }
    }

    fn take_incoming(&mut self, id: ConnectionId, incoming: Incoming) {
        match incoming {
            Incoming::Text(content, checked) => self.take_text(id, content, checked),
            Incoming::Binary(content) => {
                self.forward(id, Opcode::Binary, content, None);
            }
            Incoming::Ping(payload) => self.pong(id, &payload),
            Incoming::Pong => self.note_pong(id),
            Incoming::Skipped(None) => {}
            Incoming::Skipped(Some(error)) => self.tell(id, &ClientError::InvalidJson(error)),
            Incoming::Close { code, answer } => self.close_from_client(id, code, &answer),
        }
    }

    fn take_text(
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

    pub(super) fn log_message(&self, id: ConnectionId, message_type: Option<&str>, is_forwarded: bool) {
        if !self.is_logging_messages {
            return;
        }
        let Some(membership) = self.slots.get(id).and_then(Slot::membership) else { return };
        let Some(session) = self.sessions.get(membership.session) else { return };
        info!(
            target: MESSAGES,
            "conn={id} session={} forwarded={is_forwarded} Message from {}: {}",
            Logged(session.id.as_str()),
            membership.client_type.as_str(),
            Logged(message_type.unwrap_or("-")),
        );
    }

    /// Queues an application message for the peer, or tells the sender that there is none.
    fn forward(&mut self, id: ConnectionId, opcode: Opcode, content: Content, message_type: Option<&str>) {
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

    /// Puts down to both sides what was carried from one to the other, before either is asked for it or leaves.
    pub(super) fn credit(&mut self) {
        let Some(Carried { from, to, sender, messages, small_messages, bytes }) = self.carried.take() else {
            return;
        };
        counters::add(&mut self.counters.messages_accepted, sender as usize, messages);
        counters::add(&mut self.counters.bytes_accepted, sender as usize, bytes);
        let now = self.now.wrapped_micros();
        if let Some(slot) = self.slots.get_mut(from) {
            slot.connection.tally_mut().add_in(messages, bytes);
        }
        if let Some(slot) = self.slots.get_mut(to) {
            slot.connection.tally_mut().add_out(messages, bytes);
            if small_messages > 0 {
                slot.connection.outbox_mut(&mut self.pool).note_arrivals(small_messages, now);
            }
        }
    }

    fn note_pong(&mut self, id: ConnectionId) {
        let now = self.now.tick;
        let round_trip = self.slots.get_mut(id).and_then(|slot| slot.connection.note_pong(now));
        if let Some(round_trip) = round_trip {
            let millis = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
            self.counters.ping_millis.observe(millis, 1);
        }
    }

    fn pong(&mut self, id: ConnectionId, payload: &[u8]) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.pong(payload, &mut self.pool);
            self.touch(id);
        }
    }

    /// Tells a client what went wrong with what it sent.
    pub(super) fn tell(&mut self, id: ConnectionId, error: &ClientError) {
        self.note_error(id, error);
        self.reply(id, SystemMessage::Error(error));
    }

    /// Counts and logs an error that a client is told.
    pub(super) fn note_error(&mut self, id: ConnectionId, error: &ClientError) {
        counters::add(&mut self.counters.errors_sent, error.code_index(), 1);
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.connection.tally_mut().errors += 1;
        let session = slot.membership().and_then(|membership| self.sessions.get(membership.session));
        let session = session.map_or("-", |session| session.id.as_str());
        debug!(
            "conn={id} client={} session={} error={} Client told: {error}",
            slot.client_type().as_str(),
            Logged(session),
            error.code(),
        );
    }

    /// Answers a client ahead of everything that waits for it.
    pub(super) fn reply(&mut self, id: ConnectionId, message: SystemMessage<'_>) {
        let now = self.now.unix_millis;
        self.queue(id, |outbox, pool| outbox.reply(pool, |out| message.write_frame(now, out)));
    }

    /// Tells a client news of its peer, in their place among the peer's messages; one that has left too many
    /// of them unread is closed instead.
    pub(super) fn notify(&mut self, id: ConnectionId, message: SystemMessage<'_>) {
        let now = self.now.unix_millis;
        self.queue(id, |outbox, _| outbox.push_own(|out| message.write_frame(now, out)));
        let outbox = self.slots.get(id).and_then(|slot| slot.connection.outbox());
        if outbox.is_some_and(Outbox::is_queue_full_of_notices) {
            self.fail(id, &CloseReason::NoticesUnread, None, true);
        }
    }

    /// Puts something into a client's outbox, to be written at the end of the turn.
    pub(super) fn queue(&mut self, id: ConnectionId, put: impl FnOnce(&mut Outbox, &mut Pool)) {
        if let Some(slot) = self.slots.get_mut(id) {
            put(slot.connection.outbox_mut(&mut self.pool), &mut self.pool);
            self.touch(id);
        }
    }
}
