//! Checks what must hold between two inputs. For tests and debug builds.

use super::{Cursor, Keeper, Transits};
use crate::relay::memory::SmallBytes;

impl Transits {
    /// Checks the counts of each message against its pieces, all cursors and keepers, and the budget. Visits
    /// everything: for tests and debug builds.
    ///
    /// # Panics
    /// If they disagree.
    pub fn check_invariants(
        &self,
        cursors: &[&Cursor],
        keepers: &[&Keeper],
        senders: usize,
        small: SmallBytes,
    ) {
        let (mut all, mut cached) = ((0, 0), (0, 0));
        for (index, transit) in &self.entries {
            for piece in &transit.pieces {
                let (chunks, bytes) = piece.charged();
                all = (all.0 + chunks, all.1 + bytes);
                if piece.is_cached() {
                    cached = (cached.0 + chunks, cached.1 + bytes);
                }
                let is_passed = piece.awaited_by == 0 && transit.is_released;
                assert!(is_passed || !piece.is_cached(), "what a cursor awaits is not cached");
                // Otherwise it is, for a moment, if its receiver is replaced.
                let is_cached = is_passed && self.keeps_written;
                assert!(piece.is_cached() || !is_cached, "what was written gives way");
            }
            let of_it = || cursors.iter().filter(|cursor| cursor.key().index as usize == index);
            assert_eq!(usize::from(transit.receivers), of_it().count(), "each receiver has one cursor");
            let keepers = keepers.iter().filter(|keeper| keeper.key().index as usize == index).count();
            assert_eq!(usize::from(transit.keepers), keepers, "each keeper is counted");
            assert!(keepers == 0 || transit.pieces_freed == 0, "what is kept can begin again");
            for (number, piece) in (transit.pieces_freed..).zip(&transit.pieces) {
                let awaiting = of_it().filter(|cursor| cursor.pieces_released() <= number).count();
                assert_eq!(
                    usize::from(piece.awaited_by),
                    awaiting,
                    "cursors that have not passed piece {number}"
                );
            }
            assert!(transit.is_wanted() || transit.has_sender, "a message has a receiver or a sender");
            assert!(transit.whole_at.is_none() || !transit.has_sender, "nothing is added to what is whole");
        }
        let with_sender = self.entries.iter().filter(|(_, transit)| transit.has_sender).count();
        assert_eq!(with_sender, senders, "each sender has one message");
        self.memory.check_invariants([all, cached], small);
    }

    /// Released messages whose sizes were not recorded yet, and how many bytes of them are counted as accepted.
    #[must_use]
    pub fn unmeasured(&self) -> (u64, u64) {
        let open = self.entries.iter().filter(|(_, transit)| transit.is_released && transit.has_sender);
        open.fold((0, 0), |(messages, bytes), (_, transit)| (messages + 1, bytes + transit.noted_bytes))
    }
}
