use super::*;
use crate::relay::limits::{CHUNK_BYTES, SMALL_MESSAGE_BYTES_MAX as SMALL};
use crate::relay::memory::Memory;
use crate::relay::tests::frame::{
    BINARY, BINARY_BEGINS, CLOSE, CONTINUES, ENDS, PING, PONG, RSV1, TEXT, TEXT_BEGINS, close_payload, frame,
    frame_header,
};
use crate::relay::tests::stream::Wire;

const LIMIT: usize = 1 << 20;
const RULES: Rules =
    Rules { size_max: LIMIT, wants_type: false, requires_json: true, small_bytes_max: SMALL, discard: false };

/// What all connections share.
#[derive(Default)]
struct Shared {
    receiver: Receiver,
    transits: Transits,
}

impl Shared {
    fn read(&mut self, inbound: &mut Inbound, mut stream: impl Read) -> io::Result<usize> {
        let result = inbound.read_from(&mut stream, &mut self.receiver, &mut self.transits, usize::MAX);
        result.map(|(count, _)| count)
    }
}

/// One [`Incoming`], with a copy of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    /// A discarded message, and the offset at which it stops being JSON.
    Skipped(Option<usize>),
    Ping(Vec<u8>),
    Pong,
    Close(u16, CloseReason),
}

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

/// Feeds bytes in reads of at most `step`. Returns what came out, the violation, and the remaining state.
fn feed(bytes: &[u8], step: usize) -> (Vec<Event>, Option<Violation>, Inbound) {
    feed_with(&mut Shared::default(), Inbound::default(), bytes, step, RULES)
}

fn feed_with(
    shared: &mut Shared,
    mut inbound: Inbound,
    bytes: &[u8],
    step: usize,
    rules: Rules,
) -> (Vec<Event>, Option<Violation>, Inbound) {
    let mut stream = Wire { step_max: step, ..Wire::sending(bytes) };
    let mut all = Vec::new();
    while let Ok(count) = shared.read(&mut inbound, &mut stream) {
        assert!(count > 0);
        if let Err(refused) = take_all(&mut inbound, shared, rules, &mut all) {
            inbound.abandon(&mut shared.transits);
            return (all, Some(refused), inbound);
        }
        inbound.keep_rest(&mut shared.receiver, Tick(7));
    }
    (all, None, inbound)
}

/// Takes all complete messages and control frames.
fn take_all(
    inbound: &mut Inbound,
    shared: &mut Shared,
    rules: Rules,
    all: &mut Vec<Event>,
) -> Result<(), Violation> {
    let Shared { receiver, transits } = shared;
    let take = |content: Content, receiver: &Receiver, transits: &mut Transits| {
        let bytes = content.to_vec(receiver, transits);
        assert_eq!(bytes.len(), content.len());
        if let Content::InTransit(key, _) = content {
            transits.detach_sender(key);
        }
        bytes
    };
    while let Some(incoming) = inbound.next(receiver, transits, rules)? {
        all.push(match incoming {
            Incoming::Text(content, _) => {
                Event::Text(String::from_utf8(take(content, receiver, transits)).expect("checked"))
            }
            Incoming::Binary(content) => Event::Binary(take(content, receiver, transits)),
            Incoming::Skipped(error) => Event::Skipped(error.map(|error| error.offset)),
            Incoming::Ping(payload) => Event::Ping(payload.to_vec()),
            Incoming::Pong(_) => Event::Pong,
            Incoming::Close { code, answer } => Event::Close(code, answer),
        });
    }
    Ok(())
}

/// Sizes of the reads in which each row arrives.
const STEPS: [usize; 5] = [usize::MAX, 1, 2, 7, 4096];

#[test]
fn messages_are_the_same_whatever_the_sizes_of_the_reads() {
    let large = format!("\"{}\"", "ä€𝄞x".repeat(SMALL / 4));
    let huge = vec![0xA5; 300_000];
    let rows: Vec<(&str, Vec<u8>, Vec<Event>)> = vec![
        ("empty text", frame(TEXT, b""), vec![text("")]),
        ("text", frame(TEXT, "{\"ü\":1}".as_bytes()), vec![text("{\"ü\":1}")]),
        ("binary", frame(BINARY, &[0, 255]), vec![Event::Binary(vec![0, 255])]),
        ("125 bytes", frame(TEXT, &[b'x'; 125]), vec![text(&"x".repeat(125))]),
        ("126 bytes", frame(TEXT, &[b'x'; 126]), vec![text(&"x".repeat(126))]),
        ("the largest small", frame(TEXT, &[b'x'; SMALL]), vec![text(&"x".repeat(SMALL))]),
        ("large text", frame(TEXT, large.as_bytes()), vec![text(&large)]),
        ("larger than the buffer", frame(BINARY, &huge), vec![Event::Binary(huge.clone())]),
        ("ping", frame(PING, b"payload"), vec![Event::Ping(b"payload".to_vec())]),
        ("pong", frame(PONG, b""), vec![Event::Pong]),
        (
            "fragments, a ping between them, a character cut in two",
            [
                frame(TEXT_BEGINS, b"\"\xE2\x82"),
                frame(PING, b"!"),
                frame(CONTINUES, b""),
                frame(CONTINUES, b"\xAC and"),
                frame(ENDS, b" more\""),
            ]
            .concat(),
            vec![Event::Ping(b"!".to_vec()), text("\"€ and more\"")],
        ),
        (
            "a large fragment among small ones",
            [frame(BINARY_BEGINS, &[1, 2]), frame(CONTINUES, &huge), frame(ENDS, &[3])].concat(),
            vec![Event::Binary([&[1, 2], &huge[..], &[3]].concat())],
        ),
        (
            "one after the other",
            [
                frame(TEXT, b"1"),
                frame(BINARY, &huge),
                frame(TEXT_BEGINS, b"2"),
                frame(ENDS, b""),
                frame(TEXT, b"3"),
            ]
            .concat(),
            vec![text("1"), Event::Binary(huge.clone()), text("2"), text("3")],
        ),
        (
            "close",
            frame(CLOSE, &close_payload(1001, "bye")),
            vec![Event::Close(1001, CloseReason::Echo(1001, b"bye".to_vec()))],
        ),
        (
            "close without a code",
            frame(CLOSE, b""),
            vec![Event::Close(1005, CloseReason::Echo(1000, vec![]))],
        ),
    ];
    for (name, bytes, expected) in &rows {
        for step in STEPS {
            let (incoming, refused, inbound) = feed(bytes, step);
            assert_eq!(refused, None, "{name}, step {step}");
            assert!(incoming == *expected, "{name}, step {step}");
            assert!(inbound.unfinished.is_none(), "{name}: nothing is stored between messages");
            let behind = [&bytes[..], &[TEXT]].concat();
            let (incoming, refused, inbound) = feed(&behind, step);
            assert!(incoming == *expected && refused.is_none(), "{name} and a byte, step {step}");
            assert_eq!(
                inbound.unfinished_since(),
                Some((Tick(7), Tick(7))),
                "{name} and a byte, step {step}"
            );
        }
    }
}

#[test]
fn violation_is_refused_and_the_message_before_it_is_delivered() {
    let too_large = |bytes, at_least| Violation {
        reason: CloseReason::TooLarge,
        error: Some(ClientError::MessageTooLarge { bytes, at_least, limit: LIMIT }),
        is_framing_intact: true,
    };
    let not_utf8 = || Violation::from(CloseReason::NotUtf8);
    let over = LIMIT as u64 + 1;
    let rows: Vec<(&str, Vec<u8>, Violation)> = vec![
        ("reserved bit", vec![TEXT | RSV1], CloseReason::Protocol("Reserved bits must be zero").into()),
        ("unmasked", vec![TEXT, 1, b'x'], CloseReason::Protocol("Client frames must be masked").into()),
        ("text not UTF-8", frame(TEXT, b"ab\xFF"), not_utf8()),
        ("text cut in a character", frame(TEXT, b"ab\xE2\x82"), not_utf8()),
        ("large text not UTF-8", frame(TEXT, &vec![0xFF; 50_000]), not_utf8()),
        ("first fragment not UTF-8", frame(TEXT_BEGINS, b"\xFF"), not_utf8()),
        (
            "second fragment not UTF-8",
            [frame(TEXT_BEGINS, b"\xE2"), frame(CONTINUES, b"x")].concat(),
            not_utf8(),
        ),
        (
            "surrogate over fragments",
            [frame(TEXT_BEGINS, b"\xED"), frame(CONTINUES, b"\xA0\x80")].concat(),
            not_utf8(),
        ),
        (
            "message ends in a character",
            [frame(TEXT_BEGINS, b"\xE2\x82"), frame(ENDS, b"")].concat(),
            not_utf8(),
        ),
        (
            "close reason not UTF-8",
            frame(CLOSE, &[&close_payload(1000, "")[..], b"\xFF"].concat()),
            Violation { is_framing_intact: false, ..not_utf8() },
        ),
        (
            "close code not allowed",
            frame(CLOSE, &close_payload(1005, "")),
            CloseReason::Protocol("Close code is not allowed").into(),
        ),
        ("over the limit, at its header", frame_header(TEXT, over), too_large(over, false)),
        ("absurd length", frame_header(BINARY, u64::MAX >> 1), too_large(u64::MAX >> 1, false)),
        (
            "fragments over the limit",
            [frame(BINARY_BEGINS, &[0; 100]), frame_header(CONTINUES, LIMIT as u64 - 99)].concat(),
            too_large(over, true),
        ),
    ];
    for (name, bytes, expected) in rows {
        for step in STEPS {
            let bytes = [frame(TEXT, b"before"), bytes.clone()].concat();
            let (incoming, refused, _) = feed(&bytes, step);
            assert_eq!(incoming, [text("before")], "{name}, step {step}");
            assert_eq!(refused.as_ref(), Some(&expected), "{name}, step {step}");
        }
    }
}

#[test]
fn message_of_exactly_the_limit_passes() {
    let whole = vec![b'x'; LIMIT];
    let fragments = [frame(TEXT_BEGINS, &whole[1..]), frame(ENDS, b"x")].concat();
    for bytes in [frame(TEXT, &whole), fragments] {
        let (incoming, refused, _) = feed(&bytes, usize::MAX);
        assert!(incoming.len() == 1 && refused.is_none());
    }
}

#[test]
fn refused_text_does_not_affect_the_next_connection() {
    let mut shared = Shared::default();
    let (_, refused, _) = feed_with(&mut shared, Inbound::default(), &frame(TEXT, b"\xFF"), 99, RULES);
    assert!(refused.is_some());
    shared.receiver.clear();
    let (incoming, refused, _) = feed_with(&mut shared, Inbound::default(), &frame(TEXT, b"ok"), 99, RULES);
    assert_eq!((incoming, refused), (vec![text("ok")], None));
}

#[test]
fn a_million_empty_fragments_cost_no_memory() {
    let mut inbound = Inbound::default();
    let mut shared = Shared::default();
    let first = [frame(TEXT_BEGINS, b"[1,"), frame(CONTINUES, b"").repeat(1000)].concat();
    for _ in 0..1000 {
        let bytes = if inbound.unfinished.is_none() { &first } else { &frame(CONTINUES, b"").repeat(1000) };
        let (incoming, refused, next) = feed_with(&mut shared, inbound, bytes, usize::MAX, RULES);
        assert!(incoming.is_empty() && refused.is_none());
        inbound = next;
    }
    let kept = inbound.unfinished.as_ref().map(|unfinished| unfinished.message.as_ref().map(Partial::len));
    assert_eq!(kept, Some(Some(3)), "the length of its text");
    let (incoming, _, inbound) = feed_with(&mut shared, inbound, &frame(ENDS, b"2]"), 1, RULES);
    assert_eq!(incoming, [text("[1,2]")]);
    assert!(inbound.unfinished.is_none());
}

#[test]
fn discarding_skips_data_of_any_size_and_still_returns_control_frames() {
    let close = Event::Close(1000, CloseReason::Echo(1000, vec![]));
    let discard = Rules { discard: true, ..RULES };
    let huge = vec![7; 300_000];
    let bytes = [
        frame(TEXT, b"\xFF not looked at"),
        frame(BINARY_BEGINS, &huge),
        frame(PONG, b""),
        frame(ENDS, b"end"),
        frame(BINARY, &vec![7; LIMIT + 1]),
        frame(CLOSE, &close_payload(1000, "")),
    ]
    .concat();
    for step in [usize::MAX, 1, 4096] {
        let all = feed_with(&mut Shared::default(), Inbound::default(), &bytes, step, discard);
        assert_eq!((&all.0[..], &all.1), (&[Event::Pong, close.clone()][..], &None), "step {step}");
    }
    // Discarding may begin in the middle of a message, or of a large frame.
    for (cut, before) in [(frame(TEXT_BEGINS, b"begun"), frame(ENDS, b"\xFF")), (frame(TEXT, &huge), vec![])]
    {
        let cut_at = cut.len().min(200_000);
        let mut shared = Shared::default();
        let (_, _, inbound) = feed_with(&mut shared, Inbound::default(), &cut[..cut_at], usize::MAX, RULES);
        assert!(inbound.unfinished.is_some());
        let rest = [&cut[cut_at..], &before, &frame(CLOSE, &close_payload(1000, ""))].concat();
        let (incoming, refused, _) = feed_with(&mut shared, inbound, &rest, 999, discard);
        assert_eq!(shared.transits.memory.used_bytes(), 0, "what is discarded takes no memory");
        assert_eq!((incoming, refused), (vec![close.clone()], None));
    }
}

#[test]
fn age_of_a_message_counts_from_its_first_byte_and_ends_with_its_last() {
    let mut shared = Shared::default();
    let mut inbound = Inbound::default();
    let message = frame(TEXT, b"x");
    let mut stream = [&message[..3], &message[3..], &message[..2], &message[2..]].concat();
    let mut ages = Vec::new();
    for (at, count) in [(1, 3), (2, message.len()), (3, message.len() - 3)] {
        let piece: Vec<u8> = stream.drain(..count).collect();
        shared.read(&mut inbound, piece.as_slice()).unwrap();
        take_all(&mut inbound, &mut shared, RULES, &mut Vec::new()).unwrap();
        inbound.keep_rest(&mut shared.receiver, Tick(at));
        ages.push(inbound.unfinished_since());
    }
    // The second read completes one message and begins the next, so the age of the next one begins there.
    assert_eq!(ages, [Some((Tick(1), Tick(1))), Some((Tick(2), Tick(2))), None]);

    let (_, _, mut inbound) = feed(&frame(TEXT_BEGINS, b"x"), 99);
    assert_eq!(inbound.unfinished_since(), Some((Tick(7), Tick(7))));
    inbound.exclude_held_time(std::time::Duration::from_millis(5));
    assert_eq!(inbound.unfinished_since(), Some((Tick(12), Tick(12))));
}

#[test]
fn only_bytes_of_a_message_count_as_its_progress_and_not_pings_between_them() {
    let mut shared = Shared::default();
    let mut inbound = Inbound::default();
    let ping = frame(PING, b"still here");
    let fragment = frame(CONTINUES, b"more");
    let large = frame(ENDS, &vec![b'x'; 100_000]);
    let pieces: [(&[u8], u64); 7] = [
        (&frame(TEXT_BEGINS, b"begun"), 0),
        (&ping, 0),
        (&ping[..5], 0),
        (&ping[5..], 0),
        (&[&ping[..], &fragment[..3]].concat(), 4),
        (&[&fragment[3..], &large[..20_000]].concat(), 5),
        (&large[20_000..99_000], 6),
    ];
    for (at, (piece, moved_at)) in (0..).zip(pieces) {
        shared.read(&mut inbound, piece).unwrap();
        take_all(&mut inbound, &mut shared, RULES, &mut Vec::new()).unwrap();
        inbound.keep_rest(&mut shared.receiver, Tick(at));
        assert_eq!(inbound.unfinished_since(), Some((Tick(0), Tick(moved_at))), "piece {at}");
    }
}

/// Feeds bytes in reads of any size. No message may come out.
fn push(inbound: &mut Inbound, shared: &mut Shared, bytes: &[u8], rules: Rules) {
    let (all, refused, rest) = feed_with(shared, std::mem::take(inbound), bytes, usize::MAX, rules);
    assert!(all.is_empty() && refused.is_none(), "{all:?}, {refused:?}");
    *inbound = rest;
}

#[test]
fn memory_is_taken_for_bytes_that_arrived_and_not_for_announced_bytes() {
    let announced = frame_header(BINARY, LIMIT as u64);
    let chunks = |count: usize| count * CHUNK_BYTES;
    let rows =
        [(0, 0), (1, 0), (SMALL, 0), (SMALL + 1, chunks(1)), (CHUNK_BYTES, chunks(1)), (70_000, chunks(2))];
    for (arrived, in_chunks) in rows {
        let (mut inbound, mut shared) = (Inbound::default(), Shared::default());
        push(&mut inbound, &mut shared, &announced, RULES);
        for piece in vec![7; arrived].chunks(10_000) {
            push(&mut inbound, &mut shared, piece, RULES);
        }
        assert_eq!(shared.transits.memory.used_bytes(), in_chunks, "{arrived} bytes");
        let small = inbound.small_bytes();
        let least = if in_chunks == 0 { arrived } else { 0 };
        assert!((least..=2 * least + 400).contains(&small), "{arrived} bytes take {small}");
    }
}

#[test]
fn fragments_become_a_message_in_transit_once_they_exceed_a_small_message() {
    let (mut inbound, mut shared) = (Inbound::default(), Shared::default());
    for index in 0..60 {
        let first = if index == 0 { BINARY_BEGINS } else { CONTINUES };
        push(&mut inbound, &mut shared, &frame(first, &vec![index; 10_000]), RULES);
        assert_eq!(inbound.transit().is_some(), index > 0, "{index}");
    }
    assert_eq!(shared.transits.memory.used_bytes(), 600_000_usize.next_multiple_of(CHUNK_BYTES));
    let expected: Vec<u8> = (0..60).flat_map(|index| vec![index; 10_000]).collect();
    let (all, _, inbound) = feed_with(&mut shared, inbound, &frame(ENDS, b""), 99, RULES);
    assert_eq!((all, inbound.transit()), (vec![Event::Binary(expected)], None));
    assert_eq!(shared.transits.memory.used_bytes(), 0);
}

#[test]
fn incomplete_small_frame_becomes_a_message_in_transit_if_memory_is_short() {
    let rules = Rules { small_bytes_max: 256, ..RULES };
    let (mut inbound, mut shared) = (Inbound::default(), Shared::default());
    shared.transits = Transits::new(Memory::new(0), false);
    let bytes = frame(BINARY, &[7; 1_000]);
    push(&mut inbound, &mut shared, &bytes[..200], rules);
    assert!(inbound.transit().is_none());
    push(&mut inbound, &mut shared, &bytes[200..500], rules);
    assert_eq!(shared.transits.memory.used_bytes(), 500 - 8, "no chunk, but the bytes that arrived");
    let (all, ..) = feed_with(&mut shared, inbound, &bytes[500..], 99, rules);
    assert_eq!(all, [Event::Binary(vec![7; 1_000])]);
    assert_eq!(shared.transits.memory.used_bytes(), 0);
}

#[test]
fn text_that_is_found_not_to_be_json_takes_no_more_memory() {
    let mut text = vec![b' '; 200_000];
    text[100_000] = b'}';
    let bytes = frame(TEXT, &text);
    for step in [usize::MAX, 999] {
        let mut shared = Shared::default();
        let (_, _, inbound) = feed_with(&mut shared, Inbound::default(), &bytes[..100_000], step, RULES);
        assert!(shared.transits.memory.used_bytes() >= CHUNK_BYTES);
        let (_, _, inbound) = feed_with(&mut shared, inbound, &bytes[100_000..150_000], step, RULES);
        assert_eq!((shared.transits.memory.used_bytes(), inbound.transit()), (0, None));
        let (all, ..) = feed_with(&mut shared, inbound, &bytes[150_000..], step, RULES);
        assert_eq!(all, [Event::Skipped(Some(100_000))]);
    }
    // It must still be UTF-8.
    text[150_000] = 0xFF;
    let (all, refused, _) = feed(&frame(TEXT, &text), 999);
    assert_eq!((all, refused), (vec![], Some(CloseReason::NotUtf8.into())));
}

#[test]
fn rest_of_a_skipped_message_is_checked_and_not_stored() {
    let huge = vec![b'1'; 300_000];
    for (is_told, expected) in [(true, None), (false, Some(299_999))] {
        let (mut inbound, mut shared) = (Inbound::default(), Shared::default());
        let mut text = huge.clone();
        text[299_999] = b'x';
        let bytes = frame(TEXT, &text);
        push(&mut inbound, &mut shared, &bytes[..100_000], RULES);
        let (key, invalid_json) = inbound.transit().unwrap();
        assert_eq!(invalid_json, None);
        shared.transits.detach_sender(key);
        inbound.skip_transit(is_told);
        let (all, ..) = feed_with(&mut shared, inbound, &bytes[100_000..], 50_000, RULES);
        assert_eq!(all, [Event::Skipped(expected)]);
        assert_eq!(shared.transits.memory.used_bytes(), 0);
    }
}
