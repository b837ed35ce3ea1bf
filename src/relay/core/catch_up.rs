//! How far the relay has read what has arrived, so that no client is ended for something that it sent in time.
//!
//! The clock runs on while the process is stopped, while a signal interrupts the poll, and while thousands of other
//! connections are served. So a deadline that would end a client is not compared with the clock. It is compared with
//! [`read_until`](CatchUp::read_until): everything that had arrived by that time has been read. It is the time of an
//! earlier turn, for which two things are true:
//!
//! 1. The host has reported everything that was there at that time: readiness, new connections, and what new
//!    connections had sent by then. That takes two complete reports.
//! 2. Every connection that was ready then has been served once since.
//!
//! A connection that sent more than is read at once is still marked readable, and is judged after that is read.

use crate::relay::time::Tick;

/// See the module's description.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// The time of the last turn.
    turned_at: Tick,
    /// Since then the host has left something out of a report.
    is_told_in_part: bool,
    /// The host has reported all readiness and all new connections of this time.
    told_until: Tick,
    /// As `told_until`, including what connections that were new at that time had sent.
    met_until: Tick,
    /// Connections of the current round that have not been served.
    unserved: usize,
    /// The value of `read_until` after the current round.
    round_until: Tick,
    read_until: Tick,
}

impl CatchUp {
    pub(super) const fn new(now: Tick) -> Self {
        Self {
            turned_at: now,
            is_told_in_part: false,
            told_until: now,
            met_until: now,
            unserved: 0,
            round_until: now,
            read_until: now,
        }
    }

    /// The host did not report everything that is ready, or has connections that it did not hand over.
    pub(super) const fn note_told_in_part(&mut self) {
        self.is_told_in_part = true;
    }

    /// Begins a turn with `ready` connections, which are served in their order.
    pub(super) const fn begin_turn(&mut self, now: Tick, ready: usize) {
        if !self.is_told_in_part {
            self.met_until = self.told_until;
            self.told_until = self.turned_at;
        }
        self.is_told_in_part = false;
        self.turned_at = now;
        if self.unserved == 0 {
            self.unserved = ready;
            self.round_until = self.met_until;
        }
    }

    /// The turn has served the first `count` of the ready connections.
    pub(super) const fn note_served(&mut self, count: usize) {
        self.unserved = self.unserved.saturating_sub(count);
        if self.unserved == 0 {
            self.read_until = self.round_until;
        }
    }

    /// Everything that had arrived by this time has been read, except what is held back, or exceeds one read.
    pub(super) const fn read_until(&self) -> Tick {
        self.read_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs turns at the times 1, 2, 3 … Each row says how many connections are ready, how many are served, and
    /// whether the report before it was complete. Returns `read_until` after each turn.
    fn read_until(turns: &[(usize, usize, bool)]) -> Vec<u64> {
        let mut catch_up = CatchUp::new(Tick(0));
        let turn = |(now, &(ready, served, is_all_told)): (u64, &(usize, usize, bool))| {
            if !is_all_told {
                catch_up.note_told_in_part();
            }
            catch_up.begin_turn(Tick(now), ready);
            catch_up.note_served(served);
            catch_up.read_until().0
        };
        (1..).zip(turns).map(turn).collect()
    }

    #[test]
    fn the_time_of_a_turn_counts_as_read_after_two_tellings_without_a_gap_and_a_round_of_all_who_were_ready()
    {
        type Turns = [(usize, usize, bool)];
        let table: [(&Turns, &[u64]); 5] = [
            (&[(0, 0, true); 5], &[0, 0, 1, 2, 3]),
            // One report is incomplete; then all are.
            (&[(0, 0, true), (0, 0, true), (0, 0, false), (0, 0, true), (0, 0, true)], &[0, 0, 0, 1, 3]),
            (&[(0, 0, true), (0, 0, true), (0, 0, true), (0, 0, false), (0, 0, false)], &[0, 0, 1, 1, 1]),
            // Five connections are ready when the third turn begins; each turn serves two.
            (
                &[(0, 0, true), (0, 0, true), (5, 2, true), (9, 2, true), (9, 2, true), (9, 9, true)],
                &[0, 0, 0, 0, 1, 4],
            ),
            (&[(2, 2, true), (2, 2, true), (2, 2, true), (2, 2, true)], &[0, 0, 1, 2]),
        ];
        for (turns, expected) in table {
            assert_eq!(read_until(turns), expected, "{turns:?}");
        }
    }
}
