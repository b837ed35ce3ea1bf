//! How values are spread, counted in fixed buckets.

/// Counts of values by size, and their sum, in the unit of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Values up to the bound at the same place, and above the one before.
    counts: [u64; N],
    /// Values above all bounds.
    above: u64,
    sum: u64,
    last_place: usize,
}

impl<const N: usize> Histogram<N> {
    /// No values yet. `bounds` must ascend.
    #[must_use]
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, counts: [0; N], above: 0, sum: 0, last_place: 0 }
    }

    /// Counts `value` so many times.
    pub fn observe(&mut self, value: u64, times: u64) {
        // Most values are like the one before.
        let is_in = |place: usize| {
            let above = place
                .checked_sub(1)
                .and_then(|below| self.bounds.get(below))
                .is_none_or(|&below| below < value);
            above && self.bounds.get(place).is_some_and(|&bound| value <= bound)
        };
        let place = if is_in(self.last_place) {
            self.last_place
        } else {
            self.bounds.partition_point(|&bound| bound < value)
        };
        self.last_place = place;
        *self.counts.get_mut(place).unwrap_or(&mut self.above) += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// Each bound, and how many values were no larger; those above all bounds are in [`count`](Self::count) alone.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut so_far = 0;
        self.bounds.iter().zip(self.counts).map(move |(&bound, count)| {
            so_far += count;
            (bound, so_far)
        })
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// All values added up, saturating.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// What has been counted since it was as `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        for (count, before) in difference.counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        difference.above = self.above.saturating_sub(earlier.above);
        difference.sum = self.sum.saturating_sub(earlier.sum);
        difference
    }

    /// The lowest bound that so many of a hundred values do not exceed, or the highest if none is high enough;
    /// `None` of no values.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        let rank = (u128::from(count) * u128::from(percent)).div_ceil(100);
        let reaches = |&(_, so_far): &(u64, u64)| u128::from(so_far) >= rank;
        let highest = self.bounds.last().copied();
        if count == 0 { None } else { self.cumulative().find(reaches).map(|(bound, _)| bound).or(highest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [1, 10, 100];

    #[test]
    fn value_at_a_bound_is_below_it() {
        let mut histogram = Histogram::new(&BOUNDS);
        for value in [0, 1, 2, 10, 11, 100, 101] {
            histogram.observe(value, 1);
        }
        histogram.observe(u64::MAX, 2);
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1, 2), (10, 4), (100, 6)]);
        assert_eq!((histogram.count(), histogram.sum()), (9, u64::MAX), "the sum saturates");
    }

    #[test]
    fn percentile_is_the_bound_that_so_many_do_not_exceed() {
        let mut histogram = Histogram::new(&BOUNDS);
        assert_eq!(histogram.percentile(50), None);
        histogram.observe(5, 98);
        histogram.observe(50, 1);
        assert_eq!(histogram.percentile(50), Some(10));
        assert_eq!(histogram.percentile(98), Some(10));
        assert_eq!(histogram.percentile(99), Some(100));
        histogram.observe(500, 1);
        assert_eq!(histogram.percentile(100), Some(100), "no bound is high enough");
    }

    #[test]
    fn what_was_counted_before_is_left_out() {
        let mut histogram = Histogram::new(&BOUNDS);
        histogram.observe(5, 3);
        let earlier = histogram;
        histogram.observe(50, 2);
        histogram.observe(500, 1);
        let since = histogram.since(&earlier);
        assert_eq!((since.count(), since.sum()), (3, 600));
        assert_eq!(since.percentile(50), Some(100));
    }
}
