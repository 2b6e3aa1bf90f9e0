//! What can't be changed in a running gateway.

use super::Reloader;
use crate::{
    config::{
        settings::{Listen, Settings},
        snapshot,
    },
    fleet,
    secret::MacKey,
};

impl Reloader {
    /// What differs and can't be changed in a running gateway.
    pub(super) fn needs_restart(&self, after: &Settings) -> Vec<&'static str> {
        let before = &self.started;
        let (old, new) = (&before.bounds, &after.bounds);
        let mac_key = || snapshot::mac_key(&after.audit).ok().flatten();
        let is_same_trail = before.audit == after.audit;
        let mac_key = || mac_key().as_ref().map(MacKey::fingerprint);
        [
            ("listen", !is_same_listeners(&before.listen, &after.listen)),
            ("admin.address", before.admin.address != after.admin.address),
            ("admin.socket", before.admin.socket != after.admin.socket),
            ("workers", before.workers != after.workers),
            ("audit", !is_same_trail),
            ("audit.mac_key", is_same_trail && mac_key() != self.mac_key),
            ("limits_store", !is_same_store(before, after)),
            ("otlp", before.otlp != after.otlp),
            ("log.format", before.log.format != after.log.format),
            ("bounds.connections", old.connections != new.connections),
            (
                "bounds.connections_per_peer",
                old.connections_per_peer != new.connections_per_peer,
            ),
            (
                "bounds.requests_in_flight",
                old.requests_in_flight != new.requests_in_flight,
            ),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}

/// Whether both share limits in the same store; among how many is seen at once.
fn is_same_store(before: &Settings, after: &Settings) -> bool {
    let but_replicas = |settings: &Settings| {
        let store = settings.limits_store.clone();
        store.map(|store| fleet::Settings {
            replicas: 1,
            ..store
        })
    };
    but_replicas(before) == but_replicas(after)
}

/// Whether both are the same ports and sockets, with TLS or without; other
/// certificates are used at once.
fn is_same_listeners(before: &[Listen], after: &[Listen]) -> bool {
    let is_same = |(one, other): (&Listen, &Listen)| {
        one.address == other.address && one.tls.is_some() == other.tls.is_some()
    };
    before.len() == after.len() && before.iter().zip(after).all(is_same)
}
