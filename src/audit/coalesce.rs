//! Refusals in bounds: one by one as long as there are few, then counted
//! together, so that a flood of them buys neither disk nor memory.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use super::record::{Fragment, RefusedRecord, time};

/// Refusals written one by one in a second; what is above is coalesced.
const A_SECOND_MAX: u32 = 200;
/// Different refusals that are coalesced apart from each other.
const KEYS_MAX: usize = 1024;
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
#[derive(Debug, Default)]
pub struct Coalesced {
    this_second: Option<(Instant, u32)>,
    counts: HashMap<Key, Count>,
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
            code: "connection-refused".to_owned(),
            reason: Some(reason.to_owned()),
        }
    }
}

impl Coalesced {
    /// Counts one more; whether it may have a record of its own.
    pub fn admit(&mut self) -> bool {
        let now = Instant::now();
        let (since, count) = self
            .this_second
            .filter(|(since, _)| now - *since < Duration::from_secs(1))
            .unwrap_or((now, 0));
        self.this_second = Some((since, count.saturating_add(1)));
        count < A_SECOND_MAX
    }

    /// Counts one that has no record of its own.
    pub fn add(&mut self, mut key: Key) {
        self.due.get_or_insert(Instant::now() + COLLECT_FOR);
        if self.counts.len() >= KEYS_MAX && !self.counts.contains_key(&key) {
            key = Key {
                tenant: None,
                token: None,
                peer: "other".to_owned(),
                code: key.code,
                reason: None,
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

    /// When what was counted is to be written.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the records of what was counted.
    pub fn take(&mut self) -> impl Iterator<Item = Fragment> + use<> {
        self.due = None;
        mem::take(&mut self.counts).into_iter().map(|(key, count)| {
            Fragment::now("refusals.coalesced")
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
