//! What bounds calls: the limits of tenants and keys, the gate and the breaker of a key,
//! the queue of those who wait, and how often a peer may fail to authenticate.
//!
//! Nothing here decides about a request: the pipeline asks, and says what follows.

mod asking;
mod breaker;
mod bucket;
mod failed_auth;
mod gate;
mod in_flight;
mod refused;
mod replay;
mod taken;
mod wait_queue;

use std::{cell::RefCell, sync::Arc, time::Duration};

use http::HeaderValue;
use smallvec::SmallVec;
use tokio::time::Instant;

pub use self::{
    asking::{Asking, Backend},
    breaker::{Breaker, BreakerState, Health, Pass},
    bucket::{Bucket, FullAt, Level, Rule, Rules, seconds_up},
    failed_auth::FailedAuth,
    gate::Gate,
    in_flight::{InFlight, InFlightCount},
    refused::Refused,
    replay::{Replay, Spent},
    taken::Taken,
    wait_queue::WaitQueue,
};
use crate::code::LimitedBy;

/// With room in itself for as many as most tenants have: one place less to look at.
type Buckets = SmallVec<[(LimitedBy, Arc<Bucket>); 2]>;

/// All that limits the calls of one tenant: its own buckets and its key's,
/// shortest window first, behind the key's gate and breaker.
#[derive(Debug)]
pub struct Limits {
    buckets: Buckets,
    gate: Arc<Gate>,
    breaker: Arc<Breaker>,
    policy: Option<Arc<str>>,
}

impl Limits {
    /// Puts together what limits one tenant; what it has in common with others is in
    /// `rules`.
    pub fn new(
        tenant: impl IntoIterator<Item = Arc<Bucket>>,
        key: impl IntoIterator<Item = Arc<Bucket>>,
        gate: Arc<Gate>,
        breaker: Arc<Breaker>,
        rules: &mut Rules,
    ) -> Self {
        let tenant = tenant.into_iter().map(|b| (LimitedBy::Tenant, b));
        let key = key.into_iter().map(|b| (LimitedBy::Key, b));
        let mut buckets: Buckets = tenant.chain(key).collect();
        buckets.sort_by_key(|(_, bucket)| bucket.window().per);
        let policies: Vec<_> = buckets.iter().map(|(_, b)| b.policy()).collect();
        Self {
            policy: (!policies.is_empty()).then(|| rules.policy(&policies.join(", "))),
            buckets,
            gate,
            breaker,
        }
    }

    /// `RateLimit-Policy` and `RateLimit`, if there is any limit, as of `now`.
    pub fn headers(&self, now: Instant) -> Option<(HeaderValue, HeaderValue)> {
        // A copy: a value that all answers share would have a count of them that all
        // workers change.
        let policy = HeaderValue::from_str(self.policy.as_deref()?).ok()?;
        thread_local! {
            // One more piece of memory for each answer, if it were made anew.
            static LEVELS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let levels = LEVELS.with_borrow_mut(|levels| {
            levels.clear();
            self.write_levels(levels, now);
            HeaderValue::from_bytes(levels).ok()
        });
        Some((policy, levels?))
    }

    /// Writes the value of `RateLimit`: what is left of each limit, and until when nothing is.
    fn write_levels(&self, levels: &mut Vec<u8>, now: Instant) {
        let mut digits = itoa::Buffer::new();
        for (_, bucket) in &self.buckets {
            let level = bucket.level_at(now);
            let comma = if levels.is_empty() { "\"" } else { ", \"" };
            for part in [
                comma,
                bucket.name(),
                "\";r=",
                digits.format(level.remaining),
            ] {
                levels.extend_from_slice(part.as_bytes());
            }
            if level.remaining == 0 {
                levels.extend_from_slice(b";t=");
                let seconds = digits.format(seconds_up(level.next_unit));
                levels.extend_from_slice(seconds.as_bytes());
            }
        }
    }

    /// Reads a little of it, so that the processor fetches it early.
    pub fn prefetch(&self) -> Option<u64> {
        self.buckets.first().map(|(_, bucket)| bucket.prefetch())
    }

    /// Every bucket, shortest window first.
    pub fn buckets(&self) -> impl Iterator<Item = &Arc<Bucket>> {
        self.buckets.iter().map(|(_, bucket)| bucket)
    }

    /// The tenant's own buckets.
    pub fn of_tenant(&self) -> impl Iterator<Item = &Arc<Bucket>> {
        let own = self
            .buckets
            .iter()
            .filter(|(by, _)| *by == LimitedBy::Tenant);
        own.map(|(_, bucket)| bucket)
    }

    /// Every bucket, and whose it is.
    pub fn all(&self) -> impl Iterator<Item = (LimitedBy, &Bucket)> {
        self.buckets.iter().map(|(by, bucket)| (*by, &**bucket))
    }

    /// The gate of the tenant's key.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Gate, breaker and then one unit of every local bucket; or nothing at all.
    ///
    /// # Errors
    ///
    /// `rate-limited` or `circuit-open`.
    pub fn try_pass(&self) -> Result<Pass, Refused> {
        self.try_pass_by(Breaker::pass)
    }

    /// The same for a call that won't be sent: it leaves the breaker's probe to others.
    ///
    /// # Errors
    ///
    /// As of [`try_pass`](Self::try_pass).
    pub fn try_pass_unsent(&self) -> Result<Pass, Refused> {
        self.try_pass_by(Breaker::pass_unsent)
    }

    fn try_pass_by(
        &self,
        breaker: impl FnOnce(&Arc<Breaker>) -> Result<Pass, Duration>,
    ) -> Result<Pass, Refused> {
        let gate = self.gate.pass();
        gate.map_err(|wait| {
            let wait = self.breaker.open_for().map_or(wait, |open| open.max(wait));
            rate_limited(LimitedBy::Upstream, None, self.longest_wait(wait, 0))
        })?;
        let pass = breaker(&self.breaker).map_err(|wait| self.circuit_open(wait))?;
        self.take_all()?;
        Ok(pass)
    }

    fn take_all(&self) -> Result<(), Refused> {
        for (at, (by, bucket)) in self.buckets.iter().enumerate() {
            let Err(wait) = bucket.take() else { continue };
            for (_, taken) in self.buckets.iter().take(at) {
                taken.give_back();
            }
            let longest = self.longest_wait(wait, at + 1);
            return Err(rate_limited(*by, Some(bucket), longest));
        }
        Ok(())
    }

    /// `wait`, or until none of the buckets from `first` on is empty: a retry passes only
    /// after all of it. They are only looked at.
    fn longest_wait(&self, wait: Duration, first: usize) -> Duration {
        let buckets = self.buckets.iter().skip(first);
        buckets
            .map(|(_, bucket)| bucket.level().next_unit)
            .fold(wait, Duration::max)
    }

    fn circuit_open(&self, wait: Duration) -> Refused {
        Refused::CircuitOpen {
            retry_after: self.longest_wait(wait, 0),
        }
    }

    /// Whether the breaker lets calls pass, or probes. It is only looked at.
    fn circuit_is_closed(&self) -> Result<(), Refused> {
        let open_for = self.breaker.open_for();
        open_for.map_or(Ok(()), |wait| Err(self.circuit_open(wait)))
    }
}

/// The refusal by one of the local limits, or by the gate, which has no bucket.
fn rate_limited(by: LimitedBy, bucket: Option<&Arc<Bucket>>, wait: Duration) -> Refused {
    Refused::RateLimited {
        by,
        policy: bucket.map(|bucket| bucket.name().to_owned()),
        retry_after: wait,
        by_store: false,
    }
}

#[cfg(test)]
mod tests;
