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

/// What a call is told to wait while another one probes.
const PROBE: Duration = Duration::from_secs(1);

/// Opens after so many consecutive failures; then single calls probe.
#[derive(Debug)]
pub struct Breaker {
    bounds: Option<CircuitBreaker>,
    start: Instant,
    failures: AtomicU32,
    /// How often it came to each state.
    transitions: [AtomicU64; 3],
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

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// They pass.
    Closed,
    /// They are refused.
    Open,
    /// One at a time probes.
    HalfOpen,
}

impl BreakerState {
    /// All of them, each at its own index.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Breaker {
    /// A closed breaker; `None` never opens.
    pub fn new(bounds: Option<CircuitBreaker>) -> Self {
        Self {
            bounds,
            start: Instant::now(),
            failures: AtomicU32::new(0),
            transitions: Default::default(),
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
                return Err(PROBE);
            }
            self.came_to(BreakerState::HalfOpen);
        }
        Ok(Pass {
            breaker: Arc::clone(self),
            probe,
        })
    }

    /// Lets a call pass that won't be sent, where one that will be would pass. It has
    /// nothing to find out, so it never takes the place of a probe.
    ///
    /// # Errors
    ///
    /// As of [`pass`](Self::pass).
    pub fn pass_unsent(self: &Arc<Self>) -> Result<Pass, Duration> {
        if let Some(rest) = self.open_for() {
            return Err(rest);
        }
        if self.probing.load(Ordering::Acquire) {
            return Err(PROBE);
        }
        Ok(Pass {
            breaker: Arc::clone(self),
            probe: false,
        })
    }

    /// How long calls are refused from now on, without a look at the upstream; `None` if
    /// they pass, or one may probe.
    pub fn open_for(&self) -> Option<Duration> {
        let open_until = self.open_until_ns.load(Ordering::Acquire);
        let rest = Duration::from_nanos(open_until).saturating_sub(self.start.elapsed());
        (!rest.is_zero()).then_some(rest)
    }

    /// Whether calls are being refused or probed.
    pub fn is_open(&self) -> bool {
        self.open_until_ns.load(Ordering::Acquire) != 0
    }

    /// What it does with calls just now.
    pub fn state(&self) -> BreakerState {
        match self.open_until_ns.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            until if self.start.elapsed() < Duration::from_nanos(until) => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// How often it came to each state.
    pub fn transitions(&self) -> impl Iterator<Item = (BreakerState, u64)> {
        let counts = self.transitions.iter();
        BreakerState::ALL
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    fn came_to(&self, state: BreakerState) {
        if let Some(count) = self.transitions.get(state as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn open(&self, bounds: &CircuitBreaker, is_probe: bool) {
        let until = self.start.elapsed() + bounds.open_for;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.open_until_ns.swap(until, Ordering::AcqRel);
        // Calls that were sent before it opened may fail later.
        if before == 0 || is_probe {
            self.came_to(BreakerState::Open);
        }
    }
}

impl Pass {
    /// Whether the breaker is open, and its call finds out whether it still need be.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether its call may still be sent: the breaker was not opened since then. Once it
    /// probes, a call from before it opened is not the one to do so.
    pub fn is_good(&self) -> bool {
        match self.probe {
            true => self.breaker.open_for().is_none(),
            false => !self.breaker.is_open(),
        }
    }

    /// The upstream answered the call, whatever it said.
    pub fn worked(self) {
        self.breaker.failures.store(0, Ordering::Release);
        if self.probe {
            self.breaker.open_until_ns.store(0, Ordering::Release);
            self.breaker.came_to(BreakerState::Closed);
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
            self.breaker.open(bounds, self.probe);
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
        assert!(breaker.is_open());
        assert_eq!(breaker.bounds().unwrap().open_for, Duration::from_secs(5));
        assert_eq!(
            BreakerState::ALL.map(BreakerState::as_str),
            ["closed", "open", "half_open"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_at_a_time_probes_and_a_good_one_closes_it() {
        let breaker = breaker();
        let before = breaker.pass().unwrap();
        assert!(before.is_good());
        for _ in 0..3 {
            breaker.pass().unwrap().failed();
        }
        assert!(!before.is_good());
        advance(Duration::from_secs(5)).await;
        let probe = breaker.pass().unwrap();
        assert!(breaker.pass().is_err());
        assert!(probe.is_good() && !before.is_good());
        before.failed();
        assert!(!probe.is_good());
        probe.failed();
        assert_eq!(breaker.pass().unwrap_err(), Duration::from_secs(5));
        assert_eq!(breaker.state(), BreakerState::Open);
        advance(Duration::from_secs(5)).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.pass().unwrap().worked();
        assert_eq!(breaker.state(), BreakerState::Closed);
        let _both = (breaker.pass().unwrap(), breaker.pass().unwrap());
        let changes: Vec<_> = breaker.transitions().map(|(_, count)| count).collect();
        assert_eq!(changes, [1, 2, 2], "closed, open, half open");
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
