//! Digest → tenant and token.

use hashbrown::HashTable;

use super::Tenant;
use crate::{background, config::settings::TokenEntry, token::TokenDigest};

/// Where each token stands. Only places are kept: the digest is compared where the
/// token is, whose dates every call needs, so that the table is a fifth as large and
/// a call looks at one place less that is hardly ever in the processor's cache.
#[derive(Debug)]
pub struct Tokens(HashTable<Place>);

/// Tenant, token of the tenant.
#[derive(Debug, Clone, Copy)]
struct Place {
    tenant: u32,
    token: u32,
}

impl Tokens {
    /// The tokens of these tenants; that no two have the same digest was validated.
    pub fn of(tenants: &[Tenant]) -> Self {
        let count = tenants.iter().map(|tenant| tenant.tokens.len()).sum();
        let mut places = HashTable::with_capacity(count);
        let hash = |place: &Place| place.of(tenants).map_or(0, |(_, entry)| hash(entry.digest));
        for (tenant, it) in (0..).zip(tenants) {
            background::give_way();
            for (token, _) in (0..).zip(&*it.tokens) {
                let place = Place { tenant, token };
                places.insert_unique(hash(&place), place, hash);
            }
        }
        Self(places)
    }

    /// The tenant and token with this digest; `tenants` are those it was made of.
    pub fn find<'a>(
        &self,
        tenants: &'a [Tenant],
        digest: TokenDigest,
    ) -> Option<(&'a Tenant, &'a TokenEntry)> {
        let is_it = |place: &Place| {
            let found = place.of(tenants);
            found.is_some_and(|(_, entry)| entry.digest == digest)
        };
        self.0.find(hash(digest), is_it)?.of(tenants)
    }
}

impl Place {
    fn of(self, tenants: &[Tenant]) -> Option<(&Tenant, &TokenEntry)> {
        let tenant = tenants.get(usize::try_from(self.tenant).ok()?)?;
        let token = tenant.tokens.get(usize::try_from(self.token).ok()?)?;
        Some((tenant, token))
    }
}

/// Any eight bytes of a SHA-256 are as good as a hash of all of them.
fn hash(digest: TokenDigest) -> u64 {
    let first = digest.as_bytes().first_chunk();
    u64::from_ne_bytes(first.copied().unwrap_or_default())
}
