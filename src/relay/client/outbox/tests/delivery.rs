//! What is written and not confirmed, and what is kept for a client that is away.

use super::*;
use crate::relay::limits::{CHUNK_BYTES, CONFIRM_BYTES, CONFIRM_DELAY, KEPT_PER_CLIENT_BYTES_MAX};
use crate::relay::memory::{Memory, SmallBytes};
use crate::relay::tests::frame::PING;
use crate::relay::time::Tick;

const MIB: usize = 1 << 20;

/// A client that is to confirm what it is sent.
#[derive(Default)]
struct Client {
    outbox: Outbox,
    unconfirmed: Unconfirmed,
    asked: u32,
    now: Tick,
}

impl Client {
    /// A client that has come back.
    fn back(undelivered: Undelivered, pool: &mut Pool) -> Self {
        let mut client = Self::default();
        client.unconfirmed.note_returned(undelivered.written());
        client.outbox.append(undelivered, pool);
        client
    }

    fn write_to(&mut self, socket: &mut Wire, pool: &mut Pool) -> WriteEnd {
        let keeping = Keeping { unconfirmed: &mut self.unconfirmed, asked: &mut self.asked, now: self.now };
        let (_, end) = self.outbox.write_to(socket, pool, Some(keeping), usize::MAX).unwrap();
        self.check(pool, &Undelivered::default());
        end
    }

    /// Writes so many bytes. Returns them.
    fn write(&mut self, room: usize, pool: &mut Pool) -> Vec<u8> {
        let mut socket = Wire::with_room(room);
        assert_eq!(self.write_to(&mut socket, pool), WriteEnd::Blocked);
        socket.from_relay
    }

    fn drain(&mut self, pool: &mut Pool) -> Vec<u8> {
        let mut socket = Wire::with_room(usize::MAX);
        assert_eq!(self.write_to(&mut socket, pool), WriteEnd::Drained);
        socket.from_relay
    }

    /// The connection ends.
    fn take(mut self, pool: &mut Pool) -> Undelivered {
        let undelivered = self.outbox.take_messages(Some(std::mem::take(&mut self.unconfirmed)), pool);
        self.check(pool, &undelivered);
        assert_eq!(self.outbox.backlog(), Backlog::default());
        undelivered
    }

    /// Checks the accounts of memory against what there is.
    fn check(&self, pool: &Pool, undelivered: &Undelivered) {
        let (mut keepers, of_unconfirmed) = self.unconfirmed.kept();
        let (others, of_undelivered) = undelivered.kept();
        keepers.extend(others);
        let cursors: Vec<&Cursor> = self.outbox.cursors().collect();
        let small = SmallBytes {
            claimed: 0,
            returned: self.outbox.returned_bytes(),
            cached: of_unconfirmed + of_undelivered,
        };
        pool.transits.check_invariants(&cursors, &keepers, 0, small);
    }
}

fn keeping_pool() -> Pool {
    Pool::new(Transits::new(Memory::default(), true))
}

/// Bytes that do not give way, and all.
fn account(pool: &Pool) -> (usize, usize) {
    (pool.transits.memory.claimed_bytes(), pool.transits.memory.used_bytes())
}

/// The payloads of the pings in a byte stream.
fn pings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let pings = frames(bytes).into_iter().filter(|(first, _)| *first == PING);
    pings.map(|(_, payload)| payload).collect()
}

/// Everything that is kept, in order.
fn kept_messages(undelivered: Undelivered, pool: &mut Pool) -> Vec<Vec<u8>> {
    let mut client = Client::back(undelivered, pool);
    let messages = messages(&client.drain(pool));
    while client.unconfirmed.evict(pool).is_some() {}
    messages
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The times of arrival, and how many messages have each.
fn times(groups: &mut Vec<ArrivalGroup>) -> Vec<(u32, u32)> {
    groups.drain(..).map(|group| (group.micros, group.messages)).collect()
}

#[test]
fn what_is_written_is_unconfirmed_until_the_pong_of_the_ping_behind_it() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    push(&mut client.outbox, &mut pool, "one");
    push_sized(&mut client.outbox, &mut pool, CONFIRM_BYTES);
    let wire = client.drain(&mut pool);
    assert_eq!(pings(&wire), [b"1"], "more than 128 KiB are to be confirmed at once");
    assert_eq!(frames(&wire).last().map(|(first, _)| *first), Some(PING), "behind what it asks for");
    assert_eq!((client.unconfirmed.messages(), client.unconfirmed.asked()), (2, Some(1)));
    assert_eq!(account(&pool).0, 0, "all of it may give way");
    assert!(account(&pool).1 > CONFIRM_BYTES && !client.unconfirmed.is_idle());
    for number in [0, 2] {
        assert_eq!(client.unconfirmed.confirm(number, &mut pool), None);
    }
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(2));
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), None, "only once");
    assert!(client.unconfirmed.is_idle());
    client.check(&pool, &Undelivered::default());
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn a_client_is_asked_some_time_after_the_first_small_message_and_once_at_a_time() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    assert_eq!(client.unconfirmed.ask_at(), None);
    client.now = Tick(1_000);
    push(&mut client.outbox, &mut pool, "one");
    assert_eq!(pings(&client.drain(&mut pool)), [b""; 0]);
    client.now = Tick(1_100);
    push(&mut client.outbox, &mut pool, "two");
    assert_eq!(pings(&client.drain(&mut pool)), [b""; 0]);
    let at = Tick(1_000).after(CONFIRM_DELAY);
    assert_eq!(client.unconfirmed.ask_at(), Some(at), "counted from the first");
    client.now = Tick(at.0 - 1);
    assert_eq!(client.drain(&mut pool), b"");
    client.now = at;
    assert_eq!(client.drain(&mut pool), [PING, 1, b'1']);
    push(&mut client.outbox, &mut pool, "three");
    client.now = at.after(10 * CONFIRM_DELAY);
    assert_eq!(pings(&client.drain(&mut pool)), [b""; 0], "one ping is outstanding");
    assert_eq!(client.unconfirmed.ask_at(), None);
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(2));
    assert_eq!(client.unconfirmed.ask_at(), Some(client.now.after(CONFIRM_DELAY)));
    client.now = client.now.after(CONFIRM_DELAY);
    assert_eq!(client.drain(&mut pool), [PING, 1, b'2'], "each ping has the next number");
    assert_eq!(client.unconfirmed.confirm(2, &mut pool), Some(1));
    assert_eq!((client.unconfirmed.messages(), account(&pool)), (0, (0, 0)));
}

#[test]
fn a_large_message_counts_with_its_own_bytes_alone_for_when_the_client_is_asked() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    push(&mut client.outbox, &mut pool, "small");
    push_sized(&mut client.outbox, &mut pool, CONFIRM_BYTES - 7);
    client.outbox.push_relay_frame(notice("notice"));
    assert_eq!(pings(&client.drain(&mut pool)), [b""; 0], "not more than 128 KiB");
    push(&mut client.outbox, &mut pool, "");
    assert_eq!(pings(&client.drain(&mut pool)), [b"1"]);
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(3));
}

#[test]
fn a_client_that_sends_and_leaves_its_ping_unanswered_ignores_it() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    client.unconfirmed.note_heard();
    push_sized(&mut client.outbox, &mut pool, 2 * CONFIRM_BYTES);
    client.now = Tick(5);
    client.drain(&mut pool);
    assert_eq!(client.unconfirmed.ignored_since(), None, "what came before the ping says nothing");
    client.unconfirmed.note_heard();
    assert_eq!(client.unconfirmed.ignored_since(), Some(Tick(5)));
    client.unconfirmed.confirm(1, &mut pool);
    assert_eq!(client.unconfirmed.ignored_since(), None);
}

#[test]
fn a_pong_confirms_of_a_partly_written_run_what_was_written_before_its_ping() {
    // Bytes of the run that are written before the ping, and how many of its messages these complete.
    for (room, covered) in [(5, 1), (6, 1), (9, 1), (10, 2), (11, 2), (16, 2), (17, 3)] {
        let (mut client, mut pool) = (Client::default(), keeping_pool());
        for text in ["one", "two", "three", "four"] {
            push(&mut client.outbox, &mut pool, text);
        }
        let mut wire = client.write(room, &mut pool);
        assert_eq!(client.unconfirmed.messages(), covered);
        client.now = client.now.after(CONFIRM_DELAY);
        wire.extend(client.drain(&mut pool));
        assert_eq!(messages(&wire), texts(&["one", "two", "three", "four"]));
        assert_eq!((pings(&wire), client.unconfirmed.messages()), (vec![b"1".to_vec()], 4), "{room} bytes");
        assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(covered), "{room} bytes");
        let rest = &["one", "two", "three", "four"][usize::try_from(covered).unwrap()..];
        assert_eq!(client.unconfirmed.messages(), rest.len() as u64);
        let undelivered = client.take(&mut pool);
        assert_eq!(undelivered.written(), [rest.len() as u64, 0]);
        assert_eq!(kept_messages(undelivered, &mut pool), texts(rest), "{room} bytes");
    }
}

#[test]
fn the_oldest_item_gives_way_first_and_its_ping_confirms_the_rest() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    push(&mut client.outbox, &mut pool, "a");
    push(&mut client.outbox, &mut pool, "b");
    client.drain(&mut pool);
    push_sized(&mut client.outbox, &mut pool, 2 * CONFIRM_BYTES);
    assert_eq!(pings(&client.drain(&mut pool)), [b"1"]);
    push(&mut client.outbox, &mut pool, "c");
    client.drain(&mut pool);
    assert_eq!((client.unconfirmed.messages(), client.unconfirmed.evict(&mut pool)), (4, Some(2)));
    assert_eq!(account(&pool).1 / CHUNK_BYTES, 2 * CONFIRM_BYTES / CHUNK_BYTES);
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(1), "the others gave way");
    client.check(&pool, &Undelivered::default());
    assert_eq!((client.unconfirmed.messages(), client.unconfirmed.evict(&mut pool)), (1, Some(1)));
    assert_eq!(client.unconfirmed.evict(&mut pool), None);
    assert!(client.unconfirmed.is_idle());
    assert_eq!(account(&pool), (0, 0));
    // A ping whose messages have all given way confirms none of those behind it.
    push_sized(&mut client.outbox, &mut pool, 2 * CONFIRM_BYTES);
    assert_eq!(pings(&client.drain(&mut pool)), [b"2"]);
    assert_eq!(client.unconfirmed.evict(&mut pool), Some(1));
    assert!(!client.unconfirmed.is_idle(), "its pong is still to come");
    push(&mut client.outbox, &mut pool, "d");
    client.drain(&mut pool);
    assert_eq!((client.unconfirmed.confirm(2, &mut pool), client.unconfirmed.messages()), (Some(0), 1));
}

#[test]
fn what_is_not_confirmed_or_written_is_kept_in_order_each_message_from_its_start() {
    let large = 2 * FRAGMENT_BYTES_MAX + 5;
    let all = [vec![], vec![0xAB; 3], vec![0xAB; large], vec![0xAB; 20], vec![0xAB; large], vec![0xAB; 9]];
    // Wire lengths of the messages, and how many of them are then written in full.
    let lengths = [2, 5, large + 2 * 10 + 2, 22, large + 2 * 10 + 2, 11];
    let mut row = Vec::new();
    for (index, length) in lengths.iter().enumerate() {
        let before: usize = lengths[..index].iter().sum();
        row.extend([0, 1, length / 2, length - 1].map(|more| (before + more, index as u64)));
    }
    for (room, written) in row {
        let (mut client, mut pool) = (Client::default(), keeping_pool());
        for (at, message) in all.iter().enumerate() {
            push_sized(&mut client.outbox, &mut pool, message.len());
            if at % 2 == 0 {
                client.outbox.push_relay_frame(notice("notice"));
            }
        }
        // Three notices of 8 bytes come behind the first, third and fifth message.
        let notices = 8 * written.div_ceil(2);
        client.write(room + usize::try_from(notices).unwrap(), &mut pool);
        let undelivered = client.take(&mut pool);
        assert_eq!((undelivered.messages(), undelivered.given_up), (6, 0), "room {room}");
        assert_eq!(undelivered.written(), [written, 0], "room {room}");
        assert_eq!(undelivered.bytes(), 2 + 5 + large + 22 + large + 11);
        assert_eq!(account(&pool).0, 0, "what is kept may give way");
        let mut back = Client::back(undelivered, &mut pool);
        assert_eq!(back.outbox.backlog(), Backlog { messages: 6, bytes: 2 + 5 + large + 22 + large + 11 });
        assert!(messages(&back.drain(&mut pool)) == all, "room {room}");
        assert_eq!(back.unconfirmed.messages(), 6);
        back.take(&mut pool).discard(&mut pool);
        assert_eq!(account(&pool), (0, 0));
    }
}

#[test]
fn a_message_is_given_up_once_it_was_written_on_three_connections_and_never_confirmed() {
    let mut pool = keeping_pool();
    let mut client = Client::default();
    for text in ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"] {
        push(&mut client.outbox, &mut pool, text);
    }
    // Each connection: bytes that it takes; messages that it then has given up in all; what was written before.
    let rows = [(3 + 4 + 5 + 1, 0, [3, 0]), (3 + 4 + 2, 0, [3, 2]), (0, 0, [3, 2])];
    for (room, given_up, written) in rows {
        client.write(room, &mut pool);
        let undelivered = client.take(&mut pool);
        assert_eq!((undelivered.messages(), undelivered.given_up), (6, given_up));
        assert_eq!(undelivered.written(), written, "after {room} bytes");
        client = Client::back(undelivered, &mut pool);
    }
    client.write(3 + 4 + 5 + 6 + 1, &mut pool);
    let undelivered = client.take(&mut pool);
    assert_eq!((undelivered.messages(), undelivered.given_up), (4, 2), "the first two");
    assert_eq!(undelivered.written(), [2, 1], "the third twice, the fourth once");
    assert_eq!(kept_messages(undelivered, &mut pool), texts(&["ccc", "dddd", "eeeee", "ffffff"]));
}

#[test]
fn a_large_message_is_given_up_as_well_and_one_that_is_confirmed_counts_no_longer() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    push(&mut client.outbox, &mut pool, "small");
    push_sized(&mut client.outbox, &mut pool, 2 * CONFIRM_BYTES);
    client.drain(&mut pool);
    client = Client::back(client.take(&mut pool), &mut pool);
    client.drain(&mut pool);
    client.unconfirmed.evict(&mut pool);
    let undelivered = client.take(&mut pool);
    assert_eq!((undelivered.messages(), undelivered.written()), (1, [1, 1]));
    client = Client::back(undelivered, &mut pool);
    push(&mut client.outbox, &mut pool, "new");
    assert_eq!(pings(&client.drain(&mut pool)), [b"1"]);
    let undelivered = client.take(&mut pool);
    assert_eq!((undelivered.messages(), undelivered.given_up), (1, 1));
    assert_eq!((undelivered.written(), undelivered.bytes()), ([1, 0], 5));
    assert_eq!(undelivered.discard(&mut pool), 2);
    assert_eq!(account(&pool), (0, 0));
}

/// A client that has come back for a large message, whose start then gives way while it is written. "new" is behind it.
fn without_start(pool: &mut Pool) -> Client {
    let mut client = Client::default();
    push_sized(&mut client.outbox, pool, 3 * FRAGMENT_BYTES_MAX);
    push(&mut client.outbox, pool, "new");
    client.outbox.note_arrivals(1, 8);
    client.write(3 * (FRAGMENT_BYTES_MAX + 10), pool);
    assert_eq!(client.unconfirmed.messages(), 1);
    times(&mut pool.delivered);
    let undelivered = client.take(pool);
    assert_eq!(undelivered.written(), [1, 0]);
    client = Client::back(undelivered, pool);
    client.write(2 * (FRAGMENT_BYTES_MAX + 10), pool);
    let key = client.outbox.front_message().expect("the large message");
    assert!(pool.transits.free_passed(key));
    client
}

#[test]
fn a_message_whose_start_gave_way_counts_as_delivered_once_it_is_written() {
    let mut pool = keeping_pool();
    let mut client = without_start(&mut pool);
    client.drain(&mut pool);
    assert_eq!((std::mem::take(&mut pool.unkept), client.unconfirmed.messages()), (1, 1));
    assert_eq!(times(&mut pool.delivered), [(8, 1)], "the other one was measured when it was first written");
    let undelivered = client.take(&mut pool);
    assert_eq!(undelivered.written(), [1, 0], "the one behind it was written once");
    assert_eq!(kept_messages(undelivered, &mut pool), texts(&["new"]));
}

#[test]
fn a_message_whose_start_gave_way_is_lost_if_its_connection_ends_in_the_middle() {
    let mut pool = keeping_pool();
    let undelivered = without_start(&mut pool).take(&mut pool);
    assert_eq!((undelivered.messages(), undelivered.given_up, undelivered.written()), (1, 1, [0, 0]));
    assert_eq!(kept_messages(undelivered, &mut pool), texts(&["new"]));
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn without_confirmations_what_was_written_in_full_is_not_kept() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    for text in ["one", "two", "three"] {
        push(&mut client.outbox, &mut pool, text);
    }
    client.write(11, &mut pool);
    // The client has proved that it confirms nothing: the first two are in the run that is being written.
    while client.unconfirmed.evict(&mut pool).is_some() {}
    let undelivered = client.outbox.take_messages(None, &mut pool);
    assert_eq!((undelivered.messages(), undelivered.written(), undelivered.bytes()), (1, [0, 0], 7));
    assert_eq!(kept_messages(undelivered, &mut pool), texts(&["three"]));
}

#[test]
fn bytes_that_the_stream_holds_are_not_unconfirmed_yet() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    push(&mut client.outbox, &mut pool, "one");
    push_sized(&mut client.outbox, &mut pool, 2 * CONFIRM_BYTES);
    push(&mut client.outbox, &mut pool, "two");
    let all = client.outbox.backlog();
    let mut socket = without_flush(usize::MAX);
    assert_eq!(client.write_to(&mut socket, &mut pool), WriteEnd::Blocked);
    assert_eq!((client.outbox.backlog(), client.unconfirmed.messages()), (all, 0));
    assert_eq!(pings(&socket.from_relay), [b""; 0]);
    let undelivered = client.take(&mut pool);
    assert_eq!((undelivered.messages(), undelivered.written()), (3, [0, 0]));
    // The next stream flushes.
    let mut client = Client::back(undelivered, &mut pool);
    let mut socket = Wire { kept: Some(Vec::new()), ..Wire::with_room(100) };
    assert_eq!(client.write_to(&mut socket, &mut pool), WriteEnd::Blocked);
    assert_eq!((client.outbox.backlog(), client.unconfirmed.messages()), (all, 0));
    socket.set_room(usize::MAX);
    assert_eq!(client.write_to(&mut socket, &mut pool), WriteEnd::Drained);
    assert_eq!((client.outbox.backlog(), client.unconfirmed.messages()), (Backlog::default(), 3));
    assert_eq!(pings(&socket.from_relay), [b"1"]);
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(3));
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn little_that_was_written_is_copied_and_much_is_kept_in_its_buffer() {
    for (count, is_moved) in [(1, false), (15, false), (17, true), (40, true)] {
        let (mut client, mut pool) = (Client::default(), keeping_pool());
        for _ in 0..count {
            push_sized(&mut client.outbox, &mut pool, 1_020);
        }
        client.drain(&mut pool);
        assert_eq!(pool.buffers.is_empty(), is_moved, "{count} KiB");
        let kept = account(&pool).1;
        assert!((count * 1_024..=2 * count * 1_024).contains(&kept), "{kept} bytes for {count} KiB");
        let undelivered = client.take(&mut pool);
        assert_eq!(undelivered.messages(), count as u64);
        assert!(kept_messages(undelivered, &mut pool) == vec![vec![0xAB; 1_020]; count]);
        assert_eq!(account(&pool), (0, 0));
    }
}

#[test]
fn what_is_kept_does_not_hold_one_of_the_large_buffers() {
    for is_written in [true, false] {
        let (mut client, mut pool) = (Client::default(), keeping_pool());
        pool.give_buffer(Vec::with_capacity(RUN_BYTES_MAX));
        push_sized(&mut client.outbox, &mut pool, 10_000);
        push_sized(&mut client.outbox, &mut pool, 10_000);
        assert!(pool.buffers.is_empty());
        if is_written {
            client.drain(&mut pool);
        }
        let undelivered = client.take(&mut pool);
        assert_eq!((undelivered.messages(), account(&pool)), (2, (0, 2 * 10_004)), "written: {is_written}");
        assert_eq!(pool.take_buffer().capacity(), RUN_BYTES_MAX);
        undelivered.discard(&mut pool);
    }
}

#[test]
fn small_messages_that_are_written_one_by_one_share_their_memory() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    for count in 1..=1_000 {
        push(&mut client.outbox, &mut pool, "a message");
        client.drain(&mut pool);
        let kept = account(&pool).1;
        assert!(kept <= count * 11 + count * 11 / 4 + 16, "{kept} bytes for {count} messages");
    }
    assert_eq!(client.unconfirmed.kept().1, account(&pool).1);
    let undelivered = client.take(&mut pool);
    assert_eq!(undelivered.items.len(), 1);
    undelivered.discard(&mut pool);
}

#[test]
fn a_message_is_measured_when_it_is_first_written_and_when_it_is_confirmed() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    for (text, micros) in [("one", 10), ("two", 20), ("three", 30)] {
        push(&mut client.outbox, &mut pool, text);
        client.outbox.note_arrivals(1, micros);
    }
    client.write(11, &mut pool);
    assert_eq!((times(&mut pool.delivered), times(&mut pool.confirmed)), (vec![(10, 1), (20, 1)], vec![]));
    client = Client::back(client.take(&mut pool), &mut pool);
    push_sized(&mut client.outbox, &mut pool, 2 * CONFIRM_BYTES);
    push(&mut client.outbox, &mut pool, "four");
    client.outbox.note_arrivals(1, 40);
    assert_eq!(pings(&client.drain(&mut pool)), [b"1"]);
    // `push_message` ends the large message at 0.
    assert_eq!(times(&mut pool.delivered), [(30, 1), (0, 1), (40, 1)]);
    assert_eq!(times(&mut pool.confirmed), []);
    assert_eq!(client.unconfirmed.confirm(1, &mut pool), Some(5));
    let confirmed = times(&mut pool.confirmed);
    assert_eq!(confirmed, [(10, 1), (20, 1), (30, 1), (0, 1), (40, 1)], "since they arrived");
    client.check(&pool, &Undelivered::default());
}

#[test]
fn messages_for_a_client_that_is_away_are_kept_in_order() {
    let mut pool = keeping_pool();
    let mut kept = Undelivered::default();
    kept.push_small(&mut pool.transits, Opcode::Text, b"one", 5);
    kept.push_small(&mut pool.transits, Opcode::Text, b"two!", 6);
    let key = pool.transits.begin(Opcode::Binary);
    let keeper = pool.transits.keep(key);
    kept.push_message(&pool.transits, keeper);
    kept.push_small(&mut pool.transits, Opcode::Text, b"three", 7);
    assert_eq!((kept.messages(), kept.bytes(), kept.items.len()), (4, 5 + 6 + 7, 3));
    pool.transits.append(key, &vec![0xAB; 70_000]);
    let news = usize::try_from(pool.transits.take_news(key)).unwrap();
    kept.note_more(news);
    assert_eq!((kept.messages(), kept.bytes(), kept.written()), (4, 5 + 6 + 70_000 + 7, [0, 0]));
    assert_eq!(account(&pool).0, 0);
    let mut client = Client::back(kept, &mut pool);
    let claimed = account(&pool).0;
    assert_eq!(claimed, account(&pool).1, "what is to be written does not give way");
    let mut socket = Wire::with_room(usize::MAX);
    let keeping = Keeping { unconfirmed: &mut client.unconfirmed, asked: &mut 0, now: Tick(0) };
    let (_, end) = client.outbox.write_to(&mut socket, &mut pool, Some(keeping), usize::MAX).unwrap();
    assert_eq!(end, WriteEnd::MessageIncomplete);
    pool.transits.end(key, 9);
    pool.transits.detach_sender(key);
    let wire = [socket.from_relay, client.drain(&mut pool)].concat();
    let expected = [b"one".to_vec(), b"two!".to_vec(), vec![0xAB; 70_000], b"three".to_vec()];
    assert!(messages(&wire) == expected);
    assert_eq!(times(&mut pool.delivered), [(5, 1), (6, 1), (9, 1), (7, 1)]);
    client.take(&mut pool).discard(&mut pool);
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn a_kept_message_that_will_never_be_whole_is_removed() {
    let mut pool = keeping_pool();
    let mut kept = Undelivered::default();
    kept.push_small(&mut pool.transits, Opcode::Text, b"before", 0);
    let key = pool.transits.begin(Opcode::Binary);
    pool.transits.append(key, &vec![0; 70_000]);
    let keeper = pool.transits.keep(key);
    pool.transits.take_news(key);
    kept.push_message(&pool.transits, keeper);
    kept.push_small(&mut pool.transits, Opcode::Text, b"after", 0);
    let other = pool.transits.begin(Opcode::Binary);
    assert!(!kept.remove_incomplete(other, &mut pool.transits));
    pool.transits.detach_sender(other);
    assert!(kept.remove_incomplete(key, &mut pool.transits));
    assert!(!kept.remove_incomplete(key, &mut pool.transits), "only once");
    pool.transits.detach_sender(key);
    assert_eq!((kept.messages(), kept.bytes()), (2, 8 + 7));
    assert!(pool.transits.is_empty());
    assert_eq!(kept_messages(kept, &mut pool), texts(&["before", "after"]));
}

/// Keeps a large message of so many bytes for a client that is away.
fn keep_large(kept: &mut Undelivered, pool: &mut Pool, bytes: usize) {
    let key = pool.transits.begin(Opcode::Binary);
    pool.transits.append(key, &vec![0xAB; bytes]);
    let keeper = pool.transits.keep(key);
    pool.transits.take_news(key);
    pool.transits.end(key, 0);
    pool.transits.detach_sender(key);
    kept.push_message(&pool.transits, keeper);
}

#[test]
fn at_most_16_mib_or_one_message_are_kept_and_the_oldest_are_given_up_first() {
    let mut pool = keeping_pool();
    let mut kept = Undelivered::default();
    for text in ["one", "two", "three"] {
        kept.push_small(&mut pool.transits, Opcode::Text, text.as_bytes(), 0);
    }
    keep_large(&mut kept, &mut pool, KEPT_PER_CLIENT_BYTES_MAX - 5 - 5 - 7);
    assert_eq!((kept.trim(&mut pool), kept.bytes()), (0, KEPT_PER_CLIENT_BYTES_MAX));
    kept.push_small(&mut pool.transits, Opcode::Text, b"1234", 0);
    assert_eq!((kept.trim(&mut pool), kept.messages()), (2, 3), "no more than necessary");
    assert_eq!(kept.bytes(), KEPT_PER_CLIENT_BYTES_MAX - 10 + 6);
    keep_large(&mut kept, &mut pool, 20_000);
    assert_eq!((kept.trim(&mut pool), kept.messages()), (2, 2), "the large one as well");
    assert_eq!(kept.bytes(), 6 + 20_000);
    Client::default().check(&pool, &kept);
    keep_large(&mut kept, &mut pool, 2 * KEPT_PER_CLIENT_BYTES_MAX);
    assert_eq!((kept.trim(&mut pool), kept.messages()), (2, 1), "one message may have any size");
    assert_eq!(kept.trim(&mut pool), 0);
    kept.push_small(&mut pool.transits, Opcode::Text, b"", 0);
    assert_eq!((kept.trim(&mut pool), kept.bytes()), (1, 2), "but then the newer ones are kept");
    assert_eq!(kept.discard(&mut pool), 1);
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn what_is_given_up_for_a_client_that_is_away_counts_no_longer_as_written() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    for text in ["one", "two", "three"] {
        push(&mut client.outbox, &mut pool, text);
    }
    client.write(5 + 5, &mut pool);
    let mut kept = client.take(&mut pool);
    assert_eq!(kept.written(), [2, 0]);
    keep_large(&mut kept, &mut pool, KEPT_PER_CLIENT_BYTES_MAX - 12);
    assert_eq!((kept.trim(&mut pool), kept.written()), (1, [1, 0]));
    assert_eq!((kept.evict(&mut pool), kept.written()), (2, [0, 0]), "a whole item when memory is needed");
    assert_eq!((kept.messages(), kept.evict(&mut pool)), (1, 1));
    assert_eq!((kept.messages(), kept.bytes(), kept.evict(&mut pool)), (0, 0, 0));
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn what_a_client_that_is_back_is_to_get_is_charged_until_it_is_written() {
    let (mut client, mut pool) = (Client::default(), keeping_pool());
    for _ in 0..100 {
        push_sized(&mut client.outbox, &mut pool, 1_020);
    }
    let mut client = Client::back(client.take(&mut pool), &mut pool);
    push(&mut client.outbox, &mut pool, "new");
    let small = client.outbox.small_bytes();
    assert!(small < 64, "only what is new counts as waiting small messages, not {small} bytes");
    assert!(client.outbox.returned_bytes() >= 100 * 1_024);
    assert_eq!(account(&pool).0, client.outbox.returned_bytes());
    client.write(60 * 1_024, &mut pool);
    client.check(&pool, &Undelivered::default());
    client.drain(&mut pool);
    assert_eq!((client.outbox.returned_bytes(), client.outbox.small_bytes(), account(&pool).0), (0, 0, 0));
    assert_eq!(client.unconfirmed.messages(), 101);
    client.take(&mut pool).discard(&mut pool);
    assert_eq!(account(&pool), (0, 0));
}

#[test]
fn a_pool_without_confirmations_moves_messages_as_any_other() {
    let (mut old, mut new, mut pool) = (Outbox::default(), Outbox::default(), Pool::default());
    push(&mut old, &mut pool, "one");
    push_sized(&mut old, &mut pool, MIB);
    new.append(old.take_messages(None, &mut pool), &mut pool);
    assert_eq!((new.returned_bytes(), new.small_bytes() > 0), (0, true));
    assert_eq!(messages(&drain(&mut new, &mut pool)).len(), 2);
    assert_eq!((new.small_bytes(), account(&pool)), (0, (0, 0)));
}
