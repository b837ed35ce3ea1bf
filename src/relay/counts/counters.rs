//! Counters of what the relay has done since it began.

use std::marker::PhantomData;
use std::ops::Deref;

use super::end_reason::EndReason;
use super::histogram::Histogram;
use crate::relay::http::RefusalReason;
use crate::relay::ids::ClientType;
use crate::relay::wire::message::ClientError;

/// A value of one of several kinds, each with a count of its own.
pub trait Kind {
    /// The index of this kind in the list of all kinds.
    fn index(&self) -> usize;
}

impl Kind for ClientType {
    fn index(&self) -> usize {
        *self as usize
    }
}

impl Kind for EndReason {
    fn index(&self) -> usize {
        *self as usize
    }
}

impl Kind for RefusalReason {
    fn index(&self) -> usize {
        *self as usize
    }
}

impl Kind for ClientError {
    fn index(&self) -> usize {
        self.code_index()
    }
}

/// One count for each of the `N` kinds of `K`, in the order of the list of all kinds. It reads as a slice.
#[derive(Debug)]
pub struct CountBy<K, const N: usize>([u64; N], PhantomData<K>);

impl<K: Kind, const N: usize> CountBy<K, N> {
    pub(crate) fn add(&mut self, kind: &K, by: u64) {
        let count = self.0.get_mut(kind.index());
        debug_assert!(count.is_some(), "each kind has a count");
        if let Some(count) = count {
            *count += by;
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn of(&self, kind: &K) -> u64 {
        self.0.get(kind.index()).copied().unwrap_or_default()
    }
}

impl<K, const N: usize> CountBy<K, N> {
    /// The counts, in the order of the list of all kinds.
    #[must_use]
    pub const fn counts(&self) -> [u64; N] {
        self.0
    }
}

impl<K, const N: usize> Clone for CountBy<K, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, const N: usize> Copy for CountBy<K, N> {}

impl<K, const N: usize> PartialEq for CountBy<K, N> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K, const N: usize> Eq for CountBy<K, N> {}

impl<K, const N: usize> PartialEq<[u64; N]> for CountBy<K, N> {
    fn eq(&self, other: &[u64; N]) -> bool {
        self.0 == *other
    }
}

impl<K, const N: usize> Default for CountBy<K, N> {
    fn default() -> Self {
        Self([0; N], PhantomData)
    }
}

impl<K, const N: usize> Deref for CountBy<K, N> {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

/// One count for each client type.
pub(crate) type ByClientType = CountBy<ClientType, { ClientType::ALL.len() }>;

/// Durations in the relay and in the loop, in microseconds.
pub(crate) type Micros = Histogram<19>;

/// Bounds of durations, in microseconds: from 25 µs to a minute.
const MICROS: [u64; 19] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 60_000_000,
];
/// Bounds of round trips, in milliseconds: from a wired network to a phone with a bad connection.
const MILLIS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 30_000];
/// Bounds of the time to a confirmation, in milliseconds: from a wired network to a phone that was away for half an
/// hour.
const CONFIRM_MILLIS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 300_000, 1_800_000];
/// Bounds of message sizes, in bytes: a console log has hundreds, a bundle millions.
const BYTES: [u64; 11] =
    [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];
/// Bounds of session durations, in seconds: a minute, an hour, a day, a week, and steps between.
const SECONDS: [u64; 11] = [1, 10, 60, 300, 900, 1_800, 3_600, 14_400, 43_200, 86_400, 604_800];

/// Counts that only grow. They never influence what the relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted, including those that were refused.
    pub connections_accepted: u64,
    /// Connections that have ended, in the order of [`EndReason::ALL`].
    pub connections_ended: CountBy<EndReason, { EndReason::ALL.len() }>,
    /// Upgrades answered with 101.
    pub joins: ByClientType,
    /// Requests refused in HTTP, in the order of [`RefusalReason::ALL`].
    pub requests_refused: CountBy<RefusalReason, { RefusalReason::ALL.len() }>,
    /// Durations of the sessions that have ended, in seconds.
    pub session_seconds: Histogram<11>,
    /// Application messages accepted for a peer, by the type of the sender; the next seven are by sender, too.
    pub messages_accepted: ByClientType,
    /// Their payload bytes.
    pub bytes_accepted: ByClientType,
    /// Of these messages, those that count as delivered: the receiver has confirmed them. If it cannot, or nothing is
    /// kept for it, its stream has taken them whole.
    pub messages_delivered: ByClientType,
    /// Of the messages delivered, those that the receiver has confirmed.
    pub messages_confirmed: ByClientType,
    /// Of the messages accepted, those that will not be delivered, even if no sender was left to be told.
    pub messages_undelivered: ByClientType,
    /// Of the messages undelivered, those that had been kept for a receiver that was away or did not confirm them.
    pub messages_given_up: ByClientType,
    /// How often a message that was written in full before was queued again for a receiver that had come back.
    pub messages_redelivered: ByClientType,
    /// Of these messages, those that never arrived whole, or turned out not to be JSON.
    pub messages_cut_short: ByClientType,
    /// Payload bytes of the messages accepted.
    pub message_bytes: Histogram<11>,
    /// Microseconds from the turn that read a message's last byte to the end of the turn that first wrote it in full.
    pub relay_micros: Micros,
    /// Milliseconds from the last byte of a message to the receiver's confirmation.
    pub confirm_millis: Histogram<16>,
    /// Error messages sent to clients, in the order of [`ClientError::CODES`].
    pub errors_sent: CountBy<ClientError, { ClientError::CODES.len() }>,
    /// How often a client was not read because too much waited, or because of its rate.
    pub reads_paused: u64,
    /// How often a client was not read because memory was short.
    pub reads_starved: u64,
    /// Milliseconds from a ping of the relay to its pong.
    pub ping_millis: Histogram<12>,
    /// Durations of turns, in microseconds. A message that arrives during a turn waits until its end.
    pub turn_micros: Micros,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            connections_accepted: 0,
            connections_ended: CountBy::default(),
            joins: CountBy::default(),
            requests_refused: CountBy::default(),
            session_seconds: Histogram::new(&SECONDS),
            messages_accepted: CountBy::default(),
            bytes_accepted: CountBy::default(),
            messages_delivered: CountBy::default(),
            messages_confirmed: CountBy::default(),
            messages_undelivered: CountBy::default(),
            messages_given_up: CountBy::default(),
            messages_redelivered: CountBy::default(),
            messages_cut_short: CountBy::default(),
            message_bytes: Histogram::new(&BYTES),
            relay_micros: Histogram::new(&MICROS),
            confirm_millis: Histogram::new(&CONFIRM_MILLIS),
            errors_sent: CountBy::default(),
            reads_paused: 0,
            reads_starved: 0,
            ping_millis: Histogram::new(&MILLIS),
            turn_micros: Histogram::new(&MICROS),
        }
    }
}
