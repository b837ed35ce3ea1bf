//! Messages whose receiver has left or was replaced.

use std::collections::VecDeque;

use super::Pool;
use super::arrivals::ArrivalTimes;
use super::item::Item;

/// The application messages that a connection will not receive. They go into [another outbox](super::Outbox::append) or
/// are [discarded](Undelivered::discard).
#[derive(Debug, Default)]
#[must_use]
pub struct Undelivered {
    pub(super) items: VecDeque<Item>,
    pub(super) arrivals: ArrivalTimes,
    pub(super) bytes: usize,
    pub(super) small_bytes: usize,
    /// How many messages these are, without the lost ones.
    pub messages: u64,
    /// How many messages cannot be sent again: the client has received a part, and their start is no longer in memory.
    pub lost: u64,
}

impl Undelivered {
    /// Frees the memory of the messages. Returns how many they were, including the lost ones.
    pub fn discard(self, pool: &mut Pool) -> u64 {
        for item in self.items {
            match item {
                Item::InTransit(cursor) => pool.transits.give_up(cursor),
                Item::Run(run) => pool.give_buffer(run.bytes),
                Item::RelayFrame(_) => {}
            }
        }
        self.messages + self.lost
    }
}

/// How much the client had of a message that was removed because it will never be complete; see
/// [`Outbox::remove_incomplete`](super::Outbox::remove_incomplete). The log shows these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedMessage {
    /// Nothing. The client does not notice.
    Unseen,
    /// A part. Only control frames can follow.
    Begun,
}
