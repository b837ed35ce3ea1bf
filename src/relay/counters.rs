//! What the relay has done since it began.

/// Counts that only grow. They have no influence on behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted, those told to come back later included.
    pub connections_accepted: u64,
    /// Upgrades answered with 101.
    pub joins: u64,
    /// Requests answered in HTTP with anything but 101 and 200.
    pub requests_refused: u64,
    /// Application messages accepted for a peer.
    pub messages_accepted: u64,
    /// Their payload bytes.
    pub bytes_accepted: u64,
    /// Accepted messages that their receiver's connection ended before, counted for the sender.
    pub messages_undelivered: u64,
    /// Error messages sent to clients.
    pub errors_sent: u64,
    /// Times a client was not read because something waited, or because of its rate.
    pub reads_paused: u64,
    /// Times a large message had to wait for room in the budget.
    pub room_awaited: u64,
}
