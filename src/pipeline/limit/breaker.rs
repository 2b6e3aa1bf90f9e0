//! The circuit breaker of one key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::config::settings::CircuitBreaker;

/// Opens after so many consecutive failures; then single calls probe.
#[derive(Debug)]
pub struct Breaker {
    bounds: Option<CircuitBreaker>,
    start: Instant,
    failures: AtomicU32,
    /// Zero while closed.
    open_until_ns: AtomicU64,
    probing: AtomicBool,
}

/// The right to send one call; says afterwards how that went. Dropped without a
/// word (the call was refused later on), it counts for nothing.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    breaker: Arc<Breaker>,
    probe: bool,
}

impl Breaker {
    /// A closed breaker; `None` never opens.
    pub fn new(bounds: Option<CircuitBreaker>) -> Self {
        Self {
            bounds,
            start: Instant::now(),
            failures: AtomicU32::new(0),
            open_until_ns: AtomicU64::new(0),
            probing: AtomicBool::new(false),
        }
    }

    /// What opens it, and for how long.
    pub fn bounds(&self) -> Option<&CircuitBreaker> {
        self.bounds.as_ref()
    }

    /// Lets a call pass: any while closed, one at a time once the open time is over.
    ///
    /// # Errors
    ///
    /// How long until a call may probe; a second if another call just does.
    pub fn pass(self: &Arc<Self>) -> Result<Pass, Duration> {
        let open_until = self.open_until_ns.load(Ordering::Acquire);
        let probe = open_until != 0;
        if probe {
            let rest = Duration::from_nanos(open_until).saturating_sub(self.start.elapsed());
            if !rest.is_zero() {
                return Err(rest);
            }
            if self.probing.swap(true, Ordering::AcqRel) {
                return Err(Duration::from_secs(1));
            }
        }
        Ok(Pass {
            breaker: Arc::clone(self),
            probe,
        })
    }

    /// Whether calls are being refused or probed.
    pub fn is_open(&self) -> bool {
        self.open_until_ns.load(Ordering::Acquire) != 0
    }

    fn open(&self, bounds: &CircuitBreaker) {
        let until = self.start.elapsed() + bounds.open_for;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.open_until_ns.store(until, Ordering::Release);
    }
}

impl Pass {
    /// The upstream answered the call, whatever it said.
    pub fn worked(self) {
        self.breaker.failures.store(0, Ordering::Release);
        if self.probe {
            self.breaker.open_until_ns.store(0, Ordering::Release);
        }
    }

    /// Connect, TLS, a time-out, or 502, 503, 504.
    pub fn failed(self) {
        let Some(bounds) = &self.breaker.bounds else {
            return;
        };
        let failures = self
            .breaker
            .failures
            .fetch_add(1, Ordering::AcqRel)
            .saturating_add(1);
        if self.probe || failures >= bounds.failures.get() {
            self.breaker.open(bounds);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.probing.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::advance;

    use super::*;

    fn breaker() -> Arc<Breaker> {
        Arc::new(Breaker::new(Some(CircuitBreaker {
            failures: NonZeroU32::new(3).unwrap(),
            open_for: Duration::from_secs(5),
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_on_consecutive_failures_only() {
        let breaker = breaker();
        for _ in 0..10 {
            breaker.pass().unwrap().failed();
            breaker.pass().unwrap().failed();
            breaker.pass().unwrap().worked();
        }
        for _ in 0..3 {
            breaker.pass().unwrap().failed();
        }
        assert_eq!(breaker.pass().unwrap_err(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_at_a_time_probes_and_a_good_one_closes_it() {
        let breaker = breaker();
        for _ in 0..3 {
            breaker.pass().unwrap().failed();
        }
        advance(Duration::from_secs(5)).await;
        let probe = breaker.pass().unwrap();
        assert!(breaker.pass().is_err());
        probe.failed();
        assert_eq!(breaker.pass().unwrap_err(), Duration::from_secs(5));
        advance(Duration::from_secs(5)).await;
        breaker.pass().unwrap().worked();
        let _both = (breaker.pass().unwrap(), breaker.pass().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_never_sent_frees_the_place() {
        let breaker = breaker();
        for _ in 0..3 {
            breaker.pass().unwrap().failed();
        }
        advance(Duration::from_secs(5)).await;
        drop(breaker.pass().unwrap());
        breaker.pass().unwrap().worked();
        assert!(!breaker.is_open());
    }

    #[test]
    fn switched_off_it_never_opens() {
        let breaker = Arc::new(Breaker::new(None));
        for _ in 0..1000 {
            breaker.pass().unwrap().failed();
        }
        assert!(!breaker.is_open());
    }
}
