//! What will happen in a run: the settings, the network's faults, and a list of steps. All of it follows from the seed.
//! A step that has become impossible does nothing, so any part of a plan is a plan.

mod access;
mod delivery;
mod midway;
mod share;
mod shortage;
mod speech;
mod theme;

use std::time::Duration;

use apptuner_relay::relay::internals::limits::BUFFERED_BYTES_MIN;
use apptuner_relay::relay::{ClientType, Settings};

use crate::random::Random;
use crate::visit::Visit;
use crate::wire::Faults;
use access::guard;
use delivery::deliver;
use midway::midway;
use shortage::shortage;
use speech::{offence, speech};
use theme::{Kind, Steps, Theme};

/// A whole run.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a plan")]
pub struct Plan {
    pub settings: Settings,
    /// The key of the relay's hash. No client may notice it.
    pub hash_seed: [u64; 2],
    /// The seed of the network's random choices.
    pub network_seed: u64,
    pub logs_messages: bool,
    pub steps: Vec<Step>,
    /// API keys are needed.
    pub has_keys: bool,
    /// Strangers have other hosts than members.
    pub are_strangers_apart: bool,
    /// Strangers also try sessions that they may join.
    pub may_strangers_join: bool,
}

/// One action. Actors are numbered. Each actor uses at most one connection; its earlier connections go on by
/// themselves.
#[derive(Clone, Debug)]
pub enum Step {
    Connect {
        actor: usize,
        visit: Visit,
        request: Request,
        behaviour: Behaviour,
    },
    /// A member asks for a new session.
    Issue {
        visit: Visit,
        behaviour: Behaviour,
    },
    /// A stranger, or several equal ones, try to join.
    Intrude {
        count: usize,
        visit: Visit,
        request: Request,
        behaviour: Behaviour,
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
    /// From now on every write of the relay fails.
    BreakWrites {
        actor: usize,
    },
    /// The client takes and sends nothing from now on. No packet reports it.
    Vanish {
        actor: usize,
    },
    /// Events for connections that may have ended, or without meaning.
    StaleEvents,
    /// The host has no descriptor for the next new connection.
    Exhaust,
    Wait {
        millis: u64,
    },
    /// The relay's process is stopped while everything else goes on. It stays stopped until the next step is done. A
    /// signal interrupts its first poll afterwards.
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
    /// With a query, a subprotocol, and the first frame right after the head.
    EagerUpgrade,
    /// Only this many bytes of the head ever arrive.
    Partial(usize),
    /// One of the complete requests that are answered in HTTP.
    Other(usize),
    /// A request for a new session.
    Issue,
    Nothing,
}

/// What a client does by itself.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    pub answers_pings: bool,
    /// If it answers pings.
    pub pongs: Pongs,
    /// It asks to be told which of its messages are delivered.
    pub wants_receipts: bool,
    pub on_close: OnClose,
    pub reading: Reading,
    pub sending: Sending,
    /// Bytes that the kernel takes for it.
    pub capacity: usize,
    pub faults: Faults,
}

/// How a client answers pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pongs {
    Each,
    /// Of the pings that it takes at once, only the last one.
    Last,
    /// Each of them, this many milliseconds later.
    Late(u64),
    /// Each of them, with another payload.
    Wrong(usize),
    /// Only those without a payload.
    Unnumbered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClose {
    AnswerAndEnd,
    Answer,
    End,
    /// Answers and ends this many milliseconds later.
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
    /// Many small messages at once.
    Burst {
        messages: usize,
        bytes: usize,
    },
    /// The application's own ping.
    AppPing,
    BadJson(usize),
    Ping(usize),
    Pong(usize),
    /// A pong that answers no ping. Its payload is the number of the last ping, and this much more.
    Guess {
        ahead: u32,
    },
    Close {
        code: Option<u16>,
        reason: usize,
    },
    /// A frame that violates RFC 6455.
    Broken(usize),
    NotUtf8 {
        fragments: usize,
    },
    TooLarge {
        fragments: usize,
    },
    /// A text that becomes wrong after this much of it.
    Spoiled {
        bytes: usize,
        fragments: usize,
        at_per_mille: usize,
        fault: Fault,
    },
    /// The first part of a message. The rest follows before the next thing that is sent.
    Part {
        bytes: usize,
        sent_per_mille: usize,
    },
    /// The same for a fragmented message.
    PartOfMany {
        bytes: usize,
        fragments: usize,
        sent_per_mille: usize,
    },
}

/// How a text becomes wrong in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Json,
    Utf8,
    /// A frame that is not allowed there.
    Frame(usize),
    /// The client sends a close instead of the rest.
    Close,
}

/// One in this many plans has a budget that is far smaller than the longest message, or hardly larger.
const SHORTAGE_INTERVAL: u64 = 4;
/// One in this many plans is about events inside long messages.
const MIDWAY_INTERVAL: u64 = 4;
/// Steps of a plan after its opening: the minimum, and how many more there may be.
const STEPS_MIN: usize = 10;
const STEPS_MIN_IF_STOPPED: usize = 60;
const STEPS_SPREAD: usize = 70;
/// Redelivery windows: shorter and longer than the reconnect window, and as long as a session without messages lasts.
const WINDOWS_MILLIS: [u64; 4] = [10_009, 60_011, 1_800_013, 7_200_017];
/// The number of clients in crowded plans; each pair has a session.
const CROWD: usize = 8;
/// The same in plans with a shutdown.
const MANY: usize = 24;
pub const ACTORS_MAX: usize = MANY;
/// The number of numbered sessions for members.
const SESSIONS: usize = MANY / 2;

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut plan = Self::without_delivery(seed);
        // Independent random numbers, as above.
        let mut delivery = Random::new(seed.rotate_left(32));
        plan.settings.redelivery_window = if delivery.per_mille(share::KEEPS_MESSAGES) {
            Duration::from_millis(delivery.pick(&WINDOWS_MILLIS))
        } else {
            Duration::ZERO
        };
        if !plan.settings.redelivery_window.is_zero() {
            deliver(&mut plan, &mut delivery);
        }
        plan
    }

    /// The plan of a seed, but for how long messages are kept.
    fn without_delivery(seed: u64) -> Self {
        let mut random = Random::new(seed);
        if seed % SHORTAGE_INTERVAL == 1 {
            return shortage(&mut random);
        }
        if seed % MIDWAY_INTERVAL == 2 {
            return midway(&mut random);
        }
        let theme = Theme::choose(&mut random);
        let settings = settings(&mut random, theme);
        // Two clients that meet are needed for most of what can happen.
        let paired = match theme {
            Theme { is_crowded: true, .. } => CROWD,
            Theme { is_stopped: true, .. } => MANY,
            _ => 2,
        };
        let scope = Scope {
            actors: if paired > 2 { paired } else { 2 + random.below(6) },
            sessions: if paired > 2 { paired / 2 } else { 1 + random.below(3) },
            // In some runs everything arrives whole, so that any failure has a simple reason.
            is_rough: random.per_mille(share::HAS_ROUGH_NETWORK),
            size_max: settings.max_message_size,
            is_heavy: theme.is_heavy,
            is_slow: theme.is_slow,
            is_crowded: theme.is_crowded,
            is_stopped: theme.is_stopped,
        };
        let least_steps = if scope.is_stopped { STEPS_MIN_IF_STOPPED } else { STEPS_MIN };
        let count = least_steps + random.below(STEPS_SPREAD);
        let mut steps: Vec<Step> = (0..count).map(|_| step(&mut random, &scope, theme.steps)).collect();
        for actor in 0..paired {
            let client_type = if actor % 2 == 0 { ClientType::Desktop } else { ClientType::Mobile };
            let behaviour = Behaviour { on_close: OnClose::AnswerAndEnd, ..behaviour(&mut random, &scope) };
            let (session, request) = (actor / 2, Request::Upgrade);
            steps.insert(
                actor,
                Step::Connect { actor, visit: visit(session, client_type), request, behaviour },
            );
        }
        if scope.is_crowded && random.per_mille(share::BEGINS_WITH_LONG_MESSAGE) {
            let bytes = scope.size_max - random.below(scope.size_max / 8);
            let say = Step::Say { actor: 0, what: Say::Binary { bytes, fragments: 1, pings_between: false } };
            // A client that takes a little from time to time is not cut off.
            let little = Reading::Slow { bytes: 1, every_millis: 59_000 };
            let reading = random.pick(&[Reading::Never, little]);
            let mut opening = vec![Step::Read { actor: 1, reading }, say];
            if reading == little && random.per_mille(share::BEGINS_WITH_SECOND_SENDER) {
                // Another client announces as much, and sends no more for longer than the stall timeout.
                let what = Say::Part { bytes, sent_per_mille: share::SENT_BY_SECOND_SENDER };
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
        // Independent random numbers: without a contest, the plan is the same as if contests did not exist.
        let mut contest = Random::new(!seed);
        if !scope.is_stopped && contest.per_mille(share::HAS_CONTEST) {
            let at = paired + contest.below(steps.len() - paired + 1);
            steps.splice(at..at, contend(&mut contest, &scope));
        }
        let mut plan = Self {
            settings,
            hash_seed: [random.next(), random.next()],
            network_seed: random.next(),
            logs_messages: random.per_mille(share::LOGS_MESSAGES),
            steps,
            has_keys: false,
            are_strangers_apart: false,
            may_strangers_join: false,
        };
        if random.per_mille(share::IS_ABOUT_ACCESS) {
            guard(&mut plan, &mut random);
        }
        plan
    }

    /// The same plan without strangers. No member may notice the difference. `None` if members may notice it because
    /// they share places, memory or addresses with strangers.
    pub fn without_strangers(&self) -> Option<Self> {
        let is_short = self.settings.max_connections.is_some()
            || self.settings.max_buffered < Settings::default().max_buffered
            || self.steps.iter().any(|step| matches!(step, Step::Exhaust));
        let is_stranger = |step: &Step| matches!(step, Step::Intrude { .. });
        // The order in which sessions are closed depends on all earlier sessions.
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

/// Small budgets, in quarters of the smallest one allowed.
const QUARTERS_OF_LEAST_BUDGET: [usize; 6] = [4, 4, 5, 8, 12, 16];

/// The contract's defaults with small message limits, and sometimes what an operator may have set. The times of
/// sessions are not multiples of the others, so that two things are rarely due at once.
fn settings(random: &mut Random, theme: &Theme) -> Settings {
    let default = Settings::default();
    let max_buffered = if random.per_mille(theme.tight_per_mille) {
        BUFFERED_BYTES_MIN * random.pick(&QUARTERS_OF_LEAST_BUDGET) / 4
    } else {
        default.max_buffered
    };
    // The size limit does not depend on the memory budget.
    let size_max = if theme.is_heavy { random.pick(&[1_300_000, 2 << 20, 4 << 20]) } else { 300_000 };
    let limited = if theme.is_crowded { share::LIMITS_A_RATE_OF_CROWD } else { share::LIMITS_A_RATE };
    let connections_max = match theme {
        Theme { is_crowded: true, .. } => CROWD,
        Theme { is_stopped: true, .. } => MANY,
        _ => 3,
    };
    Settings {
        max_connections: random
            .per_mille(share::LIMITS_CONNECTIONS)
            .then(|| connections_max + random.below(6)),
        max_message_size: if theme.is_crowded {
            random.among(&[(1, 300_000), (1, size_max), (2, size_max / 2)])
        } else {
            random.pick(&[if theme.is_slow { size_max } else { 1_000 }, 70_000, size_max])
        },
        max_buffered,
        session_timeout: Duration::from_millis(30 * 60_000 + 7),
        reconnect_window: Duration::from_millis(random.pick(&[300_003, 20_003])),
        answer_pings: random.per_mille(share::ANSWERS_JSON_PINGS),
        max_message_rate: random.per_mille(limited).then(|| random.pick(&[5, 50])),
        max_byte_rate: random.per_mille(limited).then(|| random.pick(&[5_000, 500_000])),
        ..default
    }
}

fn step(random: &mut Random, scope: &Scope, steps: Steps) -> Step {
    let actor = random.below(scope.actors);
    match steps.choose(random) {
        Kind::Connect => Step::Connect {
            actor,
            visit: visit(
                random.below(scope.sessions),
                random.pick(&[ClientType::Desktop, ClientType::Mobile]),
            ),
            request: request(random),
            behaviour: behaviour(random, scope),
        },
        Kind::Say => Step::Say { actor, what: speech(random, scope) },
        Kind::Offend => Step::Say { actor, what: offence(random) },
        Kind::Read => Step::Read { actor, reading: reading(random, scope) },
        Kind::HalfClose => Step::HalfClose { actor },
        Kind::Reset => Step::Reset { actor },
        Kind::BreakWrites => Step::BreakWrites { actor },
        Kind::Vanish => Step::Vanish { actor },
        Kind::StaleEvents => Step::StaleEvents,
        Kind::Exhaust => Step::Exhaust,
        // About as long as from one session's close to the next.
        Kind::Wait | Kind::Freeze
            if scope.is_stopped && random.per_mille(share::WAIT_IS_SHORT_IF_STOPPED) =>
        {
            let millis = random.between(1, 12);
            if random.per_mille(share::SHORT_WAIT_IS_FREEZE) {
                Step::Freeze { millis: 3 * millis }
            } else {
                Step::Wait { millis }
            }
        }
        Kind::Wait
            if (scope.is_slow || scope.is_crowded)
                && random.per_mille(if scope.is_slow {
                    share::WAIT_IS_SHORT_IF_SLOW
                } else {
                    share::WAIT_IS_SHORT_IF_CROWDED
                }) =>
        {
            Step::Wait { millis: random.between(1, 1_500) }
        }
        Kind::Wait if random.per_mille(share::WAIT_IS_FREEZE) => Step::Freeze { millis: span(random) },
        Kind::Wait => Step::Wait { millis: span(random) },
        Kind::Freeze => Step::Freeze { millis: span(random) },
        Kind::ShutDown => Step::Shutdown { grace_millis: random.pick(&[0, 500, 10_000]) },
    }
}

/// Clients replace each other more often than is allowed. Then it is quiet for a while, or almost quiet.
fn contend(random: &mut Random, scope: &Scope) -> Vec<Step> {
    let client_type = random.pick(&[ClientType::Desktop, ClientType::Mobile]);
    let visit = visit(random.below(scope.sessions), client_type);
    let mut steps = Vec::new();
    for _ in 0..=random.below(2) {
        let pause = random.pick(&[0, 0, 1, 300, 900, 1_111, 1_112]);
        for _ in 0..10 + random.below(6) {
            let actor = random.below(scope.actors);
            let behaviour = Behaviour { sending: Sending::AtOnce, ..behaviour(random, scope) };
            steps.push(Step::Connect { actor, visit, request: Request::Upgrade, behaviour });
            if pause > 0 {
                steps.push(Step::Wait { millis: pause });
            }
            if random.per_mille(share::LEAVES_CONTEST) {
                steps.push(Step::HalfClose { actor });
            }
        }
        steps.push(Step::Wait { millis: random.pick(&[1, 1_000, 9_999, 10_000, 10_001, 30_000]) });
        let behaviour = Behaviour { sending: Sending::AtOnce, ..behaviour(random, scope) };
        let actor = random.below(scope.actors);
        steps.push(Step::Connect { actor, visit, request: Request::Upgrade, behaviour });
    }
    steps
}

/// A visit with only a session: no secret or key.
const fn visit(session: usize, client_type: ClientType) -> Visit {
    Visit { from: "127.0.0.1", session, client_type, secret: None, key: None }
}

fn request(random: &mut Random) -> Request {
    // The numbers in them are chosen below.
    match random.among(&[
        (70, Request::Upgrade),
        (15, Request::EagerUpgrade),
        (3, Request::Partial(0)),
        (9, Request::Other(0)),
        (3, Request::Nothing),
    ]) {
        Request::Partial(_) => Request::Partial(1 + random.below(120)),
        Request::Other(_) => Request::Other(random.below(usize::MAX)),
        request => request,
    }
}

/// Probabilities, per mille, of the network's faults. Each is equally likely.
const SHORT_PER_MILLE: [u32; 3] = [0, 50, 400];
const BLOCKED_PER_MILLE: [u32; 3] = [0, 50, 300];
const INTERRUPTED_PER_MILLE: [u32; 3] = [0, 0, 100];

fn behaviour(random: &mut Random, scope: &Scope) -> Behaviour {
    let chance = |random: &mut Random, choices: &[u32]| if scope.is_rough { random.pick(choices) } else { 0 };
    let late = random.between(1, 20_000);
    let eager = if scope.is_slow || scope.is_crowded {
        share::READS_EAGERLY_IF_SLOW_OR_CROWDED
    } else {
        share::READS_EAGERLY
    };
    Behaviour {
        answers_pings: random.per_mille(share::ANSWERS_PINGS),
        pongs: Pongs::Each,
        wants_receipts: false,
        on_close: random.among(&[
            (60, OnClose::AnswerAndEnd),
            (8, OnClose::Answer),
            (8, OnClose::End),
            (16, OnClose::Late(late)),
            (8, OnClose::Ignore),
        ]),
        reading: if random.per_mille(eager) { Reading::Eager } else { reading(random, scope) },
        sending: if random.per_mille(share::SENDS_AT_ONCE) {
            Sending::AtOnce
        } else {
            let (bytes, every_millis) =
                random.pick(&[(1, 700), (1, 61_000), (7, 30_000), (300, 10), (300, 700), (70_000, 700)]);
            Sending::Trickle { bytes, every_millis }
        },
        capacity: capacity(random, scope),
        faults: Faults {
            short: chance(random, &SHORT_PER_MILLE),
            blocked: chance(random, &BLOCKED_PER_MILLE),
            interrupted: chance(random, &INTERRUPTED_PER_MILLE),
        },
    }
}

/// More bytes than any client is sent.
const UNLIMITED: usize = 1 << 30;

fn capacity(random: &mut Random, scope: &Scope) -> usize {
    let capacity = if scope.is_crowded {
        random.among(&[(1, 200_000), (1, 30_000), (2, 4_096)])
    } else if scope.is_slow {
        random.pick(&[200_000, 30_000, 4_096, 300])
    } else {
        random.among(&[(2, UNLIMITED), (1, 200_000), (1, 4_096), (1, 300)])
    };
    // Megabytes in pieces of 300 bytes show nothing more, and take many turns.
    if scope.is_heavy { capacity.max(4_096) } else { capacity }
}

fn reading(random: &mut Random, scope: &Scope) -> Reading {
    #[derive(Clone, Copy)]
    enum Kind {
        Eager,
        Slow,
        Never,
    }
    const OF_CROWD: [(u32, Kind); 3] = [(30, Kind::Eager), (10, Kind::Slow), (60, Kind::Never)];
    const OF_OTHERS: [(u32, Kind); 3] = [(50, Kind::Eager), (30, Kind::Slow), (20, Kind::Never)];
    match random.among(if scope.is_crowded { &OF_CROWD } else { &OF_OTHERS }) {
        Kind::Eager => Reading::Eager,
        Kind::Slow => {
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
        Kind::Never => Reading::Never,
    }
}

/// From a moment to more than half an hour, often close to one of the timeouts.
fn span(random: &mut Random) -> u64 {
    #[derive(Clone, Copy)]
    enum Span {
        Moment,
        Minute,
        Border,
        Minutes,
        HalfHour,
    }
    const BORDERS: [u64; 10] = [999, 1_000, 5_000, 10_000, 30_000, 59_999, 60_000, 60_001, 300_000, 300_003];
    const SPANS: [(u32, Span); 5] =
        [(4, Span::Moment), (2, Span::Minute), (1, Span::Border), (2, Span::Minutes), (1, Span::HalfHour)];
    match random.among(&SPANS) {
        Span::Moment => random.between(1, 2_000),
        Span::Minute => random.between(1, 70_000),
        Span::Border => random.pick(&BORDERS),
        Span::Minutes => random.between(60_000, 400_000),
        Span::HalfHour => random.between(1_740_000, 1_860_000),
    }
}
