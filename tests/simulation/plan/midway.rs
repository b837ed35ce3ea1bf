//! Long messages, and what may happen in the middle of one: to its sender, to its receiver, or to both.

use std::time::Duration;

use apptuner_relay::relay::ClientType;
use apptuner_relay::relay::Settings;
use apptuner_relay::relay::internals::limits::BUFFERED_BYTES_MIN;

use super::{Manner, OnClose, Plan, Reading, Request, Say, Sending, Step, spoiled, visit};
use crate::random::Random;
use crate::wire::Faults;

/// Longer messages show no more, and take longer.
const LONGEST: usize = 4 << 20;
/// Lengths of most messages: around what is held back, and what is kept, of one.
const LENGTHS: [usize; 6] = [700_000, 1 << 20, (1 << 20) + 1, 1_200_000, 1_500_000, 2_500_000];
/// Two clients that a message may be on its way between, in each session.
const SIDES: [ClientType; 2] = [ClientType::Desktop, ClientType::Mobile];

pub(super) fn midway(random: &mut Random) -> Plan {
    let default = Settings::default();
    let settings = Settings {
        max_message_size: random.pick(&[1_500_000, 2_600_000, LONGEST]),
        max_buffered: random.pick(&[
            default.max_buffered,
            default.max_buffered,
            16 << 20,
            4 * BUFFERED_BYTES_MIN,
            2 * BUFFERED_BYTES_MIN,
            BUFFERED_BYTES_MIN,
        ]),
        session_timeout: Duration::from_millis(random.pick(&[30 * 60_000 + 7, 45_001])),
        answer_pings: random.per_mille(300),
        ..default
    };
    let sessions = 1 + random.below(2);
    let actors = 2 * sessions;
    let mut steps: Vec<Step> = (0..actors).map(|actor| connect(random, actor)).collect();
    if random.per_mille(150) {
        // Nobody is there to take a message.
        steps.remove(1);
    }
    for _ in 0..=random.below(4) {
        let sender = random.below(actors);
        // Messages behind one that is never whole, and in front of one.
        if random.per_mille(250) {
            steps.push(Step::Say {
                actor: sender,
                what: Say::Burst { messages: 1 + random.below(20), bytes: 900 },
            });
        }
        steps.push(Step::Say { actor: sender, what: beginning(random, settings.max_message_size) });
        if random.per_mille(300) {
            let what = beginning(random, settings.max_message_size);
            steps.push(Step::Say { actor: sender ^ 1, what });
        }
        if random.per_mille(300) {
            steps.push(Step::Wait { millis: random.pick(&[1, 500, 10_000, 31_000]) });
        }
        event(random, sender, &mut steps);
        if random.per_mille(500) {
            steps.push(Step::Say {
                actor: sender,
                what: Say::Text { bytes: 500, fragments: 1, pings_between: false },
            });
        }
    }
    steps.push(Step::Wait { millis: random.pick(&[1_000, 70_000, 400_000]) });
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

fn connect(random: &mut Random, actor: usize) -> Step {
    let reading = random.pick(&[
        Reading::Eager,
        Reading::Eager,
        Reading::Slow { bytes: 300_000, every_millis: 700 },
        Reading::Slow { bytes: 1, every_millis: 29_000 },
        Reading::Never,
    ]);
    let rough = random.per_mille(400);
    let manner = Manner {
        answers_pings: true,
        on_close: random.pick(&[
            OnClose::AnswerAndEnd,
            OnClose::AnswerAndEnd,
            OnClose::End,
            OnClose::Late(3_000),
        ]),
        reading,
        sending: random.pick(&[
            Sending::AtOnce,
            Sending::AtOnce,
            Sending::Trickle { bytes: 70_000, every_millis: 100 },
        ]),
        capacity: random.pick(&[1 << 30, 200_000, 30_000, 4_096]),
        faults: if rough {
            Faults { short: 50, blocked: 50, interrupted: 10 }
        } else {
            Faults { short: 0, blocked: 0, interrupted: 0 }
        },
    };
    Step::Connect { actor, visit: visit(actor / 2, SIDES[actor % 2]), request: Request::Upgrade, manner }
}

/// A message, most of it or all, right or not.
fn beginning(random: &mut Random, size_max: usize) -> Say {
    let bytes = random.pick(&LENGTHS).min(size_max);
    let sent_per_mille = random.pick(&[200, 500, 850, 950, 999]);
    match random.below(6) {
        0 | 1 => Say::Part { bytes, sent_per_mille },
        2 => Say::PartOfMany { bytes, fragments: 2 + random.below(5), sent_per_mille },
        3 => Say::Text { bytes, fragments: 1 + random.below(3), pings_between: random.per_mille(500) },
        4 => spoiled(random, bytes),
        _ => Say::TooLarge { fragments: 2 + random.below(3) },
    }
}

/// What happens while it is on its way.
fn event(random: &mut Random, sender: usize, steps: &mut Vec<Step>) {
    let receiver = sender ^ 1;
    let either = random.pick(&[sender, receiver]);
    match random.below(14) {
        0 => steps.push(Step::Reset { actor: either }),
        1 => steps.push(Step::HalfClose { actor: either }),
        2 | 3 => steps.push(connect(random, sender)),
        4..=6 => steps.push(connect(random, receiver)),
        7 => steps.push(Step::Say { actor: either, what: Say::Close { code: Some(1000), reason: 3 } }),
        8 => steps.push(Step::Say { actor: either, what: Say::Ping(9) }),
        9 => steps.push(Step::Vanish { actor: either }),
        // The session times out, or the message does.
        10 => steps.push(Step::Wait { millis: random.pick(&[45_000, 59_000, 61_000, 301_000]) }),
        11 => steps.push(Step::Shutdown { grace_millis: random.pick(&[0, 500, 10_000]) }),
        12 => steps.push(Step::Read { actor: receiver, reading: Reading::Never }),
        _ => steps.push(Step::Read { actor: receiver, reading: Reading::Eager }),
    }
}
