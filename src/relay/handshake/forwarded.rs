//! Whom a proxy speaks for: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends the address that it was reached from, so the list is read from its right end, as far as
//! the addresses are those of proxies that are trusted; what stands further left anybody may have written.

use std::net::{IpAddr, Ipv6Addr};
use std::str;

use httparse::Header;

use super::BadRequest;
use super::fields::elements;
use crate::relay::address::{ClientAddress, Networks};

/// The client of a request that came from one of the `proxies`; `None` if no field names one.
pub(super) fn client(fields: &[Header<'_>], proxies: &Networks) -> Result<Option<ClientAddress>, BadRequest> {
    let by_proxies = elements(fields, "x-forwarded-for").rev().map(node);
    let standard = elements(fields, "forwarded").rev().map(node_of_element);
    match (last_untrusted(by_proxies, proxies)?, last_untrusted(standard, proxies)?) {
        // One of the two may have come from the client itself, and nothing tells which.
        (Some(one), Some(other)) if one != other => Err(BadRequest::Forwarded),
        (one, other) => Ok(one.or(other)),
    }
}

/// Someone in the list.
enum Node {
    Address(ClientAddress),
    /// `unknown`, or a name that only its proxy understands (RFC 7239, sections 6.2 and 6.3).
    Hidden,
    Malformed,
}

/// The first that is no proxy, or else the furthest proxy.
fn last_untrusted(
    nodes: impl Iterator<Item = Node>,
    proxies: &Networks,
) -> Result<Option<ClientAddress>, BadRequest> {
    let mut furthest = None;
    for node in nodes {
        match node {
            Node::Address(address) => furthest = Some(address),
            Node::Hidden => break,
            Node::Malformed => return Err(BadRequest::Forwarded),
        }
        if furthest.is_some_and(|address| !proxies.contains(address)) {
            break;
        }
    }
    Ok(furthest)
}

/// The `for` of one element of `Forwarded`.
fn node_of_element(element: &[u8]) -> Node {
    for pair in element.split(|&byte| byte == b';') {
        let mut parts = pair.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && name.eq_ignore_ascii_case(b"for")
        {
            let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            return node(unquoted.unwrap_or(value));
        }
    }
    Node::Hidden
}

/// An address, with or without a port (RFC 7239, section 6, and what is usual beside it).
fn node(text: &[u8]) -> Node {
    let Ok(text) = str::from_utf8(text) else { return Node::Malformed };
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Node::Hidden;
    }
    let address = if let Some(literal) = text.strip_prefix('[') {
        let (address, port) = literal.split_once(']').unwrap_or_default();
        address.parse::<Ipv6Addr>().ok().filter(|_| port.is_empty() || port.starts_with(':')).map(IpAddr::V6)
    } else {
        let with_port = || text.split_once(':')?.0.parse().ok().map(IpAddr::V4);
        text.parse().ok().or_else(with_port)
    };
    address.map_or(Node::Malformed, |address| Node::Address(ClientAddress::new(address)))
}
