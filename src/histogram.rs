//! Histograms as plain atomics: an observation is two relaxed additions.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::gcra::nanos;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;

/// The bounds of request durations, in ns (OpenTelemetry's for HTTP, and three below).
pub const REQUEST: [u64; 17] = [
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    75 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    S,
    2_500 * MS,
    5 * S,
    7_500 * MS,
    10 * S,
];

/// The bounds of what the gateway itself takes, in ns.
pub const OVERHEAD: [u64; 11] = [
    10 * US,
    25 * US,
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    50 * MS,
];

/// The bounds of waits for a limit, in ns.
pub const WAIT: [u64; 9] = [
    MS,
    10 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
];

/// The bounds of what the store of shared limits takes to decide, in ns.
pub const STORE: [u64; 11] = [
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
];

/// The bounds of syncs of the trail, in ns.
pub const SYNC: [u64; 12] = [
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    S,
];

/// The bounds of the number of records that one write holds.
pub const BATCH: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024];

/// Counts observations by size; values and bounds are whole numbers.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    buckets: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// Without observations.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let mut buckets = self.bounds.iter().zip(&self.buckets);
        let found = buckets.find(|(bound, _)| value <= **bound);
        let bucket = found.map_or(&self.above, |(_, bucket)| bucket);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts one span of time, in ns.
    pub fn observe_span(&self, span: Duration) {
        self.observe(nanos(span));
    }
}

/// The counts of one histogram, or of the same one of several workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The upper bounds, without the last one, infinity.
    pub bounds: &'static [u64],
    /// How many observations lie in each bucket, infinity included; not cumulative.
    pub buckets: Vec<u64>,
    /// The sum of all observations.
    pub sum: u64,
}

impl Merged {
    /// Adds up the same histogram of several workers.
    pub fn of<'a, const N: usize>(
        bounds: &'static [u64; N],
        parts: impl IntoIterator<Item = &'a Histogram<N>>,
    ) -> Self {
        let mut merged = Self {
            bounds,
            buckets: vec![0; N + 1],
            sum: 0,
        };
        for part in parts {
            let counts = part.buckets.iter().chain([&part.above]);
            for (sum, count) in merged.buckets.iter_mut().zip(counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            merged.sum = merged.sum.wrapping_add(part.sum.load(Ordering::Relaxed));
        }
        merged
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_below_it() {
        let one = Histogram::new(&BATCH);
        for value in [1, 2, 3, 1024, 1025] {
            one.observe(value);
        }
        let other = Histogram::new(&BATCH);
        other.observe(2);
        let merged = Merged::of(&BATCH, [&one, &other]);
        assert_eq!(merged.buckets, [1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((merged.count(), merged.sum), (6, 2057));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [&REQUEST[..], &OVERHEAD, &WAIT, &SYNC, &BATCH] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
