//! The whole story of a request, over small stages.
//!
//! Each stage takes the proof that the stage before it returned, and only that
//! stage can make it: a call that was not authorised can't be counted, and one
//! that was not recorded can't be sent. Stages return values; what follows from
//! them is decided here.

// What is asked for.
pub mod contract;

// Who asks, and for whom it may.
pub mod authenticate;
pub mod authorize;

// Whether it may be sent now.
pub mod body;
pub mod limit;

// What is recorded, before it is sent and after.
pub mod record;

// What is sent ...
pub mod inject;

// ... and sending it.
pub mod forward;

// What came of it.
pub mod outcome;

// What the caller gets.
pub mod refusal;
pub mod respond;

// Memory that calls use one after another.
pub mod room;

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;

use self::{
    authenticate::{Identity, Owner},
    contract::Call,
    forward::{Forwarder, RetryBudget},
    limit::Entered,
    outcome::{Attempts, Outcome},
    record::Recorded,
    refusal::Refusal,
    room::Room,
};
use crate::{
    arrival::Arrival,
    audit::{FrozenRecord, OutcomeKind, RefusedRecord, Who, WorkerTrail},
    code::Code,
    config::settings::Mode,
    fault_point::FaultPoint,
    fleet,
    limits::Limits,
    metrics::{Incident, Shard, is_failure},
    snapshot::{Snapshot, Target, Tenant},
};

/// What one worker decides and sends with.
#[derive(Debug)]
pub struct Pipeline {
    trail: WorkerTrail,
    forwarder: Forwarder,
    counts: Arc<Shard>,
    /// Where a fleet shares its limits, if it does.
    store: Option<fleet::Client>,
}

/// An answer, and what log and metrics say of it.
#[derive(Debug)]
pub struct Answer<'a> {
    /// What the caller gets.
    pub response: Response<respond::Body>,
    /// The tenant, once the token was good.
    pub tenant: Option<&'a Arc<str>>,
    /// The token's id, once the token was good.
    pub token: Option<&'a Arc<str>>,
    /// How it was answered: by the upstream, or why not.
    pub code: Code,
    /// The refusal's reason, for operators.
    pub reason: Option<String>,
    /// How the call ended, if it got as far as an intent.
    pub outcome: Option<OutcomeKind>,
    /// Whether the path was that of the one operation.
    pub is_on_route: bool,
    /// The way to the upstream, if anything was sent there.
    pub upstream: Option<Attempts>,
}

/// What is known of a request when it is refused.
#[derive(Clone, Copy, Default)]
struct Known<'c, 'a> {
    call: Option<&'c Call>,
    /// Whose token it was, good or not: the trail's alone.
    owner: Option<Owner<'a>>,
    identity: Option<Identity<'a>>,
    limits: Option<&'a Limits>,
}

impl Pipeline {
    /// A pipeline that writes to `trail`, counts in `counts` and has no upstream
    /// connection yet. `budget` is what retries are taken from, one for all pipelines;
    /// `store` is where a fleet shares its limits, if it does.
    pub fn new(
        trail: WorkerTrail,
        counts: Arc<Shard>,
        budget: Arc<RetryBudget>,
        store: Option<fleet::Client>,
    ) -> Self {
        Self {
            forwarder: Forwarder::new(trail.timers().clone(), Arc::clone(&counts), budget),
            trail,
            counts,
            store,
        }
    }

    /// Decides, records, sends and answers one request.
    pub async fn answer<'a, B>(
        &self,
        snapshot: &'a Snapshot,
        arrival: &Arrival,
        request: Request<B>,
    ) -> Answer<'a>
    where
        B: Body + Unpin,
    {
        let (head, body) = request.into_parts();
        let mut known = Known::default();
        if let Some(what) = arrival.malformed() {
            return self.refuse(arrival, known, Refusal::MalformedRequest(what));
        }
        let call = match contract::read(&head, &snapshot.upstream.settings, &snapshot.bounds) {
            Ok(call) => call,
            Err(refusal) => return self.refuse(arrival, known, refusal),
        };
        known.call = Some(&call);
        let (peer, at) = (&arrival.peer, arrival.at);
        let identity = match authenticate::identify(&head.headers, snapshot, peer, at) {
            Ok(identity) => identity,
            Err(it) => {
                known.owner = it.owner;
                return self.refuse(arrival, known, it.refusal);
            }
        };
        known.identity = Some(identity);
        known.owner = Some(identity.owner());
        let permit = match authorize::permit(identity, &call) {
            Ok(permit) => permit,
            Err(refusal) => return self.refuse(arrival, known, refusal),
        };
        known.limits = Some(&identity.tenant().limits);
        // Before the body: one tenant's slow bodies must not take everybody's places.
        let entered = match limit::enter(permit) {
            Ok(entered) => entered,
            Err(refusal) => return self.refuse(arrival, known, refusal),
        };
        // From here on nothing of the head is needed but its memory.
        let room = Room::emptied(head.headers);
        drop(head.uri);
        if let Err(refusal) = body::drop_whole(body, &snapshot.bounds, arrival).await {
            return self.refuse(arrival, known, refusal);
        }
        match self.begin(snapshot, arrival, identity, entered).await {
            Ok(begun) => {
                let settling = self.settle(snapshot, arrival, identity, begun, room);
                settling.await
            }
            Err(refusal) => self.refuse(arrival, known, refusal),
        }
    }

    /// From the limits on, until its intent is durable; for how long the limits took.
    async fn begin<'a>(
        &self,
        snapshot: &Snapshot,
        arrival: &Arrival,
        identity: Identity<'_>,
        entered: Entered<'a>,
    ) -> Result<(Recorded<'a>, Duration), Refusal> {
        let tenant = identity.tenant();
        if self.store.is_some() && !self.trail.is_writable() {
            // A store is never given anything back; local limits are.
            return Err(Refusal::AuditUnavailable);
        }
        let admitted = limit::admit(entered, self.store.as_ref(), arrival.started).await?;
        let (waited, backend) = (admitted.waited(), admitted.backend());
        let limited_for = waited + admitted.asked();
        if tenant.is_frozen() {
            // While its body came, or while it waited for its turn.
            return Err(Refusal::TenantFrozen);
        }
        self.counts.admitted(&tenant.counts, waited, backend);
        FaultPoint::Admitted.reach();
        let (trail, counts) = (&self.trail, &self.counts);
        let recorded = record::intent(admitted, trail, counts, arrival, &snapshot.digest).await?;
        FaultPoint::IntentDurable.reach();
        Ok((recorded, limited_for))
    }

    /// From the intent on: what is sent and what came of it. It refuses nothing, since an
    /// intent always gets its outcome.
    async fn settle<'a>(
        &self,
        snapshot: &Snapshot,
        arrival: &Arrival,
        identity: Identity<'a>,
        (mut recorded, limited_for): (Recorded<'_>, Duration),
        room: Room,
    ) -> Answer<'a> {
        let tenant = identity.tenant();
        let outcome = match tenant.mode {
            Mode::DryRun => Outcome::dry_run(),
            // A slow disk leaves much time for a freeze.
            _ if tenant.is_frozen() => Outcome::frozen(),
            _ => self.send(&recorded, &snapshot.upstream, arrival).await,
        };
        if outcome.kind().is_deletion() {
            // Before the outcome: a crossing call is answered once the freeze is durable.
            let credential = recorded.permit().call().credential();
            let record = |record: FrozenRecord<'_>| self.trail.frozen(&record);
            snapshot
                .containment()
                .count(tenant.contained(), credential, record);
        }
        FaultPoint::AnswerRead.reach();
        if let Some(span) = outcome.upstream_asks_to_wait() {
            tenant.limits.gate().close_for(span);
        }
        if let Some(health) = outcome.health() {
            recorded.report(health);
        }
        let (status, code) = (respond::status_of_outcome(&outcome), outcome.code());
        let seen = (status, code);
        let written = record::outcome(recorded, &self.trail, arrival, &outcome, seen).await;
        FaultPoint::OutcomeDurable.reach();
        let now = Instant::now();
        let took = now.duration_since(arrival.started);
        let own = took.saturating_sub(limited_for + outcome.took());
        self.counts.overhead(own);
        self.note(arrival, Some(tenant), seen, took);
        let response = respond::outcome(arrival, &outcome, written, (&tenant.limits, now), room);
        FaultPoint::AnswerMade.reach();
        Answer {
            response,
            tenant: Some(&tenant.name),
            token: Some(&identity.token().id),
            code,
            reason: None,
            outcome: Some(outcome.kind()),
            is_on_route: true,
            upstream: outcome.into_upstream(),
        }
    }

    /// Sends the call; once more with the next key if the upstream refuses the
    /// one in use, and there is one.
    async fn send(
        &self,
        recorded: &Recorded<'_>,
        target: &Arc<Target>,
        arrival: &Arrival,
    ) -> Outcome {
        let keys = &recorded.permit().tenant().key;
        let began = Instant::now();
        let retries = target.settings.retries;
        let key = Arc::clone(keys.current());
        let request = inject::request(recorded, &key, target, arrival);
        FaultPoint::RequestBuilt.reach();
        if recorded.is_probe() {
            // A connection from before would say how that one is.
            self.forwarder.distrust(target, began);
        }
        let outcome = self
            .forwarder
            .send(&request, target, recorded, began, began, retries)
            .await;
        if !outcome.is_clean_refusal_of_the_key() {
            return outcome;
        }
        let Some(moved) = keys.move_on(&key) else {
            return outcome;
        };
        if moved.is_new {
            self.trail.key_rotated(&key, &moved.key, "upstream-401");
            tracing::warn!(
                key = keys.name(),
                fingerprint = moved.key.fingerprint(),
                "the upstream refused the key in use: the next one is used from now on"
            );
        }
        // The next key is in use now, also where this call may not be sent again.
        let made = u32::try_from(outcome.attempts().len()).unwrap_or(u32::MAX);
        if made > retries || !recorded.may_be_sent_again() {
            return outcome;
        }
        let request = inject::request(recorded, &moved.key, target, arrival);
        self.counts.retried_with_the_next_key();
        // Seldom: not part of every call's future.
        let now = Instant::now();
        let sending = Box::pin(
            self.forwarder
                .send(&request, target, recorded, began, now, 0),
        );
        outcome.followed_by(sending.await)
    }

    /// Records a refusal, without waiting for it, and answers.
    fn refuse<'a>(&self, arrival: &Arrival, known: Known<'_, 'a>, refusal: Refusal) -> Answer<'a> {
        let tenant = known.identity.map(|identity| identity.tenant());
        let token = known.identity.map(|identity| identity.token());
        let code = refusal.code();
        let status = respond::status_of(code).unwrap_or_default();
        self.trail.refused(RefusedRecord {
            request_id: arrival.request_id,
            caller_request_id: arrival.caller_request_id(),
            who: known.identity.map_or(Who::Stranger, |_| Who::Tenant),
            tenant: known.owner.map(|owner| owner.tenant().name.as_ref()),
            token: known.owner.map(|owner| owner.token().id.as_ref()),
            user: known.call.map(|call| call.user().as_str()),
            credential: known.call.map(|call| call.credential().as_str()),
            code: code.as_str(),
            reason: refusal.reason(),
            status,
            peer: arrival.peer_text(),
        });
        self.note(arrival, tenant, (status, code), arrival.started.elapsed());
        let counts = tenant.map(|tenant| &tenant.counts);
        match refusal {
            Refusal::Unauthenticated(why) => self.counts.auth_failed(why),
            Refusal::RateLimited { by, by_store, .. } => {
                self.counts.limited(counts, by, by_store);
            }
            _ => {}
        }
        Answer {
            response: respond::refusal(arrival, &refusal, known.limits),
            tenant: tenant.map(|tenant| &tenant.name),
            token: token.map(|token| &token.id),
            code,
            reason: refusal.reason().map(ToOwned::to_owned),
            outcome: None,
            is_on_route: known.call.is_some(),
            upstream: None,
        }
    }

    /// Counts an answer; keeps it for people who look, unless all went as it should.
    fn note(
        &self,
        arrival: &Arrival,
        tenant: Option<&Tenant>,
        (status, code): (u16, Code),
        took: Duration,
    ) {
        let counts = tenant.map(|tenant| &tenant.counts);
        self.counts.answered(counts, code, status, took);
        let is_expected = matches!(code, Code::PassedOn | Code::DryRun);
        if !is_expected || is_failure(code, status) {
            self.counts.keep(Incident {
                at: arrival.started,
                tenant: tenant.map(|tenant| Arc::clone(&tenant.name)),
                code,
                status,
                request_id: arrival.request_id,
            });
        }
    }

    /// Answers a request that never came to a decision: the gateway is stopping
    /// or overloaded, or a bug was caught.
    pub fn refuse_unread(&self, arrival: &Arrival, refusal: Refusal) -> Answer<'static> {
        self.refuse(arrival, Known::default(), refusal)
    }

    /// Closes upstream connections that stood unused for too long.
    pub fn sweep(&self) {
        self.forwarder.sweep();
    }
}

#[cfg(test)]
mod tests;
