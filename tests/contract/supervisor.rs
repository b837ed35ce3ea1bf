//! What a supervisor with systemd's protocol is told, `sd_notify(3)`.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{PATIENCE, Relay};

/// A supervisor's socket, gone when the test is over.
struct Supervisor(UnixDatagram, PathBuf);

impl Supervisor {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("apptuner-relay-{}-{name}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket, path)
    }

    fn start(&self, variables: &[(&str, &str)]) -> Relay {
        let path = self.1.to_str().unwrap();
        Relay::start_with(&[], &[&[("NOTIFY_SOCKET", path)], variables].concat())
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 1024];
        let count = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.1);
    }
}

#[test]
fn a_supervisor_is_told_of_readiness_reloads_and_the_stop() {
    let supervisor = Supervisor::new("notify");
    let mut relay = supervisor.start(&[]);
    assert_eq!(supervisor.receive(), "READY=1\n");
    relay.signal(Signal::HUP);
    let reloading = supervisor.receive();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(supervisor.receive(), "READY=1\n");
    assert_eq!(relay.stop(), Some(0));
    assert_eq!(supervisor.receive(), "STOPPING=1\n");
}

#[test]
fn a_watchdog_gets_signs_of_life_from_a_relay_with_nothing_to_do() {
    let supervisor = Supervisor::new("watchdog");
    let _relay = supervisor.start(&[("WATCHDOG_USEC", "200000")]);
    assert_eq!(supervisor.receive(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(supervisor.receive(), "WATCHDOG=1\n");
    }
}

#[test]
fn an_interval_of_zero_is_no_watchdog() {
    let supervisor = Supervisor::new("zero");
    let mut relay = supervisor.start(&[("WATCHDOG_USEC", "0")]);
    assert_eq!(supervisor.receive(), "READY=1\n");
    assert_eq!(relay.stop(), Some(0));
    assert_eq!(supervisor.receive(), "STOPPING=1\n");
}

#[test]
fn a_supervisor_that_is_not_there_changes_nothing() {
    let relay =
        Relay::start_with(&[], &[("NOTIFY_SOCKET", "/nonexistent/notify"), ("WATCHDOG_USEC", "nonsense")]);
    relay.pair("abc");
    relay.wait_for_log("the failure", |line| line.contains("The supervisor cannot be told: "));
}
