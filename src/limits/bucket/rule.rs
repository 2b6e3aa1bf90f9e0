//! What all buckets of one limit have in common, so that a bucket itself is one number:
//! with many tenants, what is a tenant's own is hardly ever in the processor's cache.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use tokio::time::Instant;

use crate::gcra::{Window, nanos};

/// A limit, and governor's decision by it.
#[derive(Debug)]
pub struct Rule {
    pub(super) window: Window,
    pub(super) name: Box<str>,
    /// In which one unit comes back, in ns; at least one.
    pub(super) unit_ns: u64,
    /// In which an empty bucket fills, in ns.
    pub(super) refill_ns: u64,
    /// What times of its buckets are counted from.
    pub(super) start: Instant,
    limiter: RateLimiter<FullAt, InTheKey, RuntimeClock, NoOpMiddleware<std::time::Instant>>,
}

impl Rule {
    /// The rule for one window. `scope`, such as `tenant` or `key`, is the first part of
    /// its name.
    pub fn new(scope: &str, window: Window) -> Self {
        // It is at least 1 ns and `burst` times it fits 64 bits of nanoseconds: the
        // settings were validated. governor refuses a zero period only.
        let unit = window.per / window.requests.get();
        let quota = Quota::with_period(unit)
            .unwrap_or_else(|| Quota::per_second(window.requests))
            .allow_burst(window.burst);
        let name = window.name(scope).into();
        // governor reads the clock for itself: nothing that takes time comes between.
        let start = Instant::now();
        let limiter = RateLimiter::new(quota, InTheKey, RuntimeClock);
        let unit_ns = nanos(unit).max(1);
        Self {
            window,
            name,
            unit_ns,
            refill_ns: unit_ns.saturating_mul(u64::from(window.burst.get())),
            start,
            limiter,
        }
    }

    /// Takes one unit of a bucket.
    ///
    /// # Errors
    ///
    /// How long until a unit is there, if there is none.
    pub fn take(&self, bucket: &FullAt) -> Result<(), Duration> {
        self.limiter
            .check_key(bucket)
            .map_err(|refused| refused.wait_time_from(RuntimeClock.now()))
    }
}

/// What tenants of one config share that have the same limits.
#[derive(Debug, Default)]
pub struct Rules {
    rules: HashMap<(&'static str, Window), Arc<Rule>>,
    policies: HashSet<Arc<str>>,
}

impl Rules {
    /// The rule for this window.
    pub fn of(&mut self, scope: &'static str, window: Window) -> Arc<Rule> {
        let known = self.rules.entry((scope, window));
        Arc::clone(known.or_insert_with(|| Rule::new(scope, window).into()))
    }

    /// This value of `RateLimit-Policy`.
    pub fn policy(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.policies.get(text) {
            return Arc::clone(known);
        }
        let policy = Arc::from(text);
        self.policies.insert(Arc::clone(&policy));
        policy
    }
}

/// When a bucket is full again, in ns since its rule began; 0 for one that nothing was
/// taken from. It is all that governor knows of a bucket, and our own because governor's
/// cannot give a unit back.
#[derive(Debug, Default)]
pub struct FullAt(pub(super) AtomicU64);

/// governor keeps one state for each key; here the key is the state.
#[derive(Debug)]
struct InTheKey;

impl StateStore for InTheKey {
    type Key = FullAt;

    fn measure_and_replace<T, F, E>(&self, key: &FullAt, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = key.0.load(Ordering::Acquire);
        loop {
            let (answer, next) = f((seen != 0).then(|| Nanos::from(seen)))?;
            match key.0.compare_exchange_weak(
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

// governor asks for these of any key, for stores that keep keys (0.10.4). Nothing here
// keeps, compares or hashes one: what is taken from a copy counts nowhere.

impl Clone for FullAt {
    fn clone(&self) -> Self {
        Self(self.0.load(Ordering::Acquire).into())
    }
}

impl PartialEq for FullAt {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for FullAt {}

impl Hash for FullAt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
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
    use super::*;
    use crate::{config::settings::testing::window, limits::Bucket};

    #[tokio::test(start_paused = true)]
    async fn buckets_of_one_rule_know_nothing_of_each_other() {
        let mut rules = Rules::default();
        let mut bucket = || Bucket::new(rules.of("tenant", window(2, Duration::from_secs(60))));
        let (spent, full, earlier) = (bucket(), bucket(), bucket());
        assert_eq!(spent.name(), "tenant-60s");
        while spent.take().is_ok() {}
        earlier.spend(Duration::from_secs(30));
        let left = [&spent, &full, &earlier].map(|it| it.level().remaining);
        assert_eq!(left, [0, 2, 1]);
        full.give_back();
        assert!(spent.take().is_err());
        // One that comes later is full, whatever time its rule began at.
        tokio::time::advance(Duration::from_secs(10)).await;
        let later = bucket();
        assert_eq!(later.level().remaining, 2);
        assert!(later.take().is_ok() && later.take().is_ok() && later.take().is_err());
    }

    #[test]
    fn the_same_limit_of_a_key_is_another_rule() {
        let mut rules = Rules::default();
        let same = window(1, Duration::from_secs(1));
        let tenant = rules.of("tenant", same);
        assert!(Arc::ptr_eq(&tenant, &rules.of("tenant", same)));
        assert_eq!(&*rules.of("key", same).name, "key-1s");
        assert!(Arc::ptr_eq(&rules.policy("a"), &rules.policy("a")));
        assert_eq!(&*rules.policy("b"), "b");
    }
}
