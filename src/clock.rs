//! The door to the clocks: nothing else asks what time it is.

use std::time::{Duration, Instant, SystemTime};

use crate::relay::{Now, Tick};

/// Reads both clocks at once; its ticks count from its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time, rounded down to the millisecond.
    #[must_use]
    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = self.micros();
        Now { tick: Tick(micros / 1000), unix_millis: millis(unix), micros }
    }

    /// Microseconds since its creation.
    #[must_use]
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long it is until `deadline`, exactly; zero if it has passed.
    #[must_use]
    pub(crate) fn until(&self, deadline: Tick) -> Duration {
        Duration::from_millis(deadline.0).saturating_sub(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
