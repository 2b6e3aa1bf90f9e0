//! Stopping a tenant: by an operator, or by a budget of deletions that it spent.
//!
//! A freeze takes effect in memory at once and stands until an operator thaws it:
//! over reloads, since it is kept by the tenant's name and not with the config,
//! and over restarts, since it is in the trail. A thaw is in the trail before it
//! takes effect. So whatever fails, nothing thaws by itself.

mod budget;
mod ending;
mod fleet_freezes;
mod freeze;
mod lasting;
pub mod register;
mod replay;
mod switch;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Instant,
};

pub use self::{
    ending::{Ending, Unended},
    fleet_freezes::FleetFreezes,
    freeze::{Freeze, Scope},
    lasting::{Contained, Lasting},
    replay::Replay,
    switch::Switch,
};
use crate::{audit::FrozenRecord, background, config::settings::FreezeAfter, ids::CredentialId};

/// Tenants that are looked at while a freeze may have to wait.
const TENANTS_AT_ONCE: usize = 256;
/// What stands for all tenants in the log.
const ALL: &str = "(all)";

/// What is frozen, and since when. One for the life of the process: a snapshot
/// hands it on to the next.
#[derive(Debug)]
pub struct Containment {
    state: Mutex<State>,
    /// What the times of deletions are counted from.
    born: Instant,
    /// The freezes that are being ended, by id.
    ending: ending::Claimed,
    /// The other gateways, if a store leads to them.
    fleet: OnceLock<Arc<FleetFreezes>>,
}

#[derive(Debug, Default)]
struct State {
    all: Option<Freeze>,
    tenants: BTreeMap<Box<str>, Freeze>,
    /// What lasts of every tenant that is still looked at, whatever config it is of, those
    /// that are to take effect next included. A freeze turns all their switches, so it
    /// needs no list of tenants that a reload could make an old one meanwhile; and a
    /// tenant that is put back into the config counts its calls still under way.
    lasting: BTreeMap<Arc<str>, Weak<Lasting>>,
    /// What lasts of tenants of earlier configs that deleted something lately: one that is
    /// not in the config just now, and is put back, must not get its budget anew.
    left: BTreeMap<Box<str>, Arc<Lasting>>,
}

impl Default for Containment {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            born: Instant::now(),
            ending: Arc::default(),
            fleet: OnceLock::new(),
        }
    }
}

impl Containment {
    /// Freezes at once. `record` hands the freeze over to the trail, while nothing
    /// else can come between: the order of the trail is that of what happened.
    /// One that stands already gives way to it: who froze last, and why, is shown.
    pub fn freeze<T>(
        &self,
        scope: Scope<'_>,
        freeze: Freeze,
        record: impl FnOnce(FrozenRecord<'_>) -> T,
    ) -> T {
        let recorded = self.state().freeze(scope, freeze, record);
        self.tell_others();
        recorded
    }

    /// Lets nobody else end the freeze `id` until what it returns is dropped; `None` if
    /// somebody is about to end it already.
    pub fn begin_ending(&self, id: &str) -> Option<Ending> {
        Ending::claim(&self.ending, id)
    }

    /// Whether this very freeze stands, and nobody is about to end it.
    pub fn stays(&self, scope: Scope<'_>, id: &str) -> bool {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        !ending.contains(id) && self.standing(scope).is_some_and(|it| *it.id == *id)
    }

    /// Begins to thaw: `record` hands the end of the freeze over to the trail, and
    /// [`thawed`](Self::thawed) follows once that is durable. `None` if `scope` is
    /// not frozen by itself.
    fn thaw<T>(&self, scope: Scope<'_>, record: impl FnOnce(&Freeze) -> T) -> Option<T> {
        let state = self.state();
        Some(record(state.get(scope)?))
    }

    /// Ends the freeze `id`, whose end is in the trail, unless another one stands by
    /// now; a tenant begins with a new budget. Whether it did.
    fn thawed(&self, scope: Scope<'_>, id: &str, by: &str) -> bool {
        let mut state = self.state();
        if state.get(scope).is_none_or(|freeze| *freeze.id != *id) {
            return false;
        }
        state.remove(scope);
        tracing::warn!(
            tenant.id = scope.tenant().unwrap_or(ALL),
            by,
            "{}",
            state.after_thaw(scope)
        );
        true
    }

    /// Counts a deletion that was carried out, or may have been, and freezes its
    /// tenant if that spends its budget. Whoever is answered after `record` returned
    /// is answered after the freeze is durable.
    pub fn count(
        &self,
        tenant: Contained<'_>,
        credential: &CredentialId,
        record: impl FnOnce(FrozenRecord<'_>),
    ) {
        let Some(budget) = tenant.freeze_after else {
            return;
        };
        let credential = budget::fingerprint(credential.as_str());
        let switch = &tenant.lasting.switch;
        if switch.count(budget, credential, self.now_ms()) {
            self.freeze_spent(tenant.name, budget, record);
        }
        if let Some(fleet) = self.fleet() {
            fleet.deleted(tenant.name, credential, budget);
        }
    }

    fn freeze_spent(
        &self,
        tenant: &str,
        budget: FreezeAfter,
        record: impl FnOnce(FrozenRecord<'_>),
    ) {
        let scope = Scope::Tenant(tenant);
        let mut state = self.state();
        // Calls that were under way when it was frozen may spend more than all of it.
        if state.get(scope).is_none() {
            let freeze = Freeze::of_budget(budget);
            state.freeze(scope, freeze, record);
            drop(state);
            self.tell_others();
        }
    }

    /// The other gateways, if a store leads to them.
    pub fn fleet(&self) -> Option<&Arc<FleetFreezes>> {
        self.fleet.get()
    }

    fn tell_others(&self) {
        if let Some(fleet) = self.fleet() {
            fleet.changed();
        }
    }

    /// Keeps what the tenants of a config spent that no call looks at any more, and lets
    /// go of what was kept before and does not count any more.
    pub fn keep_spent<'a>(&self, before: impl IntoIterator<Item = Contained<'a>>) {
        let now_ms = self.now_ms();
        self.drop_uncounted(now_ms);
        for tenant in before {
            background::give_way();
            if tenant.lasting.switch.counts(now_ms) {
                let (name, lasting) = ((&**tenant.name).into(), Arc::clone(tenant.lasting));
                self.state().left.insert(name, lasting);
            }
        }
    }

    /// What is counted after it was looked at is kept with its tenant's config.
    fn drop_uncounted(&self, now_ms: i64) {
        let mut after = Bound::Unbounded;
        loop {
            let state = self.state();
            let rest = state.left.range((after, Bound::Unbounded));
            let some: Vec<_> = rest
                .take(TENANTS_AT_ONCE)
                .map(|(name, lasting)| (name.clone(), Arc::clone(lasting)))
                .collect();
            drop(state);
            let Some((last, _)) = some.last() else {
                return;
            };
            after = Bound::Excluded(last.clone());
            for (name, lasting) in some {
                background::give_way();
                if !lasting.switch.counts(now_ms) {
                    // Freed only when the lock is.
                    let dropped = self.state().left.remove(&name);
                    drop(dropped);
                }
            }
        }
    }

    /// Lets go of what lasts of tenants that nobody looks at any more, if more is held
    /// than the config in effect has tenants. A freeze never waits for more than a few
    /// hundred of them.
    pub fn tidy(&self, in_effect: usize) {
        if self.state().is_tidy(in_effect) {
            return;
        }
        let mut after = Bound::Unbounded;
        loop {
            background::give_way();
            let mut state = self.state();
            let rest = state.lasting.range((after, Bound::Unbounded));
            let some: Vec<_> = rest
                .take(TENANTS_AT_ONCE)
                .map(|(name, lasting)| (Arc::clone(name), lasting.strong_count() == 0))
                .collect();
            let unused = some.iter().filter(|(_, is_unused)| *is_unused);
            let removed: Vec<_> = unused
                .filter_map(|(name, _)| state.lasting.remove_entry(name))
                .collect();
            // Freed only when the lock is.
            drop(state);
            drop(removed);
            let Some((last, _)) = some.last() else {
                return;
            };
            after = Bound::Excluded(Arc::clone(last));
        }
    }

    /// What lasts of a tenant that is new in the config, with its switch turned as it
    /// has to be, and from then on with every freeze and thaw, before a call can see it.
    /// It is `new`, unless calls of an earlier config still see another.
    pub fn lasting_of(&self, tenant: &Arc<str>, new: &Arc<Lasting>) -> Arc<Lasting> {
        self.state().lasting_of(tenant, new)
    }

    /// The freeze of a scope itself; a tenant may be frozen by that of all, too.
    pub fn standing(&self, scope: Scope<'_>) -> Option<Freeze> {
        self.state().get(scope).cloned()
    }

    /// All freezes that stand, each with its tenant; `None` is all.
    fn all_standing(&self) -> Vec<(Option<Box<str>>, Freeze)> {
        let state = self.state();
        let all = state.all.iter().map(|freeze| (None, freeze.clone()));
        let tenants = state.tenants.iter();
        let tenants = tenants.map(|(name, freeze)| (Some(name.clone()), freeze.clone()));
        all.chain(tenants).collect()
    }

    /// The tenants that are frozen by themselves, by name.
    pub fn tenants(&self) -> Vec<Box<str>> {
        self.state().tenants.keys().cloned().collect()
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn freeze<T>(
        &mut self,
        scope: Scope<'_>,
        freeze: Freeze,
        record: impl FnOnce(FrozenRecord<'_>) -> T,
    ) -> T {
        tracing::warn!(
            tenant.id = scope.tenant().unwrap_or(ALL),
            by = &*freeze.by,
            reason = &*freeze.reason,
            "frozen: calls are refused until an operator thaws it, with alloy-gateway thaw"
        );
        let recorded = record(freeze.record(scope));
        self.insert(scope, freeze);
        self.apply(scope);
        recorded
    }

    fn lasting_of(&mut self, tenant: &Arc<str>, new: &Arc<Lasting>) -> Arc<Lasting> {
        let known = self.lasting.get(tenant).and_then(Weak::upgrade);
        let lasting = known.unwrap_or_else(|| Arc::clone(new));
        lasting.switch.turn(self.is_frozen(tenant));
        self.lasting
            .insert(Arc::clone(tenant), Arc::downgrade(&lasting));
        lasting
    }

    fn get(&self, scope: Scope<'_>) -> Option<&Freeze> {
        match scope {
            Scope::Tenant(name) => self.tenants.get(name),
            Scope::All => self.all.as_ref(),
        }
    }

    fn insert(&mut self, scope: Scope<'_>, freeze: Freeze) {
        match scope {
            Scope::Tenant(name) => {
                self.tenants.insert(name.into(), freeze);
            }
            Scope::All => self.all = Some(freeze),
        }
    }

    fn remove(&mut self, scope: Scope<'_>) {
        match scope {
            Scope::Tenant(name) => {
                self.tenants.remove(name);
                self.left.remove(name);
                if let Some(lasting) = self.lasting.get(name).and_then(Weak::upgrade) {
                    lasting.switch.forget();
                }
            }
            Scope::All => self.all = None,
        }
        self.apply(scope);
    }

    /// Whether calls in `scope`, of which a freeze was just ended, are taken again, for
    /// the log: if not, what still holds them up.
    fn after_thaw(&self, scope: Scope<'_>) -> Cow<'static, str> {
        match scope {
            Scope::Tenant(_) if self.all.is_some() => {
                "thawed; calls are still refused, since every tenant is frozen (thaw --all)".into()
            }
            Scope::All if !self.tenants.is_empty() => {
                let left = listed(self.tenants.keys());
                format!("thawed: calls are taken again, but not those of tenants that are frozen by themselves: {left}").into()
            }
            _ => "thawed: calls are taken again".into(),
        }
    }

    fn is_frozen(&self, tenant: &str) -> bool {
        self.all.is_some() || self.tenants.contains_key(tenant)
    }

    fn is_tidy(&self, in_effect: usize) -> bool {
        self.lasting.len() <= in_effect + self.left.len()
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.tenants.is_empty()
    }

    /// Turns the switches in `scope` to what the state says.
    fn apply(&self, scope: Scope<'_>) {
        let turn = |name: &str, lasting: &Weak<Lasting>| {
            if let Some(lasting) = lasting.upgrade() {
                lasting.switch.turn(self.is_frozen(name));
            }
        };
        match scope {
            Scope::Tenant(name) => {
                if let Some(lasting) = self.lasting.get(name) {
                    turn(name, lasting);
                }
            }
            Scope::All => {
                for (name, lasting) in &self.lasting {
                    turn(name, lasting);
                }
            }
        }
    }
}

/// The first of these tenants; a list of thousands helps nobody.
pub fn listed<'a>(names: impl ExactSizeIterator<Item = &'a Box<str>>) -> String {
    const SHOWN_MAX: usize = 20;
    let more = names.len().saturating_sub(SHOWN_MAX);
    let shown: Vec<_> = names.take(SHOWN_MAX).map(|name| &**name).collect();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests;
