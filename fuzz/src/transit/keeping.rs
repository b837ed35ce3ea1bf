//! What is kept for receivers that are away or have not confirmed a message, and how it gives way.

use super::super::choices::Choices;
use super::World;
use super::receiver::Receiver;

impl World {
    /// Small messages are kept, as far as there is room.
    pub(super) fn charge_kept(&mut self, units: u16) {
        let memory = &mut self.transits.memory;
        let room = self.bytes_max.saturating_sub(memory.used_bytes());
        let bytes = (usize::from(units) * 16).min(room);
        memory.charge_cached(0, bytes);
        self.cached_bytes += bytes;
    }

    /// The client that small messages are kept for comes back, or it has them.
    pub(super) fn return_kept(&mut self, is_back: bool) {
        let memory = &mut self.transits.memory;
        if is_back {
            memory.charge_cached(self.cached_bytes, 0);
            memory.charge_returned(0, self.cached_bytes);
            self.returned_bytes += std::mem::take(&mut self.cached_bytes);
        } else {
            memory.charge_returned(std::mem::take(&mut self.returned_bytes), 0);
        }
    }

    /// Frees cached memory as the relay does before each read. What remains then is claimed, or leaves enough free.
    pub(super) fn make_room(&mut self) {
        while self.transits.memory.is_crowded() {
            let used = self.transits.memory.used_bytes();
            assert!(self.evict(), "nothing can be freed, although something is cached");
            assert!(self.transits.memory.used_bytes() <= used, "memory grows while it is freed");
        }
    }

    /// Frees something that is cached, the oldest first. Returns false if there is nothing.
    fn evict(&mut self) -> bool {
        if self.cached_bytes > 0 {
            self.transits.memory.charge_cached(std::mem::take(&mut self.cached_bytes), 0);
            return true;
        }
        for index in 0..self.messages.len() {
            let message = &self.messages[index];
            if !message.keepers.is_empty() {
                self.drop_keeper(index, 0);
                self.forget_gone();
                return true;
            }
            if message.is_released && self.free_passed(index) {
                return true;
            }
        }
        false
    }

    /// A receiver connects again, and gets the message from its start if all of it is in memory.
    pub(super) fn rewind(&mut self, index: usize, choices: &mut Choices<'_>) {
        let which = choices.below(self.messages[index].receivers.len());
        if which < self.messages[index].receivers.len() && self.park(index, which, self.is_all_there(index)) {
            self.resume(index, usize::MAX);
        }
    }

    /// A receiver leaves. If all of the message is in memory, it is kept for it. Returns whether it is.
    pub(super) fn park(&mut self, index: usize, which: usize, is_all_there: bool) -> bool {
        let message = &mut self.messages[index];
        let receiver = message.receivers.swap_remove(which);
        let keeper = self.transits.park(receiver.cursor);
        assert_eq!(keeper.is_some(), is_all_there, "all of it is sent again, or nothing");
        message.keepers.extend(keeper);
        is_all_there
    }

    /// A receiver comes back: the one at this position of those that are away, or the last one.
    pub(super) fn resume(&mut self, index: usize, which: usize) {
        let message = &mut self.messages[index];
        let Some(last) = message.keepers.len().checked_sub(1) else { return };
        let repeated_bytes = message.repeated_bytes();
        let cursor = self.transits.resume(message.keepers.swap_remove(which.min(last)));
        message.receivers.push(Receiver::new(cursor, repeated_bytes));
        assert!(self.is_all_there(index), "what is kept can begin again");
    }

    /// A message is for one more receiver, which is away.
    pub(super) fn keep(&mut self, index: usize) {
        let is_all_there = self.is_all_there(index);
        let message = &mut self.messages[index];
        if is_all_there && message.has_place() {
            message.keepers.push(self.transits.keep(message.key));
            message.is_released = true;
            self.note_news(index);
        }
    }

    /// A receiver has confirmed the message, or it is given up.
    pub(super) fn drop_keeper(&mut self, index: usize, which: usize) {
        let keepers = &mut self.messages[index].keepers;
        if which < keepers.len() {
            self.transits.drop_keeper(keepers.swap_remove(which));
        }
    }

    /// Frees what all receivers have passed. Returns whether that was anything.
    pub(super) fn free_passed(&mut self, index: usize) -> bool {
        let message = &self.messages[index];
        // A message that is not released has been passed by none.
        if !message.is_released {
            return false;
        }
        let before = self.memory_bytes(message.key);
        let is_freed = self.transits.free_passed(message.key);
        let left = self.memory_bytes(message.key);
        assert_eq!(is_freed, left < before, "it says whether it frees something");
        assert!(!is_freed || message.keepers.is_empty(), "what is kept stays in memory");
        let freed = message.bytes.len() - left;
        let has_it = |receiver: &Receiver| receiver.payload_bytes() >= freed;
        assert!(message.receivers.iter().all(has_it), "freed before a receiver had it");
        is_freed
    }
}
