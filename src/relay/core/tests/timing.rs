//! When things happen: at their time, never early.

use std::time::Duration;

use super::world::{Client, Received, World, system, text, upgrade};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::{ACCEPT_RETRY, CLOSE_ANSWER_TIMEOUT, CLOSE_TIMEOUT};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame};

const MS: Duration = Duration::from_millis(1);

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn minutes(count: u64) -> Duration {
    seconds(60 * count)
}

const fn just_under(time: Duration) -> Duration {
    time.saturating_sub(MS)
}

fn close(code: u16, reason: &str) -> Received {
    Received::Close(code, reason.to_owned())
}

/// Passes time in which the clients answer every ping.
fn pass_alive(world: &mut World, time: Duration, clients: &[&Client]) {
    let step = seconds(20);
    let mut left = time;
    while left > Duration::ZERO {
        world.pass(left.min(step));
        left = left.saturating_sub(step);
        for client in clients {
            world.send(client, &frame(PONG, b""));
        }
    }
}

#[test]
fn a_head_not_complete_10_s_after_the_accept_is_answered_with_408() {
    let mut world = World::quiet();
    let slow = world.connect();
    let silent = world.connect();
    let head = upgrade(Desktop, "a");
    for byte in &head[..9] {
        world.pass(seconds(1));
        world.send(&slow, &[*byte]);
    }
    world.pass(just_under(seconds(1)));
    assert_eq!((world.take(&slow), world.take(&silent)), (vec![], vec![]));
    world.pass(MS);
    for client in [&slow, &silent] {
        let received = world.take(client);
        let [Received::Head(head), Received::End] = &received[..] else { panic!("{received:?}") };
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        assert!(!world.is_gone(client), "the answer is given time to be read");
    }
    world.pass(CLOSE_TIMEOUT);
    assert!(world.is_gone(&slow) && world.is_gone(&silent));
    world.expect_empty_in_the_end();
}

#[test]
fn a_session_without_messages_or_joins_for_30_minutes_is_closed_without_a_notice() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    pass_alive(&mut world, minutes(20), &[&desktop, &mobile]);
    world.send_text(&desktop, "1");
    pass_alive(&mut world, minutes(29), &[&desktop, &mobile]);
    world.take(&desktop);
    // Neither JSON that is none, nor pings, are application messages.
    world.send(&desktop, &[frame(TEXT, b"?"), frame(PING, b"")].concat());
    world.pass(seconds(20));
    world.send(&desktop, &frame(PONG, b""));
    world.send(&mobile, &frame(PONG, b""));
    world.pass(just_under(seconds(40)));
    world.take(&desktop);
    assert!(
        world.take(&mobile).iter().all(|received| matches!(received, Received::Ping | Received::Text(_)))
    );
    assert_eq!(world.relay.sessions(), 1);
    world.pass(MS);
    assert_eq!(world.take(&desktop), [close(1000, "Session timeout")]);
    assert_eq!(world.take(&mobile), [close(1000, "Session timeout")]);
    assert_eq!(world.relay.sessions(), 0);
    // The client answers, or it does not: either way it is gone.
    world.send(&desktop, &frame(CLOSE, &close_payload(1000, "")));
    assert!(world.is_gone(&desktop) && !world.is_gone(&mobile));
    world.pass(just_under(CLOSE_ANSWER_TIMEOUT));
    assert_eq!(world.take(&mobile), []);
    world.pass(MS);
    assert_eq!(world.take(&mobile), [Received::End]);
    world.pass(just_under(CLOSE_TIMEOUT));
    assert!(!world.is_gone(&mobile));
    world.pass(MS);
    assert!(world.is_gone(&mobile));
    world.expect_empty_in_the_end();
}

#[test]
fn a_message_with_no_peer_is_activity_and_an_answered_ping_is_none() {
    let settings = Settings { answer_pings: true, session_timeout: seconds(10), ..Settings::default() };
    let mut world = World::with(settings);
    let desktop = world.join(Desktop, "a");
    world.pass(seconds(9));
    world.send_text(&desktop, "1");
    world.pass(seconds(9));
    world.send_text(&desktop, r#"{"type":"ping"}"#);
    world.pass(just_under(seconds(1)));
    assert_eq!(world.relay.sessions(), 1);
    world.pass(MS);
    assert_eq!(world.relay.sessions(), 0);
}

#[test]
fn an_empty_session_is_kept_for_5_minutes_and_a_client_that_comes_back_finds_it() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.close_tcp(&desktop);
    pass_alive(&mut world, minutes(6), &[&mobile]);
    assert_eq!(world.relay.sessions(), 1, "one client is enough");
    world.close_tcp(&mobile);
    world.pass(just_under(minutes(5)));
    assert_eq!(world.relay.sessions(), 1);
    let back = world.join(Mobile, "a");
    assert_eq!(world.relay.sessions(), 1);
    pass_alive(&mut world, minutes(2), &[&back]);
    world.close_tcp(&back);
    world.pass(just_under(minutes(5)));
    assert_eq!(world.relay.sessions(), 1);
    world.pass(MS);
    assert_eq!((world.relay.sessions(), world.relay.timers()), (0, 0));
}

#[test]
fn a_silent_client_is_pinged_after_30_s_and_ended_after_60() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.pass(seconds(20));
    world.send_text(&mobile, "1");
    world.take(&desktop);
    world.pass(just_under(seconds(10)));
    assert_eq!(world.take(&desktop), []);
    world.pass(MS);
    assert_eq!(world.take(&desktop), [Received::Ping]);
    assert_eq!(world.take(&mobile), [], "the other was heard later");
    world.pass(seconds(20));
    assert_eq!(world.take(&mobile), [Received::Ping]);
    world.send(&mobile, &frame(PONG, b""));
    world.pass(just_under(seconds(10)));
    assert_eq!(world.take(&desktop), [], "no second ping");
    world.pass(MS);
    assert_eq!(world.take(&desktop), [close(1001, "Nothing received for two ping intervals"), Received::End]);
    assert!(world.is_gone(&desktop));
    assert_eq!(world.take(&mobile), [system(r#""type":"desktop_disconnected""#)]);
    world.expect_empty_in_the_end();
}

#[test]
fn bytes_from_a_client_postpone_its_ping() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    for _ in 0..10 {
        world.pass(seconds(29));
        world.send(&desktop, &frame(PONG, b"unasked"));
    }
    assert_eq!(world.take(&desktop), []);
    // Half a frame is a sign of life, too.
    world.pass(seconds(29));
    world.send(&desktop, &[TEXT]);
    world.pass(just_under(seconds(30)));
    assert_eq!(world.take(&desktop), []);
    world.pass(MS);
    assert_eq!(world.take(&desktop), [Received::Ping]);
}

#[test]
fn a_mobile_that_takes_no_byte_for_60_s_is_cut_off_and_the_desktop_told() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, r#""longer than five bytes""#);
    for _ in 0..5 {
        // It still talks, and even takes a byte now and then.
        pass_alive(&mut world, seconds(50), &[&desktop, &mobile]);
        world.set_room(&mobile, 1);
    }
    world.take(&desktop);
    pass_alive(&mut world, just_under(seconds(60)), &[&desktop, &mobile]);
    assert!(!world.is_gone(&mobile));
    world.take(&desktop);
    world.pass(MS);
    assert!(world.is_gone(&mobile));
    let undelivered = concat!(
        r#""type":"error","error":"1 message was not delivered: its receiver disconnected","#,
        r#""code":"undelivered","count":1"#
    );
    let told: Vec<_> =
        world.take(&desktop).into_iter().filter(|received| *received != Received::Ping).collect();
    assert_eq!(told, [system(undelivered), system(r#""type":"mobile_disconnected""#)]);
    world.expect_empty_in_the_end();
}

#[test]
fn a_client_that_never_reads_its_own_replies_is_cut_off_too() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    world.set_room(&desktop, 0);
    world.send_text(&desktop, "?");
    pass_alive(&mut world, just_under(seconds(60)), &[&desktop]);
    assert!(!world.is_gone(&desktop));
    world.pass(MS);
    assert!(world.is_gone(&desktop));
}

#[test]
fn a_client_that_still_takes_bytes_is_not_judged_silent() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &frame(BINARY, &vec![0; 500_000]));
    for _ in 0..40 {
        world.pass(seconds(20));
        world.set_room(&mobile, 1000);
        world.send(&desktop, &frame(PONG, b""));
    }
    assert!(!world.is_gone(&mobile));
    world.set_room(&mobile, usize::MAX);
    world.pass(just_under(seconds(30)));
    world.send(&desktop, &frame(PONG, b""));
    world.take(&mobile);
    world.pass(MS);
    assert_eq!(world.take(&mobile), [Received::Ping], "from here on silence counts");
    world.pass(seconds(30));
    assert!(world.is_gone(&mobile));
}

#[test]
fn pings_do_not_pile_up_for_a_client_that_takes_little() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let message = format!("\"{}\"", "x".repeat(1_000));
    world.send_text(&desktop, &message);
    for _ in 0..20 {
        world.set_room(&mobile, 10);
        pass_alive(&mut world, seconds(45), &[&desktop]);
    }
    world.set_room(&mobile, usize::MAX);
    assert_eq!(world.take(&mobile), [text(&message)]);
    assert_eq!(world.take(&desktop), []);
}

#[test]
fn a_client_that_takes_bytes_too_slowly_for_its_socket_to_count_as_writable_is_not_cut_off() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send(&desktop, &frame(BINARY, &vec![0; 500_000]));
    for _ in 0..100 {
        world.pass(seconds(15));
        world.set_room_silently(&mobile, 100);
        world.send(&desktop, &frame(PONG, b""));
    }
    assert!(!world.is_gone(&mobile), "neither stalled nor silent in 25 minutes");
    pass_alive(&mut world, just_under(seconds(60)), &[&desktop]);
    world.set_room_silently(&mobile, 0);
    pass_alive(&mut world, seconds(60), &[&desktop]);
    assert!(world.is_gone(&mobile));
}

#[test]
fn after_a_standstill_clients_are_pinged_before_they_are_ended() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "1");
    world.set_room_silently(&mobile, usize::MAX);
    world.freeze(minutes(10));
    assert_eq!(world.take(&desktop), [Received::Ping]);
    assert!(!world.is_gone(&mobile), "what it would have taken meanwhile is tried");
    world.pass(just_under(seconds(30)));
    assert!(!world.is_gone(&desktop));
    world.pass(MS);
    assert!(world.is_gone(&desktop), "now it was asked");
}

#[test]
fn a_message_must_be_whole_within_5_minutes_and_never_stand_still_for_60_s() {
    let mut world = World::quiet();
    let (trickling, mobile) = world.pair("a");
    let standing = world.join(Desktop, "b");
    let bytes = frame(TEXT, &[b'1'; 100]);
    world.send(&trickling, &bytes[..10]);
    world.send(&standing, &bytes[..50]);
    world.pass(seconds(30));
    world.send(&mobile, &frame(PONG, b""));
    world.send(&trickling, &bytes[10..11]);
    world.pass(just_under(seconds(30)));
    assert_eq!(world.take(&standing), [Received::Ping]);
    world.pass(MS);
    let reason = close(1001, "Message did not arrive in time");
    assert_eq!(world.take(&standing), std::slice::from_ref(&reason));
    world.send(&mobile, &frame(PONG, b""));
    world.send(&trickling, &bytes[11..12]);
    for byte in &bytes[12..19] {
        world.pass(seconds(30));
        world.send(&mobile, &frame(PONG, b""));
        world.send(&trickling, &[*byte]);
    }
    world.pass(just_under(seconds(30)));
    assert!(world.take(&trickling).iter().all(|received| !matches!(received, Received::Close(..))));
    world.pass(MS);
    assert_eq!(world.take(&trickling), [reason]);
    let taken = world.take(&mobile);
    assert_eq!(taken.last(), Some(&system(r#""type":"desktop_disconnected""#)), "nothing of the message");
    assert!(!taken.iter().any(|received| matches!(received, Received::Binary(_))));
    world.expect_empty_in_the_end();
}

#[test]
fn a_message_that_stands_still_is_not_excused_by_replies_too_few_to_hold_its_client() {
    let mut world = World::quiet();
    let desktop = world.join(Desktop, "a");
    world.set_room(&desktop, 0);
    world.send(&desktop, &frame(TEXT, b"1").repeat(1000));
    world.send(&desktop, &frame(BINARY, &vec![1; 100_000])[..99_000]);
    assert_eq!(world.unread(&desktop), 0);
    world.pass(seconds(40));
    world.set_room(&desktop, 500);
    world.pass(just_under(seconds(20)));
    assert_eq!(world.relay.connections(), 1);
    world.pass(MS);
    world.set_room(&desktop, usize::MAX);
    assert_eq!(world.take(&desktop).last(), Some(&close(1001, "Message did not arrive in time")));
}

#[test]
fn a_closed_client_that_goes_on_sending_is_given_time_to_read_why() {
    let mut world = World::with(Settings { max_message_size: 1000, ..Settings::default() });
    let desktop = world.join(Desktop, "a");
    world.send(&desktop, &frame(BINARY, &vec![0; 1_000_000])[..20]);
    assert_eq!(world.take(&desktop).last(), Some(&close(1009, "Message too large")));
    for _ in 0..100 {
        world.pass(just_under(CLOSE_ANSWER_TIMEOUT));
        world.send(&desktop, &[0; 1000]);
    }
    assert_eq!((world.take(&desktop), world.unread(&desktop)), (vec![], 0));
    // But not for ever.
    for _ in 0..300 {
        world.pass(just_under(CLOSE_ANSWER_TIMEOUT));
        world.send(&desktop, &[0]);
    }
    assert!(world.is_gone(&desktop));
    world.expect_empty_in_the_end();
}

#[test]
fn a_refused_request_keeps_its_slot_no_longer_for_going_on_to_send() {
    let mut world = World::quiet();
    let stranger = world.connect();
    world.send(&stranger, b"GET /nothing HTTP/1.1\r\nHost: relay\r\n\r\n");
    for _ in 0..5 {
        world.pass(seconds(1));
        world.send(&stranger, b"x");
    }
    assert!(world.is_gone(&stranger));
}

#[test]
fn messages_one_after_the_other_are_each_given_their_own_time() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    let message = frame(TEXT, b"1");
    world.send(&desktop, &message[..3]);
    for _ in 0..100 {
        world.pass(seconds(20));
        world.send(&mobile, &frame(PONG, b""));
        world.send(&desktop, &[&message[3..], &message[..3]].concat());
    }
    assert_eq!(world.take(&mobile).iter().filter(|received| **received == text("1")).count(), 100);
    assert!(!world.is_gone(&desktop));
}

#[test]
fn time_in_which_the_relay_holds_a_client_back_does_not_count_against_it() {
    let mut world = World::with(Settings { stall_timeout: minutes(60), ..Settings::default() });
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    // Two messages over the high-water mark, and the start of a third: the sender is held.
    let large = frame(BINARY, &vec![0; 700_000]);
    world.send(&desktop, &[&large[..], &large, &large[..100_000]].concat());
    world.send(&desktop, &large[100_000..]);
    let unread = world.unread(&desktop);
    assert!(unread > 0, "it is held");
    for _ in 0..90 {
        world.pass(seconds(10));
        world.send(&mobile, &frame(PONG, b""));
    }
    assert_eq!(world.take(&desktop), vec![Received::Ping; 30], "pinged in 15 minutes, and not judged");
    assert_eq!(world.unread(&desktop), unread);
    world.set_room(&mobile, usize::MAX);
    assert_eq!(world.unread(&desktop), 0);
    let received = world.take(&mobile).into_iter().filter(|received| matches!(received, Received::Binary(_)));
    assert_eq!(received.count(), 3);
    world.pass(seconds(30));
    assert_eq!(world.take(&desktop), [Received::Ping], "its silence counts from its release");
    world.expect_empty_in_the_end();
}

/// Sends so many small messages, and then `rest`, that the sender is held, with nothing left unread.
fn hold(world: &mut World, desktop: &Client, rest: &[u8]) -> usize {
    let small = frame(BINARY, &[0; 1_000]);
    world.send(desktop, &small.repeat(1_040));
    world.send(desktop, &[&small.repeat(10), rest].concat());
    assert_eq!(world.unread(desktop), 0);
    1_050
}

#[test]
fn a_client_with_nothing_to_read_is_released_as_soon_as_its_peer_takes_what_waits() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    hold(&mut world, &desktop, &[]);
    world.pass(seconds(40));
    assert_eq!(world.take(&desktop), [Received::Ping], "held, and pinged all the same");
    world.set_room(&mobile, usize::MAX);
    world.pass(just_under(seconds(30)));
    assert_eq!(world.take(&desktop), []);
    world.pass(MS);
    assert_eq!(world.take(&desktop), [Received::Ping], "its silence counts from its release");
}

#[test]
fn a_message_that_a_client_was_held_in_is_given_its_time_afterwards() {
    let mut world = World::with(Settings { stall_timeout: minutes(60), ..Settings::default() });
    let (desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    let message = frame(BINARY, &[1; 1_000]);
    let sent = hold(&mut world, &desktop, &message[..500]);
    for _ in 0..60 {
        world.pass(seconds(15));
        world.send(&mobile, &frame(PONG, b""));
    }
    world.send(&desktop, &message[500..600]);
    assert_eq!(world.unread(&desktop), 100, "it is held");
    world.set_room(&mobile, usize::MAX);
    world.pass(seconds(10));
    world.send(&desktop, &message[600..]);
    let received = world.take(&mobile).into_iter().filter(|received| matches!(received, Received::Binary(_)));
    assert_eq!(received.count(), sent + 1);
    assert!(!world.is_gone(&desktop));
}

#[test]
fn shutting_down_delivers_what_is_queued_closes_everybody_and_ends_with_the_grace() {
    let mut world = World::quiet();
    let (desktop, mobile) = world.pair("a");
    let asking = world.connect();
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "1");
    world.relay.handle_shutdown(seconds(10), world.now());
    world.run_until_idle();
    assert!(!world.relay.can_accept());
    let going_away = close(1001, "Relay shutting down");
    assert_eq!(world.take(&desktop), std::slice::from_ref(&going_away));
    let received = world.take(&asking);
    assert!(
        matches!(&received[..], [Received::Head(head), Received::End] if head.starts_with("HTTP/1.1 503 "))
    );
    world.close_tcp(&asking);
    world.send(&desktop, &frame(CLOSE, &close_payload(1001, "")));
    assert!(world.is_gone(&desktop));
    world.set_room(&mobile, usize::MAX);
    assert_eq!(world.take(&mobile), [text("1"), going_away]);
    assert!(!world.relay.is_drained());
    world.send(&mobile, &frame(CLOSE, &close_payload(1001, "")));
    assert!(world.relay.is_drained());

    let mut world = World::quiet();
    let (_desktop, mobile) = world.pair("a");
    world.set_room(&mobile, 0);
    world.relay.handle_shutdown(seconds(10), world.now());
    world.pass(just_under(seconds(10)));
    assert!(!world.relay.is_drained());
    world.pass(MS);
    assert!(world.relay.is_drained(), "the grace ends whatever is missing");
}

#[test]
fn a_session_that_times_out_during_a_shutdown_changes_nothing_about_it() {
    let settings = Settings { session_timeout: seconds(5), ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    let (ended, _other) = world.pair("b");
    world.set_room(&mobile, 0);
    world.send_text(&desktop, "1");
    world.relay.handle_shutdown(seconds(30), world.now());
    world.run_until_idle();
    world.send(&ended, &frame(CLOSE, &close_payload(1001, "")));
    let newcomer = world.connect();
    assert!(matches!(&world.take(&newcomer)[0], Received::Head(head) if head.starts_with("HTTP/1.1 503 ")));
    world.pass(seconds(20));
    world.set_room(&mobile, usize::MAX);
    assert_eq!(world.take(&mobile), [text("1"), close(1001, "Relay shutting down")]);
    world.pass(seconds(10));
    assert!(world.relay.is_drained());
}

#[test]
fn accepting_waits_for_a_descriptor_or_a_moment() {
    let mut world = World::quiet();
    let client = world.connect();
    assert!(world.relay.handle_accept_exhausted(world.now()), "news");
    assert!(!world.relay.handle_accept_exhausted(world.now()), "no news");
    assert_eq!(world.relay.timers(), 2, "one for the client's head, one to accept again");
    assert!(!world.relay.can_accept());
    world.pass(just_under(ACCEPT_RETRY));
    assert!(!world.relay.can_accept());
    world.pass(MS);
    assert!(world.relay.can_accept());
    world.relay.handle_accept_exhausted(world.now());
    world.reset(&client);
    assert!(world.relay.can_accept(), "one has come free");
    assert_eq!(world.relay.timers(), 0);
}

#[test]
fn rates_delay_and_lose_nothing() {
    let settings = Settings { max_message_rate: Some(10), ..Settings::default() };
    let mut world = World::with(settings);
    let (desktop, mobile) = world.pair("a");
    for index in 0..40 {
        world.send_text(&desktop, &index.to_string());
    }
    let at_once = world.take(&mobile).len();
    assert!((10..=12).contains(&at_once), "{at_once}");
    assert!(world.unread(&desktop) > 0);
    world.pass(seconds(1));
    world.send(&desktop, &frame(TEXT, b"40"));
    let mut all = at_once + world.take(&mobile).len();
    for _ in 0..10 {
        world.pass(seconds(1));
        all += world.take(&mobile).len();
    }
    assert_eq!((all, world.unread(&desktop)), (41, 0));
    world.join(Mobile, "other");
    world.expect_empty_in_the_end();
}
