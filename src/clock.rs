//! Reads the clocks. No other code may read them: the time is an argument everywhere else.

use std::time::{Duration, Instant, SystemTime};

use crate::relay::{Now, Tick};

/// The monotonic clock and the wall clock. Ticks are milliseconds since its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

#[expect(clippy::disallowed_methods, reason = "only this type may read the clocks")]
impl Clock {
    /// A clock whose ticks begin now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time of both clocks. Milliseconds are rounded down.
    #[must_use]
    pub(crate) fn now(&self) -> Now {
        // A wall clock before 1970 gives 0.
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = self.micros();
        Now { tick: Tick(micros / 1000), unix_millis: millis(unix), micros }
    }

    /// Microseconds since its creation.
    #[must_use]
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The exact time until `deadline`, or zero if it has passed. Not rounded, so that the loop never wakes too early.
    #[must_use]
    pub(crate) fn until(&self, deadline: Tick) -> Duration {
        Duration::from_millis(deadline.0).saturating_sub(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
