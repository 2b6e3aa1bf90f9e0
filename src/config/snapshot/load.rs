//! Settings → snapshot: reads what the settings name.

use std::{collections::HashMap, path::Path, sync::Arc};

use http::HeaderValue;

use super::secrets::{api_key, read_file};
use super::{Snapshot, Target, Tenant, TokenInfo, TokenPlace, UserSet};
use crate::{
    config::{
        problem::{FieldPath, Problem},
        settings::{self, Settings, Trust, Users},
    },
    ids::{IdGrammar, UserId},
    pipeline::{
        authenticate::FailedAuth,
        limit::{Breaker, Bucket, Gate, InFlightCount, Limits, Line},
    },
    secret::UpstreamKey,
    tls,
};

/// The longest list of users that is read, in bytes.
const USERS_BYTES_MAX: u64 = 64 << 20;

/// Reads every secret, list and certificate that `settings` name, and makes
/// the limiters.
///
/// # Errors
///
/// Every problem at once; none of them holds anything of a secret.
pub fn build(settings: &Settings, digest: &str) -> Result<Snapshot, Vec<Problem>> {
    let mut problems = Vec::new();
    let target = target(&settings.upstream, &mut problems);
    let keys: Vec<_> = settings
        .keys
        .iter()
        .filter_map(|key| Key::load(key, &settings.upstream, &mut problems))
        .collect();
    let whole = keys.len() == settings.keys.len();
    let mut tenants = Vec::with_capacity(settings.tenants.len());
    let mut by_token =
        HashMap::with_capacity(settings.tenants.iter().map(|t| t.tokens.len()).sum());
    for (at, tenant) in settings.tenants.iter().enumerate() {
        let users = users(at, tenant, settings.upstream.ids, &mut problems);
        let (true, Some(users), Some(key)) = (whole, users, keys.get(tenant.key)) else {
            continue;
        };
        for (token, entry) in (0..).zip(&tenant.tokens) {
            let place = TokenPlace {
                tenant: u32::try_from(at).unwrap_or(u32::MAX),
                token,
            };
            by_token.insert(entry.digest, place);
        }
        tenants.push(ready(tenant, key, users));
    }
    match (target, problems.is_empty()) {
        (Some(target), true) => Ok(Snapshot {
            digest: digest.into(),
            bounds: settings.bounds.clone(),
            upstream: Arc::new(target),
            failed_auth: FailedAuth::new(settings.bounds.failed_auth),
            tenants,
            by_token,
        }),
        _ => Err(problems),
    }
}

/// What tenants share of a key.
struct Key {
    key: Arc<UpstreamKey>,
    buckets: Vec<Arc<Bucket>>,
    gate: Arc<Gate>,
    breaker: Arc<Breaker>,
}

impl Key {
    fn load(
        key: &settings::Key,
        upstream: &settings::Upstream,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let at = FieldPath::root().key("keys").key(&key.name).key("secret");
        let secret = match api_key(&key.secret) {
            Ok(secret) => secret,
            Err((field, message)) => {
                problems.push(Problem::new(at.key(field), message));
                return None;
            }
        };
        Some(Self {
            key: Arc::new(UpstreamKey::new(&key.name, &secret, &upstream.auth_scheme)?),
            buckets: key
                .limits
                .iter()
                .map(|w| Arc::new(Bucket::new("key", *w)))
                .collect(),
            gate: Arc::default(),
            breaker: Arc::new(Breaker::new(upstream.circuit_breaker.clone())),
        })
    }
}

fn ready(tenant: &settings::Tenant, key: &Key, users: UserSet) -> Tenant {
    let own = tenant
        .limits
        .iter()
        .map(|w| Arc::new(Bucket::new("tenant", *w)));
    Tenant {
        name: tenant.name.as_ref().into(),
        key: Arc::clone(&key.key),
        users,
        mode: tenant.mode,
        limits: Limits::new(
            own,
            key.buckets.iter().cloned(),
            Arc::clone(&key.gate),
            Arc::clone(&key.breaker),
        ),
        wait: tenant.wait,
        line: Line::new(tenant.wait_queue),
        in_flight: InFlightCount::new(tenant.in_flight),
        tokens: tenant
            .tokens
            .iter()
            .map(|token| TokenInfo {
                id: token.id.clone(),
                not_before: token.not_before,
                expires: token.expires,
            })
            .collect(),
    }
}

fn target(upstream: &settings::Upstream, problems: &mut Vec<Problem>) -> Option<Target> {
    let tls = if upstream.url.tls {
        match tls::client_config(&upstream.trust) {
            Ok(tls) => Some(tls),
            Err(error) => {
                let trust = FieldPath::root().key("upstream").key("trust");
                let at = if matches!(upstream.trust, Trust::File(_)) {
                    trust.key("file")
                } else {
                    trust
                };
                problems.push(Problem::new(at, error.to_string()));
                return None;
            }
        }
    } else {
        None
    };
    // Both were validated as header values with the settings.
    Some(Target {
        authority: HeaderValue::try_from(upstream.url.authority()).ok()?,
        api_version: HeaderValue::try_from(upstream.api_version.as_str()).ok()?,
        settings: upstream.clone(),
        tls,
    })
}

fn users(
    tenant_at: usize,
    tenant: &settings::Tenant,
    grammar: IdGrammar,
    problems: &mut Vec<Problem>,
) -> Option<UserSet> {
    let path = match &tenant.users {
        Users::All => return Some(UserSet::All),
        Users::Listed(users) => return Some(UserSet::Only(users.iter().cloned().collect())),
        Users::File(path) => path,
    };
    read_users(path, grammar)
        .map_err(|message| {
            let at = FieldPath::root()
                .key("tenants")
                .index(tenant_at)
                .key("users")
                .key("file");
            problems.push(Problem::new(at, message));
        })
        .ok()
        .map(UserSet::Only)
}

fn read_users(
    path: &Path,
    grammar: IdGrammar,
) -> Result<std::collections::HashSet<UserId>, String> {
    let content = read_file(path, USERS_BYTES_MAX)?;
    if content.len() as u64 > USERS_BYTES_MAX {
        return Err(format!(
            "{} is longer than {USERS_BYTES_MAX} bytes",
            path.display()
        ));
    }
    let text = String::from_utf8(content)
        .map_err(|error| format!("{} is not UTF-8 ({error})", path.display()))?;
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.split('#').next().unwrap_or_default().trim()))
        .filter(|(_, id)| !id.is_empty())
        .map(|(number, id)| {
            UserId::parse(id, grammar)
                .ok_or_else(|| format!("{} line {number}: not a user id", path.display()))
        })
        .collect()
}
