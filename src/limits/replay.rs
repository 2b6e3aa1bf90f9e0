//! Budgets survive restarts: what the trail says was spent is spent.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{Bucket, Limits};
use crate::audit::Replayed;

/// Shorter windows are full again by the time that a restart takes.
const WINDOW_MIN: Duration = Duration::from_secs(60);

/// Counts the intents of earlier runs against the limits of a config.
#[derive(Debug)]
pub struct Replay<'a> {
    tenants: HashMap<&'a str, &'a Limits>,
    /// By the bucket's address, since several tenants share those of a key.
    spent: HashMap<*const Bucket, (&'a Bucket, Spent)>,
    replicas: u32,
    now: Timestamp,
    span: Duration,
}

impl<'a> Replay<'a> {
    /// Nothing counted yet, against the limits of these tenants, by name; `replicas` gateways
    /// share them.
    pub fn new(tenants: impl IntoIterator<Item = (&'a str, &'a Limits)>, replicas: u32) -> Self {
        let tenants: HashMap<_, _> = tenants.into_iter().collect();
        let buckets = tenants.values().flat_map(|limits| long(limits));
        Self {
            replicas,
            span: buckets
                .map(|bucket| bucket.refill().max(bucket.share_refill(replicas)))
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
        let Some(limits) = self.tenants.get(tenant) else {
            return;
        };
        // A clock that was set back must not make the future count.
        let at = time.duration_since(self.now).as_nanos().min(0);
        for bucket in long(limits) {
            let (_, spent) = self
                .spent
                .entry(Arc::as_ptr(bucket))
                .or_insert_with(|| (bucket, Spent::new(self.replicas)));
            spent.count(bucket, at);
        }
    }

    /// Takes what was counted from the buckets.
    pub fn finish(self) {
        for (bucket, spent) in self.spent.into_values() {
            spent.take_from(bucket);
        }
    }
}

/// What calls of an earlier run spent of one bucket, and of the fair share of it.
#[derive(Debug)]
pub struct Spent {
    replicas: u32,
    /// When each would be full again, in ns against now.
    full_at: i128,
    share_full_at: i128,
}

impl Spent {
    /// Nothing, of a gateway that shares the limit with others: `replicas` in all.
    pub fn new(replicas: u32) -> Self {
        Self {
            replicas,
            full_at: i128::MIN,
            share_full_at: i128::MIN,
        }
    }

    /// One more call, `at` in ns against now: negative, as it is past. They come in
    /// order. Who had decided on it is not known: it counts for the share, too.
    pub fn count(&mut self, bucket: &Bucket, at: i128) {
        let one_more = |full_at: i128, unit: Duration| {
            let unit = i128::try_from(unit.as_nanos()).unwrap_or(i128::MAX);
            full_at.max(at).saturating_add(unit)
        };
        self.full_at = one_more(self.full_at, bucket.unit());
        self.share_full_at = one_more(self.share_full_at, bucket.share_unit(self.replicas));
    }

    /// Takes what was counted from the bucket.
    pub fn take_from(&self, bucket: &Bucket) {
        let span =
            |full_at: i128| Duration::from_nanos(u64::try_from(full_at.max(0)).unwrap_or(u64::MAX));
        bucket.spend(span(self.full_at));
        bucket.spend_share(span(self.share_full_at), self.replicas);
    }
}

fn long(limits: &Limits) -> impl Iterator<Item = &Arc<Bucket>> {
    let buckets = limits.buckets();
    buckets.filter(|bucket| bucket.window().per >= WINDOW_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::settings::testing::window, limits::Rule};

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_counts_for_the_fair_share_in_its_own_units() {
        const REPLICAS: u32 = 5;
        // A share of 20 at once, and one every 3 s.
        let of_fleet = || Bucket::of_fleet(Rule::new("key", window(100, Duration::from_secs(60))));
        let after = |calls: u32| {
            let bucket = of_fleet();
            let mut spent = Spent::new(REPLICAS);
            (0..calls).for_each(|_| spent.count(&bucket, 0));
            spent.take_from(&bucket);
            bucket
        };
        let left = |bucket: &Bucket| {
            let taken = std::iter::from_fn(|| bucket.take_share(REPLICAS).ok());
            taken.take(1000).count()
        };
        assert_eq!(left(&of_fleet()), 20);
        assert_eq!(left(&after(15)), 5);
        assert_eq!(left(&after(20)), 0);
        // However much it was: it is as empty as it can be.
        assert_eq!(after(90).take_share(REPLICAS), Err(Duration::from_secs(3)));
    }
}
