//! The circuit breaker of one key.
//!
//! Only calls that passed while it was closed open it, and only a probe ends what is open:
//! closed by one that worked, opened again by one that failed. A call that was sent before
//! it opened may end much later, and says how the upstream was, not how it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{closed_list::closed_list, config::settings::CircuitBreaker, gcra::nanos};

/// What a call is told to wait while another one probes.
const PROBE: Duration = Duration::from_secs(1);

/// Opens after so many consecutive failures; then single calls probe.
#[derive(Debug)]
pub struct Breaker {
    bounds: Option<CircuitBreaker>,
    start: Instant,
    failures: AtomicU32,
    /// How often it came to each state.
    transitions: [AtomicU64; BreakerState::COUNT],
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
    /// How often the breaker had opened when the call passed.
    opened: u64,
}

closed_list! {
    /// What a breaker does with calls, for metrics.
    pub enum BreakerState {
        /// They pass.
        Closed => "closed",
        /// They are refused.
        Open => "open",
        /// One at a time probes.
        HalfOpen => "half_open",
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
        if !self.wants_probe()? {
            return Ok(self.let_pass(false));
        }
        if self.probing.swap(true, Ordering::AcqRel) {
            return Err(PROBE);
        }
        let probe = self.let_pass(true);
        // The probe before may have ended since the first look.
        if !self.wants_probe()? {
            return Ok(self.let_pass(false));
        }
        self.came_to(BreakerState::HalfOpen);
        Ok(probe)
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
        Ok(self.let_pass(false))
    }

    fn let_pass(self: &Arc<Self>, probe: bool) -> Pass {
        Pass {
            breaker: Arc::clone(self),
            probe,
            opened: self.times_opened(),
        }
    }

    /// How long calls are refused from now on, without a look at the upstream; `None` if
    /// they pass, or one may probe.
    pub fn open_for(&self) -> Option<Duration> {
        self.wants_probe().err()
    }

    /// Whether a call has to find out whether it may close; else it is closed.
    ///
    /// # Errors
    ///
    /// How long it stays open before that.
    fn wants_probe(&self) -> Result<bool, Duration> {
        let open_until = self.open_until_ns.load(Ordering::Acquire);
        if open_until == 0 {
            return Ok(false);
        }
        let rest = Duration::from_nanos(open_until).saturating_sub(self.start.elapsed());
        if rest.is_zero() { Ok(true) } else { Err(rest) }
    }

    /// Whether calls are being refused or probed.
    pub fn is_open(&self) -> bool {
        self.open_until_ns.load(Ordering::Acquire) != 0
    }

    /// What it does with calls just now.
    pub fn state(&self) -> BreakerState {
        match self.wants_probe() {
            Ok(false) => BreakerState::Closed,
            Ok(true) => BreakerState::HalfOpen,
            Err(_) => BreakerState::Open,
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
        if let Some(count) = self.transitions.get(state.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn times_opened(&self) -> u64 {
        let opened = self.transitions.get(BreakerState::Open.index());
        opened.map_or(0, |opened| opened.load(Ordering::Relaxed))
    }

    /// Opens it if it is closed.
    fn open(&self, bounds: &CircuitBreaker) {
        let until = self.until(bounds);
        let was_closed =
            self.open_until_ns
                .compare_exchange(0, until, Ordering::AcqRel, Ordering::Relaxed);
        // Of calls that fail at once, each may have been the last that was needed.
        if was_closed.is_ok() {
            self.came_to(BreakerState::Open);
        }
    }

    /// Opens it again, in the name of its probe: nobody else changes what is open.
    fn reopen(&self, bounds: &CircuitBreaker) {
        self.open_until_ns
            .store(self.until(bounds), Ordering::Release);
        self.came_to(BreakerState::Open);
    }

    /// When it would half open if it opened now, in ns since `start`; never zero.
    fn until(&self, bounds: &CircuitBreaker) -> u64 {
        let until = self.start.elapsed() + bounds.open_for;
        nanos(until).max(1)
    }
}

impl Pass {
    /// Whether the breaker is open, and its call finds out whether it still need be.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether its call may still be sent: the breaker is not open, or this is its probe. A
    /// call from before it opened is not the one to probe.
    pub fn is_good(&self) -> bool {
        self.probe || !self.breaker.is_open()
    }

    /// The upstream answered the call, whatever it said.
    pub fn worked(self) {
        if self.is_of_now() {
            self.breaker.failures.store(0, Ordering::Release);
        }
        if self.probe {
            self.breaker.open_until_ns.store(0, Ordering::Release);
            self.breaker.came_to(BreakerState::Closed);
        }
    }

    /// Whether the breaker has not opened since: how a call from before that ends says how
    /// the upstream was, be it open, half open or closed again.
    fn is_of_now(&self) -> bool {
        self.opened == self.breaker.times_opened()
    }

    /// Connect, TLS, a time-out, or 502, 503, 504.
    pub fn failed(self) {
        let Some(bounds) = &self.breaker.bounds else {
            return;
        };
        if self.probe {
            return self.breaker.reopen(bounds);
        }
        if !self.is_of_now() {
            return;
        }
        let before = self.breaker.failures.fetch_add(1, Ordering::AcqRel);
        if before.saturating_add(1) >= bounds.failures.get() {
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

/// What one call showed of the upstream's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered, whatever it said.
    Working,
    /// Connect, TLS, a time-out, or 502, 503, 504.
    Failing,
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
        // The failure of a call from before it opened is none of the probe's.
        before.failed();
        assert!(probe.is_good());
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
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
    async fn calls_from_before_it_opened_move_nothing_whenever_they_end() {
        let breaker = breaker();
        let mut before: Vec<_> = (0..43).map(|_| breaker.pass().unwrap()).collect();
        let mut fail = |many: usize| {
            let late = before.split_off(before.len() - many);
            late.into_iter().for_each(Pass::failed);
        };
        fail(3);
        for seconds_left in (1..=5).rev() {
            fail(5);
            let rest = Duration::from_secs(seconds_left);
            assert_eq!(breaker.pass().unwrap_err(), rest);
            advance(Duration::from_secs(1)).await;
        }
        let probe = breaker.pass().unwrap();
        fail(5);
        assert!(probe.is_probe() && probe.is_good());
        probe.worked();
        // Nor do they say how the upstream is now that it works again.
        fail(5);
        assert_eq!(breaker.state(), BreakerState::Closed);
        for _ in 0..3 {
            assert_eq!(breaker.state(), BreakerState::Closed);
            breaker.pass().unwrap().failed();
            before.pop().unwrap().worked();
        }
        // One that worked, long ago, does not close it.
        before.pop().unwrap().worked();
        assert_eq!(breaker.pass().unwrap_err(), Duration::from_secs(5));
        let changes: Vec<_> = breaker.transitions().map(|(_, count)| count).collect();
        assert_eq!(changes, [1, 2, 1], "closed, open, half open");
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
