//! Probabilities, per mille, in plans of themes.

/// Whole runs.
pub(super) const HAS_ROUGH_NETWORK: u32 = 700;
pub(super) const LOGS_MESSAGES: u32 = 300;
pub(super) const IS_ABOUT_ACCESS: u32 = 450;
/// Clients replace each other again and again.
pub(super) const HAS_CONTEST: u32 = 80;
/// In a contest, a client that ends its stream.
pub(super) const LEAVES_CONTEST: u32 = 20;

/// Crowded plans that begin with a message near the size limit, which its receiver takes late or never.
pub(super) const BEGINS_WITH_LONG_MESSAGE: u32 = 700;
/// If the receiver takes a little from time to time: another client announces as much and stops.
pub(super) const BEGINS_WITH_SECOND_SENDER: u32 = 700;
/// The part of the second client's message that is sent: little more than its header.
pub(super) const SENT_BY_SECOND_SENDER: usize = 3;

/// Budgets that all clients together fill, by theme.
pub(super) const IS_TIGHT: u32 = 150;
pub(super) const IS_TIGHT_IF_SLOW: u32 = 300;
pub(super) const IS_TIGHT_IF_HEAVY: u32 = 600;
pub(super) const IS_TIGHT_IF_CROWDED: u32 = 950;

/// Settings of the operator.
pub(super) const LIMITS_CONNECTIONS: u32 = 60;
pub(super) const LIMITS_A_RATE: u32 = 40;
pub(super) const LIMITS_A_RATE_OF_CROWD: u32 = 80;
pub(super) const ANSWERS_JSON_PINGS: u32 = 400;

/// Waits. Around a shutdown they are as short as the time between two closes.
pub(super) const WAIT_IS_SHORT_IF_STOPPED: u32 = 900;
pub(super) const SHORT_WAIT_IS_FREEZE: u32 = 50;
pub(super) const WAIT_IS_SHORT_IF_SLOW: u32 = 700;
pub(super) const WAIT_IS_SHORT_IF_CROWDED: u32 = 500;
pub(super) const WAIT_IS_FREEZE: u32 = 150;

/// Clients.
pub(super) const ANSWERS_PINGS: u32 = 900;
pub(super) const READS_EAGERLY: u32 = 700;
pub(super) const READS_EAGERLY_IF_SLOW_OR_CROWDED: u32 = 300;
pub(super) const SENDS_AT_ONCE: u32 = 800;

/// Messages.
pub(super) const IS_FRAGMENTED: u32 = 250;
pub(super) const HAS_PINGS_BETWEEN: u32 = 300;
pub(super) const IS_OF_CROWD: u32 = 700;
pub(super) const PART_OF_CROWD_IS_SPOILED: u32 = 300;
pub(super) const IS_HEAVY: u32 = 300;
pub(super) const IS_BAD_JSON_IF_SLOW: u32 = 100;
pub(super) const IS_LONG_TEXT_IF_SLOW: u32 = 400;
/// Plans in which messages are kept until they are confirmed.
pub(super) const KEEPS_MESSAGES: u32 = 500;
