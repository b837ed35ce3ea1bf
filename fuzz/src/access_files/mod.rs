//! Files of keys and of rules, ranges and origins are parsed as slow parsers parse them, or refused where those refuse
//! them. A range contains an address if all its bits agree. No error shows a key.

mod reference;

use std::io::Cursor;
use std::net::{IpAddr, SocketAddr};

use apptuner_relay::relay::internals::address::{ClientAddress, Networks, parse_range};
use apptuner_relay::relay::{AddressRules, ApiKeys, Now, Origin, Relay, Settings};

use super::choices::Choices;
use super::{origins, ranges};

/// Pieces of such files.
const PIECES: [&str; 64] = [
    "allow ",
    "deny ",
    "allow 10.0.0.0/8\n",
    "deny 2001:db8::/32\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "#",
    "# comment\n",
    "alice ",
    "bob ",
    "a",
    "=",
    "0123456789abcdef",
    "ABCDEFGHIJKLMNOP==",
    "~.-_+/0123456789abcdef",
    "10.0.0.0",
    "10.128.0.0/9",
    "192.0.2.0",
    "192.0.2.7",
    "192.0.2.128/25",
    "255.255.255.255",
    "0.0.0.0",
    "::",
    "::1",
    "::ffff:192.0.2.0",
    "::ffff:0:0",
    "::fffe:0:0",
    "2001:db8::",
    "2001:db8:0:0:8000::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "010.0.0.0",
    "/0",
    "/1",
    "/8",
    "/24",
    "/25",
    "/31",
    "/32",
    "/33",
    "/64",
    "/95",
    "/96",
    "/97",
    "/120",
    "/128",
    "/129",
    "/+8",
    "http",
    "https",
    "wss",
    "tauri",
    "://",
    "app.example.com",
    "LOCALHOST",
    "[::1]",
    ":",
    "80",
    "443",
    "65535",
    "65536",
    "null",
];
/// How often a piece is repeated: around the bounds of names and keys.
const REPEATS: [usize; 8] = [1, 2, 15, 16, 64, 65, 256, 257];
/// Addresses that are looked up in addition to those that the ranges suggest.
const ADDRESSES: [&str; 8] =
    ["0.0.0.0", "10.1.2.3", "192.0.2.7", "::", "::ffff:192.0.2.7", "::192.0.2.7", "2001:db8::7", "ffff::"];

/// Parses `data` as each of them.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = choices.byte();
    let tail = u128::from_be_bytes([choices.byte(); 16]) ^ u128::from(choices.word());
    let bytes = if kind & 4 != 0 { choices.rest().to_vec() } else { assemble(&mut choices) };
    let text = String::from_utf8_lossy(&bytes);
    match kind % 4 {
        0 => check_keys(&text),
        1 => check_rules(&text, tail),
        2 => check_ranges(&text, tail),
        _ => check_origins(&text),
    }
}

fn assemble(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !choices.is_empty() && bytes.len() < 20_000 {
        let choice = choices.byte();
        match PIECES.get(usize::from(choice) % 80) {
            Some(piece) if choice >= 160 => {
                bytes.extend_from_slice(piece.repeat(choices.pick(REPEATS)).as_bytes());
            }
            Some(piece) => bytes.extend_from_slice(piece.as_bytes()),
            None => bytes.extend_from_slice(choices.bytes(usize::from(choice % 16))),
        }
    }
    bytes
}

fn check_keys(text: &str) {
    let expected = reference::keys(text);
    match (ApiKeys::parse(text), &expected) {
        (Ok(keys), Some(expected)) => {
            let plain = |records: &[(String, String)]| {
                let lines = records.iter().map(|(name, key)| format!("{name} {key}\n"));
                ApiKeys::parse(&lines.collect::<String>())
            };
            assert_eq!(Ok(&keys), plain(expected).as_ref());
            let mut other = expected.clone();
            other[0].1.replace_range(0..1, if expected[0].1.starts_with('x') { "y" } else { "x" });
            assert_ne!(Ok(&keys), plain(&other).as_ref(), "each key counts");
            let shown = format!("{keys:?}");
            // A key may be part of a name, which is not secret.
            let is_in_a_name = |key: &str| expected.iter().any(|(name, _)| name.contains(key));
            for (_, key) in expected.iter().filter(|(_, key)| !is_in_a_name(key)) {
                assert!(!shown.contains(key), "{key} is shown");
            }
        }
        (Err(problem), None) => {
            let words = text.split_whitespace().flat_map(|word| word.split('#'));
            for word in words.filter(|word| word.len() >= 16) {
                assert!(!problem.contains(word), "{word} is shown in: {problem}");
            }
            assert!(problem.starts_with("line ") || problem.starts_with("holds no"), "{problem}");
        }
        (keys, _) => panic!("{keys:?}, but read as {expected:?}"),
    }
}

fn check_rules(text: &str, tail: u128) {
    let expected = reference::rules(text);
    let parsed = AddressRules::parse(text);
    assert_eq!(parsed.is_ok(), expected.is_some(), "{parsed:?}, but read as {expected:?}");
    let (Ok(rules), Some((allow, deny))) = (parsed, expected) else { return };
    let settings = Settings { max_failed_joins: None, ..Settings::default() };
    let now = Now::default();
    let mut relay: Relay<Cursor<Vec<u8>>> = Relay::new(settings, [1, 2], now);
    relay.set_address_rules(&rules);
    let all = [&allow[..], &deny].concat();
    let mut refused = 0;
    // A denied client on loopback may still request the relay's health, so it is not refused at once.
    let is_remote = |address: &IpAddr| !address.to_canonical().is_loopback();
    for address in addresses(&all, tail).into_iter().filter(is_remote) {
        let is_in =
            !ranges::contain(&deny, address) && (allow.is_empty() || ranges::contain(&allow, address));
        relay.handle_accept(Cursor::default(), SocketAddr::new(address, 1), now);
        refused += u64::from(!is_in);
        assert_eq!(
            relay.counters().requests_refused.iter().sum::<u64>(),
            refused,
            "{address} is served: {is_in}"
        );
    }
}

fn check_ranges(text: &str, tail: u128) {
    let mut given = Vec::new();
    let mut expected = Vec::new();
    for word in text.split_whitespace() {
        let (range, naive) = (parse_range(word), ranges::read(word));
        assert_eq!(range.is_ok(), naive.is_some(), "{word}: {range:?}, but read as {naive:?}");
        if let (Ok(range), Some(naive)) = (&range, naive) {
            assert_eq!(parse_range(&range.to_string()), Ok(*range), "a range is what it is shown as");
            given.push(*range);
            expected.push(naive);
        }
        if let Err(problem) = range
            && let Some((_, remedy)) = problem.split_once("prefix; write ")
        {
            assert!(parse_range(remedy).is_ok(), "the remedy for {word} is one: {remedy}");
        }
    }
    let networks = Networks::new(&given);
    assert_eq!(networks.is_empty(), expected.is_empty());
    let reversed: Vec<_> = given.iter().rev().copied().collect();
    assert_eq!(networks, Networks::new(&reversed), "in any order");
    for address in addresses(&expected, tail) {
        let is_in = ranges::contain(&expected, address);
        assert_eq!(networks.contains(ClientAddress::new(address)), is_in, "{address} is in {given:?}");
    }
}

/// Addresses at the ends of the ranges, in them and next to them, plain and mapped.
fn addresses(ranges: &[ranges::Range], tail: u128) -> Vec<IpAddr> {
    let suggested = ranges.iter().take(20).flat_map(|range| {
        let ends = [0, 1, u128::MAX, tail].map(|tail| Some(range.member(tail)));
        ends.into_iter().chain([range.neighbour()]).flatten()
    });
    let known = ADDRESSES.map(|address| address.parse().expect("an address"));
    let plain = suggested.chain(known).chain([IpAddr::V6(tail.into()), IpAddr::V4((tail as u32).into())]);
    plain
        .flat_map(|address| match address {
            IpAddr::V4(v4) => [address, IpAddr::V6(v4.to_ipv6_mapped())],
            IpAddr::V6(_) => [address, address],
        })
        .collect()
}

fn check_origins(text: &str) {
    let (first, second) = text.split_once(' ').unwrap_or((text, ""));
    let naive = check_origin(first);
    let other = check_origin(second);
    if let Ok(origin) = Origin::parse(first) {
        let naive = naive.expect("an origin");
        let is_same = Origin::parse(second).is_ok_and(|second| second == origin);
        assert_eq!(is_same, other.as_ref() == Some(&naive), "{first} and {second}");
        for host in [second, &naive.host, &format!("{}:{}", naive.host, naive.port.unwrap_or(0))] {
            assert_eq!(origin.is_at(host), origins::is_at(&naive, host), "{first} at {host}");
        }
    }
}

/// Parses one in both ways, and then its text form.
fn check_origin(text: &str) -> Option<origins::NaiveOrigin> {
    let expected = origins::read(text);
    let parsed = Origin::parse(text);
    assert_eq!(parsed.is_ok(), expected.is_some(), "{text}: {parsed:?}, but read as {expected:?}");
    match parsed {
        Ok(origin) => {
            let shown = origin.to_string();
            assert_eq!(Origin::parse(&shown), Ok(origin), "an origin is what it is shown as");
            let naive = expected.as_ref().expect("an origin");
            let port = naive.port.filter(|_| naive.port != origins::port_of(&naive.scheme));
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let is_null = naive.scheme.is_empty();
            let page = format!("{}://{}{port}", naive.scheme, naive.host);
            assert_eq!(shown, if is_null { "null" } else { &page });
        }
        Err(problem) => {
            if let Some((_, remedy)) = problem.split_once("before its path; write ") {
                assert!(Origin::parse(remedy).is_ok(), "the remedy for {text} is one: {remedy}");
            }
        }
    }
    expected
}
