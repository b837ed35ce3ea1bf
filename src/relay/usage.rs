//! What one client has sent and been sent, and what its rates allow it.

use super::ids::{ClientType, ConnectionId};
use super::limits::Settings;
use super::pace::Pace;

/// Kept for a client with its first message, or from its join on where rates are limited.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Apart, for rates are seldom limited.
    pub(super) pace: Option<Box<Pace>>,
    pub(super) tally: Tally,
}

/// Application messages, and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) messages_in: u64,
    pub(super) bytes_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_out: u64,
    /// Error messages that it was sent.
    pub(super) errors: u64,
}

impl Tally {
    pub(super) const fn add_in(&mut self, messages: u64, bytes: u64) {
        self.messages_in += messages;
        self.bytes_in += bytes;
    }

    pub(super) const fn add_out(&mut self, messages: u64, bytes: u64) {
        self.messages_out += messages;
        self.bytes_out += bytes;
    }
}

/// What one read has brought for the peer so far: summed up here, it is put down but once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) from: ConnectionId,
    pub(super) to: ConnectionId,
    pub(super) sender: ClientType,
    pub(super) messages: u64,
    /// Of these, those that were copied into the peer's queue.
    pub(super) small_messages: u64,
    pub(super) bytes: u64,
}

impl Carried {
    pub(super) const fn new(from: ConnectionId, to: ConnectionId, sender: ClientType) -> Self {
        Self { from, to, sender, messages: 0, small_messages: 0, bytes: 0 }
    }
}

impl Usage {
    /// `None` where there is nothing to keep yet.
    pub(super) fn new(settings: &Settings) -> Option<Box<Self>> {
        let pace = Pace::new(settings)?;
        Some(Box::new(Self { pace: Some(Box::new(pace)), ..Self::default() }))
    }
}
