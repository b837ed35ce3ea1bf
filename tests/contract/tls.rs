//! TLS itself: negotiation, refusals, and exchanging the certificate. With `RELAY_TEST_TLS=1` all other tests of the
//! contract run over TLS as well.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore};

use crate::answer::{Answer, plain_request, upgrade_request};
use crate::client::{Client, Received};
use crate::frame::BINARY;
use crate::harness::{Ended, Relay, WAIT_MAX, assert_lasted, relay_command, run_to_end};
use crate::secure::{Certificate, Secure};
use crate::stream::Stream;

/// A relay that speaks TLS, and its certificate.
fn secure_relay(flags: &[&str]) -> (Relay, Certificate) {
    let certificate = Certificate::make();
    let relay = Relay::start_secure(flags, &certificate, certificate.client());
    (relay, certificate)
}

/// A connection after its handshake, with the client settings `client`.
fn shake_hands(relay: &Relay, client: ClientConfig) -> io::Result<Stream> {
    let stream = Stream::secure(relay.socket(), Secure::new(&Arc::new(client)));
    stream.session().shake_hands(&stream.socket)?;
    Ok(stream)
}

fn with_alpn(certificate: &Certificate, protocols: &[&str]) -> ClientConfig {
    let mut client = certificate.client();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    client
}

/// A client that supports only this version of TLS.
fn with_version(
    certificate: &Certificate,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots).with_no_client_auth()
}

#[test]
fn listening_line_says_wss() {
    let (relay, _) = secure_relay(&[]);
    let port = relay.address.port();
    relay.wait_for_log_ending(&format!("Listening on wss://127.0.0.1:{port}"));
}

#[test]
fn only_http_1_1_is_negotiated() {
    let (relay, certificate) = secure_relay(&[]);
    for (offered, agreed) in
        [(&["http/1.1"][..], Some(&b"http/1.1"[..])), (&["h2", "http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let stream = shake_hands(&relay, with_alpn(&certificate, offered)).unwrap();
        let protocol = stream.session().ask(|session| session.alpn_protocol().map(<[u8]>::to_vec));
        assert_eq!(protocol.as_deref(), agreed, "{offered:?}");
        assert_eq!(Answer::to(stream, &plain_request("GET", "/health")).status, 200);
    }
    let Err(error) = shake_hands(&relay, with_alpn(&certificate, &["h2"])) else { panic!("h2 is spoken") };
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn both_safe_versions_are_supported_with_a_host_name() {
    let (relay, certificate) = secure_relay(&[]);
    for (version, expected) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        for sends_name in [true, false] {
            let mut client = with_version(&certificate, version);
            client.enable_sni = sends_name;
            let stream = shake_hands(&relay, client).unwrap();
            assert_eq!(stream.session().ask(|session| session.protocol_version()), Some(expected));
            let mut client = Client::join(stream, "mobile", "abc");
            client.expect_quiet();
            client.leave();
        }
    }
}

#[test]
fn returning_client_resumes_its_session() {
    let (relay, certificate) = secure_relay(&[]);
    for version in [&TLS13, &TLS12] {
        let mut client = with_version(&certificate, version);
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = Stream::secure(relay.socket(), Secure::new(&client));
            stream.write_all(plain_request("GET", "/health").as_bytes()).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            let kind = stream.session().ask(|session| session.handshake_kind());
            assert_eq!(kind, Some(expected), "{version:?}");
        }
    }
}

#[test]
fn plain_text_on_a_tls_port_is_answered_in_plain_text_and_ends_in_order() {
    let (relay, _) = secure_relay(&[]);
    let body = format!("POST / HTTP/1.1\r\nHost: relay\r\n\r\n{}", "x".repeat(300_000));
    let requests =
        [&plain_request("GET", "/health"), &upgrade_request("/desktop/abc"), &body, "\r\n", "SSH-2.0-x\r\n"];
    for request in requests {
        let answer = Answer::to(Stream::plain(relay.socket()), request);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, "This port speaks TLS: use https:// or wss://");
    }
}

#[test]
fn tls_on_a_plain_port_is_answered_in_plain_text_and_ends_in_order() {
    // Without TLS, even if the other tests use it.
    let mut command = relay_command(&[]);
    command.args(["--listen", "127.0.0.1:0"]);
    command.env_remove("APPTUNER_RELAY_TLS_CERT").env_remove("APPTUNER_RELAY_TLS_KEY");
    let relay = Relay::spawn(command);
    let client = Arc::new(Certificate::shared().client());
    let mut hello = Vec::new();
    Secure::new(&client).ask(|session| session.write_tls(&mut hello)).unwrap();
    let mut socket = relay.socket();
    socket.write_all(&hello).unwrap();
    let answer = Answer::read(Stream::plain(socket), false);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("no TLS"), "{answer:?}");
}

#[test]
fn connection_with_neither_tls_nor_http_ends_and_affects_no_other() {
    let (relay, _) = secure_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let too_long = [&[22, 3, 1, 0xff, 0xff][..], &vec![0; 100_000]].concat();
    let no_hello = [&[22, 3, 1, 0, 40][..], &[7; 40]].concat();
    // A handshake message of 64 KiB, in records of allowed length.
    let endless = [&[22, 3, 1, 0x40, 0][..], &[1, 0, 0xff, 0xff], &[0; 0x4000 - 4]].concat();
    let endless = [&endless[..], &[&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat().repeat(8)].concat();
    let two_records_of_it = endless[..2 * (0x4000 + 5)].to_vec();
    for bytes in [too_long, no_hello, endless, two_records_of_it, vec![22; 100_000]] {
        let begun = Instant::now();
        let mut socket = relay.socket();
        // The connection may end before all bytes are sent.
        let _ = socket.write_all(&bytes);
        let mut received = Vec::new();
        let _ = socket.read_to_end(&mut received);
        // At most an alert was sent.
        assert!(received.is_empty() || received[0] == 21, "{received:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "it was waited for: {:?}", begun.elapsed());
    }
    desktop.send_text("1");
    mobile.expect_text("1");
}

#[test]
fn modified_record_ends_only_its_client() {
    let (relay, _) = secure_relay(&[]);
    let (desktop, mut mobile) = relay.pair("abc");
    let mut writer = desktop.writer();
    writer.socket.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).unwrap();
    mobile.expect_notice("desktop_disconnected");
    relay.wait_for_log_ending("Desktop disconnected from session abc: 1006");
    assert!(writer.read_to_end(&mut Vec::new()).is_err(), "an alert says why");
    mobile.expect_quiet();
}

#[test]
fn handshake_not_complete_in_time_ends_the_connection() {
    let (relay, certificate) = secure_relay(&["--handshake-timeout", "300ms"]);
    let client = Arc::new(certificate.client());
    let mut hello = Vec::new();
    Secure::new(&client).ask(|session| session.write_tls(&mut hello)).unwrap();
    let accepted = Instant::now();
    let sockets = [&[][..], &hello[..1], &hello[..hello.len() / 2], &hello].map(|sent| {
        let mut socket = relay.socket();
        socket.write_all(sent).unwrap();
        socket
    });
    for mut socket in sockets {
        let _ = socket.read_to_end(&mut Vec::new());
        assert_lasted(accepted, Duration::from_millis(300));
        // The client gets the time to read an answer, like a client that does not speak TLS.
        assert!(accepted.elapsed() < Duration::from_secs(8), "{:?}", accepted.elapsed());
    }
}

#[test]
fn incomplete_head_after_a_handshake_is_answered_with_408() {
    let (relay, certificate) = secure_relay(&["--handshake-timeout", "300ms"]);
    let accepted = Instant::now();
    let stream = shake_hands(&relay, certificate.client()).unwrap();
    assert_eq!(Answer::read(stream, false).status, 408);
    assert_lasted(accepted, Duration::from_millis(300));
}

#[test]
fn client_over_the_limit_gets_503_after_its_handshake() {
    let (relay, _) = secure_relay(&["--max-connections", "1"]);
    let mut there = relay.join("mobile", "abc");
    let late = relay.tcp();
    // The relay has written its answer long before the handshake is complete.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(Answer::read(late, false).status, 503);
    there.expect_quiet();
}

#[test]
fn client_over_the_limit_that_ends_inside_the_handshake_is_removed_at_once() {
    let (relay, _) = secure_relay(&["--max-connections", "1"]);
    let mut there = relay.join("mobile", "abc");
    let mut late = relay.socket();
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    late.shutdown(Shutdown::Write).unwrap();
    late.read_to_end(&mut Vec::new()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    there.expect_quiet();
}

#[test]
fn large_messages_pass_in_both_directions_at_once() {
    let (relay, _) = secure_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair("abc");
    let payload: Vec<u8> = (0..=250).cycle().take(20 << 20).collect();
    thread::scope(|scope| {
        for client in [&mut desktop, &mut mobile] {
            let (mut writer, payload) = (client.writer(), &payload);
            scope.spawn(move || writer.write_all(&crate::frame::frame(BINARY, payload)).unwrap());
            scope.spawn(|| assert!(client.receive() == Received::Binary(payload.clone())));
        }
    });
}

#[test]
fn slow_reader_gets_everything_in_order() {
    let (relay, _) = secure_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let payload = |number: usize| vec![7; 100_000 + number];
    let mut writer = desktop.writer();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..100 {
                writer.write_all(&crate::frame::frame(BINARY, &payload(number))).unwrap();
            }
        });
        for number in 0..100 {
            if number % 10 == 0 {
                thread::sleep(Duration::from_millis(50));
            }
            assert!(mobile.receive() == Received::Binary(payload(number)), "{number}");
        }
    });
    desktop.expect_quiet();
    mobile.leave();
}

#[test]
fn last_message_reaches_a_slow_reader_whole_and_close_notify_follows() {
    let (mut relay, _) = secure_relay(&["--shutdown-grace", "10m"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    // A longer message would make the relay hold its sender, and the pong would not come.
    let payload = vec![7; 1 << 20];
    desktop.send(BINARY, &payload);
    desktop.expect_quiet();
    relay.signal(Signal::TERM);
    desktop.expect_close(1001, "Relay shutting down");
    thread::sleep(Duration::from_millis(300));
    assert!(mobile.receive() == Received::Binary(payload));
    mobile.expect_close(1001, "Relay shutting down");
    assert_eq!(relay.wait(), Some(0));
}

#[test]
fn client_that_sends_close_notify_without_fin_leaves_at_once() {
    let (relay, _) = secure_relay(&[]);
    let (desktop, mut mobile) = relay.pair("abc");
    let writer = desktop.writer();
    // A message stands right before the alert, and no FIN follows.
    writer
        .session()
        .ask(|session| session.writer().write_all(&crate::frame::frame(BINARY, b"last")).unwrap());
    writer.session().close_notify(&writer.socket).unwrap();
    assert_eq!(mobile.receive(), Received::Binary(b"last".to_vec()));
    mobile.expect_notice("desktop_disconnected");
}

#[test]
fn new_connections_get_the_new_certificate_after_sighup_and_old_ones_go_on() {
    let (mut relay, first) = secure_relay(&[]);
    let (mut desktop, mut mobile) = relay.pair("old");
    let second = Certificate::make();
    fs::copy(&second.cert, &first.cert).unwrap();
    fs::copy(&second.key, &first.key).unwrap();
    assert!(shake_hands(&relay, first.client()).is_ok(), "nothing is read before the signal");
    relay.signal(Signal::HUP);
    relay.wait_for_log_ending("Certificate reloaded");

    assert!(shake_hands(&relay, first.client()).is_err(), "the old certificate is still shown");
    relay.meet(second.client());
    let (mut new_desktop, mut new_mobile) = relay.pair("new");
    for (desktop, mobile) in [(&mut desktop, &mut mobile), (&mut new_desktop, &mut new_mobile)] {
        desktop.send_text("1");
        mobile.expect_text("1");
        mobile.send_text("2");
        desktop.expect_text("2");
    }
    assert_eq!(relay.stop(), Some(0));
}

#[test]
fn byte_order_marks_of_the_certificate_and_its_key_are_skipped() {
    let certificate = Certificate::make();
    for path in [&certificate.cert, &certificate.key] {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, format!("\u{feff}{text}")).unwrap();
    }
    let relay = Relay::start_secure(&[], &certificate, certificate.client());
    relay.join("mobile", "abc").leave();
}

#[test]
fn broken_file_at_a_reload_keeps_the_certificate_and_gives_one_line() {
    let (relay, certificate) = secure_relay(&[]);
    let other = Certificate::make();
    for (path, contents, problem) in [
        (&certificate.key, other.key_pem.as_bytes(), "not the key of --tls-cert"),
        (&certificate.key, b"", "no private key in it"),
        (&certificate.cert, b"rubbish", "no certificate in it"),
    ] {
        let before = fs::read(path).unwrap();
        fs::write(path, contents).unwrap();
        let lines_before = relay.log_lines().len();
        relay.signal(Signal::HUP);
        let wanted = |line: &str| line.contains("WARN") && line.contains(problem);
        let line = relay.wait_for_log(problem, wanted);
        assert!(line.contains(path.to_str().unwrap()), "{line}");
        relay.join("mobile", "abc").leave();
        let lines = relay.log_lines();
        let warnings = lines[lines_before..].iter().filter(|line| line.contains("WARN"));
        assert_eq!(warnings.count(), 1, "{lines:?}");
        fs::write(path, before).unwrap();
    }
    // A FIFO that never gets a writer must not block the loop.
    fs::remove_file(&certificate.cert).unwrap();
    assert!(Command::new("mkfifo").arg(&certificate.cert).status().unwrap().success());
    relay.signal(Signal::HUP);
    relay.wait_for_log("the line about the pipe", |line| line.contains("not a file"));
    relay.join("mobile", "abc").leave();
}

/// Runs a relay that must refuse to start with exit code 2, and returns its one line.
fn refuse(cert: &Path, key: &Path) -> String {
    let mut command = relay_command(&[]);
    command.args(["--listen", "127.0.0.1:0", "--tls-cert"]).arg(cert).arg("--tls-key").arg(key);
    let Ended { code, log } = run_to_end(command);
    let [line] = &log[..] else { panic!("not one line: {log:?}") };
    assert_eq!(code, Some(2), "{line}");
    line.clone()
}

#[test]
fn bad_file_ends_the_start_with_2_and_a_line_that_names_it() {
    let (right, other) = (Certificate::make(), Certificate::make());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let written = |name: &str, contents: &[u8]| {
        let path = folder.join(format!("{}-{name}", std::process::id()));
        fs::write(&path, contents).unwrap();
        path
    };
    let missing = folder.join("missing.pem");
    let empty = written("empty.pem", b"");
    let cut = written("cut.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n");
    let rubbish = written("rubbish.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let bad_key = written("bad.pem", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    let large = written("large.pem", &vec![b'x'; 2 << 20]);
    for (cert, key, named, problem) in [
        (&missing, &right.key, &missing, "--tls-cert"),
        (&right.cert, &missing, &missing, "--tls-key"),
        (&empty, &right.key, &empty, "no certificate in it"),
        (&right.key, &right.key, &right.key, "no certificate in it"),
        (&cut, &right.key, &cut, "not a PEM file"),
        (&rubbish, &right.key, &rubbish, "no certificate that can be understood"),
        (&right.cert, &empty, &empty, "no private key in it"),
        (&right.cert, &right.cert, &right.cert, "no private key in it"),
        (&right.cert, &bad_key, &bad_key, "no key that can be used"),
        (&right.cert, &other.key, &other.key, "not the key of --tls-cert"),
        (&large, &right.key, &large, "over 1MiB"),
        (&folder.to_owned(), &right.key, &folder.to_owned(), "not a file"),
    ] {
        let line = refuse(cert, key);
        assert!(line.contains(named.to_str().unwrap()) && line.contains(problem), "{problem}: {line}");
        assert!(line.contains("; "), "a remedy: {line}");
    }
}

#[test]
fn nothing_secret_is_logged() {
    let certificate = Certificate::make();
    let mut command = relay_command(&[("RUST_LOG", "debug")]);
    command.args(["--listen", "127.0.0.1:0"]).args(certificate.flags());
    let mut relay = Relay::spawn(command);
    relay.meet(certificate.client());
    let head = upgrade_request("/desktop/abc?token=hunter2");
    let (_, mut desktop) = Client::handshake(relay.tcp(), head.as_bytes());
    desktop.expect_connected("desktop", "abc");
    desktop.send_text(r#"{"password":"hunter2"}"#);
    desktop.expect_error("peer_not_connected", "Mobile device not connected");
    let _ = shake_hands(&relay, with_alpn(&certificate, &["hunter2"]));
    relay.signal(Signal::HUP);
    relay.wait_for_log_ending("Certificate reloaded");
    desktop.leave();
    let secrets: Vec<&str> = certificate.key_pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!secrets.is_empty());
    let is_leak =
        |line: &String| line.contains("hunter2") || secrets.iter().any(|secret| line.contains(secret));
    let leaks: Vec<_> = relay.log_lines().into_iter().filter(is_leak).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

#[test]
fn messages_that_tls_did_not_write_to_a_replaced_client_go_to_the_new_one() {
    const MESSAGES: u32 = 500;
    let certificate = Certificate::make();
    let mut command = relay_command(&[("RUST_LOG", "debug")]);
    command.args(["--listen", "127.0.0.1:0"]).args(certificate.flags());
    let mut relay = Relay::spawn(command);
    relay.meet(certificate.client());
    let (mut desktop, mut old) = relay.pair_with_narrow_mobile("abc");
    for number in 0..MESSAGES {
        desktop.send(BINARY, &[&number.to_be_bytes()[..], &[7; 2_000]].concat());
    }
    desktop.expect_quiet();

    let mut new = relay.join_peer("mobile", "abc", &mut desktop);
    let mut arrived = [0; MESSAGES as usize];
    let mut count = |message: &[u8]| {
        let number = u32::from_be_bytes(message[..4].try_into().unwrap());
        arrived[number as usize] += 1;
        number
    };
    while let Received::Binary(message) = new.receive() {
        if count(&message) == MESSAGES - 1 {
            break;
        }
    }
    // The old client reads only after the relay has replaced it. Then it gets what the kernel had taken.
    let replaced = relay.wait_for_log("the replacement", |line| line.contains(" Replaced"));
    let (_, conn) = replaced.split_once("conn=").unwrap();
    relay.wait_for_log_ending(&format!("conn={} Gone", conn.split(' ').next().unwrap()));
    while let Ok(frame) = old.receive_frame() {
        if frame.opcode == BINARY & 0xF {
            count(&frame.payload);
        }
    }
    let lost: Vec<usize> = (0..arrived.len()).filter(|&number| arrived[number] == 0).collect();
    assert!(lost.is_empty(), "neither connection got {lost:?}");
    desktop.expect_quiet();
}

#[test]
fn stalled_reader_is_cut_off_although_only_tls_holds_its_bytes() {
    let (relay, _) = secure_relay(&["--stall-timeout", "1s"]);
    let (mut desktop, mut mobile) = relay.pair_with_narrow_mobile("abc");
    let begun = Instant::now();
    desktop.send(BINARY, &vec![0; 1_000_000]);
    assert_eq!(desktop.expect_undelivered(), 1);
    assert_lasted(begun, Duration::from_secs(1));
    desktop.expect_notice("mobile_disconnected");
    loop {
        match mobile.receive_frame() {
            Ok(_) => {}
            Err(Received::End | Received::Reset) => break,
            Err(received) => panic!("{received:?}"),
        }
        assert!(begun.elapsed() < WAIT_MAX);
    }
}
