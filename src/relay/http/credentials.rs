//! Finds what a client brings to prove who it is.

use std::str;

use data_encoding::BASE64URL_NOPAD;
use httparse::Header;

use super::BadRequest;
use super::fields::{elements, only_value};
use crate::relay::access::credentials::Credentials;
use crate::relay::access::secret::Secret;

/// Begins the subprotocol in which a browser, which can set no header field, brings its pairing secret.
const SECRET_SUBPROTOCOL: &[u8] = b"apptuner.secret.";
/// The same for an API key.
const KEY_SUBPROTOCOL: &[u8] = b"apptuner.key.";
/// The parameter of the query that holds the pairing secret.
const SECRET_PARAMETER: &str = "secret";

/// Finds them in the query and the header fields of a request.
pub(super) fn find(query: &str, fields: &[Header<'_>]) -> Result<Credentials, BadRequest> {
    let mut found = Credentials { bearer: bearer(fields), ..Credentials::default() };
    for pair in query.split('&') {
        if let Some((SECRET_PARAMETER, value)) = pair.split_once('=') {
            let secret = percent_decoded(value).and_then(|bytes| Secret::new(&bytes));
            add(&mut found.secret, secret)?;
        }
    }
    for offered in elements(fields, "sec-websocket-protocol") {
        if let Some(encoded) = offered.strip_prefix(SECRET_SUBPROTOCOL) {
            add(&mut found.secret, decoded(encoded))?;
        } else if let Some(encoded) = offered.strip_prefix(KEY_SUBPROTOCOL) {
            add(&mut found.key, decoded(encoded))?;
        }
    }
    Ok(found)
}

/// Whether an offered subprotocol carries something secret, and so is never sent back.
pub(super) fn is_secret(offered: &[u8]) -> bool {
    offered.starts_with(SECRET_SUBPROTOCOL) || offered.starts_with(KEY_SUBPROTOCOL)
}

/// Notes a secret, of which there may be several only if they are the same.
fn add(place: &mut Option<Secret>, secret: Option<Secret>) -> Result<(), BadRequest> {
    let secret = secret.ok_or(BadRequest::Secret)?;
    if place.as_ref().is_some_and(|before| *before != secret) {
        return Err(BadRequest::Secret);
    }
    *place = Some(secret);
    Ok(())
}

/// The token of `Authorization`. One that cannot be a secret is meant for somebody else, a proxy perhaps, and is
/// as good as none; so is another scheme.
fn bearer(fields: &[Header<'_>]) -> Option<Secret> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = only_value(fields, "authorization")?.split_at_checked(SCHEME.len())?;
    let token = token.trim_ascii();
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && token.iter().all(u8::is_ascii_graphic);
    Secret::new(token).filter(|_| is_bearer)
}

fn decoded(encoded: &[u8]) -> Option<Secret> {
    Secret::new(&BASE64URL_NOPAD.decode(encoded).ok()?)
}

/// RFC 3986, section 2.1. A plus sign stands for itself, as it does in base64.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}
