//! Plans written by hand. Each shows one bug that a seed has found, and does not depend on how plans follow from seeds.

use std::time::Duration;

use apptuner_relay::relay::ClientType::{self, Desktop, Mobile};
use apptuner_relay::relay::Settings;
use apptuner_relay::relay::internals::limits::{BUFFERED_BYTES_MIN, LINGER_TIME_MAX};

use crate::plan::{Behaviour, Fault, OnClose, Plan, Pongs, Reading, Request, Say, Sending, Step};
use crate::visit::Visit;
use crate::wire::Faults;
use crate::world::run;

const KIB: usize = 1024;

/// A client that answers pings and closes, but reads nothing. Its network has no faults.
const SILENT: Behaviour = Behaviour {
    answers_pings: true,
    pongs: Pongs::Each,
    wants_receipts: false,
    on_close: OnClose::AnswerAndEnd,
    reading: Reading::Never,
    sending: Sending::AtOnce,
    capacity: 4096,
    faults: Faults { short: 0, blocked: 0, interrupted: 0 },
};

fn connect(actor: usize, client_type: ClientType, behaviour: Behaviour) -> Step {
    let visit = Visit { from: "127.0.0.1", session: actor / 2, client_type, secret: None, key: None };
    Step::Connect { actor, visit, request: Request::Upgrade, behaviour }
}

fn plan(settings: Settings, steps: Vec<Step>) -> Plan {
    Plan {
        settings: Settings { redelivery_window: Duration::ZERO, ..settings },
        hash_seed: [3, 5],
        network_seed: 0,
        logs_messages: false,
        steps,
        has_keys: false,
        are_strangers_apart: false,
        may_strangers_join: false,
    }
}

fn keeps_the_contract(plan: &Plan) {
    if let Err(failure) = run(plan, true) {
        let end = failure.transcript.len().saturating_sub(30);
        panic!("{}\n{}", failure.why, failure.transcript[end..].join("\n"));
    }
}

#[test]
fn stalled_message_is_late_unless_its_sender_is_held_for_its_replies() {
    let steps = vec![
        connect(
            0,
            Desktop,
            Behaviour { reading: Reading::Slow { bytes: 500, every_millis: 40_000 }, ..SILENT },
        ),
        Step::Say { actor: 0, what: Say::Burst { messages: 1_000, bytes: 100 } },
        Step::Say { actor: 0, what: Say::Part { bytes: 100_000, sent_per_mille: 990 } },
        Step::Wait { millis: 120_000 },
    ];
    keeps_the_contract(&plan(Settings::default(), steps));
}

#[test]
fn header_of_a_too_large_message_is_kept_until_the_message_has_arrived() {
    let settings = Settings { max_message_size: KIB, ..Settings::default() };
    let steps = vec![
        connect(0, Desktop, Behaviour { sending: Sending::Trickle { bytes: 1, every_millis: 10 }, ..SILENT }),
        Step::Say { actor: 0, what: Say::TooLarge { fragments: 2 } },
        Step::Wait { millis: 20_000 },
    ];
    keeps_the_contract(&plan(settings, steps));
}

#[test]
fn client_closed_during_a_freeze_gets_no_second_linger_time() {
    let slow = Behaviour { reading: Reading::Slow { bytes: 1, every_millis: 59_000 }, ..SILENT };
    let eager = Behaviour { reading: Reading::Eager, on_close: OnClose::Ignore, ..SILENT };
    let linger_millis = LINGER_TIME_MAX.as_secs() * 1_000;
    for millis in [linger_millis - 1, linger_millis, 2 * linger_millis] {
        let steps = vec![
            connect(0, Desktop, eager),
            connect(1, Desktop, slow),
            Step::Freeze { millis },
            Step::Say { actor: 0, what: Say::Broken(0) },
        ];
        keeps_the_contract(&plan(Settings::default(), steps));
    }
}

#[test]
fn sender_gets_no_json_error_after_its_receiver_has_gone() {
    let settings =
        Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: 512 * KIB, ..Settings::default() };
    let trickle = Sending::Trickle { bytes: 70_000, every_millis: 700 };
    for at_per_mille in [950, 994] {
        let steps = vec![
            connect(0, Desktop, Behaviour { reading: Reading::Eager, sending: trickle, ..SILENT }),
            connect(1, Mobile, Behaviour { capacity: 30_000, ..SILENT }),
            Step::Say {
                actor: 0,
                what: Say::Spoiled { bytes: 512 * KIB, fragments: 1, at_per_mille, fault: Fault::Json },
            },
            Step::Wait { millis: 200_000 },
        ];
        keeps_the_contract(&plan(settings.clone(), steps));
    }
}

#[test]
fn discarding_a_message_ends_even_without_any_free_memory() {
    let settings =
        Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: 896 * KIB, ..Settings::default() };
    let faults = Faults { short: 900, blocked: 500, interrupted: 0 };
    let steps = vec![
        connect(0, Desktop, SILENT),
        connect(1, Mobile, Behaviour { faults, ..SILENT }),
        connect(2, Desktop, SILENT),
        connect(3, Mobile, SILENT),
        Step::Say { actor: 0, what: Say::Binary { bytes: 896 * KIB, fragments: 1, pings_between: false } },
        Step::Say { actor: 3, what: Say::Burst { messages: 7, bytes: 16_000 } },
        Step::Say { actor: 1, what: Say::Part { bytes: 896 * KIB, sent_per_mille: 990 } },
        connect(1, Mobile, SILENT),
    ];
    keeps_the_contract(&plan(settings, steps));
}

/// A plan in which messages are kept.
fn keeping(steps: Vec<Step>) -> Plan {
    let plan = plan(Settings::default(), steps);
    let settings = Settings { redelivery_window: Duration::from_secs(30 * 60), ..plan.settings };
    Plan { settings, ..plan }
}

const fn text(actor: usize, bytes: usize) -> Step {
    Step::Say { actor, what: Say::Text { bytes, fragments: 1, pings_between: false } }
}

#[test]
fn ping_that_waits_in_the_relay_is_not_unanswered() {
    let reading = Reading::Slow { bytes: 300, every_millis: 45_000 };
    let eager = Behaviour { reading: Reading::Eager, ..SILENT };
    let steps = vec![
        connect(0, Desktop, eager),
        connect(1, Mobile, Behaviour { answers_pings: false, reading, capacity: 300, ..SILENT }),
        text(0, 150),
        text(0, 400),
        Step::Wait { millis: 50_000 },
        text(1, 10),
        Step::Wait { millis: 20_000 },
        text(1, 10),
        Step::Wait { millis: 50_000 },
    ];
    keeps_the_contract(&keeping(steps));
}

#[test]
fn at_most_16_mib_are_kept_for_one_client_and_the_newest_of_them() {
    let eager = Behaviour { reading: Reading::Eager, capacity: 1 << 30, ..SILENT };
    let steps = vec![
        connect(0, Desktop, eager),
        connect(1, Mobile, eager),
        Step::Wait { millis: 1_000 },
        Step::Reset { actor: 1 },
        Step::Say { actor: 0, what: Say::Burst { messages: 9, bytes: 2 << 20 } },
        text(0, 10),
        Step::Say { actor: 0, what: Say::Binary { bytes: 17 << 20, fragments: 1, pings_between: false } },
        connect(1, Mobile, Behaviour { answers_pings: false, ..eager }),
        Step::Reset { actor: 1 },
        text(0, 10),
        connect(1, Mobile, eager),
        Step::Wait { millis: 1_000 },
    ];
    keeps_the_contract(&keeping(steps));
}
