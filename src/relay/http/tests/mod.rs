//! Each row is pushed whole, in two pieces cut anywhere, byte by byte, and with bytes after it.

use super::*;

mod access;

/// The handshake of RFC 6455, section 1.3, with a path of the relay.
const HANDSHAKE: &str = "GET /desktop/abc HTTP/1.1\r\n\
    Host: relay:8787\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    \r\n";
const SAMPLE_ACCEPT_KEY: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const PLAIN: &str = "GET /health HTTP/1.1\r\nHost: relay\r\n\r\n";
/// A masked frame, and bytes that would end or spoil a head.
const BYTES_AFTER: &[u8] = b"\x81\x80\x01\x02\x03\x04\r\n\r\n\n\0";

const ALL_REFUSALS: [Refusal; 31] = [
    Refusal::BadRequest(BadRequest::NotHttp),
    Refusal::BadRequest(BadRequest::LineEnding),
    Refusal::BadRequest(BadRequest::RequestLine),
    Refusal::BadRequest(BadRequest::HttpVersion),
    Refusal::BadRequest(BadRequest::HeaderField),
    Refusal::BadRequest(BadRequest::Host),
    Refusal::BadRequest(BadRequest::ContentLength),
    Refusal::BadRequest(BadRequest::Target),
    Refusal::BadRequest(BadRequest::HostZone),
    Refusal::BadRequest(BadRequest::Path(PathFault::Unknown)),
    Refusal::BadRequest(BadRequest::Body),
    Refusal::BadRequest(BadRequest::WebSocketKey),
    Refusal::BadRequest(BadRequest::Subprotocol),
    Refusal::BadRequest(BadRequest::ProxyHeader),
    Refusal::BadRequest(BadRequest::Forwarded),
    Refusal::BadRequest(BadRequest::Secret),
    Refusal::IssueMethod,
    Refusal::Origin,
    Refusal::Address,
    Refusal::AddressLimit { retry_after: 90 },
    Refusal::Secret,
    Refusal::ApiKey,
    Refusal::NotFound(PathFault::Unknown),
    Refusal::MethodNotAllowed,
    Refusal::UpgradeMethod,
    Refusal::HeadTimeout,
    Refusal::ExpectedUpgrade,
    Refusal::WebSocketVersion,
    Refusal::HeadTooLarge,
    Refusal::TooManyFields,
    Refusal::ConnectionLimit,
];

/// Pushes the pieces until there is a verdict. Returns how many bytes that took, and the verdict.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (usize, Option<Verdict>) {
    let mut reader = HeadReader::default();
    let mut fed_bytes = 0;
    for piece in pieces {
        match reader.push(piece, HeadRules::default()) {
            HeadProgress::NeedMore => fed_bytes += piece.len(),
            HeadProgress::Proxied { .. } => panic!("no proxy is expected"),
            HeadProgress::Done { consumed, verdict, .. } => return (fed_bytes + consumed, Some(verdict)),
        }
        assert!(reader.kept_bytes() <= HEAD_BYTES_MAX);
    }
    (fed_bytes, None)
}

/// The row, for the message of a failure: escaped, and cut if it is long.
fn shown(input: &[u8]) -> String {
    let start = input.get(..400).unwrap_or(input);
    format!("{} bytes: {}", input.len(), start.escape_ascii())
}

/// Pushes `input` in every way, checks that all results are equal, and returns the result.
fn feed_every_way(input: &[u8]) -> (usize, Option<Verdict>) {
    let row = shown(input);
    let result = feed([input]);
    assert_eq!(feed(input.chunks(1)), result, "byte by byte: {row}");
    if result.1.is_some() {
        let input = [input, BYTES_AFTER].concat();
        assert_eq!(feed([input.as_slice()]), result, "bytes after it: {row}");
        assert_eq!(feed(input.chunks(7)), result, "bytes after it, seven at a time: {row}");
    }
    let cut_every = input.len().div_ceil(100).max(1);
    for cut in (0..=input.len()).step_by(cut_every) {
        let (first, second) = input.split_at(cut);
        assert_eq!(feed([first, second]), result, "cut at {cut}: {row}");
    }
    result
}

#[track_caller]
fn expect_verdict(head: &str, expected: &Verdict) {
    let (consumed, verdict) = feed_every_way(head.as_bytes());
    let row = shown(head.as_bytes());
    assert_eq!(verdict.as_ref(), Some(expected), "{row}");
    assert_eq!(consumed, head.len(), "{row}");
}

#[track_caller]
fn expect_upgrade(head: &str) {
    expect_verdict(head, &upgrade(ClientType::Desktop, "abc", None));
}

#[track_caller]
fn expect_refusal(head: &str, refusal: impl Into<Refusal>) {
    let head_only = head.starts_with("HEAD ");
    expect_verdict(head, &Verdict::Refuse { refusal: refusal.into(), head_only });
}

fn upgrade(client_type: ClientType, session_id: &str, subprotocol: Option<&str>) -> Verdict {
    Verdict::Upgrade(Upgrade {
        client_type,
        session_id: SessionId::parse(session_id.as_bytes()).expect("the row names a session"),
        credentials: Credentials::default(),
        wants_receipts: false,
        accept_key: SAMPLE_ACCEPT_KEY.to_owned(),
        subprotocol: subprotocol.map(str::to_owned),
    })
}

/// `head` with `old` replaced, once.
#[track_caller]
fn edit(head: &str, old: &str, new: &str) -> String {
    assert!(head.contains(old), "{old:?} is not in {head:?}");
    head.replacen(old, new, 1)
}

/// `head` with `line` as its last header field.
fn add(head: &str, line: &str) -> String {
    edit(head, "\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

/// `head` with one more field, so long that the head has `length` bytes.
fn pad(head: &str, length: usize) -> String {
    let filler = "x".repeat(length - head.len() - "Pad: \r\n".len());
    add(head, &format!("Pad: {filler}"))
}

#[test]
fn the_sample_handshake_of_the_rfc_is_accepted() {
    expect_upgrade(HANDSHAKE);
}

#[test]
fn only_the_path_names_the_session_and_nothing_is_decoded() {
    let longest = "x".repeat(SessionId::BYTES_MAX);
    for (target, client_type, session_id) in [
        ("/mobile/A-b_9", ClientType::Mobile, "A-b_9"),
        ("/desktop/abc?a=/b?c#d", ClientType::Desktop, "abc"),
        ("/desktop/abc?", ClientType::Desktop, "abc"),
        (&format!("/mobile/{longest}"), ClientType::Mobile, &longest),
        ("ws://relay/mobile/abc", ClientType::Mobile, "abc"),
        ("WSS://relay:443/desktop/abc?x", ClientType::Desktop, "abc"),
        ("hTTp://[::1]:80/desktop/abc", ClientType::Desktop, "abc"),
        ("https://other.example:/desktop/abc", ClientType::Desktop, "abc"),
    ] {
        let head = edit(HANDSHAKE, "/desktop/abc", target);
        expect_verdict(&head, &upgrade(client_type, session_id, None));
    }
    let too_long = format!("/desktop/{longest}x");
    let bytes = 129;
    let character = |byte| PathFault::Character { byte };
    for (target, fault) in [
        ("/", PathFault::Unknown),
        ("/desktop", PathFault::NoSessionId),
        ("/desktop/", PathFault::NoSessionId),
        ("/mobile?x", PathFault::NoSessionId),
        ("/desktop/a/", PathFault::AfterSessionId),
        ("/desktop/a/b", PathFault::AfterSessionId),
        ("/desktop//a", PathFault::NoSessionId),
        ("//desktop/a", PathFault::Prefix),
        ("/relay/mobile/a", PathFault::Prefix),
        ("/Desktop/a", PathFault::Case),
        ("/MOBILE/a", PathFault::Case),
        ("/tablet/a", PathFault::Unknown),
        ("/desktop/a%62", character(b'%')),
        ("/desktop/a.b", character(b'.')),
        ("/desktop/a.b/c", character(b'.')),
        ("/desktop/a#b", character(b'#')),
        ("/desktop/#", character(b'#')),
        ("/desktop/ä", character(0xC3)),
        ("/mobile/../mobile/a", character(b'.')),
        ("/desktopx/a", PathFault::Unknown),
        ("/?/desktop/a", PathFault::Unknown),
        ("/%64esktop/a", PathFault::Unknown),
        ("http://relay", PathFault::Unknown),
        ("http://relay?/desktop/a", PathFault::Unknown),
        ("http://relay//desktop/a", PathFault::Prefix),
        ("ws://relay/", PathFault::Unknown),
        ("/*", PathFault::Unknown),
        (&too_long, PathFault::TooLong { bytes }),
        ("/health/", PathFault::Unknown),
        ("/healthz", PathFault::Unknown),
        ("/Health", PathFault::Unknown),
        ("/health#", PathFault::Unknown),
        ("//health", PathFault::Unknown),
    ] {
        expect_refusal(&edit(HANDSHAKE, "/desktop/abc", target), BadRequest::Path(fault));
        expect_refusal(&edit(PLAIN, "/health", target), Refusal::NotFound(fault));
    }
    expect_refusal(&edit(HANDSHAKE, "/desktop/abc", "/favicon.ico"), BadRequest::Path(PathFault::Unknown));
}

#[test]
fn the_answer_says_what_is_wrong_with_a_path() {
    let of_id = "a session ID is 1 to 128 letters A-Z and a-z, digits, - and _, and this one ";
    for (fault, of_session_id, sentence) in [
        (PathFault::Unknown, "", "this path begins with none of them"),
        (PathFault::Case, "", "write this path in lower case up to the session ID"),
        (PathFault::Prefix, "", "nothing may come before that; let the proxy remove it"),
        (PathFault::Sessions, "", "POST to /sessions, without an upgrade, gives a session ID to use there"),
        (PathFault::AfterSessionId, "", "nothing may follow the session ID but a query"),
        (PathFault::NoSessionId, of_id, "is empty"),
        (PathFault::TooLong { bytes: 129 }, of_id, "has 129 characters"),
        (PathFault::Character { byte: b'.' }, of_id, "has a ."),
        (PathFault::Character { byte: b'%' }, of_id, "has a %; percent-encoding is not decoded"),
        (PathFault::Character { byte: 0xC3 }, of_id, "has the byte 0xC3"),
    ] {
        for (refusal, start) in [
            (BadRequest::Path(fault).into(), "Invalid path. Use /desktop/{sessionId} or /mobile/{sessionId}"),
            (Refusal::NotFound(fault), "Not found: use /health, /desktop/{sessionId} or /mobile/{sessionId}"),
        ] {
            assert_eq!(refusal.answer().sentence, format!("{start}; {of_session_id}{sentence}"));
        }
    }
}

#[test]
fn a_request_for_the_icon_is_answered_with_204() {
    for head in ["GET /favicon.ico", "HEAD /favicon.ico", "GET http://relay/favicon.ico?x"] {
        expect_verdict(&edit(PLAIN, "GET /health", head), &Verdict::Nothing);
    }
    expect_refusal(&edit(PLAIN, "GET /health", "POST /favicon.ico"), Refusal::MethodNotAllowed);
    let mut out = Vec::new();
    write_nothing(&mut out);
    assert_eq!(out, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
}

#[test]
fn targets_in_any_other_form_are_refused() {
    for target in [
        "*",
        "relay:80",
        "desktop/abc",
        "health",
        "?",
        "#",
        "#f",
        "ftp://relay/health",
        "http:/relay/health",
        "http:///health",
        "http://",
        "http://?",
        "://relay/health",
        "http://:80/health",
        "http://a@relay/health",
        "http://a:b@relay/",
        "http://relay#/health",
        "http://relay:x/health",
        "http://re\"lay/",
        "http:relay/health",
        " http://relay/health",
    ] {
        let refusal = if target.starts_with(' ') { BadRequest::RequestLine } else { BadRequest::Target };
        expect_refusal(&edit(HANDSHAKE, "/desktop/abc", target), refusal);
        expect_refusal(&edit(PLAIN, "/health", target), refusal);
    }
}

#[test]
fn health_answers_get_and_head_with_any_query_and_any_fields() {
    for (method, head_only) in [("GET", false), ("HEAD", true)] {
        for head in [
            PLAIN.to_owned(),
            edit(PLAIN, "/health", "/health?x=/desktop/a"),
            edit(PLAIN, "/health", "http://relay/health?"),
            edit(PLAIN, "HTTP/1.1", "HTTP/1.0"),
            "GET /health HTTP/1.0\r\n\r\n".to_owned(),
            edit(HANDSHAKE, "/desktop/abc", "/health"),
            edit(&edit(HANDSHAKE, "/desktop/abc", "/health"), "Version: 13", "Version: 8"),
            add(PLAIN, "Content-Length: 5"),
            add(PLAIN, "Transfer-Encoding: chunked"),
        ] {
            expect_verdict(&edit(&head, "GET", method), &Verdict::Health { head_only });
        }
    }
}

#[test]
fn a_session_path_without_an_upgrade_is_answered_with_426() {
    for head in [
        edit(PLAIN, "/health", "/desktop/abc"),
        edit(PLAIN, "GET /health", "HEAD /mobile/abc?x"),
        edit(HANDSHAKE, "HTTP/1.1", "HTTP/1.0"),
        edit(&edit(HANDSHAKE, "HTTP/1.1", "HTTP/1.0"), "Host: relay:8787\r\n", ""),
        edit(HANDSHAKE, "Upgrade: websocket\r\n", ""),
        edit(HANDSHAKE, "Connection: Upgrade\r\n", ""),
        edit(HANDSHAKE, "websocket", "websockets"),
        edit(HANDSHAKE, "websocket", "websocket/13"),
        edit(HANDSHAKE, "websocket", "web socket"),
        edit(HANDSHAKE, "websocket", "h2c;websocket"),
        edit(HANDSHAKE, "websocket", ""),
        edit(HANDSHAKE, "Connection: Upgrade", "Connection: keep-alive, upgrades"),
        edit(HANDSHAKE, "Connection: Upgrade", "Connection: close"),
        add(&edit(HANDSHAKE, "websocket", "h2c"), "Content-Length: 5"),
    ] {
        expect_refusal(&head, Refusal::ExpectedUpgrade);
    }
    let elsewhere = edit(HANDSHAKE, "/desktop/abc", "/nowhere");
    expect_refusal(&elsewhere, BadRequest::Path(PathFault::Unknown));
    expect_refusal(&edit(&elsewhere, "HTTP/1.1", "HTTP/1.0"), Refusal::NotFound(PathFault::Unknown));
}

#[test]
fn upgrade_and_connection_are_lists_over_several_fields_without_case() {
    let spaces = " \t".repeat(1500);
    let commas = " ,".repeat(3000);
    for (old, new) in [
        ("websocket", "WebSocket"),
        ("websocket", "h2c, WEBSOCKET"),
        ("websocket", "websocket,h2c"),
        ("websocket", "h2c\r\nUpgrade: websocket"),
        ("websocket", "\r\nUPGRADE:\t,websocket ,"),
        ("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ("Connection: Upgrade", "connection:upgrade"),
        ("Connection: Upgrade", "Connection: close\r\nCONNECTION: x,,\tuPGRADE\t, y"),
        ("websocket", &format!("a{spaces}b,{spaces}websocket{spaces},{spaces}c")),
        ("websocket", &format!("{commas}websocket{commas}")),
        ("Connection: Upgrade", &format!("Connection: {commas}{spaces}upgrade")),
    ] {
        expect_upgrade(&edit(HANDSHAKE, old, new));
    }
}

#[test]
fn other_methods_are_refused_before_the_target_is_checked() {
    for method in ["POST", "get", "Get", "head", "OPTIONS", "CONNECT", "PRI", "GETS", "G", "!#$"] {
        let session = Refusal::UpgradeMethod;
        let other = Refusal::MethodNotAllowed;
        for (target, refusal) in [("/health", other), ("/nowhere", other), ("*", other), ("relay:80", other)]
        {
            expect_refusal(&edit(PLAIN, "GET /health", &format!("{method} {target}")), refusal);
            let head = edit(HANDSHAKE, "GET /desktop/abc", &format!("{method} {target}"));
            expect_refusal(&head, refusal);
        }
        expect_refusal(&edit(HANDSHAKE, "GET", method), session);
        expect_refusal(&edit(PLAIN, "GET /health", &format!("{method} /mobile/a?b")), session);
    }
    for target in ["/desktop/abc", "/nowhere", "*"] {
        let head = edit(HANDSHAKE, "GET /desktop/abc", &format!("HEAD {target}"));
        expect_refusal(&head, Refusal::UpgradeMethod);
    }
    expect_refusal(&edit(PLAIN, "GET /health", "HEAD /nowhere"), Refusal::NotFound(PathFault::Unknown));
    expect_refusal(&edit(PLAIN, "GET /health", "HEAD *"), BadRequest::Target);
    expect_refusal(&edit(PLAIN, "GET /health", "POST /desktop/a.b"), Refusal::MethodNotAllowed);
}

#[test]
fn host_must_be_exactly_one_host_and_port() {
    for host in [
        "r",
        "relay",
        "RELAY.example.",
        "127.0.0.1:8787",
        "relay:",
        "relay:0",
        "relay:65535",
        "relay:00080",
        "[::1]",
        "[::1]:80",
        "[::ffff:1.2.3.4]:",
        "a_b-c~d",
        "a%20b",
        "%c3%A4:1",
        "a!$&'()*+,;=b",
        "\trelay \t",
        "1.2.3.4.5",
    ] {
        expect_upgrade(&edit(HANDSHAKE, "relay:8787", host));
        expect_verdict(&edit(PLAIN, "relay", host), &Verdict::Health { head_only: false });
    }
    for host in [
        "",
        " ",
        ":",
        ":80",
        "relay:x",
        "relay:+80",
        "relay:-1",
        "relay:65536",
        "relay:8 0",
        "a b",
        "relay:99999999999999999999999",
        "relay:80:80",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::g]",
        "[1.2.3.4]",
        "[::1]80",
        "[::1]x",
        "[::1]:x",
        "[v1.a]",
        "[fe80::1%lo",
        "[fe80%lo]",
        "[fe80::1%lo]x",
        "relay%lo]",
        "a@b",
        "a/b",
        "http://relay",
        "ä",
        "a%2",
        "a%",
        "a%g0",
        "a%0g",
        "a\"b",
        "a#b",
        "a?b",
        "a[b",
        "a\\b",
        "a, b",
    ] {
        for head in [HANDSHAKE, PLAIN] {
            let head = edit(head, "Host: relay", &format!("Host: {host}\r\nNot-Host: relay"));
            expect_refusal(&head, BadRequest::Host);
            expect_refusal(&edit(&head, "HTTP/1.1", "HTTP/1.0"), BadRequest::Host);
        }
    }
    for host in ["[fe80::1%eth0]:8787", "[fe80::1%25lo]", "[fe80::1%]:"] {
        expect_refusal(&edit(HANDSHAKE, "relay:8787", host), BadRequest::HostZone);
        expect_refusal(&edit(PLAIN, "relay", host), BadRequest::HostZone);
    }
    for head in [
        edit(PLAIN, "Host", "Hosts"),
        add(PLAIN, "Host: relay"),
        add(PLAIN, "host: other"),
        add(PLAIN, "HOST:"),
        edit(&add(PLAIN, "Host: relay"), "HTTP/1.1", "HTTP/1.0"),
        "GET /health HTTP/1.1\r\n\r\n".to_owned(),
        "GET http://relay/health HTTP/1.1\r\n\r\n".to_owned(),
        "GET /nowhere HTTP/1.1\r\n\r\n".to_owned(),
        "POST * HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
    ] {
        expect_refusal(&head, BadRequest::Host);
    }
}

#[test]
fn ambiguous_body_lengths_are_refused() {
    for lines in [
        "Content-Length:",
        "Content-Length: x",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 0x0",
        "Content-Length: 1 2",
        "Content-Length: 1.0",
        "Content-Length: 5,",
        "Content-Length: ,5",
        "Content-Length: 5, 6",
        "Content-Length: 0\r\ncontent-length: 1",
        "Content-Length: 18446744073709551616",
        "Content-Length: 5\r\nContent-Length: x",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\nContent-Length: 0",
    ] {
        expect_refusal(&add(PLAIN, lines), BadRequest::ContentLength);
        expect_refusal(&add(HANDSHAKE, lines), BadRequest::ContentLength);
        let post = edit(PLAIN, "GET /health", "POST *");
        expect_refusal(&add(&post, lines), BadRequest::ContentLength);
    }
    for lines in [
        "Content-Length: 0",
        "Content-Length: 000",
        "Content-Length: 0, 0,\t0",
        "Content-Length: 0\r\nContent-Length: 0",
    ] {
        expect_upgrade(&add(HANDSHAKE, lines));
    }
}

#[test]
fn an_upgrade_with_a_body_is_refused() {
    for lines in [
        "Content-Length: 1",
        "Content-Length: 18446744073709551615",
        "Content-Length: 7, 07",
        "Content-Length: 7\r\nContent-Length: 7",
        "Transfer-Encoding: chunked",
        "transfer-encoding: identity",
        "Transfer-Encoding:",
    ] {
        let head = add(HANDSHAKE, lines);
        expect_refusal(&head, BadRequest::Body);
        expect_refusal(&edit(&head, "Version: 13", "Version: 8"), BadRequest::Body);
        expect_refusal(&edit(&head, "/desktop/abc", "/nowhere"), BadRequest::Path(PathFault::Unknown));
    }
}

#[test]
fn the_version_must_be_given_once_and_be_13() {
    for line in [
        "",
        "Sec-WebSocket-Version:\r\n",
        "Sec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: 013\r\n",
        "Sec-WebSocket-Version: 13, 13\r\n",
        "Sec-WebSocket-Version: 13\r\nsec-websocket-version: 13\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: 1 3\r\n",
        "Sec-WebSocket-Version: 14\r\n",
    ] {
        let head = edit(HANDSHAKE, "Sec-WebSocket-Version: 13\r\n", line);
        expect_refusal(&head, Refusal::WebSocketVersion);
        expect_refusal(&edit(&head, "Key", "Cle"), Refusal::WebSocketVersion);
    }
    expect_upgrade(&edit(HANDSHAKE, "Sec-WebSocket-Version: 13", "SEC-WEBSOCKET-VERSION:13\t"));
}

#[test]
fn the_key_must_be_given_once_and_be_16_bytes_in_base64() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for value in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZSBub25jZQAA",
        "dGhlIHNhbXBsZSBub25jZ-==",
        "dGhlIHNhbXBsZSBub25jZQA==",
        "dGhlIHNhbXBsZSBub25j==",
        "dGhlIHNhb BsZSBub25jZQ==",
        "dGhlIHNhb_BsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "\"dGhlIHNhbXBsZSBub25jZQ==\"",
        "======================dG",
        "dGhlIHNhbXBsZSBub25jZä==",
    ] {
        expect_refusal(&edit(HANDSHAKE, key, value), BadRequest::WebSocketKey);
    }
    expect_refusal(&edit(HANDSHAKE, "Sec-WebSocket-Key", "X-Key"), BadRequest::WebSocketKey);
    let twice = add(HANDSHAKE, &format!("sec-websocket-key: {key}"));
    expect_refusal(&twice, BadRequest::WebSocketKey);
    let and_bad_protocol = add(&twice, "Sec-WebSocket-Protocol: \"");
    expect_refusal(&and_bad_protocol, BadRequest::WebSocketKey);
    expect_upgrade(&edit(HANDSHAKE, "Key: ", "Key:\t \t"));
    for value in ["++++++++++//////////AA==", "0123456789ABCDEFGHIJKw=="] {
        let (_, verdict) = feed_every_way(edit(HANDSHAKE, key, value).as_bytes());
        assert!(matches!(verdict, Some(Verdict::Upgrade(_))), "{value}: {verdict:?}");
    }
}

#[test]
fn the_first_subprotocol_offered_is_echoed() {
    for (lines, subprotocol) in [
        ("Sec-WebSocket-Protocol: chat", Some("chat")),
        ("Sec-WebSocket-Protocol: v2.Chat~x, \"bad\"", Some("v2.Chat~x")),
        ("sec-websocket-protocol: ,, ,\tb,a", Some("b")),
        ("Sec-WebSocket-Protocol:\r\nSec-WebSocket-Protocol: b\r\nSec-WebSocket-Protocol: a", Some("b")),
        ("Sec-WebSocket-Protocol:", None),
        ("Sec-WebSocket-Protocol: ,\t,", None),
        ("Sec-WebSocket-Extensions: permessage-deflate; x=\"y, z\"", None),
    ] {
        let head = add(HANDSHAKE, lines);
        expect_verdict(&head, &upgrade(ClientType::Desktop, "abc", subprotocol));
    }
    for value in ["a b", "\"a\"", "a;b", "a/b, chat", "ä", ", a=b, chat", "a\tb", "(a)"] {
        let head = add(HANDSHAKE, &format!("Sec-WebSocket-Protocol: {value}"));
        expect_refusal(&head, BadRequest::Subprotocol);
    }
}

#[test]
fn malformed_heads_are_refused_with_their_reason() {
    for (old, new, refusal) in [
        ("GET /health HTTP/1.1", "GET", BadRequest::RequestLine),
        ("GET /health HTTP/1.1", "GET /health", BadRequest::RequestLine),
        ("GET /health HTTP/1.1", "GET  HTTP/1.1", BadRequest::RequestLine),
        ("GET ", "GET  ", BadRequest::RequestLine),
        ("GET ", "GET\t", BadRequest::RequestLine),
        ("GET", "G(T", BadRequest::RequestLine),
        ("GET", "GÉT", BadRequest::RequestLine),
        ("/health", "/he\talth", BadRequest::RequestLine),
        ("/health", "/he\x7falth", BadRequest::RequestLine),
        ("/health", "/he\x01alth", BadRequest::RequestLine),
        ("HTTP/1.1", "HTTP/1.1 ", BadRequest::RequestLine),
        ("HTTP/1.1", " HTTP/1.1", BadRequest::HttpVersion),
        ("/health", "/he alth", BadRequest::HttpVersion),
        ("HTTP/1.1", "http/1.1", BadRequest::HttpVersion),
        ("HTTP/1.1", "HTTP/2.0", BadRequest::HttpVersion),
        ("HTTP/1.1", "HTTP/1.2", BadRequest::HttpVersion),
        ("HTTP/1.1", "HTTP/1.", BadRequest::HttpVersion),
        ("HTTP/1.1", "HTTP/1.10", BadRequest::RequestLine),
        ("HTTP/1.1", "HTTP/01.1", BadRequest::HttpVersion),
        ("Host: ", "Host : ", BadRequest::HeaderField),
        ("Host: ", "Host\t: ", BadRequest::HeaderField),
        ("Host: ", " Host: ", BadRequest::HeaderField),
        ("Host: ", ": ", BadRequest::HeaderField),
        ("Host: ", "Ho st: ", BadRequest::HeaderField),
        ("Host: ", "Höst: ", BadRequest::HeaderField),
        ("Host: ", "Host ", BadRequest::HeaderField),
        ("relay", "relay\r\n folded", BadRequest::HeaderField),
        ("relay", "relay\r\n\tfolded", BadRequest::HeaderField),
        ("relay", "relay\r\n ", BadRequest::HeaderField),
        ("relay", "re\x01lay", BadRequest::HeaderField),
        ("relay", "re\x7flay", BadRequest::HeaderField),
        ("relay", "re\x0clay", BadRequest::HeaderField),
    ] {
        expect_refusal(&edit(PLAIN, old, new), refusal);
    }
    expect_refusal("HEAD / HTTP/1.1\r\nHost : a\r\n\r\n", BadRequest::HeaderField);
    expect_refusal("PRI * HTTP/2.0\r\n\r\n", BadRequest::HttpVersion);
    expect_verdict(&add(PLAIN, "X: \u{e9}\u{ff}\t\"~"), &Verdict::Health { head_only: false });
    let invalid_utf8 = b"GET /\xff HTTP/1.1\r\nHost: relay\r\n\r\n";
    let refusal = BadRequest::RequestLine.into();
    let verdict = Verdict::Refuse { refusal, head_only: false };
    assert_eq!(feed_every_way(invalid_utf8), (invalid_utf8.len(), Some(verdict)));
}

#[test]
fn bytes_that_cannot_become_a_head_are_refused_at_the_first_byte_that_proves_it() {
    for (until_then, refusal) in [
        (&b"\x16"[..], BadRequest::NotHttp),
        (b"\n", BadRequest::LineEnding),
        (b"\0", BadRequest::LineEnding),
        (b" ", BadRequest::RequestLine),
        (b"/", BadRequest::RequestLine),
        (b"\x80", BadRequest::RequestLine),
        (b"\r\r", BadRequest::LineEnding),
        (b"\r\0", BadRequest::LineEnding),
        (b"\rG", BadRequest::LineEnding),
        (b"\r\n\n", BadRequest::LineEnding),
        (b"\r\n\r", BadRequest::RequestLine),
        (b"\r\n ", BadRequest::RequestLine),
        (b"\r\n\x16", BadRequest::RequestLine),
        (b"GET\n", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\n", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\nHost: a\n", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\nA: \0", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\n\0", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\0", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\r", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r ", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\nA: b\rc", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\r", BadRequest::LineEnding),
        (b"GET / HTTP/1.1\r\nA: b\r\n\rX", BadRequest::LineEnding),
        (b"HEAD / HTTP/1.1\n", BadRequest::LineEnding),
    ] {
        let head_only = until_then.starts_with(b"HEAD ");
        let verdict = Verdict::Refuse { refusal: refusal.into(), head_only };
        assert_eq!(feed_every_way(until_then), (until_then.len(), Some(verdict)));
        let (_, before) = until_then.split_last().expect("no row is empty");
        assert_eq!(feed_every_way(before), (before.len(), None), "{}", before.escape_ascii());
    }
}

#[test]
fn one_empty_line_before_the_request_is_skipped() {
    expect_upgrade(&format!("\r\n{HANDSHAKE}"));
    let head = format!("\r\n{}", edit(PLAIN, "GET", "HEAD"));
    expect_verdict(&head, &Verdict::Health { head_only: true });
    expect_upgrade(&format!("\r\n{}", pad(HANDSHAKE, HEAD_BYTES_MAX - 2)));
    let head = format!("\r\n{}", pad(HANDSHAKE, HEAD_BYTES_MAX - 1));
    let verdict = Verdict::Refuse { refusal: Refusal::HeadTooLarge, head_only: false };
    assert_eq!(feed_every_way(head.as_bytes()), (HEAD_BYTES_MAX + 1, Some(verdict)));
}

#[test]
fn a_head_of_16_kib_is_accepted_and_one_byte_more_is_too_large() {
    expect_upgrade(&pad(HANDSHAKE, HEAD_BYTES_MAX));
    let head_only = false;
    let verdict = || Verdict::Refuse { refusal: Refusal::HeadTooLarge, head_only };
    let too_large = HEAD_BYTES_MAX + 1;
    for head in [pad(HANDSHAKE, too_large), pad(HANDSHAKE, HEAD_BYTES_MAX + 20), "G".repeat(too_large)] {
        assert_eq!(feed_every_way(head.as_bytes()), (too_large, Some(verdict())));
    }
    let unfinished = "G".repeat(HEAD_BYTES_MAX);
    assert_eq!(feed_every_way(unfinished.as_bytes()), (HEAD_BYTES_MAX, None));
    let head = pad(&edit(PLAIN, "GET /health", "HEAD /"), too_large);
    let verdict = Verdict::Refuse { refusal: Refusal::HeadTooLarge, head_only: true };
    assert_eq!(feed_every_way(head.as_bytes()), (too_large, Some(verdict)));
}

#[test]
fn a_hundred_fields_are_accepted_and_one_more_is_too_many() {
    let own = HANDSHAKE.lines().count() - 2;
    let filler = |count| vec!["X-Filler: x"; count].join("\r\n");
    expect_upgrade(&add(HANDSHAKE, &filler(HEAD_FIELDS_MAX - own)));
    let head = add(HANDSHAKE, &filler(HEAD_FIELDS_MAX + 1 - own));
    expect_refusal(&head, Refusal::TooManyFields);
    expect_refusal(&edit(&head, "Host: relay:8787", "Host:"), Refusal::TooManyFields);
    expect_refusal(&edit(&head, "GET", "HEAD"), Refusal::TooManyFields);
}

#[test]
fn nothing_is_allocated_before_the_first_byte_and_the_reader_starts_over_after_a_verdict() {
    let mut reader = HeadReader::default();
    for _ in 0..2 {
        assert_eq!(reader.push(b"", HeadRules::default()), HeadProgress::NeedMore);
        assert_eq!(reader.kept_bytes(), 0);
        assert_eq!(reader.push(b"GET /health HTTP/1.0\r\n\r", HeadRules::default()), HeadProgress::NeedMore);
        let verdict = Verdict::Health { head_only: false };
        assert_eq!(
            reader.push(b"\n\n", HeadRules::default()),
            HeadProgress::Done { consumed: 1, client: None, origin: None, verdict }
        );
    }
}

/// Where the head ends or is spoilt. Examines the whole head again for every byte.
fn slow_end(input: &[u8]) -> Option<usize> {
    let token_bytes = b"!#$%&'*+-.^_`|~0123456789\
        ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (1..=input.len()).find(|&length| {
        let head = input.get(..length).unwrap_or_default();
        let mut pairs = head.windows(2);
        let is_begun = |head: &[u8]| head.first().is_none_or(|byte| token_bytes.contains(byte));
        let request = head.strip_prefix(b"\r\n").unwrap_or(head);
        (!is_begun(request) && head != b"\r")
            || head.ends_with(b"\r\n\r\n")
            || head.contains(&0)
            || pairs.any(|pair| matches!(pair, [a, b] if (*a == b'\r') != (*b == b'\n')))
    })
}

#[test]
fn damaged_heads_end_where_the_slow_twin_says_and_upgrades_have_all_required_parts() {
    let seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut state = seed;
    let mut random = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % bound
    };
    let splices: [&[u8]; 12] =
        [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b",", b":", b"Host: a\r\n", b"\xff", b"", b"a"];
    let (mut upgrades, mut refusals) = (0, 0);
    for round in 0..3000 {
        let mut head = HANDSHAKE.as_bytes().to_vec();
        for _ in 0..random(3) {
            let start = random(head.len());
            let end = (start + random(3)).min(head.len());
            let splice = splices.get(random(splices.len())).copied().unwrap_or_default();
            head.splice(start..end, splice.iter().copied());
        }
        let context = format!("seed {seed}, round {round}: {}", head.escape_ascii());
        let (consumed, verdict) = feed([head.as_slice()]);
        assert_eq!(feed(head.chunks(1)), feed([head.as_slice()]), "{context}");
        assert_eq!(feed(head.chunks(1 + random(40))), feed([head.as_slice()]), "{context}");
        assert_eq!(verdict.as_ref().map(|_| consumed), slow_end(&head), "{context}");
        match verdict {
            Some(Verdict::Upgrade(_)) => {
                upgrades += 1;
                let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
                for part in ["get ", "host:", "upgrade:", "websocket", "13", "=="] {
                    assert!(text.contains(part), "{context}");
                }
            }
            Some(Verdict::Refuse { .. }) => refusals += 1,
            Some(
                Verdict::Health { .. } | Verdict::Issue(_) | Verdict::Preflight { .. } | Verdict::Nothing,
            )
            | None => {}
        }
    }
    assert!(upgrades > 500 && refusals > 500, "{upgrades} upgrades, {refusals} refusals");
}

fn refusal_bytes(refusal: Refusal, head_only: bool) -> String {
    let mut out = Vec::new();
    write_refusal(refusal, AnswerForm { head_only, ..AnswerForm::default() }, &mut out);
    String::from_utf8(out).expect("answers are ASCII")
}

#[test]
fn an_accepted_handshake_gets_exactly_these_bytes() {
    let accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for (head, answer) in [
        (HANDSHAKE.to_owned(), accepted.to_owned()),
        (add(HANDSHAKE, "Sec-WebSocket-Protocol: chat, b"), add(accepted, "Sec-WebSocket-Protocol: chat")),
    ] {
        let (_, verdict) = feed([head.as_bytes()]);
        let mut out = Vec::new();
        if let Some(Verdict::Upgrade(upgrade)) = verdict {
            write_switching_protocols(&upgrade, &mut out);
        }
        assert_eq!(String::from_utf8_lossy(&out), answer);
    }
}

#[test]
fn health_gets_exactly_these_bytes() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
        Content-Length: 7\r\nConnection: close\r\n\r\n";
    for (head_only, answer) in [(false, format!("{head}{{\"a\":1}}")), (true, head.to_owned())] {
        let mut out = Vec::new();
        write_health("{\"a\":1}", AnswerForm { head_only, ..AnswerForm::default() }, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), answer);
    }
}

#[test]
fn each_refusal_gets_exactly_these_bytes() {
    const REST: &str = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: ";
    for (refusal, status, headers, length, sentence) in [
        (
            BadRequest::Path(PathFault::Unknown).into(),
            "400 Bad Request",
            "",
            97,
            "Invalid path. Use /desktop/{sessionId} or /mobile/{sessionId}; this path begins with none of them",
        ),
        (
            Refusal::NotFound(PathFault::Unknown),
            "404 Not Found",
            "",
            103,
            "Not found: use /health, /desktop/{sessionId} or /mobile/{sessionId}; this path begins with none of them",
        ),
        (Refusal::MethodNotAllowed, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", 15, "Use GET or HEAD"),
        (
            Refusal::UpgradeMethod,
            "405 Method Not Allowed",
            "Allow: GET\r\n",
            31,
            "Use GET for a WebSocket upgrade",
        ),
        (
            Refusal::HeadTimeout,
            "408 Request Timeout",
            "",
            58,
            "Send the whole request head without delay after connecting",
        ),
        (
            Refusal::ExpectedUpgrade,
            "426 Upgrade Required",
            "Upgrade: websocket\r\n",
            26,
            "Expected WebSocket upgrade",
        ),
        (
            Refusal::WebSocketVersion,
            "426 Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            64,
            "Send exactly one Sec-WebSocket-Version header, with the value 13",
        ),
        (
            Refusal::HeadTooLarge,
            "431 Request Header Fields Too Large",
            "",
            42,
            "Send a request head of at most 16384 bytes",
        ),
        (
            Refusal::TooManyFields,
            "431 Request Header Fields Too Large",
            "",
            30,
            "Send at most 100 header fields",
        ),
        (
            Refusal::IssueMethod,
            "405 Method Not Allowed",
            "Allow: POST\r\n",
            33,
            "Use POST to have a session issued",
        ),
        (
            Refusal::AddressLimit { retry_after: 90 },
            "429 Too Many Requests",
            "Retry-After: 90\r\n",
            57,
            "Too much comes from this address: try again in 90 seconds",
        ),
        (
            Refusal::ApiKey,
            "401 Unauthorized",
            "WWW-Authenticate: Bearer\r\n",
            69,
            "Bring an API key of this relay: as a Bearer token or as a subprotocol",
        ),
        (
            Refusal::Secret,
            "403 Forbidden",
            "",
            86,
            "Bring the session's pairing secret: as ?secret=, as a Bearer token or as a subprotocol",
        ),
        (
            Refusal::ConnectionLimit,
            "503 Service Unavailable",
            "Retry-After: 5\r\n",
            42,
            "This relay is full: try again in 5 seconds",
        ),
    ] {
        let also = if status.starts_with("426") { "upgrade, " } else { "" };
        let head = format!("HTTP/1.1 {status}\r\n{headers}{REST}{length}\r\nConnection: {also}close\r\n\r\n");
        assert_eq!(refusal_bytes(refusal, true), head);
        assert_eq!(refusal_bytes(refusal, false), format!("{head}{sentence}"));
    }
}

#[test]
fn each_refusal_is_a_well_formed_answer_with_a_sentence_of_its_own_that_closes() {
    for (index, refusal) in ALL_REFUSALS.into_iter().enumerate() {
        let text = refusal_bytes(refusal, false);
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(text.as_bytes()).expect("answers are well-formed");
        assert!(parsed.is_complete(), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("answers have a head");
        assert_eq!(refusal_bytes(refusal, true), format!("{head}\r\n\r\n"));
        assert_eq!(response.code, Some(refusal.answer().status), "{text}");
        let fields = &*response.headers;
        assert!(elements(fields, "connection").any(|element| element == b"close"), "{text}");
        let is_upgrade_named = elements(fields, "connection").any(|element| element == b"upgrade");
        assert_eq!(is_upgrade_named, only_value(fields, "upgrade").is_some(), "{text}");
        let length = body.len().to_string();
        assert_eq!(only_value(fields, "content-length"), Some(length.as_bytes()), "{text}");
        assert!(!body.is_empty() && !body.contains(['\r', '\n']) && !body.ends_with('.'), "{text}");
        let later = ALL_REFUSALS.iter().skip(index + 1);
        for other in later {
            assert_ne!(refusal.answer().sentence, other.answer().sentence);
        }
    }
}
