//! Web origins (RFC 6454), as browsers send them and as operators list them.

use std::borrow::Cow;
use std::fmt;

/// The origin of a page: scheme, host and port; or `null`, which browsers send for pages without an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(OriginKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum OriginKind {
    Null,
    Page {
        scheme: Box<str>,
        host: Box<str>,
        /// The written port, or else the scheme's default port. `None` if the scheme has no default.
        port: Option<u16>,
    },
}

impl Origin {
    /// Parses `https://app.example.com`, with a port if it is not the scheme's default, or `null`. The case of scheme
    /// and host does not matter.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
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
        // Includes the brackets and colons of an IPv6 address. User information, with its `@`, is not allowed.
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
            });
        if !is_scheme || !is_host {
            return Err(problem.into());
        }
        // Checked last: the remedy must itself be a valid origin.
        if without_path.is_some() {
            return Err(format!("an origin ends before its path; write {scheme}://{authority}").into());
        }
        let port = port.or_else(|| default_port(&scheme));
        Ok(Self(OriginKind::Page { scheme: scheme.into(), host: host.to_ascii_lowercase().into(), port }))
    }

    /// Whether this origin has the host and port of a `Host` field, and so is the relay's own. The scheme does not
    /// matter: React Native sends such an origin. A port that the field does not give is the scheme's default.
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

/// Splits an authority into host and port. `None` if the part after the colon is not a port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // An IPv6 address has colons of its own; the port comes after its bracket.
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
    fn origins_are_equal_if_scheme_host_and_port_are_equal() {
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
    fn text_that_is_not_an_origin_is_refused_with_a_remedy() {
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
    fn the_relays_own_host_is_recognised_with_any_scheme() {
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
