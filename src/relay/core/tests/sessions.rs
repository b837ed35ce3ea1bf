//! Who is told what, in which order, as clients come, go and come back.

use std::time::Duration;

use super::world::{Received, World, system, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::{FRAGMENT_BYTES_MAX, SESSIONS_MIN};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{BINARY, CLOSE, PING, RESERVED_DATA, TEXT, close_payload, frame};

const BUNDLE: &str = r#"{"type":"bundle_update","code":"…"}"#;

fn close(code: u16, reason: &str) -> Received {
    Received::Close(code, reason.to_owned())
}

#[test]
fn newcomers_are_told_who_they_are_and_who_is_there() {
    let mut world = World::quiet();
    let desktop = world.connect();
    world.send(&desktop, &upgrade(Desktop, "abc123"));
    let received = world.take(&desktop);
    assert_eq!(received[1..], [system(r#""type":"connected","clientType":"desktop","sessionId":"abc123""#)]);

    let mobile = world.connect();
    world.send(&mobile, &upgrade(Mobile, "abc123"));
    let received = world.take(&mobile);
    let connected = system(r#""type":"connected","clientType":"mobile","sessionId":"abc123""#);
    assert_eq!(received[1..], [connected, system(r#""type":"desktop_connected""#)]);
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);

    let stranger = world.connect();
    world.send(&stranger, &upgrade(Mobile, "ABC123"));
    assert_eq!(world.take(&stranger).len(), 2, "a head and its own greeting: another session");
    world.expect_empty_in_the_end();
}

#[test]
fn messages_cross_in_both_directions_byte_for_byte() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    let odd = " {\"type\" : \"x\",\t\"type\":1e999, \"ü\":\"\\ud800\" } ";
    world.send_text(&desktop, odd);
    world.send(&desktop, &frame(BINARY, &[0, 159, 255]));
    world.send_text(&mobile, "[1]");
    assert_eq!(world.take(&mobile), [text(odd), Received::Binary(vec![0, 159, 255])]);
    assert_eq!(world.take(&desktop), [text("[1]")]);
    world.expect_empty_in_the_end();
}

#[test]
fn frames_sent_right_behind_the_head_are_heard() {
    let mut world = World::quiet();
    let mobile = world.join(Mobile, "a");
    let desktop = world.connect();
    let bytes = [upgrade(Desktop, "a"), frame(TEXT, b"1"), frame(PING, b"p"), frame(TEXT, b"2")].concat();
    world.send(&desktop, &bytes);
    assert_eq!(world.take(&desktop)[3..], [Received::Pong(b"p".to_vec())]);
    assert_eq!(world.take(&mobile), [system(r#""type":"desktop_connected""#), text("1"), text("2")]);
}

#[test]
fn late_close_of_a_replaced_desktop_changes_nothing() {
    let mut world = World::quiet();
    let (old, mobile) = world.pair("a");
    let new = world.join(Desktop, "a");
    assert_eq!(world.take(&old), [close(1000, "New desktop connection")]);
    assert_eq!(world.take(&mobile), [system(r#""type":"desktop_connected""#)]);
    world.send(&old, &frame(CLOSE, &close_payload(1000, "")));
    assert!(world.is_gone(&old));
    world.run_until_idle();
    assert_eq!(world.take(&mobile), []);
    world.send_text(&mobile, "1");
    assert_eq!(world.take(&new), [text("1")]);
    world.expect_empty_in_the_end();
}

#[test]
fn a_replaced_clients_further_messages_go_nowhere() {
    let mut world = World::quiet();
    let (desktop, old) = world.pair("a");
    let _new = world.join(Mobile, "a");
    world.take(&desktop);
    world.send_text(&old, r#"{"from":"the past"}"#);
    world.send(&old, &frame(TEXT, b"not json"));
    assert_eq!(world.take(&desktop), []);
    assert_eq!(world.take(&old), [close(1000, "New mobile connection")]);
    world.reset(&old);
    assert_eq!(world.take(&desktop), []);
    world.expect_empty_in_the_end();
}

#[test]
fn what_the_replaced_client_did_not_take_in_full_goes_to_the_new_one_from_its_start() {
    let mut world = World::quiet();
    let (desktop, old) = world.pair("a");
    let bundle = format!(r#"{{"code":"{}"}}"#, "x".repeat(3 * FRAGMENT_BYTES_MAX));
    world.set_room(&old, FRAGMENT_BYTES_MAX + 1000);
    world.send_text(&desktop, "1");
    world.send_text(&desktop, &bundle);
    world.send_text(&desktop, "2");
    world.send(&old, &frame(TEXT, b"not json"));
    let new = world.connect();
    world.send(&new, &upgrade(Mobile, "a"));
    let received = world.take(&new);
    assert_eq!(received[2], system(r#""type":"desktop_connected""#));
    assert_eq!(received[3..], [text(&bundle), text("2")], "messages only, no error meant for the old one");
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_connected""#)]);
    // The old one gets the rest of the frame begun, so that its close is still a frame.
    world.set_room(&old, usize::MAX);
    let received = world.take(&old);
    assert_eq!(received.first(), Some(&text("1")));
    assert_eq!(received.last(), Some(&close(1000, "New mobile connection")));
    world.expect_empty_in_the_end();
}

#[test]
fn what_the_stream_keeps_goes_to_the_new_connection_or_is_undelivered() {
    for replaced in [true, false] {
        let mut world = World::quiet();
        let (desktop, old) = world.pair("a");
        world.keep(&old);
        world.send_text(&desktop, "0");
        assert_eq!(world.take(&old), [text("0")], "with room nothing stays behind");
        world.set_room(&old, 0);
        for number in ["1", "2", "3"] {
            world.send_text(&desktop, number);
        }
        assert_eq!(world.relay.backlog(old.id).map(|backlog| backlog.messages), Some(3));
        assert_eq!(world.relay.counters().messages_delivered, [1, 0]);
        if replaced {
            let new = world.connect();
            world.send(&new, &upgrade(Mobile, "a"));
            assert_eq!(world.take(&new)[3..], ["1", "2", "3"].map(text));
            world.set_room(&old, usize::MAX);
            assert_eq!(world.take(&old), [text("1"), close(1000, "New mobile connection")], "that had begun");
        } else {
            world.reset(&old);
            let received = world.take(&desktop);
            let is_told = matches!(&received[0], Received::Text(text) if text.contains(r#""count":3"#));
            assert!(is_told, "{received:?}");
        }
        world.expect_empty_in_the_end();
    }
}

#[test]
fn two_clients_that_take_one_place_from_each_other_are_stopped_after_ten_times() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    let mut mobile = world.join(Mobile, "a");
    let join = |world: &mut World, client_type| {
        let client = world.connect();
        let (status, answer) = world.ask(&client, &upgrade(client_type, "a"));
        (status, answer, client)
    };
    for _ in 0..10 {
        let (status, _, next) = join(&mut world, Mobile);
        assert_eq!(status, 101);
        assert_eq!(world.take(&mobile), [close(1000, "New mobile connection")]);
        mobile = next;
    }
    world.take(&desktop);
    for _ in 0..50 {
        let (status, answer, _) = join(&mut world, Mobile);
        assert_eq!(status, 429);
        assert!(answer.contains("\r\nRetry-After: 10\r\n"), "{answer}");
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.take(&desktop), [Received::Ping], "its peer notices nothing");
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [Received::Ping, text("1")], "the client that is there stays");
    assert_eq!(join(&mut world, Desktop).0, 101, "the other place is open");
    world.pass(Duration::from_millis(8_999));
    assert_eq!(join(&mut world, Mobile).0, 429);
    world.pass(Duration::from_secs(10));
    assert_eq!(join(&mut world, Mobile).0, 101, "it has calmed down");
    world.expect_empty_in_the_end();
}

#[test]
fn a_contested_place_is_free_again_once_nobody_is_there() {
    let mut world = World::quiet();
    let mobiles: Vec<_> = (0..11).map(|_| world.join(Mobile, "a")).collect();
    let refused = world.connect();
    assert_eq!(world.ask(&refused, &upgrade(Mobile, "a")).0, 429);
    world.close_tcp(&mobiles[10]);
    let _free = world.join(Mobile, "a");
    world.expect_empty_in_the_end();
}

#[test]
fn the_sender_learns_what_was_not_delivered_before_it_learns_that_the_peer_is_gone() {
    for ends_with_close in [true, false] {
        let mut world = World::quiet();
        let (desktop, mobile) = world.pair("a");
        world.send_text(&desktop, "0");
        world.set_room(&mobile, 0);
        for _ in 0..3 {
            world.send_text(&desktop, BUNDLE);
        }
        if ends_with_close {
            world.send(&mobile, &frame(CLOSE, &close_payload(1001, "")));
        } else {
            world.reset(&mobile);
        }
        let undelivered = concat!(
            r#""type":"error","error":"3 messages were not delivered: their receiver disconnected","#,
            r#""code":"undelivered","count":3"#
        );
        assert_eq!(world.take(&desktop), [system(undelivered), system(r#""type":"mobile_disconnected""#)]);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn a_notice_keeps_its_place_among_the_messages() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "1");
    world.reset(&desktop);
    let again = world.join(Desktop, "a");
    world.send_text(&again, "2");
    world.set_room(&mobile, usize::MAX);
    let gone = system(r#""type":"desktop_disconnected""#);
    let back = system(r#""type":"desktop_connected""#);
    assert_eq!(world.take(&mobile), [text("1"), gone, back, text("2")]);
}

#[test]
fn a_close_is_answered_with_its_code_and_the_stream_ends() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.send(&mobile, &frame(CLOSE, &close_payload(4000, "done")));
    assert_eq!(world.take(&mobile), [close(4000, "done"), Received::End]);
    assert!(world.is_gone(&mobile));
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_disconnected""#)]);
    world.send(&desktop, &frame(CLOSE, b""));
    assert_eq!(world.take(&desktop), [close(1000, ""), Received::End]);
    world.expect_empty_in_the_end();
}

#[test]
fn bytes_behind_a_close_are_not_looked_at_and_reset_nothing() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.send(&mobile, &[frame(CLOSE, &close_payload(1000, "")), frame(TEXT, b"1"), vec![0xFF; 9]].concat());
    assert_eq!(world.take(&mobile), [close(1000, ""), Received::End]);
    assert!(!world.is_gone(&mobile), "it waits for the client's end of the stream");
    assert_eq!(world.take(&desktop), [system(r#""type":"mobile_disconnected""#)]);
    world.close_tcp(&mobile);
    assert!(world.is_gone(&mobile));
}

#[test]
fn errors_are_told_to_the_sender_alone_and_cost_nobody_anything() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    world.send_text(&desktop, BUNDLE);
    world.send_text(&desktop, r#"{"a":1,}"#);
    let nobody = r#""type":"error","error":"Mobile device not connected","code":"peer_not_connected""#;
    let Received::Text(invalid) = &world.take(&desktop)[1] else { panic!("two errors") };
    assert!(invalid.contains(r#""error":"Invalid JSON at byte 7: "#), "{invalid}");
    world.send_text(&desktop, BUNDLE);
    assert_eq!(world.take(&desktop), [system(nobody)]);

    let mobile = world.join(Mobile, "a");
    world.take(&desktop);
    world.send(&desktop, &frame(RESERVED_DATA, b""));
    assert_eq!(world.take(&desktop), [close(1002, "Reserved opcode"), Received::End]);
    assert_eq!(world.take(&mobile), [system(r#""type":"desktop_disconnected""#)]);
    world.send_text(&mobile, "1");
    let nobody = r#""type":"error","error":"Desktop not connected","code":"peer_not_connected""#;
    assert_eq!(world.take(&mobile), [system(nobody)]);
    world.expect_empty_in_the_end();
}

#[test]
fn a_message_over_the_limit_is_refused_at_its_header_and_the_rest_of_it_thrown_away() {
    let mut world = World::with(Settings { max_message_size: 1000, ..Settings::default() });
    let (desktop, mobile) = world.pair("a");
    let bytes = frame(TEXT, &[b'1'; 1001]);
    world.send(&desktop, &bytes[..8]);
    let error = concat!(
        r#""type":"error","error":"Message of 1001 bytes is over this relay's limit of 1000 bytes "#,
        r#"(--max-message-size)","code":"message_too_large""#
    );
    assert_eq!(world.take(&desktop), [system(error), close(1009, "Message too large")]);
    assert_eq!(world.take(&mobile), [system(r#""type":"desktop_disconnected""#)]);
    world.send(&desktop, &bytes[8..]);
    assert_eq!(world.unread(&desktop), 0, "read, so that the client gets to read why");
    world.send(&desktop, &frame(CLOSE, &close_payload(1009, "")));
    assert_eq!(world.take(&desktop), [Received::End]);
    assert!(world.is_gone(&desktop));
}

#[test]
fn with_answer_pings_an_applications_ping_is_answered_and_not_forwarded() {
    let ping = r#"{"type":"bundle","n":[{"type":"no"}],"type":"ping"}"#;
    let mut world = World::with(Settings { answer_pings: true, ..Settings::default() });
    let desktop = world.join(Desktop, "a");
    world.send_text(&desktop, ping);
    assert_eq!(world.take(&desktop), [system(r#""type":"pong""#)], "even with no peer");
    let mobile = world.join(Mobile, "a");
    world.take(&desktop);
    world.send_text(&desktop, ping);
    world.send_text(&desktop, r#"{"type":"pings"}"#);
    assert_eq!(world.take(&mobile), [text(r#"{"type":"pings"}"#)]);

    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.send_text(&desktop, ping);
    assert_eq!((world.take(&mobile), world.take(&desktop)), (vec![text(ping)], vec![]));
}

#[test]
fn an_interrupted_read_loses_nothing() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    let message = frame(TEXT, b"\"in two pieces\"");
    for piece in [&message[..7], &message[7..]] {
        world.interrupt(&desktop);
        world.send(&desktop, piece);
    }
    assert_eq!(world.take(&mobile), [text("\"in two pieces\"")]);
}

#[test]
fn a_stale_event_never_touches_the_slots_next_owner() {
    let mut world = World::quiet();
    let old = world.join(Desktop, "a");
    world.reset(&old);
    let new = world.join(Desktop, "b");
    assert_eq!(old.id.slot, new.id.slot);
    world.reset(&old);
    assert!(!world.is_gone(&new));
    world.send(&new, &frame(PING, b"!"));
    assert_eq!(world.take(&new), [Received::Pong(b"!".to_vec())]);
}

#[test]
fn over_the_connection_limit_clients_are_told_to_come_back_later() {
    let mut world = World::with(Settings { max_connections: Some(2), ..Settings::default() });
    let (_desktop, mobile) = world.pair("a");
    let third = world.connect();
    world.send(&third, &upgrade(Desktop, "b"));
    let received = world.take(&third);
    let [Received::Head(head), Received::End] = &received[..] else { panic!("{received:?}") };
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "), "{head}");
    world.close_tcp(&third);
    assert!(world.is_gone(&third));
    world.close_tcp(&mobile);
    world.join(Mobile, "a");
    world.expect_empty_in_the_end();
}

#[test]
fn full_session_table_drops_the_session_that_is_empty_for_longest() {
    let mut world = World::with(Settings { max_connections: Some(8), ..Settings::default() });
    let (desktop, mobile) = world.pair("in-use");
    for index in 1..SESSIONS_MIN {
        let client = world.join(Desktop, &format!("left-{index}"));
        world.reset(&client);
    }
    assert_eq!(world.relay.sessions.len(), SESSIONS_MIN);
    let _newcomer = world.join(Desktop, "new");
    assert_eq!(world.relay.sessions.len(), SESSIONS_MIN);
    world.send_text(&desktop, "1");
    assert_eq!(world.take(&mobile), [text("1")], "a session with a client keeps its place");
    world.expect_empty_in_the_end();
}
