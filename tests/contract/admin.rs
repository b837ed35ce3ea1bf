//! The operator's own listener.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::client::{Received, with_timeouts};
use crate::harness::{Relay, relay_command, run_to_end};
use crate::stream::Stream;

const TOKEN: &str = "correct-horse-battery-staple";

/// The address of the operator's listener.
pub(crate) fn admin(relay: &Relay) -> SocketAddr {
    let line = relay.wait_for_log("where the operator is answered", |line| line.contains("operator on http"));
    line.rsplit("http://").next().unwrap().trim_end_matches(['"', '}']).parse().unwrap()
}

fn start(flags: &[&str]) -> (Relay, SocketAddr) {
    let relay = Relay::start(&[&["--admin", "127.0.0.1:0"], flags].concat());
    let address = admin(&relay);
    (relay, address)
}

fn connect(address: SocketAddr) -> Stream {
    Stream::plain(with_timeouts(TcpStream::connect(address).unwrap()))
}

fn ask(address: SocketAddr, request: &str) -> Answer {
    Answer::to(connect(address), request)
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, &request(target))
}

fn get_json(address: SocketAddr, target: &str) -> Value {
    let answer = get(address, target);
    assert_eq!(answer.status, 200, "{target}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(&answer.body).unwrap()
}

/// Every sample with a whole number, by its name and labels as written.
pub(crate) fn metrics(address: SocketAddr) -> BTreeMap<String, u64> {
    let text = get(address, "/metrics").body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        Some((name.to_owned(), value.parse().ok()?))
    };
    samples.filter_map(sample).collect()
}

/// The metrics that differ from `expected`.
pub(crate) fn differences<'a>(
    samples: &BTreeMap<String, u64>,
    expected: &[(&'a str, u64)],
) -> Vec<(&'a str, Option<u64>)> {
    let value = |name: &str| samples.get(&format!("apptuner_relay_{name}")).copied();
    expected
        .iter()
        .filter(|(name, expected)| value(name) != Some(*expected))
        .map(|(name, _)| (*name, value(name)))
        .collect()
}

#[test]
fn metrics_count_what_clients_did() {
    let (relay, admin) = start(&[]);
    let (mut desktop, mut mobile) = relay.pair("secret-session-name");
    desktop.send_text(r#"{"type":"bundle"}"#);
    mobile.expect_text(r#"{"type":"bundle"}"#);
    for text in ["[1]", "[22]"] {
        mobile.send_text(text);
        desktop.expect_text(text);
    }
    mobile.send_text("{");
    mobile.expect_error("invalid_json", "Invalid JSON at byte 1: EOF while parsing an object");
    let mut lonely = relay.join("desktop", "lonely");
    lonely.send_text("[]");
    lonely.expect_error("peer_not_connected", "Mobile device not connected");
    lonely.leave();
    assert_eq!(Answer::to(relay.tcp(), &request("/nowhere")).status, 404);
    let again = relay.join("mobile", "secret-session-name");
    mobile.expect_close(1000, "New mobile connection");
    let samples = metrics(admin);
    let differences = differences(
        &samples,
        &[
            ("connections{client=\"desktop\"}", 1),
            ("connections{client=\"mobile\"}", 1),
            ("sessions{state=\"paired\"}", 1),
            ("sessions{state=\"empty\"}", 1),
            ("connections_opened_total", 5),
            ("connections_closed_total{reason=\"client_closed\"}", 1),
            ("connections_closed_total{reason=\"replaced\"}", 1),
            ("connections_closed_total{reason=\"refused\"}", 1),
            ("handshakes_refused_total{reason=\"not_found\"}", 1),
            ("joins_total{client=\"desktop\"}", 2),
            ("joins_total{client=\"mobile\"}", 2),
            ("messages_total{direction=\"to_mobile\"}", 1),
            ("messages_total{direction=\"to_desktop\"}", 2),
            ("bytes_total{direction=\"to_mobile\"}", 17),
            ("bytes_total{direction=\"to_desktop\"}", 7),
            ("messages_delivered_total{direction=\"to_desktop\"}", 2),
            ("messages_undelivered_total{direction=\"to_desktop\"}", 0),
            ("message_size_bytes_count", 3),
            ("message_size_bytes_sum", 24),
            ("message_size_bytes_bucket{le=\"64\"}", 3),
            ("message_in_relay_seconds_count", 3),
            ("errors_total{code=\"invalid_json\"}", 1),
            ("errors_total{code=\"peer_not_connected\"}", 1),
            ("draining", 0),
            ("buffered_bytes", 0),
            ("clients_starved", 0),
        ],
    );
    assert_eq!(differences, []);
    assert!(samples["process_open_fds"] >= 3 && samples["process_resident_memory_bytes"] > 100_000);
    drop(again);
}

#[test]
fn metrics_are_in_the_text_format_of_prometheus() {
    let (_relay, admin) = start(&[]);
    let answer = get(admin, "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let (mut family, mut kinds) = ("", BTreeMap::new());
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').unwrap().0;
            assert!(!kinds.contains_key(family), "{family} stands together");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "its help stands before");
            kinds.insert(family, kind);
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is of no family"));
            match kinds[family] {
                "counter" => assert!(suffix.is_empty() && name.ends_with("_total"), "{line}"),
                "gauge" => assert!(suffix.is_empty() && !name.ends_with("_total"), "{line}"),
                "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
                other => panic!("{other}"),
            }
        }
    }
    assert!(kinds.len() >= 28, "{} families", kinds.len());
}

#[test]
fn sessions_are_shown_by_four_characters_of_their_ids_without_contents() {
    let (relay, admin) = start(&[]);
    let (mut desktop, mut mobile) = relay.pair("secret-session-name");
    desktop.send_text(r#"{"type":"hunter2"}"#);
    mobile.expect_text(r#"{"type":"hunter2"}"#);
    let sessions = get_json(admin, "/sessions");
    assert_eq!(sessions["sessions"], json!({"empty": 0, "waiting": 0, "paired": 1}));
    assert_eq!(sessions["clients"], json!({"desktop": 1, "mobile": 1}));
    assert_eq!(sessions["next"], Value::Null);
    let page = sessions["page"].as_array().unwrap();
    let mut session = page[0].clone();
    assert!(session["age_seconds"].take().as_u64().unwrap() < 60);
    let expected = json!({
        "id": "secr", "age_seconds": null, "desktop": true, "mobile": true,
        "messages": 1, "bytes": 18, "waiting_bytes": 0,
    });
    assert_eq!((page.len(), session), (1, expected));
    for target in ["/sessions", "/metrics", "/history", "/"] {
        let body = get(admin, target).body;
        for secret in ["hunter2", "secret-session", "127.0.0.1"] {
            assert!(!body.contains(secret), "{target} tells {secret}");
        }
    }
}

#[test]
fn sessions_are_listed_in_pages() {
    let (relay, admin) = start(&[]);
    let clients: Vec<_> = (0..5).map(|index| relay.join("desktop", &format!("{index}xyz1234"))).collect();
    let (mut ids, mut next) = (Vec::new(), json!(0));
    while next != Value::Null {
        let page = get_json(admin, &format!("/sessions?limit=2&from={next}"));
        assert!(page["page"].as_array().unwrap().len() <= 2);
        ids.extend(page["page"].as_array().unwrap().iter().map(|session| session["id"].clone()));
        next = page["next"].clone();
    }
    assert_eq!(ids, ["0xyz", "1xyz", "2xyz", "3xyz", "4xyz"]);
    for query in ["from=x", "limit=0", "limit=501", "limit=-1"] {
        let answer = get(admin, &format!("/sessions?{query}"));
        assert_eq!((answer.status, answer.body.contains("whole numbers")), (400, true), "{query}");
    }
    drop(clients);
}

#[test]
fn probes_tell_a_load_balancer_when_to_stop_sending() {
    let (relay, admin) = start(&["--max-connections", "2", "--shutdown-grace", "20s"]);
    let probe = |target| {
        let answer = get(admin, target);
        (answer.status, answer.body)
    };
    assert_eq!(probe("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(probe("/readyz"), (200, "ready\n".to_owned()));
    let (mut desktop, _mobile) = relay.pair_with_narrow_mobile("a");
    assert_eq!(probe("/readyz"), (503, "full\n".to_owned()));
    // The mobile does not read, so the relay waits for it during the shutdown.
    desktop.send_text(&format!("\"{}\"", "x".repeat(900 << 10)));
    relay.wait_for_log("the message", |line| line.contains("Message from desktop"));
    relay.signal(Signal::TERM);
    relay.wait_for_log("the beginning of the end", |line| line.contains("Shutting down"));
    assert_eq!(probe("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(probe("/livez"), (200, "ok\n".to_owned()));
}

#[test]
fn status_page_may_run_only_its_own_script() {
    let (_relay, admin) = start(&[]);
    let answer = get(admin, "/");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(answer.body.starts_with("<!doctype html>"), "{}", answer.body);
}

#[test]
fn history_has_a_column_for_each_number_of_a_sample() {
    let (_relay, admin) = start(&[]);
    let history = get_json(admin, "/history");
    assert_eq!(history["state"], "ready");
    assert_eq!(history["columns"].as_array().unwrap().len(), 25);
    assert_eq!(history["samples"], json!([]), "the first comes after five seconds");
    assert!(history["now"].as_u64() >= history["started"].as_u64());
}

#[test]
fn with_a_token_only_the_probes_need_no_token() {
    let (_relay, admin) = start(&["--admin-token", TOKEN]);
    let basic = "Basic YW55Ym9keTpjb3JyZWN0LWhvcnNlLWJhdHRlcnktc3RhcGxl";
    for target in ["/", "/metrics", "/sessions", "/history"] {
        let with = |authorization: &str| {
            let fields = format!("GET {target} HTTP/1.1\r\nHost: relay.example\r\n{authorization}\r\n");
            ask(admin, &fields)
        };
        let answer = with("");
        assert_eq!(answer.status, 401, "{target}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"apptuner-relay\""));
        assert_eq!(with("Authorization: Bearer wrong-horse-battery-staple\r\n").status, 401, "{target}");
        assert_eq!(with(&format!("Authorization: Bearer {TOKEN}\r\n")).status, 200, "{target}");
        assert_eq!(with(&format!("Authorization: {basic}\r\n")).status, 200, "{target}");
    }
    for target in ["/livez", "/readyz"] {
        assert_eq!(get(admin, target).status, 200, "{target}");
    }
}

#[test]
fn without_a_token_a_foreign_host_name_is_refused() {
    let (_relay, admin) = start(&[]);
    let rebound = "GET /sessions HTTP/1.1\r\nHost: evil.example:9787\r\n\r\n";
    let answer = ask(admin, rebound);
    assert_eq!((answer.status, answer.header("cache-control")), (421, Some("no-store")));
}

#[test]
fn bad_requests_are_answered_as_on_the_public_listener() {
    let (_relay, admin) = start(&[]);
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 405),
        ("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /metrics HTTP/1.1\r\n\r\n", 400),
        ("GET metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}", 400),
    ] {
        assert_eq!(ask(admin, request).status, status, "{request:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000));
    assert_eq!(ask(admin, &long).status, 431);
    let head = Answer::read(send(connect(admin), "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"), true);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

fn send(mut stream: Stream, request: &str) -> Stream {
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn strangers_that_hold_all_connections_do_not_lock_the_operator_out() {
    let (relay, admin) = start(&[]);
    let mut strangers: Vec<_> = (0..100).map(|_| send(connect(admin), "GET /metrics HT")).collect();
    assert_eq!(get(admin, "/livez").status, 200);
    // The oldest connection was replaced.
    let mut rest = Vec::new();
    assert!(strangers[0].read_to_end(&mut rest).is_err() || rest.is_empty());
    let (mut desktop, mut mobile) = relay.pair("a");
    desktop.send_text("[1]");
    mobile.expect_text("[1]");
}

#[test]
fn descriptors_for_the_operator_are_reserved_in_every_configuration() {
    for (file_limit, listeners) in [(64, 1), (128, 1), (256, 41)] {
        let listen = vec![["--listen", "127.0.0.1:0"]; listeners - 1].concat();
        let many = ["--max-connections", "1000", "--handshake-timeout", "1h"];
        let flags = [&["--admin", "127.0.0.1:0"], &many[..], &listen[..]].concat();
        let relay = Relay::start_after(&format!("ulimit -n {file_limit}"), &flags);
        let admin = admin(&relay);
        // All of them are silent, and some at a time are refused because the relay is full.
        let crowd: Vec<_> = (0..300).map(|_| relay.socket()).collect();
        let operators: Vec<_> = (0..10).map(|_| connect(admin)).collect();
        for _ in 0..20 {
            assert_eq!(get(admin, "/livez").status, 200);
        }
        assert_eq!(get(admin, "/readyz").status, 503, "{file_limit} {listeners}");
        drop((crowd, operators));
    }
}

#[test]
fn max_connections_is_lowered_to_what_descriptors_allow() {
    let relay = Relay::start_after("ulimit -n 64", &["--max-connections", "1000"]);
    let warning = relay.wait_for_log("the warning", |line| line.contains("leaves room for "));
    let room: usize = warning.rsplit(' ').next().unwrap().trim_end_matches(['"', '}']).parse().unwrap();
    let clients: Vec<_> = (0..room).map(|number| relay.join("mobile", &number.to_string())).collect();
    assert_eq!(Answer::to(relay.tcp(), &request("/")).status, 503);
    drop(clients);
}

#[test]
fn slow_head_is_answered_with_408() {
    let (_relay, admin) = start(&["--handshake-timeout", "50ms"]);
    let slow = send(connect(admin), "GET /metr");
    let answer = Answer::read(slow, false);
    assert_eq!(answer.status, 408);
}

#[test]
fn admin_may_listen_on_a_unix_domain_socket() {
    let path = std::env::temp_dir().join(format!("apptuner-relay-{}-admin", std::process::id()));
    let address = format!("unix:{}", path.display());
    let relay = Relay::start(&["--admin", &address]);
    relay.wait_for_log_ending(&format!("Answering the operator on http+{address}"));
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.write_all(request("/livez").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");
    drop(relay);
    // A killed process leaves its socket file.
    std::fs::remove_file(path).unwrap();
}

#[test]
fn by_default_there_is_no_operators_listener() {
    let relay = Relay::start(&[]);
    for target in ["/metrics", "/livez", "/readyz", "/history", "/"] {
        assert_eq!(Answer::to(relay.tcp(), &request(target)).status, 404, "{target}");
    }
}

#[test]
fn address_that_other_machines_reach_needs_a_token() {
    let mut command = relay_command(&[]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    let ended = run_to_end(command);
    let line = "apptuner-relay: --admin 0.0.0.0:0: \
                others than this machine reach it; set --admin-token, or use 127.0.0.1";
    assert_eq!((ended.code, ended.log.as_slice()), (Some(2), &[line.to_owned()][..]));
    let variables = [("APPTUNER_RELAY_ADMIN_TOKEN", TOKEN)];
    let relay = Relay::start_with(&["--admin", "0.0.0.0:0"], &variables);
    let port = admin(&relay).port();
    assert_eq!(get(([127, 0, 0, 1], port).into(), "/livez").status, 200);
}

#[test]
fn large_message_in_transit_does_not_delay_the_operator() {
    let (relay, admin) = start(&[]);
    let (mut desktop, mobile) = relay.pair_with_narrow_mobile("a");
    let text = format!("\"{}\"", "x".repeat(900 << 10));
    desktop.send_text(&text);
    let waiting =
        (0..1000).map(|_| get_json(admin, "/sessions")["page"][0]["waiting_bytes"].as_u64().unwrap());
    assert!(waiting.into_iter().any(|bytes| bytes > 100_000), "what waits is told");
    assert!(metrics(admin)["apptuner_relay_buffered_bytes"] > 100_000);
    drop(mobile);
    desktop.expect_undelivered();
    assert_eq!(metrics(admin)["apptuner_relay_messages_undelivered_total{direction=\"to_mobile\"}"], 1);
    assert!(matches!(desktop.receive(), Received::Text(_)));
}
