//! Lengths of messages, and the pieces that they arrive in (sections 1, 9 and 10 of the suite).

use apptuner_relay::relay::Settings;

use crate::client::{Client, Received, Row, Then, assert_answers, text};
use crate::frame::{
    BINARY, CONTINUES, ENDS, FINAL, LengthForm, PING, TEXT, TEXT_BEGINS, UNCHANGED, frame, frame_header,
    frame_under, header_with,
};

/// A frame with the given form of any length.
fn frame_with_length_in(form: LengthForm, first: u8, length: u64) -> Vec<u8> {
    let payload = vec![b'1'; usize::try_from(length.min(70_000)).unwrap()];
    [header_with(first, UNCHANGED, form, length), payload].concat()
}

#[test]
fn message_of_any_length_comes_back_unchanged() {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let lengths = [0, 125, 126, 127, 128, 65_535, 65_536];
    let text_cases = ["1.1.1", "1.1.2", "1.1.3", "1.1.4", "1.1.5", "1.1.6", "1.1.7, 1.1.8"];
    for (case, length) in text_cases.into_iter().zip(lengths) {
        let payload = "*".repeat(length);
        rows.push((case, frame(TEXT, payload.as_bytes()), vec![text(&payload)], Then::Open));
    }
    let binary_cases = ["1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5", "1.2.6", "1.2.7, 1.2.8"];
    for (case, length) in binary_cases.into_iter().zip(lengths) {
        // The bytes repeat with a period that is not a multiple of the mask's.
        let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
        rows.push((case, frame(BINARY, &payload), vec![Received::Binary(payload)], Then::Open));
    }
    assert_answers(&rows);
}

#[test]
fn each_frame_has_its_own_mask() {
    let rows: [Row<'_>; 3] = [
        ("mask of zeros", frame_under(UNCHANGED, TEXT, b"mask"), vec![text("mask")], Then::Open),
        ("mask of ones", frame_under([0xFF; 4], TEXT, b"masks"), vec![text("masks")], Then::Open),
        (
            "three masks for one message",
            [
                frame_under([1, 2, 3, 4], TEXT_BEGINS, b"a"),
                frame_under([5, 6, 7, 8], CONTINUES, b"bcdef"),
                frame_under([0x80, 0, 0xFF, 9], ENDS, b"gh"),
            ]
            .concat(),
            vec![text("abcdefgh")],
            Then::Open,
        ),
    ];
    assert_answers(&rows);
}

#[test]
fn frame_without_a_mask_or_with_a_length_not_in_the_shortest_form_is_refused() {
    let refused = |what, sent: Vec<u8>| -> Row<'_> { (what, sent, vec![], Then::Refused(1002)) };
    assert_answers(&[
        refused("unmasked text", vec![TEXT, 1, b'1']),
        refused("unmasked empty text", vec![TEXT, 0]),
        refused("unmasked ping", vec![PING, 0]),
        refused("unmasked continuation", [frame(TEXT_BEGINS, b"1"), vec![ENDS, 1, b'1']].concat()),
        refused("0 in 16 bits", frame_with_length_in(LengthForm::Two, TEXT, 0)),
        refused("125 in 16 bits", frame_with_length_in(LengthForm::Two, BINARY, 125)),
        refused("ping of 5 in 16 bits", frame_with_length_in(LengthForm::Two, PING, 5)),
        refused("0 in 64 bits", frame_with_length_in(LengthForm::Eight, TEXT, 0)),
        refused("126 in 64 bits", frame_with_length_in(LengthForm::Eight, BINARY, 126)),
        refused("65535 in 64 bits", frame_with_length_in(LengthForm::Eight, TEXT, 65_535)),
        refused("2^63", frame_with_length_in(LengthForm::Eight, BINARY, 1 << 63)),
        refused("2^64 - 1", frame_with_length_in(LengthForm::Eight, TEXT, u64::MAX)),
    ]);
}

/// Sizes of fragments and of pieces, in the order of the suite's numbers.
const QUADRUPLED: [usize; 9] = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
const DOUBLED: [usize; 6] = [64, 128, 256, 512, 1024, 2048];

/// Whether `received` is exactly the message with `payload`. `assert_eq!` would print megabytes.
fn is_echo(first: u8, payload: &[u8], received: &[Received]) -> bool {
    match received {
        [Received::Text(got)] => first == TEXT && got.as_bytes() == payload,
        [Received::Binary(got)] => first == BINARY && got == payload,
        _ => false,
    }
}

#[test]
fn large_message_comes_back_in_all_divisions() {
    let payload: Vec<u8> = (b'a'..=b'z').cycle().take(4 << 20).collect();
    for (section, first) in [("9.3", TEXT), ("9.4", BINARY)] {
        for (number, fragment_bytes) in (1..).zip(QUADRUPLED) {
            let mut client = Client::open();
            client.send(&frame(first & !FINAL, b""), usize::MAX);
            for part in payload.chunks(fragment_bytes) {
                client.send(&frame(CONTINUES, part), usize::MAX);
            }
            assert_eq!(client.take(), [], "{section}.{number}: it is not whole");
            client.send(&frame(ENDS, b""), usize::MAX);
            assert!(is_echo(first, &payload, &client.take()), "{section}.{number}");
        }
    }
    for (section, first) in [("9.5", TEXT), ("9.6", BINARY)] {
        for (number, piece) in (1..).zip(DOUBLED) {
            let mut client = Client::open();
            client.send(&frame(first, &payload[..1 << 20]), piece);
            assert!(is_echo(first, &payload[..1 << 20], &client.take()), "{section}.{number}");
        }
    }
}

#[test]
fn message_of_16_mib_comes_back() {
    let payload = vec![b'*'; 16 << 20];
    for (case, first) in [("9.1.6", TEXT), ("9.2.6", BINARY)] {
        let mut client = Client::open();
        client.send(&frame(first, &payload), usize::MAX);
        assert!(is_echo(first, &payload, &client.take()), "{case}");
    }
}

#[test]
fn each_of_a_thousand_messages_comes_back() {
    for (section, first) in [("9.7", TEXT), ("9.8", BINARY)] {
        for (number, length) in (1..).zip([0, 16, 64, 256, 1024, 4096]) {
            let payload = vec![b'*'; length];
            let mut client = Client::open();
            client.send(&frame(first, &payload).repeat(1000), usize::MAX);
            let received = client.take();
            assert_eq!(received.len(), 1000, "{section}.{number}");
            let is_right = |received| is_echo(first, &payload, std::slice::from_ref(received));
            assert!(received.iter().all(is_right), "{section}.{number}");
        }
    }
}

#[test]
fn message_in_fragments_of_1300_bytes_comes_back() {
    let payload = "*".repeat(65_536);
    let mut fragments: Vec<Vec<u8>> =
        payload.as_bytes().chunks(1300).map(|part| frame(CONTINUES, part)).collect();
    fragments.first_mut().unwrap()[0] = TEXT_BEGINS;
    fragments.last_mut().unwrap()[0] = ENDS;
    assert_answers(&[("10.1.1", fragments.concat(), vec![text(&payload)], Then::Open)]);
}

#[test]
fn message_over_the_limit_is_refused_at_its_header() {
    let settings = Settings { max_message_size: 1000, ..Settings::default() };
    let rows = [
        ("whole", vec![], frame_header(BINARY, 1001)),
        ("absurd", vec![], frame_header(TEXT, (1 << 63) - 1)),
        ("last fragment", frame(TEXT_BEGINS, &[b'x'; 500]), frame_header(ENDS, 501)),
        (
            "one of many",
            [frame(TEXT_BEGINS, b"x"), frame(CONTINUES, &[b'x'; 999])].concat(),
            frame_header(0, 1),
        ),
    ];
    for (what, within, over) in rows {
        for piece in [usize::MAX, 1] {
            let mut client = Client::opened_with(settings.clone());
            client.send(&[&within[..], &over[..over.len() - 1]].concat(), piece);
            assert_eq!(client.take(), [], "{what}: not before the header is whole");
            client.send(&over[over.len() - 1..], piece);
            assert!(matches!(client.take()[..], [Received::Close(1009, _)]), "{what}");
        }
    }
    let mut client = Client::opened_with(settings);
    client.send(&[frame(TEXT_BEGINS, &[b'x'; 999]), frame(ENDS, b"x")].concat(), 1);
    assert_eq!(client.take(), [text(&"x".repeat(1000))], "the limit itself is not over the limit");
}

#[test]
fn frames_right_after_the_request_head_belong_to_the_websocket() {
    let head = b"GET /desktop/echo HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let bytes = [&head[..], &frame(TEXT, b"first"), &frame(PING, b"?")].concat();
    for piece in [usize::MAX, 1, head.len() + 3] {
        let mut client = Client::connect(Settings::default());
        client.send(&bytes, piece);
        let head = client.take_head();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        let mut received = client.take();
        // A pong may overtake a message.
        received.sort_by_key(|received| matches!(received, Received::Pong(_)));
        assert_eq!(received, [text("first"), Received::Pong(b"?".to_vec())], "in pieces of {piece}");
    }
}
