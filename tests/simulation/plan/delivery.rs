//! Plans in which messages are kept until they are confirmed: how clients answer pings, and that they go away and come
//! back.

use apptuner_relay::relay::Settings;

use super::{Behaviour, Plan, Pongs, Reading, Request, Say, Sending, Step};
use crate::random::Random;
use crate::visit::{Visit, Way, Which};

/// Episodes that are added to a plan, at most.
const EPISODES_MAX: usize = 6;
/// Properties of clients, per mille.
const WANTS_RECEIPTS: u32 = 350;
/// Properties of episodes, per mille.
const SPEAKS_BEFORE: u32 = 700;
const WAITS_BEFORE: u32 = 400;
const SPEAKS_MEANWHILE: u32 = 700;
const WAITS_MEANWHILE: u32 = 600;
const COMES_BACK: u32 = 850;
const SPEAKS_AFTER: u32 = 500;
const WAITS_AFTER: u32 = 500;
/// Floods that are kept for a client that was there and has confirmed nothing, per mille.
const FLOODS_BEFORE: u32 = 400;
/// More than may be kept for one client.
const FLOOD_MESSAGES: usize = 62;
const FLOOD_BYTES: usize = 290_000;
/// Guesses of a client that has not been sent the ping yet, per mille.
const GUESSES_EARLY: u32 = 600;
/// Messages that are longer than what is held back.
const LONG_BYTES_MIN: usize = 1_200_000;

/// The kind of episode.
#[derive(Clone, Copy)]
enum Kind {
    /// A client goes away and comes back, perhaps.
    Absence,
    /// A client that confirms nothing comes back again and again.
    Crashes,
    /// A client sends pongs that answer nothing.
    Guess,
    /// A client goes away and comes back in the middle of a message.
    Midway,
    /// Another client claims the session, in which messages are kept.
    Claim,
    /// More is kept for one client than may be.
    Flood,
}

const KINDS: [(u32, Kind); 6] = [
    (700, Kind::Absence),
    (300, Kind::Crashes),
    (200, Kind::Guess),
    (200, Kind::Midway),
    (40, Kind::Claim),
    (10, Kind::Flood),
];

/// A client of the plan, and one of its possible peers.
#[derive(Clone, Copy)]
struct Pair {
    actor: usize,
    visit: Visit,
    behaviour: Behaviour,
    peer: usize,
}

/// Lets clients answer pings in different ways, and adds episodes in which they go away.
pub(super) fn deliver(plan: &mut Plan, random: &mut Random) {
    for step in &mut plan.steps {
        if let Step::Connect { behaviour, .. } | Step::Intrude { behaviour, .. } = step {
            behaviour.pongs = pongs(random);
            behaviour.wants_receipts = random.per_mille(WANTS_RECEIPTS);
        }
    }
    for _ in 0..random.below(EPISODES_MAX + 1) {
        let at = random.below(plan.steps.len() + 1);
        let Some(pair) = pair(random, &plan.steps[..at]) else { continue };
        let episode = match random.among(&KINDS) {
            Kind::Absence => absence(random, &plan.settings, pair),
            Kind::Crashes => crashes(random, &plan.settings, pair),
            Kind::Guess => guesses(random, &plan.settings, pair),
            Kind::Midway => midway(random, &plan.settings, pair),
            Kind::Claim => claim(random, &plan.settings, pair),
            Kind::Flood => flood(random, &plan.settings, pair),
        };
        plan.steps.splice(at..at, episode);
        let is_flood =
            |step: &Step| matches!(step, Step::Say { what: Say::Burst { bytes: FLOOD_BYTES.., .. }, .. });
        if plan.steps.iter().any(is_flood) {
            // Megabytes in pieces of 300 bytes show nothing more, and take more turns than a run may have.
            for step in &mut plan.steps {
                if let Step::Connect { behaviour, .. } = step {
                    behaviour.capacity = behaviour.capacity.max(4_096);
                }
            }
        }
    }
}

fn pongs(random: &mut Random) -> Pongs {
    let late = random.pick(&[1, 20, 150, 250, 400, 3_000, 29_000, 59_000, 61_000]);
    let mistake = random.below(4);
    random.among(&[
        (70, Pongs::Each),
        (8, Pongs::Last),
        (12, Pongs::Late(late)),
        (5, Pongs::Wrong(mistake)),
        (5, Pongs::Unnumbered),
    ])
}

/// One of the members that have connected, and another one on the other side of its session.
fn pair(random: &mut Random, steps: &[Step]) -> Option<Pair> {
    let members = || {
        steps.iter().filter_map(|step| match step {
            Step::Connect { actor, visit, request: Request::Upgrade | Request::EagerUpgrade, behaviour } => {
                Some((*actor, *visit, *behaviour))
            }
            _ => None,
        })
    };
    let count = members().count();
    let (actor, visit, behaviour) = members().nth(random.below(count.max(1)))?;
    let is_peer = |(other, of, _): &(usize, Visit, Behaviour)| {
        *other != actor && of.session == visit.session && of.client_type != visit.client_type
    };
    let (peer, ..) = members().rfind(is_peer)?;
    Some(Pair { actor, visit, behaviour, peer })
}

fn absence(random: &mut Random, settings: &Settings, pair: Pair) -> Vec<Step> {
    let Pair { actor, peer, .. } = pair;
    let mut steps = Vec::new();
    if random.per_mille(SPEAKS_BEFORE) {
        speak(random, settings, peer, &mut steps);
    }
    if random.per_mille(WAITS_BEFORE) {
        steps.push(Step::Wait { millis: random.pick(&[1, 100, 199, 200, 250, 300, 1_000]) });
    }
    steps.push(departure(random, actor));
    while random.per_mille(SPEAKS_MEANWHILE) {
        speak(random, settings, peer, &mut steps);
    }
    if random.per_mille(WAITS_MEANWHILE) {
        steps.push(Step::Wait { millis: span(random, settings) });
    }
    if random.per_mille(COMES_BACK) {
        steps.push(arrival(random, pair));
    }
    if random.per_mille(SPEAKS_AFTER) {
        speak(random, settings, peer, &mut steps);
    }
    if random.per_mille(WAITS_AFTER) {
        steps.push(Step::Wait { millis: random.pick(&[1, 200, 250, 1_000, 31_000, 61_000, 121_000]) });
    }
    steps
}

fn crashes(random: &mut Random, settings: &Settings, mut pair: Pair) -> Vec<Step> {
    pair.behaviour.answers_pings = false;
    pair.behaviour.reading = Reading::Eager;
    let mut steps = Vec::new();
    for _ in 0..2 + random.below(4) {
        steps.push(arrival(random, pair));
        if random.per_mille(SPEAKS_BEFORE) {
            speak(random, settings, pair.peer, &mut steps);
        }
        steps.push(Step::Wait { millis: random.pick(&[1, 100, 300, 5_000]) });
        if random.per_mille(WAITS_MEANWHILE) {
            steps.push(departure(random, pair.actor));
        }
    }
    steps.push(arrival(random, pair));
    steps.push(Step::Wait { millis: 1_000 });
    steps
}

fn guesses(random: &mut Random, settings: &Settings, pair: Pair) -> Vec<Step> {
    let Pair { actor, peer, .. } = pair;
    let mut steps = Vec::new();
    let is_early = random.per_mille(GUESSES_EARLY);
    if is_early {
        let bytes = random.pick(&[1_000, 50_000, 300_000]).min(settings.max_message_size);
        steps.extend([
            Step::Read { actor, reading: Reading::Never },
            Step::Say { actor: peer, what: Say::Burst { messages: 8, bytes } },
            Step::Wait { millis: random.pick(&[100, 200, 300]) },
        ]);
    }
    for _ in 0..=random.below(3) {
        steps.push(Step::Say {
            actor: pair.actor,
            what: Say::Guess { ahead: random.among(&[(1, 0), (3, 1), (1, 2)]) },
        });
        if random.per_mille(WAITS_BEFORE) {
            steps.push(Step::Wait { millis: random.pick(&[1, 100, 200, 300, 29_000]) });
        }
    }
    if is_early {
        steps.push(Step::Read { actor, reading: Reading::Eager });
    }
    steps
}

fn midway(random: &mut Random, settings: &Settings, pair: Pair) -> Vec<Step> {
    let Pair { actor, peer, .. } = pair;
    if settings.max_message_size < LONG_BYTES_MIN {
        return absence(random, settings, pair);
    }
    let (bytes, sent_per_mille) = (settings.max_message_size, random.pick(&[850, 950, 999]));
    let part = Step::Say { actor: peer, what: Say::Part { bytes, sent_per_mille } };
    let departure = departure(random, actor);
    let mut steps =
        if random.per_mille(SPEAKS_BEFORE) { vec![part, departure] } else { vec![departure, part] };
    if random.per_mille(WAITS_MEANWHILE) {
        steps.push(Step::Wait { millis: random.pick(&[1, 500, 10_000, 20_000]) });
    }
    if random.per_mille(COMES_BACK) {
        steps.push(arrival(random, pair));
    }
    if random.per_mille(WAITS_BEFORE) {
        steps.push(Step::Wait { millis: random.pick(&[1, 500, 10_000]) });
    }
    // The rest, or the end of the message in its middle.
    match random.below(3) {
        0 | 1 => speak(random, settings, peer, &mut steps),
        _ => steps.push(Step::Reset { actor: peer }),
    }
    steps
}

fn claim(random: &mut Random, settings: &Settings, pair: Pair) -> Vec<Step> {
    let Pair { actor, peer, .. } = pair;
    let mut steps = Vec::new();
    speak(random, settings, peer, &mut steps);
    if random.per_mille(WAITS_BEFORE) {
        steps.push(departure(random, actor));
        speak(random, settings, peer, &mut steps);
    }
    if random.per_mille(WAITS_BEFORE) {
        steps.push(departure(random, peer));
    }
    let visit = Visit { secret: Some((Way::Query, Which::Right)), ..pair.visit };
    steps.push(arrival(random, Pair { visit, ..pair }));
    steps
}

fn flood(random: &mut Random, settings: &Settings, mut pair: Pair) -> Vec<Step> {
    let Pair { actor, peer, .. } = pair;
    let has_memory = settings.max_buffered >= Settings::default().max_buffered;
    if !has_memory || settings.max_message_size < FLOOD_BYTES {
        return absence(random, settings, pair);
    }
    let what = Say::Burst { messages: FLOOD_MESSAGES, bytes: FLOOD_BYTES };
    let flood = Step::Say { actor: peer, what };
    let mut steps = Vec::new();
    if random.per_mille(FLOODS_BEFORE) {
        pair.behaviour = Behaviour { answers_pings: false, reading: Reading::Eager, ..pair.behaviour };
        let visit = pair.visit;
        steps.push(Step::Connect { actor, visit, request: Request::Upgrade, behaviour: pair.behaviour });
        steps.extend([flood, Step::Wait { millis: 5_000 }, departure(random, actor)]);
    } else {
        steps.extend([departure(random, actor), flood]);
    }
    speak(random, settings, peer, &mut steps);
    steps.push(arrival(random, pair));
    steps
}

/// The client comes back, often with an easier network than before, so that it gets what was kept for it.
fn arrival(random: &mut Random, pair: Pair) -> Step {
    let Pair { actor, visit, mut behaviour, .. } = pair;
    behaviour.reading = random.among(&[(3, Reading::Eager), (1, behaviour.reading)]);
    behaviour.sending = random.among(&[(5, Sending::AtOnce), (1, behaviour.sending)]);
    Step::Connect { actor, visit, request: Request::Upgrade, behaviour }
}

fn departure(random: &mut Random, actor: usize) -> Step {
    #[derive(Clone, Copy)]
    enum Departure {
        Reset,
        HalfClose,
        Close,
        Vanish,
        BreakWrites,
    }
    const DEPARTURES: [(u32, Departure); 5] = [
        (4, Departure::Reset),
        (3, Departure::HalfClose),
        (2, Departure::Close),
        (1, Departure::Vanish),
        (1, Departure::BreakWrites),
    ];
    match random.among(&DEPARTURES) {
        Departure::Reset => Step::Reset { actor },
        Departure::HalfClose => Step::HalfClose { actor },
        Departure::Close => Step::Say { actor, what: Say::Close { code: Some(1000), reason: 0 } },
        Departure::Vanish => Step::Vanish { actor },
        Departure::BreakWrites => Step::BreakWrites { actor },
    }
}

fn speak(random: &mut Random, settings: &Settings, actor: usize, steps: &mut Vec<Step>) {
    let size_max = settings.max_message_size;
    let short = random.below(300);
    let bytes = random.among(&[
        (6, short),
        (2, 16_000),
        (2, 17_000),
        (2, 70_000),
        (1, 131_073),
        (1, 300_000),
        (1, 1_200_000),
        (1, size_max),
    ]);
    let bytes = bytes.clamp(2, size_max);
    let (messages, fragments) = (1 + random.below(20), 1 + random.below(3));
    let sent_per_mille = random.pick(&[1, 300, 900, 990]);
    let what = match random.below(6) {
        0 | 1 => Say::Text { bytes, fragments, pings_between: false },
        2 => Say::Binary { bytes, fragments, pings_between: false },
        3 | 4 => Say::Burst { messages, bytes: bytes.min(1_000) },
        _ => Say::Part { bytes, sent_per_mille },
    };
    steps.push(Step::Say { actor, what });
}

/// From a moment to longer than the redelivery window.
fn span(random: &mut Random, settings: &Settings) -> u64 {
    let window = u64::try_from(settings.redelivery_window.as_millis()).unwrap_or(u64::MAX);
    let end = window - 1 + random.below(3) as u64;
    random.among(&[(4, 1), (3, 500), (3, 5_000), (2, 25_000), (2, 61_000), (1, end), (1, window + 5_000)])
}
