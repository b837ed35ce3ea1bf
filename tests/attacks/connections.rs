//! Connections that are many, slow, odd, or not ended.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::answer::{Answer, upgrade_request};
use crate::bystanders::Bystanders;
use crate::client::{Client, Received};
use crate::footprint::{Footprint, MIB, connections_allowed, descriptors, quiet_relay};
use crate::frame::{BINARY, CONTINUES, TEXT, TEXT_BEGINS, frame, frame_header};
use crate::harness::{PATIENCE, Relay};
use crate::processor::assert_rests;

/// The descriptors of a relay's connections, each one of them a connection.
struct Connections<'a> {
    relay: &'a Relay,
    /// What it has open while nobody is connected.
    descriptors_at_rest: usize,
}

impl<'a> Connections<'a> {
    /// Of a relay to which nobody is connected.
    fn none_yet(relay: &'a Relay) -> Self {
        Self { relay, descriptors_at_rest: descriptors(relay) }
    }

    /// Waits until there are so many.
    fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = descriptors(self.relay) - self.descriptors_at_rest;
            if open == count {
                return;
            }
            assert!(Instant::now() < deadline, "{open} connections, not {count}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// CVE-2012-5568 (Slowloris): heads that come by single bytes and never end.
#[test]
fn two_thousand_slow_heads_hold_up_nobody_and_end_in_time() {
    let relay = quiet_relay(&["--handshake-timeout", "3s"]);
    let connections = Connections::none_yet(&relay);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let mut slow: Vec<_> = (0..connections_allowed(2000)).map(|_| relay.tcp()).collect();
    for byte in b"GET /hea" {
        for stream in &mut slow {
            stream.write_all(&[*byte]).unwrap();
        }
        bystanders.are_served();
    }
    before.assert_memory_grew_at_most(8 * MIB);
    for stream in slow {
        assert_eq!(Answer::read(stream, false).status, 408);
    }
    bystanders.are_served();
    connections.wait_for(2);
}

/// tylerbutler/beryl#198 (a frame announced large is waited for, however slowly it comes).
#[test]
fn two_thousand_slow_frames_hold_up_nobody_and_end_in_time() {
    let relay = quiet_relay(&["--message-timeout", "3s"]);
    let connections = Connections::none_yet(&relay);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let openings = [
        vec![TEXT],
        frame_header(TEXT, 10_000),
        frame_header(BINARY, 10_000_000),
        frame(TEXT_BEGINS, b"["),
        [frame(TEXT_BEGINS, b"["), frame(CONTINUES, &[b' '; 300])[..100].to_vec()].concat(),
    ];
    let mut slow: Vec<Client> =
        (0..connections_allowed(2000)).map(|id| relay.join("mobile", &id.to_string())).collect();
    for (client, opening) in slow.iter_mut().zip(openings.iter().cycle()) {
        client.send_raw(opening);
    }
    bystanders.are_served();
    before.assert_memory_grew_at_most(12 * MIB);
    for client in &mut slow {
        let received = client.receive();
        assert!(matches!(received, Received::Close(1001, _)), "{received:?}");
    }
    bystanders.are_served();
    drop(slow);
    connections.wait_for(2);
}

/// joyent/libuv#690, ninenines/ranch#36 and oven-sh/bun#32705 (out of descriptors, `accept` fails and fails,
/// and nothing else is done).
#[test]
fn out_of_descriptors_the_relay_is_idle_serves_its_clients_and_recovers() {
    let relay = Relay::start_after("ulimit -n 64", &["--ping-interval", "1h"]);
    let connections = Connections::none_yet(&relay);
    let mut bystanders = Bystanders::join(&relay);
    for _ in 0..2 {
        let crowd: Vec<_> = (0..100).map(|_| relay.tcp()).collect();
        relay.wait_for_log("the line that says so", |line| line.contains("Accepting paused"));
        assert_rests(&relay);
        bystanders.are_served();
        drop(crowd);
        // What is left of the crowd in the kernel comes first, and may fill the relay again for a moment.
        let upgrade = upgrade_request("/desktop/newcomer");
        let deadline = Instant::now() + PATIENCE;
        while Client::handshake(relay.tcp(), upgrade.as_bytes()).0.status != 101 {
            assert!(Instant::now() < deadline, "nobody gets in");
        }
        connections.wait_for(2);
    }
    let warnings = relay.log_lines().iter().filter(|line| line.contains("Accepting paused")).count();
    assert!(warnings < 20, "{warnings} lines about one thing");
}

/// MisterTea/EternalTerminal#756 and emqx/esockd#9 (a client that is gone before it is accepted, or asked for its
/// address, takes the server along).
#[test]
fn connections_that_end_as_soon_as_they_begin_leave_nothing_behind() {
    let relay = quiet_relay(&[]);
    let connections = Connections::none_yet(&relay);
    let mut bystanders = Bystanders::join(&relay);
    for number in 0..3000 {
        let mut stream = relay.tcp();
        match number % 6 {
            0 => stream.reset(),
            1 => stream.socket.shutdown(Shutdown::Both).unwrap(),
            2 => stream.finish_sending().unwrap(),
            3 => stream.write_all(b"GET /hea").unwrap(),
            4 => stream.write_all(upgrade_request("/desktop/abc").as_bytes()).unwrap(),
            _ => {
                stream.write_all(upgrade_request("/mobile/abc").as_bytes()).unwrap();
                stream.reset();
            }
        }
    }
    bystanders.are_served();
    connections.wait_for(2);
}

/// faye/faye-websocket-node#58 and jetty/jetty.project#3671 (a close that is never answered keeps the
/// connection), and CVE-2024-23672 (Tomcat: so do clients that keep theirs open).
#[test]
fn close_that_is_never_answered_ends_the_connection_all_the_same() {
    let relay = quiet_relay(&[]);
    let connections = Connections::none_yet(&relay);
    // No place is taken more often than it may be.
    let sessions: Vec<Vec<Client>> = (0..20)
        .map(|session| (0..=10).map(|_| relay.join("desktop", &session.to_string())).collect())
        .collect();
    let mut last = Vec::new();
    let mut replaced = Vec::new();
    for mut clients in sessions {
        last.extend(clients.pop());
        replaced.extend(clients);
    }
    // Some go on reading, some do not; some have broken the protocol before.
    for (number, client) in replaced.iter_mut().enumerate() {
        match number % 3 {
            0 => client.expect(&Received::Close(1000, "New desktop connection".to_owned())),
            1 => client.send_raw(&[0xFF; 10]),
            _ => {}
        }
    }
    connections.wait_for(last.len());
    last.into_iter().for_each(Client::leave);
}

/// tokio-rs/mio#148 (urgent data that an event loop knows nothing of) and tempesta-tech/tempesta#873 (it gets
/// into the stream that it is no part of).
#[test]
fn urgent_data_is_no_part_of_the_stream_and_delays_nobody_but_its_sender() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let text = frame(TEXT, b"true");
    for split in 0..=text.len() {
        let (mut desktop, mut mobile) = relay.pair("abc");
        desktop.send_raw(&text[..split]);
        SockRef::from(&desktop.writer().socket).send_out_of_band(b"!").unwrap();
        desktop.send_raw(&text[split..]);
        // A read ends where the urgent byte was, and what lies behind it is read all the same.
        mobile.expect_text("true");
        bystanders.are_served();
        if split == 1 {
            assert_rests(&relay);
        }
        desktop.leave();
        mobile.expect_notice("desktop_disconnected");
        mobile.leave();
    }
}

/// OneKeyHQ/e2ee-server#26 (who has left a room, or never joined it, still reaches those in it).
#[test]
fn client_that_was_replaced_or_whose_session_only_looks_the_same_reaches_nobody() {
    let relay = quiet_relay(&[]);
    let longest = "s".repeat(128);
    let (mut old, mut mobile) = relay.pair(&longest);
    let _new = relay.join("desktop", &longest);
    mobile.expect_notice("desktop_connected");
    // It has been closed, does not answer, and goes on.
    old.send_text("\"from the past\"");
    for session in
        ["s".repeat(127), "s".repeat(127) + "S", "s".repeat(127) + "t", "S".to_owned() + &"s".repeat(127)]
    {
        let mut desktop = relay.join("desktop", &session);
        desktop.send_text("\"from next door\"");
        desktop.expect_error("peer_not_connected", "Mobile device not connected");
    }
    mobile.expect_quiet();
}

/// moq-wg/moq-transport#1095 and slact/nchan#117 (whatever is remembered by a name can be filled with names).
#[test]
fn sessions_begun_and_left_in_any_number_keep_nobody_out() {
    // Room for 4096 sessions, the fewest there is.
    let relay = quiet_relay(&["--max-connections", "50"]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    for number in 0..4200 {
        relay.join("desktop", &number.to_string()).leave();
    }
    bystanders.are_served();
    before.assert_memory_grew_at_most(4 * MIB);
}

/// The same, each of them claimed, so that a client that comes back to it could be kept out by another one.
#[test]
fn sessions_claimed_and_left_in_any_number_keep_nobody_from_having_one_issued() {
    let relay = quiet_relay(&["--max-connections", "50", "--trust-proxy", "127.0.0.1"]);
    let request = |target: &str, address: &str| {
        let line = format!("\r\nX-Forwarded-For: {address}\r\n\r\n");
        upgrade_request(target).replacen("\r\n\r\n", &line, 1)
    };
    for number in 0..4200 {
        let request = request(&format!("/desktop/{number}?secret=correct-horse-battery"), "192.0.2.1");
        let (answer, client) = Client::handshake(relay.tcp(), request.as_bytes());
        assert_eq!(answer.status, 101, "{number}");
        client.reset();
    }
    for _ in 0..3 {
        let issue = "POST /sessions HTTP/1.1\r\nHost: relay\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n";
        assert_eq!(Answer::to(relay.tcp(), issue).status, 201);
    }
}

/// Behind a proxy that names its clients: a client refused for its address keeps no place from others.
#[test]
fn one_address_behind_a_proxy_takes_no_more_places_than_it_is_due() {
    let relay =
        quiet_relay(&["--proxy-protocol", "--max-connections", "60", "--max-connections-per-ip", "5"]);
    let connect = |address: &str| {
        let mut socket = relay.socket();
        socket.write_all(format!("PROXY TCP4 {address} 127.0.0.1 1 2\r\n").as_bytes()).unwrap();
        socket
    };
    let greedy: Vec<_> = (0..300).map(|_| connect("192.0.2.1")).collect();
    let request = upgrade_request("/desktop/abc");
    let (answer, mut desktop) = Client::handshake(relay.stream(connect("198.51.100.1")), request.as_bytes());
    assert_eq!(answer.status, 101);
    desktop.expect_connected("desktop", "abc");
    assert_eq!(greedy.len(), 300);
}
