//! What a request sees of the config: immutable, swapped whole.
//!
//! Building one does the I/O that a config asks for (secrets, user lists,
//! roots) and makes the limiters; what did not change since the one before keeps
//! its state.

mod build;
mod certificates;
mod files;
mod fleet;
mod frame;
mod left;
mod listeners;
mod modes;
pub mod otlp;
mod places;
mod secrets;
mod tokens;
mod trust;
mod users;
mod validities;

use std::{collections::HashSet, hint::black_box, ptr, sync::Arc, time::Duration};

use self::{left::Left, listeners::Listener, tokens::Tokens};
use crate::{
    config::settings::{Bounds, FreezeAfter, Mode, TokenEntry, Upstream},
    containment::{Contained, Containment, Lasting},
    fleet::Store,
    ids::UserId,
    key_ring::KeyRing,
    limits::{Breaker, Bucket, FailedAuth, Gate, Limits, WaitQueue},
    metrics::TenantCounts,
    secret::UpstreamKey,
    tls::{ClientTls, ServerTls},
    token::TokenDigest,
};

pub use self::{
    build::{Built, build},
    certificates::{Certificate, Use},
    files::named_files,
    fleet::store,
    frame::Frame,
    modes::{loose_secrets, loose_trail},
    places::{group_id, trail_directory, unbindable, unwritable_trail, without_directory},
    secrets::{mac_key, read as read_secret, read_file, wrapped_keys},
    trust::bad_trust,
    users::{user_set, without_users},
    validities::invalid_certificates,
};

/// The immutable, validated form of one config.
#[derive(Debug)]
pub struct Snapshot {
    /// The first 12 hex digits of the config file's SHA-256.
    pub digest: Box<str>,
    /// The same of the lists of users that were read, in the order of the tenants; `None` if
    /// none was.
    pub lists: Option<Box<str>>,
    /// What callers may take of us.
    pub bounds: Bounds,
    /// Alloy, and how it is spoken to.
    pub upstream: Arc<Target>,
    /// How often a peer may fail to authenticate.
    pub failed_auth: Arc<FailedAuth>,
    /// Where a fleet shares its limits, if it does; the same one from start to end.
    pub store: Option<Arc<Store>>,
    /// How each listener speaks TLS, in the order in which they were bound.
    listen: Vec<Listener>,
    keys: Vec<Key>,
    tenants: Vec<Tenant>,
    counts_of_others: TenantCounts,
    by_token: Tokens,
    /// Spent limits of what is not in this config.
    left: Left,
    containment: Arc<Containment>,
}

/// The one upstream: a pooled connection belongs to the target it was opened for.
#[derive(Debug)]
pub struct Target {
    /// Its origin, version and time-outs.
    pub settings: Upstream,
    /// What all requests to it have in common.
    pub frame: Frame,
    /// Trust and protocol versions; `None` for a plaintext upstream.
    pub tls: Option<ClientTls>,
    /// What the roots were read from, to notice another content.
    trust: Option<Vec<u8>>,
}

/// A key, and what its tenants share of it.
#[derive(Debug, Clone)]
pub struct Key {
    ring: Arc<KeyRing>,
    buckets: Vec<Arc<Bucket>>,
    gate: Arc<Gate>,
    breaker: Arc<Breaker>,
}

/// A tenant, ready to be asked.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// The key its calls are sent with, and the one that may follow it.
    pub key: Arc<KeyRing>,
    /// Whom it may touch.
    pub users: UserSet,
    /// What happens with a call that is allowed.
    pub mode: Mode,
    /// What it keeps over reloads.
    pub lasting: Arc<Lasting>,
    /// The budget of deletions that freezes it.
    pub freeze_after: Option<FreezeAfter>,
    /// Everything that limits its calls.
    pub limits: Limits,
    /// How long a call may wait for its turn.
    pub wait: Duration,
    /// Those who wait; `None` if `wait` is zero. Whoever waits while a reload sets it to
    /// zero waits on, and is not seen from outside any more.
    pub wait_queue: Option<Arc<WaitQueue>>,
    /// How many of its calls may be under way.
    pub in_flight_max: u32,
    /// What is counted of it: its own, or those of all above `metrics.max_tenants`.
    pub counts: TenantCounts,
    tokens: Arc<[TokenEntry]>,
}

impl Tenant {
    /// Whether its calls are refused just now.
    pub fn is_frozen(&self) -> bool {
        self.lasting.switch.is_frozen()
    }

    /// Its name, and what limits it.
    pub fn limited(&self) -> (&str, &Limits) {
        (&self.name, &self.limits)
    }

    /// As far as it can be stopped.
    pub fn contained(&self) -> Contained<'_> {
        Contained {
            name: &self.name,
            lasting: &self.lasting,
            freeze_after: self.freeze_after,
        }
    }

    /// Reads a little of each place that a call needs of its tenant, for nothing but that
    /// the processor fetches them side by side. With many tenants none is in its cache,
    /// and later each would be waited for by itself.
    pub fn prefetch(&self, token: &TokenEntry) {
        let name = self.name.as_bytes().first();
        let id = token.id.as_bytes().first();
        black_box((name.copied(), id.copied()));
        black_box((self.is_frozen(), self.limits.prefetch()));
    }

    /// How many of its calls wait for their turn.
    pub fn waiting(&self) -> u32 {
        self.wait_queue.as_ref().map_or(0, |queue| queue.waiting())
    }

    /// Its tokens, in the order of the config.
    pub fn tokens(&self) -> &[TokenEntry] {
        &self.tokens
    }
}

impl Key {
    /// Its name in the config.
    pub fn name(&self) -> &str {
        self.ring.name()
    }

    /// The one of its name that is in use.
    pub fn in_use(&self) -> &UpstreamKey {
        self.ring.current()
    }

    /// How often the upstream refused it.
    pub fn refusals(&self) -> u64 {
        self.ring.refusals()
    }

    /// Whether the upstream refuses the one in use, as far as is known.
    pub fn is_refused(&self) -> bool {
        self.ring.is_refused()
    }

    /// Whether the one that follows is in use.
    pub fn has_moved(&self) -> bool {
        self.ring.has_moved()
    }

    /// Whether an unusual share of the last answers to it are 404.
    pub fn has_unusual_404s(&self) -> bool {
        self.ring.has_unusual_404s()
    }

    /// Its breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }
}

/// Whom a tenant may touch.
#[derive(Debug)]
pub enum UserSet {
    /// Every user.
    All,
    /// These; on their own, to keep a tenant small.
    Only(Box<HashSet<UserId>>),
}

impl UserSet {
    /// Whether `user` is one of them.
    pub fn allow(&self, user: &UserId) -> bool {
        match self {
            Self::All => true,
            Self::Only(users) => users.contains(user),
        }
    }
}

impl Snapshot {
    /// What takes long to free of one that is not in use any more.
    pub fn into_tenants(self) -> Vec<Tenant> {
        self.tenants
    }

    /// The tenant and token with this digest, whether valid now or not.
    pub fn by_token(&self, digest: TokenDigest) -> Option<(&Tenant, &TokenEntry)> {
        self.by_token.find(&self.tenants, digest)
    }

    /// All keys, in the order of the config.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// What is counted of the tenants above `metrics.max_tenants`.
    pub fn counts_of_others(&self) -> &TenantCounts {
        &self.counts_of_others
    }

    /// The keys with this name.
    pub fn key(&self, name: &str) -> Option<&KeyRing> {
        let mut keys = self.keys.iter().map(|key| &key.ring);
        keys.find(|ring| ring.name() == name).map(|ring| &**ring)
    }

    /// Takes over what came of the keys of `now` that differ, while this was built.
    pub fn follow_keys(&self, now: &Self) {
        for ring in self.keys.iter().map(|key| &*key.ring) {
            let before = now.key(ring.name());
            if let Some(before) = before.filter(|before| !ptr::eq(*before, ring)) {
                ring.follow(before);
            }
        }
    }

    /// How the listener with this number speaks TLS.
    pub fn listen_tls(&self, listener: usize) -> Option<&ServerTls> {
        self.listen.get(listener)?.tls.as_ref()
    }

    /// What is frozen, whatever the config says.
    pub fn containment(&self) -> &Arc<Containment> {
        &self.containment
    }

    /// All tenants, in the order of the config.
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Tenants with these names and tokens, by digest, in a config after `previous`.
    pub(crate) fn built(tenants: &[(&str, Vec<String>)], previous: Option<&Snapshot>) -> Built {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        std::fs::write(directory.path().join("key"), "a-key-of-some-length").unwrap();
        let mut text =
            "version: 1\nlisten: [ { address: 127.0.0.1:0 } ]\naudit: { directory: audit }\n\
                        keys: { k: { secret: { file: key } } }\ntenants:\n"
                .to_owned();
        for (name, digests) in tenants {
            text += &format!("  - name: {name}\n    key: k\n    users: all\n    tokens:\n");
            for (n, digest) in digests.iter().enumerate() {
                text += &format!("      - {{ id: t{n}, sha256: \"{digest}\" }}\n");
            }
        }
        std::fs::write(&path, text).unwrap();
        let settings = crate::load::file(&path).unwrap().settings;
        build(&settings, "a digest", previous).unwrap()
    }
}
