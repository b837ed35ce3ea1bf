//! Attacks on the log: forged lines, and contents that must not be logged.

use std::io::Write;

use crate::answer::{Answer, assert_status, upgrade_request};
use crate::client::{Client, Received};
use crate::frame::{BINARY, CLOSE, CONTINUES, ENDS, PING, PONG, TEXT, TEXT_BEGINS, close_payload, frame};
use crate::harness::Relay;

/// A text that must not be logged in any form.
const SECRET: &str = "hunter2";
/// Without escaping, each would be a line of its own, move the cursor, or be text that reads backwards.
const FORGERIES: [&str; 12] = [
    "\n[2026-01-01T00:00:00.000Z INFO  apptuner_relay] Desktop connected to session forged",
    "\r[2026-01-01T00:00:00.000Z INFO  apptuner_relay] Desktop connected to session forged",
    "\u{1b}[2J\u{1b}[1;31mforged",
    "\u{9b}2Jforged",
    "\u{1b}]0;forged\u{7}",
    "\u{85}forged",
    "\u{2028}forged",
    "\u{2029}forged",
    "\u{202e}degrof",
    "\u{b}\u{c}\u{8}\u{7f}forged",
    "\u{feff}\u{200b}\u{e0001}forged",
    "\\\n\" session=other forged",
];

fn noisy_relay(level: &str) -> Relay {
    Relay::start_with(&["--shutdown-grace", "1ms"], &[("RUST_LOG", level)])
}

/// Stops the relay and returns all that it has logged.
fn whole_log(mut relay: Relay) -> Vec<String> {
    assert_eq!(relay.stop(), Some(0));
    relay.wait_for_log_ending("Stopped");
    relay.log_lines()
}

/// Requires that the relay wrote every line itself: a time, a level and printable ASCII.
fn assert_unforged(log: &[String]) {
    for line in log {
        assert!(line.starts_with("[20"), "{line:?}");
        let is_printable = line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        assert!(is_printable, "{line:?}");
    }
}

/// The bytes of a text in hexadecimal, with `before` in front of each.
fn in_hexadecimal(before: &str, text: &str) -> String {
    text.bytes().fold(String::new(), |written, byte| format!("{written}{before}{byte:02x}"))
}

/// CVE-2009-4487 (nginx), CVE-2022-30123 and CVE-2025-25184 (Rack: escape sequences and whole lines in the log) and
/// augustd/owasp-security-logging#59 (there are more than two line separators).
#[test]
fn types_and_close_reasons_forge_nothing() {
    for level in ["info", "debug", "trace"] {
        let relay = noisy_relay(level);
        let (mut desktop, mut mobile) = relay.pair("abc");
        for forgery in FORGERIES {
            let quoted = serde_json::to_string(forgery).unwrap();
            // Unescaped where JSON allows it, and escaped.
            for quoted in [quoted.clone(), quoted.replace("forged", "\\u0066orged")] {
                let text = format!("{{\"type\":{quoted}}}");
                desktop.send_text(&text);
                mobile.expect_text(&text);
            }
            let mut other = relay.join("mobile", "other");
            let reason: String = forgery.chars().take(40).collect();
            other.send_close(4000, &reason);
            other.expect(&Received::Close(4000, reason));
        }
        assert_unforged(&whole_log(relay));
    }
}

/// The same for request heads. Of these only the session ID is logged.
#[test]
fn request_heads_forge_nothing() {
    for level in ["info", "debug", "trace"] {
        let relay = noisy_relay(level);
        for forgery in FORGERIES {
            let percent = in_hexadecimal("%", forgery);
            let targets =
                [format!("/desktop/{forgery}"), format!("/desktop/{percent}"), format!("/{percent}")];
            for target in targets {
                assert_status(&relay, upgrade_request(&target).as_bytes(), 400);
            }
            let with_query = upgrade_request(&format!("/desktop/abc?{percent}"));
            let (answer, _client) = Client::handshake(relay.tcp(), with_query.as_bytes());
            assert_eq!(answer.status, 101);
            for field in ["User-Agent", "X-Forwarded-For", "Sec-WebSocket-Protocol", "Origin"] {
                let lines = format!("Host: relay\r\n{field}: {forgery}");
                let request = upgrade_request("/desktop/abc").replace("Host: relay", &lines);
                let mut stream = relay.tcp();
                stream.write_all(request.as_bytes()).unwrap();
                // Some texts are allowed in a header field and some are not. None of them may end the relay.
                stream.write_all(b"\r\n\r\n").unwrap();
            }
        }
        assert_eq!(Answer::to(relay.tcp(), "GET /health HTTP/1.0\r\n\r\n").status, 200);
        assert_unforged(&whole_log(relay));
    }
}

/// Rack's CVEs again, for length: clients do not decide how long a line is.
#[test]
fn session_ids_and_types_are_cut_to_64_characters() {
    let relay = noisy_relay("trace");
    let session = "s".repeat(128);
    let (mut desktop, mut mobile) = relay.pair(&session);
    for part in ["t", "\n", "\u{1b}", "\u{1f600}", "\\"] {
        let text = serde_json::json!({ "type": part.repeat(100_000) }).to_string();
        desktop.send_text(&text);
        mobile.expect_text(&text);
    }
    mobile.leave();
    relay.wait_for_log_ending(&format!("Message from desktop: {}", "t".repeat(64)));
    let log = whole_log(relay);
    assert_unforged(&log);
    for line in log {
        assert!(line.len() < 400, "{line}");
        assert!(!line.contains(&"s".repeat(65)) && !line.contains(&"t".repeat(65)), "{line}");
    }
}

/// cloudflare/moltworker#117, ansible/ansible-rulebook#694 and jundot/omlx#931 (frames, heads and bodies are logged at
/// verbose levels).
#[test]
fn neither_payload_nor_secret_is_logged_at_any_level() {
    for level in ["debug", "trace", "trace,tungstenite=trace,mio=trace,httparse=trace"] {
        let relay = noisy_relay(level);
        let mut mobile = relay.join("mobile", "abc");
        let lines = format!(
            "Host: relay\r\nAuthorization: Bearer {SECRET}\r\nCookie: id={SECRET}\r\nOrigin: http://{SECRET}\r\n\
             Sec-WebSocket-Protocol: {SECRET}\r\nX-{SECRET}: y"
        );
        let head = upgrade_request(&format!("/desktop/abc?token={SECRET}")).replace("Host: relay", &lines);
        let (_, mut desktop) = Client::handshake(relay.tcp(), head.as_bytes());
        desktop.expect_connected("desktop", "abc");
        let json = format!("{{\"type\":\"x\",\"password\":\"{SECRET}\"}}");
        let sent = [
            frame(TEXT, json.as_bytes()),
            frame(TEXT, format!("{{\"{SECRET}\" nonsense").as_bytes()),
            frame(BINARY, SECRET.repeat(10_000).as_bytes()),
            frame(TEXT_BEGINS, b"\""),
            frame(CONTINUES, SECRET.as_bytes()),
            frame(PING, SECRET.as_bytes()),
            frame(PONG, SECRET.as_bytes()),
            frame(ENDS, b"\""),
            frame(CLOSE, &close_payload(4000, SECRET)),
        ];
        desktop.send_raw(&sent.concat());
        while mobile.receive() != Received::Binary(SECRET.repeat(10_000).into_bytes()) {}
        let broken = format!("GET /{SECRET} HTTP/1.1\r\nHost: {SECRET}\r\n{SECRET}\r\n\r\n");
        assert_status(&relay, broken.as_bytes(), 400);
        mobile.send_raw(&[&[0xFF], SECRET.as_bytes()].concat());
        relay.wait_for_log_ending("Desktop disconnected from session abc: 4000");
        relay.wait_for_log_ending("Mobile disconnected from session abc: 1002");

        let hex = in_hexadecimal("", SECRET);
        let decimal = format!("{:?}", SECRET.as_bytes());
        let forms = [SECRET, &hex, decimal.trim_matches(['[', ']'])];
        for line in whole_log(relay) {
            assert!(!forms.iter().any(|form| line.contains(form)), "{level}: {line}");
        }
    }
}
