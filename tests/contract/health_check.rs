//! Section 7: `apptuner-relay health` accepts a relay that has the same settings and serves its clients.

use std::process::Command;

use crate::harness::{Ended, Relay, relay_command, run_to_end};
#[cfg(feature = "tls")]
use crate::secure::Certificate;
use crate::unix_socket::Folder;

/// The relay's command without TLS, even if the tests use it.
fn plain_command() -> Command {
    let mut command = relay_command(&[]);
    command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
    command
}

fn start(flags: &[&str]) -> Relay {
    let mut command = plain_command();
    command.args(flags);
    Relay::spawn(command)
}

/// The exit code and output of a health check with these arguments.
fn check(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = plain_command();
    command.arg("health").args(arguments);
    let Ended { code, log } = run_to_end(command);
    (code, log.join("\n"))
}

const WELL: (Option<i32>, String) = (Some(0), String::new());

#[test]
fn relay_is_healthy_with_any_settings() {
    for flags in [
        &[][..],
        &["--proxy-protocol"],
        &["--proxy-protocol", "--trust-proxy", "127.0.0.1"],
        &["--proxy-protocol", "--trust-proxy", "192.0.2.1"],
        &["--deny", "127.0.0.0/8"],
        &["--allow", "192.0.2.0/24"],
        &["--require-secret", "--max-connections-per-ip", "1"],
        &["--proxy-protocol", "--deny", "127.0.0.0/8"],
    ] {
        let relay = start(&[&["--listen", "127.0.0.1:0"], flags].concat());
        let address = relay.address.to_string();
        assert_eq!(check(&[&["--listen", &address], flags].concat()), WELL, "{flags:?}");
        let url = format!("http://{address}");
        assert_eq!(check(&[&[&*url], flags].concat()), WELL, "{flags:?}");
    }
}

#[test]
fn relay_behind_a_proxy_is_checked_with_a_proxy_header() {
    let relay = start(&["--listen", "127.0.0.1:0", "--proxy-protocol"]);
    let (code, log) = check(&["--listen", &relay.address.to_string()]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("not healthy: it answers HTTP/1.1 400"), "{log}");
}

#[test]
fn full_relay_is_healthy() {
    let relay = start(&["--listen", "127.0.0.1:0", "--max-connections", "2"]);
    let _silent = [relay.socket(), relay.socket()];
    assert_eq!(check(&["--listen", &relay.address.to_string()]), WELL);
}

#[test]
fn relay_on_a_unix_domain_socket_is_healthy() {
    let folder = Folder::new();
    let listen = format!("unix:{}", folder.path("relay").display());
    let flags = ["--listen", &listen, "--proxy-protocol", "--max-connections", "1", "--deny", "127.0.0.0/8"];
    let _relay = start(&flags);
    assert_eq!(check(&flags), WELL);
    assert_eq!(check(&[&listen, "--proxy-protocol"]), WELL);
}

#[cfg(feature = "tls")]
#[test]
fn relay_with_tls_is_healthy() {
    let folder = Folder::new();
    let socket = format!("unix:{}", folder.path("relay").display());
    let tls = Certificate::shared().flags();
    for flags in [&[][..], &["--proxy-protocol"], &["--deny", "127.0.0.0/8"]] {
        let flags = [&tls[..], flags].concat();
        let relay = start(&[&["--listen", "127.0.0.1:0"], &flags[..]].concat());
        let address = relay.address.to_string();
        assert_eq!(check(&[&["--listen", &address], &flags[..]].concat()), WELL, "{flags:?}");
        let url = format!("https://{address}");
        assert_eq!(check(&[&[&*url], &flags[..]].concat()), WELL, "{flags:?}");
        let (code, log) = check(&[&format!("http://{address}")]);
        assert_eq!(code, Some(1), "{log}");

        let flags = [&["--listen", &socket], &flags[..]].concat();
        let _relay = start(&flags);
        assert_eq!(check(&flags), WELL, "{flags:?}");
    }
    let relay = start(&["--listen", "127.0.0.1:0"]);
    assert_eq!(check(&[&format!("https://{}", relay.address)]).0, Some(1), "it speaks none");
}
