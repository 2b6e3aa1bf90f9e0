//! One limit: a bucket (GCRA, by governor) whose last unit can be given back.

mod in_fleet;
mod rule;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::in_fleet::InFleet;
pub use self::rule::{FullAt, Rule, Rules};
use crate::gcra::{Window, nanos};

/// A bucket of one tenant or key, shared by all workers.
///
/// Taking is exact under concurrency: governor's decision is one
/// compare-and-swap. Refusals leave the bucket as it was.
#[derive(Debug)]
pub struct Bucket {
    full_at: FullAt,
    rule: Arc<Rule>,
    in_fleet: Option<Box<InFleet>>,
}

/// What a bucket holds just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Units that could be taken at once.
    pub remaining: u32,
    /// Until one unit can be taken: zero if one is there.
    pub next_unit: Duration,
}

impl Bucket {
    /// A full bucket under a rule that it may share with others.
    pub fn new(rule: impl Into<Arc<Rule>>) -> Self {
        Self {
            full_at: FullAt::default(),
            rule: rule.into(),
            in_fleet: None,
        }
    }

    /// Reads it, so that the processor fetches it early.
    pub fn prefetch(&self) -> u64 {
        self.full_at.0.load(Ordering::Relaxed)
    }

    /// The limit this bucket enforces.
    pub fn window(&self) -> Window {
        self.rule.window
    }

    /// Its name in headers and problems, such as `tenant-1s`.
    pub fn name(&self) -> &str {
        &self.rule.name
    }

    /// The time in which one unit comes back.
    pub fn unit(&self) -> Duration {
        Duration::from_nanos(self.rule.unit_ns)
    }

    /// The time in which an empty bucket fills.
    pub fn refill(&self) -> Duration {
        Duration::from_nanos(self.rule.refill_ns)
    }

    /// Takes as much as comes back in `span`, at most all there is: what an
    /// earlier run spent.
    pub fn spend(&self, span: Duration) {
        let now = self.rule.start.elapsed();
        let until = nanos(now + span.min(self.refill()));
        self.full_at.0.fetch_max(until, Ordering::AcqRel);
        if let Some(in_fleet) = &self.in_fleet {
            in_fleet.spend(until);
        }
    }

    /// Takes one unit.
    ///
    /// # Errors
    ///
    /// How long until a unit is there, if there is none.
    pub fn take(&self) -> Result<(), Duration> {
        self.rule.take(&self.full_at)
    }

    /// Gives back the unit that [`take`](Self::take) took, as if it had not been taken.
    pub fn give_back(&self) {
        back(&self.full_at.0, self.rule.unit_ns);
    }

    /// What the bucket holds, without taking anything.
    pub fn level(&self) -> Level {
        self.level_at(Instant::now())
    }

    /// What the bucket holds at `now`, which is about now.
    pub fn level_at(&self, now: Instant) -> Level {
        let (one, full) = (self.rule.unit_ns, self.rule.refill_ns);
        let now = nanos(now.saturating_duration_since(self.rule.start));
        if let Some(in_fleet) = &self.in_fleet
            && let Some(level) = in_fleet.level(&self.rule.window, now)
        {
            return level;
        }
        let spent = self.full_at.0.load(Ordering::Acquire).saturating_sub(now);
        let free = full.saturating_sub(spent);
        Level {
            remaining: u32::try_from(free / one).unwrap_or(u32::MAX),
            next_unit: Duration::from_nanos(one.saturating_sub(free)),
        }
    }

    /// The window's part of `RateLimit-Policy`
    /// (draft-ietf-httpapi-ratelimit-headers-10 §3): quota and the seconds in
    /// which an empty bucket fills.
    pub fn policy(&self) -> String {
        format!(
            "\"{}\";q={};w={}",
            self.name(),
            self.window().burst,
            seconds_up(self.refill())
        )
    }
}

fn back(full_at: &AtomicU64, unit_ns: u64) {
    // Never fails: the closure always returns a value.
    let _ = full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| {
        Some(at.saturating_sub(unit_ns))
    });
}

/// Whole seconds, rounded up, at least one: what `Retry-After` and the
/// `RateLimit` headers can say without promising too much.
pub fn seconds_up(span: Duration) -> u64 {
    span.as_secs()
        .saturating_add(u64::from(span.subsec_nanos() > 0))
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::advance;

    use super::*;

    fn bucket(requests: u32, per: Duration, burst: u32) -> Bucket {
        let window = Window {
            requests: NonZeroU32::new(requests).unwrap(),
            per,
            burst: NonZeroU32::new(burst).unwrap(),
        };
        Bucket::new(Rule::new("tenant", window))
    }

    fn take_all(bucket: &Bucket) -> u32 {
        (0..10_000)
            .take_while(|_| bucket.take().is_ok())
            .count()
            .try_into()
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn burst_at_once_then_one_every_interval() {
        let bucket = bucket(10, Duration::from_secs(1), 20);
        assert_eq!(take_all(&bucket), 20);
        assert_eq!(bucket.take(), Err(Duration::from_millis(100)));
        advance(Duration::from_millis(99)).await;
        assert_eq!(bucket.take(), Err(Duration::from_millis(1)));
        advance(Duration::from_millis(1)).await;
        assert_eq!(bucket.take(), Ok(()));
        advance(Duration::from_secs(60)).await;
        assert_eq!(take_all(&bucket), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_does_not_lengthen_the_wait() {
        let bucket = bucket(1, Duration::from_secs(10), 1);
        assert_eq!(bucket.take(), Ok(()));
        for _ in 0..100 {
            assert_eq!(bucket.take(), Err(Duration::from_secs(10)));
        }
        advance(Duration::from_secs(10)).await;
        assert_eq!(bucket.take(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_was_never_taken() {
        let bucket = bucket(5, Duration::from_secs(5), 3);
        advance(Duration::from_secs(100)).await;
        assert_eq!(bucket.take(), Ok(()));
        bucket.give_back();
        assert_eq!(take_all(&bucket), 3);
        bucket.give_back();
        assert_eq!(take_all(&bucket), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_level_is_what_could_be_taken() {
        let bucket = bucket(10, Duration::from_secs(1), 3);
        assert_eq!(
            bucket.level(),
            Level {
                remaining: 3,
                next_unit: Duration::ZERO
            }
        );
        take_all(&bucket);
        assert_eq!(
            bucket.level(),
            Level {
                remaining: 0,
                next_unit: Duration::from_millis(100)
            }
        );
        advance(Duration::from_millis(250)).await;
        assert_eq!(
            bucket.level(),
            Level {
                remaining: 2,
                next_unit: Duration::ZERO
            }
        );
        assert_eq!(take_all(&bucket), 2);
    }

    #[test]
    fn exactly_the_burst_passes_under_concurrency() {
        let bucket = bucket(1, Duration::from_secs(3600), 100);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..200).filter(|_| bucket.take().is_ok()).count()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(passed, 100);
    }

    #[test]
    fn the_policy_names_quota_and_the_time_to_fill() {
        let bucket = bucket(10, Duration::from_secs(1), 20);
        assert_eq!(bucket.name(), "tenant-1s");
        assert_eq!(bucket.policy(), "\"tenant-1s\";q=20;w=2");
    }

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        assert_eq!(seconds_up(Duration::ZERO), 1);
        assert_eq!(seconds_up(Duration::from_millis(1)), 1);
        assert_eq!(seconds_up(Duration::from_secs(2)), 2);
        assert_eq!(seconds_up(Duration::from_millis(2001)), 3);
    }
}
