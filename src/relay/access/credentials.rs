//! What a client brings to prove who it is.

use super::secret::Secret;

/// What a client brings to prove who it is: a pairing secret, an API key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The pairing secret from the query, or from a subprotocol.
    pub secret: Option<Secret>,
    /// The API key from a subprotocol.
    pub key: Option<Secret>,
    /// The token of `Authorization: Bearer` (RFC 6750, section 2.1): either of the two.
    pub bearer: Option<Secret>,
}
