//! Section 4: bytes that arrived before a deadline count, even if the process reads them late.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::answer::upgrade_request;
use crate::client::{Client, Received};
use crate::frame::{BINARY, PING, PONG, frame};
use crate::harness::Relay;

/// Stops the relay's process, calls `act`, and continues the process after `time`.
fn while_stopped(relay: &Relay, time: Duration, act: impl FnOnce()) {
    let pause = || thread::sleep(Duration::from_millis(100));
    // First the relay must reach its poll, which the signal then interrupts. Events before that would be reported.
    pause();
    relay.signal(Signal::STOP);
    pause();
    act();
    // The deadline must pass in real time.
    thread::sleep(time);
    relay.signal(Signal::CONT);
}

#[test]
fn stopped_relay_answers_a_request_that_was_complete_in_time() {
    let relay = Relay::start(&["--handshake-timeout", "1s"]);
    let requests: Vec<_> = (0..20).map(|number| upgrade_request(&format!("/desktop/{number}"))).collect();
    let mut streams: Vec<_> = requests.iter().map(|_| relay.tcp()).collect();
    for (stream, request) in streams.iter_mut().zip(&requests) {
        stream.write_all(&request.as_bytes()[..20]).unwrap();
    }
    // This client is accepted after the others, so they are accepted, too.
    relay.join("mobile", "sync").leave();
    while_stopped(&relay, Duration::from_millis(1200), || {
        for (stream, request) in streams.iter_mut().zip(&requests) {
            stream.write_all(&request.as_bytes()[20..]).unwrap();
        }
    });
    for stream in streams {
        let (answer, _client) = Client::handshake(stream, b"");
        assert_eq!(answer.status, 101, "{answer:?}");
    }
}

#[test]
fn stopped_relay_counts_pongs_that_had_arrived() {
    // More clients than one poll reports.
    let relay = Relay::start(&["--ping-interval", "4s"]);
    let mut clients: Vec<Client> = (0..400).map(|number| relay.join("mobile", &number.to_string())).collect();
    for client in &mut clients {
        assert!(matches!(client.receive(), Received::Ping(_)));
    }
    while_stopped(&relay, Duration::from_millis(4200), || {
        for client in &mut clients {
            client.send(PONG, b"");
        }
    });
    for client in &mut clients {
        client.send(PING, b"?");
        assert_eq!(client.receive_except_pings(), Received::Pong(b"?".to_vec()));
    }
}

#[test]
fn stopped_relay_keeps_a_session_whose_message_had_arrived() {
    let relay = Relay::start(&["--session-timeout", "1s"]);
    let mut pairs: Vec<_> = (0..20).map(|number| relay.pair(&number.to_string())).collect();
    while_stopped(&relay, Duration::from_millis(1200), || {
        for (desktop, _) in &mut pairs {
            desktop.send_text("1");
        }
    });
    for (_, mobile) in &mut pairs {
        mobile.expect_text("1");
    }
}

#[test]
fn stopped_relay_accepts_a_message_that_had_arrived_in_time() {
    let relay = Relay::start(&["--stall-timeout", "1s"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let message = frame(BINARY, &vec![7; 300_000]);
    desktop.send_raw(&message[..100_000]);
    // When this client is answered, the relay has read the bytes before.
    relay.join("mobile", "sync").leave();
    while_stopped(&relay, Duration::from_millis(1200), || desktop.send_raw(&message[100_000..]));
    assert_eq!(mobile.receive_except_pings(), Received::Binary(vec![7; 300_000]));
}
