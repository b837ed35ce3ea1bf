//! Section 7: configuration, signals, exit codes and logs.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::answer::{Answer, plain_request, upgrade_request};
use crate::client::{Client, Received};
use crate::frame::{BINARY, TEXT, frame, frame_header};
use crate::harness::{Ended, Relay, WAIT_MAX, assert_lasted, relay_command, run_to_end, shell_command};
use crate::stream::Stream;

const SIZE_VARIABLE: &str = "APPTUNER_RELAY_MAX_MESSAGE_SIZE";

/// Requires that `relay` refuses messages above `limit` bytes and names the limit.
fn assert_message_limit(relay: &Relay, limit: u64) {
    let mut mobile = relay.join("mobile", "abc");
    mobile.send_raw(&frame_header(TEXT, limit + 1));
    let told = mobile.receive_system();
    assert!(told["error"].as_str().unwrap().contains(&limit.to_string()), "{told}");
}

#[test]
fn setting_comes_from_a_flag_or_else_from_a_variable() {
    let from_variable = Relay::start_with(&[], &[(SIZE_VARIABLE, "2KiB")]);
    assert_message_limit(&from_variable, 2048);
    let from_both = Relay::start_with(&["--max-message-size", "3KiB"], &[(SIZE_VARIABLE, "2KiB")]);
    assert_message_limit(&from_both, 3072);
    let with_equals_sign = Relay::start(&["--max-message-size=1MiB"]);
    assert_message_limit(&with_equals_sign, 1 << 20);
}

#[test]
fn empty_variable_counts_as_unset() {
    let variables = [
        (SIZE_VARIABLE, ""),
        ("APPTUNER_RELAY_SESSION_TIMEOUT", ""),
        ("APPTUNER_RELAY_ANSWER_PINGS", ""),
        ("APPTUNER_RELAY_MAX_CONNECTIONS", ""),
        ("PORT", ""),
    ];
    assert_message_limit(&Relay::start_with(&[], &variables), 64 << 20);
}

#[test]
fn switch_takes_true_false_1_and_0() {
    let ping = r#"{"type":"ping"}"#;
    for (value, is_on) in [("true", true), ("1", true), ("false", false), ("0", false)] {
        let relay = Relay::start_with(&[], &[("APPTUNER_RELAY_ANSWER_PINGS", value)]);
        let (mut desktop, mut mobile) = relay.pair("abc");
        desktop.send_text(ping);
        if is_on {
            desktop.expect_notice("pong");
        } else {
            mobile.expect_text(ping);
        }
    }
}

#[test]
fn durations_have_units() {
    for duration in ["1500ms", "90s", "30m", "2h"] {
        let relay = Relay::start(&["--session-timeout", duration]);
        relay.join("mobile", "abc").expect_quiet();
    }
}

/// Runs a relay that must refuse to start, with one line that says why.
fn refuse(flags: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = relay_command(variables);
    command.args(flags);
    let Ended { code, log } = run_to_end(command);
    let [line] = &log[..] else { panic!("{flags:?} {variables:?}: not one line: {log:?}") };
    (code, line.clone())
}

#[test]
fn bad_flag_ends_with_2_and_one_line_that_names_it() {
    let rows = [
        ("--no-such-flag", ""),
        ("--session-timeout", "90"),
        ("--session-timeout", "-1s"),
        ("--session-timeout", "soon"),
        ("--session-timeout", "99999999999999999999h"),
        ("--ping-interval", ""),
        ("--max-message-size", "64 MiB of it"),
        ("--max-message-size", "99999999999999999999"),
        ("--max-connections", "many"),
        ("--max-buffered", "1KiB"),
        ("--listen", "nowhere"),
        ("--listen", "127.0.0.1"),
        ("--listen", "127.0.0.1:99999"),
        ("--answer-pings=maybe", ""),
    ];
    for (flag, value) in rows {
        let is_single = flag.starts_with("--no-such") || flag.contains('=');
        let flags = if is_single { vec![flag] } else { vec![flag, value] };
        let (code, line) = refuse(&flags, &[]);
        assert_eq!(code, Some(2), "{flags:?}: {line}");
        assert!(line.contains(flag.split('=').next().unwrap()), "{flags:?}: {line}");
    }
}

#[test]
fn missing_value_or_extra_argument_ends_with_2() {
    assert_eq!(refuse(&["--session-timeout"], &[]).0, Some(2));
    assert_eq!(refuse(&["leftover"], &[]).0, Some(2));
}

#[test]
fn bad_variable_ends_with_2_and_one_line_that_names_it() {
    let rows = [
        ("APPTUNER_RELAY_SESSION_TIMEOUT", "90"),
        ("APPTUNER_RELAY_MAX_MESSAGE_SIZE", "big"),
        ("APPTUNER_RELAY_ANSWER_PINGS", "yes"),
        ("APPTUNER_RELAY_LISTEN", "nowhere"),
        ("PORT", "http"),
        ("PORT", "65536"),
    ];
    for (name, value) in rows {
        let (code, line) = refuse(&[], &[(name, value)]);
        assert_eq!(code, Some(2), "{name}={value}: {line}");
        assert!(line.contains(name), "{name}={value}: {line}");
    }
}

#[test]
fn every_setting_has_a_flag_and_a_variable_that_are_named_in_errors() {
    let settings = [
        "listen",
        "max-message-size",
        "max-buffered",
        "session-timeout",
        "reconnect-window",
        "redelivery-window",
        "ping-interval",
        "handshake-timeout",
        "stall-timeout",
        "message-timeout",
        "shutdown-grace",
        "max-connections",
        "max-message-rate",
        "max-byte-rate",
    ];
    for setting in settings {
        let flag = format!("--{setting}");
        let (code, line) = refuse(&[&flag, "nonsense"], &[]);
        assert_eq!(code, Some(2), "{flag}: {line}");
        assert!(line.contains(&flag), "{flag}: {line}");

        let variable = format!("APPTUNER_RELAY_{}", setting.to_uppercase().replace('-', "_"));
        let (code, line) = refuse(&[], &[(&variable, "nonsense")]);
        assert_eq!(code, Some(2), "{variable}: {line}");
        assert!(line.contains(&variable), "{variable}: {line}");
    }
}

#[test]
fn address_in_use_ends_with_1_and_one_line_that_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, line) = refuse(&["--listen", &address], &[]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("--listen") && line.contains(&address), "{line}");
}

#[test]
fn by_default_the_relay_listens_on_port_8787_of_the_loopback_interface() {
    // The port is taken by this test, or by another process if this fails. The relay must try to listen there.
    let _taken = TcpListener::bind("127.0.0.1:8787");
    let (code, line) = refuse(&[], &[]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("127.0.0.1:8787"), "{line}");
}

/// A relay whose address is set only by `variables`.
fn relay_by_variables(variables: &[(&str, &str)]) -> Relay {
    Relay::spawn(relay_command(variables))
}

#[test]
fn port_variable_means_all_interfaces_unless_listen_is_given() {
    let is_reachable = |relay: &Relay, address: [u8; 4]| {
        let address = SocketAddr::from((Ipv4Addr::from(address), relay.address.port()));
        TcpStream::connect(address).is_ok()
    };
    let everywhere = relay_by_variables(&[("PORT", "0")]);
    assert!(is_reachable(&everywhere, [127, 0, 0, 1]));
    assert!(is_reachable(&everywhere, [127, 0, 0, 2]));

    let by_variable = relay_by_variables(&[("PORT", "1"), ("APPTUNER_RELAY_LISTEN", "127.0.0.1:0")]);
    assert!(!is_reachable(&by_variable, [127, 0, 0, 2]));
    let by_flag = Relay::start_with(&[], &[("PORT", "1")]);
    assert!(!is_reachable(&by_flag, [127, 0, 0, 2]));
}

#[test]
fn soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let relay = Relay::start_after("ulimit -Sn 20", &[]);
    let clients: Vec<_> = (0..60).map(|n| relay.join("mobile", &n.to_string())).collect();
    for mut client in clients {
        client.expect_quiet();
    }
}

#[test]
fn by_default_the_connection_limit_comes_from_the_file_limit() {
    let relay = Relay::start_after("ulimit -n 130", &[]);
    let mut clients = Vec::new();
    for session in 0..130 {
        let request = upgrade_request(&format!("/mobile/{session}"));
        let (answer, client) = Client::handshake(relay.tcp(), request.as_bytes());
        if answer.status == 503 {
            break;
        }
        assert_eq!(answer.status, 101);
        clients.push(client);
    }
    assert!((5..130).contains(&clients.len()), "{} clients", clients.len());
}

#[test]
fn idle_relay_stops_with_0_at_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut relay = Relay::start(&[]);
        relay.signal(signal);
        assert_eq!(relay.wait(), Some(0));
    }
}

#[test]
fn stopping_relay_closes_every_client_and_exits_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut relay = Relay::start(&[]);
        let (mut desktop, mut mobile) = relay.pair("abc");
        let mut alone = relay.join("mobile", "alone");
        let mid_handshake = relay.tcp();
        relay.signal(signal);
        for client in [&mut desktop, &mut mobile, &mut alone] {
            expect_shutdown(client);
        }
        drop(mid_handshake);
        assert_eq!(relay.wait(), Some(0));
    }
}

#[test]
fn stopping_relay_closes_one_pair_after_another() {
    let mut relay = Relay::start(&["--shutdown-grace", "10m"]);
    let mut pairs: Vec<_> = (0..20).map(|number| relay.pair(&format!("pair{number}"))).collect();
    let start = Instant::now();
    relay.signal(Signal::TERM);
    for client in pairs.iter_mut().flat_map(|(desktop, mobile)| [desktop, mobile]) {
        // Neither client gets a notice about the other: both are closed together.
        client.expect_close(1001, "Relay shutting down");
    }
    assert_lasted(start, 19 * Duration::from_millis(10));
    relay.wait_for_log("how many over how long", |line| {
        line.contains("sessions=20") && line.contains("190ms")
    });
    for (mut desktop, mut mobile) in pairs {
        desktop.send_close(1001, "");
        mobile.send_close(1001, "");
    }
    assert_eq!(relay.wait(), Some(0), "long before the grace is over");
    let lines = relay.log_lines();
    let ends: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once(" client=")?.1.split_once(" seconds="))
        .map(|(who, _)| who)
        .collect();
    let expected: Vec<String> = (0..20)
        .flat_map(|number| ["desktop", "mobile"].map(|client| format!("{client} session=pair{number}")))
        .collect();
    assert_eq!(ends, expected);
}

/// Requires the close of a relay that stops. A notice about the peer may come before it.
fn expect_shutdown(client: &mut Client) {
    match client.receive() {
        Received::Text(text) if text.contains("_disconnected\"") => {
            client.expect_close(1001, "Relay shutting down");
        }
        received => {
            assert_eq!(received, Received::Close(1001, "Relay shutting down".to_owned()));
            client.send_close(1001, "");
            client.expect(&Received::End);
        }
    }
}

/// A relay that was told to stop while a large message waits for its mobile; and the message.
fn stopping_relay(flags: &[&str]) -> (Relay, Client, Client, String) {
    let relay = Relay::start(flags);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    desktop.send_text(&large);
    assert_eq!(mobile.fill(), None);
    relay.signal(Signal::TERM);
    (relay, desktop, mobile, large)
}

#[test]
fn stopping_relay_delivers_what_is_queued_before_the_close() {
    let (mut relay, mut desktop, mut mobile, large) = stopping_relay(&["--shutdown-grace", "10m"]);
    desktop.expect_close(1001, "Relay shutting down");
    mobile.expect_text(&large);
    expect_shutdown(&mut mobile);
    assert_eq!(relay.wait(), Some(0));
}

#[test]
fn stopping_relay_delivers_all_accepted_messages_of_a_flood() {
    let mut relay = Relay::start(&["--shutdown-grace", "10m"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let message = |number: usize| format!("[{number},\"{}\"]", "x".repeat(60_000));
    desktop.flood(|number| frame(TEXT, message(number).as_bytes()));
    relay.signal(Signal::TERM);
    expect_shutdown(&mut desktop);
    let mut next = 0;
    loop {
        match mobile.receive() {
            Received::Text(text) if text == message(next) => next += 1,
            Received::Text(text) if text.contains("\"desktop_disconnected\"") => {}
            received => {
                assert_eq!(received, Received::Close(1001, "Relay shutting down".to_owned()));
                break;
            }
        }
    }
    assert!(next > 0);
    mobile.send_close(1001, "");
    assert_eq!(relay.wait(), Some(0));
}

#[test]
fn stopping_relay_accepts_no_connection() {
    let (relay, mut desktop, _mobile, _large) = stopping_relay(&["--shutdown-grace", "10m"]);
    desktop.expect_close(1001, "Relay shutting down");
    let deadline = Instant::now() + WAIT_MAX;
    while TcpStream::connect(relay.address).is_ok() {
        assert!(Instant::now() < deadline, "still accepting");
    }
}

#[test]
fn stopping_relay_exits_with_0_in_time_although_a_client_does_not_read() {
    let (mut relay, _desktop, _mobile, _large) = stopping_relay(&["--shutdown-grace", "300ms"]);
    assert_eq!(relay.wait(), Some(0));
}

#[test]
fn second_signal_exits_at_once_with_1() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut relay, mut desktop, _mobile, _large) = stopping_relay(&["--shutdown-grace", "10m"]);
        desktop.expect_close(1001, "Relay shutting down");
        relay.signal(second);
        assert_eq!(relay.wait(), Some(1));
    }
}

/// A relay whose standard input is a terminal, started after `preparation`. The terminal's other end keeps it open.
fn relay_at_a_terminal(preparation: &str, flags: &[&str]) -> (Relay, OwnedFd) {
    let other_end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&other_end).unwrap();
    unlockpt(&other_end).unwrap();
    let name = ptsname(&other_end, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = shell_command(preparation, &[&["--listen", "127.0.0.1:0"], flags].concat(), &[]);
    // With a certificate there would be a file to reload.
    command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
    command.stdin(terminal);
    (Relay::spawn(command), other_end)
}

#[test]
fn relay_that_has_nothing_to_reload_ends_with_its_terminal() {
    let (mut relay, _terminal) = relay_at_a_terminal(":", &["--shutdown-grace", "10m"]);
    let mut client = Client::join(Stream::plain(relay.socket()), "mobile", "abc");
    relay.signal(Signal::HUP);
    assert_eq!(client.receive(), Received::Close(1001, "Relay shutting down".to_owned()));
    // A terminal's shell may send SIGHUP again. That is not a second request to stop.
    relay.signal(Signal::HUP);
    relay.wait_for_log("what came of it", |line| line.ends_with("The terminal is gone"));
    client.send_close(1001, "");
    client.expect(&Received::End);
    assert_eq!(relay.wait(), Some(0));
}

#[test]
fn relay_outlives_its_terminal_under_nohup_or_with_files_to_reload() {
    let rules = std::env::temp_dir().join(format!("apptuner-relay-{}-terminal", std::process::id()));
    std::fs::write(&rules, "deny 192.0.2.1\n").unwrap();
    let with_rules = ["--address-rules", rules.to_str().unwrap()];
    for (preparation, flags, told) in
        [("trap '' HUP", &[][..], "Nothing to reload"), (":", &with_rules, "Address rules reloaded")]
    {
        let (mut relay, _terminal) = relay_at_a_terminal(preparation, flags);
        relay.signal(Signal::HUP);
        relay.wait_for_log_ending(told);
        Client::join(Stream::plain(relay.socket()), "mobile", "abc").leave();
        assert_eq!(relay.stop(), Some(0));
    }
    std::fs::remove_file(rules).unwrap();
}

#[test]
fn log_has_joins_messages_leaves_and_deletions() {
    let relay = Relay::start(&["--reconnect-window", "1s"]);
    let (mut desktop, mut mobile) = relay.pair("abc123");
    relay.wait_for_log_ending("Desktop connected to session abc123");
    relay.wait_for_log_ending("Mobile connected to session abc123");
    let rows = [
        (TEXT, r#"{"data":{"type":"inner"},"type":"bundle_update"}"#, "bundle_update"),
        (TEXT, r#"{"type":"first","type":"last"}"#, "last"),
        (TEXT, r#"{"types":"none"}"#, "-"),
        (TEXT, "[\"type\"]", "-"),
        (BINARY, r#"{"type":"binary"}"#, "-"),
    ];
    for (first, text, logged) in rows {
        let lines_before = relay.log_lines().len();
        desktop.send(first, text.as_bytes());
        assert_ne!(mobile.receive(), Received::End);
        let ending = format!("Message from desktop: {logged}");
        // The previous row may have logged the same text.
        let deadline = Instant::now() + WAIT_MAX;
        while !relay.log_lines()[lines_before..].iter().any(|line| line.ends_with(&ending)) {
            assert!(Instant::now() < deadline, "{ending} is missing");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    mobile.send_text(r#"{"type":"console_log"}"#);
    relay.wait_for_log_ending("Message from mobile: console_log");
    mobile.send_close(1001, "");
    relay.wait_for_log_ending("Mobile disconnected from session abc123: 1001");
    desktop.reset();
    relay.wait_for_log_ending("Desktop disconnected from session abc123: 1006");
    relay.wait_for_log_ending("Session abc123 deleted: empty for 1s");
}

#[test]
fn durations_in_the_log_have_the_format_of_settings() {
    let relay = Relay::start(&["--session-timeout", "1s"]);
    let _client = relay.join("desktop", "abc123");
    relay.wait_for_log_ending("Session abc123 deleted: inactive for 1s");
}

#[test]
fn texts_of_clients_are_escaped_and_cut_in_the_log() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair(&"s".repeat(128));
    let forged = r#"{"type":"a\n[INFO] Desktop connected to session forged\u001b[2J"}"#;
    desktop.send_text(forged);
    mobile.expect_text(forged);
    let long = format!("{{\"type\":\"{}\"}}", "t".repeat(200));
    desktop.send_text(&long);
    mobile.expect_text(&long);

    let cut = format!("Message from desktop: {}", "t".repeat(64));
    let line = relay.wait_for_log(&cut, |line| line.contains(&cut));
    assert!(!line.contains(&"t".repeat(65)), "{line}");
    for line in relay.log_lines() {
        assert!(!line.contains(&"s".repeat(65)), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
        assert!(!line.starts_with("[INFO]"), "{line}");
    }
}

#[test]
fn no_payload_and_no_secret_is_logged() {
    let relay = Relay::start_with(&[], &[("RUST_LOG", "debug")]);
    let head = upgrade_request("/desktop/abc?token=hunter2");
    let head = head.replace("\r\n\r\n", "\r\nAuthorization: Bearer hunter2\r\nCookie: id=hunter2\r\n\r\n");
    let (_, mut desktop) = Client::handshake(relay.tcp(), head.as_bytes());
    desktop.expect_connected("desktop", "abc");
    desktop.send_text(r#"{"type":"x","password":"hunter2"}"#);
    desktop.send_text(r#"{"password":"hunter2" nonsense"#);
    desktop.send(BINARY, b"hunter2");
    desktop.send_close(4000, "hunter2");
    let _ = Answer::to(relay.tcp(), &plain_request("GET", "/nothing?password=hunter2"));
    relay.wait_for_log_ending("Desktop disconnected from session abc: 4000");
    let leaks: Vec<_> = relay.log_lines().into_iter().filter(|line| line.contains("hunter2")).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

#[test]
fn without_rust_log_only_start_and_stop_are_logged() {
    let mut relay = Relay::start_with(&[], &[("RUST_LOG", "")]);
    let (_desktop, mobile) = relay.pair("abc");
    mobile.leave();
    assert_eq!(relay.stop(), Some(0));
    for line in relay.log_lines() {
        assert!(!line.contains("abc"), "{line}");
    }
}

#[test]
fn nothing_is_written_to_standard_output() {
    let script = "\"$0\" --listen 127.0.0.1:0 & sleep 0.3; kill -TERM $!; wait $!";
    let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_apptuner-relay")]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Listening on ws://127.0.0.1:"));
}

#[test]
fn health_check_asks_a_relay_and_exits_with_the_result() {
    // This health check uses no TLS.
    let mut command = relay_command(&[]);
    command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
    command.args(["--listen", "127.0.0.1:0"]);
    let relay = Relay::spawn(command);
    let check = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = relay_command(variables);
        command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
        command.args(arguments);
        run_to_end(command)
    };
    let (address, port) = (relay.address.to_string(), relay.address.port().to_string());
    let url = |path: &str| format!("http://{address}{path}");
    for (arguments, variables) in [
        (&["health", &url("")][..], &[][..]),
        (&["health", &url("/health")], &[]),
        (&["health", "--listen", &address], &[]),
        (&["health"], &[("APPTUNER_RELAY_LISTEN", address.as_str())]),
        (&["health"], &[("PORT", port.as_str())]),
    ] {
        let Ended { code, log } = check(arguments, variables);
        assert_eq!((code, log), (Some(0), Vec::new()), "{arguments:?} {variables:?}");
    }
    for path in ["/desktop/abc", "/other"] {
        let Ended { code, log } = check(&["health", &url(path)], &[]);
        assert_eq!((code, log.len()), (Some(1), 1), "{log:?}");
        assert!(log[0].contains(&url(path)) && log[0].contains("not healthy"), "{log:?}");
    }
    let gone = url("/health");
    drop(relay);
    let Ended { code, log } = check(&["health", &gone], &[]);
    assert_eq!((code, log.len()), (Some(1), 1), "{log:?}");
    for arguments in [&["health", "relay:80"][..], &["health", "http://relay:80"], &["health", &gone, "x"]] {
        let Ended { code, log } = check(arguments, &[]);
        assert_eq!((code, log.len()), (Some(2), 1), "{log:?}");
    }
}

#[test]
fn with_log_format_json_each_line_is_an_object_with_its_fields() {
    let mut relay = Relay::start(&["--log-format", "json"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text(r#"{"type":"a \"b\" c\n"}"#);
    mobile.receive();
    drop((desktop, mobile));
    assert_eq!(relay.stop(), Some(0));
    let lines = relay.log_lines();
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |ending: &str| {
        let is_it = |record: &&Value| record["message"].as_str().unwrap().ends_with(ending);
        records.iter().find(is_it).unwrap_or_else(|| panic!("{ending} is not in {lines:#?}"))
    };
    let joined = find("Desktop connected to session abc");
    assert_eq!((&joined["session"], &joined["level"]), (&json!("abc"), &json!("info")));
    assert!(joined["conn"].is_string() && joined["target"].is_string(), "{joined}");
    assert!(joined["time"].as_str().unwrap().ends_with('Z'), "{joined}");
    assert_eq!(
        find(r#"Message from desktop: a \"b\" c\n"#)["message"],
        r#"Message from desktop: a \"b\" c\n"#
    );
    find("Stopped");
}

#[test]
fn each_connection_ends_with_one_line_about_its_client_and_the_reason() {
    let mut relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("[1]");
    desktop.send_text("[12]");
    mobile.expect_text("[1]");
    mobile.expect_text("[12]");
    mobile.send_text("3");
    desktop.expect_text("3");
    let again = relay.join("desktop", "abc");
    desktop.expect_close(1000, "New desktop connection");
    mobile.expect_notice("desktop_connected");
    mobile.leave();
    again.reset();
    let _ = Answer::to(relay.tcp(), &plain_request("GET", "/health"));
    let _ = Answer::to(relay.tcp(), &plain_request("GET", "/nothing"));
    drop(relay.tcp());
    relay.wait_for_log("the end of the last", |line| {
        line.contains("client=- session=- ") && line.contains("lost")
    });
    let _left = relay.join("mobile", "xyz");
    relay.stop();
    let lines = relay.log_lines();
    let ends: Vec<&str> =
        lines.iter().filter(|line| line.ends_with("Connection ended")).map(String::as_str).collect();
    let expected = [
        (
            "desktop",
            "abc",
            "messages_in=2 bytes_in=7 messages_out=1 bytes_out=1 undelivered=0 errors=0 reason=replaced code=1000",
        ),
        (
            "mobile",
            "abc",
            "messages_in=1 bytes_in=1 messages_out=2 bytes_out=7 undelivered=0 errors=0 reason=client_closed \
             code=1000",
        ),
        (
            "desktop",
            "abc",
            "messages_in=0 bytes_in=0 messages_out=0 bytes_out=0 undelivered=0 errors=0 reason=lost code=1006",
        ),
        ("-", "-", "undelivered=0 errors=0 reason=answered code=200"),
        ("-", "-", "undelivered=0 errors=0 reason=refused code=404"),
        ("-", "-", "undelivered=0 errors=0 reason=lost code=0"),
        ("mobile", "xyz", "undelivered=0 errors=0 reason=shutting_down code=1001"),
    ];
    assert_eq!(ends.len(), expected.len(), "{ends:#?}");
    for (line, (client, session, rest)) in ends.iter().zip(expected) {
        let who = format!(" address=127.0.0.1 client={client} session={session} seconds=");
        assert!(line.contains(&who), "{who}: {line}");
        for field in rest.split(' ') {
            assert!(line.split(' ').any(|part| part == field), "{field}: {line}");
        }
    }
}
