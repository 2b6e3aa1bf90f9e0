//! One limit: a bucket (GCRA, by governor) whose last unit can be given back.

mod in_fleet;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use tokio::time::Instant;

use self::in_fleet::InFleet;
use crate::config::settings::Window;

/// A bucket of one tenant or key, shared by all workers.
///
/// Taking is exact under concurrency: governor's decision is one
/// compare-and-swap. Refusals leave the bucket as it was.
#[derive(Debug)]
pub struct Bucket {
    window: Window,
    name: Box<str>,
    cell: Cell,
    limiter: RateLimiter<NotKeyed, Cell, RuntimeClock, NoOpMiddleware<std::time::Instant>>,
    start: Instant,
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
    /// A full bucket. `scope` is `tenant` or `key`, the first part of its name.
    pub fn new(scope: &str, window: Window) -> Self {
        let cell = Cell::default();
        // `interval` is at least 1 ns and `burst` times it fits 64 bits of
        // nanoseconds: the settings were validated. governor refuses a zero
        // period only.
        let quota = Quota::with_period(interval(window))
            .unwrap_or_else(|| Quota::per_second(window.requests))
            .allow_burst(window.burst);
        let start = Instant::now();
        Self {
            window,
            name: format!("{scope}-{}s", seconds_up(window.per)).into(),
            limiter: RateLimiter::new(quota, cell.clone(), RuntimeClock),
            cell,
            start,
            in_fleet: None,
        }
    }

    /// The limit this bucket enforces.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Its name in headers and problems, such as `tenant-1s`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time in which one unit comes back.
    pub fn unit(&self) -> Duration {
        interval(self.window)
    }

    /// The time in which an empty bucket fills.
    pub fn refill(&self) -> Duration {
        interval(self.window).saturating_mul(self.window.burst.get())
    }

    /// Takes as much as comes back in `span`, at most all there is: what an
    /// earlier run spent.
    pub fn spend(&self, span: Duration) {
        let now = self.start.elapsed();
        let until = nanos(now + span.min(self.refill()));
        self.cell.0.fetch_max(until, Ordering::AcqRel);
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
        self.limiter
            .check()
            .map_err(|refused| refused.wait_time_from(RuntimeClock.now()))
    }

    /// Gives back the unit that [`take`](Self::take) took, as if it had not been taken.
    pub fn give_back(&self) {
        back(&self.cell.0, nanos(interval(self.window)));
    }

    /// What the bucket holds, without taking anything.
    pub fn level(&self) -> Level {
        self.level_at(Instant::now())
    }

    /// What the bucket holds at `now`, which is about now.
    pub fn level_at(&self, now: Instant) -> Level {
        let one = nanos(interval(self.window)).max(1);
        let full = one.saturating_mul(u64::from(self.window.burst.get()));
        let now = nanos(now.saturating_duration_since(self.start));
        if let Some(in_fleet) = &self.in_fleet
            && let Some(level) = in_fleet.level(&self.window, now)
        {
            return level;
        }
        let spent = self.cell.0.load(Ordering::Acquire).saturating_sub(now);
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
        let fills_in = self.refill();
        format!(
            "\"{}\";q={};w={}",
            self.name,
            self.window.burst,
            seconds_up(fills_in)
        )
    }
}

fn back(full_at: &AtomicU64, unit_ns: u64) {
    // Never fails: the closure always returns a value.
    let _ = full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| {
        Some(at.saturating_sub(unit_ns))
    });
}

/// The time in which one unit comes back.
fn interval(window: Window) -> Duration {
    window.per / window.requests.get()
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole seconds, rounded up, at least one: what `Retry-After` and the
/// `RateLimit` headers can say without promising too much.
pub fn seconds_up(span: Duration) -> u64 {
    span.as_secs()
        .saturating_add(u64::from(span.subsec_nanos() > 0))
        .max(1)
}

/// governor's state: the theoretical arrival time, in ns since the limiter
/// began. Our own store, because governor's cannot give a unit back.
#[derive(Debug, Clone, Default)]
struct Cell(Arc<AtomicU64>);

impl StateStore for Cell {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let (answer, next) = f((seen != 0).then(|| Nanos::from(seen)))?;
            match self.0.compare_exchange_weak(
                seen,
                next.as_u64(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(answer),
                Err(now) => seen = now,
            }
        }
    }
}

/// The runtime's monotonic clock: the operating system's, unless a test paused
/// it. (governor's default clock can jump between cores, its issue 299.)
#[derive(Debug, Clone, Copy)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::advance;

    use super::*;

    fn bucket(requests: u32, per: Duration, burst: u32) -> Bucket {
        Bucket::new(
            "tenant",
            Window {
                requests: NonZeroU32::new(requests).unwrap(),
                per,
                burst: NonZeroU32::new(burst).unwrap(),
            },
        )
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
