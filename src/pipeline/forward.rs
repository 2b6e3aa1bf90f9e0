//! The upstream request → [`Outcome`]: attempts, within one deadline.
//!
//! Every end is an outcome. What may be tried again is decided here and nowhere
//! else: as often as `retries` allows while nothing was written, and at most
//! once after something was, since DELETE is idempotent (RFC 9110 §9.2.2).

mod chunks;
mod connect_error;
mod connection;
mod exchange;
mod look_up;
mod pool;
mod probe;
mod reply;
mod retry_budget;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tower::retry::budget::Budget;

use self::exchange::Connections;
pub use self::{
    pool::Pool,
    probe::{Reached, probe},
    retry_budget::RetryBudget,
};
use super::{
    inject::UpstreamRequest,
    outcome::{Attempt, AttemptEnd, Failure, Furthest, Outcome},
    record::Recorded,
};
use crate::{
    audit::Sent,
    key_ring::{KeyRing, Share},
    metrics::Shard,
    snapshot::Target,
    timers::Timers,
};

/// The pause before the first retry; doubled for each further one, and jittered.
const BACK_OFF: Duration = Duration::from_millis(50);

/// One worker's way to the upstream.
#[derive(Debug)]
pub struct Forwarder {
    pool: Pool,
    timers: Timers,
    budget: Arc<RetryBudget>,
    counts: Arc<Shard>,
}

impl Forwarder {
    /// A way to the upstream without a connection yet; counts in `counts`, and takes its
    /// retries from `budget`, which all workers share.
    pub fn new(timers: Timers, counts: Arc<Shard>, budget: Arc<RetryBudget>) -> Self {
        Self {
            counts,
            pool: Pool::default(),
            timers,
            budget,
        }
    }

    /// Sends `request` and reads the answer, all within the upstream's time-out and with
    /// at most `retries` further attempts. `began` is when the first attempt of the call
    /// began, with whichever key; `at` is the time now.
    /// No answer passes that holds one of the tenant's keys. Once the tenant is frozen, or
    /// another call closed the key's gate or opened its breaker, no retry is begun; one
    /// that is connecting by then is still sent, unless the tenant was frozen.
    pub async fn send(
        &self,
        request: &UpstreamRequest<'_>,
        target: &Arc<Target>,
        recorded: &Recorded<'_>,
        began: Instant,
        mut at: Instant,
        retries: u32,
    ) -> Outcome {
        let tenant = recorded.permit().tenant();
        let keys = &*tenant.key;
        let deadline = began + target.settings.request_timeout;
        self.budget.deposit_at(at);
        let (mut attempts, mut furthest) = (Vec::with_capacity(1), Furthest::none());
        loop {
            // A second attempt that may have been carried out is the last one: it is not
            // spent on a connection that may be as dead as the first one's.
            let connections = match furthest.sent() {
                Sent::No => Connections::Any,
                Sent::Unknown | Sent::Yes => Connections::New,
            };
            let exchange = self.exchange(request, target, tenant, at, deadline, connections);
            let (now, ended) = exchange.await;
            let (mut attempt, result) = exchange::judged(ended, keys);
            attempt.after = at.duration_since(began);
            attempt.took = now.duration_since(at);
            let pause = pause_before_retry(&attempts, &attempt, retries);
            let next = pause.map(|pause| now + pause);
            // Asked here, too: what is not sent takes nothing of the others' budget.
            let next = next.filter(|next| {
                *next < deadline && recorded.may_be_sent_again() && self.may_retry()
            });
            let counted = attempt.end.counted();
            if let Some(ended) = counted {
                self.counts.attempted(ended, attempt.took);
            }
            furthest = furthest.or(attempt.sent, result);
            attempts.push(attempt);
            let is_tried_again = match next {
                None => false,
                Some(next) => {
                    at = next;
                    sleep_until(at).await;
                    recorded.may_be_sent_again()
                }
            };
            if let Some(attempt) = attempts.last() {
                note_of_key(attempt, request, keys);
                log_attempt(attempt, request, is_tried_again);
            }
            if !is_tried_again {
                break;
            }
            if let Some(after) = counted {
                self.counts.retried(after);
            }
        }
        Outcome::of(began, attempts, furthest)
    }

    /// Takes one of the retries that all calls have in common.
    fn may_retry(&self) -> bool {
        let may = self.budget.withdraw();
        if !may {
            self.counts.retry_budget_exhausted();
        }
        may
    }

    /// Closes the connections to `target` that are unused since before `time`.
    pub fn distrust(&self, target: &Arc<Target>, time: Instant) {
        self.pool.distrust(target, time);
    }

    /// Closes connections that stood unused for too long.
    pub fn sweep(&self) {
        self.pool.sweep();
    }
}

/// How long to wait before another attempt, if there may be one.
fn pause_before_retry(earlier: &[Attempt], attempt: &Attempt, retries: u32) -> Option<Duration> {
    let made = u32::try_from(earlier.len()).unwrap_or(u32::MAX);
    if made >= retries || earlier.iter().any(|a| a.sent != Sent::No) {
        return None;
    }
    let back_off = || jittered(BACK_OFF.saturating_mul(1 << made.min(6)));
    match attempt.end {
        AttemptEnd::Closed => Some(Duration::ZERO),
        AttemptEnd::Dns
        | AttemptEnd::Connect
        | AttemptEnd::Tls
        | AttemptEnd::ConnectTimeout
        | AttemptEnd::Reset => Some(back_off()),
        AttemptEnd::Status(502..=504) => {
            let back_off = back_off();
            let asked = attempt.asks_to_wait;
            Some(asked.map_or(back_off, |asked| asked.max(back_off)))
        }
        AttemptEnd::Status(_)
        | AttemptEnd::Frozen
        | AttemptEnd::Timeout
        | AttemptEnd::Protocol(_) => None,
    }
}

/// Between half and one and a half times `span`, so that callers who failed
/// together do not come back together.
fn jittered(span: Duration) -> Duration {
    let mut random = [0];
    // Without random numbers the pause is merely not jittered.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let [random] = random;
    span / 2 + span * u32::from(random) / 256
}

/// Notes what an attempt says of the key, and tells operators if that is news.
fn note_of_key(attempt: &Attempt, request: &UpstreamRequest<'_>, keys: &KeyRing) {
    let fingerprint = request.key_fingerprint();
    let status = attempt.status();
    match status.and_then(|status| keys.answered(fingerprint, status)) {
        None => {}
        Some(Share::Unusual) => tracing::warn!(
            key = keys.name(),
            fingerprint,
            "more than half of the last answers to this key are 404: likely it is a key of the wrong environment, which knows none of these users; else callers delete what is gone already. Compare the key with the one of that environment"
        ),
        Some(Share::Usual) => tracing::info!(
            key = keys.name(),
            "fewer than a quarter of the last answers to this key are 404 again"
        ),
    }
    if attempt.failure == Some(Failure::RejectedKey) {
        keys.refused(fingerprint);
        tracing::error!(
            key = keys.name(),
            fingerprint,
            "the upstream refused the key: check that it is current and of the right environment"
        );
    }
}

/// An attempt that another one follows is told only to who looks closely: an upstream
/// that is down would else take several lines a call.
fn log_attempt(attempt: &Attempt, request: &UpstreamRequest<'_>, is_tried_again: bool) {
    match (&attempt.end, attempt.failure) {
        // Told where the key is noted, and where the tenant is frozen.
        (_, Some(Failure::RejectedKey | Failure::Frozen)) => {}
        (end, Some(_)) if is_tried_again => {
            tracing::debug!(request.id = %request.id(), end = %end.as_str(), detail = %attempt.detail, "an attempt to reach the upstream failed; there will be another");
        }
        (end, Some(_)) => {
            tracing::warn!(request.id = %request.id(), end = %end.as_str(), detail = %attempt.detail, "an attempt to reach the upstream failed; the outcome of its call says what became of it")
        }
        (end, None) => {
            tracing::debug!(request.id = %request.id(), end = %end.as_str(), "upstream attempt answered");
        }
    }
}
