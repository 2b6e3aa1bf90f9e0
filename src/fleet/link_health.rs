//! Whether a connection to the store is good to ask over: falls at the first
//! failure, and comes back by itself, with the time passed in.

use std::time::Duration;

/// The pause before the first try to come back.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After so long without a failure the next one counts as the first.
pub const STEADY: Duration = Duration::from_secs(10);

/// Whether one connection to the store is good.
///
/// Calls are asked over it only while it is good. A single failure (a time-out, a
/// break, an answer that is an error) ends that: what waits for an answer then, and
/// every call from then on, is decided by the fair share, so that no call after the
/// first ones waits for the time-out. Tries to come back are made beside the calls;
/// one that is answered in time makes it good again.
#[derive(Debug, Clone)]
pub struct LinkHealth {
    is_good: bool,
    /// Failures without a steady time between them.
    failures: u32,
    good_since: Duration,
    try_at: Duration,
    /// Spreads the tries of a fleet: 0 to 255.
    spread: u8,
}

impl LinkHealth {
    /// Not good yet, and to be tried at once. `spread` is any number that differs
    /// between gateways.
    pub fn new(spread: u8) -> Self {
        Self {
            is_good: false,
            failures: 0,
            good_since: Duration::ZERO,
            try_at: Duration::ZERO,
            spread,
        }
    }

    /// Whether calls are asked over it.
    pub fn is_good(&self) -> bool {
        self.is_good
    }

    /// When it is to be tried next, while it is not good.
    pub fn try_at(&self) -> Duration {
        self.try_at
    }

    /// A call, or a try, failed at `now`. Returns whether it was good until then.
    pub fn failed(&mut self, now: Duration) -> bool {
        let was_good = std::mem::replace(&mut self.is_good, false);
        if was_good && now.saturating_sub(self.good_since) >= STEADY {
            self.failures = 0;
        }
        let doublings = self.failures.min(8);
        self.failures = self.failures.saturating_add(1);
        let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
        // Half of it is spread: a fleet must not come back as one.
        self.try_at = now + pause / 2 + pause / 2 * u32::from(self.spread) / 255;
        was_good
    }

    /// A try was answered in time at `now`. Returns whether it was not good until then.
    pub fn answered(&mut self, now: Duration) -> bool {
        let was_good = std::mem::replace(&mut self.is_good, true);
        if !was_good {
            self.good_since = now;
        }
        !was_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_at_the_first_failure_and_comes_back_with_the_first_answer() {
        let mut health = LinkHealth::new(255);
        assert!(!health.is_good());
        assert_eq!(health.try_at(), Duration::ZERO);
        assert!(health.answered(Duration::from_secs(1)));
        assert!(!health.answered(Duration::from_secs(2)));
        assert!(health.failed(Duration::from_secs(20)));
        assert!(!health.failed(Duration::from_secs(20)));
        assert!(!health.is_good());
        assert!(health.answered(Duration::from_secs(21)));
        assert!(health.is_good());
    }

    #[test]
    fn tries_become_rarer_but_never_rare() {
        let mut health = LinkHealth::new(255);
        let mut now = Duration::from_secs(100);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            health.failed(now);
            pauses.push((health.try_at() - now).as_millis());
            now = health.try_at();
        }
        assert_eq!(pauses[..5], [100, 200, 400, 800, 1000]);
        assert!(pauses.iter().all(|pause| (50..=1000).contains(pause)));
    }

    #[test]
    fn one_that_comes_and_goes_is_tried_more_rarely_until_it_is_steady() {
        let mut health = LinkHealth::new(255);
        let mut now = Duration::from_secs(100);
        let mut pause_after = |steady: Duration| {
            health.answered(now);
            now += steady;
            health.failed(now);
            let pause = health.try_at() - now;
            now = health.try_at();
            pause
        };
        let first = pause_after(Duration::from_millis(10));
        assert!(pause_after(Duration::from_millis(10)) > first);
        assert_eq!(pause_after(STEADY), first);
    }

    #[test]
    fn gateways_do_not_come_back_at_once_all_together() {
        let pause = |spread| {
            let mut health = LinkHealth::new(spread);
            health.failed(Duration::ZERO);
            health.try_at()
        };
        assert!(pause(0) >= PAUSE_MIN / 2);
        assert!(pause(0) < pause(128) && pause(128) < pause(255));
    }
}
