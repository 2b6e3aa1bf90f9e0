//! Settings → snapshot: reads what the settings name.

use std::{collections::HashMap, sync::Arc};

use http::HeaderValue;

use super::{
    Key, Snapshot, Target, Tenant, UserSet, fleet,
    left::Left,
    listeners,
    secrets::{api_key, read_file},
    tokens::Tokens,
    trust::bad_trust,
    users::user_set,
};
use crate::{
    background,
    config::{
        problem::{FieldPath, Problem},
        settings::{self, SecretSource, Settings, Trust, Window},
    },
    ids::IdGrammar,
    key_ring::KeyRing,
    metrics::TenantCounts,
    pipeline::{
        authenticate::FailedAuth,
        inject::Frame,
        limit::{Breaker, Bucket, Limits, Line, Rules},
    },
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
    let mut rules = Rules::default();
    let store = match (previous, &settings.limits_store) {
        // The workers have their ways to the one that they started with, or to none.
        (Some(previous), _) => previous.store.clone(),
        (None, Some(store)) => fleet::store(store, &mut problems),
        (None, None) => None,
    };
    let is_shared = store.is_some();
    let nothing = Left::default();
    let left = previous.map_or(&nothing, |previous| &previous.left);
    let keys: Vec<_> = settings
        .keys
        .iter()
        .filter_map(|key| {
            let known = (previous, left, is_shared);
            load_key(key, &settings.upstream, known, &mut rules, &mut problems)
        })
        .collect();
    let containment =
        previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.containment));
    let whole = keys.len() == settings.keys.len();
    let before = previous.map_or(&[][..], |previous| &previous.tenants);
    let known: HashMap<_, _> = before
        .iter()
        .map(|tenant| {
            background::give_way();
            (&*tenant.name, tenant)
        })
        .collect();
    let mut tenants = Vec::with_capacity(settings.tenants.len());
    let mut newcomers = Vec::new();
    let others = previous.map_or_else(
        || TenantCounts::new(settings.worker_count()),
        |previous| previous.counts_of_others.clone(),
    );
    let named_max = usize::try_from(settings.metrics_tenants).unwrap_or(usize::MAX);
    for (at, tenant) in settings.tenants.iter().enumerate() {
        background::give_way();
        let users = users(at, tenant, settings.upstream.ids, &mut problems);
        let (true, Some(users), Some(key)) = (whole, users, keys.get(tenant.key)) else {
            continue;
        };
        let known = known.get(&*tenant.name).copied();
        let counts = counts(at < named_max, known, &others);
        if known.is_none() {
            newcomers.push(tenants.len());
        }
        let known = (known, left, is_shared);
        tenants.push(ready(tenant, key, users, counts, known, &mut rules));
    }
    let snapshot = match (target, problems.is_empty()) {
        (Some(upstream), true) => Snapshot {
            digest: digest.into(),
            failed_auth: previous
                .filter(|previous| previous.bounds.failed_auth == settings.bounds.failed_auth)
                .map_or_else(
                    || Arc::new(FailedAuth::new(settings.bounds.failed_auth)),
                    |previous| Arc::clone(&previous.failed_auth),
                ),
            bounds: settings.bounds.clone(),
            upstream,
            store,
            listen,
            keys,
            by_token: Tokens::of(&tenants),
            tenants,
            counts_of_others: others,
            containment,
            left: previous.map_or_else(Left::default, |previous| Left::since(settings, previous)),
        },
        _ => return Err(problems),
    };
    Ok(Built {
        snapshot,
        newcomers,
    })
}

fn load_key(
    key: &settings::Key,
    upstream: &settings::Upstream,
    (previous, left, is_shared): (Option<&Snapshot>, &Left, bool),
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
    let known = previous.and_then(|previous| {
        let mut keys = previous.keys.iter();
        keys.find(|known| known.ring.name() == key.name)
    });
    let breaker = known
        .map(|known| &known.breaker)
        .filter(|breaker| breaker.bounds() == upstream.circuit_breaker.as_ref());
    Some(Key {
        ring: Arc::new(KeyRing::new(first?, next, known.map(|known| &*known.ring))),
        buckets: buckets(
            ("key", is_shared),
            &key.limits,
            known.map_or_else(|| left.of_key(&key.name), |known| &known.buckets),
            rules,
        ),
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
    known: &[Arc<Bucket>],
    rules: &mut Rules,
) -> Vec<Arc<Bucket>> {
    let mut new = |window| match (rules.of(scope, window), is_shared) {
        (rule, true) => Bucket::of_fleet(rule),
        (rule, false) => Bucket::new(rule),
    };
    windows
        .iter()
        .map(|window| {
            let same = known.iter().find(|bucket| bucket.window() == *window);
            same.cloned().unwrap_or_else(|| Arc::new(new(*window)))
        })
        .collect()
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
    (known, left, is_shared): (Option<&Tenant>, &Left, bool),
    rules: &mut Rules,
) -> Tenant {
    let own: Vec<_> = match known {
        Some(known) => known.limits.of_tenant().cloned().collect(),
        None => left.of_tenant(&tenant.name).to_vec(),
    };
    let line = || {
        let line = known.and_then(|known| known.line.as_ref());
        line.filter(|line| line.waiting_max() == tenant.wait_queue)
            .map_or_else(|| Arc::new(Line::new(tenant.wait_queue)), Arc::clone)
    };
    Tenant {
        name: Arc::clone(&tenant.name),
        key: Arc::clone(&key.ring),
        users,
        mode: tenant.mode,
        lasting: known.map_or_else(Arc::default, |known| Arc::clone(&known.lasting)),
        freeze_after: tenant.freeze_after,
        limits: Limits::new(
            buckets(("tenant", is_shared), &tenant.limits, &own, rules),
            key.buckets.iter().cloned(),
            Arc::clone(&key.gate),
            Arc::clone(&key.breaker),
            rules,
        ),
        wait: tenant.wait,
        line: (!tenant.wait.is_zero()).then(line),
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
    problems: &mut Vec<Problem>,
) -> Option<UserSet> {
    user_set(&tenant.users, grammar)
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
