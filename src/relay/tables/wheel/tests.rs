use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::relay::tests::random::Random;

/// No timer fired. The type is given, because other crates compare a `Vec` with types of their own.
const NONE: [usize; 0] = [];

/// The first tick of the second slot of each level, from which on a timer is on another level.
fn boundaries() -> impl Iterator<Item = u64> {
    (0..LEVELS).map(|level| 1 << (level * DIGIT_BITS))
}

/// A wheel at `start` with one timer for each deadline, named by its place in `deadlines`.
fn wheel_with(start: u64, deadlines: &[u64]) -> (Wheel<usize>, Vec<TimerKey>) {
    let mut wheel = Wheel::new(deadlines.len(), Tick(start));
    let timers = deadlines.iter().enumerate();
    let keys = timers.map(|(name, &deadline)| wheel.schedule(Tick(deadline), name)).collect::<Result<_, _>>();
    wheel.check_invariants();
    (wheel, keys.expect("the capacity is the number of timers"))
}

fn fired_at(wheel: &mut Wheel<usize>, now: u64) -> Vec<usize> {
    wheel.advance(Tick(now));
    wheel.check_invariants();
    poll_all(wheel)
}

fn poll_all(wheel: &mut Wheel<usize>) -> Vec<usize> {
    let scheduled_count = wheel.len();
    let polled = std::iter::from_fn(|| wheel.poll_expired()).map(|(_, name)| name);
    polled.take(scheduled_count + 1).collect()
}

#[test]
fn timer_fires_at_its_deadline_and_not_a_tick_before() {
    let around = |point: u64| [point - 1, point, point.saturating_add(1)];
    let starts: Vec<u64> = boundaries().flat_map(around).chain([1_753_000_000_000]).collect();
    for start in starts {
        let waits = boundaries().flat_map(around).filter(|&wait| wait > 0);
        for deadline in waits.filter_map(|wait| start.checked_add(wait)).chain([u64::MAX]) {
            let (mut wheel, _) = wheel_with(start, &[deadline]);
            assert_eq!(fired_at(&mut wheel, deadline - 1), NONE, "{start} to {deadline}");
            assert_eq!(fired_at(&mut wheel, deadline), [0], "{start} to {deadline}");
            assert!(wheel.is_empty(), "{start} to {deadline}");
        }
    }
}

#[test]
fn next_deadline_reaches_the_timer_after_at_most_ten_early_steps() {
    for (start, deadline, steps) in [
        (0, 0, &[0][..]),
        (0, 1, &[1]),
        (0, 63, &[63]),
        (0, 64, &[64]),
        (0, 65, &[64, 65]),
        (63, 64, &[64]),
        (4095, 4097, &[4096, 4097]),
        (100, 30_100, &[28_672, 30_080, 30_100]),
        (1 << 60, (1 << 60) + 1, &[(1 << 60) + 1]),
        ((1 << 60) - 1, (1 << 60) + 1, &[1 << 60, (1 << 60) + 1]),
        (u64::MAX - 1, u64::MAX, &[u64::MAX]),
    ] {
        let (mut wheel, _) = wheel_with(start, &[deadline]);
        let mut taken = Vec::new();
        while !wheel.has_expired() && taken.len() <= 10 {
            let next = wheel.next_deadline().expect("one timer is scheduled");
            taken.push(next.0);
            wheel.advance(next);
        }
        assert_eq!(taken, steps, "{start} to {deadline}");
        assert_eq!(poll_all(&mut wheel), [0], "{start} to {deadline}");
        assert_eq!(wheel.next_deadline(), None, "{start} to {deadline}");
    }
}

#[test]
fn jump_over_idle_time_hands_out_timers_by_deadline_then_by_scheduling() {
    let day = 86_400_000;
    for (start, deadlines, expected) in [
        (0, &[5, 3, 4, 3, 5][..], &[1, 3, 2, 0, 4][..]),
        (0, &[70, 64, 4096, 63, 64, 1, 4097, 70], &[5, 3, 1, 4, 0, 7, 2, 6]),
        (4090, &[4097, 4100, 4095, 4096, 4097, 8192], &[2, 3, 0, 4, 1, 5]),
        (100, &[100 + 365 * day, 100 + day, 40_000, 101], &[3, 2, 1, 0]),
        (100, &[100, 7, 99, 101, 0], &[0, 1, 2, 4, 3]),
        (1 << 59, &[(1 << 60) + 1, 1 << 60, 1 << 59, (1 << 60) - 1], &[2, 3, 1, 0]),
        (0, &[u64::MAX, u64::MAX - 1, 0, u64::MAX], &[2, 1, 0, 3]),
    ] {
        let (mut wheel, _) = wheel_with(start, deadlines);
        assert_eq!(fired_at(&mut wheel, u64::MAX), expected, "{deadlines:?} from {start}");
    }
}

#[test]
fn timers_with_one_deadline_keep_the_order_in_which_they_were_scheduled() {
    let (mut wheel, _) = wheel_with(0, &[]);
    wheel.capacity = 4;
    for (name, now) in [0, 200_000, 262_143, 300_000].into_iter().enumerate() {
        assert_eq!(fired_at(&mut wheel, now), NONE, "{now}");
        wheel.schedule(Tick(300_001), name).expect("there is room for four");
    }
    assert_eq!(fired_at(&mut wheel, 300_001), [0, 1, 2, 3]);
}

#[test]
fn timer_set_while_timers_fire_waits_for_the_next_advance() {
    let mut wheel = Wheel::new(4, Tick(50));
    for (name, deadline) in [(0, 60), (1, 61)] {
        wheel.schedule(Tick(deadline), name).expect("there is room for four");
    }
    wheel.advance(Tick(100));
    assert_eq!(wheel.poll_expired().map(|(_, name)| name), Some(0));
    wheel.schedule(Tick(100), 2).expect("there is room for four");
    let overdue = wheel.schedule(Tick(10), 3).expect("there is room for four");
    assert_eq!(wheel.deadline(overdue), Some(Tick(100)), "a deadline in the past counts as the present");
    assert_eq!(poll_all(&mut wheel), [1]);
    assert!(!wheel.has_expired());
    assert_eq!(wheel.next_deadline(), Some(Tick(100)));
    assert_eq!(fired_at(&mut wheel, 100), [2, 3]);
    assert!(wheel.is_empty());
}

#[test]
fn timers_left_over_come_first_in_the_next_turn() {
    let (mut wheel, _) = wheel_with(0, &[10, 11, 12]);
    wheel.advance(Tick(11));
    assert_eq!(wheel.poll_expired().map(|(_, name)| name), Some(0));
    assert_eq!(wheel.next_deadline(), Some(Tick(11)), "no wait while timers are left over");
    wheel.schedule(Tick(2), 3).expect("one was handed out");
    assert_eq!(fired_at(&mut wheel, 12), [1, 3, 2]);
}

#[test]
fn time_before_the_present_counts_as_the_present() {
    let (mut wheel, _) = wheel_with(1000, &[1500, 900]);
    assert_eq!(fired_at(&mut wheel, 0), [1], "an overdue timer fires at any time");
    assert_eq!(fired_at(&mut wheel, 1499), NONE);
    assert_eq!(fired_at(&mut wheel, 3), NONE);
    assert_eq!(wheel.next_deadline(), Some(Tick(1500)));
    assert_eq!(fired_at(&mut wheel, 1500), [0]);
}

#[test]
fn cancelled_timer_is_not_handed_out() {
    // All in one list, in a list each, or on a level each; cancelled before they are due, or after.
    for deadlines in [[500, 500, 500], [500, 501, 502], [101, 200, 5000]] {
        for expired_first in [false, true] {
            for (cancelled, rest) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
                let case = format!("{cancelled} of {deadlines:?}, expired first: {expired_first}");
                let (mut wheel, keys) = wheel_with(100, &deadlines);
                wheel.advance(Tick(if expired_first { 6000 } else { 100 }));
                let key = keys.get(cancelled).copied().expect("three were scheduled");
                assert_eq!(wheel.cancel(key), Some(cancelled), "{case}");
                wheel.check_invariants();
                assert_eq!((wheel.cancel(key), wheel.deadline(key), wheel.len()), (None, None, 2), "{case}");
                assert_eq!(fired_at(&mut wheel, 6000), rest, "{case}");
                assert_eq!(wheel.next_deadline(), None, "{case}");
            }
        }
    }
}

#[test]
fn key_matches_no_timer_once_its_own_is_gone_even_if_the_slot_is_reused() {
    let (mut wheel, keys) = wheel_with(0, &[10]);
    assert_eq!(wheel.len(), 1);
    assert_eq!(fired_at(&mut wheel, 10), [0]);
    let stale = keys.first().copied().expect("one was scheduled");
    assert_eq!((wheel.cancel(stale), wheel.deadline(stale)), (None, None));

    let fresh = wheel.schedule(Tick(20), 1).expect("the first was handed out");
    assert_eq!(fresh.index, stale.index);
    assert_eq!((wheel.cancel(stale), wheel.deadline(stale)), (None, None));
    assert_eq!(wheel.deadline(fresh), Some(Tick(20)));
    assert_eq!(wheel.cancel(fresh), Some(1));

    wheel.generation = NonZeroU32::MAX;
    let last = wheel.schedule(Tick(20), 2).expect("the wheel is empty");
    assert_eq!(wheel.cancel(last), Some(2));
    let wrapped = wheel.schedule(Tick(20), 3).expect("the wheel is empty");
    assert_eq!((wheel.cancel(last), wheel.cancel(wrapped)), (None, Some(3)));
}

#[test]
fn full_wheel_schedules_nothing_until_a_timer_is_gone() {
    let (mut wheel, keys) = wheel_with(0, &[10, 20]);
    assert_eq!(wheel.schedule(Tick(5), 2), Err(WheelFull));
    wheel.check_invariants();
    assert_eq!((wheel.len(), wheel.next_deadline()), (2, Some(Tick(10))));
    wheel.advance(Tick(10));
    assert_eq!(wheel.schedule(Tick(15), 2), Err(WheelFull), "an expired timer counts until it is handed out");
    assert_eq!(poll_all(&mut wheel), [0]);
    wheel.schedule(Tick(15), 2).expect("one was handed out");
    assert_eq!(wheel.schedule(Tick(15), 3), Err(WheelFull));
    assert_eq!(keys.last().and_then(|&key| wheel.cancel(key)), Some(1));
    wheel.schedule(Tick(12), 3).expect("one was cancelled");
    assert_eq!(fired_at(&mut wheel, 15), [3, 2]);
    assert_eq!(Wheel::new(0, Tick(0)).schedule(Tick(0), 0), Err(WheelFull));
}

#[test]
fn wheel_takes_3_kb_and_32_bytes_for_each_timer() {
    /// As slab lays out its entries.
    #[expect(dead_code, reason = "only its size matters")]
    enum SlabEntry<T> {
        Vacant(usize),
        Occupied(T),
    }
    assert_eq!(size_of::<[u32; 3]>(), 12);
    assert!(size_of::<Wheel<[u32; 3]>>() <= 3072, "{}", size_of::<Wheel<[u32; 3]>>());
    assert_eq!(size_of::<SlabEntry<Armed<[u32; 3]>>>(), 32);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
}

/// The same behaviour as the wheel's, but slow and obvious: an ordered map that is searched from end to end.
#[derive(Default)]
struct Twin {
    now: Tick,
    scheduled_count: u64,
    /// By deadline, then by scheduling.
    pending: BTreeMap<(Tick, u64), (TimerKey, u64)>,
    expired: VecDeque<(Tick, TimerKey, u64)>,
}

impl Twin {
    fn schedule(&mut self, deadline: Tick, key: TimerKey) {
        self.pending.insert((deadline.max(self.now), self.scheduled_count), (key, self.scheduled_count));
        self.scheduled_count += 1;
    }

    fn cancel(&mut self, key: TimerKey) -> Option<u64> {
        if let Some(at) = self.expired.iter().position(|&(_, expired, _)| expired == key) {
            return self.expired.remove(at).map(|(_, _, name)| name);
        }
        let (&at, _) = self.pending.iter().find(|(_, (pending, _))| *pending == key)?;
        self.pending.remove(&at).map(|(_, name)| name)
    }

    fn advance(&mut self, now: Tick) {
        self.now = now.max(self.now);
        while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((deadline, _), (key, name)) = entry.remove_entry();
            self.expired.push_back((deadline, key, name));
        }
    }

    fn poll_expired(&mut self) -> Option<(TimerKey, u64)> {
        self.expired.pop_front().map(|(_, key, name)| (key, name))
    }

    fn earliest(&self) -> Option<Tick> {
        if self.expired.is_empty() {
            self.pending.keys().next().map(|&(deadline, _)| deadline)
        } else {
            Some(self.now)
        }
    }

    fn deadline(&self, key: TimerKey) -> Option<Tick> {
        let pending = self.pending.iter().map(|(&(deadline, _), &(key, _))| (deadline, key));
        let mut all = self.expired.iter().map(|&(deadline, key, _)| (deadline, key)).chain(pending);
        all.find(|&(_, named)| named == key).map(|(deadline, _)| deadline)
    }

    fn len(&self) -> usize {
        self.pending.len() + self.expired.len()
    }
}

impl Random {
    /// A number with a random count of bits, each count up to `bits` being equally likely.
    fn magnitude(&mut self, bits: u32) -> u64 {
        self.next() >> (63 - self.below(bits as usize))
    }

    /// A deadline in the past, now, near, far, or within a tick of one at which a level begins again.
    fn deadline(&mut self, now: Tick) -> Tick {
        let short = self.below(200) as u64;
        Tick(match self.below(16) {
            0 => u64::MAX,
            1 | 2 => now.0.saturating_sub(short),
            3..8 => {
                let slot_ticks = 1 << (self.below(LEVELS as usize) * DIGIT_BITS as usize);
                (now.0 | (slot_ticks - 1)).saturating_add(short % 3)
            }
            8..12 => now.0.saturating_add(short),
            _ => now.0.saturating_add(self.magnitude(63)),
        })
    }
}

const CAPACITY: u32 = 48;

/// The wheel and its twin, which get the same calls.
struct Pair {
    random: Random,
    wheel: Wheel<u64>,
    twin: Twin,
    /// The latest keys, the oldest first. Some belong to timers that are gone.
    keys: VecDeque<TimerKey>,
    seed: u64,
    step: u32,
    /// Seed, step and operation, for the message of a failure.
    case: String,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let start = Tick(random.magnitude(63));
        let twin = Twin { now: start, ..Twin::default() };
        let wheel = Wheel::new(CAPACITY as usize, start);
        Self { random, wheel, twin, keys: VecDeque::new(), seed, step: 0, case: String::new() }
    }

    fn step(&mut self, step: u32) {
        self.step = step;
        match self.random.below(32) {
            0..14 => self.schedule(),
            14..20 => self.cancel(),
            20..25 => self.advance(),
            25..31 => self.poll(1),
            _ => self.poll(u32::MAX),
        }
        self.wheel.check_invariants();
        assert_eq!(self.wheel.len(), self.twin.len(), "{}", self.case);
        assert_eq!(self.wheel.is_empty(), self.twin.len() == 0, "{}", self.case);
        assert_eq!(self.wheel.has_expired(), !self.twin.expired.is_empty(), "{}", self.case);
        let (next, earliest) = (self.wheel.next_deadline(), self.twin.earliest());
        assert_eq!(next.is_some(), earliest.is_some(), "{}", self.case);
        assert!(next <= earliest, "{next:?} comes after {earliest:?}; {}", self.case);
        assert!(next.is_none_or(|next| next >= self.twin.now), "{next:?} is past; {}", self.case);
    }

    fn tell(&mut self, operation: &str) {
        self.case = format!("seed {}, step {} at {}: {operation}", self.seed, self.step, self.twin.now.0);
    }

    fn schedule(&mut self) {
        let deadline = self.random.deadline(self.twin.now);
        self.tell(&format!("schedule {}", deadline.0));
        match self.wheel.schedule(deadline, self.twin.scheduled_count) {
            Ok(key) => {
                assert!(self.twin.len() < CAPACITY as usize, "{}", self.case);
                self.twin.schedule(deadline, key);
                self.keys.push_back(key);
                if self.keys.len() > 2 * CAPACITY as usize {
                    self.keys.pop_front();
                }
            }
            Err(WheelFull) => assert_eq!(self.twin.len(), CAPACITY as usize, "{}", self.case),
        }
    }

    fn cancel(&mut self) {
        let Some(&key) = self.keys.get(self.random.below(2 * CAPACITY as usize)) else { return };
        self.tell(&format!("cancel {key:?}"));
        assert_eq!(self.wheel.deadline(key), self.twin.deadline(key), "{}", self.case);
        assert_eq!(self.wheel.cancel(key), self.twin.cancel(key), "{}", self.case);
    }

    fn advance(&mut self) {
        let now = self.twin.now;
        let to = match self.random.below(8) {
            0 => Tick(now.0.saturating_sub(50)),
            1..4 => self.wheel.next_deadline().unwrap_or(now),
            4 => self.random.deadline(now).min(Tick(now.0.saturating_add(1 << 50))),
            _ => Tick(now.0.saturating_add(self.random.magnitude(20))),
        };
        self.tell(&format!("advance to {}", to.0));
        self.wheel.advance(to);
        self.twin.advance(to);
    }

    fn poll(&mut self, count_max: u32) {
        self.tell("poll");
        for _ in 0..count_max {
            let (polled, expected) = (self.wheel.poll_expired(), self.twin.poll_expired());
            assert_eq!(polled, expected, "{}", self.case);
            if polled.is_none() {
                break;
            }
        }
    }
}

#[test]
fn wheel_agrees_with_its_slow_twin() {
    for seed in 0..100 {
        let mut pair = Pair::new(seed);
        for step in 0..500 {
            pair.step(step);
        }
        pair.wheel.advance(Tick(u64::MAX));
        pair.twin.advance(Tick(u64::MAX));
        pair.poll(u32::MAX);
        assert!(pair.wheel.is_empty(), "{}", pair.case);
        pair.wheel.check_invariants();
    }
}
