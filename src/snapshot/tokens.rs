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
        let hash = |place: &Place| {
            let found = place.of(tenants);
            found.map_or(0, |(_, entry)| entry.digest.first_eight())
        };
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
        self.0.find(digest.first_eight(), is_it)?.of(tenants)
    }
}

impl Place {
    fn of(self, tenants: &[Tenant]) -> Option<(&Tenant, &TokenEntry)> {
        let tenant = tenants.get(usize::try_from(self.tenant).ok()?)?;
        let token = tenant.tokens.get(usize::try_from(self.token).ok()?)?;
        Some((tenant, token))
    }
}

#[cfg(test)]
mod tests {
    use crate::{snapshot::testing::built, token::TokenDigest};

    #[test]
    fn each_token_is_found_as_itself_and_no_other_is_taken_for_one() {
        // The first eight bytes are what the table goes by.
        let digest = |first: u8, last: u8| {
            let (first, last) = (format!("{first:02x}"), format!("{last:02x}"));
            first + &"00".repeat(30) + &last
        };
        let tenants = [
            ("billing", vec![digest(1, 1), digest(2, 1)]),
            ("crm", vec![digest(1, 2)]),
            ("late", vec![digest(3, 1), digest(1, 3), digest(1, 4)]),
        ];
        let snapshot = built(&tenants, None).with_lasting();
        let found = |text: &str| {
            let found = snapshot.by_token(TokenDigest::from_hex(text).unwrap());
            found.map(|(tenant, token)| (tenant.name.to_string(), token.id.to_string()))
        };
        for (name, digests) in &tenants {
            for (n, digest) in digests.iter().enumerate() {
                let it = ((*name).to_owned(), format!("t{n}"));
                assert_eq!(found(digest), Some(it), "{digest}");
            }
        }
        for unknown in [digest(1, 5), digest(2, 2), digest(3, 0), digest(4, 1)] {
            assert_eq!(found(&unknown), None, "{unknown}");
        }
    }
}
