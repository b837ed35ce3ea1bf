//! Cross-origin requests: which pages may use the relay and read its answers (the Fetch standard, section 3.3; RFC
//! 6454).

use std::str;

use httparse::Header;

use super::Refusal;
use super::fields::{only_value, values};
use crate::relay::origin::Origin;

/// Checks the origin (RFC 6455, section 10.2). A request without an origin passes: only browsers send one.
///
/// # Errors
/// The page's origin may not connect.
pub(super) fn check_origin(fields: &[Header<'_>], allowed: &[Origin]) -> Result<(), Refusal> {
    // An origin that cannot be parsed is refused only if origins are listed.
    let is_free = allowed.is_empty() || values(fields, "origin").next().is_none();
    if is_free || reader(fields, allowed).is_some() { Ok(()) } else { Err(Refusal::Origin) }
}

/// The origin of the request, as it was sent, if pages of this origin may connect. It is safe to echo: it was parsed.
pub(super) fn reader(fields: &[Header<'_>], allowed: &[Origin]) -> Option<Box<str>> {
    let text = str::from_utf8(only_value(fields, "origin")?).ok()?;
    let origin = Origin::parse(text).ok()?;
    let host = only_value(fields, "host").and_then(|value| str::from_utf8(value).ok());
    let may_connect =
        allowed.is_empty() || allowed.contains(&origin) || host.is_some_and(|host| origin.is_at(host));
    may_connect.then(|| text.into())
}

/// Whether this is a CORS preflight: a browser asks whether a page may send its request.
pub(super) fn is_preflight(method: &str, fields: &[Header<'_>]) -> bool {
    let has = |name| values(fields, name).next().is_some();
    method == "OPTIONS" && has("origin") && has("access-control-request-method")
}
