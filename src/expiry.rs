//! Tokens that are about to expire; certificates below.

mod certificates;

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

pub use self::certificates::CertificateWatch;
use crate::{background, config::settings::TokenEntry, snapshot::Snapshot, token::EXPIRES_SOON};

/// How often it is warned of the same token, or certificate.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Tokens that are named one by one in one look; the rest is a number.
const NAMED_MAX: usize = 20;

/// Whether it is time to tell again what was told at `told`. A clock that was set back since
/// may take years to come there again.
fn is_due_again(told: Timestamp, now: Timestamp) -> bool {
    now < told || now.duration_since(told) >= AGAIN_AFTER
}

/// When the first of a tenant's tokens that is still good expires, if one does. Of a
/// tenant that can't call any more, since when: an outage must not look like a token
/// that never expires.
pub fn earliest(tokens: &[TokenEntry], now: Timestamp) -> Option<Timestamp> {
    let expiries = tokens.iter().filter_map(|token| token.expires);
    ended(tokens, now).or_else(|| expiries.filter(|expires| *expires > now).min())
}

/// Which of two times stands for both: the first that is to come, else the last one. So a
/// tenant that ended long ago hides nothing of those that can still call.
pub fn nearest(one: Timestamp, other: Timestamp, now: Timestamp) -> Timestamp {
    match (one > now, other > now) {
        (true, true) => one.min(other),
        (true, false) => one,
        (false, true) => other,
        (false, false) => one.max(other),
    }
}

/// Since when none of these tokens is good, if one was.
pub fn ended(tokens: &[TokenEntry], now: Timestamp) -> Option<Timestamp> {
    if tokens.iter().any(|token| token.is_valid(now)) {
        return None;
    }
    let expiries = tokens.iter().filter_map(|token| token.expires);
    expiries.filter(|expires| *expires <= now).max()
}

/// Warns of tokens that expire soon, at once after a config was loaded and then once
/// a day of each; and once of each tenant whose last token has expired.
#[derive(Debug, Default)]
pub struct ExpiryWatch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    config: Option<Box<str>>,
    /// When the tokens of this config that expire soon were told.
    told_soon: Timestamp,
    /// What ended until then was told.
    told_until: Timestamp,
    /// When the next token of this config expires.
    next_end: Timestamp,
}

impl ExpiryWatch {
    /// Logs which tokens expire soon, and whose last one has, if it is time to.
    pub fn look(&self, snapshot: &Snapshot, now: Timestamp) {
        if let Some(told_until) = self.ends_are_due(snapshot, now) {
            tell_ended(snapshot, told_until, now);
        }
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

    /// Up to when it was told whose last token has expired, if another may have since:
    /// looking at all tokens each second would be much for nothing.
    fn ends_are_due(&self, snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = seen.config.as_deref() == Some(&snapshot.digest);
        if is_known && seen.told_until <= now && now < seen.next_end {
            return None;
        }
        let tokens = snapshot.tenants().iter().flat_map(|tenant| {
            background::give_way();
            tenant.tokens()
        });
        let expiries = tokens.filter_map(|token| token.expires);
        let next = expiries.filter(|expires| *expires > now).min();
        seen.next_end = next.unwrap_or(Timestamp::MAX);
        // Where the clock was set back, what ends from now on was not told.
        Some(std::mem::replace(&mut seen.told_until, now).min(now))
    }

    /// Whether this config was not looked at today.
    fn is_due(&self, digest: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.config.as_deref() == Some(digest) && !is_due_again(seen.told_soon, now) {
            return false;
        }
        seen.config = Some(digest.into());
        seen.told_soon = now;
        true
    }
}

/// Logs whose last token has expired since `told_until`.
fn tell_ended(snapshot: &Snapshot, told_until: Timestamp, now: Timestamp) {
    let tenants = snapshot.tenants().iter().filter_map(|tenant| {
        background::give_way();
        Some((&*tenant.name, ended(tenant.tokens(), now)?))
    });
    let found: Vec<_> = tenants.filter(|(_, since)| *since > told_until).collect();
    for (tenant, since) in found.iter().take(NAMED_MAX) {
        tracing::error!(
            tenant.id = tenant,
            %since,
            "no token of the tenant is valid any more: each of its calls is refused"
        );
    }
    let unnamed = found.len().saturating_sub(NAMED_MAX);
    if unnamed > 0 {
        tracing::error!(
            tenants = unnamed,
            "so many more tenants have no valid token"
        );
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
    use crate::{snapshot::testing, token::TokenDigest};

    fn token(not_before: Option<&str>, expires: Option<&str>) -> TokenEntry {
        let day = |text: &str| format!("2026-{text}T00:00:00Z").parse().unwrap();
        TokenEntry {
            id: "first".into(),
            digest: TokenDigest::from_hex(&"0a".repeat(32)).unwrap(),
            not_before: not_before.map(day),
            expires: expires.map(day),
        }
    }

    #[test]
    fn a_tenant_without_a_valid_token_shows_since_when_and_one_with_another_what_comes_next() {
        let now = "2026-11-10T00:00:00Z".parse().unwrap();
        let of = |tokens: &[TokenEntry]| {
            let day = |at: Timestamp| at.to_string().get(5..10).unwrap().to_owned();
            let (earliest, ended) = (earliest(tokens, now), ended(tokens, now));
            (earliest.map(day), ended.map(day))
        };
        let some = |day: &str| Some(day.to_owned());
        let (gone, longer_gone) = (token(None, Some("11-10")), token(None, Some("11-01")));
        let (good, endless) = (token(None, Some("12-01")), token(None, None));
        let later = token(Some("11-20"), Some("12-20"));
        let both = [longer_gone, gone.clone()];
        assert_eq!(of(&both), (some("11-10"), some("11-10")));
        // One that is not valid yet helps nobody.
        assert_eq!(
            of(&[gone.clone(), later.clone()]),
            (some("11-10"), some("11-10"))
        );
        assert_eq!(of(&[gone.clone(), good.clone()]), (some("12-01"), None));
        assert_eq!(of(&[gone, endless.clone()]), (None, None));
        assert_eq!(of(&[later]), (some("12-20"), None));
        assert_eq!(of(&[endless]), (None, None));
    }

    #[test]
    fn of_several_tenants_the_next_time_to_come_counts_and_a_past_one_only_if_there_is_none() {
        let day = |day: &str| format!("2026-11-{day}T00:00:00Z").parse().unwrap();
        let now = day("10");
        for (one, other, expected) in [
            ("01", "20", "20"),
            ("25", "20", "20"),
            ("01", "05", "05"),
            ("10", "05", "10"),
        ] {
            let (one, other) = (day(one), day(other));
            assert_eq!(nearest(one, other, now), day(expected));
            assert_eq!(nearest(other, one, now), day(expected));
        }
    }

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

    #[test]
    fn a_clock_that_was_set_back_by_years_silences_nothing() {
        let watch = ExpiryWatch::default();
        let ahead: Timestamp = "2040-01-01T00:00:00Z".parse().unwrap();
        let right: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let after = |hours| right + SignedDuration::from_hours(hours);
        let tenants = [("a", vec!["0a".repeat(32)])];
        let snapshot = testing::built(&tenants, None).with_lasting();
        watch.look(&snapshot, ahead);
        assert!(watch.ends_are_due(&snapshot, ahead).is_none());
        // What ended until then was told; what ends from now on was not.
        assert_eq!(watch.ends_are_due(&snapshot, right), Some(right));
        assert!(watch.ends_are_due(&snapshot, right).is_none());
        assert!(watch.is_due(&snapshot.digest, right));
        assert!(!watch.is_due(&snapshot.digest, after(23)));
        assert!(watch.is_due(&snapshot.digest, after(24)));
    }
}
