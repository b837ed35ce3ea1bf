//! Attacks by request heads: too long, too slow, too many, or understood differently by different parsers.

use std::io::Write;
use std::thread;

use crate::answer::{ACCEPT, Answer, assert_status, plain_request, upgrade_request};
use crate::bystanders::Bystanders;
use crate::client::{Client, Received};
use crate::footprint::{Footprint, MIB, quiet_relay};
use crate::harness::Relay;

/// A body in chunks, followed by what looks like another request.
const CHUNKED_BODY: &str = "5\r\nhello\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: relay\r\n\r\n";

/// An upgrade with more header lines.
fn upgrade_and(lines: &str) -> String {
    upgrade_request("/desktop/abc").replace("Host: relay\r\n", &format!("Host: relay\r\n{lines}\r\n"))
}

/// An upgrade with one of its lines replaced.
fn upgrade_but(line: &str, replacement: &str) -> String {
    let request = upgrade_request("/desktop/abc");
    assert!(request.contains(line));
    request.replace(line, replacement)
}

/// Sends a head of `fields` long fields on sixteen connections at once, the last bytes one by one. Returns the
/// processor time for these bytes.
fn ticks_of_single_bytes(relay: &Relay, bystanders: &mut Bystanders, fields: usize) -> u64 {
    const SINGLE_BYTES: usize = 1500;
    let at_once = format!("GET /health HTTP/1.1\r\nHost: relay\r\n{}X: ", "X: y\r\n".repeat(fields));
    let mut streams: Vec<_> = (0..16).map(|_| relay.tcp()).collect();
    for stream in &mut streams {
        stream.write_all(at_once.as_bytes()).unwrap();
    }
    bystanders.are_served();
    let before = Footprint::of(relay);
    for _ in 0..SINGLE_BYTES {
        for stream in &mut streams {
            stream.write_all(b"x").unwrap();
        }
        // After this exchange the relay has read these bytes, so no two of them are read at once.
        bystanders.are_served();
    }
    for mut stream in streams {
        stream.write_all(b"\r\n\r\n").unwrap();
        assert_eq!(Answer::read(stream, false).status, 200);
    }
    before.processor_ticks()
}

/// CVE-2023-43669 (tungstenite: the whole head is parsed again for each piece that arrives).
#[test]
fn byte_of_a_long_head_costs_no_more_than_a_byte_of_a_short_one() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let short_ticks = ticks_of_single_bytes(&relay, &mut bystanders, 1);
    let long_ticks = ticks_of_single_bytes(&relay, &mut bystanders, 95);
    eprintln!("{short_ticks} hundredths of a second for short heads, {long_ticks} for long ones");
    // If the head were parsed again for each byte, long heads would cost at least three times as much.
    assert!(long_ticks <= 2 * short_ticks + 20, "{long_ticks} against {short_ticks}");
}

/// CVE-2023-43669 again, and CVE-2018-12121 (Node.js: large heads on many connections use up the memory).
#[test]
fn head_of_ten_megabytes_is_refused_at_16_kib_and_the_rest_costs_little() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let before = Footprint::of(&relay);
    let one_line = [b"GET /".to_vec(), vec![b'x'; 10_000_000]].concat();
    let one_field = [b"GET /health HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 10_000_000]].concat();
    let fields = ["GET /health HTTP/1.1\r\n".to_owned(), "X: y\r\n".repeat(1_700_000)].concat();
    for head in [&one_line, &one_field, fields.as_bytes()] {
        let stream = relay.tcp();
        let mut writer = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(head).unwrap());
            assert_eq!(Answer::read(stream, false).status, 431);
        });
        bystanders.are_served();
    }
    before.assert_took_at_most(3);
    before.assert_memory_grew_at_most(2 * MIB);
}

/// CVE-2024-37890 (ws: more header fields than the parser stores end the process).
#[test]
fn two_thousand_header_fields_are_refused() {
    let relay = quiet_relay(&[]);
    let fields: Vec<String> = (0..2000).map(|number| format!("{number:x}:")).collect();
    let request = upgrade_and(&fields.join("\r\n"));
    assert!(request.len() <= 16 * 1024, "the number is to be refused, not the size");
    assert_status(&relay, request.as_bytes(), 431);
    Bystanders::join(&relay).are_served();
}

/// CVE-2021-32640 (ws: spaces in `Sec-WebSocket-Protocol` take quadratic time) and GHSA-g78m-2chm-r7qv
/// (websocket-extensions: escapes in an unclosed string take exponential time).
#[test]
fn long_runs_in_list_headers_take_linear_time() {
    let relay = quiet_relay(&[]);
    let spaces = " ".repeat(15_000);
    let commas = ",".repeat(15_000);
    let both = " ,\t".repeat(5_000);
    let escapes = "\\c".repeat(7_500);
    let mut rows = vec![
        (upgrade_and(&format!("Sec-WebSocket-Protocol: b{spaces}x")), 400),
        (upgrade_and(&format!("Sec-WebSocket-Extensions: a; b=\"{escapes}")), 101),
    ];
    for (run, is_empty) in [(&spaces, true), (&commas, true), (&both, true), (&escapes, false)] {
        rows.push((upgrade_but("Connection: Upgrade", &format!("Connection: a{run}b")), 426));
        rows.push((upgrade_but("Upgrade: websocket", &format!("Upgrade: a{run}b")), 426));
        if is_empty {
            rows.push((upgrade_but("Connection: Upgrade", &format!("Connection:{run}Upgrade{run}")), 101));
            rows.push((upgrade_but("Upgrade: websocket", &format!("Upgrade:{run}websocket{run}")), 101));
            rows.push((upgrade_and(&format!("Sec-WebSocket-Protocol:{run}x{run}")), 101));
        }
        rows.push((upgrade_and(&format!("Sec-WebSocket-Extensions:{run}x")), 101));
    }
    rows.retain(|(request, _)| request.len() <= 16 * 1024);
    assert!(rows.len() > 12);
    let before = Footprint::of(&relay);
    for (request, status) in rows.iter().cycle().take(10 * rows.len()) {
        let (answer, _client) = Client::handshake(relay.tcp(), request.as_bytes());
        assert_eq!(answer.status, *status, "{request}");
    }
    before.assert_took_at_most(2);
}

/// The same headers at their allowed length: a long offer is answered like a short one.
#[test]
fn longest_subprotocol_and_longest_offer_are_answered() {
    let relay = quiet_relay(&[]);
    let longest = "p".repeat(15_000);
    let offers = [(longest.clone(), longest.as_str()), (vec!["p"; 7_000].join(","), "p")];
    for (offer, echoed) in offers {
        let request = upgrade_and(&format!("Sec-WebSocket-Protocol: {offer}"));
        let (answer, mut client) = Client::handshake(relay.tcp(), request.as_bytes());
        assert_eq!(answer.header("sec-websocket-protocol"), Some(echoed));
        client.expect_connected("desktop", "abc");
        client.leave();
    }
}

/// jetty/jetty.project#8716 and oven-sh/bun#33717 (of two `Host` headers one parser uses the first and another the
/// last).
#[test]
fn any_two_hosts_are_refused() {
    let relay = quiet_relay(&[]);
    let hosts = [
        "Host: relay\r\nHost: relay",
        "Host: relay\r\nhost: other",
        "Host: relay\r\nX: y\r\nHOST: other",
        "Host: relay\r\nHost:",
        "Host:\r\nHost: relay",
        "Host: relay, other",
        "Host: relay other",
        "Host: relay@other",
        "Host: relay:80:80",
    ];
    for host in hosts {
        assert_status(&relay, upgrade_but("Host: relay", host).as_bytes(), 400);
    }
}

/// hyperium/hyper#4123 (`Content-Length` is kept beside `Transfer-Encoding`), postrank-labs/goliath#351 (the last of
/// two lengths is used), actix/actix-web#2767 (the first of them is used if it is 0).
#[test]
fn head_with_an_ambiguous_body_length_is_refused() {
    let relay = quiet_relay(&[]);
    let fields = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: identity",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x0",
        "Content-Length: 0 0",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
    ];
    for field in fields {
        let health = plain_request("GET", "/health").replace("relay\r\n", &format!("relay\r\n{field}\r\n"));
        for request in [upgrade_and(field), health] {
            assert_status(&relay, (request + CHUNKED_BODY).as_bytes(), 400);
        }
    }
}

/// tiny-http/tiny-http#173 (spellings of `chunked` that only some parsers understand).
#[test]
fn upgrade_with_a_body_in_any_encoding_is_refused() {
    let relay = quiet_relay(&[]);
    for encoding in ["chunked", "xchunked", "chunked\t", "\u{b}chunked", "chunked, identity", "identity", ""]
    {
        let request = upgrade_and(&format!("tRANSFER-eNCODING: {encoding}")) + CHUNKED_BODY;
        assert_status(&relay, request.as_bytes(), 400);
    }
}

/// CVE-2019-16869 (Netty: white space before the colon), CVE-2019-20444 (Netty: a field without a colon, or a folded
/// field), CVE-2022-32214 (Node.js: lines that end in a bare LF).
#[test]
fn ambiguous_field_is_refused() {
    let relay = quiet_relay(&[]);
    let fields = [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding\u{b}: chunked",
        "Transfer-Encoding\u{a0}: chunked",
        "Transfer Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tContent-Length: 5",
        "Content-Length:\r\n 5",
        "Content-Length",
        "X: y\nContent-Length: 5",
        "X: y\rContent-Length: 5",
        "X: y\r\r\nContent-Length: 5",
        "X: y\n\r\nContent-Length: 5",
        "X: y\n\nGET /health HTTP/1.1\nHost: relay\n",
        "X: \u{0}",
        "\u{0}: y",
        ": y",
    ];
    for field in fields {
        assert_status(&relay, upgrade_and(field).as_bytes(), 400);
    }
}

/// kemalcr/kemal#767 (after a refused upgrade the next request is served, although a proxy has begun to tunnel).
#[test]
fn request_after_a_refused_upgrade_is_not_served() {
    let relay = quiet_relay(&[]);
    let refused = [
        (upgrade_but("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 1337"), 426),
        (upgrade_but("Sec-WebSocket-Key", "X-Key"), 400),
        (upgrade_but("/desktop/abc", "/desktop/a.b.c"), 400),
        (upgrade_but("GET", "POST"), 405),
        (upgrade_but("HTTP/1.1", "HTTP/1.0"), 426),
    ];
    for (request, status) in refused {
        let both = request + &plain_request("GET", "/health");
        for answer in assert_status(&relay, both.as_bytes(), status) {
            assert!(!answer.body.contains("HTTP/1.1") && !answer.body.contains("healthy"), "{answer:?}");
        }
    }
}

/// The opposite case: after an accepted upgrade, a request is only an invalid frame.
#[test]
fn request_after_an_accepted_upgrade_breaks_the_protocol() {
    let relay = quiet_relay(&[]);
    let both = upgrade_request("/desktop/abc") + &plain_request("GET", "/health");
    let (answer, mut client) = Client::handshake(relay.tcp(), both.as_bytes());
    assert_eq!(answer.status, 101);
    client.expect_connected("desktop", "abc");
    assert!(matches!(client.receive(), Received::Close(1002, _)));
    assert_eq!(client.receive(), Received::End);
}

/// SpiderLabs/owasp-modsecurity-crs#553 (Host of Troubles: parsers disagree about the host). By RFC 9112, section
/// 3.2.2, a proxy uses the target in absolute form, so the server must use it as well.
#[test]
fn absolute_target_takes_precedence_over_the_host_header() {
    let relay = quiet_relay(&[]);
    let request = upgrade_request("http://one.example/mobile/of-the-target")
        .replace("Host: relay", "Host: two.example");
    let (answer, mut client) = Client::handshake(relay.tcp(), request.as_bytes());
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    client.expect_connected("mobile", "of-the-target");
    for target in
        ["http:///mobile/abc", "http://a@b/mobile/abc", "file://relay/mobile/abc", "http:/mobile/abc"]
    {
        assert_status(&relay, upgrade_request(target).as_bytes(), 400);
    }
}

/// golang/go#19755 (TLS and plain HTTP on one port) and nghttp2/nghttp2#112 (HTTP/2 and HTTP/1 on one port).
#[test]
fn other_protocols_are_refused_at_once() {
    let relay = quiet_relay(&["--handshake-timeout", "10m"]);
    let http_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let tls = [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[7; 500]].concat();
    let proxy = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x1f\x90\x1f\x91";
    for opening in [&http_2[..], &tls, proxy, b"GET /health\r\n\r\n", b"\x05\x01\x02", &[0; 100]] {
        assert_status(&relay, opening, 400);
    }
}
