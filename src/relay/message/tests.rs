use super::*;
use crate::relay::tests::random::Random;

fn text_of(message: SystemMessage<'_>) -> String {
    let mut frame = Vec::new();
    message.write_frame(1_700_000_000_123, &mut frame);
    let payload_at = if frame[1] == 126 { 4 } else { 2 };
    assert_eq!(frame[0], 0x81);
    assert_eq!(super::super::frame::server_frame_len(&frame), frame.len());
    String::from_utf8(frame.split_off(payload_at)).expect("system messages are UTF-8")
}

#[test]
fn system_messages_read_as_the_contract_gives_them() {
    let id = SessionId::parse(b"abc123").expect("valid");
    let json = check_json("{\"a\" \"b\"}").expect_err("no colon");
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
        check_json(expected).expect("system messages are JSON");
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
fn a_close_is_answered_with_its_own_code_or_refused() {
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
fn any_json_value_passes_whatever_its_type_or_depth() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let rows = [
        ("{}", None),
        (r#"{"type":"bundle_update","n":1}"#, Some("bundle_update")),
        (r#" { "n" : 1 , "type" : "x" } "#, Some("x")),
        (r#"{"type":"a","type":"b"}"#, Some("b")),
        (r#"{"type":5,"type":"b"}"#, Some("b")),
        (r#"{"type":"a","type":null}"#, None),
        (r#"{"type":"a","type":{"b":[1]}}"#, None),
        (r#"{"type":["a"]}"#, None),
        (r#"{"type":true}"#, None),
        (r#"{"type":-1.5e3}"#, None),
        (r#"{"type":-5}"#, None),
        (r#"{"ty\u0070e":"esc\u0061ped"}"#, Some("escaped")),
        (r#"{"nested":{"type":"inner"}}"#, None),
        (r#"["type","x"]"#, None),
        ("\"type\"", None),
        ("null", None),
        ("1e999", None),
        (r#"{"type":"x","n":1e999}"#, Some("x")),
        (r#"{"\ud800":1,"type":"unknown"}"#, None),
        (r#"{"type":"\ud800"}"#, None),
        (r#"{"n":"\ud800","type":"x"}"#, Some("x")),
        (deep.as_str(), None),
    ];
    for (text, expected) in rows {
        let shown = &text[..text.len().min(80)];
        assert_eq!(check_json(text), Ok(()), "{shown}");
        assert_eq!(check_json_and_type(text).expect(shown).as_deref(), expected, "{shown}");
    }
}

#[test]
fn text_that_is_not_json_is_refused_at_its_first_offending_byte() {
    let rows = [
        ("", 0),
        ("   ", 3),
        ("tru", 3),
        ("trux", 3),
        ("hello", 0),
        ("\u{feff}{}", 0),
        (r#"{"a":1,}"#, 7),
        (r#"{"a":1} x"#, 8),
        (r#"{"a":1"#, 6),
        (r#"{"a" 1}"#, 5),
        ("{a:1}", 1),
        ("[1,\n2,\nx]", 7),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("01", 1),
        ("-x", 1),
        ("1.x", 2),
        ("-", 1),
        ("--", 1),
        ("1.", 2),
        ("[1e+", 4),
        ("[1e+]", 4),
        ("+1", 0),
        ("\"a\nb\"", 2),
        ("\"a\u{1}b\"", 2),
        (r#""\x""#, 2),
        (r#""\u12g4""#, 5),
        (r#""\ug123""#, 3),
        (r#""\u12\x""#, 5),
        (r#""\\u12\x""#, 7),
        (r#""\u0s"#, 4),
        (r#""\u"x"#, 3),
        (r#""\u12" "#, 5),
        (r#""\u12"#, 5),
        (r#""\\us"#, 5),
        (r#""\u\u\"#, 3),
        ("{\n\"a\": \"\n\"}", 8),
        (r#""abc"#, 4),
        ("{} {}", 3),
        ("[\n\n\n}", 4),
    ];
    for (text, offset) in rows {
        let error = check_json(text).expect_err(text);
        assert_eq!(error.offset, offset, "{text:?}: {error}");
        assert_eq!(check_json_and_type(text), Err(error.clone()), "{text:?}");
        assert!(error.to_string().starts_with(&format!("Invalid JSON at byte {offset}: ")), "{error}");
        assert!(!error.to_string().contains(" line "), "{error}");
    }
}

/// A slow reader of JSON: the offset behind the value that begins at `at`, or of the first byte that no
/// JSON text has behind those before it.
fn end_of_value(text: &[u8], at: usize) -> Result<usize, usize> {
    let at = end_of_space(text, at);
    match text.get(at) {
        Some(b'{') => end_of_items(text, at + 1, b'}', |at| {
            let colon = end_of_space(text, end_of_string(text, at)?);
            end_of_value(text, end_of_literal(text, colon, b":")?)
        }),
        Some(b'[') => end_of_items(text, at + 1, b']', |at| end_of_value(text, at)),
        Some(b'"') => end_of_string(text, at),
        Some(b't') => end_of_literal(text, at, b"true"),
        Some(b'f') => end_of_literal(text, at, b"false"),
        Some(b'n') => end_of_literal(text, at, b"null"),
        _ => end_of_number(text, at),
    }
}

fn end_of_space(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count()
}

fn end_of_literal(text: &[u8], at: usize, literal: &[u8]) -> Result<usize, usize> {
    let common = text[at..].iter().zip(literal).take_while(|(byte, wanted)| byte == wanted).count();
    if common == literal.len() { Ok(at + common) } else { Err(at + common) }
}

fn end_of_items(
    text: &[u8],
    at: usize,
    close: u8,
    end_of_item: impl Fn(usize) -> Result<usize, usize>,
) -> Result<usize, usize> {
    let mut at = end_of_space(text, at);
    if text.get(at) == Some(&close) {
        return Ok(at + 1);
    }
    loop {
        at = end_of_space(text, end_of_item(end_of_space(text, at))?);
        match text.get(at) {
            Some(b',') => at += 1,
            Some(byte) if *byte == close => return Ok(at + 1),
            _ => return Err(at),
        }
    }
}

fn end_of_string(text: &[u8], at: usize) -> Result<usize, usize> {
    let mut at = end_of_literal(text, at, b"\"")?;
    loop {
        at = match (text.get(at), text.get(at + 1)) {
            (Some(b'"'), _) => return Ok(at + 1),
            (Some(b'\\'), Some(b'u')) => (at + 2..at + 6).try_fold(at + 2, |_, at| {
                let is_digit = text.get(at).is_some_and(u8::is_ascii_hexdigit);
                if is_digit { Ok(at + 1) } else { Err(at) }
            })?,
            (Some(b'\\'), Some(escaped)) if b"\"\\/bfnrt".contains(escaped) => at + 2,
            (Some(b'\\'), _) => return Err(at + 1),
            (Some(0x20..), _) => at + 1,
            (Some(_) | None, _) => return Err(at),
        }
    }
}

fn end_of_number(text: &[u8], at: usize) -> Result<usize, usize> {
    let digits = |at: usize| match text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count() {
        0 => Err(at),
        count => Ok(at + count),
    };
    let mut at = at + usize::from(text.get(at) == Some(&b'-'));
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at = digits(at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-'))))?;
    }
    Ok(at)
}

#[test]
fn any_text_is_refused_at_the_byte_where_a_slow_reader_of_json_stops() {
    const PIECES: [&str; 44] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"type\":",
        "\"type\":\"x\"",
        "\"b\":1",
        " ",
        "\n",
        "\t",
        "\r\n",
        "\\",
        "\\u",
        "\\u12",
        "\\u00e9",
        "\\ud800",
        "\\n",
        "\\x",
        "\\\"",
        "\\\\",
        "true",
        "tru",
        "false",
        "null",
        "0",
        "-",
        "12",
        "1.5",
        ".",
        "e",
        "E+",
        "-0.1e-7",
        "1e999",
        "u",
        "é",
        "\u{2028}",
        "\u{feff}",
        "\u{1}",
        "\u{7f}",
        "g",
    ];
    const WHOLE: [&str; 4] = [
        r#"{"type":"bundle","n":[1,-2.5e+3,true,null],"s":"\u00e9\\\"\n/é"}"#,
        "[\r\n {\"a\" : {} , \"b\" : [ ] } ,\n \"\\ud83d\\ude00\" ]\n",
        r#""\\\u0041\\u12""#,
        "-10.25E-7",
    ];
    for seed in 0..60_000 {
        let mut chance = Random(seed);
        let mut text = WHOLE.get(chance.below(12)).copied().unwrap_or_default().to_owned();
        for _ in 0..=chance.below(if text.is_empty() { 8 } else { 2 }) {
            let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let at = places.nth(chance.below(text.chars().count() + 1)).expect("a place in the text");
            match chance.below(4) {
                0 => text.truncate(at),
                1 if at < text.len() => drop(text.remove(at)),
                _ => text.insert_str(at, PIECES[chance.below(PIECES.len())]),
            }
        }
        let bytes = text.as_bytes();
        let end = end_of_value(bytes, 0).map(|end| end_of_space(bytes, end));
        let expected = end.and_then(|end| if end == bytes.len() { Ok(()) } else { Err(end) });
        assert_eq!(check_json(&text).map_err(|error| error.offset), expected, "seed {seed}: {text:?}");
    }
}

#[test]
fn nothing_a_client_sent_can_forge_or_flood_a_log_line() {
    assert_eq!(Logged("bundle_update").to_string(), "bundle_update");
    assert_eq!(Logged("a\nINFO b\u{1b}[0m\"é").to_string(), r#"a\nINFO b\u{1b}[0m\"\u{e9}"#);
    assert_eq!(Logged(&"x".repeat(1000)).to_string(), "x".repeat(64));
    assert_eq!(Logged(&"\n".repeat(1000)).to_string(), r"\n".repeat(32));
}
