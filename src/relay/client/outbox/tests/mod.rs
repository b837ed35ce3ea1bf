mod delivery;
mod twin;

use std::io;

use super::*;
use crate::relay::limits::{
    FRAGMENT_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX, SPARE_BUFFERS_BYTES_MAX, SPARE_OUTBOXES_MAX,
};
use crate::relay::tests::frame::{CLOSE, FINAL, PONG, TEXT, close_payload};
use crate::relay::tests::stream::Wire;

/// A stream that takes `room` bytes, holds them, and cannot flush them.
fn without_flush(room: usize) -> Wire {
    Wire { is_never_flushed: true, ..Wire::with_room(room) }
}

/// The frames in a byte stream: first byte and payload of each. The stream must end with a complete frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length_bytes, length) = match second {
            127 => (8, u64::from_be_bytes(rest[..8].try_into().unwrap())),
            126 => (2, u64::from(u16::from_be_bytes([rest[0], rest[1]]))),
            length => (0, u64::from(*length)),
        };
        let (payload, behind) = rest[length_bytes..].split_at(usize::try_from(length).unwrap());
        frames.push((*first, payload.to_vec()));
        bytes = behind;
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:x?}");
    frames
}

/// The messages in a byte stream, fragments joined, control frames left out.
fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for (first, payload) in frames(bytes) {
        match first & 0x0F {
            0 => open.as_mut().expect("a continuation continues something").extend(payload),
            1 | 2 => assert!(open.replace(payload).is_none(), "a message within a message"),
            _ => continue,
        }
        if first & FINAL != 0 {
            messages.extend(open.take());
        }
    }
    assert_eq!(open, None, "the last message is whole");
    messages
}

fn push_message(outbox: &mut Outbox, pool: &mut Pool, opcode: Opcode, payload: &[u8]) {
    if payload.len() > SMALL_MESSAGE_BYTES_MAX {
        let key = pool.transits.begin(opcode);
        pool.transits.append(key, payload);
        let cursor = pool.transits.release(key);
        let bytes = pool.transits.take_news(key);
        assert_eq!(bytes, payload.len() as u64);
        outbox.push_transit(cursor, payload.len());
        pool.transits.end(key, 0);
        pool.transits.detach_sender(key);
    } else {
        outbox.push_small(pool, opcode, payload);
    }
}

fn push(outbox: &mut Outbox, pool: &mut Pool, text: &str) {
    push_message(outbox, pool, Opcode::Text, text.as_bytes());
}

fn push_sized(outbox: &mut Outbox, pool: &mut Pool, bytes: usize) {
    push_message(outbox, pool, Opcode::Binary, &vec![0xAB; bytes]);
}

fn notice(text: &str) -> impl FnOnce(&mut Vec<u8>) {
    let frame = [&[TEXT, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    move |out| out.extend_from_slice(&frame)
}

fn drain(outbox: &mut Outbox, pool: &mut Pool) -> Vec<u8> {
    let mut socket = Wire::with_room(usize::MAX);
    let (_, end) = outbox.write_to(&mut socket, pool, None, usize::MAX).unwrap();
    assert_eq!(end, WriteEnd::Drained);
    assert_eq!((outbox.queued_messages, outbox.queued_bytes, outbox.queued_relay_frames), (0, 0, 0));
    socket.from_relay
}

#[test]
fn messages_of_every_size_are_written_in_order_and_byte_for_byte() {
    let sizes = [
        0,
        1,
        125,
        126,
        SMALL_MESSAGE_BYTES_MAX,
        SMALL_MESSAGE_BYTES_MAX + 1,
        65_535,
        65_536,
        FRAGMENT_BYTES_MAX - 1,
        FRAGMENT_BYTES_MAX,
        FRAGMENT_BYTES_MAX + 1,
        2 * FRAGMENT_BYTES_MAX,
        40 * FRAGMENT_BYTES_MAX + 7,
        3,
    ];
    for step in [usize::MAX, 100_003, 4096, 7] {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
        let mut expected = Vec::new();
        for (index, size) in sizes.into_iter().enumerate() {
            let payload: Vec<u8> =
                (0..size).map(|at| u8::try_from((at * 31 + index) % 251).unwrap()).collect();
            push_message(&mut outbox, &mut pool, Opcode::Text, &payload);
            expected.push(payload);
        }
        let mut socket = Wire { step_max: step, ..Wire::with_room(usize::MAX) };
        let (total, end) = outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
        assert_eq!((total, end), (socket.from_relay.len(), WriteEnd::Drained));
        assert!(messages(&socket.from_relay) == expected, "step {step}");
        assert!(frames(&socket.from_relay).iter().all(|(_, payload)| payload.len() <= FRAGMENT_BYTES_MAX));
        assert!(outbox.is_empty());
        assert_eq!((outbox.queued_messages, outbox.queued_bytes), (0, 0));
    }
}

#[test]
fn a_control_frame_overtakes_at_the_next_fragment_and_a_reply_at_the_next_message() {
    let fragments = 3 * FRAGMENT_BYTES_MAX;
    let second_fragment = FRAGMENT_BYTES_MAX + 10 + 5;
    // Length of the first message; bytes taken of it; positions of the control frame and the reply among the frames.
    let rows = [
        (10, 0, 0, 1),
        (10, 5, 1, 2),
        (10, 12, 1, 2),
        (fragments, 0, 0, 1),
        (fragments, 1, 1, 4),
        (fragments, FRAGMENT_BYTES_MAX + 10, 1, 4),
        (fragments, second_fragment, 2, 4),
    ];
    for (first_message, room, control_at, reply_at) in rows {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
        push_sized(&mut outbox, &mut pool, first_message);
        push(&mut outbox, &mut pool, "second");
        let mut socket = Wire::with_room(room);
        let (_, end) = outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
        assert_eq!(end, WriteEnd::Blocked);
        outbox.control(&mut pool, |out| out.extend_from_slice(&[PONG, 0]));
        outbox.reply(&mut pool, notice("reply"));
        let wire = [socket.from_relay, drain(&mut outbox, &mut pool)].concat();
        let frames = frames(&wire);
        let control = frames.iter().position(|(first, _)| *first == PONG);
        let reply = frames.iter().position(|(_, payload)| payload == b"reply");
        assert_eq!((control, reply), (Some(control_at), Some(reply_at)), "{first_message}, {room} taken");
        assert_eq!(messages(&wire).len(), 3);
    }
}

#[test]
fn only_control_frames_follow_a_message_that_was_cut_short() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    push_sized(&mut outbox, &mut pool, 3 * FRAGMENT_BYTES_MAX);
    outbox.write_to(&mut Wire::with_room(5), &mut pool, None, usize::MAX).unwrap();
    outbox.reply(&mut pool, notice("reply"));
    outbox.take_messages(None, &mut pool).discard(&mut pool);
    outbox.reply(&mut pool, notice("another"));
    outbox.control(&mut pool, |out| out.extend_from_slice(&[PONG, 0]));
    outbox
        .push_relay_frame(|out| out.extend_from_slice(&[&[CLOSE, 2], &close_payload(1000, "")[..]].concat()));
    let rest = drain(&mut outbox, &mut pool).split_off(FRAGMENT_BYTES_MAX + 10 - 5);
    assert_eq!(rest, [&[PONG, 0, CLOSE, 2], &close_payload(1000, "")[..]].concat());
    pool.give_outbox(Box::new(outbox));
    let mut reused = pool.take_outbox();
    reused.reply(&mut pool, notice("reply"));
    assert!(!reused.is_empty(), "an outbox from the pool has no old state");
}

#[test]
fn a_reply_never_splits_another_reply() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    outbox.reply(&mut pool, notice("first reply"));
    push(&mut outbox, &mut pool, "message");
    let mut socket = Wire::with_room(4);
    outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
    outbox.reply(&mut pool, notice("second reply"));
    let wire = [socket.from_relay, drain(&mut outbox, &mut pool)].concat();
    let texts: Vec<_> =
        frames(&wire).into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()).collect();
    assert_eq!(texts, ["first reply", "second reply", "message"]);
}

#[test]
fn notices_keep_their_position_among_the_messages() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    push(&mut outbox, &mut pool, "before");
    outbox.push_relay_frame(notice("gone"));
    push(&mut outbox, &mut pool, "after");
    assert_eq!(outbox.backlog().messages, 2);
    let texts = messages(&drain(&mut outbox, &mut pool));
    assert_eq!(texts, [&b"before"[..], b"gone", b"after"]);
}

#[test]
fn incomplete_messages_move_from_their_start_and_the_old_client_gets_whole_frames() {
    let large = 2 * FRAGMENT_BYTES_MAX + 5;
    let first_small = 2 + 3;
    // Bytes that the old socket takes; messages that move; payload lengths of the frames that the old client gets.
    let rows = [
        (0, 4, vec![]),
        (1, 4, vec![3]),
        (first_small - 1, 4, vec![3]),
        (first_small, 3, vec![3]),
        (first_small + 1, 3, vec![3, 4]),
        (first_small + 6, 2, vec![3, 4]),
        (first_small + 6 + 1, 2, vec![3, 4, FRAGMENT_BYTES_MAX]),
        (first_small + 6 + FRAGMENT_BYTES_MAX + 10, 2, vec![3, 4, FRAGMENT_BYTES_MAX]),
        (first_small + 6 + FRAGMENT_BYTES_MAX + 11, 2, vec![3, 4, FRAGMENT_BYTES_MAX, FRAGMENT_BYTES_MAX]),
    ];
    for (room, moved, frames_left) in rows {
        let (mut old, mut new, mut pool) = (Outbox::default(), Outbox::default(), Pool::default());
        push(&mut old, &mut pool, "one");
        push(&mut old, &mut pool, "two!");
        push_sized(&mut old, &mut pool, large);
        old.push_relay_frame(notice("notice"));
        push(&mut old, &mut pool, "last");
        let mut socket = Wire::with_room(room);
        old.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
        let undelivered = old.take_messages(None, &mut pool);
        assert_eq!(undelivered.messages(), moved, "room {room}");
        assert_eq!(old.backlog().messages, 0);
        let on_old = [socket.from_relay, drain(&mut old, &mut pool)].concat();
        let lengths: Vec<usize> = frames(&on_old).iter().map(|(_, payload)| payload.len()).collect();
        assert_eq!(lengths, frames_left, "room {room}");

        new.reply(&mut pool, notice("connected"));
        new.append(undelivered, &mut pool);
        assert_eq!(new.backlog().messages, moved);
        let on_new = messages(&drain(&mut new, &mut pool));
        let all = [b"one".to_vec(), b"two!".to_vec(), vec![0xAB; large], b"last".to_vec()];
        assert_eq!(on_new[0], b"connected");
        assert!(on_new[1..] == all[4 - usize::try_from(moved).unwrap()..], "room {room}");
    }
}

#[test]
fn bytes_that_the_stream_holds_do_not_count_as_written() {
    let (mut old, mut new, mut pool) = (Outbox::default(), Outbox::default(), Pool::default());
    for text in ["one", "two!"] {
        push(&mut old, &mut pool, text);
    }
    push_sized(&mut old, &mut pool, SMALL_MESSAGE_BYTES_MAX + 1);
    push(&mut old, &mut pool, "last");
    let all = old.backlog();
    // The stream takes three messages and a part of the last one.
    let mut socket = without_flush(all.bytes - 1);
    let (taken, end) = old.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
    assert_eq!((taken, end, old.backlog()), (all.bytes - 1, WriteEnd::Blocked, all));
    assert!(pool.delivered.is_empty() && old.is_blocked());
    let undelivered = old.take_messages(None, &mut pool);
    assert_eq!(undelivered.messages(), 4);
    let on_old = [socket.from_relay, drain(&mut old, &mut pool)].concat();
    assert_eq!(messages(&on_old).len(), 4, "the frame that had begun is completed on the old connection");
    new.append(undelivered, &mut pool);
    assert!(messages(&on_old) == messages(&drain(&mut new, &mut pool)), "and all go to the new one");
}

#[test]
fn bytes_that_the_stream_has_flushed_count_as_written() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    push(&mut outbox, &mut pool, "one");
    push(&mut outbox, &mut pool, "two!");
    outbox.write_to(&mut without_flush(6), &mut pool, None, usize::MAX).unwrap();
    assert_eq!(outbox.backlog().messages, 2);
    let mut socket = Wire::with_room(0);
    outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
    assert_eq!(outbox.backlog(), Backlog { messages: 1, bytes: 5 });
    push(&mut outbox, &mut pool, "three");
    let undelivered = outbox.take_messages(None, &mut pool);
    assert_eq!((undelivered.messages(), undelivered.bytes()), (2, 6 + 7));
}

#[test]
fn queue_has_a_limit_of_bytes_and_with_several_messages_one_of_memory() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    push_sized(&mut outbox, &mut pool, 100_000);
    assert!(outbox.is_queue_over(99_999, usize::MAX) && !outbox.is_queue_over(100_000, usize::MAX));
    push_sized(&mut outbox, &mut pool, 1_000);
    let bytes = 100_000 + 1_004;
    assert!(outbox.is_queue_over(bytes - 1, usize::MAX) && !outbox.is_queue_over(bytes, usize::MAX));
    let small_bytes = outbox.small_bytes();
    assert!(small_bytes >= 1_004);
    assert!(
        outbox.is_queue_over(usize::MAX, small_bytes - 1) && !outbox.is_queue_over(usize::MAX, small_bytes)
    );
    outbox.take_messages(None, &mut pool).discard(&mut pool);
    assert!(!outbox.is_queue_over(0, 0));
    push_sized(&mut outbox, &mut pool, 1_000);
    assert!(!outbox.is_queue_over(usize::MAX, 0), "one small message may always wait");
}

#[test]
fn replies_are_congested_from_above_the_high_mark_down_to_the_low_mark() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    outbox.reply(&mut pool, |out| out.resize(HIGH_WATER_BYTES, 0));
    assert!(!outbox.are_replies_congested());
    outbox.reply(&mut pool, |out| out.push(0));
    assert!(outbox.are_replies_congested() && !outbox.is_queue_over(0, 0));
    let mut socket = Wire::with_room(LOW_WATER_BYTES);
    outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
    assert!(outbox.are_replies_congested());
    socket.room = 1;
    outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
    assert!(!outbox.are_replies_congested());
}

#[test]
fn queue_of_a_blocked_socket_has_no_spare_capacity() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    pool.give_buffer(Vec::with_capacity(RUN_BYTES_MAX));
    push(&mut outbox, &mut pool, "small");
    let mut socket = Wire::with_room(0);
    outbox.write_to(&mut socket, &mut pool, None, usize::MAX).unwrap();
    let Some(Item::Run(run)) = outbox.queue.front() else { panic!("a run waits") };
    assert!(run.bytes.capacity() < 64);
    assert_eq!(pool.take_buffer().capacity(), RUN_BYTES_MAX);
}

#[test]
fn replies_to_a_blocked_client_take_no_spare_buffer_and_little_spare_capacity() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    push(&mut outbox, &mut pool, "small");
    outbox.write_to(&mut Wire::with_room(0), &mut pool, None, usize::MAX).unwrap();
    let before = outbox.small_bytes();
    pool.give_buffer(Vec::with_capacity(RUN_BYTES_MAX));
    outbox.reply(&mut pool, notice("reply"));
    assert!(outbox.small_bytes() - before < 64, "it takes none of the pool's buffers");
    for _ in 0..20_000 {
        outbox.reply(&mut pool, notice("an error message, about as long as they are"));
        let waiting = outbox.replies.len();
        assert!(outbox.small_bytes() - before <= waiting + waiting / 4 + 12_288);
    }
}

#[test]
fn memory_of_the_pool_is_bounded() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    for round in 0..10_000 {
        push_sized(&mut outbox, &mut pool, round % 100);
        if round % 3 == 0 {
            outbox.reply(&mut pool, notice("reply"));
        }
        drain(&mut outbox, &mut pool);
    }
    assert!(pool.buffers.len() <= 2, "{} buffers for one outbox", pool.buffers.len());
    for _ in 0..1000 {
        pool.give_buffer(Vec::with_capacity(RUN_BYTES_MAX));
        pool.give_outbox(Box::default());
    }
    assert_eq!(pool.buffers_bytes, pool.buffers.iter().map(Vec::capacity).sum::<usize>());
    assert!(pool.buffers_bytes <= SPARE_BUFFERS_BYTES_MAX && pool.outboxes.len() == SPARE_OUTBOXES_MAX);
}

#[test]
fn a_write_ends_at_its_allowance_and_an_error_is_returned() {
    let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
    push_sized(&mut outbox, &mut pool, 20 * FRAGMENT_BYTES_MAX);
    let mut socket = Wire::with_room(usize::MAX);
    let (taken, end) = outbox.write_to(&mut socket, &mut pool, None, FRAGMENT_BYTES_MAX).unwrap();
    assert_eq!(end, WriteEnd::Allowance);
    assert!((FRAGMENT_BYTES_MAX..3 * FRAGMENT_BYTES_MAX).contains(&taken));

    let mut broken = Wire { is_reset: true, ..Wire::default() };
    let error = outbox.write_to(&mut broken, &mut pool, None, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let nothing: &mut [u8] = &mut [];
    let error = outbox.write_to(&mut io::Cursor::new(nothing), &mut pool, None, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero, "a socket that takes nothing and reports no error");
}
