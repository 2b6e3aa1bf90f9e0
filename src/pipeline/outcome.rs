//! How a call ended: the strongest of what its attempts showed.

mod answer;
mod attempt;
mod success;

use std::time::Duration;

use tokio::time::Instant;

pub use self::{
    answer::UpstreamAnswer,
    attempt::{Attempt, AttemptEnd},
};
use crate::{
    audit::{OutcomeKind, Sent},
    code::Code,
    limits::Health,
};

/// The largest upstream body that is passed on, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

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
pub struct Attempts {
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
    /// Nothing was sent: the tenant was frozen while the intent was written, or while a
    /// connection was made.
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

impl Failure {
    /// The stable name that callers, trail and metrics see.
    pub fn code(self) -> Code {
        match self {
            Self::DryRun => Code::DryRun,
            Self::Frozen => Code::TenantFrozen,
            Self::Unreachable => Code::UpstreamUnreachable,
            Self::Timeout => Code::UpstreamTimeout,
            Self::Reset => Code::UpstreamReset,
            Self::Protocol => Code::UpstreamProtocol,
            Self::RejectedKey => Code::UpstreamRejectedKey,
        }
    }
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
            Err(failure) => failure.code(),
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
    pub fn into_upstream(self) -> Option<Attempts> {
        let began = self.began?;
        Some(Attempts {
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
        // Whether or not it can be passed on.
        let is_429 = |attempt: &&Attempt| attempt.status() == Some(429);
        let attempt = self.attempts.iter().rev().find(is_429)?;
        Some(attempt.asks_to_wait.unwrap_or(Duration::from_secs(1)))
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

    /// Of a call whose first attempt began at `began`.
    pub(in crate::pipeline) fn of(
        began: Instant,
        attempts: Vec<Attempt>,
        furthest: Furthest,
    ) -> Self {
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
pub(in crate::pipeline) struct Furthest {
    sent: Sent,
    result: Result<Box<UpstreamAnswer>, Failure>,
}

impl Furthest {
    /// Before any attempt.
    pub(in crate::pipeline) fn none() -> Self {
        Self {
            sent: Sent::No,
            result: Err(Failure::Unreachable),
        }
    }

    /// How far it got.
    pub(in crate::pipeline) fn sent(&self) -> Sent {
        self.sent
    }

    /// The same after one more attempt.
    pub(in crate::pipeline) fn or(
        self,
        sent: Sent,
        result: Result<Box<UpstreamAnswer>, Failure>,
    ) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: AttemptEnd, sent: Sent, kind: OutcomeKind, failure: Failure) -> Outcome {
        let attempt = Attempt {
            end,
            sent,
            kind,
            failure: Some(failure),
            asks_to_wait: None,
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
