//! Budgets survive restarts: what the trail says was spent is spent.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::Bucket;
use crate::{
    audit::Replayed,
    config::snapshot::{Snapshot, Tenant},
};

/// Shorter windows are full again by the time that a restart takes.
const WINDOW_MIN: Duration = Duration::from_secs(60);

/// Counts the intents of earlier runs against the limits of a snapshot.
#[derive(Debug)]
pub struct Replay<'a> {
    tenants: HashMap<&'a str, &'a Tenant>,
    /// When each bucket would be full again, in ns against now; by its address,
    /// since several tenants share those of a key.
    spent: HashMap<*const Bucket, (&'a Bucket, i128)>,
    now: Timestamp,
    span: Duration,
}

impl<'a> Replay<'a> {
    /// Nothing counted yet.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let tenants: HashMap<_, _> = snapshot
            .tenants()
            .iter()
            .map(|tenant| (tenant.name.as_ref(), tenant))
            .collect();
        let buckets = tenants.values().flat_map(|tenant| long(tenant));
        Self {
            span: buckets
                .map(|bucket| bucket.refill())
                .max()
                .unwrap_or_default(),
            tenants,
            spent: HashMap::new(),
            now: Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// How far back an intent may still count.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// Hears of a record of the trail; they come in its order.
    pub fn hear(&mut self, heard: &Replayed<'_>) {
        if let Replayed::Intent { tenant, time, .. } = heard {
            self.count(tenant, *time);
        }
    }

    /// Counts an intent of `tenant`; they come in the order of the trail.
    fn count(&mut self, tenant: &str, time: Timestamp) {
        let Some(tenant) = self.tenants.get(tenant) else {
            return;
        };
        // A clock that was set back must not make the future count.
        let at = time.duration_since(self.now).as_nanos().min(0);
        for bucket in long(tenant) {
            let unit = i128::try_from(bucket.unit().as_nanos()).unwrap_or(i128::MAX);
            let (_, full_at) = self
                .spent
                .entry(Arc::as_ptr(bucket))
                .or_insert((bucket, i128::MIN));
            *full_at = (*full_at).max(at).saturating_add(unit);
        }
    }

    /// Takes what was counted from the buckets.
    pub fn finish(self) {
        for (bucket, full_at) in self.spent.into_values() {
            let spent = u64::try_from(full_at.max(0)).unwrap_or(u64::MAX);
            bucket.spend(Duration::from_nanos(spent));
        }
    }
}

fn long(tenant: &Tenant) -> impl Iterator<Item = &Arc<Bucket>> {
    let buckets = tenant.limits.buckets();
    buckets.filter(|bucket| bucket.window().per >= WINDOW_MIN)
}
