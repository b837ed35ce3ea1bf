//! What had arrived by a deadline counts, however late the process gets to it.

use std::time::Duration;

use super::world::{Client, Received, World, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::{CONNECTIONS_PER_TURN, LATE_LINGER_TIME_MAX};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{BINARY, BINARY_BEGINS, PONG, TEXT, frame};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The process goes on after a standstill: signals interrupt its first polls, so it turns with a late clock and without
/// events.
fn wake_up(world: &mut World) {
    for _ in 0..5 {
        world.turn_told_in_part();
    }
}

#[test]
fn a_head_that_lay_in_the_kernel_when_its_time_was_up_is_answered() {
    let mut world = World::quiet();
    let client = world.connect();
    let head = upgrade(Desktop, "a");
    world.send(&client, &head[..20]);
    world.arrive(&client, &head[20..]);
    world.stand_still(seconds(60));
    wake_up(&mut world);
    assert_eq!(world.take(&client), []);
    world.tell_all();
    world.run_until_idle();
    assert!(matches!(&world.take(&client)[0], Received::Head(head) if head.starts_with("HTTP/1.1 101 ")));
}

#[test]
fn a_poll_that_was_not_interrupted_is_waited_for_even_if_the_host_only_turns() {
    let mut world = World::quiet();
    let client = world.connect();
    world.arrive(&client, &upgrade(Desktop, "a"));
    world.stand_still(seconds(60));
    // The process was stopped between the poll and the look at the clock.
    world.turn();
    assert!(world.relay.has_work(), "the next poll does not wait");
    world.tell_all();
    world.run_until_idle();
    assert!(matches!(&world.take(&client)[0], Received::Head(head) if head.starts_with("HTTP/1.1 101 ")));
}

#[test]
fn pongs_that_lay_in_the_kernel_are_signs_of_life() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.pass(seconds(30));
    assert_eq!((world.take(&desktop), world.take(&mobile)), (vec![Received::Ping], vec![Received::Ping]));
    world.arrive(&desktop, &frame(PONG, b""));
    world.stand_still(seconds(300));
    wake_up(&mut world);
    assert!(!world.is_gone(&desktop) && !world.is_gone(&mobile));
    world.tell_all();
    world.run_until_idle();
    assert!(!world.is_gone(&desktop));
    assert!(world.is_gone(&mobile), "nothing lay there for it");
}

#[test]
fn pongs_are_read_before_clients_are_ended_even_if_they_are_more_than_a_turn_serves() {
    let mut world = World::quiet();
    let clients: Vec<Client> =
        (0..5 * CONNECTIONS_PER_TURN).map(|index| world.join(Desktop, &index.to_string())).collect();
    world.pass(seconds(30));
    for client in &clients {
        world.arrive(client, &frame(PONG, b""));
    }
    world.stand_still(seconds(300));
    // One poll brings only as many events as its buffer holds.
    for client in &clients[..256] {
        world.tell(client);
    }
    world.turn_told_in_part();
    world.tell_all();
    world.run_until_idle();
    assert!(clients.iter().all(|client| !world.is_gone(client)));
}

#[test]
fn a_session_whose_message_lay_in_the_kernel_goes_on_and_the_message_arrives() {
    let mut world = World::with(Settings { session_timeout: seconds(10), ..Settings::default() });
    let (desktop, mobile) = world.pair("a");
    world.arrive(&desktop, &frame(TEXT, b"1"));
    world.stand_still(seconds(15));
    wake_up(&mut world);
    assert_eq!(world.take(&mobile), []);
    world.tell_all();
    world.run_until_idle();
    assert_eq!(world.take(&mobile), [text("1")]);
    assert_eq!(world.relay.sessions(), 1);
    world.pass(seconds(10));
    assert_eq!(world.relay.sessions(), 0);
}

#[test]
fn session_times_out_even_if_a_held_client_has_unread_bytes() {
    let settings =
        Settings { session_timeout: seconds(40), stall_timeout: seconds(600), ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let large = frame(BINARY, &vec![0; 700_000]);
    world.send(&desktop, &[&large[..], &large].concat());
    world.send(&desktop, &frame(TEXT, b"1"));
    assert!(world.unread(&desktop) > 0, "it is held");
    world.pass(seconds(39));
    assert_eq!(world.relay.sessions(), 1);
    world.pass(seconds(2));
    assert_eq!(world.relay.sessions(), 0, "what is held back is no activity");
}

#[test]
fn a_client_that_came_back_in_time_finds_its_session_though_the_relay_got_to_it_late() {
    let mut world = World::quiet();
    let mobile = world.join(Mobile, "a");
    world.close_tcp(&mobile);
    world.stand_still(seconds(400));
    // It waits at the listener, and has sent its request.
    world.turn();
    let back = world.accept();
    world.arrive(&back, &upgrade(Mobile, "a"));
    world.turn_told_in_part();
    world.turn();
    assert_eq!(world.relay.sessions(), 1);
    world.tell_all();
    world.run_until_idle();
    let begun = world.relay.counters().session_seconds.count();
    assert_eq!((world.relay.sessions(), begun), (1, 0), "the same session, and none has ended");
}

#[test]
fn a_message_more_of_which_lay_in_the_kernel_than_a_turn_reads_is_not_late() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    let message = frame(BINARY, &vec![0; 2_000_000]);
    world.send(&desktop, &message[..100]);
    world.arrive(&desktop, &message[100..]);
    world.stand_still(seconds(400));
    wake_up(&mut world);
    world.tell_all();
    world.run_until_idle();
    assert!(world.take(&mobile).iter().any(|received| matches!(received, Received::Binary(_))));
    assert!(!world.is_gone(&desktop));
}

#[test]
fn what_a_client_that_takes_nothing_had_sent_is_forwarded_before_it_is_cut_off() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "1");
    world.arrive(&mobile, &frame(TEXT, b"2"));
    world.stand_still(seconds(70));
    wake_up(&mut world);
    world.tell_all();
    world.run_until_idle();
    assert!(world.take(&desktop).contains(&text("2")));
    assert!(world.is_gone(&mobile));
}

#[test]
fn a_client_whose_message_stood_still_is_gone_30_s_later_whatever_it_sends() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    // The first of several fragments.
    world.send(&desktop, &frame(BINARY_BEGINS, &[0; 50]));
    for _ in 0..6 {
        world.pass(seconds(10));
        world.send(&desktop, &frame(PONG, b""));
        world.send(&mobile, &frame(PONG, b""));
    }
    let closed = Received::Close(1001, "Message did not arrive in time".to_owned());
    assert_eq!(world.take(&desktop).last(), Some(&closed));
    let pongs = 2 * LATE_LINGER_TIME_MAX.as_secs();
    for _ in 1..pongs {
        world.pass(seconds(1) / 2);
        world.send(&desktop, &frame(PONG, b""));
    }
    assert!(!world.is_gone(&desktop), "it has its time to read why");
    world.pass(seconds(1) / 2);
    assert!(world.is_gone(&desktop));
}

#[test]
fn a_ping_makes_nobody_poll_twice() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    world.stand_still(seconds(30));
    world.turn();
    assert_eq!(world.take(&desktop), [Received::Ping]);
    assert!(!world.relay.has_work());
}
