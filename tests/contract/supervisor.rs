//! Notices to a supervisor with systemd's protocol, `sd_notify(3)`.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{Relay, WAIT_MAX};

/// A supervisor's socket. It is removed at the end of the test.
struct Supervisor(UnixDatagram, PathBuf);

impl Supervisor {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("apptuner-relay-{}-{name}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
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
        // The test may have removed it.
        let _ = std::fs::remove_file(&self.1);
    }
}

#[test]
fn supervisor_is_notified_of_readiness_reloads_and_stop() {
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
fn idle_relay_sends_watchdog_notices() {
    let supervisor = Supervisor::new("watchdog");
    let _relay = supervisor.start(&[("WATCHDOG_USEC", "200000")]);
    assert_eq!(supervisor.receive(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(supervisor.receive(), "WATCHDOG=1\n");
    }
}

#[test]
fn watchdog_interval_of_zero_means_no_watchdog() {
    let supervisor = Supervisor::new("zero");
    let mut relay = supervisor.start(&[("WATCHDOG_USEC", "0")]);
    assert_eq!(supervisor.receive(), "READY=1\n");
    assert_eq!(relay.stop(), Some(0));
    assert_eq!(supervisor.receive(), "STOPPING=1\n");
}

#[test]
fn missing_supervisor_changes_nothing() {
    let relay =
        Relay::start_with(&[], &[("NOTIFY_SOCKET", "/nonexistent/notify"), ("WATCHDOG_USEC", "nonsense")]);
    relay.pair("abc");
    relay.wait_for_log("the failure", |line| line.contains("The supervisor cannot be told: "));
}
