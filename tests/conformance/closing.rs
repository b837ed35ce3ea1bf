//! The close frame: its payload, its answer, and bytes after it (section 7 of the suite).

use crate::client::{Client, Received, Row, Then, assert_answers, text};
use crate::frame::{CLOSE, CONTINUES, ENDS, PING, RSV1, TEXT, TEXT_BEGINS, close_payload, frame};

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &close_payload(code, reason))
}

/// A close, followed by bytes that must be ignored.
fn close_and(behind: &[u8]) -> Vec<u8> {
    [&close(1000, "")[..], behind].concat()
}

#[test]
fn close_is_answered_with_its_code_and_reason() {
    // 123 bytes; one character has two.
    const LONGEST: &str = "é************************************************************************************\
        *************************************";
    assert_eq!(LONGEST.len(), 123);
    assert_answers(&[
        ("7.3.1", frame(CLOSE, b""), vec![], Then::Answered(1000, "")),
        ("7.3.3", close(1000, ""), vec![], Then::Answered(1000, "")),
        ("7.3.4", close(1000, "Hello World!"), vec![], Then::Answered(1000, "Hello World!")),
        ("7.3.5", close(1000, LONGEST), vec![], Then::Answered(1000, LONGEST)),
        (
            "7.1.1",
            [frame(TEXT, b"Hello World!"), close(1000, "")].concat(),
            vec![text("Hello World!")],
            Then::Answered(1000, ""),
        ),
        (
            "a ping before it",
            [frame(PING, b"?"), close(1000, "")].concat(),
            vec![Received::Pong(b"?".to_vec())],
            Then::Answered(1000, ""),
        ),
    ]);
}

#[test]
fn bytes_after_a_close_are_ignored() {
    let long = "BAsd7&jh23".repeat(26_215);
    let answered = |case, sent: Vec<u8>| -> Row<'_> { (case, sent, vec![], Then::Answered(1000, "")) };
    assert_answers(&[
        answered("7.1.2", close_and(&frame(CLOSE, b""))),
        answered("7.1.3", close_and(&frame(PING, b""))),
        answered("7.1.4", close_and(&frame(TEXT, b"Hello World!"))),
        answered("7.1.5", [frame(TEXT_BEGINS, b"fragment1"), close_and(&frame(ENDS, b"fragment2"))].concat()),
        answered("a close with another code", close_and(&close(1001, "again"))),
        answered("a close that would be refused", close_and(&close(1005, ""))),
        answered("a reserved bit", close_and(&frame(TEXT | RSV1, b""))),
        answered("text that is not UTF-8", close_and(&frame(TEXT, b"\xFF"))),
        answered("no frame at all", close_and(&[0xFF; 300])),
        (
            "7.1.6",
            [frame(TEXT, long.as_bytes()), frame(TEXT, b"Hello World!"), close_and(&frame(PING, b""))]
                .concat(),
            vec![text(&long), text("Hello World!")],
            Then::Answered(1000, ""),
        ),
    ]);
}

#[test]
fn close_of_one_byte_or_more_than_125_is_refused() {
    let refused = |case, sent: Vec<u8>| -> Row<'_> { (case, sent, vec![], Then::Refused(1002)) };
    assert_answers(&[
        refused("7.3.2", frame(CLOSE, b"a")),
        refused("7.3.6", close(1000, &"*".repeat(124))),
        refused("a close of 65536 bytes", close(1000, &"*".repeat(65_534))),
        refused("half a code within a message", [frame(TEXT_BEGINS, b"1"), frame(CLOSE, b"\x03")].concat()),
    ]);
}

#[test]
fn close_reason_that_is_not_utf8_is_refused() {
    let reasons: [(&str, &[u8]); 6] = [
        ("7.5.1", b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80\x65\x64\x69\x74\x65\x64"),
        ("a character cut off", b"bye \xC3"),
        ("a continuation byte", b"\x80"),
        ("overlong", b"\xC0\xAF"),
        ("beyond the last character", b"\xF4\x90\x80\x80"),
        ("never a byte of UTF-8", b"\xFF"),
    ];
    for (case, reason) in reasons {
        for piece in [usize::MAX, 1] {
            let mut client = Client::open();
            let payload = [&1000_u16.to_be_bytes()[..], reason].concat();
            client.send(&[frame(CLOSE, &payload), frame(TEXT, b"behind it")].concat(), piece);
            let received = client.take();
            // The client sent its close before, so the relay's is not answered.
            assert!(
                matches!(received[..], [Received::Close(1007, _), Received::End]),
                "{case}, in pieces of {piece}: {received:?}"
            );
        }
    }
}

#[test]
fn every_allowed_code_is_answered_and_every_other_refused() {
    let cases: [(&str, &[u16]); 4] = [
        ("7.7.1 to 7.7.13", &[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]),
        ("7.9.1 to 7.9.9", &[0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]),
        ("7.13.1 and 7.13.2", &[5000, 65_535]),
        ("registered since, or reserved", &[1012, 1013, 1014, 1015]),
    ];
    let is_allowed = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    let rows: Vec<Row<'_>> = cases
        .iter()
        .flat_map(|&(case, codes)| codes.iter().map(move |&code| (case, code)))
        .map(|(case, code)| {
            let then = if is_allowed(code) { Then::Answered(code, "bye") } else { Then::Refused(1002) };
            (case, close(code, "bye"), vec![], then)
        })
        .collect();
    assert_answers(&rows);
    for code in 0..=u16::MAX {
        let mut client = Client::open();
        client.send(&close(code, ""), usize::MAX);
        let received = client.take();
        let [Received::Close(answer, _), Received::End] = received[..] else {
            panic!("{code}: {received:?}")
        };
        assert_eq!(answer, if is_allowed(code) { code } else { 1002 }, "the answer to {code}");
    }
}

#[test]
fn refused_client_is_read_until_it_answers_the_close() {
    let behind: [(&str, Vec<u8>); 3] = [
        ("messages and pings", [frame(TEXT, b"1"), frame(PING, b"?")].concat()),
        (
            "the rest of the message",
            [frame(CONTINUES, b"\xFF"), frame(PING, b"?"), frame(ENDS, b"")].concat(),
        ),
        ("a message as large as can be", frame(TEXT, &vec![b'x'; 200_000])),
    ];
    for (what, behind) in behind {
        for piece in [usize::MAX, 1, 997] {
            let mut client = Client::open();
            let is_rest = behind[0] == CONTINUES;
            client.send(&frame(if is_rest { TEXT_BEGINS } else { TEXT }, b"\xFF"), piece);
            client.send(&behind, piece);
            assert!(matches!(client.take()[..], [Received::Close(1007, _)]), "{what}: nothing but the close");
            client.send(&close(1007, ""), piece);
            assert_eq!(client.take(), [Received::End], "{what}: the answer is heard behind it");
        }
    }
}
