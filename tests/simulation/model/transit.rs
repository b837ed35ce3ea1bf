//! Messages in transit: what a receiver may be given and when, and what happens to messages that never become whole.
//!
//! The relay logs when it releases a message and when it cuts one short. The model derives whether it may do so, and
//! which bytes the receiver may have by then.

use std::rc::Rc;

use apptuner_relay::relay::ClientType;
use apptuner_relay::relay::internals::limits::{HIGH_WATER_BYTES, KEPT_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

use super::conn::{Conn, Phase};
use super::expected::{Expected, Message};
use super::{Check, Model, expect};
use crate::client::{Content, Frame, What};
use crate::journal::Event;

/// A message that has not arrived whole.
#[derive(Debug)]
pub(super) struct Incoming {
    pub id: u64,
    pub content: Rc<Content>,
    /// Bytes of its frames that have arrived whole.
    before: usize,
    pub state: SessionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// No receiver has been given any of it.
    Held,
    /// It is in its receiver's queue.
    Released,
    /// No receiver gets it any more. Its sender was told why, or is leaving. Invalid JSON is then not reported.
    Skipped,
}

impl Conn {
    /// Begins a message: the relay has read the header of its first frame.
    fn begin_message(&mut self, frame: &Frame, messages_begun: &mut u64) {
        if self.incoming.is_none() {
            *messages_begun += 1;
            let content = Rc::clone(&frame.content);
            self.incoming =
                Some(Incoming { id: *messages_begun, content, before: 0, state: SessionState::Held });
        }
    }

    /// Bytes of the current message that the relay has read.
    pub(super) fn arrived_bytes(&self) -> usize {
        let Some(incoming) = &self.incoming else { return 0 };
        incoming.before + self.arrived_of_frame()
    }

    fn arrived_of_frame(&self) -> usize {
        let Some(frame) = self.units.front().and_then(|unit| unit.frame.as_ref()) else { return 0 };
        let payload_start = self.unit_start + frame.header_bytes as u64;
        let bytes = self.read.saturating_sub(payload_start);
        usize::try_from(bytes).unwrap_or(usize::MAX).min(frame.payload_bytes)
    }

    /// From now on nothing that it was sending is used.
    pub(super) fn abandon(&mut self) {
        self.incoming = None;
        self.release_due.clear();
    }

    /// Bytes of a message that is held back.
    pub(super) fn held_bytes(&self) -> usize {
        let Some(Incoming { state: SessionState::Held, content, .. }) = &self.incoming else { return 0 };
        let arrived = self.arrived_bytes();
        if arrived > content.valid_bytes { 0 } else { arrived }
    }

    pub(super) fn release_key(&self) -> Option<u64> {
        self.incoming
            .as_ref()
            .filter(|incoming| incoming.state == SessionState::Released)
            .map(|incoming| incoming.id)
    }
}

impl Model {
    /// Handles a data frame that has arrived whole.
    pub(super) fn take_frame(&mut self, wire: usize, frame: &Frame, what: &What) -> Check {
        let conn = &mut self.conns[wire];
        conn.begin_message(frame, &mut self.messages_begun);
        let Some(incoming) = &mut conn.incoming else { return Ok(()) };
        incoming.before += frame.payload_bytes;
        if !matches!(what, What::Message { .. } | What::BadJson) {
            return Ok(());
        }
        let Some(Incoming { id, content, state, .. }) = conn.incoming.take() else { return Ok(()) };
        match (what, state) {
            (_, SessionState::Skipped) => {}
            (What::Message { is_ping: true }, SessionState::Held) if self.settings.answer_pings => {
                self.reply(wire, r#"{"type":"pong""#, "");
            }
            (What::Message { .. }, SessionState::Held) => self.forward(wire, id, content),
            (What::Message { .. }, SessionState::Released) => {
                self.note_more(wire, id, content.payload.len(), true)?;
                let (session, _) = self.conns[wire].session.clone().expect("open");
                self.session(&session).last_activity = self.now.tick;
            }
            (_, SessionState::Held) => self.tell_bad_json(wire, &content),
            (_, SessionState::Released) => {
                self.conns[wire].incoming = Some(Incoming { id, content, before: 0, state });
                self.spoil(wire)?;
                self.conns[wire].incoming = None;
            }
        }
        Ok(())
    }

    fn tell_bad_json(&mut self, wire: usize, content: &Content) {
        let start = format!(r#"{{"type":"error","error":"Invalid JSON at byte {}: "#, content.valid_bytes);
        self.conns[wire].told_due[1] += 1;
        self.tell(wire, &start, r#"","code":"invalid_json""#);
    }

    fn tell_missing_peer(&mut self, wire: usize, is_kept: bool) {
        let (session, client_type) = self.conns[wire].session.clone().expect("open");
        self.session(&session).last_activity = self.now.tick;
        let peer = if client_type == ClientType::Desktop { "Mobile device" } else { "Desktop" };
        let start = format!(r#"{{"type":"error","error":"{peer} not connected","#);
        self.conns[wire].told_due[0] += 1;
        let kept = if is_kept { r#","kept":true"# } else { "" };
        self.tell(wire, &start, &format!(r#""code":"peer_not_connected"{kept}"#));
    }

    /// A message has arrived whole, and no receiver was given any of it.
    fn forward(&mut self, wire: usize, id: u64, content: Rc<Content>) {
        let bytes = content.payload.len();
        if !self.accept_message(wire, Message::new(id, content, bytes, true, false)) {
            return self.tell_missing_peer(wire, false);
        }
        self.conns[wire].release_due.push_back((id, bytes));
        if self.peer(wire).is_some() {
            return;
        }
        // A short message is first kept, and the rest of what follows from that is told before.
        if bytes <= SMALL_MESSAGE_BYTES_MAX {
            self.trim_kept(wire);
        }
        self.tell_missing_peer(wire, true);
        self.trim_kept(wire);
    }

    /// Accepts a message for its sender's peer, if that is connected or expected.
    fn accept_message(&mut self, wire: usize, message: Message) -> bool {
        let (session, _) = self.conns[wire].session.clone().expect("open");
        self.session(&session).last_activity = self.now.tick;
        let bytes = message.noted as u64;
        if let Some(peer) = self.peer(wire) {
            self.conns[peer].queue(Expected::Message(message));
        } else if let Some(away) = self.expected_away(wire) {
            away.kept.push_back(message);
            self.kept_for_absent += 1;
        } else {
            return false;
        }
        self.accepted_meanwhile += u64::from(self.drain.is_some());
        self.totals.messages_accepted += 1;
        self.totals.bytes_accepted += bytes;
        true
    }

    /// Handles what a read has brought of an incomplete message.
    pub(super) fn advance(&mut self, wire: usize) -> Check {
        let has_receiver = self.has_receiver(wire);
        let conn = &mut self.conns[wire];
        if conn.phase != Phase::Open {
            return Ok(());
        }
        if let Some(frame) = conn.units.front().and_then(|unit| unit.frame.clone())
            && conn.read >= conn.unit_start + frame.header_bytes as u64
        {
            conn.begin_message(&frame, &mut self.messages_begun);
        }
        let arrived = conn.arrived_bytes();
        let Some(Incoming { id, content, state, .. }) = &mut conn.incoming else { return Ok(()) };
        let (id, is_valid, is_bad_json) = (*id, arrived <= content.valid_bytes, content.is_bad_json);
        match state {
            SessionState::Held if is_valid && arrived >= HIGH_WATER_BYTES && !has_receiver => {
                *state = SessionState::Skipped;
                self.tell_missing_peer(wire, false);
            }
            SessionState::Released if is_valid => return self.note_more(wire, id, arrived, false),
            SessionState::Released if is_bad_json => return self.spoil(wire),
            SessionState::Held | SessionState::Released | SessionState::Skipped => {}
        }
        Ok(())
    }

    /// Whether its messages are accepted: its peer is connected, or expected.
    fn has_receiver(&mut self, wire: usize) -> bool {
        self.peer(wire).is_some() || self.expected_away(wire).is_some()
    }

    /// Changes a message that waits for a sender's peer, or is kept for it. Returns whether it is there.
    fn change_released(&mut self, wire: usize, id: u64, change: impl FnOnce(&mut Message)) -> bool {
        if let Some(peer) = self.peer(wire) {
            return self.conns[peer].change(id, change);
        }
        let kept = self.away_of_peer(wire).map(|away| &mut away.kept);
        let message = kept.and_then(|kept| kept.iter_mut().rfind(|message| message.id == id));
        message.map(change).is_some()
    }

    /// More of a released message has arrived.
    fn note_more(&mut self, wire: usize, id: u64, noted: usize, is_whole: bool) -> Check {
        let mut news = 0;
        let is_there = self.change_released(wire, id, |message| {
            news = noted - message.noted;
            message.noted = noted;
            message.is_whole = is_whole;
        });
        self.totals.bytes_accepted += news as u64;
        if self.peer(wire).is_none() {
            self.trim_kept(wire);
        }
        if news > 0 {
            let (session, _) = self.conns[wire].session.clone().expect("open");
            self.session(&session).last_activity = self.now.tick;
        }
        expect(is_there, || format!("wire {wire} goes on with a message that does not wait for its peer"))
    }

    /// A released message turns out to be invalid JSON: its sender is told and stays, its receiver cannot get the rest.
    fn spoil(&mut self, wire: usize) -> Check {
        let content = self.conns[wire].incoming.as_ref().map(|incoming| Rc::clone(&incoming.content));
        let content = content.ok_or("nothing to spoil")?;
        self.tell_bad_json(wire, &content);
        if self.peer(wire).is_none() {
            return expect(self.cut_kept(wire), || format!("the message of wire {wire} is not kept"));
        }
        let events = self.cut_message(wire, false)?;
        self.awaited.extend(events);
        self.interrupted = Some(wire);
        Ok(())
    }

    /// Takes the incomplete message of a sender from its receiver. Returns what the relay must log about it.
    fn cut_message(&mut self, sender: usize, is_leaving: bool) -> Result<Vec<Event>, String> {
        let receiver = self.peer(sender).ok_or("cut short without a receiver")?;
        let is_begun = self.cut_for(receiver, sender)?;
        let left = |conn: &Conn| {
            let (session, client_type) = conn.session.clone().expect("open");
            Event::Left { conn: conn.id.to_string(), client_type, session, code: 1011 }
        };
        let mut events = vec![self.cut_event(receiver, is_begun)];
        if is_begun {
            // The receiver leaves inside a message of its own.
            if self.conns[receiver].release_key().is_some() {
                let is_begun = self.cut_for(sender, receiver)?;
                events.push(self.cut_event(sender, is_begun));
                events.extend((is_begun && !is_leaving).then(|| left(&self.conns[sender])));
            }
            events.push(left(&self.conns[receiver]));
        }
        Ok(events)
    }

    fn cut_event(&self, receiver: usize, is_begun: bool) -> Event {
        Event::CutShort { conn: self.conns[receiver].id.to_string(), is_begun }
    }

    fn cut_for(&mut self, receiver: usize, sender: usize) -> Result<bool, String> {
        let id = self.conns[sender].release_key().ok_or("cut short, and was not released")?;
        if let Some(incoming) = &mut self.conns[sender].incoming {
            incoming.state = SessionState::Skipped;
        }
        let is_begun = self.conns[receiver].cut(id).ok_or("cut short, and does not wait")?;
        self.totals.messages_cut_short += 1;
        Ok(is_begun)
    }

    /// The relay takes a message that will never be whole from its receiver.
    pub(super) fn cut_short(&mut self, event: &Event, receiver: usize) -> Check {
        if self.awaited.front() == Some(event) {
            self.awaited.pop_front();
            return self.go_on();
        }
        let sender = self.peer(receiver).ok_or("cut short without a sender")?;
        // A sender that is replaced has not left by then.
        let is_leaving = !matches!(self.awaited.front(), Some(Event::Joined { .. }));
        let may_be_held = self.may_be_held(sender);
        let events = self.cut_message(sender, is_leaving)?;
        expect(events.first() == Some(event), || format!("{event:?} instead of {events:?}"))?;
        self.leaving.push((sender, may_be_held));
        events.into_iter().skip(1).rev().for_each(|event| self.awaited.push_front(event));
        Ok(())
    }

    /// A session ends inside messages: the clients get no more of them, and none of them leaves for that reason.
    pub(super) fn cut_messages_between(&mut self, desktop: Option<usize>, mobile: Option<usize>) -> Check {
        let (Some(desktop), Some(mobile)) = (desktop, mobile) else { return Ok(()) };
        for (sender, receiver) in [(desktop, mobile), (mobile, desktop)] {
            if self.conns[sender].release_key().is_some() {
                let is_begun = self.cut_for(receiver, sender)?;
                let event = self.cut_event(receiver, is_begun);
                self.awaited.push_back(event);
            }
        }
        Ok(())
    }

    /// Goes on with what a client has sent after a message that cost its receiver the connection.
    pub(super) fn go_on(&mut self) -> Check {
        if !self.awaited.is_empty() {
            return Ok(());
        }
        match self.interrupted.take() {
            Some(wire) => self.progress(wire),
            None => Ok(()),
        }
    }

    /// From now on the relay gives a message to its sender's peer.
    pub(super) fn released(&mut self, wire: usize, bytes: usize) -> Check {
        expect(self.releasing == Some(wire), || format!("wire {wire} has a message released unread"))?;
        while let Some((id, length)) = self.conns[wire].release_due.pop_front() {
            if length == bytes {
                let is_there = self.change_released(wire, id, |message| message.is_in_transit = true);
                return expect(is_there, || format!("wire {wire} has a message released twice"));
            }
            expect_small(length)?;
        }
        let message = self.release_early(wire, bytes)?;
        let is_accepted = self.accept_message(wire, message);
        expect(is_accepted, || format!("wire {wire} has a message released to nobody"))
    }

    /// Releases a message that has not arrived whole.
    fn release_early(&mut self, wire: usize, bytes: usize) -> Result<Message, String> {
        let may_be_short = self.may_be_short_of_hold();
        let conn = &mut self.conns[wire];
        let arrived = conn.arrived_bytes();
        let Some(Incoming { id, content, state, .. }) = &mut conn.incoming else {
            return Err(format!("wire {wire} has {bytes} bytes released of no message"));
        };
        expect(*state == SessionState::Held && bytes == arrived, || {
            format!("wire {wire} has {bytes} bytes released of {arrived} that are {state:?}")
        })?;
        expect(arrived <= content.valid_bytes, || format!("wire {wire} has released what is not valid"))?;
        expect(arrived >= HIGH_WATER_BYTES || may_be_short, || {
            format!("wire {wire} has {arrived} bytes released, and memory is not short")
        })?;
        *state = SessionState::Released;
        self.cut_through += 1;
        self.released_early += u64::from(arrived < HIGH_WATER_BYTES);
        Ok(Message::new(*id, Rc::clone(content), arrived, false, true))
    }

    /// From now on the relay keeps a message for its sender's peer, which is away.
    pub(super) fn kept(&mut self, wire: usize, bytes: usize) -> Check {
        expect(self.peer(wire).is_none(), || format!("wire {wire} has a message kept, and a peer"))?;
        match self.keeping.take() {
            Some((of, arrived)) => expect((of, arrived) == (wire, bytes), || {
                format!("wire {wire} has {bytes} bytes kept, {arrived} of wire {of} expected")
            }),
            None => self.released(wire, bytes),
        }
    }

    /// A message that had to be released must have been, before anything else happens.
    pub(super) fn expect_released(&mut self) -> Check {
        let Some(wire) = self.releasing.take() else { return Ok(()) };
        expect(self.keeping.is_none(), || {
            format!("wire {wire} has a message that is told as kept, and is not")
        })?;
        let has_receiver = self.has_receiver(wire);
        let conn = &mut self.conns[wire];
        for (_, length) in conn.release_due.drain(..) {
            expect_small(length)?;
        }
        // If the same read ends the client, its message ends, too.
        let is_leaving =
            matches!(self.awaited.front(), Some(Event::Left { conn: of, .. }) if *of == conn.id.to_string());
        let is_held = conn.phase == Phase::Open && has_receiver && !is_leaving;
        let held = if is_held { conn.held_bytes() } else { 0 };
        expect(held < HIGH_WATER_BYTES, || format!("wire {wire} has {held} bytes held back"))
    }

    /// The relay has sent a client an error about its message.
    pub(super) fn told(&mut self, wire: usize, code: &str) -> Check {
        let index = match code {
            "peer_not_connected" => 0,
            "invalid_json" => 1,
            _ => return Ok(()),
        };
        if self.conns[wire].told_due[index] == 0 {
            expect(index == 0, || format!("wire {wire} is told {code} out of turn"))?;
            self.told_early(wire, code)?;
        }
        self.conns[wire].told_due[index] -= 1;
        Ok(())
    }

    /// That there is no peer may be reported earlier if memory is short. If the message is kept, that is logged next.
    fn told_early(&mut self, wire: usize, code: &str) -> Check {
        if self.expected_away(wire).is_some() && self.peer(wire).is_none() {
            let arrived = self.conns[wire].arrived_bytes();
            let message = self.release_early(wire, arrived)?;
            self.accept_message(wire, message);
            self.keeping = Some((wire, arrived));
            self.tell_missing_peer(wire, true);
            self.trim_kept(wire);
            return Ok(());
        }
        let is_short = self.may_be_short_of_hold();
        let has_peer = self.peer(wire).is_some();
        let arrived = self.conns[wire].arrived_bytes();
        let Some(Incoming { content, state, .. }) = &mut self.conns[wire].incoming else {
            return Err(format!("wire {wire} is told {code} of no message"));
        };
        let before = std::mem::replace(state, SessionState::Skipped);
        let is_valid = arrived <= content.valid_bytes;
        let may_be_told = before == SessionState::Held && is_short && !has_peer && is_valid && arrived > 0;
        expect(may_be_told, || format!("wire {wire} is told {code} after {arrived} bytes, {before:?}"))?;
        self.tell_missing_peer(wire, false);
        Ok(())
    }

    /// The receiver of what a client is sending has left. No client gets the rest.
    pub(super) fn orphan(&mut self, sender: Option<usize>) {
        let incoming = sender.and_then(|sender| self.conns[sender].incoming.as_mut());
        if let Some(incoming) = incoming.filter(|incoming| incoming.state == SessionState::Released) {
            incoming.state = SessionState::Skipped;
        }
    }

    /// A client has replaced another, and this many messages have moved to it: all, or all but one that was begun and
    /// is not kept whole.
    pub(super) fn replaced(&mut self, old: usize, moved: u64) -> Check {
        let new = self.replacing.take().filter(|(of, _)| *of == old).map(|(_, new)| new);
        let new = new.ok_or_else(|| format!("wire {old} is replaced, but there is no new client"))?;
        let waiting = self.conns[new].messages();
        if moved == waiting {
            return Ok(());
        }
        expect(!self.keeps(), || format!("wire {new} has {moved} of {waiting} messages"))?;
        expect(moved + 1 == waiting, || format!("wire {new} has {moved} of {waiting} messages"))?;
        let may_be_short = self.may_be_short_of_chunks();
        let lost = self.conns[new].lose_first().ok_or("lost what is no message")?;
        let may_be_lost = lost.noted > KEPT_BYTES_MAX || lost.was_short || may_be_short;
        let was_begun = self.conns[old].is_cut_short;
        expect(was_begun && may_be_lost, || {
            format!("wire {new} has lost a message of {} bytes, begun: {was_begun}", lost.noted)
        })?;
        self.lost += 1;
        self.totals.messages_undelivered += 1;
        let peer = self.peer(new);
        if let Some(peer) = peer {
            if self.conns[peer].release_key() == Some(lost.id) {
                self.orphan(Some(peer));
            }
            self.tell_undelivered(peer, 1);
        }
        Ok(())
    }

    pub(super) fn is_sending_released(&self, wire: usize) -> bool {
        self.conns[wire].release_key().is_some()
    }

    /// A client whose message was cut short has left by the end of the turn.
    pub(super) fn expect_left(&mut self) -> Check {
        for (wire, _) in std::mem::take(&mut self.leaving) {
            let conn = &self.conns[wire];
            expect(conn.session.is_none(), || {
                format!("the message of wire {wire} was cut short for nothing")
            })?;
        }
        Ok(())
    }

    /// Each accepted message was delivered, or reported to its sender, or cut short, or is queued, unconfirmed or kept.
    pub fn expect_all_accounted_for(&self) -> Check {
        let unwritten_and_unconfirmed = |conn: &Conn| conn.messages() + conn.unconfirmed.messages();
        let kept = self.sessions.values().map(|session| session.kept().count() as u64).sum::<u64>();
        let waiting = self.conns.iter().map(unwritten_and_unconfirmed).sum::<u64>() + kept;
        let totals = &self.totals;
        let gone = totals.messages_delivered + totals.messages_undelivered + totals.messages_cut_short;
        expect(totals.messages_accepted == gone + waiting, || format!("{totals:?} and {waiting} that wait"))
    }
}

/// A longer message is always a message in transit.
fn expect_small(bytes: usize) -> Check {
    expect(bytes <= SMALL_MESSAGE_BYTES_MAX, || {
        format!("{bytes} bytes have arrived whole and are not released")
    })
}
