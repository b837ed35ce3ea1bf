//! Measures use over time against a rate. A burst of one window's worth is allowed.

use std::time::Duration;

use crate::relay::time::Tick;

const NANOS_PER_TICK: u64 = 1_000_000;

/// A rate limit by the generic cell rate algorithm: `units` per `window`. It needs no timer and no queue of past
/// uses.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    /// `None` sets no limit.
    units: Option<u64>,
    /// In nanoseconds.
    window: u64,
    /// The time at which all use so far is paid for, in nanoseconds. A unit costs `window / units`, and time pays.
    paid_at: u64,
}

impl Meter {
    pub(crate) fn new(units: Option<u64>, window: Duration) -> Self {
        Self { units, window: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX), paid_at: 0 }
    }

    /// Records that `units` were used, whether that was allowed or not.
    pub(crate) fn spend(&mut self, units: u64, now: Tick) {
        if let Some(price) = self.price(units) {
            // Time without use is not saved up: the burst is never more than one window's worth.
            self.paid_at = self.paid_at.max(nanos(now)).saturating_add(price);
        }
    }

    /// The first time at which all past use fits into one window.
    pub(crate) fn resumes_at(&self) -> Tick {
        Tick(self.paid_at.saturating_sub(self.window).div_ceil(NANOS_PER_TICK))
    }

    /// The first time at which one more unit would fit, too.
    pub(crate) fn allows_at(&self) -> Tick {
        let price = self.price(1).unwrap_or_default();
        Tick(self.paid_at.saturating_add(price).saturating_sub(self.window).div_ceil(NANOS_PER_TICK))
    }

    /// The first time at which past use has no effect any more.
    pub(crate) fn forgets_at(&self) -> Tick {
        Tick(self.paid_at.div_ceil(NANOS_PER_TICK))
    }

    fn price(&self, units: u64) -> Option<u64> {
        // In 128 bits, because the product of units and nanoseconds does not fit into 64.
        let price = u128::from(units) * u128::from(self.window) / u128::from(self.units?.max(1));
        Some(u64::try_from(price).unwrap_or(u64::MAX))
    }
}

const fn nanos(tick: Tick) -> u64 {
    tick.0.saturating_mul(NANOS_PER_TICK)
}
