//! What one client has sent and been sent, and what its rates allow it.

use super::pace::Pace;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::settings::Settings;

/// Kept for a client with its first message, or from its join on where rates are limited.
#[derive(Debug, Default)]
pub(crate) struct ClientMeters {
    /// Apart, for rates are seldom limited.
    pub(crate) pace: Option<Box<Pace>>,
    pub(crate) counts: ClientCounts,
}

/// Application messages, and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCounts {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    /// Error messages that it was sent.
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

/// What one read has brought for the peer so far: summed up here, it is put down but once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) from: ConnectionId,
    pub(crate) to: ConnectionId,
    pub(crate) sender: ClientType,
    pub(crate) messages: u64,
    /// Of these, those that were copied into the peer's queue.
    pub(crate) small_messages: u64,
    pub(crate) bytes: u64,
}

impl Carried {
    pub(crate) const fn new(from: ConnectionId, to: ConnectionId, sender: ClientType) -> Self {
        Self { from, to, sender, messages: 0, small_messages: 0, bytes: 0 }
    }
}

impl ClientMeters {
    /// `None` where there is nothing to keep yet.
    pub(crate) fn new(settings: &Settings) -> Option<Box<Self>> {
        let pace = Pace::new(settings)?;
        Some(Box::new(Self { pace: Some(Box::new(pace)), ..Self::default() }))
    }
}
