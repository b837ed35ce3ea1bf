//! Who may connect: secrets, API keys, address rules, and what is remembered of each host. Nothing here knows
//! connections or sessions.

pub(crate) mod address_rules;
pub(crate) mod api_keys;
pub(crate) mod credentials;
pub(crate) mod gate;
pub(crate) mod hosts;
mod operator_file;
pub(crate) mod remote;
pub(crate) mod secret;
