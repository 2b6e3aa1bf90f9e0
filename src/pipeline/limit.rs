//! Whether a call may be sent now: the tenant's calls in flight, the key's gate
//! and breaker, and then every limit of tenant and key, all or none.

mod asking;
mod breaker;
mod bucket;
mod gate;
mod in_flight;
mod replay;
mod taken;
mod wait_queue;

use std::{cell::RefCell, sync::Arc, time::Duration};

use http::HeaderValue;
use smallvec::SmallVec;
use tokio::time::Instant;

use self::taken::Taken;
pub use self::{
    asking::{Asking, Backend},
    breaker::{Breaker, BreakerState, Pass},
    bucket::{Bucket, FullAt, Level, Rule, Rules, seconds_up},
    gate::Gate,
    in_flight::{InFlight, InFlightCount},
    replay::{Replay, Spent},
    wait_queue::WaitQueue,
};
use super::{
    authorize::Permit,
    refusal::{LimitedBy, Refusal},
};
use crate::{config::settings::Mode, fleet::Client};

/// Proof that a permitted call has one of its tenant's places in flight.
#[derive(Debug)]
#[must_use]
pub struct Entered<'a> {
    permit: Permit<'a>,
    in_flight: InFlight<'a>,
}

impl<'a> Entered<'a> {
    /// What was permitted.
    pub fn permit(&self) -> &Permit<'a> {
        &self.permit
    }
}

/// Proof that a call was counted against every limit and may be sent. What it took is
/// given back if it is dropped before its intent is in the trail: only what may have been
/// sent is spent. (What a fleet counted stays counted: in its store, or in the share of
/// this gateway while the store is away.)
#[derive(Debug)]
#[must_use]
pub struct Admitted<'a> {
    permit: Permit<'a>,
    pass: Option<Pass>,
    waited: Duration,
    asked: Duration,
    backend: Backend,
    taken: Taken<'a>,
    _in_flight: InFlight<'a>,
}

impl<'a> Admitted<'a> {
    /// What was permitted.
    pub fn permit(&self) -> &Permit<'a> {
        &self.permit
    }

    /// How long the call waited for its turn.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How long it waited for the store that a fleet shares, besides.
    pub fn asked(&self) -> Duration {
        self.asked
    }

    /// Who decided.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What it took stays spent.
    pub fn spend(&mut self) {
        self.taken.keep();
    }

    /// Whether it finds out for an open breaker how the upstream is.
    pub fn is_probe(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_probe)
    }

    /// Whether gate and breaker still let it pass.
    pub fn may_go_on(&self) -> bool {
        let gate = self.permit.tenant().limits.gate();
        gate.pass().is_ok() && self.pass.as_ref().is_none_or(Pass::is_good)
    }

    /// Tells the breaker how the call went; a dry run says nothing.
    pub fn report(&mut self, health: Health) {
        match (self.pass.take(), health) {
            (Some(pass), Health::Working) => pass.worked(),
            (Some(pass), Health::Failing) => pass.failed(),
            (None, _) => {}
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

/// Takes one of the tenant's places in flight.
///
/// # Errors
///
/// `overloaded` while all are taken.
pub fn enter(permit: Permit<'_>) -> Result<Entered<'_>, Refusal> {
    let tenant = permit.tenant();
    let in_flight = tenant.lasting.in_flight.enter(tenant.in_flight_max);
    let in_flight = in_flight.ok_or(Refusal::Overloaded)?;
    Ok(Entered { permit, in_flight })
}

/// Counts a call against everything that limits it; waits for its turn as long
/// as the tenant's `wait` allows. With a `store`, what the local limits let pass is
/// decided there, within its time-out. The call came at `since`.
///
/// # Errors
///
/// `circuit-open` or `rate-limited`. A refused call has spent nothing.
pub async fn admit<'a>(
    entered: Entered<'a>,
    store: Option<&Client>,
    since: Instant,
) -> Result<Admitted<'a>, Refusal> {
    let Entered { permit, in_flight } = entered;
    let tenant = permit.tenant();
    let asking = Asking {
        limits: &tenant.limits,
        tenant: &tenant.name,
        key: tenant.key.name(),
        store,
        is_sent: tenant.mode != Mode::DryRun,
    };
    let mut asked = Duration::ZERO;
    let queue = tenant.wait_queue.as_deref();
    let passed = match queue.filter(|queue| !queue.is_empty()) {
        // Nobody overtakes those who wait.
        Some(queue) => queued(queue, asking, tenant.wait).await?,
        None => match (at_once(asking, &mut asked).await, queue) {
            (Err(refusal @ Refusal::RateLimited { .. }), Some(queue)) => {
                // Else its head, which came meanwhile, was told what it waits for.
                if queue.is_empty() {
                    queue.note(&refusal);
                }
                queued(queue, asking, tenant.wait).await?
            }
            (passed, _) => passed?,
        },
    };
    Ok(Admitted {
        taken: Taken::from(&tenant.limits, since),
        permit,
        pass: Some(passed.pass),
        waited: passed.waited,
        asked,
        backend: passed.by,
        _in_flight: in_flight,
    })
}

/// A call that all limits let pass.
struct Passed {
    pass: Pass,
    by: Backend,
    waited: Duration,
}

/// Now, or not; `asked` becomes how long the store was asked.
async fn at_once(asking: Asking<'_>, asked: &mut Duration) -> Result<Passed, Refusal> {
    let pass = asking.try_pass()?;
    let mut by = Backend::Local;
    if asking.store.is_some() {
        let began = Instant::now();
        // Boxed: without a store no call's future has the size of this.
        let decided = Box::pin(asking.go_on()).await;
        *asked = began.elapsed();
        by = decided?;
    }
    Ok(Passed {
        pass,
        by,
        waited: Duration::ZERO,
    })
}

/// Once it is its turn, if that is within `wait`.
async fn queued(queue: &WaitQueue, asking: Asking<'_>, wait: Duration) -> Result<Passed, Refusal> {
    let began = Instant::now();
    // Seldom: not part of every call's future.
    let (pass, by) = Box::pin(queue.wait(asking, began + wait)).await?;
    Ok(Passed {
        pass,
        by,
        waited: began.elapsed(),
    })
}

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

    /// See [`Tenant::prefetch`](crate::config::snapshot::Tenant::prefetch).
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
    pub fn try_pass(&self) -> Result<Pass, Refusal> {
        self.try_pass_by(Breaker::pass)
    }

    /// The same for a call that won't be sent: it leaves the breaker's probe to others.
    ///
    /// # Errors
    ///
    /// As of [`try_pass`](Self::try_pass).
    pub fn try_pass_unsent(&self) -> Result<Pass, Refusal> {
        self.try_pass_by(Breaker::pass_unsent)
    }

    fn try_pass_by(
        &self,
        breaker: impl FnOnce(&Arc<Breaker>) -> Result<Pass, Duration>,
    ) -> Result<Pass, Refusal> {
        let gate = self.gate.pass();
        gate.map_err(|wait| {
            let wait = self.breaker.open_for().map_or(wait, |open| open.max(wait));
            rate_limited(LimitedBy::Upstream, None, self.longest_wait(wait, 0))
        })?;
        let pass = breaker(&self.breaker).map_err(|wait| self.circuit_open(wait))?;
        self.take_all()?;
        Ok(pass)
    }

    fn take_all(&self) -> Result<(), Refusal> {
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

    fn circuit_open(&self, wait: Duration) -> Refusal {
        Refusal::CircuitOpen {
            retry_after: self.longest_wait(wait, 0),
        }
    }

    /// Whether the breaker lets calls pass, or probes. It is only looked at.
    fn circuit_is_closed(&self) -> Result<(), Refusal> {
        let open_for = self.breaker.open_for();
        open_for.map_or(Ok(()), |wait| Err(self.circuit_open(wait)))
    }
}

/// The refusal by one of the local limits, or by the gate, which has no bucket.
fn rate_limited(by: LimitedBy, bucket: Option<&Arc<Bucket>>, wait: Duration) -> Refusal {
    Refusal::RateLimited {
        by,
        policy: bucket.map(|bucket| bucket.name().to_owned()),
        retry_after: wait,
        by_store: false,
    }
}

#[cfg(test)]
mod tests;
