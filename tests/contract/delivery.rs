//! Section 4, delivery: a message counts as delivered once a pong has confirmed it, and comes again until then.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Pings, Received};
use crate::frame::{BINARY, ENDS, PING, PONG, TEXT, TEXT_BEGINS, frame};
use crate::harness::{Relay, WAIT_MAX};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

/// A JSON text of `bytes` bytes that begins with `number`.
pub(crate) fn text(number: usize, bytes: usize) -> String {
    let start = format!("[{number},\"");
    format!("{start}{}\"]", "x".repeat(bytes - start.len() - 2))
}

/// A pair whose mobile answers no pings, and has received `texts` of its desktop.
pub(crate) fn pair_with_unconfirmed(relay: &Relay, session: &str, texts: &[&str]) -> (Client, Client) {
    let (mut desktop, mut mobile) = relay.pair(session);
    mobile.pings = Pings::Skipped;
    for text in texts {
        desktop.send_text(text);
        mobile.expect_text(text);
    }
    (desktop, mobile)
}

/// A mobile that is there again, has read the notice about `desktop`, and answers no pings.
pub(crate) fn come_back(relay: &Relay, session: &str, desktop: &mut Client) -> Client {
    let mut mobile = relay.join_peer("mobile", session, desktop);
    mobile.pings = Pings::Skipped;
    mobile
}

/// Resets `mobile`, and requires that its desktop is told only that it has left.
pub(crate) fn lose(mobile: Client, desktop: &mut Client) {
    mobile.reset();
    desktop.expect_notice("mobile_disconnected");
}

/// The count of an `undelivered` error.
fn undelivered_count(message: &Value) -> u64 {
    assert_eq!(message["code"], "undelivered", "{message}");
    message["count"].as_u64().unwrap()
}

/// The counts of the `undelivered` errors that wait for `client`. Nothing else may be waiting.
pub(crate) fn undelivered(client: &mut Client) -> Vec<u64> {
    let count = |received: &Received| {
        let Received::Text(text) = received else { panic!("{received:?}") };
        undelivered_count(&serde_json::from_str(text).unwrap())
    };
    client.receive_all().iter().map(count).collect()
}

/// The counts of the `undelivered` errors that `desktop` gets before and behind the notice that its mobile has left.
pub(crate) fn undelivered_at_departure(desktop: &mut Client) -> Vec<u64> {
    let mut counts = Vec::new();
    loop {
        let message = desktop.receive_system();
        if message == json!({"type": "mobile_disconnected"}) {
            counts.extend(undelivered(desktop));
            return counts;
        }
        counts.push(undelivered_count(&message));
    }
}

#[test]
fn ping_comes_behind_a_message_and_at_most_one_is_outstanding() {
    let relay = Relay::start_delivering(&["--session-timeout", "1s"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.expect_ping();
    for text in ["2", &text(3, 200 * KIB)] {
        desktop.send_text(text);
        mobile.expect_text(text);
    }
    // This takes longer than any ping behind a message.
    mobile.expect(&Received::Close(1000, "Session timeout".to_owned()));
}

#[test]
fn next_ping_comes_once_the_last_one_is_answered() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    let first = mobile.expect_ping();
    desktop.send_text("2");
    mobile.expect_text("2");
    mobile.send(PONG, &first);
    let second = mobile.expect_ping();
    assert_ne!(first, second);
    mobile.send(PONG, &second);
    mobile.expect_quiet();
}

#[test]
fn ping_comes_at_once_behind_a_message_over_128_kib() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let long = text(1, 128 * KIB + 1);
    desktop.send_text(&long);
    mobile.expect_text(&long);
    mobile.send(PING, b"later");
    mobile.expect_ping();
    mobile.expect(&Received::Pong(b"later".to_vec()));
}

#[test]
fn message_confirmed_by_a_pong_does_not_come_again() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.confirm();
    lose(mobile, &mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_quiet();
    desktop.expect_quiet();
}

/// How a mobile ends. The connection stays open if it returns the client.
type End = fn(Client) -> Option<Client>;

const ENDS_OF_A_CLIENT: [(&str, End); 5] = [
    ("closes", |client| {
        client.leave();
        None
    }),
    ("is-reset", |client| {
        client.reset();
        None
    }),
    ("is-dropped", |_| None),
    ("ends-its-stream", |client| {
        client.finish_sending();
        Some(client)
    }),
    ("breaks-the-protocol", |mut client| {
        client.send_raw(&[0xFF, 0xFF]);
        client.expect_close_code(1002);
        None
    }),
];

#[test]
fn unconfirmed_messages_come_again_in_order_after_every_end_and_before_newer_ones() {
    let relay = Relay::start_delivering(&[]);
    for (way, end) in ENDS_OF_A_CLIENT {
        let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, way, &["1", "2"]);
        desktop.send(BINARY, b"\x00\xFF");
        mobile.expect(&Received::Binary(vec![0x00, 0xFF]));
        let _left = end(mobile);
        desktop.expect_notice("mobile_disconnected");
        let mut mobile = come_back(&relay, way, &mut desktop);
        desktop.send_text("4");
        mobile.expect_text("1");
        mobile.expect_text("2");
        mobile.expect(&Received::Binary(vec![0x00, 0xFF]));
        mobile.expect_text("4");
        mobile.expect_quiet();
        desktop.expect_quiet();
    }
}

#[test]
fn unconfirmed_messages_come_again_after_a_replacement() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut old) = pair_with_unconfirmed(&relay, "abc", &["1", "2"]);
    let mut new = come_back(&relay, "abc", &mut desktop);
    old.expect_close(1000, "New mobile connection");
    desktop.send_text("3");
    for text in ["1", "2", "3"] {
        new.expect_text(text);
    }
    new.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn unconfirmed_messages_come_again_after_silence() {
    let relay = Relay::start_delivering(&["--ping-interval", "1s"]);
    let (mut desktop, _silent) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    desktop.pings = Pings::Answered;
    desktop.expect_notice("mobile_disconnected");
    come_back(&relay, "abc", &mut desktop).expect_text("1");
}

#[test]
fn waiting_messages_come_again_from_their_start() {
    let relay = Relay::start_delivering(&["--stall-timeout", "2s"]);
    for (session, is_reset) in [("reset", true), ("stalled", false)] {
        let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile(session);
        let long = text(1, 1_000_000);
        for text in [&long, "2", "3"] {
            desktop.send_text(text);
        }
        assert_eq!(mobile.fill(), None);
        // The relay has accepted all of them.
        desktop.expect_quiet();
        let _stalled = if is_reset {
            mobile.reset();
            None
        } else {
            Some(mobile)
        };
        desktop.expect_notice("mobile_disconnected");
        let mut mobile = come_back(&relay, session, &mut desktop);
        for text in [&long, "2", "3"] {
            mobile.expect_text(text);
        }
        mobile.expect_quiet();
        desktop.expect_quiet();
    }
}

#[test]
fn desktop_gets_unconfirmed_messages_again_as_well() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    mobile.send_text("1");
    desktop.expect_text("1");
    desktop.reset();
    mobile.expect_notice("desktop_disconnected");
    let mut desktop = relay.join_peer("desktop", "abc", &mut mobile);
    desktop.expect_text("1");
    desktop.confirm();
    mobile.expect_quiet();
}

#[test]
fn late_pong_confirms_only_what_came_before_its_ping() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    let first = mobile.expect_ping();
    desktop.send_text("2");
    mobile.expect_text("2");
    mobile.send(PONG, &first);
    mobile.expect_ping();
    mobile.send(PONG, &first);
    mobile.expect_quiet();
    lose(mobile, &mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_text("2");
    mobile.expect_quiet();
}

#[test]
fn pong_for_a_later_ping_confirms_what_came_before_an_earlier_one() {
    let relay = Relay::start_delivering(&["--ping-interval", "2s"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.pings = Pings::Answered;
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.expect_ping();
    // The mobile is silent, so it is pinged again. RFC 6455 lets it answer only the latest ping.
    mobile.confirm();
    lose(mobile, &mut desktop);
    come_back(&relay, "abc", &mut desktop).expect_quiet();
}

#[test]
fn pong_that_answers_no_ping_confirms_nothing() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    mobile.send(PONG, b"");
    desktop.send_text("1");
    mobile.expect_text("1");
    let payload = mobile.expect_ping();
    let changed = (0..payload.len()).map(|index| {
        let mut changed = payload.clone();
        changed[index] = changed[index].wrapping_add(1);
        changed
    });
    let longer = [&payload[..], &[0]].concat();
    let shorter = payload[..payload.len() - 1].to_vec();
    for wrong in changed.chain([longer, shorter, Vec::new(), vec![0xFF; 125]]) {
        mobile.send(PONG, &wrong);
    }
    mobile.expect_quiet();
    lose(mobile, &mut desktop);
    come_back(&relay, "abc", &mut desktop).expect_text("1");
}

#[test]
fn message_written_on_three_connections_is_given_up_and_its_sender_told_once() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &["1", "2"]);
    for _ in 0..2 {
        lose(mobile, &mut desktop);
        mobile = come_back(&relay, "abc", &mut desktop);
        mobile.expect_text("1");
        mobile.expect_text("2");
    }
    desktop.send_text("3");
    mobile.expect_text("3");
    mobile.reset();
    assert_eq!(undelivered_at_departure(&mut desktop), [2]);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_text("3");
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn sender_that_has_reconnected_is_told_that_its_message_was_given_up() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    for _ in 0..2 {
        lose(mobile, &mut desktop);
        mobile = come_back(&relay, "abc", &mut desktop);
        mobile.expect_text("1");
    }
    desktop.leave();
    mobile.expect_notice("desktop_disconnected");
    let mut desktop = relay.join_peer("desktop", "abc", &mut mobile);
    mobile.reset();
    assert_eq!(undelivered_at_departure(&mut desktop), [1]);
}

#[test]
fn drops_in_the_middle_of_a_message_do_not_count() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let long = text(1, 1_000_000);
    desktop.send_text(&long);
    for _ in 0..5 {
        assert_eq!(mobile.fill(), None);
        lose(mobile, &mut desktop);
        mobile = Client::join_peer(relay.narrow_tcp(), "mobile", "abc", &mut desktop);
    }
    mobile.expect_text(&long);
    desktop.expect_quiet();
}

#[test]
fn long_message_starts_again_if_its_receiver_leaves_in_the_middle_and_its_sender_notices_nothing() {
    let relay = Relay::start_delivering(&[]);
    for (session, is_sent_meanwhile) in [("sent-meanwhile", true), ("sent-later", false)] {
        let (mut desktop, mut mobile) = relay.pair(session);
        let long = text(1, 8 * MIB);
        let mut start = frame(TEXT, long.as_bytes());
        let rest = start.split_off(3 * MIB);
        desktop.send_raw(&start);
        mobile.expect_part();
        lose(mobile, &mut desktop);
        if is_sent_meanwhile {
            desktop.send_raw(&rest);
            desktop.expect_quiet();
        }
        let mut mobile = come_back(&relay, session, &mut desktop);
        if is_sent_meanwhile {
            mobile.expect_text(&long);
        } else {
            let sent = desktop.send_meanwhile(rest);
            mobile.expect_text(&long);
            sent.join().unwrap();
        }
        mobile.expect_quiet();
        desktop.expect_quiet();
    }
}

#[test]
fn message_that_arrived_in_fragments_comes_again_as_one_message() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &[]);
    desktop.send(TEXT_BEGINS, b"[1,");
    desktop.send(ENDS, b"2]");
    mobile.expect_text("[1,2]");
    lose(mobile, &mut desktop);
    come_back(&relay, "abc", &mut desktop).expect_text("[1,2]");
}

#[test]
fn replies_to_a_client_do_not_come_again() {
    let relay = Relay::start_delivering(&["--answer-pings"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.pings = Pings::Answered;
    let long = text(1, 1_000_000);
    desktop.send_text(&long);
    assert_eq!(mobile.fill(), None);
    mobile.send_text(r#"{"type":"ping"}"#);
    mobile.send_text("nonsense");
    // What the mobile sent before has been answered when this arrives.
    mobile.send_text("\"sync\"");
    desktop.expect_text("\"sync\"");
    lose(mobile, &mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_text(&long);
    mobile.expect_quiet();
}

#[test]
fn client_that_sends_but_answers_no_ping_for_two_intervals_gets_nothing_again() {
    let relay = Relay::start_delivering(&["--ping-interval", "1s"]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    desktop.pings = Pings::Answered;
    for session in ["first", "second"] {
        // This client is silent, so its end tells that two intervals have passed.
        let _silent = relay.join("mobile", session);
        let end = format!("Mobile disconnected from session {session}");
        let begun = Instant::now();
        while !relay.log_lines().iter().any(|line| line.contains(&end)) {
            assert!(begun.elapsed() < WAIT_MAX, "{end} is missing");
            mobile.expect_quiet();
            desktop.expect_quiet();
            thread::sleep(Duration::from_millis(5));
        }
    }
    desktop.send_text("2");
    mobile.expect_text("2");
    lose(mobile, &mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_quiet();
    desktop.expect_quiet();
}
