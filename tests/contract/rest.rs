//! Sections 5 and 6: work is bounded, so a relay to which nothing happens rests, whatever odd clients it has.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::Client;
use crate::frame::{BINARY, PING, TEXT, frame};
use crate::harness::Relay;

/// Time for what was set in motion to come to rest, and then to be watched.
const SETTLING: Duration = Duration::from_millis(300);
const WATCHED: Duration = Duration::from_millis(700);
/// Hundredths of a second of processor time allowed meanwhile; a busy loop takes some 70.
const RESTING_TICKS_MAX: u64 = 25;

/// Requires that the relay uses hardly any processor time from here on.
fn assert_rests(relay: &Relay) {
    thread::sleep(SETTLING);
    let before = processor_ticks(relay.process_id());
    thread::sleep(WATCHED);
    let used = processor_ticks(relay.process_id()) - before;
    assert!(used <= RESTING_TICKS_MAX, "{used} hundredths of a second in {WATCHED:?}");
}

/// User and system time so far, in hundredths of a second (`proc_pid_stat(5)`, fields 14 and 15).
fn processor_ticks(process_id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A session whose mobile has a large message waiting of which it took no more than the start.
fn stuffed(relay: &Relay) -> (Client, Client) {
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    desktop.send(BINARY, &vec![0; 8 << 20]);
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
    let _crowd: Vec<TcpStream> = (0..100).map(|_| relay.tcp()).collect();
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
