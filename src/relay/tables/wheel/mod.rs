//! A hierarchical timing wheel: finds the timers that are due without examining the others.
//!
//! It has eleven levels of 64 slots, and each slot is a list of timers. A slot of level 0 is one [`Tick`] wide; a
//! slot of each further level is 64 times as wide as one of the level below. Together they cover every tick. Write
//! the present and a deadline in base 64: the highest digit in which they differ is the timer's level, and the
//! deadline's digit there is its slot. The slot follows from these two alone, so
//!
//! - a timer is due before all timers on higher levels and in later slots of its level: the first occupied slot of the
//!   lowest occupied level has the earliest deadline;
//! - timers with the same deadline are always in the same list, in the order in which they were scheduled.
//!
//! When the present enters a slot above level 0, the timers in it move to lower levels: a cascade. A timer that waits
//! `n` ticks moves at most once for each base-64 digit of `n`, so at most ten times.

use std::fmt;
use std::num::NonZeroU32;

use slab::Slab;

use crate::relay::limits::TABLE_CAPACITY;
use crate::relay::time::Tick;

/// Bits of one base-64 digit.
const DIGIT_BITS: u32 = 6;
/// Slots of one level: one for each value of a digit, and one for each bit of the level's bitmap.
const SLOTS: u32 = 1 << DIGIT_BITS;
/// The last digit of a tick.
const DIGIT_MASK: u64 = (1 << DIGIT_BITS) - 1;
/// One level for each digit of a tick, so that every deadline has a slot.
const LEVELS: u32 = u64::BITS.div_ceil(DIGIT_BITS);
/// The head of an empty list. No timer has this index.
const NIL: u32 = u32::MAX;

const _: () = assert!(SLOTS == u64::BITS);

/// Timers by deadline: which are due at a given time, and how long none will be.
///
/// Call once per turn, in this order: [`advance`](Self::advance) to the present; [`poll_expired`](Self::poll_expired)
/// until it returns `None` or the turn has fired enough timers; [`next_deadline`](Self::next_deadline) for how long
/// to wait. No timer fires before its deadline.
/// [`next_deadline`](Self::next_deadline) for how long to wait. No timer ever fires early.
#[derive(Debug)]
pub struct Wheel<T> {
    entries: Slab<Armed<T>>,
    /// Most timers at once. At most `NIL`, so that every index is less than `NIL`.
    capacity: usize,
    /// The present. No timer in a slot has an earlier deadline.
    now: Tick,
    /// One bit for each slot that is not empty. Only `set_head` writes it.
    occupied: [u64; LEVELS as usize],
    /// The heads of the slots' lists, `NIL` if empty. Only `set_head` writes them.
    heads: [[u32; SLOTS as usize]; LEVELS as usize],
    /// The head of the list of timers that are due and not yet handed out, or `NIL`.
    expired: u32,
    /// The generation of the next timer.
    generation: NonZeroU32,
}

/// Identifies one timer until it is handed out or cancelled. After that it matches no timer.
///
/// The generation counts timers and wraps after 2³² − 1 of them, so a key must not be kept for longer than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    index: u32,
    generation: NonZeroU32,
}

/// A scheduled timer: its deadline, and the key that cancels it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The deadline for which the timer was scheduled.
    pub at: Tick,
    /// The key that cancels the timer.
    pub key: TimerKey,
}

/// The wheel already holds as many timers as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WheelFull;

impl fmt::Display for WheelFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for another timer")
    }
}

impl std::error::Error for WheelFull {}

/// A timer, linked into the list of its slot or into the list of expired timers.
///
/// Lists are circular, so that the last entry can be found from the head.
#[derive(Debug)]
struct Armed<T> {
    timer: T,
    deadline: Tick,
    next: u32,
    previous: u32,
    generation: NonZeroU32,
}

/// The position of a slot in the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    level: u32,
    index: u32,
}

impl Bucket {
    /// The slot of a timer that is due at `deadline`, if the present is `now`.
    fn of(deadline: Tick, now: Tick) -> Self {
        // With `| 1`, a deadline equal to the present is on level 0, like one that differs only in the last digit.
        let difference = (deadline.0 ^ now.0) | 1;
        let level = difference.ilog2() / DIGIT_BITS;
        let index = ((deadline.0 >> (level * DIGIT_BITS)) & DIGIT_MASK) as u32;
        Self { level, index }
    }

    /// The first tick of this slot. It is `now` or later.
    fn start(self, now: Tick) -> Tick {
        let shift = self.level * DIGIT_BITS;
        // The present and the slot have the same digits above the slot's own.
        let digits_above = (now.0 >> shift) & !DIGIT_MASK;
        Tick((digits_above | u64::from(self.index)) << shift)
    }
}

impl<T> Wheel<T> {
    /// An empty wheel for at most `capacity` timers. Its present is `start`.
    ///
    /// It takes 3 KB, and 32 bytes for each timer if `T` takes 12. The table of timers does not shrink.
    #[must_use]
    pub fn new(capacity: usize, start: Tick) -> Self {
        Self {
            // A connection and its session have one each.
            entries: Slab::with_capacity(capacity.min(2 * TABLE_CAPACITY)),
            capacity: capacity.min(NIL as usize),
            now: start,
            occupied: [0; LEVELS as usize],
            heads: [[NIL; SLOTS as usize]; LEVELS as usize],
            expired: NIL,
            generation: NonZeroU32::MIN,
        }
    }

    /// Schedules `timer` to fire once `deadline` is reached, and returns the key that cancels it.
    ///
    /// A deadline in the past counts as the present: it fires on the next [`advance`](Self::advance), never inside
    /// this call, and after the timers that were already due. Constant time.
    ///
    /// # Errors
    /// [`WheelFull`] if `capacity` timers are scheduled; expired timers that were not handed out count. Nothing was
    /// scheduled then.
    pub fn schedule(&mut self, deadline: Tick, timer: T) -> Result<TimerKey, WheelFull> {
        if self.entries.len() >= self.capacity {
            return Err(WheelFull);
        }
        let index = u32::try_from(self.entries.vacant_key()).map_err(|_| WheelFull)?;
        let generation = self.generation;
        // Zero is left out, so that an `Option<TimerKey>` takes no more space than a key.
        self.generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let deadline = deadline.max(self.now);
        self.entries.insert(Armed { timer, deadline, next: index, previous: index, generation });
        self.place(index, deadline);
        Ok(TimerKey { index, generation })
    }

    /// Removes the timer of this key, expired or not, so that it is not handed out.
    ///
    /// `None` if it was handed out or cancelled before. Constant time.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let deadline = self.deadline(key)?;
        let rest = self.detach(key.index);
        // Only the head of a list is stored outside the list, and an entry heads at most one list: an expired timer
        // is never the head of the slot that its deadline leads to.
        let slot = Bucket::of(deadline, self.now);
        if self.expired == key.index {
            self.expired = rest;
        } else if self.head(slot) == key.index {
            self.set_head(slot, rest);
        }
        self.entries.try_remove(key.index as usize).map(|entry| entry.timer)
    }

    /// Makes `now` the present, and collects the timers that are due by then for
    /// [`poll_expired`](Self::poll_expired).
    ///
    /// Time does not go back: a `now` before the present counts as the present. Takes constant time for each occupied
    /// slot that it passes and for each timer in those above level 0. Empty slots cost nothing.
    pub fn advance(&mut self, now: Tick) {
        let now = now.max(self.now);
        while let Some((slot, start)) = self.first_occupied()
            && start <= now
        {
            // All timers are in this slot or after it, so the other slots stay right when the present moves to its
            // start.
            self.now = start;
            let list = self.head(slot);
            self.set_head(slot, NIL);
            // A slot of level 0 is one tick wide, so all its timers are due.
            if slot.level == 0 {
                self.expired = self.join(self.expired, list);
            } else {
                self.cascade(list);
            }
        }
        self.now = now;
    }

    /// Hands out the expired timers one by one, by deadline and then by the order of scheduling, until none is left.
    ///
    /// The order holds over several turns: timers left over come first in the next turn. A timer that is scheduled in
    /// between waits for the next [`advance`](Self::advance). Constant time.
    pub fn poll_expired(&mut self) -> Option<(TimerKey, T)> {
        let index = self.expired;
        if index == NIL {
            return None;
        }
        self.expired = self.detach(index);
        let entry = self.entries.try_remove(index as usize)?;
        Some((TimerKey { index, generation: entry.generation }, entry.timer))
    }

    /// Whether [`poll_expired`](Self::poll_expired) has a timer to hand out.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.expired != NIL
    }

    /// When to call [`advance`](Self::advance) next. `None` if no timer is scheduled.
    ///
    /// It is never later than the earliest deadline, but may be earlier if a cascade is due. Then `advance` finds no
    /// timer; at most ten such calls come before the one that does. It is the present if expired timers were not yet
    /// handed out, or a deadline was past when it was scheduled. Constant time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        if self.has_expired() {
            return Some(self.now);
        }
        self.first_occupied().map(|(_, start)| start)
    }

    /// The deadline of the timer of this key, also while it waits to be handed out. `None` if it was handed out or
    /// cancelled. Constant time.
    #[must_use]
    pub fn deadline(&self, key: TimerKey) -> Option<Tick> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.generation == key.generation).then_some(entry.deadline)
    }

    /// The number of timers, including expired ones that were not handed out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no timer, neither scheduled nor expired.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Moves the timers of `list`, which is in no slot any more, to their slots for the present.
    fn cascade(&mut self, list: u32) {
        let mut rest = list;
        while let Some(deadline) = self.entries.get(rest as usize).map(|entry| entry.deadline) {
            let index = rest;
            rest = self.detach(index);
            self.place(index, deadline);
        }
    }

    /// Appends the entry at `index`, which is in no list, to the slot of `deadline`.
    fn place(&mut self, index: u32, deadline: Tick) {
        let slot = Bucket::of(deadline, self.now);
        let head = self.join(self.head(slot), index);
        self.set_head(slot, head);
    }

    /// The slot with the earliest deadline, and its first tick.
    fn first_occupied(&self) -> Option<(Bucket, Tick)> {
        let mut levels = (0..).zip(self.occupied);
        let (level, bits) = levels.find(|&(_, bits)| bits != 0)?;
        // Within a level, the lowest bit is the earliest slot.
        let slot = Bucket { level, index: bits.trailing_zeros() };
        Some((slot, slot.start(self.now)))
    }

    fn head(&self, slot: Bucket) -> u32 {
        let level = self.heads.get(slot.level as usize);
        level.and_then(|heads| heads.get(slot.index as usize)).copied().unwrap_or(NIL)
    }

    fn set_head(&mut self, slot: Bucket, head: u32) {
        let (level, bit) = (slot.level as usize, 1 << slot.index);
        if let Some(bits) = self.occupied.get_mut(level) {
            *bits = if head == NIL { *bits & !bit } else { *bits | bit };
        }
        if let Some(place) = self.heads.get_mut(level).and_then(|heads| heads.get_mut(slot.index as usize)) {
            *place = head;
        }
    }

    /// Appends the list with the head `back` to the one with the head `front`, and returns the head of the result. An
    /// entry in no list is a list of one entry. Either may be `NIL`.
    fn join(&mut self, front: u32, back: u32) -> u32 {
        let last_of = |head: u32| self.entries.get(head as usize).map(|entry| entry.previous);
        let Some(front_last) = last_of(front) else { return back };
        let Some(back_last) = last_of(back) else { return front };
        // Both lists are circular, so each end is linked to the other list's head.
        self.link(front_last, back);
        self.link(back_last, front);
        front
    }

    /// Removes the entry at `index` from its list and returns the entry after it: the new head if it was the head,
    /// `NIL` if it was alone.
    fn detach(&mut self, index: u32) -> u32 {
        let Some(&Armed { next, previous, .. }) = self.entries.get(index as usize) else { return NIL };
        self.link(previous, next);
        // A list of its own, so that it can be joined to another list.
        self.link(index, index);
        if next == index { NIL } else { next }
    }

    fn link(&mut self, before: u32, after: u32) {
        if let Some(entry) = self.entries.get_mut(before as usize) {
            entry.next = after;
        }
        if let Some(entry) = self.entries.get_mut(after as usize) {
            entry.previous = before;
        }
    }
}

#[cfg(any(test, debug_assertions))]
impl<T> Wheel<T> {
    /// Checks the whole wheel, for tests and debug builds. Visits every timer.
    ///
    /// # Panics
    /// If a bitmap disagrees with its lists, a timer is in the wrong list or in none, or a link is broken.
    pub fn check_invariants(&self) {
        let mut listed = 0;
        for (level, (bits, heads)) in (0..).zip(self.occupied.iter().zip(&self.heads)) {
            for (index, &head) in (0..).zip(heads) {
                assert_eq!(
                    bits & (1 << index) != 0,
                    head != NIL,
                    "bit {index} of level {level} agrees with its list"
                );
                for entry in self.walk(head) {
                    let slot = Bucket::of(entry.deadline, self.now);
                    assert_eq!(slot, Bucket { level, index }, "{:?} is in its slot", entry.deadline);
                    assert!(entry.deadline >= self.now, "{:?} is past and still in its slot", entry.deadline);
                    listed += 1;
                }
            }
        }
        let mut latest = Tick(0);
        for entry in self.walk(self.expired) {
            assert!(latest <= entry.deadline, "expired timers are in order of deadline");
            assert!(entry.deadline <= self.now, "an expired timer is due");
            latest = entry.deadline;
            listed += 1;
        }
        assert_eq!(listed, self.entries.len(), "each timer is in one list");
        assert!(self.entries.len() <= self.capacity, "no more timers than allowed");
    }

    /// The entries of one list from its head on. Checks each link.
    fn walk(&self, head: u32) -> Vec<&Armed<T>> {
        let mut entries = Vec::new();
        let mut index = head;
        while let Some(entry) = self.entries.get(index as usize) {
            let next = self.entries.get(entry.next as usize);
            assert_eq!(next.map(|next| next.previous), Some(index), "the next entry points back");
            entries.push(entry);
            assert!(entries.len() <= self.entries.len(), "the list comes round to its head");
            index = if entry.next == head { NIL } else { entry.next };
        }
        assert_eq!(index, NIL, "a link leads to an entry");
        entries
    }
}

#[cfg(test)]
mod tests;
