//! The request target and the host (RFC 9112, sections 3.2 and 3.3).

use std::net::Ipv6Addr;
use std::str;

use super::fields::decimal;
use super::path_fault::PathFault;
use crate::relay::ids::{ClientType, SessionId};

/// The resource that a request target names.
pub(super) enum Target<'a> {
    Health,
    /// `/sessions`, where sessions are issued.
    Sessions,
    /// One side of a session, and the query.
    Session(ClientType, SessionId, &'a str),
    /// `/favicon.ico`, which browsers request from every host.
    Icon,
    /// Any other path.
    Other(PathFault),
}

impl<'a> Target<'a> {
    /// Parses a target in origin-form or absolute-form (RFC 9112, section 3.2). `None` if it has another form.
    /// Nothing is decoded or normalised.
    pub(super) fn parse(target: &'a str) -> Option<Self> {
        let (path, query) = path_and_query(target)?;
        match path {
            "/health" => return Some(Self::Health),
            "/sessions" => return Some(Self::Sessions),
            "/favicon.ico" => return Some(Self::Icon),
            _ => {}
        }
        let session = |prefix: &str, client_type| {
            let session_id = SessionId::parse(path.strip_prefix(prefix)?.as_bytes())?;
            Some(Self::Session(client_type, session_id, query))
        };
        session("/desktop/", ClientType::Desktop)
            .or_else(|| session("/mobile/", ClientType::Mobile))
            .or_else(|| Some(Self::Other(PathFault::of(path))))
    }

    /// The methods of a path whose answers pages of other origins may read, as a list. `None` for all other paths.
    pub(super) const fn shared_methods(&self) -> Option<&'static str> {
        match self {
            Self::Health => Some("GET, HEAD"),
            Self::Sessions => Some("POST"),
            Self::Session(..) | Self::Icon | Self::Other(_) => None,
        }
    }
}

/// Splits a target of either form into path and query. `None` if it has another form.
pub(super) fn path_and_query(target: &str) -> Option<(&str, &str)> {
    let both = if target.starts_with('/') { target } else { path_of_absolute_form(target)? };
    Some(both.split_once('?').unwrap_or((both, "")))
}

/// The path and query of a target in absolute-form, which clients send through a proxy (RFC 9112, section 3.2.2).
/// `None` if the URI has another scheme, or its authority is malformed or has user information (RFC 9110, section
/// 4.2.4).
fn path_of_absolute_form(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_known = ["http", "https", "ws", "wss"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    // The path may be missing: then the query, or nothing, follows the authority.
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (is_known && is_host_and_port(authority.as_bytes())).then_some(path)
}

/// Whether the value is `uri-host [ ":" port ]` with a host that is not empty (RFC 9110, section 7.2; RFC 3986,
/// sections 3.2.2 and 3.2.3).
pub(super) fn is_host_and_port(value: &[u8]) -> bool {
    let Ok(value) = str::from_utf8(value) else { return false };
    let (is_host, port) = if let Some(literal) = value.strip_prefix('[') {
        let Some((address, port)) = literal.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = value.split_at(value.find(':').unwrap_or(value.len()));
        (is_reg_name(name.as_bytes()), port)
    };
    is_host
        && match port.strip_prefix(':') {
            None => port.is_empty(),
            // A colon without a port is allowed (RFC 3986, section 3.2.3).
            Some("") => true,
            Some(digits) => decimal(digits.as_bytes()).is_some_and(|port| u16::try_from(port).is_ok()),
        }
}

/// Whether the value would be a host and port without the zone of its IPv6 address. A zone has a meaning only on the
/// client's machine and must not be sent (RFC 9844).
pub(super) fn is_host_with_zone(value: &[u8]) -> bool {
    let Some((address, rest)) = str::from_utf8(value).ok().and_then(|value| value.split_once('%')) else {
        return false;
    };
    let Some((_, port)) = rest.split_once(']') else { return false };
    address.starts_with('[') && is_host_and_port(format!("{address}]{port}").as_bytes())
}

/// Whether the name is a `reg-name` that is not empty (RFC 3986, section 3.2.2). An IPv4 address is one, too.
fn is_reg_name(name: &[u8]) -> bool {
    let is_hex = u8::is_ascii_hexdigit;
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return !name.is_empty(),
            [b'%', high, low, tail @ ..] if is_hex(high) && is_hex(low) => tail,
            [byte, tail @ ..] if is_reg_name_byte(*byte) => tail,
            _ => return false,
        };
    }
}

/// Whether the byte is in `unreserved` or `sub-delims` (RFC 3986, sections 2.2 and 2.3).
const fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
        || matches!(byte, b'*' | b'+' | b',' | b';' | b'=')
}
