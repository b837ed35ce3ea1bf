//! What one client has sent and been sent, and what its rates allow it.

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
}

impl Usage {
    /// `None` where there is nothing to keep yet.
    pub(super) fn new(settings: &Settings) -> Option<Box<Self>> {
        let pace = Pace::new(settings)?;
        Some(Box::new(Self { pace: Some(Box::new(pace)), ..Self::default() }))
    }
}
