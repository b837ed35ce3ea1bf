//! Secrets, origins, proxies and the request for a session.

use super::*;
use crate::relay::access::secret::Secret;
use crate::relay::address::parse_range;

fn secret(text: &str) -> Option<Secret> {
    (!text.is_empty()).then(|| Secret::new(text.as_bytes()).unwrap())
}

/// What is read from `head` with these rules, whole and byte by byte.
fn read(head: &str, rules: HeadRules<'_>) -> (Option<ClientAddress>, Verdict) {
    let mut reader = HeadReader::default();
    let HeadProgress::Done { consumed, client, origin, verdict } = reader.push(head.as_bytes(), rules) else {
        panic!("{head} is not complete")
    };
    assert_eq!(consumed, head.len());
    let last = head.bytes().map(|byte| reader.push(&[byte], rules)).last();
    assert_eq!(
        last,
        Some(HeadProgress::Done { consumed: 1, client, origin, verdict }),
        "byte by byte: {head}"
    );
    let HeadProgress::Done { client, verdict, .. } = HeadReader::default().push(head.as_bytes(), rules)
    else {
        panic!("a reader is as good as another")
    };
    (client, verdict)
}

fn refusal(verdict: &Verdict) -> Option<Refusal> {
    match verdict {
        Verdict::Refuse { refusal, .. } => Some(*refusal),
        Verdict::Upgrade(_)
        | Verdict::Issue(_)
        | Verdict::Health { .. }
        | Verdict::Preflight { .. }
        | Verdict::Nothing => None,
    }
}

#[test]
fn a_secret_is_in_the_query_a_bearer_token_or_a_subprotocol() {
    // "0123456789abcdef" is "MDEyMzQ1Njc4OWFiY2RlZg" in base64url.
    let table = [
        ("", "", "", "", ""),
        ("?secret=0123456789abcdef", "", "0123456789abcdef", "", ""),
        ("?a=b&secret=0123456789abcdef&c", "", "0123456789abcdef", "", ""),
        ("?secret=0123456789%61bcd%65f", "", "0123456789abcdef", "", ""),
        ("?secret=0123456789abcde+", "", "0123456789abcde+", "", ""),
        ("?secret=0123456789abcde%26%00", "", "0123456789abcde&\0", "", ""),
        ("?secret=0123456789abcdef==", "", "0123456789abcdef==", "", ""),
        ("?secret=0123456789abcdef&secret=0123456789abcdef", "", "0123456789abcdef", "", ""),
        ("?SECRET=x&xsecret=y&secretx=z", "", "", "", ""),
        ("", "Authorization: Bearer 0123456789abcdef", "", "", "0123456789abcdef"),
        ("", "authorization: bEARER \t0123456789abcdef ", "", "", "0123456789abcdef"),
        ("", "Authorization: Basic dXNlcjpwYXNz", "", "", ""),
        ("", "Authorization: Bearer", "", "", ""),
        ("", "Authorization: Bearer short", "", "", ""),
        ("", "Authorization: Bearer 0123456789 abcdef", "", "", ""),
        ("", "Authorization: Bearer 0123456789abcdef\r\nAuthorization: Bearer 0123456789abcdef", "", "", ""),
        ("", "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZg", "0123456789abcdef", "", ""),
        ("", "Sec-WebSocket-Protocol: a, apptuner.key.MDEyMzQ1Njc4OWFiY2RlZg", "", "0123456789abcdef", ""),
        (
            "?secret=0123456789abcdef",
            "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZg\r\n\
             Authorization: Bearer another-0123456789",
            "0123456789abcdef",
            "",
            "another-0123456789",
        ),
    ];
    for (query, line, expected, key, bearer) in table {
        let head = edit(HANDSHAKE, "/desktop/abc", &format!("/desktop/abc{query}"));
        let head = if line.is_empty() { head } else { add(&head, line) };
        let (_, Verdict::Upgrade(upgrade)) = read(&head, HeadRules::default()) else { panic!("{head}") };
        let credentials = Credentials { secret: secret(expected), key: secret(key), bearer: secret(bearer) };
        assert_eq!(upgrade.credentials, credentials, "{head}");
        assert!(!format!("{upgrade:?}").contains("0123456789"), "nothing secret is shown");
    }
}

#[test]
fn malformed_and_contradictory_secrets_are_refused() {
    let long = format!("?secret={}", "x".repeat(257));
    for (query, line) in [
        ("?secret=", ""),
        ("?secret=0123456789abcde", ""),
        (&long, ""),
        ("?secret=0123456789abcdef%", ""),
        ("?secret=0123456789abcdef%6", ""),
        ("?secret=0123456789abcdef%+1", ""),
        ("?secret=0123456789abcdef&secret=0123456789abcdeF", ""),
        ("", "Sec-WebSocket-Protocol: apptuner.secret."),
        ("", "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2Rl"),
        ("", "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZg!"),
        ("", "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZh"),
        ("", "Sec-WebSocket-Protocol: apptuner.key.x"),
        ("?secret=0123456789abcdeF", "Sec-WebSocket-Protocol: apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZg"),
    ] {
        let head = edit(HANDSHAKE, "/desktop/abc", &format!("/desktop/abc{query}"));
        let head = if line.is_empty() { head } else { add(&head, line) };
        expect_refusal(&head, BadRequest::Secret);
    }
}

#[test]
fn the_first_subprotocol_without_a_secret_is_echoed() {
    let secret = "apptuner.secret.MDEyMzQ1Njc4OWFiY2RlZg";
    let key = "apptuner.key.MDEyMzQ1Njc4OWFiY2RlZg";
    for (offered, echoed) in [
        (secret.to_owned(), None),
        (format!("{secret}, apptuner"), Some("apptuner")),
        (format!("{key}, {secret}, b, a"), Some("b")),
        (format!("apptuner, {secret}"), Some("apptuner")),
        (format!("{secret}\r\nSec-WebSocket-Protocol: apptuner.secretive"), Some("apptuner.secretive")),
    ] {
        let head = add(HANDSHAKE, &format!("Sec-WebSocket-Protocol: {offered}"));
        let (_, Verdict::Upgrade(upgrade)) = read(&head, HeadRules::default()) else { panic!("{head}") };
        assert_eq!(upgrade.subprotocol(), echoed, "{offered}");
    }
}

#[test]
fn sessions_are_issued_only_on_post() {
    let post = "POST /sessions HTTP/1.1\r\nHost: relay\r\n\r\n";
    let issue = |head: &str| {
        let (_, Verdict::Issue(credentials)) = read(head, HeadRules::default()) else { panic!("{head}") };
        credentials
    };
    assert_eq!(issue(post), Credentials::default());
    assert_eq!(issue(&add(post, "Content-Length: 0")), Credentials::default());
    assert_eq!(issue(&add(post, "Content-Length: 2")), Credentials::default());
    assert_eq!(issue(&edit(post, "/sessions", "/sessions?secret=x")), Credentials::default());
    let with_key = issue(&add(post, "Authorization: Bearer 0123456789abcdef"));
    assert_eq!(with_key, Credentials { bearer: secret("0123456789abcdef"), ..Credentials::default() });
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"] {
        expect_refusal(&edit(post, "POST", method), Refusal::IssueMethod);
    }
    expect_refusal(&edit(post, "/sessions", "/sessions/"), Refusal::MethodNotAllowed);
    expect_refusal(&edit(HANDSHAKE, "/desktop/abc", "/sessions"), BadRequest::Path(PathFault::Sessions));
}

#[test]
fn pages_of_all_origins_may_connect_unless_origins_are_listed() {
    let listed = ["https://app.example", "http://localhost:3000"].map(|text| Origin::parse(text).unwrap());
    let with_null = [Origin::parse("null").unwrap()];
    let refused = Some(Refusal::Origin);
    for (line, allowed, expected) in [
        ("Origin: https://evil.example", &[][..], None),
        ("Origin: null", &[], None),
        ("Origin: nonsense", &[], None),
        ("X-Origin: https://evil.example", &listed, None),
        ("Origin: https://app.example", &listed, None),
        ("origin: HTTPS://APP.example:443", &listed, None),
        ("Origin: http://localhost:3000", &listed, None),
        ("Origin: http://relay:8787", &listed, None),
        ("Origin: https://relay:8787", &listed, None),
        ("Origin: http://relay", &listed, refused),
        ("Origin: http://app.example", &listed, refused),
        ("Origin: https://app.example:8443", &listed, refused),
        ("Origin: https://app.example.evil.example", &listed, refused),
        ("Origin: http://localhost", &listed, refused),
        ("Origin: null", &listed, refused),
        ("Origin: null", &with_null, None),
        ("Origin:", &listed, refused),
        ("Origin: nonsense", &listed, refused),
        ("Origin: https://app.example\r\nOrigin: https://app.example", &listed, refused),
        ("Origin: https://app.example https://evil.example", &listed, refused),
    ] {
        let rules = HeadRules { origins: allowed, ..HeadRules::default() };
        let (_, verdict) = read(&add(HANDSHAKE, line), rules);
        assert_eq!(refusal(&verdict), expected, "{line}");
        let post = add("POST /sessions HTTP/1.1\r\nHost: relay:8787\r\n\r\n", line);
        assert_eq!(refusal(&read(&post, rules).1), expected, "{line}");
        let health = add("GET /health HTTP/1.1\r\nHost: relay:8787\r\n\r\n", line);
        assert_eq!(refusal(&read(&health, rules).1), None, "{line}");
    }
}

/// The origin whose pages may read the answer to `head`, and the verdict.
fn read_for_page(head: &str, origins: &[Origin]) -> (Option<Box<str>>, Verdict) {
    let rules = HeadRules { origins, ..HeadRules::default() };
    let HeadProgress::Done { origin, verdict, .. } = HeadReader::default().push(head.as_bytes(), rules)
    else {
        panic!("{head} is not complete")
    };
    (origin, verdict)
}

#[test]
fn pages_that_may_connect_may_read_the_answers_of_health_and_sessions() {
    let listed = [Origin::parse("https://app.example").unwrap()];
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: relay:8787\r\n\r\n");
    for (origins, line, is_for_page) in [
        (&[][..], "Origin: https://any.example", true),
        (&[], "Origin: null", true),
        (&[], "Origin: nonsense", false),
        (&[], "Origin: https://a.example\r\nOrigin: https://a.example", false),
        (&[], "X: y", false),
        (&listed, "Origin: HTTPS://app.example:443", true),
        (&listed, "Origin: http://relay:8787", true),
        (&listed, "Origin: https://any.example", false),
        (&listed, "Origin: null", false),
    ] {
        let as_sent = line.strip_prefix("Origin: ").filter(|_| is_for_page);
        for target in ["GET /health", "HEAD /health", "POST /sessions", "PUT /health", "GET /sessions"] {
            let (origin, _) = read_for_page(&add(&request(target), line), origins);
            assert_eq!(origin.as_deref(), as_sent, "{target} {line}");
        }
        for fault in ["Content-Length: x", "Host: another"] {
            let (origin, verdict) =
                read_for_page(&add(&add(&request("POST /sessions"), line), fault), origins);
            assert!(refusal(&verdict).is_some(), "{fault}");
            // With two hosts, neither is the relay's own.
            let is_own = line.contains("relay") && fault.starts_with("Host");
            assert_eq!(origin.as_deref(), as_sent.filter(|_| !is_own), "{fault} {line}");
        }
        for target in ["GET /desktop/abc", "GET /other", "GET /favicon.ico"] {
            assert_eq!(read_for_page(&add(&request(target), line), origins).0, None, "{target}");
        }
        for (target, methods) in [("/health", "GET, HEAD"), ("/sessions", "POST")] {
            let preflight =
                add(&request(&format!("OPTIONS {target}")), "Access-Control-Request-Method: POST");
            let (origin, verdict) = read_for_page(&add(&preflight, line), origins);
            let expected = match as_sent {
                Some(_) => Verdict::Preflight { methods },
                None if line.contains("Origin") => {
                    Verdict::Refuse { refusal: Refusal::Origin, head_only: false }
                }
                None => {
                    let refusal =
                        if target == "/health" { Refusal::MethodNotAllowed } else { Refusal::IssueMethod };
                    Verdict::Refuse { refusal, head_only: false }
                }
            };
            assert_eq!((origin.as_deref(), verdict), (as_sent, expected), "{target} {line}");
        }
    }
    let elsewhere = add(&request("OPTIONS /other"), "Origin: null\r\nAccess-Control-Request-Method: GET");
    assert_eq!(refusal(&read_for_page(&elsewhere, &[]).1), Some(Refusal::MethodNotAllowed));
}

type Write<'a> = &'a dyn Fn(AnswerForm<'_>, &mut Vec<u8>);

#[test]
fn answers_to_a_page_have_the_headers_that_let_it_read_them() {
    let form = AnswerForm { origin: Some("https://app.example"), ..AnswerForm::default() };
    let lines = "Access-Control-Allow-Origin: https://app.example\r\nVary: Origin\r\n";
    let writers: [Write<'_>; 3] = [
        &|form, out| write_health("{}", form, out),
        &|form, out| write_issued("{}", form, out),
        &|form, out| write_refusal(Refusal::ApiKey, form, out),
    ];
    for write in writers {
        let text = |form| {
            let mut out = Vec::new();
            write(form, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(form).replacen(lines, "", 1), text(AnswerForm::default()));
        assert!(text(form).contains(lines));
    }
    let mut out = Vec::new();
    write_preflight("GET, HEAD", form.origin, &mut out);
    let expected = format!(
        "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: GET, HEAD\r\n\
         Access-Control-Allow-Headers: Authorization, Content-Type\r\nAccess-Control-Max-Age: 86400\r\n\
         {lines}Connection: close\r\n\r\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn only_what_trusted_proxies_have_written_is_believed() {
    let proxies = Networks::new(&["10.0.0.0/8", "2001:db8::/32"].map(|range| parse_range(range).unwrap()));
    let rules = HeadRules { proxies: Some(&proxies), ..HeadRules::default() };
    let malformed = "malformed";
    for (lines, expected) in [
        ("X: y", "-"),
        ("X-Forwarded-For: 192.0.2.1", "192.0.2.1"),
        ("x-forwarded-for: 192.0.2.1:4711", "192.0.2.1"),
        ("X-Forwarded-For: ::ffff:192.0.2.1", "192.0.2.1"),
        ("X-Forwarded-For: 3fff::1", "3fff::1"),
        ("X-Forwarded-For: [3fff::1]:80", "3fff::1"),
        // What the client wrote is on the left.
        ("X-Forwarded-For: 127.0.0.1, 10.0.0.7, 192.0.2.1", "192.0.2.1"),
        ("X-Forwarded-For: nonsense, 192.0.2.1", "192.0.2.1"),
        ("X-Forwarded-For: 198.51.100.1, 192.0.2.1, 10.0.0.7, 10.0.0.8", "192.0.2.1"),
        ("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1,, 10.0.0.7", "192.0.2.1"),
        ("X-Forwarded-For: 10.0.0.7, 10.0.0.8", "10.0.0.7"),
        ("X-Forwarded-For: unknown, 10.0.0.8", "10.0.0.8"),
        ("X-Forwarded-For: 192.0.2.1, unknown", "-"),
        ("X-Forwarded-For:", "-"),
        ("X-Forwarded-For: 192.0.2.1, nonsense", malformed),
        ("X-Forwarded-For: 192.0.2.256", malformed),
        ("X-Forwarded-For: 3fff::1]:80", malformed),
        ("X-Forwarded-For: [3fff::1", malformed),
        ("X-Forwarded-For: [3fff::1]x", malformed),
        ("Forwarded: for=192.0.2.1", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
        ("forwarded: Proto=https; FOR = \"192.0.2.1:4711\"", "192.0.2.1"),
        ("Forwarded: for=\"[3fff::1]:4711\"", "3fff::1"),
        ("Forwarded: for=127.0.0.1, for=192.0.2.1;by=x, for=10.0.0.7", "192.0.2.1"),
        // An unclosed quote on the left does not affect what the proxy wrote.
        ("Forwarded: for=\"127.0.0.1, for=192.0.2.1", "192.0.2.1"),
        // Nor does what a client wrote into the host name that it requests.
        ("Forwarded: for=192.0.2.1;host=\"a,for=6.6.6.6;b\"", "192.0.2.1"),
        ("Forwarded: host=\"a;for=6.6.6.6;b\";for=192.0.2.1", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1;host=\"\\\\\\\",for=6.6.6.6;b\"", "192.0.2.1"),
        ("Forwarded: for=\", for=192.0.2.1;host=\";for=6.6.6.6;b\"", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1, for=_hidden, for=10.0.0.7", "10.0.0.7"),
        ("Forwarded: for=unknown", "-"),
        ("Forwarded: proto=https", "-"),
        ("Forwarded: for=nonsense", malformed),
        ("Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.1", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 198.51.100.1", malformed),
        ("Forwarded: for=unknown\r\nX-Forwarded-For: 198.51.100.1", malformed),
        ("Forwarded: for=unknown\r\nX-Forwarded-For: unknown", "-"),
    ] {
        let head = add(HANDSHAKE, lines);
        let (client, verdict) = read(&head, rules);
        if expected == malformed {
            assert_eq!(refusal(&verdict), Some(BadRequest::Forwarded.into()), "{lines}");
        } else {
            let expected = (expected != "-").then(|| ClientAddress::new(expected.parse().unwrap()));
            assert_eq!((client, refusal(&verdict)), (expected, None), "{lines}");
        }
        let (client, verdict) = read(&head, HeadRules::default());
        assert_eq!(
            (client, refusal(&verdict)),
            (None, None),
            "without trusted proxies no field is believed: {lines}"
        );
    }
}

#[test]
fn the_proxy_protocol_header_comes_before_the_head() {
    let header = "PROXY TCP4 192.0.2.1 10.0.0.1 8080 8787\r\n";
    let client = Some(ClientAddress::new("192.0.2.1".parse().unwrap()));
    let rules = HeadRules::default();
    let mut reader = HeadReader::behind_proxy_header();
    assert_eq!(
        reader.push(format!("{header}{PLAIN}").as_bytes(), rules),
        HeadProgress::Proxied { consumed: header.len(), client }
    );
    let verdict = Verdict::Health { head_only: false };
    let done = HeadProgress::Done { consumed: PLAIN.len(), client: None, origin: None, verdict };
    assert_eq!(reader.push(PLAIN.as_bytes(), rules), done);

    let mut reader = HeadReader::behind_proxy_header();
    for byte in header.trim_end_matches('\n').bytes() {
        assert_eq!(reader.push(&[byte], rules), HeadProgress::NeedMore);
    }
    assert_eq!(reader.push(b"\n", rules), HeadProgress::Proxied { consumed: 1, client });

    let refusal = BadRequest::ProxyHeader.into();
    let verdict = Verdict::Refuse { refusal, head_only: false };
    let refused = HeadProgress::Done { consumed: PLAIN.len(), client: None, origin: None, verdict };
    assert_eq!(HeadReader::behind_proxy_header().push(PLAIN.as_bytes(), rules), refused);
}
