//! Tokens that are about to expire.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::{
    background,
    config::{
        settings::TokenEntry,
        snapshot::{Snapshot, Tenant},
    },
    token::EXPIRES_SOON,
};

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
        if !self.is_due(&snapshot.digest, now) {
            return;
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
            tracing::warn!(
                tokens = unnamed,
                "so many more tokens expire soon: alloy_gateway_tenant_token_expiry_timestamp_seconds has their tenants"
            );
        }
    }

    /// Whether this config was not looked at today.
    fn is_due(&self, digest: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.config.as_deref() == Some(digest) && now < seen.next_look {
            return false;
        }
        seen.config = Some(digest.into());
        seen.next_look = now.checked_add(AGAIN_AFTER).unwrap_or(Timestamp::MAX);
        true
    }
}

/// The tokens that expire soon and are not expired, the first of them first.
fn expiring(snapshot: &Snapshot, now: Timestamp) -> Vec<(&str, &str, Timestamp)> {
    let until = now.checked_add(EXPIRES_SOON).unwrap_or(Timestamp::MAX);
    let tokens = snapshot.tenants().iter().flat_map(|tenant| {
        background::give_way();
        let tokens = tenant.tokens().iter();
        tokens.map(|token| (&*tenant.name, token))
    });
    let mut found: Vec<_> = tokens
        .filter_map(|(tenant, TokenEntry { id, expires, .. })| Some((tenant, &**id, (*expires)?)))
        .filter(|(_, _, expires)| *expires > now && *expires <= until)
        .collect();
    found.sort_by_key(|(_, _, expires)| *expires);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_config_is_looked_at_when_it_is_loaded_and_then_once_a_day() {
        let watch = ExpiryWatch::default();
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let after = |hours| {
            start
                .checked_add(SignedDuration::from_hours(hours))
                .unwrap()
        };
        assert!(watch.is_due("one", start));
        assert!(!watch.is_due("one", start));
        assert!(!watch.is_due("one", after(23)));
        assert!(watch.is_due("another", after(23)));
        assert!(!watch.is_due("another", after(46)));
        assert!(watch.is_due("another", after(47)));
        assert!(!watch.is_due("another", after(48)));
    }
}
