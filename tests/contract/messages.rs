//! Section 3: application messages.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::client::{Client, Received};
use crate::frame::{BINARY, CONTINUES, ENDS, PING, TEXT, TEXT_BEGINS, frame};
use crate::harness::Relay;

/// Longest fragment that the relay sends.
const FRAGMENT_BYTES_MAX: usize = 128 * 1024;

/// JSON texts that a careless relay would change or refuse.
const UNUSUAL_JSON: [&str; 25] = [
    "null",
    " \t\r\n0 \t\r\n",
    "-0",
    "1e999999",
    "-1.50E+003",
    "123456789012345678901234567890.000",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\\uDC00\\u00e9\"",
    "\"\u{7F}\u{2028}\u{10FFFF}\"",
    "[]",
    "{}",
    r#"{"b":1,"a":2,"b":3}"#,
    r#"{"":{"":[]}}"#,
    r#"{"\ud800":1}"#,
    r#"{"type":null}"#,
    r#"{"type":1e999}"#,
    r#"{"type":-12345678901234567890123}"#,
    r#"{"type":{"type":"ping"}}"#,
    r#"{"type":["\ud800"]}"#,
    r#"{"type":"\udfff\ud800"}"#,
    r#"{"type":"a","type":1,"type":"b"}"#,
    r#"{ "type" : "ping" , "seq" : 1.0 }"#,
    r#"{"type":"connected","clientType":"desktop"}"#,
    r#"{"type":"error","code":"peer_not_connected"}"#,
];

/// A JSON text of about `bytes` bytes without repeated parts.
fn long_text(bytes: usize) -> String {
    let numbers: Vec<_> = (0..bytes / 8).map(|number| format!("{number:07}")).collect();
    format!("\"{}\"", numbers.join("é"))
}

#[test]
fn any_json_value_is_forwarded_byte_for_byte_in_both_directions() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for text in UNUSUAL_JSON {
        desktop.send_text(text);
        mobile.expect_text(text);
        mobile.send_text(text);
        desktop.expect_text(text);
    }
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn deeply_nested_json_is_forwarded() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let depth = 200_000;
    let lists = "[".repeat(depth) + &"]".repeat(depth);
    let objects = r#"{"type":"#.repeat(depth) + "0" + &"}".repeat(depth);
    for text in [lists, objects] {
        desktop.send_text(&text);
        mobile.expect_text(&text);
    }
}

#[test]
fn binary_message_is_forwarded_unchanged() {
    let relay = Relay::start(&["--answer-pings"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for payload in [&b""[..], b"{", br#"{"type":"ping"}"#, b"\xFF\xFE", &bytes] {
        desktop.send(BINARY, payload);
        mobile.expect(&Received::Binary(payload.to_vec()));
        mobile.send(BINARY, payload);
        desktop.expect(&Received::Binary(payload.to_vec()));
    }
    desktop.expect_quiet();
}

#[test]
fn messages_of_lengths_around_all_bounds_pass() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for bound in [125, 126, 1 << 14, 1 << 16, 1 << 17, 1 << 18] {
        for length in bound - 16..=bound + 16 {
            let text = format!("\"{}\"", "x".repeat(length - 2));
            desktop.send_text(&text);
            mobile.expect_text(&text);
        }
    }
}

#[test]
fn small_message_is_sent_whole_and_a_large_one_in_bounded_fragments() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for bytes in [10, 100_000, 4 << 20] {
        let text = long_text(bytes);
        desktop.send_text(&text);
        let mut received = Vec::new();
        let mut fragments = 0;
        loop {
            let Ok(frame) = mobile.receive_frame() else { panic!("the stream ended") };
            assert_eq!(frame.opcode, u8::from(fragments == 0));
            assert!(frame.payload.len() <= FRAGMENT_BYTES_MAX);
            received.extend(frame.payload);
            fragments += 1;
            if frame.is_final {
                break;
            }
        }
        assert!(received == text.as_bytes());
        assert_eq!(fragments > 1, bytes > FRAGMENT_BYTES_MAX);
    }
}

#[test]
fn text_and_binary_messages_keep_their_order() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let message = |number: usize| {
        let text = format!("{{\"n\":{number},\"fill\":\"{}\"}}", "x".repeat(number % 2000));
        if number.is_multiple_of(3) { Received::Binary(text.into_bytes()) } else { Received::Text(text) }
    };
    for number in 0..3000 {
        match message(number) {
            Received::Text(text) => desktop.send_text(&text),
            Received::Binary(payload) => desktop.send(BINARY, &payload),
            other => panic!("{other:?}"),
        }
    }
    (0..3000).for_each(|number| mobile.expect(&message(number)));
    mobile.expect_quiet();
}

#[test]
fn both_directions_flow_at_once() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let text = long_text(60_000);
    for _ in 0..20 {
        desktop.send_text(&text);
        mobile.send_text(&text);
    }
    for _ in 0..20 {
        desktop.expect_text(&text);
        mobile.expect_text(&text);
    }
}

#[test]
fn message_in_fragments_arrives_as_one_message() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let text = "{\"é\":\"\u{1F600}\"}";
    // One byte per fragment, so characters are split. Empty fragments between.
    desktop.send(TEXT_BEGINS, b"");
    for byte in text.bytes() {
        desktop.send(CONTINUES, &[byte]);
        desktop.send(CONTINUES, b"");
        mobile.expect_quiet();
    }
    desktop.send(ENDS, b"");
    mobile.expect_text(text);
    mobile.expect_quiet();
}

#[test]
fn messages_joined_or_split_by_tcp_keep_their_bounds() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let bytes: Vec<u8> = (0..50).flat_map(|n| frame(TEXT, n.to_string().as_bytes())).collect();
    desktop.send_raw(&bytes);
    desktop.send_byte_by_byte(&bytes);
    for number in (0..50).chain(0..50) {
        mobile.expect_text(&number.to_string());
    }
    mobile.expect_quiet();
}

#[test]
fn messages_sent_before_a_close_arrive_before_its_notice_and_none_after() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let large = long_text(4 << 20);
    desktop.send_text(&large);
    desktop.send_text("\"last\"");
    desktop.send_close(1000, "");
    desktop.send_text("\"too late\"");
    mobile.expect_text(&large);
    mobile.expect_text("\"last\"");
    mobile.expect_notice("desktop_disconnected");
    mobile.expect_quiet();
}

/// A desktop's large message of which `mobile` has read only the first bytes.
fn stuff(desktop: &mut Client, mobile: &mut Client) -> String {
    let large = long_text(1_000_000);
    desktop.send_text(&large);
    assert_eq!(mobile.fill(), None);
    large
}

#[test]
fn pong_overtakes_a_large_message_and_an_error_overtakes_the_next_one() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    stuff(&mut desktop, &mut mobile);
    desktop.send_text("\"next\"");
    // The mobile sends this last. When it arrives at the desktop, the relay has read all before it.
    mobile.send(PING, b"hurry");
    mobile.send_text("nonsense");
    mobile.send_text("\"sync\"");
    desktop.expect_text("\"sync\"");

    let mut bytes_before_pong = 0;
    loop {
        let Ok(frame) = mobile.receive_frame() else { panic!("the stream ended") };
        assert!(!frame.is_final || frame.opcode != 0, "the message came first");
        if frame.opcode == 0xA {
            assert_eq!(&frame.payload[..], b"hurry");
            break;
        }
        bytes_before_pong += frame.payload.len();
    }
    assert!(bytes_before_pong < 4 << 20, "{bytes_before_pong} bytes came first");
    while mobile.receive_frame().is_ok_and(|frame| !frame.is_final) {}
    assert_eq!(mobile.receive_system()["code"], "invalid_json");
    mobile.expect_text("\"next\"");
    mobile.expect_quiet();
}

#[test]
fn ping_message_is_forwarded_like_any_other_unless_the_relay_was_told_to_answer() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text(r#"{"type":"ping"}"#);
    mobile.expect_text(r#"{"type":"ping"}"#);
    desktop.expect_quiet();
}

#[test]
fn answered_ping_gets_a_pong_and_is_not_forwarded() {
    let relay = Relay::start(&["--answer-pings"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let pings = [
        r#"{"type":"ping"}"#,
        r#" { "seq" : [1] , "type" : "ping" , "x" : {} } "#,
        r#"{"type":"other","type":"ping"}"#,
        r#"{"type":7,"type":"ping"}"#,
        r#"{"type":"p\u0069ng"}"#,
        r#"{"ty\u0070e":"ping"}"#,
    ];
    for ping in pings {
        for client in [&mut desktop, &mut mobile] {
            client.send_text(ping);
            assert_eq!(client.receive_system(), json!({"type": "pong"}), "{ping}");
        }
    }
    desktop.expect_quiet();
    mobile.expect_quiet();
}

#[test]
fn answered_ping_needs_no_peer() {
    let relay = Relay::start(&["--answer-pings"]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send_text(r#"{"type":"ping"}"#);
    mobile.expect_notice("pong");
    mobile.expect_quiet();
}

#[test]
fn only_a_top_level_type_of_ping_is_answered() {
    let relay = Relay::start(&["--answer-pings"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let others = [
        r#"{"type":"ping","type":"other"}"#,
        r#"{"type":"ping","type":null}"#,
        r#"{"data":{"type":"ping"}}"#,
        r#"[{"type":"ping"}]"#,
        r#"{"type":["ping"]}"#,
        r#"{"type":"Ping"}"#,
        r#"{"type":"ping "}"#,
        r#"{"Type":"ping"}"#,
        "\"ping\"",
    ];
    for text in others {
        desktop.send_text(text);
        mobile.expect_text(text);
    }
    desktop.expect_quiet();
}

/// What a client is told after its peer has left: how many messages were undelivered, and how many had no peer.
fn lost_messages(client: &mut Client) -> (usize, usize) {
    let undelivered = client.expect_undelivered();
    client.send(PING, b"sync");
    let mut not_connected = 0;
    let mut notices = 0;
    loop {
        match client.receive() {
            Received::Text(text) if text.contains("\"mobile_disconnected\"") => notices += 1,
            Received::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(message["code"], "peer_not_connected");
                not_connected += 1;
            }
            received => {
                assert_eq!(received, Received::Pong(b"sync".to_vec()));
                break;
            }
        }
    }
    assert_eq!(notices, 1);
    client.expect_quiet();
    (undelivered, not_connected)
}

#[test]
fn all_messages_behind_an_undelivered_one_are_reported() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    stuff(&mut desktop, &mut mobile);
    desktop.send_raw(&frame(TEXT, b"1").repeat(5));
    mobile.reset();
    let (undelivered, not_connected) = lost_messages(&mut desktop);
    assert!(undelivered > 0);
    assert_eq!(undelivered + not_connected, 6);
}

#[test]
fn every_message_is_delivered_or_reported() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let flood =
        desktop.flood(|number| frame(TEXT, format!("[{number},\"{}\"]", "x".repeat(60_000)).as_bytes()));
    for _ in 0..3 {
        assert!(matches!(mobile.receive(), Received::Text(_)));
    }
    mobile.reset();

    desktop.send_raw(&flood.rest);
    let (undelivered, not_connected) = lost_messages(&mut desktop);
    let sent = flood.sent + 1;
    let handed_over = sent.checked_sub(undelivered + not_connected);
    assert!(undelivered > 0 && handed_over >= Some(3), "{sent} {undelivered} {not_connected}");
    // The kernel may have taken only a bounded number.
    assert!(handed_over < Some(200), "{sent} {undelivered} {not_connected}");
}

#[test]
fn tungstenite_clients_talk_through_the_relay() {
    let relay = Relay::start(&[]);
    let [mut desktop, mut mobile] = ["desktop", "mobile"].map(|client_type| {
        let url = format!("ws://{}/{client_type}/abc", relay.address);
        tungstenite::client(url, relay.tcp()).unwrap().0
    });
    assert!(mobile.read().unwrap().into_text().unwrap().contains("\"connected\""));
    assert!(mobile.read().unwrap().into_text().unwrap().contains("\"desktop_connected\""));
    assert!(desktop.read().unwrap().into_text().unwrap().contains("\"connected\""));
    assert!(desktop.read().unwrap().into_text().unwrap().contains("\"mobile_connected\""));
    for message in [Message::text(long_text(2 << 20)), Message::binary(vec![7; 1000])] {
        desktop.send(message.clone()).unwrap();
        assert!(mobile.read().unwrap() == message);
    }
    mobile.close(None).unwrap();
    assert!(mobile.read().unwrap().is_close());
    assert!(desktop.read().unwrap().into_text().unwrap().contains("\"mobile_disconnected\""));
}
