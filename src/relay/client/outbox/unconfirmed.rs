//! Messages that are written in full, until the client confirms them.
//!
//! A WebSocket client answers each ping with a pong of the same payload (RFC 6455, section 5.5.3). So a numbered ping
//! behind messages asks whether the client has them. At most one such ping is outstanding; its pong confirms all that
//! was written before it.

use std::collections::VecDeque;
use std::mem;

use super::arrivals::ArrivalTimes;
use super::kept::{KeptItem, KeptRun};
use super::{ArrivalGroup, Pool};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::{CONFIRM_BYTES, CONFIRM_DELAY, KEPT_COPY_BYTES_MAX};
use crate::relay::tables::idle_order::Links;
use crate::relay::time::Tick;
use crate::relay::transit::Keeper;

/// What one connection has been sent in full and has not confirmed. Its memory is charged as cached.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    /// The oldest first. Messages at the start of a run that is still being written are in the queue of the outbox.
    items: VecDeque<KeptItem>,
    /// All unconfirmed messages, including those in the queue.
    messages: u64,
    /// When its small messages arrived, as far as this was recorded.
    arrivals: ArrivalTimes,
    ping: Option<Ping>,
    /// When the first message was written that the ping does not cover.
    unasked_since: Option<Tick>,
    /// Bytes of the messages that the ping does not cover.
    unasked_bytes: usize,
    /// How many of the oldest messages of this client, written or waiting, were written in full on at least one earlier
    /// connection, and on at least two.
    pub(super) written_before: [u64; 2],
    /// Its place among the connections with unconfirmed messages, see [`Links`].
    pub(crate) links: Links<ConnectionId>,
    /// Whether it has such a place.
    pub(crate) is_listed: bool,
}

/// An outstanding ping.
#[derive(Debug)]
struct Ping {
    number: u32,
    sent_at: Tick,
    /// How many of the oldest items, and of the oldest messages, it covers.
    items: usize,
    messages: u64,
    /// Something has come from the client since.
    has_heard: bool,
}

impl Unconfirmed {
    /// How many messages are unconfirmed.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.messages == 0 && self.ping.is_none() && self.written_before == [0; 2]
    }

    /// Records how many of the messages that are written next were written on at least one, and on at least two earlier
    /// connections.
    pub const fn note_returned(&mut self, written: [u64; 2]) {
        self.written_before = written;
    }

    /// How many of the messages that are written next were written before, on another connection.
    pub(super) const fn again(&self) -> u64 {
        let [once, _] = self.written_before;
        once.saturating_sub(self.messages)
    }

    /// Records that messages were written in full, at `now`.
    pub(super) fn note_written(&mut self, messages: u64, bytes: usize, now: Tick) {
        self.messages += messages;
        self.unasked_bytes += bytes;
        self.unasked_since.get_or_insert(now);
    }

    /// Records when small messages that were written had arrived.
    pub(super) fn note_arrivals(&mut self, group: ArrivalGroup) {
        self.arrivals.push(u64::from(group.messages), group.micros);
    }

    /// Keeps a buffer that was written in full. It has `messages` messages from `start` on.
    pub(super) fn keep_run(&mut self, bytes: Vec<u8>, start: usize, messages: u64, pool: &mut Pool) {
        if messages > 0 && bytes.len() - start > KEPT_COPY_BYTES_MAX {
            self.items.push_back(KeptItem::Run(KeptRun::new(bytes, start, messages, pool)));
        } else {
            self.keep_copy(bytes.get(start..).unwrap_or_default(), messages, pool);
            pool.give_buffer(bytes);
        }
    }

    /// Keeps a copy of whole frames, with `messages` messages.
    pub(super) fn keep_copy(&mut self, frames: &[u8], messages: u64, pool: &mut Pool) {
        if messages == 0 {
            return;
        }
        let covered = self.ping.as_ref().map_or(0, |ping| ping.items);
        let is_last_covered = self.items.len() == covered;
        if self.items.is_empty() {
            // Most clients are sent a single small message now and then.
            self.items.reserve_exact(1);
        }
        match self.items.back_mut() {
            Some(KeptItem::Run(run)) if !is_last_covered && run.has_room(frames.len()) => {
                run.append(&[frames], messages, &mut pool.transits);
            }
            _ => self.items.push_back(KeptItem::copy_of(&[frames], messages, &mut pool.transits)),
        }
    }

    /// Keeps a message in transit that was written in full.
    pub(super) fn keep_message(&mut self, keeper: Keeper) {
        self.items.push_back(KeptItem::Message(keeper));
    }

    /// Records that a message in transit was written in full that is no longer in memory: it counts as delivered.
    /// Nothing may be unconfirmed before it is recorded as written.
    pub(super) fn note_unkept(&mut self) {
        let written = self.messages;
        for before in &mut self.written_before {
            *before -= u64::from(*before > written);
        }
    }

    /// When to ask for a confirmation. `None` if everything is asked for, or a ping is outstanding.
    #[must_use]
    pub fn ask_at(&self) -> Option<Tick> {
        let since = self.unasked_since.filter(|_| self.ping.is_none())?;
        Some(if self.unasked_bytes > CONFIRM_BYTES { since } else { since.after(CONFIRM_DELAY) })
    }

    /// Records that the ping with this number follows everything that was written. All of it is in the items.
    pub(super) fn note_asked(&mut self, number: u32, now: Tick) {
        self.unasked_since = None;
        self.unasked_bytes = 0;
        let (items, messages) = (self.items.len(), self.messages);
        self.ping = Some(Ping { number, sent_at: now, items, messages, has_heard: false });
    }

    /// The number of the outstanding ping.
    #[must_use]
    pub fn asked(&self) -> Option<u32> {
        self.ping.as_ref().map(|ping| ping.number)
    }

    /// Records that something has come from the client.
    pub fn note_heard(&mut self) {
        if let Some(ping) = &mut self.ping {
            ping.has_heard = true;
        }
    }

    /// When the outstanding ping was sent, if something has come from the client since.
    #[must_use]
    pub fn ignored_since(&self) -> Option<Tick> {
        self.ping.as_ref().filter(|ping| ping.has_heard).map(|ping| ping.sent_at)
    }

    /// The pong of the ping with this number has come. Adds when the confirmed messages had arrived to
    /// [`Pool::confirmed`]. Returns how many were confirmed, or `None` if this ping is not outstanding.
    pub fn confirm(&mut self, number: u32, pool: &mut Pool) -> Option<u64> {
        let ping = self.ping.take_if(|ping| ping.number == number)?;
        for _ in 0..ping.items {
            let Some(item) = self.items.pop_front() else {
                debug_assert!(false, "the items that a ping covers are there");
                break;
            };
            match &item {
                KeptItem::Run(_) => self.arrivals.take(item.messages(), &mut pool.confirmed),
                KeptItem::Message(keeper) => {
                    let micros = pool.transits.get(keeper.key()).whole_at().unwrap_or_default();
                    super::arrivals::note(&mut pool.confirmed, ArrivalGroup { micros, messages: 1 });
                }
            }
            item.discard(pool);
        }
        self.forget(ping.messages);
        Some(ping.messages)
    }

    /// Gives up the oldest item because memory is needed. Returns how many messages it had; they count as delivered.
    pub fn evict(&mut self, pool: &mut Pool) -> Option<u64> {
        let item = self.items.pop_front()?;
        let messages = item.messages();
        if let KeptItem::Run(_) = item {
            self.arrivals.take(messages, &mut Vec::new());
        }
        item.discard(pool);
        if let Some(ping) = &mut self.ping
            && ping.items > 0
        {
            ping.items -= 1;
            ping.messages -= messages;
        }
        self.forget(messages);
        Some(messages)
    }

    /// The oldest messages are no longer kept.
    fn forget(&mut self, messages: u64) {
        self.messages -= messages;
        self.written_before = self.written_before.map(|before| before.saturating_sub(messages));
        if self.messages == 0 {
            self.unasked_since = None;
            self.unasked_bytes = 0;
        }
    }

    /// Takes all items and the times of arrival.
    pub(super) fn take_items(&mut self) -> (VecDeque<KeptItem>, ArrivalTimes) {
        (mem::take(&mut self.items), mem::take(&mut self.arrivals))
    }

    /// The keepers among its items, and the memory of its small messages in bytes, for the check of invariants.
    #[cfg(any(test, debug_assertions))]
    #[must_use]
    pub fn kept(&self) -> (Vec<&Keeper>, usize) {
        super::kept::memory_of(&self.items)
    }
}
