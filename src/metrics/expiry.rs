//! Tokens that are about to expire.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::config::snapshot::{Snapshot, Tenant, TokenInfo};

/// How long before a token expires it is warned of.
const AHEAD: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How often it is warned of the same token.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Tokens that are named one by one in one look; the rest is a number.
const NAMED_MAX: usize = 20;

/// When the first of a tenant's tokens that is still good expires, if one does.
pub fn earliest(tenant: &Tenant, now: Timestamp) -> Option<Timestamp> {
    let expiries = tenant.tokens().iter().filter_map(|token| token.expires);
    expiries.filter(|expires| *expires > now).min()
}

/// Warns of tokens that expire soon: at once after a config was loaded, and then
/// once a day of each.
#[derive(Debug, Default)]
pub struct ExpiryWatch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    config: Option<Box<str>>,
    next_look: Timestamp,
}

impl ExpiryWatch {
    /// Logs which tokens expire soon, if it is time to.
    pub fn look(&self, snapshot: &Snapshot, now: Timestamp) {
        {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_known = seen.config.as_ref() == Some(&snapshot.digest);
            if is_known && now < seen.next_look {
                return;
            }
            seen.config = Some(snapshot.digest.clone());
            seen.next_look = now.checked_add(AGAIN_AFTER).unwrap_or(Timestamp::MAX);
        }
        let found = expiring(snapshot, now);
        for (tenant, token, expires) in found.iter().take(NAMED_MAX) {
            tracing::warn!(
                tenant.id = tenant,
                token.id = token,
                %expires,
                "a token expires soon: give its tenant another one beside it"
            );
        }
        let unnamed = found.len().saturating_sub(NAMED_MAX);
        if unnamed > 0 {
            tracing::warn!(tokens = unnamed, "further tokens expire soon");
        }
    }
}

/// The tokens that expire soon and are not expired, the first of them first.
fn expiring(snapshot: &Snapshot, now: Timestamp) -> Vec<(&str, &str, Timestamp)> {
    let until = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    let tokens = snapshot.tenants().iter().flat_map(|tenant| {
        let tokens = tenant.tokens().iter();
        tokens.map(|token| (&*tenant.name, token))
    });
    let mut found: Vec<_> = tokens
        .filter_map(|(tenant, TokenInfo { id, expires, .. })| Some((tenant, &**id, (*expires)?)))
        .filter(|(_, _, expires)| *expires > now && *expires <= until)
        .collect();
    found.sort_by_key(|(_, _, expires)| *expires);
    found
}
