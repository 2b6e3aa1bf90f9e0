//! The two records around a call's effect: [`Admitted`] → [`Recorded`] before
//! anything is sent, and the outcome before the answer.

use tokio::time::Instant;

use super::{authorize::Permit, limit::Admitted, outcome::Outcome, refusal::Refusal};
use crate::{
    arrival::Arrival,
    audit::{Intent, IntentRecord, OutcomeRecord, OutcomeWritten, WorkerTrail},
    code::Code,
    limits::Health,
    metrics::{OpenCall, Shard},
};

/// Proof that the trail durably holds the intent to carry out an admitted call.
#[derive(Debug)]
#[must_use]
pub struct Recorded<'a> {
    admitted: Admitted<'a>,
    intent: Intent,
    counted: OpenCall<'a>,
}

impl<'a> Recorded<'a> {
    /// What was permitted.
    pub fn permit(&self) -> &Permit<'a> {
        self.admitted.permit()
    }

    /// Whether the call finds out for an open breaker how the upstream is.
    pub fn is_probe(&self) -> bool {
        self.admitted.is_probe()
    }

    /// Whether it may be sent once more: the tenant is not frozen, and no other call closed
    /// the key's gate or opened its breaker meanwhile.
    pub fn may_be_sent_again(&self) -> bool {
        !self.permit().tenant().is_frozen() && self.admitted.may_go_on()
    }

    /// Tells the key's breaker what the call showed of the upstream's health.
    pub fn report(&mut self, health: Health) {
        self.admitted.report(health);
    }
}

/// Writes down what is about to happen, and counts it in `counts` once it has ended.
///
/// # Errors
///
/// `audit-unavailable` if the trail can't be written; then nothing may be sent.
pub async fn intent<'a>(
    mut admitted: Admitted<'a>,
    trail: &WorkerTrail,
    counts: &Shard,
    arrival: &Arrival,
    config: &str,
) -> Result<Recorded<'a>, Refusal> {
    let permit = admitted.permit();
    // From here on the intent may be on disk: a caller that hangs up must not
    // cut the work any more.
    arrival.commit();
    let written = trail.intent(IntentRecord {
        request_id: arrival.request_id,
        caller_request_id: arrival.caller_request_id(),
        tenant: &permit.tenant().name,
        token: &permit.token().id,
        peer: arrival.peer_text(),
        user: permit.call().user().as_str(),
        credential: permit.call().credential().as_str(),
        config,
    });
    match written.await {
        Ok(intent) => {
            admitted.spend();
            let counted = counts.begun(&admitted.permit().tenant().counts);
            Ok(Recorded {
                admitted,
                intent,
                counted,
            })
        }
        Err(_) => {
            arrival.conclude();
            Err(Refusal::AuditUnavailable)
        }
    }
}

/// Writes down how the call ended; `status` and `code` are what the caller will see.
/// Whether it is durable already is part of the answer.
pub async fn outcome(
    recorded: Recorded<'_>,
    trail: &WorkerTrail,
    arrival: &Arrival,
    outcome: &Outcome,
    (status, code): (u16, Code),
) -> OutcomeWritten {
    recorded.counted.ended(outcome.kind());
    let attempts = outcome.attempts();
    // The clock was read when the last attempt ended.
    let ended = outcome.ended().unwrap_or_else(Instant::now);
    let latency = ended.saturating_duration_since(arrival.started);
    let upstream_status = outcome.upstream_status();
    // Where one attempt was answered, its status says it all.
    let told: &[_] = match (attempts, upstream_status) {
        ([_], Some(_)) => &[],
        _ => attempts,
    };
    let ends: Vec<_> = told.iter().map(|attempt| attempt.end.as_str()).collect();
    let ends: Vec<_> = ends.iter().map(AsRef::as_ref).collect();
    trail
        .outcome(
            recorded.intent,
            OutcomeRecord {
                outcome: outcome.kind(),
                status,
                code: code.of_refusal(),
                upstream_status,
                attempts: u32::try_from(attempts.len()).unwrap_or(u32::MAX),
                attempt_ends: &ends,
                sent: outcome.sent(),
                latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
            },
        )
        .await
}
