//! When a shutdown closes each session. `drain` gives the sessions in their order.

use std::time::Duration;

use crate::relay::limits::{DRAIN_INTERVAL_MAX, DRAIN_SPREAD_PERCENT};
use crate::relay::sessions::{SessionKey, Sessions};
use crate::relay::time::Tick;

/// A shutdown in progress.
#[derive(Debug)]
pub(super) struct DrainPlan {
    began_at: Tick,
    /// All connections that are left are dropped at this time.
    pub(super) deadline: Tick,
    /// From the close of one session to that of the next.
    interval: Duration,
    /// The sessions that had clients when the shutdown began, in the order in which they are closed. A session that
    /// ends earlier keeps its entry. No other session can get its key, because none begins during a shutdown.
    pub(super) sessions: Vec<SessionKey>,
    /// How many of these entries are done: closed, or ended before.
    pub(super) passed: usize,
}

impl DrainPlan {
    pub(super) fn new(sessions: Vec<SessionKey>, grace: Duration, now: Tick) -> Self {
        let spread = grace / 100 * DRAIN_SPREAD_PERCENT;
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        let interval = spread.checked_div(count).unwrap_or_default().min(DRAIN_INTERVAL_MAX);
        Self { began_at: now, deadline: now.after(grace), interval, sessions, passed: 0 }
    }

    /// Time from the beginning of the shutdown to the close of the session at `index`, in whole milliseconds. It is
    /// rounded down, so that the last close comes before the deadline even if the grace is very short.
    pub(super) fn delay(&self, index: usize) -> Duration {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let millis = self.interval.saturating_mul(index).as_millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The next session that is due to be closed. It may have ended before.
    pub(super) fn next_due(&mut self, now: Tick) -> Option<SessionKey> {
        let key = *self.sessions.get(self.passed)?;
        let is_due = self.began_at.after(self.delay(self.passed)) <= now;
        self.passed += usize::from(is_due);
        is_due.then_some(key)
    }

    /// When the next session that still exists is due. Skips each ended session once.
    pub(super) fn next_due_at(&mut self, sessions: &Sessions) -> Option<Tick> {
        while let Some(&key) = self.sessions.get(self.passed) {
            if sessions.contains(key) {
                return Some(self.began_at.after(self.delay(self.passed)));
            }
            self.passed += 1;
        }
        None
    }
}

/// How a shutdown closes the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Sessions that have clients.
    pub sessions: usize,
    /// Time from the first close to the last.
    pub spread: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::ids::{ClientType, ConnectionId, SessionId};
    use crate::relay::sessions::SessionTimes;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn sessions_are_due_at_an_even_pace_within_a_share_of_the_grace_and_no_further_apart_than_needed() {
        let times = SessionTimes { session_timeout: MS, reconnect_window: MS, redelivery_window: MS };
        let mut sessions = Sessions::new(100_000, times, [1, 2]);
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
            let drain = DrainPlan::new(keys[..count].to_vec(), grace, Tick(1_000));
            for &(index, millis) in delays {
                let delay = drain.delay(index);
                assert_eq!(delay, Duration::from_millis(millis), "{index} of {count} within {grace:?}");
            }
        }
        assert_eq!(DrainPlan::new(Vec::new(), seconds(10), Tick(0)).interval, Duration::ZERO);
    }
}
