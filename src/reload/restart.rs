//! What can't be changed in a running gateway.

use super::{
    Reloader,
    next_start::{Named, NextStart},
};
use crate::config::settings::{Admin, Bounds, LimitsStore, Listen, Settings};

impl Reloader {
    /// What differs and can't be changed in a running gateway; `next` is what the next
    /// start would read.
    pub(super) fn needs_restart(&self, after: &Settings, next: &NextStart) -> Vec<&'static str> {
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
        let is_same_trail = before.audit == *audit;
        let has_same_collector = before.otlp == *otlp;
        let has_same_store = is_same_store(before, after) && !next.has_other(Named::StoreUrl);
        let has_other = |named| next.has_other(named);
        let mut differing = vec![
            ("listen", !is_same_listeners(&before.listen, listen)),
            ("workers", before.workers != *workers),
            ("audit", !is_same_trail),
            ("audit.mac_key", is_same_trail && has_other(Named::MacKey)),
            ("limits_store", !has_same_store),
            (
                "limits_store.redis.trust",
                has_same_store && has_other(Named::StoreTrust),
            ),
            ("otlp", !has_same_collector),
            (
                "otlp.headers",
                has_same_collector && has_other(Named::OtlpHeaders),
            ),
            (
                "otlp.trust",
                has_same_collector && has_other(Named::OtlpTrust),
            ),
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
        store.map(|store| LimitsStore {
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
