//! Timers are scheduled, cancelled and waited for in any order. The timing wheel returns exactly the timers that a
//! sorted map returns, at the same times and in the same order, never early, and never reports nothing to do while a
//! timer is pending.

use std::collections::{BTreeMap, VecDeque};

use apptuner_relay::relay::Tick;
use apptuner_relay::relay::internals::wheel::{TimerKey, Wheel};

use super::choices::Choices;

/// Cascades that may come before a timer is due: one for each level except the lowest.
const CASCADES_MAX: usize = 10;
/// The start times of wheels: at the origin, at the edge of slots on several levels, and near the end.
const STARTS: [u64; 6] = [0, 63, 4_095, (1 << 36) - 1, (1 << 60) - 1, u64::MAX - 70];

/// Runs the plan in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let start = Tick(choices.pick(STARTS));
    let capacity = choices.below(64);
    let mut both = Both {
        wheel: Wheel::new(capacity, start),
        map: SortedMap { now: start, ..SortedMap::default() },
        capacity,
        keys: Vec::new(),
    };
    while !choices.is_empty() {
        both.step(&mut choices);
        both.compare();
    }
    both.finish();
}

/// A timer is the number of timers that were scheduled before it.
type Timer = usize;

/// The simple way: every timer by its deadline and the order of scheduling.
#[derive(Default)]
struct SortedMap {
    now: Tick,
    pending: BTreeMap<(Tick, Timer), TimerKey>,
    expired: VecDeque<(Tick, Timer, TimerKey)>,
}

impl SortedMap {
    fn cancel(&mut self, key: TimerKey) -> Option<Timer> {
        let pending = self.pending.iter().find(|(_, known)| **known == key).map(|(place, _)| *place);
        if let Some(place) = pending {
            self.pending.remove(&place);
            return Some(place.1);
        }
        let at = self.expired.iter().position(|(.., known)| *known == key)?;
        self.expired.remove(at).map(|(_, timer, _)| timer)
    }

    fn advance(&mut self, now: Tick) {
        self.now = self.now.max(now);
        while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((deadline, timer), key) = entry.remove_entry();
            self.expired.push_back((deadline, timer, key));
        }
    }

    fn deadline(&self, key: TimerKey) -> Option<Tick> {
        let pending = self.pending.iter().find(|(_, known)| **known == key).map(|(place, _)| place.0);
        pending.or_else(|| self.expired.iter().find(|(.., known)| *known == key).map(|(tick, ..)| *tick))
    }
}

/// The wheel and the map, with the same inputs.
struct Both {
    wheel: Wheel<Timer>,
    map: SortedMap,
    capacity: usize,
    /// The keys of all timers ever scheduled.
    keys: Vec<TimerKey>,
}

impl Both {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 8 {
            0..=2 => self.schedule(deadline(choices, self.map.now)),
            3 => self.cancel(choices.byte()),
            4 | 5 => {
                let now = deadline(choices, self.map.now);
                self.wheel.advance(now);
                self.map.advance(now);
            }
            6 => {
                for _ in 0..choices.below(8) {
                    self.poll();
                }
            }
            _ => self.wait(),
        }
    }

    fn schedule(&mut self, deadline: Tick) {
        let timer = self.keys.len();
        let scheduled = self.wheel.schedule(deadline, timer);
        let is_full = self.map.pending.len() + self.map.expired.len() >= self.capacity;
        assert_eq!(scheduled.is_err(), is_full, "full exactly at the capacity");
        if let Ok(key) = scheduled {
            assert!(!self.keys.contains(&key), "keys are told apart");
            self.keys.push(key);
            self.map.pending.insert((deadline.max(self.map.now), timer), key);
        }
    }

    /// Cancels any timer that was ever scheduled.
    fn cancel(&mut self, choice: u8) {
        let index = usize::from(choice).checked_rem(self.keys.len());
        if let Some(&key) = index.and_then(|index| self.keys.get(index)) {
            assert_eq!(self.wheel.cancel(key), self.map.cancel(key), "cancelled");
            assert_eq!(self.wheel.cancel(key), None, "only once");
        }
    }

    fn poll(&mut self) {
        let expected = self.map.expired.pop_front().map(|(_, timer, key)| (key, timer));
        assert_eq!(self.wheel.poll_expired(), expected, "the next expired timer");
    }

    /// Sleeps as long as the wheel says, until a timer expires.
    fn wait(&mut self) {
        for _ in 0..=CASCADES_MAX {
            let Some(now) = self.wheel.next_deadline() else { return };
            self.wheel.advance(now);
            self.map.advance(now);
            self.compare();
            if self.wheel.has_expired() {
                return;
            }
        }
        panic!("woken in vain more than {CASCADES_MAX} times");
    }

    fn compare(&self) {
        #[cfg(debug_assertions)]
        self.wheel.check_invariants();
        let SortedMap { now, pending, expired } = &self.map;
        assert_eq!(self.wheel.len(), pending.len() + expired.len());
        assert_eq!(self.wheel.is_empty(), pending.is_empty() && expired.is_empty());
        assert_eq!(self.wheel.has_expired(), !expired.is_empty());
        let next = self.wheel.next_deadline();
        match pending.first_key_value() {
            _ if !expired.is_empty() => assert_eq!(next, Some(*now), "at once"),
            None => assert_eq!(next, None),
            Some(((earliest, _), _)) => {
                let is_in_time = next.is_some_and(|next| next >= *now && next <= *earliest);
                assert!(is_in_time, "next at {next:?}, the earliest at {earliest:?}");
            }
        }
        if let Some(&key) = self.keys.last() {
            assert_eq!(self.wheel.deadline(key), self.map.deadline(key), "the deadline of the newest");
        }
    }

    /// All remaining timers expire.
    fn finish(mut self) {
        while !self.wheel.is_empty() {
            self.wait();
            while self.wheel.has_expired() {
                self.poll();
            }
            self.compare();
        }
        assert!(self.map.pending.is_empty() && self.map.expired.is_empty(), "no timer was forgotten");
    }
}

/// A time: near or far, in the future or the past, at the edge of a slot or next to it.
fn deadline(choices: &mut Choices<'_>, now: Tick) -> Tick {
    let (kind, shift, count) = (choices.byte(), choices.byte() % 64, choices.byte());
    let distance = u64::from(count).checked_shl(shift.into()).unwrap_or(u64::MAX);
    Tick(match kind % 8 {
        0 => now.0.saturating_sub(distance),
        1 => u64::MAX - distance,
        2 => (now.0 | ((1 << shift) - 1)).saturating_add(u64::from(count % 3)),
        _ => now.0.saturating_add(distance),
    })
}
