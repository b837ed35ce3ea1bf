//! What happens when somebody does not read.

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::{
    HIGH_WATER_BYTES, LINGER_BYTES_MAX, NOTICES_WAITING_MAX, OVERFULL_BYTES, READ_BYTES_PER_TURN,
    WRITE_BYTES_PER_TURN,
};
use crate::relay::readiness::Readiness;
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{BINARY, PING, PONG, TEXT, frame};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Sends numbered messages of about 1 KiB until the relay stops reading; returns how many were sent.
fn flood(world: &mut World, client: &Client) -> usize {
    for index in 0..20_000 {
        world.send_text(client, &format!(r#"{{"n":{index},"d":"{}"}}"#, "x".repeat(1000)));
        if world.unread(client) > 0 {
            return index + 1;
        }
    }
    panic!("never paused");
}

fn numbers(received: &[Received]) -> Vec<usize> {
    let number = |received: &Received| {
        let Received::Text(text) = received else { return None };
        text.strip_prefix(r#"{"n":"#)?.split(',').next()?.parse().ok()
    };
    received.iter().filter_map(number).collect()
}

#[test]
fn a_flood_is_paused_at_the_high_mark_and_nothing_is_lost() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let sent = flood(&mut world, &desktop);
    assert!(
        sent * 1030 >= HIGH_WATER_BYTES && sent * 1000 < HIGH_WATER_BYTES + READ_BYTES_PER_TURN,
        "{sent}"
    );
    world.set_room(&mobile, 3 * HIGH_WATER_BYTES / 8);
    assert!(world.unread(&desktop) > 0, "still above the low mark");
    world.set_room(&mobile, HIGH_WATER_BYTES / 4);
    assert_eq!(world.unread(&desktop), 0);
    world.set_room(&mobile, usize::MAX);
    assert_eq!(numbers(&world.take(&mobile)), (0..sent).collect::<Vec<_>>());
    assert_eq!(world.relay.counters().reads_paused, 1);
    world.expect_empty_in_the_end();
}

#[test]
fn no_message_is_lost_when_both_sides_flood_before_they_read() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.set_room(&desktop, 0);
    let from_desktop = flood(&mut world, &desktop);
    let from_mobile = flood(&mut world, &mobile);
    world.set_room(&desktop, usize::MAX);
    world.set_room(&mobile, usize::MAX);
    assert_eq!(numbers(&world.take(&mobile)), (0..from_desktop).collect::<Vec<_>>());
    assert_eq!(numbers(&world.take(&desktop)), (0..from_mobile).collect::<Vec<_>>());
    world.expect_empty_in_the_end();
}

#[test]
fn one_waiting_message_of_up_to_the_high_water_mark_never_pauses_its_sender() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &frame(BINARY, &vec![1; HIGH_WATER_BYTES]));
    world.send_text(&desktop, "1");
    assert_eq!(world.unread(&desktop), 0);
    world.send_text(&desktop, "2");
    assert!(world.unread(&desktop) > 0, "the second one does");
}

#[test]
fn a_client_that_does_not_read_its_replies_is_no_longer_read() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&desktop, 0);
    let pings = frame(PING, &[b'p'; 125]).repeat(100);
    let mut sent = 0;
    while world.unread(&desktop) == 0 {
        world.send(&desktop, &pings);
        sent += 100;
        assert!(sent < 100_000, "never paused");
    }
    assert!(sent * 127 >= HIGH_WATER_BYTES);
    world.send_text(&mobile, "1");
    world.set_room(&desktop, usize::MAX);
    let received = world.take(&desktop);
    assert_eq!(received.iter().filter(|one| matches!(one, Received::Pong(_))).count(), sent);
    assert!(received.contains(&text("1")));
    world.expect_empty_in_the_end();
}

#[test]
fn replies_overtake_what_waits() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 1000);
    world.send(&desktop, &frame(BINARY, &vec![1; 500_000]));
    world.send_text(&desktop, "1");
    world.send(&mobile, &[frame(TEXT, b"?"), frame(PING, b"ping")].concat());
    world.set_room(&mobile, usize::MAX);
    let received = world.take(&mobile);
    assert_eq!(received[0], Received::Pong(b"ping".to_vec()), "between two fragments of the bundle");
    assert!(matches!(&received[1], Received::Binary(_)));
    assert!(matches!(&received[2], Received::Text(text) if text.contains("invalid_json")), "then at its end");
    assert_eq!(received[3..], [text("1")]);
    world.expect_empty_in_the_end();
}

#[test]
fn a_held_client_that_is_reset_is_gone_at_once() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let sent = flood(&mut world, &desktop);
    world.reset(&desktop);
    assert!(world.is_gone(&desktop));
    world.set_room(&mobile, usize::MAX);
    let received = world.take(&mobile);
    assert!(numbers(&received).len() < sent, "what was not read is lost with it");
    assert_eq!(received.last(), Some(&system(r#""type":"desktop_disconnected""#)));
    world.expect_empty_in_the_end();
}

#[test]
fn a_held_client_whose_stream_is_found_broken_by_a_write_is_gone_at_once() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    flood(&mut world, &desktop);
    world.reset_silently(&desktop);
    world.send_text(&mobile, "1");
    assert!(world.is_gone(&desktop));
    world.expect_empty_in_the_end();
}

#[test]
fn what_a_held_client_sent_before_it_ended_its_stream_is_still_delivered() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let sent = flood(&mut world, &desktop);
    world.close_tcp(&desktop);
    assert!(world.is_gone(&desktop), "and its end is noticed at once");
    world.set_room(&mobile, usize::MAX);
    let received = world.take(&mobile);
    assert_eq!(numbers(&received), (0..sent).collect::<Vec<_>>());
    assert_eq!(received.last(), Some(&system(r#""type":"desktop_disconnected""#)));
}

#[test]
fn clients_that_end_their_streams_do_not_pile_up_messages_without_bound() {
    let hour = SECOND * 3600;
    let settings = Settings { stall_timeout: hour, ping_interval: hour, ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let messages = frame(BINARY, &[7; 10_000]).repeat(50);
    world.send(&desktop, &messages);
    let mut sent = 50;
    for _ in 0..100 {
        // More often it would not be let in.
        world.pass(SECOND * 2);
        let next = world.join(Desktop, "a");
        world.queue(&next, &messages);
        world.close_tcp(&next);
        sent += 50;
    }
    world.set_room(&mobile, usize::MAX);
    let received = world.take(&mobile);
    let delivered = received.iter().filter(|one| matches!(one, Received::Binary(_))).count();
    assert!(delivered * 10_000 > OVERFULL_BYTES && delivered < sent / 4, "{delivered} of {sent}");
}

#[test]
fn a_client_that_ends_its_stream_does_not_pile_up_replies_without_bound_and_gets_every_one_if_it_reads() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    world.set_room(&desktop, 0);
    let sent = 100_000;
    world.queue(&desktop, &frame(TEXT, b"?").repeat(sent));
    world.close_tcp(&desktop);
    assert!(world.unread(&desktop) > 6 * sent, "{} unread", world.unread(&desktop));
    assert!(!world.is_gone(&desktop));
    world.set_room(&desktop, usize::MAX);
    let received = world.take(&desktop);
    let is_error = |one: &&Received| matches!(one, Received::Text(text) if text.contains("invalid_json"));
    assert_eq!(received.iter().filter(is_error).count(), sent);
    assert!(world.is_gone(&desktop));
    world.expect_empty_in_the_end();
}

#[test]
fn a_client_that_leaves_a_thousand_notices_unread_is_closed_with_the_next_and_its_peer_told() {
    let mut world = World::quiet();
    let mobile = world.join(Mobile, "a");
    world.set_room(&mobile, 0);
    for _ in 0..NOTICES_WAITING_MAX / 2 {
        let desktop = world.join(Desktop, "a");
        world.reset(&desktop);
    }
    let desktop = world.connect();
    world.send(&desktop, &upgrade(Desktop, "a"));
    let connected = system(r#""type":"mobile_connected""#);
    let disconnected = system(r#""type":"mobile_disconnected""#);
    assert_eq!(world.take(&desktop)[2..], [connected, disconnected]);
    world.set_room(&mobile, usize::MAX);
    let close = Received::Close(1013, "Too many notices left unread".to_owned());
    assert_eq!(world.take(&mobile), [close]);
    world.expect_empty_in_the_end();
}

#[test]
fn a_client_that_reads_its_notices_may_have_any_number_of_them() {
    let mut world = World::quiet();
    let mobile = world.join(Mobile, "a");
    for _ in 0..NOTICES_WAITING_MAX {
        let desktop = world.join(Desktop, "a");
        world.reset(&desktop);
    }
    assert_eq!(world.take(&mobile).len(), 2 * NOTICES_WAITING_MAX);
    world.expect_empty_in_the_end();
}

#[test]
fn a_sender_held_back_for_a_client_that_leaves_or_is_replaced_is_read_again() {
    for replaced in [true, false] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        world.set_room(&mobile, 0);
        let sent = flood(&mut world, &desktop);
        if replaced {
            let new = world.join(Mobile, "a");
            world.run_until_idle();
            assert_eq!(world.unread(&desktop), 0);
            assert!(!world.is_gone(&new));
        } else {
            world.reset(&mobile);
            assert_eq!(world.unread(&desktop), 0);
            let received = world.take(&desktop);
            let count = format!(r#""count":{}"#, sent - 1);
            let is_told =
                |received: &Received| matches!(received, Received::Text(text) if text.contains(&count));
            assert!(is_told(&received[0]), "{:?}", received[0]);
            assert_eq!(received[1], system(r#""type":"mobile_disconnected""#));
            assert!(matches!(&received[2], Received::Text(text) if text.contains("peer_not_connected")));
        }
        world.expect_empty_in_the_end();
    }
}

#[test]
fn nobody_starves_while_another_floods() {
    let mut world = World::quiet();
    let (flooding, _sink) = world.pair("flood");
    let (desktop, mobile) = world.pair("quiet");
    let flood = frame(TEXT, &[b'1'; 1000]).repeat(4000);
    world.queue(&flooding, &flood);
    world.queue(&desktop, &frame(TEXT, b"1"));
    world.turn();
    assert_eq!(world.take(&mobile), [text("1")]);
    assert!(world.unread(&flooding) >= flood.len() - 2 * READ_BYTES_PER_TURN);
    assert!(world.relay.has_work());
    world.run_until_idle();
    assert_eq!(world.unread(&flooding), 0);
}

#[test]
fn a_client_over_its_rate_and_held_for_its_peer_keeps_the_relay_at_rest() {
    let settings = Settings { max_byte_rate: Some(100_000), ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &frame(BINARY, &vec![0; 700_000]).repeat(2));
    for _ in 0..50 {
        world.pass(SECOND);
        world.send_text(&desktop, "1");
        world.send(&mobile, &frame(PONG, b""));
    }
    world.set_room(&mobile, usize::MAX);
    world.pass(30 * SECOND);
    let received = world.take(&mobile);
    assert_eq!(received.iter().filter(|one| matches!(one, Received::Binary(_))).count(), 2);
    assert_eq!(received.iter().filter(|one| **one == text("1")).count(), 50);
}

#[test]
fn a_spurious_event_does_no_harm() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    for client in [&desktop, &mobile] {
        for readiness in [Readiness::READABLE, Readiness::WRITABLE] {
            world.relay.handle_readiness(client.id, readiness);
            world.run_until_idle();
        }
    }
    assert_eq!((world.take(&desktop), world.take(&mobile)), (vec![], vec![]));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let run = |seed| {
        let mut world = World::seeded(Settings { answer_pings: true, ..Settings::default() }, seed);
        let (desktop, mobile) = world.pair("a");
        world.set_room(&mobile, 700);
        let _ = flood(&mut world, &desktop);
        world.pass(45 * SECOND);
        world.join(Desktop, "a");
        world.pass(45 * SECOND);
        world.set_room(&mobile, usize::MAX);
        (format!("{:?}", world.take(&mobile)), format!("{:?}", world.relay.counters()))
    };
    assert_eq!(run([1, 2]), run([1, 2]));
    assert_eq!(run([1, 2]), run([3, 4]), "whatever the seed");
}

#[test]
fn a_client_that_goes_on_sending_after_its_answer_is_dropped_at_256_mib() {
    let mut world = World::quiet();
    let client = world.connect();
    world.send(&client, b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n");
    assert!(matches!(&world.take(&client)[..], [Received::Head(_), Received::End]));
    let chunk = vec![0; 1 << 20];
    for _ in 0..LINGER_BYTES_MAX / chunk.len() {
        world.send(&client, &chunk);
    }
    assert!(!world.is_gone(&client));
    world.send(&client, &[0]);
    assert!(world.is_gone(&client));
}

#[test]
fn two_clients_that_hold_each_other_back_are_written_no_more_than_an_allowance_per_turn() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    for client in [&desktop, &mobile] {
        world.set_room(client, 0);
    }
    for _ in 0..3 {
        for client in [&desktop, &mobile] {
            world.send(client, &frame(BINARY, &vec![7; 8 << 20]));
        }
    }
    let before = world.relay.backlog(mobile.id).unwrap().bytes;
    for client in [&desktop, &mobile] {
        world.open_room(client, usize::MAX);
    }
    world.turn();
    let handed = before - world.relay.backlog(mobile.id).unwrap().bytes;
    assert!(handed <= 3 * WRITE_BYTES_PER_TURN, "{handed}");
}
