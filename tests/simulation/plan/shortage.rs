//! Many pairs, and a budget that is far smaller than the longest message, or hardly larger.

use std::time::Duration;

use apptuner_relay::relay::internals::limits::BUFFERED_BYTES_MIN;
use apptuner_relay::relay::{ClientType, Settings};

use super::{
    ACTORS_MAX, Behaviour, OnClose, Plan, Pongs, Reading, Request, Say, Sending, Step, UNLIMITED, share,
    speech::spoiled, visit,
};
use crate::random::Random;
use crate::wire::Faults;

/// Plans in which all clients send whole messages and read, per mille.
const HONEST_PER_MILLE: u32 = 600;

/// Plans about unread small messages of as many clients as possible, per mille.
const CROWDED_PER_MILLE: u32 = 100;

/// In other plans: clients that read, and messages that are sent only in part, per mille.
const READS: u32 = 700;
const IS_PART: u32 = 400;
/// Clients that send all at once, messages in one frame, and others with pings between fragments, per mille.
const SENDS_AT_ONCE: u32 = 500;
const IS_ONE_FRAME: u32 = 500;
const HAS_PINGS_BETWEEN: u32 = 200;
/// Clients of a crowd that never read, per mille.
const NEVER_READS_IN_CROWD: u32 = 950;

/// What a client does in a round.
#[derive(Clone, Copy)]
enum Kind {
    Say,
    Reset,
    Read,
}

const HONEST_KINDS: [(u32, Kind); 1] = [(1, Kind::Say)];
const KINDS: [(u32, Kind); 3] = [(88, Kind::Say), (4, Kind::Reset), (8, Kind::Read)];

/// What happens to a crowd at the end.
#[derive(Clone, Copy)]
enum End {
    Reset,
    Read,
    Replace,
    ReplaceAndLeave,
    Say,
}

const ENDS: [End; 5] = [End::Reset, End::Read, End::Replace, End::ReplaceAndLeave, End::Say];

/// Parts of messages, and whole ones.
#[derive(Clone, Copy)]
enum Part {
    OfOne,
    OfMany,
    OfTwoFragments,
    Spoiled,
}

const PARTS: [Part; 4] = [Part::OfOne, Part::OfMany, Part::OfTwoFragments, Part::Spoiled];

#[derive(Clone, Copy)]
enum Whole {
    Text,
    Binary,
    Burst,
}

const WHOLES: [(u32, Whole); 3] = [(2, Whole::Text), (2, Whole::Binary), (1, Whole::Burst)];

/// Longer messages show nothing more, and take longer.
const LONGEST: usize = 4 << 20;

/// Budgets in quarters of the smallest one allowed; longest messages in quarters of the budget.
const QUARTERS_OF_LEAST_BUDGET: [usize; 5] = [4, 4, 5, 8, 16];
const QUARTERS_OF_BUDGET: [usize; 5] = [2, 4, 5, 8, 16];

pub(super) fn shortage(random: &mut Random) -> Plan {
    if random.per_mille(CROWDED_PER_MILLE) {
        return crowd(random);
    }
    let max_buffered = BUFFERED_BYTES_MIN * random.pick(&QUARTERS_OF_LEAST_BUDGET) / 4;
    let settings = Settings {
        max_buffered,
        max_message_size: (max_buffered / 4 * random.pick(&QUARTERS_OF_BUDGET)).min(LONGEST),
        session_timeout: Duration::from_millis(30 * 60_000 + 7),
        ..Settings::default()
    };
    let size_max = settings.max_message_size;
    let actors = 2 * (3 + random.below(ACTORS_MAX / 2 - 2));
    let is_honest = random.per_mille(HONEST_PER_MILLE);
    let mut steps = Vec::new();
    for actor in 0..actors {
        let (request, behaviour) = (Request::Upgrade, behaviour(random, is_honest));
        steps.push(Step::Connect { actor, visit: visit(actor / 2, side(actor)), request, behaviour });
    }
    for _ in 0..=random.below(6) {
        for _ in 0..actors {
            let actor = random.below(actors);
            steps.push(match random.among(if is_honest { &HONEST_KINDS[..] } else { &KINDS }) {
                Kind::Say => Step::Say { actor, what: speech(random, size_max, is_honest) },
                Kind::Reset => Step::Reset { actor },
                Kind::Read => Step::Read { actor, reading: random.pick(&[Reading::Never, Reading::Eager]) },
            });
        }
        steps.push(Step::Wait { millis: random.pick(&[1, 1_000, 20_000]) });
    }
    steps.push(Step::Wait { millis: 200_000 });
    plan(random, settings, steps)
}

fn side(actor: usize) -> ClientType {
    if actor.is_multiple_of(2) { ClientType::Desktop } else { ClientType::Mobile }
}

fn plan(random: &mut Random, settings: Settings, steps: Vec<Step>) -> Plan {
    Plan {
        settings,
        hash_seed: [random.next(), random.next()],
        network_seed: random.next(),
        logs_messages: random.per_mille(share::LOGS_MESSAGES),
        steps,
        has_keys: false,
        are_strangers_apart: false,
        may_strangers_join: false,
    }
}

/// A small message that it does not read is queued for every client. Then each client sends most of another, bit by
/// bit: together more than the memory for small messages. At the end some leave or begin to read, and others join.
fn crowd(random: &mut Random) -> Plan {
    let settings =
        Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: 100_000, ..Settings::default() };
    let connect = |random: &mut Random, actor: usize, trickles: bool| {
        let sending = Sending::Trickle { bytes: 1 + random.below(4_000), every_millis: 10 };
        let behaviour = Behaviour {
            answers_pings: true,
            pongs: Pongs::Each,
            wants_receipts: false,
            on_close: OnClose::AnswerAndEnd,
            reading: if random.per_mille(NEVER_READS_IN_CROWD) { Reading::Never } else { Reading::Eager },
            sending: if trickles { sending } else { Sending::AtOnce },
            capacity: 4_096,
            faults: Faults { short: random.pick(&[0, 50]), blocked: 0, interrupted: 0 },
        };
        Step::Connect { actor, visit: visit(actor / 2, side(actor)), request: Request::Upgrade, behaviour }
    };
    let mut steps: Vec<Step> = (0..ACTORS_MAX).map(|actor| connect(random, actor, true)).collect();
    steps.extend(
        (0..ACTORS_MAX).map(|actor| Step::Say { actor, what: Say::Burst { messages: 1, bytes: 16_000 } }),
    );
    steps.push(Step::Wait { millis: 1_000 });
    let part = Say::Part { bytes: 16_000, sent_per_mille: 990 };
    steps.extend((0..ACTORS_MAX).map(|actor| Step::Say { actor, what: part.clone() }));
    for _ in 0..2 + random.below(12) {
        steps.push(Step::Wait {
            millis: random.among(&[(1, 30), (2, 100), (1, 1_000), (1, 20_000), (1, 70_000)]),
        });
        let actor = random.below(ACTORS_MAX);
        match random.pick(&ENDS) {
            End::Reset => steps.push(Step::Reset { actor }),
            End::Read => steps.push(Step::Read { actor, reading: Reading::Eager }),
            End::Replace => steps.push(connect(random, actor, false)),
            End::ReplaceAndLeave => steps.extend([connect(random, actor, false), Step::HalfClose { actor }]),
            End::Say => {
                let what = Say::Text { bytes: 100, fragments: 1, pings_between: false };
                steps.push(Step::Say { actor, what });
            }
        }
    }
    steps.push(Step::Wait { millis: 200_000 });
    plan(random, settings, steps)
}

fn behaviour(random: &mut Random, is_honest: bool) -> Behaviour {
    Behaviour {
        answers_pings: true,
        pongs: Pongs::Each,
        wants_receipts: false,
        on_close: OnClose::AnswerAndEnd,
        reading: if is_honest || random.per_mille(READS) { Reading::Eager } else { Reading::Never },
        sending: if random.per_mille(SENDS_AT_ONCE) {
            Sending::AtOnce
        } else {
            Sending::Trickle { bytes: 70_000, every_millis: random.pick(&[10, 700]) }
        },
        capacity: random.pick(&[UNLIMITED, 200_000, 30_000]),
        faults: Faults {
            short: random.among(&[(2, 0), (1, 50)]),
            blocked: random.among(&[(2, 0), (1, 50)]),
            interrupted: 0,
        },
    }
}

/// Whole and fragmented messages of all lengths up to the limit. Unless all clients are honest, also parts of messages.
fn speech(random: &mut Random, size_max: usize, is_honest: bool) -> Say {
    let longest = size_max - random.below(2) * random.below(size_max / 8);
    let short = random.below(200);
    let bytes = random.pick(&[short, 16_000, 17_000, 17_000, 40_000, 300_000, 1_200_000, longest]);
    let bytes = bytes.clamp(2, size_max);
    let (fragments, pings_between) = (2 + random.below(6), random.per_mille(HAS_PINGS_BETWEEN));
    if !is_honest && random.per_mille(IS_PART) {
        // Often little more than a header.
        return match random.pick(&PARTS) {
            Part::Spoiled => spoiled(random, bytes),
            Part::OfOne => Say::Part { bytes, sent_per_mille: random.pick(&[1, 30, 500, 990]) },
            Part::OfMany => Say::PartOfMany { bytes, fragments, sent_per_mille: random.below(1000) },
            Part::OfTwoFragments => {
                Say::PartOfMany { bytes: 17_000, fragments: 2, sent_per_mille: random.pick(&[500, 900, 990]) }
            }
        };
    }
    let fragments = if random.per_mille(IS_ONE_FRAME) { 1 } else { fragments };
    match random.among(&WHOLES) {
        Whole::Text => Say::Text { bytes, fragments, pings_between },
        Whole::Binary => Say::Binary { bytes, fragments, pings_between },
        Whole::Burst => Say::Burst { messages: 1 + random.below(30), bytes: bytes.min(16_000) },
    }
}
