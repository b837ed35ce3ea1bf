//! The relay's health, told also where nothing else is, and what pages of other origins may read.

use std::time::Duration;

use super::world::{Client, World, upgrade};
use crate::relay::access::api_keys::ApiKeys;
use crate::relay::address::parse_range;
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::REFUSALS_MAX;
use crate::relay::settings::Settings;

const STRANGER: &str = "192.0.2.1";

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: relay\r\nOrigin: https://app.example\r\n\r\n";
const PREFLIGHT: &[u8] = b"OPTIONS /sessions HTTP/1.1\r\nHost: relay\r\nOrigin: https://app.example\r\n\
    Access-Control-Request-Method: POST\r\n\r\n";
const ISSUE: &[u8] = b"POST /sessions HTTP/1.1\r\nHost: relay\r\nOrigin: https://app.example\r\n\r\n";
const FOR_PAGE: &str = "\r\nAccess-Control-Allow-Origin: https://app.example\r\nVary: Origin\r\n";

/// The answer to a newcomer from this address.
fn ask_from(world: &mut World, address: &str, request: &[u8]) -> (u16, String) {
    let client = world.connect_from(address);
    world.ask(&client, request)
}

#[test]
fn a_full_relay_tells_anybody_its_health_and_refuses_everything_else() {
    let mut world = World::with(Settings { max_connections: Some(2), ..Settings::default() });
    let (desktop, _mobile) = world.pair("a");
    for (address, request, expected) in [
        (STRANGER, HEALTH, 200),
        ("127.0.0.1", HEALTH, 200),
        (STRANGER, PREFLIGHT, 204),
        (STRANGER, ISSUE, 503),
        (STRANGER, &upgrade(Desktop, "a"), 503),
        (STRANGER, b"GET /favicon.ico HTTP/1.1\r\nHost: relay\r\n\r\n", 503),
        (STRANGER, b"GET /health HTTP/1.1\n", 503),
        (STRANGER, b"\x16", 503),
    ] {
        let (status, answer) = ask_from(&mut world, address, request);
        assert_eq!(status, expected, "{}", request.escape_ascii());
        assert_eq!(answer.contains("\r\nRetry-After: 5\r\n"), expected == 503, "{answer}");
        let is_for_page = [HEALTH, PREFLIGHT, ISSUE].contains(&request);
        assert_eq!(answer.contains(FOR_PAGE), is_for_page, "{answer}");
    }
    let silent = world.connect_from(STRANGER);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.answer(&silent).0, 503, "rather than 408: there is no room");
    assert_eq!(world.take(&desktop), [], "those who are in notice nothing");
    world.expect_empty_in_the_end();
}

#[test]
fn connections_beyond_the_limit_are_few_and_take_no_place() {
    let mut world = World::with(Settings { max_connections: Some(1), ..Settings::default() });
    let first = world.join(Desktop, "a");
    let beyond: Vec<Client> = (0..REFUSALS_MAX).map(|_| world.connect_from(STRANGER)).collect();
    assert!(!world.relay.can_accept(), "nobody more is accepted");
    let surplus = world.connect_from(STRANGER);
    assert_eq!(world.answer(&surplus).0, 503, "and is refused at once all the same");
    assert!(world.is_gone(&surplus), "and cut");
    world.close_tcp(&first);
    assert_eq!(ask_from(&mut world, STRANGER, &upgrade(Mobile, "a")).0, 101, "the place is free at once");
    for client in &beyond {
        assert_eq!(world.ask(client, &upgrade(Mobile, "a")).0, 503);
        world.close_tcp(client);
    }
    assert!(world.relay.can_accept());
    world.expect_empty_in_the_end();
}

#[test]
fn connections_beyond_the_limit_count_against_their_host() {
    let settings =
        Settings { max_connections: Some(1), max_connections_per_ip: Some(2), ..Settings::default() };
    let mut world = World::with(settings);
    let _first = world.join(Desktop, "a");
    let beyond = [STRANGER; 2].map(|address| world.connect_from(address));
    let third = world.connect_from(STRANGER);
    assert_eq!(world.answer(&third).0, 429, "before it has asked for anything");
    assert_eq!(ask_from(&mut world, "198.51.100.1", HEALTH).0, 200);
    world.close_tcp(&beyond[0]);
    assert_eq!(ask_from(&mut world, STRANGER, HEALTH).0, 200);
    world.expect_empty_in_the_end();
}

#[test]
fn health_is_told_to_this_machine_whatever_the_address_rules_say() {
    let deny = ["127.0.0.0/8", "192.0.2.0/24"].map(|range| parse_range(range).unwrap());
    let mut world = World::with(Settings { deny: deny.to_vec(), ..Settings::default() });
    for address in ["127.0.0.1", "127.0.0.2", "::ffff:127.0.0.1"] {
        assert_eq!(ask_from(&mut world, address, HEALTH).0, 200, "{address}");
        assert_eq!(ask_from(&mut world, address, &upgrade(Desktop, "a")).0, 403, "{address}");
        assert_eq!(ask_from(&mut world, address, ISSUE).0, 403, "{address}");
    }
    assert_eq!(ask_from(&mut world, "::1", HEALTH).0, 200, "it is served");
    let stranger = world.connect_from(STRANGER);
    assert_eq!(world.answer(&stranger).0, 403, "others are refused before they ask");
    let silent: Vec<Client> = (0..REFUSALS_MAX).map(|_| world.connect()).collect();
    let surplus = world.connect();
    assert_eq!(world.answer(&surplus).0, 403);
    assert!(world.is_gone(&surplus), "few are waited for");
    world.pass(Duration::from_secs(10));
    assert_eq!(world.answer(&silent[0]).0, 403);
    world.expect_empty_in_the_end();
}

#[test]
fn client_of_a_proxy_on_this_machine_does_not_count_as_local() {
    let deny = ["192.0.2.0/24", "127.0.0.9/32"].map(|range| parse_range(range).unwrap()).to_vec();
    let trust_proxy = vec![parse_range("127.0.0.1").unwrap()];
    let settings = Settings { deny, trust_proxy, max_connections: Some(1), ..Settings::default() };
    for proxy_protocol in [false, true] {
        let mut world = World::with(Settings { proxy_protocol, ..settings.clone() });
        for is_full in [false, true] {
            let mut ask = |client: &str| {
                let (header, line) = match (client, proxy_protocol) {
                    ("", false) => (String::new(), String::new()),
                    ("", true) => ("PROXY UNKNOWN\r\n".to_owned(), String::new()),
                    (client, false) => (String::new(), format!("X-Forwarded-For: {client}\r\n")),
                    (client, true) => (format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n"), String::new()),
                };
                let request = format!("{header}GET /health HTTP/1.1\r\nHost: relay\r\n{line}\r\n");
                let client = world.connect();
                let status = world.ask(&client, request.as_bytes()).0;
                world.close_tcp(&client);
                status
            };
            let row = format!("PROXY protocol: {proxy_protocol}, full: {is_full}");
            assert_eq!(ask(""), 200, "the proxy itself; {row}");
            assert_eq!(ask("198.51.100.1"), 200, "{row}");
            assert_eq!(ask("192.0.2.1"), 403, "{row}");
            assert_eq!(ask("127.0.0.9"), 403, "a proxy can be made to say that; {row}");
            if !is_full {
                assert_eq!(ask_from(&mut world, "198.51.100.1", &upgrade(Desktop, "a")).0, 101);
            }
        }
        world.expect_empty_in_the_end();
    }
}

#[test]
fn health_counts_everybody_but_the_one_that_asks() {
    let mut world = World::quiet();
    let (_desktop, _mobile) = world.pair("a");
    let (_, answer) = ask_from(&mut world, STRANGER, HEALTH);
    assert!(answer.contains(r#""connections":2,"sessions":1}"#), "{answer}");
    world.expect_empty_in_the_end();
}

#[test]
fn web_page_can_read_every_refusal_of_a_session() {
    let mut world = World::with(Settings { max_failed_joins: Some(1), ..Settings::default() });
    let (status, issued) = ask_from(&mut world, STRANGER, ISSUE);
    assert_eq!((status, issued.contains(FOR_PAGE)), (201, true), "{issued}");
    world.relay.set_api_keys(ApiKeys::parse("alice 0123456789abcdef-of-alice").unwrap());
    let late = world.connect_from(STRANGER);
    for expected in [401, 401] {
        let (status, answer) = ask_from(&mut world, STRANGER, ISSUE);
        assert_eq!((status, answer.contains(FOR_PAGE)), (expected, true), "{answer}");
    }
    let (status, answer) = world.ask(&late, ISSUE);
    assert_eq!((status, answer.contains(FOR_PAGE)), (429, true), "{answer}");
    world.pass(Duration::from_secs(2 * 3600));
    world.expect_empty_in_the_end();
}

#[test]
fn icon_and_preflight_are_not_counted_as_refusals() {
    let mut world = World::quiet();
    let icon = b"GET /favicon.ico HTTP/1.1\r\nHost: relay\r\n\r\n";
    for request in [&icon[..], PREFLIGHT, HEALTH] {
        assert!(ask_from(&mut world, STRANGER, request).0 < 300);
    }
    assert_eq!(world.relay.counters().requests_refused.iter().sum::<u64>(), 0);
    assert_eq!(ask_from(&mut world, STRANGER, b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n").0, 404);
    assert_eq!(world.relay.counters().requests_refused.iter().sum::<u64>(), 1);
    world.expect_empty_in_the_end();
}
