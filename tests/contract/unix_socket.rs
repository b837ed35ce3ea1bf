//! Section 7: listening on a Unix-domain socket.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::answer::upgrade_request;
use crate::client::Client;
use crate::frame::{TEXT, frame};
use crate::harness::{Ended, Relay, WAIT_MAX, relay_command, run_to_end};
use crate::stream::Stream;

/// A directory for sockets, with a short path. It is removed at the end of the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("apptuner-relay-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn listen(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// A relay that listens at `path` and on TCP.
fn start(path: &Path, flags: &[&str]) -> Relay {
    Relay::start(&[&["--listen", &listen(path)], flags].concat())
}

/// A new connection to the socket at `path`, on which nothing was sent.
pub(crate) fn connect(relay: &Relay, path: &Path) -> Stream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
    socket.set_write_timeout(Some(WAIT_MAX)).unwrap();
    // The standard library converts any stream socket to a `TcpStream`.
    relay.stream(OwnedFd::from(socket).into())
}

/// Runs a relay that must fail to listen at `path`, and returns its error.
fn refuse(path: &Path, expected: Option<i32>) -> String {
    let mut command = relay_command(&[]);
    command.args(["--listen", &listen(path)]);
    let Ended { code, log } = run_to_end(command);
    let [line] = &log[..] else { panic!("not one line: {log:?}") };
    assert_eq!(code, expected, "{line}");
    assert!(line.starts_with("apptuner-relay: --listen unix:"), "{line}");
    line.rsplit_once(": ").unwrap().1.to_owned()
}

#[test]
fn clients_of_a_unix_domain_socket_and_of_tcp_meet() {
    let folder = Folder::new();
    let path = folder.path("relay");
    let relay = start(&path, &[]);
    let mut desktop = Client::join(connect(&relay, &path), "desktop", "abc");
    let mut mobile = relay.join_peer("mobile", "abc", &mut desktop);
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    for text in ["[1]", &large, "[2]"] {
        desktop.send_text(text);
        mobile.expect_text(text);
        mobile.send_text(text);
        desktop.expect_text(text);
    }
    mobile.leave();
    desktop.expect_notice("mobile_disconnected");
    let _mobile = Client::join_peer(connect(&relay, &path), "mobile", "abc", &mut desktop);
    desktop.leave();
}

#[test]
fn relay_may_listen_only_on_unix_domain_sockets() {
    let folder = Folder::new();
    let [one, other] = ["one", "other"].map(|name| folder.path(name));
    let both = format!("{},{}", listen(&one), listen(&other));
    let mut relay = Relay::spawn(relay_command(&[("APPTUNER_RELAY_LISTEN", &both)]));
    for path in [&one, &other] {
        relay.wait_for_log_ending(&format!("+{}", listen(path)));
    }
    let mut desktop = Client::join(connect(&relay, &one), "desktop", "abc");
    Client::join_peer(connect(&relay, &other), "mobile", "abc", &mut desktop);
    assert_eq!(relay.stop(), Some(0));
}

#[test]
fn socket_file_is_removed_with_its_listener() {
    let folder = Folder::new();
    let path = folder.path("relay");
    for is_at_once in [false, true] {
        let mut relay = start(&path, &["--shutdown-grace", "10m"]);
        let mut client = Client::join(connect(&relay, &path), "mobile", "abc");
        relay.signal(Signal::TERM);
        client.expect_close(1001, "Relay shutting down");
        assert!(!path.exists());
        if is_at_once {
            relay.signal(Signal::TERM);
        }
        drop(client);
        relay.wait();
    }
}

#[test]
fn socket_file_of_another_process_is_not_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("relay");
    let mut relay = start(&path, &[]);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    assert_eq!(relay.stop(), Some(0));
    UnixStream::connect(&path).unwrap();
}

#[test]
fn stale_socket_file_is_replaced() {
    let folder = Folder::new();
    let path = folder.path("relay");
    let mut killed = start(&path, &[]);
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(path.exists());
    let mut relay = start(&path, &[]);
    Client::join(connect(&relay, &path), "mobile", "abc");
    assert_eq!(relay.stop(), Some(0));
    assert!(!path.exists());
}

#[test]
fn socket_in_use_is_not_replaced() {
    let folder = Folder::new();
    let path = folder.path("relay");
    let relay = start(&path, &[]);
    assert!(refuse(&path, Some(1)).starts_with("the socket is in use; stop "));
    Client::join(connect(&relay, &path), "mobile", "abc");
}

#[test]
fn file_that_is_not_a_socket_is_never_removed() {
    let folder = Folder::new();
    let [file, directory, link, target] =
        ["file", "directory", "link", "target"].map(|name| folder.path(name));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&directory).unwrap();
    drop(UnixListener::bind(&target).unwrap());
    symlink(&target, &link).unwrap();
    for path in [&file, &directory, &link] {
        assert!(refuse(path, Some(2)).starts_with("what is there is not a socket; remove "));
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert!(directory.is_dir() && link.is_symlink());
    assert!(fs::metadata(&target).unwrap().file_type().is_socket());
}

#[test]
fn impossible_path_is_an_error_of_one_line() {
    let folder = Folder::new();
    let file = folder.path("file");
    fs::write(&file, "").unwrap();
    for path in [folder.path("missing/relay"), file.join("relay")] {
        assert!(refuse(&path, Some(2)).starts_with("there is no such directory; make "));
    }
    assert!(refuse(&folder.path(&"x".repeat(108)), Some(2)).ends_with("; choose a shorter one"));
    assert!(refuse(Path::new("relay"), Some(2)).starts_with("not the path of a socket; write "));
}

#[test]
fn permissions_follow_the_umask() {
    let folder = Folder::new();
    for (umask, expected) in [("0117", 0o660), ("0077", 0o700)] {
        let path = folder.path(umask);
        let _relay = Relay::start_after(&format!("umask {umask}"), &["--listen", &listen(&path)]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, expected, "{umask}");
    }
}

#[test]
fn clients_of_a_unix_domain_socket_count_as_loopback() {
    let folder = Folder::new();
    let path = folder.path("relay");
    let upgrade = |relay: &Relay, line: &str| {
        let request = upgrade_request("/desktop/abc").replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
        Client::handshake(connect(relay, &path), request.as_bytes()).0.status
    };
    let relay = start(&path, &["--max-connections-per-ip", "1", "--max-connection-rate", "1"]);
    let clients: Vec<_> =
        (0..5).map(|index| Client::join(connect(&relay, &path), "mobile", &index.to_string())).collect();
    assert_eq!(clients.len(), 5);
    let forged = "X-Forwarded-For: nonsense";
    assert_eq!(upgrade(&relay, forged), 101, "who is no trusted proxy is not believed");
    drop(relay);

    let relay = start(&path, &["--trust-proxy", "127.0.0.0/8", "--deny", "192.0.2.0/24"]);
    assert_eq!(upgrade(&relay, "X-Forwarded-For: 192.0.2.1"), 403);
    assert_eq!(upgrade(&relay, "X-Forwarded-For: 198.51.100.1"), 101);
    drop(relay);

    let relay = start(&path, &["--deny", "127.0.0.1"]);
    assert_eq!(upgrade(&relay, "X-Other: 1"), 403);
}

#[test]
fn messages_sent_before_a_close_arrive_at_a_slow_peer() {
    #[cfg(feature = "tls")]
    if crate::secure::is_wanted() {
        // Within TLS the client itself buffers some bytes.
        return;
    }
    let folder = Folder::new();
    let path = folder.path("relay");
    let relay = start(&path, &[]);
    let mut desktop = Client::join(connect(&relay, &path), "desktop", "abc");
    let mut mobile = Client::join_peer(relay.narrow_tcp(), "mobile", "abc", &mut desktop);
    let message = |number: usize| format!("[{number},\"{}\"]", "x".repeat(10_000));
    let flood = desktop.flood(|number| frame(TEXT, message(number).as_bytes()));
    drop(desktop);
    for number in 0..flood.sent {
        mobile.expect_text(&message(number));
    }
    assert!(flood.sent > 100);
    mobile.expect_notice("desktop_disconnected");
}

#[test]
fn health_check_works_through_a_unix_domain_socket() {
    let folder = Folder::new();
    let path = folder.path("relay");
    // This health check uses no TLS.
    let mut command = relay_command(&[]);
    command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
    command.args(["--listen", &listen(&path)]);
    let mut relay = Relay::spawn(command);
    let check = |arguments: &[&str]| {
        let mut command = relay_command(&[]);
        command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
        command.arg("health").args(arguments);
        let Ended { code, log } = run_to_end(command);
        (code, log.join("\n"))
    };
    for arguments in [&[&*listen(&path)][..], &["--listen", &listen(&path)]] {
        assert_eq!(check(arguments), (Some(0), String::new()));
    }
    relay.stop();
    let (code, line) = check(&[&listen(&path)]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.starts_with(&format!("apptuner-relay: {}: ", listen(&path))), "{line}");
}
