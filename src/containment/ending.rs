//! How a freeze ends: it is claimed, its end goes to the trail, and once that is
//! durable it takes effect. Whoever ends one, here or elsewhere in the fleet, does it so.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinHandle;

use super::{Containment, Freeze, Scope};
use crate::audit::Trail;

/// The ids of freezes that are being ended.
pub(super) type Claimed = Arc<Mutex<BTreeSet<Box<str>>>>;

/// The right to end a freeze: until this is dropped, nobody else ends it.
#[derive(Debug)]
pub struct Ending {
    claimed: Claimed,
    id: Box<str>,
}

/// Why a freeze was not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unended {
    /// Another one stands in its place by now.
    FrozenAgain,
    /// The trail can't be written.
    Unwritten,
}

impl Ending {
    pub(super) fn claim(claimed: &Claimed, id: &str) -> Option<Self> {
        let is_first = claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.into());
        is_first.then(|| Self {
            claimed: Arc::clone(claimed),
            id: id.into(),
        })
    }

    /// Ends the freeze; `end` says who did it and why. The record is handed over before
    /// this returns, and what is in the trail takes effect, whether somebody waits for
    /// that or not.
    ///
    /// # Errors
    ///
    /// If another freeze stands by now, or the trail can't be written.
    pub fn carry_out(
        self,
        containment: &Arc<Containment>,
        trail: &Trail,
        scope: Scope<'_>,
        end: Freeze,
    ) -> Result<JoinHandle<Result<(), Unended>>, Unended> {
        let promised = containment
            .thaw(scope, |now| {
                (now.id == self.id).then(|| trail.thawed(&end.record(scope)))
            })
            .flatten()
            .ok_or(Unended::FrozenAgain)?
            .map_err(|_| Unended::Unwritten)?;
        let containment = Arc::clone(containment);
        let tenant: Option<Box<str>> = scope.tenant().map(Into::into);
        Ok(tokio::spawn(async move {
            let written = promised.durable().await;
            written.map_err(|_| Unended::Unwritten)?;
            let scope = tenant.as_deref().map_or(Scope::All, Scope::Tenant);
            let is_thawed = containment.thawed(scope, &self.id, &end.by);
            is_thawed.then_some(()).ok_or(Unended::FrozenAgain)
        }))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}
