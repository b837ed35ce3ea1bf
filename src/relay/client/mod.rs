//! One client: a stream, the frames in both directions, and the limits that apply to it. No part knows its session.
//!
//! | part | its one job |
//! | --- | --- |
//! | [`connection`] | the phases of a connection (their table is there), its timeouts, and when it is not read |
//! | [`inbound`] | bytes from the client to checked messages and control frames |
//! | [`outbox`] | what the client is still to get or to confirm, and in which order the stream gets it |
//! | [`pace`] | rate limits: how long the next read is delayed |
//! | [`traffic`] | how many messages and bytes a client has sent and received |
//!
//! `connection` uses the other four. `inbound` and `outbox` do not know each other: a message that was read
//! reaches the peer's outbox through the routing of `core`.

pub(crate) mod connection;
pub(crate) mod inbound;
pub(crate) mod outbox;
mod pace;
pub(crate) mod traffic;
