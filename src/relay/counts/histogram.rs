//! Histograms: values counted in fixed buckets.

/// Counts of values by bucket, and the sum of all values. Both have the unit of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    /// Values up to the bound with the same index, and above the previous bound.
    counts: [u64; N],
    /// Values above all bounds.
    above: u64,
    sum: u64,
    /// The bucket of the last value.
    last_bucket: usize,
}

impl<const N: usize> Histogram<N> {
    /// A histogram without values. `bounds` must be ascending.
    #[must_use]
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, counts: [0; N], above: 0, sum: 0, last_bucket: 0 }
    }

    /// Counts `value` `times` times.
    pub fn observe(&mut self, value: u64, times: u64) {
        // Most values fall into the same bucket as the one before, so that one is tried first.
        let is_in = |bucket: usize| {
            let above = bucket
                .checked_sub(1)
                .and_then(|below| self.bounds.get(below))
                .is_none_or(|&below| below < value);
            above && self.bounds.get(bucket).is_some_and(|&bound| value <= bound)
        };
        let bucket = if is_in(self.last_bucket) {
            self.last_bucket
        } else {
            self.bounds.partition_point(|&bound| bound < value)
        };
        self.last_bucket = bucket;
        // Above the last bound there is no bucket.
        *self.counts.get_mut(bucket).unwrap_or(&mut self.above) += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// Each bound, and how many values were at most that large. Values above all bounds are only in
    /// [`count`](Self::count).
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut so_far = 0;
        self.bounds.iter().zip(self.counts).map(move |(&bound, count)| {
            so_far += count;
            (bound, so_far)
        })
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// The sum of all values. It saturates.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// What was counted after `earlier`, which is an older copy of this histogram.
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

    /// The lowest bound that `percent` of the values do not exceed, or the highest bound if all are too low. `None`
    /// if there are no values.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        // In 128 bits, because the product may not fit into 64.
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
    fn value_equal_to_a_bound_counts_below_it() {
        let mut histogram = Histogram::new(&BOUNDS);
        for value in [0, 1, 2, 10, 11, 100, 101] {
            histogram.observe(value, 1);
        }
        histogram.observe(u64::MAX, 2);
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1, 2), (10, 4), (100, 6)]);
        assert_eq!((histogram.count(), histogram.sum()), (9, u64::MAX), "the sum saturates");
    }

    #[test]
    fn percentile_is_the_lowest_bound_that_this_share_does_not_exceed() {
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
    fn values_counted_before_are_subtracted() {
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
