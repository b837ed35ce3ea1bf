//! Long messages, and events inside them: for the sender, the receiver, or both.

use std::time::Duration;

use apptuner_relay::relay::internals::limits::BUFFERED_BYTES_MIN;
use apptuner_relay::relay::{ClientType, Settings};

use super::{
    Behaviour, OnClose, Plan, Pongs, Reading, Request, Say, Sending, Step, UNLIMITED, share, speech::spoiled,
    visit,
};
use crate::random::Random;
use crate::wire::Faults;

/// Longer messages show nothing more, and take longer.
const LONGEST: usize = 4 << 20;
/// Lengths of most messages: around the bytes that are held back and those that are kept of one.
const LENGTHS: [usize; 6] = [700_000, 1 << 20, (1 << 20) + 1, 1_200_000, 1_500_000, 2_500_000];
/// The two clients of each session.
const SIDES: [ClientType; 2] = [ClientType::Desktop, ClientType::Mobile];

/// Properties of these plans, per mille.
const ANSWERS_JSON_PINGS: u32 = 300;
const BEGINS_WITHOUT_RECEIVER: u32 = 150;
/// Properties of their rounds, per mille.
const BEGINS_WITH_BURST: u32 = 250;
const HAS_MESSAGE_BACK: u32 = 300;
const WAITS_BEFORE_EVENT: u32 = 300;
const GOES_ON_AFTER_EVENT: u32 = 500;
/// Clients that have a network with faults, per mille.
const IS_ROUGH: u32 = 400;
/// Whole messages with pings between fragments, per mille.
const HAS_PINGS_BETWEEN: u32 = 500;

/// The kind of message.
#[derive(Clone, Copy)]
enum Beginning {
    Part,
    PartOfMany,
    Text,
    Spoiled,
    TooLarge,
}

const BEGINNINGS: [(u32, Beginning); 5] = [
    (2, Beginning::Part),
    (1, Beginning::PartOfMany),
    (1, Beginning::Text),
    (1, Beginning::Spoiled),
    (1, Beginning::TooLarge),
];

/// The event inside the message.
#[derive(Clone, Copy)]
enum Event {
    Reset,
    HalfClose,
    ReplaceSender,
    ReplaceReceiver,
    Close,
    Ping,
    Vanish,
    /// The session or the message times out.
    Wait,
    Shutdown,
    StopReading,
    ReadOn,
}

const EVENTS: [(u32, Event); 11] = [
    (1, Event::Reset),
    (1, Event::HalfClose),
    (2, Event::ReplaceSender),
    (3, Event::ReplaceReceiver),
    (1, Event::Close),
    (1, Event::Ping),
    (1, Event::Vanish),
    (1, Event::Wait),
    (1, Event::Shutdown),
    (1, Event::StopReading),
    (1, Event::ReadOn),
];

pub(super) fn midway(random: &mut Random) -> Plan {
    let default = Settings::default();
    let settings = Settings {
        max_message_size: random.pick(&[1_500_000, 2_600_000, LONGEST]),
        max_buffered: random.among(&[
            (2, default.max_buffered),
            (1, 16 << 20),
            (1, 4 * BUFFERED_BYTES_MIN),
            (1, 2 * BUFFERED_BYTES_MIN),
            (1, BUFFERED_BYTES_MIN),
        ]),
        session_timeout: Duration::from_millis(random.pick(&[30 * 60_000 + 7, 45_001])),
        answer_pings: random.per_mille(ANSWERS_JSON_PINGS),
        ..default
    };
    let sessions = 1 + random.below(2);
    let actors = 2 * sessions;
    let mut steps: Vec<Step> = (0..actors).map(|actor| connect(random, actor)).collect();
    if random.per_mille(BEGINS_WITHOUT_RECEIVER) {
        // There is no peer for the message.
        steps.remove(1);
    }
    for _ in 0..=random.below(4) {
        let sender = random.below(actors);
        // Messages before and after one that never becomes whole.
        if random.per_mille(BEGINS_WITH_BURST) {
            steps.push(Step::Say {
                actor: sender,
                what: Say::Burst { messages: 1 + random.below(20), bytes: 900 },
            });
        }
        steps.push(Step::Say { actor: sender, what: beginning(random, settings.max_message_size) });
        if random.per_mille(HAS_MESSAGE_BACK) {
            let what = beginning(random, settings.max_message_size);
            steps.push(Step::Say { actor: sender ^ 1, what });
        }
        if random.per_mille(WAITS_BEFORE_EVENT) {
            steps.push(Step::Wait { millis: random.pick(&[1, 500, 10_000, 31_000]) });
        }
        event(random, sender, &mut steps);
        if random.per_mille(GOES_ON_AFTER_EVENT) {
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
        logs_messages: random.per_mille(share::LOGS_MESSAGES),
        steps,
        has_keys: false,
        are_strangers_apart: false,
        may_strangers_join: false,
    }
}

fn connect(random: &mut Random, actor: usize) -> Step {
    let reading = random.among(&[
        (2, Reading::Eager),
        (1, Reading::Slow { bytes: 300_000, every_millis: 700 }),
        (1, Reading::Slow { bytes: 1, every_millis: 29_000 }),
        (1, Reading::Never),
    ]);
    let rough = random.per_mille(IS_ROUGH);
    let behaviour = Behaviour {
        answers_pings: true,
        pongs: Pongs::Each,
        wants_receipts: false,
        on_close: random.among(&[(2, OnClose::AnswerAndEnd), (1, OnClose::End), (1, OnClose::Late(3_000))]),
        reading,
        sending: random
            .among(&[(2, Sending::AtOnce), (1, Sending::Trickle { bytes: 70_000, every_millis: 100 })]),
        capacity: random.pick(&[UNLIMITED, 200_000, 30_000, 4_096]),
        faults: if rough {
            Faults { short: 50, blocked: 50, interrupted: 10 }
        } else {
            Faults { short: 0, blocked: 0, interrupted: 0 }
        },
    };
    Step::Connect { actor, visit: visit(actor / 2, SIDES[actor % 2]), request: Request::Upgrade, behaviour }
}

/// A message, most of it or all, valid or not.
fn beginning(random: &mut Random, size_max: usize) -> Say {
    let bytes = random.pick(&LENGTHS).min(size_max);
    let sent_per_mille = random.pick(&[200, 500, 850, 950, 999]);
    match random.among(&BEGINNINGS) {
        Beginning::Part => Say::Part { bytes, sent_per_mille },
        Beginning::PartOfMany => Say::PartOfMany { bytes, fragments: 2 + random.below(5), sent_per_mille },
        Beginning::Text => Say::Text {
            bytes,
            fragments: 1 + random.below(3),
            pings_between: random.per_mille(HAS_PINGS_BETWEEN),
        },
        Beginning::Spoiled => spoiled(random, bytes),
        Beginning::TooLarge => Say::TooLarge { fragments: 2 + random.below(3) },
    }
}

/// Adds the event that happens while the message is in transit.
fn event(random: &mut Random, sender: usize, steps: &mut Vec<Step>) {
    let receiver = sender ^ 1;
    let either = random.pick(&[sender, receiver]);
    match random.among(&EVENTS) {
        Event::Reset => steps.push(Step::Reset { actor: either }),
        Event::HalfClose => steps.push(Step::HalfClose { actor: either }),
        Event::ReplaceSender => steps.push(connect(random, sender)),
        Event::ReplaceReceiver => steps.push(connect(random, receiver)),
        Event::Close => {
            steps.push(Step::Say { actor: either, what: Say::Close { code: Some(1000), reason: 3 } });
        }
        Event::Ping => steps.push(Step::Say { actor: either, what: Say::Ping(9) }),
        Event::Vanish => steps.push(Step::Vanish { actor: either }),
        Event::Wait => steps.push(Step::Wait { millis: random.pick(&[45_000, 59_000, 61_000, 301_000]) }),
        Event::Shutdown => steps.push(Step::Shutdown { grace_millis: random.pick(&[0, 500, 10_000]) }),
        Event::StopReading => steps.push(Step::Read { actor: receiver, reading: Reading::Never }),
        Event::ReadOn => steps.push(Step::Read { actor: receiver, reading: Reading::Eager }),
    }
}
