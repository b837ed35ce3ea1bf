//! How far the relay has caught up with what has arrived, so that no deadline is held against anybody for what lies
//! unread.
//!
//! The clock runs on while the process stands still, while a signal keeps a poll from telling anything, and while
//! thousands of others are served. So a deadline that ends somebody is not compared with the clock but with the time up
//! to which everything has been read: [`read_until`](CatchUp::read_until). It is the time of an earlier turn:
//!
//! 1. What was there at that time has been told since, newcomers have been handed over, and what they had sent by then
//!    has been told as well: that takes two tellings that left nothing out.
//! 2. Everybody who was ready then has been served once since.
//!
//! Whoever sent more than is read at once is still known to be readable, and is judged once that is read.

use crate::relay::time::Tick;

/// See the module's description.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// The time of the last turn.
    turned_at: Tick,
    /// Something was left out since then.
    is_told_in_part: bool,
    /// Everything that was there by then has been told: readiness, and newcomers since.
    told_until: Tick,
    /// The same, what newcomers of that time had sent included.
    met_until: Tick,
    /// How many of those who were ready at the beginning of the round have not been served.
    unserved: usize,
    /// What `read_until` is once they are.
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

    /// Something that is ready, or a newcomer, has not been told of since the last turn.
    pub(super) const fn note_told_in_part(&mut self) {
        self.is_told_in_part = true;
    }

    /// A turn begins, and so many connections are `ready`, which are served in this order.
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

    /// So many of the ready, those who waited longest, have been served in this turn.
    pub(super) const fn note_served(&mut self, count: usize) {
        self.unserved = self.unserved.saturating_sub(count);
        if self.unserved == 0 {
            self.read_until = self.round_until;
        }
    }

    /// All that had arrived by then has been read, save what is held back or was more than is read at once.
    pub(super) const fn read_until(&self) -> Tick {
        self.read_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns one after the other at the times 1, 2, 3 …: how many are ready as each begins, how many of them it
    /// serves, whether all was told before it; and up to which time everything has been read after it.
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
            // Interrupted once, and for ever.
            (&[(0, 0, true), (0, 0, true), (0, 0, false), (0, 0, true), (0, 0, true)], &[0, 0, 0, 1, 3]),
            (&[(0, 0, true), (0, 0, true), (0, 0, true), (0, 0, false), (0, 0, false)], &[0, 0, 1, 1, 1]),
            // Of five who are ready as the third turn begins, two are served in each.
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
