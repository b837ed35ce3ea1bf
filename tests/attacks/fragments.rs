//! Messages in very many pieces.

use crate::bystanders::Bystanders;
use crate::client::Received;
use crate::footprint::{Footprint, MIB, quiet_relay};
use crate::frame::{BINARY_BEGINS, CONTINUES, ENDS, PING, TEXT_BEGINS, frame};

const MILLION: usize = 1_000_000;
/// How often bystanders must be served, at least, while a million fragments are read: with a turn each for a
/// quarter of a megabyte it is some twenty times, and one to four where a flood's turn lasts as long as the
/// flood.
const TIMES_SERVED_MIN: usize = 6;

/// The beginning of a text and a million fragments of `payload`, to be sent at once: a read always finds
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
    // In a debug build on a busy machine; a release build takes a twentieth.
    before.assert_took_at_most(15);
}

/// CVE-2026-48779 (ws: a buffer is kept for each fragment, a hundred bytes for each byte).
#[test]
fn million_fragments_of_one_byte_take_little_more_than_the_message() {
    assert_million_pass("x", 4 * MIB);
}

/// actix/actix-extras#651 and websockets/ws#2329 (no limit counts fragments without a byte).
#[test]
fn million_empty_fragments_take_nothing() {
    assert_million_pass("", MIB / 2);
}

/// websockets/ws#2331 (the rest of CVE-2026-48779: a message that is never ended holds what it has).
#[test]
fn million_fragments_that_are_never_ended_are_given_back_with_their_connection() {
    let relay = quiet_relay(&[]);
    let mut desktop = relay.join("desktop", "abc");
    let fragments = million("x");
    let before = Footprint::of(&relay);
    for _ in 0..3 {
        let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
        mobile.send_raw(&fragments);
        // Pongs overtake messages, not fragments: all have been read.
        mobile.expect_quiet();
        mobile.reset();
        desktop.expect_notice("mobile_disconnected");
    }
    before.assert_memory_grew_at_most(4 * MIB);
}

/// mtrudel/bandit#685 (fragments that are legal were refused to keep others out).
#[test]
fn message_of_4_mib_in_fragments_of_64_bytes_passes_with_pings_and_halves_of_characters_between() {
    let relay = quiet_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    // Three bytes each: most fragments end inside a character.
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

/// TooTallNate/Java-WebSocket#1508 and ithewei/libhv#875 (the limit holds for each fragment, not for all).
#[test]
fn fragments_that_add_up_to_too_much_are_refused_with_the_one_that_does() {
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
