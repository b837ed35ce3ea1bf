//! Section 1: the upgrade to a WebSocket.

use std::io::Write;

use crate::answer::{ACCEPT, Answer, KEY, assert_status, assert_statuses, plain_request, upgrade_request};
use crate::client::{Client, Received};
use crate::frame::{PING, TEXT, frame};
use crate::harness::Relay;

/// The upgrade of `/desktop/abc` with `line` replaced by `replacement`, or removed if that is empty.
fn upgrade_with(line: &str, replacement: &str) -> String {
    let request = upgrade_request("/desktop/abc");
    let ending = if replacement.is_empty() { "" } else { "\r\n" };
    assert!(request.contains(&format!("{line}\r\n")));
    request.replace(&format!("{line}\r\n"), &format!("{replacement}{ending}"))
}

fn key_line() -> String {
    format!("Sec-WebSocket-Key: {KEY}")
}

fn assert_upgraded(relay: &Relay, request: &str) -> Answer {
    let (answer, _client) = Client::handshake(relay.tcp(), request.as_bytes());
    assert_eq!(answer.status, 101, "{request}{answer:?}");
    answer
}

#[test]
fn upgrade_to_a_session_path_is_accepted_with_the_right_key() {
    let relay = Relay::start(&[]);
    for path in ["/desktop/abc", "/mobile/abc"] {
        let answer = assert_upgraded(&relay, &upgrade_request(path));
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        assert!(answer.header("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
        assert!(answer.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
        assert_eq!(answer.header("sec-websocket-protocol"), None);
        assert_eq!(answer.header("sec-websocket-extensions"), None);
    }
}

#[test]
fn other_websocket_version_is_answered_with_the_right_one() {
    let relay = Relay::start(&[]);
    for version in ["", "12", "8", "0", "130", "013", "x"] {
        let line = format!("Sec-WebSocket-Version: {version}");
        let line = if version.is_empty() { "" } else { &line };
        let request = upgrade_with("Sec-WebSocket-Version: 13", line);
        for answer in assert_status(&relay, request.as_bytes(), 426) {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{request}");
        }
    }
}

#[test]
fn missing_or_malformed_key_is_a_bad_request() {
    let keys = [
        String::new(),
        "Sec-WebSocket-Key:".to_owned(),
        "Sec-WebSocket-Key: not base64 at all!!!!".to_owned(),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA".to_owned(),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        format!("{}\r\n{}", key_line(), key_line()),
    ];
    assert_statuses(&keys.map(|key| (upgrade_with(&key_line(), &key), 400)));
}

#[test]
fn missing_repeated_or_malformed_host_is_a_bad_request() {
    let plain = plain_request("GET", "/health");
    assert_statuses(&[
        (upgrade_with("Host: relay", ""), 400),
        (upgrade_with("Host: relay", "Host: relay\r\nHost: relay"), 400),
        (upgrade_with("Host: relay", "Host: re lay"), 400),
        (plain.replace("Host: relay\r\n", ""), 400),
        (plain.replace("Host: relay", "Host: one\r\nHost: two"), 400),
        (plain.replace("relay", "re/lay"), 400),
    ]);
}

#[test]
fn upgrade_with_a_body_is_a_bad_request() {
    let version = "Sec-WebSocket-Version: 13";
    let with = |field: &str| upgrade_with(version, &format!("{version}\r\n{field}"));
    assert_statuses(&[
        (with("Content-Length: 5"), 400),
        (with("Content-Length: 00005"), 400),
        (with("Transfer-Encoding: chunked"), 400),
        (with("Content-Length: 0\r\nContent-Length: 5"), 400),
    ]);
    assert_upgraded(&Relay::start(&[]), &with("Content-Length: 0"));
}

#[test]
fn session_id_is_case_sensitive_and_may_use_every_allowed_character() {
    let relay = Relay::start(&[]);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    for session in [&alphabet.repeat(2), "a", "-", "_"] {
        let _pair = relay.pair(session);
    }
    let mut lower = relay.join("desktop", "abc");
    let mut upper = relay.join("mobile", "ABC");
    upper.expect_quiet();
    lower.expect_quiet();
}

#[test]
fn query_string_is_not_part_of_the_session_id() {
    let relay = Relay::start(&[]);
    let mut desktop = Client::upgrade(relay.tcp(), "/desktop/abc?token=a/b%20c");
    desktop.expect_connected("desktop", "abc");
    let mut mobile = Client::upgrade(relay.tcp(), "/mobile/abc?");
    mobile.expect_connected("mobile", "abc");
    mobile.expect_notice("desktop_connected");
}

#[test]
fn upgrade_and_connection_are_case_insensitive_lists() {
    let relay = Relay::start(&[]);
    let upgrades = [
        ("Upgrade: websocket", "upgrade: WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c, WEBSOCKET"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
        ("Connection: Upgrade", "connection: keep-alive, uPGRADE"),
        ("Connection: Upgrade", "Connection: keep-alive ,Upgrade,"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
    ];
    for (line, replacement) in upgrades {
        assert_upgraded(&relay, &upgrade_with(line, replacement));
    }
    let no_upgrades = [
        ("Upgrade: websocket", "Upgrade: websockets"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", ""),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Connection: Upgrade", "Connection: upgraded, not-upgrade"),
        ("Connection: Upgrade", ""),
    ];
    for (line, replacement) in no_upgrades {
        let request = upgrade_with(line, replacement);
        for answer in assert_status(&relay, request.as_bytes(), 426) {
            assert_eq!(answer.body.trim_end(), "Expected WebSocket upgrade");
        }
    }
}

#[test]
fn bytes_right_after_the_head_belong_to_the_websocket() {
    let relay = Relay::start(&[]);
    let mut mobile = relay.join("mobile", "abc");
    let head = upgrade_request("/desktop/abc");
    let opening = [head.as_bytes(), &frame(TEXT, b"{}"), &frame(PING, b"?")].concat();

    for is_slow in [false, true] {
        let mut stream = relay.tcp();
        let mut last = &opening[..];
        if is_slow {
            let all_but_last = opening.len() - 1;
            opening[..all_but_last].iter().for_each(|&byte| stream.write_all(&[byte]).unwrap());
            last = &opening[all_but_last..];
        }
        let (answer, mut desktop) = Client::handshake(stream, last);
        assert_eq!(answer.status, 101);
        desktop.expect_connected("desktop", "abc");
        desktop.expect_notice("mobile_connected");
        desktop.expect(&Received::Pong(b"?".to_vec()));
        mobile.expect_notice("desktop_connected");
        mobile.expect_text("{}");
        desktop.leave();
        mobile.expect_notice("desktop_disconnected");
    }
}

#[test]
fn first_subprotocol_offered_is_echoed() {
    let relay = Relay::start(&[]);
    let rows = [
        ("Sec-WebSocket-Protocol: apptuner", "apptuner"),
        ("Sec-WebSocket-Protocol: b.v2, a", "b.v2"),
        ("Sec-WebSocket-Protocol:b ,a", "b"),
        ("Sec-WebSocket-Protocol: z\r\nSec-WebSocket-Protocol: a", "z"),
    ];
    for (field, echoed) in rows {
        let answer =
            assert_upgraded(&relay, &upgrade_with("Host: relay", &format!("Host: relay\r\n{field}")));
        assert_eq!(answer.header("sec-websocket-protocol"), Some(echoed), "{field}");
    }
}

#[test]
fn no_extension_is_negotiated() {
    let relay = Relay::start(&[]);
    let offer = "Host: relay\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let answer = assert_upgraded(&relay, &upgrade_with("Host: relay", offer));
    assert_eq!(answer.header("sec-websocket-extensions"), None);
}
