//! Section 4: what had arrived by a deadline counts, however late the process gets to it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::answer::upgrade_request;
use crate::client::{Client, Received};
use crate::frame::{BINARY, PING, PONG, frame};
use crate::harness::Relay;

/// Stops the relay's process, lets `act` happen meanwhile, and continues it after `time`.
fn while_stopped(relay: &Relay, time: Duration, act: impl FnOnce()) {
    let pause = || thread::sleep(Duration::from_millis(100));
    // It comes to rest in its poll, which the signal then interrupts; what comes before that would be told.
    pause();
    relay.signal(Signal::STOP);
    pause();
    act();
    // The deadline has to pass: there is nothing to wait for.
    thread::sleep(time);
    relay.signal(Signal::CONT);
}

#[test]
fn request_that_was_complete_in_time_is_answered_by_a_relay_that_was_stopped() {
    let relay = Relay::start(&["--handshake-timeout", "1s"]);
    let requests: Vec<_> = (0..20).map(|number| upgrade_request(&format!("/desktop/{number}"))).collect();
    let mut streams: Vec<_> = requests.iter().map(|_| relay.tcp()).collect();
    for (stream, request) in streams.iter_mut().zip(&requests) {
        stream.write_all(&request.as_bytes()[..20]).unwrap();
    }
    // Another one's turn comes behind theirs: they are accepted.
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
fn clients_whose_pongs_had_arrived_are_not_silent_for_a_relay_that_was_stopped() {
    // More than one look at the kernel tells of.
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
        assert_eq!(client.receive_but_pings(), Received::Pong(b"?".to_vec()));
    }
}

#[test]
fn message_that_had_arrived_keeps_its_session_in_a_relay_that_was_stopped() {
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
fn message_that_had_arrived_is_not_late_for_a_relay_that_was_stopped() {
    let relay = Relay::start(&["--stall-timeout", "1s"]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let message = frame(BINARY, &vec![7; 300_000]);
    desktop.send_raw(&message[..100_000]);
    // The relay has read that when it answers what comes behind.
    relay.join("mobile", "sync").leave();
    while_stopped(&relay, Duration::from_millis(1200), || desktop.send_raw(&message[100_000..]));
    assert_eq!(mobile.receive_but_pings(), Received::Binary(vec![7; 300_000]));
}
