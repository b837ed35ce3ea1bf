//! What the relay counts, and measures, of what it does.

use std::time::Duration;

use super::world::{World, upgrade};
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::RefusalReason;
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::sessions::{SessionState, Traffic};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{CLOSE, PONG, close_payload, frame};
use crate::relay::wire::message::ClientError;

/// The count under one name, of those in the order of `all`.
fn named<K: PartialEq>(counts: &[u64], all: &[K], kind: &K) -> u64 {
    let place = all.iter().position(|other| other == kind).expect("one of all");
    counts[place]
}

#[test]
fn messages_are_counted_by_their_sender_when_they_are_accepted_and_when_they_are_delivered() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "[1]");
    world.send_text(&desktop, "[22]");
    world.send_text(&mobile, "3");
    let counters = world.relay.counters();
    assert_eq!((counters.messages_accepted.counts(), counters.bytes_accepted.counts()), ([2, 1], [7, 1]));
    assert_eq!(
        (counters.messages_delivered.counts(), counters.messages_undelivered.counts()),
        ([0, 1], [0, 0])
    );
    assert_eq!((counters.message_bytes.count(), counters.message_bytes.sum()), (3, 8));
    // A frame has two bytes before its payload.
    world.set_room(&mobile, 5);
    assert_eq!(world.relay.counters().messages_delivered, [1, 1]);
    world.close_tcp(&mobile);
    let counters = world.relay.counters();
    assert_eq!(
        (counters.messages_delivered.counts(), counters.messages_undelivered.counts()),
        ([1, 1], [1, 0])
    );
    assert_eq!(named(&counters.errors_sent, &ClientError::CODES, &"undelivered"), 1);
}

#[test]
fn message_that_waits_for_a_replaced_client_is_delivered_once() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "[1]");
    world.join(Mobile, "a");
    let counters = world.relay.counters();
    assert_eq!(
        (counters.messages_delivered.counts(), counters.messages_undelivered.counts()),
        ([1, 0], [0, 0])
    );
    assert_eq!(named(&counters.connections_ended, &EndReason::ALL, &EndReason::Replaced), 1);
}

#[test]
fn time_in_the_relay_is_from_the_turn_that_read_a_message_to_the_end_of_the_one_that_wrote_it() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "[1]");
    world.pass(Duration::from_millis(300));
    world.open_room(&mobile, usize::MAX);
    world.relay.handle_turn(world.now());
    world.relay.handle_turn_end(world.now().micros + 70);
    let counters = world.relay.counters();
    assert_eq!((counters.relay_micros.count(), counters.relay_micros.sum()), (1, 300_070));
    assert_eq!((counters.turn_micros.count(), counters.turn_micros.sum()), (1, 70));
}

#[test]
fn round_trip_is_that_of_the_relays_own_ping_and_of_no_other_pong() {
    let settings = Settings { ping_interval: Duration::from_secs(30), ..Settings::default() };
    let mut world = World::with(settings);
    let desktop = world.join(Desktop, "a");
    let pong = frame(PONG, b"");
    world.send(&desktop, &pong);
    assert_eq!(world.relay.counters().ping_millis.count(), 0, "nobody has asked");
    world.pass(Duration::from_secs(30));
    world.pass(Duration::from_millis(80));
    world.send(&desktop, &pong);
    world.send(&desktop, &pong);
    let millis = world.relay.counters().ping_millis;
    assert_eq!((millis.count(), millis.sum()), (1, 80));
}

#[test]
fn ends_and_refusals_are_counted_by_their_reasons() {
    let mut world = World::quiet();
    let client = world.connect();
    world.ask(&client, b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n");
    let stranger = world.connect();
    world.ask(&stranger, b"GET /nowhere HTTP/1.1\r\nHost: relay\r\n\r\n");
    let desktop = world.join(Desktop, "a");
    world.send(&desktop, &frame(CLOSE, &close_payload(1000, "")));
    let lost = world.join(Desktop, "b");
    world.reset(&lost);
    let counters = world.relay.counters();
    let ended = |reason| named(&counters.connections_ended, &EndReason::ALL, &reason);
    for reason in [EndReason::Answered, EndReason::Refused, EndReason::ClientClosed, EndReason::Lost] {
        assert_eq!(ended(reason), 1, "{reason:?}");
    }
    assert_eq!(counters.connections_ended.iter().sum::<u64>(), 4);
    assert_eq!(named(&counters.requests_refused, &RefusalReason::ALL, &RefusalReason::NotFound), 1);
    assert_eq!(counters.joins, [2, 0]);
}

#[test]
fn sessions_are_counted_by_how_many_clients_they_have_and_measured_when_they_end() {
    let (reconnect_window, ping_interval) = (Duration::from_secs(60), Duration::from_secs(3600));
    let settings = Settings { reconnect_window, ping_interval, ..Settings::default() };
    let mut world = World::with(settings);
    let sessions = |world: &World, state| named(&world.relay.census().sessions, &SessionState::ALL, &state);
    let (desktop, mobile) = world.pair("a");
    world.join(Desktop, "b");
    assert_eq!((sessions(&world, SessionState::Paired), sessions(&world, SessionState::Waiting)), (1, 1));
    assert_eq!(world.relay.census().clients, [2, 1]);
    world.pass(Duration::from_secs(10));
    world.close_tcp(&desktop);
    assert_eq!((sessions(&world, SessionState::Paired), sessions(&world, SessionState::Waiting)), (0, 2));
    world.close_tcp(&mobile);
    assert_eq!((sessions(&world, SessionState::Empty), sessions(&world, SessionState::Waiting)), (1, 1));
    world.pass(Duration::from_secs(60));
    assert_eq!(sessions(&world, SessionState::Empty), 0);
    let seconds = world.relay.counters().session_seconds;
    assert_eq!((seconds.count(), seconds.sum()), (1, 70));
}

#[test]
fn session_report_is_of_clients_that_left_as_well_and_shows_four_characters_of_its_id() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("abcdefgh");
    world.send_text(&desktop, "[1]");
    world.close_tcp(&desktop);
    world.pass(Duration::from_secs(5));
    let again = world.connect();
    world.send(&again, &upgrade(Desktop, "abcdefgh"));
    world.set_room(&mobile, 0);
    world.send_text(&again, "[22]");
    world.send_text(&mobile, "3");
    let (reports, next) = world.relay.report_sessions(0, 10);
    assert_eq!(next, None);
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.id_start.as_str(), report.age_seconds), ("abcd", 5));
    assert_eq!((report.has_desktop, report.has_mobile), (true, true));
    assert_eq!(report.traffic, Traffic { messages: 3, bytes: 8 });
    assert_eq!(report.waiting_bytes, 6, "a frame of four bytes and its header");
}

#[test]
fn session_report_shows_at_most_half_of_a_session_id() {
    for (id, shown) in
        [("a", ""), ("ab", "a"), ("abc", "a"), ("abcd", "ab"), ("abcdefg", "abc"), ("abcdefgh-ijkl", "abcd")]
    {
        let mut world = World::quiet();
        world.join(Desktop, id);
        assert_eq!(world.relay.report_sessions(0, 10).0[0].id_start, shown, "{id}");
    }
}

#[test]
fn pages_of_session_reports_together_are_all_sessions_once() {
    let mut world = World::quiet();
    for index in 0..25 {
        world.join(Desktop, &format!("s{index:03}-end"));
    }
    let (mut ids, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let (reports, next) = world.relay.report_sessions(place, 10);
        assert!(reports.len() <= 10);
        ids.extend(reports.into_iter().map(|report| report.id_start));
        from = next;
    }
    let expected: Vec<_> = (0..25).map(|index| format!("s{index:03}")).collect();
    assert_eq!(ids, expected);
}
