//! Sections 5 and 6: work is bounded, so a relay to which nothing happens rests, whatever odd clients it has.

use std::io::Write;

use rustix::process::Signal;

use crate::client::Client;
use crate::frame::{BINARY, PING, TEXT, frame};
use crate::harness::Relay;
use crate::processor::assert_rests;

/// A session whose mobile has a large message waiting of which it took no more than the start.
fn stuffed(relay: &Relay) -> (Client, Client) {
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.send(BINARY, &vec![0; 1_000_000]);
    assert_eq!(mobile.fill(), None);
    (desktop, mobile)
}

/// A mobile that has sent pings until the relay took no more, and read no pong.
fn unread_pongs(relay: &Relay) -> Client {
    let mut mobile = Client::join(relay.narrow_tcp(), "mobile", "abc");
    mobile.flood(|_| frame(PING, &[0; 125]).repeat(500));
    mobile
}

#[test]
fn paused_desktop_keeps_nobody_busy_before_or_after_the_end_of_its_stream() {
    let relay = Relay::start(&[]);
    let (mut desktop, _mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.flood(|_| frame(BINARY, &[0; 10_000]));
    assert_rests(&relay);
    desktop.finish_sending();
    assert_rests(&relay);
    drop(desktop);
    assert_rests(&relay);
}

#[test]
fn unread_replies_keep_nobody_busy() {
    let relay = Relay::start(&[]);
    let mobile = unread_pongs(&relay);
    assert_rests(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
    mobile.reset();
    assert_rests(&relay);
}

#[test]
fn client_that_ends_its_stream_and_does_not_read_keeps_nobody_busy() {
    let relay = Relay::start(&[]);
    let (_desktop, mobile) = stuffed(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
    mobile.reset();
    assert_rests(&relay);
}

#[test]
fn client_that_breaks_the_protocol_and_does_not_read_keeps_nobody_busy() {
    let relay = Relay::start(&[]);
    let (_desktop, mut mobile) = stuffed(&relay);
    mobile.send_raw(&[0xFF; 20]);
    assert_rests(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
}

#[test]
fn client_that_closes_and_does_not_read_keeps_nobody_busy() {
    let relay = Relay::start(&[]);
    let (_desktop, mut mobile) = stuffed(&relay);
    mobile.send_close(1000, "");
    assert_rests(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
}

#[test]
fn replaced_client_that_does_not_read_keeps_nobody_busy() {
    let relay = Relay::start(&[]);
    let (mut desktop, old) = stuffed(&relay);
    let _new = Client::join_peer(relay.narrow_tcp(), "mobile", "abc", &mut desktop);
    assert_rests(&relay);
    old.finish_sending();
    assert_rests(&relay);
}

#[test]
fn answer_over_http_that_nobody_reads_keeps_nobody_busy() {
    let relay = Relay::start(&[]);
    let mut client = relay.tcp();
    let request = "GET /health HTTP/1.1\r\nHost: relay\r\n\r\n".to_owned() + &"x".repeat(300_000);
    client.write_all(request.as_bytes()).unwrap();
    assert_rests(&relay);
}

#[test]
fn crowd_beyond_the_descriptors_keeps_nobody_busy() {
    let relay = Relay::start_after("ulimit -n 40", &["--max-connections", "10"]);
    let _crowd: Vec<_> = (0..100).map(|_| relay.tcp()).collect();
    assert_rests(&relay);
}

#[test]
fn client_over_its_rate_keeps_nobody_busy() {
    let relay = Relay::start(&["--max-message-rate", "1"]);
    let (mut desktop, _mobile) = relay.pair("abc");
    for _ in 0..3 {
        desktop.send_raw(&frame(TEXT, b"1").repeat(100));
    }
    assert_rests(&relay);
}

#[test]
fn shutdown_that_waits_for_a_client_keeps_nobody_busy() {
    let relay = Relay::start(&["--shutdown-grace", "10m"]);
    let (_desktop, _mobile) = stuffed(&relay);
    relay.signal(Signal::TERM);
    assert_rests(&relay);
}
