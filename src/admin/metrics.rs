//! All metrics of the process as text: what was counted of calls here, the rest in the files
//! below.
//!
//! Labels come from the config or from closed lists, never from ids, tokens or
//! paths. Each series exists from the start, so that an alert can tell zero from
//! unknown; answers passed on with a rare status are the exception.

mod fleet;
mod freezes;
mod gateway;
mod process;
mod text;
mod upstream;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use jiff::Timestamp;

pub use self::text::Format;
use self::text::{Kind, Text};
use crate::{
    audit::DiskSpace,
    code::{AuthFailure, Code, ConnectionEnd, LimitedBy},
    expiry,
    histogram::{self, Merged},
    metrics::{Counted, Shard, seconds_since_epoch},
    pipeline::respond,
    server::Shared,
    snapshot::{Certificate, Snapshot},
};

/// The label of tenants above `metrics.max_tenants`.
const OTHER: &str = "_other";
/// Statuses that each tenant has a series of from the start.
const EXPECTED: [&str; 6] = ["200", "404", "429", "500", "502", "503"];

/// All metrics of the process. `disk` is known by whoever asks, since looking
/// can block.
pub fn render(shared: &Shared, disk: Option<DiskSpace>, format: Format) -> String {
    let mut text = Text::new(format);
    let snapshot = shared.snapshot();
    let counts = Counts::of(shared, &snapshot);
    requests(&mut text, shared, &counts);
    outcomes(&mut text, &counts);
    connections(&mut text, shared);
    certificates(&mut text, shared, &snapshot);
    auth(&mut text, shared, &snapshot);
    limits(&mut text, shared, &snapshot, &counts);
    fleet::store(&mut text, shared);
    freezes::freezes(&mut text, &snapshot);
    upstream::upstream(&mut text, shared);
    upstream::keys(&mut text, &snapshot);
    gateway::trail(&mut text, shared, disk);
    gateway::ship(&mut text, shared);
    gateway::config(&mut text, shared, &snapshot);
    gateway::about(&mut text, shared);
    process::render(&mut text, shared.metrics().started_at());
    text.finish()
}

/// What was counted by tenant.
struct Counts<'a> {
    unknown: Counted,
    tenants: Vec<(&'a str, Counted)>,
}

impl<'a> Counts<'a> {
    fn of(shared: &Shared, snapshot: &'a Snapshot) -> Self {
        let mut unknown = Counted::default();
        for shard in shared.metrics().shards() {
            shard.unknown.add_to(&mut unknown);
        }
        let other = snapshot.counts_of_others();
        let named = snapshot.tenants().iter();
        let named = named.filter(|tenant| !tenant.counts.is(other));
        let mut tenants: Vec<_> = named
            .map(|tenant| (&*tenant.name, tenant.counts.sum()))
            .collect();
        if tenants.len() < snapshot.tenants().len() {
            tenants.push((OTHER, other.sum()));
        }
        Self { unknown, tenants }
    }
}

fn requests(text: &mut Text, shared: &Shared, counts: &Counts<'_>) {
    text.family(
        "requests",
        Kind::Counter,
        "Requests answered, by tenant, status and code; the code is empty for an answer passed on",
    );
    let unknown = [("", &counts.unknown, false)];
    let tenants = counts
        .tenants
        .iter()
        .map(|(name, count)| (*name, count, true));
    for (tenant, counted, is_tenant) in unknown.into_iter().chain(tenants) {
        for (status, count) in counted.passed_on() {
            if count > 0 || (is_tenant && EXPECTED.contains(&status)) {
                let labels = [("tenant", tenant), ("status", status), ("code", "")];
                text.number(&labels, count);
            }
        }
        for (code, count) in counted.refused() {
            let is_expected = if is_tenant {
                code.comes_after_the_tenant()
            } else {
                code.comes_before_the_tenant()
            };
            if code != Code::PassedOn && (count > 0 || is_expected) {
                let status = respond::status_of(code).map(|status| status.to_string());
                let status = status.as_deref().unwrap_or_default();
                let labels = [
                    ("tenant", tenant),
                    ("status", status),
                    ("code", code.as_str()),
                ];
                text.number(&labels, count);
            }
        }
    }
    text.family(
        "request_duration_seconds",
        Kind::Histogram,
        "From the request's head to its answer",
    );
    for code in Code::ALL {
        let parts = shared.metrics().shards().iter();
        let parts = parts.filter_map(|shard| shard.durations.get(code.index()));
        let merged = Merged::of(&histogram::REQUEST, parts);
        text.spans(&[("code", code.as_str())], &merged);
    }
    text.family(
        "overhead_seconds",
        Kind::Histogram,
        "What the gateway itself took of a call that it sent: without the upstream and waits for a limit",
    );
    let parts = shared
        .metrics()
        .shards()
        .iter()
        .map(|shard| &shard.overhead);
    text.spans(&[], &Merged::of(&histogram::OVERHEAD, parts));
    text.family(
        "requests_in_flight",
        Kind::Gauge,
        "Requests being worked on",
    );
    text.number(&[], shared.requests_in_flight().into());
}

fn outcomes(text: &mut Text, counts: &Counts<'_>) {
    text.family(
        "outcomes",
        Kind::Counter,
        "Calls with an intent in the trail, by tenant and by how they ended",
    );
    for (tenant, counted) in &counts.tenants {
        for (kind, count) in counted.outcomes() {
            let labels = [("tenant", *tenant), ("outcome", kind.as_str())];
            text.number(&labels, count);
        }
    }
}

fn connections(text: &mut Text, shared: &Shared) {
    let metrics = shared.metrics();
    let by_listener: Vec<_> = (0..)
        .zip(&metrics.listeners)
        .map(|(at, name): (usize, _)| {
            let parts = metrics.shards().iter();
            let parts = parts.filter_map(|shard| shard.connections.get(at));
            let (begun, ended) = parts.fold((0, 0), |(begun, ended), part| {
                (begun + get(&part.begun), ended + get(&part.ended))
            });
            (name.as_str(), begun, ended)
        })
        .collect();
    text.family("connections", Kind::Gauge, "Open connections");
    for (listener, begun, ended) in &by_listener {
        text.number(&[("listener", *listener)], begun.saturating_sub(*ended));
    }
    text.family(
        "connections_at_cap",
        Kind::Gauge,
        "Whether new connections have to wait for a place",
    );
    text.flag(&[], shared.is_at_connection_cap());
    text.family("connections_opened", Kind::Counter, "Connections begun");
    for (listener, begun, _) in &by_listener {
        text.number(&[("listener", *listener)], *begun);
    }
    text.family(
        "connections_refused",
        Kind::Counter,
        "Connections ended without an answer, by reason; caller-left: its caller ended one during a request, the answer included, or reset one that was kept alive",
    );
    let sums = sum_all(shared, |shard| &shard.connections_refused);
    for (end, count) in ConnectionEnd::ALL.into_iter().zip(sums) {
        text.number(&[("reason", end.as_str())], count);
    }
}

fn certificates(text: &mut Text, shared: &Shared, snapshot: &Snapshot) {
    let mut family = |name, help, at: fn(&Certificate) -> Timestamp| {
        text.family(name, Kind::Gauge, help);
        for certificate in snapshot.certificates() {
            let listener = shared.metrics().listener(certificate.listener);
            let labels = [("use", certificate.usage.as_str()), ("listener", listener)];
            text.figure(&labels, seconds(at(&certificate)));
        }
    };
    family(
        "certificate_expiry_timestamp_seconds",
        "When the first certificate of the listener's chain expires, or the last authority of a file",
        |certificate| certificate.until,
    );
    family(
        "certificate_not_before_timestamp_seconds",
        "Since when that certificate is valid",
        |certificate| certificate.from,
    );
}

fn auth(text: &mut Text, shared: &Shared, snapshot: &Snapshot) {
    text.family(
        "auth_failures",
        Kind::Counter,
        "Failed authentications, by reason",
    );
    let sums = sum_all(shared, |shard| &shard.auth_failures);
    for (reason, count) in AuthFailure::ALL.into_iter().zip(sums) {
        text.number(&[("reason", reason.as_str())], count);
    }
    text.family(
        "admin_tokens_refused",
        Kind::Counter,
        "Tokens sent to the admin listener that were not good",
    );
    text.number(&[], get(&shared.metrics().admin_tokens_refused));
    text.family(
        "tenant_token_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the first of the tenant's tokens that is still good expires, or when the last one did if none is good any more; none if none expires",
    );
    let now = Timestamp::now();
    let other = snapshot.counts_of_others();
    let mut of_others = None;
    for tenant in snapshot.tenants() {
        let Some(expires) = expiry::earliest(tenant.tokens(), now) else {
            continue;
        };
        if tenant.counts.is(other) {
            of_others =
                Some(of_others.map_or(expires, |found| expiry::nearest(found, expires, now)));
        } else {
            text.figure(&[("tenant", &*tenant.name)], seconds(expires));
        }
    }
    if let Some(expires) = of_others {
        text.figure(&[("tenant", OTHER)], seconds(expires));
    }
}

fn limits(text: &mut Text, shared: &Shared, snapshot: &Snapshot, counts: &Counts<'_>) {
    text.family(
        "rate_limit_decisions",
        Kind::Counter,
        "What each limit said to calls; a call passes all limits or none",
    );
    let mut decided_by = |backend, tenant: &str, limit: LimitedBy, decision, count| {
        let labels = [
            ("tenant", tenant),
            ("limit", limit.as_str()),
            ("decision", decision),
            ("backend", backend),
        ];
        text.number(&labels, count);
    };
    if snapshot.store.is_some() {
        for (tenant, counted) in &counts.tenants {
            let store = counted.store;
            for (limit, refused) in [
                (LimitedBy::Tenant, store.refused_by_tenant),
                (LimitedBy::Key, store.refused_by_key),
            ] {
                decided_by("redis", tenant, limit, "allowed", store.allowed);
                decided_by("redis", tenant, limit, "delayed", store.delayed);
                decided_by("redis", tenant, limit, "refused", refused);
            }
        }
    }
    let mut decided = |tenant: &str, limit, decision, count| {
        decided_by("local", tenant, limit, decision, count);
    };
    // Each failed authentication that was not refused by this limit was let pass by it.
    let failed: u64 = sum_all(shared, |shard| &shard.auth_failures).iter().sum();
    let unauthenticated = LimitedBy::Unauthenticated;
    decided("", unauthenticated, "allowed", failed);
    let refused = counts.unknown.limited(unauthenticated);
    decided("", unauthenticated, "refused", refused);
    for (tenant, counted) in &counts.tenants {
        for limit in [LimitedBy::Tenant, LimitedBy::Key, LimitedBy::Upstream] {
            decided(tenant, limit, "allowed", counted.allowed);
            decided(tenant, limit, "delayed", counted.delayed);
            decided(tenant, limit, "refused", counted.limited(limit));
        }
    }
    text.family(
        "rate_limit_wait_seconds",
        Kind::Histogram,
        "How long calls waited for their turn that had to",
    );
    let parts = shared.metrics().shards().iter().map(|shard| &shard.waits);
    text.spans(&[], &Merged::of(&histogram::WAIT, parts));
    text.family(
        "rate_limit_queue_depth",
        Kind::Gauge,
        "Calls that wait for their turn",
    );
    let waiting = snapshot.tenants().iter().map(|tenant| tenant.waiting());
    text.number(&[], waiting.map(u64::from).sum());
}

/// The same counters of all workers, added up.
fn sum_all<const N: usize>(shared: &Shared, of: impl Fn(&Shard) -> &[AtomicU64; N]) -> [u64; N] {
    let mut sums = [0; N];
    for shard in shared.metrics().shards() {
        for (sum, count) in sums.iter_mut().zip(of(shard)) {
            *sum += get(count);
        }
    }
    sums
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn seconds(at: Timestamp) -> f64 {
    seconds_since_epoch(SystemTime::from(at))
}
