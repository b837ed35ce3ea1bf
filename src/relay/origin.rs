//! Web origins, as browsers send them and operators list them (RFC 6454).

use std::borrow::Cow;
use std::fmt;

/// Where a page came from: scheme, host and port, or `null` for one that came from nowhere in particular.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(OriginKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum OriginKind {
    Null,
    Page {
        scheme: Box<str>,
        host: Box<str>,
        /// The scheme's own where none was written and there is one.
        port: Option<u16>,
    },
}

impl Origin {
    /// Reads `https://app.example.com`, with a port if it is not the scheme's own, or `null`. Schemes and hosts
    /// are compared without case.
    pub fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        if text == "null" {
            return Ok(Self(OriginKind::Null));
        }
        let problem =
            "not an origin; write SCHEME://HOST or SCHEME://HOST:PORT, such as https://app.example.com";
        let (scheme, authority) = text.split_once("://").ok_or(problem)?;
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = scheme.starts_with(|char: char| char.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        let without_path = authority.strip_suffix('/');
        let authority = without_path.unwrap_or(authority);
        let (host, port) = split_port(authority).ok_or(problem)?;
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
            });
        if !is_scheme || !is_host {
            return Err(problem.into());
        }
        if without_path.is_some() {
            return Err(format!("an origin ends before its path; write {scheme}://{authority}").into());
        }
        let port = port.or_else(|| default_port(&scheme));
        Ok(Self(OriginKind::Page { scheme: scheme.into(), host: host.to_ascii_lowercase().into(), port }))
    }

    /// Whether it is the host that a `Host` field names: the relay itself, whatever the scheme, as React Native
    /// sends it. A port that is not written there is the scheme's own.
    #[must_use]
    pub fn is_at(&self, host: &str) -> bool {
        let OriginKind::Page { scheme, host: own_host, port } = &self.0 else { return false };
        let Some((name, written)) = split_port(host) else { return false };
        own_host.eq_ignore_ascii_case(name) && *port == written.or_else(|| default_port(scheme))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            OriginKind::Null => f.write_str("null"),
            OriginKind::Page { scheme, host, port } => {
                write!(f, "{scheme}://{host}")?;
                port.filter(|_| *port != default_port(scheme)).map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// The host, and the port if one is written; `None` if that is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_bytes = authority.find(']').map_or(0, |end| end + 1);
    let Some(colon) = authority.get(name_bytes..)?.find(':') else { return Some((authority, None)) };
    let (host, port) = authority.split_at(name_bytes + colon);
    let digits = port.get(1..).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    if digits.is_empty() { Some((host, None)) } else { Some((host, Some(digits.parse().ok()?))) }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_the_same_if_scheme_host_and_port_are() {
        let table = [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "HTTPS://App.Example.COM", true),
            ("https://app.example.com", "https://app.example.com:443", true),
            ("http://localhost", "http://localhost:80", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("null", "null", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "https://app.example.com.evil.example", false),
            ("https://app.example.com", "https://evil.example", false),
            ("https://example.com", "https://app.example.com", false),
            ("http://[::1]", "http://[::1]:3000", false),
            ("tauri://localhost", "tauri://localhost", true),
            ("tauri://localhost", "http://localhost", false),
            ("null", "https://null", false),
        ];
        for (one, other, is_same) in table {
            assert_eq!(Origin::parse(one) == Origin::parse(other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_remedy() {
        for text in [
            "",
            "*",
            "example.com",
            "https://",
            "://x",
            "https://a b",
            "https://user@host",
            "https://host:x",
            "https://host:65536",
            "https://host/path",
            "1http://x",
            "https://*.example.com",
            "https://a,b",
            "NULL",
            "1http://x/",
            "https://a b/",
            "https:///",
            "https://x//",
        ] {
            assert!(Origin::parse(text).unwrap_err().contains("write SCHEME://HOST"), "{text}");
        }
        assert!(Origin::parse("https://x.example/").unwrap_err().contains("write https://x.example"));
    }

    #[test]
    fn the_relays_own_host_is_known_whatever_the_scheme() {
        let table = [
            ("http://relay.example:8787", "relay.example:8787", true),
            ("https://relay.example", "relay.example", true),
            ("https://relay.example", "relay.example:443", true),
            ("wss://RELAY.example", "relay.EXAMPLE", true),
            ("http://relay.example", "relay.example", true),
            ("http://[::1]:8787", "[::1]:8787", true),
            ("http://relay.example:8787", "relay.example", false),
            ("http://relay.example", "relay.example:8787", false),
            ("https://relay.example", "relay.example:80", false),
            ("https://evil.example", "relay.example", false),
            ("null", "null", false),
            ("tauri://localhost", "localhost:8787", false),
        ];
        for (origin, host, is_at) in table {
            assert_eq!(Origin::parse(origin).unwrap().is_at(host), is_at, "{origin} {host}");
        }
    }

    #[test]
    fn origins_are_shown_as_browsers_write_them() {
        for text in ["https://app.example.com", "http://[::1]:3000", "null", "tauri://localhost"] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Origin::parse("HTTP://Host:80").unwrap().to_string(), "http://host");
    }
}
