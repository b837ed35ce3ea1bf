//! Counters of one client, and its rate limits.

use super::pace::Pace;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::settings::Settings;

/// Counters and rate limits of one client. A connection allocates it when the client joins if a rate is limited,
/// otherwise with the first message, so that idle connections stay small.
#[derive(Debug, Default)]
pub(crate) struct ClientMeters {
    /// `None` if no rate is limited, which is the default. Boxed because it is seldom needed.
    pub(crate) pace: Option<Box<Pace>>,
    pub(crate) counts: ClientCounts,
    /// It asked to be told what was delivered.
    pub(crate) wants_receipts: bool,
}

/// Application messages that a client has sent and received, and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCounts {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    /// Messages that it has confirmed, and those that it was sent again.
    pub(crate) confirmed: u64,
    pub(crate) redelivered: u64,
    /// Error messages that the relay sent to it.
    pub(crate) errors: u64,
}

impl ClientCounts {
    pub(crate) const fn add_in(&mut self, messages: u64, bytes: u64) {
        self.messages_in += messages;
        self.bytes_in += bytes;
    }

    pub(crate) const fn add_out(&mut self, messages: u64, bytes: u64) {
        self.messages_out += messages;
        self.bytes_out += bytes;
    }
}

/// What the current read has brought for the peer so far. The sums are added to the counters once per read, not once
/// per message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) from: ConnectionId,
    pub(crate) to: ConnectionId,
    pub(crate) sender: ClientType,
    pub(crate) messages: u64,
    /// Of these, the small ones: they were copied into the peer's queue. A message in transit records its own time.
    pub(crate) small_messages: u64,
    pub(crate) bytes: u64,
}

impl Carried {
    pub(crate) const fn new(from: ConnectionId, to: ConnectionId, sender: ClientType) -> Self {
        Self { from, to, sender, messages: 0, small_messages: 0, bytes: 0 }
    }
}

impl ClientMeters {
    /// `None` if no rate is limited: there is nothing to store yet.
    pub(crate) fn new(settings: &Settings) -> Option<Box<Self>> {
        let pace = Pace::new(settings)?;
        Some(Box::new(Self { pace: Some(Box::new(pace)), ..Self::default() }))
    }
}
