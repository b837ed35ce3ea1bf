//! Bytes to values and back, for everything after the upgrade: frames (RFC 6455), system messages, the check of JSON.
//! Nothing here knows a connection.

pub(crate) mod frame;
pub(crate) mod json;
pub(crate) mod message;
