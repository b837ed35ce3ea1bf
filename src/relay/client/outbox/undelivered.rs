//! What becomes of messages whose receiver goes.

use std::collections::VecDeque;

use super::Pool;
use super::arrivals::ArrivalTimes;
use super::item::Item;

/// The application messages that waited for a connection which will not get them. They go into
/// [another outbox](super::Outbox::append) or are [given up](Undelivered::discard).
#[derive(Debug, Default)]
#[must_use]
pub struct Undelivered {
    pub(super) items: VecDeque<Item>,
    pub(super) arrivals: ArrivalTimes,
    pub(super) bytes: usize,
    pub(super) small_bytes: usize,
    /// How many messages these are.
    pub messages: u64,
    /// Messages that the client has got a part of, and whose start is not in memory any more.
    pub lost: u64,
}

impl Undelivered {
    /// Frees the memory of the messages. Returns how many there were, those lost included.
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

/// What became of a message that will never be whole; see [`Outbox::remove_incomplete`](super::Outbox::remove_incomplete).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedMessage {
    /// The client had nothing of it, and will see nothing of it.
    Unseen,
    /// It has a part, to which nothing can be added but control frames.
    Begun,
}
