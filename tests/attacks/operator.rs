//! Attacks on clients and operators through the operator's listener.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::bystanders::Bystanders;
use crate::client::{Client, with_timeouts};
use crate::footprint::{Footprint, MIB, connections_allowed, descriptors, descriptors_below};
use crate::harness::{Relay, WAIT_MAX, relay_command};
use crate::processor::assert_rests;
use crate::stream::Stream;

const TOKEN: &str = "correct-horse-battery-staple";
/// Enough for an answer on a busy machine. A connection that waits for its timeout takes five seconds.
const SOON: Duration = Duration::from_secs(3);

/// A relay with an operator's listener, started after `preparation`, and the listener's address.
fn start_after(preparation: &str, flags: &[&str]) -> (Relay, SocketAddr) {
    let admin = ["--admin", "127.0.0.1:0", "--ping-interval", "1h"];
    let relay = Relay::start_after(preparation, &[&admin, flags].concat());
    let line = relay.wait_for_log("the operator's address", |line| line.contains("operator on http://"));
    let address = line.rsplit("http://").next().unwrap().parse().unwrap();
    (relay, address)
}

fn start(flags: &[&str]) -> (Relay, SocketAddr) {
    start_after(":", flags)
}

fn connect(address: SocketAddr) -> TcpStream {
    with_timeouts(TcpStream::connect(address).unwrap())
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn with_token(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
}

/// Sends `bytes` and returns whether that worked. An error does not matter to most callers.
fn send(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

fn get(address: SocketAddr, target: &str) -> Answer {
    Answer::to(Stream::plain(connect(address)), &request(target))
}

/// How many turns the loop has made.
fn turns(address: SocketAddr) -> usize {
    let metrics = get(address, "/metrics").body;
    let count = "apptuner_relay_event_loop_lag_seconds_count ";
    metrics.lines().find_map(|line| line.strip_prefix(count)).unwrap().parse().unwrap()
}

/// Runs `attack` repeatedly in two threads while `act` runs.
fn under_attack<T>(attack: impl Fn() + Sync, act: impl FnOnce() -> T) -> T {
    /// Stops the attackers when it is dropped, even after a panic.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    attack();
                }
            });
        }
        act()
    })
}

/// How many exchanges the bystanders have in one second.
fn times_served(bystanders: &mut Bystanders) -> usize {
    bystanders.times_served_during(|| thread::sleep(Duration::from_secs(1)))
}

/// twitter/twemproxy#416 (with edge-triggered events, a client that sends faster than it is read uses up all reads).
#[test]
fn endless_bodies_leave_the_clients_their_share() {
    let (relay, admin) = start(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let undisturbed = times_served(&mut bystanders);
    let body = vec![b'x'; 1 << 20];
    let attack = || {
        let stream = connect(admin);
        let deadline = Instant::now() + Duration::from_millis(500);
        send(&stream, request("/livez").as_bytes());
        while Instant::now() < deadline && send(&stream, &body) {}
    };
    let disturbed = under_attack(attack, || times_served(&mut bystanders));
    eprintln!("{disturbed} instead of {undisturbed}");
    assert!(disturbed > undisturbed / 20, "{disturbed} instead of {undisturbed}");
    before.assert_memory_grew_at_most(2 * MIB);
}

/// The same, measured by the relay's own count of turns: on a busy machine, clients wait for other reasons, too.
#[test]
fn endless_body_is_read_in_small_portions() {
    /// Bytes of a stream that the system may hold.
    const UNREAD_BYTES_MAX: usize = 16 << 20;
    /// Bytes read of a connection per turn.
    const READ_BYTES_MAX: usize = 4096;
    let (_relay, admin) = start(&[]);
    let before = turns(admin);
    let stream = connect(admin);
    let body = vec![b'x'; 64 << 20];
    assert!(send(&stream, request("/livez").as_bytes()) && send(&stream, &body));
    drop(stream);
    let turns = turns(admin) - before;
    eprintln!("{turns} turns");
    assert!(turns > (body.len() - UNREAD_BYTES_MAX) / READ_BYTES_MAX, "{turns} turns");
}

/// hyperium/hyper#1764 (a client that has sent everything and ended its stream) and httpwg/http-core#22: the client is
/// answered, and then waits for the end of the stream.
#[test]
fn answer_ends_at_once_with_any_amount_of_input_after_the_request() {
    let (_relay, admin) = start(&[]);
    for (target, behind, is_end_told) in [
        ("/livez", 0, true),
        ("/metrics", 0, true),
        ("/livez", 4096, false),
        ("/metrics", 300_000, false),
        ("/sessions", 300_000, true),
    ] {
        let begin = Instant::now();
        let stream = connect(admin);
        send(&stream, &[request(target).as_bytes(), &vec![b'x'; behind]].concat());
        if is_end_told {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(Answer::read(Stream::plain(stream), false).status, 200);
        assert!(begin.elapsed() < SOON, "{target}, {behind} bytes behind: {:?}", begin.elapsed());
    }
}

/// joyent/libuv#690 again, for the operator: without a free descriptor, accepting fails although a connection waits.
#[test]
fn operators_listener_without_free_descriptors_rests() {
    // Clients cannot use up the operator's descriptors, but inherited ones can.
    let inherited = (3..=9).map(|descriptor| format!("{descriptor}</dev/null")).collect::<Vec<_>>().join(" ");
    let (relay, admin) = start_after(&format!("ulimit -n 22; exec {inherited}"), &[]);
    let taken = || descriptors_below(&relay, 22);
    let crowd: Vec<_> = (taken()..21).map(|_| relay.socket()).collect();
    let deadline = Instant::now() + WAIT_MAX;
    while taken() < 21 {
        assert!(Instant::now() < deadline, "the crowd is not let in");
        thread::sleep(Duration::from_millis(5));
    }
    let stream = connect(admin);
    send(&stream, request("/livez").as_bytes());
    assert_eq!(Answer::read(Stream::plain(stream), false).status, 200);
    assert_rests(&relay);
    drop(crowd);
    assert_rests(&relay);
    // A loop that spins makes this many turns in a hundredth of a second, even on a busy machine.
    let turns = turns(admin);
    eprintln!("{turns} turns");
    assert!(turns < 1000, "{turns} turns");
    assert_eq!(get(admin, "/readyz").status, 200);
}

/// CVE-2012-5568 (Slowloris) and valkey-io/valkey#3918 (clients that hold all connections lock the operator out).
#[test]
fn thousand_slow_heads_delay_neither_clients_nor_the_operator() {
    let (relay, admin) = start(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let descriptors_before = descriptors(&relay);
    let slow: Vec<_> = (0..connections_allowed(1000)).map(|_| connect(admin)).collect();
    for byte in b"GET /metrics?" {
        for stream in &slow {
            send(stream, &[*byte]);
        }
        bystanders.are_served();
        assert_eq!(get(admin, "/metrics").status, 200);
    }
    assert!(descriptors(&relay) <= descriptors_before + 16, "no more are kept than there are places for");
    before.assert_memory_grew_at_most(2 * MIB);
    drop(slow);
    assert_rests(&relay);
}

/// valkey-io/valkey#3918 again: clients without the token that do not read their answers must not use up the
/// operator's connections.
#[test]
fn strangers_without_the_token_do_not_lock_the_operator_out() {
    let (relay, admin) = start(&["--admin-token", TOKEN]);
    let mut bystanders = Bystanders::join(&relay);
    let ask = |target: &str| {
        let begin = Instant::now();
        let answer = Answer::to(Stream::plain(connect(admin)), &with_token(target));
        assert_eq!(answer.status, 200);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    };
    let attack = || {
        let strangers: Vec<_> = (0..20).map(|_| connect(admin)).collect();
        for stream in &strangers {
            send(stream, request("/sessions?limit=500").as_bytes());
        }
        thread::sleep(Duration::from_millis(20));
    };
    under_attack(attack, || {
        for _ in 0..20 {
            ask("/metrics");
            ask("/readyz");
            bystanders.are_served();
        }
    });
}

/// ROCm/ATOM#2186 and skypilot-org/skypilot#10503 (scraping metrics delays the work, and the work delays scraping).
#[test]
fn constant_scraping_leaves_most_of_the_time_to_the_clients() {
    let (relay, admin) = start(&[]);
    let mut crowd: Vec<Client> =
        (0..connections_allowed(600)).map(|id| relay.join("desktop", &id.to_string())).collect();
    let mut bystanders = Bystanders::join(&relay);
    let undisturbed = times_served(&mut bystanders);
    let scrapes = || {
        assert_eq!(get(admin, "/sessions?limit=500").status, 200);
        assert_eq!(get(admin, "/metrics").status, 200);
    };
    let disturbed = under_attack(scrapes, || times_served(&mut bystanders));
    eprintln!("{disturbed} instead of {undisturbed}");
    assert!(disturbed > undisturbed / 10, "{disturbed} instead of {undisturbed}");
    crowd.clear();
}

/// What other programs on the machine may send to the operator's listener.
#[test]
fn any_input_is_answered_in_http_or_not_at_all_and_leaves_nothing_behind() {
    let (relay, admin) = start(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let descriptors_before = descriptors(&relay);
    let long_head = [b"GET /metrics?".as_slice(), &vec![b'x'; 1 << 20]].concat();
    for (bytes, status) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), 400),
        (b"\r\n\r\n", 400),
        (b"\0", 400),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /sessions?from=18446744073709551615&limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /sessions?from=18446744073709551616 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /history?since=18446744073709551615 HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (&long_head, 431),
    ] {
        let stream = connect(admin);
        send(&stream, bytes);
        let answer = Answer::read(Stream::plain(stream), false);
        assert_eq!(answer.status, status, "{}", bytes[..bytes.len().min(80)].escape_ascii());
    }
    for number in 0..3000 {
        let stream = connect(admin);
        match number % 4 {
            0 => Stream::plain(stream).reset(),
            1 => stream.shutdown(Shutdown::Both).unwrap(),
            2 => _ = send(&stream, request("/metrics").as_bytes()),
            _ => {
                send(&stream, request("/history").as_bytes());
                Stream::plain(stream).reset();
            }
        }
    }
    bystanders.are_served();
    assert_eq!(get(admin, "/livez").status, 200);
    let deadline = Instant::now() + WAIT_MAX;
    while descriptors(&relay) > descriptors_before {
        assert!(Instant::now() < deadline, "connections are left");
        thread::sleep(Duration::from_millis(5));
    }
    before.assert_memory_grew_at_most(2 * MIB);
    assert_rests(&relay);
}

/// A session keeps its place in the list while others come and go.
#[test]
fn lasting_sessions_are_listed_once_each_while_others_come_and_go() {
    let (relay, admin) = start(&["--reconnect-window", "1ms"]);
    let stay = connections_allowed(300);
    let _stay: Vec<Client> = (0..stay).map(|id| relay.join("desktop", &format!("stay{id:04}"))).collect();
    let number = AtomicUsize::new(0);
    let come_and_go =
        || relay.join("mobile", &format!("other{}", number.fetch_add(1, Ordering::Relaxed))).leave();
    under_attack(come_and_go, || {
        for _ in 0..5 {
            let (mut from, mut found) = ("0".to_owned(), 0);
            while from != "null" {
                let page = get(admin, &format!("/sessions?limit=37&from={from}")).body;
                found += page.matches("\"id\":\"stay\"").count();
                from = page.rsplit("\"next\":").next().unwrap().trim_end().trim_end_matches('}').to_owned();
            }
            assert_eq!(found, stay);
        }
    });
}

/// Operators ask a stopping relay for its state until it has ended. They must not delay its end.
#[test]
fn operator_is_answered_during_a_shutdown_and_does_not_delay_its_end() {
    let (mut relay, admin) = start(&["--shutdown-grace", "4s"]);
    let silent: Vec<_> = (0..20).map(|_| connect(admin)).collect();
    let (mut desktop, mobile) = relay.pair("abc");
    relay.signal(rustix::process::Signal::TERM);
    relay.wait_for_log("the beginning of the end", |line| line.contains("Shutting down"));
    for target in ["/metrics", "/sessions", "/history", "/"] {
        assert_eq!(get(admin, target).status, 200, "{target}");
    }
    assert_eq!(get(admin, "/readyz").status, 503);
    assert_rests(&relay);
    desktop.expect_close_code(1001);
    drop((desktop, mobile));
    assert_eq!(relay.wait(), Some(0));
    drop(silent);
}

/// CVE-2018-5702 (Transmission: DNS rebinding, a web page that points its own name to this machine).
#[test]
fn names_that_only_look_local_get_no_page() {
    let (_relay, admin) = start(&[]);
    for host in
        ["localhost.", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "0x7f000001", "[::1"]
    {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let status = Answer::to(Stream::plain(connect(admin)), &request).status;
        assert!(matches!(status, 400 | 421), "{host}: {status}");
    }
}

/// The file of a killed relay does not block the next one; a socket in use does.
#[test]
fn stale_socket_of_the_operator_is_replaced_and_one_in_use_is_not() {
    let path = std::env::temp_dir().join(format!("apptuner-relay-{}-stale", std::process::id()));
    let admin = format!("unix:{}", path.display());
    let first = Relay::start(&["--admin", &admin]);
    let mut second = relay_command(&[]);
    second.args(["--listen", "127.0.0.1:0", "--admin", &admin]);
    let ended = crate::harness::run_to_end(second);
    assert!(ended.code != Some(0) && ended.log.iter().any(|line| line.contains("in use")), "{:?}", ended.log);
    drop(first);
    assert!(path.exists(), "it was killed");
    let mut third = Relay::start(&["--admin", &admin]);
    let mut socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
    socket.write_all(request("/livez").as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert_eq!(third.stop(), Some(0));
    assert!(!path.exists(), "it has taken its file along");
}

/// A supervisor that does not read, like systemd while it restarts itself, takes no notices, and the socket for them
/// has room for only a few.
#[test]
fn supervisor_that_reads_no_notices_does_not_stop_the_relay() {
    let path = std::env::temp_dir().join(format!("apptuner-relay-{}-still", std::process::id()));
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
    let relay = Relay::start_with(&[], &variables);
    let is_full = |line: &str| line.contains("The supervisor cannot be told");
    let mut bystanders = Bystanders::join(&relay);
    // The system's queue usually holds at most 512 notices.
    relay.wait_for_log("the line that says so", is_full);
    bystanders.are_served();
    drop(socket);
    std::fs::remove_file(path).unwrap();
}
