//! Tokens of tenants and of the admin endpoints.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::check::Check;
use crate::{
    config::{
        problem::FieldPath,
        raw,
        settings::{Settings, TokenEntry},
        suggest::quote,
    },
    token::{EXPIRES_SOON, TokenDigest, looks_like_token},
};

/// Where each token stands: tenant, token of the tenant.
pub type SeenTokens = HashMap<TokenDigest, (u32, u32)>;

/// The tokens of one tenant.
pub fn of_tenant(
    check: &mut Check,
    at: &FieldPath,
    raw: Option<Vec<Option<raw::Token>>>,
    now: Timestamp,
    seen: &mut SeenTokens,
) -> Arc<[TokenEntry]> {
    let Some(raw) = check.required(at.clone(), raw) else {
        return Arc::default();
    };
    if raw.is_empty() {
        check.problem(
            at.clone(),
            "expected at least one token; `alloy-gateway token new` makes one",
        );
    }
    let mut tokens: Vec<TokenEntry> = Vec::with_capacity(raw.len());
    for (index, entry) in raw.into_iter().enumerate() {
        let at = at.clone().index(index);
        let Some(raw) = check.entry(&at, entry) else {
            continue;
        };
        if let Some(id) = &raw.id
            && tokens.iter().any(|known| *known.id == **id)
        {
            check.problem(
                at.clone().key("id"),
                "another token of this tenant has this id",
            );
        }
        let Some(token) = token(check, &at, raw, now) else {
            continue;
        };
        if let Some((tenant, other)) = seen.insert(token.digest, indices(&at)) {
            check.problem(
                at.key("sha256"),
                format!(
                    "the same token as tenants[{tenant}].tokens[{other}]: whose call would it be?"
                ),
            );
        }
        tokens.push(token);
    }
    if !tokens.is_empty() && !tokens.iter().any(|token| token.is_valid(now)) {
        check.warning(
            at.clone(),
            "none is valid now: the tenant cannot call at all, each of its calls is 401",
        );
    }
    tokens.into()
}

/// The token of the admin endpoints.
pub fn of_admin(check: &mut Check, at: &FieldPath, raw: raw::Token) -> Option<TokenEntry> {
    token(check, at, raw, Timestamp::now())
}

/// One token cannot be for both: a caller could then change the gateway.
pub fn admin_is_no_caller(check: &mut Check, settings: &Settings) {
    let Some(admin) = &settings.admin.token else {
        return;
    };
    let mut callers = settings.tenants.iter().flat_map(|tenant| &*tenant.tokens);
    if callers.any(|token| token.digest == admin.digest) {
        let at = FieldPath::root().key("admin").key("token").key("sha256");
        check.problem(at, "is the token of a tenant too: make one of its own, with `alloy-gateway token new --admin`");
    }
}

fn token(check: &mut Check, at: &FieldPath, raw: raw::Token, now: Timestamp) -> Option<TokenEntry> {
    let field = |name: &'static str| at.clone().key(name);
    let id = check.required(field("id"), raw.id);
    if let Some(id) = &id {
        check.name(field("id"), id);
    }
    let sha256 = check.required(field("sha256"), raw.sha256);
    let digest = sha256.and_then(|text| digest(check, field("sha256"), &text));
    let not_before = instant(check, field("not_before"), raw.not_before);
    let expires = instant(check, field("expires"), raw.expires);
    validity(check, at, not_before, expires, now);
    Some(TokenEntry {
        id: id?.into(),
        digest: digest?,
        not_before,
        expires,
    })
}

fn digest(check: &mut Check, at: FieldPath, text: &str) -> Option<TokenDigest> {
    let Some(digest) = TokenDigest::from_hex(text) else {
        let message = if looks_like_token(text) {
            "is a token itself: the config holds only its SHA-256; `alloy-gateway token hash` prints it. Replace this token, it is in a file now"
        } else {
            "expected 64 hex digits: the SHA-256 of the whole token, as `alloy-gateway token new` prints it"
        };
        check.problem(at, message);
        return None;
    };
    Some(digest)
}

/// Where a token's path points to.
fn indices(at: &FieldPath) -> (u32, u32) {
    use crate::config::problem::Segment;
    let mut indices = at.segments().iter().filter_map(|segment| match segment {
        Segment::Index(index) => u32::try_from(*index).ok(),
        Segment::Key(_) => None,
    });
    (
        indices.next().unwrap_or_default(),
        indices.next().unwrap_or_default(),
    )
}

fn instant(check: &mut Check, at: FieldPath, found: Option<String>) -> Option<Timestamp> {
    let found = found?;
    let instant = found.parse().ok();
    if instant.is_none() {
        check.problem(
            at,
            format!(
                "found {}, expected a time as in 2027-02-01T00:00:00Z (RFC 3339)",
                quote(&found)
            ),
        );
    }
    instant
}

fn validity(
    check: &mut Check,
    at: &FieldPath,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    now: Timestamp,
) {
    let Some(expires) = expires else { return };
    let at = at.clone().key("expires");
    if not_before.is_some_and(|not_before| not_before >= expires) {
        check.problem(
            at,
            "is not after not_before: the token would never be valid",
        );
        return;
    }
    let left = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
    if expires <= now {
        check.warning(at, "has passed: the token is refused");
    } else if left <= EXPIRES_SOON {
        let days = left.as_secs() / 86_400;
        check.warning(at, format!("the token is refused in {days} day(s)"));
    }
}
