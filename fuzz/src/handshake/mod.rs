//! A request head, cut in any way, is parsed as a slow and strict parser of the whole head parses it: accepted with the
//! same session, key and secrets, or refused for a fault that it has. It ends at the same byte, and bytes after it are
//! left to the WebSocket. Behind a proxy it belongs to the same client. Neither the answer nor the debug output
//! contains a secret of the request.

mod brought;
mod forwarded;
mod strict;

use apptuner_relay::relay::internals::address::{ClientAddress, Networks, parse_range};
use apptuner_relay::relay::internals::credentials::Credentials;
use apptuner_relay::relay::internals::http::{
    AnswerForm, BadRequest, HeadProgress, HeadReader, HeadRules, Verdict, write_health, write_issued,
    write_nothing, write_preflight, write_refusal, write_switching_protocols,
};
use apptuner_relay::relay::internals::secret::Secret;
use apptuner_relay::relay::{Origin, SessionId};
use tungstenite::handshake::derive_accept_key;

use super::answer::{self, Answer};
use super::choices::Choices;
use super::proxy_header::reference as proxy_header;
use super::ranges::{self, Range};
use brought::Brought;
use strict::{Found, Reading};

/// Pieces of heads, so that most inputs are close to a valid one.
const PIECES: [&str; 48] = [
    "GET ",
    "HEAD ",
    "POST ",
    "/desktop/",
    "/mobile/",
    "/health",
    "abc-_9",
    "?query=%20",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "GET /desktop/abc HTTP/1.1\r\n",
    "GET /mobile/abc HTTP/1.1\r\nHost: relay\r\n",
    "Host: relay\r\n",
    "Host: 127.0.0.1:8787\r\n",
    "Host: [::1]:\r\n",
    "Host: %61,b\r\n",
    "Upgrade: websocket\r\n",
    "upgrade:\th2c ,, WebSocket \r\n",
    "Connection: Upgrade\r\n",
    "connection: keep-alive, upgrade\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Version: 8\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n",
    "Sec-WebSocket-Protocol: chat, superchat\r\n",
    "Sec-WebSocket-Protocol: a b\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5, 05\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X-Name: value\r\n",
    " folded: value\r\n",
    "\r\n",
    "http://relay:80/",
    "wss://[::1]",
    "user@",
    ": ",
    ",",
    " ",
    "\t",
    "a",
    "é",
    "\n",
    "\r",
    "\0",
    "\x7F",
];
/// Pieces for secrets, origins and proxies.
const ACCESS_PIECES: [&str; 51] = [
    "GET /desktop/abc?secret=0123456789abcdef HTTP/1.1\r\nHost: relay\r\n",
    "POST /sessions HTTP/1.1\r\nHost: relay\r\n",
    "/sessions",
    "?secret=",
    "&secret=",
    "0123456789abcdef",
    "%61bcd%65f",
    "%",
    "+",
    "=",
    "&",
    "Authorization: Bearer 0123456789abcdef\r\n",
    "Authorization: bEARER \t",
    "Authorization: Basic dXNlcjpwYXNz\r\n",
    "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZg, chat\r\n",
    "Sec-WebSocket-Protocol: apptuner.key.MDEyMzQ1Njc4OWFiY2RlZg\r\n",
    "Sec-WebSocket-Protocol: ",
    "apptuner.secret.",
    "apptuner.key.",
    "MDEyMzQ1Njc4OWFiY2RlZg",
    "MDEyMzQ1Njc4OWFiY2RlZh",
    "-_8",
    "Origin: https://app.example.com\r\n",
    "Origin: http://localhost:3000\r\n",
    "Origin: https://relay\r\n",
    "Origin: null\r\n",
    "Origin: ",
    "https://",
    ":443",
    "X-Forwarded-For: ",
    "X-Forwarded-For: 192.0.2.1, 10.0.0.7\r\n",
    "Forwarded: ",
    "Forwarded: for=192.0.2.1;proto=https\r\n",
    "for=",
    "for=\"[2001:db8::7]:4711\"",
    ";host=\"a,for=198.51.100.1;b\"",
    "192.0.2.1",
    "10.0.0.7",
    "127.0.0.1:80",
    "::ffff:192.0.2.1",
    "3fff::1",
    "[::1]",
    "unknown",
    "_hidden",
    "\"",
    "\\",
    ";",
    "PROXY TCP4 192.0.2.1 10.0.0.1 8080 8787\r\n",
    "PROXY TCP6 2001:db8::7 ::1 1 2\r\n",
    "PROXY UNKNOWN\r\n",
    "receipts=1",
];
/// Origins whose pages may connect.
const ORIGINS: [&[&str]; 4] = [
    &[],
    &["https://app.example.com"],
    &["null", "http://localhost:3000"],
    &["HTTPS://App.Example.com:443", "tauri://localhost"],
];
/// Trusted proxies. With the first set the client is not behind any of them.
const PROXIES: [&[&str]; 4] = [
    &[],
    &["10.0.0.0/8", "2001:db8::/32"],
    &["192.0.2.1", "::1", "::ffff:10.0.0.0/104"],
    &["0.0.0.0/0", "::/0"],
];
/// How often a piece is repeated: around the bounds of heads and session IDs.
const REPEATS: [usize; 12] = [1, 1, 1, 1, 2, 98, 99, 100, 101, 128, 129, 16_300];

/// The rules for a head.
#[derive(Debug)]
pub struct Rules {
    origins: &'static [&'static str],
    proxies: Option<Vec<Range>>,
}

/// The result of reading a connection.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Outcome {
    NeedMore,
    /// No PROXY protocol header where one must be.
    NotProxied,
    Done {
        /// Bytes of a PROXY protocol header, and its client.
        proxied: Option<(usize, Option<ClientAddress>)>,
        /// Bytes of the head.
        consumed: usize,
        client: Option<ClientAddress>,
        origin: Option<Box<str>>,
        verdict: Verdict,
    },
}

/// Compares both readings of the head in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let bits = choices.byte();
    let is_raw = bits & 1 != 0;
    let (origins, proxies) = (ORIGINS[usize::from(bits >> 1 & 3)], PROXIES[usize::from(bits >> 3 & 3)]);
    let is_behind_proxy_header = bits & 0x20 != 0;
    let step_count = choices.below(8);
    let steps: Vec<usize> = choices.bytes(step_count).iter().map(|&step| step.into()).collect();
    let bytes = if is_raw { choices.rest().to_vec() } else { head(&mut choices, bits & 0x40 != 0) };

    let listed: Vec<Origin> =
        origins.iter().map(|origin| Origin::parse(origin).expect("an origin")).collect();
    let networks: Vec<_> = proxies.iter().map(|range| parse_range(range).expect("a range")).collect();
    let networks = Networks::new(&networks);
    let believed = Some(&networks).filter(|_| !proxies.is_empty());
    let rules = HeadRules { proxies: believed, origins: &listed };
    let naive_proxies = proxies.iter().map(|range| ranges::read(range).expect("a range")).collect();
    let naive = Rules { origins, proxies: Some(naive_proxies).filter(|_| !proxies.is_empty()) };

    let reader =
        || if is_behind_proxy_header { HeadReader::behind_proxy_header() } else { HeadReader::default() };
    let mut used = reader();
    let read = read_in_pieces(&mut used, rules, &bytes, &steps);
    assert_eq!(read, read_in_pieces(&mut reader(), rules, &bytes, &[]), "in pieces and whole");
    let head = if is_behind_proxy_header { skip_proxy_header(&bytes, &read) } else { Some(&bytes[..]) };
    let Some(head) = head else { return };
    let expected = strict::read(head, &naive);
    let Outcome::Done { proxied, consumed, client, origin, verdict } = read else {
        assert_eq!((read, expected), (Outcome::NeedMore, None), "the strict reader has come to an end");
        return;
    };
    assert_eq!(proxied.is_some(), is_behind_proxy_header);
    let Some((expected_consumed, Found { client: expected_client, origin: expected_origin, reading })) =
        expected
    else {
        panic!("the strict reader needs more after {verdict:?}");
    };
    assert_eq!(consumed, expected_consumed, "where the head ends, or is refused");
    assert_eq!(client, expected_client.map(ClientAddress::new), "the client that the proxy names");
    assert_eq!(origin.as_deref(), expected_origin.as_deref(), "whose pages may read the answer");
    compare(&verdict, &reading, &head[..consumed]);
    check_answer(&verdict, origin.as_deref(), &reading);
    let again = read_in_pieces(&mut used, rules, head, &steps);
    assert_eq!(
        again,
        Outcome::Done { proxied: None, consumed, client, origin, verdict },
        "the reader is as new"
    );
}

/// The bytes after a PROXY protocol header. `None` if it is incomplete or malformed.
fn skip_proxy_header<'a>(bytes: &'a [u8], read: &Outcome) -> Option<&'a [u8]> {
    match (proxy_header::read(bytes), read) {
        (proxy_header::Reading::NeedMore, Outcome::NeedMore)
        | (proxy_header::Reading::Malformed, Outcome::NotProxied) => None,
        (proxy_header::Reading::Whole { bytes: length, .. }, Outcome::NeedMore) => Some(&bytes[length..]),
        (
            proxy_header::Reading::Whole { bytes: length, client },
            Outcome::Done { proxied: Some(proxied), .. },
        ) => {
            assert_eq!(*proxied, (length, client.map(ClientAddress::new)));
            Some(&bytes[length..])
        }
        (reading, read) => panic!("{read:?}, but the proxy's header is {reading:?}"),
    }
}

fn head(choices: &mut Choices<'_>, is_about_access: bool) -> Vec<u8> {
    let mut head = Vec::new();
    while !choices.is_empty() {
        let choice = choices.byte();
        let index = usize::from(choice) % if is_about_access { 128 } else { 64 };
        let piece = PIECES.get(index).or_else(|| ACCESS_PIECES.get(index.checked_sub(PIECES.len())?));
        if let Some(piece) = piece.filter(|_| is_about_access || index < PIECES.len()) {
            let repeats = if choice >= 192 { choices.pick(REPEATS) } else { 1 };
            let bytes = piece.repeat(repeats.min(20_000 / piece.len()));
            head.extend_from_slice(bytes.as_bytes());
        } else {
            let count = usize::from(choice % 16);
            head.extend_from_slice(choices.bytes(count));
        }
    }
    head
}

fn read_in_pieces(reader: &mut HeadReader, rules: HeadRules<'_>, bytes: &[u8], steps: &[usize]) -> Outcome {
    let mut steps = steps.iter().copied().filter(|&step| step > 0).cycle();
    let mut rest = bytes;
    let mut proxied = None;
    let mut head_start = 0;
    let mut step = steps.next().unwrap_or(usize::MAX);
    loop {
        let (piece, behind) = rest.split_at(step.min(rest.len()));
        let position = bytes.len() - rest.len();
        step = match reader.push(piece, rules) {
            HeadProgress::NeedMore if behind.is_empty() => return Outcome::NeedMore,
            HeadProgress::NeedMore => {
                rest = behind;
                steps.next().unwrap_or(usize::MAX)
            }
            HeadProgress::Proxied { consumed, client } => {
                assert!(proxied.is_none() && consumed <= piece.len(), "one header, of what was pushed");
                head_start = position + consumed;
                proxied = Some((head_start, client));
                rest = &rest[consumed..];
                // The rest of the piece.
                step - consumed
            }
            HeadProgress::Done { consumed, client, origin, verdict } => {
                assert!(consumed <= piece.len(), "no more than was pushed");
                assert_eq!(reader.kept_bytes(), 0, "nothing is kept");
                let refusal = BadRequest::ProxyHeader.into();
                if verdict == (Verdict::Refuse { refusal, head_only: false }) {
                    assert_eq!((proxied, consumed, client), (None, piece.len(), None));
                    return Outcome::NotProxied;
                }
                return Outcome::Done {
                    proxied,
                    consumed: position + consumed - head_start,
                    client,
                    origin,
                    verdict,
                };
            }
        };
    }
}

fn compare(verdict: &Verdict, reading: &Reading, head: &[u8]) {
    let is_head_method = head.strip_prefix(b"\r\n").unwrap_or(head).starts_with(b"HEAD ");
    assert!(!verdict.is_head_only() || is_head_method);
    match (verdict, reading) {
        (
            Verdict::Upgrade(upgrade),
            Reading::Upgrade { client_type, session_id, key, subprotocol, brought, wants_receipts },
        ) => {
            assert_eq!(upgrade.client_type.as_str(), *client_type);
            assert_eq!(upgrade.session_id.as_str(), session_id);
            assert_eq!(upgrade.accept_key(), derive_accept_key(key.as_bytes()));
            assert_eq!(upgrade.subprotocol(), subprotocol.as_deref());
            assert_eq!(upgrade.credentials, credentials(brought), "{brought:?}");
            assert_eq!(upgrade.wants_receipts, *wants_receipts, "receipts");
        }
        (Verdict::Issue(found), Reading::Issue(brought)) => {
            assert_eq!(*found, credentials(brought), "{brought:?}");
        }
        (Verdict::Preflight { methods }, Reading::Preflight(expected)) => assert_eq!(methods, expected),
        (Verdict::Nothing, Reading::Nothing) => {}
        (Verdict::Health { head_only }, Reading::Health) => assert_eq!(*head_only, is_head_method),
        (Verdict::Refuse { refusal, head_only }, Reading::Faults(faults)) => {
            assert!(faults.contains(refusal), "refused for {refusal:?}, but its faults are {faults:?}");
            assert_eq!(*head_only, is_head_method);
        }
        (verdict, reading) => panic!("{verdict:?}, but read as {reading:?}"),
    }
}

fn credentials(brought: &Brought) -> Credentials {
    let secret = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| Secret::new(bytes).expect("a secret"));
    let Brought { secret: pairing, key, bearer } = brought;
    Credentials { secret: secret(pairing), key: secret(key), bearer: secret(bearer) }
}

/// The answer is HTTP with any request, and contains no secret.
fn check_answer(verdict: &Verdict, origin: Option<&str>, reading: &Reading) {
    let mut answer = Vec::new();
    let form = AnswerForm { head_only: verdict.is_head_only(), origin, path: None };
    match verdict {
        Verdict::Upgrade(upgrade) => write_switching_protocols(upgrade, &mut answer),
        Verdict::Issue(_) => write_issued("{}", form, &mut answer),
        Verdict::Health { .. } => write_health("{}", form, &mut answer),
        Verdict::Preflight { methods } => write_preflight(methods, origin, &mut answer),
        Verdict::Nothing => write_nothing(&mut answer),
        Verdict::Refuse { refusal, .. } => write_refusal(*refusal, form, &mut answer),
    }
    match (verdict, answer::read(&answer, true)) {
        (Verdict::Upgrade(_), Answer::SwitchingProtocols(rest)) => assert!(rest.is_empty()),
        (Verdict::Issue(_), Answer::Other(status)) => assert_eq!(status, "201"),
        (Verdict::Health { .. }, Answer::Other(status)) => assert_eq!(status, "200"),
        (Verdict::Preflight { .. } | Verdict::Nothing, Answer::Other(status)) => assert_eq!(status, "204"),
        (Verdict::Refuse { .. }, Answer::Other(status)) => assert!(status.starts_with('4'), "{status}"),
        (verdict, _) => panic!("{verdict:?} is not answered"),
    }
    assert_eq!(format!("{verdict:?}"), open_debug(verdict, reading), "nothing secret is shown");
    if let Reading::Upgrade { key, subprotocol, .. } = reading {
        let accept = derive_accept_key(key.as_bytes());
        let protocol = subprotocol.as_ref().map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let expected = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
            protocol.unwrap_or_default()
        );
        assert_eq!(answer, expected.as_bytes(), "nothing secret is sent back");
    }
}

/// The debug output of a verdict, made only from the public parts of the request. If they are equal, no secret can be
/// in it. A refusal contains no part of the request.
fn open_debug(verdict: &Verdict, reading: &Reading) -> String {
    let credentials = |Brought { secret, key, bearer }: &Brought| {
        let [secret, key, bearer] =
            [secret, key, bearer].map(|secret| if secret.is_some() { "Some(Secret)" } else { "None" });
        format!("Credentials {{ secret: {secret}, key: {key}, bearer: {bearer} }}")
    };
    match reading {
        Reading::Upgrade { client_type, session_id, key, subprotocol, brought, wants_receipts } => {
            let client_type = if *client_type == "desktop" { "Desktop" } else { "Mobile" };
            let accept = derive_accept_key(key.as_bytes());
            let session_id = SessionId::parse(session_id.as_bytes()).expect("a session ID");
            format!(
                "Upgrade(Upgrade {{ client_type: {client_type}, session_id: {session_id:?}, credentials: {}, \
                 wants_receipts: {wants_receipts}, accept_key: {accept:?}, subprotocol: {subprotocol:?} }})",
                credentials(brought)
            )
        }
        Reading::Issue(brought) => format!("Issue({})", credentials(brought)),
        Reading::Preflight(methods) => format!("Preflight {{ methods: {methods:?} }}"),
        Reading::Nothing => "Nothing".to_owned(),
        Reading::Health | Reading::Faults(_) => match verdict {
            Verdict::Health { head_only } => format!("Health {{ head_only: {head_only} }}"),
            Verdict::Refuse { refusal, head_only } => {
                format!("Refuse {{ refusal: {refusal:?}, head_only: {head_only} }}")
            }
            Verdict::Upgrade(_) | Verdict::Issue(_) | Verdict::Preflight { .. } | Verdict::Nothing => {
                String::new()
            }
        },
    }
}
