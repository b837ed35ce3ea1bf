//! The relay inside another program, with an event loop of its own.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails by panicking"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apptuner_relay::relay::{ClientType, EndReason};
use apptuner_relay::{
    BindError, Config, Hook, IpNet, ListenAddress, Member, Secret, Server, Service, Settings, StopHandle,
    Stopped, Turn,
};

const TICK: Duration = Duration::from_millis(1);

fn server() -> Server {
    let listen = vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into()];
    Server::bind(&Config { listen, ..Config::default() }).unwrap()
}

/// Makes turns until the client has received something that `is_enough`.
fn turn_until(server: &mut Server, client: &mut TcpStream, is_enough: impl Fn(&str) -> bool) -> String {
    client.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    for _ in 0..10_000 {
        let wait = server.next_wait().map_or(TICK, |wait| wait.min(TICK));
        assert_eq!(server.turn(Some(wait)).unwrap(), Turn::Running);
        let mut buffer = [0; 4096];
        match client.read(&mut buffer) {
            Ok(count) => received.extend(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let text = String::from_utf8_lossy(&received);
        if is_enough(&text) {
            return text.into_owned();
        }
    }
    panic!("nothing came: {}", String::from_utf8_lossy(&received));
}

/// An upgrade request for `path`.
fn head(path: &str) -> Vec<u8> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    head.into_bytes()
}

/// A client that has joined the session that `path` names.
fn join(server: &mut Server, addr: SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).unwrap();
    client.write_all(&head(path)).unwrap();
    turn_until(server, &mut client, |text| text.contains(r#""type":"connected""#));
    client
}

#[test]
fn host_makes_turns_itself_and_stops_the_server() {
    let mut server = server();
    assert!(server.as_raw_fd() >= 0);
    for addr in server.local_addrs() {
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
        let answer = turn_until(&mut server, &mut client, |text| text.ends_with('}'));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let stop = server.stop_handle();
    stop.stop().unwrap();
    assert_eq!(server.run().unwrap(), Stopped::Cleanly);
    assert_eq!(server.turn(None).unwrap(), Turn::Stopped(Stopped::Cleanly), "and stays stopped");
    assert!(server.local_addrs().is_empty());
}

#[test]
fn host_can_have_an_operators_listener() {
    let listen = vec![([127, 0, 0, 1], 0).into()];
    let admin = Some(([127, 0, 0, 1], 0).into());
    let mut server = Server::bind(&Config { listen, admin, ..Config::default() }).unwrap();
    let Some(ListenAddress::Tcp(address)) = server.admin_address() else { panic!("it has one") };
    assert_ne!(address.port(), 0, "the port that was chosen");
    assert!(!server.local_addrs().contains(&address), "it is not for clients");
    let mut operator = TcpStream::connect(address).unwrap();
    operator.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    turn_until(&mut server, &mut operator, |text| text.ends_with("ready\n"));
}

#[test]
fn second_request_stops_the_server_at_once() {
    let mut server = server();
    let addr = server.local_addrs()[0];
    let _client = join(&mut server, addr, "/desktop/a");
    let stop = server.stop_handle();
    stop.stop().unwrap();
    assert_eq!(server.turn(Some(TICK)).unwrap(), Turn::Running, "a client has yet to answer its close");
    stop.stop().unwrap();
    assert_eq!(server.run().unwrap(), Stopped::AtOnce);
}

#[test]
fn stop_handle_works_from_another_thread() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<StopHandle>();
    let mut server = server();
    let stop = server.stop_handle();
    let stopper = std::thread::spawn(move || stop.stop());
    assert_eq!(server.run().unwrap(), Stopped::Cleanly);
    stopper.join().unwrap().unwrap();
}

#[test]
fn server_runs_in_its_own_thread() {
    let mut server = server();
    let stop = server.stop_handle();
    let thread = std::thread::spawn(move || server.run());
    stop.stop().unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), Stopped::Cleanly);
}

#[test]
fn bind_error_is_one_line_with_the_remedy() {
    let taken = server();
    let config = Config { listen: vec![taken.local_addrs()[0].into()], ..Config::default() };
    let error = Server::bind(&config).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BindError::Listen { .. }), "{text}");
    assert!(text.starts_with("listen 127.0.0.1:") && text.contains("in use; stop"), "{text}");
    let config = Config { listen: vec![], ..Config::default() };
    assert!(matches!(Server::bind(&config), Err(BindError::Config(_))));
}

#[test]
fn errors_name_the_field_that_holds_the_setting() {
    let with = |relay: Settings| Config { relay, ..Config::default() };
    let small = with(Settings { max_buffered: 1 << 10, ..Settings::default() });
    let text = "max_buffered 1KiB: must be 1MiB to 1024GiB; leave it out for the default, 256MiB";
    assert_eq!(small.validate().unwrap_err().to_string(), text);
    assert_eq!(Server::bind(&small).unwrap_err().to_string(), text);

    let keys = Config { api_keys: Some("/none/such".into()), ..Config::default() };
    let error = Server::bind(&keys).unwrap_err();
    assert!(matches!(error, BindError::File(_)) && error.is_misconfiguration());
    assert_eq!(error.to_string(), "api_keys /none/such: no such file; check the path");

    let office: IpNet = "192.0.2.0/24".parse().unwrap();
    let token = Secret::new(b"0123456789abcdef");
    let config = with(Settings { allow: vec![office], ..Settings::default() });
    assert_eq!(Config { admin_token: token, ..config }.validate(), Ok(()));
}

#[test]
fn host_reads_counts_sessions_and_metrics_without_http() {
    let mut server = server();
    let addr = server.local_addrs()[0];
    assert_eq!((server.connections(), server.sessions(), server.buffered_bytes()), (0, 0, 0));
    assert_eq!(server.service(), Service::Ready);
    assert_eq!(server.report_sessions(0, 10), (vec![], None));

    let _desktop = join(&mut server, addr, "/desktop/long-name");
    let mut mobile = join(&mut server, addr, "/mobile/long-name");
    let _other = join(&mut server, addr, "/mobile/other");
    assert_eq!((server.connections(), server.sessions()), (3, 2));
    assert_eq!((server.census().sessions, server.census().clients), ([0, 1, 1], [1, 2]));
    assert_eq!(server.counters().joins[ClientType::Mobile as usize], 2);

    // The text `[1]` in one frame with a mask of zeros.
    mobile.write_all(b"\x81\x83\0\0\0\0[1]").unwrap();
    while server.counters().messages_accepted.iter().sum::<u64>() == 0 {
        assert_eq!(server.turn(Some(TICK)).unwrap(), Turn::Running);
    }
    let (first, next) = server.report_sessions(0, 1);
    let (second, end) = server.report_sessions(next.expect("there is another"), 1);
    let mut reports = [first, second].concat();
    reports.sort_by(|a, b| a.id_start.cmp(&b.id_start));
    assert_eq!([&reports[0].id_start, &reports[1].id_start], ["long", "ot"], "never enough of it to join");
    assert_eq!((reports[0].has_desktop, reports[0].has_mobile), (true, true));
    assert_eq!((reports[0].traffic.messages, reports[0].traffic.bytes), (1, 3));
    assert_eq!((reports[1].has_desktop, reports[1].has_mobile), (false, true));
    assert_eq!(end, None);

    let turns = |metrics: &str| {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("apptuner_relay_event_loop_lag_seconds_count "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let metrics = server.metrics();
    assert!(metrics.contains("\napptuner_relay_sessions{state=\"paired\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nprocess_start_time_seconds 1"), "{metrics}");
    assert_eq!(turns(&metrics), 0, "not measured before the first call");
    assert_eq!(server.turn(Some(TICK)).unwrap(), Turn::Running);
    assert_eq!(turns(&server.metrics()), 1, "from then on it is measured");

    server.stop_handle().stop().unwrap();
    assert_eq!(server.turn(Some(TICK)).unwrap(), Turn::Running);
    assert_eq!(server.service(), Service::Draining);
    server.stop_handle().stop().unwrap();
    assert_eq!(server.run().unwrap(), Stopped::AtOnce);
    assert_eq!(server.service(), Service::Draining);
}

#[test]
#[cfg(target_os = "linux")]
fn host_waits_for_the_server_in_its_own_poll() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let is_ready = |server: &Server, wait: Duration| {
        let timeout = Timespec::try_from(wait).unwrap();
        poll(&mut [PollFd::new(server, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    };
    let mut server = server();
    assert_eq!(server.as_fd().as_raw_fd(), server.as_raw_fd());
    assert_eq!(server.turn(Some(Duration::ZERO)).unwrap(), Turn::Running);
    assert!(!is_ready(&server, Duration::ZERO), "nothing has happened");

    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
    client.set_nonblocking(true).unwrap();
    let mut answer = [0; 12];
    while client.read(&mut answer).is_err() {
        let is_due = server.next_wait().is_some_and(|wait| wait.is_zero());
        assert!(is_due || is_ready(&server, Duration::from_secs(10)), "the descriptor tells of the client");
        assert_eq!(server.turn(Some(Duration::ZERO)).unwrap(), Turn::Running);
    }
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(client);
    while server.connections() > 0 {
        assert_eq!(server.turn(Some(TICK)).unwrap(), Turn::Running);
    }
    assert!(!is_ready(&server, Duration::ZERO), "the client is gone");

    server.stop_handle().stop().unwrap();
    assert!(is_ready(&server, Duration::ZERO), "a request to stop is told of as well");
    assert_eq!(server.run().unwrap(), Stopped::Cleanly);
}

#[test]
fn a_hook_refuses_clients_and_hears_of_those_that_join_and_leave() {
    /// Lets in only the session `open`, and counts joins less leaves.
    struct Door(Arc<AtomicUsize>);

    impl Hook for Door {
        fn may_join(&mut self, client: &Member<'_>) -> bool {
            client.session_id == "open"
        }
        fn joined(&mut self, _: &Member<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn left(&mut self, _: &Member<'_>, _: EndReason, code: u16) {
            assert_eq!(code, 1006);
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    let mut server = server();
    let addr = server.local_addrs()[0];
    let clients = Arc::new(AtomicUsize::new(0));
    server.set_hook(Box::new(Door(Arc::clone(&clients))));
    let desktop = join(&mut server, addr, "/desktop/open");
    let mut mobile = join(&mut server, addr, "/mobile/open");
    assert_eq!(clients.load(Ordering::Relaxed), 2);

    let mut stranger = TcpStream::connect(addr).unwrap();
    stranger.write_all(&head("/desktop/other")).unwrap();
    turn_until(&mut server, &mut stranger, |text| text.starts_with("HTTP/1.1 403 "));
    drop(desktop);
    turn_until(&mut server, &mut mobile, |text| text.contains("desktop_disconnected"));
    assert_eq!(clients.load(Ordering::Relaxed), 1);
}
