//! A shutdown: sessions are closed one after another at an even pace. The relay chooses the order.

use std::time::Duration;

use apptuner_relay::relay::{ClientType, Tick};

use super::conn::Phase;
use super::sessions::Session;
use super::{Check, Model, expect};
use crate::journal::Event;

/// The longest time between the closes of two sessions, in nanoseconds.
const INTERVAL_MAX: u128 = 10_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    began_at: Tick,
    /// When the remaining connections are dropped.
    pub deadline: Tick,
    /// Nanoseconds between the closes of two sessions.
    interval: u128,
    /// The number of sessions with clients at the start, and how many have been closed.
    sessions: usize,
    closed: usize,
}

impl Drain {
    /// How many sessions must be closed by `now`, including those that have ended by themselves.
    fn due(&self, now: Tick) -> usize {
        let until = u128::from(now.0.saturating_sub(self.began_at.0) + 1) * 1_000_000;
        let due = if self.interval == 0 { u128::MAX } else { until.div_ceil(self.interval) };
        usize::try_from(due).unwrap_or(usize::MAX).min(self.sessions)
    }
}

impl Model {
    pub fn shut_down(&mut self, grace: Duration) {
        if self.drain.is_some() {
            return;
        }
        let now = self.now.tick;
        for conn in &mut self.conns {
            if conn.phase == Phase::Head {
                conn.answer(503, now);
                self.totals.requests_refused += 1;
            }
        }
        // No client can come back to an empty session.
        let is_empty = |session: &Session| session.desktop.is_none() && session.mobile.is_none();
        let empty = self.sessions.iter().filter(|(_, session)| is_empty(session)).map(|(id, _)| id.clone());
        for id in empty.collect::<Vec<_>>() {
            self.give_up_kept(&id);
            self.sessions.remove(&id);
        }
        let sessions = self.sessions.len();
        let spread = grace.as_nanos() * 3 / 4;
        let interval = spread.checked_div(sessions as u128).unwrap_or(0).min(INTERVAL_MAX);
        self.drain = Some(Drain { began_at: now, deadline: now.after(grace), interval, sessions, closed: 0 });
        self.shutdowns += u64::from(sessions > 1);
    }

    /// The relay closes a client because it shuts down: the first of its session, or right after its peer.
    pub(super) fn drained(&mut self, event: &Event, conn: &str, id: &str) -> Check {
        let now = self.now.tick;
        // A client that has a part of a message is closed with 1001 here, like all others.
        while let Some(Event::Left { session, code: 1011, .. }) = self.awaited.front()
            && session == id
        {
            self.awaited.pop_front();
        }
        if let Some(awaited) = self.awaited.pop_front() {
            return expect(&awaited == event, || format!("{event:?} instead of {awaited:?}"));
        }
        let drain = self.drain.as_mut().ok_or("closed for a shutdown that never began")?;
        drain.closed += 1;
        let (closed, due) = (drain.closed, drain.due(now));
        expect(closed <= due, || format!("{closed} sessions closed when {due} are due"))?;
        self.closed_later += u64::from(now > drain.began_at);
        let wire = *self.by_id.get(conn).ok_or("an unknown connection is closed")?;
        let session = self.sessions.remove(id).ok_or_else(|| format!("session {id} closed twice"))?;
        expect(session.kept().count() == 0, || format!("session {id} is closed, and still keeps messages"))?;
        let clients = [(ClientType::Desktop, session.desktop), (ClientType::Mobile, session.mobile)];
        let mut is_member = false;
        for (client_type, client) in clients {
            let Some(client) = client else { continue };
            let conn = &mut self.conns[client];
            conn.session = None;
            let unconfirmed = conn.unconfirmed.messages();
            expect(unconfirmed == 0, || {
                format!("wire {client} is closed with {unconfirmed} unconfirmed messages")
            })?;
            if conn.is_cut_short {
                self.totals.messages_undelivered += conn.take_messages().len() as u64;
            }
            conn.close(1001, Some("Relay shutting down"), Phase::Closing, now);
            is_member |= client == wire;
            if client != wire {
                let (conn, session) = (conn.id.to_string(), id.to_owned());
                self.awaited.push_back(Event::Drained { conn, client_type, session });
            }
        }
        expect(is_member, || format!("{event:?}, who is not in the session"))
    }

    /// After each turn: no session that is due is left, and after the grace period no connection.
    pub(super) fn expect_drained_in_time(&self) -> Check {
        let Some(drain) = self.drain else { return Ok(()) };
        let live = self.live();
        expect(self.now.tick < drain.deadline || live == 0, || {
            format!("{live} connections are there beyond the grace")
        })?;
        let ahead = drain.sessions - drain.due(self.now.tick);
        let left = self.sessions.len();
        expect(left <= ahead, || {
            format!("{left} sessions are left in a shutdown, although {ahead} are not due")
        })
    }
}
