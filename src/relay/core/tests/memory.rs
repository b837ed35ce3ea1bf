//! One budget for everybody, and what happens when it is used up.

use std::time::Duration;

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::{
    BUFFERED_BYTES_MIN, FRAGMENT_BYTES_MAX, LEAST_READ_BYTES, READ_BYTES_PER_TURN, RECEIVE_BUFFER_BYTES,
    SMALL_ROOM_BYTES_MIN,
};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{BINARY, BINARY_BEGINS, CONTINUES, ENDS, TEXT, frame, frame_header};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SECOND: Duration = Duration::from_secs(1);

/// A world with so much memory for messages.
fn world_with(max_buffered: usize) -> World {
    World::with(Settings { max_buffered, ..Settings::default() })
}

/// The smallest budget: 1 MiB.
fn narrow_world() -> World {
    world_with(BUFFERED_BYTES_MIN)
}

fn binary(bytes: usize) -> Vec<u8> {
    frame(BINARY, &vec![7; bytes])
}

fn received(bytes: usize) -> Received {
    Received::Binary(vec![7; bytes])
}

fn desktops(world: &mut World, count: usize) -> Vec<Client> {
    (0..count).map(|index| world.join(Desktop, &format!("crowd{index}"))).collect()
}

/// Pairs whose mobiles take nothing, and whose desktops send until they are not read any more.
fn stalled_pairs(world: &mut World, count: usize, message: &[u8]) -> Vec<(Client, Client)> {
    (0..count)
        .map(|index| {
            let (desktop, mobile) = world.pair(&format!("stalled{index}"));
            world.set_room(&mobile, 0);
            world.send(&desktop, message);
            (desktop, mobile)
        })
        .collect()
}

/// A message of each size reaches its receiver.
fn expect_service(world: &mut World, session: &str) {
    let (desktop, mobile) = world.pair(session);
    for bytes in [128, 20 * KIB, 2 * MIB] {
        world.send(&desktop, &binary(bytes));
        assert!(world.take(&mobile) == [received(bytes)], "{bytes} bytes");
    }
}

#[test]
fn receivers_that_take_nothing_share_the_memory_and_leave_some_to_the_next_pair() {
    for (max_buffered, count) in [(MIB, 30), (8 * MIB, 100), (64 * MIB, 300)] {
        let mut world = world_with(max_buffered);
        stalled_pairs(&mut world, count, &binary(4 * MIB));
        assert!(world.relay.buffered_bytes() <= max_buffered, "{}", world.relay.buffered_bytes());
        expect_service(&mut world, "healthy");
    }
}

#[test]
fn after_a_shortage_memory_is_free_again_and_no_message_is_lost() {
    let mut world = world_with(8 * MIB);
    let pairs = stalled_pairs(&mut world, 60, &binary(2 * MIB));
    for (_, mobile) in &pairs {
        world.set_room(mobile, usize::MAX);
    }
    for (desktop, mobile) in &pairs {
        assert_eq!(world.unread(desktop), 0);
        assert!(world.take(mobile) == [received(2 * MIB)]);
    }
    assert!(world.relay.buffered_bytes() < KIB);
    world.expect_empty_in_the_end();
}

#[test]
fn where_memory_is_short_less_of_a_message_is_held_back() {
    let mut world = world_with(8 * MIB);
    let _pairs = stalled_pairs(&mut world, 60, &binary(2 * MIB));
    let (desktop, mobile) = world.pair("healthy");
    world.send(&desktop, &binary(900 * KIB)[..64 * KIB]);
    assert!(world.unparsed(&mobile) > 16 * KIB, "{}", world.unparsed(&mobile));
    world.send(&desktop, &binary(900 * KIB)[64 * KIB..]);
    assert!(world.take(&mobile) == [received(900 * KIB)]);
}

#[test]
fn clients_that_announce_and_do_not_send_take_no_memory_and_are_ended_at_the_stall_timeout() {
    let mut world = World::quiet();
    let announced = frame_header(BINARY, 16 << 20);
    let clients = desktops(&mut world, 100);
    for client in &clients {
        world.send(client, &announced);
    }
    assert!(world.relay.buffered_bytes() < 100 * KIB, "{}", world.relay.buffered_bytes());
    world.pass(67 * SECOND);
    for client in &clients {
        let received = world.take(client);
        assert!(received.iter().any(|one| matches!(one, Received::Close(1001, _))), "{received:?}");
    }
    assert_eq!(world.relay.buffered_bytes(), 0);
    world.expect_empty_in_the_end();
}

#[test]
fn clients_that_stop_after_a_mib_leave_memory_to_others() {
    let mut world = World::quiet();
    for index in 0..400 {
        let (desktop, _mobile) = world.pair(&index.to_string());
        world.send(&desktop, &binary(16 * MIB)[..MIB]);
    }
    assert!(world.relay.buffered_bytes() <= 256 * MIB);
    expect_service(&mut world, "healthy");
}

#[test]
fn messages_in_many_fragments_do_not_lock_each_other_out() {
    let mut world = narrow_world();
    let pairs: Vec<(Client, Client)> = (0..5).map(|index| world.pair(&index.to_string())).collect();
    for step in 0..40 {
        for (desktop, _) in &pairs {
            let first = match step {
                0 => BINARY_BEGINS,
                39 => ENDS,
                _ => CONTINUES,
            };
            world.send(desktop, &frame(first, &vec![7; 20 * KIB]));
        }
        assert!(world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN);
    }
    for (_, mobile) in &pairs {
        assert!(world.take(mobile) == [received(800 * KIB)]);
    }
    world.expect_empty_in_the_end();
}

#[test]
fn small_messages_pass_while_large_ones_take_all_that_they_may() {
    let mut world = narrow_world();
    let _stalled = stalled_pairs(&mut world, 20, &binary(2 * MIB));
    let (desktop, mobile) = world.pair("a");
    for _ in 0..100 {
        world.send_text(&desktop, "1");
        world.send(&mobile, &frame(BINARY, &[7; 16 * KIB]));
    }
    assert_eq!(world.take(&mobile), vec![text("1"); 100]);
    assert_eq!(world.take(&desktop), vec![received(16 * KIB); 100]);
}

#[test]
fn receivers_of_small_messages_that_take_nothing_leave_room_for_the_next_pair() {
    let mut world = narrow_world();
    let silent = stalled_pairs(&mut world, 25, &frame(BINARY, &[7; 1000]).repeat(60));
    assert!(world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN);
    let (desktop, mobile) = world.pair("healthy");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    for (_, mobile) in &silent {
        world.set_room(mobile, usize::MAX);
    }
    for (index, (desktop, mobile)) in silent.iter().enumerate() {
        assert_eq!(world.unread(desktop), 0, "{index}");
        assert_eq!(world.take(mobile), vec![received(1000); 60], "{index}");
    }
    world.expect_empty_in_the_end();
}

#[test]
fn clients_that_do_not_take_the_replies_to_what_they_send_leave_room_for_the_next_pair() {
    let mut world = world_with(16 * MIB);
    let silent = desktops(&mut world, 25);
    for client in &silent {
        world.set_room(client, 0);
        world.send(client, &frame(TEXT, b"?").repeat(20_000));
        assert!(world.unread(client) > 0);
    }
    expect_service(&mut world, "healthy");
    for (index, client) in silent.iter().enumerate() {
        world.set_room(client, usize::MAX);
        assert_eq!((world.unread(client), world.take(client).len()), (0, 20_000), "{index}");
    }
    world.expect_empty_in_the_end();
}

/// Connections with so much of a request head that there is no memory for anything new.
fn fill_with_heads(world: &mut World) -> Vec<Client> {
    let mut clients = Vec::new();
    let head = [b"GET /desktop/a HTTP/1.1\r\nX: ", &vec![b'x'; 15 * KIB][..]].concat();
    while world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN / 2 - SMALL_ROOM_BYTES_MIN {
        let client = world.connect();
        for piece in head.chunks(256) {
            world.send(&client, piece);
        }
        clients.push(client);
        assert!(clients.len() < 100, "memory runs out");
    }
    clients
}

#[test]
fn client_for_whose_messages_there_is_no_memory_is_read_once_there_is_some() {
    let mut world = narrow_world();
    let (desktop, mobile) = world.pair("a");
    let (lost, _) = world.pair("b");
    let heads = fill_with_heads(&mut world);
    world.send_text(&desktop, "1");
    assert!(world.unread(&desktop) > 0, "it is not read");
    assert!(world.relay.counters().reads_starved > 0);
    assert!(world.relay.starved_clients() > 0, "and counted");
    world.send_text(&lost, "1");
    world.reset(&lost);
    assert!(world.is_gone(&lost), "but watched");
    heads[..10].iter().for_each(|head| world.reset(head));
    assert_eq!((world.unread(&desktop), world.take(&mobile)), (0, vec![text("1")]));
    assert_eq!(world.relay.starved_clients(), 0);
    world.expect_empty_in_the_end();
}

#[test]
fn client_for_whose_messages_there_is_no_memory_waits_until_there_is_some() {
    let mut world = World::with(Settings {
        max_buffered: BUFFERED_BYTES_MIN,
        handshake_timeout: 300 * SECOND,
        ping_interval: 1_000 * SECOND,
        ..Settings::default()
    });
    let (desktop, mobile) = world.pair("a");
    let _heads = fill_with_heads(&mut world);
    world.send_text(&desktop, "1");
    world.pass(59 * SECOND);
    assert!(!world.take(&mobile).contains(&Received::Text("1".to_owned())));
    world.pass(242 * SECOND);
    assert!(world.take(&mobile).contains(&Received::Text("1".to_owned())));
}

#[test]
fn client_that_was_held_for_its_rate_and_then_finds_no_memory_is_read_once_there_is_some() {
    let mut world = World::with(Settings {
        max_buffered: BUFFERED_BYTES_MIN,
        max_message_rate: Some(1),
        ..Settings::default()
    });
    let (desktop, mobile) = world.pair("a");
    for number in ["1", "2", "3"] {
        world.send_text(&desktop, number);
    }
    assert!(world.unread(&desktop) > 0, "the third is over its rate");
    let heads = fill_with_heads(&mut world);
    world.pass(3 * SECOND);
    assert!(world.unread(&desktop) > 0, "now there is no memory for it");
    heads[..10].iter().for_each(|head| world.reset(head));
    assert_eq!(world.unread(&desktop), 0);
    assert_eq!(world.take(&mobile), ["1", "2", "3"].map(text));
}

#[test]
fn what_is_thrown_away_is_read_in_few_reads_when_there_is_memory_for_nothing() {
    let mut world = narrow_world();
    let old = world.join(Mobile, "a");
    let message = binary(512 * KIB);
    world.send(&old, &message[..KIB]);
    world.join(Mobile, "a");
    let reads = world.reads(&old);
    fill_with_heads(&mut world);
    world.send(&old, &message[KIB..]);
    assert_eq!(world.unread(&old), 0);
    let reads = world.reads(&old) - reads;
    assert!(reads <= message.len() / RECEIVE_BUFFER_BYTES + 2, "{reads} reads");
}

#[test]
fn fragments_of_a_byte_take_a_bounded_number_of_reads_in_a_turn_when_there_is_memory_for_nothing() {
    let mut world = narrow_world();
    let desktop = world.join(Desktop, "a");
    world.send(&desktop, &frame(BINARY_BEGINS, b"1"));
    fill_with_heads(&mut world);
    world.queue(&desktop, &frame(CONTINUES, b"1").repeat(10_000));
    let reads = world.reads(&desktop);
    world.turn();
    let reads = world.reads(&desktop) - reads;
    assert!((1..=READ_BYTES_PER_TURN / LEAST_READ_BYTES).contains(&reads), "{reads} reads");
    world.run_until_idle();
    assert_eq!(world.unread(&desktop), 0);
}

#[test]
fn replies_unfinished_frames_and_heads_count_as_used_memory() {
    let mut world = World::quiet();
    let head = world.connect();
    world.send(&head, b"GET /desktop/a HTTP/1.1\r\nHost: ");
    let of_head = world.relay.buffered_bytes();
    assert!(of_head >= 30);
    let desktop = world.join(Desktop, "a");
    world.send(&desktop, &frame(BINARY, &[7; 16 * KIB])[..10 * KIB]);
    let with_frame = world.relay.buffered_bytes();
    assert!(with_frame - of_head >= 10 * KIB);
    let mobile = world.join(Mobile, "b");
    world.set_room(&mobile, 0);
    world.send(&mobile, &frame(TEXT, b"?").repeat(1000));
    assert!(world.relay.buffered_bytes() - with_frame >= 100 * 1000);
    world.expect_empty_in_the_end();
}

#[test]
fn start_of_a_small_frame_takes_memory_for_itself_and_not_for_a_longer_one_before_it() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    let long = frame(BINARY, &[7; 16 * KIB]);
    // What arrives of each frame grows bit by bit, and then comes with the start of the next.
    for (kept, of_next) in [(9 * KIB, 0), (15 * KIB, 1), (12 * KIB, 14), (16 * KIB, 100), (16 * KIB, 3_000)] {
        for piece in long[..kept].chunks(1_500) {
            world.send(&desktop, piece);
        }
        world.send(&desktop, &[&long[kept..], &long[..of_next]].concat());
        let taken = world.relay.buffered_bytes();
        assert!(taken <= 2 * of_next + KIB / 2, "{taken} bytes for {of_next}");
        world.send(&desktop, &long[of_next..]);
    }
    world.expect_empty_in_the_end();
}

#[test]
fn clients_replaced_in_mid_message_are_charged_for_the_rest_of_their_fragment() {
    let mut world = narrow_world();
    let mut pairs = Vec::new();
    for session in ["a", "b", "c", "d"] {
        let (desktop, mobile) = world.pair(session);
        world.set_room(&mobile, 20);
        world.send(&desktop, &binary(200 * KIB));
        pairs.push((desktop, mobile));
    }
    let newcomers = ["a", "b", "c", "d"].map(|session| (world.connect(), upgrade(Mobile, session)));
    for (newcomer, head) in &newcomers {
        world.set_room_silently(newcomer, 0);
        world.queue(newcomer, head);
    }
    world.turn();
    let bytes = world.relay.buffered_bytes();
    assert!(bytes <= BUFFERED_BYTES_MIN + FRAGMENT_BYTES_MAX, "{bytes}");
}

#[test]
fn one_read_brings_no_more_replies_than_there_is_memory_for() {
    let mut world = narrow_world();
    let client = world.join(Desktop, "a");
    world.set_room(&client, 0);
    // Each empty text, which is not JSON, is answered with an error message.
    world.send(&client, &frame(TEXT, b"").repeat(20_000));
    assert!(world.unread(&client) > 0);
    let bytes = world.relay.buffered_bytes();
    assert!((BUFFERED_BYTES_MIN / 4..=BUFFERED_BYTES_MIN).contains(&bytes), "{bytes}");
}

#[test]
fn what_waits_moves_to_the_new_connection_with_its_memory() {
    let mut world = narrow_world();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &binary(300 * KIB));
    let new = world.join(Mobile, "a");
    world.run_until_idle();
    assert!(world.relay.buffered_bytes() < 100, "all but the close of the old one has been written");
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    assert!(!world.is_gone(&new));
    world.expect_empty_in_the_end();
}

/// Sends each frame in two halves, all first halves first.
fn send_in_halves(world: &mut World, clients: &[Client], frame: &[u8], cut: usize) {
    for half in [&frame[..cut], &frame[cut..]] {
        for piece in half.chunks(2 * KIB) {
            for client in clients {
                world.send(client, piece);
            }
        }
    }
}

#[test]
fn small_messages_half_received_stay_within_the_budget_and_cannot_lock_each_other_out() {
    for (first, cut) in [(BINARY_BEGINS, 9), (BINARY, 16_000), (BINARY, 100)] {
        let mut world = narrow_world();
        let clients = desktops(&mut world, 200);
        send_in_halves(&mut world, &clients, &frame(first, &vec![7; 16 * KIB]), cut);
        assert!(world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN, "{}", world.relay.buffered_bytes());
        expect_service(&mut world, "healthy");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn texts_nested_deeply_stay_within_the_budget_or_are_refused() {
    let mut world = world_with(2 * MIB);
    let (desktop, mobile) = world.pair("deep");
    world.send(&desktop, &frame(TEXT, &vec![b'['; 20 * MIB]));
    let got = world.take(&desktop);
    let close = Received::Close(1013, "No room for this message now".to_owned());
    assert!(got.contains(&close), "{got:?}");
    assert!(world.take(&mobile).contains(&Received::Close(1011, "Message cut short".to_owned())));
    assert!(world.relay.buffered_bytes() < KIB);

    let clients = desktops(&mut world, 30);
    for client in &clients {
        world.send(client, &frame(TEXT, &vec![b'['; 264 * KIB])[..264 * KIB]);
    }
    assert!(world.relay.buffered_bytes() <= 2 * MIB, "{}", world.relay.buffered_bytes());
    expect_service(&mut world, "healthy");
    world.expect_empty_in_the_end();
}

#[test]
fn messages_just_over_the_small_ones_take_no_more_than_a_chunk_each() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    for _ in 0..60 {
        world.send(&desktop, &[frame(BINARY_BEGINS, &[7; 16_000]), frame(ENDS, &[7; 400])].concat());
    }
    assert!(world.relay.buffered_bytes() <= 60 * 64 * KIB, "{}", world.relay.buffered_bytes());
}

#[test]
fn clients_that_come_and_go_while_memory_is_short_leave_nothing_behind() {
    let mut world = narrow_world();
    let _heads = fill_with_heads(&mut world);
    for _ in 0..1000 {
        let client = world.connect();
        world.send(&client, b"GET");
        world.reset(&client);
    }
    assert!(world.relay.starved.len() <= 2 * world.relay.connections(), "{}", world.relay.starved.len());
}
