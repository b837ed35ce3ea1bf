//! What each client must see, derived only from the contract. The model is a simple twin of the relay. It is told what
//! the relay read and when, and checks what the relay writes.
//!
//! From the relay it uses only the order of its actions, when it released a message or cut one short, how many messages
//! a pong confirmed, and which memory it took back. What the relay reads means what its sender says. When the relay logs
//! that a client joined or left, that must be due. What it writes must be what the model expects next for that client.
//! When the relay rests, nothing may be owed to a client.

mod access;
mod conn;
mod delivery;
mod drain;
mod expected;
mod memory;
mod rest;
mod sessions;
#[cfg(test)]
mod tests;
mod transit;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use apptuner_relay::relay::internals::limits::{
    ACCEPT_RETRY, CLOSE_ANSWER_TIMEOUT, CLOSE_TIMEOUT, FRAME_HEADER_BYTES_MAX, HIGH_WATER_BYTES,
    LOW_WATER_BYTES, OVERFULL_BYTES, RECEIVE_BUFFER_BYTES, REFUSALS_MAX, SMALL_MESSAGE_BYTES_MAX,
};
use apptuner_relay::relay::{ClientType, ConnectionId, Now, Tick};
use apptuner_relay::relay::{Readiness, Settings};

use crate::client::{Unit, What};
use crate::journal::Event;
use crate::totals::Totals;
use access::{Host, HostName};
use conn::{Conn, Phase};
use drain::Drain;
use expected::Expected;
use sessions::Session;

type Check = Result<(), String>;

/// The state that the relay should have, and what it owes.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    now: Now,
    conns: Vec<Conn>,
    by_id: BTreeMap<String, usize>,
    sessions: BTreeMap<String, Session>,
    hosts: BTreeMap<HostName, Host>,
    has_keys: bool,
    /// The wire that must be issued a session next.
    issuing: Option<usize>,
    /// The answers to requests that lack a secret or key, by status. They must all be equal.
    unproven_answers: BTreeMap<u16, String>,
    /// Events that the relay must log next, before it does anything else.
    awaited: VecDeque<Event>,
    /// A client that was just read, so that its message may be released.
    releasing: Option<usize>,
    /// A client whose messages are checked again after the awaited events.
    interrupted: Option<usize>,
    /// Clients that leave, so that their message was cut short in this turn; and whether they may have been held until
    /// then.
    leaving: Vec<(usize, bool)>,
    /// The client that was replaced last, and its replacement.
    replacing: Option<(usize, usize)>,
    messages_begun: u64,
    /// A client that was told that its message is kept, and how much of it had arrived. The relay must log that next.
    keeping: Option<(usize, usize)>,
    /// Messages that are given up, by session and receiver. The relay must log that in this turn.
    given_up_due: BTreeMap<(String, ClientType), VecDeque<u64>>,
    /// A session in which everything was given up. It must be closed for a shutdown next.
    ending: Option<String>,
    /// Clients that are no longer asked to confirm. They must be closed for a shutdown in this turn.
    draining: Vec<usize>,
    /// The ends of clients that the relay has logged in detail: messages kept, and undelivered.
    ends: BTreeMap<usize, (u64, u64)>,
    /// The last read brought more than pongs.
    pub has_read_more_than_pongs: bool,
    /// The highest memory use that the relay may report at this point of its turn.
    used_max: usize,
    /// At some point of this turn there may have been too little memory for a read.
    lacked_room: bool,
    drain: Option<Drain>,
    /// The latest time at which accepting is tried again.
    accept_retry: Option<Tick>,
    pub totals: Totals,
    /// Messages released before they were whole, those of them released before 1 MiB had arrived, and those lost when
    /// their receiver was replaced.
    pub cut_through: u64,
    pub released_early: u64,
    pub lost: u64,
    /// Messages accepted for a receiver that was away.
    pub kept_for_absent: u64,
    /// Messages that gave way to others: of clients that were connected, and of clients that were away.
    pub freed: u64,
    pub evicted: u64,
    /// Clients that are no longer asked to confirm because they answer nothing.
    pub unasked: u64,
    /// Clients refused without a secret or key, clients refused for their address, and lock-outs.
    pub unproven: u64,
    pub turned_away: u64,
    pub lock_outs: u64,
    /// Clients refused because their place changes hands too often.
    pub contested: u64,
    /// Shutdowns of several sessions, sessions that were not closed at once, and messages accepted during shutdowns.
    pub shutdowns: u64,
    pub closed_later: u64,
    pub accepted_meanwhile: u64,
}

impl Model {
    pub fn new(settings: Settings, has_keys: bool, now: Now) -> Self {
        Self {
            settings,
            now,
            conns: Vec::new(),
            by_id: BTreeMap::new(),
            sessions: BTreeMap::new(),
            hosts: BTreeMap::new(),
            has_keys,
            issuing: None,
            unproven_answers: BTreeMap::new(),
            awaited: VecDeque::new(),
            releasing: None,
            interrupted: None,
            leaving: Vec::new(),
            replacing: None,
            messages_begun: 0,
            keeping: None,
            given_up_due: BTreeMap::new(),
            ending: None,
            draining: Vec::new(),
            ends: BTreeMap::new(),
            has_read_more_than_pongs: false,
            used_max: 0,
            lacked_room: false,
            drain: None,
            accept_retry: None,
            totals: Totals::default(),
            cut_through: 0,
            released_early: 0,
            lost: 0,
            kept_for_absent: 0,
            freed: 0,
            evicted: 0,
            unasked: 0,
            unproven: 0,
            turned_away: 0,
            lock_outs: 0,
            contested: 0,
            shutdowns: 0,
            closed_later: 0,
            accepted_meanwhile: 0,
        }
    }

    /// Sets the time. Call before a turn.
    pub const fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub fn begin_turn(&mut self) {
        self.lacked_room = false;
        self.note_room();
    }

    pub fn accept(&mut self, id: ConnectionId, address: IpAddr) {
        let taken =
            self.conns.iter().filter(|conn| conn.phase != Phase::Gone && !conn.is_turned_away).count();
        let is_over_limit = self.settings.max_connections.is_some_and(|max| taken >= max);
        self.totals.connections_accepted += 1;
        let wire = self.conns.len();
        self.by_id.insert(id.to_string(), wire);
        self.conns.push(Conn::new(id, self.now.tick));
        self.receive(wire, address, is_over_limit);
    }

    pub fn exhaust(&mut self) {
        self.accept_retry.get_or_insert(self.now.tick.after(ACCEPT_RETRY));
    }

    /// Whether a new connection may be accepted, perhaps only to be refused.
    pub fn may_accept(&self) -> bool {
        let is_full = self.settings.max_connections.is_some_and(|max| self.live() >= max + REFUSALS_MAX);
        !is_full && self.accept_retry.is_none() && self.drain.is_none()
    }

    fn live(&self) -> usize {
        self.conns.iter().filter(|conn| conn.phase != Phase::Gone).count()
    }

    /// A client has sent something, which the relay may read from now on.
    pub fn said(&mut self, wire: usize, units: Vec<Unit>) {
        self.conns[wire].units.extend(units);
    }

    pub fn apply(&mut self, event: &Event) -> Check {
        self.expect_in_order(event)?;
        let is_replaced = matches!(event, Event::Replaced { .. });
        expect(is_replaced || self.replacing.is_none(), || {
            format!("{event:?} although {:?} is due to be replaced", self.replacing)
        })?;
        let is_issued = matches!(event, Event::Issued { .. });
        expect(is_issued || self.issuing.is_none(), || {
            format!("{event:?} although wire {:?} was due a session first", self.issuing)
        })?;
        if let Event::Wrote { wire, .. } | Event::WriteBlocked { wire } | Event::WriteFailed { wire } = event
        {
            self.answer_early(*wire)?;
        }
        // Writing and leaving free memory, and the relay notices that later.
        if let Event::Wrote { .. } | Event::Left { .. } = event {
            self.note_room();
        }
        self.follow(event)
    }

    /// Whether an event may come now, while others are awaited.
    fn expect_in_order(&mut self, event: &Event) -> Check {
        // The parts of what a client's read or end leads to.
        let is_part = matches!(
            event,
            Event::Released { .. }
                | Event::Kept { .. }
                | Event::Confirmed { .. }
                | Event::GivenUp { .. }
                | Event::Ended { .. }
                | Event::Replaced { .. }
                | Event::Told { .. }
        );
        let may_come_first = matches!(
            event,
            Event::Joined { .. }
                | Event::Left { .. }
                | Event::Drained { .. }
                | Event::CutShort { .. }
                | Event::Unasked { .. }
                | Event::Freed { .. }
        );
        if !is_part && !may_come_first {
            self.expect_nothing_awaited(event)?;
            self.expect_announced()?;
        }
        if let Event::Drained { session, .. } = event {
            self.ending.take_if(|ending| ending == session);
        }
        if is_part { Ok(()) } else { self.expect_released() }
    }

    fn follow(&mut self, event: &Event) -> Check {
        match event {
            Event::Read { wire, bytes, is_full } => {
                self.conns[*wire].is_readable = *is_full || self.conns[*wire].has_ended_stream;
                self.conns[*wire].queue_limit = usize::MAX;
                self.conns[*wire].bytes_limit = usize::MAX;
                self.expect_large_read(*wire, *bytes, *is_full)?;
                self.read(*wire, *bytes)
            }
            Event::ReadEnded { wire } => self.input_over(*wire),
            Event::Released { conn, bytes } => self.released(self.by_id[conn], *bytes),
            Event::CutShort { conn, .. } => self.cut_short(event, self.by_id[conn]),
            Event::Replaced { conn, messages } => self.replaced(self.by_id[conn], *messages),
            Event::Told { conn, code } => self.told(self.by_id[conn], code),
            Event::Confirmed { conn, messages } => self.confirmed(self.by_id[conn], *messages),
            Event::Unasked { conn, messages } => self.unasked(self.by_id[conn], *messages),
            Event::Freed { conn, messages } => self.freed(self.by_id[conn], *messages),
            Event::Kept { conn, bytes } => self.kept(self.by_id[conn], *bytes),
            Event::GivenUp { session, client_type, messages } => {
                self.given_up(session, *client_type, *messages)
            }
            Event::Ended { conn, kept, undelivered } => {
                self.ends.insert(self.by_id[conn], (*kept, *undelivered));
                Ok(())
            }
            Event::ReadFailed { wire } | Event::WriteFailed { wire } => {
                self.conns[*wire].is_failed = true;
                Ok(())
            }
            Event::ReadBlocked { wire } => {
                self.conns[*wire].is_readable = false;
                Ok(())
            }
            Event::Wrote { wire, bytes } => self.wrote(*wire, bytes),
            Event::WriteBlocked { wire } => {
                let conn = &mut self.conns[*wire];
                if conn.blocked_since.is_none() {
                    conn.blocked_since = Some(self.now.tick);
                    conn.progress_at = self.now.tick;
                }
                Ok(())
            }
            Event::Joined { conn, client_type, session } => {
                let is_awaited = self.awaited.pop_front().as_ref() == Some(event);
                expect(is_awaited, || format!("{conn} joined {session} unasked"))?;
                self.join(self.by_id[conn], *client_type, session)
            }
            Event::Left { conn, code, .. } => {
                let wire = *self.by_id.get(conn).ok_or("an unknown connection left")?;
                match self.awaited.pop_front() {
                    Some(awaited) => {
                        expect(&awaited == event, || format!("{event:?} instead of {awaited:?}"))?;
                    }
                    None => self.justify_leaving(wire, *code)?,
                }
                // It was about to be closed for another reason.
                self.awaited.retain(|awaited| !matches!(awaited, Event::Left { conn: of, .. } if of == conn));
                self.leave(wire, *code)?;
                self.go_on()
            }
            Event::Issued { conn, session } => self.issued(self.by_id[conn], session),
            Event::Drained { conn, session, .. } => self.drained(event, conn, session),
            Event::Deleted { session, reason } => self.delete(session, reason),
        }
    }

    pub fn expect_nothing_awaited(&self, event: &Event) -> Check {
        match self.awaited.front() {
            Some(awaited) => Err(format!("{event:?} although {awaited:?} was due first")),
            None => Ok(()),
        }
    }

    fn read(&mut self, wire: usize, bytes: usize) -> Check {
        self.expect_readable(wire)?;
        let conn = &mut self.conns[wire];
        self.has_read_more_than_pongs = conn.are_more_than_pongs(bytes as u64);
        conn.heard(bytes as u64, self.now.tick);
        conn.turn_read += bytes;
        self.note_use(bytes);
        self.progress(wire)
    }

    /// Bytes that are discarded take no memory, so reads of them must not be shorter than necessary. A part of a small
    /// frame may be kept.
    fn expect_large_read(&self, wire: usize, bytes: usize, is_full: bool) -> Check {
        let is_thrown_away = matches!(self.conns[wire].phase, Phase::Closing | Phase::Ending);
        let kept_bytes_max = FRAME_HEADER_BYTES_MAX + SMALL_MESSAGE_BYTES_MAX;
        let is_large = bytes + kept_bytes_max >= RECEIVE_BUFFER_BYTES;
        expect(!is_thrown_away || !is_full || is_large, || {
            format!("wire {wire} has no more than {bytes} bytes read to be thrown away")
        })
    }

    /// Backpressure: a client is not read while more than the high-water mark waits for its peer.
    fn expect_readable(&self, wire: usize) -> Check {
        let conn = &self.conns[wire];
        if conn.phase != Phase::Open {
            return Ok(());
        }
        let replies = conn.replies_bytes_at_least();
        expect(replies <= HIGH_WATER_BYTES, || {
            format!("wire {wire} is read although {replies} bytes of replies wait for it")
        })?;
        if conn.has_ended_stream {
            return Ok(());
        }
        match self.peer(wire).map(|peer| &self.conns[peer]) {
            Some(peer) if peer.is_congested() || peer.queued_bytes() > HIGH_WATER_BYTES => {
                Err(format!("wire {wire} is read although {} bytes wait for its peer", peer.queued_bytes()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Handles all complete units that the relay has read from a client.
    fn progress(&mut self, wire: usize) -> Check {
        while self.awaited.is_empty() && self.issuing.is_none() {
            let conn = &mut self.conns[wire];
            let Some(unit) = conn.take_whole_unit() else {
                self.advance(wire)?;
                break;
            };
            match conn.phase {
                Phase::Head => self.take_request(wire, unit.what),
                Phase::Open => {
                    if let Some(frame) = &unit.frame {
                        self.take_frame(wire, frame, &unit.what)?;
                    }
                    self.take(wire, unit.what);
                }
                Phase::Closing => {
                    let is_close = matches!(unit.what, What::Close { .. });
                    if is_close || matches!(unit.what, What::Refused(1002)) {
                        self.conns[wire].end(self.now.tick);
                        self.conns[wire].has_said_close = is_close;
                    }
                }
                Phase::Ending | Phase::Gone => {}
            }
        }
        if self.conns[wire].phase == Phase::Open {
            self.releasing = Some(wire);
        }
        Ok(())
    }

    fn take_request(&mut self, wire: usize, what: What) {
        let outside = self.conns[wire].only_health.filter(|_| !matches!(what, What::Answered(200)));
        if let Some(status) = outside {
            return self.answer(wire, status);
        }
        match what {
            What::Upgrade { caller, has_protocols, wants_receipts } => {
                self.conns[wire].has_protocols = has_protocols;
                self.conns[wire].wants_receipts = wants_receipts;
                self.take_upgrade(wire, caller);
            }
            What::Issue(credentials) => self.take_issue(wire, &credentials),
            What::Answered(status) => self.answer(wire, status),
            _ => unreachable!("a connection begins with a request"),
        }
    }

    fn answer(&mut self, wire: usize, status: u16) {
        self.conns[wire].answer(status, self.now.tick);
        self.totals.requests_refused += u64::from(!matches!(status, 200 | 201 | 204));
    }

    fn take(&mut self, wire: usize, what: What) {
        match what {
            What::Fragment | What::Message { .. } | What::BadJson => {}
            What::Pong(payload) => self.conns[wire].unconfirmed.take_pong(&payload),
            What::Ping(payload) => self.conns[wire].pong(payload),
            What::Close { code, reason } => {
                self.conns[wire].close_answer = Some((code.unwrap_or(1000), reason));
                self.conns[wire].has_said_close = true;
                self.await_leave(wire, code.unwrap_or(1005));
            }
            What::Refused(code) => self.await_leave(wire, code),
            What::Upgrade { .. } | What::Issue(_) | What::Answered(_) => {
                unreachable!("only at the beginning")
            }
        }
    }

    fn await_leave(&mut self, wire: usize, code: u16) {
        let conn = &self.conns[wire];
        let (session, client_type) = conn.session.clone().expect("open");
        self.awaited.push_back(Event::Left { conn: conn.id.to_string(), client_type, session, code });
    }

    fn tell(&mut self, wire: usize, start: &str, end: &str) {
        self.totals.errors_sent += 1;
        self.reply(wire, start, end);
    }

    fn reply(&mut self, wire: usize, start: &str, end: &str) {
        let system = self.system(start, end);
        let conn = &mut self.conns[wire];
        if !conn.is_cut_short {
            conn.reply(system);
        }
    }

    fn system(&self, start: &str, end: &str) -> Expected {
        let end = format!(r#"{end},"timestamp":{}}}"#, self.now.unix_millis);
        Expected::System { start: start.to_owned(), end }
    }

    fn notify(&mut self, wire: usize, client_type: ClientType, event: &str) {
        let notice = self.system(&format!(r#"{{"type":"{}_{event}""#, client_type.as_str()), "");
        self.conns[wire].queue(notice);
    }

    fn input_over(&mut self, wire: usize) -> Check {
        let conn = &mut self.conns[wire];
        conn.is_input_over = true;
        match conn.phase {
            Phase::Open => self.await_leave(wire, 1006),
            Phase::Head | Phase::Closing | Phase::Ending => conn.end(self.now.tick),
            Phase::Gone => return Err(format!("wire {wire} is read after its end")),
        }
        Ok(())
    }

    /// An answer may come as soon as it is certain, and must come when the time is up.
    fn answer_early(&mut self, wire: usize) -> Check {
        if self.conns[wire].phase == Phase::Head {
            let may_be_starved = self.may_lack_room();
            let status = self.conns[wire].early_answer(self.now.tick, &self.settings, may_be_starved)?;
            self.answer(wire, status);
        }
        Ok(())
    }

    fn wrote(&mut self, wire: usize, bytes: &[u8]) -> Check {
        let now = self.now.tick;
        let conn = &mut self.conns[wire];
        conn.turn_written += bytes.len();
        let delivered =
            conn.wrote(bytes, now, &self.settings).map_err(|why| format!("wire {wire}: {why}"))?;
        self.note_delivered(wire, delivered, false);
        self.note_copied(bytes.len());
        self.answered(wire)
    }

    /// The relay has logged the end of a client with these numbers of messages.
    fn expect_ended(&mut self, wire: usize, kept: u64, undelivered: u64) -> Check {
        let logged = self.ends.remove(&wire);
        expect(logged == Some((kept, undelivered)), || {
            format!(
                "wire {wire} left with {logged:?} messages kept and undelivered, {kept} and {undelivered} expected"
            )
        })
    }

    /// The relay has given a connection back to its host.
    pub fn closed(&mut self, id: ConnectionId) -> Check {
        let wire = *self.by_id.get(&id.to_string()).ok_or("closed a connection that never was")?;
        let is_grace_over = self.drain.is_some_and(|drain| drain.deadline <= self.now.tick);
        let now = self.now.tick;
        let lacks_room = self.may_lack_room();
        let conn = &mut self.conns[wire];
        expect(conn.phase != Phase::Gone, || format!("wire {wire} closed twice"))?;
        // If there is no memory for a head, it is not read to its end.
        conn.is_failed |= conn.phase == Phase::Head && conn.has_ended_stream && lacks_room;
        let is_stalled = conn.stall_deadline(&self.settings).is_some_and(|deadline| deadline <= now);
        expect(is_grace_over || is_stalled || conn.may_be_gone(now), || {
            format!("wire {wire} given back in {:?} with {:?} waiting", conn.phase, conn.waiting())
        })?;
        expect(conn.phase != Phase::Open, || format!("wire {wire} given back while open"))?;
        conn.phase = Phase::Gone;
        conn.abandon();
        self.totals.messages_undelivered += conn.take_messages().len() as u64;
        // A descriptor was freed.
        self.accept_retry = None;
        Ok(())
    }

    /// The relay has ended its direction of a stream.
    pub fn ended(&mut self, id: ConnectionId) -> Check {
        let wire = *self.by_id.get(&id.to_string()).ok_or("ended a stream that never was")?;
        let now = self.now.tick;
        let conn = &mut self.conns[wire];
        // A client that does not answer its close, or sends no valid frames, is waited for only briefly.
        let is_late =
            now >= conn.last_take.after(CLOSE_ANSWER_TIMEOUT) || now >= conn.done_at.after(CLOSE_TIMEOUT);
        if conn.phase == Phase::Closing && (is_late || conn.take_refused(1002)) {
            conn.phase = Phase::Ending;
        }
        conn.ended_at = now;
        expect(conn.phase == Phase::Ending && conn.waiting() == 0, || {
            format!("wire {wire} ended in {:?} with {:?} waiting", conn.phase, conn.waiting())
        })
    }

    /// Whether the relay may leave this client's bytes unread: a lot is queued for its peer, it does not read its
    /// replies, its rate is used up, or there is no memory.
    pub fn may_be_held(&self, wire: usize) -> bool {
        let is_looked_at = matches!(self.conns[wire].phase, Phase::Head | Phase::Open);
        is_looked_at && (self.lacks_room() || self.may_be_paused(wire))
    }

    /// The same, without regard to memory.
    fn may_be_paused(&self, wire: usize) -> bool {
        let conn = &self.conns[wire];
        let is_limited = self.settings.max_message_rate.is_some() || self.settings.max_byte_rate.is_some();
        let (limit, bytes_limit) = (conn.queue_limit, conn.bytes_limit);
        let may_be_over = conn.replies_bytes_given > limit
            || self.peer(wire).is_some_and(|peer| self.conns[peer].may_be_over(limit, bytes_limit));
        (conn.phase == Phase::Open && (is_limited || may_be_over || self.is_held(wire)))
            || conn.replies_bytes_at_most() > LOW_WATER_BYTES
    }

    /// Whether the relay must leave the bytes unread, and must not count the client as silent. Only the certain cases.
    fn is_held(&self, wire: usize) -> bool {
        let conn = &self.conns[wire];
        if conn.phase != Phase::Open {
            return false;
        }
        let peer = self.peer(wire).map(|peer| &self.conns[peer]);
        let is_peer_full = peer.is_some_and(|peer| {
            let is_overfull = peer.queued_bytes() > OVERFULL_BYTES;
            if conn.has_ended_stream { is_overfull } else { peer.is_congested() }
        });
        is_peer_full || conn.are_replies_congested()
    }

    /// Whether a client that the relay still reads has sent something that the relay has not taken whole.
    pub fn has_sent(&self, wire: usize, unread: usize) -> bool {
        let conn = &self.conns[wire];
        matches!(conn.phase, Phase::Head | Phase::Open) && (unread > 0 || conn.unfinished.is_some())
    }

    pub fn is_open(&self, wire: usize) -> bool {
        self.conns[wire].phase == Phase::Open
    }

    pub const fn size_max(&self) -> usize {
        self.settings.max_message_size
    }

    pub fn is_gone(&self, wire: usize) -> bool {
        self.conns[wire].phase == Phase::Gone
    }

    /// The relay is told the readiness of a stream.
    pub fn note_readiness(&mut self, wire: usize, readiness: Readiness) {
        let conn = &mut self.conns[wire];
        conn.is_readable |= readiness.is_readable || readiness.is_read_closed || readiness.is_failed;
        conn.has_ended_stream |= readiness.is_read_closed;
        conn.has_failed |= readiness.is_failed;
    }
}

fn expect(is_so: bool, otherwise: impl FnOnce() -> String) -> Check {
    if is_so { Ok(()) } else { Err(otherwise()) }
}
