//! [`Identity`] → [`Permit`]: whether this tenant may touch this user.

use super::{authenticate::Identity, contract::Call, refusal::Refusal};
use crate::{
    config::settings::{Mode, TokenEntry},
    snapshot::Tenant,
};

/// Proof that the tenant may delete this credential.
#[derive(Debug, Clone, Copy)]
pub struct Permit<'a> {
    identity: Identity<'a>,
    call: &'a Call,
}

impl<'a> Permit<'a> {
    /// The tenant that may.
    pub fn tenant(&self) -> &'a Tenant {
        self.identity.tenant()
    }

    /// The token it came with.
    pub fn token(&self) -> &'a TokenEntry {
        self.identity.token()
    }

    /// What it may do.
    pub fn call(&self) -> &'a Call {
        self.call
    }
}

/// Holds a call against its tenant's mode and users.
///
/// # Errors
///
/// `tenant-frozen` before `tenant-suspended` before `user-not-allowed`.
pub fn permit<'a>(identity: Identity<'a>, call: &'a Call) -> Result<Permit<'a>, Refusal> {
    let tenant = identity.tenant();
    if tenant.is_frozen() {
        return Err(Refusal::TenantFrozen);
    }
    if tenant.mode == Mode::Suspended {
        return Err(Refusal::TenantSuspended);
    }
    if !tenant.users.allow(call.user()) {
        return Err(Refusal::UserNotAllowed);
    }
    Ok(Permit { identity, call })
}
