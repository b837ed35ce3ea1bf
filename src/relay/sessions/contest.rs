//! Contested places: clients replace each other in them again and again.

use super::Session;
use crate::relay::ids::ClientType;
use crate::relay::limits::{CONTEST_WARNING_INTERVAL, CONTEST_WINDOW, REPLACEMENTS_MAX};
use crate::relay::time::Tick;

/// How often one place changed hands recently. After too many times, the client in it stays, and newcomers are
/// refused until none has come for [`CONTEST_WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// When the place changed hands last, the earliest first.
    replaced_at: [Option<Tick>; REPLACEMENTS_MAX],
    /// Newcomers are refused until this time.
    closed_until: Tick,
    warned_at: Option<Tick>,
}

impl Contest {
    /// Records that a client has replaced another one in this place.
    pub(super) fn note_replacement(&mut self, now: Tick) {
        self.replaced_at.rotate_left(1);
        if let Some(last) = self.replaced_at.last_mut() {
            *last = Some(now);
        }
        // `None` until the place has changed hands `REPLACEMENTS_MAX` times.
        let [earliest, ..] = self.replaced_at;
        if earliest.is_some_and(|earliest| now.since(earliest) < CONTEST_WINDOW) {
            self.closed_until = now.after(CONTEST_WINDOW);
        }
    }

    /// Whether a newcomer is refused while a client is in the place. Each refused newcomer prolongs the refusal.
    pub(super) fn refuses_newcomer(&mut self, now: Tick) -> bool {
        let is_closed = now < self.closed_until;
        if is_closed {
            self.closed_until = now.after(CONTEST_WINDOW);
        }
        is_closed
    }

    /// Whether a warning is to be logged now. At most one per [`CONTEST_WARNING_INTERVAL`].
    pub(super) fn is_warning_due(&mut self, now: Tick) -> bool {
        let is_told = self.warned_at.is_some_and(|at| now.since(at) < CONTEST_WARNING_INTERVAL);
        let is_due = now < self.closed_until && !is_told;
        if is_due {
            self.warned_at = Some(now);
        }
        is_due
    }
}

impl Session {
    /// Records that a client of this type has replaced another one.
    pub fn note_replacement(&mut self, client_type: ClientType, now: Tick) {
        let contests = self.extras.get_or_insert_default().contests.get_or_insert_default();
        if let Some(contest) = contests.get_mut(client_type as usize) {
            contest.note_replacement(now);
        }
    }

    /// Whether a newcomer of this type is refused while a client is in its place, because it changed hands too often.
    pub fn refuses_newcomer(&mut self, client_type: ClientType, now: Tick) -> bool {
        self.contest_mut(client_type).is_some_and(|contest| contest.refuses_newcomer(now))
    }

    /// Whether a warning about this place is to be logged now.
    pub fn is_contest_warning_due(&mut self, client_type: ClientType, now: Tick) -> bool {
        self.contest_mut(client_type).is_some_and(|contest| contest.is_warning_due(now))
    }

    fn contest_mut(&mut self, client_type: ClientType) -> Option<&mut Contest> {
        self.extras.as_mut()?.contests.as_mut()?.get_mut(client_type as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_replacements_within_ten_seconds_close_a_place_until_no_newcomer_has_come_for_ten_seconds() {
        // Milliseconds between two replacements, and whether the tenth closes the place.
        for (step, is_closed) in [(0, true), (1_111, true), (1_112, false), (5_000, false)] {
            let mut contest = Contest::default();
            let mut now = 1_000;
            for number in 1..=REPLACEMENTS_MAX {
                assert!(!contest.refuses_newcomer(Tick(now)), "{number} times, {step} ms apart");
                contest.note_replacement(Tick(now));
                now += step;
            }
            now -= step;
            assert_eq!(contest.refuses_newcomer(Tick(now)), is_closed, "{step} ms apart");
            if is_closed {
                assert!(contest.refuses_newcomer(Tick(now + 9_999)));
                assert!(contest.refuses_newcomer(Tick(now + 19_998)), "each newcomer prolongs the refusal");
                assert!(!contest.refuses_newcomer(Tick(now + 29_998)));
            }
        }
    }

    #[test]
    fn a_contested_place_is_logged_once_a_minute_and_only_while_it_is_contested() {
        let mut contest = Contest::default();
        for _ in 1..REPLACEMENTS_MAX {
            contest.note_replacement(Tick(0));
            assert!(!contest.is_warning_due(Tick(0)));
        }
        contest.note_replacement(Tick(0));
        assert!(contest.is_warning_due(Tick(0)));
        for now in (0..60_000).step_by(1_000) {
            assert!(contest.refuses_newcomer(Tick(now)) && !contest.is_warning_due(Tick(now)));
        }
        assert!(contest.refuses_newcomer(Tick(60_000)) && contest.is_warning_due(Tick(60_000)));
        assert!(!contest.is_warning_due(Tick(200_000)), "it is over");
    }
}
