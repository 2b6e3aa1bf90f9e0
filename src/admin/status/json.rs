//! The facts as JSON.

use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Facts, LimitFacts, OtherTenants, PROBLEMS_MAX, Seen, StoreFacts, TenantFacts, Why};
use crate::{fleet::Trouble, metrics::Span};

/// The facts as JSON.
pub fn json(facts: &Facts) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": crate::REVISION,
        "started_at": time(facts.started_at),
        "ready": facts.unready.is_none(),
        "unready_because": facts.unready,
        "draining": facts.draining,
        "concerns": facts.concerns(),
        "config": config(facts),
        "upstream": facts.upstream,
        "keys": facts.keys.iter().map(|key| json!({
            "name": key.name,
            "breaker": key.breaker.as_str(),
            "refusals": key.refusals,
            "fingerprint": key.fingerprint,
            "refused": key.is_refused,
            "unusual_404s": key.has_unusual_404s,
        })).collect::<Vec<_>>(),
        "limits_store": facts.store.as_ref().map(store),
        "lately": facts.lately.as_ref().map(|(span, over)| {
            let mut shown = rates(span);
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("seconds".to_owned(), json!(over.as_secs()));
            }
            shown
        }),
        "history": facts.spans.iter().map(rates).collect::<Vec<_>>(),
        "all_frozen_since": facts.all_frozen.as_ref().map(|freeze| time(freeze.since)),
        "tenants": facts.tenants.iter().map(tenant).collect::<Vec<_>>(),
        "other_tenants": facts.others.as_ref().map(others),
        "requests_in_flight": facts.requests_in_flight,
        "connections": facts.connections,
        "at_connection_cap": facts.is_at_connection_cap,
        "recent_refusals": facts.refusals.iter().map(seen).collect::<Vec<_>>(),
        "recent_failures": facts.failures.iter().map(seen).collect::<Vec<_>>(),
        "trail": trail(facts),
    })
}

fn config(facts: &Facts) -> Value {
    let reload = &facts.reload;
    let problems = reload.problems.iter().take(PROBLEMS_MAX);
    json!({
        "sha256": facts.digest,
        "tenants": facts.tenants_total,
        "last_load": {
            "at": system_time(reload.at),
            "by": reload.by,
            "succeeded": reload.problems.is_empty(),
            "problems": reload.problems.len(),
            "details": facts.shows_problems.then(|| problems.collect::<Vec<_>>()),
        },
        "needs_restart": reload.needs_restart,
    })
}

fn store(store: &StoreFacts) -> Value {
    let because = |why: &Option<Why>| why.as_ref().map(|why| why.trouble.as_str());
    let detail = |why: &Option<Why>| why.as_ref().and_then(|why| why.detail.clone());
    json!({
        "degraded": store.degraded,
        "degraded_because": because(&store.why),
        "degraded_detail": detail(&store.why),
        "uncounted_because": because(&store.uncounted),
        "uncounted_detail": detail(&store.uncounted),
        "deletions_uncounted_because": because(&store.deletions_uncounted),
        "deletions_uncounted_detail": detail(&store.deletions_uncounted),
        "freezes_unknown_because": store.freezes_unknown.map(Trouble::as_str),
        "gateways_configured": store.replicas,
        "gateways_live": store.live,
    })
}

fn trail(facts: &Facts) -> Value {
    let trail = &facts.trail;
    json!({
        "durability": facts.durability.as_str(),
        "verified": trail.verified,
        "writable": trail.writable.is_ok(),
        "unwritable_because": trail.writable.as_ref().err().map(|why| why.cause),
        "head": { "seq": trail.head.seq, "hash": trail.head.hash.as_str() },
        "last_sync": trail.last_sync.and_then(system_time),
        "queue_depth": trail.queue_depth,
        "records": trail.totals.records,
        "bytes": trail.totals.bytes,
        "syncs": trail.totals.syncs,
        "errors": trail.totals.errors,
        "ship": facts.shipping.as_ref().map(|ship| json!({
            "up": ship.is_up,
            "records": ship.records,
            "lag_records": ship.missing,
            "lag_seconds": ship.missing_for.as_secs_f64(),
            "held_segments": ship.held_segments,
            "down_because": ship.trouble,
        })),
        "disk": facts.disk.map(|disk| json!({ "free": disk.free, "size": disk.size })),
    })
}

fn tenant(tenant: &TenantFacts) -> Value {
    json!({
        "name": &*tenant.name,
        "mode": tenant.mode.as_str(),
        "frozen": tenant.is_frozen,
        "frozen_since": tenant.frozen.as_ref().map(|freeze| time(freeze.since)),
        "passed_on": tenant.passed_on,
        "refused": tenant.refused,
        "in_flight": tenant.in_flight,
        "in_flight_max": tenant.in_flight_max,
        "waiting": tenant.waiting,
        "limits": tenant.limits.iter().map(limit).collect::<Vec<_>>(),
        "token_expires": tenant.expires.map(time),
    })
}

fn limit(limit: &LimitFacts) -> Value {
    json!({
        "name": limit.name,
        "remaining": limit.remaining,
        "burst": limit.burst,
        "requests": limit.requests,
        "per_seconds": limit.per.as_secs_f64(),
    })
}

fn others(others: &OtherTenants) -> Value {
    json!({
        "tenants": others.tenants,
        "passed_on": others.passed_on,
        "refused": others.refused,
        "in_flight": others.in_flight,
        "waiting": others.waiting,
    })
}

fn seen(seen: &Seen) -> Value {
    let Seen { at, incident } = seen;
    json!({
        "at": time(*at),
        "tenant": incident.tenant.as_deref(),
        "code": incident.code.as_str(),
        "status": incident.status,
        "request_id": incident.request_id.as_str(),
    })
}

fn rates(span: &Span) -> Value {
    json!({
        "requests_per_second": span.requests,
        "failures_per_second": span.failures,
        "p50_seconds": span.p50,
        "p99_seconds": span.p99,
        "upstream_p50_seconds": span.upstream_p50,
        "upstream_p99_seconds": span.upstream_p99,
    })
}

fn system_time(at: SystemTime) -> Option<String> {
    Timestamp::try_from(at).ok().map(time)
}

fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}
