//! Points in time. The host reads the clocks; the relay never does.

use std::time::Duration;

/// A point on the monotonic clock: milliseconds since an origin that the host chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The deadline `timeout` after this point, rounded up to the millisecond so that it never comes early.
    #[must_use]
    pub const fn after(self, timeout: Duration) -> Self {
        Self(self.0.saturating_add(millis_rounded_up(timeout)))
    }

    /// The time from `earlier` to this point. Zero if `earlier` is later than this point.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The time of one turn. The host reads both clocks once, and everything in the turn uses this value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For every timeout: monotonic, rounded down to the millisecond.
    pub tick: Tick,
    /// For the `timestamp` of system messages: Unix time in milliseconds.
    pub unix_millis: u64,
    /// For measurements only, never for behaviour: the monotonic time in microseconds.
    pub micros: u64,
}

impl Now {
    /// The microseconds modulo 2³².
    #[expect(clippy::cast_possible_truncation, reason = "that is what modulo means")]
    pub(super) const fn wrapped_micros(self) -> u32 {
        self.micros as u32
    }
}

/// Writes `duration` exactly, in the largest unit that divides it: `30m`, `90s`, `90m`, `1h`, `500ms`, `0s`.
///
/// An operator writes settings in the same form, but only down to `ms`; this function also writes `us` and `ns`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    const SECOND: u128 = 1_000_000_000;
    const UNITS: [(&str, u128); 6] = [
        ("d", 24 * 60 * 60 * SECOND),
        ("h", 60 * 60 * SECOND),
        ("m", 60 * SECOND),
        ("s", SECOND),
        ("ms", SECOND / 1000),
        ("us", SECOND / 1_000_000),
    ];
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let divides = |(_, size): &(&str, u128)| nanos.is_multiple_of(*size);
    let (unit, size) = UNITS.into_iter().find(divides).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / size)
}

const fn millis_rounded_up(timeout: Duration) -> u64 {
    let whole_seconds = timeout.as_secs().saturating_mul(1000);
    whole_seconds.saturating_add(timeout.subsec_nanos().div_ceil(1_000_000) as u64)
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

    #[test]
    fn durations_are_written_in_the_largest_unit_that_divides_them() {
        let table = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_micros(1500), "1500us"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(61_500), "61500ms"),
            (Duration::from_secs(59), "59s"),
            (Duration::from_secs(60), "1m"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_secs(5 * 60), "5m"),
            (Duration::from_secs(1800), "30m"),
            (Duration::from_secs(3600), "1h"),
            (Duration::from_secs(5400), "90m"),
            (Duration::from_secs(86_399), "86399s"),
            (Duration::from_secs(86_400), "1d"),
            (Duration::from_secs(36 * 3600), "36h"),
            (Duration::MAX, "18446744073709551615999999999ns"),
        ];
        for (duration, expected) in table {
            assert_eq!(format_duration(duration), expected, "{duration:?}");
        }
    }
}
