//! Freezes and budgets survive restarts: both stand in the trail.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{Contained, Containment, Freeze, Scope, budget};
use crate::audit::{FrozenRecord, Replayed};

/// A call may end later than it began.
const SLACK: Duration = Duration::from_secs(600);

/// How the end of a deletion is known.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// The trail says it.
    AsWritten,
    /// The process ended before: it is in doubt.
    WithTheProcess,
}

/// Rebuilds what is frozen, and what was deleted lately, from the trail of earlier
/// runs.
#[derive(Debug)]
pub struct Replay<'a> {
    containment: &'a Containment,
    /// Those with a budget.
    with_budget: HashMap<&'a str, Contained<'a>>,
    /// Deletions whose end was not read yet, by the number of their intent.
    open: HashMap<u64, (Contained<'a>, u128, i64)>,
    /// Tenants that spent their budget, and no record says that they were frozen.
    spent: BTreeSet<&'a str>,
    now: Timestamp,
    span: Duration,
}

impl<'a> Replay<'a> {
    /// Nothing heard yet.
    pub fn new(
        containment: &'a Containment,
        tenants: impl IntoIterator<Item = Contained<'a>>,
    ) -> Self {
        let mut span = Duration::ZERO;
        let mut with_budget = HashMap::new();
        for tenant in tenants {
            if let Some(budget) = tenant.freeze_after {
                span = span.max(budget.per.saturating_add(SLACK));
                with_budget.insert(&**tenant.name, tenant);
            }
        }
        Self {
            containment,
            with_budget,
            open: HashMap::new(),
            spent: BTreeSet::new(),
            now: Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH),
            span,
        }
    }

    /// How far back an intent may still count.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// Hears of a record; they come in the order of the trail.
    pub fn hear(&mut self, heard: &Replayed<'_>) {
        match *heard {
            Replayed::Intent {
                seq,
                tenant,
                credential,
                time,
            } => {
                if let Some(tenant) = self.with_budget.get(tenant).copied() {
                    let deletion = (tenant, budget::fingerprint(credential), self.at_ms(time));
                    self.open.insert(seq, deletion);
                }
            }
            Replayed::Outcome { intent, outcome } => {
                let ended = self.open.remove(&intent);
                if let Some(deletion) = ended.filter(|_| outcome.is_deletion()) {
                    self.count(deletion, Ended::AsWritten);
                }
            }
            Replayed::Frozen { record, since } => self.freeze(record, since),
            Replayed::Thawed { tenant } => {
                if let Some(name) = tenant {
                    self.spent.remove(name);
                }
                let scope = tenant.map_or(Scope::All, Scope::Tenant);
                self.containment.state().remove(scope);
            }
            // Those that count are among `open`.
            Replayed::LeftOpen { .. } => {}
        }
    }

    fn freeze(&mut self, record: FrozenRecord<'_>, since: Timestamp) {
        let scope = record.tenant.map_or(Scope::All, Scope::Tenant);
        if let Some(name) = record.tenant {
            self.spent.remove(name);
        }
        let freeze = Freeze {
            id: record.id.into(),
            by: record.by.into(),
            on_behalf_of: record.on_behalf_of.map(Into::into),
            reason: record.reason.into(),
            since,
        };
        self.containment.state().insert(scope, freeze);
    }

    fn count(&mut self, (tenant, credential, at_ms): (Contained<'a>, u128, i64), ended: Ended) {
        let Some(budget) = tenant.freeze_after else {
            return;
        };
        let is_spent = tenant.lasting.switch.count(budget, credential, at_ms);
        // The trail is read further back than budgets reach, for limits: what was spent of
        // it long ago was maybe no budget then.
        let age_ms = self.containment.now_ms().saturating_sub(at_ms);
        let counts_still = match ended {
            Ended::AsWritten => {
                u128::try_from(age_ms).is_ok_and(|age| age < budget.per.as_millis())
            }
            Ended::WithTheProcess => true,
        };
        let scope = Scope::Tenant(tenant.name);
        if is_spent && counts_still && self.containment.standing(scope).is_none() {
            self.spent.insert(tenant.name);
        }
    }

    /// What the clock of budgets showed; a clock that was set back must not make the
    /// future count for longer.
    fn at_ms(&self, time: Timestamp) -> i64 {
        let age = self.now.duration_since(time).as_millis().max(0);
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        self.containment.now_ms().saturating_sub(age)
    }

    /// Turns the switches. Deletions without an end are in doubt, and count; a
    /// tenant that had spent its budget when the process died is frozen now, which
    /// `record` hears of.
    pub fn finish(mut self, mut record: impl FnMut(FrozenRecord<'_>)) {
        for deletion in std::mem::take(&mut self.open).into_values() {
            self.count(deletion, Ended::WithTheProcess);
        }
        for name in &self.spent {
            if let Some(tenant) = self.with_budget.get(name)
                && let Some(budget) = tenant.freeze_after
            {
                self.containment
                    .freeze_spent(tenant.name, budget, &mut record);
            }
        }
        let state = self.containment.state();
        state.apply(Scope::All);
        let (all, tenants) = (state.all.is_some(), state.tenants.len());
        if !state.is_empty() {
            tracing::warn!(
                all,
                tenants,
                "frozen since before the start: their calls are refused until an operator thaws them"
            );
        }
    }
}
