//! The metrics, in OpenMetrics text. Labels come from the config or from enums,
//! never from ids, tokens or paths.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{
    audit::Unwritable,
    config::snapshot::Snapshot,
    pipeline::{Answer, refusal::AuthFailure},
    server::{Arrival, Shared},
};

/// Tenants above this number share the label `_other`.
const TENANTS_MAX: usize = 200;

/// The bounds of the duration histograms, in seconds (OpenTelemetry's for HTTP,
/// and three below).
const DURATIONS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<CodeLabel, Histogram, fn() -> Histogram>,
    auth_failures: Family<ReasonLabel, Counter>,
    connections: Counter,
    connections_refused: Family<ReasonLabel, Counter>,
    panics: Counter,
    scraped: Scraped,
    reloads: Family<ResultLabel, Counter>,
    named: ArcSwap<HashSet<Arc<str>>>,
    config: Family<ConfigLabel, Gauge>,
}

/// Gauges that are read when somebody asks.
#[derive(Debug, Default)]
struct Scraped {
    in_flight: Gauge,
    connections: Gauge,
    ready: Gauge,
    draining: Gauge,
    key_refusals: Family<KeyLabel, Counter>,
    circuit_open: Family<KeyLabel, Gauge>,
    reload_ok: Gauge,
    reloaded_at: Gauge<f64, AtomicU64>,
    audit_sequence: Gauge,
    audit_writable: Gauge,
    audit_unwritable: Family<CauseLabel, Gauge>,
    audit_records: Counter,
    audit_bytes: Counter,
    audit_syncs: Counter,
    audit_errors: Family<CauseLabel, Counter>,
    audit_queue: Gauge,
    audit_synced_at: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    tenant: String,
    status: u16,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfigLabel {
    sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All metrics at zero, for the tenants of `snapshot`.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut registry = Registry::with_prefix("alloy_gateway");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        let mut metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            auth_failures: Family::default(),
            connections: Counter::default(),
            connections_refused: Family::default(),
            panics: Counter::default(),
            scraped: Scraped::default(),
            reloads: Family::default(),
            named: ArcSwap::default(),
            config: Family::default(),
            registry,
        };
        metrics.name_tenants(snapshot);
        metrics.reloaded_at(SystemTime::now());
        metrics.register();
        for failure in AuthFailure::ALL {
            // The series exists from now on; its handle is of no use here.
            drop(metrics.auth_failures.get_or_create(&ReasonLabel {
                reason: failure.as_str(),
            }));
        }
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "requests",
            "Requests answered, by tenant, status and refusal code",
            self.requests.clone(),
        );
        r.register_with_unit(
            "request_duration",
            "From the request's head to its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        r.register(
            "auth_failures",
            "Failed authentications",
            self.auth_failures.clone(),
        );
        r.register(
            "connections_opened",
            "Connections begun",
            self.connections.clone(),
        );
        r.register(
            "connections_refused",
            "Connections ended without an answer",
            self.connections_refused.clone(),
        );
        r.register("panics", "Bugs caught", self.panics.clone());
        let s = &self.scraped;
        r.register(
            "requests_in_flight",
            "Requests being worked on",
            s.in_flight.clone(),
        );
        r.register("connections", "Open connections", s.connections.clone());
        r.register("ready", "Whether calls are taken", s.ready.clone());
        r.register(
            "draining",
            "Whether the gateway is stopping",
            s.draining.clone(),
        );
        r.register(
            "audit_sequence",
            "The number of the trail's last record",
            s.audit_sequence.clone(),
        );
        r.register(
            "audit_writable",
            "Whether the trail can be written",
            s.audit_writable.clone(),
        );
        r.register(
            "upstream_key_refusals",
            "How often the upstream refused a key of this name",
            s.key_refusals.clone(),
        );
        r.register(
            "circuit_open",
            "Whether calls with this key are refused because the upstream fails",
            s.circuit_open.clone(),
        );
        r.register("config_info", "The config in effect", self.config.clone());
        r.register(
            "config_reloads",
            "Tries to load another config, by result",
            self.reloads.clone(),
        );
        r.register(
            "config_last_reload_successful",
            "Whether the last try to load a config succeeded",
            s.reload_ok.clone(),
        );
        r.register(
            "config_last_reload_success_timestamp_seconds",
            "When a config was loaded last",
            s.reloaded_at.clone(),
        );
        r.register(
            "audit_unwritable",
            "Why the trail can't be written just now: 1 for the cause",
            s.audit_unwritable.clone(),
        );
        r.register(
            "audit_records",
            "Records made durable",
            s.audit_records.clone(),
        );
        r.register("audit_bytes", "Bytes made durable", s.audit_bytes.clone());
        r.register("audit_syncs", "Syncs that this took", s.audit_syncs.clone());
        r.register(
            "audit_errors",
            "How often the trail could not be written, by cause",
            s.audit_errors.clone(),
        );
        r.register(
            "audit_queue_depth",
            "Records that wait to be written",
            s.audit_queue.clone(),
        );
        r.register(
            "audit_last_fsync_timestamp_seconds",
            "When the trail was synced last",
            s.audit_synced_at.clone(),
        );
    }

    /// Gives the tenants of a snapshot labels of their own, as far as there are any.
    pub fn name_tenants(&self, snapshot: &Snapshot) {
        let names = snapshot.tenants().iter().take(TENANTS_MAX);
        let named = names.map(|tenant| Arc::clone(&tenant.name)).collect();
        self.named.store(Arc::new(named));
        self.config.clear();
        let sha256 = snapshot.digest.to_string();
        self.config.get_or_create(&ConfigLabel { sha256 }).set(1);
    }

    /// Counts a try to load another config.
    pub fn reloaded(&self, succeeded: bool) {
        let result = if succeeded { "success" } else { "failure" };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
        self.scraped.reload_ok.set(succeeded.into());
        if succeeded {
            self.reloaded_at(SystemTime::now());
        }
    }

    fn reloaded_at(&self, at: SystemTime) {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.scraped.reload_ok.set(1);
        self.scraped.reloaded_at.set(since.as_secs_f64());
    }

    /// Counts an answered request.
    pub fn answered(&self, arrival: &Arrival, answer: &Answer) {
        let named = self.named.load();
        let tenant = match &answer.tenant {
            None => "",
            Some(name) if named.contains(name) => name,
            Some(_) => "_other",
        };
        let labels = RequestLabels {
            tenant: tenant.to_owned(),
            status: answer.response.status().as_u16(),
            code: answer.code,
        };
        self.requests.get_or_create(&labels).inc();
        let took = arrival.started.elapsed().as_secs_f64();
        self.durations
            .get_or_create(&CodeLabel { code: answer.code })
            .observe(took);
        if let Some(failure) = answer.auth_failure {
            self.auth_failures
                .get_or_create(&ReasonLabel {
                    reason: failure.as_str(),
                })
                .inc();
        }
    }

    /// Counts a connection that was begun.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// Counts a connection that was ended without an answer.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    /// Counts a bug that was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self, shared: &Shared) -> String {
        let status = shared.trail().status();
        let now = &self.scraped;
        now.in_flight.set(shared.requests_in_flight().into());
        now.connections.set(shared.connections().into());
        now.draining.set(shared.is_draining().into());
        now.ready.set(shared.unready().is_none().into());
        now.audit_sequence
            .set(i64::try_from(status.head.seq).unwrap_or(i64::MAX));
        now.audit_writable.set(status.writable.is_ok().into());
        let cause_now = status.writable.err().map(|why| why.cause);
        for cause in Unwritable::CAUSES {
            let label = CauseLabel { cause };
            let gauge = now.audit_unwritable.get_or_create(&label);
            gauge.set((cause_now == Some(cause)).into());
            let errors = status.totals.errors.get(cause).copied();
            raise(&now.audit_errors.get_or_create(&label), errors.unwrap_or(0));
        }
        for (keys, is_open) in shared.snapshot().keys() {
            let key = keys.name().to_owned();
            let label = KeyLabel { key };
            now.circuit_open.get_or_create(&label).set(is_open.into());
            raise(&now.key_refusals.get_or_create(&label), keys.refusals());
        }
        raise(&now.audit_records, status.totals.records);
        raise(&now.audit_bytes, status.totals.bytes);
        raise(&now.audit_syncs, status.totals.syncs);
        now.audit_queue
            .set(i64::try_from(status.queue_depth).unwrap_or(i64::MAX));
        let synced = status
            .last_sync
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        now.audit_synced_at
            .set(synced.unwrap_or(Duration::ZERO).as_secs_f64());
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Lets a counter say what another one counted.
fn raise(counter: &Counter, to: u64) {
    counter.inner().fetch_max(to, Ordering::Relaxed);
}
