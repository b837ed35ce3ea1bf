//! Messages that begin to leave while they still arrive.

use std::time::Duration;

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::HIGH_WATER_BYTES;
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{
    BINARY, BINARY_BEGINS, CLOSE, CONTINUES, ENDS, FINAL, PING, PONG, TEXT, TEXT_BEGINS, close_payload, frame,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SECOND: Duration = Duration::from_secs(1);

/// What ends a client or its connection.
type End = fn(&mut World, &Client);

fn binary(bytes: usize) -> Vec<u8> {
    frame(BINARY, &vec![7; bytes])
}

fn received(bytes: usize) -> Received {
    Received::Binary(vec![7; bytes])
}

fn cut_short() -> Received {
    Received::Close(1011, "Message cut short".to_owned())
}

fn disconnected(side: &str) -> Received {
    system(&format!(r#""type":"{side}_disconnected""#))
}

/// A JSON text of so many bytes.
fn json(bytes: usize) -> Vec<u8> {
    [b"\"", &vec![b'x'; bytes - 2][..], b"\""].concat()
}

/// A pair whose desktop is in the middle of a message of 4 MiB, of which the mobile has a part.
fn streaming_pair(world: &mut World) -> (Client, Client, Vec<u8>) {
    streaming_pair_with(world, &json(4 * MIB))
}

/// The same with this text, of which 2 MiB are sent.
fn streaming_pair_with(world: &mut World, payload: &[u8]) -> (Client, Client, Vec<u8>) {
    let (desktop, mobile) = world.pair("a");
    let mut message = frame(TEXT, payload);
    let rest = message.split_off(2 * MIB);
    world.send(&desktop, &message);
    assert!(world.unparsed(&mobile) > MIB, "it has begun to leave");
    (desktop, mobile, rest)
}

#[test]
fn message_of_up_to_one_mib_leaves_once_it_is_whole_and_a_longer_one_once_its_first_mib_is_there() {
    for (bytes, leaves_at) in [(MIB, MIB), (MIB + 1, MIB), (5 * MIB, MIB), (100 * KIB, 100 * KIB)] {
        for is_fragmented in [false, true] {
            let mut world = World::quiet();
            let (desktop, mobile) = world.pair("a");
            let payload = vec![7; bytes];
            let message = if is_fragmented {
                let (first, last) = payload.split_at(bytes / 3);
                [frame(BINARY_BEGINS, first), frame(ENDS, last)].concat()
            } else {
                frame(BINARY, &payload)
            };
            // That of the second frame comes only behind the first.
            let headers = if is_fragmented && leaves_at <= bytes / 3 { 14 } else { message.len() - bytes };
            let (held, rest) = message.split_at(headers + leaves_at - 1);
            world.send(&desktop, held);
            assert_eq!(world.unparsed(&mobile), 0, "{bytes}");
            world.send(&desktop, &rest[..1]);
            assert!(world.unparsed(&mobile) >= leaves_at, "{bytes}");
            world.send(&desktop, &rest[1..]);
            assert_eq!(world.take(&mobile), [received(bytes)]);
            world.expect_empty_in_the_end();
        }
    }
}

#[test]
fn message_far_longer_than_the_budget_passes() {
    let settings = Settings { max_buffered: 8 * MIB, ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    world.queue(&desktop, &frame(TEXT, &json(50 * MIB)));
    let mut most = 0;
    while world.unread(&desktop) > 0 {
        world.turn();
        most = most.max(world.relay.buffered_bytes());
    }
    world.run_until_idle();
    assert!(most <= 2 * MIB, "{most}");
    let Received::Text(got) = &world.take(&mobile)[0] else { panic!("a text") };
    assert!(got.as_bytes() == json(50 * MIB));
    world.expect_empty_in_the_end();
}

#[test]
fn sender_is_held_back_while_more_than_the_high_water_mark_waits_and_goes_on_below_half() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &binary(5 * MIB));
    let read = 5 * MIB - world.unread(&desktop);
    assert!((MIB..=MIB + 128 * KIB).contains(&read), "{read}");
    assert!(world.relay.buffered_bytes() <= MIB + 192 * KIB);
    world.set_room(&mobile, MIB / 2 - 64 * KIB);
    assert_eq!(5 * MIB - world.unread(&desktop), read, "more than half is left");
    world.set_room(&mobile, 192 * KIB);
    assert!(5 * MIB - world.unread(&desktop) > read);
    world.set_room(&mobile, usize::MAX);
    assert_eq!(world.take(&mobile), [received(5 * MIB)]);
    world.expect_empty_in_the_end();
}

#[test]
fn sender_that_ends_in_the_middle_closes_a_receiver_that_has_a_part() {
    let ends: [(&str, End); 5] = [
        ("reset", World::reset),
        ("half-closed", World::close_tcp),
        ("protocol error", |world, desktop| world.send(desktop, &vec![0xFF; 4 * MIB])),
        ("silent", |world, _| world.pass(61 * SECOND)),
        ("replaced", |world, _| {
            world.join(Desktop, "a");
        }),
    ];
    for (name, end) in ends {
        let mut world = World::quiet();
        let (desktop, mobile, rest) = streaming_pair(&mut world);
        println!("{name}");
        if name == "protocol error" {
            // The rest of the frame, and then what is no header.
            world.send(&desktop, &rest[..rest.len() - 1]);
        }
        end(&mut world, &desktop);
        let got = world.take(&mobile);
        let got: Vec<_> = got.into_iter().filter(|one| *one != Received::Ping).collect();
        assert_eq!(got[..1], [cut_short()], "{name}");
        assert_eq!(world.relay.counters().messages_cut_short, [1, 0], "{name}");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn sender_that_ends_before_anything_left_costs_its_receiver_nothing() {
    for is_reset in [true, false] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        world.send(&desktop, &binary(30 * MIB)[..MIB]);
        assert!(world.relay.buffered_bytes() >= MIB - 64 * KIB);
        if is_reset {
            world.reset(&desktop);
        } else {
            world.close_tcp(&desktop);
        }
        assert_eq!(world.relay.buffered_bytes(), 0);
        assert_eq!(world.take(&mobile), [disconnected("desktop")]);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn receiver_that_has_had_nothing_of_a_message_cut_short_sees_nothing_of_it() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "1");
    world.send(&desktop, &binary(4 * MIB)[..MIB + 100 * KIB]);
    world.reset(&desktop);
    assert!(world.relay.buffered_bytes() < KIB);
    world.set_room(&mobile, usize::MAX);
    assert_eq!(world.take(&mobile), [text("1"), disconnected("desktop")]);
    assert_eq!(world.relay.counters().messages_cut_short, [1, 0]);
    world.expect_empty_in_the_end();
}

#[test]
fn text_that_turns_out_to_be_no_json_is_cut_short_and_its_sender_told_where_at_once() {
    for bad_at in [3 * MIB, 4 * MIB - 1] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        let mut payload = json(4 * MIB);
        payload[bad_at] = 1;
        let message = frame(TEXT, &payload);
        let (before, rest) = message.split_at(14 + bad_at + 1);
        world.send(&desktop, before);
        let got = world.take(&desktop);
        let error = format!(r#"{{"type":"error","error":"Invalid JSON at byte {bad_at}: "#);
        assert!(matches!(&got[0], Received::Text(text) if text.starts_with(&error)), "{got:?}");
        assert_eq!(got[1..], [disconnected("mobile")]);
        assert_eq!(world.take(&mobile), [cut_short()]);
        world.send(&desktop, rest);
        assert_eq!(world.take(&desktop), [], "one error for one message");
        let mobile = world.join(Mobile, "a");
        world.take(&desktop);
        world.send_text(&desktop, "1");
        assert_eq!(world.take(&mobile), [text("1")], "the sender stays");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn no_byte_of_a_text_leaves_behind_the_first_wrong_one() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    let mut payload = json(4 * MIB);
    payload[2 * MIB] = 1;
    world.send(&desktop, &frame(TEXT, &payload));
    assert!(world.payload_taken(&mobile) <= 2 * MIB);
    assert_eq!(world.take(&mobile), [cut_short()]);
}

#[test]
fn text_that_turns_out_not_to_be_utf8_or_too_long_is_cut_short_and_its_sender_closed() {
    let too_long =
        [frame(TEXT_BEGINS, &json(4 * MIB)[..2 * MIB]), frame(ENDS, &vec![b'x'; 3 * MIB])].concat();
    let mut not_utf8 = json(4 * MIB);
    not_utf8[3 * MIB] = 0xFF;
    for (message, code) in [(frame(TEXT, &not_utf8), 1007), (too_long, 1009)] {
        let settings = Settings { max_message_size: 4 * MIB, ..Settings::default() };
        let mut world = World::with(settings);
        let (desktop, mobile) = world.pair("a");
        world.send(&desktop, &message);
        assert_eq!(world.take(&mobile), [cut_short()], "{code}");
        let got = world.take(&desktop);
        assert!(got.iter().any(|one| matches!(one, Received::Close(found, _) if *found == code)), "{got:?}");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn without_a_peer_the_sender_is_told_once_the_first_mib_is_there_and_the_rest_is_skipped() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    let message = binary(8 * MIB);
    let (before, rest) = message.split_at(14 + MIB);
    world.send(&desktop, &before[..14 + MIB - 1]);
    assert_eq!(world.take(&desktop), []);
    world.send(&desktop, &before[14 + MIB - 1..]);
    let error = system(r#""type":"error","error":"Mobile device not connected","code":"peer_not_connected""#);
    assert_eq!((world.take(&desktop), world.relay.buffered_bytes() < KIB), (vec![error], true));
    // One that comes in the middle has nothing of it.
    let mobile = world.join(Mobile, "a");
    world.send(&desktop, &[rest, &frame(TEXT, b"1")].concat());
    assert_eq!(world.take(&mobile), [text("1")]);
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    world.expect_empty_in_the_end();
}

#[test]
fn receiver_that_leaves_in_the_middle_has_its_sender_told_and_the_rest_skipped() {
    let ends: [(&str, End); 3] = [
        ("reset", World::reset),
        ("closed", |world, mobile| world.send(mobile, &frame(CLOSE, &close_payload(1000, "")))),
        ("half-closed", World::close_tcp),
    ];
    for (name, end) in ends {
        let mut world = World::quiet();
        let (desktop, mobile, rest) = streaming_pair(&mut world);
        end(&mut world, &mobile);
        let undelivered = system(concat!(
            r#""type":"error","error":"1 message was not delivered: its receiver disconnected","#,
            r#""code":"undelivered","count":1"#
        ));
        assert_eq!(world.take(&desktop), [undelivered, disconnected("mobile")], "{name}");
        assert!(world.relay.buffered_bytes() < KIB);
        let mobile = world.join(Mobile, "a");
        world.take(&desktop);
        world.send(&desktop, &[&rest[..], &frame(TEXT, b"1")].concat());
        assert_eq!((world.take(&mobile), world.take(&desktop)), (vec![text("1")], vec![]), "{name}");
        assert_eq!(world.relay.counters().messages_undelivered, [1, 0]);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn text_whose_receiver_is_gone_is_skipped_whether_or_not_it_is_json_however_its_rest_arrives() {
    // Where it goes wrong, and how much of its rest comes first.
    let rest_at = 2 * MIB;
    for (wrong, first) in
        [(rest_at + 5, 100), (rest_at + 5, MIB), (rest_at + MIB, MIB / 2), (4 * MIB - 9, 2 * MIB - 40)]
    {
        let mut world = World::quiet();
        let mut payload = json(4 * MIB);
        payload[wrong] = 1;
        let (desktop, mobile, rest) = streaming_pair_with(&mut world, &payload);
        world.reset(&mobile);
        assert_eq!(world.take(&desktop).len(), 2, "undelivered, and a notice");
        world.send(&desktop, &rest[..first]);
        world.send(&desktop, &rest[first..]);
        assert_eq!(world.take(&desktop), [], "{wrong} {first}");
        world.send(&desktop, &frame(TEXT, b"?"));
        assert!(matches!(&world.take(&desktop)[..], [Received::Text(text)] if text.contains("invalid_json")));
        assert_eq!(world.relay.counters().messages_cut_short, [0, 0]);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn text_that_ends_too_early_behind_a_receiver_that_is_gone_is_skipped() {
    let mut world = World::quiet();
    let mut payload = json(2 * MIB + 10);
    *payload.last_mut().unwrap() = b'x';
    let (desktop, mobile, rest) = streaming_pair_with(&mut world, &payload);
    world.reset(&mobile);
    assert_eq!(world.take(&desktop).len(), 2, "undelivered, and a notice");
    world.send(&desktop, &rest);
    assert_eq!(world.take(&desktop), []);
    world.expect_empty_in_the_end();
}

#[test]
fn receiver_that_is_replaced_gets_a_message_from_its_start_if_all_of_it_is_in_memory() {
    for (bytes, is_whole) in [(900 * KIB, true), (4 * MIB, false)] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        world.set_room(&mobile, 400 * KIB);
        let message = binary(bytes);
        world.send(&desktop, &message);
        assert_eq!(world.unparsed(&mobile), 400 * KIB);
        world.set_room(&mobile, 0);
        let new = world.connect();
        world.send(&new, &upgrade(Mobile, "a"));
        world.set_room(&mobile, usize::MAX);
        let on_old = world.take(&mobile);
        assert_eq!(on_old[..1], [Received::Close(1000, "New mobile connection".to_owned())]);
        world.send_text(&desktop, "1");
        let expected = if is_whole { vec![received(bytes), text("1")] } else { vec![text("1")] };
        assert!(world.take(&new)[3..] == expected, "{bytes}");
        let told = world.take(&desktop);
        let is_told = matches!(&told[0], Received::Text(text) if text.contains("undelivered"));
        assert_eq!(is_told, !is_whole, "{told:?}");
        world.expect_empty_in_the_end();
    }
}

#[test]
fn message_whose_receiver_has_had_nothing_goes_on_at_the_connection_that_replaces_it() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &binary(4 * MIB));
    assert!(world.unread(&desktop) > 2 * MIB);
    let new = world.connect();
    world.send(&new, &upgrade(Mobile, "a"));
    assert!(world.take(&new)[3..] == [received(4 * MIB)]);
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    world.expect_empty_in_the_end();
}

#[test]
fn receiver_that_takes_nothing_is_cut_off_and_the_sender_told() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 300 * KIB);
    world.send(&desktop, &binary(4 * MIB));
    for _ in 0..7 {
        world.pass(10 * SECOND);
        world.send(&mobile, &frame(PONG, b""));
    }
    let told: Vec<_> = world.take(&desktop).into_iter().filter(|one| *one != Received::Ping).collect();
    assert!(matches!(&told[0], Received::Text(text) if text.contains(r#""count":1"#)), "{told:?}");
    assert_eq!(told[1..2], [disconnected("mobile")]);
    assert_eq!(world.unread(&desktop), 0, "the rest is skipped");
    world.expect_empty_in_the_end();
}

#[test]
fn pings_and_closes_of_the_receiver_pass_between_two_fragments_and_replies_at_the_end() {
    let mut world = World::quiet();
    let (_desktop, mobile, _) = streaming_pair(&mut world);
    world.send(&mobile, &[frame(PING, b"ping"), frame(TEXT, b"?")].concat());
    assert_eq!(world.take_controls(&mobile), [Received::Pong(b"ping".to_vec())]);

    let mut world = World::quiet();
    let (desktop, mobile, rest) = streaming_pair(&mut world);
    world.send(&mobile, &frame(TEXT, b"?"));
    world.send(&desktop, &rest);
    let got = world.take(&mobile);
    assert!(matches!(&got[0], Received::Text(text) if text.len() == 4 * MIB));
    assert!(matches!(&got[1], Received::Text(text) if text.contains("invalid_json")), "{:?}", got.len());
}

#[test]
fn notices_wait_for_the_end_of_a_message_and_come_behind_it() {
    let mut world = World::quiet();
    let (desktop, mobile, rest) = streaming_pair(&mut world);
    world.send(&desktop, &rest);
    world.reset(&desktop);
    let got = world.take(&mobile);
    assert!(matches!(&got[0], Received::Text(text) if text.len() == 4 * MIB));
    assert_eq!(got[1..], [disconnected("desktop")]);
}

#[test]
fn session_that_times_out_closes_both_with_1000_in_the_middle_of_a_message() {
    let settings = Settings {
        session_timeout: 20 * SECOND,
        stall_timeout: 3_000 * SECOND,
        message_timeout: 3_000 * SECOND,
        ..Settings::default()
    };
    let mut world = World::with(settings);
    let (desktop, mobile, _) = streaming_pair(&mut world);
    world.pass(21 * SECOND);
    let close = Received::Close(1000, "Session timeout".to_owned());
    assert_eq!(world.take(&mobile)[0], close);
    assert_eq!(world.take(&desktop)[0], close);
    world.expect_empty_in_the_end();
}

#[test]
fn message_whose_receiver_has_gone_is_measured_when_the_session_times_out() {
    let settings = Settings {
        session_timeout: 20 * SECOND,
        stall_timeout: 3_000 * SECOND,
        message_timeout: 3_000 * SECOND,
        ..Settings::default()
    };
    let mut world = World::with(settings);
    let (_desktop, mobile, _) = streaming_pair(&mut world);
    world.close_tcp(&mobile);
    world.pass(21 * SECOND);
    assert_eq!(world.relay.counters().message_bytes.count(), 1);
    world.expect_empty_in_the_end();
}

#[test]
fn bytes_of_a_message_keep_its_session_alive() {
    let settings =
        Settings { session_timeout: 20 * SECOND, message_timeout: 3_000 * SECOND, ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile, rest) = streaming_pair(&mut world);
    for piece in rest.chunks(rest.len() / 10 + 1) {
        world.pass(15 * SECOND);
        world.send(&desktop, piece);
    }
    let got = world.take(&mobile);
    assert!(got.iter().any(|one| matches!(one, Received::Text(text) if text.len() == 4 * MIB)));
}

#[test]
fn pings_in_the_middle_of_a_message_do_not_keep_its_session_alive() {
    let settings =
        Settings { session_timeout: 20 * SECOND, stall_timeout: 3_000 * SECOND, ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    world.send(&desktop, &frame(BINARY_BEGINS, &binary(2 * MIB)));
    for _ in 0..2 {
        world.pass(9 * SECOND);
        world.send(&desktop, &frame(PING, b""));
    }
    world.pass(3 * SECOND);
    assert_eq!(world.take(&mobile)[0], Received::Close(1000, "Session timeout".to_owned()));
}

#[test]
fn shutdown_closes_both_with_1001_in_the_middle_of_a_message() {
    let mut world = World::quiet();
    let (desktop, mobile, _) = streaming_pair(&mut world);
    let now = world.now();
    world.relay.handle_shutdown(10 * SECOND, now);
    world.pass(SECOND);
    let close = Received::Close(1001, "Relay shutting down".to_owned());
    assert_eq!((world.take(&mobile)[0].clone(), world.take(&desktop)[0].clone()), (close.clone(), close));
    world.pass(10 * SECOND);
    assert!(world.relay.is_drained());
    assert_eq!(world.relay.buffered_bytes(), 0);
}

#[test]
fn both_sides_in_the_middle_of_a_message_end_without_confusion() {
    let mut world = World::quiet();
    let (desktop, mobile, _) = streaming_pair(&mut world);
    world.send(&mobile, &binary(4 * MIB)[..2 * MIB]);
    assert!(world.unparsed(&desktop) > MIB);
    world.reset(&desktop);
    assert_eq!(world.take(&mobile), [cut_short()]);
    assert_eq!(world.relay.counters().messages_cut_short, [1, 1]);
    world.expect_empty_in_the_end();
}

#[test]
fn client_that_replaces_one_in_the_middle_of_a_message_finds_no_peer_where_that_was_closed() {
    let mut world = World::quiet();
    let (_desktop, mobile, _) = streaming_pair(&mut world);
    let new = world.connect();
    world.send(&new, &upgrade(Desktop, "a"));
    let greeting = world.take(&new);
    assert_eq!(greeting[2..], [], "nobody is there");
    assert_eq!(world.take(&mobile), [cut_short()]);
    world.expect_empty_in_the_end();
}

#[test]
fn senders_share_of_a_turn_stays_bounded() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("bundle");
    let (other, its_peer) = world.pair("other");
    world.queue(&desktop, &binary(20 * MIB));
    for _ in 0..50 {
        world.queue(&other, &frame(TEXT, b"1"));
        let before = world.unread(&desktop);
        world.turn();
        assert!(before - world.unread(&desktop) <= 128 * KIB);
        assert_eq!(world.take(&its_peer), [text("1")], "in the same turn");
    }
    assert!(world.unparsed(&mobile) > MIB);
}

#[test]
fn app_ping_of_at_most_16_kib_is_answered_and_a_longer_one_forwarded() {
    let settings = Settings { answer_pings: true, ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    let ping = |bytes: usize| {
        let start = r#"{"type":"ping","d":""#;
        format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
    };
    for (bytes, fragments, is_answered) in
        [(16 * KIB, 1, true), (16 * KIB, 3, true), (16 * KIB + 1, 1, false), (2 * MIB, 1, false)]
    {
        let message = ping(bytes);
        let parts: Vec<&[u8]> = message.as_bytes().chunks(bytes.div_ceil(fragments)).collect();
        for (index, part) in parts.iter().enumerate() {
            let first = if index == 0 { TEXT_BEGINS } else { CONTINUES }
                | if index + 1 == parts.len() { FINAL } else { 0 };
            world.send(&desktop, &frame(first, part));
        }
        let answers = usize::from(is_answered);
        assert_eq!(
            (world.take(&desktop).len(), world.take(&mobile).len()),
            (answers, 1 - answers),
            "{bytes}"
        );
    }
}

#[test]
fn high_water_mark_is_that_of_the_contract() {
    assert_eq!(HIGH_WATER_BYTES, MIB);
}
