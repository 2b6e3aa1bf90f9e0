//! What was spent of limits whose tenant or key is not in the config just now.
//!
//! A tenant that is taken out and put back, by an editor or by a mistake, must
//! not get its budget anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::Snapshot;
use crate::{background, config::settings::Settings, limits::Bucket};

type Buckets = Vec<Arc<Bucket>>;

/// Buckets that are not full, by the name of what they limit. Each reload drops
/// those that have filled, so there are never more than were spent from lately.
#[derive(Debug, Default)]
pub struct Left {
    tenants: HashMap<Box<str>, Buckets>,
    keys: HashMap<Box<str>, Buckets>,
}

impl Left {
    /// What `previous` had, or had left, and the new settings have not.
    pub fn since(settings: &Settings, previous: &Snapshot) -> Self {
        let tenants = settings.tenants.iter().map(|tenant| &*tenant.name);
        let keys = settings.keys.iter().map(|key| key.name.as_str());
        let of_tenants = previous.tenants.iter();
        let of_tenants = of_tenants.map(|it| {
            background::give_way();
            (&*it.name, spent(it.limits.of_tenant()))
        });
        let of_keys = previous.keys.iter();
        let of_keys = of_keys.map(|it| (it.ring.name(), spent(&it.buckets)));
        Self {
            tenants: gone(tenants, of_tenants.chain(known(&previous.left.tenants))),
            keys: gone(keys, of_keys.chain(known(&previous.left.keys))),
        }
    }

    /// What is left of a tenant that is new in the config.
    pub fn of_tenant(&self, name: &str) -> &[Arc<Bucket>] {
        self.tenants.get(name).map_or(&[], Vec::as_slice)
    }

    /// What is left of a key that is new in the config.
    pub fn of_key(&self, name: &str) -> &[Arc<Bucket>] {
        self.keys.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Those of `before` whose name is not among `named` and of which something is spent.
fn gone<'a>(
    named: impl Iterator<Item = &'a str>,
    before: impl Iterator<Item = (&'a str, Buckets)>,
) -> HashMap<Box<str>, Buckets> {
    let named: HashSet<_> = named.inspect(|_| background::give_way()).collect();
    before
        .filter(|(name, spent)| !spent.is_empty() && !named.contains(name))
        .map(|(name, spent)| (name.into(), spent))
        .collect()
}

fn known(left: &HashMap<Box<str>, Buckets>) -> impl Iterator<Item = (&str, Buckets)> {
    left.iter().map(|(name, buckets)| (&**name, spent(buckets)))
}

/// Those that are not full.
fn spent<'a>(buckets: impl IntoIterator<Item = &'a Arc<Bucket>>) -> Buckets {
    let buckets = buckets.into_iter();
    let is_spent = |bucket: &&Arc<Bucket>| bucket.level().remaining < bucket.window().burst.get();
    buckets.filter(is_spent).cloned().collect()
}
