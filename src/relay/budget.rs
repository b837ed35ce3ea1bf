//! One account for all that waits and all that is half received.
//!
//! The *large* part is the memory of messages over
//! [`SMALL_MESSAGE_BYTES_MAX`](super::limits::SMALL_MESSAGE_BYTES_MAX): asked for at the header of each frame, and
//! granted as [`Room`], which gives itself back. The *small* part is everything else, the small messages, replies
//! and notices that wait, unfinished small frames and request heads: it is charged once it is there, and nobody is
//! read for anything new while there is no room for what a read may bring; what has begun has been charged for all
//! that it needs, and is read to its end and no further. So the small part never takes what the longest message
//! needs, and the first in line is served once those before it have gone.
//!
//! Large messages never take the last [eighth](SMALL_SHARE). Small ones never take more than half, nor what the
//! longest message needs: what is kept of those that wait for room is small, and must not lock out the first.
//!
//! Where room is short it goes to the message that began first. Messages in fragments ask again for each
//! frame, so two of them could hold what the other waits for: one of them, the *head*, is always left as
//! much as the longest message may yet need, and the others share only what lies beyond that. A message in
//! one frame needs nothing after its header and cannot lock anybody out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ids::ConnectionId;
use super::limits::{
    BLOCK_BYTES, HIGH_WATER_BYTES, LEAST_READ_BYTES, PAGE_BYTES, RECEIVE_BUFFER_BYTES, REPLIES_PER_BYTE_MAX,
    SHORT_READ_BYTES, SMALL_ROOM_BYTES_MIN, SMALL_SHARE, SPARE_BLOCK_BYTES,
};

/// When a message began, among all.
pub type Order = u64;

/// Room that was granted; it goes back into the budget when this is dropped.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    account: Option<Account>,
}

/// Bytes on the large account. Shared by reference count, and atomic only so that a host may hand the relay
/// to another thread.
type Account = Arc<AtomicUsize>;

impl Room {
    /// Room that no budget knows of: for whoever speaks the protocol without a relay.
    #[must_use]
    pub const fn unlimited(bytes: usize) -> Self {
        Self { bytes, account: None }
    }

    /// How much it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        if let Some(account) = &self.account {
            account.fetch_sub(less, Ordering::Relaxed);
        }
    }

    /// Adds room from the same budget.
    pub fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        if self.account.is_none() {
            self.account = other.account.take();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// What a frame's header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// When its message began.
    pub order: Order,
    /// Bytes beyond those that the message has already.
    pub bytes: usize,
    /// Further frames may ask for more.
    pub is_fragmented: bool,
}

/// Those that wait for room, in the order in which their messages began.
type Line = BTreeMap<Order, (ConnectionId, Ask)>;

/// The account of one relay.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    large: Account,
    small_bytes: usize,
    small_bytes_max: usize,
    check_bytes: usize,
    /// The longest message that fragments may amount to, as room.
    fragments_bytes_max: usize,
    /// Room of each message whose fragments have not all come.
    fragmented: BTreeMap<Order, usize>,
    fragmented_bytes: usize,
    head: Option<Order>,
    waiting_whole: Line,
    waiting_fragmented: Line,
}

/// The room in bytes that a message of `bytes` takes if it comes in one frame.
#[must_use]
pub const fn room_of_frame(bytes: usize) -> usize {
    if bytes <= SPARE_BLOCK_BYTES { SPARE_BLOCK_BYTES } else { bytes.next_multiple_of(PAGE_BYTES) }
}

/// The room in bytes that `bytes` of a message in fragments take, if none may become longer than `bytes_max`.
#[must_use]
pub fn room_of_fragments(bytes: usize, bytes_max: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES).min(room_of_frame(bytes_max))
}

impl Budget {
    /// An empty account of `bytes_max`, for messages of up to `message_bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize, message_bytes_max: usize) -> Self {
        let fragments_bytes_max = room_of_frame(message_bytes_max);
        let small_bytes_max = bytes_max.saturating_sub(fragments_bytes_max);
        Self {
            bytes_max,
            large: Account::default(),
            small_bytes: 0,
            check_bytes: 0,
            small_bytes_max: small_bytes_max.clamp(bytes_max / SMALL_SHARE, bytes_max / 2),
            fragments_bytes_max,
            fragmented: BTreeMap::new(),
            fragmented_bytes: 0,
            head: None,
            waiting_whole: BTreeMap::new(),
            waiting_fragmented: BTreeMap::new(),
        }
    }

    /// Bytes on the account.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.large_bytes() + self.check_bytes + self.small_bytes
    }

    /// Whether more is on the account than may be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used_bytes() > self.bytes_max
    }

    const fn small_part_bytes(&self) -> usize {
        self.small_bytes + self.check_bytes
    }

    fn large_bytes(&self) -> usize {
        self.large.load(Ordering::Relaxed)
    }

    /// Takes room at once if there is some and nobody is before `ask`. Logarithmic in the number of those
    /// that wait.
    pub fn try_reserve(&mut self, ask: Ask) -> Option<Room> {
        let is_first = self.next_in_line().is_none_or(|next| self.place(ask) <= self.place(next));
        (is_first && !self.is_behind_fragments(ask) && self.is_safe(ask) && self.fits(ask.bytes))
            .then(|| self.reserve(ask))
    }

    /// Puts `ask` in line for [`poll_granted`](Self::poll_granted).
    pub fn wait(&mut self, id: ConnectionId, ask: Ask) {
        self.line_of(ask).insert(ask.order, (id, ask));
    }

    const fn line_of(&mut self, ask: Ask) -> &mut Line {
        if ask.is_fragmented { &mut self.waiting_fragmented } else { &mut self.waiting_whole }
    }

    /// Takes an ask out of the line; nothing happens if it is not in it.
    pub fn forget(&mut self, order: Order) {
        self.waiting_whole.remove(&order);
        self.waiting_fragmented.remove(&order);
    }

    /// Hands out room that has come free to who is next, if it suffices. Logarithmic in the number of those
    /// that wait.
    pub fn poll_granted(&mut self) -> Option<(ConnectionId, Ask, Room)> {
        let ask = self.next_in_line().filter(|ask| self.fits(ask.bytes))?;
        let (id, ask) = self.line_of(ask).remove(&ask.order)?;
        Some((id, ask, self.reserve(ask)))
    }

    /// Whether [`poll_granted`](Self::poll_granted) has room to hand out.
    #[must_use]
    pub fn is_grantable(&self) -> bool {
        self.next_in_line().is_some_and(|ask| self.fits(ask.bytes))
    }

    /// The first in line. Fragments that must leave room for the head let those pass that come in one frame.
    fn next_in_line(&self) -> Option<Ask> {
        let ask_of = |(_, ask): &(ConnectionId, Ask)| *ask;
        let head = self.head.and_then(|head| self.waiting_fragmented.get(&head)).map(ask_of);
        let first = |line: &Line| line.first_key_value().map(|(_, waiting)| ask_of(waiting));
        head.or_else(|| {
            let fragmented = first(&self.waiting_fragmented).filter(|&ask| self.is_safe(ask));
            [first(&self.waiting_whole), fragmented].into_iter().flatten().min_by_key(|ask| ask.order)
        })
    }

    /// Who goes before whom: the head first, then who began first.
    fn place(&self, ask: Ask) -> (bool, Order) {
        (self.head != Some(ask.order), ask.order)
    }

    /// Whether fragments that began before these wait, and be it to leave room for the head. Were they passed by
    /// whoever needs less, they might wait forever.
    fn is_behind_fragments(&self, ask: Ask) -> bool {
        let first = self.waiting_fragmented.first_key_value();
        ask.is_fragmented
            && self.head != Some(ask.order)
            && first.is_some_and(|(&first, _)| first < ask.order)
    }

    fn fits(&self, bytes: usize) -> bool {
        let kept = self.small_part_bytes().max(self.bytes_max / SMALL_SHARE);
        self.large_bytes().saturating_add(kept).saturating_add(bytes) <= self.bytes_max
    }

    /// Whether the head can still become as long as any message, once this is granted and all messages that
    /// are whole have gone.
    fn is_safe(&self, ask: Ask) -> bool {
        if !ask.is_fragmented || self.head.is_none_or(|head| head == ask.order) {
            return true;
        }
        let of_head = self.head.and_then(|head| self.fragmented.get(&head)).copied().unwrap_or(0);
        let of_others = self.fragmented_bytes - of_head + ask.bytes;
        of_others.saturating_add(self.fragments_bytes_max) <= self.bytes_max - self.small_bytes_max
    }

    fn reserve(&mut self, ask: Ask) -> Room {
        self.large.fetch_add(ask.bytes, Ordering::Relaxed);
        if ask.is_fragmented {
            self.head.get_or_insert(ask.order);
            *self.fragmented.entry(ask.order).or_default() += ask.bytes;
            self.fragmented_bytes += ask.bytes;
        }
        Room { bytes: ask.bytes, account: Some(Arc::clone(&self.large)) }
    }

    /// A message in fragments asks for no more: it is whole, or will never be.
    pub fn end_fragments(&mut self, order: Order) {
        if let Some(bytes) = self.fragmented.remove(&order) {
            self.fragmented_bytes -= bytes;
            if self.head == Some(order) {
                self.head = self.fragmented.first_key_value().map(|(&order, _)| order);
            }
        }
    }

    /// Notes that what was charged as `before` has become `after`.
    pub fn charge_small(&mut self, before: u32, after: u32) {
        self.small_bytes = self.small_bytes + after as usize - before as usize;
    }

    /// Notes that the checks of texts take `after` where they took `before`. It is part of the small part: the nesting
    /// of a large text, an eighth of it at most, for which nobody has asked for room.
    pub fn charge_checks(&mut self, before: usize, after: usize) {
        self.check_bytes = self.check_bytes + after - before;
    }

    /// What small messages may still take.
    fn small_room(&self) -> usize {
        let free = self.bytes_max.saturating_sub(self.used_bytes());
        free.min(self.small_bytes_max.saturating_sub(self.small_part_bytes()))
    }

    /// Whether a read may be made whose bytes nobody has asked room for.
    #[must_use]
    pub fn has_small_room(&self) -> bool {
        self.small_room() >= SMALL_ROOM_BYTES_MIN
    }

    /// How many bytes of small messages may wait for one client: more than the high-water mark while half of the
    /// room is left, and then fewer, by the cube of what is left. So it takes thousands of clients that do not
    /// read, rather than a hundred, until nobody finds any.
    #[must_use]
    pub fn small_queue_bytes_max(&self) -> usize {
        let free_of_256 = self.small_room() as u64 * 256 / self.small_bytes_max.max(1) as u64;
        // 8 is the cube of 2: at half of the room it is the mark.
        let at_most = self.small_bytes_max.min(8 * HIGH_WATER_BYTES) as u64;
        // No more than `at_most`, which was no more than fits.
        usize::try_from((at_most * free_of_256.pow(3)) >> 24).unwrap_or(usize::MAX)
    }

    /// How many bytes to read at once from a client between two messages: few if they may have to wait for
    /// room, or may bring more in replies than may wait for one client.
    #[must_use]
    pub fn read_bytes_max(&self) -> usize {
        let is_short = self.is_awaited() || !self.fits(BLOCK_BYTES);
        let most = if is_short { SHORT_READ_BYTES } else { RECEIVE_BUFFER_BYTES };
        (self.small_queue_bytes_max() / REPLIES_PER_BYTE_MAX).clamp(LEAST_READ_BYTES, most)
    }

    /// Those in line, who began last first. Walks all of them: for a line that does not move.
    #[must_use]
    pub fn line(&self) -> Vec<ConnectionId> {
        let mut line: Vec<_> = self.waiting_whole.iter().chain(&self.waiting_fragmented).collect();
        line.sort_unstable_by_key(|&(&order, _)| std::cmp::Reverse(order));
        line.into_iter().map(|(_, &(id, _))| id).collect()
    }

    /// How many are in line.
    #[must_use]
    pub fn line_len(&self) -> usize {
        self.waiting_whole.len() + self.waiting_fragmented.len()
    }

    /// Whether anybody is in line.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.waiting_whole.is_empty() || !self.waiting_fragmented.is_empty()
    }
}

#[cfg(any(test, debug_assertions))]
impl Budget {
    /// Checks the account against what the connections know of themselves. For tests and debug builds.
    ///
    /// # Panics
    /// If they disagree, or the account disagrees with itself.
    pub fn check_invariants(&self, small_bytes: usize, check_bytes: usize, waiting: usize) {
        assert_eq!(self.small_bytes, small_bytes, "what connections were charged for");
        assert_eq!(self.check_bytes, check_bytes, "what their checks were charged for");
        assert_eq!(self.waiting_whole.len() + self.waiting_fragmented.len(), waiting, "who waits for room");
        assert_eq!(self.fragmented_bytes, self.fragmented.values().sum::<usize>(), "room of fragments");
        assert_eq!(self.head.is_some(), !self.fragmented.is_empty(), "one of the fragmented is the head");
        let of_head = self.head.map_or(0, |head| self.fragmented.get(&head).copied().unwrap_or_default());
        let large_share = self.bytes_max - self.bytes_max / SMALL_SHARE;
        assert!(self.large_bytes() <= large_share, "large messages leave the small ones their share");
        let of_others = self.fragmented_bytes - of_head;
        let sure_share = self.bytes_max - self.small_bytes_max;
        let is_safe = of_others == 0 || of_others + self.fragments_bytes_max <= sure_share;
        assert!(is_safe, "the head can become as long as any message");
    }
}

#[cfg(test)]
mod tests;
