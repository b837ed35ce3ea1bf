//! Confirmation and redelivery: what is written and not confirmed, what is kept for clients that are away, and when
//! either is given up.
//!
//! The relay logs how many messages a pong has confirmed, and what it no longer keeps and why. The model derives which
//! messages these are, and whether they may be.

use std::collections::VecDeque;
use std::time::Duration;

use apptuner_relay::relay::internals::limits::{CONFIRM_BYTES, KEPT_PER_CLIENT_BYTES_MAX};
use apptuner_relay::relay::{ClientType, Settings, Tick};

use super::conn::Conn;
use super::expected::{Expected, Message};
use super::sessions::Session;
use super::{Check, Model, expect};

/// A client is asked to confirm at most this long after the first unconfirmed message.
const ASKED_WITHIN: Duration = Duration::from_millis(250);
/// Most connections on which a message is written in full.
const WRITTEN_MAX: u32 = 3;

/// Both types of clients.
pub(super) const SIDES: [ClientType; 2] = [ClientType::Desktop, ClientType::Mobile];

/// What one client has been sent and has not confirmed.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    /// Its messages count as delivered once it has confirmed them. Otherwise once they are written.
    pub is_keeping: bool,
    /// A message that is being written is kept from its start.
    pub is_start_kept: bool,
    /// The oldest first.
    messages: VecDeque<Written>,
    /// The number of the last numbered ping on the wire.
    last_ping: u32,
    /// The same, including a ping that was answered before it was on the wire.
    last_known: u32,
    /// The outstanding ping: when it was on the wire, and whether something has come from the client since.
    asked: Option<(Tick, bool)>,
    /// A pong was read that confirms: the outstanding ping, or perhaps one that is not on the wire yet.
    answered: Option<Answered>,
}

/// A message that is written in full.
#[derive(Debug)]
struct Written {
    message: Message,
    at: Tick,
    /// The outstanding ping is behind it.
    is_asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Ping,
    /// Its number is that of the next ping, which may wait in the relay.
    Guess,
}

/// A place whose client is away, and what is kept for it.
#[derive(Debug)]
pub(super) struct Away {
    pub left_at: Tick,
    pub kept: VecDeque<Message>,
}

/// What a client has not confirmed or received.
#[derive(Debug, Default)]
pub(super) struct Undelivered {
    pub kept: VecDeque<Message>,
    /// Messages that cannot be sent again, or were sent often enough.
    pub given_up: u64,
}

impl Undelivered {
    pub fn all(&self) -> u64 {
        self.kept.len() as u64 + self.given_up
    }

    /// Drops the oldest messages if these are more than may be kept for one client.
    pub fn trim(&mut self) {
        let surplus = surplus(&self.kept);
        self.kept.drain(..surplus);
        self.given_up += surplus as u64;
    }
}

/// How many of the oldest messages are more than may be kept for one client.
fn surplus(kept: &VecDeque<Message>) -> usize {
    let mut bytes: usize = kept.iter().map(Message::queued_bytes).sum();
    let mut surplus = 0;
    while bytes > KEPT_PER_CLIENT_BYTES_MAX && surplus + 1 < kept.len() {
        bytes -= kept[surplus].queued_bytes();
        surplus += 1;
    }
    surplus
}

impl Unconfirmed {
    pub fn messages(&self) -> u64 {
        self.messages.len() as u64
    }

    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().map(|written| &written.message)
    }

    pub fn note_written(&mut self, message: Message, at: Tick) {
        self.messages.push_back(Written { message, at, is_asked: false });
    }

    pub const fn note_heard(&mut self) {
        if let Some((_, has_heard)) = &mut self.asked {
            *has_heard = true;
        }
    }

    /// A pong was read.
    pub fn take_pong(&mut self, payload: &[u8]) {
        let is_it = |number: u32| payload == number.to_string().as_bytes();
        if !self.is_keeping {
            return;
        }
        if is_it(self.last_ping) && self.asked.take().is_some() {
            self.answered = Some(Answered::Ping);
        } else if self.asked.is_none() && self.answered.is_none() && is_it(self.last_known + 1) {
            self.answered = Some(Answered::Guess);
        }
    }

    /// A pong that must confirm has been read, and the relay has not logged that.
    fn is_confirmation_due(&self) -> bool {
        self.answered == Some(Answered::Ping)
    }

    /// A ping is on the wire. Returns whether it is one for silence. `has_waited`: it may have been queued earlier.
    pub fn take_ping(&mut self, payload: &[u8], now: Tick, has_waited: bool) -> Result<bool, String> {
        let is_it = |number: u32| payload == number.to_string().as_bytes();
        if payload.is_empty() {
            expect(self.asked.is_none() || has_waited, || {
                format!("a ping without a number, and number {} is outstanding", self.last_ping)
            })?;
            return Ok(true);
        }
        if self.last_ping > 0 && is_it(self.last_ping) {
            return Ok(true);
        }
        expect(is_it(self.last_ping + 1), || {
            format!("a ping with {payload:?} after number {}", self.last_ping)
        })?;
        expect(self.asked.is_none(), || {
            format!("number {} is outstanding and another follows", self.last_ping)
        })?;
        self.last_ping += 1;
        if self.is_keeping && self.last_ping > self.last_known {
            self.asked = Some((now, false));
            self.messages.iter_mut().for_each(|written| written.is_asked = true);
        }
        self.last_known = self.last_known.max(self.last_ping);
        Ok(false)
    }

    /// A pong has confirmed the oldest messages.
    fn confirm(&mut self, messages: u64) -> Check {
        let asked = self.messages.iter().filter(|written| written.is_asked).count() as u64;
        let (least, most) = match self.answered.take() {
            // The last one may have been written in the same call as the ping, after the relay asked.
            Some(Answered::Ping) => (asked.saturating_sub(1), asked),
            Some(Answered::Guess) => {
                self.last_known += 1;
                (0, self.messages())
            }
            None => return Err("confirmed without a pong".to_owned()),
        };
        expect((least..=most).contains(&messages), || {
            format!("{messages} confirmed by {:?}, between {least} and {most} expected", self.last_ping)
        })?;
        self.drop_oldest(messages)?;
        self.messages.iter_mut().for_each(|written| written.is_asked = false);
        Ok(())
    }

    /// Forgets the oldest messages. Returns the memory in bytes that they took at least.
    fn drop_oldest(&mut self, messages: u64) -> Result<usize, String> {
        let count = usize::try_from(messages).unwrap_or(usize::MAX);
        expect(count <= self.messages.len(), || {
            format!("{messages} of {} unconfirmed messages", self.messages.len())
        })?;
        Ok(self.messages.drain(..count).map(|written| written.message.queued_bytes()).sum())
    }

    /// When it must have been asked, unless a ping is outstanding.
    fn asked_by(&self) -> Option<Tick> {
        let unasked = || self.messages.iter().filter(|written| !written.is_asked);
        let first = unasked().next()?;
        let bytes: usize = unasked().map(|written| written.message.queued_bytes()).sum();
        Some(if bytes > CONFIRM_BYTES { first.at } else { first.at.after(ASKED_WITHIN) })
    }

    /// When a client that has sent other things is no longer asked.
    fn ignored_until(&self, settings: &Settings) -> Option<Tick> {
        let (at, _) = self.asked.filter(|&(_, has_heard)| has_heard)?;
        Some(at.after(settings.ping_interval * 2))
    }

    /// When the relay rests, and nothing hinders the client. `taken_at` is when its socket last took a part of what
    /// waited.
    pub fn expect_asked(&self, now: Tick, taken_at: Tick, settings: &Settings) -> Check {
        if !self.is_keeping {
            return Ok(());
        }
        let due = self.asked_by().filter(|_| self.asked.is_none());
        expect(due.is_none_or(|due| now < due), || {
            format!("{} messages are unconfirmed, and not asked for since {due:?}", self.messages.len())
        })?;
        let until =
            self.ignored_until(settings).map(|until| until.max(taken_at.after(settings.ping_interval * 2)));
        expect(until.is_none_or(|until| now < until), || {
            format!("still asked, although it answers nothing since {until:?}")
        })
    }
}

impl Conn {
    /// Removes all messages that it has not confirmed or received. A frame that was begun is still finished.
    pub(super) fn take_undelivered(&mut self) -> Undelivered {
        let mut undelivered = Undelivered::default();
        let written = std::mem::take(&mut self.unconfirmed.messages);
        self.unconfirmed.asked = None;
        for Written { mut message, .. } in written {
            message.written += 1;
            if message.written < WRITTEN_MAX {
                undelivered.kept.push_back(message);
            } else {
                undelivered.given_up += 1;
            }
        }
        for item in self.take_messages() {
            match item {
                Expected::Message(message) if message.is_start_lost => undelivered.given_up += 1,
                Expected::Message(message) => undelivered.kept.push_back(message),
                _ => {}
            }
        }
        undelivered
    }
}

impl Session {
    pub(super) const fn away(&self, client_type: ClientType) -> Option<&Away> {
        self.away[client_type as usize].as_ref()
    }

    pub(super) const fn away_mut(&mut self, client_type: ClientType) -> Option<&mut Away> {
        self.away[client_type as usize].as_mut()
    }

    /// The messages that are kept in it.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Message> {
        self.away.iter().flatten().flat_map(|away| &away.kept)
    }

    /// When the first window of a client for which something is kept is over.
    pub(super) fn kept_until(&self, settings: &Settings) -> Option<Tick> {
        let aways = self.away.iter().flatten().filter(|away| !away.kept.is_empty());
        aways.map(|away| away.left_at.after(settings.redelivery_window)).min()
    }
}

impl Model {
    pub(super) const fn keeps(&self) -> bool {
        !self.settings.redelivery_window.is_zero()
    }

    /// Whether messages are kept for clients that leave now.
    pub(super) const fn keeps_now(&self) -> bool {
        self.keeps() && self.drain.is_none()
    }

    /// Where messages of this client are kept, if its peer is expected to come back.
    pub(super) fn expected_away(&mut self, sender: usize) -> Option<&mut Away> {
        let (now, window, keeps_now) = (self.now.tick, self.settings.redelivery_window, self.keeps_now());
        self.away_of_peer(sender).filter(|away| keeps_now && now < away.left_at.after(window))
    }

    /// The place of this client's peer while that is away.
    pub(super) fn away_of_peer(&mut self, sender: usize) -> Option<&mut Away> {
        let (session, client_type) = self.conns[sender].session.clone()?;
        self.sessions.get_mut(&session)?.away_mut(client_type.peer())
    }

    /// Counts messages for a client as delivered. Their sender is told at once if it asked for that, in one notice or,
    /// if that depends on how much one write takes, in several.
    pub(super) fn note_delivered(&mut self, receiver: usize, messages: u64, is_one_notice: bool) {
        self.totals.messages_delivered += messages;
        let Some(sender) = self.peer(receiver) else { return };
        if messages == 0 || !self.keeps() || !self.conns[sender].wants_receipts {
            return;
        }
        if is_one_notice {
            self.reply(sender, &format!(r#"{{"type":"delivered","count":{messages}"#), "");
        } else if !self.conns[sender].is_cut_short {
            self.conns[sender].add_receipts(messages);
        }
    }

    /// Messages are given up: their sender is told, if it is there.
    fn note_given_up(&mut self, session: &str, receiver: ClientType, messages: u64) {
        self.note_lost(messages);
        let sender = self.sessions.get(session).and_then(|session| session.client(receiver.peer()));
        if let Some(sender) = sender {
            self.tell_undelivered(sender, messages);
        }
    }

    pub(super) fn confirmed(&mut self, wire: usize, messages: u64) -> Check {
        self.conns[wire].unconfirmed.confirm(messages).map_err(|why| format!("wire {wire}: {why}"))?;
        self.totals.messages_confirmed += messages;
        self.note_delivered(wire, messages, true);
        Ok(())
    }

    /// A client is no longer asked: it has answered nothing for long, or the relay is about to close it for a shutdown.
    pub(super) fn unasked(&mut self, wire: usize, messages: u64) -> Check {
        let conn = &mut self.conns[wire];
        let until = conn.unconfirmed.ignored_until(&self.settings);
        let is_ignored = until.is_some_and(|until| self.now.tick >= until && !conn.is_unread(until));
        expect(conn.unconfirmed.is_keeping && (is_ignored || self.drain.is_some()), || {
            format!("wire {wire} is no longer asked, due {until:?}")
        })?;
        if is_ignored {
            self.unasked += 1;
        } else {
            self.draining.push(wire);
        }
        let unconfirmed = std::mem::take(&mut conn.unconfirmed.messages).len() as u64;
        conn.unconfirmed.is_keeping = false;
        conn.unconfirmed.asked = None;
        expect(messages == unconfirmed, || {
            format!("wire {wire}: {messages} messages count as delivered, {unconfirmed} expected")
        })?;
        self.note_delivered(wire, messages, true);
        Ok(())
    }

    /// Memory was taken back from a client that is connected.
    pub(super) fn freed(&mut self, wire: usize, messages: u64) -> Check {
        expect(self.may_be_crowded(), || {
            format!("wire {wire} has {messages} messages freed, and memory is not short")
        })?;
        if messages == 0 {
            let is_begun = self.conns[wire].lose_start();
            return expect(is_begun, || format!("wire {wire} has nothing begun whose start can be freed"));
        }
        let freed = self.conns[wire].unconfirmed.drop_oldest(messages)?;
        self.freed += messages;
        self.used_max = self.used_max.saturating_sub(freed);
        self.note_delivered(wire, messages, true);
        Ok(())
    }

    /// Messages for a client are given up.
    pub(super) fn given_up(&mut self, id: &str, receiver: ClientType, messages: u64) -> Check {
        let due = self.given_up_due.get_mut(&(id.to_owned(), receiver));
        if let Some(due) = due.and_then(VecDeque::pop_front) {
            return expect(messages == due, || format!("{messages} given up in {id}, {due} expected"));
        }
        let window = self.settings.redelivery_window;
        let away = self.sessions.get(id).and_then(|session| session.away(receiver));
        let away = away.ok_or_else(|| format!("{messages} given up in {id}, and nobody is away"))?;
        let (all, until) = (away.kept.len() as u64, away.left_at.after(window));
        if self.now.tick >= until && messages == all {
            self.expect_nobody_comes_back(id, receiver, until)?;
        } else if self.may_be_crowded() {
            self.expect_gone_longest(id, receiver, messages)?;
            self.evicted += messages;
        } else {
            // Only a shutdown ends a session before the windows of its clients are over.
            expect(messages == all && self.drain.is_some(), || {
                format!("{messages} of {all} given up in {id}, due at {until:?}")
            })?;
            self.ending = Some(id.to_owned());
        }
        let count = usize::try_from(messages).unwrap_or(usize::MAX);
        let away = self.session(id).away_mut(receiver).expect("it is away");
        expect(count <= away.kept.len(), || format!("{messages} given up in {id} of {all}"))?;
        let dropped: Vec<Message> = away.kept.drain(..count).collect();
        let freed = dropped.iter().map(Message::queued_bytes).sum();
        self.used_max = self.used_max.saturating_sub(freed);
        self.note_given_up(id, receiver, messages);
        self.orphan_sender_of(id, receiver);
        Ok(())
    }

    /// No client that comes back has asked for that before the end of its window.
    fn expect_nobody_comes_back(&self, id: &str, receiver: ClientType, until: Tick) -> Check {
        let mut unread = self.conns.iter().enumerate().filter(|(_, conn)| conn.is_unread(until));
        let wire = unread.find(|(wire, conn)| conn.asks_for_place(id, receiver) && !self.may_be_held(*wire));
        expect(wire.is_none(), || format!("{receiver:?} of {id} is given up at {until:?}, and unread"))
    }

    /// If memory is needed, the client that has been gone for longest loses what is kept for it first, and only after
    /// everything that is written and not confirmed.
    fn expect_gone_longest(&self, id: &str, receiver: ClientType, messages: u64) -> Check {
        let left_at = self.sessions[id].away(receiver).map(|away| away.left_at);
        let aways = self.sessions.values().flat_map(|session| session.away.iter().flatten());
        let first = aways.filter(|away| !away.kept.is_empty()).map(|away| away.left_at).min();
        expect(left_at == first, || {
            format!("{messages} given up in {id}, gone since {left_at:?}, and another since {first:?}")
        })?;
        // What is written of a run whose rest waits is not kept by itself.
        let has_freeable = |conn: &&Conn| conn.unconfirmed.messages() > 0 && conn.messages() == 0;
        let is_other = self.conns.iter().find(has_freeable).map(|conn| conn.id);
        expect(is_other.is_none(), || format!("{messages} given up in {id} before those of {is_other:?}"))
    }

    /// If what a client is sending is no longer kept for its peer, nobody gets the rest.
    pub(super) fn orphan_sender_of(&mut self, id: &str, receiver: ClientType) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(sender) = session.client(receiver.peer()) else { return };
        let Some(key) = self.conns[sender].release_key() else { return };
        let is_kept =
            session.away(receiver).is_some_and(|away| away.kept.iter().any(|message| message.id == key));
        let is_queued =
            session.client(receiver).is_some_and(|receiver| self.conns[receiver].has_message(key));
        if !is_kept && !is_queued {
            self.orphan(Some(sender));
        }
    }

    /// The client that is sending a message for a peer that is away will not complete it.
    pub(super) fn cut_kept(&mut self, sender: usize) -> bool {
        let Some(key) = self.conns[sender].release_key() else { return false };
        let Some(away) = self.away_of_peer(sender) else { return false };
        let before = away.kept.len();
        away.kept.retain(|message| message.id != key);
        let is_cut = away.kept.len() < before;
        if is_cut {
            self.totals.messages_cut_short += 1;
            self.orphan(Some(sender));
        }
        is_cut
    }

    /// A client has left, and may come back. Returns how many messages are given up for it.
    pub(super) fn keep_for(&mut self, id: &str, receiver: ClientType, mut undelivered: Undelivered) -> u64 {
        undelivered.trim();
        let given_up = undelivered.given_up;
        let left_at = self.now.tick;
        self.session(id).away[receiver as usize] = Some(Away { left_at, kept: undelivered.kept });
        given_up
    }

    /// A session is about to be claimed: all messages in it are given up, and their senders told.
    pub(super) fn give_up_for_claim(&mut self, id: &str) {
        for receiver in SIDES {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let kept = session.away[receiver as usize].take().map_or(0, |away| away.kept.len() as u64);
            let client = session.client(receiver);
            let messages = kept + client.map_or(0, |client| self.conns[client].take_undelivered().all());
            self.expect_given_up(id, receiver, messages);
            self.orphan_sender_of(id, receiver);
        }
    }

    /// Everything that is kept in a session is given up because it ends.
    pub(super) fn give_up_kept(&mut self, id: &str) {
        for receiver in SIDES {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let kept = session.away[receiver as usize].take().map_or(0, |away| away.kept.len() as u64);
            self.expect_given_up(id, receiver, kept);
        }
    }

    /// Gives up the oldest messages for a sender's absent peer if these are more than may be kept.
    pub(super) fn trim_kept(&mut self, sender: usize) {
        let Some((id, client_type)) = self.conns[sender].session.clone() else { return };
        let Some(away) = self.away_of_peer(sender) else { return };
        let surplus = surplus(&away.kept);
        away.kept.drain(..surplus);
        self.expect_given_up(&id, client_type.peer(), surplus as u64);
    }

    /// Messages are given up, and the relay must log that.
    fn expect_given_up(&mut self, id: &str, receiver: ClientType, messages: u64) {
        if messages > 0 {
            self.given_up_due.entry((id.to_owned(), receiver)).or_default().push_back(messages);
            self.note_given_up(id, receiver, messages);
        }
    }

    /// Before anything but an announcement happens: what was announced has happened.
    pub(super) fn expect_announced(&self) -> Check {
        let unconfirmed = self.conns.iter().find(|conn| conn.unconfirmed.is_confirmation_due());
        let unconfirmed = unconfirmed.map(|conn| conn.id);
        expect(unconfirmed.is_none(), || format!("the pong of {unconfirmed:?} confirms nothing"))?;
        let ending = &self.ending;
        expect(ending.is_none(), || format!("session {ending:?} gives up what it keeps, and does not end"))
    }

    /// After each turn.
    pub(super) fn expect_given_up_in_turn(&mut self) -> Check {
        self.expect_announced()?;
        self.given_up_due.retain(|_, due| !due.is_empty());
        expect(self.given_up_due.is_empty(), || format!("not given up: {:?}", self.given_up_due))?;
        for wire in std::mem::take(&mut self.draining) {
            let is_closed = self.conns[wire].session.is_none();
            expect(is_closed, || format!("wire {wire} is no longer asked, and not closed"))?;
        }
        for conn in &mut self.conns {
            conn.unconfirmed.answered = None;
        }
        Ok(())
    }
}
