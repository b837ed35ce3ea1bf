//! Rate limits that delay: a client over its rate is read later. No message is refused for it.

use std::time::Duration;

use crate::relay::settings::Settings;
use crate::relay::tables::meter::Meter;
use crate::relay::time::Tick;

const SECOND: Duration = Duration::from_secs(1);

/// What one client has used of its message rate and its byte rate.
///
/// Each rate allows a burst of what it permits in one second. What was read beyond that delays the next read.
#[derive(Debug)]
pub(crate) struct Pace {
    messages: Meter,
    bytes: Meter,
}

impl Pace {
    /// `None` if no rate is limited.
    #[must_use]
    pub(crate) fn new(settings: &Settings) -> Option<Self> {
        // The meter of a rate without a limit never delays.
        let messages = settings.max_message_rate.map(u64::from);
        (messages.is_some() || settings.max_byte_rate.is_some()).then(|| Self {
            messages: Meter::new(messages, SECOND),
            bytes: Meter::new(settings.max_byte_rate, SECOND),
        })
    }

    /// Counts what was read. A read is counted in full even if it exceeds the rate; the delay grows with the excess.
    pub(crate) fn spend(&mut self, messages: u64, bytes: u64, now: Tick) {
        self.messages.spend(messages, now);
        self.bytes.spend(bytes, now);
    }

    /// The time from which the client may be read again. The stricter of the two rates decides.
    #[must_use]
    pub(crate) fn resumes_at(&self) -> Tick {
        self.messages.resumes_at().max(self.bytes.resumes_at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tests::random::Random;

    #[test]
    fn no_limit_needs_no_pace() {
        assert!(Pace::new(&Settings::default()).is_none());
    }

    #[test]
    fn a_burst_of_one_second_is_not_delayed_and_the_excess_is() {
        let settings = Settings { max_message_rate: Some(10), ..Settings::default() };
        let mut pace = Pace::new(&settings).unwrap();
        let start = Tick(5_000);
        pace.spend(10, 1 << 40, start);
        assert!(pace.resumes_at() <= start);
        pace.spend(1, 0, start);
        assert_eq!(pace.resumes_at(), Tick(5_100));
        pace.spend(20, 0, Tick(5_100));
        assert_eq!(pace.resumes_at(), Tick(7_100));
        assert!(pace.resumes_at() <= Tick(60_000));
        pace.spend(11, 0, Tick(60_000));
        assert_eq!(pace.resumes_at(), Tick(60_100), "idle time is not saved up beyond one burst");
    }

    #[test]
    fn the_stricter_of_two_rates_decides() {
        let settings =
            Settings { max_message_rate: Some(1_000), max_byte_rate: Some(1_000_000), ..Settings::default() };
        let mut pace = Pace::new(&settings).unwrap();
        pace.spend(1, 3_000_000, Tick(0));
        assert_eq!(pace.resumes_at(), Tick(2_000));
        let mut slowest = Pace::new(&Settings { max_byte_rate: Some(1), ..settings }).unwrap();
        slowest.spend(0, u64::MAX, Tick(0));
        assert!(slowest.resumes_at() > Tick(1 << 40), "saturates");
    }

    /// The slow twin of a meter. A client may be read again once every window that ends then holds at most what its
    /// length and the burst allow. Each read is given as its time in milliseconds and its units.
    fn resumes_at_slowly(reads: &[(u64, u64)], units_per_second: u64) -> u64 {
        let windows = (0..reads.len()).map(|first| {
            let units: u64 = reads[first..].iter().map(|(_, units)| units).sum();
            let allowed_after = u128::from(units) * 1_000_000_000 / u128::from(units_per_second);
            (u128::from(reads[first].0) * 1_000_000 + allowed_after).saturating_sub(1_000_000_000)
        });
        windows.max().map_or(0, |nanos| u64::try_from(nanos.div_ceil(1_000_000)).unwrap())
    }

    #[test]
    fn no_window_exceeds_its_rate_and_burst_and_no_read_is_delayed_longer_than_needed() {
        for seed in 0..500 {
            let mut chance = Random(seed);
            let rate = [1, 3, 10, 999, 1_000, 1_000_000, 123_456_789][chance.below(7)];
            let mut pace = Pace::new(&Settings { max_byte_rate: Some(rate), ..Settings::default() }).unwrap();
            let (mut reads, mut now) = (Vec::new(), chance.below(3_000) as u64);
            for _ in 0..80 {
                let most = usize::try_from(rate).unwrap() * [1, 1, 3][chance.below(3)] / 2;
                let units = chance.below(most + 2) as u64;
                reads.push((now, units));
                pace.spend(1, units, Tick(now));
                let (resumes_at, twin) = (pace.resumes_at().0, resumes_at_slowly(&reads, rate));
                // The meter rounds the time of each read down to a nanosecond, so it may be one tick earlier.
                assert!((twin.saturating_sub(1)..=twin).contains(&resumes_at), "seed {seed}: {reads:?}");
                now = match chance.below(4) {
                    0 => now,
                    1 => now + chance.below(3_000) as u64,
                    _ => now.max(resumes_at) + chance.below(2) as u64,
                };
            }
        }
    }
}
