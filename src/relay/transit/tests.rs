use super::*;
use crate::relay::limits::{FRAGMENT_BYTES_MAX, HIGH_WATER_BYTES};
use crate::relay::memory::SmallBytes;
use crate::relay::tests::frame::{BINARY_BEGINS, CONTINUES, ENDS, TEXT};

const MIB: usize = 1 << 20;

fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at % 251).expect("fits")).collect()
}

/// Moves a cursor on for a stream that flushes at once.
fn advance(transits: &mut Transits, cursor: &mut Cursor, taken: usize) -> usize {
    let (taken, _) = cursor.advance(transits.get(cursor.key()), taken);
    cursor.release(transits);
    taken
}

/// Everything that a cursor hands out, at most `step` bytes at a time.
fn drain(transits: &mut Transits, cursor: &mut Cursor, step: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    loop {
        cursor.plan(transits.get(cursor.key()));
        let before = wire.len();
        cursor.gather(transits.get(cursor.key()), 0, |bytes| {
            let room = step - (wire.len() - before);
            wire.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            wire.len() - before == step
        });
        let taken = wire.len() - before;
        if taken == 0 {
            return wire;
        }
        assert_eq!(advance(transits, cursor, taken), taken);
    }
}

/// The first byte and the payload length of each frame, and all payloads joined.
fn frames(mut wire: &[u8]) -> (Vec<(u8, usize)>, Vec<u8>) {
    let (mut heads, mut joined) = (Vec::new(), Vec::new());
    while let Some(&first) = wire.first() {
        let (header, length) = match wire[1] {
            126 => (4, usize::from(u16::from_be_bytes([wire[2], wire[3]]))),
            127 => {
                (10, usize::try_from(u64::from_be_bytes(wire[2..10].try_into().expect("8"))).expect("fits"))
            }
            length => (2, usize::from(length)),
        };
        let length = header + length;
        heads.push((first, length - header));
        joined.extend_from_slice(&wire[header..length]);
        wire = &wire[length..];
    }
    (heads, joined)
}

fn check(transits: &Transits, cursors: &[&Cursor], senders: usize) {
    transits.check_invariants(cursors, &[], senders, SmallBytes::default());
}

#[test]
fn a_message_leaves_byte_for_byte_in_fragments_of_what_has_arrived() {
    for (piece, step) in [(1, 1), (1_000, 7), (65_536, 65_536), (65_537, 100_000), (300_000, 4_096)] {
        let bytes = if piece == 1 { 2_000 } else { 500_000 };
        let content = numbered(bytes);
        let mut transits = Transits::default();
        let key = transits.begin(Opcode::Binary);
        let mut cursor = None;
        let mut wire = Vec::new();
        for part in content.chunks(piece) {
            transits.append(key, part);
            transits.take_news(key);
            let cursor = cursor.get_or_insert_with(|| transits.release(key));
            wire.extend(drain(&mut transits, cursor, step));
            check(&transits, &[cursor], 1);
        }
        let mut cursor = cursor.expect("released");
        assert!(!cursor.is_done(), "more bytes may follow its last one");
        transits.end(key, 7);
        transits.detach_sender(key);
        wire.extend(drain(&mut transits, &mut cursor, step));
        assert!(cursor.is_done());
        let (heads, joined) = frames(&wire);
        assert!(joined == content, "pieces of {piece}, {step} taken");
        assert_eq!((heads[0].0, heads.last().map(|head| head.0)), (BINARY_BEGINS, Some(ENDS)));
        assert!(heads.iter().all(|&(_, length)| length <= FRAGMENT_BYTES_MAX));
        assert!(heads[1..heads.len() - 1].iter().all(|&(first, _)| first == CONTINUES));
        assert_eq!(transits.get(key).whole_at(), Some(7));
        transits.give_up(cursor);
        assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
    }
}

#[test]
fn a_short_message_that_is_whole_leaves_in_one_frame() {
    for bytes in [1, 20_000, FRAGMENT_BYTES_MAX] {
        let mut transits = Transits::default();
        let key = transits.begin(Opcode::Text);
        transits.append(key, &numbered(bytes));
        transits.end(key, 0);
        let mut cursor = transits.release(key);
        transits.detach_sender(key);
        let wire = drain(&mut transits, &mut cursor, usize::MAX);
        assert_eq!(frames(&wire), (vec![(TEXT, bytes)], numbered(bytes)));
        transits.give_up(cursor);
        assert!(transits.is_empty());
    }
}

#[test]
fn a_fragment_grows_until_the_stream_has_a_byte_of_it() {
    let mut transits = Transits::default();
    let key = transits.begin(Opcode::Text);
    transits.append(key, b"1234");
    let mut cursor = transits.release(key);
    cursor.plan(transits.get(key));
    assert_eq!((cursor.planned_bytes(), cursor.begun_bytes(), cursor.is_begun()), (2 + 4, 0, false));
    transits.append(key, b"56");
    cursor.plan(transits.get(key));
    assert_eq!(cursor.planned_bytes(), 2 + 6);
    assert_eq!(cursor.advance(transits.get(key), 1), (1, 0));
    assert_eq!((cursor.begun_bytes(), cursor.is_begun()), (1 + 6, true));
    transits.append(key, b"78");
    cursor.plan(transits.get(key));
    assert_eq!(cursor.planned_bytes(), 1 + 6);
    assert_eq!(cursor.advance(transits.get(key), 99), (7, 6));
    cursor.plan(transits.get(key));
    assert_eq!((cursor.planned_bytes(), cursor.waiting_bytes(transits.get(key))), (2 + 2, 2));
}

#[test]
fn a_long_message_needs_only_a_few_chunks() {
    let mut transits = Transits::default();
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &numbered(MIB));
    let mut cursor = transits.release(key);
    drain(&mut transits, &mut cursor, usize::MAX);
    assert_eq!(transits.memory.used_bytes(), MIB, "up to here it could begin again");
    let mut most = 0;
    for _ in 0..1_000 {
        transits.append(key, &numbered(50_000));
        transits.take_news(key);
        most = most.max(transits.memory.used_bytes());
        drain(&mut transits, &mut cursor, usize::MAX);
        check(&transits, &[&cursor], 1);
    }
    assert!(most <= MIB + CHUNK_BYTES && transits.memory.used_bytes() <= CHUNK_BYTES);
}

#[test]
fn a_full_chunk_that_all_receivers_have_passed_is_reused_by_the_next_read() {
    let mut transits = Transits::new(Memory::new(usize::MAX / 2), false);
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &numbered(HIGH_WATER_BYTES + CHUNK_BYTES));
    let mut cursor = transits.release(key);
    drain(&mut transits, &mut cursor, usize::MAX);
    assert_eq!(transits.memory.used_bytes(), 0);
    assert_eq!(transits.free_mut(key, usize::MAX).map(|free| free.len()), Some(CHUNK_BYTES));
}

#[test]
fn a_piece_is_freed_once_the_slowest_receiver_has_passed_it() {
    let mut transits = Transits::default();
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &numbered(3 * MIB));
    let mut cursors = [(); 3].map(|()| transits.release(key));
    transits.end(key, 0);
    transits.detach_sender(key);
    let chunks = |transits: &Transits| transits.memory.used_bytes() / CHUNK_BYTES;
    let [fast, slow, gone] = &mut cursors;
    let wire = drain(&mut transits, fast, usize::MAX);
    assert!(frames(&wire).1 == numbered(3 * MIB));
    assert_eq!(chunks(&transits), 48);
    gone.plan(transits.get(key));
    let mut of_gone = 0;
    while of_gone < 10 * FRAGMENT_BYTES_MAX {
        gone.plan(transits.get(key));
        of_gone += advance(&mut transits, gone, usize::MAX);
    }
    assert_eq!(chunks(&transits), 48, "one receiver has not begun");
    slow.plan(transits.get(key));
    advance(&mut transits, slow, usize::MAX);
    assert_eq!(chunks(&transits), 46, "the fragment that every receiver has is freed");
    check(&transits, &[fast, slow, gone], 0);
    let [fast, mut slow, gone] = cursors;
    transits.give_up(gone);
    transits.give_up(fast);
    check(&transits, &[&slow], 0);
    let wire = drain(&mut transits, &mut slow, 1_000);
    assert_eq!(frames(&wire).1.len(), 3 * MIB - FRAGMENT_BYTES_MAX);
    transits.give_up(slow);
    assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
}

#[test]
fn a_message_begins_again_for_another_connection_if_its_start_is_in_memory() {
    for (bytes, can_rewind) in [(MIB, true), (MIB + CHUNK_BYTES, false)] {
        for taken in [0, 1, 300_000, bytes] {
            let mut transits = Transits::default();
            let key = transits.begin(Opcode::Text);
            transits.append(key, &numbered(bytes));
            let mut cursor = transits.release(key);
            let mut rest = taken;
            while rest > 0 {
                cursor.plan(transits.get(key));
                let of_frame = advance(&mut transits, &mut cursor, rest);
                rest -= of_frame.min(rest);
                if of_frame == 0 {
                    break;
                }
            }
            let rewound = transits.park(cursor).map(|keeper| transits.resume(keeper));
            assert_eq!(rewound.is_some(), can_rewind || taken < CHUNK_BYTES, "{bytes}, {taken} taken");
            let Some(mut cursor) = rewound else {
                assert_eq!(transits.memory.used_bytes(), 0, "no receiver gets the rest");
                transits.detach_sender(key);
                assert!(transits.is_empty());
                continue;
            };
            check(&transits, &[&cursor], 1);
            transits.end(key, 0);
            transits.detach_sender(key);
            let (heads, joined) = frames(&drain(&mut transits, &mut cursor, 9_999));
            assert!(heads[0].0 == 1 && joined == numbered(bytes));
            transits.give_up(cursor);
        }
    }
}

#[test]
fn without_chunks_a_message_is_in_pieces_of_exact_size_and_passed_ones_are_freed() {
    let mut transits = Transits::new(Memory::new(0), false);
    let key = transits.begin(Opcode::Binary);
    assert!(transits.free_mut(key, usize::MAX).is_none());
    transits.append(key, &numbered(5_000));
    assert_eq!(transits.memory.used_bytes(), 5_000);
    let mut cursor = transits.release(key);
    let mut wire = drain(&mut transits, &mut cursor, 999);
    assert_eq!(transits.memory.used_bytes(), 0);
    for part in numbered(5_000 + 3_000)[5_000..].chunks(700) {
        transits.append(key, part);
        wire.extend(drain(&mut transits, &mut cursor, 64));
    }
    transits.end(key, 0);
    transits.detach_sender(key);
    wire.extend(drain(&mut transits, &mut cursor, 64));
    assert!(frames(&wire).1 == numbered(8_000) && cursor.is_done());
    transits.give_up(cursor);
    assert_eq!(transits.memory.used_bytes(), 0);
}

#[test]
fn a_held_message_is_gone_with_its_sender_and_a_released_one_with_its_last_user() {
    let mut transits = Transits::default();
    let held = transits.begin(Opcode::Binary);
    transits.append(held, &numbered(100_000));
    transits.detach_sender(held);
    assert!(transits.is_empty());
    let released = transits.begin(Opcode::Binary);
    transits.append(released, &numbered(100_000));
    let cursor = transits.release(released);
    transits.give_up(cursor);
    assert_eq!((transits.memory.used_bytes(), transits.get(released).is_wanted()), (0, false));
    transits.append(released, &numbered(100));
    transits.detach_sender(released);
    assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
}

#[test]
fn take_news_returns_what_has_arrived_since_the_last_call() {
    let mut transits = Transits::default();
    let key = transits.begin(Opcode::Binary);
    let news: Vec<u64> = [0, 5, 7]
        .map(|bytes| {
            transits.append(key, &numbered(bytes));
            transits.take_news(key)
        })
        .into();
    assert_eq!((news, transits.get(key).noted_bytes()), (vec![0, 5, 7], 12));
}

#[test]
fn bytes_that_the_stream_has_not_flushed_stay_in_memory() {
    let mut transits = Transits::default();
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &numbered(3 * MIB));
    transits.take_news(key);
    let mut cursor = transits.release(key);
    cursor.plan(transits.get(key));
    cursor.advance(transits.get(key), usize::MAX);
    let used = transits.memory.used_bytes();
    assert_eq!((used, cursor.unflushed_bytes()), (3 * MIB, FRAGMENT_BYTES_MAX));
    cursor.release(&mut transits);
    assert_eq!((used - transits.memory.used_bytes(), cursor.unflushed_bytes()), (FRAGMENT_BYTES_MAX, 0));
    assert_eq!(cursor.unwritten_bytes(transits.get(key)), 3 * MIB - FRAGMENT_BYTES_MAX);
}

/// Messages that are kept once they are written, as far as memory allows.
fn keeping(bytes_max: usize) -> Transits {
    Transits::new(Memory::new(bytes_max), true)
}

/// A message that has arrived whole.
fn whole(transits: &mut Transits, bytes: usize) -> TransitKey {
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &numbered(bytes));
    transits.take_news(key);
    transits.end(key, 7);
    key
}

fn check_kept(transits: &Transits, cursors: &[&Cursor], keepers: &[&Keeper], senders: usize) {
    transits.check_invariants(cursors, keepers, senders, SmallBytes::default());
}

/// Bytes that do not give way, and all.
fn account(transits: &Transits) -> (usize, usize) {
    (transits.memory.claimed_bytes(), transits.memory.used_bytes())
}

#[test]
fn what_was_written_stays_in_memory_as_cached_and_can_begin_again() {
    let mut transits = keeping(16 * MIB);
    let key = whole(&mut transits, 3 * MIB);
    let mut cursor = transits.release(key);
    transits.detach_sender(key);
    assert_eq!(account(&transits), (3 * MIB, 3 * MIB));
    for _ in 0..3 {
        let (heads, joined) = frames(&drain(&mut transits, &mut cursor, 99_999));
        assert!(heads[0].0 == BINARY_BEGINS && joined == numbered(3 * MIB), "all of it, from its start");
        assert_eq!(account(&transits), (0, 3 * MIB), "also while its last bytes are not confirmed");
        check_kept(&transits, &[&cursor], &[], 0);
        let keeper = transits.park(cursor).expect("all of it is there");
        assert_eq!((account(&transits), transits.get(key).has_receivers()), ((0, 3 * MIB), false));
        check_kept(&transits, &[], &[&keeper], 0);
        cursor = transits.resume(keeper);
        assert_eq!(account(&transits), (3 * MIB, 3 * MIB), "what is to be written does not give way");
        check_kept(&transits, &[&cursor], &[], 0);
    }
    let keeper = transits.park(cursor).expect("all of it is there");
    transits.drop_keeper(keeper);
    assert!(transits.is_empty());
    assert_eq!(account(&transits), (0, 0));
}

#[test]
fn what_the_slowest_receiver_has_passed_is_cached() {
    let mut transits = keeping(16 * MIB);
    let key = whole(&mut transits, 3 * MIB);
    let (mut fast, mut slow) = (transits.release(key), transits.release(key));
    transits.detach_sender(key);
    drain(&mut transits, &mut fast, usize::MAX);
    assert_eq!(account(&transits), (3 * MIB, 3 * MIB), "one receiver has not begun");
    for fragments in 1..=4 {
        slow.plan(transits.get(key));
        advance(&mut transits, &mut slow, usize::MAX);
        assert_eq!(account(&transits), (3 * MIB - fragments * FRAGMENT_BYTES_MAX, 3 * MIB));
    }
    check_kept(&transits, &[&fast, &slow], &[], 0);
    let slow = transits.park(slow).expect("all of it is there");
    assert_eq!(account(&transits), (0, 3 * MIB), "nothing is to be written");
    transits.give_up(fast);
    check_kept(&transits, &[], &[&slow], 0);
    transits.drop_keeper(slow);
    assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
}

#[test]
fn a_message_whose_start_has_given_way_goes_on_and_cannot_begin_again() {
    let mut transits = keeping(16 * MIB);
    let key = whole(&mut transits, MIB);
    let mut cursor = transits.release(key);
    transits.detach_sender(key);
    assert!(!transits.free_passed(key), "nothing is passed");
    cursor.plan(transits.get(key));
    let mut wire = Vec::new();
    cursor.gather(transits.get(key), 0, |bytes| {
        wire.extend_from_slice(bytes);
        false
    });
    advance(&mut transits, &mut cursor, usize::MAX);
    assert!(transits.free_passed(key) && !transits.free_passed(key));
    assert_eq!(account(&transits), (MIB - FRAGMENT_BYTES_MAX, MIB - FRAGMENT_BYTES_MAX));
    wire.extend(drain(&mut transits, &mut cursor, usize::MAX));
    assert!(frames(&wire).1 == numbered(MIB) && cursor.is_done(), "the rest is written");
    assert_eq!(transits.memory.used_bytes(), 0, "none of the rest is kept");
    assert!(transits.park(cursor).is_none() && transits.is_empty());
}

#[test]
fn nothing_is_freed_of_a_message_that_is_kept_for_a_receiver() {
    let mut transits = keeping(16 * MIB);
    let key = whole(&mut transits, MIB);
    let (mut writing, away) = (transits.release(key), transits.keep(key));
    transits.detach_sender(key);
    drain(&mut transits, &mut writing, usize::MAX);
    assert!(!transits.free_passed(key), "the other is still to get all of it");
    assert_eq!(account(&transits), (0, MIB));
    transits.drop_keeper(away);
    assert!(transits.free_passed(key));
    assert!(transits.park(writing).is_none() && transits.is_empty());
    assert_eq!(account(&transits), (0, 0));
}

#[test]
fn a_message_is_kept_while_it_arrives_and_goes_on_when_its_receiver_is_back() {
    let mut transits = keeping(16 * MIB);
    let content = numbered(3 * MIB);
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &content[..100_000]);
    assert_eq!(account(&transits), (2 * CHUNK_BYTES, 2 * CHUNK_BYTES), "held, so it cannot give way");
    let keeper = transits.keep(key);
    assert!(transits.get(key).is_wanted() && !transits.get(key).has_receivers());
    for part in content[100_000..MIB].chunks(70_000) {
        transits.append(key, part);
        transits.take_news(key);
        check_kept(&transits, &[], &[&keeper], 1);
        assert_eq!(transits.memory.claimed_bytes(), 0, "what arrives is cached, too");
    }
    let mut cursor = transits.resume(keeper);
    let mut wire = drain(&mut transits, &mut cursor, 50_000);
    for part in content[MIB..].chunks(70_000) {
        transits.append(key, part);
        transits.take_news(key);
        wire.extend(drain(&mut transits, &mut cursor, 50_000));
        check_kept(&transits, &[&cursor], &[], 1);
    }
    transits.end(key, 7);
    transits.detach_sender(key);
    wire.extend(drain(&mut transits, &mut cursor, 50_000));
    assert!(frames(&wire).1 == content && cursor.is_done());
    let keeper = transits.park(cursor).expect("all of it is there");
    transits.drop_keeper(keeper);
    assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
}

#[test]
fn a_kept_message_that_is_given_up_while_it_arrives_uses_no_memory() {
    let mut transits = keeping(16 * MIB);
    let key = transits.begin(Opcode::Binary);
    transits.append(key, &numbered(MIB));
    let keeper = transits.keep(key);
    transits.drop_keeper(keeper);
    assert_eq!((account(&transits), transits.get(key).is_wanted()), ((0, 0), false));
    check_kept(&transits, &[], &[], 1);
    transits.detach_sender(key);
    assert!(transits.is_empty());
}

#[test]
fn what_a_newcomer_is_to_get_is_no_longer_cached() {
    let mut transits = keeping(16 * MIB);
    let key = whole(&mut transits, MIB);
    let away = transits.keep(key);
    transits.detach_sender(key);
    assert_eq!(account(&transits), (0, MIB));
    let there = transits.release(key);
    assert_eq!(account(&transits), (MIB, MIB));
    check_kept(&transits, &[&there], &[&away], 0);
    transits.give_up(there);
    assert_eq!(account(&transits), (0, MIB));
    check_kept(&transits, &[], &[&away], 0);
}

#[test]
fn without_confirmations_a_written_message_is_freed_unless_it_is_parked() {
    let mut transits = Transits::new(Memory::new(16 * MIB), false);
    for bytes in [MIB, 3 * MIB] {
        let key = whole(&mut transits, bytes);
        let mut cursor = transits.release(key);
        transits.detach_sender(key);
        drain(&mut transits, &mut cursor, usize::MAX);
        assert_eq!(transits.memory.used_bytes(), if bytes > MIB { 0 } else { MIB });
        transits.give_up(cursor);
        assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
    }
    let key = whole(&mut transits, MIB);
    let mut cursor = transits.release(key);
    transits.detach_sender(key);
    cursor.plan(transits.get(key));
    advance(&mut transits, &mut cursor, usize::MAX);
    assert_eq!(account(&transits), (MIB, MIB));
    let keeper = transits.park(cursor).expect("a short message stays whole");
    check_kept(&transits, &[], &[&keeper], 0);
    let mut cursor = transits.resume(keeper);
    assert!(frames(&drain(&mut transits, &mut cursor, usize::MAX)).1 == numbered(MIB));
    transits.give_up(cursor);
    assert!(transits.is_empty() && transits.memory.used_bytes() == 0);
}
