//! Attacks by connections that are many, slow, unusual, or never ended.

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
use crate::harness::{Relay, WAIT_MAX};
use crate::processor::assert_rests;

/// Counts a relay's connections by its open descriptors.
struct Connections<'a> {
    relay: &'a Relay,
    /// The open descriptors without connections.
    descriptors_at_rest: usize,
}

impl<'a> Connections<'a> {
    /// For a relay that has no connections yet.
    fn none_yet(relay: &'a Relay) -> Self {
        Self { relay, descriptors_at_rest: descriptors(relay) }
    }

    /// Waits until there are `count` connections.
    fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + WAIT_MAX;
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

/// CVE-2012-5568 (Slowloris): heads that come byte by byte and never end.
#[test]
fn two_thousand_slow_heads_delay_no_client_and_end_in_time() {
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

/// tylerbutler/beryl#198 (a slow frame with a large announced length is waited for without limit).
#[test]
fn two_thousand_slow_frames_delay_no_client_and_end_in_time() {
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

/// joyent/libuv#690, ninenines/ranch#36 and oven-sh/bun#32705 (without free descriptors, `accept` fails in a loop and
/// nothing else is done).
#[test]
fn without_free_descriptors_the_relay_rests_serves_its_clients_and_recovers() {
    let relay = Relay::start_after("ulimit -n 64", &["--ping-interval", "1h"]);
    let connections = Connections::none_yet(&relay);
    let mut bystanders = Bystanders::join(&relay);
    for _ in 0..2 {
        let crowd: Vec<_> = (0..100).map(|_| relay.tcp()).collect();
        relay.wait_for_log("the line that says so", |line| line.contains("Accepting paused"));
        assert_rests(&relay);
        bystanders.are_served();
        drop(crowd);
        // Connections of the crowd that still wait in the kernel come first, and may fill the relay again briefly.
        let upgrade = upgrade_request("/desktop/newcomer");
        let deadline = Instant::now() + WAIT_MAX;
        while Client::handshake(relay.tcp(), upgrade.as_bytes()).0.status != 101 {
            assert!(Instant::now() < deadline, "no new client is accepted");
        }
        connections.wait_for(2);
    }
    let warnings = relay.log_lines().iter().filter(|line| line.contains("Accepting paused")).count();
    assert!(warnings < 20, "{warnings} lines about one thing");
}

/// MisterTea/EternalTerminal#756 and emqx/esockd#9 (a client that ends before it is accepted, or before its address is
/// read, stops the server).
#[test]
fn connections_that_end_at_once_leave_nothing_behind() {
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

/// faye/faye-websocket-node#58 and jetty/jetty.project#3671 (a close that is never answered keeps the connection
/// open), and CVE-2024-23672 (Tomcat: clients that do not end theirs keep it open).
#[test]
fn unanswered_close_still_ends_the_connection() {
    let relay = quiet_relay(&[]);
    let connections = Connections::none_yet(&relay);
    // Each place changes hands only as often as is allowed.
    let sessions: Vec<Vec<Client>> = (0..20)
        .map(|session| (0..=10).map(|_| relay.join("desktop", &session.to_string())).collect())
        .collect();
    let mut last = Vec::new();
    let mut replaced = Vec::new();
    for mut clients in sessions {
        last.extend(clients.pop());
        replaced.extend(clients);
    }
    // Some clients go on reading and some do not; some have broken the protocol before.
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

/// tokio-rs/mio#148 (urgent data that an event loop does not handle) and tempesta-tech/tempesta#873 (urgent data that
/// gets into the stream).
#[test]
fn urgent_data_is_not_part_of_the_stream_and_delays_only_its_sender() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let text = frame(TEXT, b"true");
    for split in 0..=text.len() {
        let (mut desktop, mut mobile) = relay.pair("abc");
        desktop.send_raw(&text[..split]);
        SockRef::from(&desktop.writer().socket).send_out_of_band(b"!").unwrap();
        desktop.send_raw(&text[split..]);
        // A read stops at the urgent byte. The bytes after it must be read as well.
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

/// OneKeyHQ/e2ee-server#26 (a client that has left a room, or never joined it, still reaches its members).
#[test]
fn replaced_client_and_client_of_a_similar_session_reach_no_peer() {
    let relay = quiet_relay(&[]);
    let longest = "s".repeat(128);
    let (mut old, mut mobile) = relay.pair(&longest);
    let _new = relay.join("desktop", &longest);
    mobile.expect_notice("desktop_connected");
    // The old client was closed. It does not answer and sends more.
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

/// moq-wg/moq-transport#1095 and slact/nchan#117 (a table that remembers names can be filled with names).
#[test]
fn many_abandoned_sessions_do_not_block_new_ones() {
    // The relay keeps at least 4096 sessions.
    let relay = quiet_relay(&["--max-connections", "50"]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    for number in 0..4200 {
        relay.join("desktop", &number.to_string()).leave();
    }
    bystanders.are_served();
    before.assert_memory_grew_at_most(4 * MIB);
}

/// The same with claimed sessions: clients that come back to them could be locked out by others.
#[test]
fn many_abandoned_claimed_sessions_do_not_block_issuing() {
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

/// Behind a proxy that names its clients, a client that is refused for its address must not use up connections.
#[test]
fn one_address_behind_a_proxy_gets_no_more_connections_than_its_limit() {
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
