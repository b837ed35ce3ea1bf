//! Who may come in: each rule lets some in, keeps others out, and costs nobody else anything.

use std::time::Duration;

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::access::address_rules::AddressRules;
use crate::relay::access::api_keys::ApiKeys;
use crate::relay::address::parse_range;
use crate::relay::ids::ClientType::{self, Desktop, Mobile};
use crate::relay::limits::{EMPTY_SHARE, REFUSALS_MAX, SESSIONS_MIN};
use crate::relay::settings::Settings;

const SECRET: &str = "correct-horse-battery-staple";
const WRONG: &str = "correct-horse-battery-stapel";
const KEY: &str = "0123456789abcdef-of-alice";
const STRANGER: &str = "192.0.2.1";

/// An upgrade with `secret` in the query, and with `line` among its fields.
fn request(client_type: ClientType, session: &str, secret: &str, line: &str) -> Vec<u8> {
    let query = if secret.is_empty() { String::new() } else { format!("?secret={secret}") };
    let head = String::from_utf8(upgrade(client_type, &format!("{session}{query}"))).unwrap();
    let line = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
    head.replacen("\r\n\r\n", &format!("\r\n{line}\r\n"), 1).into_bytes()
}

/// A client that joins with a secret, from an address that is exempt from nothing.
fn join_with(world: &mut World, client_type: ClientType, session: &str, secret: &str) -> (u16, Client) {
    join_from(world, STRANGER, &request(client_type, session, secret, ""))
}

fn join_from(world: &mut World, address: &str, request: &[u8]) -> (u16, Client) {
    let client = world.connect_from(address);
    let (status, _) = world.ask(&client, request);
    (status, client)
}

fn keyed(world: &mut World) {
    world.relay.set_api_keys(ApiKeys::parse(&format!("alice {KEY}")).unwrap());
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The value of a field of the JSON that an issued session is told in.
fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let (_, value) = answer.split_once(&format!("\"{name}\":\"")).expect("the field is there");
    value.split('"').next().unwrap()
}

const ISSUE: &[u8] = b"POST /sessions HTTP/1.1\r\nHost: relay\r\n\r\n";

#[test]
fn the_first_secret_claims_the_session_and_then_it_takes_the_same_one() {
    for claimer in [Desktop, Mobile] {
        let mut world = World::quiet();
        let (status, first) = join_with(&mut world, claimer, "a", SECRET);
        assert_eq!(status, 101);
        for (client_type, secret) in
            [(claimer, WRONG), (claimer.peer(), WRONG), (claimer.peer(), ""), (claimer, "")]
        {
            let (status, client) = join_with(&mut world, client_type, "a", secret);
            assert_eq!(status, 403, "{client_type:?} with {secret:?}");
            world.close_tcp(&client);
        }
        assert_eq!(world.take(&first), [], "a refused client disturbs nobody");
        let (status, _peer) = join_with(&mut world, claimer.peer(), "a", SECRET);
        assert_eq!(status, 101);
        let notice = format!(r#""type":"{}_connected""#, claimer.peer().as_str());
        assert_eq!(world.take(&first), [system(&notice)]);
        let (status, _again) = join_with(&mut world, claimer, "a", SECRET);
        assert_eq!(status, 101, "and replaces");
        assert!(matches!(world.take(&first)[..], [Received::Close(1000, _)]));
        world.expect_empty_in_the_end();
    }
}

#[test]
fn only_clients_with_the_secret_join_a_claimed_session() {
    for claimer in [Desktop, Mobile] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        world.send_text(&desktop, "1");
        world.take(&mobile);
        world.set_room(&mobile, 0);
        world.send_text(&desktop, "2");
        world.send_text(&mobile, "3");
        world.take(&desktop);
        let client = world.connect_from(STRANGER);
        world.send(&client, &request(claimer, "a", SECRET, ""));
        let greeting = world.take(&client);
        assert!(matches!(greeting[..], [Received::Head(_), Received::Text(_)]), "{greeting:?}");
        world.set_room(&mobile, usize::MAX);
        let close = Received::Close(1008, "Session claimed: bring its pairing secret".to_owned());
        for unproven in [&desktop, &mobile] {
            let received = world.take(unproven);
            assert!(received.contains(&close), "{received:?}");
            world.send_text(unproven, "4");
        }
        assert_eq!(world.take(&client), [], "nothing of theirs comes through");
        assert_eq!(join_with(&mut world, claimer.peer(), "a", "").0, 403);
        assert_eq!(join_with(&mut world, claimer.peer(), "a", SECRET).0, 101);
        assert_eq!(join_with(&mut world, Desktop, "b", "").0, 101, "another session is as it was");
        assert_eq!(join_with(&mut world, Mobile, "b", "").0, 101);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn claimed_session_outlives_any_number_of_unclaimed_ones() {
    let mut world = World::with(Settings { max_connections: Some(8), ..Settings::default() });
    let (_, owner) = join_with(&mut world, Desktop, "claimed", SECRET);
    world.reset(&owner);
    let issue = |world: &mut World| {
        let client = world.connect();
        let (status, _) = world.ask(&client, ISSUE);
        world.close_tcp(&client);
        status
    };
    for _ in 0..SESSIONS_MIN + 10 {
        assert_eq!(issue(&mut world), 201, "the oldest that nobody joined makes room");
    }
    assert_eq!(world.relay.sessions(), SESSIONS_MIN);
    assert_eq!(join_with(&mut world, Mobile, "claimed", WRONG).0, 403, "the claimed one is still there");
    for index in 0..SESSIONS_MIN + 10 {
        let client = world.join(Desktop, &format!("open-{index}"));
        world.reset(&client);
    }
    assert_eq!(issue(&mut world), 201, "one address holds more than its share, and loses some");
    assert_eq!(join_with(&mut world, Mobile, "claimed", WRONG).0, 403);
    assert_eq!(join_with(&mut world, Mobile, "claimed", SECRET).0, 101);
    world.expect_empty_in_the_end();
}

#[test]
fn thousands_of_claimed_sessions_left_by_one_address_keep_nobody_else_out() {
    let mut world = World::with(Settings { max_connections: Some(8), ..Settings::default() });
    let (_, owner) = join_with(&mut world, Desktop, "claimed", SECRET);
    world.reset(&owner);
    let elsewhere = "198.51.100.1";
    for number in 0..SESSIONS_MIN + 10 {
        let (status, client) =
            join_from(&mut world, elsewhere, &request(Mobile, &number.to_string(), SECRET, ""));
        assert_eq!(status, 101, "{number}");
        world.reset(&client);
    }
    assert_eq!(world.relay.sessions(), SESSIONS_MIN);
    for _ in 0..SESSIONS_MIN {
        let (status, client) = join_from(&mut world, "203.0.113.1", ISSUE);
        assert_eq!(status, 201);
        world.close_tcp(&client);
    }
    assert_eq!(join_with(&mut world, Mobile, "claimed", WRONG).0, 403, "the claimed one is still there");
    let last = (SESSIONS_MIN + 9).to_string();
    assert_eq!(join_with(&mut world, Mobile, &last, WRONG).0, 403, "and so is a share of the others");
    world.expect_empty_in_the_end();
}

#[test]
fn issuing_ends_no_joined_session_unless_an_address_holds_more_than_its_share() {
    let mut world = World::with(Settings { max_connections: Some(8), ..Settings::default() });
    for number in 0..SESSIONS_MIN {
        let address = format!("203.0.113.{}", number % (2 * EMPTY_SHARE));
        let (status, client) = join_from(&mut world, &address, &upgrade(Mobile, &number.to_string()));
        assert_eq!(status, 101, "{number}");
        world.reset(&client);
    }
    let (status, _) = join_from(&mut world, STRANGER, ISSUE);
    assert_eq!(status, 503);
    assert_eq!(join_with(&mut world, Mobile, "another", "").0, 101, "a join ends the one empty for longest");
    world.expect_empty_in_the_end();
}

#[test]
fn lock_out_also_refuses_connections_accepted_before_it() {
    let mut world = World::with(Settings { max_failed_joins: Some(2), ..Settings::default() });
    let (_, _desktop) = join_with(&mut world, Desktop, "a", SECRET);
    let early: Vec<Client> = (0..6).map(|_| world.connect_from(STRANGER)).collect();
    let statuses: Vec<u16> = [WRONG, WRONG, WRONG, WRONG, SECRET]
        .iter()
        .zip(&early)
        .map(|(secret, client)| world.ask(client, &request(Mobile, "a", secret, "")).0)
        .collect();
    assert_eq!(statuses, [403, 403, 403, 429, 429]);
    assert_eq!(world.ask(&early[5], ISSUE).0, 429);
    world.pass(Duration::from_secs(60));
    assert_eq!(join_with(&mut world, Mobile, "a", SECRET).0, 101, "and it is one lock-out");
    world.pass(Duration::from_secs(2 * 3600));
    world.expect_empty_in_the_end();
}

#[test]
fn a_claim_lasts_as_long_as_its_session() {
    let mut world = World::quiet();
    let (_, client) = join_with(&mut world, Desktop, "a", SECRET);
    world.close_tcp(&client);
    world.pass(Duration::from_secs(299));
    assert_eq!(join_with(&mut world, Mobile, "a", "").0, 403);
    world.pass(Duration::from_secs(1));
    assert_eq!(join_with(&mut world, Mobile, "a", WRONG).0, 101, "a new session, and a new claim");
    assert_eq!(join_with(&mut world, Mobile, "a", SECRET).0, 403);
    world.expect_empty_in_the_end();
}

#[test]
fn every_way_to_bring_a_secret_counts_the_same() {
    let mut world = World::quiet();
    let (status, _) = join_with(&mut world, Desktop, "a", SECRET);
    assert_eq!(status, 101);
    // In base64url.
    let protocol = "Sec-WebSocket-Protocol: apptuner, apptuner.secret.Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ";
    for line in [bearer(SECRET), protocol.to_owned()] {
        let (status, _) = join_from(&mut world, STRANGER, &request(Mobile, "a", "", &line));
        assert_eq!(status, 101, "{line}");
    }
    let (status, _) = join_from(&mut world, STRANGER, &request(Mobile, "a", "", &bearer(WRONG)));
    assert_eq!(status, 403);
    let both = request(Mobile, "a", SECRET, &bearer("a token for some proxy"));
    assert_eq!(join_from(&mut world, STRANGER, &both).0, 101, "blanks are in no token of ours");
    let both = request(Mobile, "a", SECRET, &bearer("a-token-for-some-proxy"));
    assert_eq!(join_from(&mut world, STRANGER, &both).0, 101, "what is said to be the secret counts first");
}

#[test]
fn a_refused_join_is_no_activity_and_its_answer_tells_nothing_of_the_session() {
    let ping_interval = Duration::from_secs(3600);
    let mut world = World::with(Settings { require_secret: true, ping_interval, ..Settings::default() });
    let (_, client) = join_with(&mut world, Desktop, "a", SECRET);
    world.pass(Duration::from_secs(1799));
    let answers: Vec<String> = [("a", ""), ("a", WRONG), ("b", "")]
        .map(|(session, secret)| {
            let stranger = world.connect_from(STRANGER);
            world.ask(&stranger, &request(Mobile, session, secret, "")).1
        })
        .into();
    assert!(answers[0].starts_with("HTTP/1.1 403 ") && answers.iter().all(|answer| *answer == answers[0]));
    assert!(!answers[0].contains(WRONG));
    world.take(&client);
    world.pass(Duration::from_secs(1));
    let close = Received::Close(1000, "Session timeout".to_owned());
    assert!(world.take(&client).contains(&close));
}

#[test]
fn with_require_secret_nobody_joins_without_one() {
    let mut world = World::with(Settings { require_secret: true, ..Settings::default() });
    assert_eq!(join_with(&mut world, Desktop, "a", "").0, 403);
    assert_eq!(world.relay.sessions(), 0);
    assert_eq!(join_with(&mut world, Desktop, "a", SECRET).0, 101);
    assert_eq!(join_with(&mut world, Mobile, "a", SECRET).0, 101);
}

#[test]
fn an_issued_session_takes_the_secret_that_was_told_and_lapses_unused() {
    let mut world = World::quiet();
    let client = world.connect();
    let (status, answer) = world.ask(&client, ISSUE);
    assert_eq!(status, 201);
    let (session, secret) = (field(&answer, "sessionId").to_owned(), field(&answer, "secret").to_owned());
    assert_eq!((session.len(), secret.len()), (22, 22), "128 bits each");
    for client_type in ["desktop", "mobile"] {
        let path = format!("/{client_type}/{session}?secret={secret}");
        assert_eq!(field(&answer, &format!("{client_type}Url")), path);
    }
    let expires_at = world.now().unix_millis + 300_000;
    assert!(answer.ends_with(&format!("\"expiresAt\":{expires_at}}}")), "{answer}");
    assert_eq!(join_with(&mut world, Desktop, &session, "").0, 403);
    world.pass(Duration::from_secs(299));
    assert_eq!(join_with(&mut world, Mobile, &session, &secret).0, 101);
    world.pass(Duration::from_secs(10));
    assert_eq!(
        join_with(&mut world, Desktop, &session, &secret).0,
        101,
        "once joined it is one like any other"
    );

    let client = world.connect();
    let (_, answer) = world.ask(&client, ISSUE);
    assert_ne!(field(&answer, "sessionId"), session);
    let sessions = world.relay.sessions();
    world.pass(Duration::from_secs(300));
    assert_eq!(world.relay.sessions(), sessions - 1);
    world.expect_empty_in_the_end();
}

#[test]
fn with_api_keys_a_desktop_begins_sessions_and_a_mobile_joins_what_exists() {
    let mut world = World::quiet();
    keyed(&mut world);
    let client = world.connect();
    let (status, answer) = world.ask(&client, ISSUE);
    assert_eq!(status, 401);
    assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{answer}");
    let mut join = |client_type, session: &str, secret: &str, line: &str| {
        join_from(&mut world, STRANGER, &request(client_type, session, secret, line)).0
    };
    assert_eq!(join(Desktop, "a", "", ""), 401);
    assert_eq!(join(Desktop, "a", "", &bearer("0123456789abcdef-of-nobody")), 401);
    assert_eq!(join(Desktop, "a", SECRET, ""), 401, "a secret of no session is none");
    assert_eq!(join(Mobile, "a", "", ""), 403);
    assert_eq!(join(Mobile, "a", "", &bearer(KEY)), 403, "not even with a key");
    assert_eq!(join(Desktop, "a", "", &bearer(KEY)), 101);
    assert_eq!(join(Mobile, "a", "", ""), 101);
    assert_eq!(join(Desktop, "a", "", ""), 401, "nor is a desktop without a key let in later");
    assert_eq!(join(Desktop, "b", SECRET, &bearer(KEY)), 101);
    assert_eq!(join(Mobile, "b", "", &bearer(KEY)), 403, "a key is no secret");
    assert_eq!(join(Mobile, "b", SECRET, ""), 101);
    assert_eq!(join(Desktop, "b", SECRET, ""), 101, "the secret of its session is as good as a key");
    assert_eq!(join(Desktop, "b", WRONG, ""), 401);
    assert_eq!(join(Desktop, "b", WRONG, &bearer(KEY)), 403);
    // In base64url.
    let protocol = "Sec-WebSocket-Protocol: apptuner.key.MDEyMzQ1Njc4OWFiY2RlZi1vZi1hbGljZQ, apptuner";
    assert_eq!(join(Desktop, "c", "", protocol), 101);
    world.relay.set_api_keys(ApiKeys::parse("bob 0123456789abcdef-of-bob").unwrap());
    let (status, _) = join_from(&mut world, STRANGER, &request(Desktop, "d", "", &bearer(KEY)));
    assert_eq!(status, 401, "a key that was taken away");
}

#[test]
fn a_token_that_was_a_key_is_no_secret() {
    let mut world = World::quiet();
    keyed(&mut world);
    let (status, desktop) = join_from(&mut world, STRANGER, &request(Desktop, "a", "", &bearer(KEY)));
    assert_eq!(status, 101);
    // Whether it was taken away, or before the relay was started, nobody knows.
    for keys in ["alice 0123456789abcdef-again\nbob 0123456789abcdef-of-bob", "bob 0123456789abcdef-of-bob"] {
        world.relay.set_api_keys(ApiKeys::parse(keys).unwrap());
        for token in [KEY, "0123456789abcdef-unheard-of"] {
            let (status, mobile) = join_from(&mut world, STRANGER, &request(Mobile, "a", "", &bearer(token)));
            assert_eq!(status, 101, "{token}");
            world.send_text(&desktop, "1");
            assert_eq!(world.take(&mobile), [text("1")]);
            world.close_tcp(&mobile);
        }
    }
    assert_eq!(join_with(&mut world, Mobile, "a", "").0, 101, "nobody has claimed it");
    assert_eq!(join_with(&mut world, Mobile, "a", SECRET).0, 101);
    let (status, _) = join_from(&mut world, STRANGER, &request(Mobile, "a", "", &bearer(SECRET)));
    assert_eq!(status, 101, "what it was claimed with is its secret, as a token, too");
    world.expect_empty_in_the_end();
}

#[test]
fn bearer_token_beside_a_key_opens_no_session_but_a_claimed_one() {
    let mut world = World::with(Settings { require_secret: true, ..Settings::default() });
    keyed(&mut world);
    let (status, _desktop) = join_from(&mut world, STRANGER, &request(Desktop, "a", SECRET, &bearer(KEY)));
    assert_eq!(status, 101);
    // In base64url.
    let key = "Sec-WebSocket-Protocol: apptuner.key.MDEyMzQ1Njc4OWFiY2RlZi1vZi1hbGljZQ, apptuner";
    let line = format!("{key}\r\n{}", bearer(SECRET));
    for (session, status) in [("a", 101), ("b", 403)] {
        let asked = request(Desktop, session, "", &line);
        assert_eq!(join_from(&mut world, STRANGER, &asked).0, status, "{session}");
    }
}

#[test]
fn strangers_without_the_secret_keep_nobody_from_a_claimed_place() {
    let settings = Settings { max_failed_joins: None, ..Settings::default() };
    let mut world = World::with(settings);
    let (_, _owner) = join_with(&mut world, Desktop, "a", SECRET);
    for _ in 0..30 {
        assert_eq!(join_with(&mut world, Desktop, "a", WRONG).0, 403);
    }
    for number in 1..=10 {
        assert_eq!(join_with(&mut world, Desktop, "a", SECRET).0, 101, "{number}");
    }
    assert_eq!(join_with(&mut world, Desktop, "a", WRONG).0, 403, "and it does not tell them more");
    assert_eq!(join_with(&mut world, Desktop, "a", SECRET).0, 429);
}

#[test]
fn client_with_the_secret_joins_even_a_contested_place() {
    let mut world = World::quiet();
    let _mobiles: Vec<Client> = (0..11).map(|_| world.join(Mobile, "a")).collect();
    assert_eq!(join_with(&mut world, Mobile, "a", "").0, 429);
    assert_eq!(join_with(&mut world, Mobile, "a", SECRET).0, 101);
}

#[test]
fn clients_refused_behind_a_proxy_hold_few_slots_and_none_that_others_need() {
    for is_header_first in [true, false] {
        let settings = Settings {
            proxy_protocol: is_header_first,
            trust_proxy: vec![parse_range("10.0.0.1").unwrap()],
            max_connections: Some(60),
            max_connections_per_ip: Some(5),
            ..Settings::default()
        };
        let mut world = World::with(settings);
        let join = |world: &mut World, address: &str, session: &str| {
            let head = if is_header_first {
                let header = format!("PROXY TCP4 {address} 10.0.0.1 1 2\r\n");
                [header.as_bytes(), &upgrade(Desktop, session)].concat()
            } else {
                request(Desktop, session, "", &format!("X-Forwarded-For: {address}"))
            };
            join_from(world, "10.0.0.1", &head)
        };
        let greedy: Vec<_> = (0..300).map(|number| join(&mut world, STRANGER, &number.to_string())).collect();
        let accepted = greedy.iter().filter(|(status, _)| *status == 101).count();
        assert_eq!(accepted, 5);
        assert!(greedy.iter().all(|(status, _)| matches!(status, 101 | 429)), "all are told");
        assert_eq!(world.relay.connections(), 5 + REFUSALS_MAX, "few are waited for");
        assert_eq!(join(&mut world, "198.51.100.1", "other").0, 101);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn a_session_issued_for_a_key_is_joined_with_its_secret_alone() {
    let mut world = World::quiet();
    keyed(&mut world);
    let client = world.connect();
    let issue = String::from_utf8(ISSUE.to_vec()).unwrap();
    let (status, answer) =
        world.ask(&client, issue.replace("\r\n\r\n", &format!("\r\n{}\r\n\r\n", bearer(KEY))).as_bytes());
    assert_eq!(status, 201);
    let (session, secret) = (field(&answer, "sessionId").to_owned(), field(&answer, "secret").to_owned());
    assert_eq!(join_with(&mut world, Desktop, &session, &secret).0, 101);
    assert_eq!(join_with(&mut world, Mobile, &session, &secret).0, 101);
}

#[test]
fn a_host_over_its_limit_is_told_so_before_anything_is_read() {
    let mut world = World::with(Settings { max_connections_per_ip: Some(2), ..Settings::default() });
    let (_, first) = join_from(&mut world, "2001:db8::1", &upgrade(Desktop, "a"));
    let (_, _second) = join_from(&mut world, "2001:db8::2", &upgrade(Mobile, "a"));
    let third = world.connect_from("2001:db8::3");
    let (status, answer) = world.answer(&third);
    assert_eq!(status, 429);
    assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    assert_eq!(join_from(&mut world, "2001:db8:0:1::", &upgrade(Desktop, "b")).0, 101, "another network");
    for _ in 0..3 {
        assert_eq!(join_from(&mut world, "127.0.0.1", &upgrade(Desktop, "c")).0, 101, "loopback is exempt");
    }
    world.close_tcp(&first);
    assert_eq!(join_from(&mut world, "2001:db8::4", &upgrade(Desktop, "a")).0, 101);
    world.expect_empty_in_the_end();
}

#[test]
fn host_that_fails_too_often_is_locked_out_and_its_connected_clients_stay() {
    let mut world = World::with(Settings { max_failed_joins: Some(2), ..Settings::default() });
    let (_, desktop) = join_with(&mut world, Desktop, "a", SECRET);
    for _ in 0..3 {
        assert_eq!(join_with(&mut world, Mobile, "a", WRONG).0, 403);
    }
    let locked_out = world.connect_from(STRANGER);
    let (status, answer) = world.answer(&locked_out);
    assert_eq!(status, 429);
    assert!(answer.contains("\r\nRetry-After: 60\r\n"), "{answer}");
    let (status, _mobile) = join_from(&mut world, "198.51.100.1", &request(Mobile, "a", SECRET, ""));
    assert_eq!(status, 101, "another host");
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    world.pass(Duration::from_secs(60));
    assert_eq!(join_with(&mut world, Mobile, "a", SECRET).0, 101);
    for _ in 0..50 {
        assert_eq!(
            join_from(&mut world, "127.0.0.1", &request(Mobile, "a", WRONG, "")).0,
            403,
            "loopback is exempt"
        );
    }
    world.pass(Duration::from_secs(2 * 3600));
    world.expect_empty_in_the_end();
}

#[test]
fn addresses_that_are_not_served_are_told_so_in_whatever_spelling() {
    let deny = ["192.0.2.0/24", "2001:db8::/32"].map(|range| parse_range(range).unwrap());
    let mut world = World::with(Settings { deny: deny.to_vec(), ..Settings::default() });
    for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
        let client = world.connect_from(address);
        assert_eq!(world.answer(&client).0, 403, "{address}");
    }
    for address in ["192.0.3.1", "127.0.0.1", "::1"] {
        assert_eq!(join_from(&mut world, address, &upgrade(Desktop, "a")).0, 101, "{address}");
    }
    world.relay.set_address_rules(&AddressRules::parse("allow 192.0.2.0/23\ndeny 127.0.0.1").unwrap());
    assert_eq!(join_from(&mut world, "192.0.3.1", &upgrade(Desktop, "a")).0, 101);
    for address in ["192.0.2.1", "198.51.100.1"] {
        let client = world.connect_from(address);
        assert_eq!(world.answer(&client).0, 403, "{address}");
    }
    for address in ["127.0.0.1", "::1"] {
        assert_eq!(join_from(&mut world, address, &upgrade(Desktop, "a")).0, 403, "{address}");
    }
    world.expect_empty_in_the_end();
}

#[test]
fn clients_refused_for_their_address_hold_few_slots_and_none_that_others_need() {
    let deny = [parse_range(STRANGER).unwrap()];
    let settings = Settings { deny: deny.to_vec(), max_connections: Some(2), ..Settings::default() };
    let mut world = World::with(settings);
    let strangers: Vec<Client> = (0..3 * REFUSALS_MAX).map(|_| world.connect_from(STRANGER)).collect();
    assert_eq!(world.relay.connections(), REFUSALS_MAX, "few are waited for");
    assert!(strangers.iter().all(|stranger| world.answer(stranger).0 == 403), "all are told");
    for stranger in &strangers {
        world.close_tcp(stranger);
    }
    let _strangers: Vec<Client> = (0..REFUSALS_MAX / 2).map(|_| world.connect_from(STRANGER)).collect();
    let (desktop, mobile) = world.pair("a");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    let third = world.connect();
    assert_eq!(world.ask(&third, &upgrade(Desktop, "b")).0, 503);
    world.expect_empty_in_the_end();
}

#[test]
fn address_rules_apply_to_the_client_that_a_proxy_names() {
    let settings = Settings {
        trust_proxy: vec![parse_range("10.0.0.0/8").unwrap()],
        deny: vec![parse_range("192.0.2.0/24").unwrap()],
        max_connections_per_ip: Some(1),
        ..Settings::default()
    };
    let mut world = World::with(settings);
    let mut join = |address: &str, forwarded: &str| {
        let line = if forwarded.is_empty() { String::new() } else { format!("X-Forwarded-For: {forwarded}") };
        let client = world.connect_from(address);
        world.ask(&client, &request(Desktop, "a", "", &line)).0
    };
    assert_eq!(join("10.0.0.1", "192.0.2.1"), 403);
    assert_eq!(join("10.0.0.1", "198.51.100.1, 192.0.2.1, 10.0.0.2"), 403);
    assert_eq!(join("10.0.0.1", "192.0.2.1, 198.51.100.1"), 101);
    assert_eq!(join("10.0.0.1", "198.51.100.1"), 429);
    assert_eq!(join("10.0.0.1", "198.51.100.2"), 101);
    for _ in 0..2 {
        assert_eq!(join("10.0.0.1", ""), 101, "a proxy is exempt itself");
    }
    assert_eq!(join("198.51.100.3", "192.0.2.1"), 101, "nobody else is believed");
    assert_eq!(join("10.0.0.1", "nonsense"), 400);
    world.expect_empty_in_the_end();
}

#[test]
fn a_proxy_header_tells_whose_connection_it_is() {
    let settings = Settings {
        proxy_protocol: true,
        deny: vec![parse_range("192.0.2.0/24").unwrap()],
        ..Settings::default()
    };
    let mut world = World::with(settings);
    let mut join = |address: &str, header: &str| {
        let client = world.connect_from(address);
        world.ask(&client, &[header.as_bytes(), &upgrade(Desktop, "a")].concat()).0
    };
    assert_eq!(join("127.0.0.1", "PROXY TCP4 198.51.100.1 10.0.0.1 1 2\r\n"), 101);
    assert_eq!(join("127.0.0.1", "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n"), 403);
    assert_eq!(join("127.0.0.1", "PROXY UNKNOWN\r\n"), 101);
    assert_eq!(join("127.0.0.1", ""), 400, "the header is not optional");
    assert_eq!(join("198.51.100.1", ""), 101, "but for those who are no proxies");
    assert_eq!(join("198.51.100.1", "PROXY TCP4 127.0.0.1 10.0.0.1 1 2\r\n"), 400);
    let client = world.connect();
    world.send(&client, b"PROXY TCP4 198.51.100.1 10.0.0.1 1 2\r\n");
    assert_eq!(world.ask(&client, &upgrade(Mobile, "a")).0, 101, "in two pieces");
    let silent = world.connect();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.answer(&silent).0, 408);
    world.expect_empty_in_the_end();
}
