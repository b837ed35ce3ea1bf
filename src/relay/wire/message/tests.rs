use super::*;
use crate::relay::wire::json::{TextError, check_text};

fn text_of(message: SystemMessage<'_>) -> String {
    let mut frame = Vec::new();
    message.write_frame(1_700_000_000_123, &mut frame);
    let payload_at = if frame[1] == 126 { 4 } else { 2 };
    assert_eq!(frame[0], 0x81);
    assert_eq!(crate::relay::wire::frame::server_frame_len(&frame), frame.len());
    String::from_utf8(frame.split_off(payload_at)).expect("system messages are UTF-8")
}

#[test]
fn system_messages_are_those_of_the_contract() {
    let id = SessionId::parse(b"abc123").expect("valid");
    let Err(TextError::InvalidJson(json)) = check_text(b"{\"a\" \"b\"}") else { panic!("no colon") };
    let rows = [
        (
            SystemMessage::Connected(ClientType::Desktop, &id),
            r#"{"type":"connected","clientType":"desktop","sessionId":"abc123","timestamp":1700000000123}"#,
        ),
        (
            SystemMessage::PeerConnected(ClientType::Mobile),
            r#"{"type":"mobile_connected","timestamp":1700000000123}"#,
        ),
        (
            SystemMessage::PeerDisconnected(ClientType::Desktop),
            r#"{"type":"desktop_disconnected","timestamp":1700000000123}"#,
        ),
        (SystemMessage::Pong, r#"{"type":"pong","timestamp":1700000000123}"#),
        (
            SystemMessage::Error(&ClientError::PeerNotConnected(ClientType::Mobile)),
            concat!(
                r#"{"type":"error","error":"Mobile device not connected","#,
                r#""code":"peer_not_connected","timestamp":1700000000123}"#
            ),
        ),
        (
            SystemMessage::Error(&ClientError::PeerNotConnected(ClientType::Desktop)),
            r#"{"type":"error","error":"Desktop not connected","code":"peer_not_connected","timestamp":1700000000123}"#,
        ),
        (
            SystemMessage::Error(&ClientError::InvalidJson(json)),
            concat!(
                r#"{"type":"error","error":"Invalid JSON at byte 5: expected "#,
                r#"`:`","code":"invalid_json","timestamp":1700000000123}"#
            ),
        ),
        (
            SystemMessage::Error(&ClientError::MessageTooLarge {
                bytes: 71_303_168,
                at_least: false,
                limit: 67_108_864,
            }),
            concat!(
                r#"{"type":"error","error":"Message of 71303168 bytes is over this relay's limit of 67108864 "#,
                r#"bytes (--max-message-size)","code":"message_too_large","timestamp":1700000000123}"#
            ),
        ),
        (
            SystemMessage::Error(&ClientError::Undelivered(3)),
            concat!(
                r#"{"type":"error","error":"3 messages were not delivered: their receiver "#,
                r#"disconnected","code":"undelivered","count":3,"timestamp":1700000000123}"#
            ),
        ),
    ];
    for (message, expected) in rows {
        assert_eq!(text_of(message), expected);
        check_text(expected.as_bytes()).expect("system messages are JSON");
    }
}

#[test]
fn every_close_frame_has_a_code_and_a_short_reason() {
    let reasons = [
        (CloseReason::Echo(4000, b"bye".to_vec()), 4000, "bye"),
        (CloseReason::Replaced(ClientType::Desktop), 1000, "New desktop connection"),
        (CloseReason::Replaced(ClientType::Mobile), 1000, "New mobile connection"),
        (CloseReason::SessionTimeout, 1000, "Session timeout"),
        (CloseReason::ShuttingDown, 1001, "Relay shutting down"),
        (CloseReason::Silent, 1001, "Nothing received for two ping intervals"),
        (CloseReason::TakesNothing, 1001, "Nothing taken for the stall timeout"),
        (CloseReason::MessageTimeout, 1001, "Message did not arrive in time"),
        (CloseReason::Protocol("Reserved opcode"), 1002, "Reserved opcode"),
        (CloseReason::NotUtf8, 1007, "Text must be UTF-8"),
        (CloseReason::TooLarge, 1009, "Message too large"),
        (CloseReason::NoRoom, 1013, "No room for this message now"),
        (CloseReason::NoticesUnread, 1013, "Too many notices left unread"),
    ];
    for (reason, code, text) in reasons {
        let mut frame = Vec::new();
        reason.write_frame(&mut frame);
        let [high, low] = u16::to_be_bytes(code);
        let length = u8::try_from(2 + text.len()).expect("short");
        assert_eq!(frame, [&[0x88, length, high, low], text.as_bytes()].concat());
    }
}

#[test]
fn a_close_is_answered_with_its_own_code_or_is_a_fault() {
    let with = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    let echo = |code, reason: &[u8]| CloseReason::Echo(code, reason.to_vec());
    let protocol = CloseReason::Protocol("Close code is not allowed");
    let rows = [
        (vec![], Ok((1005, echo(1000, b"")))),
        (vec![3], Err(CloseReason::Protocol("Close frame with half a code"))),
        (with(1000, b""), Ok((1000, echo(1000, b"")))),
        (with(1001, b"away"), Ok((1001, echo(1001, b"away")))),
        (with(4999, b""), Ok((4999, echo(4999, b"")))),
        (with(1000, &[0xFF]), Err(CloseReason::NotUtf8)),
        (with(1005, b""), Err(protocol.clone())),
        (with(0, b""), Err(protocol.clone())),
        (with(5000, b""), Err(protocol)),
    ];
    for (payload, expected) in rows {
        assert_eq!(answer_to_close(&payload), expected, "{payload:x?}");
    }
}

#[test]
fn text_of_a_client_cannot_forge_or_flood_a_log_line() {
    assert_eq!(Logged("bundle_update").to_string(), "bundle_update");
    assert_eq!(Logged("a\nINFO b\u{1b}[0m\"é").to_string(), r#"a\nINFO b\u{1b}[0m\"\u{e9}"#);
    assert_eq!(Logged(&"x".repeat(1000)).to_string(), "x".repeat(64));
    assert_eq!(Logged(&"\n".repeat(1000)).to_string(), r"\n".repeat(32));
}
