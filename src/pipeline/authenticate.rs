//! [`Call`](super::contract::Call) → [`Identity`]: which tenant a token belongs to.

mod failures;

use http::{HeaderMap, header};
use jiff::Timestamp;

pub use self::failures::FailedAuth;
use super::refusal::{AuthFailure, LimitedBy, Refusal};
use crate::{
    config::{
        settings::TokenEntry,
        snapshot::{Snapshot, Tenant},
    },
    server::Peer,
    token::{BadToken, Token},
};

/// Proof that a good token was presented, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    tenant: &'a Tenant,
    token: &'a TokenEntry,
}

impl<'a> Identity<'a> {
    /// The tenant the token belongs to.
    pub fn tenant(&self) -> &'a Tenant {
        self.tenant
    }

    /// Which of the tenant's tokens it is.
    pub fn token(&self) -> &'a TokenEntry {
        self.token
    }
}

/// Looks up the bearer token of a request.
///
/// # Errors
///
/// `unauthenticated`, or `rate-limited` once the peer has failed too often.
pub fn identify<'a>(
    fields: &HeaderMap,
    snapshot: &'a Snapshot,
    peer: &Peer,
    now: Timestamp,
) -> Result<Identity<'a>, Refusal> {
    look_up(fields, snapshot, now).map_err(|failure| match snapshot.failed_auth.count(peer) {
        Ok(()) => Refusal::Unauthenticated(failure),
        Err(retry_after) => Refusal::RateLimited {
            by: LimitedBy::Unauthenticated,
            policy: None,
            retry_after,
            by_store: false,
        },
    })
}

fn look_up<'a>(
    fields: &HeaderMap,
    snapshot: &'a Snapshot,
    now: Timestamp,
) -> Result<Identity<'a>, AuthFailure> {
    let token = Token::parse(bearer(fields)?).map_err(|bad| match bad {
        BadToken::Malformed => AuthFailure::Malformed,
        BadToken::Checksum => AuthFailure::Checksum,
    })?;
    let (tenant, token) = snapshot
        .by_token(token.digest())
        .ok_or(AuthFailure::Unknown)?;
    tenant.prefetch(token);
    if token.not_before.is_some_and(|from| now < from) {
        return Err(AuthFailure::NotYetValid);
    }
    if token.expires.is_some_and(|until| now >= until) {
        return Err(AuthFailure::Expired);
    }
    Ok(Identity { tenant, token })
}

/// The credentials of exactly one `Authorization: Bearer …`, the scheme in any
/// case and followed by spaces (RFC 9110 §11.4).
fn bearer(fields: &HeaderMap) -> Result<&[u8], AuthFailure> {
    let mut values = fields.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthFailure::Missing)?;
    if values.next().is_some() {
        return Err(AuthFailure::Malformed);
    }
    let (scheme, rest) = value
        .as_bytes()
        .split_at_checked("Bearer".len())
        .ok_or(AuthFailure::Malformed)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") || rest.first() != Some(&b' ') {
        return Err(AuthFailure::Malformed);
    }
    Ok(rest.trim_ascii_start())
}
