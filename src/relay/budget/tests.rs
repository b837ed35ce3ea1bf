use super::*;
use crate::relay::tests::random::Random;

const MIB: usize = 1 << 20;
/// What large messages may take of 64 MiB.
const SHARE: usize = 56 * MIB;

fn budget(message_max: usize) -> Budget {
    Budget::new(64 * MIB, message_max)
}

fn id(slot: u64) -> ConnectionId {
    ConnectionId { slot: u32::try_from(slot).unwrap(), generation: 0 }
}

fn whole(order: Order, bytes: usize) -> Ask {
    Ask { order, bytes, is_fragmented: false }
}

fn fragment(order: Order, bytes: usize) -> Ask {
    Ask { order, bytes, is_fragmented: true }
}

/// Who was handed room, in order.
fn granted(budget: &mut Budget) -> (Vec<Order>, Vec<Room>) {
    let mut all = (Vec::new(), Vec::new());
    while let Some((_, ask, room)) = budget.poll_granted() {
        all.0.push(ask.order);
        all.1.push(room);
    }
    assert!(!budget.is_grantable());
    all
}

#[test]
fn large_messages_leave_an_eighth_to_small_ones_and_give_room_back_when_dropped() {
    let mut budget = budget(SHARE);
    let most = budget.try_reserve(whole(1, SHARE)).unwrap();
    assert!(budget.try_reserve(whole(2, 4096)).is_none());
    assert!(budget.has_small_room());
    assert_eq!(budget.read_bytes_max(), SHORT_READ_BYTES, "what follows a header would have to be kept");
    assert_eq!(budget.used_bytes(), SHARE);
    drop(most);
    assert_eq!(budget.used_bytes(), 0);
    assert_eq!(budget.read_bytes_max(), RECEIVE_BUFFER_BYTES);
    assert!(budget.try_reserve(whole(3, SHARE + 1)).is_none());
}

#[test]
fn small_messages_take_at_most_half_and_what_they_have_large_ones_have_not() {
    let mut budget = budget(32 * MIB);
    budget.charge_small(0, u32::try_from(32 * MIB - SMALL_ROOM_BYTES_MIN).unwrap());
    assert!(budget.has_small_room());
    budget.charge_small(0, 1);
    assert!(!budget.has_small_room(), "a read may bring more than is left of the half");
    let large = budget.try_reserve(whole(1, 32 * MIB)).unwrap();
    assert!(budget.try_reserve(whole(2, MIB)).is_none());
    budget.charge_small(u32::try_from(32 * MIB).unwrap(), u32::try_from(30 * MIB).unwrap());
    assert!(budget.try_reserve(whole(3, MIB)).is_some());
    drop(large);
}

#[test]
fn the_more_waits_the_less_may_wait_for_each() {
    let mut budget = Budget::new(256 * MIB, SHARE);
    let (mut queues, mut last) = (0, usize::MAX);
    while budget.small_queue_bytes_max() > SHORT_READ_BYTES {
        assert!(budget.small_queue_bytes_max() <= last);
        last = budget.small_queue_bytes_max();
        assert!(last >= HIGH_WATER_BYTES || queues >= 64, "while there is plenty only the mark counts");
        budget.charge_small(0, u32::try_from(last.min(HIGH_WATER_BYTES)).unwrap());
        queues += 1;
    }
    assert!(queues > 1000 && budget.small_room() > 8 * MIB, "{queues} and {}", budget.small_room());
}

#[test]
fn room_goes_first_to_the_message_that_began_first() {
    let mut budget = budget(SHARE);
    let first = budget.try_reserve(whole(1, 50 * MIB)).unwrap();
    for (order, bytes) in [(5, 30 * MIB), (3, 40 * MIB), (9, 4096), (4, 16 * MIB)] {
        assert!(budget.try_reserve(whole(order, 20 * MIB)).is_none());
        budget.wait(id(order), whole(order, bytes));
    }
    assert!(budget.try_reserve(whole(10, 4096)).is_none(), "small as it is, others were before it");
    let early = budget.try_reserve(whole(2, 4096)).expect("it began before those that wait");
    assert_eq!(granted(&mut budget).0, [0; 0], "the first in line does not fit, and nobody passes it");
    drop((first, early));
    let (orders, rooms) = granted(&mut budget);
    assert_eq!(orders, [3, 4]);
    budget.forget(5);
    assert_eq!(granted(&mut budget).0, [0; 0], "not even a page is left");
    drop(rooms);
    assert_eq!(granted(&mut budget).0, [9]);
    assert!(!budget.is_awaited());
}

#[test]
fn messages_in_fragments_cannot_lock_each_other_out() {
    let mut budget = budget(8 * MIB);
    // The first may become 8 MiB, so of the half that small ones leave in any case the others get 24, and no more.
    let mut head = budget.try_reserve(fragment(1, MIB)).unwrap();
    let others = budget.try_reserve(fragment(2, 20 * MIB)).unwrap();
    assert!(budget.try_reserve(fragment(3, 5 * MIB)).is_none());
    budget.wait(id(3), fragment(3, 5 * MIB));
    let passing = budget.try_reserve(whole(4, 4 * MIB)).expect("a message in one frame locks nobody out");
    let other = budget.try_reserve(whole(5, 24 * MIB)).unwrap();
    for _ in 0..7 {
        head.add(budget.try_reserve(fragment(1, MIB)).unwrap());
    }
    assert_eq!(granted(&mut budget).0, [0; 0]);
    drop(passing);
    budget.check_invariants(0, 0, 1);
    // The head is whole: of those that are left the one that began first takes its place.
    budget.end_fragments(1);
    assert_eq!(granted(&mut budget).0, [0; 0], "there is still no room");
    drop((head, other));
    let (orders, rooms) = granted(&mut budget);
    assert_eq!(orders, [3]);
    assert!(budget.try_reserve(fragment(2, 12 * MIB)).is_some());
    budget.end_fragments(2);
    budget.end_fragments(3);
    drop((rooms, others));
    assert_eq!(budget.used_bytes(), 0);
    budget.check_invariants(0, 0, 0);
}

#[test]
fn fragments_that_leave_room_for_the_head_are_not_passed_by_smaller_ones_that_began_later() {
    let mut budget = budget(8 * MIB);
    let head = budget.try_reserve(fragment(1, MIB)).unwrap();
    assert!(budget.try_reserve(fragment(2, 25 * MIB)).is_none(), "the head may need a part of it");
    budget.wait(id(2), fragment(2, 25 * MIB));
    assert!(budget.try_reserve(fragment(3, MIB)).is_none(), "or the second might wait forever");
    budget.wait(id(3), fragment(3, MIB));
    assert!(budget.try_reserve(whole(4, MIB)).is_some());
    assert!(budget.try_reserve(fragment(1, 7 * MIB)).is_some());
    assert_eq!(granted(&mut budget).0, [0; 0]);
    budget.end_fragments(1);
    drop(head);
    assert_eq!(granted(&mut budget).0, [2, 3]);
}

#[test]
fn a_message_in_fragments_as_long_as_the_budget_allows_waits_for_the_others_and_goes_through() {
    let mut budget = budget(SHARE);
    let first = budget.try_reserve(fragment(1, BLOCK_BYTES)).unwrap();
    assert!(budget.try_reserve(fragment(2, BLOCK_BYTES)).is_none(), "the first may need it all");
    budget.wait(id(2), fragment(2, BLOCK_BYTES));
    budget.end_fragments(1);
    let (orders, second) = granted(&mut budget);
    assert_eq!(orders, [2], "it is whole, and its room will come back");
    assert!(budget.try_reserve(fragment(2, SHARE - BLOCK_BYTES)).is_none());
    drop(first);
    assert!(budget.try_reserve(fragment(2, SHARE - BLOCK_BYTES)).is_some());
    drop(second);
}

/// A message of a client that goes on as soon as it may.
#[derive(Debug)]
struct Message {
    order: Order,
    bytes_left: usize,
    is_fragmented: bool,
    room: Option<Room>,
    is_waiting: bool,
}

#[test]
fn whoever_sends_what_and_in_whatever_pieces_every_message_gets_through() {
    for seed in 0..300 {
        let mut chance = Random(seed);
        let message_max = [8, 32, 56][chance.below(3)] * MIB;
        let mut budget = budget(message_max);
        let mut messages: Vec<Message> = (1..=40)
            .map(|order| Message {
                order,
                bytes_left: BLOCK_BYTES * (1 + chance.below(message_max / BLOCK_BYTES)),
                is_fragmented: chance.below(2) == 0,
                room: None,
                is_waiting: false,
            })
            .collect();
        let mut turns = 0;
        while !messages.is_empty() {
            turns += 1;
            assert!(turns < 100_000, "seed {seed}: they wait for each other: {messages:?}");
            while let Some((_, ask, room)) = budget.poll_granted() {
                let message = messages.iter_mut().find(|message| message.order == ask.order).unwrap();
                message.is_waiting = false;
                message.take(room);
            }
            let index = chance.below(messages.len());
            let message = &mut messages[index];
            if message.bytes_left == 0 {
                // Delivered.
                budget.end_fragments(message.order);
                messages.remove(index);
            } else if !message.is_waiting {
                let frame = BLOCK_BYTES * (1 + chance.below(message.bytes_left / BLOCK_BYTES));
                let bytes = if message.is_fragmented { frame } else { message.bytes_left };
                let ask = Ask { order: message.order, bytes, is_fragmented: message.is_fragmented };
                if let Some(room) = budget.try_reserve(ask) {
                    message.take(room);
                } else {
                    budget.wait(id(message.order), ask);
                    message.is_waiting = true;
                }
            }
            budget.check_invariants(0, 0, messages.iter().filter(|message| message.is_waiting).count());
        }
        assert_eq!(budget.used_bytes(), 0, "seed {seed}");
    }
}

impl Message {
    fn take(&mut self, room: Room) {
        self.bytes_left -= room.bytes();
        match &mut self.room {
            Some(before) => before.add(room),
            None => self.room = Some(room),
        }
    }
}

#[test]
fn small_messages_leave_what_the_longest_message_needs_and_have_an_eighth_in_any_case() {
    for (message_max, small_share) in [(MIB, 32), (32 * MIB, 32), (40 * MIB, 24), (SHARE, 8)] {
        let mut budget = budget(message_max);
        budget.charge_small(0, u32::try_from(small_share * MIB - SMALL_ROOM_BYTES_MIN).unwrap());
        assert!(budget.has_small_room(), "{message_max}");
        budget.charge_small(0, 1);
        assert!(!budget.has_small_room(), "{message_max}");
        assert!(budget.try_reserve(whole(1, message_max)).is_some());
    }
}
