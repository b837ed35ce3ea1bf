//! Parses requests to the operator's listener.

use std::net::IpAddr;
use std::str;

use data_encoding::BASE64;

use crate::relay::access::secret::Secret;
use crate::relay::http::{Refusal, Request};

/// Sessions in one answer, unless the query has another `limit`.
const SESSIONS_DEFAULT: usize = 100;
/// The highest `limit`.
const SESSIONS_MAX: usize = 500;

/// A parsed request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AdminRequest {
    pub(super) page: AdminPage,
    /// The method was HEAD: the answer is sent without its body (RFC 9110, section 9.3.2).
    pub(super) head_only: bool,
    /// The token of the request, right or wrong.
    pub(super) token: Option<Secret>,
}

/// What a request asks for, or the error that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminPage {
    StatusPage,
    Metrics,
    Live,
    Ready,
    Sessions {
        from: usize,
        limit: usize,
    },
    /// The samples taken after this Unix time in milliseconds.
    History {
        since: u64,
    },
    /// The request breaks the rules of HTTP.
    Refused(Refusal),
    /// The page needs the token.
    Unauthorized,
    NotFound,
    /// Without a token, the host is neither an IP address nor `localhost`.
    OtherHost,
    BadQuery,
}

impl AdminPage {
    /// Whether the answer needs no token. Load balancers have none, and these answers reveal nothing else.
    pub(super) const fn is_public(self) -> bool {
        match self {
            Self::Live | Self::Ready | Self::Refused(_) | Self::Unauthorized => true,
            Self::StatusPage
            | Self::Metrics
            | Self::Sessions { .. }
            | Self::History { .. }
            | Self::NotFound
            | Self::OtherHost
            | Self::BadQuery => false,
        }
    }

    /// Whether the answer is a page, which takes time to make, instead of one sentence.
    pub(super) const fn is_page(self) -> bool {
        match self {
            Self::StatusPage | Self::Metrics | Self::Sessions { .. } | Self::History { .. } => true,
            Self::Live
            | Self::Ready
            | Self::Refused(_)
            | Self::Unauthorized
            | Self::NotFound
            | Self::OtherHost
            | Self::BadQuery => false,
        }
    }
}

impl AdminRequest {
    /// Parses a request head, unless `outcome` has refused it already.
    ///
    /// If no token is set, `is_open`, the host must be an IP address or `localhost`. Otherwise a web page in the
    /// operator's browser could read the answers by DNS rebinding: it points its own name to this machine.
    pub(super) fn parse(head: &[u8], outcome: Result<(), Refusal>, is_open: bool) -> Self {
        let head_only = head.starts_with(b"HEAD ");
        match outcome.and_then(|()| Request::parse(head)) {
            Ok(request) => Self { page: page_of(&request, is_open), head_only, token: token(&request) },
            Err(refusal) => Self { page: AdminPage::Refused(refusal), head_only, token: None },
        }
    }
}

fn page_of(request: &Request<'_>, is_open: bool) -> AdminPage {
    if !matches!(request.method, "GET" | "HEAD") {
        return AdminPage::Refused(Refusal::MethodNotAllowed);
    }
    // The probes are answered under any host name, because load balancers may use one.
    match request.path {
        "/livez" => return AdminPage::Live,
        "/readyz" => return AdminPage::Ready,
        _ if is_open && !request.host.is_none_or(is_local) => return AdminPage::OtherHost,
        _ => {}
    }
    let number = |name, default| parameter(request.query, name, default);
    match request.path {
        "/" => AdminPage::StatusPage,
        "/metrics" => AdminPage::Metrics,
        "/sessions" => match (number("from", Some(0)), number("limit", Some(SESSIONS_DEFAULT as u64))) {
            (Some(from), Some(limit)) if (1..=SESSIONS_MAX as u64).contains(&limit) => AdminPage::Sessions {
                from: usize::try_from(from).unwrap_or(usize::MAX),
                limit: usize::try_from(limit).unwrap_or(SESSIONS_MAX),
            },
            (_, _) => AdminPage::BadQuery,
        },
        "/history" => match number("since", Some(0)) {
            Some(since) => AdminPage::History { since },
            None => AdminPage::BadQuery,
        },
        _ => AdminPage::NotFound,
    }
}

/// The number that the query gives for `name`, or the default without one. `None` if it is not a number.
fn parameter(query: &str, name: &str, default: Option<u64>) -> Option<u64> {
    // The first of several values counts. No escapes are decoded: numbers need none.
    let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    values.next().map_or(default, |(_, value)| {
        value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
    })
}

/// Whether `host` is an IP address or `localhost`, which always means this machine (RFC 6761, section 6.3).
fn is_local(host: &str) -> bool {
    // Without the port, and without the brackets of an IPv6 address.
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1), or the password of `Basic` (RFC 7617, section 2).
fn token(request: &Request<'_>) -> Option<Secret> {
    let (scheme, value) = str::from_utf8(request.authorization?).ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Secret::new(value.trim_ascii().as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(value.trim_ascii().as_bytes()).ok()?;
    // The user name before the colon is ignored. The password may contain colons.
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    Secret::new(decoded.get(colon + 1..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(target: &str, fields: &str, is_open: bool) -> AdminRequest {
        let head = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        AdminRequest::parse(head.as_bytes(), Ok(()), is_open)
    }

    #[test]
    fn paths_and_queries_select_the_page() {
        for (target, page) in [
            ("/", AdminPage::StatusPage),
            ("/?x=y", AdminPage::StatusPage),
            ("/metrics", AdminPage::Metrics),
            ("http://localhost:9787/livez", AdminPage::Live),
            ("/readyz", AdminPage::Ready),
            ("/sessions", AdminPage::Sessions { from: 0, limit: 100 }),
            ("/sessions?limit=500&from=7", AdminPage::Sessions { from: 7, limit: 500 }),
            ("/sessions?from=99999999999999999999", AdminPage::BadQuery),
            ("/sessions?limit=501", AdminPage::BadQuery),
            ("/sessions?limit=0", AdminPage::BadQuery),
            ("/sessions?from=-1", AdminPage::BadQuery),
            ("/sessions?from=", AdminPage::BadQuery),
            ("/history?since=17", AdminPage::History { since: 17 }),
            ("/history?since=x", AdminPage::BadQuery),
            ("/metrics/", AdminPage::NotFound),
            ("/Metrics", AdminPage::NotFound),
        ] {
            assert_eq!(ask(target, "Host: localhost:9787\r\n", true).page, page, "{target}");
        }
    }

    #[test]
    fn without_a_token_the_host_must_be_an_address_or_localhost() {
        let hosts = ["127.0.0.1:9787", "[::1]:9787", "[::1]", "LocalHost", "localhost:1", "192.0.2.1"];
        for host in hosts {
            assert_eq!(ask("/", &format!("Host: {host}\r\n"), true).page, AdminPage::StatusPage, "{host}");
        }
        for host in ["evil.example:9787", "localhost.evil.example", "127.0.0.1.evil.example", "relay"] {
            let fields = format!("Host: {host}\r\n");
            assert_eq!(ask("/metrics", &fields, true).page, AdminPage::OtherHost, "{host}");
            assert_eq!(
                ask("/metrics", &fields, false).page,
                AdminPage::Metrics,
                "{host}: the token protects it"
            );
            assert_eq!(ask("/readyz", &fields, true).page, AdminPage::Ready, "{host}: reveals nothing");
        }
    }

    #[test]
    fn token_is_sent_as_bearer_or_as_the_password_of_basic() {
        let expected = Secret::new(b"correct:horse-battery");
        let basic = BASE64.encode(b"anybody:correct:horse-battery");
        for (value, token) in [
            ("Bearer correct:horse-battery".to_owned(), &expected),
            ("bearer  correct:horse-battery ".to_owned(), &expected),
            (format!("Basic {basic}"), &expected),
            ("Basic correct:horse-battery".to_owned(), &None),
            ("Digest correct:horse-battery".to_owned(), &None),
            ("correct:horse-battery".to_owned(), &None),
            ("Bearer short".to_owned(), &None),
        ] {
            let request = ask("/", &format!("Host: relay\r\nAuthorization: {value}\r\n"), false);
            assert_eq!(request.token, *token, "{value}");
        }
    }

    #[test]
    fn only_get_and_head_are_answered() {
        for (method, is_answered) in [("GET", true), ("HEAD", true), ("POST", false), ("get", false)] {
            let head = format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let request = AdminRequest::parse(head.as_bytes(), Ok(()), true);
            assert_eq!(request.page == AdminPage::StatusPage, is_answered, "{method}");
            assert_eq!(request.head_only, method == "HEAD");
        }
    }
}
