//! Many pairs and a budget that is far smaller than the longest message, or hardly larger.

use std::time::Duration;

use apptuner_relay::relay::ClientType;
use apptuner_relay::relay::Settings;
use apptuner_relay::relay::internals::limits::BUFFERED_BYTES_MIN;

use super::{ACTORS_MAX, Manner, OnClose, Plan, Reading, Request, Say, Sending, Step, spoiled, visit};
use crate::random::Random;
use crate::wire::Faults;

/// How many of these plans in a thousand have only clients that send whole messages, and take what comes.
const HONEST_PER_MILLE: u32 = 600;

/// How many of these plans in a thousand are about small messages that nobody reads, of as many clients as there may be.
const CROWDED_PER_MILLE: u32 = 100;

/// Longer messages show no more, and take longer.
const LONGEST: usize = 4 << 20;

pub(super) fn shortage(random: &mut Random) -> Plan {
    if random.per_mille(CROWDED_PER_MILLE) {
        return crowd(random);
    }
    let max_buffered = BUFFERED_BYTES_MIN * random.pick(&[4, 4, 5, 8, 16]) / 4;
    let settings = Settings {
        max_buffered,
        max_message_size: (max_buffered / 4 * random.pick(&[2, 4, 5, 8, 16])).min(LONGEST),
        session_timeout: Duration::from_millis(30 * 60_000 + 7),
        ..Settings::default()
    };
    let size_max = settings.max_message_size;
    let actors = 2 * (3 + random.below(ACTORS_MAX / 2 - 2));
    let is_honest = random.per_mille(HONEST_PER_MILLE);
    let mut steps = Vec::new();
    for actor in 0..actors {
        let (request, manner) = (Request::Upgrade, manner(random, is_honest));
        steps.push(Step::Connect { actor, visit: visit(actor / 2, side(actor)), request, manner });
    }
    for _ in 0..=random.below(6) {
        for _ in 0..actors {
            let actor = random.below(actors);
            steps.push(match random.weighted(if is_honest { &[1, 0, 0] } else { &[88, 4, 8] }) {
                0 => Step::Say { actor, what: speech(random, size_max, is_honest) },
                1 => Step::Reset { actor },
                _ => Step::Read { actor, reading: random.pick(&[Reading::Never, Reading::Eager]) },
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
        logs_messages: random.per_mille(300),
        steps,
        has_keys: false,
        are_strangers_apart: false,
        may_strangers_join: false,
    }
}

/// Everybody has a small message waiting that is not read, and then sends most of another, bit by bit: together more than
/// small memory is. Some of them leave or begin to read in the end, and others come.
fn crowd(random: &mut Random) -> Plan {
    let settings =
        Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: 100_000, ..Settings::default() };
    let connect = |random: &mut Random, actor: usize, trickles: bool| {
        let sending = Sending::Trickle { bytes: 1 + random.below(4_000), every_millis: 10 };
        let manner = Manner {
            answers_pings: true,
            on_close: OnClose::AnswerAndEnd,
            reading: if random.per_mille(950) { Reading::Never } else { Reading::Eager },
            sending: if trickles { sending } else { Sending::AtOnce },
            capacity: 4_096,
            faults: Faults { short: random.pick(&[0, 50]), blocked: 0, interrupted: 0 },
        };
        Step::Connect { actor, visit: visit(actor / 2, side(actor)), request: Request::Upgrade, manner }
    };
    let mut steps: Vec<Step> = (0..ACTORS_MAX).map(|actor| connect(random, actor, true)).collect();
    steps.extend(
        (0..ACTORS_MAX).map(|actor| Step::Say { actor, what: Say::Burst { messages: 1, bytes: 16_000 } }),
    );
    steps.push(Step::Wait { millis: 1_000 });
    let part = Say::Part { bytes: 16_000, sent_per_mille: 990 };
    steps.extend((0..ACTORS_MAX).map(|actor| Step::Say { actor, what: part.clone() }));
    for _ in 0..2 + random.below(12) {
        steps.push(Step::Wait { millis: random.pick(&[30, 100, 100, 1_000, 20_000, 70_000]) });
        let actor = random.below(ACTORS_MAX);
        match random.below(5) {
            0 => steps.push(Step::Reset { actor }),
            1 => steps.push(Step::Read { actor, reading: Reading::Eager }),
            2 => steps.push(connect(random, actor, false)),
            // A newcomer who does not stay.
            3 => steps.extend([connect(random, actor, false), Step::HalfClose { actor }]),
            _ => {
                let what = Say::Text { bytes: 100, fragments: 1, pings_between: false };
                steps.push(Step::Say { actor, what });
            }
        }
    }
    steps.push(Step::Wait { millis: 200_000 });
    plan(random, settings, steps)
}

fn manner(random: &mut Random, is_honest: bool) -> Manner {
    Manner {
        answers_pings: true,
        on_close: OnClose::AnswerAndEnd,
        reading: if is_honest || random.per_mille(700) { Reading::Eager } else { Reading::Never },
        sending: if random.per_mille(500) {
            Sending::AtOnce
        } else {
            Sending::Trickle { bytes: 70_000, every_millis: random.pick(&[10, 700]) }
        },
        capacity: random.pick(&[1 << 30, 200_000, 30_000]),
        faults: Faults { short: random.pick(&[0, 0, 50]), blocked: random.pick(&[0, 0, 50]), interrupted: 0 },
    }
}

/// Whole and fragmented messages of all lengths up to the limit, and, unless all are honest, parts of some.
fn speech(random: &mut Random, size_max: usize, is_honest: bool) -> Say {
    let longest = size_max - random.below(2) * random.below(size_max / 8);
    let short = random.below(200);
    let bytes = random.pick(&[short, 16_000, 17_000, 17_000, 40_000, 300_000, 1_200_000, longest]);
    let bytes = bytes.clamp(2, size_max);
    let (fragments, pings_between) = (2 + random.below(6), random.per_mille(200));
    if !is_honest && random.per_mille(400) {
        // Often little more than a header.
        return match random.below(4) {
            3 => spoiled(random, bytes),
            0 => Say::Part { bytes, sent_per_mille: random.pick(&[1, 30, 500, 990]) },
            1 => Say::PartOfMany { bytes, fragments, sent_per_mille: random.below(1000) },
            _ => {
                Say::PartOfMany { bytes: 17_000, fragments: 2, sent_per_mille: random.pick(&[500, 900, 990]) }
            }
        };
    }
    let fragments = if random.per_mille(500) { 1 } else { fragments };
    match random.below(5) {
        0 | 1 => Say::Text { bytes, fragments, pings_between },
        2 | 3 => Say::Binary { bytes, fragments, pings_between },
        _ => Say::Burst { messages: 1 + random.below(30), bytes: bytes.min(16_000) },
    }
}
