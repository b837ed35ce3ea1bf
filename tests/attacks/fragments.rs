//! Attacks by messages in very many fragments.

use crate::bystanders::Bystanders;
use crate::client::Received;
use crate::footprint::{Footprint, MIB, quiet_relay};
use crate::frame::{BINARY_BEGINS, CONTINUES, ENDS, PING, TEXT_BEGINS, frame};

const MILLION: usize = 1_000_000;
/// How often bystanders must be served while a million fragments are read. If each connection reads a quarter of a
/// megabyte per turn, it is about twenty times; if a flood's turn lasts until its end, it is one to four times.
const TIMES_SERVED_MIN: usize = 6;

/// The beginning of a text and a million fragments of `payload`. They are sent at once, so that every read finds
/// more.
fn million(payload: &str) -> Vec<u8> {
    [frame(TEXT_BEGINS, b"\""), frame(CONTINUES, payload.as_bytes()).repeat(MILLION)].concat()
}

fn assert_million_pass(payload: &str, memory_bytes: u64) {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let message = [million(payload), frame(ENDS, b"\"")].concat();
    let before = Footprint::of(&relay);
    let mut received = Received::End;
    let times = bystanders.times_served_during(|| {
        desktop.send_raw(&message);
        received = mobile.receive();
    });
    let text = format!("\"{}\"", payload.repeat(MILLION));
    assert!(received == Received::Text(text), "{received:?}");
    eprintln!("bystanders: served {times} times");
    assert!(times >= TIMES_SERVED_MIN, "bystanders were served only {times} times");
    before.assert_memory_grew_at_most(memory_bytes);
    // For a debug build on a busy machine. A release build takes a twentieth.
    before.assert_took_at_most(15);
}

/// CVE-2026-48779 (ws: each fragment has its own buffer, with a hundred bytes for each byte).
#[test]
fn million_fragments_of_one_byte_take_little_more_memory_than_the_message() {
    assert_million_pass("x", 4 * MIB);
}

/// actix/actix-extras#651 and websockets/ws#2329 (fragments without payload are not limited).
#[test]
fn million_empty_fragments_take_no_memory() {
    assert_million_pass("", MIB / 2);
}

/// websockets/ws#2331 (second part of CVE-2026-48779: a message that never ends keeps its memory).
#[test]
fn memory_of_an_unfinished_message_in_a_million_fragments_is_freed_with_its_connection() {
    let relay = quiet_relay(&[]);
    let mut desktop = relay.join("desktop", "abc");
    let fragments = million("x");
    let before = Footprint::of(&relay);
    for _ in 0..3 {
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        mobile.send_raw(&fragments);
        // Pongs overtake messages, but the relay must have read all fragments before the ping.
        mobile.expect_quiet();
        mobile.reset();
        desktop.expect_notice("mobile_disconnected");
    }
    before.assert_memory_grew_at_most(4 * MIB);
}

/// mtrudel/bandit#685 (legal fragments were refused in order to stop attacks).
#[test]
fn message_of_4_mib_in_fragments_of_64_bytes_passes_with_pings_and_halves_of_characters_between() {
    let relay = quiet_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    // Three bytes per character, so most fragments end inside a character.
    let text = format!("\"{}\"", "€".repeat((4 << 20) / 3));
    let mut bytes = Vec::new();
    let mut pings = 0;
    for (number, part) in text.as_bytes().chunks(64).enumerate() {
        bytes.extend(frame(if number == 0 { TEXT_BEGINS } else { CONTINUES }, part));
        if number % 1000 == 0 {
            bytes.extend(frame(PING, b"?"));
            pings += 1;
        }
    }
    bytes.extend(frame(ENDS, b""));
    desktop.send_raw(&bytes);
    let received = mobile.receive();
    assert!(received == Received::Text(text), "{received:?}");
    (0..pings).for_each(|_| desktop.expect(&Received::Pong(b"?".to_vec())));
    mobile.expect_quiet();
}

/// TooTallNate/Java-WebSocket#1508 and ithewei/libhv#875 (the limit is checked per fragment, not per message).
#[test]
fn fragments_that_exceed_the_limit_together_are_refused_at_once() {
    let relay = quiet_relay(&["--max-message-size", "512KiB"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let before = Footprint::of(&relay);
    for first in [TEXT_BEGINS, BINARY_BEGINS] {
        mobile.send(first, &[b' '; 1024]);
        (0..511).for_each(|_| mobile.send(CONTINUES, &[b' '; 1024]));
        mobile.expect_quiet();
        mobile.send(CONTINUES, b"");
        mobile.expect_quiet();
        mobile.send(CONTINUES, b" ");
        assert_eq!(mobile.receive_system()["code"], "message_too_large");
        mobile.expect_close_code(1009);
        desktop.expect_notice("mobile_disconnected");
        mobile = relay.join_peer("mobile", "abc", &mut desktop);
    }
    before.assert_memory_grew_at_most(4 * MIB);
}
