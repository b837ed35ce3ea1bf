//! Makes a plan's members claim their sessions, sets limits and rules, and adds strangers.

use ipnet::IpNet;

use super::{
    Behaviour, ClientType, OnClose, Plan, Pongs, Reading, Request, SESSIONS, Sending, Settings, Step,
    UNLIMITED,
};
use crate::random::Random;
use crate::visit::{ISSUED, Key, Visit, Way, Which};
use crate::wire::Faults;

/// Members' addresses: loopback, IPv4 plain and mapped, two addresses of one /64, and one of the next /64.
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
/// Strangers' addresses, unless they share the members' hosts.
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
/// Ranges that may be denied, or the only ones allowed.
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
/// The number of sessions that strangers try.
const TRIED_SESSIONS: usize = 2;

/// Properties of plans, per mille.
const HAS_KEYS: u32 = 250;
const HAS_STRANGERS_APART: u32 = 800;
const LETS_STRANGERS_IN: u32 = 80;
const HAS_ISSUED_SESSION: u32 = 400;
const HAS_MANY_HOSTS: u32 = 500;
const IS_NEVER_EXHAUSTED_IF_APART: u32 = 800;
const HAS_SIEGE: u32 = 250;
const HAS_LATE_ISSUE: u32 = 300;
/// Properties of their settings, per mille.
const REQUIRES_SECRET: u32 = 150;
const REQUIRES_SECRET_BESIDE_KEYS: u32 = 300;
const LIMITS_CONNECTIONS_PER_IP: u32 = 250;
const LIMITS_CONNECTION_RATE: u32 = 250;
const LIMITS_FAILED_JOINS: u32 = 850;
const DENIES_ADDRESSES: u32 = 250;
const ALLOWS_FEW_ADDRESSES: u32 = 100;
/// Properties of their sessions, and of members that need a key, with and without a secret, per mille.
const SESSION_IS_CLAIMED: u32 = 750;
const BRINGS_KEY_BESIDE_SECRET: u32 = 600;
const BRINGS_KEY_ALONE: u32 = 950;
/// Intrusions of several strangers at once, per mille.
const INTRUDES_IN_NUMBERS: u32 = 200;
/// Requests for a new session with a key, where one is needed, except a member's first request, per mille.
const ISSUES_WITH_KEY: u32 = 700;
/// Strangers that have a network without faults, answer pings, read at all, and send all at once, per mille.
const IS_CALM: u32 = 500;
const ANSWERS_PINGS: u32 = 900;
const READS: u32 = 850;
const SENDS_AT_ONCE: u32 = 850;

/// What a member sends.
#[derive(Clone, Copy)]
enum Brought {
    /// A secret that differs in one byte.
    Near,
    Nothing,
    /// The right secret, whether the session is claimed or not.
    Secret,
    AsNeeded,
}

const BROUGHT: [(u32, Brought); 4] =
    [(2, Brought::Near), (2, Brought::Nothing), (3, Brought::Secret), (93, Brought::AsNeeded)];

/// The secret that a stranger tries.
#[derive(Clone, Copy)]
enum Guess {
    None,
    Near,
    Other,
}

const GUESSES: [(u32, Guess); 3] = [(3, Guess::None), (4, Guess::Near), (3, Guess::Other)];

/// The key that a stranger sends. It can know a right one only if there are keys.
#[derive(Clone, Copy)]
enum Found {
    Right,
    Wrong,
    None,
}

const FOUND: [(u32, Found); 3] = [(2, Found::Right), (1, Found::Wrong), (7, Found::None)];

/// What a stranger requests. The numbers in them are chosen later.
const REQUESTS: [(u32, Request); 6] = [
    (70, Request::Upgrade),
    (10, Request::EagerUpgrade),
    (4, Request::Partial(0)),
    (4, Request::Nothing),
    (6, Request::Other(0)),
    (6, Request::Issue),
];

/// What the steps choose from.
struct Scope {
    claimed: [bool; SESSIONS],
    /// The session that is issued instead of begun by a join.
    issued: Option<usize>,
    has_keys: bool,
    hosts: &'static [&'static str],
    strangers: &'static [&'static str],
}

pub(super) fn guard(plan: &mut Plan, random: &mut Random) {
    plan.has_keys = random.per_mille(HAS_KEYS);
    plan.are_strangers_apart = random.per_mille(HAS_STRANGERS_APART);
    plan.may_strangers_join = random.per_mille(LETS_STRANGERS_IN);
    restrict(&mut plan.settings, random, plan.has_keys);
    let scope = Scope {
        claimed: [(); SESSIONS].map(|()| random.per_mille(SESSION_IS_CLAIMED)),
        issued: random.per_mille(HAS_ISSUED_SESSION).then(|| random.below(2)),
        has_keys: plan.has_keys,
        hosts: if random.per_mille(HAS_MANY_HOSTS) { &MEMBERS } else { &MEMBERS[..3] },
        strangers: if plan.are_strangers_apart { &STRANGERS } else { &MEMBERS },
    };
    if plan.are_strangers_apart && random.per_mille(IS_NEVER_EXHAUSTED_IF_APART) {
        // A stranger that leaves frees a descriptor, which members may notice. Without this step both runs can be
        // compared.
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
    if random.per_mille(HAS_SIEGE) {
        besiege(plan, random, &scope);
    }
    if scope.issued.is_some() {
        plan.steps.insert(0, issue(random, &scope, true));
    }
    if random.per_mille(HAS_LATE_ISSUE) {
        let at = random.below(plan.steps.len() + 1);
        plan.steps.insert(at, issue(random, &scope, false));
    }
}

fn restrict(settings: &mut Settings, random: &mut Random, has_keys: bool) {
    settings.require_secret =
        random.per_mille(if has_keys { REQUIRES_SECRET_BESIDE_KEYS } else { REQUIRES_SECRET });
    settings.max_connections_per_ip =
        random.per_mille(LIMITS_CONNECTIONS_PER_IP).then(|| random.pick(&[1, 2, 3, 8]));
    settings.max_connection_rate =
        random.per_mille(LIMITS_CONNECTION_RATE).then(|| random.pick(&[1, 2, 3, 20]));
    settings.max_failed_joins = random.per_mille(LIMITS_FAILED_JOINS).then(|| random.pick(&[1, 2, 3, 7, 30]));
    let parse = |text: &str| text.parse::<IpNet>().expect("a range");
    if random.per_mille(DENIES_ADDRESSES) {
        settings.deny = (0..=random.below(2)).map(|_| parse(random.pick(&DENIED))).collect();
    }
    if random.per_mille(ALLOWS_FEW_ADDRESSES) {
        let skipped = random.below(2 * ALLOWED.len());
        let is_kept = |&(index, _): &(usize, &str)| index != skipped;
        settings.allow =
            ALLOWED.into_iter().enumerate().filter(is_kept).map(|(_, text)| parse(text)).collect();
    }
}

/// What a member sends: usually what it needs.
fn bring(visit: &mut Visit, random: &mut Random, scope: &Scope) {
    visit.from = random.pick(scope.hosts);
    let way = random.pick(&WAYS);
    let is_issued = scope.issued == Some(visit.session);
    if is_issued {
        visit.session = ISSUED;
    }
    visit.secret = match random.among(&BROUGHT) {
        Brought::Near => Some((way, Which::Near)),
        Brought::Nothing => None,
        Brought::Secret => Some((way, Which::Right)),
        Brought::AsNeeded => {
            let is_claimed = is_issued || scope.claimed[visit.session];
            is_claimed.then_some((way, Which::Right))
        }
    };
    // A member without the secret needs a key if it is a desktop.
    let is_needed = scope.has_keys && visit.client_type == ClientType::Desktop;
    let chance = if visit.secret.is_some() { BRINGS_KEY_BESIDE_SECRET } else { BRINGS_KEY_ALONE };
    if is_needed && random.per_mille(chance) {
        visit.key = Some(random.among(&[(1, Key::Bearer), (2, Key::Subprotocol)]));
    }
}

fn intrusion(random: &mut Random, scope: &Scope) -> Step {
    let way = random.pick(&WAYS);
    let secret = match random.among(&GUESSES) {
        Guess::None => None,
        Guess::Near => Some((way, Which::Near)),
        Guess::Other => Some((way, Which::Other(random.below(9)))),
    };
    let key = match random.among(&FOUND) {
        Found::Right if scope.has_keys => Some(random.pick(&[Key::Bearer, Key::Subprotocol])),
        Found::Wrong => Some(Key::Wrong),
        Found::Right | Found::None => None,
    };
    let session = random.below(TRIED_SESSIONS);
    let visit = Visit {
        from: random.pick(scope.strangers),
        session: if scope.issued == Some(session) { ISSUED } else { session },
        client_type: random.pick(&[ClientType::Desktop, ClientType::Mobile]),
        secret,
        key,
    };
    let request = match random.among(&REQUESTS) {
        Request::Partial(_) => Request::Partial(1 + random.below(120)),
        Request::Other(_) => Request::Other(random.below(usize::MAX)),
        request => request,
    };
    let count = if random.per_mille(INTRUDES_IN_NUMBERS) { 2 + random.below(12) } else { 1 };
    Step::Intrude { count, visit, request, behaviour: behaviour(random) }
}

/// One stranger guesses again and again: when it is allowed again, or just before, it fails as often as it may.
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
    let behaviour = Behaviour { sending: Sending::AtOnce, ..behaviour(random) };
    for round in 0..2 + random.below(3) {
        let step = Step::Intrude { count, visit, request: Request::Upgrade, behaviour };
        let late = random.among(&[(2, 0), (1, 1), (1, 5_000)]);
        let early = random.between(1, 999);
        let millis = (60_000 << round) - early;
        let again = Step::Wait { millis: early + late };
        // A locked-out stranger is refused for any request. Half of them try to join, the others request something
        // else.
        let request = if early.is_multiple_of(2) { Request::Upgrade } else { Request::Other(0) };
        let one = Step::Intrude { count: 1, visit, request, behaviour };
        let siege = [step, Step::Wait { millis }, one, again];
        let rounds = siege.len();
        plan.steps.splice(at..at, siege);
        at += rounds;
    }
}

fn issue(random: &mut Random, scope: &Scope, is_eager: bool) -> Step {
    let key = (scope.has_keys && (is_eager || random.per_mille(ISSUES_WITH_KEY))).then_some(Key::Bearer);
    let visit = Visit {
        from: if is_eager { "127.0.0.1" } else { random.pick(scope.hosts) },
        session: 0,
        client_type: ClientType::Desktop,
        secret: None,
        key,
    };
    let behaviour = if is_eager { calm() } else { behaviour(random) };
    Step::Issue { visit, behaviour }
}

const fn calm() -> Behaviour {
    Behaviour {
        answers_pings: true,
        pongs: Pongs::Each,
        wants_receipts: false,
        on_close: OnClose::AnswerAndEnd,
        reading: Reading::Eager,
        sending: Sending::AtOnce,
        capacity: UNLIMITED,
        faults: Faults { short: 0, blocked: 0, interrupted: 0 },
    }
}

fn behaviour(random: &mut Random) -> Behaviour {
    let late = random.between(1, 20_000);
    let is_calm = random.per_mille(IS_CALM);
    Behaviour {
        answers_pings: random.per_mille(ANSWERS_PINGS),
        pongs: Pongs::Each,
        wants_receipts: false,
        on_close: random.among(&[
            (70, OnClose::AnswerAndEnd),
            (10, OnClose::End),
            (10, OnClose::Late(late)),
            (10, OnClose::Ignore),
        ]),
        reading: if random.per_mille(READS) { Reading::Eager } else { Reading::Never },
        sending: if random.per_mille(SENDS_AT_ONCE) {
            Sending::AtOnce
        } else {
            Sending::Trickle { bytes: 100, every_millis: 900 }
        },
        capacity: random.among(&[(2, UNLIMITED), (1, 300)]),
        faults: if is_calm { Faults::default() } else { Faults { short: 300, blocked: 50, interrupted: 50 } },
    }
}
