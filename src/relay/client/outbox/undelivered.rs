//! Messages whose receiver has left, was replaced, or is away.

use std::collections::VecDeque;

use super::Pool;
use super::arrivals::ArrivalTimes;
use super::kept::{KeptItem, noted_bytes};
use crate::relay::limits::KEPT_PER_CLIENT_BYTES_MAX;
use crate::relay::transit::{Keeper, TransitKey, Transits};
use crate::relay::wire::frame::{Opcode, ServerHeader};

/// The application messages that a client has not confirmed or received. They go into the
/// [outbox of its next connection](super::Outbox::append), or are [discarded](Undelivered::discard). Their memory is
/// charged as cached.
#[derive(Debug, Default)]
#[must_use]
pub struct Undelivered {
    /// In order, each message from its start.
    pub(super) items: VecDeque<KeptItem>,
    pub(super) arrivals: ArrivalTimes,
    bytes: usize,
    messages: u64,
    /// How many of the first messages were written in full on at least one connection, and on at least two.
    written: [u64; 2],
    /// How many messages are not among the items: the client has received a part, and their start is no longer in
    /// memory; or it has received them in full on three connections and confirmed none.
    pub given_up: u64,
}

impl Undelivered {
    /// How many messages these are, without those [given up](Self::given_up).
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Their bytes, as a [backlog](super::Backlog) counts them.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of the first ones were written in full on at least one connection, and on at least two.
    #[must_use]
    pub const fn written(&self) -> [u64; 2] {
        self.written
    }

    pub(super) fn push(&mut self, item: KeptItem, transits: &Transits) {
        self.messages += item.messages();
        self.bytes += item.bytes(transits);
        self.items.push_back(item);
    }

    /// Keeps a copy of a small message behind the others. `micros` is when it arrived, modulo 2³².
    pub fn push_small(&mut self, transits: &mut Transits, opcode: Opcode, payload: &[u8], micros: u32) {
        let header = ServerHeader::new(opcode, true, payload.len());
        let parts = [header.as_bytes(), payload];
        let frame_bytes = header.as_bytes().len() + payload.len();
        match self.items.back_mut() {
            Some(KeptItem::Run(run)) if run.has_room(frame_bytes) => run.append(&parts, 1, transits),
            _ => self.items.push_back(KeptItem::copy_of(&parts, 1, transits)),
        }
        self.messages += 1;
        self.bytes += frame_bytes;
        self.arrivals.push(1, micros);
    }

    /// Keeps a message in transit behind the others.
    pub fn push_message(&mut self, transits: &Transits, keeper: Keeper) {
        self.push(KeptItem::Message(keeper), transits);
    }

    /// Records that `bytes` more bytes of a message in transit have arrived.
    pub const fn note_more(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Removes a message that will never be complete. Returns whether it was there.
    pub fn remove_incomplete(&mut self, key: TransitKey, transits: &mut Transits) -> bool {
        let is_it = |item: &KeptItem| matches!(item, KeptItem::Message(keeper) if keeper.key() == key);
        // From the back: its sender sends one message at a time, so it is near the end.
        let index = self.items.iter().rposition(is_it);
        let Some(KeptItem::Message(keeper)) = index.and_then(|index| self.items.remove(index)) else {
            return false;
        };
        self.messages -= 1;
        self.bytes -= noted_bytes(&keeper, transits);
        transits.drop_keeper(keeper);
        true
    }

    /// A connection has ended on which the first `messages` of these were written in full. `before` is how many were
    /// written in full on earlier connections: on at least one, and on at least two. Gives up those that were now
    /// written for the third time.
    pub(super) fn note_written(&mut self, messages: u64, before: [u64; 2], pool: &mut Pool) {
        let [once, twice] = before;
        let thrice = messages.min(twice);
        self.written = [messages.max(once), messages.min(once).max(twice)];
        self.drop_front(thrice, pool);
        self.given_up += thrice;
    }

    /// Gives up the oldest messages, as far as these are more than may be kept for one client. One message may always
    /// be kept. Returns how many it gave up.
    pub fn trim(&mut self, pool: &mut Pool) -> u64 {
        let before = self.messages;
        while self.bytes > KEPT_PER_CLIENT_BYTES_MAX && self.messages > 1 {
            // Whole items while too much is left without them: a client may leave millions of messages.
            let first = self.items.front();
            let (messages, bytes) =
                first.map_or((1, 0), |first| (first.messages(), first.bytes(&pool.transits)));
            let is_whole = self.items.len() > 1 && self.bytes - bytes >= KEPT_PER_CLIENT_BYTES_MAX;
            self.drop_front(if is_whole { messages } else { 1 }, pool);
        }
        before - self.messages
    }

    /// Gives up the oldest item. Returns how many messages it had.
    pub fn evict(&mut self, pool: &mut Pool) -> u64 {
        let messages = self.items.front().map_or(0, KeptItem::messages);
        self.drop_front(messages, pool);
        messages
    }

    /// Drops the first messages. Visits items, and messages only of the last item that it reaches.
    fn drop_front(&mut self, mut count: u64, pool: &mut Pool) {
        self.messages -= count;
        self.written = self.written.map(|written| written.saturating_sub(count));
        while count > 0 {
            let Some(first) = self.items.front_mut() else {
                debug_assert!(false, "a message that is counted is there");
                return;
            };
            let messages = first.messages().min(count);
            if let KeptItem::Run(_) = first {
                self.arrivals.take(messages, &mut Vec::new());
            }
            if messages == first.messages() {
                self.bytes -= first.bytes(&pool.transits);
                if let Some(first) = self.items.pop_front() {
                    first.discard(pool);
                }
            } else {
                self.bytes -= first.drop_front(messages);
            }
            count -= messages;
        }
    }

    /// Frees the memory of the messages. Returns how many they were, including those given up before.
    pub fn discard(self, pool: &mut Pool) -> u64 {
        self.items.into_iter().for_each(|item| item.discard(pool));
        self.messages + self.given_up
    }

    /// The keepers among its items, and the memory of its small messages in bytes, for the check of invariants.
    #[cfg(any(test, debug_assertions))]
    #[must_use]
    pub fn kept(&self) -> (Vec<&Keeper>, usize) {
        super::kept::memory_of(&self.items)
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
