//! Whether a call may be sent now: the tenant's calls in flight, the key's gate
//! and breaker, and then every limit of tenant and key, all or none.

use std::time::Duration;

use tokio::time::Instant;

use super::{authorize::Permit, refusal::Refusal};
use crate::{
    config::settings::Mode,
    fleet::Client,
    limits::{Asking, Backend, Health, InFlight, Pass, Refused, Taken, WaitQueue},
};

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
            (Err(refused @ Refused::RateLimited { .. }), Some(queue)) => {
                // Else its head, which came meanwhile, was told what it waits for.
                if queue.is_empty() {
                    queue.note(&refused);
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
async fn at_once(asking: Asking<'_>, asked: &mut Duration) -> Result<Passed, Refused> {
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
async fn queued(queue: &WaitQueue, asking: Asking<'_>, wait: Duration) -> Result<Passed, Refused> {
    let began = Instant::now();
    // Seldom: not part of every call's future.
    let (pass, by) = Box::pin(queue.wait(asking, began + wait)).await?;
    Ok(Passed {
        pass,
        by,
        waited: began.elapsed(),
    })
}
