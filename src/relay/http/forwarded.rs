//! Whom a proxy speaks for: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends the address that it was reached from, so the list is read from its right end, as far as
//! the addresses are those of proxies that are trusted; what stands further left anybody may have written. So is
//! what stands in quotes: the name of the host that the client asks for, say, with commas and semicolons in it.

use std::iter;
use std::net::{IpAddr, Ipv6Addr};
use std::str;

use httparse::Header;

use super::BadRequest;
use super::fields::{elements, values};
use crate::relay::address::{ClientAddress, Networks};

/// The client of a request that came from one of the `proxies`; `None` if no field names one.
pub(super) fn client(fields: &[Header<'_>], proxies: &Networks) -> Result<Option<ClientAddress>, BadRequest> {
    let by_proxies = elements(fields, "x-forwarded-for").rev().map(node);
    let standard = values(fields, "forwarded").rev().flat_map(|value| split_outside_quotes(value, b','));
    let standard = standard.filter(|element| !element.is_empty()).map(node_of_element);
    match (last_untrusted(by_proxies, proxies)?, last_untrusted(standard, proxies)?) {
        // One of the two may have come from the client itself, and nothing tells which.
        (ForwardedClient::Client(client), ForwardedClient::Nobody)
        | (ForwardedClient::Nobody, ForwardedClient::Client(client)) => Ok(Some(client)),
        (ForwardedClient::Client(one), ForwardedClient::Client(other)) if one == other => Ok(Some(one)),
        (ForwardedClient::Client(_), _) | (_, ForwardedClient::Client(_)) => Err(BadRequest::Forwarded),
        (
            ForwardedClient::Nobody | ForwardedClient::Hidden,
            ForwardedClient::Nobody | ForwardedClient::Hidden,
        ) => Ok(None),
    }
}

/// Someone in the list.
enum Node {
    Address(ClientAddress),
    /// `unknown`, or a name that only its proxy understands (RFC 7239, sections 6.2 and 6.3).
    Hidden,
    Malformed,
}

/// Whom a list names.
enum ForwardedClient {
    /// It is empty, or not there.
    Nobody,
    /// Somebody whom the nearest proxy does not tell.
    Hidden,
    Client(ClientAddress),
}

/// The first that is no proxy, or else the furthest proxy.
fn last_untrusted(
    nodes: impl Iterator<Item = Node>,
    proxies: &Networks,
) -> Result<ForwardedClient, BadRequest> {
    let mut furthest = ForwardedClient::Nobody;
    for node in nodes {
        match node {
            Node::Address(address) => {
                furthest = ForwardedClient::Client(address);
                if !proxies.contains(address) {
                    break;
                }
            }
            Node::Hidden => {
                if matches!(furthest, ForwardedClient::Nobody) {
                    furthest = ForwardedClient::Hidden;
                }
                break;
            }
            Node::Malformed => return Err(BadRequest::Forwarded),
        }
    }
    Ok(furthest)
}

/// The `for` of one element of `Forwarded`, the first of several.
fn node_of_element(element: &[u8]) -> Node {
    let addresses = split_outside_quotes(element, b';').filter_map(|pair| {
        let mut parts = pair.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let is_for = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"for"));
        parts.next().filter(|_| is_for)
    });
    addresses.last().map_or(Node::Hidden, |value| {
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        node(unquoted.unwrap_or(value))
    })
}

/// What stands between the separators that are not in quotes, from the right end, so that an open quote on the
/// left reaches nothing; without the white space around it. Linear in the length.
fn split_outside_quotes(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    iter::from_fn(move || {
        let value = rest?;
        let place = last_outside_quotes(value, separator);
        rest = place.and_then(|place| value.get(..place));
        value.get(place.map_or(0, |place| place + 1)..).map(<[u8]>::trim_ascii)
    })
}

fn last_outside_quotes(value: &[u8], separator: u8) -> Option<usize> {
    let mut is_quoted = false;
    (0..value.len()).rev().find(|&place| {
        let (before, byte) = (value.get(..place).unwrap_or_default(), value.get(place));
        if byte == Some(&b'"') {
            let backslashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
            is_quoted ^= backslashes % 2 == 0;
        }
        byte == Some(&separator) && !is_quoted
    })
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
