//! A place that clients take from each other again and again.

use super::Session;
use crate::relay::ids::ClientType;
use crate::relay::limits::{CONTEST_WARNING_INTERVAL, CONTEST_WINDOW, REPLACEMENTS_MAX};
use crate::relay::time::Tick;

/// How often a place changed hands lately. Once that is too often whoever is there stays: newcomers are refused
/// until none has come for [`CONTEST_WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// The last times it changed hands, the earliest first.
    replaced_at: [Option<Tick>; REPLACEMENTS_MAX],
    closed_until: Tick,
    warned_at: Option<Tick>,
}

impl Contest {
    /// The place has changed hands.
    pub(super) fn note_replacement(&mut self, now: Tick) {
        self.replaced_at.rotate_left(1);
        if let Some(last) = self.replaced_at.last_mut() {
            *last = Some(now);
        }
        let [earliest, ..] = self.replaced_at;
        if earliest.is_some_and(|earliest| now.since(earliest) < CONTEST_WINDOW) {
            self.closed_until = now.after(CONTEST_WINDOW);
        }
    }

    /// Whether a newcomer to the place, which somebody has, is refused.
    pub(super) fn refuses_newcomer(&mut self, now: Tick) -> bool {
        let is_closed = now < self.closed_until;
        if is_closed {
            self.closed_until = now.after(CONTEST_WINDOW);
        }
        is_closed
    }

    /// Whether the operator is to be told of it now.
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
    /// Notes that a client took the place of another one.
    pub fn note_replacement(&mut self, client_type: ClientType, now: Tick) {
        let contests = self.extras.get_or_insert_default().contests.get_or_insert_default();
        if let Some(contest) = contests.get_mut(client_type as usize) {
            contest.note_replacement(now);
        }
    }

    /// Whether a newcomer to this place, which somebody has, is refused: it changed hands too often.
    pub fn refuses_newcomer(&mut self, client_type: ClientType, now: Tick) -> bool {
        self.contest_mut(client_type).is_some_and(|contest| contest.refuses_newcomer(now))
    }

    /// Whether the operator is to be told now that this place changes hands too often.
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
    fn ten_times_within_ten_seconds_close_a_place_until_nobody_has_come_for_as_long() {
        // Milliseconds from one replacement to the next; whether the tenth closes the place.
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
                assert!(contest.refuses_newcomer(Tick(now + 19_998)), "whoever comes puts the end off");
                assert!(!contest.refuses_newcomer(Tick(now + 29_998)));
            }
        }
    }

    #[test]
    fn the_operator_is_told_once_a_minute_and_of_nothing_else() {
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
