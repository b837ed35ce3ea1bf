//! Who may connect, and how often. Nothing here knows connections or sessions.
//!
//! | file | its one job |
//! | --- | --- |
//! | `gate` | the verdict on an address, on credentials, on a claim; the only one that the core asks |
//! | `host_limits` | limits and lock-outs of each address: it decides most answers with 429 |
//! | `address_rules`, `api_keys`, `operator_file` | the files of an operator |
//! | `credentials`, `secret` | what a client brings, and the hashes with which secrets are compared |
//! | `remote` | where a connection comes from, and how the limits see it |

pub(crate) mod address_rules;
pub(crate) mod api_keys;
pub(crate) mod credentials;
pub(crate) mod gate;
pub(crate) mod host_limits;
mod operator_file;
pub(crate) mod remote;
pub(crate) mod secret;
