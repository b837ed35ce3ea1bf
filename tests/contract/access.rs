//! Access in both directions: which clients may connect, which are refused, and how.
//!
//! The loopback interface is exempt from the limits per address. Where a test needs another address, the relay trusts
//! a proxy on loopback, and the test acts as that proxy.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::answer::{Answer, assert_status, plain_request, upgrade_request};
use crate::client::{Client, assert_is_soon};
use crate::harness::{Ended, Relay, relay_command, run_to_end};
use crate::stream::Stream;

const SECRET: &str = "correct-horse-battery-staple";
const WRONG: &str = "correct-horse-battery-stapel";
/// The secret in base64url, as a subprotocol.
const SUBPROTOCOL: &str = "apptuner.secret.Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ";
const KEY: &str = "0123456789abcdef-of-alice";
const PROXY: &[&str] = &["--trust-proxy", "127.0.0.1"];

/// A file that is removed at the end of the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("apptuner-relay-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // The test may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

/// A request with more header lines.
fn with_lines(request: &str, lines: &[&str]) -> String {
    let lines = [&[""], lines, &["", ""]].concat().join("\r\n");
    request.replacen("\r\n\r\n", &lines, 1)
}

fn upgrade_with(target: &str, lines: &[&str]) -> String {
    with_lines(&upgrade_request(target), lines)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The status of the answer to a handshake, and the client if it was accepted.
fn handshake(relay: &Relay, request: &str) -> (u16, Option<Client>) {
    let (answer, client) = Client::handshake(relay.tcp(), request.as_bytes());
    (answer.status, (answer.status == 101).then_some(client))
}

#[track_caller]
fn expect_join(relay: &Relay, target: &str, lines: &[&str]) -> Client {
    let (status, client) = handshake(relay, &upgrade_with(target, lines));
    client.unwrap_or_else(|| panic!("{target}, {lines:?}: {status}"))
}

#[track_caller]
fn expect_refusal(relay: &Relay, target: &str, lines: &[&str], status: u16) {
    for answer in assert_status(relay, upgrade_with(target, lines).as_bytes(), status) {
        assert!(!answer.body.contains(SECRET) && !answer.body.contains(WRONG), "{answer:?}");
    }
}

fn issue(relay: &Relay, lines: &[&str]) -> Answer {
    Answer::to(relay.tcp(), &with_lines(&plain_request("POST", "/sessions"), lines))
}

#[test]
fn claimed_session_is_joined_only_with_its_secret_sent_in_any_way() {
    let relay = Relay::start(&[]);
    let path = |client_type: &str, secret: &str| format!("/{client_type}/abc?secret={secret}");
    let mut desktop = expect_join(&relay, &path("desktop", SECRET), &[]);
    desktop.expect_connected("desktop", "abc");
    expect_refusal(&relay, "/mobile/abc", &[], 403);
    expect_refusal(&relay, "/desktop/abc", &[], 403);
    expect_refusal(&relay, &path("mobile", WRONG), &[], 403);
    expect_refusal(&relay, &path("desktop", WRONG), &[], 403);
    expect_refusal(&relay, "/mobile/abc", &[&bearer(WRONG)], 403);
    let protocols = format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}, apptuner");
    let mut mobiles = Vec::new();
    for lines in [&[bearer(SECRET)][..], &[protocols]] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut mobile = expect_join(&relay, "/mobile/abc", &lines);
        mobile.expect_connected("mobile", "abc");
        mobile.expect_notice("desktop_connected");
        desktop.expect_notice("mobile_connected");
        mobiles.push(mobile);
    }
    let escaped = path("desktop", "correct%2Dhorse-battery-st%61ple");
    let mut again = expect_join(&relay, &escaped, &[]);
    again.expect_connected("desktop", "abc");
    desktop.expect_close(1000, "New desktop connection");
}

#[test]
fn no_answer_has_a_secret_and_browsers_get_another_subprotocol_back() {
    let relay = Relay::start(&[]);
    for (offered, echoed) in [
        (format!("{SUBPROTOCOL}, apptuner"), Some("apptuner")),
        (format!("apptuner, {SUBPROTOCOL}"), Some("apptuner")),
        (SUBPROTOCOL.to_owned(), None),
    ] {
        let request = upgrade_with("/mobile/abc", &[&format!("Sec-WebSocket-Protocol: {offered}")]);
        let (answer, _client) = Client::handshake(relay.tcp(), request.as_bytes());
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, echoed), "{offered}");
    }
}

#[test]
fn without_secrets_sessions_work_as_before() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let mut again = relay.join("mobile", "abc");
    mobile.expect_close(1000, "New mobile connection");
    desktop.expect_notice("mobile_connected");
    again.expect_notice("desktop_connected");
    desktop.send_text("1");
    again.expect_text("1");
}

#[test]
fn secrets_of_wrong_length_or_encoding_are_refused_and_claim_nothing() {
    let relay = Relay::start(&[]);
    for target in ["/desktop/abc?secret=short", "/desktop/abc?secret=", "/desktop/abc?secret=correct-horse%2"]
    {
        expect_refusal(&relay, target, &[], 400);
    }
    expect_refusal(&relay, &format!("/desktop/abc?secret={}", "x".repeat(257)), &[], 400);
    expect_refusal(&relay, "/desktop/abc", &["Sec-WebSocket-Protocol: apptuner.secret.not!base64"], 400);
    let _for_a_proxy = expect_join(&relay, "/desktop/abc", &[&bearer("short")]);
    relay.join("mobile", "abc");
}

#[test]
fn with_require_secret_every_client_needs_a_secret() {
    let relay = Relay::start(&["--require-secret"]);
    expect_refusal(&relay, "/desktop/abc", &[], 403);
    expect_refusal(&relay, "/mobile/abc", &[], 403);
    expect_join(&relay, &format!("/desktop/abc?secret={SECRET}"), &[]);
    expect_join(&relay, &format!("/mobile/abc?secret={SECRET}"), &[]);
}

#[test]
fn issued_session_has_a_secret_and_two_working_paths() {
    let relay = Relay::start(&[]);
    let answer = issue(&relay, &[]);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let issued: Value = serde_json::from_str(&answer.body).unwrap();
    let text = |name: &str| issued[name].as_str().unwrap().to_owned();
    assert_is_soon(&issued["expiresAt"], 5 * 60 * 1000);
    let session = text("sessionId");
    expect_refusal(&relay, &format!("/mobile/{session}"), &[], 403);
    let mut desktop = expect_join(&relay, &text("desktopUrl"), &[]);
    desktop.expect_connected("desktop", &session);
    let mut mobile = expect_join(&relay, &text("mobileUrl"), &[]);
    mobile.expect_connected("mobile", &session);
    mobile.expect_notice("desktop_connected");
    let other: Value = serde_json::from_str(&issue(&relay, &["Content-Length: 0"]).body).unwrap();
    assert_ne!((&other["sessionId"], &other["secret"]), (&issued["sessionId"], &issued["secret"]));
    for method in ["GET", "PUT", "DELETE"] {
        let answer = Answer::to(relay.tcp(), &plain_request(method, "/sessions"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
}

#[test]
fn with_api_keys_a_key_is_needed_to_begin_a_session_but_not_to_join_it() {
    let keys = File::new("keys", &format!("# ours\nalice {KEY}\n"));
    let relay = Relay::start(&["--api-keys", keys.path()]);
    let answer = issue(&relay, &[]);
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(issue(&relay, &[&bearer("0123456789abcdef-of-bob")]).status, 401);
    let issued: Value = serde_json::from_str(&issue(&relay, &[&bearer(KEY)]).body).unwrap();
    let path = |name: &str| issued[name].as_str().unwrap();
    expect_join(&relay, path("mobileUrl"), &[]);
    expect_join(&relay, path("desktopUrl"), &[]);

    expect_refusal(&relay, "/desktop/abc", &[], 401);
    expect_refusal(&relay, "/mobile/abc", &[], 403);
    let _desktop = expect_join(&relay, "/desktop/abc", &[&bearer(KEY)]);
    let _mobile = expect_join(&relay, "/mobile/abc", &[]);
    relay.wait_for_log_ending("API key accepted");
    let lines = relay.log_lines().join("\n");
    assert!(lines.contains("key=alice ") && !lines.contains(KEY), "the name and never the key: {lines}");
}

#[test]
fn files_are_read_again_on_sighup_and_bad_ones_change_nothing() {
    let keys = File::new("keys-again", &format!("alice {KEY}\n"));
    let rules = File::new("rules-again", "deny 192.0.2.0/24\n");
    let flags = [&["--api-keys", keys.path(), "--address-rules", rules.path()][..], PROXY].concat();
    let relay = Relay::start(&flags);
    let from = |address: &str| format!("X-Forwarded-For: {address}");
    let begin = |key: &str, address: &str| {
        handshake(&relay, &upgrade_with("/desktop/abc", &[&bearer(key), &from(address)]))
    };
    let (_, alice) = begin(KEY, "198.51.100.1");
    let mut alice = alice.unwrap();
    assert_eq!(begin(KEY, "192.0.2.1").0, 403);

    keys.write("bob 0123456789abcdef-of-bob\n");
    rules.write("allow 192.0.2.0/24\n");
    relay.signal(Signal::HUP);
    relay.wait_for_log_ending("Address rules reloaded");
    relay.wait_for_log_ending("API keys reloaded");
    assert_eq!(begin(KEY, "192.0.2.1").0, 401);
    assert_eq!(begin("0123456789abcdef-of-bob", "198.51.100.1").0, 403);
    alice.expect_connected("desktop", "abc");
    alice.send_text("1");
    alice.expect_error("peer_not_connected", "Mobile device not connected");
    assert_eq!(begin("0123456789abcdef-of-bob", "192.0.2.1").0, 101);

    keys.write("# nobody\n");
    rules.write("allow 192.0.2.1/24\n");
    relay.signal(Signal::HUP);
    let line = relay.wait_for_log_ending("line 1: has bits set behind its prefix; write 192.0.2.0/24");
    assert!(
        line.contains(&format!("Address rules not reloaded: --address-rules {}", rules.path())),
        "{line}"
    );
    let line = relay.wait_for_log("the failure", |line| line.contains("API keys not reloaded: "));
    assert!(line.contains(keys.path()) && line.contains("holds no key"), "{line}");
    assert_eq!(begin("0123456789abcdef-of-bob", "192.0.2.1").0, 101, "the old ones stay in force");
    assert_eq!(begin("0123456789abcdef-of-bob", "198.51.100.1").0, 403);
}

#[test]
fn byte_order_mark_of_a_file_is_skipped() {
    let keys = File::new("keys-mark", &format!("\u{feff}alice {KEY}\n"));
    let rules = File::new("rules-mark", "\u{feff}deny 192.0.2.0/24\n");
    let flags = [&["--api-keys", keys.path(), "--address-rules", rules.path()][..], PROXY].concat();
    let relay = Relay::start(&flags);
    for (address, status) in [("198.51.100.1", 101), ("192.0.2.1", 403)] {
        let from = format!("X-Forwarded-For: {address}");
        let request = upgrade_with("/desktop/abc", &[&bearer(KEY), &from]);
        assert_eq!(handshake(&relay, &request).0, status, "{address}");
    }
    for text in [&b"\xFF\xFEa\0l\0"[..], b"\xFE\xFF\0a\0l"] {
        fs::write(keys.path(), text).unwrap();
        relay.signal(Signal::HUP);
        let line = relay.wait_for_log("the failure", |line| line.contains("API keys not reloaded: "));
        assert!(line.ends_with("a text in UTF-16; save it as UTF-8"), "{line}");
    }
}

#[test]
fn token_that_was_a_key_claims_no_session() {
    let keys = File::new("keys-removed", &format!("alice {KEY}\n"));
    let relay = Relay::start(&["--api-keys", keys.path()]);
    let mut desktop = expect_join(&relay, "/desktop/abc", &[&bearer(KEY)]);
    desktop.expect_connected("desktop", "abc");
    keys.write("bob 0123456789abcdef-of-bob\n");
    relay.signal(Signal::HUP);
    relay.wait_for_log_ending("API keys reloaded");
    for lines in [&[bearer(KEY)][..], &[]] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut mobile = expect_join(&relay, "/mobile/abc", &lines);
        mobile.expect_connected("mobile", "abc");
        mobile.expect_notice("desktop_connected");
        desktop.expect_notice("mobile_connected");
        desktop.send_text("1");
        mobile.expect_text("1");
        mobile.leave();
        desktop.expect_notice("mobile_disconnected");
    }
    expect_refusal(&relay, "/desktop/abc", &[&bearer(KEY)], 401);
}

#[test]
fn without_files_sighup_is_harmless() {
    let mut relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    relay.signal(Signal::HUP);
    // A relay with TLS has a certificate to reload.
    let is_answer =
        |line: &str| line.ends_with("Nothing to reload") || line.ends_with("Certificate reloaded");
    relay.wait_for_log("what came of it", is_answer);
    desktop.send_text("1");
    mobile.expect_text("1");
    drop((desktop, mobile));
    assert_eq!(relay.stop(), Some(0));
}

#[test]
fn bad_file_at_the_start_gives_one_line_that_names_it() {
    let empty = File::new("empty", "");
    let wrong = File::new("wrong", "alice tooshort\n");
    let latin = File::new("latin", "");
    fs::write(&latin.0, b"# caf\xe9\n").unwrap();
    for (flag, path, problem) in [
        ("--api-keys", "/nonexistent/keys", "no such file; check the path"),
        ("--api-keys", "/", "not a file; give the path of a regular file"),
        ("--api-keys", empty.path(), "holds no key; write lines of the form: name key"),
        ("--api-keys", wrong.path(), "line 1: the key is not of 16 to 256 letters, digits and -._~+/"),
        ("--api-keys", latin.path(), "not UTF-8; write plain text"),
        (
            "--address-rules",
            empty.path(),
            "holds no rule; write lines of the form: allow RANGE, or: deny RANGE",
        ),
        ("--address-rules", wrong.path(), "line 1: begins with neither allow nor deny"),
        ("--address-rules", "/nonexistent/rules", "no such file; check the path"),
    ] {
        let mut command = relay_command(&[]);
        command.args(["--listen", "127.0.0.1:0", flag, path]);
        let Ended { code, log } = run_to_end(command);
        let line = format!("apptuner-relay: {flag} {path}: {problem}");
        assert_eq!((code, &log[..]), (Some(2), &[line][..]));
    }
}

#[test]
fn denied_addresses_get_403_and_others_do_not() {
    for rule in [["--deny", "127.0.0.0/8"], ["--allow", "192.0.2.0/24"]] {
        let relay = Relay::start(&rule);
        for request in [upgrade_request("/desktop/abc"), plain_request("POST", "/sessions")] {
            assert_status(&relay, request.as_bytes(), 403);
        }
        assert_status(&relay, plain_request("GET", "/health").as_bytes(), 200);
    }
    let relay = Relay::start(&["--allow", "127.0.0.0/8", "--deny", "192.0.2.0/24"]);
    relay.pair("abc");
    let relay =
        Relay::start(&["--trust-proxy", "127.0.0.1", "--deny", "192.0.2.0/24", "--deny", "2001:db8::/32"]);
    for (line, status) in [
        ("X-Forwarded-For: 192.0.2.1", 403),
        ("X-Forwarded-For: 198.51.100.1, 192.0.2.1", 403),
        ("X-Forwarded-For: ::ffff:192.0.2.1", 403),
        ("Forwarded: for=\"[2001:db8::7]:1234\";proto=https", 403),
        ("X-Forwarded-For: 192.0.2.1, 198.51.100.1", 101),
        ("Forwarded: for=192.0.2.1, for=198.51.100.1", 101),
        ("X-Forwarded-For: nonsense", 400),
        ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=198.51.100.1", 400),
    ] {
        assert_eq!(handshake(&relay, &upgrade_with("/desktop/abc", &[line])).0, status, "{line}");
    }
    let relay = Relay::start(&["--deny", "192.0.2.0/24"]);
    let forged = upgrade_with("/desktop/abc", &["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"]);
    assert_eq!(handshake(&relay, &forged).0, 101, "who is no trusted proxy is not believed");
}

#[test]
fn connections_per_host_are_limited_except_on_loopback() {
    let relay = Relay::start(&[PROXY, &["--max-connections-per-ip", "2"]].concat());
    let join = |address: &str, session: &str| {
        let line = format!("X-Forwarded-For: {address}");
        handshake(&relay, &upgrade_with(&format!("/desktop/{session}"), &[&line]))
    };
    let (_, first) = join("192.0.2.1", "a");
    let (_, second) = join("192.0.2.1", "b");
    let line = "X-Forwarded-For: 192.0.2.1";
    for answer in assert_status(&relay, upgrade_with("/desktop/c", &[line]).as_bytes(), 429) {
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(join("192.0.2.2", "c").0, 101);
    assert!(first.is_some() && second.is_some());
    drop(first);
    relay.wait_for_log_ending("Desktop disconnected from session a: 1006");
    assert_eq!(join("192.0.2.1", "d").0, 101);
    let own: Vec<Client> = (0..5).map(|index| relay.join("desktop", &format!("own-{index}"))).collect();
    assert_eq!(own.len(), 5);
}

#[test]
fn connection_rate_per_host_is_limited() {
    let relay = Relay::start(&[PROXY, &["--max-connection-rate", "3"]].concat());
    let health = "GET /health HTTP/1.1\r\nHost: relay\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    let answers: Vec<Answer> = (0..20).map(|_| Answer::to(relay.tcp(), health)).collect();
    assert!(answers[..3].iter().all(|answer| answer.status == 200), "{answers:?}");
    let refused = answers.iter().find(|answer| answer.status != 200).expect("20 in a second are too many");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let other = health.replace("192.0.2.1", "192.0.2.2");
    assert_eq!(Answer::to(relay.tcp(), &other).status, 200);
    for _ in 0..20 {
        assert_eq!(
            Answer::to(relay.tcp(), &plain_request("GET", "/health")).status,
            200,
            "loopback is exempt"
        );
    }
}

#[test]
fn host_that_fails_to_join_too_often_is_locked_out() {
    let relay = Relay::start(&[PROXY, &["--max-failed-joins", "2"]].concat());
    let mut desktop = expect_join(&relay, &format!("/desktop/abc?secret={SECRET}"), &[]);
    desktop.expect_connected("desktop", "abc");
    let line = "X-Forwarded-For: 192.0.2.1";
    let mobile = |secret: &str| upgrade_with(&format!("/mobile/abc?secret={secret}"), &[line]);
    for _ in 0..3 {
        assert_eq!(handshake(&relay, &mobile(WRONG)).0, 403);
    }
    let answer = Answer::to(relay.tcp(), &mobile(SECRET));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(answer.status, 429, "not even with the right one");
    assert!((30..=60).contains(&seconds), "{seconds}");
    relay.wait_for_log_ending("address=192.0.2.1 seconds=60 Locked out: failed to join too often");
    expect_join(&relay, &format!("/mobile/abc?secret={SECRET}"), &["X-Forwarded-For: 192.0.2.2"]);
    desktop.expect_notice("mobile_connected");
}

#[test]
fn proxy_protocol_is_expected_only_from_proxies() {
    let relay = Relay::start(&["--proxy-protocol", "--deny", "192.0.2.0/24"]);
    let upgrade = upgrade_request("/desktop/abc");
    let v2 = |command: u8, address: [u8; 4]| {
        let addresses = [&address[..], &[127, 0, 0, 1, 0x10, 0, 0x20, 0]].concat();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 12][..], &addresses].concat()
    };
    for (header, status) in [
        (b"PROXY TCP4 198.51.100.1 127.0.0.1 4096 8787\r\n".to_vec(), 101),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 4096 8787\r\n".to_vec(), 403),
        (b"PROXY TCP6 2001:db8::1 ::1 4096 8787\r\n".to_vec(), 101),
        (b"PROXY UNKNOWN\r\n".to_vec(), 101),
        (v2(0x21, [198, 51, 100, 1]), 101),
        (v2(0x21, [192, 0, 2, 1]), 403),
        (v2(0x20, [192, 0, 2, 1]), 101),
    ] {
        let mut socket = relay.socket();
        socket.write_all(&header).unwrap();
        let (answer, _client) = Client::handshake(relay.stream(socket), upgrade.as_bytes());
        assert_eq!(answer.status, status, "{}", header.escape_ascii());
    }
    for header in [v2(0x31, [198, 51, 100, 1]), b"PROXY TCP4 nonsense 127.0.0.1 1 2\r\n".to_vec(), Vec::new()]
    {
        let mut socket = relay.socket();
        socket.write_all(&header).unwrap();
        let answer = Answer::to(Stream::plain(socket), &upgrade);
        assert_eq!(answer.status, 400, "{}: {answer:?}", header.escape_ascii());
    }
    let relay = Relay::start(&["--proxy-protocol", "--trust-proxy", "192.0.2.1"]);
    relay.pair("abc");
    let forged = format!("PROXY TCP4 198.51.100.1 127.0.0.1 4096 8787\r\n{upgrade}");
    assert_status(&relay, forged.as_bytes(), 400);
}

#[test]
fn with_listed_origins_pages_of_other_origins_are_refused() {
    let relay = Relay::start(&[
        "--allow-origin",
        "https://app.example.com",
        "--allow-origin",
        "http://localhost:3000",
    ]);
    for (lines, status) in [
        (&[][..], 101),
        (&["Origin: https://app.example.com"], 101),
        (&["Origin: http://localhost:3000"], 101),
        (&["Origin: http://relay"], 101),
        (&["Origin: https://relay"], 101),
        (&["Origin: null"], 403),
        (&["Origin: https://evil.example"], 403),
        (&["Origin: http://app.example.com"], 403),
        (&["Origin: https://app.example.com:8443"], 403),
    ] {
        assert_eq!(handshake(&relay, &upgrade_with("/desktop/abc", lines)).0, status, "{lines:?}");
    }
    assert_eq!(issue(&relay, &["Origin: https://evil.example"]).status, 403);
    assert_eq!(issue(&relay, &["Origin: https://app.example.com"]).status, 201);
    let relay = Relay::start(&[]);
    for line in ["Origin: https://evil.example", "Origin: null"] {
        assert_eq!(handshake(&relay, &upgrade_with("/desktop/abc", &[line])).0, 101, "{line}");
    }
    let relay = Relay::start(&["--allow-origin", "null"]);
    assert_eq!(handshake(&relay, &upgrade_with("/desktop/abc", &["Origin: null"])).0, 101);
}

#[test]
fn no_secret_and_no_key_is_ever_logged() {
    let keys = File::new("keys-logged", &format!("alice {KEY}\n"));
    let flags = ["--api-keys", keys.path(), "--max-failed-joins", "1"];
    let mut relay = Relay::start_with(&flags, &[("RUST_LOG", "trace")]);
    let with_secret = format!("/mobile/abc?secret={SECRET}");
    let protocol = format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}");
    let _desktop = expect_join(&relay, &format!("/desktop/abc?secret={SECRET}"), &[&bearer(KEY)]);
    let _mobile = expect_join(&relay, &with_secret, &[]);
    expect_join(&relay, "/mobile/abc", &[&protocol]);
    expect_refusal(&relay, &format!("/mobile/abc?secret={WRONG}"), &[], 403);
    expect_refusal(&relay, "/desktop/abc", &[&bearer("another-key-0123456789")], 401);
    let issued: Value = serde_json::from_str(&issue(&relay, &[&bearer(KEY)]).body).unwrap();
    expect_join(&relay, issued["mobileUrl"].as_str().unwrap(), &[]);
    assert_eq!(relay.stop(), Some(0));
    let log = relay.log_lines().join("\n");
    let encoded = SUBPROTOCOL.strip_prefix("apptuner.secret.").unwrap();
    let issued = issued["secret"].as_str().unwrap();
    for secret in [SECRET, WRONG, KEY, encoded, issued, "another-key-0123456789"] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
    assert!(log.contains("API key accepted") && log.contains(" issued"), "{log}");
}

/// The preflight request that a browser sends before a page may send a key or JSON.
fn preflight(path: &str, origin: &str) -> String {
    let lines = [&*format!("Origin: {origin}"), "Access-Control-Request-Method: POST"];
    with_lines(&plain_request("OPTIONS", path), &lines)
}

#[test]
fn pages_of_allowed_origins_may_read_health_and_issued_sessions() {
    const APP: &str = "https://app.example";
    let relay = Relay::start(&["--allow-origin", APP]);
    for (path, methods) in [("/health", "GET, HEAD"), ("/sessions", "POST")] {
        for answer in assert_status(&relay, preflight(path, APP).as_bytes(), 204) {
            assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
            assert_eq!(answer.header("access-control-allow-methods"), Some(methods));
            assert_eq!(answer.header("access-control-allow-headers"), Some("Authorization, Content-Type"));
            assert_eq!(answer.header("access-control-max-age"), Some("86400"));
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
        for answer in assert_status(&relay, preflight(path, "https://evil.example").as_bytes(), 403) {
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let from = |origin: &str, method: &str, path: &str| {
        let origin = format!("Origin: {origin}");
        Answer::to(relay.tcp(), &with_lines(&plain_request(method, path), &[&*origin]))
    };
    for (method, path, status) in [
        ("GET", "/health", 200),
        ("POST", "/sessions", 201),
        ("PUT", "/sessions", 405),
        ("POST", "/health", 405),
    ] {
        let answer = from(APP, method, path);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP), "{answer:?}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{answer:?}");
        assert_eq!(from("https://evil.example", method, path).header("access-control-allow-origin"), None);
    }
    assert_eq!(from(APP, "GET", "/nothing").header("access-control-allow-origin"), None);
}
