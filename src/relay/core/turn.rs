//! One turn: serve who is ready, fire what is due, write what was queued. Each within a bound.

use std::io::{Read, Write};

use log::{Level, debug, info, log_enabled};

use super::relay::{MESSAGES, Relay, Timer};
use crate::relay::client::connection::{Connection, Due, FlushEnd, ReadEnd};
use crate::relay::client::outbox::{Arrived, Backlog, Outbox};
use crate::relay::counts::counters;
use crate::relay::effect::Effect;
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::limits::{
    CONNECTIONS_PER_TURN, EARLY_FLUSH_BYTES, LEAST_READ_BYTES, READ_BYTES_PER_TURN, RECEIVE_BUFFER_BYTES,
    TIMERS_PER_TURN, UNREAD_RETRY, WRITE_BYTES_PER_TURN,
};
use crate::relay::sessions::{Expiry, Session, SessionKey};
use crate::relay::tables::wheel::TimerKey;
use crate::relay::time::{Now, Tick, format_duration};
use crate::relay::wire::frame::{Opcode, ServerHeader};
use crate::relay::wire::message::{CloseReason, Logged};

/// What came of handing a connection's stream what waits.
struct Flushed {
    end: FlushEnd,
    has_taken: bool,
}

impl<S: Read + Write> Relay<S> {
    /// Does what there is to do: reads from connections that are ready and routes what they sent,
    /// fires timers due at `now`, and hands every touched connection what waits for it. Bounded;
    /// what is left over makes [`has_work`](Self::has_work) true.
    pub fn handle_turn(&mut self, now: Now) {
        // Those of the turn before, should nobody have measured it.
        self.measure_delivered(self.now);
        self.now = now;
        self.is_logging_messages = log_enabled!(target: MESSAGES, Level::Info);
        self.catch_up.begin_turn(now.tick, self.ready.len());
        let served = self.ready.len().min(CONNECTIONS_PER_TURN);
        for _ in 0..served {
            if let Some(id) = self.ready.pop_front() {
                self.serve(id);
            }
        }
        self.catch_up.note_served(served);
        self.wheel.advance(now.tick);
        for _ in 0..TIMERS_PER_TURN {
            let Some((_, timer)) = self.wheel.poll_expired() else { break };
            self.fire(timer);
        }
        self.flush_touched();
        self.serve_starved();
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Reads from one connection until it has nothing more, is held, or has had its share.
    fn serve(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.is_ready = false;
        let mut allowance = READ_BYTES_PER_TURN;
        while self.may_read(id) {
            if allowance == 0 {
                self.make_ready(id);
                break;
            }
            let bytes_max = self.read_bytes_max(id);
            let Some(slot) = self.slots.get_mut(id) else { break };
            let transits = &mut self.pool.transits;
            match slot.connection.read(&mut self.receiver, transits, bytes_max, self.now.tick) {
                ReadEnd::Bytes(count) => {
                    // However little it brings, a read is a system call.
                    allowance = allowance.saturating_sub(count.max(LEAST_READ_BYTES));
                    self.take_in(id, count);
                    self.settle(id);
                    self.flush_early(id, count);
                }
                ReadEnd::Blocked => break,
                ReadEnd::Ended => {
                    self.end_of_stream(id);
                    break;
                }
                ReadEnd::Failed => {
                    self.lose(id);
                    break;
                }
            }
        }
        self.touch(id);
    }

    /// How many bytes to read at once: as many as possible of what is thrown away, for it takes no memory; else, where
    /// memory is short, no more than what has begun needs, and little of it.
    fn read_bytes_max(&self, id: ConnectionId) -> usize {
        let memory = &self.pool.transits.memory;
        let connection = self.slots.get(id).map(|slot| &slot.connection);
        if connection.is_some_and(Connection::is_discarding) {
            return RECEIVE_BUFFER_BYTES;
        }
        match connection.and_then(|connection| connection.inbound.missing_bytes()) {
            Some(missing_bytes) if memory.is_short_of_chunks() || !memory.has_small_room() => {
                missing_bytes.min(memory.piece_bytes_max())
            }
            Some(_) | None => memory.read_bytes_max(),
        }
    }

    /// Hands on what was read while it is still in the cache, if it is much: about as much as was read, so that
    /// the peer's share of the turn stays bounded.
    fn flush_early(&mut self, id: ConnectionId, bytes_read: usize) {
        let Some(peer) = self.peer_of(id) else { return };
        if let Some(slot) = self.slots.get(peer)
            && slot.connection.outbox().is_some_and(|outbox| outbox.backlog().bytes >= EARLY_FLUSH_BYTES)
        {
            // What comes of it is seen to by the flush at the end of the turn.
            self.flush_connection(peer, bytes_read);
            self.touch(peer);
        }
        self.settle(peer);
    }

    /// Whether reading from a connection may bring something and is allowed to. A client that
    /// failed while it was held is gone, and so is one that ended its stream while it was held for want of room.
    fn may_read(&mut self, id: ConnectionId) -> bool {
        let is_held = self.update_held(id);
        let Some(slot) = self.slots.get(id) else { return false };
        if !is_held {
            return slot.connection.is_readable();
        }
        let is_starved = slot.connection.is_starved(&self.pool.transits.memory);
        if slot.connection.is_failed() {
            self.lose(id);
        } else if is_starved && slot.connection.is_read_closed() {
            self.end_of_stream(id);
        } else if is_starved {
            self.starve(id);
        }
        false
    }

    /// Works out anew whether a client is held, and notes it.
    fn update_held(&mut self, id: ConnectionId) -> bool {
        let now = self.now.tick;
        let peer = self.peer_of(id).and_then(|peer| self.slots.get(peer));
        let peer_outbox = peer.and_then(|peer| peer.connection.outbox());
        let Some(slot) = self.slots.get(id) else { return false };
        let memory = &self.pool.transits.memory;
        let is_held = slot.connection.is_held(peer_outbox, memory, now);
        let is_starved = is_held && slot.connection.is_starved(memory);
        let Some(slot) = self.slots.get_mut(id) else { return false };
        let held_for = slot.connection.held_for(now);
        if slot.connection.set_held(is_held, is_starved, now) {
            match held_for {
                None => {
                    self.counters.reads_paused += 1;
                    debug!("conn={id} Reading paused until less waits");
                }
                Some(held_for) => {
                    debug!("conn={id} held_ms={} Reading resumed", held_for.as_millis());
                }
            }
        }
        is_held
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Connection(id) => self.fire_connection(id),
            Timer::Session(session) => self.fire_session(session),
            Timer::Host(host) => self.fire_host(host),
            Timer::Accept => self.accept_retry = None,
            Timer::Drain => self.close_due_sessions(),
            Timer::Shutdown => self.drop_everyone(),
        }
    }

    fn fire_connection(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.timer = None;
        self.touch(id);
        let Some(slot) = self.slots.get(id) else { return };
        let Some((deadline, due)) = slot.connection.due(&self.settings, self.now.tick) else { return };
        // Where it is too early for a verdict the flush that follows sets the timer anew, to fire in the next turn.
        let is_due = if due.is_verdict() {
            deadline <= self.catch_up.read_until() && !slot.connection.is_to_be_read(due)
        } else {
            deadline <= self.now.tick
        };
        if is_due {
            self.handle_due(id, due);
        }
    }

    fn handle_due(&mut self, id: ConnectionId, due: Due) {
        match due {
            Due::Head => {
                let refusal = self.refusal_outside(id).unwrap_or(Refusal::HeadTimeout);
                self.refuse(id, refusal, AnswerForm::default());
            }
            Due::Ping => self.ping(id),
            Due::Silence => self.cut_unless_it_takes(id, due, &CloseReason::Silent),
            Due::Stall => self.cut_unless_it_takes(id, due, &CloseReason::TakesNothing),
            Due::Message => self.fail(id, &CloseReason::MessageTimeout, None, true),
            Due::Starved => self.end_starved(id),
            // The flush that follows has it read again.
            Due::Pace => {}
            Due::CloseAnswer => self.end(id),
            Due::End => self.remove(id),
        }
    }

    /// Cuts a client off, unless its socket, tried once more, takes something.
    fn cut_unless_it_takes(&mut self, id: ConnectionId, due: Due, reason: &CloseReason) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.probe();
        }
        // What is left over goes out with the flush at the end of the turn: its timer has touched it.
        self.flush(id);
        let Some(slot) = self.slots.get(id) else { return };
        let now = self.now.tick;
        let is_still_due = |(deadline, still)| deadline <= now && still == due;
        if slot.connection.due(&self.settings, now).is_some_and(is_still_due) {
            self.cut(id, reason);
        }
    }

    /// Asks a client for a sign of life. While its socket refuses what waits already, a ping would only wait
    /// with it: that it takes something is the sign then.
    fn ping(&mut self, id: ConnectionId) {
        let now = self.now.tick;
        let Some(slot) = self.slots.get_mut(id) else { return };
        let is_blocked = slot.connection.outbox().is_some_and(Outbox::is_blocked);
        slot.connection.note_pinged(!is_blocked, now);
        if !is_blocked {
            let ping = ServerHeader::new(Opcode::Ping, true, 0);
            self.queue(id, |outbox, pool| outbox.control(pool, |out| out.extend_from_slice(ping.as_bytes())));
        }
    }

    fn fire_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.timer = None;
        match self.sessions.due(key) {
            Some((deadline, _)) if deadline <= self.now.tick && self.is_unread(key) => {
                let retry = self.now.tick.after(UNREAD_RETRY);
                let timer = self.rearm(None, retry, Timer::Session(key));
                if let Some(session) = self.sessions.get_mut(key) {
                    session.timer = timer;
                }
            }
            Some((deadline, expiry)) if deadline <= self.catch_up.read_until() => self.expire(key, expiry),
            // Where it is too early for a verdict it fires again in the next turn.
            Some(_) | None => self.arm_session(key),
        }
    }

    /// Whether something may lie in the kernel that a session's clients have sent, and that nobody holds back: a
    /// message would keep it.
    fn is_unread(&self, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get(key) else { return false };
        let clients = [ClientType::Desktop, ClientType::Mobile];
        clients.into_iter().filter_map(|client_type| session.client(client_type)).any(|id| {
            let connection = self.slots.get(id).map(|slot| &slot.connection);
            connection.is_some_and(|connection| connection.is_readable() && !connection.is_noted_held())
        })
    }

    fn expire(&mut self, key: SessionKey, expiry: Expiry) {
        let Some(session) = self.end_session(key) else { return };
        let id = Logged(session.id.as_str());
        match expiry {
            Expiry::Inactive => {
                let timeout = format_duration(self.settings.session_timeout);
                info!("session={id} Session {id} deleted: inactive for {timeout}");
            }
            Expiry::Empty => {
                let window = format_duration(self.settings.reconnect_window);
                info!("session={id} Session {id} deleted: empty for {window}");
            }
        }
        self.close_session(&session);
    }

    /// Makes room for another session.
    pub(super) fn end_longest_empty_session(&mut self) {
        let session = self.sessions.remove_longest_empty();
        self.forget_for_room(session);
    }

    /// Makes room for another session that is issued.
    pub(super) fn end_longest_unused_session(&mut self) {
        let session = self.sessions.remove_longest_unused();
        self.forget_for_room(session);
    }

    fn forget_for_room(&mut self, session: Option<Session>) {
        let Some(session) = session else { return };
        self.note_session_end(&session);
        let id = Logged(session.id.as_str());
        info!("session={id} Session {id} deleted: empty, and its place was needed");
    }

    /// Sets the timer of a session.
    pub(super) fn arm_session(&mut self, key: SessionKey) {
        let armed = self.sessions.get(key).and_then(|session| session.timer);
        if let Some((deadline, _)) = self.sessions.due(key) {
            let timer = self.rearm(armed, deadline, Timer::Session(key));
            if let Some(session) = self.sessions.get_mut(key) {
                session.timer = timer;
            }
        }
    }

    /// Sets the timer of a connection.
    pub(super) fn arm(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get(id) else { return };
        if let Some((deadline, _)) = slot.connection.due(&self.settings, self.now.tick) {
            let timer = self.rearm(slot.timer, deadline, Timer::Connection(id));
            if let Some(slot) = self.slots.get_mut(id) {
                slot.timer = timer;
            }
        }
    }

    /// Sets a timer, unless one is set that fires no later: a deadline that has moved away is not
    /// followed, its timer fires, finds nothing due and is set anew.
    pub(super) fn rearm(
        &mut self,
        armed: Option<(Tick, TimerKey)>,
        deadline: Tick,
        timer: Timer,
    ) -> Option<(Tick, TimerKey)> {
        if let Some((armed_for, key)) = armed {
            if armed_for <= deadline {
                return armed;
            }
            self.wheel.cancel(key);
        }
        self.schedule(deadline, timer).map(|key| (deadline, key))
    }

    /// Flushes each touched connection once. Those that used up their share go on in the next turn, and so do those
    /// that a flush touches: two that hold each other would take turns within this one.
    fn flush_touched(&mut self) {
        let mut left_over = Vec::new();
        let touched = self.touched.len();
        for index in 0..touched {
            if let Some(&id) = self.touched.get(index)
                && self.flush(id)
            {
                left_over.push(id);
            }
        }
        self.touched.drain(..touched);
        for id in left_over {
            self.touch(id);
        }
    }

    /// Flushes one connection; whether it has more to write at once.
    fn flush(&mut self, id: ConnectionId) -> bool {
        let Some(slot) = self.slots.get_mut(id) else { return false };
        slot.is_touched = false;
        let Some(Flushed { end, has_taken }) = self.flush_connection(id, WRITE_BYTES_PER_TURN) else {
            return false;
        };
        match end {
            FlushEnd::Idle | FlushEnd::More => {}
            FlushEnd::Shut => self.effects.push_back(Effect::ShutdownWrite(id)),
            FlushEnd::Gone => {
                self.remove(id);
                return false;
            }
        }
        if has_taken
            && let Some(peer) = self.peer_of(id)
            && self.slots.get(peer).is_some_and(|peer| peer.connection.is_noted_held())
        {
            self.make_ready(peer);
            self.touch(peer);
        }
        self.settle(id);
        let is_held = self.update_held(id);
        let Some(slot) = self.slots.get(id) else { return false };
        if !is_held || slot.connection.is_failed() {
            self.make_ready(id);
        } else if slot.connection.is_starved(&self.pool.transits.memory) {
            // What held it before may have ended just now: only room will have it served.
            self.starve(id);
        }
        self.arm(id);
        end == FlushEnd::More
    }

    /// Hands one connection's stream what waits, and counts the messages that it takes.
    fn flush_connection(&mut self, id: ConnectionId, bytes_max: usize) -> Option<Flushed> {
        let slot = self.slots.get_mut(id)?;
        let backlog = |outbox: Option<&Outbox>| outbox.map_or(Backlog::default(), Outbox::backlog);
        let before = backlog(slot.connection.outbox());
        let end = slot.connection.flush(&mut self.pool, bytes_max, self.now.tick);
        let after = backlog(slot.connection.outbox());
        let sender = slot.client_type().peer();
        counters::add(
            &mut self.counters.messages_delivered,
            sender as usize,
            before.messages - after.messages,
        );
        Some(Flushed { end, has_taken: after.bytes < before.bytes })
    }

    /// Measures a turn that has ended, at `micros` on the clock of [`Now::micros`], and how long the messages that it
    /// delivered were in the relay. It is for the host to call where somebody wants to know; nothing depends on it.
    pub fn handle_turn_end(&mut self, micros: u64) {
        self.counters.turn_micros.observe(micros.saturating_sub(self.now.micros), 1);
        self.measure_delivered(Now { micros, ..self.now });
    }

    fn measure_delivered(&mut self, at: Now) {
        for Arrived { micros, messages } in self.pool.delivered.drain(..) {
            let in_relay = at.wrapped_micros().wrapping_sub(micros);
            self.counters.relay_micros.observe(u64::from(in_relay), u64::from(messages));
        }
    }
}
