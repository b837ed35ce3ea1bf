//! Has a plan's members claim their sessions, sets limits and rules, and lets strangers loose.

use ipnet::IpNet;

use super::{ClientType, Manner, OnClose, Plan, Reading, Request, SESSIONS, Sending, Settings, Step};
use crate::random::Random;
use crate::visit::{ISSUED, Key, Visit, Way, Which};
use crate::wire::Faults;

/// Where members come from: loopback, IPv4 plain and mapped, two addresses of one /64, and its neighbour.
const MEMBERS: [&str; 9] = [
    "127.0.0.1",
    "::ffff:127.0.0.1",
    "::1",
    "192.0.2.1",
    "::ffff:192.0.2.1",
    "192.0.2.2",
    "2001:db8:1:2::3",
    "2001:db8:1:2:3::4",
    "2001:db8:1:3::3",
];
/// Where strangers come from, unless they share the members' hosts.
const STRANGERS: [&str; 8] = [
    "203.0.113.5",
    "203.0.113.5",
    "::ffff:203.0.113.5",
    "203.0.113.6",
    "2001:db8:bad:1::1",
    "2001:db8:bad:1:9::1",
    "2001:db8:bad:2::1",
    "127.0.0.2",
];
/// What may be denied, and what may be all that is allowed.
const DENIED: [&str; 7] = [
    "203.0.113.5/32",
    "203.0.113.0/24",
    "::ffff:203.0.113.0/120",
    "2001:db8:bad::/48",
    "2001:db8:bad:1::1/128",
    "127.0.0.2/32",
    "192.0.2.2/32",
];
const ALLOWED: [&str; 6] =
    ["127.0.0.0/8", "::1/128", "192.0.2.0/24", "2001:db8:1::/48", "203.0.113.0/24", "2001:db8:bad:1::/64"];
const WAYS: [Way; 3] = [Way::Query, Way::Bearer, Way::Subprotocol];
/// Sessions that strangers try.
const TRIED_SESSIONS: usize = 2;

/// What the steps choose from.
struct Scope {
    claimed: [bool; SESSIONS],
    /// The session that is issued rather than begun.
    issued: Option<usize>,
    has_keys: bool,
    hosts: &'static [&'static str],
    strangers: &'static [&'static str],
}

pub(super) fn guard(plan: &mut Plan, random: &mut Random) {
    plan.has_keys = random.per_mille(250);
    plan.are_strangers_apart = random.per_mille(800);
    plan.may_strangers_join = random.per_mille(80);
    restrict(&mut plan.settings, random, plan.has_keys);
    let scope = Scope {
        claimed: [(); SESSIONS].map(|()| random.per_mille(750)),
        issued: random.per_mille(400).then(|| random.below(2)),
        has_keys: plan.has_keys,
        hosts: if random.per_mille(500) { &MEMBERS } else { &MEMBERS[..3] },
        strangers: if plan.are_strangers_apart { &STRANGERS } else { &MEMBERS },
    };
    if plan.are_strangers_apart && random.per_mille(800) {
        // Whoever leaves gives a descriptor back, which others may notice: without, both ways can be compared.
        plan.steps.retain(|step| !matches!(step, Step::Exhaust));
    }
    for step in &mut plan.steps {
        if let Step::Connect { visit, .. } = step {
            bring(visit, random, &scope);
        }
    }
    let members = plan.steps.len().min(2);
    for _ in 0..=random.below(10) {
        let at = members + random.below(plan.steps.len() - members + 1);
        plan.steps.insert(at, intrusion(random, &scope));
    }
    if random.per_mille(250) {
        besiege(plan, random, &scope);
    }
    if scope.issued.is_some() {
        plan.steps.insert(0, issue(random, &scope, true));
    }
    if random.per_mille(300) {
        let at = random.below(plan.steps.len() + 1);
        plan.steps.insert(at, issue(random, &scope, false));
    }
}

fn restrict(settings: &mut Settings, random: &mut Random, has_keys: bool) {
    settings.require_secret = random.per_mille(if has_keys { 300 } else { 150 });
    settings.max_connections_per_ip = random.per_mille(250).then(|| random.pick(&[1, 2, 3, 8]));
    settings.max_connection_rate = random.per_mille(250).then(|| random.pick(&[1, 2, 3, 20]));
    settings.max_failed_joins = random.per_mille(850).then(|| random.pick(&[1, 2, 3, 7, 30]));
    let parse = |text: &str| text.parse::<IpNet>().expect("a range");
    if random.per_mille(250) {
        settings.deny = (0..=random.below(2)).map(|_| parse(random.pick(&DENIED))).collect();
    }
    if random.per_mille(100) {
        let skipped = random.below(2 * ALLOWED.len());
        let is_kept = |&(index, _): &(usize, &str)| index != skipped;
        settings.allow =
            ALLOWED.into_iter().enumerate().filter(is_kept).map(|(_, text)| parse(text)).collect();
    }
}

/// What a member brings: as a rule what it should.
fn bring(visit: &mut Visit, random: &mut Random, scope: &Scope) {
    visit.from = random.pick(scope.hosts);
    let way = random.pick(&WAYS);
    let is_issued = scope.issued == Some(visit.session);
    if is_issued {
        visit.session = ISSUED;
    }
    visit.secret = match random.below(100) {
        0 | 1 => Some((way, Which::Near)),
        2 | 3 => None,
        4..=6 => Some((way, Which::Right)),
        _ => {
            let is_claimed = is_issued || scope.claimed[visit.session];
            is_claimed.then_some((way, Which::Right))
        }
    };
    // One who does not know the secret needs a key, if it has to be a desktop.
    let is_needed = scope.has_keys && visit.client_type == ClientType::Desktop;
    if is_needed && random.per_mille(if visit.secret.is_some() { 600 } else { 950 }) {
        visit.key = Some(random.pick(&[Key::Bearer, Key::Subprotocol, Key::Subprotocol]));
    }
}

fn intrusion(random: &mut Random, scope: &Scope) -> Step {
    let way = random.pick(&WAYS);
    let secret = match random.below(10) {
        0..=2 => None,
        3..=6 => Some((way, Which::Near)),
        _ => Some((way, Which::Other(random.below(9)))),
    };
    let key = match random.below(10) {
        0 | 1 if scope.has_keys => Some(random.pick(&[Key::Bearer, Key::Subprotocol])),
        2 => Some(Key::Wrong),
        _ => None,
    };
    let session = random.below(TRIED_SESSIONS);
    let visit = Visit {
        from: random.pick(scope.strangers),
        session: if scope.issued == Some(session) { ISSUED } else { session },
        client_type: random.pick(&[ClientType::Desktop, ClientType::Mobile]),
        secret,
        key,
    };
    let request = match random.weighted(&[70, 10, 4, 4, 6, 6]) {
        0 => Request::Upgrade,
        1 => Request::EagerUpgrade,
        2 => Request::Partial(1 + random.below(120)),
        3 => Request::Nothing,
        4 => Request::Other(random.below(usize::MAX)),
        _ => Request::Issue,
    };
    let count = if random.per_mille(200) { 2 + random.below(12) } else { 1 };
    Step::Intrude { count, visit, request, manner: manner(random) }
}

/// One stranger guesses on and on: as soon as it is let in again, or just before, it fails as often as it may.
fn besiege(plan: &mut Plan, random: &mut Random, scope: &Scope) {
    let joins_max = plan.settings.max_failed_joins.get_or_insert(3);
    *joins_max = (*joins_max).min(3);
    let count = *joins_max as usize + 1;
    let mut at = 1 + random.below(plan.steps.len());
    let session = random.below(TRIED_SESSIONS);
    let visit = Visit {
        from: scope.strangers[0],
        session: if scope.issued == Some(session) { ISSUED } else { session },
        client_type: random.pick(&[ClientType::Desktop, ClientType::Mobile]),
        secret: Some((Way::Query, Which::Near)),
        key: None,
    };
    let manner = Manner { sending: Sending::AtOnce, ..manner(random) };
    for round in 0..2 + random.below(3) {
        let step = Step::Intrude { count, visit, request: Request::Upgrade, manner };
        let late = random.pick(&[0, 0, 1, 5_000]);
        let early = random.between(1, 999);
        let millis = (60_000 << round) - early;
        let again = Step::Wait { millis: early + late };
        // Who is turned away for its address is so whatever it asks, if it is not looked at again where it tries to join.
        let request = if early.is_multiple_of(2) { Request::Upgrade } else { Request::Other(0) };
        let one = Step::Intrude { count: 1, visit, request, manner };
        let siege = [step, Step::Wait { millis }, one, again];
        let rounds = siege.len();
        plan.steps.splice(at..at, siege);
        at += rounds;
    }
}

fn issue(random: &mut Random, scope: &Scope, is_eager: bool) -> Step {
    let key = (scope.has_keys && (is_eager || random.per_mille(700))).then_some(Key::Bearer);
    let visit = Visit {
        from: if is_eager { "127.0.0.1" } else { random.pick(scope.hosts) },
        session: 0,
        client_type: ClientType::Desktop,
        secret: None,
        key,
    };
    let manner = if is_eager { calm() } else { manner(random) };
    Step::Issue { visit, manner }
}

const fn calm() -> Manner {
    Manner {
        answers_pings: true,
        on_close: OnClose::AnswerAndEnd,
        reading: Reading::Eager,
        sending: Sending::AtOnce,
        capacity: 1 << 30,
        faults: Faults { short: 0, blocked: 0, interrupted: 0 },
    }
}

fn manner(random: &mut Random) -> Manner {
    let late = random.between(1, 20_000);
    let is_calm = random.per_mille(500);
    Manner {
        answers_pings: random.per_mille(900),
        on_close: match random.weighted(&[70, 10, 10, 10]) {
            0 => OnClose::AnswerAndEnd,
            1 => OnClose::End,
            2 => OnClose::Late(late),
            _ => OnClose::Ignore,
        },
        reading: if random.per_mille(850) { Reading::Eager } else { Reading::Never },
        sending: if random.per_mille(850) {
            Sending::AtOnce
        } else {
            Sending::Trickle { bytes: 100, every_millis: 900 }
        },
        capacity: random.pick(&[1 << 30, 1 << 30, 300]),
        faults: if is_calm { Faults::default() } else { Faults { short: 300, blocked: 50, interrupted: 50 } },
    }
}
