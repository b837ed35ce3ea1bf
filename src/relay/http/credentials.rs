//! Finds the credentials in a request.

use std::str;

use data_encoding::BASE64URL_NOPAD;
use httparse::Header;

use super::BadRequest;
use super::fields::{elements, only_value};
use crate::relay::access::credentials::Credentials;
use crate::relay::access::secret::Secret;

/// Prefix of the subprotocol that contains a pairing secret. It is for browsers, which cannot set header fields.
const SECRET_SUBPROTOCOL: &[u8] = b"apptuner.secret.";
/// Prefix of the subprotocol that contains an API key.
const KEY_SUBPROTOCOL: &[u8] = b"apptuner.key.";
/// The query parameter that contains the pairing secret.
const SECRET_PARAMETER: &str = "secret";

/// Finds the credentials in the query and the header fields of a request.
///
/// # Errors
/// A secret or key is too short, too long or wrongly encoded, or two of them differ.
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

/// Whether an offered subprotocol contains a secret or key. The relay never echoes such a subprotocol.
pub(super) fn is_secret(offered: &[u8]) -> bool {
    offered.starts_with(SECRET_SUBPROTOCOL) || offered.starts_with(KEY_SUBPROTOCOL)
}

/// Stores a secret. It may be given more than once only if all are the same.
fn add(place: &mut Option<Secret>, secret: Option<Secret>) -> Result<(), BadRequest> {
    let secret = secret.ok_or(BadRequest::Secret)?;
    if place.as_ref().is_some_and(|before| *before != secret) {
        return Err(BadRequest::Secret);
    }
    *place = Some(secret);
    Ok(())
}

/// The Bearer token of `Authorization`. A token that cannot be a secret counts as none, because it may be for a
/// proxy; so does any other scheme.
fn bearer(fields: &[Header<'_>]) -> Option<Secret> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = only_value(fields, "authorization")?.split_at_checked(SCHEME.len())?;
    // Several spaces may separate scheme and token.
    let token = token.trim_ascii();
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && token.iter().all(u8::is_ascii_graphic);
    Secret::new(token).filter(|_| is_bearer)
}

fn decoded(encoded: &[u8]) -> Option<Secret> {
    Secret::new(&BASE64URL_NOPAD.decode(encoded).ok()?)
}

/// Decodes percent-encoding (RFC 3986, section 2.1). A plus sign stays a plus sign, because base64 uses it.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        // `from_str_radix` alone would accept a sign.
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}
