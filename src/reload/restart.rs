//! What can't be changed in a running gateway.

use super::Reloader;
use crate::{
    config::{
        settings::{Admin, Bounds, Listen, Settings},
        snapshot,
    },
    fleet,
    secret::MacKey,
};

impl Reloader {
    /// What differs and can't be changed in a running gateway.
    pub(super) fn needs_restart(&self, after: &Settings) -> Vec<&'static str> {
        let before = &self.started;
        // Each field by name: of a new one it has to be said whether a reload takes it.
        let Settings {
            listen,
            admin,
            upstream: _,
            keys: _,
            tenants: _,
            audit,
            limits_store: _,
            log,
            otlp,
            workers,
            metrics_tenants: _,
            bounds,
        } = after;
        let mac_key = || snapshot::mac_key(audit).ok().flatten();
        let is_same_trail = before.audit == *audit;
        let mac_key = || mac_key().as_ref().map(MacKey::fingerprint);
        let mut differing = vec![
            ("listen", !is_same_listeners(&before.listen, listen)),
            ("workers", before.workers != *workers),
            ("audit", !is_same_trail),
            ("audit.mac_key", is_same_trail && mac_key() != self.mac_key),
            (
                "limits_store",
                !is_same_store(before, after) || self.names_another_store(after),
            ),
            ("otlp", before.otlp != *otlp),
            ("log.format", before.log.format != log.format),
        ];
        differing.extend(admin_fields(&before.admin, admin));
        differing.extend(bounds_fields(&before.bounds, bounds));
        differing
            .into_iter()
            .filter_map(|(field, differs)| differs.then_some(field))
            .collect()
    }
}

impl Reloader {
    /// Whether the URL of the store is another than at the start, be it only its password:
    /// the connections are made with that one.
    fn names_another_store(&self, after: &Settings) -> bool {
        let named = after.limits_store.as_ref();
        // What is wrong with it was told before.
        let named = named.and_then(|store| snapshot::store(store, &mut Vec::new()));
        let in_use = &self.shared.snapshot().store;
        let both = in_use.as_ref().zip(named);
        both.is_some_and(|(in_use, named)| !in_use.has_url_of(&named))
    }
}

/// The fields of `admin` that need one, and whether they differ.
fn admin_fields(before: &Admin, after: &Admin) -> [(&'static str, bool); 2] {
    let Admin {
        address,
        hosts: _,
        socket,
        token: _,
    } = after;
    [
        ("admin.address", before.address != *address),
        ("admin.socket", before.socket != *socket),
    ]
}

/// The fields of `bounds` that need one, and whether they differ.
fn bounds_fields(before: &Bounds, after: &Bounds) -> [(&'static str, bool); 3] {
    let Bounds {
        connections,
        connections_per_peer,
        requests_in_flight,
        failed_auth: _,
        header_timeout: _,
        body_timeout: _,
        idle_timeout: _,
        drain_delay: _,
        drain_timeout: _,
        headers: _,
        header_bytes: _,
        body_bytes: _,
    } = after;
    [
        ("bounds.connections", before.connections != *connections),
        (
            "bounds.connections_per_peer",
            before.connections_per_peer != *connections_per_peer,
        ),
        (
            "bounds.requests_in_flight",
            before.requests_in_flight != *requests_in_flight,
        ),
    ]
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
