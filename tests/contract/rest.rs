//! Sections 5 and 6: work is bounded, so a relay without events rests, after any actions of clients.

use std::io::Write;

use rustix::process::Signal;

use crate::client::Client;
use crate::frame::{BINARY, PING, TEXT, frame};
use crate::harness::Relay;
use crate::processor::assert_rests;

/// A session with a large message of which the mobile has read only the start.
fn stuffed(relay: &Relay) -> (Client, Client) {
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.send(BINARY, &vec![0; 1_000_000]);
    assert_eq!(mobile.fill(), None);
    (desktop, mobile)
}

/// A mobile that has sent pings until the relay took no more, and has read no pong.
fn unread_pongs(relay: &Relay) -> Client {
    let mut mobile = Client::join(relay.narrow_tcp(), "mobile", "abc");
    mobile.flood(|_| frame(PING, &[0; 125]).repeat(500));
    mobile
}

#[test]
fn relay_rests_with_a_paused_desktop_before_and_after_the_end_of_its_stream() {
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
fn relay_rests_with_unread_replies() {
    let relay = Relay::start(&[]);
    let mobile = unread_pongs(&relay);
    assert_rests(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
    mobile.reset();
    assert_rests(&relay);
}

#[test]
fn relay_rests_with_a_client_that_ended_its_stream_and_does_not_read() {
    let relay = Relay::start(&[]);
    let (_desktop, mobile) = stuffed(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
    mobile.reset();
    assert_rests(&relay);
}

#[test]
fn relay_rests_with_a_client_that_broke_the_protocol_and_does_not_read() {
    let relay = Relay::start(&[]);
    let (_desktop, mut mobile) = stuffed(&relay);
    mobile.send_raw(&[0xFF; 20]);
    assert_rests(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
}

#[test]
fn relay_rests_with_a_client_that_closed_and_does_not_read() {
    let relay = Relay::start(&[]);
    let (_desktop, mut mobile) = stuffed(&relay);
    mobile.send_close(1000, "");
    assert_rests(&relay);
    mobile.finish_sending();
    assert_rests(&relay);
}

#[test]
fn relay_rests_with_a_replaced_client_that_does_not_read() {
    let relay = Relay::start(&[]);
    let (mut desktop, old) = stuffed(&relay);
    let _new = Client::join_peer(relay.narrow_tcp(), "mobile", "abc", &mut desktop);
    assert_rests(&relay);
    old.finish_sending();
    assert_rests(&relay);
}

#[test]
fn relay_rests_with_an_unread_http_answer() {
    let relay = Relay::start(&[]);
    let mut client = relay.tcp();
    let request = "GET /health HTTP/1.1\r\nHost: relay\r\n\r\n".to_owned() + &"x".repeat(300_000);
    client.write_all(request.as_bytes()).unwrap();
    assert_rests(&relay);
}

#[test]
fn relay_rests_without_free_descriptors() {
    let relay = Relay::start_after("ulimit -n 40", &["--max-connections", "10"]);
    let _crowd: Vec<_> = (0..100).map(|_| relay.tcp()).collect();
    assert_rests(&relay);
}

#[test]
fn relay_rests_with_a_client_over_its_rate() {
    let relay = Relay::start(&["--max-message-rate", "1"]);
    let (mut desktop, _mobile) = relay.pair("abc");
    for _ in 0..3 {
        desktop.send_raw(&frame(TEXT, b"1").repeat(100));
    }
    assert_rests(&relay);
}

#[test]
fn relay_rests_in_a_shutdown_that_waits_for_a_client() {
    let relay = Relay::start(&["--shutdown-grace", "10m"]);
    let (_desktop, _mobile) = stuffed(&relay);
    relay.signal(Signal::TERM);
    assert_rests(&relay);
}
