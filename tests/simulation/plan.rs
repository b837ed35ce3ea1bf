//! What will happen: the settings, the network's temper, and a list of steps that follow from the seed
//! and nothing else. A step that makes no sense any more when its turn comes does nothing, so that any
//! part of a plan is a plan.

mod access;
mod midway;
mod shortage;

use std::time::Duration;

use apptuner_relay::relay::ClientType;
use apptuner_relay::relay::Settings;
use apptuner_relay::relay::internals::limits::BUFFERED_BYTES_MIN;

use crate::random::Random;
use crate::visit::Visit;
use crate::wire::Faults;
use access::guard;
use midway::midway;
use shortage::shortage;

/// A whole run.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a plan")]
pub struct Plan {
    pub settings: Settings,
    /// What the relay's hash is keyed with; nobody may notice.
    pub hash_seed: [u64; 2],
    /// The network's own chances.
    pub network_seed: u64,
    pub logs_messages: bool,
    pub steps: Vec<Step>,
    /// API keys are needed.
    pub has_keys: bool,
    /// Strangers come from other hosts than members.
    pub are_strangers_apart: bool,
    /// They also try where they may come in.
    pub may_strangers_join: bool,
}

/// One thing that somebody does. Actors are numbered; each has at most one connection that it still
/// speaks on, while those that it left behind live on by their manner.
#[derive(Clone, Debug)]
pub enum Step {
    Connect {
        actor: usize,
        visit: Visit,
        request: Request,
        manner: Manner,
    },
    /// A member asks for a new session.
    Issue {
        visit: Visit,
        manner: Manner,
    },
    /// Somebody who belongs to nobody here, or many like it, tries to get in.
    Intrude {
        count: usize,
        visit: Visit,
        request: Request,
        manner: Manner,
    },
    Say {
        actor: usize,
        what: Say,
    },
    Read {
        actor: usize,
        reading: Reading,
    },
    /// The client ends its stream.
    HalfClose {
        actor: usize,
    },
    Reset {
        actor: usize,
    },
    /// Whatever the relay writes from now on fails.
    BreakWrites {
        actor: usize,
    },
    /// The client neither takes nor sends anything any more; no packet tells of it.
    Vanish {
        actor: usize,
    },
    /// Events for connections that may be long gone, or that mean nothing.
    StaleEvents,
    /// The host has no descriptor left for the next newcomer.
    Exhaust,
    Wait {
        millis: u64,
    },
    /// The relay's process stands still; the world goes on, and so it does until the next step is done, too. A signal
    /// interrupts the first poll after it.
    Freeze {
        millis: u64,
    },
    Shutdown {
        grace_millis: u64,
    },
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Upgrade,
    /// With a query, a subprotocol and the first frame right behind.
    EagerUpgrade,
    /// Only so many bytes of the head ever come.
    Partial(usize),
    /// One of the complete requests that are answered in HTTP.
    Other(usize),
    /// For a new session.
    Issue,
    Nothing,
}

/// What a client does without being asked.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub answers_pings: bool,
    pub on_close: OnClose,
    pub reading: Reading,
    pub sending: Sending,
    /// Bytes that the kernel takes for it.
    pub capacity: usize,
    pub faults: Faults,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClose {
    AnswerAndEnd,
    Answer,
    End,
    /// Answers and ends, so many milliseconds later.
    Late(u64),
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Eager,
    Slow { bytes: usize, every_millis: u64 },
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    AtOnce,
    Trickle { bytes: usize, every_millis: u64 },
}

/// What a client sends.
#[derive(Clone, Debug)]
pub enum Say {
    Text {
        bytes: usize,
        fragments: usize,
        pings_between: bool,
    },
    Binary {
        bytes: usize,
        fragments: usize,
        pings_between: bool,
    },
    /// Many small messages in one go.
    Burst {
        messages: usize,
        bytes: usize,
    },
    /// The application's own ping.
    AppPing,
    BadJson(usize),
    Ping(usize),
    Pong(usize),
    Close {
        code: Option<u16>,
        reason: usize,
    },
    /// A frame against RFC 6455.
    Broken(usize),
    NotUtf8 {
        fragments: usize,
    },
    TooLarge {
        fragments: usize,
    },
    /// A text that goes wrong, after so much of it.
    Spoiled {
        bytes: usize,
        fragments: usize,
        at_per_mille: usize,
        fault: Fault,
    },
    /// The first part of a message, whose rest comes with whatever is said next.
    Part {
        bytes: usize,
        sent_per_mille: usize,
    },
    /// The same of a message in fragments.
    PartOfMany {
        bytes: usize,
        fragments: usize,
        sent_per_mille: usize,
    },
}

/// How a text goes wrong in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Json,
    Utf8,
    /// A frame that may not come there.
    Frame(usize),
    /// The client closes rather than go on.
    Close,
}

/// What most of a run is about.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a theme")]
struct Theme {
    /// How often it is chosen.
    share: u32,
    /// The weights of its steps, in the order of [`step`].
    weights: [u32; 13],
    /// There are messages of megabytes.
    is_heavy: bool,
    /// Clients take little at once, and late.
    is_slow: bool,
    /// There are many clients, and all are paired from the start.
    is_crowded: bool,
    /// There are more of them, all paired from the start, and in the middle the relay shuts down.
    is_stopped: bool,
    /// How often, in a thousand plans, everybody shares a small budget.
    tight_per_mille: u32,
}

const fn theme(share: u32, weights: [u32; 13]) -> Theme {
    Theme {
        share,
        weights,
        is_heavy: false,
        is_slow: false,
        is_crowded: false,
        is_stopped: false,
        tight_per_mille: 150,
    }
}

const fn heavy(share: u32, weights: [u32; 13]) -> Theme {
    Theme { is_heavy: true, tight_per_mille: 600, ..theme(share, weights) }
}

// connect, say, offend, read, half-close, reset, break writes, vanish, stale events, exhaust, wait, freeze, shut down
const CHAT: [u32; 13] = [12, 70, 2, 4, 2, 1, 1, 1, 2, 1, 25, 1, 0];
const CHURN: [u32; 13] = [50, 40, 2, 3, 8, 6, 2, 3, 5, 1, 15, 1, 0];
const PRESSURE: [u32; 13] = [10, 90, 1, 14, 3, 2, 1, 2, 2, 1, 20, 1, 0];
const SLOWNESS: [u32; 13] = [25, 80, 12, 15, 4, 2, 1, 3, 2, 1, 25, 1, 0];
const HOSTILE: [u32; 13] = [40, 30, 40, 8, 6, 4, 3, 4, 6, 1, 20, 2, 0];
const PATIENCE: [u32; 13] = [14, 20, 2, 6, 2, 1, 1, 6, 1, 1, 60, 4, 0];
const SHORTAGE: [u32; 13] = [12, 90, 1, 12, 3, 2, 1, 2, 2, 1, 18, 1, 0];
const SHUTDOWN: [u32; 13] = [25, 50, 5, 8, 4, 2, 1, 2, 2, 1, 20, 1, 4];
const DRAIN: [u32; 13] = [6, 70, 2, 8, 3, 2, 1, 2, 2, 0, 30, 1, 0];

const THEMES: [Theme; 13] = [
    theme(18, CHAT),
    theme(20, CHURN),
    heavy(4, PRESSURE),
    Theme { is_slow: true, ..heavy(5, PRESSURE) },
    Theme { is_slow: true, tight_per_mille: 300, ..theme(20, SLOWNESS) },
    theme(15, HOSTILE),
    theme(12, PATIENCE),
    theme(6, SHUTDOWN),
    Theme { is_slow: true, ..heavy(2, SHUTDOWN) },
    Theme { is_crowded: true, tight_per_mille: 950, ..heavy(9, SHORTAGE) },
    Theme { is_slow: true, is_crowded: true, tight_per_mille: 950, ..heavy(9, SHORTAGE) },
    Theme { is_stopped: true, ..theme(8, DRAIN) },
    Theme { is_slow: true, is_stopped: true, tight_per_mille: 300, ..theme(4, DRAIN) },
];

/// How many plans in a thousand are about who may come in, beside all else.
const ACCESS_PER_MILLE: u32 = 450;
/// In how many of a thousand spans of time the relay's process stands still.
const FREEZES: u32 = 150;
/// In how many clients take one place from each other again and again.
const CONTESTS_PER_MILLE: u32 = 80;
/// One plan in so many is about a budget that is far smaller than the longest message, or hardly larger.
const SHORTAGE_INTERVAL: u64 = 4;
/// One plan in so many is about what happens in the middle of long messages.
const MIDWAY_INTERVAL: u64 = 4;
/// Clients, and sessions for them, where there are many.
const CROWD: usize = 8;
/// The same where the relay shuts down.
const MANY: usize = 24;
pub const ACTORS_MAX: usize = MANY;
/// Sessions that members number.
const SESSIONS: usize = MANY / 2;

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        if seed % SHORTAGE_INTERVAL == 1 {
            return shortage(&mut random);
        }
        if seed % MIDWAY_INTERVAL == 2 {
            return midway(&mut random);
        }
        let theme = &THEMES[random.weighted(&THEMES.map(|theme| theme.share))];
        let settings = settings(&mut random, theme);
        // Without two clients that meet there is little to see.
        let paired = match theme {
            Theme { is_crowded: true, .. } => CROWD,
            Theme { is_stopped: true, .. } => MANY,
            _ => 2,
        };
        let scope = Scope {
            actors: if paired > 2 { paired } else { 2 + random.below(6) },
            sessions: if paired > 2 { paired / 2 } else { 1 + random.below(3) },
            // Now and then everything arrives whole, and anything that fails has a simple reason.
            is_rough: random.per_mille(700),
            size_max: settings.max_message_size,
            is_heavy: theme.is_heavy,
            is_slow: theme.is_slow,
            is_crowded: theme.is_crowded,
            is_stopped: theme.is_stopped,
        };
        let count = if scope.is_stopped { 60 } else { 10 } + random.below(70);
        let mut steps: Vec<Step> = (0..count).map(|_| step(&mut random, &scope, &theme.weights)).collect();
        for actor in 0..paired {
            let client_type = if actor % 2 == 0 { ClientType::Desktop } else { ClientType::Mobile };
            let manner = Manner { on_close: OnClose::AnswerAndEnd, ..manner(&mut random, &scope) };
            let (session, request) = (actor / 2, Request::Upgrade);
            steps.insert(actor, Step::Connect { actor, visit: visit(session, client_type), request, manner });
        }
        if scope.is_crowded && random.per_mille(700) {
            let bytes = scope.size_max - random.below(scope.size_max / 8);
            let say = Step::Say { actor: 0, what: Say::Binary { bytes, fragments: 1, pings_between: false } };
            // One that takes a little now and then is not cut off.
            let little = Reading::Slow { bytes: 1, every_millis: 59_000 };
            let reading = random.pick(&[Reading::Never, little]);
            let mut opening = vec![Step::Read { actor: 1, reading }, say];
            if reading == little && random.per_mille(700) {
                // Another one announces as much, and sends no more for longer than it may stand still.
                let what = Say::Part { bytes, sent_per_mille: 3 };
                opening.extend([
                    Step::Say { actor: 2, what },
                    Step::Wait { millis: random.between(60_000, 150_000) },
                ]);
            }
            steps.splice(CROWD..CROWD, opening);
        }
        if scope.is_stopped {
            let at = paired + random.below(count / 2);
            let grace_millis = random.pick(&[0, 1, 5, 50, 50, 500, 10_000]);
            steps.insert(at, Step::Shutdown { grace_millis });
            steps.push(Step::Wait { millis: random.between(1, 20_000) });
        }
        // Chances of its own: without a contest, a plan is what it would be if there were none.
        let mut contest = Random::new(!seed);
        if !scope.is_stopped && contest.per_mille(CONTESTS_PER_MILLE) {
            let at = paired + contest.below(steps.len() - paired + 1);
            steps.splice(at..at, contend(&mut contest, &scope));
        }
        let mut plan = Self {
            settings,
            hash_seed: [random.next(), random.next()],
            network_seed: random.next(),
            logs_messages: random.per_mille(300),
            steps,
            has_keys: false,
            are_strangers_apart: false,
            may_strangers_join: false,
        };
        if random.per_mille(ACCESS_PER_MILLE) {
            guard(&mut plan, &mut random);
        }
        plan
    }

    /// The same without the strangers, of whom nobody else may notice anything, if that can be seen: where
    /// places, memory and addresses are shared with them, it may well be noticed.
    pub fn without_strangers(&self) -> Option<Self> {
        let is_short = self.settings.max_connections.is_some()
            || self.settings.max_buffered < Settings::default().max_buffered
            || self.steps.iter().any(|step| matches!(step, Step::Exhaust));
        let is_stranger = |step: &Step| matches!(step, Step::Intrude { .. });
        // In which order sessions are closed depends on all that were begun before.
        let is_issue = |step: &Step| matches!(step, Step::Intrude { request: Request::Issue, .. });
        let is_stop = |step: &Step| matches!(step, Step::Shutdown { .. });
        let is_order_shared = self.steps.iter().any(is_issue) && self.steps.iter().any(is_stop);
        if is_order_shared || is_short || !self.are_strangers_apart || !self.steps.iter().any(is_stranger) {
            return None;
        }
        let mut without = self.clone();
        without.steps.retain(|step| !is_stranger(step));
        Some(without)
    }
}

/// What the steps of one plan choose from.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a plan")]
struct Scope {
    actors: usize,
    sessions: usize,
    is_rough: bool,
    size_max: usize,
    is_heavy: bool,
    is_slow: bool,
    is_crowded: bool,
    is_stopped: bool,
}

/// The contract's defaults, with small message limits, and now and then what an operator may have set. The
/// session's times are no multiple of the others, so that hardly ever two things are due at once.
fn settings(random: &mut Random, theme: &Theme) -> Settings {
    let default = Settings::default();
    let max_buffered = if random.per_mille(theme.tight_per_mille) {
        BUFFERED_BYTES_MIN * random.pick(&[4, 4, 5, 8, 12, 16]) / 4
    } else {
        default.max_buffered
    };
    // What a message may be has nothing to do with what there is memory for.
    let size_max = if theme.is_heavy { random.pick(&[1_300_000, 2 << 20, 4 << 20]) } else { 300_000 };
    let limited = if theme.is_crowded { 80 } else { 40 };
    let connections_max = match theme {
        Theme { is_crowded: true, .. } => CROWD,
        Theme { is_stopped: true, .. } => MANY,
        _ => 3,
    };
    Settings {
        max_connections: random.per_mille(60).then(|| connections_max + random.below(6)),
        max_message_size: if theme.is_crowded {
            random.pick(&[300_000, size_max, size_max / 2, size_max / 2])
        } else {
            random.pick(&[if theme.is_slow { size_max } else { 1_000 }, 70_000, size_max])
        },
        max_buffered,
        session_timeout: Duration::from_millis(30 * 60_000 + 7),
        reconnect_window: Duration::from_millis(random.pick(&[300_003, 20_003])),
        answer_pings: random.per_mille(400),
        max_message_rate: random.per_mille(limited).then(|| random.pick(&[5, 50])),
        max_byte_rate: random.per_mille(limited).then(|| random.pick(&[5_000, 500_000])),
        ..default
    }
}

fn step(random: &mut Random, scope: &Scope, weights: &[u32; 13]) -> Step {
    let actor = random.below(scope.actors);
    match random.weighted(weights) {
        0 => Step::Connect {
            actor,
            visit: visit(
                random.below(scope.sessions),
                random.pick(&[ClientType::Desktop, ClientType::Mobile]),
            ),
            request: request(random),
            manner: manner(random, scope),
        },
        1 => Step::Say { actor, what: speech(random, scope) },
        2 => Step::Say { actor, what: offence(random) },
        3 => Step::Read { actor, reading: reading(random, scope) },
        4 => Step::HalfClose { actor },
        5 => Step::Reset { actor },
        6 => Step::BreakWrites { actor },
        7 => Step::Vanish { actor },
        8 => Step::StaleEvents,
        9 => Step::Exhaust,
        // About as long as from one session's close to the next.
        10 | 11 if scope.is_stopped && random.per_mille(900) => {
            let millis = random.between(1, 12);
            if random.per_mille(50) { Step::Freeze { millis: 3 * millis } } else { Step::Wait { millis } }
        }
        10 if (scope.is_slow || scope.is_crowded)
            && random.per_mille(if scope.is_slow { 700 } else { 500 }) =>
        {
            Step::Wait { millis: random.between(1, 1_500) }
        }
        10 if random.per_mille(FREEZES) => Step::Freeze { millis: span(random) },
        10 => Step::Wait { millis: span(random) },
        11 => Step::Freeze { millis: span(random) },
        _ => Step::Shutdown { grace_millis: random.pick(&[0, 500, 10_000]) },
    }
}

/// Clients take one place from each other, more often than they may; then it is calm for a while, or nearly so.
fn contend(random: &mut Random, scope: &Scope) -> Vec<Step> {
    let client_type = random.pick(&[ClientType::Desktop, ClientType::Mobile]);
    let visit = visit(random.below(scope.sessions), client_type);
    let mut steps = Vec::new();
    for _ in 0..=random.below(2) {
        let pause = random.pick(&[0, 0, 1, 300, 900, 1_111, 1_112]);
        for _ in 0..10 + random.below(6) {
            let actor = random.below(scope.actors);
            let manner = Manner { sending: Sending::AtOnce, ..manner(random, scope) };
            steps.push(Step::Connect { actor, visit, request: Request::Upgrade, manner });
            if pause > 0 {
                steps.push(Step::Wait { millis: pause });
            }
            if random.per_mille(20) {
                steps.push(Step::HalfClose { actor });
            }
        }
        steps.push(Step::Wait { millis: random.pick(&[1, 1_000, 9_999, 10_000, 10_001, 30_000]) });
        let manner = Manner { sending: Sending::AtOnce, ..manner(random, scope) };
        let actor = random.below(scope.actors);
        steps.push(Step::Connect { actor, visit, request: Request::Upgrade, manner });
    }
    steps
}

/// A visit that asks nothing of the relay but the session.
const fn visit(session: usize, client_type: ClientType) -> Visit {
    Visit { from: "127.0.0.1", session, client_type, secret: None, key: None }
}

fn request(random: &mut Random) -> Request {
    match random.weighted(&[70, 15, 3, 9, 3]) {
        0 => Request::Upgrade,
        1 => Request::EagerUpgrade,
        2 => Request::Partial(1 + random.below(120)),
        3 => Request::Other(random.below(usize::MAX)),
        _ => Request::Nothing,
    }
}

fn manner(random: &mut Random, scope: &Scope) -> Manner {
    let chance = |random: &mut Random, choices: &[u32]| if scope.is_rough { random.pick(choices) } else { 0 };
    let late = random.between(1, 20_000);
    Manner {
        answers_pings: random.per_mille(900),
        on_close: match random.weighted(&[60, 8, 8, 16, 8]) {
            0 => OnClose::AnswerAndEnd,
            1 => OnClose::Answer,
            2 => OnClose::End,
            3 => OnClose::Late(late),
            _ => OnClose::Ignore,
        },
        reading: if random.per_mille(if scope.is_slow || scope.is_crowded { 300 } else { 700 }) {
            Reading::Eager
        } else {
            reading(random, scope)
        },
        sending: if random.per_mille(800) {
            Sending::AtOnce
        } else {
            let (bytes, every_millis) =
                random.pick(&[(1, 700), (1, 61_000), (7, 30_000), (300, 10), (300, 700), (70_000, 700)]);
            Sending::Trickle { bytes, every_millis }
        },
        capacity: capacity(random, scope),
        faults: Faults {
            short: chance(random, &[0, 50, 400]),
            blocked: chance(random, &[0, 50, 300]),
            interrupted: chance(random, &[0, 0, 100]),
        },
    }
}

fn capacity(random: &mut Random, scope: &Scope) -> usize {
    let capacity = if scope.is_crowded {
        random.pick(&[200_000, 30_000, 4_096, 4_096])
    } else if scope.is_slow {
        random.pick(&[200_000, 30_000, 4_096, 300])
    } else {
        random.pick(&[1 << 30, 1 << 30, 200_000, 4_096, 300])
    };
    // Megabytes in pieces of 300 bytes would show nothing more, and take as many turns.
    if scope.is_heavy { capacity.max(4_096) } else { capacity }
}

fn reading(random: &mut Random, scope: &Scope) -> Reading {
    match random.weighted(if scope.is_crowded { &[30, 10, 60] } else { &[50, 30, 20] }) {
        0 => Reading::Eager,
        1 => {
            let (bytes, every_millis) = random.pick(&[
                (1, 1_000),
                (1, 59_000),
                (500, 10),
                (500, 40_000),
                (20_000, 1_000),
                (300_000, 59_000),
            ]);
            Reading::Slow { bytes, every_millis }
        }
        _ => Reading::Never,
    }
}

fn speech(random: &mut Random, scope: &Scope) -> Say {
    let fragments = if random.per_mille(250) { 2 + random.below(6) } else { 1 };
    let pings_between = random.per_mille(300);
    if scope.is_crowded && random.per_mille(700) {
        let bytes = random.pick(&[17_000, 100_000, 300_000, scope.size_max]).min(scope.size_max);
        return match random.below(9) {
            // Often little more than the header.
            0 if random.per_mille(300) => spoiled(random, bytes),
            0 => Say::Part { bytes, sent_per_mille: random.pick(&[3, 30, 100, 500, 990]) },
            1 => Say::Part { bytes: 16_000, sent_per_mille: 900 },
            2 | 3 => Say::Burst { messages: 1 + random.below(8), bytes: 16_000 },
            4 | 5 => {
                Say::PartOfMany { bytes, fragments: 2 + random.below(6), sent_per_mille: random.below(1000) }
            }
            6 => Say::Burst { messages: 100 + random.below(1_000), bytes: random.pick(&[1, 1, 100, 1_000]) },
            _ => Say::Binary { bytes, fragments: 1 + random.below(12), pings_between },
        };
    }
    if scope.is_heavy && random.per_mille(300) {
        let bytes = random.pick(&[60_000, 300_000, scope.size_max]).min(scope.size_max);
        return match random.below(6) {
            0 => Say::Text { bytes, fragments, pings_between },
            1 => Say::Binary { bytes, fragments, pings_between },
            2 | 3 => Say::Part { bytes: scope.size_max, sent_per_mille: random.pick(&[300, 600, 900, 990]) },
            4 => spoiled(random, bytes),
            _ => Say::Burst { messages: 1 + random.below(30), bytes: 60_000.min(scope.size_max) },
        };
    }
    if scope.is_slow && random.per_mille(100) {
        return Say::BadJson(random.below(usize::MAX));
    }
    if scope.is_slow && random.per_mille(400) {
        let bytes = (16_000 + random.below(290_000)).min(scope.size_max);
        return Say::Text { bytes, fragments, pings_between };
    }
    match random.weighted(&[50, 20, 12, 8, 6, 10, 4, 4, 3]) {
        0 => Say::Text { bytes: random.length(scope.size_max), fragments, pings_between },
        1 => Say::Binary { bytes: random.length(scope.size_max), fragments, pings_between },
        2 => Say::Burst { messages: 1 + random.below(40), bytes: random.below(300) },
        3 => Say::AppPing,
        4 => Say::BadJson(random.below(usize::MAX)),
        5 => Say::Ping(random.below(126)),
        6 => Say::Pong(random.below(126)),
        7 => Say::Part { bytes: random.length(scope.size_max), sent_per_mille: random.below(1000) },
        _ => Say::Close {
            code: random.pick(&[None, Some(1000), Some(1001), Some(1011), Some(3000), Some(4999)]),
            reason: random.below(124),
        },
    }
}

/// A text that goes wrong, mostly when most of it has come.
pub(super) fn spoiled(random: &mut Random, bytes: usize) -> Say {
    let choice = random.below(usize::MAX);
    let fault = random.pick(&[Fault::Json, Fault::Json, Fault::Utf8, Fault::Frame(choice), Fault::Close]);
    let at_per_mille = random.pick(&[990, 950, 900, 900, 500]) + random.below(10);
    Say::Spoiled { bytes, fragments: 1 + random.below(3), at_per_mille, fault }
}

fn offence(random: &mut Random) -> Say {
    let fragments = 1 + random.below(3);
    match random.below(5) {
        0 => Say::NotUtf8 { fragments },
        1 => Say::TooLarge { fragments },
        2 => Say::BadJson(random.below(usize::MAX)),
        _ => Say::Broken(random.below(usize::MAX)),
    }
}

/// From a moment to half an hour and more, and often just around a time that means something.
fn span(random: &mut Random) -> u64 {
    match random.below(10) {
        0..=3 => random.between(1, 2_000),
        4 | 5 => random.between(1, 70_000),
        6 => random.pick(&[999, 1_000, 5_000, 10_000, 30_000, 59_999, 60_000, 60_001, 300_000, 300_003]),
        7 | 8 => random.between(60_000, 400_000),
        _ => random.between(1_740_000, 1_860_000),
    }
}
