//! Section 4, delivery: what is kept for a client that is away, for how long, and how much of it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::answer::{Answer, upgrade_request};
use crate::client::{Client, Pings, Received};
use crate::delivery::{
    KIB, MIB, come_back, lose, pair_with_unconfirmed, text, undelivered, undelivered_at_departure,
};
use crate::frame::{BINARY, TEXT, frame};
use crate::harness::Relay;

const SECRET: &str = "correct-horse-battery-staple";

/// A desktop whose mobile was there and has left with nothing unconfirmed.
fn desktop_alone(relay: &Relay, session: &str) -> Client {
    let (mut desktop, mobile) = relay.pair(session);
    mobile.leave();
    desktop.expect_notice("mobile_disconnected");
    desktop
}

/// Expects the answer to a message that is kept for the mobile.
fn expect_kept(desktop: &mut Client) {
    desktop.expect_system(&kept_error());
}

fn kept_error() -> Value {
    let sentence = "Mobile device not connected";
    json!({"type": "error", "code": "peer_not_connected", "error": sentence, "kept": true})
}

/// Expects the answer to a message that is not kept.
fn expect_not_kept(desktop: &mut Client) {
    desktop.expect_error("peer_not_connected", "Mobile device not connected");
}

/// Sends a text that is kept for the mobile.
pub(crate) fn send_kept(desktop: &mut Client, text: &str) {
    desktop.send_text(text);
    expect_kept(desktop);
}

/// Sends texts of `bytes` bytes with the numbers from 0 to `count`, each kept for the mobile, and returns how many
/// messages were given up meanwhile.
fn send_many_kept(desktop: &mut Client, count: usize, bytes: usize) -> u64 {
    let sent = (0..count).flat_map(|number| frame(TEXT, text(number, bytes).as_bytes()));
    let sent = desktop.send_meanwhile(sent.collect());
    let (mut answered, mut given_up) = (0, 0);
    while answered < count {
        let message = desktop.receive_system();
        if message["code"] == "undelivered" {
            given_up += message["count"].as_u64().unwrap();
        } else {
            assert_eq!(message, kept_error());
            answered += 1;
        }
    }
    sent.join().unwrap();
    given_up + undelivered(desktop).iter().sum::<u64>()
}

/// The numbers of the texts that `mobile` receives before the next one of `desktop`.
fn numbers(desktop: &mut Client, mobile: &mut Client) -> Vec<usize> {
    desktop.send_text("\"next\"");
    let mut numbers = Vec::new();
    loop {
        match mobile.receive() {
            Received::Text(text) if text == "\"next\"" => return numbers,
            Received::Text(text) => numbers.push(text[1..].split(',').next().unwrap().parse().unwrap()),
            received => panic!("{received:?}"),
        }
    }
}

/// Requires the newest of `count` numbers, in order.
fn assert_newest(numbers: &[usize], count: usize) {
    let newest: Vec<usize> = (count - numbers.len()..count).collect();
    assert_eq!(numbers, newest);
}

#[test]
fn message_for_an_absent_client_is_kept_behind_the_others_and_its_sender_told_so() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mobile) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    lose(mobile, &mut desktop);
    send_kept(&mut desktop, "2");
    desktop.send(BINARY, b"\x03");
    expect_kept(&mut desktop);
    desktop.send_text("nonsense");
    assert_eq!(desktop.receive_system()["code"], "invalid_json");
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    desktop.send_text("4");
    mobile.expect_text("1");
    mobile.expect_text("2");
    mobile.expect(&Received::Binary(vec![3]));
    mobile.expect_text("4");
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn message_for_an_absent_desktop_is_kept_as_well() {
    let relay = Relay::start_delivering(&[]);
    let (desktop, mut mobile) = relay.pair("abc");
    desktop.leave();
    mobile.expect_notice("desktop_disconnected");
    mobile.send_text("1");
    let sentence = "Desktop not connected";
    mobile.expect_system(
        &json!({"type": "error", "code": "peer_not_connected", "error": sentence, "kept": true}),
    );
    let mut desktop = relay.join_peer("desktop", "abc", &mut mobile);
    desktop.expect_text("1");
    desktop.confirm();
}

#[test]
fn where_nobody_was_before_nothing_is_kept() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = relay.join("desktop", "abc");
    desktop.send_text("1");
    expect_not_kept(&mut desktop);
    desktop.send_raw(&frame(TEXT, text(2, 2 * MIB).as_bytes()));
    expect_not_kept(&mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn kept_messages_of_senders_that_have_left_arrive_without_old_notices() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = desktop_alone(&relay, "abc");
    send_kept(&mut desktop, "1");
    desktop.leave();
    let mut desktop = relay.join("desktop", "abc");
    send_kept(&mut desktop, "2");
    desktop.reset();
    relay.wait_for_log_ending("Desktop disconnected from session abc: 1006");
    let mut mobile = relay.join("mobile", "abc");
    mobile.pings = Pings::Skipped;
    mobile.expect_text("1");
    mobile.expect_text("2");
    mobile.expect_quiet();
}

#[test]
fn at_most_16_mib_are_kept_for_an_absent_client_and_the_oldest_are_given_up_first() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = desktop_alone(&relay, "abc");
    let given_up = send_many_kept(&mut desktop, 40, 800 * KIB);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    let arrived = numbers(&mut desktop, &mut mobile);
    assert_newest(&arrived, 40);
    assert_eq!(given_up + arrived.len() as u64, 40);
    let bytes = arrived.len() * 800 * KIB;
    assert!((12 * MIB..=16 * MIB).contains(&bytes), "{bytes} bytes were kept");
    desktop.expect_quiet();
}

#[test]
fn of_unconfirmed_messages_at_most_16_mib_are_kept_when_their_receiver_leaves() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &[]);
    for number in 0..40 {
        desktop.send_text(&text(number, 800 * KIB));
        mobile.expect_text(&text(number, 800 * KIB));
    }
    mobile.reset();
    let given_up: u64 = undelivered_at_departure(&mut desktop).iter().sum();
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    let arrived = numbers(&mut desktop, &mut mobile);
    assert_newest(&arrived, 40);
    assert_eq!(given_up + arrived.len() as u64, 40);
    assert!(arrived.len() * 800 * KIB <= 16 * MIB, "{} messages were kept", arrived.len());
}

#[test]
fn one_message_over_16_mib_is_kept_alone() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = desktop_alone(&relay, "abc");
    send_kept(&mut desktop, "1");
    assert_eq!(send_many_kept(&mut desktop, 1, 20 * MIB), 1);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_text(&text(0, 20 * MIB));
    mobile.expect_quiet();
    lose(mobile, &mut desktop);
    assert_eq!(send_many_kept(&mut desktop, 1, KIB), 1);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    assert_eq!(numbers(&mut desktop, &mut mobile), [0]);
}

#[test]
fn sender_is_told_when_the_window_is_over_and_its_receiver_is_no_longer_expected() {
    let relay = Relay::start_delivering(&["--redelivery-window", "2s"]);
    let (mut desktop, mobile) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    lose(mobile, &mut desktop);
    send_kept(&mut desktop, "2");
    send_kept(&mut desktop, "3");
    assert_eq!(desktop.expect_undelivered(), 3);
    desktop.send_text("4");
    expect_not_kept(&mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn sender_that_has_reconnected_is_told_when_the_window_is_over() {
    let relay = Relay::start_delivering(&["--redelivery-window", "1s"]);
    let (mut desktop, mobile) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    lose(mobile, &mut desktop);
    let mut again = relay.join("desktop", "abc");
    desktop.expect_close(1000, "New desktop connection");
    assert_eq!(again.expect_undelivered(), 1);
    again.expect_quiet();
}

#[test]
fn session_with_kept_messages_outlives_the_reconnect_window() {
    let relay = Relay::start_delivering(&["--reconnect-window", "300ms"]);
    let mut desktop = desktop_alone(&relay, "kept");
    send_kept(&mut desktop, "1");
    desktop.leave();
    // This session is empty later than the other one.
    relay.join("mobile", "empty").leave();
    relay.wait_for_log_ending("Session empty deleted: empty for 300ms");
    let mut mobile = relay.join("mobile", "kept");
    mobile.pings = Pings::Skipped;
    mobile.expect_text("1");
    assert!(!relay.log_lines().iter().any(|line| line.contains("Session kept deleted")));
}

#[test]
fn nothing_of_a_deleted_session_comes_to_a_new_one_of_its_id() {
    let relay = Relay::start_delivering(&["--reconnect-window", "100ms", "--redelivery-window", "1s"]);
    let mut desktop = desktop_alone(&relay, "abc");
    send_kept(&mut desktop, "1");
    desktop.leave();
    relay.wait_for_log("its end", |line| line.contains("Session abc deleted: "));
    let mut mobile = relay.join("mobile", "abc");
    mobile.expect_quiet();
    relay.join_peer("desktop", "abc", &mut mobile).expect_quiet();
}

#[test]
fn sender_is_told_of_unconfirmed_messages_before_a_session_timeout_closes_it() {
    let relay = Relay::start_delivering(&["--session-timeout", "1s"]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &["1", "2"]);
    assert_eq!(desktop.expect_undelivered(), 2);
    desktop.expect_close(1000, "Session timeout");
    mobile.expect_close(1000, "Session timeout");
    relay.join("mobile", "abc").expect_quiet();
}

#[test]
fn claiming_a_session_discards_what_was_kept_and_tells_its_sender() {
    let relay = Relay::start_delivering(&[]);
    for claimer in ["desktop", "mobile"] {
        let (mut desktop, mobile) = pair_with_unconfirmed(&relay, claimer, &["1"]);
        lose(mobile, &mut desktop);
        send_kept(&mut desktop, "2");
        let path = |client_type: &str| format!("/{client_type}/{claimer}?secret={SECRET}");
        let mut first = Client::upgrade(relay.tcp(), &path(claimer));
        first.expect_connected(claimer, claimer);
        assert_eq!(desktop.expect_undelivered(), 2, "{claimer}");
        desktop.expect_close(1008, "Session claimed: bring its pairing secret");
        let other = if claimer == "mobile" { "desktop" } else { "mobile" };
        let mut second = Client::upgrade(relay.tcp(), &path(other));
        second.expect_connected(other, claimer);
        second.expect_notice(&format!("{claimer}_connected"));
        first.expect_notice(&format!("{other}_connected"));
        first.expect_quiet();
        second.expect_quiet();
    }
}

#[test]
fn kept_messages_of_a_claimed_session_come_only_to_a_client_with_its_secret() {
    let relay = Relay::start_delivering(&[]);
    let path = |client_type: &str| format!("/{client_type}/abc?secret={SECRET}");
    let mut desktop = Client::upgrade(relay.tcp(), &path("desktop"));
    desktop.expect_connected("desktop", "abc");
    let mobile = Client::upgrade(relay.tcp(), &path("mobile"));
    desktop.expect_notice("mobile_connected");
    lose(mobile, &mut desktop);
    send_kept(&mut desktop, "1");
    assert_eq!(Answer::to(relay.tcp(), &upgrade_request("/mobile/abc")).status, 403);
    let mut mobile = Client::upgrade(relay.tcp(), &path("mobile"));
    mobile.expect_connected("mobile", "abc");
    mobile.expect_notice("desktop_connected");
    mobile.expect_text("1");
}

#[test]
fn stopping_relay_tells_the_sender_of_kept_messages() {
    let mut relay = Relay::start_delivering(&[]);
    let (mut desktop, mobile) = pair_with_unconfirmed(&relay, "abc", &["1"]);
    lose(mobile, &mut desktop);
    send_kept(&mut desktop, "2");
    relay.signal(Signal::TERM);
    assert_eq!(desktop.expect_undelivered(), 2);
    desktop.expect_close(1001, "Relay shutting down");
    assert_eq!(relay.wait(), Some(0));
}

#[test]
fn long_message_begins_to_arrive_if_its_receiver_comes_back_while_it_is_sent() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = desktop_alone(&relay, "abc");
    let long = text(1, 8 * MIB);
    let mut start = frame(TEXT, long.as_bytes());
    let rest = start.split_off(3 * MIB);
    desktop.send_raw(&start);
    expect_kept(&mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_part();
    let sent = desktop.send_meanwhile(rest);
    mobile.expect_text(&long);
    sent.join().unwrap();
    desktop.send_text("2");
    mobile.expect_text("2");
    desktop.expect_quiet();
}

#[test]
fn message_that_never_became_whole_does_not_come_to_a_client_that_comes_back() {
    let relay = Relay::start_delivering(&[]);
    for was_begun in [false, true] {
        let session = if was_begun { "begun" } else { "not-begun" };
        let (mut desktop, mut mobile) = relay.pair(session);
        let start = &frame(TEXT, text(1, 8 * MIB).as_bytes())[..3 * MIB];
        if was_begun {
            desktop.send_raw(start);
            mobile.expect_part();
            lose(mobile, &mut desktop);
        } else {
            lose(mobile, &mut desktop);
            desktop.send_raw(start);
            expect_kept(&mut desktop);
        }
        desktop.reset();
        relay.wait_for_log_ending(&format!("Desktop disconnected from session {session}: 1006"));
        let mut mobile = relay.join("mobile", session);
        let mut desktop = relay.join_peer("desktop", session, &mut mobile);
        desktop.send_text("2");
        mobile.expect_text("2");
    }
}

#[test]
fn long_message_that_is_no_longer_whole_in_memory_is_undelivered_and_its_rest_skipped() {
    let relay = Relay::start_delivering(&["--max-buffered", "4MiB"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let sent = desktop.send_meanwhile(frame(TEXT, text(1, 50 * MIB).as_bytes()));
    let mut received_bytes = 0;
    while received_bytes < 20 * MIB {
        received_bytes += mobile.receive_frame().unwrap_or_else(|end| panic!("{end:?}")).payload.len();
    }
    mobile.reset();
    sent.join().unwrap();
    assert_eq!(undelivered_at_departure(&mut desktop), [1]);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    desktop.send_text("2");
    mobile.expect_text("2");
    desktop.expect_quiet();
}

#[test]
fn unconfirmed_messages_hold_no_newer_ones_back_when_memory_is_short() {
    let relay = Relay::start_delivering(&["--max-buffered", "4MiB"]);
    let (mut desktop, mut mobile) = pair_with_unconfirmed(&relay, "abc", &[]);
    for number in 0..64 {
        desktop.send_text(&text(number, 256 * KIB));
        mobile.expect_text(&text(number, 256 * KIB));
    }
    lose(mobile, &mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    let arrived = numbers(&mut desktop, &mut mobile);
    assert_newest(&arrived, 64);
    assert!(arrived.len() <= 16, "{} messages in 4 MiB", arrived.len());
    desktop.expect_quiet();
}

#[test]
fn client_that_is_away_longest_loses_its_messages_first_when_memory_is_short() {
    let relay = Relay::start_delivering(&["--max-buffered", "4MiB"]);
    let session = |index: usize| format!("session{index}");
    let mut desktops: Vec<Client> = (0..8).map(|index| desktop_alone(&relay, &session(index))).collect();
    for desktop in &mut desktops {
        send_kept(desktop, &text(1, 900 * KIB));
    }
    let told: Vec<Vec<u64>> = desktops.iter_mut().map(undelivered).collect();
    let lost = told.iter().take_while(|counts| **counts == [1]).count();
    assert!((4..8).contains(&lost), "{told:?}");
    assert!(told[lost..].iter().all(Vec::is_empty), "{told:?}");
    for (index, desktop) in desktops.iter_mut().enumerate() {
        let mut mobile = come_back(&relay, &session(index), desktop);
        let arrived = numbers(desktop, &mut mobile);
        assert_eq!(arrived.len(), usize::from(index >= lost), "{index} of {told:?}");
    }
}

#[test]
fn with_a_window_of_zero_no_ping_comes_behind_a_message() {
    let relay = Relay::start_delivering(&["--redelivery-window", "0s", "--session-timeout", "1s"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for text in ["1", &text(2, 200 * KIB)] {
        desktop.send_text(text);
        mobile.expect_text(text);
    }
    mobile.expect_close(1000, "Session timeout");
    desktop.expect_close(1000, "Session timeout");
}

#[test]
fn with_a_window_of_zero_nothing_is_kept_and_the_sender_is_told_at_once() {
    let relay = Relay::start_delivering(&["--redelivery-window", "0s"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    desktop.send_text(&text(2, 1_000_000));
    assert_eq!(mobile.fill(), None);
    mobile.reset();
    assert_eq!(desktop.expect_undelivered(), 1);
    desktop.expect_notice("mobile_disconnected");
    desktop.send_text("3");
    expect_not_kept(&mut desktop);
    let mut mobile = come_back(&relay, "abc", &mut desktop);
    mobile.expect_quiet();
    desktop.expect_quiet();
}
