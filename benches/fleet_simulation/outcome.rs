//! What came of a run.

use std::time::Duration;

use alloy_gateway::{
    config::settings::Window,
    gcra::{Bucket, Shape, take_all},
};

/// What came of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When calls were admitted, in order: when the store, or the sidecar by itself,
    /// decided.
    pub admitted: Vec<Duration>,
    /// How many of them the store admitted.
    pub by_store: u64,
    /// When calls came, in order, if the load is not greedy.
    pub came: Vec<Duration>,
}

impl Outcome {
    /// The most that was admitted in any span of this length, both ends included.
    pub fn largest(&self, span: Duration) -> u64 {
        largest(&self.admitted, span)
    }

    /// How many calls a second were admitted between two moments.
    pub fn rate(&self, from: Duration, until: Duration) -> f64 {
        let before = |end: Duration| self.admitted.partition_point(|at| *at < end) as f64;
        (before(until) - before(from)) / (until - from).as_secs_f64()
    }

    /// How many of the same calls one bucket admits that all of them come to.
    pub fn of_one_bucket(&self, limits: &[Window]) -> u64 {
        let mut buckets: Vec<_> = limits
            .iter()
            .map(|window| Bucket {
                shape: Shape::of(window),
                full_at_ns: 0,
            })
            .collect();
        let ns = |at: &Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let admitted = self.came.iter().map(ns);
        let admitted = admitted.filter(|now_ns| take_all(&mut buckets, *now_ns).is_ok());
        admitted.count() as u64
    }
}

/// The most of these moments, which stand in order, in any span of this length, both
/// ends included.
fn largest(moments: &[Duration], span: Duration) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in moments.iter().enumerate() {
        while moments[first] + span < *at {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most as u64
}
