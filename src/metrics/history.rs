//! The last minutes, for small plots: the sums of all workers, now and then.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::shard::Shard;
use crate::{
    code::Code,
    histogram::{Merged, REQUEST},
};

/// How far apart samples are, at least.
const EVERY: Duration = Duration::from_secs(5);
/// How many samples are kept: five minutes, and one to begin from.
const KEPT_MAX: usize = 61;

/// The sums at one time.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    requests: u64,
    failures: u64,
    passed_on: Merged,
    upstream: Merged,
}

/// What happened between two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Requests answered, a second.
    pub requests: f64,
    /// Answers that were failures, a second.
    pub failures: f64,
    /// The median time of calls that were passed on, in s.
    pub p50: Option<f64>,
    /// What 99 of 100 calls that were passed on did not exceed, in s.
    pub p99: Option<f64>,
    /// The same of the upstream's attempts.
    pub upstream_p50: Option<f64>,
    /// The same of the upstream's attempts.
    pub upstream_p99: Option<f64>,
}

/// The samples of the last minutes.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Sample>>);

impl History {
    /// Takes a sample, if it is time to.
    pub fn tick(&self, shards: &[Arc<Shard>]) {
        let now = Instant::now();
        let mut samples = self.samples();
        // A tick that comes a little early is on time.
        let almost = EVERY - Duration::from_millis(500);
        if samples.back().is_some_and(|last| now - last.at < almost) {
            return;
        }
        if samples.len() >= KEPT_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample::take(now, shards));
    }

    /// What happened between each two samples, the oldest first.
    pub fn spans(&self) -> Vec<Span> {
        let samples = self.samples();
        let later = samples.iter().skip(1);
        let pairs = samples.iter().zip(later);
        pairs.map(|(from, until)| from.until(until)).collect()
    }

    /// What happened from the oldest sample until now, and how long that is.
    pub fn whole(&self, shards: &[Arc<Shard>]) -> Option<(Span, Duration)> {
        let now = Sample::take(Instant::now(), shards);
        let samples = self.samples();
        let first = samples.front()?;
        Some((first.until(&now), now.at - first.at))
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    fn take(at: Instant, shards: &[Arc<Shard>]) -> Self {
        let mut sample = Self {
            at,
            requests: 0,
            failures: 0,
            passed_on: Merged::of(&REQUEST, []),
            upstream: Merged::of(
                &REQUEST,
                shards.iter().map(|shard| &shard.upstream.durations),
            ),
        };
        for code in Code::ALL {
            let parts = shards.iter();
            let parts = parts.filter_map(|shard| shard.durations.get(code.index()));
            let merged = Merged::of(&REQUEST, parts);
            sample.requests += merged.count();
            if code == Code::PassedOn {
                sample.passed_on = merged;
            }
        }
        for shard in shards {
            sample.failures += shard.failures.load(Ordering::Relaxed);
        }
        sample
    }

    fn until(&self, later: &Self) -> Span {
        let seconds = later.at.duration_since(self.at).as_secs_f64().max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "as exact as a plot can be")]
        let rate = |from: u64, until: u64| until.saturating_sub(from) as f64 / seconds;
        let took = |share| quantile(&self.passed_on, &later.passed_on, share);
        let upstream = |share| quantile(&self.upstream, &later.upstream, share);
        Span {
            requests: rate(self.requests, later.requests),
            failures: rate(self.failures, later.failures),
            p50: took(0.5),
            p99: took(0.99),
            upstream_p50: upstream(0.5),
            upstream_p99: upstream(0.99),
        }
    }
}

/// What this share of the observations between two looks does not exceed, in s:
/// straight lines within a bucket, as Prometheus has it. `None` without observations.
#[expect(clippy::cast_precision_loss, reason = "a bucket is coarser")]
fn quantile(from: &Merged, until: &Merged, share: f64) -> Option<f64> {
    let counts = until.buckets.iter().zip(&from.buckets);
    let counts: Vec<_> = counts
        .map(|(until, from)| until.saturating_sub(*from))
        .collect();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = share * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    let last = *until.bounds.last()? as f64;
    let uppers = until.bounds.iter().map(|bound| *bound as f64);
    for (count, upper) in counts.into_iter().zip(uppers.chain([last])) {
        let count = count as f64;
        if count > 0.0 && below + count >= wanted {
            let within = (wanted - below) / count;
            return Some((lower + (upper - lower) * within) / 1e9);
        }
        below += count;
        lower = upper;
    }
    Some(last / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    #[test]
    fn a_quantile_lies_in_its_bucket_and_only_new_observations_count() {
        let histogram = Histogram::new(&REQUEST);
        let look = || Merged::of(&REQUEST, [&histogram]);
        let before = look();
        assert_eq!(quantile(&before, &look(), 0.5), None);
        for _ in 0..99 {
            histogram.observe(2_000_000);
        }
        histogram.observe(60_000_000_000);
        let after = look();
        let p50 = quantile(&before, &after, 0.5).unwrap();
        assert!((0.001..=0.0025).contains(&p50), "{p50}");
        // Above the last bound nothing is known but that.
        assert_eq!(quantile(&before, &after, 1.0), Some(10.0));
        assert_eq!(quantile(&after, &look(), 0.5), None);
    }

    #[test]
    fn rates_are_by_second_and_failures_are_among_the_requests() {
        let shards = [Arc::new(Shard::new(0, 1))];
        let before = Sample::take(Instant::now(), &shards);
        for (code, status) in [
            (Code::PassedOn, 200),
            (Code::PassedOn, 503),
            (Code::UpstreamReset, 502),
        ] {
            shards[0].answered(None, code, status, Duration::from_millis(2));
        }
        shards[0].answered(None, Code::NoSuchRoute, 404, Duration::ZERO);
        let after = Sample::take(before.at + Duration::from_secs(2), &shards);
        let span = before.until(&after);
        assert_eq!((span.requests, span.failures), (2.0, 1.0));
        assert!(span.p50.is_some() && span.upstream_p50.is_none());
    }
}
