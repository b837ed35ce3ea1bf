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
            SystemMessage::Error(&ClientError::PeerNotConnected { peer: ClientType::Mobile, is_kept: false }),
            concat!(
                r#"{"type":"error","error":"Mobile device not connected","#,
                r#""code":"peer_not_connected","timestamp":1700000000123}"#
            ),
        ),
        (
            SystemMessage::Error(&ClientError::PeerNotConnected {
                peer: ClientType::Desktop,
                is_kept: false,
            }),
            r#"{"type":"error","error":"Desktop not connected","code":"peer_not_connected","timestamp":1700000000123}"#,
        ),
        (
            SystemMessage::Error(&ClientError::PeerNotConnected { peer: ClientType::Mobile, is_kept: true }),
            concat!(
                r#"{"type":"error","error":"Mobile device not connected","#,
                r#""code":"peer_not_connected","kept":true,"timestamp":1700000000123}"#
            ),
        ),
        (SystemMessage::Delivered(12), r#"{"type":"delivered","count":12,"timestamp":1700000000123}"#),
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
fn text_of_a_client_cannot_forge_or_flood_a_log_line() {
    assert_eq!(Logged("bundle_update").to_string(), "bundle_update");
    assert_eq!(Logged("a\nINFO b\u{1b}[0m\"é").to_string(), r#"a\nINFO b\u{1b}[0m\"\u{e9}"#);
    assert_eq!(Logged(&"x".repeat(1000)).to_string(), "x".repeat(64));
    assert_eq!(Logged(&"\n".repeat(1000)).to_string(), r"\n".repeat(32));
}
