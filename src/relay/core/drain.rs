//! The end of the relay: which session is closed when, and what becomes of everybody else.
//!
//! A client whose connection is closed comes back at once, as a rule, to whatever relay takes this one's place. So
//! sessions are closed one after another, lest it meet them all in one moment. Until then a session works as ever, but
//! nobody joins it any more.
//!
//! | who | what becomes of it |
//! | --- | --- |
//! | a request under way, a newcomer | refused, for the relay has no room any more |
//! | a session without a client, or that loses its last one | ends at once |
//! | a session with clients | both are closed when its time comes, behind all that waits for them |
//! | a client that was closed, or is ending, before | goes on as it is |
//! | whoever is there at the end of the grace | is dropped |

use std::io::{Read, Write};
use std::time::Duration;

use super::record::End;
use super::relay::{Relay, Timer};
use crate::relay::client::connection::Phase;
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::ClientType;
use crate::relay::limits::{DRAIN_INTERVAL_MAX, DRAIN_SPREAD_PERCENT};
use crate::relay::sessions::{Session, SessionKey, Sessions};
use crate::relay::time::Tick;
use crate::relay::wire::message::CloseReason;

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Drain {
    began_at: Tick,
    /// When every connection still there is dropped.
    deadline: Tick,
    /// From the close of one session to that of the next.
    interval: Duration,
    /// The sessions that had clients when it began, in the order in which they are closed. One that has ended
    /// since keeps its place here, and its key names no other one, for none begins during a shutdown.
    sessions: Vec<SessionKey>,
    /// How many of them are closed, or gone.
    passed: usize,
}

impl Drain {
    fn new(sessions: Vec<SessionKey>, grace: Duration, now: Tick) -> Self {
        let spread = grace / 100 * DRAIN_SPREAD_PERCENT;
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        let interval = spread.checked_div(count).unwrap_or_default().min(DRAIN_INTERVAL_MAX);
        Self { began_at: now, deadline: now.after(grace), interval, sessions, passed: 0 }
    }

    /// How long after the beginning the session at `index` is closed, in whole milliseconds: rounded down, so that the
    /// last one is before the deadline, however short the grace is.
    fn delay(&self, index: usize) -> Duration {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let millis = self.interval.saturating_mul(index).as_millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The next session that is due to be closed, be it there or gone.
    fn next_due(&mut self, now: Tick) -> Option<SessionKey> {
        let key = *self.sessions.get(self.passed)?;
        let is_due = self.began_at.after(self.delay(self.passed)) <= now;
        self.passed += usize::from(is_due);
        is_due.then_some(key)
    }

    /// When the next session that is still there is due. Passes over those that are gone, each once.
    fn next_due_at(&mut self, sessions: &Sessions) -> Option<Tick> {
        while let Some(&key) = self.sessions.get(self.passed) {
            if sessions.get(key).is_some() {
                return Some(self.began_at.after(self.delay(self.passed)));
            }
            self.passed += 1;
        }
        None
    }
}

/// How the sessions of a relay that shuts down are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Those that have clients.
    pub sessions: usize,
    /// The time between the first close and the last.
    pub spread: Duration,
}

impl<S: Read + Write> Relay<S> {
    /// Begins a shutdown: requests are refused, empty sessions end, and the times of the others are fixed.
    pub(super) fn begin_drain(&mut self, grace: Duration) -> Shutdown {
        for id in self.slots.ids() {
            if self.slots.get(id).is_some_and(|slot| matches!(slot.connection.phase, Phase::Head(_))) {
                self.refuse(id, Refusal::ConnectionLimit, AnswerForm::default());
            }
        }
        let is_empty = |key: &SessionKey| self.sessions.get(*key).is_none_or(Session::is_empty);
        let (empty, sessions): (Vec<_>, Vec<_>) = self.sessions.keys().partition(is_empty);
        for key in empty {
            self.end_session(key);
        }
        let drain = Drain::new(sessions, grace, self.now.tick);
        let sessions = drain.sessions.len();
        let shutdown = Shutdown { sessions, spread: drain.delay(sessions.saturating_sub(1)) };
        let deadline = drain.deadline;
        self.drain = Some(drain);
        self.schedule_next_close();
        self.schedule(deadline, Timer::Shutdown);
        shutdown
    }

    /// Closes the sessions that are due, and sees to the next one.
    pub(super) fn close_due_sessions(&mut self) {
        while let Some(drain) = &mut self.drain
            && let Some(key) = drain.next_due(self.now.tick)
        {
            let deadline = drain.deadline;
            self.close_for_shutdown(key, deadline);
        }
        self.schedule_next_close();
    }

    fn schedule_next_close(&mut self) {
        let next = self.drain.as_mut().and_then(|drain| drain.next_due_at(&self.sessions));
        if let Some(next) = next {
            self.schedule(next, Timer::Drain);
        }
    }

    /// Closes the clients of a session, both at once: each gets what waits for it and then a close.
    fn close_for_shutdown(&mut self, key: SessionKey, deadline: Tick) {
        let Some(session) = self.end_session(key) else { return };
        self.cut_unfinished_in(&session);
        for client_type in [ClientType::Desktop, ClientType::Mobile] {
            let Some(id) = session.client(client_type) else { continue };
            if let Some(slot) = self.slots.get_mut(id) {
                slot.leave();
            }
            let end = End { reason: EndReason::ShuttingDown, code: 1001, undelivered: 0 };
            self.note_end_with_session(id, client_type, session.id.as_str(), end);
            self.close(id, &CloseReason::ShuttingDown, deadline);
        }
    }

    /// Ends a session of which nobody needs to be told.
    pub(super) fn end_session(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        self.note_session_end(&session);
        Some(session)
    }

    /// Notes that a session has ended, whose timer is of no use any more.
    pub(super) fn note_session_end(&mut self, session: &Session) {
        let seconds = u64::from(session.age_seconds(self.now.tick));
        self.counters.session_seconds.observe(seconds, 1);
        if let Some((_, timer)) = session.timer {
            self.wheel.cancel(timer);
        }
    }

    /// The grace is over.
    pub(super) fn drop_everyone(&mut self) {
        // None is left, unless it became due while the process stood still.
        self.close_due_sessions();
        for id in self.slots.ids() {
            self.remove(id);
        }
    }

    /// Checks that every session is still to be closed. Walks them: for tests and debug builds.
    #[cfg(debug_assertions)]
    pub(super) fn check_drain(&self) {
        let Some(drain) = &self.drain else { return };
        let rest = drain.sessions.iter().skip(drain.passed);
        let left = rest.filter(|key| self.sessions.get(**key).is_some()).count();
        assert_eq!(left, self.sessions.len(), "each session is yet to be closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::ids::{ConnectionId, SessionId};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn sessions_are_due_at_an_even_pace_within_a_share_of_the_grace_and_no_further_apart_than_needed() {
        let mut sessions = Sessions::new(100_000, MS, MS, [1, 2]);
        for index in 0..10_000 {
            let id = SessionId::parse(index.to_string().as_bytes()).unwrap();
            let connection = ConnectionId { slot: 0, generation: 0 };
            sessions.join(&id, ClientType::Desktop, connection, Tick(0)).unwrap();
        }
        let keys: Vec<SessionKey> = sessions.keys().collect();
        let seconds = Duration::from_secs;
        let table = [
            (1, seconds(10), &[(0, 0)][..]),
            (8, seconds(10), &[(0, 0), (1, 10), (7, 70)]),
            (750, seconds(10), &[(1, 10), (749, 7_490)]),
            (1_500, seconds(10), &[(1, 5), (2, 10), (1_499, 7_495)]),
            (10_000, seconds(10), &[(1, 0), (2, 1), (4, 3), (9_999, 7_499)]),
            (10_000, Duration::ZERO, &[(0, 0), (9_999, 0)]),
            (10_000, MS, &[(9_999, 0)]),
            (10_000, Duration::MAX, &[(1, 10), (9_999, 99_990)]),
        ];
        for (count, grace, delays) in table {
            let drain = Drain::new(keys[..count].to_vec(), grace, Tick(1_000));
            for &(index, millis) in delays {
                let delay = drain.delay(index);
                assert_eq!(delay, Duration::from_millis(millis), "{index} of {count} within {grace:?}");
            }
        }
        assert_eq!(Drain::new(Vec::new(), seconds(10), Tick(0)).interval, Duration::ZERO);
    }
}
