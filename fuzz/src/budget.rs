//! Whoever asks for room, waits, goes on, gives up and is done, in whatever order: the budget hands out exactly
//! the room that a list of everybody hands out, to the same messages and in the same order, never more than
//! there is, and everybody whose room others give back gets through in the end.

use std::collections::BTreeMap;

use apptuner_relay::relay::budget::{Ask, Budget, Order, Room, room_of_fragments, room_of_frame};
use apptuner_relay::relay::ids::ConnectionId;
use apptuner_relay::relay::limits::{
    BLOCK_BYTES, BUFFERED_BYTES_MIN, SMALL_ROOM_BYTES_MIN, SMALL_SHARE, message_bytes_max,
};

use super::choices::Choices;

/// Messages at once.
const MESSAGES_MAX: usize = 24;
/// Budgets, in bytes: the smallest, others, and one that no block divides.
const BUDGETS: [usize; 5] =
    [BUFFERED_BYTES_MIN, 2 * BUFFERED_BYTES_MIN, 3 * BUFFERED_BYTES_MIN, 5 << 20, (1 << 20) + 12_345];
/// Lengths of messages and frames, in bytes.
const LENGTHS: [usize; 8] = [16_385, 65_536, 65_537, 262_144, 262_145, 400_000, 700_000, 1 << 20];

/// Runs the plan that `data` is.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let bytes_max = choices.pick(BUDGETS);
    let longest = message_bytes_max(bytes_max);
    let message_max = choices.pick([longest, longest / 2, longest / 4, 70_000]);
    let mut both = Both {
        budget: Budget::new(bytes_max, message_max),
        list: List { bytes_max, message_max, ..List::default() },
        rooms: BTreeMap::new(),
        next_order: 1,
    };
    while !choices.is_empty() {
        both.step(&mut choices);
        both.compare();
    }
    both.finish();
}

/// A message as the list has it.
#[derive(Clone, Copy, Debug)]
struct Message {
    is_fragmented: bool,
    /// Its frames so far, the one that waits for room included.
    bytes: usize,
    room: usize,
    /// The room that it waits for.
    waits_for: Option<usize>,
    /// All of it is there.
    is_whole: bool,
}

/// The obvious way: every message with what it has and what it waits for.
#[derive(Debug, Default)]
struct List {
    bytes_max: usize,
    message_max: usize,
    small_bytes: usize,
    messages: BTreeMap<Order, Message>,
    /// Of the messages in fragments that are not all there, the one that always has to be able to finish.
    head: Option<Order>,
}

impl List {
    fn large_bytes(&self) -> usize {
        self.messages.values().map(|message| message.room).sum()
    }

    fn small_share(&self) -> usize {
        let beside_the_longest = self.bytes_max.saturating_sub(room_of_frame(self.message_max));
        beside_the_longest.clamp(self.bytes_max / SMALL_SHARE, self.bytes_max / 2)
    }

    fn large_share(&self) -> usize {
        self.bytes_max - self.bytes_max / SMALL_SHARE
    }

    fn fits(&self, bytes: usize) -> bool {
        self.large_bytes() + bytes + self.small_bytes.max(self.bytes_max / SMALL_SHARE) <= self.bytes_max
    }

    /// Messages in fragments that have room and are not all there.
    fn unfinished(&self) -> impl Iterator<Item = (Order, &Message)> {
        let is_unfinished =
            |message: &Message| message.is_fragmented && message.room > 0 && !message.is_whole;
        self.messages.iter().map(|(&order, message)| (order, message)).filter(move |of| is_unfinished(of.1))
    }

    /// Whether the head can still become as long as any message if this one is given more.
    fn is_safe(&self, order: Order, bytes: usize) -> bool {
        let Some(head) = self.head.filter(|&head| head != order) else { return true };
        let others = self.unfinished().filter(|&(order, _)| order != head);
        let others: usize = others.map(|(_, message)| message.room).sum();
        others + bytes + room_of_frame(self.message_max) <= self.bytes_max - self.small_share()
    }

    fn waiting(&self) -> impl Iterator<Item = (Order, bool, usize)> {
        self.messages
            .iter()
            .filter_map(|(&order, message)| Some((order, message.is_fragmented, message.waits_for?)))
    }

    /// Who must be given room before everybody else that waits.
    fn next(&self) -> Option<(Order, usize)> {
        let head = self.waiting().find(|&(order, ..)| Some(order) == self.head);
        let first_fragmented = self.waiting().find(|&(_, is_fragmented, _)| is_fragmented);
        let next = head.or_else(|| {
            // In the order in which they began, and of those in fragments none before the first of them.
            self.waiting().find(|&(order, is_fragmented, bytes)| {
                !is_fragmented
                    || (first_fragmented.is_some_and(|first| first.0 == order) && self.is_safe(order, bytes))
            })
        });
        next.map(|(order, _, bytes)| (order, bytes))
    }

    /// Whether a message may have room at once.
    fn may_have(&self, order: Order, is_fragmented: bool, bytes: usize) -> bool {
        let is_head = self.head == Some(order);
        let passes_nobody =
            self.next().is_none_or(|(next, _)| is_head || next > order && self.head != Some(next));
        let passes_no_fragments = !is_fragmented
            || is_head
            || self.waiting().all(|(other, is_fragmented, _)| !is_fragmented || other > order);
        let is_safe = !is_fragmented || self.is_safe(order, bytes);
        passes_nobody && passes_no_fragments && is_safe && self.fits(bytes)
    }

    fn give(&mut self, order: Order, bytes: usize) {
        let message = self.messages.get_mut(&order).expect("a known message");
        message.room += bytes;
        message.waits_for = None;
        if message.is_fragmented {
            self.head.get_or_insert(order);
        }
    }

    /// A message asks for no more, and another one becomes the head if it was that.
    fn end(&mut self, order: Order) {
        if self.head == Some(order) {
            let next = self.unfinished().map(|(other, _)| other).find(|&other| other != order);
            self.head = next;
        }
    }

    fn small_room(&self) -> usize {
        let of_share = self.small_share().saturating_sub(self.small_bytes);
        of_share.min(self.bytes_max.saturating_sub(self.large_bytes() + self.small_bytes))
    }
}

/// The budget and the list, told the same.
struct Both {
    budget: Budget,
    list: List,
    rooms: BTreeMap<Order, Room>,
    next_order: Order,
}

impl Both {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 8 {
            0 => self.begin(choices.flag(), choices.pick(LENGTHS), choices.flag()),
            1 | 2 => {
                if let Some(order) = self.choose(choices) {
                    self.go_on(order, choices.pick(LENGTHS));
                }
            }
            3 => {
                if let Some(order) = self.choose(choices) {
                    self.complete(order);
                }
            }
            4 => {
                if let Some(order) = self.choose(choices) {
                    self.remove(order);
                }
            }
            5 => {
                self.poll();
            }
            6 => while self.poll() {},
            _ => self.charge(usize::from(choices.word()) * 16),
        }
    }

    fn choose(&self, choices: &mut Choices<'_>) -> Option<Order> {
        let index = choices.below(self.list.messages.len());
        self.list.messages.keys().nth(index).copied()
    }

    /// A message begins, and asks for room at once or later.
    fn begin(&mut self, is_fragmented: bool, bytes: usize, asks: bool) {
        if self.list.messages.len() < MESSAGES_MAX {
            let order = self.next_order;
            self.next_order += 1;
            let message = Message { is_fragmented, bytes: 0, room: 0, waits_for: None, is_whole: false };
            self.list.messages.insert(order, message);
            if asks {
                self.go_on(order, bytes);
            }
        }
    }

    /// A message asks for room for its next, or its only, frame.
    fn go_on(&mut self, order: Order, frame_bytes: usize) {
        let message = self.list.messages.get_mut(&order).expect("a known message");
        let is_done = message.is_whole || (!message.is_fragmented && message.bytes > 0);
        let bytes = message.bytes + frame_bytes;
        if is_done || message.waits_for.is_some() || bytes > self.list.message_max {
            return;
        }
        message.bytes = bytes;
        let is_fragmented = message.is_fragmented;
        let room = if is_fragmented {
            room_of_fragments(bytes, self.list.message_max)
        } else {
            room_of_frame(bytes)
        };
        let missing = room - message.room;
        if missing == 0 {
            return;
        }
        let ask = Ask { order, bytes: missing, is_fragmented };
        let expected = self.list.may_have(order, is_fragmented, missing);
        let room = self.budget.try_reserve(ask);
        assert_eq!(room.is_some(), expected, "room for {ask:?} among {:?}", self.list);
        if let Some(room) = room {
            self.take(order, missing, room);
        } else {
            self.budget.wait(id_of(order), ask);
            self.list.messages.get_mut(&order).expect("as before").waits_for = Some(missing);
        }
    }

    fn take(&mut self, order: Order, bytes: usize, room: Room) {
        assert_eq!(room.bytes(), bytes, "as much as was asked for");
        self.list.give(order, bytes);
        match self.rooms.get_mut(&order) {
            Some(before) => before.add(room),
            None => drop(self.rooms.insert(order, room)),
        }
    }

    /// All of a message is there; whoever takes it has not done so.
    fn complete(&mut self, order: Order) {
        let message = self.list.messages.get_mut(&order).expect("a known message");
        if message.waits_for.is_none() {
            message.is_whole = true;
            self.list.end(order);
            self.budget.end_fragments(order);
        }
    }

    /// A message is taken, or its client is gone.
    fn remove(&mut self, order: Order) {
        self.budget.forget(order);
        self.budget.end_fragments(order);
        self.rooms.remove(&order);
        self.list.end(order);
        self.list.messages.remove(&order);
    }

    /// Hands out room once; whether there was anything to hand out.
    fn poll(&mut self) -> bool {
        let expected = self.list.next().filter(|&(_, bytes)| self.list.fits(bytes));
        let granted = self.budget.poll_granted();
        let found = granted.as_ref().map(|(_, ask, _)| (ask.order, ask.bytes));
        assert_eq!(found, expected, "who is given room among {:?}", self.list);
        let Some((id, ask, room)) = granted else { return false };
        assert_eq!(id, id_of(ask.order));
        self.take(ask.order, ask.bytes, room);
        true
    }

    fn charge(&mut self, bytes: usize) {
        let as_u32 = |bytes: usize| u32::try_from(bytes).expect("little");
        self.budget.charge_small(as_u32(self.list.small_bytes), as_u32(bytes));
        self.list.small_bytes = bytes;
    }

    fn compare(&self) {
        let List { bytes_max, small_bytes, .. } = self.list;
        let large = self.list.large_bytes();
        #[cfg(debug_assertions)]
        self.budget.check_invariants(small_bytes, 0, self.list.waiting().count());
        assert_eq!(self.budget.used_bytes(), large + small_bytes);
        assert!(large <= self.list.large_share(), "large messages leave the others their share");
        let next = self.list.next();
        assert_eq!(self.budget.is_grantable(), next.is_some_and(|(_, bytes)| self.list.fits(bytes)));
        assert_eq!(self.budget.is_awaited(), self.list.waiting().next().is_some());
        let room = self.list.small_room();
        assert_eq!(self.budget.has_small_room(), room >= SMALL_ROOM_BYTES_MIN);
        assert!(self.budget.small_queue_bytes_max() <= bytes_max / 2, "for one client");
        assert!(room > 0 || self.budget.small_queue_bytes_max() == 0);
    }

    /// Small messages are taken, and so are large ones once they are there; each in fragments sends as much as
    /// it may.
    fn finish(mut self) {
        self.charge(0);
        for _ in 0..100 * MESSAGES_MAX {
            while self.poll() {}
            let can_go_on = |(_, message): &(&Order, &Message)| message.waits_for.is_none();
            let Some((&order, &message)) = self.list.messages.iter().find(can_go_on) else { break };
            let left = self.list.message_max - message.bytes;
            if message.is_fragmented && !message.is_whole && left > 0 {
                self.go_on(order, left.min(BLOCK_BYTES));
            } else {
                self.remove(order);
            }
            self.compare();
        }
        assert!(self.list.messages.is_empty(), "some wait forever: {:?}", self.list);
        assert_eq!(self.budget.used_bytes(), 0, "everything is given back");
    }
}

fn id_of(order: Order) -> ConnectionId {
    ConnectionId { slot: u32::try_from(order).expect("few"), generation: 7 }
}
