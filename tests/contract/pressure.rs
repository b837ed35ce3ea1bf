//! Section 6: limits and pressure.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::{Answer, plain_request, upgrade_request};
use crate::client::{Client, Flood, Received};
use crate::frame::{
    BINARY, CLOSE, CONTINUES, ENDS, PING, PONG, TEXT, TEXT_BEGINS, close_payload, frame, frame_header,
};
use crate::harness::{PATIENCE, Relay, assert_lasted};

/// The text of a flood's message.
fn numbered(number: usize) -> String {
    format!("[{number},\"{}\"]", "x".repeat(60_000))
}

fn numbered_frame(number: usize) -> Vec<u8> {
    frame(TEXT, numbered(number).as_bytes())
}

/// A session whose mobile does not read and whose desktop has been sending until the relay took no more.
fn flooded(relay: &Relay) -> (Client, Client, Flood) {
    let (mut desktop, mobile) = relay.pair_with_narrow_mobile("abc");
    let flood = desktop.flood(numbered_frame);
    (desktop, mobile, flood)
}

/// Requires every message of a flood, the torn one included, now that `mobile` reads.
fn expect_flood(desktop: &mut Client, mobile: &mut Client, flood: &Flood) {
    thread::scope(|scope| {
        scope.spawn(|| desktop.send_raw(&flood.rest));
        for number in 0..=flood.sent {
            let received = mobile.receive_but_pings();
            assert!(received == Received::Text(numbered(number)), "{number}: {received:?}");
        }
    });
}

/// Requires messages of a flood from the first on, as many as came through, and then `notice`.
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
fn flood_of_one_session_holds_up_no_other() {
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
fn client_that_does_not_read_its_own_replies_blocks_and_then_gets_every_one() {
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
fn errors_that_are_not_read_block_their_client_too() {
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
    // The mobile has not read a thing yet.
    relay.wait_for_log_ending("Desktop disconnected from session abc: 1006");

    expect_part_of_flood(&mut mobile, &flood, "desktop_disconnected");
    mobile.expect_quiet();
}

#[test]
fn flood_goes_on_over_a_new_connection_where_the_old_one_had_not_taken_it_in_full() {
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
        // One may have gone out in full to the old one after all: whole frames come before its close.
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
fn new_connection_of_a_paused_desktop_follows_what_the_old_one_had_got_through() {
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
    // What its peer did not take is lost, and not in silence.
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
        // The mobile shows that it lives, and reads nothing; the desktop cannot show it.
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
    assert_eq!(desktop.receive_but_pings(), Received::Pong(b"alive".to_vec()));
}

#[test]
fn client_that_takes_no_byte_is_cut_off_and_its_peer_told() {
    let relay = Relay::start(&["--stall-timeout", "1500ms"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let begun = Instant::now();
    desktop.send(BINARY, &vec![0; 1_000_000]);
    assert_eq!(desktop.expect_undelivered(), 1);
    assert_lasted(begun, Duration::from_millis(1500));
    desktop.expect_notice("mobile_disconnected");
    desktop.expect_quiet();
    // In order or not, its stream ends.
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
    // What has been read at once comes at once; then the relay does not read for a while.
    for batch in [0..60, 60..61] {
        batch.clone().for_each(|number| desktop.send_text(&number.to_string()));
        batch.for_each(|number| mobile.expect_text(&number.to_string()));
    }
    // At 20 a second 61 take 3 s, but for a burst.
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
    // At 256 KiB a second 768 KiB take 3 s, but for a burst.
    assert_lasted(begun, Duration::from_millis(900));
    mobile.expect_quiet();
}

#[test]
fn message_that_the_relay_itself_holds_back_may_take_longer() {
    let flags = ["--max-byte-rate", "64KiB", "--message-timeout", "1500ms", "--stall-timeout", "1500ms"];
    let relay = Relay::start(&flags);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let text = format!("\"{}\"", "x".repeat(320 * 1024));
    desktop.send_text(&text);
    mobile.expect_text(&text);
    desktop.expect_quiet();
}

/// Requires a close with 1001, though the client goes on sending `next`, and not before `timeout`.
fn assert_ended(flags: &[&str], opening: &[u8], next: &[u8], timeout: Duration) {
    let relay = Relay::start(flags);
    let mut desktop = relay.join("desktop", "abc");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    let begun = Instant::now();
    mobile.send_raw(opening);
    let code = loop {
        assert!(begun.elapsed() < PATIENCE, "the relay waits and waits");
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
fn message_not_whole_in_time_ends_its_client_though_fragments_keep_coming() {
    let flags = ["--message-timeout", "500ms"];
    let (opening, next) = (frame(TEXT_BEGINS, b"["), frame(CONTINUES, b" "));
    assert_ended(&flags, &opening, &next, Duration::from_millis(500));
}

#[test]
fn message_that_stands_still_ends_its_client_though_pings_keep_coming() {
    let opening = frame(TEXT_BEGINS, b"[");
    assert_ended(&["--stall-timeout", "500ms"], &opening, b"", Duration::from_millis(500));
}

#[test]
fn frame_that_stands_still_ends_its_client() {
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
fn end_of_a_connection_at_any_byte_harms_nobody() {
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
fn garbage_in_place_of_a_head_or_of_frames_harms_nobody() {
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
fn out_of_descriptors_the_relay_serves_those_it_has_and_recovers() {
    // Those that are told to come back later need descriptors too.
    let relay = Relay::start_after("ulimit -n 40", &["--max-connections", "10"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    for _ in 0..2 {
        let crowd: Vec<_> = (0..100).map(|_| relay.tcp()).collect();
        desktop.send_text("1");
        mobile.expect_text("1");
        mobile.send_text("2");
        desktop.expect_text("2");
        drop(crowd);
        let deadline = Instant::now() + PATIENCE;
        while Answer::to(relay.tcp(), &plain_request("GET", "/health")).status != 200 {
            assert!(Instant::now() < deadline, "still refused");
            thread::sleep(Duration::from_millis(20));
        }
    }
    desktop.expect_quiet();
}
