//! The upstream request → [`Outcome`]: attempts, within one deadline.
//!
//! Every end is an outcome. What may be tried again is decided here and nowhere
//! else: as often as `retries` allows while nothing was written, and at most
//! once after something was, since DELETE is idempotent (RFC 9110 §9.2.2).

mod answer;
mod attempt;
mod chunks;
mod connection;
mod look_up;
mod pool;
mod probe;
mod reply;
mod success;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep_until};
use tower::retry::budget::{Budget, TpsBudget};

pub use self::{
    answer::UpstreamAnswer,
    attempt::{Attempt, AttemptEnd},
    pool::Pool,
    probe::{Reached, probe},
};
use super::{code::Code, inject::UpstreamRequest, limit::Health, refusal::Refusal};
use crate::{
    audit::{OutcomeKind, Sent},
    config::snapshot::{Target, Tenant},
    key_ring::{KeyRing, Share},
    metrics::Shard,
    timers::Timers,
};

/// The largest upstream body that is passed on, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The pause before the first retry; doubled for each further one, and jittered.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The longest wait that an upstream is taken at its word for: no call lives longer.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// How a call ended that was to be sent.
#[derive(Debug)]
pub struct Outcome {
    result: Result<Box<UpstreamAnswer>, Failure>,
    attempts: Vec<Attempt>,
    kind: OutcomeKind,
    sent: Sent,
    began: Option<Instant>,
}

/// The way to the upstream, for log and traces.
#[derive(Debug)]
pub struct Upstream {
    /// When it began.
    pub began: Instant,
    /// How long all of it took, with the pauses between attempts.
    pub took: Duration,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
}

/// Why there is no upstream answer to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was sent: the tenant is in dry-run mode.
    DryRun,
    /// Nothing was sent: the tenant was frozen while the intent was written.
    Frozen,
    /// Nothing was written.
    Unreachable,
    /// No answer in time, after something was written.
    Timeout,
    /// The connection broke after something was written.
    Reset,
    /// An answer that can't be passed on.
    Protocol,
    /// The upstream refused our key.
    RejectedKey,
}

impl Outcome {
    /// The outcome of a call that is not sent because of the tenant's mode.
    pub fn dry_run() -> Self {
        Self {
            result: Err(Failure::DryRun),
            attempts: Vec::new(),
            kind: OutcomeKind::DryRun,
            sent: Sent::No,
            began: None,
        }
    }

    /// The outcome of a call whose tenant was frozen before anything was sent.
    pub fn frozen() -> Self {
        Self {
            result: Err(Failure::Frozen),
            kind: OutcomeKind::Failed,
            ..Self::dry_run()
        }
    }

    /// The answer to pass on, or why there is none.
    pub fn result(&self) -> Result<&UpstreamAnswer, Failure> {
        self.result.as_deref().map_err(|failure| *failure)
    }

    /// Every attempt, in order.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// What is known of the credential, over all attempts.
    pub fn kind(&self) -> OutcomeKind {
        self.kind
    }

    /// Whether a DELETE may have reached the upstream: the strongest over all attempts.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// How long all attempts took, the pauses between them included.
    pub fn took(&self) -> Duration {
        let last = self.attempts.last();
        last.map_or(Duration::ZERO, |last| last.after + last.took)
    }

    /// What the caller's answer counts as.
    pub fn code(&self) -> Code {
        match self.result() {
            Ok(_) => Code::PassedOn,
            Err(failure) => Refusal::from(failure).code(),
        }
    }

    /// The status of the last upstream answer, passed on or not.
    pub fn upstream_status(&self) -> Option<u16> {
        self.attempts.iter().rev().find_map(Attempt::status)
    }

    /// When the last attempt ended, if anything was to be sent.
    pub fn ended(&self) -> Option<Instant> {
        Some(self.began? + self.took())
    }

    /// The way to the upstream, if there was one.
    pub fn into_upstream(self) -> Option<Upstream> {
        let began = self.began?;
        Some(Upstream {
            began,
            took: self.took(),
            attempts: self.attempts,
        })
    }

    /// What the last attempt showed of the upstream's health, if anything.
    pub fn health(&self) -> Option<Health> {
        self.attempts.last()?.health()
    }

    /// A 404 after an attempt of unknown end: probably our own doing.
    pub fn is_gone_after_retry(&self) -> bool {
        let answered_404 = self.result().is_ok_and(|answer| answer.status == 404);
        answered_404 && self.kind == OutcomeKind::InDoubt
    }

    /// How long the upstream's own 429 asks everyone with this key to wait
    /// (RFC 9110 §10.2.3: seconds or a date); one second if it doesn't say.
    pub fn upstream_asks_to_wait(&self) -> Option<Duration> {
        let answer = self
            .result
            .as_ref()
            .ok()
            .filter(|answer| answer.status == 429)?;
        Some(asked_to_wait(answer).unwrap_or(Duration::from_secs(1)))
    }

    /// Whether the upstream refused the key, and nothing else happened.
    pub fn is_clean_refusal_of_the_key(&self) -> bool {
        let is_refusal = |attempt: &Attempt| attempt.failure == Some(Failure::RejectedKey);
        self.attempts.last().is_some_and(is_refusal) && self.kind == OutcomeKind::NotDeleted
    }

    /// The outcome of this clean refusal of a key and, with the next one, `later`.
    pub fn followed_by(self, later: Self) -> Self {
        let attempts: Vec<_> = self.attempts.into_iter().chain(later.attempts).collect();
        Self {
            kind: strongest(&attempts),
            sent: self.sent.max(later.sent),
            began: self.began,
            attempts,
            // That the old key is refused is known; what came of sending the call again
            // is not, if it was sent again.
            result: match later.sent {
                Sent::No => self.result,
                _ => later.result,
            },
        }
    }

    fn of(began: Instant, attempts: Vec<Attempt>, furthest: Furthest) -> Self {
        Self {
            result: furthest.result,
            kind: strongest(&attempts),
            attempts,
            sent: furthest.sent,
            began: Some(began),
        }
    }
}

/// The attempt that got furthest speaks for the call, the latest among equals.
#[derive(Debug)]
struct Furthest {
    sent: Sent,
    result: Result<Box<UpstreamAnswer>, Failure>,
}

impl Furthest {
    /// Before any attempt.
    fn none() -> Self {
        Self {
            sent: Sent::No,
            result: Err(Failure::Unreachable),
        }
    }

    fn or(self, sent: Sent, result: Result<Box<UpstreamAnswer>, Failure>) -> Self {
        match sent >= self.sent {
            true => Self { sent, result },
            false => self,
        }
    }
}

/// What is known after all of these attempts.
fn strongest(attempts: &[Attempt]) -> OutcomeKind {
    let is_there = |kind: &OutcomeKind| attempts.iter().any(|attempt| attempt.kind == *kind);
    [
        OutcomeKind::Deleted,
        OutcomeKind::InDoubt,
        OutcomeKind::NotDeleted,
    ]
    .into_iter()
    .find(is_there)
    .unwrap_or(OutcomeKind::Failed)
}

/// One worker's way to the upstream.
#[derive(Debug)]
pub struct Forwarder {
    pool: Pool,
    timers: Timers,
    budget: TpsBudget,
    counts: Arc<Shard>,
}

impl Forwarder {
    /// A way to the upstream without a connection yet; counts in `counts`.
    pub fn new(timers: Timers, counts: Arc<Shard>) -> Self {
        Self {
            counts,
            pool: Pool::default(),
            timers,
            // At most a fifth of the calls of the last ten seconds, and one a
            // second for a gateway that has little to do.
            budget: TpsBudget::new(Duration::from_secs(10), 1, 0.2),
        }
    }

    /// Sends `request` and reads the answer, all within the upstream's time-out and with
    /// at most `retries` further attempts. `began` is when the first attempt of the call
    /// began, with whichever key; `at` is the time now.
    /// No answer passes that holds one of the tenant's keys. Once the tenant is frozen,
    /// nothing more is sent.
    pub async fn send(
        &self,
        request: &UpstreamRequest<'_>,
        target: &Arc<Target>,
        tenant: &Tenant,
        began: Instant,
        mut at: Instant,
        retries: u32,
    ) -> Outcome {
        let keys = &*tenant.key;
        let deadline = began + target.settings.request_timeout;
        self.budget.deposit();
        let (mut attempts, mut furthest) = (Vec::with_capacity(1), Furthest::none());
        loop {
            let (now, ended) = self.exchange(request, target, at, deadline).await;
            let (mut attempt, result) = attempt::judged(ended, keys);
            attempt.after = at.duration_since(began);
            attempt.took = now.duration_since(at);
            let pause = pause_before_retry(&attempts, &attempt, &result, retries);
            let next = pause.map(|pause| now + pause);
            let next = next.filter(|next| *next < deadline && self.may_retry());
            let ended = attempt.end.counted();
            self.counts.attempted(ended, attempt.took);
            furthest = furthest.or(attempt.sent, result);
            attempts.push(attempt);
            let is_tried_again = match next {
                None => false,
                Some(next) => {
                    at = next;
                    sleep_until(at).await;
                    !tenant.is_frozen()
                }
            };
            if let Some(attempt) = attempts.last() {
                note_of_key(attempt, request, keys);
                log_attempt(attempt, request, is_tried_again);
            }
            if !is_tried_again {
                break;
            }
            self.counts.retried(ended);
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

    /// Closes connections that stood unused for too long.
    pub fn sweep(&self) {
        self.pool.sweep();
    }
}

/// How long to wait before another attempt, if there may be one.
fn pause_before_retry(
    earlier: &[Attempt],
    attempt: &Attempt,
    result: &Result<Box<UpstreamAnswer>, Failure>,
    retries: u32,
) -> Option<Duration> {
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
            let asked = result.as_deref().ok().and_then(asked_to_wait);
            let back_off = back_off();
            Some(asked.map_or(back_off, |asked| asked.max(back_off)))
        }
        AttemptEnd::Status(_) | AttemptEnd::Timeout | AttemptEnd::Protocol(_) => None,
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

/// What `Retry-After` asks for; never more than can be added to any clock.
fn asked_to_wait(answer: &UpstreamAnswer) -> Option<Duration> {
    let text = answer.retry_after()?.to_str().ok()?.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .unwrap_or_default(),
    };
    Some(asked.min(ASKED_MAX))
}

/// Notes what an attempt says of the key, and tells operators if that is news.
fn note_of_key(attempt: &Attempt, request: &UpstreamRequest<'_>, keys: &KeyRing) {
    match attempt.status().and_then(|status| keys.answered(status)) {
        None => {}
        Some(Share::Unusual) => tracing::warn!(
            key = keys.name(),
            fingerprint = request.key_fingerprint(),
            "more than half of the last answers to this key are 404: likely it is a key of the wrong environment, which knows none of these users; else callers delete what is gone already. Compare the key with the one of that environment"
        ),
        Some(Share::Usual) => tracing::info!(
            key = keys.name(),
            "fewer than a quarter of the last answers to this key are 404 again"
        ),
    }
    if attempt.failure == Some(Failure::RejectedKey) {
        keys.refused();
        tracing::error!(
            key = keys.name(),
            fingerprint = request.key_fingerprint(),
            "the upstream refused the key: check that it is current and of the right environment"
        );
    }
}

/// An attempt that another one follows is told only to who looks closely: an upstream
/// that is down would else take several lines a call.
fn log_attempt(attempt: &Attempt, request: &UpstreamRequest<'_>, is_tried_again: bool) {
    match (&attempt.end, attempt.failure) {
        // Told where the key is noted.
        (_, Some(Failure::RejectedKey)) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: AttemptEnd, sent: Sent, kind: OutcomeKind, failure: Failure) -> Outcome {
        let attempt = Attempt {
            end,
            sent,
            kind,
            failure: Some(failure),
            detail: "".into(),
            after: Duration::ZERO,
            took: Duration::ZERO,
        };
        let furthest = Furthest {
            sent,
            result: Err(failure),
        };
        Outcome::of(Instant::now(), vec![attempt], furthest)
    }

    /// What the next key comes to counts only if the call was sent with it.
    #[test]
    fn after_a_refused_key_what_was_sent_again_speaks_for_the_call() {
        let refused = || {
            let end = AttemptEnd::Status(401);
            ended(
                end,
                Sent::Yes,
                OutcomeKind::NotDeleted,
                Failure::RejectedKey,
            )
        };
        assert!(refused().is_clean_refusal_of_the_key());
        let timed_out = ended(
            AttemptEnd::Timeout,
            Sent::Unknown,
            OutcomeKind::InDoubt,
            Failure::Timeout,
        );
        let call = refused().followed_by(timed_out);
        assert_eq!(call.result().unwrap_err(), Failure::Timeout);
        assert_eq!(
            (call.sent(), call.kind()),
            (Sent::Yes, OutcomeKind::InDoubt)
        );
        let not_sent = ended(
            AttemptEnd::Connect,
            Sent::No,
            OutcomeKind::Failed,
            Failure::Unreachable,
        );
        let call = refused().followed_by(not_sent);
        assert_eq!(call.result().unwrap_err(), Failure::RejectedKey);
        assert_eq!(
            (call.sent(), call.kind()),
            (Sent::Yes, OutcomeKind::NotDeleted)
        );
    }
}
