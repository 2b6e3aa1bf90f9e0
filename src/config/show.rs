//! The effective config: every default filled in, no secret in it.

use serde_json::{Map, Value, json};

use super::{
    raw::to_yaml,
    settings::{
        Admin, Audit, Bounds, FreezeAfter, Key, LimitsStore, Listen, ListenAddress, Otlp,
        SecretSource, Settings, Ship, Tenant, TokenEntry, Trust, Upstream, UpstreamUrl, Users,
        Window,
    },
    unit::show_duration,
    validate::is_loopback,
};
use crate::{
    ids::IdGrammar,
    logging::{self, Access, Format},
};

/// Writes settings as a config that has the same effect. Inline secrets are
/// left out, and of digests only the beginning is shown.
pub fn show(settings: &Settings) -> String {
    let listen = settings.listen.iter();
    let listen: Vec<_> = listen.map(show_listen).collect();
    let keys: Map<_, _> = settings
        .keys
        .iter()
        .map(|key| (key.name.clone(), show_key(key)))
        .collect();
    let mut shown = json!({
        "version": 1,
        "listen": listen,
        "admin": show_admin(&settings.admin),
        "upstream": show_upstream(&settings.upstream),
        "keys": keys,
        "audit": show_audit(&settings.audit),
        "log": show_log(&settings.log),
        "workers": settings.workers.map_or_else(|| json!("auto"), |workers| json!(workers)),
        "metrics": { "max_tenants": settings.metrics_tenants },
        "bounds": show_bounds(&settings.bounds),
    });
    if let (Some(shown), Some(otlp)) = (shown.as_object_mut(), &settings.otlp) {
        shown.insert("otlp".to_owned(), show_otlp(otlp));
    }
    if let (Some(shown), Some(store)) = (shown.as_object_mut(), &settings.limits_store) {
        shown.insert("limits_store".to_owned(), show_store(store));
    }
    if let (Some(shown), true) = (shown.as_object_mut(), holds_secret(settings)) {
        shown.insert("allow_inline_secrets".to_owned(), json!(true));
    }
    let mut text = to_yaml(&shown);
    text.push_str("tenants:\n");
    // One by one: there may be very many.
    for tenant in &settings.tenants {
        text.push_str(&to_yaml(&json!([show_tenant(tenant, settings)])));
    }
    text
}

/// Whether a secret stands in the config itself.
fn holds_secret(settings: &Settings) -> bool {
    let keys = settings.keys.iter();
    let keys = keys.flat_map(|key| [Some(&key.secret), key.next.as_ref()]);
    let audit = &settings.audit;
    let single = [
        audit.mac_key.as_ref(),
        audit.ship.as_ref().map(|ship| &ship.url),
        settings.limits_store.as_ref().map(|store| &store.url),
    ];
    let headers = settings.otlp.iter().flat_map(|otlp| &otlp.headers);
    let headers = headers.map(|(_, source)| Some(source));
    keys.chain(single)
        .chain(headers)
        .flatten()
        .any(|source| matches!(source, SecretSource::Inline(_)))
}

fn show_admin(admin: &Admin) -> Value {
    let address = admin
        .address
        .map_or_else(|| "off".to_owned(), |address| address.to_string());
    let mut shown = json!({
        "address": address,
        "hosts": admin.hosts,
        "socket": admin.socket,
    });
    if let (Some(shown), Some(token)) = (shown.as_object_mut(), &admin.token) {
        shown.insert("token".to_owned(), show_token(token));
        if admin.address.is_some_and(|it| !it.ip().is_loopback()) {
            shown.insert("allow_plaintext".to_owned(), json!(true));
        }
    }
    shown
}

fn show_listen(listen: &Listen) -> Value {
    let mut shown = match &listen.address {
        ListenAddress::Tcp(address) => json!({ "address": address.to_string() }),
        ListenAddress::Unix { path, mode, group } => {
            let mut unix = json!({ "path": path, "mode": format!("{mode:04o}") });
            if let (Some(unix), Some(group)) = (unix.as_object_mut(), group) {
                unix.insert("group".to_owned(), json!(group));
            }
            json!({ "unix": unix })
        }
        ListenAddress::Systemd { name, .. } => json!({ "systemd": name }),
    };
    let is_open = match &listen.address {
        ListenAddress::Tcp(address) => listen.tls.is_none() && !address.ip().is_loopback(),
        ListenAddress::Unix { .. } => false,
        ListenAddress::Systemd {
            allow_plaintext, ..
        } => *allow_plaintext,
    };
    if let (true, Some(shown)) = (is_open, shown.as_object_mut()) {
        shown.insert("allow_plaintext".to_owned(), json!(true));
    }
    if let (Some(shown), Some(tls)) = (shown.as_object_mut(), &listen.tls) {
        let mut files = json!({
            "certificate": { "file": tls.certificate },
            "key": { "file": tls.key },
        });
        if let (Some(files), Some(client_ca)) = (files.as_object_mut(), &tls.client_ca) {
            files.insert("client_ca".to_owned(), json!({ "file": client_ca }));
        }
        shown.insert("tls".to_owned(), files);
    }
    shown
}

fn show_audit(audit: &Audit) -> Value {
    let mut shown = json!({
        "directory": audit.directory,
        "durability": audit.durability.as_str(),
        "intent_wait": show_duration(audit.intent_wait),
        "outcome_wait": show_duration(audit.outcome_wait),
        "segment_size": audit.segment_size,
        "segment_age": show_duration(audit.segment_age),
        "retention": audit.retention.map_or_else(|| "forever".to_owned(), show_duration),
        "checkpoint": {
            "records": audit.checkpoint.records,
            "every": show_duration(audit.checkpoint.every),
        },
    });
    if let (Some(shown), Some(key)) = (shown.as_object_mut(), &audit.mac_key) {
        shown.insert("mac_key".to_owned(), show_secret(key));
    }
    if let (Some(shown), Some(ship)) = (shown.as_object_mut(), &audit.ship) {
        shown.insert("ship".to_owned(), show_ship(ship));
    }
    shown
}

fn show_ship(ship: &Ship) -> Value {
    let postgres = json!({
        "url": show_secret(&ship.url),
        "trust": show_trust(&ship.trust),
        "allow_plaintext": ship.allow_plaintext,
    });
    match &ship.gateway {
        Some(gateway) => json!({ "gateway": gateway, "postgres": postgres }),
        None => json!({ "postgres": postgres }),
    }
}

fn show_log(log: &logging::Settings) -> Value {
    json!({
        "level": log.level.to_string(),
        "format": match log.format {
            None => "auto",
            Some(Format::Json) => "json",
            Some(Format::Text) => "text",
        },
        "access": match log.access {
            Access::All => "all",
            Access::Failures => "failures",
            Access::Off => "off",
        },
    })
}

fn show_otlp(otlp: &Otlp) -> Value {
    let headers = otlp.headers.iter();
    let headers: Map<_, _> = headers
        .map(|(name, source)| (name.to_string(), show_secret(source)))
        .collect();
    let mut shown = json!({
        "endpoint": format!("{}{}", show_url(&otlp.url), otlp.prefix),
        "sampling": otlp.sampling,
        "timeout": show_duration(otlp.timeout),
        "service_name": otlp.service_name,
        "trust": show_trust(&otlp.trust),
    });
    if let (Some(shown), false) = (shown.as_object_mut(), headers.is_empty()) {
        shown.insert("headers".to_owned(), Value::Object(headers));
    }
    allow_plaintext_to(&otlp.url, &mut shown);
    shown
}

fn show_store(store: &LimitsStore) -> Value {
    json!({
        "redis": {
            "url": show_secret(&store.url),
            "cluster": store.is_cluster,
            "trust": show_trust(&store.trust),
            "allow_plaintext": store.allow_plaintext,
        },
        "timeout": show_duration(store.timeout),
        "replicas": store.replicas,
        "prefix": store.prefix,
    })
}

fn show_url(url: &UpstreamUrl) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    format!("{scheme}://{}", url.authority())
}

/// Shows what lets this URL be plaintext, if anything has to.
fn allow_plaintext_to(url: &UpstreamUrl, shown: &mut Value) {
    let is_open = !url.tls && !is_loopback(&url.host);
    if let (Some(shown), true) = (shown.as_object_mut(), is_open) {
        shown.insert("allow_plaintext".to_owned(), json!(true));
    }
}

fn show_trust(trust: &Trust) -> Value {
    match trust {
        Trust::System => json!("system"),
        Trust::Bundled => json!("bundled"),
        Trust::File(file) => json!({ "file": file }),
    }
}

fn show_upstream(upstream: &Upstream) -> Value {
    let mut shown = json!({
        "url": show_url(&upstream.url),
        "api_version": upstream.api_version,
        "auth_scheme": upstream.auth_scheme,
        "ids": match upstream.ids {
            IdGrammar::Opaque => "opaque",
            IdGrammar::ObjectId => "object_id",
        },
        "trust": show_trust(&upstream.trust),
        "connect_timeout": show_duration(upstream.connect_timeout),
        "request_timeout": show_duration(upstream.request_timeout),
        "retries": upstream.retries,
        "circuit_breaker": upstream.circuit_breaker.as_ref().map_or_else(
            || json!("off"),
            |breaker| json!({ "failures": breaker.failures, "open_for": show_duration(breaker.open_for) }),
        ),
        "idle_timeout": show_duration(upstream.idle_timeout),
        "connection_max_age": show_duration(upstream.connection_max_age),
        "idle_connections": upstream.idle_connections,
    });
    allow_plaintext_to(&upstream.url, &mut shown);
    shown
}

fn show_key(key: &Key) -> Value {
    let mut shown =
        json!({ "secret": show_secret(&key.secret), "limits": show_limits(&key.limits) });
    if let (Some(shown), Some(next)) = (shown.as_object_mut(), &key.next) {
        shown.insert("next".to_owned(), show_secret(next));
    }
    shown
}

fn show_secret(source: &SecretSource) -> Value {
    match source {
        SecretSource::File(file) => json!({ "file": file }),
        SecretSource::Env(name) => json!({ "env": name }),
        SecretSource::Credential(name) => json!({ "credential": name }),
        SecretSource::Inline(_) => json!({ "value": "(redacted)" }),
    }
}

fn show_tenant(tenant: &Tenant, settings: &Settings) -> Value {
    let tokens: Vec<_> = tenant.tokens.iter().map(show_token).collect();
    let mut shown = json!({
        "name": &*tenant.name,
        "key": settings.keys.get(tenant.key).map(|key| key.name.as_str()),
        "users": match &tenant.users {
            Users::All => json!("all"),
            Users::Listed(users) => users.iter().map(|user| user.as_str()).collect(),
            Users::File(file) => json!({ "file": file }),
        },
        "tokens": tokens,
        "limits": show_limits(&tenant.limits),
        "wait": show_duration(tenant.wait),
        "wait_queue": tenant.wait_queue,
        "in_flight": tenant.in_flight,
        "mode": tenant.mode.as_str(),
    });
    if let (Some(shown), Some(FreezeAfter { deletions, per })) =
        (shown.as_object_mut(), tenant.freeze_after)
    {
        let budget = json!({ "deletions": deletions, "per": show_duration(per) });
        shown.insert("freeze_after".to_owned(), budget);
    }
    shown
}

fn show_token(token: &TokenEntry) -> Value {
    let digest: String = token.digest.to_hex().chars().take(12).collect();
    let mut shown = json!({ "id": &*token.id, "sha256": format!("{digest}… (redacted)") });
    let bounds = [("not_before", token.not_before), ("expires", token.expires)];
    for (name, instant) in bounds {
        if let (Some(shown), Some(instant)) = (shown.as_object_mut(), instant) {
            shown.insert(name.to_owned(), json!(instant.to_string()));
        }
    }
    shown
}

fn show_limits(limits: &[Window]) -> Value {
    limits.iter().map(show_window).collect()
}

fn show_window(window: &Window) -> Value {
    json!({ "requests": window.requests, "per": show_duration(window.per), "burst": window.burst })
}

fn show_bounds(bounds: &Bounds) -> Value {
    json!({
        "connections": bounds.connections,
        "connections_per_peer": bounds.connections_per_peer,
        "requests_in_flight": bounds.requests_in_flight,
        "failed_auth": show_window(&bounds.failed_auth),
        "header_timeout": show_duration(bounds.header_timeout),
        "body_timeout": show_duration(bounds.body_timeout),
        "idle_timeout": show_duration(bounds.idle_timeout),
        "drain_delay": show_duration(bounds.drain_delay),
        "drain_timeout": show_duration(bounds.drain_timeout),
        "headers": bounds.headers,
        "header_bytes": bounds.header_bytes,
        "body_bytes": bounds.body_bytes,
    })
}
