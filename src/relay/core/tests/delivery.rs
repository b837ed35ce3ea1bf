//! Confirmation and redelivery: a message stays until its receiver has confirmed it.

use std::time::Duration;

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::CONFIRM_DELAY;
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{
    BINARY, BINARY_BEGINS, CLOSE, ENDS, PONG, RSV1, TEXT, close_payload, frame,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What ends a client or its connection.
type End = fn(&mut World, &Client);

const ENDINGS: [End; 5] = [
    |world, client| world.send(client, &frame(CLOSE, &close_payload(1000, ""))),
    World::close_tcp,
    World::reset,
    |world, client| world.send(client, &frame(TEXT | RSV1, b"{}")),
    |world, client| {
        world.set_room(client, 0);
        world.pass(3 * MINUTE);
    },
];

fn keeping() -> World {
    World::keeping(Settings::default(), [3, 5])
}

/// A world in which nobody is pinged for silence.
fn patient(settings: Settings) -> World {
    World::keeping(Settings { ping_interval: 1_000 * MINUTE, ..settings }, [3, 5])
}

fn asked(number: u32) -> Received {
    Received::Asked(number.to_string())
}

fn pong(world: &mut World, client: &Client, number: u32) {
    world.send(client, &frame(PONG, number.to_string().as_bytes()));
}

fn undelivered(count: usize) -> Received {
    let sentence = match count {
        1 => "1 message was not delivered: its receiver disconnected".to_owned(),
        _ => format!("{count} messages were not delivered: their receiver disconnected"),
    };
    system(&format!(r#""type":"error","error":"{sentence}","code":"undelivered","count":{count}"#))
}

fn missing(is_kept: bool) -> Received {
    let kept = if is_kept { r#","kept":true"# } else { "" };
    system(&format!(
        r#""type":"error","error":"Mobile device not connected","code":"peer_not_connected"{kept}"#
    ))
}

fn delivered(count: usize) -> Received {
    system(&format!(r#""type":"delivered","count":{count}"#))
}

/// The mobile comes back. What it gets after its greeting.
fn come_back(world: &mut World) -> (Client, Vec<Received>) {
    let mobile = world.connect();
    world.send(&mobile, &upgrade(Mobile, "a"));
    let received = world.take(&mobile);
    let messages = received.into_iter().skip(2).filter(|one| !matches!(one, Received::Asked(_)));
    let is_presence = |one: &Received| *one == system(r#""type":"desktop_connected""#);
    let messages = messages.filter(|one| !is_presence(one)).collect();
    (mobile, messages)
}

#[test]
fn client_is_asked_once_for_all_that_it_was_sent_and_its_pong_confirms_that() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")]);
    world.pass(Duration::from_millis(199));
    world.send_text(&desktop, "2");
    assert_eq!(world.take(&mobile), [text("2")]);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.take(&mobile), [asked(1)]);
    world.send_text(&desktop, "3");
    world.pass(SECOND);
    assert_eq!(world.take(&mobile), [text("3")], "one ping is outstanding");
    pong(&mut world, &mobile, 1);
    assert_eq!(world.relay.counters().messages_confirmed, [2, 0]);
    assert_eq!(world.take(&mobile), [asked(2)], "the third message waits for longer than the delay");
    pong(&mut world, &mobile, 2);
    assert_eq!(world.relay.counters().messages_confirmed, [3, 0]);
    assert_eq!(world.relay.counters().confirm_millis.count(), 3);
    assert_eq!(world.relay.buffered_bytes(), 0);
    world.expect_empty_in_the_end();
}

#[test]
fn client_is_asked_at_once_behind_a_message_of_more_than_128_kib() {
    for (bytes, is_asked) in [(128 * KIB, false), (128 * KIB + 1, true), (5 * MIB, true)] {
        let mut world = keeping();
        let (desktop, mobile) = world.pair("a");
        world.send(&desktop, &frame(BINARY, &vec![7; bytes]));
        let received = world.take(&mobile);
        assert_eq!(received.first(), Some(&Received::Binary(vec![7; bytes])));
        assert_eq!(received.get(1), is_asked.then(|| asked(1)).as_ref(), "{bytes}");
    }
}

#[test]
fn only_the_pong_of_the_outstanding_ping_confirms() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    for payload in ["1", "", "0", "01", "1 ", "2", "x"] {
        world.send(&mobile, &frame(PONG, payload.as_bytes()));
    }
    world.send_text(&desktop, "1");
    world.pass(CONFIRM_DELAY);
    assert_eq!(world.take(&mobile), [text("1"), asked(1)]);
    for payload in ["", "0", "01", "1 ", "+1", "2", "x"] {
        world.send(&mobile, &frame(PONG, payload.as_bytes()));
    }
    assert_eq!(world.relay.counters().messages_confirmed, [0, 0]);
    pong(&mut world, &mobile, 1);
    pong(&mut world, &mobile, 1);
    assert_eq!(world.relay.counters().messages_confirmed, [1, 0]);
}

#[test]
fn silent_client_is_pinged_with_the_number_that_it_owes() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    world.pass(Duration::from_secs(29));
    world.send(&mobile, &frame(PONG, b""));
    world.send_text(&desktop, "1");
    world.pass(Duration::from_secs(31));
    assert_eq!(world.take(&mobile), [text("1"), asked(1), asked(1)]);
    pong(&mut world, &mobile, 1);
    assert_eq!(world.relay.counters().messages_confirmed, [1, 0]);
    world.take_and_confirm(&desktop);
    world.pass(Duration::from_secs(29));
    world.take_and_confirm(&desktop);
    world.pass(2 * SECOND);
    assert_eq!(world.take(&mobile), [Received::Ping], "nothing is unconfirmed");
}

#[test]
fn what_is_not_confirmed_comes_again_however_the_connection_ends() {
    for (index, end) in ENDINGS.into_iter().enumerate() {
        let mut world = patient(Settings::default());
        let (desktop, mobile) = world.pair("a");
        world.send_text(&desktop, "1");
        world.pass(CONFIRM_DELAY);
        pong(&mut world, &mobile, 1);
        world.send_text(&desktop, "2");
        world.send(&desktop, &frame(BINARY, &vec![7; 100 * KIB]));
        world.send_text(&desktop, "3");
        end(&mut world, &mobile);
        let told = world.take(&desktop);
        let gone = system(r#""type":"mobile_disconnected""#);
        assert!(told.iter().all(|one| *one == gone || *one == Received::Ping), "{index}: {told:?}");
        world.send_text(&desktop, "4");
        assert_eq!(world.take_and_confirm(&desktop), [missing(true)], "{index}");
        let (mobile, again) = come_back(&mut world);
        assert_eq!(again, [text("2"), Received::Binary(vec![7; 100 * KIB]), text("3"), text("4")], "{index}");
        world.send_text(&desktop, "5");
        assert_eq!(world.take(&mobile), [text("5")]);
        world.pass(SECOND);
        world.take_and_confirm(&mobile);
        let counters = world.relay.counters();
        assert_eq!(counters.messages_delivered, [6, 0], "{index}");
        assert_eq!(counters.messages_undelivered, [0, 0], "{index}");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn what_waits_for_a_replaced_client_comes_again_with_what_it_did_not_confirm() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    world.send_text(&desktop, "1");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "2");
    world.send(&desktop, &frame(BINARY, &vec![7; 3 * MIB]));
    let (_, again) = come_back(&mut world);
    assert_eq!(again, [text("1"), text("2"), Received::Binary(vec![7; 3 * MIB])]);
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    world.expect_empty_in_the_end();
}

#[test]
fn client_that_replaces_another_gets_no_more_than_one_that_comes_back() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    for number in 0..18 {
        world.send(&desktop, &frame(BINARY, &vec![number; MIB]));
        world.take(&mobile);
    }
    let (_, again) = come_back(&mut world);
    let expected: Vec<Received> = (2..18).map(|number| Received::Binary(vec![number; MIB])).collect();
    assert!(again == expected, "the last 16 MiB, in order");
    assert_eq!(world.take(&desktop), [undelivered(2), system(r#""type":"mobile_connected""#)]);
    world.expect_empty_in_the_end();
}

#[test]
fn message_that_was_written_on_three_connections_is_given_up_and_one_that_was_begun_is_not() {
    let mut world = keeping();
    let (desktop, mut mobile) = world.pair("a");
    world.send_text(&desktop, "1");
    let long = frame(BINARY, &vec![7; 2 * MIB]);
    world.set_room(&mobile, MIB);
    world.queue(&desktop, &long);
    world.run_until_idle();
    for _ in 0..2 {
        world.reset(&mobile);
        mobile = world.connect();
        world.set_room(&mobile, MIB);
        world.send(&mobile, &upgrade(Mobile, "a"));
        assert!(world.unparsed(&mobile) > MIB / 2);
    }
    world.take(&desktop);
    world.reset(&mobile);
    assert_eq!(world.take(&desktop), [undelivered(1), system(r#""type":"mobile_disconnected""#)]);
    let (mobile, again) = come_back(&mut world);
    assert_eq!(again, [Received::Binary(vec![7; 2 * MIB])], "it was never written in full");
    world.take_and_confirm(&mobile);
    world.expect_empty_in_the_end();
}

#[test]
fn nothing_is_kept_where_nobody_is_expected() {
    let mut world = patient(Settings { session_timeout: 1_000 * MINUTE, ..Settings::default() });
    let desktop = world.join(Desktop, "a");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&desktop), [missing(false)]);
    let mobile = world.join(Mobile, "a");
    world.reset(&mobile);
    world.pass(Duration::from_millis(30 * 60_000 - 1));
    world.take_and_confirm(&desktop);
    world.send_text(&desktop, "2");
    assert_eq!(world.take(&desktop), [missing(true)]);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.take(&desktop), [undelivered(1)], "the window counts from when it left");
    world.send_text(&desktop, "3");
    assert_eq!(world.take(&desktop), [missing(false)]);
    let (_, again) = come_back(&mut world);
    assert_eq!(again, []);
    world.expect_empty_in_the_end();
}

#[test]
fn session_with_kept_messages_outlives_its_other_times_until_the_window_is_over() {
    let settings = Settings { redelivery_window: 60 * MINUTE, ..Settings::default() };
    for is_back in [true, false] {
        let mut world = World::keeping(settings.clone(), [3, 5]);
        let (desktop, mobile) = world.pair("a");
        world.reset(&mobile);
        world.send_text(&desktop, "1");
        world.reset(&desktop);
        world.pass(59 * MINUTE + 59 * SECOND);
        assert_eq!(world.relay.sessions(), 1);
        if is_back {
            assert_eq!(come_back(&mut world).1, [text("1")]);
        } else {
            world.pass(SECOND);
            assert_eq!(world.relay.sessions(), 0);
            assert_eq!(world.relay.counters().messages_given_up, [1, 0]);
            assert_eq!(come_back(&mut world).1, []);
        }
        world.expect_empty_in_the_end();
    }
}

#[test]
fn at_most_16_mib_or_one_message_is_kept_for_a_client_and_the_oldest_goes_first() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    world.reset(&mobile);
    world.take(&desktop);
    world.send_text(&desktop, "1");
    for number in 0..17 {
        world.send(&desktop, &frame(BINARY, &vec![number; MIB]));
    }
    let told = world.take(&desktop);
    assert_eq!(told.iter().filter(|one| **one == missing(true)).count(), 18);
    assert_eq!(
        told.iter().filter(|one| **one == undelivered(1)).count(),
        2,
        "the small one and the first large one"
    );
    let (mobile, again) = come_back(&mut world);
    let expected: Vec<Received> = (1..17).map(|number| Received::Binary(vec![number; MIB])).collect();
    assert!(again == expected, "the last 16 MiB, in order");
    world.reset(&mobile);
    world.take(&desktop);
    world.send(&desktop, &frame(BINARY, &vec![7; 20 * MIB]));
    let told = world.take(&desktop);
    let given_up =
        (1..=16).map(|count| count * told.iter().filter(|one| **one == undelivered(count)).count());
    assert_eq!((&told[0], given_up.sum()), (&missing(true), 16_usize));
    assert!(come_back(&mut world).1 == [Received::Binary(vec![7; 20 * MIB])], "one message of any length");
    world.expect_empty_in_the_end();
}

#[test]
fn sender_does_not_notice_that_its_receiver_comes_and_goes_in_the_middle_of_a_message() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    let parts: Vec<Vec<u8>> = (0..6).map(|number| vec![number; MIB]).collect();
    world.send(&desktop, &frame(BINARY_BEGINS, &parts[0]));
    world.send(&desktop, &frame(0, &parts[1]));
    assert!(world.unparsed(&mobile) > MIB);
    world.reset(&mobile);
    world.send(&desktop, &frame(0, &parts[2]));
    let back = world.connect();
    world.send(&back, &upgrade(Mobile, "a"));
    assert!(world.unparsed(&back) > 3 * MIB, "from the start");
    world.send(&desktop, &frame(0, &parts[3]));
    world.reset(&back);
    world.send(&desktop, &frame(0, &parts[4]));
    world.send(&desktop, &frame(ENDS, &parts[5]));
    assert!(come_back(&mut world).1 == [Received::Binary(parts.concat())]);
    let told = world.take(&desktop);
    assert!(
        told.iter().all(|one| !matches!(one, Received::Text(text) if text.contains("error"))),
        "{told:?}"
    );
    world.expect_empty_in_the_end();
}

#[test]
fn message_that_is_cut_short_is_not_kept() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    world.reset(&mobile);
    world.send(&desktop, &frame(BINARY_BEGINS, &vec![7; 2 * MIB]));
    assert_eq!(world.relay.counters().messages_accepted, [1, 0]);
    world.reset(&desktop);
    assert_eq!(world.relay.counters().messages_cut_short, [1, 0]);
    assert_eq!(come_back(&mut world).1, []);
    world.expect_empty_in_the_end();
}

#[test]
fn claim_discards_what_was_kept_and_tells_its_senders() {
    let secret = "correct horse battery staple";
    let claim = |client_type: &str| {
        format!(
            "GET /{client_type}/a?secret={} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            secret.replace(' ', "%20")
        )
    };
    for is_away in [true, false] {
        let mut world = keeping();
        let (desktop, mobile) = world.pair("a");
        if is_away {
            world.reset(&mobile);
        }
        world.send_text(&desktop, "1");
        world.send_text(&desktop, "2");
        world.take(&desktop);
        let owner = world.connect();
        world.send(&owner, claim("mobile").as_bytes());
        let told = world.take(&desktop);
        assert_eq!(told[0], undelivered(2), "{is_away}");
        assert_eq!(told.iter().filter(|one| matches!(one, Received::Close(1008, _))).count(), 1);
        assert_eq!(world.take(&owner).len(), 2, "only its greeting");
        world.reset(&owner);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn client_that_answers_no_pings_gets_its_messages_once() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    world.send_text(&desktop, "1");
    world.pass(CONFIRM_DELAY);
    for _ in 0..3 {
        world.pass(Duration::from_secs(20) - Duration::from_millis(1));
        assert_eq!(world.relay.counters().messages_delivered.counts()[0], 0);
        world.send_text(&mobile, "{}");
        world.take_and_confirm(&desktop);
    }
    world.pass(Duration::from_millis(3));
    assert_eq!(world.relay.counters().messages_delivered.counts()[0], 1, "for two ping intervals");
    world.send_text(&desktop, "2");
    assert_eq!(world.relay.counters().messages_delivered.counts()[0], 2);
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "3");
    world.reset(&mobile);
    assert_eq!(come_back(&mut world).1, [text("3")], "what was not written is kept for it as for any other");
    assert_eq!(world.relay.counters().messages_confirmed.counts()[0], 0);
}

#[test]
fn sender_that_asks_for_receipts_is_told_how_many_were_delivered() {
    let mut world = keeping();
    let mobile = world.join(Mobile, "a");
    let desktop = world.connect();
    let request = String::from_utf8(upgrade(Desktop, "a")).unwrap().replace("/a ", "/a?receipts=1 ");
    world.send(&desktop, request.as_bytes());
    world.take(&desktop);
    world.send_text(&desktop, "1");
    world.send_text(&desktop, "2");
    world.pass(CONFIRM_DELAY);
    world.take_and_confirm(&mobile);
    assert_eq!(world.take(&desktop), [delivered(2)]);
    world.send_text(&mobile, "{}");
    world.pass(CONFIRM_DELAY);
    world.take_and_confirm(&desktop);
    assert_eq!(world.take(&mobile), [], "it did not ask");
    world.reset(&mobile);
    world.send_text(&desktop, "3");
    world.take(&desktop);
    let (mobile, _) = come_back(&mut world);
    world.pass(CONFIRM_DELAY);
    world.take_and_confirm(&mobile);
    assert!(world.take(&desktop).contains(&delivered(1)));
}

#[test]
fn shutdown_keeps_nothing_and_tells_the_senders() {
    let mut world = keeping();
    let (desktop, mobile) = world.pair("a");
    let (other_desktop, other_mobile) = world.pair("b");
    world.reset(&mobile);
    world.send_text(&desktop, "1");
    world.send_text(&other_desktop, "2");
    world.take(&desktop);
    world.take(&other_mobile);
    let now = world.now();
    world.relay.handle_shutdown(10 * SECOND, now);
    world.pass(SECOND);
    let told = world.take(&desktop);
    assert_eq!(told[0], undelivered(1));
    assert!(matches!(told[1], Received::Close(1001, _)), "{told:?}");
    assert_eq!(world.relay.counters().messages_delivered.counts()[0], 1, "what was written");
    assert!(matches!(world.take(&other_mobile)[..], [Received::Close(1001, _)]));
    world.expect_empty_in_the_end();
}

#[test]
fn kept_messages_give_way_to_messages_in_transit_and_the_client_gone_longest_loses_first() {
    let settings = Settings { max_buffered: 8 * MIB, ..Settings::default() };
    let mut world = World::keeping(settings, [3, 5]);
    let pairs: Vec<(Client, Client)> = ["a", "b", "c", "d"].map(|session| world.pair(session)).into();
    for (desktop, mobile) in &pairs[..3] {
        world.reset(mobile);
        world.send(desktop, &frame(BINARY, &vec![7; 2 * MIB]));
        world.take(desktop);
        world.pass(SECOND);
    }
    let (desktop, mobile) = &pairs[3];
    world.send(desktop, &frame(BINARY, &vec![7; 2 * MIB]));
    assert_eq!(world.take(mobile).len(), 2, "the message, and a ping");
    let given_up =
        |world: &World| pairs[..3].iter().map(|(desktop, _)| world.take(desktop).len()).collect::<Vec<_>>();
    assert_eq!(given_up(&world), [1, 0, 0], "the first one that left");
    world.expect_empty_in_the_end();
}

#[test]
fn unconfirmed_messages_give_way_first_and_count_as_delivered() {
    let settings = Settings { max_buffered: 4 * MIB, ..Settings::default() };
    let mut world = World::keeping(settings, [3, 5]);
    let (desktop, mobile) = world.pair("a");
    for number in 0..10 {
        world.send(&desktop, &frame(BINARY, &vec![number; MIB]));
        world.take(&mobile);
    }
    let counters = world.relay.counters();
    assert!(counters.messages_delivered.counts()[0] >= 6, "{:?}", counters.messages_delivered);
    assert_eq!(
        (counters.messages_undelivered.counts(), counters.messages_confirmed.counts()),
        ([0; 2], [0; 2])
    );
    world.reset(&mobile);
    let (_, again) = come_back(&mut world);
    assert_eq!(again.last(), Some(&Received::Binary(vec![9; MIB])));
    world.expect_empty_in_the_end();
}

#[test]
fn without_a_window_nothing_is_asked_or_kept() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.send(&desktop, &frame(BINARY, &vec![7; MIB]));
    world.pass(SECOND);
    assert_eq!(world.take(&mobile), [Received::Binary(vec![7; MIB])]);
    assert_eq!(world.relay.counters().messages_delivered.counts()[0], 1);
    world.reset(&mobile);
    world.take(&desktop);
    world.send_text(&desktop, "2");
    assert_eq!(world.take(&desktop), [missing(false)]);
    assert_eq!(come_back(&mut world).1, []);
}
