//! How a client joins a session, and what happens to the client that it replaces.

use std::io::{Read, Write};

use log::{debug, info, warn};

use super::record::{End, SESSIONS};
use super::relay::Relay;
use super::slots::Membership;
use crate::relay::access::credentials::Credentials;
use crate::relay::access::gate::{Pass, SessionAccess};
use crate::relay::access::secret::{Secret, SecretHash};
use crate::relay::address::{ClientAddress, Host};
use crate::relay::client::outbox::Undelivered;
use crate::relay::counts::end_reason::EndReason;
use crate::relay::hook::Member;
use crate::relay::http::{AnswerForm, Refusal, Upgrade, write_issued, write_switching_protocols};
use crate::relay::ids::{ClientType, ConnectionId, SessionId};
use crate::relay::limits::CLOSE_TIMEOUT;
use crate::relay::sessions::{Joined, Session, SessionKey, SessionsFull};
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::message::{Logged, SystemMessage};

/// The path where sessions are issued, for the log.
const SESSIONS_PATH: &str = "/sessions";

impl<S: Read + Write> Relay<S> {
    /// Lets a client join its session, or refuses it.
    pub(super) fn admit(&mut self, id: ConnectionId, upgrade: &Upgrade) {
        debug_assert!(
            self.drain.is_none(),
            "no session begins during a shutdown: requests are refused by then"
        );
        let path = upgrade.path();
        let form = AnswerForm { path: Some(&path), ..AnswerForm::default() };
        let key = self.sessions.find(&upgrade.session_id);
        let claim = match self.judge(id, upgrade, key) {
            Ok(claim) => claim,
            Err(refusal) => return self.refuse_unproven(id, refusal, form),
        };
        if let Some(key) = key {
            if claim.is_none() && self.is_place_contested(id, upgrade.client_type, key) {
                return self.refuse(id, Refusal::Contested, form);
            }
            if claim.is_some() {
                self.expel_unproven(key);
            } else {
                self.make_room();
            }
            self.cut_replaced(upgrade.client_type, key);
        }
        let kept =
            key.map_or_else(Undelivered::default, |key| self.sessions.take_kept(key, upgrade.client_type));
        let Ok(joined) = self.join(id, upgrade) else {
            return self.refuse(id, Refusal::ConnectionLimit, form);
        };
        if let Some(claim) = claim {
            self.sessions.claim(joined.session, claim);
        }
        self.welcome(id, upgrade, joined, kept);
    }

    /// Judges the credentials of a client for the session that it wants to join. Returns the claim that it makes on
    /// the session. `key` is that of the session, if there is one.
    fn judge(
        &mut self,
        id: ConnectionId,
        upgrade: &Upgrade,
        key: Option<SessionKey>,
    ) -> Result<Option<SecretHash>, Refusal> {
        let Some(slot) = self.slots.get(id) else { return Ok(None) };
        // The host may have been locked out after it connected.
        self.gate.check_lock_out(slot.connection.remote.address, self.now.tick)?;
        let session = key.and_then(|key| self.sessions.get(key));
        let state = match session.map(Session::claimed) {
            None => SessionAccess::Missing,
            Some(None) => SessionAccess::Unclaimed,
            Some(Some(hash)) => SessionAccess::Claimed(hash),
        };
        let Pass { claim, key_name } =
            self.gate.judge_join(upgrade.client_type, &upgrade.credentials, state)?;
        if let Some(name) = key_name {
            info!(target: SESSIONS, "conn={id} key={name} API key accepted");
        }
        let member =
            Member { key_name, ..slot.as_member(id, upgrade.client_type, upgrade.session_id.as_str()) };
        if self.hook.may_join(&member) { Ok(claim) } else { Err(Refusal::Hook) }
    }

    /// Whether clients replace each other on this side of the session so often that newcomers are refused.
    fn is_place_contested(&mut self, id: ConnectionId, client_type: ClientType, key: SessionKey) -> bool {
        let now = self.now.tick;
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(there) = session.client(client_type) else { return false };
        let is_contested = session.refuses_newcomer(client_type, now);
        if is_contested {
            self.warn_of_contest(id, there, key, client_type);
        }
        is_contested
    }

    /// Closes the clients of a session that is about to be claimed, because they joined without its secret. What is
    /// kept in the session, or not confirmed, is given up; its senders are told before they are closed.
    fn expel_unproven(&mut self, key: SessionKey) {
        for receiver in ClientType::ALL {
            self.give_up_kept(key, receiver);
            let client = self.sessions.get(key).and_then(|session| session.client(receiver));
            if let Some(client) = client {
                self.give_up_messages(client, key, receiver);
            }
        }
        for client_type in ClientType::ALL {
            let client = self.sessions.get(key).and_then(|session| session.client(client_type));
            if let Some(client) = client {
                self.fail(client, CloseReason::Claimed);
            }
        }
    }

    /// Cuts short what the client that is about to be replaced has begun to send. This may close its peer, so it comes
    /// before the join: the new client must be told of the session as it is then.
    fn cut_replaced(&mut self, client_type: ClientType, session: SessionKey) {
        if let Some(old) = self.sessions.get(session).and_then(|session| session.client(client_type)) {
            self.cut_unfinished(old, Membership { session, client_type });
        }
    }

    /// Makes the connection a member of its session.
    fn join(&mut self, id: ConnectionId, upgrade: &Upgrade) -> Result<Joined, SessionsFull> {
        let Upgrade { client_type, session_id, .. } = upgrade;
        let now = self.now.tick;
        self.sessions.join(session_id, *client_type, id, now).or_else(|SessionsFull| {
            self.end_longest_empty_session();
            self.sessions.join(session_id, *client_type, id, now)
        })
    }

    /// Completes a join: sends the answer to the upgrade, the system messages, and what waited for the connection
    /// that was replaced; then tells the peer.
    fn welcome(&mut self, id: ConnectionId, upgrade: &Upgrade, joined: Joined, kept: Undelivered) {
        let Upgrade { client_type, session_id, .. } = upgrade;
        let client_type = *client_type;
        self.counters.joins.add(&client_type, 1);
        let logged = Logged(session_id.as_str());
        info!(target: SESSIONS, "conn={id} session={logged} {} connected to session {logged}", client_type.title());
        let waiting = match joined.replaced {
            Some(old) => {
                self.note_replacement(id, old, joined.session, client_type);
                self.replace(old, client_type)
            }
            None => kept,
        };
        let lost = waiting.given_up;
        let [again, _] = waiting.written();
        self.counters.messages_redelivered.add(&client_type.peer(), again);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.join(Membership { session: joined.session, client_type });
            slot.connection.open(&self.settings);
            if again > 0 {
                slot.connection.counts_mut().redelivered += again;
            }
            if upgrade.wants_receipts && self.pool.transits.keeps_written() {
                slot.connection.want_receipts();
            }
            self.hook.joined(&slot.as_member(id, client_type, session_id.as_str()));
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
        });
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.append(waiting, &mut self.pool);
        }
        if let Some(peer) = joined.peer {
            self.tell_undelivered(peer, lost);
            self.notify(peer, SystemMessage::PeerConnected(client_type));
            // The peer may have been held back by what waited for the old connection.
            self.make_ready(peer);
        }
        self.arm_session(joined.session);
    }

    /// Notes that a client has replaced another one.
    fn note_replacement(
        &mut self,
        id: ConnectionId,
        old: ConnectionId,
        key: SessionKey,
        client_type: ClientType,
    ) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.note_replacement(client_type, self.now.tick);
        }
        self.warn_of_contest(id, old, key, client_type);
    }

    /// Closes a connection that was replaced. Returns the messages that it did not get or confirm.
    pub(super) fn replace(&mut self, old: ConnectionId, client_type: ClientType) -> Undelivered {
        let mut waiting = self.take_messages(old);
        if self.keeps_messages() {
            // The same limit as for a client that leaves: from here on this memory does not give way.
            waiting.given_up += waiting.trim(&mut self.pool);
        }
        let Some(slot) = self.slots.get_mut(old) else { return waiting };
        let Some(membership) = slot.leave() else {
            debug_assert!(false, "{old}: a client in a session is its member");
            return waiting;
        };
        debug!(target: SESSIONS, "conn={old} messages={} Replaced", waiting.messages());
        // Everything else goes to the new connection.
        let end = End {
            reason: EndReason::Replaced,
            code: 1000,
            undelivered: waiting.given_up,
            kept: waiting.messages(),
        };
        self.note_end(old, membership, end);
        self.close(old, &CloseReason::Replaced(client_type), self.now.tick.after(CLOSE_TIMEOUT));
        // It may keep a copy of the frame that its socket has begun to take.
        self.settle(old);
        waiting
    }

    /// Warns the operator, at most once in a while, that two clients replace each other.
    fn warn_of_contest(
        &mut self,
        id: ConnectionId,
        there: ConnectionId,
        key: SessionKey,
        client_type: ClientType,
    ) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !session.is_contest_warning_due(client_type, self.now.tick) {
            return;
        }
        let address =
            |id| self.slots.get(id).map_or(ClientAddress::default(), |slot| slot.connection.remote.address);
        warn!(
            target: SESSIONS,
            "conn={id} session={} client={} address={} other_address={} Two clients take one place from each other: \
             give each pair a session ID of its own",
            Logged(session.id.as_str()),
            client_type.as_str(),
            address(id),
            address(there),
        );
    }

    /// Issues a session: its ID and secret cannot be guessed.
    pub(super) fn issue(&mut self, id: ConnectionId, credentials: &Credentials, form: AnswerForm<'_>) {
        let form = AnswerForm { path: Some(SESSIONS_PATH), ..form };
        let Some(client) = self.slots.get(id).map(|slot| slot.connection.remote.address) else { return };
        if let Err(reason) = self.gate.check_lock_out(client, self.now.tick) {
            return self.refuse(id, reason.into(), form);
        }
        match self.gate.judge_issue(credentials) {
            Ok(Some(name)) => info!(target: SESSIONS, "conn={id} key={name} API key accepted"),
            Ok(None) => {}
            Err(reason) => return self.refuse_unproven(id, reason.into(), form),
        }
        let secret = self.gate.draw();
        let issued = self.begin_issued(&secret, client.host());
        let Some((key, session_id)) = issued else {
            return self.refuse(id, Refusal::ConnectionLimit, form);
        };
        self.arm_session(key);
        info!(target: SESSIONS, "conn={id} session={session_id} Session {session_id} issued");
        let lapses_in =
            self.sessions.due(key).map_or(0, |(deadline, _)| deadline.0.saturating_sub(self.now.tick.0));
        let expires_at = self.now.unix_millis.saturating_add(lapses_in);
        let body = format!(
            concat!(
                r#"{{"sessionId":"{id}","secret":"{secret}","desktopUrl":"/desktop/{id}?secret={secret}","#,
                r#""mobileUrl":"/mobile/{id}?secret={secret}","expiresAt":{expires_at}}}"#
            ),
            id = session_id,
            secret = secret,
            expires_at = expires_at
        );
        self.note_request_end(id, End::of_request(EndReason::Answered, 201));
        self.answer(id, |out| write_issued(&body, form, out));
    }

    /// Begins an issued session; `None` if there is no room for one more.
    fn begin_issued(&mut self, secret: &str, host: Host) -> Option<(SessionKey, String)> {
        debug_assert!(
            self.drain.is_none(),
            "no session begins during a shutdown: requests are refused by then"
        );
        let claim = self.gate.hash(&Secret::new(secret.as_bytes())?);
        // 128 random bits never collide in practice; the second try is for form.
        for _ in 0..2 {
            let text = self.gate.draw();
            let session_id = SessionId::parse(text.as_bytes())?;
            let now = self.now.tick;
            let issued = self.sessions.issue(&session_id, claim.clone(), host, now).or_else(|SessionsFull| {
                self.end_longest_unused_session();
                self.sessions.issue(&session_id, claim.clone(), host, now)
            });
            if let Some(key) = issued.ok()? {
                return Some((key, text));
            }
        }
        None
    }

    /// Ends an empty session to make room for one that a client joins.
    fn end_longest_empty_session(&mut self) {
        let key = self.sessions.longest_empty();
        self.forget_for_room(key);
    }

    /// Ends an issued session that no client has joined, to make room for another one.
    fn end_longest_unused_session(&mut self) {
        let key = self.sessions.longest_unused();
        self.forget_for_room(key);
    }

    fn forget_for_room(&mut self, key: Option<SessionKey>) {
        let Some(session) = key.and_then(|key| self.end_session(key)) else { return };
        let id = Logged(session.id.as_str());
        info!(target: SESSIONS, "session={id} Session {id} deleted: empty, and its place was needed");
    }
}
