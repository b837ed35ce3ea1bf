//! Parts with an entry for each client or session: an operation must not cost more with a million entries.
//!
//! Each operation picks a random entry. With 10^6 entries nothing is in the caches. If the name has `hot`, the same
//! hundred entries are picked, and stay in the caches.

use std::hint::black_box;
use std::time::Duration;

use apptuner_relay::relay::internals::address::Host;
use apptuner_relay::relay::internals::frame::Opcode;
use apptuner_relay::relay::internals::limits::LEAST_READ_BYTES;
use apptuner_relay::relay::internals::memory::Memory;
use apptuner_relay::relay::internals::sessions::{SessionKey, SessionTimes, Sessions};
use apptuner_relay::relay::internals::transit::{Cursor, Transits};
use apptuner_relay::relay::internals::wheel::{TimerKey, Wheel};
use apptuner_relay::relay::{ClientType, ConnectionId, SessionId, Tick};

use crate::{Kind, Operations, Part};

/// How many entries a part holds.
pub(crate) const SIZES: &[usize] = &[100, 10_000, 1_000_000];

pub(crate) const PARTS: &[Part] = &[
    growing("wheel", |entries| wheel(entries, Pick::Any)),
    growing("wheel-hot", |entries| wheel(entries, Pick::Hot)),
    growing("session-rejoin", |entries| session_rejoin(entries, Pick::Any)),
    growing("session-rejoin-hot", |entries| session_rejoin(entries, Pick::Hot)),
    growing("session-begin-end", |entries| session_begin_end(entries, Pick::Any)),
    growing("session-begin-end-hot", |entries| session_begin_end(entries, Pick::Hot)),
    growing("session-among-empty", |entries| session_among_empty(entries, Pick::Any)),
    growing("session-among-empty-hot", |entries| session_among_empty(entries, Pick::Hot)),
    growing("transit", |entries| transit(entries, Pick::Any)),
    growing("transit-hot", |entries| transit(entries, Pick::Hot)),
];

const fn growing(name: &'static str, prepare: fn(usize) -> Operations) -> Part {
    Part { name, sizes: SIZES, kind: Kind::Entries, prepare }
}

/// Marsaglia's xorshift: cheap compared with what is measured, and equal in every run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or(0)
    }
}

/// Which entries the operations pick.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pick {
    Any,
    /// A hundred of them, evenly distributed.
    Hot,
}

impl Pick {
    fn one_of(self, entries: usize, random: &mut Random) -> usize {
        const HOT: usize = 100;
        match self {
            Self::Any => random.below(entries),
            Self::Hot => random.below(HOT) * (entries / HOT),
        }
    }
}

/// The longest timeout of a timer, in ticks.
const TIMEOUT_MAX: usize = 30 * 60 * 1000;

struct Timers {
    wheel: Wheel<usize>,
    /// The key of each timer, by its number.
    keys: Vec<TimerKey>,
    now: Tick,
    random: Random,
}

impl Timers {
    fn schedule(&mut self, number: usize) -> TimerKey {
        let timeout = self.random.below(TIMEOUT_MAX) as u64;
        let key = self.wheel.schedule(Tick(self.now.0 + timeout), number);
        key.expect("the wheel has room for every timer")
    }

    fn reschedule(&mut self, number: usize) {
        let key = self.schedule(number);
        if let Some(place) = self.keys.get_mut(number) {
            *place = key;
        }
    }
}

/// Cancels a timer, schedules it again, advances, and reschedules the timers that are due. Between two operations so
/// much time passes that about one timer becomes due, for any number of timers. With [`Pick::Hot`] no time passes.
fn wheel(entries: usize, pick: Pick) -> Operations {
    let wheel = Wheel::new(entries, Tick(0));
    let mut timers = Timers { wheel, keys: Vec::new(), now: Tick(0), random: Random::new() };
    for number in 0..entries {
        let key = timers.schedule(number);
        timers.keys.push(key);
    }
    let mut operations_done = 0_u64;
    let mut run = move |count: u64, pick: Pick| {
        for _ in 0..count {
            let number = pick.one_of(entries, &mut timers.random);
            if let Some(&key) = timers.keys.get(number) {
                let cancelled = timers.wheel.cancel(key);
                assert_eq!(cancelled, Some(number), "the timer is there");
            }
            timers.reschedule(number);
            operations_done += u64::from(pick == Pick::Any);
            // The mean timeout is half the longest one.
            timers.now = Tick(operations_done * (TIMEOUT_MAX as u64 / 2) / entries as u64);
            timers.wheel.advance(timers.now);
            while let Some((_, due)) = timers.wheel.poll_expired() {
                timers.reschedule(due);
            }
            black_box(timers.wheel.next_deadline());
        }
    };
    // At first all timeouts lie in one span. After this many operations they are evenly mixed.
    run(entries as u64, Pick::Any);
    Box::new(move |count| run(count, pick))
}

/// Sessions with both clients, and their keys and names.
struct World {
    sessions: Sessions,
    ids: Vec<SessionId>,
    keys: Vec<SessionKey>,
    random: Random,
    pick: Pick,
    tick: u64,
}

impl World {
    fn new(entries: usize, pick: Pick) -> Self {
        let minute = Duration::from_secs(60);
        let times =
            SessionTimes { session_timeout: minute, reconnect_window: minute, redelivery_window: minute };
        let mut world = Self {
            sessions: Sessions::new(entries, times, [1, 2]),
            ids: Vec::new(),
            keys: Vec::new(),
            random: Random::new(),
            pick,
            tick: 0,
        };
        for number in 0..entries {
            let id = SessionId::parse(format!("session-{number}").as_bytes()).expect("it is a session ID");
            let key = world.join(&id, ClientType::Desktop, number);
            world.join(&id, ClientType::Mobile, number);
            world.keys.push(key);
            world.ids.push(id);
        }
        world
    }

    fn join(&mut self, id: &SessionId, client_type: ClientType, number: usize) -> SessionKey {
        let joined = self.sessions.join(id, client_type, connection(client_type, number), Tick(self.tick));
        joined.expect("there is room for every session").session
    }

    fn leave(&mut self, key: SessionKey, client_type: ClientType, number: usize) {
        let connection = connection(client_type, number);
        black_box(self.sessions.leave(
            key,
            client_type,
            connection,
            (Host::V6(number as u64), None),
            Tick(self.tick),
        ));
    }

    /// A random session: its number, name and key.
    fn pick(&mut self) -> (usize, SessionId, SessionKey) {
        let number = self.pick.one_of(self.ids.len(), &mut self.random);
        self.tick += 1;
        match (self.ids.get(number), self.keys.get(number)) {
            (Some(id), Some(&key)) => (number, id.clone(), key),
            _ => unreachable!("as many names and keys as sessions"),
        }
    }
}

fn connection(client_type: ClientType, number: usize) -> ConnectionId {
    let slot = u32::try_from(number).unwrap_or(u32::MAX);
    ConnectionId { slot, generation: u32::from(client_type == ClientType::Mobile) }
}

/// A desktop leaves, joins again and looks up its peer.
fn session_rejoin(entries: usize, pick: Pick) -> Operations {
    let mut world = World::new(entries, pick);
    Box::new(move |count| {
        for _ in 0..count {
            let (number, id, key) = world.pick();
            world.leave(key, ClientType::Desktop, number);
            world.join(&id, ClientType::Desktop, number);
            assert!(black_box(world.sessions.peer(key, ClientType::Desktop)).is_some(), "the mobile stayed");
        }
    })
}

/// Both clients leave; the session is removed and begins again.
fn session_begin_end(entries: usize, pick: Pick) -> Operations {
    let mut world = World::new(entries, pick);
    Box::new(move |count| {
        for _ in 0..count {
            let (number, id, key) = world.pick();
            world.leave(key, ClientType::Desktop, number);
            world.leave(key, ClientType::Mobile, number);
            black_box(world.sessions.remove(key));
            let key = world.join(&id, ClientType::Desktop, number);
            world.join(&id, ClientType::Mobile, number);
            if let Some(place) = world.keys.get_mut(number) {
                *place = key;
            }
        }
    })
}

/// A desktop joins and leaves, while all other sessions are empty. Empty sessions are in a tree ordered by time, whose
/// depth grows.
fn session_among_empty(entries: usize, pick: Pick) -> Operations {
    let mut world = World::new(entries, pick);
    for number in 0..entries {
        let Some(&key) = world.keys.get(number) else { break };
        world.tick += 1;
        world.leave(key, ClientType::Desktop, number);
        world.leave(key, ClientType::Mobile, number);
    }
    Box::new(move |count| {
        for _ in 0..count {
            let (number, id, key) = world.pick();
            world.join(&id, ClientType::Desktop, number);
            world.leave(key, ClientType::Desktop, number);
        }
    })
}

/// `entries` messages in transit without chunks: a piece of one arrives, its receiver's stream takes it, and it is
/// freed.
fn transit(entries: usize, pick: Pick) -> Operations {
    let mut transits = Transits::new(Memory::new(0), false);
    let piece = [b'x'; LEAST_READ_BYTES];
    let mut cursors: Vec<Cursor> = (0..entries)
        .map(|_| {
            let key = transits.begin(Opcode::Binary);
            transits.release(key)
        })
        .collect();
    let mut random = Random::new();
    Box::new(move |count| {
        for _ in 0..count {
            let Some(cursor) = cursors.get_mut(pick.one_of(entries, &mut random)) else { continue };
            transits.append(cursor.key(), black_box(&piece));
            transits.take_news(cursor.key());
            let transit = transits.get(cursor.key());
            cursor.plan(transit);
            cursor.gather(transit, 0, |bytes| black_box(bytes).is_empty());
            cursor.advance(transit, usize::MAX);
            cursor.release(&mut transits);
            assert_eq!(transits.memory.used_bytes(), 0, "what was taken is freed");
        }
    })
}
