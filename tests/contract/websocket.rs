//! Section 5: RFC 6455, strictly.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, Received};
use crate::frame::{
    BINARY, BINARY_BEGINS, CLOSE, CONTINUES, ENDS, FINAL, LengthForm, PING, PONG, RESERVED_CONTROL,
    RESERVED_DATA, RSV1, RSV2, RSV3, TEXT, TEXT_BEGINS, UNCHANGED, close_payload, frame, frame_header,
    frame_with, header_with,
};
use crate::harness::{Relay, assert_lasted};

/// A header with the 16-bit form of any length.
fn length_in_two_bytes(first: u8, length: u16) -> Vec<u8> {
    frame_with(first, UNCHANGED, LengthForm::Two, &vec![b'1'; length.into()])
}

/// A header with the 64-bit form of any length.
fn length_in_eight_bytes(first: u8, length: u64) -> Vec<u8> {
    let payload = vec![b'1'; usize::try_from(length.min(70_000)).unwrap()];
    [header_with(first, UNCHANGED, LengthForm::Eight, length), payload].concat()
}

/// Requires that each of `rows`, sent whole, byte by byte or with more after it, is answered only by a close with
/// `code`, and that the peer gets only the notice that the client has left.
fn assert_refused(rows: &[(&str, Vec<u8>)], code: u16) {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "abc");
    for (what, bytes) in rows {
        let ways: [fn(&mut Client, &[u8]); 3] = [
            |client, bytes| client.send_raw(bytes),
            |client, bytes| {
                for chunk in bytes.chunks(1.max(bytes.len() / 100)) {
                    client.send_raw(chunk);
                }
            },
            |client, bytes| {
                client.send_raw(&[bytes, &frame(TEXT, b"\"behind it\""), &frame(PING, b"")].concat());
            },
        ];
        for (way, send) in ways.into_iter().enumerate() {
            let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
            send(&mut mobile, bytes);
            let received = mobile.receive();
            let is_right = matches!(&received, Received::Close(got, _) if *got == code);
            assert!(is_right, "{what}, way {way}: {received:?}");
            mobile.finish_sending();
            mobile.expect(&Received::End);
            assert_eq!(desktop.receive_system(), json!({"type": "mobile_disconnected"}), "{what}");
        }
    }
    desktop.expect_quiet();
}

#[test]
fn violation_of_the_framing_rules_is_closed_with_1002() {
    let unmasked =
        |first: u8, payload: &[u8]| [&[first, u8::try_from(payload.len()).unwrap()], payload].concat();
    let mut rows = vec![
        ("unmasked text", unmasked(TEXT, b"1")),
        ("unmasked ping", unmasked(PING, b"")),
        ("unmasked close", unmasked(CLOSE, &close_payload(1000, ""))),
        ("unmasked empty fragment", unmasked(TEXT_BEGINS, b"")),
        ("reserved bit 1", frame(TEXT | RSV1, b"1")),
        ("reserved bit 2", frame(TEXT | RSV2, b"1")),
        ("reserved bit 3", frame(TEXT | RSV3, b"1")),
        ("reserved bit on a ping", frame(PING | RSV1, b"")),
        ("reserved bit on a continuation", [frame(TEXT_BEGINS, b"1"), frame(ENDS | RSV1, b"")].concat()),
        ("fragmented ping", frame(PING & !FINAL, b"")),
        ("fragmented pong", frame(PONG & !FINAL, b"")),
        ("fragmented close", frame(CLOSE & !FINAL, &close_payload(1000, ""))),
        ("oversize ping", frame(PING, &[0; 126])),
        ("oversize pong", frame(PONG, &[0; 70_000])),
        ("oversize close", frame(CLOSE, &close_payload(1000, &"x".repeat(124)))),
        ("empty text in 16 bits", length_in_two_bytes(TEXT, 0)),
        ("125 bytes in 16 bits", length_in_two_bytes(TEXT, 125)),
        ("ping in 16 bits", length_in_two_bytes(PING, 5)),
        ("1 byte in 64 bits", length_in_eight_bytes(TEXT, 1)),
        ("125 bytes in 64 bits", length_in_eight_bytes(BINARY, 125)),
        ("126 bytes in 64 bits", length_in_eight_bytes(TEXT, 126)),
        ("65535 bytes in 64 bits", length_in_eight_bytes(TEXT, 65_535)),
        ("length with its highest bit set", length_in_eight_bytes(BINARY, 1 << 63)),
        ("length of all ones", length_in_eight_bytes(TEXT, u64::MAX)),
        ("continuation of nothing", frame(CONTINUES, b"1")),
        ("end of nothing", frame(ENDS, b"1")),
        ("text inside a message", [frame(TEXT_BEGINS, b"1"), frame(TEXT, b"2")].concat()),
        ("binary inside a message", [frame(TEXT_BEGINS, b"1"), frame(BINARY, b"2")].concat()),
        ("fragment of another message", [frame(BINARY_BEGINS, b"1"), frame(BINARY_BEGINS, b"2")].concat()),
    ];
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        rows.push(("reserved opcode", frame(FINAL | opcode, b"")));
    }
    assert_refused(&rows, 1002);
}

#[test]
fn reserved_opcode_inside_a_message_or_in_a_fragment_is_closed_with_1002() {
    assert_refused(
        &[
            ("reserved control", [frame(TEXT_BEGINS, b"1"), frame(RESERVED_CONTROL, b"")].concat()),
            ("reserved data", [frame(TEXT_BEGINS, b"1"), frame(RESERVED_DATA, b"")].concat()),
            ("first fragment of a reserved opcode", frame(RESERVED_DATA & !FINAL, b"1")),
        ],
        1002,
    );
}

#[test]
fn bad_close_payload_or_code_is_closed_with_1002() {
    let mut rows = vec![("close of one byte", frame(CLOSE, b"\x03"))];
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 65_535];
    for code in codes {
        rows.push(("bad close code", frame(CLOSE, &close_payload(code, "bye"))));
    }
    assert_refused(&rows, 1002);
}

#[test]
fn text_that_is_not_utf_8_is_closed_with_1007() {
    let texts: [(&str, &[u8]); 9] = [
        ("continuation byte alone", b"\"\x80\""),
        ("character cut off by a quote", b"\"\xC3\""),
        ("character cut off by the end", b"\"\xE2\x82"),
        ("overlong slash", b"\"\xC0\xAF\""),
        ("overlong of three bytes", b"\"\xE0\x80\xAF\""),
        ("surrogate", b"\"\xED\xA0\x80\""),
        ("beyond the last character", b"\"\xF4\x90\x80\x80\""),
        ("never a byte of UTF-8", b"\"\xFF\""),
        ("nonsense that is not JSON either", b"nonsense \xFE"),
    ];
    let mut rows: Vec<_> = texts.iter().map(|&(what, text)| (what, frame(TEXT, text))).collect();
    rows.push(("a late byte of many", frame(TEXT, &[&b"\"".repeat(70_000)[..], b"\xFF"].concat())));
    rows.push((
        "character cut off by the last fragment",
        [frame(TEXT_BEGINS, b"\"\xE2"), frame(CONTINUES, b"\x82"), frame(ENDS, b"\"")].concat(),
    ));
    assert_refused(&rows, 1007);
}

#[test]
fn close_reason_that_is_not_utf_8_is_closed_with_1007() {
    assert_refused(&[("close", frame(CLOSE, b"\x03\xE8bye \xC3"))], 1007);
}

#[test]
fn message_over_the_limit_is_closed_with_1009_and_one_at_the_limit_passes() {
    let relay = Relay::start(&["--max-message-size", "64KiB"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let longest = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
    mobile.send_text(&longest);
    desktop.expect_text(&longest);
    for part in longest.as_bytes().chunks(1000).enumerate() {
        mobile.send(if part.0 == 0 { TEXT_BEGINS } else { CONTINUES }, part.1);
    }
    mobile.send(ENDS, b"");
    desktop.expect_text(&longest);
    mobile.send(TEXT, format!("{longest} ").as_bytes());
    assert_eq!(mobile.receive_system()["code"], "message_too_large");
    mobile.expect_close_code(1009);
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}

#[test]
fn client_that_is_still_sending_a_too_large_message_gets_the_reason_for_the_close() {
    let relay = Relay::start(&["--max-message-size", "64KiB"]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send_raw(&frame_header(BINARY, 20_000_000));
    for _ in 0..20 {
        mobile.send_raw(&vec![0; 1_000_000]);
    }
    assert_eq!(mobile.receive_system()["code"], "message_too_large");
    mobile.expect_close_code(1009);
}

#[test]
fn ping_is_answered_with_the_same_payload_even_inside_a_message() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let longest: Vec<u8> = (131..=255).collect();
    mobile.send(TEXT_BEGINS, b"[1,");
    for payload in [&b""[..], b"?", &longest] {
        mobile.send(PING, payload);
        mobile.expect(&Received::Pong(payload.to_vec()));
    }
    mobile.send(ENDS, b"2]");
    desktop.expect_text("[1,2]");
}

#[test]
fn unsolicited_pong_is_ignored() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    mobile.send(PONG, b"");
    mobile.send(PONG, &[b'x'; 125]);
    mobile.expect_quiet();
    desktop.expect_quiet();
}

#[test]
fn close_is_answered_with_the_same_code_and_reason_and_ends_the_stream() {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "abc");
    let longest = "é".repeat(61) + "x";
    let codes =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for (code, reason) in codes.map(|code| (code, "bye")).into_iter().chain([(1000, ""), (1001, &longest)]) {
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        mobile.send_close(code, reason);
        mobile.expect(&Received::Close(code, reason.to_owned()));
        mobile.expect(&Received::End);
        desktop.expect_notice("mobile_disconnected");
    }
    desktop.expect_quiet();
}

#[test]
fn close_without_a_code_is_answered_with_1000() {
    let relay = Relay::start(&[]);
    let mut mobile = relay.join("mobile", "abc");
    mobile.send(CLOSE, b"");
    mobile.expect(&Received::Close(1000, String::new()));
    mobile.expect(&Received::End);
}

#[test]
fn bytes_after_a_close_are_ignored() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let behind = [frame(TEXT, b"1"), frame(PING, b""), frame(CLOSE, b""), vec![0xFF; 99]].concat();
    mobile.send_raw(&[frame(CLOSE, &close_payload(1001, "")), behind].concat());
    mobile.expect(&Received::Close(1001, String::new()));
    mobile.expect(&Received::End);
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}

#[test]
fn close_inside_a_message_discards_the_message() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    mobile.send(TEXT_BEGINS, b"[1");
    mobile.leave();
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}

#[test]
fn message_of_4_mib_in_65536_fragments_passes() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let text = format!("\"{}\"", "x".repeat((4 << 20) - 2));
    let parts = text.as_bytes().chunks(64).enumerate();
    let bytes: Vec<u8> = parts
        .flat_map(|(number, part)| frame(if number == 0 { TEXT_BEGINS } else { CONTINUES }, part))
        .collect();
    desktop.send_raw(&bytes);
    desktop.send(ENDS, b"");
    mobile.expect_text(&text);
    mobile.expect_quiet();
}

#[test]
fn empty_fragments_are_unlimited_and_do_not_delay_other_clients() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let mut bystander = relay.join("mobile", "other");
    desktop.send(TEXT_BEGINS, b"[");
    let empty = frame(CONTINUES, b"").repeat(10_000);
    for _ in 0..20 {
        desktop.send_raw(&empty);
        bystander.expect_quiet();
    }
    desktop.send(ENDS, b"]");
    mobile.expect_text("[]");
}

#[test]
fn silent_client_is_pinged_and_ended_after_two_intervals_and_its_peer_told() {
    let relay = Relay::start(&["--ping-interval", "1s"]);
    let joined = Instant::now();
    let mut mobile = relay.join("mobile", "abc");
    let mut desktop = relay.join_peer("desktop", "abc", &mut mobile);
    let Received::Ping(_) = mobile.receive() else { panic!("no ping") };
    assert_lasted(joined, Duration::from_secs(1));
    let received = mobile.receive_except_pings();
    assert!(matches!(&received, Received::Close(1001, _)), "{received:?}");
    assert_lasted(joined, Duration::from_secs(2));
    // It ends without waiting for the client's answer.
    mobile.expect(&Received::End);
    // The desktop is silent as well. It is told first, or it has ended as well.
    let told = desktop.receive_except_pings();
    assert!(matches!(&told, Received::Close(1001, _)) || format!("{told:?}").contains("mobile_disconnected"));
}

#[test]
fn client_that_answers_pings_stays() {
    let relay = Relay::start(&["--ping-interval", "1s"]);
    let mut mobile = relay.join("mobile", "abc");
    for _ in 0..3 {
        let received = mobile.receive();
        let Received::Ping(payload) = received else { panic!("{received:?}") };
        mobile.send(PONG, &payload);
    }
    mobile.expect_quiet();
}

#[test]
fn client_that_sends_is_not_pinged() {
    let relay = Relay::start(&["--ping-interval", "2500ms"]);
    let mut mobile = relay.join("mobile", "abc");
    let joined = Instant::now();
    while joined.elapsed() < Duration::from_secs(3) {
        mobile.expect_quiet();
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn client_that_takes_bytes_does_not_count_as_silent() {
    let relay = Relay::start(&["--ping-interval", "1s", "--stall-timeout", "2s"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let large = format!("\"{}\"", "x".repeat(12 << 20));
    let sent = desktop.send_meanwhile(frame(TEXT, large.as_bytes()));
    let begun = Instant::now();
    // The bytes are read for longer than both timeouts.
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(mobile.fill(), None);
        thread::sleep(Duration::from_millis(40));
        if sent.is_finished() {
            desktop.send(PONG, b"");
        }
    }
    let received = mobile.receive_except_pings();
    assert!(received == Received::Text(large), "{received:?}");
    mobile.send(PING, b"alive");
    assert_eq!(mobile.receive_except_pings(), Received::Pong(b"alive".to_vec()));
}
