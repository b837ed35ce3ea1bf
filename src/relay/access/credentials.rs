//! The credentials of a client: its pairing secret and its API key.

use super::secret::Secret;

/// What a request contains to prove that its client may connect.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The pairing secret from the query, or from a subprotocol.
    pub secret: Option<Secret>,
    /// The API key from a subprotocol.
    pub key: Option<Secret>,
    /// The token of `Authorization: Bearer` (RFC 6750, section 2.1): a pairing secret or an API key.
    pub bearer: Option<Secret>,
}
