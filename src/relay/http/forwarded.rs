//! The client that a proxy names in `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! Each proxy appends the address from which it was reached. So the list is read from its right end, as long as the
//! addresses are those of trusted proxies. Anything further left may come from the client. Quoted strings are also
//! read from the right: a client can write commas, semicolons and quotes into the host name that it requests.

use std::iter;
use std::net::{IpAddr, Ipv6Addr};
use std::str;

use httparse::Header;

use super::BadRequest;
use super::fields::{elements, values};
use crate::relay::address::{ClientAddress, Networks};

/// The client of a request that came from one of the `proxies`. `None` if no field names one.
///
/// # Errors
/// A field is malformed, or the two fields name different clients.
pub(super) fn client(fields: &[Header<'_>], proxies: &Networks) -> Result<Option<ClientAddress>, BadRequest> {
    // Both lists from the right: the nearest proxy comes first.
    let by_proxies = elements(fields, "x-forwarded-for").rev().map(node);
    let standard = values(fields, "forwarded").rev().flat_map(|value| split_outside_quotes(value, b','));
    let standard = standard.filter(|element| !element.is_empty()).map(node_of_element);
    match (last_untrusted(by_proxies, proxies)?, last_untrusted(standard, proxies)?) {
        // If only one field names a client, it is believed only if the other is missing: the client may have sent
        // either.
        (ForwardedClient::Client(client), ForwardedClient::Missing)
        | (ForwardedClient::Missing, ForwardedClient::Client(client)) => Ok(Some(client)),
        (ForwardedClient::Client(one), ForwardedClient::Client(other)) if one == other => Ok(Some(one)),
        (ForwardedClient::Client(_), _) | (_, ForwardedClient::Client(_)) => Err(BadRequest::Forwarded),
        (
            ForwardedClient::Missing | ForwardedClient::Hidden,
            ForwardedClient::Missing | ForwardedClient::Hidden,
        ) => Ok(None),
    }
}

/// One element of the list.
enum Node {
    Address(ClientAddress),
    /// `unknown`, or an identifier that only the proxy understands (RFC 7239, sections 6.2 and 6.3).
    Hidden,
    Malformed,
}

/// The client that a list names.
enum ForwardedClient {
    /// None: the field is missing or empty.
    Missing,
    /// One that the nearest proxy hides.
    Hidden,
    Client(ClientAddress),
}

/// The first address from the right that is not a trusted proxy; or the last one, if all are.
fn last_untrusted(
    nodes: impl Iterator<Item = Node>,
    proxies: &Networks,
) -> Result<ForwardedClient, BadRequest> {
    let mut furthest = ForwardedClient::Missing;
    for node in nodes {
        match node {
            Node::Address(address) => {
                furthest = ForwardedClient::Client(address);
                // A trusted proxy wrote what is left of its own address, so the search goes on.
                if !proxies.contains(address) {
                    break;
                }
            }
            Node::Hidden => {
                if matches!(furthest, ForwardedClient::Missing) {
                    furthest = ForwardedClient::Hidden;
                }
                break;
            }
            Node::Malformed => return Err(BadRequest::Forwarded),
        }
    }
    Ok(furthest)
}

/// The `for` parameter of one element of `Forwarded`. If there are several, the first.
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

/// The parts between the separators that are not quoted, from the right, without white space around them. Read from
/// the right so that an unclosed quote on the left has no effect on what follows it. Linear time.
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
            // An odd number of backslashes escapes the quote.
            let backslashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
            is_quoted ^= backslashes % 2 == 0;
        }
        byte == Some(&separator) && !is_quoted
    })
}

/// Parses an address with or without a port (RFC 7239, section 6, and the forms that are usual in `X-Forwarded-For`).
fn node(text: &[u8]) -> Node {
    let Ok(text) = str::from_utf8(text) else { return Node::Malformed };
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Node::Hidden;
    }
    let address = if let Some(literal) = text.strip_prefix('[') {
        // Without the bracket the address is empty, which does not parse.
        let (address, port) = literal.split_once(']').unwrap_or_default();
        address.parse::<Ipv6Addr>().ok().filter(|_| port.is_empty() || port.starts_with(':')).map(IpAddr::V6)
    } else {
        // A bare IPv6 address contains colons, so it is tried before ADDRESS:PORT.
        let with_port = || text.split_once(':')?.0.parse().ok().map(IpAddr::V4);
        text.parse().ok().or_else(with_port)
    };
    address.map_or(Node::Malformed, |address| Node::Address(ClientAddress::new(address)))
}
