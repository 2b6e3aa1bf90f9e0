//! Refusals in bounds: one by one as long as there are few, then counted
//! together, so that a flood of them buys neither disk nor memory.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use super::{
    event,
    format::{CODE_OF_CONNECTIONS, CODE_OF_GUESSES},
    record::{Fragment, RefusedRecord, Who, time},
};
use crate::allowance::Allowance;

/// Refusals that are written one by one however fast they come.
const BURST: u32 = 200;
/// After that, of strangers: one in so long. A million bad tokens, sent at a
/// thousand a second, are a megabyte.
const STRANGERS_EVERY: Duration = Duration::from_millis(500);
/// After that, of those whose token was good: one in so long. They have an
/// allowance of their own, so that no stranger can hide what a tenant tried.
const TENANTS_EVERY: Duration = Duration::from_millis(50);
/// Different refusals that are coalesced apart from each other.
const KEYS_MAX: usize = 1024;
/// Of those, of one tenant: whoever holds its token may have many addresses, and must not
/// take the room of others.
const TENANT_KEYS_MAX: usize = 16;
/// So many more name tenant and token still, but neither peer nor reason.
const FOLDED_MAX: usize = 1024;
/// Different refusals of strangers that are: their addresses are theirs to choose.
const STRANGER_KEYS_MAX: usize = 16;
/// How long coalesced refusals are collected.
const COLLECT_FOR: Duration = Duration::from_secs(1);

/// What refusals have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: Option<String>,
    token: Option<String>,
    peer: String,
    code: String,
    reason: Option<String>,
}

/// Refusals that are counted together.
#[derive(Debug)]
pub struct Coalesced {
    strangers: Allowance,
    tenants: Allowance,
    admin: Allowance,
    counts: HashMap<Key, Count>,
    of_strangers: usize,
    of_tenants: HashMap<String, usize>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Count {
    count: u64,
    first_us: i64,
    last_us: i64,
}

impl Key {
    /// Of a refused request.
    pub fn of(record: &RefusedRecord<'_>) -> Self {
        Self {
            tenant: record.tenant.map(ToOwned::to_owned),
            token: record.token.map(ToOwned::to_owned),
            peer: address_of(record.peer).to_owned(),
            code: record.code.to_owned(),
            reason: record.reason.map(ToOwned::to_owned),
        }
    }

    /// Of a connection that was ended before there was a request.
    pub fn connection(peer: &str, reason: &str) -> Self {
        Self {
            tenant: None,
            token: None,
            peer: address_of(peer).to_owned(),
            code: CODE_OF_CONNECTIONS.to_owned(),
            reason: Some(reason.to_owned()),
        }
    }

    /// Of an admin token that was not good.
    pub fn admin(peer: &str) -> Self {
        Self {
            tenant: None,
            token: None,
            peer: address_of(peer).to_owned(),
            code: CODE_OF_GUESSES.to_owned(),
            reason: None,
        }
    }
}

impl Key {
    /// Of those that are too many to be told apart.
    fn other(code: String) -> Self {
        Self {
            tenant: None,
            token: None,
            peer: "other".to_owned(),
            code,
            reason: None,
        }
    }
}

impl Default for Coalesced {
    fn default() -> Self {
        Self {
            strangers: Allowance::new(BURST, STRANGERS_EVERY),
            tenants: Allowance::new(BURST, TENANTS_EVERY),
            admin: Allowance::new(BURST, STRANGERS_EVERY),
            counts: HashMap::new(),
            of_strangers: 0,
            of_tenants: HashMap::new(),
            due: None,
        }
    }
}

impl Coalesced {
    /// Counts one more; whether it may have a record of its own.
    pub fn admit(&mut self, who: Who) -> bool {
        let allowance = match who {
            Who::Stranger => &mut self.strangers,
            Who::Tenant => &mut self.tenants,
            Who::AtAdmin => &mut self.admin,
        };
        allowance.take(Instant::now())
    }

    /// Counts one that has no record of its own.
    pub fn add(&mut self, who: Who, mut key: Key) {
        self.due.get_or_insert(Instant::now() + COLLECT_FOR);
        if !self.counts.contains_key(&key) {
            // The key can't tell: a stranger may hold a token that was a tenant's once.
            key = match who {
                Who::Tenant => self.of_tenant(key),
                Who::Stranger | Who::AtAdmin => self.of_stranger(key),
            };
        }
        let now_us = jiff::Timestamp::now().as_microsecond();
        let count = self.counts.entry(key).or_insert(Count {
            count: 0,
            first_us: now_us,
            last_us: now_us,
        });
        count.count += 1;
        count.last_us = now_us;
    }

    /// What a new refusal of a stranger's is counted with.
    fn of_stranger(&mut self, key: Key) -> Key {
        if self.of_strangers >= STRANGER_KEYS_MAX {
            return Key::other(key.code);
        }
        self.of_strangers += 1;
        key
    }

    /// What a new refusal of a tenant's is counted with. Whoever took over a token must not
    /// hide whose it is behind many addresses.
    fn of_tenant(&mut self, key: Key) -> Key {
        let name = key.tenant.clone().unwrap_or_default();
        let of_this = self.of_tenants.entry(name).or_default();
        if *of_this < TENANT_KEYS_MAX && self.counts.len() < KEYS_MAX {
            *of_this += 1;
            return key;
        }
        let folded = Key {
            tenant: key.tenant,
            token: key.token,
            ..Key::other(key.code)
        };
        if self.counts.len() < KEYS_MAX + FOLDED_MAX || self.counts.contains_key(&folded) {
            return folded;
        }
        Key::other(folded.code)
    }

    /// When what was counted is to be written.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the records of what was counted.
    pub fn take(&mut self) -> impl Iterator<Item = Fragment> + use<> {
        self.due = None;
        self.of_strangers = 0;
        self.of_tenants.clear();
        mem::take(&mut self.counts).into_iter().map(|(key, count)| {
            Fragment::now(event::COALESCED)
                .optional("tenant", key.tenant.as_deref())
                .optional("token", key.token.as_deref())
                .text("peer", &key.peer)
                .text("code", &key.code)
                .optional("reason", key.reason.as_deref())
                .number("count", count.count)
                .text("first", &time(count.first_us))
                .text("last", &time(count.last_us))
        })
    }
}

/// The address of a peer without its port, which differs with each connection.
fn address_of(peer: &str) -> &str {
    peer.rsplit_once(':')
        .filter(|_| !peer.starts_with("unix:"))
        .map_or(peer, |(address, _)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: Option<&str>, peer: &str) -> Key {
        Key {
            tenant: tenant.map(ToOwned::to_owned),
            token: None,
            peer: peer.to_owned(),
            code: "unauthenticated".to_owned(),
            reason: Some("unknown".to_owned()),
        }
    }

    #[test]
    fn a_stranger_cannot_hide_what_a_tenant_tried() {
        let mut coalesced = Coalesced::default();
        assert_eq!(
            (0..1000).filter(|_| coalesced.admit(Who::Stranger)).count(),
            200
        );
        assert!(coalesced.admit(Who::Tenant));
        assert!(coalesced.admit(Who::AtAdmin));
    }

    #[test]
    fn a_stranger_with_many_addresses_buys_few_records_and_each_is_counted() {
        let mut coalesced = Coalesced::default();
        for n in 0..5000 {
            let peer = format!("10.0.{}.{}", n / 250, n % 250);
            coalesced.add(Who::Stranger, key(None, &peer));
            let tenant = format!("t{}", n % 100);
            coalesced.add(Who::Tenant, key(Some(&tenant), "10.0.0.1"));
        }
        let records: Vec<_> = coalesced.take().collect();
        // One more for all others.
        assert_eq!(records.len(), STRANGER_KEYS_MAX + 1 + 100);
        let of_others = records
            .iter()
            .find(|record| record.fields.contains("\"peer\":\"other\""));
        let count = format!("\"count\":{}", 5000 - STRANGER_KEYS_MAX);
        assert!(of_others.unwrap().fields.contains(&count));
        assert_eq!(coalesced.take().count(), 0);
    }

    #[test]
    fn a_tenant_with_many_addresses_hides_neither_itself_nor_another() {
        let mut coalesced = Coalesced::default();
        for n in 0..5000 {
            let peer = format!("127.0.{}.{}", n / 250, n % 250);
            coalesced.add(Who::Tenant, key(Some("billing"), &peer));
        }
        for n in 0..3000 {
            coalesced.add(Who::Tenant, key(Some(&format!("t{n}")), "10.0.0.1"));
        }
        let records: Vec<_> = coalesced.take().collect();
        // All of billing's, and as many others as there is room for; one for the rest.
        assert_eq!(records.len(), KEYS_MAX + FOLDED_MAX + 1);
        let of = |what: &str| {
            let of = records.iter().filter(|it| it.fields.contains(what));
            of.map(|it| it.fields.clone()).collect::<Vec<_>>()
        };
        let billing = of("\"tenant\":\"billing\"");
        assert_eq!(billing.len(), TENANT_KEYS_MAX + 1);
        let count = format!("\"count\":{}", 5000 - TENANT_KEYS_MAX);
        let folded = |it: &&String| it.contains("\"peer\":\"other\"");
        assert!(billing.iter().find(folded).unwrap().contains(&count));
        assert_eq!(of("\"tenant\":\"t100\"").len(), 1);
    }

    #[test]
    fn whoever_holds_an_expired_token_is_a_stranger_with_many_addresses_too() {
        let mut coalesced = Coalesced::default();
        for n in 0..5000 {
            let peer = format!("10.0.{}.{}", n / 250, n % 250);
            coalesced.add(Who::Stranger, key(Some("billing"), &peer));
        }
        coalesced.add(Who::Tenant, key(Some("crm"), "10.0.0.1"));
        let records: Vec<_> = coalesced.take().collect();
        assert_eq!(records.len(), STRANGER_KEYS_MAX + 1 + 1);
        let named = |what: &str| {
            let named = records.iter();
            named.filter(|it| it.fields.contains(what)).count()
        };
        assert_eq!(named("\"tenant\":\"billing\""), STRANGER_KEYS_MAX);
        assert_eq!(named("\"tenant\":\"crm\""), 1);
    }
}
