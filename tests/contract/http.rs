//! Section 1: HTTP on the public listener, except for upgrades.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::answer::{Answer, KEY, assert_status, assert_statuses, plain_request, upgrade_request};
use crate::client::{Client, assert_is_now};
use crate::harness::{Relay, WAIT_MAX, assert_lasted};
use crate::stream::Stream;

const INVALID_PATH: &str = "Invalid path. Use /desktop/{sessionId} or /mobile/{sessionId}";

/// Paths that no client can join at. None of them is `/health`.
const OTHER_PATHS: [&str; 14] = [
    "/",
    "/other",
    "/other/abc",
    "/desktop",
    "/desktop/",
    "/mobile/",
    "/desktop/abc/",
    "/desktop/abc/def",
    "//desktop/abc",
    "/Desktop/abc",
    "/desktop/a.b",
    "/desktop/a%20b",
    "/desktop/%61bc",
    "/mobile/abc;x=1",
];

#[test]
fn health_has_status_service_version_and_time() {
    let relay = Relay::start(&[]);
    for answer in assert_status(&relay, plain_request("GET", "/health").as_bytes(), 200) {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let health: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(health["status"], "healthy");
        assert_eq!(health["service"], "apptuner-relay");
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        assert_is_now(&health["timestamp"]);
    }
}

#[test]
fn head_of_health_is_get_without_the_body() {
    let relay = Relay::start(&[]);
    for answer in assert_status(&relay, plain_request("HEAD", "/health").as_bytes(), 200) {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_ne!(answer.header("content-length"), Some("0"));
    }
}

#[test]
fn health_ignores_a_query_string_and_an_upgrade() {
    let without_key = upgrade_request("/health").replace(KEY, "");
    assert_statuses(&[
        (plain_request("GET", "/health?verbose=1"), 200),
        (upgrade_request("/health"), 200),
        (without_key, 200),
    ]);
}

#[test]
fn session_path_without_an_upgrade_gets_426() {
    let relay = Relay::start(&[]);
    for path in ["/desktop/abc", "/mobile/abc", "/mobile/abc?x=1"] {
        for answer in assert_status(&relay, plain_request("GET", path).as_bytes(), 426) {
            assert!(answer.header("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
            assert_eq!(answer.body.trim_end(), "Expected WebSocket upgrade");
        }
    }
}

#[test]
fn upgrade_to_another_path_or_with_a_bad_session_id_is_answered_with_the_paths() {
    let relay = Relay::start(&[]);
    let too_long = format!("/desktop/{}", "a".repeat(129));
    for path in OTHER_PATHS.into_iter().chain([too_long.as_str()]) {
        for answer in assert_status(&relay, upgrade_request(path).as_bytes(), 400) {
            let (what_exists, what_is_wrong) = answer.body.split_once("; ").expect("two parts");
            assert_eq!(what_exists, INVALID_PATH, "{path}");
            assert!(!what_is_wrong.is_empty(), "{path}");
        }
    }
}

#[test]
fn bad_session_id_is_answered_with_its_fault_and_the_rule() {
    let relay = Relay::start(&[]);
    let rule = "a session ID is 1 to 128 letters A-Z and a-z, digits, - and _, and this one";
    let too_long = format!("/desktop/{}", "a".repeat(129));
    for (path, fault) in
        [("/desktop/a.b", "has a ."), (&too_long, "has 129 characters"), ("/mobile/", "is empty")]
    {
        for (request, status) in [(upgrade_request(path), 400), (plain_request("GET", path), 404)] {
            for answer in assert_status(&relay, request.as_bytes(), status) {
                assert!(answer.body.ends_with(&format!("; {rule} {fault}")), "{answer:?}");
            }
        }
    }
}

#[test]
fn request_for_an_icon_gets_404_and_does_not_count_as_refused() {
    let relay = Relay::start(&["--admin", "127.0.0.1:0"]);
    for method in ["GET", "HEAD"] {
        assert_status(&relay, plain_request(method, "/favicon.ico").as_bytes(), 204);
    }
    assert_status(&relay, plain_request("POST", "/favicon.ico").as_bytes(), 405);
    assert_status(&relay, upgrade_request("/favicon.ico").as_bytes(), 400);
}

#[test]
fn one_empty_line_before_the_request_is_skipped() {
    assert_statuses(&[
        (format!("\r\n{}", plain_request("GET", "/health")), 200),
        (format!("\r\n\r\n{}", plain_request("GET", "/health")), 400),
        (format!("\n{}", plain_request("GET", "/health")), 400),
    ]);
    let relay = Relay::start(&[]);
    let (answer, mut client) =
        Client::handshake(relay.tcp(), format!("\r\n{}", upgrade_request("/mobile/abc")).as_bytes());
    assert_eq!(answer.status, 101);
    client.expect_connected("mobile", "abc");
}

#[test]
fn only_tls_gets_the_answer_about_tls() {
    let relay = Relay::start(&[]);
    for (opening, is_tls) in [(&b"\x16\x03\x01"[..], true), (b"\r\n\r\n", false), (b" GET /", false)] {
        for answer in assert_status(&relay, opening, 400) {
            assert_eq!(answer.body.contains("TLS"), is_tls, "{answer:?}");
        }
    }
}

#[test]
fn host_with_a_zone_is_refused_with_the_remedy() {
    let relay = Relay::start(&[]);
    let request = plain_request("GET", "/health").replace("relay", "[fe80::1%eth0]:8787");
    for answer in assert_status(&relay, request.as_bytes(), 400) {
        assert!(answer.body.contains("without the zone"), "{answer:?}");
    }
}

#[test]
fn any_other_path_or_a_bad_session_id_without_an_upgrade_is_not_found() {
    let too_long = format!("/mobile/{}", "a".repeat(129));
    let paths = OTHER_PATHS.into_iter().chain([too_long.as_str(), "/healthy", "/health/"]);
    let rows: Vec<_> = paths.map(|path| (plain_request("GET", path), 404)).collect();
    assert_statuses(&rows);
}

#[test]
fn method_is_checked_before_the_path() {
    let relay = Relay::start(&[]);
    let requests = [
        plain_request("POST", "/health"),
        plain_request("PUT", "/desktop/abc"),
        plain_request("DELETE", "/nothing"),
        plain_request("OPTIONS", "/health"),
        plain_request("BREW", "/"),
        plain_request("get", "/health"),
        upgrade_request("/desktop/abc").replace("GET", "POST"),
        "POST /nothing HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
    ];
    for request in requests {
        for answer in assert_status(&relay, request.as_bytes(), 405) {
            let mut allowed = answer.header("allow").unwrap().split(", ");
            assert!(allowed.any(|method| method == "GET"), "{request}");
        }
    }
}

#[test]
fn head_of_a_path_is_answered_as_get_is_without_a_body() {
    assert_statuses(&[
        (plain_request("HEAD", "/desktop/abc"), 426),
        (plain_request("HEAD", "/nothing"), 404),
    ]);
}

#[test]
fn malformed_request_line_is_a_bad_request() {
    let lines = [
        "GET /health",
        "GET",
        "/health HTTP/1.1",
        "GET /health HTTP/9.9",
        "GET /health HTTP/2.0",
        "GET /health XTTP/1.1",
        "GET /health HTTP/1.1 x",
        "GET /hea lth HTTP/1.1",
        "G\u{1}T /health HTTP/1.1",
        "GET /hea\u{0}lth HTTP/1.1",
        "GET health HTTP/1.1",
        "GET desktop/abc HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET #f HTTP/1.1",
        "GET * HTTP/1.1",
        " GET /health HTTP/1.1",
        "\r\n\r\nGET /health HTTP/1.1",
    ];
    assert_statuses(&lines.map(|line| (format!("{line}\r\nHost: relay\r\n\r\n"), 400)));
}

#[test]
fn malformed_header_is_a_bad_request() {
    let fields = [
        "no colon",
        "space : before the colon",
        " leading: space",
        ": no name",
        "sp ace: in the name",
        "X: folded\r\n over two lines",
        "X: a\u{0}b",
        "X: bare\rreturn",
        "Content-Length: five",
        "Content-Length: -1",
    ];
    assert_statuses(
        &fields.map(|field| (format!("GET /desktop/abc HTTP/1.1\r\nHost: relay\r\n{field}\r\n\r\n"), 400)),
    );
}

#[test]
fn bare_line_feeds_are_a_bad_request() {
    assert_statuses(&[
        (plain_request("GET", "/health").replace("\r\n", "\n"), 400),
        ("GET /health HTTP/1.1\nHost: relay\r\n\r\n".to_owned(), 400),
        ("GET /health HTTP/1.1\r\nHost: relay\nX: y\r\n\r\n".to_owned(), 400),
    ]);
}

#[test]
fn other_protocols_than_http_1_are_refused_at_once() {
    let relay = Relay::start(&["--handshake-timeout", "10m"]);
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for opening in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], client_hello] {
        assert_status(&relay, opening, 400);
    }
}

#[test]
fn head_over_16_kib_is_too_large() {
    let relay = Relay::start(&["--handshake-timeout", "10m"]);
    let head_of = |bytes: usize| {
        let start = "GET /health HTTP/1.1\r\nHost: relay\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    assert_status(&relay, head_of(16 * 1024).as_bytes(), 200);
    assert_status(&relay, head_of(16 * 1024 + 1).as_bytes(), 431);
    assert_status(&relay, head_of(100_000).as_bytes(), 431);
    // A head that is too long is refused before its end.
    assert_status(&relay, &head_of(20_000).as_bytes()[..17_000], 431);
}

#[test]
fn over_100_header_fields_are_too_many() {
    let with_fields = |fields: usize| {
        plain_request("GET", "/health").replace("\r\n\r\n", &"\r\nX: y".repeat(fields - 1)) + "\r\n\r\n"
    };
    assert_statuses(&[(with_fields(100), 200), (with_fields(101), 431), (with_fields(1000), 431)]);
}

/// Reads the 408 that must come once `timeout` has passed since `accepted`.
fn assert_timed_out(stream: Stream, accepted: Instant, timeout: Duration) {
    assert_eq!(Answer::read(stream, false).status, 408);
    assert_lasted(accepted, timeout);
}

#[test]
fn head_not_complete_in_time_is_answered_with_408() {
    let relay = Relay::start(&["--handshake-timeout", "300ms"]);
    for start in ["", "GET /hea", "GET /health HTTP/1.1\r\nHost: relay\r\n"] {
        let accepted = Instant::now();
        let mut stream = relay.tcp();
        stream.write_all(start.as_bytes()).unwrap();
        assert_timed_out(stream, accepted, Duration::from_millis(300));
    }
}

#[test]
fn slow_head_gets_no_more_time() {
    let relay = Relay::start(&["--handshake-timeout", "400ms"]);
    let accepted = Instant::now();
    let mut stream = relay.tcp();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while stream.peek(&mut [0]).is_err() {
        assert!(accepted.elapsed() < WAIT_MAX, "no answer");
        stream.write_all(b"G").unwrap();
    }
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    assert_timed_out(stream, accepted, Duration::from_millis(400));
}

#[test]
fn by_default_a_head_has_ten_seconds() {
    let relay = Relay::start(&[]);
    assert_timed_out(relay.tcp(), Instant::now(), Duration::from_secs(10));
}

#[test]
fn connection_over_the_limit_gets_503_and_can_join_later() {
    let relay = Relay::start(&["--max-connections", "2"]);
    let (desktop, mut mobile) = relay.pair("abc");
    for request in [plain_request("GET", "/nothing"), upgrade_request("/desktop/xyz")] {
        let answer = Answer::to(relay.tcp(), &request);
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    }
    mobile.expect_quiet();

    desktop.leave();
    mobile.expect_notice("desktop_disconnected");
    let deadline = Instant::now() + WAIT_MAX;
    while Answer::to(relay.tcp(), &plain_request("GET", "/nothing")).status != 404 {
        assert!(Instant::now() < deadline, "still refused");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn full_relay_is_healthy_and_does_not_count_the_connection_that_asks() {
    let relay = Relay::start(&["--max-connections", "2"]);
    let connections = || {
        let answer = Answer::to(relay.tcp(), &plain_request("GET", "/health"));
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str::<Value>(&answer.body).unwrap()["connections"].as_u64()
    };
    assert_eq!(connections(), Some(0));
    let _pair = relay.pair("abc");
    let deadline = Instant::now() + WAIT_MAX;
    // The previous health check's connection may not have ended yet.
    while connections() != Some(2) {
        assert!(Instant::now() < deadline, "there are two");
    }
}

#[test]
fn absolute_form_targets_are_understood() {
    assert_statuses(&[
        (plain_request("GET", "http://relay/health"), 200),
        (plain_request("GET", "https://relay:443/health?x"), 200),
        (plain_request("GET", "http://relay/desktop/abc"), 426),
        (plain_request("GET", "http://relay/nothing"), 404),
        (plain_request("GET", "http://relay"), 404),
    ]);
    let relay = Relay::start(&[]);
    let mut client = Client::upgrade(relay.tcp(), "http://relay/mobile/abc");
    client.expect_connected("mobile", "abc");
}

#[test]
fn http_1_0_needs_no_host_and_has_no_upgrade() {
    let old = |request: String| request.replace("HTTP/1.1", "HTTP/1.0");
    assert_statuses(&[
        ("GET /health HTTP/1.0\r\n\r\n".to_owned(), 200),
        (old(plain_request("GET", "/health")), 200),
        (old(upgrade_request("/desktop/abc")), 426),
    ]);
}

#[test]
fn one_connection_serves_one_request() {
    let relay = Relay::start(&[]);
    let twice = plain_request("GET", "/health").repeat(2);
    let answer = Answer::to(relay.tcp(), &twice);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.matches("healthy").count(), 1);
    assert!(!answer.body.contains("HTTP/1.1"));
}

#[test]
fn answer_reaches_a_client_that_is_still_sending_a_body() {
    let relay = Relay::start(&[]);
    for method in ["GET", "POST"] {
        let head = format!("{method} /health HTTP/1.1\r\nHost: relay\r\nContent-Length: 9000000\r\n\r\n");
        let mut stream = relay.tcp();
        stream.write_all(head.as_bytes()).unwrap();
        (0..9000).for_each(|_| stream.write_all(&[b'x'; 1000]).unwrap());
        let status = Answer::read(stream, false).status;
        assert_eq!(status, if method == "GET" { 200 } else { 405 });
    }
}

#[test]
fn request_is_answered_although_the_client_has_ended_its_stream() {
    let relay = Relay::start(&[]);
    let mut stream = relay.tcp();
    stream.write_all(plain_request("GET", "/health").as_bytes()).unwrap();
    stream.finish_sending().unwrap();
    assert_eq!(Answer::read(stream, false).status, 200);
}

#[test]
fn connection_that_ends_before_its_head_gets_nothing_and_affects_no_other() {
    let relay = Relay::start(&["--handshake-timeout", "10m"]);
    let mut stream = relay.tcp();
    stream.write_all(b"GET /health HT").unwrap();
    stream.finish_sending().unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let health = plain_request("GET", "/health");
    assert_eq!(Answer::to(relay.tcp(), &health).status, 200);
}
