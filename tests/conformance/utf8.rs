//! Text must be UTF-8, and is refused with the first fragment that shows that it is not (section 6 of the suite).

use crate::client::{Client, Received, Row, Then, assert_answers, text};
use crate::frame::{CONTINUES, ENDS, PING, TEXT, TEXT_BEGINS, frame};

/// What the suite sends in 6.3 and 6.4: a valid start, an invalid sequence, a valid end.
const START: &[u8] = b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5";
const END: &[u8] = b"edited";

/// Sequences in the suite's order: section, number of the first, whether they are UTF-8, bytes.
const SEQUENCES: &[(&str, usize, bool, &[&[u8]])] = &[
    ("6.5", 1, true, &[b"hello$world", b"hello\xC2\xA2world", b"hello\xE2\x82\xACworld"]),
    ("6.5", 4, true, &[b"hello\xF0\xA4\xAD\xA2world", START]),
    // The first and last character of each length, and code points beyond.
    ("6.7", 1, true, &[b"\x00", b"\xC2\x80", b"\xE0\xA0\x80", b"\xF0\x90\x80\x80"]),
    ("6.8", 1, false, &[b"\xF8\x88\x80\x80\x80", b"\xFC\x84\x80\x80\x80\x80"]),
    ("6.9", 1, true, &[b"\x7F", b"\xDF\xBF", b"\xEF\xBF\xBF", b"\xF4\x8F\xBF\xBF"]),
    ("6.10", 1, false, &[b"\xF7\xBF\xBF\xBF", b"\xFB\xBF\xBF\xBF\xBF", b"\xFD\xBF\xBF\xBF\xBF\xBF"]),
    // On both sides of the surrogates and of the last character.
    ("6.11", 1, true, &[b"\xED\x9F\xBF", b"\xEE\x80\x80", b"\xEF\xBF\xBD", b"\xF4\x8F\xBF\xBF"]),
    ("6.11", 5, false, &[b"\xF4\x90\x80\x80"]),
    // Continuation bytes without a start.
    ("6.12", 1, false, &[b"\x80", b"\xBF", b"\x80\xBF", b"\x80\xBF\x80", b"\x80\xBF\x80\xBF"]),
    ("6.12", 6, false, &[b"\x80\xBF\x80\xBF\x80", b"\x80\xBF\x80\xBF\x80\xBF"]),
    ("6.16", 1, false, &[b"\xFE", b"\xFF", b"\xFE\xFE\xFF\xFF"]),
    // Overlong: a slash, the last character of each length, and U+0000.
    ("6.17", 1, false, &[b"\xC0\xAF", b"\xE0\x80\xAF", b"\xF0\x80\x80\xAF"]),
    ("6.17", 4, false, &[b"\xF8\x80\x80\x80\xAF", b"\xFC\x80\x80\x80\x80\xAF"]),
    ("6.18", 1, false, &[b"\xC1\xBF", b"\xE0\x9F\xBF", b"\xF0\x8F\xBF\xBF"]),
    ("6.18", 4, false, &[b"\xF8\x87\xBF\xBF\xBF", b"\xFC\x83\xBF\xBF\xBF\xBF"]),
    ("6.19", 1, false, &[b"\xC0\x80", b"\xE0\x80\x80", b"\xF0\x80\x80\x80"]),
    ("6.19", 4, false, &[b"\xF8\x80\x80\x80\x80", b"\xFC\x80\x80\x80\x80\x80"]),
    // Surrogates, single and in pairs.
    ("6.20", 1, false, &[b"\xED\xA0\x80", b"\xED\xAD\xBF", b"\xED\xAE\x80", b"\xED\xAF\xBF"]),
    ("6.20", 5, false, &[b"\xED\xB0\x80", b"\xED\xBE\x80", b"\xED\xBF\xBF"]),
    ("6.21", 1, false, &[b"\xED\xA0\x80\xED\xB0\x80", b"\xED\xA0\x80\xED\xBF\xBF"]),
    ("6.21", 3, false, &[b"\xED\xAD\xBF\xED\xB0\x80", b"\xED\xAD\xBF\xED\xBF\xBF"]),
    ("6.21", 5, false, &[b"\xED\xAE\x80\xED\xB0\x80", b"\xED\xAE\x80\xED\xBF\xBF"]),
    ("6.21", 7, false, &[b"\xED\xAF\xBF\xED\xB0\x80", b"\xED\xAF\xBF\xED\xBF\xBF"]),
];

/// Incomplete sequences.
const INCOMPLETE: [&[u8]; 10] = [
    b"\xC0",
    b"\xE0\x80",
    b"\xF0\x80\x80",
    b"\xF8\x80\x80\x80",
    b"\xFC\x80\x80\x80\x80",
    b"\xDF",
    b"\xEF\xBF",
    b"\xF7\xBF\xBF",
    b"\xFB\xBF\xBF\xBF",
    b"\xFD\xBF\xBF\xBF\xBF",
];

/// All texts of 6.5 to 6.23: the suite's number, whether it is UTF-8, its bytes.
fn texts() -> Vec<(String, bool, Vec<u8>)> {
    let mut texts = Vec::new();
    let mut add = |section: &str, first: usize, is_utf8: bool, sequences: Vec<Vec<u8>>| {
        for (number, sequence) in (first..).zip(sequences) {
            texts.push((format!("{section}.{number}"), is_utf8, sequence));
        }
    };
    for &(section, first, is_utf8, sequences) in SEQUENCES {
        add(section, first, is_utf8, sequences.iter().map(|sequence| sequence.to_vec()).collect());
    }
    for length in 1..=START.len() {
        add("6.6", length, [2, 5, 7, 9, 11].contains(&length), vec![START[..length].to_vec()]);
    }
    add("6.12", 8, false, vec![(0x80..0xBF).collect()]);
    let firsts = [0xC0..0xDF, 0xE0..0xEF, 0xF0..0xF7, 0xF8..0xFB, 0xFC..0xFD];
    add("6.13", 1, false, firsts.map(|firsts| firsts.flat_map(|first| [first, b' ']).collect()).to_vec());
    add("6.14", 1, false, INCOMPLETE.map(<[u8]>::to_vec).to_vec());
    add("6.15", 1, false, vec![INCOMPLETE.concat()]);
    // Noncharacters and specials are valid in UTF-8.
    let of = |code_point: u32| char::from_u32(code_point).unwrap().to_string().into_bytes();
    add(
        "6.22",
        1,
        true,
        (0..=16).flat_map(|plane| [0xFFFE, 0xFFFF].map(|end| of(plane << 16 | end))).collect(),
    );
    add("6.23", 1, true, (0xFFF9..=0xFFFF).map(of).collect());
    texts
}

/// Text in two fragments, divided at every place, and in fragments of one byte.
fn ways_to_divide(text: &[u8]) -> Vec<Vec<u8>> {
    let in_two = |at: usize| [frame(TEXT_BEGINS, &text[..at]), frame(ENDS, &text[at..])].concat();
    let bytes: Vec<u8> = text.iter().flat_map(|&byte| frame(CONTINUES, &[byte])).collect();
    let in_ones = [frame(TEXT_BEGINS, b""), bytes, frame(ENDS, b"")].concat();
    (0..=text.len()).map(in_two).chain([in_ones]).collect()
}

/// A text whole and in fragments.
fn rows<'a>(case: &'a str, is_utf8: bool, payload: &[u8]) -> Vec<Row<'a>> {
    let (received, then) = if is_utf8 {
        (vec![text(std::str::from_utf8(payload).unwrap())], Then::Open)
    } else {
        (vec![], Then::Refused(1007))
    };
    let ways = [vec![frame(TEXT, payload)], ways_to_divide(payload)].concat();
    ways.into_iter().map(|sent| (case, sent, received.clone(), then)).collect()
}

#[test]
fn text_comes_back_if_it_is_utf8_in_all_divisions() {
    let texts = texts();
    assert_eq!(texts.len(), 132, "the suite has as many");
    for (case, is_utf8, payload) in &texts {
        assert_answers(&rows(case, *is_utf8, payload));
        assert_answers(&rows(case, *is_utf8, &[b"before ", &payload[..], b" behind"].concat()));
    }
}

#[test]
fn empty_and_long_texts_come_back() {
    let hello = "Hello-µ@ßöäüàá-UTF-8!!";
    let [first, second] = ["Hello-µ@ßöä", "üàá-UTF-8!!"].map(str::as_bytes);
    let in_fragments = |parts: [&[u8]; 3]| {
        [frame(TEXT_BEGINS, parts[0]), frame(CONTINUES, parts[1]), frame(ENDS, parts[2])].concat()
    };
    assert_answers(&[
        ("6.1.1", frame(TEXT, b""), vec![text("")], Then::Open),
        ("6.1.2", in_fragments([b"", b"", b""]), vec![text("")], Then::Open),
        ("6.1.3", in_fragments([b"", b"middle", b""]), vec![text("middle")], Then::Open),
        ("6.2.2", [frame(TEXT_BEGINS, first), frame(ENDS, second)].concat(), vec![text(hello)], Then::Open),
    ]);
    assert_answers(&rows("6.2.1, 6.2.3", true, hello.as_bytes()));
    assert_answers(&rows("6.2.4", true, START));
    assert_answers(&rows("6.3.1, 6.3.2", false, &[START, b"\xED\xA0\x80", END].concat()));
}

#[test]
fn text_is_refused_with_its_first_invalid_fragment() {
    let bad = b"\xF4\x90\x80\x80";
    let cases: [(&str, [&[u8]; 3]); 5] = [
        ("6.4.1", [START, bad, END]),
        ("6.4.2", [&[START, &bad[..1]].concat(), &bad[1..2], &[&bad[2..], END].concat()]),
        ("a surrogate's second byte", [b"\xED", b"\xA0", b"\x80"]),
        ("a bad byte at the end of a fragment", [b"a", b"b\xFF", b"c"]),
        ("a character not gone on with", [b"\xE2\x82", b"x", b""]),
    ];
    for (case, [first, second, third]) in cases {
        for piece in [usize::MAX, 1] {
            let mut client = Client::open();
            client.send(&frame(TEXT_BEGINS, first), piece);
            client.send(&frame(PING, b"well?"), piece);
            assert_eq!(client.take(), [Received::Pong(b"well?".to_vec())], "{case}: nothing is wrong yet");
            client.send(&frame(CONTINUES, second), piece);
            assert!(matches!(client.take()[..], [Received::Close(1007, _)]), "{case}: at once");
            client.send(&frame(ENDS, third), piece);
            assert_eq!(client.take(), [], "{case}: and nothing more");
        }
    }
}

#[test]
fn text_that_ends_inside_a_character_is_refused_with_its_last_fragment() {
    for cut_off in [&b"\xCE"[..], b"\xE2\x82", b"\xF0\x90\x80"] {
        let mut client = Client::open();
        client.send(&frame(TEXT_BEGINS, cut_off), usize::MAX);
        client.send(&frame(CONTINUES, b""), usize::MAX);
        assert_eq!(client.take(), [], "the rest may still come");
        client.send(&frame(ENDS, b""), usize::MAX);
        assert!(matches!(client.take()[..], [Received::Close(1007, _)]), "{cut_off:x?}");
    }
}

#[test]
fn every_character_passes_when_fragments_split_characters() {
    let all: String = ('\0'..=char::MAX).collect();
    for fragment_bytes in [1 << 20, 20_011, 1013] {
        let mut client = Client::open();
        client.send(&frame(TEXT_BEGINS, b""), usize::MAX);
        for part in all.as_bytes().chunks(fragment_bytes) {
            client.send(&frame(CONTINUES, part), 1 << 16);
        }
        client.send(&frame(ENDS, b""), usize::MAX);
        assert!(client.take() == [text(&all)], "in fragments of {fragment_bytes}");
    }
}

#[test]
fn fragmented_text_is_valid_exactly_if_the_whole_text_is() {
    // The bytes at which a decoder's states change (Unicode, table 3-7).
    const TURNS: [u8; 22] = [
        0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
        0xF0, 0xF1, 0xF3, 0xF4, 0xF5,
    ];
    let threes = TURNS.iter().flat_map(|&a| TURNS.iter().flat_map(move |&b| TURNS.map(|c| vec![a, b, c])));
    let fours = [0xF0, 0xF1, 0xF4].into_iter().flat_map(|a| {
        let ends = [0x7F, 0x80, 0xBF, 0xC2];
        TURNS.iter().flat_map(move |&b| ends.into_iter().flat_map(move |c| ends.map(|d| vec![a, b, c, d])))
    });
    for payload in threes.chain(fours) {
        for sent in [vec![frame(TEXT, &payload)], ways_to_divide(&payload)].concat() {
            let mut client = Client::open();
            client.send(&sent, usize::MAX);
            let received = client.take();
            let is_right = match (std::str::from_utf8(&payload), &received[..]) {
                (Ok(expected), [Received::Text(got)]) => got == expected,
                (Err(_), [Received::Close(1007, _)]) => true,
                _ => false,
            };
            assert!(is_right, "{payload:x?} in {sent:x?}: {received:?}");
        }
    }
}
