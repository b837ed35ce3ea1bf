//! Section 2: system messages.

use serde_json::json;

use crate::client::{Client, Received};
use crate::frame::{BINARY, TEXT, TEXT_BEGINS, frame_header};
use crate::harness::Relay;

/// How a client leaves. The connection stays open if it returns the client.
type Departure = fn(Client) -> Option<Client>;

/// Expects `invalid_json` with the offset of the first wrong byte.
fn expect_invalid_json(client: &mut Client, offset: usize, sent: &str) {
    let message = client.receive_system();
    let sentence = message["error"].as_str().unwrap().to_owned();
    assert_eq!(message, json!({"type": "error", "code": "invalid_json", "error": sentence}));
    let detail = sentence.strip_prefix(&format!("Invalid JSON at byte {offset}: "));
    assert!(detail.is_some_and(|detail| !detail.is_empty()), "{sent:?}: {sentence}");
}

#[test]
fn new_client_gets_connected_first_and_nothing_else_when_alone() {
    let relay = Relay::start(&[]);
    for client_type in ["desktop", "mobile"] {
        relay.join(client_type, &format!("{client_type}-alone")).expect_quiet();
    }
}

#[test]
fn new_client_is_told_at_once_about_its_peer() {
    let relay = Relay::start(&[]);
    for (first, second) in [("desktop", "mobile"), ("mobile", "desktop")] {
        let _first = relay.join(first, first);
        let mut new_client = relay.join(second, first);
        new_client.expect_notice(&format!("{first}_connected"));
        new_client.expect_quiet();
    }
}

#[test]
fn peer_is_told_once_about_each_join_leave_and_rejoin() {
    let relay = Relay::start(&[]);
    for (stays, moves) in [("desktop", "mobile"), ("mobile", "desktop")] {
        let mut peer = relay.join(stays, stays);
        for _ in 0..2 {
            let client = relay.join_peer(moves, stays, &mut peer);
            peer.expect_quiet();
            client.leave();
            peer.expect_notice(&format!("{moves}_disconnected"));
            peer.expect_quiet();
        }
    }
}

#[test]
fn peer_is_told_about_a_client_that_leaves_in_any_way() {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "abc");
    let ways: [(&str, Departure); 6] = [
        ("closes", |client| {
            client.leave();
            None
        }),
        ("is reset", |client| {
            client.reset();
            None
        }),
        ("is dropped", |_| None),
        ("ends its stream", |client| {
            client.finish_sending();
            Some(client)
        }),
        ("breaks the protocol", |mut client| {
            client.send_raw(&[0xFF, 0xFF]);
            Some(client)
        }),
        ("is reset in mid-message", |mut client| {
            client.send_raw(&frame_header(TEXT, 1000));
            client.reset();
            None
        }),
    ];
    for (way, go) in ways {
        let mobile = relay.join_peer("mobile", "abc", &mut desktop);
        let _kept = go(mobile);
        assert_eq!(desktop.receive_system(), json!({"type": "mobile_disconnected"}), "{way}");
        desktop.expect_quiet();
    }
}

#[test]
fn peer_is_told_about_a_client_that_timed_out() {
    let relay = Relay::start(&["--message-timeout", "200ms"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    mobile.send(TEXT_BEGINS, b"1");
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}

#[test]
fn message_without_a_peer_is_answered_with_one_error_each() {
    let relay = Relay::start(&[]);
    let sentences = [("desktop", "Mobile device not connected"), ("mobile", "Desktop not connected")];
    for (client_type, sentence) in sentences {
        let mut client = relay.join(client_type, client_type);
        client.send_text(r#"{"type":"bundle_update"}"#);
        client.send(BINARY, b"\x00\x01");
        client.send_text("3");
        for _ in 0..3 {
            client.expect_error("peer_not_connected", sentence);
        }
        client.expect_quiet();
    }
}

#[test]
fn message_to_a_peer_that_has_left_is_answered_with_an_error() {
    let relay = Relay::start(&[]);
    let (mut desktop, mobile) = relay.pair("abc");
    mobile.leave();
    desktop.expect_notice("mobile_disconnected");
    desktop.send_text("{}");
    desktop.expect_error("peer_not_connected", "Mobile device not connected");
    desktop.expect_quiet();
}

/// Texts that are not JSON, each with the length of its longest prefix that could begin a JSON text.
const INVALID_JSON: [(&str, usize); 44] = [
    ("", 0),
    (" \n", 2),
    (r#"{"a":1,}"#, 7),
    ("tru", 3),
    (r#"{"a":1} x"#, 8),
    ("[1,\n2,\nx]", 7),
    (r#"{"a":tru}"#, 8),
    (r#"{"type":tru}"#, 11),
    (r#"{"type":"ping",}"#, 15),
    (r#"{"type":"ping"x"#, 14),
    (r#"{"type" "ping"}"#, 8),
    (r#"{"type":"ping""#, 14),
    (r#"{"type"#, 6),
    ("{", 1),
    ("[", 1),
    ("]", 0),
    ("[1,]", 3),
    ("[1 2]", 3),
    ("[1}", 2),
    (r#"{"a":1]"#, 6),
    ("{a:1}", 1),
    (r#"{"a" 1}"#, 5),
    (r#"{"a":}"#, 5),
    ("{,}", 1),
    ("nul", 3),
    ("nulL", 3),
    ("truefalse", 4),
    ("1 2", 2),
    ("+1", 0),
    ("-", 1),
    ("-a", 1),
    ("01", 1),
    ("1.", 2),
    ("1.e", 2),
    ("1ex", 2),
    (".5", 0),
    ("NaN", 0),
    ("'a'", 0),
    (r#""abc"#, 4),
    ("\"a\nb\"", 2),
    (r#""a\x""#, 3),
    (r#""\u12g4""#, 5),
    ("\u{FEFF}1", 0),
    ("\"é\"x", 4),
];

#[test]
fn invalid_json_is_answered_with_the_offset_of_the_first_wrong_byte_and_not_forwarded() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for (text, offset) in INVALID_JSON {
        desktop.send_text(text);
        expect_invalid_json(&mut desktop, offset, text);
    }
    desktop.expect_quiet();
    mobile.expect_quiet();
    desktop.send_text("[]");
    mobile.expect_text("[]");
}

#[test]
fn invalid_json_deep_inside_a_long_text_is_found_at_its_offset() {
    let relay = Relay::start(&[]);
    let mut client = relay.join("mobile", "abc");
    let start = format!("[{}", "\"é\",\n".repeat(100_000));
    client.send_text(&format!("{start}]"));
    expect_invalid_json(&mut client, start.len(), "a long list");
}

#[test]
fn invalid_json_is_reported_before_a_missing_peer() {
    let relay = Relay::start(&[]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send_text("nonsense");
    expect_invalid_json(&mut mobile, 1, "nonsense");
    mobile.expect_quiet();
}

/// Expects `message_too_large` with all of `figures`, and then the close.
fn expect_too_large(client: &mut Client, figures: &[&str]) {
    let message = client.receive_system();
    let sentence = message["error"].as_str().unwrap().to_owned();
    assert_eq!(message, json!({"type": "error", "code": "message_too_large", "error": sentence}));
    for figure in figures {
        assert!(sentence.contains(figure), "{figure} is missing: {sentence}");
    }
    client.expect_close_code(1009);
}

#[test]
fn too_large_message_is_closed_at_its_header_with_size_and_limit() {
    let relay = Relay::start(&["--max-message-size", "1000"]);
    let mut desktop = relay.join("desktop", "abc");
    for first in [TEXT, BINARY, TEXT_BEGINS] {
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        mobile.send_raw(&frame_header(first, 1001));
        expect_too_large(&mut mobile, &["1001", "1000"]);
        desktop.expect_notice("mobile_disconnected");
    }
    desktop.expect_quiet();
}

#[test]
fn fragments_that_grow_too_large_are_closed_with_the_limit() {
    let relay = Relay::start(&["--max-message-size", "1000"]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send(TEXT_BEGINS, &[b' '; 600]);
    mobile.send_raw(&frame_header(0, 401));
    expect_too_large(&mut mobile, &["1000"]);
}

#[test]
fn by_default_a_message_over_64_mib_is_too_large() {
    let relay = Relay::start(&[]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send_raw(&frame_header(TEXT, 67_108_865));
    expect_too_large(&mut mobile, &["67108865", "67108864"]);
}

#[test]
fn by_default_a_message_of_64_mib_passes() {
    let relay = Relay::start(&[]);
    let (desktop, mut mobile) = relay.pair("abc");
    let length = 64 << 20;
    // Zeros under a mask are the mask itself, repeated.
    let header = frame_header(BINARY, length as u64);
    let mask = &header[header.len() - 4..];
    let sent = desktop.send_meanwhile([&header[..], &vec![0; length]].concat());
    let Received::Binary(payload) = mobile.receive() else { panic!("no binary message") };
    assert_eq!(payload.len(), length);
    assert!(payload.chunks(4).all(|bytes| bytes == mask));
    sent.join().unwrap();
}

#[test]
fn length_of_2_to_the_63_minus_1_is_too_large_but_valid() {
    let relay = Relay::start(&[]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send_raw(&frame_header(BINARY, (1 << 63) - 1));
    expect_too_large(&mut mobile, &["9223372036854775807", "67108864"]);
}

#[test]
fn undelivered_messages_are_reported_before_the_notice_that_the_peer_left() {
    let relay = Relay::start(&[]);
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    let ways: [(&str, Departure); 4] = [
        ("reset", |client| {
            client.reset();
            None
        }),
        ("dropped", |_| None),
        ("no-longer-sending", |client| {
            client.finish_sending();
            Some(client)
        }),
        ("closing", |mut client| {
            client.send_close(1000, "");
            Some(client)
        }),
    ];
    for (way, go) in ways {
        let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile(way);
        desktop.send_text(&large);
        // When its first byte is sent, the relay has accepted the message.
        assert_eq!(mobile.fill(), None);
        let _kept = go(mobile);
        assert_eq!(desktop.expect_undelivered(), 1, "{way}");
        desktop.expect_notice("mobile_disconnected");
        desktop.expect_quiet();
    }
}

#[test]
fn peer_that_received_everything_leaves_nothing_undelivered() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.reset();
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}
