//! The relay inside another program: a host that turns it from a loop of its own.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails by panicking"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use apptuner_relay::config::ListenAddress;
use apptuner_relay::{BindError, Config, Server, StopHandle, Stopped, Turn};

const TICK: Duration = Duration::from_millis(1);

fn server() -> Server {
    let listen = vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into()];
    Server::bind(&Config { listen, ..Config::default() }).unwrap()
}

/// Turns the server until the client has received something that `is_enough`.
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

#[test]
fn a_host_turns_the_relay_itself_and_stops_it_when_it_likes() {
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
fn a_host_may_have_an_operators_listener_as_well() {
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
fn a_second_request_to_stop_is_obeyed_at_once() {
    let mut server = server();
    let addr = server.local_addrs()[0];
    let mut client = TcpStream::connect(addr).unwrap();
    client
        .write_all(
            b"GET /desktop/a HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    turn_until(&mut server, &mut client, |text| text.contains(r#""type":"connected""#));
    let stop = server.stop_handle();
    stop.stop().unwrap();
    assert_eq!(server.turn(Some(TICK)).unwrap(), Turn::Running, "a client has yet to answer its close");
    stop.stop().unwrap();
    assert_eq!(server.run().unwrap(), Stopped::AtOnce);
}

#[test]
fn the_handle_may_go_to_another_thread() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<StopHandle>();
    let mut server = server();
    let stop = server.stop_handle();
    let stopper = std::thread::spawn(move || stop.stop());
    assert_eq!(server.run().unwrap(), Stopped::Cleanly);
    stopper.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_bound_is_said_in_one_line_with_the_remedy() {
    let taken = server();
    let config = Config { listen: vec![taken.local_addrs()[0].into()], ..Config::default() };
    let error = Server::bind(&config).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BindError::Listen { .. }), "{text}");
    assert!(text.starts_with("listen 127.0.0.1:") && text.contains("in use; stop"), "{text}");
    let config = Config { listen: vec![], ..Config::default() };
    assert!(matches!(Server::bind(&config), Err(BindError::Config(_))));
}
