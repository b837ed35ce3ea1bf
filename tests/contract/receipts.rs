//! Section 4, delivery: what a sender and the operator are told of it.

use serde_json::json;

use crate::admin::{admin, differences, metrics};
use crate::client::{Client, Received};
use crate::delivery::{come_back, lose, undelivered_at_departure};
use crate::frame::{PONG, TEXT, frame};
use crate::harness::Relay;
use crate::kept::send_kept;

/// A desktop that asks for receipts.
fn join_for_receipts(relay: &Relay, session: &str) -> Client {
    let mut desktop = Client::upgrade(relay.tcp(), &format!("/desktop/{session}?receipts=1"));
    desktop.expect_connected("desktop", session);
    desktop
}

/// Expects a receipt and returns its count.
fn expect_delivered(client: &mut Client) -> u64 {
    let receipt = client.receive_system();
    let count = receipt["count"].as_u64().unwrap_or_else(|| panic!("{receipt}"));
    assert_eq!(receipt, json!({"type": "delivered", "count": count}));
    count
}

#[test]
fn sender_that_asks_for_receipts_is_told_how_many_messages_were_delivered() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = join_for_receipts(&relay, "abc");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    desktop.send_raw(&frame(TEXT, b"1").repeat(10));
    let (mut received, mut delivered) = (0, 0);
    while delivered < 10 {
        match mobile.receive() {
            Received::Ping(payload) => {
                mobile.send(PONG, &payload);
                delivered += expect_delivered(&mut desktop);
                assert!(delivered <= received, "{delivered} of {received}");
            }
            message => {
                assert_eq!(message, Received::Text("1".to_owned()));
                received += 1;
            }
        }
    }
    assert_eq!(delivered, 10);
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn sender_that_has_reconnected_gets_receipts_for_what_it_sent_before() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = join_for_receipts(&relay, "abc");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    desktop.send_text("1");
    mobile.expect_text("1");
    let payload = mobile.expect_ping();
    desktop.leave();
    mobile.expect_notice("desktop_disconnected");
    let mut desktop = join_for_receipts(&relay, "abc");
    desktop.expect_notice("mobile_connected");
    mobile.expect_notice("desktop_connected");
    mobile.send(PONG, &payload);
    assert_eq!(expect_delivered(&mut desktop), 1);
}

#[test]
fn message_kept_for_an_absent_client_gets_its_receipt_later() {
    let relay = Relay::start_delivering(&[]);
    let mut desktop = join_for_receipts(&relay, "abc");
    lose(relay.join_peer("mobile", "abc", &mut desktop), &mut desktop);
    send_kept(&mut desktop, "1");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    mobile.expect_text("1");
    mobile.confirm();
    assert_eq!(expect_delivered(&mut desktop), 1);
    desktop.expect_quiet();
}

#[test]
fn sender_that_does_not_ask_gets_no_receipts() {
    let relay = Relay::start_delivering(&[]);
    for query in ["", "?receipts=0", "?receipts"] {
        let mut desktop = Client::upgrade(relay.tcp(), &format!("/desktop/abc{query}"));
        desktop.expect_connected("desktop", "abc");
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        desktop.send_text("1");
        mobile.expect_text("1");
        mobile.confirm();
        desktop.expect_quiet();
        mobile.leave();
        desktop.expect_notice("mobile_disconnected");
        desktop.leave();
    }
}

#[test]
fn metrics_count_messages_confirmed_redelivered_and_given_up() {
    let relay = Relay::start_delivering(&["--admin", "127.0.0.1:0"]);
    let operator = admin(&relay);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.confirm();
    desktop.send_text("2");
    mobile.expect_text("2");
    for _ in 0..2 {
        lose(mobile, &mut desktop);
        mobile = come_back(&relay, "abc", &mut desktop);
        mobile.expect_text("2");
    }
    mobile.reset();
    assert_eq!(undelivered_at_departure(&mut desktop), [1]);
    let expected = [
        ("messages_total{direction=\"to_mobile\"}", 2),
        ("messages_delivered_total{direction=\"to_mobile\"}", 1),
        ("messages_confirmed_total{direction=\"to_mobile\"}", 1),
        ("messages_redelivered_total{direction=\"to_mobile\"}", 2),
        ("messages_undelivered_total{direction=\"to_mobile\"}", 1),
        ("messages_given_up_total{direction=\"to_mobile\"}", 1),
        ("messages_confirmed_total{direction=\"to_desktop\"}", 0),
        ("delivery_seconds_count", 1),
        ("buffered_bytes", 0),
    ];
    assert_eq!(differences(&metrics(operator), &expected), []);
}

#[test]
fn line_of_a_connection_counts_messages_confirmed_redelivered_kept_and_undelivered() {
    let relay = Relay::start_delivering(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.confirm();
    desktop.send_text("2");
    mobile.expect_text("2");
    for _ in 0..2 {
        lose(mobile, &mut desktop);
        mobile = come_back(&relay, "abc", &mut desktop);
        mobile.expect_text("2");
    }
    mobile.reset();
    assert_eq!(undelivered_at_departure(&mut desktop), [1]);
    let is_end = |line: &str| line.contains(" client=mobile ") && line.ends_with("Connection ended");
    relay.wait_for_log("the last end", |line| is_end(line) && line.contains(" undelivered=1 "));
    let lines: Vec<String> = relay.log_lines().into_iter().filter(|line| is_end(line)).collect();
    let expected = [
        ["confirmed=1", "redelivered=0", "kept=1", "undelivered=0"],
        ["confirmed=0", "redelivered=1", "kept=1", "undelivered=0"],
        ["confirmed=0", "redelivered=1", "kept=0", "undelivered=1"],
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, fields) in lines.iter().zip(expected) {
        for field in fields {
            assert!(line.split(' ').any(|part| part == field), "{field}: {line}");
        }
    }
}
