//! Section 7: sockets that a supervisor has opened, `sd_listen_fds(3)`.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use crate::answer::Answer;
use crate::client::{Client, with_timeouts};
use crate::harness::{Ended, Relay, relay_command, run_to_end, shell_command};
use crate::stream::Stream;
use crate::unix_socket::{Folder, connect};

/// A command that passes one or two `sockets` to the relay as systemd does, with `variables` in its environment.
fn activate(sockets: Vec<OwnedFd>, flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let count = sockets.len().to_string();
    let variables = [&[("LISTEN_FDS", count.as_str())], variables].concat();
    // `exec` keeps the process ID, so the shell's own ID is the relay's.
    let hand_on = "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=${LISTEN_PID:-$$}";
    let mut command = shell_command(hand_on, flags, &variables);
    let mut sockets = sockets.into_iter().map(Stdio::from);
    command.stdin(sockets.next().unwrap_or_else(Stdio::null));
    command.stdout(sockets.next().unwrap_or_else(Stdio::null));
    command
}

fn tcp(address: &str) -> (TcpListener, OwnedFd) {
    let listener = TcpListener::bind(address).unwrap();
    let duplicate = listener.try_clone().unwrap().into();
    (listener, duplicate)
}

/// The error of a relay that cannot use `sockets`.
fn refuse(sockets: Vec<OwnedFd>, variables: &[(&str, &str)]) -> String {
    let Ended { code, log } = run_to_end(activate(sockets, &["--listen", "127.0.0.1:0"], variables));
    let [line] = &log[..] else { panic!("{variables:?}: not one line: {log:?}") };
    assert_eq!(code, Some(2), "{line}");
    line.strip_prefix("apptuner-relay: ").expect(line).to_owned()
}

#[test]
fn inherited_socket_is_used_instead_of_listen_and_port() {
    let (listener, socket) = tcp("127.0.0.1:0");
    let address = listener.local_addr().unwrap();
    let mut relay = Relay::spawn(activate(vec![socket], &["--listen", "127.0.0.1:1"], &[("PORT", "2")]));
    assert_eq!(relay.address, address);
    // The second client connects while the relay waits: the relay must not have blocked in accept.
    relay.pair("abc");
    relay.pair("def");
    assert_eq!(relay.stop(), Some(0));
    let listening = relay.log_lines().iter().filter(|line| line.contains("Listening on")).count();
    assert_eq!(listening, 1);
}

#[test]
fn sockets_of_all_kinds_and_names_are_taken() {
    let folder = Folder::new();
    let path = folder.path("relay");
    let socket = UnixListener::bind(&path).unwrap().into();
    let (listener, tcp) = tcp("[::1]:0");
    let variables = [("LISTEN_FDNAMES", "web:apptuner-relay.socket")];
    let mut relay = Relay::spawn(activate(vec![socket, tcp], &[], &variables));
    relay.wait_for_log("that of IPv6", |line| line.contains("Listening on") && line.contains("//[::1]:"));
    relay.wait_for_log_ending(&format!("+unix:{}", path.display()));
    Client::join(connect(&relay, &path), "mobile", "abc");
    let address = listener.local_addr().unwrap();
    Client::join(relay.stream(TcpStream::connect(address).unwrap()), "mobile", "def");
    assert_eq!(relay.stop(), Some(0));
    assert!(path.exists(), "the file is the supervisor's");
}

#[test]
fn client_that_connects_between_two_relays_is_served_by_the_second() {
    let (_listener, socket) = tcp("127.0.0.1:0");
    let start = || Relay::spawn(activate(vec![socket.try_clone().unwrap()], &[], &[]));
    let mut first = start();
    let mut served = first.join("mobile", "abc");
    first.signal(rustix::process::Signal::TERM);
    served.expect_close(1001, "Relay shutting down");
    assert_eq!(first.wait(), Some(0));
    let waiting = first.socket();
    let second = start();
    Client::join(second.stream(waiting), "mobile", "abc");
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let (listener, socket) = tcp("127.0.0.1:0");
    let variables = [("LISTEN_PID", "1"), ("LISTEN_FDS", "nonsense")];
    let relay = Relay::spawn(activate(vec![socket], &["--listen", "127.0.0.1:0"], &variables));
    assert_ne!(relay.address, listener.local_addr().unwrap());
    let relay = Relay::start_with(&[], &[("LISTEN_FDS", "1")]);
    relay.pair("abc");
}

#[test]
fn socket_that_cannot_be_used_is_an_error_that_names_it() {
    let (listener, listening) = tcp("127.0.0.1:0");
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    for (socket, expected) in [
        (null.into(), "(os error 88); have it opened by systemd, with ListenStream="),
        (udp.into(), "not a stream; use ListenStream= for it"),
        (UnixDatagram::unbound().unwrap().into(), "not a stream; use ListenStream= for it"),
        (connected.into(), "it does not listen; use Accept=no for it"),
        (UnixStream::pair().unwrap().0.into(), "it does not listen; use Accept=no for it"),
    ] {
        let sockets: Vec<OwnedFd> = vec![listening.try_clone().unwrap(), socket];
        let line = refuse(sockets, &[("LISTEN_FDNAMES", "good:bad")]);
        let problem = line.strip_prefix("LISTEN_FDS: the socket bad: ").expect(&line);
        // The text of a system error depends on the C library.
        assert!(problem.starts_with(expected) || problem.ends_with(expected), "{line}");
    }
}

#[test]
fn invalid_announcement_is_an_error_that_names_the_variable() {
    for (name, value) in
        [("LISTEN_PID", "me"), ("LISTEN_FDS", "some"), ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "a:b")]
    {
        let line = refuse(vec![tcp("127.0.0.1:0").1], &[(name, value)]);
        assert!(line.starts_with(&format!("{name} {value}: ")), "{line}");
    }
    let line = refuse(vec![tcp("127.0.0.1:0").1], &[("LISTEN_FDS", "9")]);
    assert!(line.starts_with("LISTEN_FDS: the socket unknown: "), "{line}");
}

#[test]
fn operators_socket_does_not_serve_clients() {
    let (listener, operator) = tcp("127.0.0.1:0");
    let (_public, public) = tcp("127.0.0.1:0");
    let variables = [("LISTEN_FDNAMES", "web:admin")];
    let relay = Relay::spawn(activate(vec![public, operator], &[], &variables));
    relay.pair("abc");
    let ask = |target: &str| {
        let socket = with_timeouts(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Answer::to(Stream::plain(socket), &request)
    };
    assert_eq!((ask("/readyz").status, ask("/health").status), (200, 404));
}

#[test]
fn operators_socket_that_other_machines_reach_needs_a_token() {
    let line = refuse(vec![tcp("0.0.0.0:0").1], &[("LISTEN_FDNAMES", "admin")]);
    let problem = "others than this machine reach it; set --admin-token, or listen on a loopback address";
    assert_eq!(line, format!("LISTEN_FDS: the socket admin: {problem}"));
}

#[test]
fn help_and_health_checks_ignore_inherited_sockets() {
    for arguments in [&["--version"][..], &["health", "http://127.0.0.1:1"]] {
        let mut command = relay_command(&[("LISTEN_FDS", "nonsense")]);
        command.args(arguments);
        let Ended { log, .. } = run_to_end(command);
        assert!(!log.concat().contains("LISTEN"), "{log:?}");
    }
}
