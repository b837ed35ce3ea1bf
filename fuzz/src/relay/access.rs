//! Settings for access, and the addresses and secrets of clients.

use std::net::IpAddr;

use apptuner_relay::relay::internals::address::{ClientAddress, Networks, parse_range};
use apptuner_relay::relay::{AddressRules, ApiKeys, Origin, Settings};

use super::super::choices::Choices;

/// Pairing secrets, and the API key of alice. None of them can be part of a session ID, which may be logged.
pub const SECRETS: [&str; 3] = ["pairing~secret~0", "pairing~secret~of~another~1", "api~key~of~alice~0"];
/// The same in base64url.
const ENCODED: [&str; 3] =
    ["cGFpcmluZ35zZWNyZXR-MA", "cGFpcmluZ35zZWNyZXR-b2Z-YW5vdGhlcn4x", "YXBpfmtleX5vZn5hbGljZX4w"];
const KEY_FILES: [&str; 2] = ["alice api~key~of~alice~0\n", "bob api~key~of~bob~0000\n"];
const RULE_FILES: [&str; 4] =
    ["deny 192.0.2.2", "allow ::/0", "allow 192.0.2.0/24\ndeny 192.0.2.1", "deny 10.0.0.0/8"];
/// Loopback, two IPv4 addresses, one of them also mapped, three IPv6 addresses in two /64, and a proxy's.
const ADDRESSES: [&str; 9] = [
    "127.0.0.1",
    "::1",
    "192.0.2.1",
    "192.0.2.2",
    "::ffff:192.0.2.1",
    "2001:db8::1",
    "2001:db8::ffff:0:2",
    "2001:db8:0:1::1",
    "10.0.0.1",
];
const PROXIES: [&[&str]; 4] = [&[], &["127.0.0.0/8"], &["10.0.0.0/8", "::1"], &["192.0.2.1"]];
const ALLOWED: [&[&str]; 4] = [&[], &["192.0.2.0/24", "127.0.0.1"], &["::/0"], &["0.0.0.0/0"]];
const DENIED: [&[&str]; 4] = [&[], &["192.0.2.2"], &["2001:db8::/64"], &["::ffff:192.0.2.0/120"]];

/// The same settings with rules for access.
pub fn demand(choices: &mut Choices<'_>, settings: &Settings) -> Settings {
    let (bits, sets) = (choices.byte(), choices.byte());
    let is_set = |bit: u8| bits & (1 << bit) != 0;
    let ranges = |sets: [&[&str]; 4], index: u8| {
        let set = sets[usize::from(index % 4)].iter();
        set.map(|range| parse_range(range).expect("a range")).collect()
    };
    let origin = Origin::parse("https://app.example.com").expect("an origin");
    Settings {
        max_connections_per_ip: is_set(0).then_some(2),
        max_connection_rate: is_set(1).then_some(2),
        max_failed_joins: if is_set(2) { Some(1) } else { settings.max_failed_joins.filter(|_| !is_set(6)) },
        require_secret: is_set(3),
        proxy_protocol: is_set(4),
        allow_origin: if is_set(5) { vec![origin] } else { Vec::new() },
        trust_proxy: ranges(PROXIES, sets),
        allow: ranges(ALLOWED, sets >> 2),
        deny: ranges(DENIED, sets >> 4),
        ..settings.clone()
    }
}

/// The addresses that may connect without being counted.
pub fn exempt(settings: &Settings) -> Networks {
    let loopback = ["127.0.0.0/8", "::1"].map(|range| parse_range(range).expect("a range"));
    Networks::new(&[&loopback[..], &settings.trust_proxy].concat())
}

pub fn address(choices: &mut Choices<'_>) -> IpAddr {
    choices.pick(ADDRESSES).parse().expect("an address")
}

pub fn api_keys(choices: &mut Choices<'_>) -> ApiKeys {
    ApiKeys::parse(choices.pick(KEY_FILES)).expect("keys")
}

pub fn rules(choices: &mut Choices<'_>) -> AddressRules {
    AddressRules::parse(choices.pick(RULE_FILES)).expect("rules")
}

/// The first bytes of a connection: for one of six places in sessions, or for a new session.
pub fn request(choices: &mut Choices<'_>) -> Vec<u8> {
    let (kind, place, with) = (choices.byte(), choices.byte(), choices.byte());
    let mut bytes = proxy_header(kind, choices);
    let secret = usize::from(with) % SECRETS.len();
    let query = if with & 0x80 != 0 { format!("?secret={}", SECRETS[secret]) } else { String::new() };
    let mut head = if kind & 0x80 != 0 {
        format!("POST /sessions{query} HTTP/1.1\r\nHost: relay\r\n")
    } else {
        let client_type = if place & 1 == 0 { "desktop" } else { "mobile" };
        let session = ["a", "b", "c"][usize::from(place >> 1) % 3];
        format!(
            "GET /{client_type}/{session}{query} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
    };
    let lines = [
        (0x40, format!("Authorization: Bearer {}\r\n", SECRETS[secret])),
        (0x20, format!("Sec-WebSocket-Protocol: apptuner.secret.{}, chat\r\n", ENCODED[secret])),
        (0x10, format!("Sec-WebSocket-Protocol: apptuner.key.{}\r\n", ENCODED[2])),
    ];
    lines.into_iter().filter(|(bit, _)| with & bit != 0).for_each(|(_, line)| head.push_str(&line));
    if kind & 0x40 != 0 {
        head.push_str(
            choices.pick(["Origin: https://app.example.com\r\n", "Origin: https://evil.example\r\n"]),
        );
    }
    if kind & 0x20 != 0 {
        let (client, proxy) = (choices.pick(ADDRESSES), choices.pick(ADDRESSES));
        head.push_str(&["X-Forwarded-For: ", client, ", ", proxy, "\r\n"].concat());
    }
    bytes.extend_from_slice(format!("{head}\r\n").as_bytes());
    bytes
}

/// No PROXY protocol header, one of either version, or one without a client.
fn proxy_header(kind: u8, choices: &mut Choices<'_>) -> Vec<u8> {
    if kind.is_multiple_of(4) {
        return Vec::new();
    }
    let client = address(choices);
    match (kind % 4, ClientAddress::new(client).plain()) {
        (1, IpAddr::V4(client)) => format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n").into_bytes(),
        (1, IpAddr::V6(client)) => format!("PROXY TCP6 {client} ::1 1 2\r\n").into_bytes(),
        (2, IpAddr::V4(client)) => binary(0x11, &client.octets(), 8),
        (2, IpAddr::V6(client)) => binary(0x21, &client.octets(), 20),
        _ => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

fn binary(family: u8, client: &[u8], rest: usize) -> Vec<u8> {
    let length = (client.len() + rest) as u8;
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family, 0, length], client, &vec![0; rest]].concat()
}
