//! [`Call`](super::contract::Call) → [`Identity`]: which tenant a token belongs to.

use http::HeaderMap;
use jiff::Timestamp;

use super::refusal::Refusal;
use crate::{
    arrival::Peer,
    code::{AuthFailure, LimitedBy},
    config::settings::{TokenEntry, TokenState},
    snapshot::{Snapshot, Tenant},
    token::{BadToken, NoBearer, Token, bearer},
};

/// Whose token was presented. It may be one of another time, and proves nothing.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    tenant: &'a Tenant,
    token: &'a TokenEntry,
}

/// Proof that a good token was presented, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a>(Owner<'a>);

/// Why nobody was identified.
#[derive(Debug)]
pub struct Unidentified<'a> {
    /// What the caller is told: the same of every token that is not good.
    pub refusal: Refusal,
    /// Whose token it was, if it was somebody's: for the trail, never for the caller.
    pub owner: Option<Owner<'a>>,
}

impl<'a> Owner<'a> {
    /// The tenant the token belongs to.
    pub fn tenant(&self) -> &'a Tenant {
        self.tenant
    }

    /// Which of the tenant's tokens it is.
    pub fn token(&self) -> &'a TokenEntry {
        self.token
    }

    fn at(self, now: Timestamp) -> Result<Identity<'a>, AuthFailure> {
        match self.token.state(now) {
            TokenState::Good(_) => Ok(Identity(self)),
            TokenState::NotYet(_) => Err(AuthFailure::NotYetValid),
            TokenState::Expired(_) => Err(AuthFailure::Expired),
        }
    }
}

impl<'a> Identity<'a> {
    /// The tenant the token belongs to.
    pub fn tenant(&self) -> &'a Tenant {
        self.0.tenant
    }

    /// Which of the tenant's tokens it is.
    pub fn token(&self) -> &'a TokenEntry {
        self.0.token
    }

    /// Whose token it is.
    pub fn owner(&self) -> Owner<'a> {
        self.0
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
) -> Result<Identity<'a>, Unidentified<'a>> {
    let owner = look_up(fields, snapshot);
    let identity = owner.and_then(|owner| owner.at(now));
    identity.map_err(|failure| Unidentified {
        refusal: refusal(failure, snapshot, peer),
        owner: owner.ok(),
    })
}

fn refusal(failure: AuthFailure, snapshot: &Snapshot, peer: &Peer) -> Refusal {
    match snapshot.failed_auth.count(peer) {
        Ok(()) => Refusal::Unauthenticated(failure),
        Err(retry_after) => Refusal::RateLimited {
            by: LimitedBy::Unauthenticated,
            policy: None,
            retry_after,
            by_store: false,
        },
    }
}

fn look_up<'a>(fields: &HeaderMap, snapshot: &'a Snapshot) -> Result<Owner<'a>, AuthFailure> {
    let presented = bearer(fields).map_err(|none| match none {
        NoBearer::Missing => AuthFailure::Missing,
        NoBearer::Malformed => AuthFailure::Malformed,
    })?;
    let token = Token::parse(presented).map_err(|bad| match bad {
        BadToken::Malformed => AuthFailure::Malformed,
        BadToken::Checksum => AuthFailure::Checksum,
    })?;
    let (tenant, token) = snapshot
        .by_token(token.digest())
        .ok_or(AuthFailure::Unknown)?;
    tenant.prefetch(token);
    Ok(Owner { tenant, token })
}
