//! Fragmented messages, and frames between fragments (section 5 of the suite).

use crate::client::{Received, Row, Then, assert_answers, text};
use crate::frame::{
    BINARY, BINARY_BEGINS, CLOSE, CONTINUES, ENDS, FINAL, PING, PONG, TEXT, TEXT_BEGINS, close_payload,
    frame, frame_header,
};

fn pong(payload: &[u8]) -> Received {
    Received::Pong(payload.to_vec())
}

/// A message begun with `first` and divided into fragments of at most `size` bytes.
fn fragments(first: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let parts: Vec<&[u8]> = payload.chunks(size).collect();
    let (last, others) = parts.split_last().unwrap();
    let mut bytes = Vec::new();
    for (number, part) in others.iter().enumerate() {
        bytes.extend(frame(if number == 0 { first } else { CONTINUES }, part));
    }
    bytes.extend(frame(if others.is_empty() { first | FINAL } else { ENDS }, last));
    bytes
}

#[test]
fn fragmented_message_comes_back_whole() {
    let payload: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let mut rows: Vec<Row<'_>> = vec![
        (
            "5.3, 5.4, 5.5",
            [frame(TEXT_BEGINS, b"fragment1"), frame(ENDS, b"fragment2")].concat(),
            vec![text("fragment1fragment2")],
            Then::Open,
        ),
        (
            "two messages, each in two fragments",
            [fragments(TEXT_BEGINS, b"one", 2), fragments(BINARY_BEGINS, b"two", 2)].concat(),
            vec![text("one"), Received::Binary(b"two".to_vec())],
            Then::Open,
        ),
        (
            "a thousand empty fragments",
            [frame(TEXT_BEGINS, b"["), frame(CONTINUES, b"").repeat(1000), frame(ENDS, b"]")].concat(),
            vec![text("[]")],
            Then::Open,
        ),
    ];
    for size in [1, 2, 3, 7, 64, 125, 126, 999, 1000] {
        let sent = fragments(BINARY_BEGINS, &payload, size);
        rows.push(("binary in fragments", sent, vec![Received::Binary(payload.clone())], Then::Open));
        let sent = fragments(TEXT_BEGINS, "fräg€𝄞".repeat(10).as_bytes(), size);
        rows.push(("text in fragments", sent, vec![text(&"fräg€𝄞".repeat(10))], Then::Open));
    }
    assert_answers(&rows);
}

#[test]
fn control_frame_between_fragments_is_allowed() {
    let ping = frame(PING, b"pongme");
    let five = [&b"fragment1"[..], b"fragment2", b"fragment3", b"fragment4", b"fragment5"];
    let whole = String::from_utf8(five.concat()).unwrap();
    assert_answers(&[
        (
            "5.6, 5.7, 5.8",
            [frame(TEXT_BEGINS, b"fragment1"), ping.clone(), frame(ENDS, b"fragment2")].concat(),
            vec![pong(b"pongme"), text("fragment1fragment2")],
            Then::Open,
        ),
        (
            "5.19, 5.20",
            [
                frame(TEXT_BEGINS, five[0]),
                frame(CONTINUES, five[1]),
                frame(PING, b"pongme 1!"),
                frame(CONTINUES, five[2]),
                frame(CONTINUES, five[3]),
                frame(PING, b"pongme 2!"),
                frame(ENDS, five[4]),
            ]
            .concat(),
            vec![pong(b"pongme 1!"), pong(b"pongme 2!"), text(&whole)],
            Then::Open,
        ),
        (
            "a pong between fragments",
            [frame(BINARY_BEGINS, &[1]), frame(PONG, &[9; 125]), frame(ENDS, &[2])].concat(),
            vec![Received::Binary(vec![1, 2])],
            Then::Open,
        ),
        (
            "a ping within a character",
            [frame(TEXT_BEGINS, b"\xE2\x82"), frame(PING, b"\x82"), frame(ENDS, b"\xAC")].concat(),
            vec![pong(b"\x82"), text("€")],
            Then::Open,
        ),
        (
            "a close between fragments",
            [frame(TEXT_BEGINS, b"1"), frame(CLOSE, &close_payload(1000, "")), frame(ENDS, b"2")].concat(),
            vec![],
            Then::Answered(1000, ""),
        ),
    ]);
}

#[test]
fn fragmented_control_frame_is_refused() {
    let refused = |case, sent: Vec<u8>| -> Row<'_> { (case, sent, vec![], Then::Refused(1002)) };
    assert_answers(&[
        refused("5.1", [frame(PING & !FINAL, b"fragment1"), frame(ENDS, b"fragment2")].concat()),
        refused("5.2", [frame(PONG & !FINAL, b"fragment1"), frame(ENDS, b"fragment2")].concat()),
        refused("a close", [frame(CLOSE & !FINAL, &[3]), frame(ENDS, &[0xE8])].concat()),
        refused("a ping of which no more comes", frame(PING & !FINAL, b"")),
        refused("a pong of which no more comes", frame(PONG & !FINAL, b"fragment1")),
        refused("a close of which no more comes", frame(CLOSE & !FINAL, &close_payload(1000, ""))),
        refused("a ping within a message", [frame(TEXT_BEGINS, b"1"), frame(PING & !FINAL, b"")].concat()),
        refused(
            "an oversize ping within a message",
            [frame(TEXT_BEGINS, b"1"), frame(PING, &[0; 126])].concat(),
        ),
    ]);
}

#[test]
fn continuation_without_a_message_is_refused() {
    let refused = |case, sent: Vec<u8>| -> Row<'_> { (case, sent, vec![], Then::Refused(1002)) };
    let (not_last, last) = (frame(CONTINUES, b"non-continuation payload"), frame(ENDS, b"non-continuation"));
    let two = [frame(TEXT_BEGINS, b"fragment1"), frame(ENDS, b"fragment2")].concat();
    assert_answers(&[
        refused("5.9, 5.10, 5.11", [last.clone(), frame(TEXT, b"Hello, world!")].concat()),
        refused("5.12, 5.13, 5.14", [not_last.clone(), frame(TEXT, b"Hello, world!")].concat()),
        (
            "5.15",
            [two.clone(), not_last.clone(), frame(TEXT, b"fragment4")].concat(),
            vec![text("fragment1fragment2")],
            Then::Refused(1002),
        ),
        refused("5.16", [not_last.clone(), two.clone()].concat().repeat(2)),
        refused("5.17", [last.clone(), two.clone()].concat().repeat(2)),
        refused("an empty one", frame(ENDS, b"")),
        (
            "behind a whole message",
            [frame(BINARY, b"1"), last].concat(),
            vec![Received::Binary(b"1".to_vec())],
            Then::Refused(1002),
        ),
    ]);
}

#[test]
fn new_message_inside_another_is_refused() {
    let refused = |case, sent: Vec<u8>| -> Row<'_> { (case, sent, vec![], Then::Refused(1002)) };
    let begun = frame(TEXT_BEGINS, b"fragment1");
    let middle = frame(CONTINUES, b"fragment2");
    assert_answers(&[
        refused("5.18", [begun.clone(), frame(TEXT, b"fragment2")].concat()),
        refused("a binary one", [begun.clone(), frame(BINARY, b"fragment2")].concat()),
        refused("a fragment of text", [begun.clone(), frame(TEXT_BEGINS, b"fragment2")].concat()),
        refused("a fragment of binary", [begun.clone(), frame(BINARY_BEGINS, b"fragment2")].concat()),
        refused("text in binary", [frame(BINARY_BEGINS, b"1"), frame(TEXT, b"2")].concat()),
        refused("behind the second fragment", [begun, middle, frame(TEXT, b"")].concat()),
    ]);
}

#[test]
fn fragment_larger_than_the_receive_buffer_is_accepted() {
    let huge: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    let whole = [&[1, 2], &huge[..], &[3]].concat();
    let mut sent = [frame(BINARY_BEGINS, &[1, 2]), frame(PING, b"?")].concat();
    sent.extend(frame(CONTINUES, &huge));
    sent.extend([frame(PING, b"!"), frame(ENDS, &[3])].concat());
    let received = vec![pong(b"?"), pong(b"!"), Received::Binary(whole)];
    let torn_off = [frame(TEXT_BEGINS, &vec![b'x'; 70_000]), frame_header(TEXT, 70_000)].concat();
    assert_answers(&[
        ("binary", sent, received, Then::Open),
        ("a new message behind it", torn_off, vec![], Then::Refused(1002)),
    ]);
}
