//! A shutdown: who is closed when, and what works until then.

use std::time::Duration;

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::core::drain_plan::Shutdown;
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::{DRAIN_INTERVAL_MAX, DRAIN_SPREAD_PERCENT};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{CLOSE, PING, close_payload, frame};

const MS: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_secs(10);

fn going_away() -> Received {
    Received::Close(1001, "Relay shutting down".to_owned())
}

/// So many pairs, in the order in which they came.
fn pairs(world: &mut World, count: usize) -> Vec<(Client, Client)> {
    (0..count).map(|index| world.pair(&format!("s{index}"))).collect()
}

/// Begins a shutdown, and lets the relay do what is due at once.
fn shut_down(world: &mut World, grace: Duration) -> Option<Shutdown> {
    let shutdown = world.relay.handle_shutdown(grace, world.now());
    world.run_until_idle();
    shutdown
}

/// Which pairs have been closed since the last call: both clients, or neither.
fn closed(world: &World, pairs: &[(Client, Client)]) -> Vec<usize> {
    let is_closed = |(desktop, mobile): &(Client, Client)| {
        let [desktop, mobile] = [desktop, mobile].map(|client| world.take(client));
        assert_eq!(desktop, mobile, "both at once");
        assert!(desktop.is_empty() || desktop == [going_away()], "{desktop:?}");
        !desktop.is_empty()
    };
    (0..pairs.len()).filter(|&index| is_closed(&pairs[index])).collect()
}

/// The client answers its close and is gone.
fn answer(world: &mut World, client: &Client) {
    world.send(client, &frame(CLOSE, &close_payload(1001, "")));
    assert!(world.is_gone(client));
}

#[test]
fn a_shutdown_closes_session_after_session_and_both_clients_of_one_at_once() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 4);
    let alone = world.join(Mobile, "alone");
    let shutdown = shut_down(&mut world, GRACE);
    assert_eq!(shutdown, Some(Shutdown { sessions: 5, spread: 4 * DRAIN_INTERVAL_MAX }));
    for index in 0..pairs.len() {
        assert_eq!(closed(&world, &pairs), [index]);
        world.pass(DRAIN_INTERVAL_MAX.saturating_sub(MS));
        assert!(closed(&world, &pairs).is_empty());
        world.pass(MS);
    }
    assert_eq!(world.take(&alone), [going_away()]);
    for (desktop, mobile) in &pairs {
        answer(&mut world, desktop);
        answer(&mut world, mobile);
    }
    assert!(!world.relay.is_drained());
    answer(&mut world, &alone);
    assert!(world.relay.is_drained(), "as soon as nobody is left");
    assert_eq!(shut_down(&mut world, GRACE), None, "it shuts down already");
}

#[test]
fn the_closes_of_many_sessions_are_spread_evenly_over_three_quarters_of_the_grace() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 150);
    let shutdown = shut_down(&mut world, 100 * MS).expect("the first");
    assert_eq!(shutdown, Shutdown { sessions: 150, spread: 74 * MS });
    let mut next = 0;
    for millis in 0..DRAIN_SPREAD_PERCENT {
        let batch = closed(&world, &pairs);
        assert_eq!(batch, [next, next + 1], "two in each of 75 milliseconds, {millis}");
        next += 2;
        world.pass(MS);
    }
    assert_eq!(next, 150);
}

#[test]
fn until_it_is_closed_a_session_works_as_ever_in_a_shutdown() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 3);
    let [_, (desktop, mobile), (left, leaving)] = &pairs[..] else { unreachable!() };
    shut_down(&mut world, GRACE);
    world.send_text(desktop, "1");
    world.send(mobile, &frame(PING, b"ping"));
    assert_eq!(world.take(mobile), [text("1"), Received::Pong(b"ping".to_vec())]);
    answer(&mut world, leaving);
    world.send_text(left, "2");
    assert_eq!(
        world.take(left),
        [
            system(r#""type":"mobile_disconnected""#),
            system(r#""type":"error","error":"Mobile device not connected","code":"peer_not_connected""#),
        ]
    );
    world.pass(DRAIN_INTERVAL_MAX);
    assert_eq!([world.take(desktop), world.take(mobile)], [[going_away()], [going_away()]]);
    assert!(world.take(left).is_empty(), "it is the third, with one client or two");
    world.pass(DRAIN_INTERVAL_MAX);
    assert_eq!(world.take(left), [going_away()]);
}

#[test]
fn a_message_relayed_in_a_shutdown_comes_before_the_close() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 2);
    let (desktop, mobile) = &pairs[1];
    world.set_room(mobile, 0);
    shut_down(&mut world, GRACE);
    world.send_text(desktop, "1");
    world.pass(DRAIN_INTERVAL_MAX.saturating_sub(MS));
    world.send_text(desktop, "2");
    world.pass(MS);
    assert_eq!(world.take(desktop), [going_away()]);
    world.send_text(desktop, "3");
    world.pass(GRACE / 2);
    world.set_room(mobile, usize::MAX);
    assert_eq!(world.take(mobile), [text("1"), text("2"), going_away()]);
}

#[test]
fn nobody_joins_during_a_shutdown_even_an_existing_session() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 2);
    let asking = world.connect();
    shut_down(&mut world, GRACE);
    world.send(&asking, &upgrade(Desktop, "s1"));
    let newcomer = world.connect();
    world.send(&newcomer, &upgrade(Desktop, "s1"));
    for client in [&asking, &newcomer] {
        let received = world.take(client);
        assert!(
            matches!(&received[..], [Received::Head(head), Received::End] if head.starts_with("HTTP/1.1 503 "))
        );
    }
    assert!(!world.relay.can_accept());
    assert_eq!(closed(&world, &pairs), [0], "and the others notice nothing");
}

#[test]
fn an_empty_session_does_not_wait_for_its_close() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 3);
    let (desktop, mobile) = &pairs[0];
    answer(&mut world, desktop);
    answer(&mut world, mobile);
    let shutdown = shut_down(&mut world, GRACE);
    assert_eq!(shutdown, Some(Shutdown { sessions: 2, spread: DRAIN_INTERVAL_MAX }));
    assert_eq!(closed(&world, &pairs[1..]), [0]);
    assert_eq!(world.relay.sessions(), 1);
    let (desktop, mobile) = &pairs[2];
    answer(&mut world, desktop);
    answer(&mut world, mobile);
    assert_eq!(world.relay.sessions(), 0, "it ends with its last client");
    let (desktop, mobile) = &pairs[1];
    answer(&mut world, desktop);
    answer(&mut world, mobile);
    assert!(world.relay.is_drained());
}

#[test]
fn a_session_that_times_out_before_it_is_due_is_closed_for_that() {
    let settings = Settings { session_timeout: 5 * MS, ..Settings::default() };
    let mut world = World::with(settings);
    let pairs = pairs(&mut world, 3);
    shut_down(&mut world, GRACE);
    world.pass(2 * DRAIN_INTERVAL_MAX);
    assert_eq!(world.take(&pairs[0].0), [going_away()]);
    let timed_out = Received::Close(1000, "Session timeout".to_owned());
    for (desktop, mobile) in &pairs[1..] {
        assert_eq!([world.take(desktop), world.take(mobile)], [[timed_out.clone()], [timed_out.clone()]]);
    }
}

#[test]
fn sessions_overdue_after_a_standstill_are_closed_at_once() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 5);
    shut_down(&mut world, GRACE);
    assert_eq!(closed(&world, &pairs), [0]);
    world.freeze(3 * DRAIN_INTERVAL_MAX);
    assert_eq!(closed(&world, &pairs), [1, 2, 3]);
    world.pass(DRAIN_INTERVAL_MAX);
    assert_eq!(closed(&world, &pairs), [4]);
}

#[test]
fn shutdown_ends_with_its_grace_even_if_sessions_are_left() {
    for (grace, frozen) in
        [(GRACE, GRACE), (Duration::ZERO, Duration::ZERO), (MS, MS), (Duration::ZERO, GRACE)]
    {
        let mut world = World::quiet();
        let pairs = pairs(&mut world, 5);
        let shutdown = shut_down(&mut world, grace).expect("the first");
        assert!(shutdown.spread <= grace * DRAIN_SPREAD_PERCENT / 100);
        world.freeze(frozen);
        assert!(world.relay.is_drained());
        assert!(pairs.iter().all(|(desktop, mobile)| world.is_gone(desktop) && world.is_gone(mobile)));
        assert_eq!((world.relay.sessions(), world.relay.buffered_bytes()), (0, 0));
    }
}

#[test]
fn a_grace_of_a_millisecond_closes_everybody_at_once() {
    let mut world = World::quiet();
    let pairs = pairs(&mut world, 5);
    shut_down(&mut world, MS);
    assert_eq!(closed(&world, &pairs), [0, 1, 2, 3, 4]);
}
