//! What a bucket is besides, if a fleet shares its limit: the filter before the
//! store, which learns from it, and the fair share while it does not decide.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Bucket, Level, Rule, back};
use crate::gcra::{Shape, Window, nanos, share::share};

/// Times are in ns since the rule began.
#[derive(Debug, Default)]
pub struct InFleet {
    /// By what the limit was divided when the fair share decided last; 0 if the store
    /// decided since.
    divided_by: AtomicU32,
    /// When this gateway's fair share is full again.
    share_full_at: AtomicU64,
    /// When the fleet's bucket is full again, as far as this gateway knows.
    known_full_at: AtomicU64,
}

impl InFleet {
    /// Counts what an earlier run spent of the fleet's bucket.
    pub fn spend(&self, full_at: u64) {
        self.known_full_at.fetch_max(full_at, Ordering::AcqRel);
    }

    /// What the fair share holds, if it is what decides just now.
    pub fn level(&self, window: &Window, now: u64) -> Option<Level> {
        let divided_by = self.divided_by.load(Ordering::Acquire);
        if divided_by == 0 {
            return None;
        }
        let share = share(window, divided_by);
        let full_at = self.share_full_at.load(Ordering::Acquire);
        let free = share.refill_ns() - full_at.saturating_sub(now).min(share.refill_ns());
        Some(Level {
            remaining: u32::try_from(free / share.unit_ns).unwrap_or(u32::MAX),
            next_unit: Duration::from_nanos(share.wait_ns(full_at, now)),
        })
    }
}

impl Bucket {
    /// A full bucket of a limit that a fleet shares.
    pub fn of_fleet(rule: impl Into<Arc<Rule>>) -> Self {
        Self {
            in_fleet: Some(Box::default()),
            ..Self::new(rule)
        }
    }

    /// What this gateway knows to be spent of the fleet's bucket, in time.
    pub fn known_spent(&self) -> Duration {
        let known = self.in_fleet.as_ref();
        let known = known.map_or(0, |known| known.known_full_at.load(Ordering::Acquire));
        Duration::from_nanos(known.saturating_sub(nanos(self.rule.start.elapsed())))
    }

    /// Takes note of what the store said was spent of the fleet's bucket when it was
    /// asked at `asked`. From then on the bucket refuses by itself what the store is
    /// sure to refuse, and its level is the fleet's.
    pub fn learn(&self, asked: Instant, spent: Duration) {
        let asked = asked.saturating_duration_since(self.rule.start);
        let until = nanos(asked + spent.min(self.refill()));
        self.full_at.0.fetch_max(until, Ordering::AcqRel);
        if let Some(in_fleet) = &self.in_fleet {
            in_fleet.known_full_at.fetch_max(until, Ordering::AcqRel);
            in_fleet.divided_by.store(0, Ordering::Release);
        }
    }

    /// Takes one unit of the fair share of a fleet of `replicas`.
    ///
    /// # Errors
    ///
    /// How long until a unit is there, if there is none.
    pub fn take_share(&self, replicas: u32) -> Result<(), Duration> {
        let Some(in_fleet) = &self.in_fleet else {
            return Ok(());
        };
        in_fleet.divided_by.store(replicas, Ordering::Release);
        let share = share(&self.rule.window, replicas);
        let now = nanos(self.rule.start.elapsed());
        let mut wait = 0;
        let taken =
            in_fleet
                .share_full_at
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                    match share.take(full_at, now) {
                        Ok(full_at) => Some(full_at),
                        Err(wait_ns) => {
                            wait = wait_ns;
                            None
                        }
                    }
                });
        taken.map(drop).map_err(|_| Duration::from_nanos(wait))
    }

    /// Takes as much of the fair share as comes back in `span`, at most all there is:
    /// what an earlier run spent.
    pub fn spend_share(&self, span: Duration, replicas: u32) {
        if let Some(in_fleet) = &self.in_fleet {
            let span = span.min(self.share_refill(replicas));
            let until = nanos(self.rule.start.elapsed() + span);
            in_fleet.share_full_at.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// The time in which one unit of the fair share comes back.
    pub fn share_unit(&self, replicas: u32) -> Duration {
        Duration::from_nanos(share(&self.rule.window, replicas).unit_ns)
    }

    /// The time in which an empty fair share fills.
    pub fn share_refill(&self, replicas: u32) -> Duration {
        Duration::from_nanos(share(&self.rule.window, replicas).refill_ns())
    }

    /// Gives back the unit that [`take_share`](Self::take_share) took.
    pub fn give_back_share(&self, replicas: u32) {
        let Some(in_fleet) = &self.in_fleet else {
            return;
        };
        let unit = share(&self.rule.window, replicas).unit_ns;
        back(&in_fleet.share_full_at, unit);
    }

    /// How long until the fair share has a unit: zero if it has one.
    pub fn share_wait(&self, replicas: u32) -> Duration {
        let Some(in_fleet) = &self.in_fleet else {
            return Duration::ZERO;
        };
        let share = share(&self.rule.window, replicas);
        let full_at = in_fleet.share_full_at.load(Ordering::Acquire);
        Duration::from_nanos(share.wait_ns(full_at, nanos(self.rule.start.elapsed())))
    }

    /// Counts a call that the fair share let pass: the store does not know of it.
    pub fn passed_by_share(&self) {
        let Some(in_fleet) = &self.in_fleet else {
            return;
        };
        let (now, unit) = (nanos(self.rule.start.elapsed()), self.rule.unit_ns);
        let one_more = |at: u64| Some(at.max(now).saturating_add(unit));
        let known = &in_fleet.known_full_at;
        // Never fails: the closure always returns a value.
        let _ = known.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
    }

    /// The bucket's size, as the store is told it.
    pub fn shape(&self) -> Shape {
        Shape::of(&self.rule.window)
    }
}
