//! Points in time, as the relay is told them; it never reads a clock.

use std::time::Duration;

/// A point on the monotonic clock: milliseconds since an origin that the host chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The deadline that lies `timeout` after this point, rounded up so that it never comes early.
    #[must_use]
    pub const fn after(self, timeout: Duration) -> Self {
        Self(self.0.saturating_add(millis_rounded_up(timeout)))
    }

    /// How long it is from `earlier` to this point; zero if `earlier` lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The time of one turn: read once from both clocks, it serves everything the turn does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For every timeout. Must never go back; rounded down to the millisecond.
    pub tick: Tick,
    /// For the `timestamp` of system messages: Unix time in milliseconds.
    pub unix_millis: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "saturated first")]
const fn millis_rounded_up(timeout: Duration) -> u64 {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_rounded_up_and_saturate() {
        let start = Tick(10);
        assert_eq!(start.after(Duration::from_nanos(1)), Tick(11));
        assert_eq!(start.after(Duration::from_millis(5)), Tick(15));
        assert_eq!(start.after(Duration::MAX), Tick(u64::MAX));
        assert_eq!(Tick(3).since(start), Duration::ZERO);
        assert_eq!(start.since(Tick(3)), Duration::from_millis(7));
    }
}
