//! Section 4: how sessions begin, change hands and end.

use std::time::{Duration, Instant};

use crate::answer::upgrade_request;
use crate::client::{Client, Received};
use crate::frame::{PING, TEXT};
use crate::harness::{Relay, WAIT_MAX, assert_lasted};

#[test]
fn sessions_are_isolated_from_each_other() {
    let relay = Relay::start(&[]);
    let (mut one_desktop, mut one_mobile) = relay.pair("one");
    let (mut two_desktop, mut two_mobile) = relay.pair("two");
    one_desktop.send_text("1");
    one_mobile.expect_text("1");
    two_mobile.send_text("2");
    two_desktop.expect_text("2");
    one_mobile.leave();
    one_desktop.expect_notice("mobile_disconnected");
    for client in [&mut one_desktop, &mut two_desktop, &mut two_mobile] {
        client.expect_quiet();
    }
}

#[test]
fn new_connection_of_a_client_type_replaces_the_old_one() {
    let relay = Relay::start(&[]);
    let rows =
        [("desktop", "mobile", "New desktop connection"), ("mobile", "desktop", "New mobile connection")];
    for (replaced, stays, reason) in rows {
        let mut old = relay.join(replaced, replaced);
        let mut peer = relay.join_peer(stays, replaced, &mut old);

        let mut new = relay.join_peer(replaced, replaced, &mut peer);
        old.expect_close(1000, reason);

        new.expect_quiet();
        peer.expect_quiet();
        peer.send_text("\"to the new one\"");
        new.expect_text("\"to the new one\"");
        new.send_text("\"from the new one\"");
        peer.expect_text("\"from the new one\"");
    }
}

#[test]
fn replacement_without_a_peer_closes_the_old_connection() {
    let relay = Relay::start(&[]);
    let mut old = relay.join("mobile", "abc");
    let mut new = relay.join("mobile", "abc");
    old.expect_close(1000, "New mobile connection");
    new.expect_quiet();
}

#[test]
fn late_close_of_a_replaced_desktop_changes_nothing() {
    let relay = Relay::start(&[]);
    let ways: [fn(Client); 3] =
        [|mut client| client.expect_close(1000, "New desktop connection"), Client::reset, drop];
    for (number, end) in ways.into_iter().enumerate() {
        let (old, mut mobile) = relay.pair(&number.to_string());
        let mut new = relay.join_peer("desktop", &number.to_string(), &mut mobile);
        end(old);
        // Another connection joins and leaves. Its end is handled after that of the old one.
        relay.join("desktop", "sync").leave();
        new.expect_quiet();
        mobile.expect_quiet();
        new.send_text("1");
        mobile.expect_text("1");
    }
}

#[test]
fn replaced_connection_ends_although_it_never_answers_its_close() {
    let relay = Relay::start(&[]);
    let (_desktop, mut old) = relay.pair("abc");
    let _new = relay.join("mobile", "abc");
    old.expect(&Received::Close(1000, "New mobile connection".to_owned()));
    old.expect(&Received::End);
}

#[test]
fn message_from_a_replaced_connection_is_not_forwarded() {
    let relay = Relay::start(&[]);
    let (mut old, mut mobile) = relay.pair("abc");
    let mut new = relay.join_peer("desktop", "abc", &mut mobile);
    old.send_text("\"too late\"");
    old.send(PING, b"too late");
    old.expect_close(1000, "New desktop connection");
    mobile.expect_quiet();
    new.expect_quiet();
}

#[test]
fn repeated_replacement_leaves_exactly_one_connection() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    // As often as is allowed within ten seconds.
    for _ in 0..10 {
        let mut new = relay.join("mobile", "abc");
        new.expect_notice("desktop_connected");
        mobile.expect_close(1000, "New mobile connection");
        mobile = new;
        desktop.expect_notice("mobile_connected");
    }
    desktop.send_text("1");
    mobile.expect_text("1");
    desktop.expect_quiet();
}

#[test]
fn contested_place_keeps_its_client_and_the_operator_is_told_once() {
    let relay = Relay::start(&["--trust-proxy", "127.0.0.1"]);
    let mut desktop = relay.join("desktop", "abc");
    let join = |address: &str| {
        let line = format!("\r\nX-Forwarded-For: {address}\r\n\r\n");
        let request = upgrade_request("/mobile/abc").replacen("\r\n\r\n", &line, 1);
        Client::handshake(relay.tcp(), request.as_bytes())
    };
    let mut mobiles = Vec::new();
    for number in 0..=10 {
        let (answer, mobile) = join(["192.0.2.1", "192.0.2.2"][number % 2]);
        assert_eq!(answer.status, 101, "{number}");
        desktop.expect_notice("mobile_connected");
        mobiles.push(mobile);
    }
    for _ in 0..20 {
        let (answer, _) = join("192.0.2.2");
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("10")));
    }
    let line = relay.wait_for_log("the warning", |line| line.contains(" WARN "));
    assert!(line.contains("session=abc client=mobile address=192.0.2.1 other_address=192.0.2.2 "), "{line}");
    let mut last = mobiles.pop().unwrap();
    last.expect_connected("mobile", "abc");
    last.expect_notice("desktop_connected");
    desktop.send_text("1");
    last.expect_text("1");
    last.leave();
    desktop.expect_notice("mobile_disconnected");
    assert_eq!(join("192.0.2.2").0.status, 101, "the place is empty");
    let warnings = relay.log_lines().iter().filter(|line| line.contains(" WARN ")).count();
    assert_eq!(warnings, 1, "at most once a minute");
}

/// A text that is far larger than what the kernel takes for a client that does not read.
fn large_text() -> String {
    let words: Vec<_> = (0..120_000).map(|number| format!("{number:07}")).collect();
    format!("\"{}\"", words.join("/"))
}

#[test]
fn messages_not_written_whole_go_to_the_new_connection_from_their_start() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut old) = relay.pair_with_narrow_mobile("abc");
    let large = large_text();
    desktop.send_text(&large);
    desktop.send_text("\"second\"");
    desktop.send_text("\"third\"");
    // A part of the large message is written to the old connection.
    assert_eq!(old.fill(), None);

    let mut new = relay.join("mobile", "abc");
    new.expect_notice("desktop_connected");
    new.expect_text(&large);
    new.expect_text("\"second\"");
    new.expect_text("\"third\"");
    new.expect_quiet();
    desktop.expect_notice("mobile_connected");
    desktop.expect_quiet();

    // When the old connection reads, its close comes after whole frames.
    old.expect_close(1000, "New mobile connection");
}

#[test]
fn messages_move_through_several_connections_that_do_not_read() {
    let relay = Relay::start(&[]);
    let (mut desktop, old) = relay.pair_with_narrow_mobile("abc");
    let large = large_text();
    desktop.send_text(&large);
    let mut silent = vec![old];
    for _ in 0..3 {
        // Each connection has the start of the message before the next one joins.
        let started = silent.last_mut().unwrap();
        assert_eq!(started.fill(), None);
        silent.push(Client::join_peer(relay.narrow_tcp(), "mobile", "abc", &mut desktop));
    }
    let mut last = silent.pop().unwrap();
    last.expect_text(&large);
    last.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn moved_message_that_the_new_connection_does_not_take_either_is_undelivered() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut old) = relay.pair_with_narrow_mobile("abc");
    desktop.send_text(&large_text());
    assert_eq!(old.fill(), None);
    let mut new = Client::join_peer(relay.narrow_tcp(), "mobile", "abc", &mut desktop);
    assert_eq!(new.fill(), None);
    new.reset();
    assert_eq!(desktop.expect_undelivered(), 1);
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}

#[test]
fn notices_and_error_replies_that_waited_for_a_replaced_connection_are_dropped() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut old) = relay.pair_with_narrow_mobile("abc");
    let large = large_text();
    desktop.send_text(&large);
    assert_eq!(old.fill(), None);
    // An error waits for the old mobile,
    old.send_text("nonsense");
    old.send_text("\"sync\"");
    desktop.expect_text("\"sync\"");
    // and so do three notices.
    desktop.send_close(1000, "");
    desktop.expect(&Received::Close(1000, String::new()));
    let first = relay.join("desktop", "abc");
    let mut second = relay.join("desktop", "abc");
    drop(first);

    let mut new = relay.join("mobile", "abc");
    new.expect_notice("desktop_connected");
    new.expect_text(&large);
    new.expect_quiet();
    second.expect_notice("mobile_connected");
    second.expect_notice("mobile_connected");
    second.expect_quiet();
}

#[test]
fn messages_of_a_replaced_desktop_are_still_delivered() {
    let relay = Relay::start(&[]);
    let (mut old, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let large = large_text();
    old.send_text(&large);
    assert_eq!(mobile.fill(), None);
    let mut new = relay.join("desktop", "abc");
    new.expect_notice("mobile_connected");
    new.send_text("\"behind\"");
    mobile.expect_text(&large);
    mobile.expect_notice("desktop_connected");
    mobile.expect_text("\"behind\"");
    mobile.expect_quiet();
}

/// Requires the session's timeout, not earlier than `timeout` after `last_activity`.
fn expect_session_timeout(client: &mut Client, last_activity: Instant, timeout: Duration) {
    client.expect_close(1000, "Session timeout");
    assert_lasted(last_activity, timeout);
}

#[test]
fn inactive_session_closes_both_without_a_disconnected_notice_and_is_deleted() {
    let relay = Relay::start(&["--session-timeout", "500ms"]);
    let last_activity = Instant::now();
    let (mut desktop, mut mobile) = relay.pair("abc");
    for client in [&mut desktop, &mut mobile] {
        expect_session_timeout(client, last_activity, Duration::from_millis(500));
    }
    relay.wait_for_log_ending("Session abc deleted: inactive for 500ms");
    // A session with the same name is a new one.
    relay.join("mobile", "abc").expect_quiet();
}

#[test]
fn inactive_session_of_one_client_is_closed_too() {
    let relay = Relay::start(&["--session-timeout", "300ms"]);
    let last_activity = Instant::now();
    let mut desktop = relay.join("desktop", "abc");
    expect_session_timeout(&mut desktop, last_activity, Duration::from_millis(300));
}

#[test]
fn messages_in_either_direction_and_joins_keep_a_session_alive() {
    let timeout = Duration::from_secs(3);
    let relay = Relay::start(&["--session-timeout", "3s"]);
    let begun = Instant::now();
    let (mut desktop, mut mobile) = relay.pair("abc");
    let pause = || std::thread::sleep(Duration::from_millis(1100));
    pause();
    desktop.send_text("1");
    mobile.expect_text("1");
    pause();
    mobile.send_text("2");
    desktop.expect_text("2");
    pause();
    let last_activity = Instant::now();
    let mut new = relay.join_peer("mobile", "abc", &mut desktop);
    expect_session_timeout(&mut new, last_activity, timeout);
    assert!(begun.elapsed() > timeout * 2);
    expect_session_timeout(&mut desktop, last_activity, timeout);
}

/// Requires the session's timeout although the client keeps sending `first` with `payload`.
fn assert_no_activity(flags: &[&str], first: u8, payload: &[u8]) {
    let flags = [&["--session-timeout", "400ms"], flags].concat();
    let relay = Relay::start(&flags);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < WAIT_MAX, "{payload:?} keeps the session alive");
        mobile.send(first, payload);
        match mobile.receive() {
            Received::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (1000, "Session timeout"));
                break;
            }
            Received::Text(_) | Received::Pong(_) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other:?}"),
        }
    }
    desktop.expect_close(1000, "Session timeout");
}

#[test]
fn invalid_json_does_not_count_as_activity() {
    assert_no_activity(&[], TEXT, b"nonsense");
}

#[test]
fn answered_ping_does_not_count_as_activity() {
    assert_no_activity(&["--answer-pings"], TEXT, br#"{"type":"ping"}"#);
}

#[test]
fn websocket_ping_does_not_count_as_activity() {
    assert_no_activity(&[], PING, b"");
}

#[test]
fn session_that_both_have_left_is_deleted_after_the_reconnect_window() {
    let relay = Relay::start(&["--reconnect-window", "300ms"]);
    let (desktop, mut mobile) = relay.pair("abc");
    desktop.leave();
    mobile.expect_notice("desktop_disconnected");
    mobile.leave();
    relay.wait_for_log_ending("Session abc deleted: empty for 300ms");
    relay.join("mobile", "abc").expect_quiet();
}

#[test]
fn client_that_comes_back_within_the_reconnect_window_finds_the_same_session() {
    let relay = Relay::start(&["--reconnect-window", "2s"]);
    let (desktop, mobile) = relay.pair("kept");
    drop(mobile);
    drop(desktop);
    let mut mobile = relay.join("mobile", "kept");
    // A session that both left later is deleted; the first one is not.
    relay.join("mobile", "abandoned").leave();
    relay.wait_for_log_ending("Session abandoned deleted: empty for 2s");
    assert!(!relay.log_lines().iter().any(|line| line.contains("Session kept deleted")));
    let mut desktop = relay.join("desktop", "kept");
    mobile.expect_notice("desktop_connected");
    desktop.expect_notice("mobile_connected");
    desktop.expect_quiet();
}

#[test]
fn reconnect_window_restarts_each_time_both_have_left() {
    let relay = Relay::start(&["--reconnect-window", "1500ms"]);
    let begun = Instant::now();
    let mut before_leaving = begun;
    while begun.elapsed() < Duration::from_secs(2) {
        let client = relay.join("mobile", "abc");
        before_leaving = Instant::now();
        client.leave();
        std::thread::sleep(Duration::from_millis(50));
    }
    relay.wait_for_log_ending("Session abc deleted: empty for 1500ms");
    assert_lasted(before_leaving, Duration::from_millis(1500));
}

#[test]
fn session_with_one_client_left_outlives_the_reconnect_window() {
    let relay = Relay::start(&["--reconnect-window", "200ms"]);
    let (desktop, mut mobile) = relay.pair("half");
    desktop.leave();
    mobile.expect_notice("desktop_disconnected");
    relay.join("desktop", "empty").leave();
    relay.wait_for_log_ending("Session empty deleted: empty for 200ms");
    mobile.expect_quiet();
    assert!(!relay.log_lines().iter().any(|line| line.contains("Session half deleted")));
}
