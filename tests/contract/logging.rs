//! Section 7: the contents of the log, and that an unread log does not stop the relay.

use std::fs::File;
use std::io::{PipeWriter, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::admin::{admin, metrics};
use crate::answer::{Answer, upgrade_request};
use crate::client::Client;
use crate::frame::{TEXT, frame, frame_header};
use crate::harness::{Relay, WAIT_MAX, relay_command, run_to_end};

/// More lines than an unread pipe, socket or terminal takes.
const LINES: usize = 4_000;
/// The characters of Ctrl-S and Ctrl-Q, which stop and continue a terminal's output.
const STOP: &[u8] = b"\x13";
const CONTINUE: &[u8] = b"\x11";

/// A relay with `stderr` as its standard error. The test reads it from `log`.
fn relay_with_log(
    level: &str,
    flags: &[&str],
    stderr: impl Into<Stdio>,
    log: impl Read + Send + 'static,
) -> Relay {
    let mut command: Command = relay_command(&[("RUST_LOG", level)]);
    command.args(["--listen", "127.0.0.1:0"]).args(flags).stderr(stderr);
    Relay::spawn_with_log(command, log)
}

/// Lets a pair exchange messages, each of which gives a log line.
fn exchange(desktop: &mut Client, mobile: &mut Client, messages: usize) {
    for number in 0..messages {
        let text = format!("{{\"type\":\"log\",\"number\":{number}}}");
        desktop.send_text(&text);
        mobile.expect_text(&text);
    }
}

fn expect_error(client: &mut Client, code: &str) {
    assert_eq!(client.receive_system()["code"], code);
}

#[test]
fn unread_log_stops_neither_messages_nor_a_clean_stop() {
    let (socket_reader, socket) = UnixStream::pair().unwrap();
    let (pipe_reader, pipe) = pipe().unwrap();
    let socket = relay_with_log("debug", &[], OwnedFd::from(socket), socket_reader);
    let pipe = relay_with_log("debug", &[], OwnedFd::from(pipe), pipe_reader);
    for mut relay in [socket, pipe] {
        relay.leave_log_unread(true);
        let (mut desktop, mut mobile) = relay.pair("abc");
        exchange(&mut desktop, &mut mobile, LINES);
        drop((desktop, mobile));
        assert_eq!(relay.stop(), Some(0));
        relay.leave_log_unread(false);
    }
}

#[test]
fn second_signal_ends_a_relay_with_an_unread_log() {
    let (reader, writer) = pipe().unwrap();
    let mut relay = relay_with_log("debug", &["--shutdown-grace", "10m"], OwnedFd::from(writer), reader);
    relay.leave_log_unread(true);
    let (mut desktop, mut mobile) = relay.pair("abc");
    exchange(&mut desktop, &mut mobile, LINES);
    relay.signal(Signal::TERM);
    desktop.expect_close(1001, "Relay shutting down");
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait(), Some(1));
    relay.leave_log_unread(false);
}

#[test]
fn dropped_lines_are_counted_in_the_metrics_and_in_the_next_line() {
    let (reader, writer) = pipe().unwrap();
    let level = "off,apptuner_relay::messages=info,apptuner_relay::process=info";
    let flags = ["--admin", "127.0.0.1:0"];
    let mut relay = relay_with_log(level, &flags, OwnedFd::from(writer), reader);
    let operator = admin(&relay);
    let dropped = || metrics(operator)["apptuner_relay_log_lines_dropped_total"];
    let (mut desktop, mut mobile) = relay.pair("abc");
    exchange(&mut desktop, &mut mobile, 1);
    assert_eq!(dropped(), 0);
    relay.leave_log_unread(true);
    exchange(&mut desktop, &mut mobile, LINES);
    let lines_dropped = dropped();
    assert!(lines_dropped > 0);

    relay.leave_log_unread(false);
    let deadline = Instant::now() + WAIT_MAX;
    let mut messages = 1 + LINES;
    while !relay.log_lines().iter().any(|line| line.contains("lines_dropped=")) {
        assert!(Instant::now() < deadline, "nothing tells of lines that were dropped");
        exchange(&mut desktop, &mut mobile, 1);
        messages += 1;
    }
    assert_eq!(relay.stop(), Some(0));
    relay.wait_for_log_ending("Stopped");
    let lines = relay.log_lines();
    let told: u64 = lines.iter().filter_map(|line| number_of(line, "lines_dropped")).sum();
    let logged = lines.iter().filter(|line| line.ends_with("Message from desktop: log")).count();
    assert!(told >= lines_dropped, "{told} of {lines_dropped}");
    assert_eq!(told + logged as u64, messages as u64, "each line was written or counted");
    assert!(lines.iter().all(|line| line.starts_with("[20")), "every line is whole");
}

/// The number in a field of a line.
fn number_of(line: &str, field: &str) -> Option<u64> {
    let value = line.split_once(&format!("{field}="))?.1.split(' ').next()?;
    Some(value.parse().unwrap())
}

#[test]
fn stopped_terminal_does_not_stop_the_relay() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let terminal = ptsname(&master, Vec::new()).unwrap();
    let terminal = open(terminal, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut keyboard = File::from(master);
    let mut relay = relay_with_log("debug", &[], terminal, keyboard.try_clone().unwrap());
    let (mut desktop, mut mobile) = relay.pair("abc");
    exchange(&mut desktop, &mut mobile, 1);
    keyboard.write_all(STOP).unwrap();
    exchange(&mut desktop, &mut mobile, LINES);
    keyboard.write_all(CONTINUE).unwrap();
    let deadline = Instant::now() + WAIT_MAX;
    while !relay.log_lines().iter().any(|line| line.contains("lines_dropped=")) {
        assert!(Instant::now() < deadline, "nothing tells of lines that were dropped");
        exchange(&mut desktop, &mut mobile, 1);
    }
    keyboard.write_all(STOP).unwrap();
    exchange(&mut desktop, &mut mobile, LINES);
    drop((desktop, mobile));
    assert_eq!(relay.stop(), Some(0));
}

/// Fills a pipe until it takes no more.
fn fill(pipe: &mut PipeWriter) {
    let room = rustix::pipe::fcntl_getpipe_size(&*pipe).unwrap();
    pipe.write_all(&vec![b'\n'; room]).unwrap();
}

#[test]
fn start_error_ends_the_process_although_the_log_is_unread() {
    let (reader, mut writer) = pipe().unwrap();
    fill(&mut writer);
    let mut command = relay_command(&[]);
    command.args(["--session-timeout", "soon"]).stderr(writer);
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + WAIT_MAX;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(2));
    drop(reader);
}

#[test]
fn invalid_rust_log_gives_a_warning_and_the_default_log() {
    for (value, shown) in [
        ("trac", "trac"),
        ("\"info\"", "\\\"info\\\""),
        ("'debug'", "\\'debug\\'"),
        ("apptuner-relay=debug", "apptuner-relay=debug"),
        ("apptuner_relay=debgu", "apptuner_relay=debgu"),
        ("error,apptuner_relay=loud", "apptuner_relay=loud"),
        ("some_other_program=info", "some_other_program=info"),
    ] {
        let mut relay = Relay::start_with(&[], &[("RUST_LOG", value)]);
        assert_eq!(relay.stop(), Some(0));
        relay.wait_for_log_ending("Stopped");
        let lines = relay.log_lines();
        let named = format!("RUST_LOG: \"{shown}\" is neither a level");
        assert_eq!(lines.iter().filter(|line| line.contains(&named)).count(), 1, "{value}: {lines:?}");
    }
}

#[test]
fn valid_rust_log_gives_no_warning() {
    for value in
        ["info", "DEBUG", "apptuner_relay=info", "mio=off,apptuner=info", "off,apptuner_relay::process=info"]
    {
        let mut relay = Relay::start_with(&[], &[("RUST_LOG", value)]);
        assert_eq!(relay.stop(), Some(0));
        assert!(!relay.log_lines().iter().any(|line| line.contains("RUST_LOG")), "{value}");
    }
    let mut command = relay_command(&[("RUST_LOG", "off")]);
    command.args(["--listen", "127.0.0.1:0", "--max-buffered", "1KiB"]);
    assert_eq!(run_to_end(command).log.len(), 1, "what keeps it from starting is told all the same");
}

#[test]
fn message_without_a_peer_is_logged_as_not_forwarded() {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "abc");
    desktop.send_text(r#"{"type":"alone"}"#);
    expect_error(&mut desktop, "peer_not_connected");
    let line = relay.wait_for_log_ending("Message from desktop: alone");
    assert!(line.contains(" forwarded=false "), "{line}");
    let _mobile = relay.join_peer("mobile", "abc", &mut desktop);
    desktop.send_text(r#"{"type":"together"}"#);
    let line = relay.wait_for_log_ending("Message from desktop: together");
    assert!(line.contains(" forwarded=true "), "{line}");
}

#[test]
fn error_sent_to_a_client_is_logged_with_its_connection_and_counted_at_the_end() {
    let relay = Relay::start_with(&["--max-message-size", "1KiB"], &[("RUST_LOG", "debug")]);
    let mut desktop = relay.join("desktop", "abc");
    desktop.send_text(r#"{"type":"alone"}"#);
    expect_error(&mut desktop, "peer_not_connected");
    desktop.send_text("{nonsense");
    expect_error(&mut desktop, "invalid_json");
    desktop.send_raw(&frame_header(TEXT, 1025));
    expect_error(&mut desktop, "message_too_large");
    for (error, sentence) in [
        ("peer_not_connected", "Client told: Mobile device not connected"),
        ("invalid_json", "Client told: Invalid JSON at byte 1: key must be a string"),
        (
            "message_too_large",
            "Client told: Message of 1025 bytes is over this relay's limit of 1024 bytes (--max-message-size)",
        ),
    ] {
        let line = relay.wait_for_log_ending(sentence);
        assert!(line.contains(&format!(" client=desktop session=abc error={error} ")), "{line}");
        assert!(line.contains(" DEBUG ") && line.contains("] conn="), "{line}");
    }
    let line = relay.wait_for_log_ending("Connection ended");
    assert!(line.contains(" undelivered=0 errors=3 reason=too_large code=1009 "), "{line}");
}

#[test]
fn line_of_an_undelivered_messages_sender_has_the_error() {
    for mobile_closes in [true, false] {
        let relay = Relay::start(&["--session-timeout", "2s"]);
        let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
        desktop.send_text(&format!("\"{}\"", "x".repeat(1_000_000)));
        assert_eq!(mobile.fill(), None);
        if mobile_closes {
            mobile.reset();
            expect_error(&mut desktop, "undelivered");
            desktop.send_close(1000, "");
        }
        let line = relay.wait_for_log("the desktop's end", |line| {
            line.contains(" client=desktop ") && line.ends_with("Connection ended")
        });
        assert!(line.contains(" errors=1 "), "{line}");
    }
}

#[test]
fn message_that_moves_to_a_new_connection_does_not_count_as_undelivered() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.send_text(&format!("\"{}\"", "x".repeat(1_000_000)));
    assert_eq!(mobile.fill(), None);
    let _next = relay.join("mobile", "abc");
    let line = relay.wait_for_log("the mobile's end", |line| line.contains(" reason=replaced "));
    assert!(line.contains(" undelivered=0 "), "{line}");
}

#[test]
fn refusal_is_logged_with_the_path_and_the_rule() {
    let relay = Relay::start_with(&["--require-secret"], &[("RUST_LOG", "debug")]);
    let cases = [
        (
            "GET /desktp/abc?secret=correct-horse-battery HTTP/1.1\r\nHost: relay\r\n\r\n".to_owned(),
            "status=404 reason=not_found path=/desktp/abc Request refused: ",
        ),
        (
            upgrade_request("/mobile/a.b"),
            "status=400 reason=bad_request path=/mobile/a.b Request refused: Invalid path. Use /desktop/",
        ),
        (
            "GET /desktop/abc HTTP/1.1\r\nHost: relay\r\n\r\n".to_owned(),
            "status=426 reason=no_upgrade path=/desktop/abc Request refused: Expected WebSocket upgrade",
        ),
        (
            upgrade_request("/desktop/abc"),
            "status=403 reason=secret path=/desktop/abc Request refused: Bring the session's pairing secret",
        ),
        ("GET\r\n\r\n".to_owned(), "status=400 reason=bad_request path=- Request refused: "),
    ];
    for (request, expected) in cases {
        Answer::to(relay.tcp(), &request);
        let line = relay.wait_for_log(expected, |line| line.contains(expected));
        assert!(line.contains("] conn=") && !line.contains("horse"), "{line}");
    }
}

#[test]
fn json_log_has_numbers_as_numbers_and_each_field_whole() {
    let mut relay = Relay::start_with(&["--log-format", "json"], &[("RUST_LOG", "debug")]);
    // A session ID, so it must be a string even if it looks like a number.
    let mut desktop = relay.join("desktop", "12");
    desktop.send_text(r#"{"type":"alone"}"#);
    expect_error(&mut desktop, "peer_not_connected");
    // A frame with a reserved bit.
    desktop.send_raw(&[0xF1, 0x80, 0, 0, 0, 0]);
    desktop.expect_close_code(1002);
    relay.join("mobile", "12").send_raw(&frame(TEXT, b"\xFF"));
    Answer::to(relay.tcp(), "GET /nothing HTTP/1.1\r\nHost: relay\r\n\r\n");
    relay.wait_for_log("the refusal", |line| line.contains("not_found"));
    relay.wait_for_log("the mobile's close", |line| line.contains("not_utf8"));
    assert_eq!(relay.stop(), Some(0));
    let lines = relay.log_lines();
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |beginning: &str| {
        let is_it = |record: &&Value| record["message"].as_str().unwrap().starts_with(beginning);
        records.iter().find(is_it).unwrap_or_else(|| panic!("{beginning} is not in {lines:#?}"))
    };
    let end = find("Connection ended");
    for (field, value) in [
        ("session", json!("12")),
        ("client", json!("desktop")),
        ("address", json!("127.0.0.1")),
        ("messages_in", json!(0)),
        ("errors", json!(1)),
        ("reason", json!("protocol_error")),
        ("code", json!(1002)),
    ] {
        assert_eq!(end[field], value, "{field} in {end}");
    }
    assert!(end["conn"].is_string() && end["seconds"].is_number(), "{end}");
    assert_eq!(find("Message from desktop: alone")["forwarded"], json!(false));
    let refused = find("Request refused: ");
    assert_eq!((&refused["path"], &refused["status"]), (&json!("/nothing"), &json!(404)));
    let closing = find("Closing: ");
    assert_eq!((&closing["reason"], &closing["code"]), (&json!("protocol_error"), &json!(1002)));
    for record in &records {
        let message = record["message"].as_str().unwrap();
        assert!(message.starts_with(|first: char| first.is_ascii_uppercase()), "cut at a blank: {record}");
    }
}
