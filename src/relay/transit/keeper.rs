//! Keepers: what keeps a message in memory for a receiver that is away, or has not confirmed it.

use super::{Cursor, Transit, TransitKey, Transits};
use crate::relay::memory::Memory;

/// The right of one receiver to get a message from its start. The memory of the message is *cached* meanwhile.
#[derive(Debug)]
pub struct Keeper {
    key: TransitKey,
}

impl Keeper {
    /// The key of its message.
    #[must_use]
    pub const fn key(&self) -> TransitKey {
        self.key
    }
}

impl Transit {
    /// Records that what no cursor awaits is kept, so it is cached.
    fn cache_passed(&mut self, memory: &mut Memory) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.awaited_by == 0) {
            piece.set_cached(true, memory);
        }
    }
}

impl Transits {
    /// Releases a message to a receiver that is away.
    pub fn keep(&mut self, key: TransitKey) -> Keeper {
        let (transit, memory) = self.parts_mut(key);
        debug_assert!(transit.pieces_freed == 0, "the message is in memory from its start");
        transit.is_released = true;
        transit.keepers += 1;
        transit.cache_passed(memory);
        Keeper { key }
    }

    /// Exchanges a cursor for a keeper. If the start of the message is not in memory any more, gives the cursor up and
    /// returns `None`.
    pub fn park(&mut self, cursor: Cursor) -> Option<Keeper> {
        let key = cursor.key();
        let (transit, memory) = self.parts_mut(key);
        // Pieces are freed from the front, so the start is missing.
        if transit.pieces_freed > 0 {
            self.give_up(cursor);
            return None;
        }
        transit.keepers += 1;
        // What it has passed may not be cached yet, if nothing else was to be kept.
        transit.cache_passed(memory);
        self.give_up(cursor);
        Some(Keeper { key })
    }

    /// Exchanges a keeper for a cursor, which begins at the start.
    #[expect(clippy::needless_pass_by_value, reason = "the keeper must not be used again")]
    pub fn resume(&mut self, keeper: Keeper) -> Cursor {
        let (transit, memory) = self.parts_mut(keeper.key);
        transit.keepers -= 1;
        transit.add_cursor(memory);
        Cursor::new(keeper.key)
    }

    /// Removes a keeper whose receiver does not need the message again.
    #[expect(clippy::needless_pass_by_value, reason = "the keeper must not be used again")]
    pub fn drop_keeper(&mut self, keeper: Keeper) {
        let keeps_written = self.keeps_written;
        let (transit, memory) = self.parts_mut(keeper.key);
        transit.keepers -= 1;
        if transit.is_wanted() {
            transit.settle_passed(keeps_written, memory);
        } else {
            transit.free_all(memory);
        }
        self.remove_if_done(keeper.key);
    }

    /// Frees what all cursors have passed of a message, which then cannot begin again. Does nothing if a keeper needs
    /// it. Returns whether it freed anything.
    pub fn free_passed(&mut self, key: TransitKey) -> bool {
        let (transit, memory) = self.parts_mut(key);
        let before = transit.pieces_freed;
        if transit.keepers == 0 {
            transit.free_passed(memory);
        }
        transit.pieces_freed > before
    }
}
