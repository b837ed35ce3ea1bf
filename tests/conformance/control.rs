//! Pings and pongs, reserved bits and reserved opcodes (sections 2, 3 and 4 of the suite).

use crate::client::{Received, Row, Then, assert_answers, text};
use crate::frame::{
    BINARY, CLOSE, CONTINUES, ENDS, FINAL, PING, PONG, RSV1, RSV2, RSV3, TEXT, TEXT_BEGINS, close_payload,
    frame,
};

fn pong(payload: &[u8]) -> Received {
    Received::Pong(payload.to_vec())
}

/// A text before the refused bytes and a ping after them. Only the text comes back.
fn between(sent: Vec<u8>) -> (Vec<u8>, Vec<Received>, Then) {
    let sent = [frame(TEXT, b"Hello, world!"), sent, frame(PING, b"")].concat();
    (sent, vec![text("Hello, world!")], Then::Refused(1002))
}

#[test]
fn ping_is_answered_with_its_payload() {
    let binary = [0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF];
    let longest: Vec<u8> = (131..=255).collect();
    let ten: Vec<Vec<u8>> = (0..10).map(|number| format!("payload-{number}").into_bytes()).collect();
    let ten_at_once: Vec<u8> = ten.iter().flat_map(|payload| frame(PING, payload)).collect();
    let answers: Vec<Received> = ten.into_iter().map(Received::Pong).collect();
    let mut rows: Vec<Row<'_>> = vec![
        ("2.1", frame(PING, b""), vec![pong(b"")], Then::Open),
        ("2.2", frame(PING, b"Hello, world!"), vec![pong(b"Hello, world!")], Then::Open),
        ("2.3", frame(PING, &binary), vec![pong(&binary)], Then::Open),
        ("2.4, 2.6", frame(PING, &longest), vec![pong(&longest)], Then::Open),
        ("2.5", frame(PING, &[0xFE; 126]), vec![], Then::Refused(1002)),
        ("2.7", frame(PONG, b""), vec![], Then::Open),
        ("2.8", frame(PONG, b"unsolicited pong payload"), vec![], Then::Open),
        (
            "2.9",
            [frame(PONG, b"unsolicited pong payload"), frame(PING, b"ping payload")].concat(),
            vec![pong(b"ping payload")],
            Then::Open,
        ),
        ("2.10, 2.11", ten_at_once, answers, Then::Open),
        ("pong of 125 bytes", frame(PONG, &longest), vec![], Then::Open),
        ("pong of 126 bytes", frame(PONG, &[0xFE; 126]), vec![], Then::Refused(1002)),
        ("ping of 65536 bytes", frame(PING, &vec![0xFE; 65_536]), vec![], Then::Refused(1002)),
    ];
    let every_length: Vec<Vec<u8>> = (0..=125).map(|length| vec![b'p'; length]).collect();
    rows.push((
        "pings of 0 to 125 bytes",
        every_length.iter().flat_map(|payload| frame(PING, payload)).collect(),
        every_length.into_iter().map(Received::Pong).collect(),
        Then::Open,
    ));
    assert_answers(&rows);
}

#[test]
fn reserved_bit_without_an_extension_is_refused() {
    let refused = |case, sent: Vec<u8>| -> Row<'_> { (case, sent, vec![], Then::Refused(1002)) };
    let among = |case, sent: Vec<u8>| -> Row<'_> {
        let (sent, received, then) = between(sent);
        (case, sent, received, then)
    };
    let close = close_payload(1000, "");
    let mut rows = vec![
        refused("3.1", frame(TEXT | RSV3, b"Hello, world!")),
        among("3.2", frame(TEXT | RSV2, b"Hello, world!")),
        among("3.3", frame(TEXT | RSV2 | RSV3, b"Hello, world!")),
        among("3.4", frame(TEXT | RSV1, b"Hello, world!")),
        refused("3.5", frame(BINARY | RSV1 | RSV3, &[0x00, 0xFF, 0xFE])),
        refused("3.6", frame(PING | RSV1 | RSV2, b"Hello, world!")),
        refused("3.7", frame(CLOSE | RSV1 | RSV2 | RSV3, &close)),
        refused("RSV1 on a first fragment", frame(TEXT_BEGINS | RSV1, b"1")),
    ];
    for bits in 1..8_u8 {
        let on = |first: u8, payload: &[u8]| frame(first | bits << 4, payload);
        rows.extend([
            among("a bit on a text", on(TEXT, b"")),
            among("a bit on a binary", on(BINARY, b"1")),
            among("a bit on a ping", on(PING, b"")),
            among("a bit on a pong", on(PONG, b"1")),
            among("a bit on a close", on(CLOSE, &close)),
            among("a bit on a fragment", [frame(TEXT_BEGINS, b"1"), on(CONTINUES, b"2")].concat()),
            among("a bit on the last fragment", [frame(TEXT_BEGINS, b"1"), on(ENDS, b"2")].concat()),
        ]);
    }
    assert_answers(&rows);
}

#[test]
fn reserved_opcode_is_refused() {
    let data = ["4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.1.5"].into_iter().zip(3..=7_u8);
    let control = ["4.2.1", "4.2.2", "4.2.3", "4.2.4", "4.2.5"].into_iter().zip(11..=15_u8);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (case, opcode) in data.chain(control) {
        for sent in [
            frame(FINAL | opcode, b""),
            frame(FINAL | opcode, b"reserved opcode payload"),
            frame(opcode, b"fragment"),
            [frame(TEXT_BEGINS, b"within "), frame(FINAL | opcode, b"a message")].concat(),
        ] {
            rows.push((case, sent.clone(), vec![], Then::Refused(1002)));
            let (sent, received, then) = between(sent);
            rows.push((case, sent, received, then));
        }
    }
    assert_answers(&rows);
}
