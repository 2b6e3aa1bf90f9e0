//! Settings → snapshot: reads what the settings name.

use std::{collections::HashMap, sync::Arc};

use http::HeaderValue;

use super::{
    Frame, Key, Snapshot, Target, Tenant, UserSet, fleet,
    left::Left,
    listeners,
    secrets::{api_key, read_file},
    tokens::Tokens,
    trust::bad_trust,
    users::{self, Lists},
};
use crate::{
    background,
    config::{
        problem::{FieldPath, Problem},
        settings::{self, SecretSource, Settings, Trust, Window},
    },
    ids::IdGrammar,
    key_ring::KeyRing,
    limits::{Breaker, Bucket, FailedAuth, Limits, Rules, WaitQueue},
    metrics::TenantCounts,
    secret::UpstreamKey,
    tls,
};

/// A snapshot that may take effect.
#[derive(Debug)]
#[must_use]
pub struct Built {
    snapshot: Snapshot,
    /// Those of its tenants that the one before does not have.
    newcomers: Vec<usize>,
}

impl Built {
    /// What is to take effect, without what lasts of tenants that are new.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Gives tenants that are new what lasts of them: a switch that freezes and thaws
    /// reach, and calls still under way. This may wait for a freeze, and a freeze for
    /// this, so it is no part of the building, which may be interrupted for long.
    pub fn with_lasting(mut self) -> Snapshot {
        let containment = &self.snapshot.containment;
        for at in self.newcomers {
            background::give_way();
            if let Some(tenant) = self.snapshot.tenants.get_mut(at) {
                tenant.lasting = containment.lasting_of(&tenant.name, &tenant.lasting);
            }
        }
        self.snapshot
    }
}

/// Reads every secret, list and certificate that `settings` name, and makes
/// the limiters. What did not change since `previous` keeps its state: a reload
/// refills no budget and closes no breaker.
///
/// # Errors
///
/// Every problem at once; none of them holds anything of a secret.
pub fn build(
    settings: &Settings,
    digest: &str,
    previous: Option<&Snapshot>,
) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let target = target(&settings.upstream, previous, &mut problems);
    let listen = listeners::listeners(&settings.listen, previous, &mut problems);
    let store = match (previous, &settings.limits_store) {
        // The workers have their ways to the one that they started with, or to none.
        (Some(previous), _) => previous.store.clone(),
        (None, Some(store)) => fleet::store(store, &mut problems),
        (None, None) => None,
    };
    let before = Before::of(previous, store.is_some());
    let mut rules = Rules::default();
    let keys: Vec<_> = settings
        .keys
        .iter()
        .filter_map(|key| load_key(key, &settings.upstream, &before, &mut rules, &mut problems))
        .collect();
    let counts_of_others = before.counts_of_others(settings);
    let others = &counts_of_others;
    let Tenants {
        tenants,
        newcomers,
        lists,
    } = tenants(settings, &keys, &before, others, &mut rules, &mut problems);
    let (Some(upstream), true) = (target, problems.is_empty()) else {
        return Err(problems);
    };
    let snapshot = Snapshot {
        digest: digest.into(),
        lists: lists.digest(),
        failed_auth: before.failed_auth(settings),
        bounds: settings.bounds.clone(),
        upstream,
        store,
        listen,
        keys,
        by_token: Tokens::of(&tenants),
        tenants,
        counts_of_others,
        containment: previous.map_or_else(Arc::default, |it| Arc::clone(&it.containment)),
        left: previous.map_or_else(Left::default, |it| Left::since(settings, it)),
    };
    Ok(Built {
        snapshot,
        newcomers,
    })
}

/// What was in effect before, if anything was: what did not change since is taken from it.
struct Before<'a> {
    snapshot: Option<&'a Snapshot>,
    /// Its tenants by name.
    tenants: HashMap<&'a str, &'a Tenant>,
    /// Whether limits are shared with other gateways.
    is_shared: bool,
}

impl<'a> Before<'a> {
    fn of(snapshot: Option<&'a Snapshot>, is_shared: bool) -> Self {
        let tenants = snapshot.map_or(&[][..], |snapshot| &snapshot.tenants);
        let by_name = tenants.iter().map(|tenant| {
            background::give_way();
            (&*tenant.name, tenant)
        });
        Self {
            snapshot,
            tenants: by_name.collect(),
            is_shared,
        }
    }

    fn tenant(&self, name: &str) -> Option<&'a Tenant> {
        self.tenants.get(name).copied()
    }

    fn key(&self, name: &str) -> Option<&'a Key> {
        let mut keys = self.snapshot?.keys.iter();
        keys.find(|key| key.ring.name() == name)
    }

    /// The buckets of a tenant that is `known`, or what is left of one that was taken out.
    fn buckets_of_tenant(&self, known: Option<&Tenant>, name: &str) -> Vec<Arc<Bucket>> {
        match (known, self.snapshot) {
            (Some(tenant), _) => tenant.limits.of_tenant().cloned().collect(),
            (None, Some(snapshot)) => snapshot.left.of_tenant(name).to_vec(),
            (None, None) => Vec::new(),
        }
    }

    /// The buckets of a key that is `known`, or what is left of one that was taken out.
    fn buckets_of_key(&self, known: Option<&'a Key>, name: &str) -> &'a [Arc<Bucket>] {
        match (known, self.snapshot) {
            (Some(key), _) => &key.buckets,
            (None, Some(snapshot)) => snapshot.left.of_key(name),
            (None, None) => &[],
        }
    }

    fn failed_auth(&self, settings: &Settings) -> Arc<FailedAuth> {
        let window = settings.bounds.failed_auth;
        let known = self.snapshot.map(|it| (&it.bounds, &it.failed_auth));
        match known {
            Some((bounds, known)) if bounds.failed_auth == window => Arc::clone(known),
            _ => Arc::new(FailedAuth::new(window)),
        }
    }

    /// What is counted of tenants without a name in the metrics.
    fn counts_of_others(&self, settings: &Settings) -> TenantCounts {
        match self.snapshot {
            Some(snapshot) => snapshot.counts_of_others.clone(),
            None => TenantCounts::new(settings.worker_count()),
        }
    }
}

fn load_key(
    key: &settings::Key,
    upstream: &settings::Upstream,
    before: &Before<'_>,
    rules: &mut Rules,
    problems: &mut Vec<Problem>,
) -> Option<Key> {
    let at = FieldPath::root().key("keys").key(key.name.clone());
    let mut read = |name: &'static str, source: &SecretSource| match api_key(source) {
        Ok(secret) => UpstreamKey::new(&key.name, &secret, &upstream.auth_scheme),
        Err((field, message)) => {
            let at = at.clone().key(name).key(field);
            problems.push(Problem::new(at, message));
            None
        }
    };
    let first = read("secret", &key.secret);
    let next = match &key.next {
        Some(source) => Some(read("next", source)?),
        None => None,
    };
    let known = before.key(&key.name);
    let first = first?;
    let ring = match known.map(|known| &known.ring) {
        Some(ring) if ring.holds(&first, next.as_ref()) => Arc::clone(ring),
        ring => Arc::new(KeyRing::new(first, next, ring.map(|ring| &**ring))),
    };
    let breaker = known
        .map(|known| &known.breaker)
        .filter(|breaker| breaker.bounds() == upstream.circuit_breaker.as_ref());
    let own = before.buckets_of_key(known, &key.name);
    Some(Key {
        ring,
        buckets: buckets(("key", before.is_shared), &key.limits, own, rules),
        gate: known.map_or_else(Arc::default, |known| Arc::clone(&known.gate)),
        breaker: breaker
            .cloned()
            .unwrap_or_else(|| Arc::new(Breaker::new(upstream.circuit_breaker.clone()))),
    })
}

/// A bucket for each window: the one that was there, if its window did not change.
fn buckets(
    (scope, is_shared): (&'static str, bool),
    windows: &[Window],
    own: &[Arc<Bucket>],
    rules: &mut Rules,
) -> Vec<Arc<Bucket>> {
    let mut new = |window| match (rules.of(scope, window), is_shared) {
        (rule, true) => Bucket::of_fleet(rule),
        (rule, false) => Bucket::new(rule),
    };
    windows
        .iter()
        .map(|window| {
            let same = own.iter().find(|bucket| bucket.window() == *window);
            same.cloned().unwrap_or_else(|| Arc::new(new(*window)))
        })
        .collect()
}

/// The tenants of a config.
struct Tenants {
    tenants: Vec<Tenant>,
    /// Those that were not there before.
    newcomers: Vec<usize>,
    /// What was read for them.
    lists: Lists,
}

/// The tenants. None, if not all `keys` could be read; then their lists are read all the
/// same, for their problems.
fn tenants(
    settings: &Settings,
    keys: &[Key],
    before: &Before<'_>,
    others: &TenantCounts,
    rules: &mut Rules,
    problems: &mut Vec<Problem>,
) -> Tenants {
    let has_all_keys = keys.len() == settings.keys.len();
    let named_max = usize::try_from(settings.metrics_tenants).unwrap_or(usize::MAX);
    let mut tenants = Vec::with_capacity(settings.tenants.len());
    let mut newcomers = Vec::new();
    let mut lists = Lists::default();
    for (at, tenant) in settings.tenants.iter().enumerate() {
        background::give_way();
        let users = users(at, tenant, settings.upstream.ids, &mut lists, problems);
        let (true, Some(users), Some(key)) = (has_all_keys, users, keys.get(tenant.key)) else {
            continue;
        };
        let known = before.tenant(&tenant.name);
        if known.is_none() {
            newcomers.push(tenants.len());
        }
        let counts = counts(at < named_max, known, others);
        tenants.push(ready(tenant, key, users, counts, (known, before), rules));
    }
    Tenants {
        tenants,
        newcomers,
        lists,
    }
}

/// The counts that a tenant had, if it has a name in the metrics then and now.
fn counts(is_named: bool, known: Option<&Tenant>, others: &TenantCounts) -> TenantCounts {
    if !is_named {
        return others.clone();
    }
    let own = known.map(|known| &known.counts);
    own.filter(|own| !own.is(others))
        .map_or_else(|| TenantCounts::new(others.workers()), Clone::clone)
}

fn ready(
    tenant: &settings::Tenant,
    key: &Key,
    users: UserSet,
    counts: TenantCounts,
    (known, before): (Option<&Tenant>, &Before<'_>),
    rules: &mut Rules,
) -> Tenant {
    let own = before.buckets_of_tenant(known, &tenant.name);
    let wait_queue = || {
        let wait_queue = known.and_then(|known| known.wait_queue.as_ref());
        wait_queue
            .filter(|wait_queue| wait_queue.waiting_max() == tenant.wait_queue)
            .map_or_else(|| Arc::new(WaitQueue::new(tenant.wait_queue)), Arc::clone)
    };
    Tenant {
        name: Arc::clone(&tenant.name),
        key: Arc::clone(&key.ring),
        users,
        mode: tenant.mode,
        lasting: known.map_or_else(Arc::default, |known| Arc::clone(&known.lasting)),
        freeze_after: tenant.freeze_after,
        limits: Limits::new(
            buckets(("tenant", before.is_shared), &tenant.limits, &own, rules),
            key.buckets.iter().cloned(),
            Arc::clone(&key.gate),
            Arc::clone(&key.breaker),
            rules,
        ),
        wait: tenant.wait,
        wait_queue: (!tenant.wait.is_zero()).then(wait_queue),
        in_flight_max: tenant.in_flight,
        counts,
        tokens: Arc::clone(&tenant.tokens),
    }
}

/// The upstream: the one that was there, with its connections, if nothing about
/// it changed.
fn target(
    upstream: &settings::Upstream,
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<Target>> {
    let trust = match &upstream.trust {
        Trust::File(path) => read_file(path, tls::ROOTS_BYTES_MAX).ok(),
        _ => None,
    };
    if let Some(known) = previous.map(|previous| &previous.upstream)
        && known.settings == *upstream
        && known.trust == trust
    {
        return Some(Arc::clone(known));
    }
    let tls = if upstream.url.tls {
        match tls::client_config(&upstream.trust) {
            Ok(tls) => Some(tls),
            Err(error) => {
                let at = FieldPath::root().key("upstream").key("trust");
                problems.push(bad_trust(at, &upstream.trust, &error));
                return None;
            }
        }
    } else {
        None
    };
    // Both were validated as header values with the settings.
    Some(Arc::new(Target {
        frame: Frame::new(
            &HeaderValue::try_from(upstream.url.authority()).ok()?,
            &HeaderValue::try_from(upstream.api_version.as_str()).ok()?,
        ),
        settings: upstream.clone(),
        tls,
        trust,
    }))
}

fn users(
    tenant_at: usize,
    tenant: &settings::Tenant,
    grammar: IdGrammar,
    lists: &mut Lists,
    problems: &mut Vec<Problem>,
) -> Option<UserSet> {
    users::read(&tenant.users, grammar, lists)
        .map_err(|message| {
            let at = FieldPath::root()
                .key("tenants")
                .index(tenant_at)
                .key("users")
                .key("file");
            problems.push(Problem::new(at, message));
        })
        .ok()
}
