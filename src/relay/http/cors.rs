//! Pages of other origins: which may use the relay, and read what it answers (the Fetch standard, section 3.3;
//! RFC 6454).

use std::str;

use httparse::Header;

use super::Refusal;
use super::fields::{only_value, values};
use crate::relay::origin::Origin;

/// RFC 6455, section 10.2. Only browsers send an origin, and pages of the relay's own host are as good as none.
pub(super) fn check_origin(fields: &[Header<'_>], allowed: &[Origin]) -> Result<(), Refusal> {
    let is_free = allowed.is_empty() || values(fields, "origin").next().is_none();
    if is_free || reader(fields, allowed).is_some() { Ok(()) } else { Err(Refusal::Origin) }
}

/// The origin that the request names, if its pages may connect. It is fit to be sent back.
pub(super) fn reader(fields: &[Header<'_>], allowed: &[Origin]) -> Option<Box<str>> {
    let text = str::from_utf8(only_value(fields, "origin")?).ok()?;
    let origin = Origin::parse(text).ok()?;
    let host = only_value(fields, "host").and_then(|value| str::from_utf8(value).ok());
    let may_connect =
        allowed.is_empty() || allowed.contains(&origin) || host.is_some_and(|host| origin.is_at(host));
    may_connect.then(|| text.into())
}

/// Whether a browser asks, before it sends what the page wants it to send, if it may.
pub(super) fn is_preflight(method: &str, fields: &[Header<'_>]) -> bool {
    let has = |name| values(fields, name).next().is_some();
    method == "OPTIONS" && has("origin") && has("access-control-request-method")
}
