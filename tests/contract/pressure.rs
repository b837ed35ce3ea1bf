//! Section 6: limits and backpressure.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::{Answer, plain_request, upgrade_request};
use crate::client::{Client, Flood, Received};
use crate::frame::{
    BINARY, CLOSE, CONTINUES, ENDS, PING, PONG, TEXT, TEXT_BEGINS, close_payload, frame, frame_header,
};
use crate::harness::{Relay, WAIT_MAX, assert_lasted};

/// The text of one message of a flood.
fn numbered(number: usize) -> String {
    format!("[{number},\"{}\"]", "x".repeat(60_000))
}

fn numbered_frame(number: usize) -> Vec<u8> {
    frame(TEXT, numbered(number).as_bytes())
}

/// A session whose mobile does not read, and whose desktop has sent until the relay took no more.
fn flooded(relay: &Relay) -> (Client, Client, Flood) {
    let (mut desktop, mobile) = relay.pair_with_narrow_mobile("abc");
    let flood = desktop.flood(numbered_frame);
    (desktop, mobile, flood)
}

/// Requires every message of a flood, including the one that was sent in part, now that `mobile` reads.
fn expect_flood(desktop: &mut Client, mobile: &mut Client, flood: &Flood) {
    thread::scope(|scope| {
        scope.spawn(|| desktop.send_raw(&flood.rest));
        for number in 0..=flood.sent {
            let received = mobile.receive_except_pings();
            assert!(received == Received::Text(numbered(number)), "{number}: {received:?}");
        }
    });
}

/// Requires the messages of a flood in order, as many as came through, and then `notice`.
fn expect_part_of_flood(mobile: &mut Client, flood: &Flood, notice: &str) {
    let mut next = 0;
    let end = loop {
        let received = mobile.receive();
        if received != Received::Text(numbered(next)) {
            break received;
        }
        next += 1;
    };
    assert!(next <= flood.sent);
    assert!(format!("{end:?}").contains(notice), "{next}: {end:?}");
}

fn assert_healthy(relay: &Relay) {
    let health = plain_request("GET", "/health");
    assert_eq!(Answer::to(relay.tcp(), &health).status, 200);
}

#[test]
fn flooding_desktop_blocks_until_the_mobile_reads_and_everything_arrives() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile, flood) = flooded(&relay);
    expect_flood(&mut desktop, &mut mobile, &flood);
    desktop.expect_quiet();
    mobile.expect_quiet();
}

#[test]
fn flood_of_one_session_does_not_delay_others() {
    let relay = Relay::start(&[]);
    let (_flooding, _silent, _flood) = flooded(&relay);
    let (mut desktop, mut mobile) = relay.pair("other");
    for _ in 0..100 {
        desktop.send_text("1");
        mobile.expect_text("1");
    }
    assert_healthy(&relay);
}

#[test]
fn one_waiting_message_of_up_to_one_mib_never_pauses_its_sender() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    desktop.send_text(&large);
    desktop.expect_quiet();
    mobile.expect_text(&large);
}

#[test]
fn client_that_does_not_read_its_replies_is_held_and_gets_all_later() {
    let relay = Relay::start(&[]);
    let mut desktop = relay.join("desktop", "other");
    let mut mobile = Client::join(relay.narrow_tcp(), "mobile", "abc");
    let payload = |number: usize| format!("{number:0>125}").into_bytes();
    let pings_of = |batch: usize| {
        (batch * 500..(batch + 1) * 500).flat_map(|number| frame(PING, &payload(number))).collect()
    };
    let flood = mobile.flood(pings_of);
    desktop.expect_quiet();
    assert_healthy(&relay);

    let mut writer = mobile.writer();
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&flood.rest).unwrap());
        for number in 0..(flood.sent + 1) * 500 {
            mobile.expect(&Received::Pong(payload(number)));
        }
    });
    mobile.expect_quiet();
}

#[test]
fn client_that_does_not_read_its_errors_is_held_too() {
    let relay = Relay::start(&[]);
    let mut mobile = Client::join(relay.narrow_tcp(), "mobile", "abc");
    mobile.flood(|_| frame(TEXT, b"?").repeat(2000));
    assert_healthy(&relay);
    mobile.reset();
    relay.wait_for_log_ending("Mobile disconnected from session abc: 1006");
}

#[test]
fn end_of_stream_of_a_paused_client_keeps_what_it_had_sent() {
    let relay = Relay::start(&[]);
    let (desktop, mut mobile, flood) = flooded(&relay);
    desktop.finish_sending();
    for number in 0..flood.sent {
        let received = mobile.receive();
        assert!(received == Received::Text(numbered(number)), "{number}: {received:?}");
    }
    mobile.expect_notice("desktop_disconnected");
    mobile.expect_quiet();
}

#[test]
fn reset_of_a_paused_client_is_noticed_at_once() {
    let relay = Relay::start(&[]);
    let (desktop, mut mobile, flood) = flooded(&relay);
    desktop.reset();
    // The mobile has read nothing yet.
    relay.wait_for_log_ending("Desktop disconnected from session abc: 1006");

    expect_part_of_flood(&mut mobile, &flood, "desktop_disconnected");
    mobile.expect_quiet();
}

#[test]
fn flood_goes_on_over_a_new_connection_from_the_first_message_not_taken_whole() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut old, flood) = flooded(&relay);
    let mut new = relay.join("mobile", "abc");
    new.expect_notice("desktop_connected");

    let mut handed_to_old = 0;
    while old.receive() == Received::Text(numbered(handed_to_old)) {
        handed_to_old += 1;
    }
    let mut writer = desktop.writer();
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&flood.rest).unwrap());
        let Received::Text(first) = new.receive() else { panic!("no message") };
        let first_number = (0..flood.sent).find(|&number| first == numbered(number)).unwrap();
        // The old connection may have received one more message whole: whole frames come before its close.
        assert!(first_number <= handed_to_old, "{first_number} {handed_to_old}");
        assert!(first_number + 1 >= handed_to_old, "{first_number} {handed_to_old}");
        for number in first_number + 1..=flood.sent {
            let received = new.receive();
            assert!(received == Received::Text(numbered(number)), "{number}: {received:?}");
        }
    });
    new.expect_quiet();
    desktop.expect_notice("mobile_connected");
    desktop.expect_quiet();
}

#[test]
fn messages_of_a_replaced_paused_desktop_come_before_those_of_the_new_one() {
    let relay = Relay::start(&[]);
    let (mut old, mut mobile, flood) = flooded(&relay);
    let mut new = relay.join("desktop", "abc");
    new.expect_notice("mobile_connected");
    new.send_text("\"from the new one\"");
    expect_part_of_flood(&mut mobile, &flood, "desktop_connected");
    mobile.expect_text("\"from the new one\"");
    mobile.expect_quiet();
    old.expect(&Received::Close(1000, "New desktop connection".to_owned()));
}

#[test]
fn session_of_a_paused_client_times_out_too() {
    let relay = Relay::start(&["--session-timeout", "6s"]);
    let (mut desktop, mut mobile, _flood) = flooded(&relay);
    // Messages that its peer did not take are reported as lost.
    assert!(desktop.expect_undelivered() > 0);
    desktop.expect(&Received::Close(1000, "Session timeout".to_owned()));
    while matches!(mobile.receive_frame(), Ok(frame) if frame.opcode != 8) {}
    relay.wait_for_log_ending("Session abc deleted: inactive for 6s");
}

#[test]
fn paused_client_does_not_count_as_silent() {
    let relay = Relay::start(&["--ping-interval", "1s"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let mut writer = mobile.writer();
    let is_over = AtomicBool::new(false);
    let flood = thread::scope(|scope| {
        // The mobile shows by pings that it is alive, but does not read. The paused desktop cannot show anything.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                writer.write_all(&frame(PONG, b"")).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let flood = desktop.flood(numbered_frame);
        thread::sleep(Duration::from_millis(2500));
        is_over.store(true, Ordering::Relaxed);
        flood
    });
    expect_flood(&mut desktop, &mut mobile, &flood);
    desktop.send(PING, b"alive");
    assert_eq!(desktop.receive_except_pings(), Received::Pong(b"alive".to_vec()));
}

#[test]
fn client_that_takes_no_byte_is_cut_off_and_its_peer_is_told() {
    let relay = Relay::start(&["--stall-timeout", "1500ms"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let begun = Instant::now();
    desktop.send(BINARY, &vec![0; 1_000_000]);
    assert_eq!(desktop.expect_undelivered(), 1);
    assert_lasted(begun, Duration::from_millis(1500));
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
    // The stream may end in any way.
    while mobile.fill().is_none() {}
}

#[test]
fn client_for_which_nothing_waits_does_not_stall() {
    let relay = Relay::start(&["--stall-timeout", "1s"]);
    let (mut desktop, mut mobile) = relay.pair("idle");
    let (mut busy, _stalled) = relay.pair_with_narrow_mobile("busy");
    busy.send(BINARY, &vec![0; 1_000_000]);
    assert_eq!(busy.expect_undelivered(), 1);
    desktop.expect_quiet();
    mobile.expect_quiet();
}

#[test]
fn message_rate_limit_delays_and_drops_nothing() {
    let relay = Relay::start(&["--max-message-rate", "20"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let begun = Instant::now();
    // The relay's first read brings a burst of messages. Then it pauses reading.
    for batch in [0..60, 60..61] {
        batch.clone().for_each(|number| desktop.send_text(&number.to_string()));
        batch.for_each(|number| mobile.expect_text(&number.to_string()));
    }
    // 61 messages at 20 per second take 3 s, minus a burst.
    assert_lasted(begun, Duration::from_millis(900));
    mobile.expect_quiet();
}

#[test]
fn byte_rate_limit_delays_and_drops_nothing() {
    let relay = Relay::start(&["--max-byte-rate", "256KiB"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let begun = Instant::now();
    let text = format!("\"{}\"", "x".repeat(32 * 1024));
    (0..24).for_each(|_| desktop.send_text(&text));
    (0..24).for_each(|_| mobile.expect_text(&text));
    // 768 KiB at 256 KiB per second take 3 s, minus a burst.
    assert_lasted(begun, Duration::from_millis(900));
    mobile.expect_quiet();
}

#[test]
fn message_that_the_relay_delays_may_take_longer() {
    let flags = ["--max-byte-rate", "64KiB", "--message-timeout", "1500ms", "--stall-timeout", "1500ms"];
    let relay = Relay::start(&flags);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let text = format!("\"{}\"", "x".repeat(320 * 1024));
    desktop.send_text(&text);
    mobile.expect_text(&text);
    desktop.expect_quiet();
}

/// Requires a close with 1001, not before `timeout`, although the client goes on sending `next`.
fn assert_ended(flags: &[&str], opening: &[u8], next: &[u8], timeout: Duration) {
    let relay = Relay::start(flags);
    let mut desktop = relay.join("desktop", "abc");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    let begun = Instant::now();
    mobile.send_raw(opening);
    let code = loop {
        assert!(begun.elapsed() < WAIT_MAX, "the relay waits and waits");
        mobile.send_raw(next);
        mobile.send(PING, b"");
        match mobile.receive() {
            Received::Pong(_) => thread::sleep(Duration::from_millis(20)),
            Received::Close(code, _) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 1001);
    assert_lasted(begun, timeout);
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
}

#[test]
fn incomplete_message_ends_its_client_in_time_although_fragments_keep_coming() {
    let flags = ["--message-timeout", "500ms"];
    let (opening, next) = (frame(TEXT_BEGINS, b"["), frame(CONTINUES, b" "));
    assert_ended(&flags, &opening, &next, Duration::from_millis(500));
}

#[test]
fn stalled_message_ends_its_client_although_pings_keep_coming() {
    let opening = frame(TEXT_BEGINS, b"[");
    assert_ended(&["--stall-timeout", "500ms"], &opening, b"", Duration::from_millis(500));
}

#[test]
fn stalled_frame_ends_its_client() {
    let relay = Relay::start(&["--stall-timeout", "400ms"]);
    let mut desktop = relay.join("desktop", "abc");
    let openings = [
        &frame_header(TEXT, 1000)[..1],
        &frame_header(TEXT, 1000)[..],
        &[&frame_header(BINARY, 1 << 20)[..], &vec![0; 100_000]].concat(),
        &frame_header(PING, 100),
    ];
    for opening in openings {
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        let begun = Instant::now();
        mobile.send_raw(opening);
        mobile.expect_close_code(1001);
        assert_lasted(begun, Duration::from_millis(400));
        desktop.expect_notice("mobile_disconnected");
    }
    desktop.expect_quiet();
}

#[test]
fn end_of_a_connection_at_any_byte_affects_no_other() {
    let relay = Relay::start(&[]);
    let script = [
        upgrade_request("/desktop/abc").as_bytes(),
        &frame(TEXT, br#"{"type":"x"}"#),
        &frame(TEXT_BEGINS, b"["),
        &frame(PING, b"ping"),
        &frame(ENDS, &[b' '; 130]),
        &frame(CLOSE, &close_payload(1000, "")),
    ]
    .concat();
    for end in 0..=script.len() {
        for is_reset in [false, true] {
            let mut stream = relay.tcp();
            stream.write_all(&script[..end]).unwrap();
            if is_reset {
                stream.reset();
            }
        }
    }
    let (mut desktop, mut mobile) = relay.pair("another");
    desktop.send_text("1");
    mobile.expect_text("1");
}

/// A small generator of pseudo-random bytes (xorshift).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1 << 40;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    })
}

#[test]
fn garbage_instead_of_a_head_or_frames_affects_no_other() {
    let relay = Relay::start(&[]);
    let (mut desktop, mut mobile) = relay.pair("bystanders");
    for seed in 1..100 {
        let garbage: Vec<u8> = noise(seed).take(2000).collect();
        let mut head = relay.tcp();
        head.write_all(&garbage).unwrap();
        let mut client = relay.join("mobile", "noisy");
        client.send_raw(&garbage);
        if seed % 3 == 0 {
            client.reset();
        }
    }
    desktop.send_text("1");
    mobile.expect_text("1");
    mobile.expect_quiet();
}

#[test]
fn without_free_descriptors_the_relay_serves_its_clients_and_recovers() {
    // Refused connections need descriptors, too.
    let relay = Relay::start_after("ulimit -n 40", &["--max-connections", "10"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for _ in 0..2 {
        let crowd: Vec<_> = (0..100).map(|_| relay.tcp()).collect();
        desktop.send_text("1");
        mobile.expect_text("1");
        mobile.send_text("2");
        desktop.expect_text("2");
        drop(crowd);
        let deadline = Instant::now() + WAIT_MAX;
        while Answer::to(relay.tcp(), &plain_request("GET", "/health")).status != 200 {
            assert!(Instant::now() < deadline, "still refused");
            thread::sleep(Duration::from_millis(20));
        }
    }
    desktop.expect_quiet();
}
