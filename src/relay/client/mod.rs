//! One client: its phases and timeouts, what has come from it, what waits for it, and how fast it may send.

pub(crate) mod connection;
pub(crate) mod inbound;
pub(crate) mod outbox;
mod pace;
pub(crate) mod traffic;
