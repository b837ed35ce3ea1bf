//! One budget for everybody.

use super::super::ids::ClientType::{Desktop, Mobile};
use super::super::limits::{
    BUFFERED_BYTES_MIN, FRAGMENT_BYTES_MAX, LEAST_READ_BYTES, READ_BYTES_PER_TURN, RECEIVE_BUFFER_BYTES,
    SHORT_READ_BYTES, SMALL_ROOM_BYTES_MIN, Settings,
};
use super::world::{Client, Received, World, frame, system, text, upgrade};

const KIB: usize = 1024;
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// A budget of 1 MiB, of which large messages get 896 KiB.
fn narrow_world() -> World {
    let settings =
        Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: 896 * KIB, ..Settings::default() };
    World::with(settings)
}

/// The same, where no message is longer than half of it, and small ones may have the other half.
fn world_for_small_ones() -> World {
    let settings =
        Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: 512 * KIB, ..Settings::default() };
    World::with(settings)
}

fn binary(bytes: usize) -> Vec<u8> {
    frame(0x82, &vec![7; bytes])
}

fn received(bytes: usize) -> Received {
    Received::Binary(vec![7; bytes])
}

/// A pair whose mobile takes nothing, with a message of 600 KiB on its way to it.
fn full_pair(world: &mut World) -> (Client, Client) {
    let (desktop, mobile) = world.pair("full");
    world.set_room(&mobile, 0);
    world.send(&desktop, &binary(600 * KIB));
    assert_eq!(world.unread(&desktop), 0);
    assert_eq!(world.relay.buffered_bytes(), 600 * KIB);
    (desktop, mobile)
}

#[test]
fn a_large_message_stays_in_the_kernel_until_there_is_room_and_is_then_delivered() {
    let mut world = narrow_world();
    let (_desktop, full) = full_pair(&mut world);
    let (desktop, mobile) = world.pair("a");
    world.send(&desktop, &binary(500 * KIB));
    assert!(world.unread(&desktop) > 400 * KIB);
    assert_eq!(world.take(&mobile), []);
    assert_eq!(world.relay.counters().room_awaited, 1);
    world.set_room(&full, usize::MAX);
    assert_eq!(world.unread(&desktop), 0);
    assert_eq!(world.take(&full), [received(600 * KIB)]);
    assert_eq!(world.take(&mobile), [received(500 * KIB)]);
    world.expect_empty_in_the_end();
}

#[test]
fn a_fragment_read_as_a_whole_while_it_waits_for_room_is_delivered_however_late_without_another_byte() {
    let mut world = narrow_world();
    let (_desktop, full) = full_pair(&mut world);
    let (_third, fourth) = {
        let (third, fourth) = world.pair("b");
        world.set_room(&fourth, 0);
        world.send(&third, &binary(260 * KIB));
        (third, fourth)
    };
    let (desktop, mobile) = world.pair("a");
    world.send(&desktop, &frame(0x02, &[7; 15 * KIB]));
    world.send(&desktop, &[frame(0x80, &[7; 3 * KIB]), frame(0x81, b"1")].concat());
    assert_eq!((world.unread(&desktop), world.take(&mobile)), (0, vec![]));
    // However long it takes, the client has done what it could; and those before it take a little.
    for _ in 0..8 {
        world.pass(50 * SECOND);
        world.send(&desktop, &frame(0x8A, b""));
        world.send(&mobile, &frame(0x8A, b""));
        world.set_room(&full, 1);
        world.set_room(&fourth, 1);
    }
    let pings = world.take(&mobile);
    assert!(pings.iter().all(|one| *one == Received::Ping), "{pings:?}");
    world.set_room(&full, usize::MAX);
    assert_eq!(world.take(&mobile), [received(18 * KIB), text("1")]);
    world.expect_empty_in_the_end();
}

#[test]
fn small_messages_pass_while_large_ones_wait_for_room() {
    let mut world = narrow_world();
    let (_desktop, _full) = full_pair(&mut world);
    let (waiting, _) = world.pair("waiting");
    world.send(&waiting, &binary(800 * KIB));
    assert!(world.unread(&waiting) > 0);
    let (desktop, mobile) = world.pair("a");
    for _ in 0..100 {
        world.send_text(&desktop, "1");
        world.send(&mobile, &frame(0x82, &[7; 16 * KIB]));
    }
    assert_eq!(world.take(&mobile), vec![text("1"); 100]);
    assert_eq!(world.take(&desktop), vec![received(16 * KIB); 100]);
}

#[test]
fn room_goes_first_to_the_message_that_began_first() {
    let mut world = narrow_world();
    let (_desktop, full) = full_pair(&mut world);
    let (first, first_mobile) = world.pair("first");
    let (second, second_mobile) = world.pair("second");
    world.send(&first, &binary(800 * KIB));
    world.send(&second, &binary(20 * KIB));
    assert_eq!(world.take(&second_mobile), [], "there would be room, but another was before it");
    world.set_room(&first_mobile, 0);
    world.set_room(&full, usize::MAX);
    assert_eq!(world.unread(&first), 0);
    assert_eq!(world.take(&second_mobile), [received(20 * KIB)]);
    world.set_room(&first_mobile, usize::MAX);
    assert_eq!(world.take(&first_mobile), [received(800 * KIB)]);
    world.expect_empty_in_the_end();
}

#[test]
fn whoever_announces_and_does_not_send_is_ended_at_the_stall_timeout_and_the_room_comes_back() {
    let mut world = World::quiet();
    let announced = [&[0x82, 0xFF][..], &(16u64 << 20).to_be_bytes(), &[1, 2, 3, 4]].concat();
    let clients: Vec<Client> = (0..100).map(|index| world.join(Desktop, &index.to_string())).collect();
    for client in &clients {
        world.send(client, &announced);
    }
    assert_eq!(world.relay.buffered_bytes() >> 20, 224, "fourteen have their room, and the others wait");
    let (desktop, mobile) = world.pair("healthy");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    world.pass(59 * SECOND);
    assert!(!world.is_gone(&clients[0]) && !world.is_gone(&clients[99]));
    world.pass(7 * SECOND);
    for client in &clients {
        let received = world.take(client);
        assert!(received.iter().any(|one| matches!(one, Received::Close(1001, _))), "{received:?}");
    }
    assert_eq!(world.relay.buffered_bytes(), 0);
    world.expect_empty_in_the_end();
}

#[test]
fn a_sender_that_dies_in_mid_message_gives_its_room_back_and_its_receiver_sees_nothing_of_it() {
    for is_reset in [true, false] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        world.send(&desktop, &binary(30_000 * KIB)[..20_000 * KIB]);
        assert!(world.relay.buffered_bytes() >= 30_000 * KIB);
        if is_reset {
            world.reset(&desktop);
        } else {
            world.close_tcp(&desktop);
        }
        assert_eq!(world.relay.buffered_bytes(), 0);
        assert_eq!(world.take(&mobile), [system(r#""type":"desktop_disconnected""#)]);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn a_client_that_waits_for_room_and_goes_is_gone_at_once() {
    for is_reset in [true, false] {
        let mut world = narrow_world();
        let (_desktop, full) = full_pair(&mut world);
        let (desktop, mobile) = world.pair("a");
        world.send(&desktop, &binary(500 * KIB));
        if is_reset {
            world.reset(&desktop);
        } else {
            world.close_tcp(&desktop);
        }
        assert_eq!(world.take(&mobile), [system(r#""type":"desktop_disconnected""#)]);
        assert_eq!(world.relay.buffered_bytes(), 600 * KIB, "nothing of it is kept");
        world.set_room(&full, usize::MAX);
        assert_eq!(world.relay.buffered_bytes(), 0, "and no room is granted to it");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn messages_in_many_fragments_do_not_lock_each_other_out() {
    let mut world = narrow_world();
    let pairs: Vec<(Client, Client)> = (0..5).map(|index| world.pair(&index.to_string())).collect();
    for step in 0..40 {
        for (desktop, _) in &pairs {
            let first = match step {
                0 => 0x02,
                39 => 0x80,
                _ => 0x00,
            };
            world.send(desktop, &frame(first, &vec![7; 20 * KIB]));
        }
        assert!(world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN + 2 * SHORT_READ_BYTES);
    }
    for (_, mobile) in &pairs {
        assert_eq!(world.take(mobile), [received(800 * KIB)]);
    }
    world.expect_empty_in_the_end();
}

#[test]
fn what_is_kept_of_many_that_wait_does_not_lock_out_the_first_of_them() {
    let mut world = narrow_world();
    let (desktop, full) = world.pair("full");
    world.set_room(&full, 0);
    world.send(&desktop, &binary(500 * KIB));
    let (first, first_mobile) = world.pair("first");
    world.send(&first, &binary(896 * KIB));
    assert_eq!(world.take(&first_mobile), []);
    let others: Vec<(Client, Client)> = (0..130).map(|index| world.pair(&index.to_string())).collect();
    for (desktop, _) in &others {
        world.send(desktop, &binary(20 * KIB));
    }
    assert!(world.relay.counters().room_awaited > 10);
    world.set_room(&full, usize::MAX);
    assert_eq!(world.take(&first_mobile), [received(896 * KIB)]);
    for (_, mobile) in &others {
        assert_eq!(world.take(mobile), [received(20 * KIB)]);
    }
    world.expect_empty_in_the_end();
}

#[test]
fn receivers_that_do_not_read_leave_room_for_the_next_pair() {
    let mut world = world_for_small_ones();
    let mut silent = Vec::new();
    for index in 0..25 {
        let (desktop, mobile) = world.pair(&index.to_string());
        world.set_room(&mobile, 0);
        world.send(&desktop, &frame(0x82, &[7; 1000]).repeat(60));
        assert!(world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN, "{index}");
        silent.push((desktop, mobile));
    }
    let (desktop, mobile) = world.pair("healthy");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    // Nothing was lost.
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
    let mut world = World::with(Settings {
        max_buffered: 16 * BUFFERED_BYTES_MIN,
        max_message_size: BUFFERED_BYTES_MIN,
        ..Settings::default()
    });
    let mut silent = Vec::new();
    for index in 0..25 {
        let client = world.join(Desktop, &index.to_string());
        world.set_room(&client, 0);
        world.send(&client, &frame(0x81, b"?").repeat(20_000));
        assert!(world.unread(&client) > 0, "{index}");
        silent.push(client);
    }
    let (desktop, mobile) = world.pair("healthy");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    for (index, client) in silent.iter().enumerate() {
        world.set_room(client, usize::MAX);
        assert_eq!((world.unread(client), world.take(client).len()), (0, 20_000), "{index}");
    }
    world.expect_empty_in_the_end();
}

/// Pairs whose mobiles take nothing, until there is no room for small messages: one each is let through however
/// little room is left.
fn take_all_small_room(world: &mut World) -> Vec<(Client, Client)> {
    let mut silent = Vec::new();
    while world.relay.buffered_bytes() < BUFFERED_BYTES_MIN / 2 - SMALL_ROOM_BYTES_MIN {
        let (desktop, mobile) = world.pair(&silent.len().to_string());
        world.set_room(&mobile, 0);
        world.send(&desktop, &frame(0x82, &[7; 16 * KIB]));
        silent.push((desktop, mobile));
    }
    silent
}

#[test]
fn what_is_thrown_away_is_read_in_few_reads_when_there_is_room_for_nothing() {
    let mut world = world_for_small_ones();
    let old = world.join(Mobile, "a");
    let message = frame(0x82, &vec![7; 512 * KIB]);
    world.send(&old, &message[..KIB]);
    world.join(Mobile, "a");
    let (old_bytes, reads) = (message.len() - KIB, world.reads(&old));
    take_all_small_room(&mut world);
    world.send(&old, &message[KIB..]);
    assert_eq!(world.unread(&old), 0);
    let reads = world.reads(&old) - reads;
    assert!(reads <= old_bytes / RECEIVE_BUFFER_BYTES + 2, "{reads} reads");
}

#[test]
fn fragments_of_a_byte_take_a_bounded_number_of_reads_in_a_turn_when_there_is_room_for_nothing() {
    let mut world = world_for_small_ones();
    let desktop = world.join(Desktop, "a");
    world.send(&desktop, &frame(0x02, b"1"));
    take_all_small_room(&mut world);
    world.queue(&desktop, &frame(0x00, b"1").repeat(10_000));
    let reads = world.reads(&desktop);
    world.turn();
    let reads = world.reads(&desktop) - reads;
    assert!((1..=READ_BYTES_PER_TURN / LEAST_READ_BYTES).contains(&reads), "{reads} reads");
    world.run_until_idle();
    assert_eq!(world.unread(&desktop), 0);
}

#[test]
fn whoever_finds_no_room_for_small_messages_is_read_once_there_is_some() {
    let mut world = world_for_small_ones();
    let silent = take_all_small_room(&mut world);
    let desktop = &silent[0].0;
    world.send_text(desktop, "1");
    assert!(world.unread(desktop) > 0, "it is not read");
    world.reset(&silent[1].0);
    assert!(world.is_gone(&silent[1].0), "but watched");
    world.set_room(&silent[2].1, usize::MAX);
    let desktop = &silent[0].0;
    assert_eq!(world.unread(desktop), 0);
    world.set_room(&silent[0].1, usize::MAX);
    assert_eq!(world.take(&silent[0].1), [received(16 * KIB), text("1")]);
    world.expect_empty_in_the_end();
}

#[test]
fn whoever_was_held_for_its_rate_and_then_finds_no_room_is_read_once_there_is_some() {
    let settings = Settings {
        max_buffered: BUFFERED_BYTES_MIN,
        max_message_size: 512 * KIB,
        max_message_rate: Some(1),
        ..Settings::default()
    };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    for number in ["1", "2", "3"] {
        world.send_text(&desktop, number);
    }
    assert!(world.unread(&desktop) > 0, "the third is over its rate");
    let silent = take_all_small_room(&mut world);
    world.pass(3 * SECOND);
    assert!(world.unread(&desktop) > 0, "now there is no room for it");
    world.set_room(&silent[0].1, usize::MAX);
    assert_eq!(world.unread(&desktop), 0);
    assert_eq!(world.take(&mobile), ["1", "2", "3"].map(text));
}

#[test]
fn replies_and_unfinished_frames_and_heads_are_on_the_account() {
    let mut world = World::quiet();
    let head = world.connect();
    world.send(&head, b"GET /desktop/a HTTP/1.1\r\nHost: ");
    let of_head = world.relay.buffered_bytes();
    assert!(of_head >= 30);
    let desktop = world.join(Desktop, "a");
    world.send(&desktop, &frame(0x82, &[7; 16 * KIB])[..10 * KIB]);
    let with_frame = world.relay.buffered_bytes();
    assert!(with_frame - of_head >= 10 * KIB);
    let mobile = world.join(Mobile, "b");
    world.set_room(&mobile, 0);
    world.send(&mobile, &frame(0x81, b"?").repeat(1000));
    assert!(world.relay.buffered_bytes() - with_frame >= 100 * 1000);
    world.expect_empty_in_the_end();
}

#[test]
fn clients_replaced_in_mid_message_are_charged_for_the_rest_of_their_fragment_before_the_next_one_is() {
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
fn one_read_brings_no_more_replies_than_there_is_room_for() {
    let mut world = world_for_small_ones();
    let client = world.join(Desktop, "a");
    world.set_room(&client, 0);
    // Each empty text, which is not JSON, is answered with an error message.
    world.send(&client, &frame(0x81, b"").repeat(20_000));
    assert!(world.unread(&client) > 0);
    let bytes = world.relay.buffered_bytes();
    assert!((BUFFERED_BYTES_MIN / 4..=BUFFERED_BYTES_MIN).contains(&bytes), "{bytes}");
}

#[test]
fn what_waits_moves_to_the_new_connection_with_its_room() {
    let mut world = narrow_world();
    let (desktop, _full) = full_pair(&mut world);
    let new = world.join(Mobile, "full");
    world.run_until_idle();
    assert!(world.relay.buffered_bytes() < 100, "all but the close of the old one has been written");
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    assert!(!world.is_gone(&new));
    world.expect_empty_in_the_end();
}

#[test]
fn whoever_has_begun_a_small_message_may_end_it_when_there_is_room_for_no_other() {
    let whole = frame(0x82, &vec![7; 16 * KIB]);
    let fragments = [frame(0x02, &vec![7; 8 * KIB]), frame(0x80, &vec![7; 8 * KIB])].concat();
    for (message, begun_bytes) in [(&whole, 100), (&whole, 16 * KIB), (&fragments, 8 * KIB + 8)] {
        let mut world = world_for_small_ones();
        let mut pairs = Vec::new();
        // They are charged for what has begun, whole, so that it can end.
        while world.relay.buffered_bytes() < BUFFERED_BYTES_MIN / 2 - SMALL_ROOM_BYTES_MIN {
            let (desktop, mobile) = world.pair(&pairs.len().to_string());
            world.send(&desktop, &message[..begun_bytes]);
            pairs.push((desktop, mobile));
        }
        assert!(pairs.len() < 40, "{}", pairs.len());
        let newcomer = world.connect();
        world.send(&newcomer, b"GET /health HTTP/1.1\r\n");
        assert!(world.unread(&newcomer) > 0, "there is no room for anything new");
        for (desktop, mobile) in &pairs {
            world.send(desktop, &message[begun_bytes..]);
            assert_eq!(world.take(mobile), [received(16 * KIB)]);
        }
        assert_eq!(world.unread(&newcomer), 0);
        world.expect_empty_in_the_end();
    }
}

fn desktops(world: &mut World, count: usize) -> Vec<Client> {
    (0..count).map(|index| world.join(Desktop, &format!("crowd{index}"))).collect()
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
fn small_fragments_that_go_on_together_stay_within_the_budget() {
    let mut world = narrow_world();
    let clients = desktops(&mut world, 200);
    send_in_halves(&mut world, &clients, &frame(0x02, &vec![7; 16 * KIB]), 9);
    assert!(world.relay.buffered_bytes() <= BUFFERED_BYTES_MIN, "{}", world.relay.buffered_bytes());
}

#[test]
fn small_frames_half_received_cannot_lock_each_other_out() {
    let mut world = narrow_world();
    let clients = desktops(&mut world, 60);
    let (desktop, mobile) = world.pair("healthy");
    send_in_halves(&mut world, &clients, &frame(0x82, &vec![7; 16 * KIB]), 16_000);
    for client in &clients {
        assert_eq!(world.unread(client), 0);
    }
    world.send_text(&desktop, "1");
    assert!(world.take(&mobile).contains(&text("1")));
}

#[test]
fn those_in_line_do_not_hold_what_the_first_in_line_needs() {
    let mut world = narrow_world();
    let (before, _) = world.pair("before");
    let whole = frame(0x82, &vec![7; 300 * KIB]);
    world.send(&before, &whole[..100]);
    let first = world.join(Desktop, "first");
    world.send(&first, &frame(0x82, &vec![7; 880 * KIB]));
    let clients = desktops(&mut world, 60);
    for client in &clients {
        world.send(client, &frame(0x82, &vec![7; 20 * KIB]));
    }
    world.send(&before, &whole[100..]);
    world.pass(400 * SECOND);
    assert!(world.unread(&first) == 0 || world.is_gone(&first), "{}", world.unread(&first));
}

#[test]
fn nesting_of_large_messages_leaves_the_small_ones_their_share() {
    let max_buffered = 4 * BUFFERED_BYTES_MIN;
    let mut world =
        World::with(Settings { max_buffered, max_message_size: 3584 * KIB, ..Settings::default() });
    let (desktop, mobile) = world.pair("healthy");
    let clients = desktops(&mut world, 13);
    let nested = frame(0x81, &vec![b'['; 264 * KIB]);
    for part in [&nested[..20], &nested[20..nested.len() - 1]] {
        for client in &clients {
            world.send(client, part);
        }
    }
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    assert!(world.relay.buffered_bytes() <= max_buffered, "{}", world.relay.buffered_bytes());
    world.expect_empty_in_the_end();
}

#[test]
fn messages_in_two_small_fragments_take_little_more_room_than_bytes() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    for _ in 0..60 {
        world.send(&desktop, &[frame(0x02, &[7; 16_000]), frame(0x80, &[7; 400])].concat());
    }
    assert!(world.relay.buffered_bytes() <= 60 * 64 * KIB, "{}", world.relay.buffered_bytes());
}

#[test]
fn whoever_comes_and_goes_while_there_is_no_room_leaves_nothing_behind() {
    let mut world = narrow_world();
    let clients = desktops(&mut world, 60);
    send_in_halves(&mut world, &clients, &frame(0x82, &vec![7; 16 * KIB]), 16_000);
    for _ in 0..1000 {
        let client = world.connect();
        world.send(&client, b"GET");
        world.reset(&client);
    }
    assert!(world.relay.starved.len() <= world.relay.connections(), "{}", world.relay.starved.len());
}
