//! Sessions: their clients, the effects of joins and leaves, and when they end.

use apptuner_relay::relay::internals::limits::{CONTEST_WINDOW, REPLACEMENTS_MAX};
use apptuner_relay::relay::{ClientType, Settings, Tick};

use super::conn::Phase;
use super::delivery::{Away, Undelivered};
use super::expected::Expected;
use super::{Check, Model, expect};

#[derive(Debug, Default)]
pub(super) struct Session {
    pub desktop: Option<usize>,
    pub mobile: Option<usize>,
    pub last_activity: Tick,
    pub empty_since: Option<Tick>,
    /// When bytes of one of its clients may last have been unread.
    pub unread_at: Option<Tick>,
    /// The secret that every client needs to join.
    pub claim: Option<String>,
    pub contests: [Contest; 2],
    /// The places whose client is away, and may be expected.
    pub away: [Option<Away>; 2],
}

/// When a place changed hands, and until when its client stays.
#[derive(Debug, Default)]
pub(super) struct Contest {
    replaced_at: Vec<Tick>,
    closed_until: Tick,
}

impl Contest {
    fn note_replacement(&mut self, now: Tick) {
        self.replaced_at.push(now);
        let lately = self.replaced_at.iter().filter(|at| now < at.after(CONTEST_WINDOW));
        if lately.count() >= REPLACEMENTS_MAX {
            self.closed_until = now.after(CONTEST_WINDOW);
        }
    }

    /// Whether a new client is refused. If so, the refusal extends the contest.
    pub fn refuses_new_client(&mut self, now: Tick) -> bool {
        let is_closed = now < self.closed_until;
        if is_closed {
            self.closed_until = now.after(CONTEST_WINDOW);
        }
        is_closed
    }
}

impl Session {
    pub const fn side(&mut self, client_type: ClientType) -> &mut Option<usize> {
        match client_type {
            ClientType::Desktop => &mut self.desktop,
            ClientType::Mobile => &mut self.mobile,
        }
    }

    pub const fn client(&self, client_type: ClientType) -> Option<usize> {
        match client_type {
            ClientType::Desktop => self.desktop,
            ClientType::Mobile => self.mobile,
        }
    }
}

impl Model {
    pub(super) fn session(&mut self, id: &str) -> &mut Session {
        self.sessions.get_mut(id).expect("an open connection is in a session")
    }

    pub(super) fn peer(&self, wire: usize) -> Option<usize> {
        let (session, client_type) = self.conns[wire].session.as_ref()?;
        self.sessions.get(session)?.client(client_type.peer())
    }

    pub(super) fn join(&mut self, wire: usize, client_type: ClientType, id: &str) -> Check {
        let now = self.now.tick;
        let claim = self.conns[wire].claiming.take();
        let session = self.sessions.entry(id.to_owned()).or_default();
        session.claim = session.claim.take().or(claim);
        session.last_activity = now;
        session.empty_since = None;
        let old = session.side(client_type).replace(wire);
        let kept = session.away[client_type as usize].take().map(|away| away.kept);
        if old.is_some() {
            session.contests[client_type as usize].note_replacement(now);
        }
        let peer = session.client(client_type.peer());
        self.totals.joins += 1;
        self.replacing = old.map(|old| (old, wire));
        let waiting = match old {
            Some(old) => self.replace(old, client_type),
            None => Undelivered { kept: kept.unwrap_or_default(), given_up: 0 },
        };
        let connected = self.system(
            &format!(r#"{{"type":"connected","clientType":"{}","sessionId":"{id}""#, client_type.as_str()),
            "",
        );
        let peer_connected =
            self.system(&format!(r#"{{"type":"{}_connected""#, client_type.peer().as_str()), "");
        let conn = &mut self.conns[wire];
        conn.session = Some((id.to_owned(), client_type));
        conn.phase = Phase::Open;
        conn.unconfirmed.is_keeping = !self.settings.redelivery_window.is_zero();
        conn.unconfirmed.is_start_kept = conn.unconfirmed.is_keeping;
        for reply in
            [Some(Expected::Answer(101)), Some(connected), peer.map(|_| peer_connected)].into_iter().flatten()
        {
            conn.reply(reply);
        }
        for message in waiting.kept {
            self.totals.messages_redelivered += u64::from(message.written > 0);
            conn.queue(Expected::Message(message));
        }
        self.note_lost(waiting.given_up);
        if let Some(peer) = peer {
            self.tell_undelivered(peer, waiting.given_up);
            self.orphan_sender_of(id, client_type);
            self.conns[peer].forget_congestion();
            self.notify(peer, client_type, "connected");
        }
        self.progress(wire)
    }

    /// A client is replaced. Returns what it has not confirmed or received.
    fn replace(&mut self, old: usize, client_type: ClientType) -> Undelivered {
        self.cut_kept(old);
        self.note_moved(old);
        let now = self.now.tick;
        let keeps_now = self.keeps_now();
        let old = &mut self.conns[old];
        let mut waiting = old.take_undelivered();
        if keeps_now {
            waiting.trim();
        }
        old.session = None;
        let reason = format!("New {} connection", client_type.as_str());
        old.close(1000, Some(&reason), Phase::Closing, now);
        waiting
    }

    /// Messages that a client will not get, because it has left or was replaced.
    pub(super) fn note_lost(&mut self, messages: u64) {
        self.totals.messages_undelivered += messages;
        self.totals.messages_given_up += if self.keeps() { messages } else { 0 };
    }

    /// A client has left its session. Its peer is told what was undelivered, and then that the client left.
    pub(super) fn leave(&mut self, wire: usize, code: u16) -> Check {
        let now = self.now.tick;
        self.cut_kept(wire);
        self.note_moved(wire);
        let (id, client_type) = self.conns[wire].session.take().ok_or("left without a session")?;
        expect(!self.is_sending_released(wire), || format!("wire {wire} left in the middle of a message"))?;
        let messages = self.conns[wire].take_undelivered();
        let all = messages.all();
        // What is kept may not reach those who claim the session.
        let is_expected = self.keeps_now() && code != 1008;
        let undelivered = if is_expected { self.keep_for(&id, client_type, messages) } else { all };
        self.expect_ended(wire, all - undelivered, undelivered)?;
        self.note_lost(undelivered);
        let is_draining = self.drain.is_some();
        let session = self.session(&id);
        expect(session.client(client_type) == Some(wire), || format!("wire {wire} left for another"))?;
        *session.side(client_type) = None;
        match session.client(client_type.peer()) {
            Some(peer) => {
                self.tell_undelivered(peer, undelivered);
                self.notify(peer, client_type, "disconnected");
            }
            None if is_draining => {
                self.give_up_kept(&id);
                self.sessions.remove(&id);
            }
            None => session.empty_since = Some(now),
        }
        self.orphan_sender_of(&id, client_type);
        self.end(wire, code);
        self.progress(wire)
    }

    pub(super) fn end(&mut self, wire: usize, code: u16) {
        let now = self.now.tick;
        if code == 1009 {
            self.tell(wire, r#"{"type":"error","error":"Message of "#, r#"","code":"message_too_large""#);
        }
        let conn = &mut self.conns[wire];
        // Its own close may have this code, too.
        conn.is_cut = code == 1001 && conn.close_answer.is_none();
        conn.cut_at = conn.is_cut.then_some(now);
        match (conn.close_answer.take(), code) {
            (Some((code, reason)), _) => {
                let reason = String::from_utf8(reason).expect("ours");
                conn.close(code, Some(&reason), Phase::Ending, now);
            }
            (None, 1011) => conn.close(code, Some("Message cut short"), Phase::Closing, now),
            (None, 1006) => conn.end(now),
            (None, 1002) => conn.close(code, None, Phase::Ending, now),
            // A client that is cut off may end before it has taken its close frame.
            (None, _) => conn.close(code, None, Phase::Closing, now),
        }
    }

    pub(super) fn tell_undelivered(&mut self, sender: usize, count: u64) {
        if count > 0 {
            let end = format!(r#""code":"undelivered","count":{count}"#);
            self.tell(sender, r#"{"type":"error","error":""#, &end);
        }
    }

    pub(super) fn delete(&mut self, id: &str, reason: &str) -> Check {
        // A held client may have sent a message that would keep its session.
        let is_listened_to: Vec<bool> = (0..self.conns.len()).map(|wire| !self.may_be_held(wire)).collect();
        let session = self.sessions.remove(id).ok_or_else(|| format!("session {id} deleted twice"))?;
        let (due, why) = due(&session, &self.settings);
        let now = self.now.tick;
        expect(due <= now && why == reason, || {
            format!("session {id} deleted as {reason} at {now:?}, due as {why} at {due:?}")
        })?;
        for (wire, conn) in self.conns.iter().enumerate().filter(|(_, conn)| conn.is_unread(due)) {
            let is_member = [session.desktop, session.mobile].contains(&Some(wire));
            let is_joining = conn.phase == Phase::Head && conn.asks_for(id);
            expect(!(is_member || is_joining) || !is_listened_to[wire], || {
                format!("session {id} deleted at {now:?}, due at {due:?}, and wire {wire} is unread")
            })?;
        }
        self.cut_messages_between(session.desktop, session.mobile)?;
        let sides = [(session.desktop, session.mobile), (session.mobile, session.desktop)];
        for (wire, peer) in sides {
            let Some(wire) = wire else { continue };
            let undelivered = self.conns[wire].take_undelivered().all();
            self.note_lost(undelivered);
            if let Some(peer) = peer {
                self.tell_undelivered(peer, undelivered);
            }
        }
        for wire in [session.desktop, session.mobile].into_iter().flatten() {
            self.conns[wire].session = None;
            self.conns[wire].close(1000, Some("Session timeout"), Phase::Closing, now);
        }
        Ok(())
    }
}

pub(super) fn due(session: &Session, settings: &Settings) -> (Tick, &'static str) {
    if let Some(until) = session.kept_until(settings) {
        return (until, "kept");
    }
    let inactive = session.last_activity.after(settings.session_timeout);
    match session.empty_since.map(|since| since.after(settings.reconnect_window)) {
        Some(empty) if empty < inactive => (empty, "empty"),
        Some(_) | None => (inactive, "inactive"),
    }
}
