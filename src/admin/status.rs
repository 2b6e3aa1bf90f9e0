//! How the gateway is just now: `/status` for people, `/status.json` for programs.
//! Both show the same facts.

mod concerns;
mod json;
mod page;
mod plot;
mod words;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

pub use self::{json::json, page::page};
use crate::{
    audit::{self, DiskSpace},
    config::settings::{Durability, Mode},
    containment::{Freeze, Scope},
    expiry,
    fleet::{Counted, Store, Trouble},
    limits::BreakerState,
    metrics::{Incident, Span},
    reload::{Reload, Reloader},
    server::Shared,
    snapshot::{Certificate, Snapshot, Tenant},
};

/// Tenants that are shown one by one.
const TENANTS_MAX: usize = 50;
/// Problems of a config that are shown one by one.
const PROBLEMS_MAX: usize = 20;

/// How the gateway is. Nothing in it is a secret or an id of a user.
pub struct Facts {
    now: Timestamp,
    started_at: Timestamp,
    unready: Option<String>,
    draining: bool,
    digest: Box<str>,
    tenants_total: usize,
    reload: Reload,
    /// Whether whoever asks may see what is wrong with a config. What others may not
    /// see of `shipping` and `store` is not in it.
    shows_problems: bool,
    upstream: String,
    keys: Vec<KeyFacts>,
    tenants: Vec<TenantFacts>,
    all_frozen: Option<Freeze>,
    /// Frozen by themselves, in the config or not.
    frozen: Vec<Box<str>>,
    others: Option<OtherTenants>,
    requests_in_flight: u32,
    connections: u32,
    is_at_connection_cap: bool,
    durability: Durability,
    trail: audit::Status,
    disk: Option<DiskSpace>,
    shipping: Option<ShippingFacts>,
    refusals: Vec<Seen>,
    failures: Vec<Seen>,
    store: Option<StoreFacts>,
    /// Who has no valid token any more, and since when.
    without_token: Vec<(Arc<str>, Timestamp)>,
    /// Those that should have been renewed by now, each with the name of its listener.
    due_certificates: Vec<(Certificate, String)>,
    spans: Vec<Span>,
    lately: Option<(Span, Duration)>,
}

/// How the trail gets into the database of `audit.ship`.
struct ShippingFacts {
    is_up: bool,
    records: u64,
    missing: u64,
    missing_for: Duration,
    held_segments: u64,
    trouble: Option<String>,
}

/// A key, and how calls with it go.
struct KeyFacts {
    name: String,
    breaker: BreakerState,
    refusals: u64,
    fingerprint: String,
    is_refused: bool,
    has_unusual_404s: bool,
}

/// Where a fleet shares its limits, and how it stands.
struct StoreFacts {
    degraded: bool,
    why: Option<Why>,
    /// Why what the fleet freezes is not known, although the store answers.
    freezes_unknown: Option<Trouble>,
    /// Why this gateway is not counted over the fleet, although the store answers; and
    /// why what it deletes is not.
    uncounted: Option<Why>,
    deletions_uncounted: Option<Why>,
    replicas: u32,
    /// 0 if it is not known.
    live: u32,
    /// By how many limits are divided without the store.
    divisor: u32,
}

/// Why something does not work with the store.
struct Why {
    trouble: Trouble,
    /// What was met, for those who may see the config.
    detail: Option<String>,
}

/// A tenant, its limits and their use.
struct TenantFacts {
    name: Arc<str>,
    mode: Mode,
    passed_on: u64,
    refused: u64,
    in_flight: u32,
    in_flight_max: u32,
    waiting: u32,
    limits: Vec<LimitFacts>,
    /// When the next of its tokens does; if none is valid any more, when the last one did.
    expires: Option<Timestamp>,
    is_frozen: bool,
    frozen: Option<Freeze>,
}

/// One limit, and what is left of it.
struct LimitFacts {
    name: String,
    remaining: u32,
    burst: u32,
    requests: u32,
    per: Duration,
}

/// The tenants that are not shown one by one.
struct OtherTenants {
    tenants: usize,
    passed_on: u64,
    refused: u64,
    in_flight: u32,
    waiting: u32,
}

/// A call that did not go well, and when.
struct Seen {
    at: Timestamp,
    incident: Incident,
}

impl Facts {
    /// Looks around. `shows_problems`: whether whoever asks may see what is wrong
    /// with a config, or with the way to the database, which can hold parts of it.
    pub fn gather(
        shared: &Shared,
        reloader: &Reloader,
        disk: Option<DiskSpace>,
        shows_problems: bool,
    ) -> Self {
        let metrics = shared.metrics();
        metrics.tick();
        let settings = reloader.settings();
        let snapshot = shared.snapshot();
        let now = Timestamp::now();
        let (tenants, others) = tenants(&snapshot, now);
        let keys = snapshot.keys().iter().map(|key| KeyFacts {
            name: key.name().to_owned(),
            breaker: key.breaker().state(),
            refusals: key.refusals(),
            fingerprint: key.in_use().fingerprint().to_owned(),
            is_refused: key.is_refused(),
            has_unusual_404s: key.has_unusual_404s(),
        });
        Self {
            now,
            started_at: timestamp(metrics.started_at()),
            unready: shared.readiness().unready(),
            draining: shared.is_draining(),
            digest: snapshot.digest.clone(),
            tenants_total: snapshot.tenants().len(),
            reload: reloader.last(),
            shows_problems,
            upstream: settings.upstream.url.authority(),
            keys: keys.collect(),
            tenants,
            all_frozen: snapshot.containment().standing(Scope::All),
            frozen: snapshot.containment().tenants(),
            others,
            requests_in_flight: shared.requests_in_flight(),
            connections: shared.connections(),
            is_at_connection_cap: shared.is_at_connection_cap(),
            durability: settings.audit.durability,
            trail: shared.trail().status(),
            disk,
            shipping: shipping(shared, shows_problems),
            refusals: seen(metrics.latest(false), now),
            failures: seen(metrics.latest(true), now),
            store: snapshot
                .store
                .as_deref()
                .map(|it| store(it, shows_problems)),
            without_token: without_token(&snapshot, now),
            due_certificates: snapshot
                .certificates()
                .filter(|certificate| certificate.is_due(now))
                .map(|it| (it, metrics.listener(it.listener).to_owned()))
                .collect(),
            spans: metrics.history().spans(),
            lately: metrics.history().whole(metrics.shards()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble.fmt(f)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

fn shipping(shared: &Shared, shows_problems: bool) -> Option<ShippingFacts> {
    let shipping = shared.shipping()?;
    let (missing, missing_for) = shipping.lag(shared.trail().status().head.seq);
    Some(ShippingFacts {
        is_up: shipping.is_up(),
        records: shipping.records(),
        missing,
        missing_for,
        held_segments: shipping.collected().held(),
        trouble: shipping
            .trouble()
            .map(|(reason, what)| match shows_problems {
                true => what,
                false => format!("{reason} ({}); the log says more", reason.as_str()),
            }),
    })
}

fn store(store: &Store, shows_problems: bool) -> StoreFacts {
    let board = store.board();
    let why = |(trouble, detail): (Trouble, String)| Why {
        trouble,
        detail: Some(detail).filter(|detail| shows_problems && !detail.is_empty()),
    };
    StoreFacts {
        degraded: board.is_degraded(),
        why: board.why().map(why),
        freezes_unknown: board.freezes_trouble(),
        uncounted: board.uncounted(Counted::Gateways).map(why),
        deletions_uncounted: board.uncounted(Counted::Deletions).map(why),
        replicas: store.replicas(),
        live: board.live(),
        divisor: store.divisor(),
    }
}

/// The tenants with most calls one by one, the others as a sum.
fn tenants(snapshot: &Snapshot, now: Timestamp) -> (Vec<TenantFacts>, Option<OtherTenants>) {
    let shared_counts = snapshot.counts_of_others();
    let (mut shown, mut others) = (Vec::new(), Vec::new());
    for tenant in snapshot.tenants() {
        if tenant.counts.is(shared_counts) {
            others.push(tenant);
        } else {
            shown.push(facts(tenant, snapshot, now));
        }
    }
    // Stable: those with as many calls stay in the order of the config.
    shown.sort_by_key(|tenant| std::cmp::Reverse(tenant.passed_on + tenant.refused));
    let rest = shown.split_off(shown.len().min(TENANTS_MAX));
    if rest.is_empty() && others.is_empty() {
        return (shown, None);
    }
    let counted = shared_counts.sum();
    let mut sum = OtherTenants {
        tenants: rest.len() + others.len(),
        passed_on: counted.passed_on().map(|(_, count)| count).sum(),
        refused: counted.refused().map(|(_, count)| count).sum(),
        in_flight: others
            .iter()
            .map(|tenant| tenant.lasting.in_flight.count())
            .sum(),
        waiting: others.iter().map(|tenant| tenant.waiting()).sum(),
    };
    for tenant in rest {
        sum.passed_on += tenant.passed_on;
        sum.refused += tenant.refused;
        sum.in_flight += tenant.in_flight;
        sum.waiting += tenant.waiting;
    }
    (shown, Some(sum))
}

fn facts(tenant: &Tenant, snapshot: &Snapshot, now: Timestamp) -> TenantFacts {
    let counted = tenant.counts.sum();
    let limits = tenant.limits.all().map(|(_, bucket)| {
        let window = bucket.window();
        LimitFacts {
            name: bucket.name().to_owned(),
            remaining: bucket.level().remaining,
            burst: window.burst.get(),
            requests: window.requests.get(),
            per: window.per,
        }
    });
    TenantFacts {
        name: Arc::clone(&tenant.name),
        mode: tenant.mode,
        passed_on: counted.passed_on().map(|(_, count)| count).sum(),
        refused: counted.refused().map(|(_, count)| count).sum(),
        in_flight: tenant.lasting.in_flight.count(),
        in_flight_max: tenant.in_flight_max,
        waiting: tenant.waiting(),
        limits: limits.collect(),
        expires: expiry::earliest(tenant.tokens(), now),
        is_frozen: tenant.is_frozen(),
        frozen: if tenant.is_frozen() {
            snapshot.containment().standing(Scope::Tenant(&tenant.name))
        } else {
            None
        },
    }
}

fn without_token(snapshot: &Snapshot, now: Timestamp) -> Vec<(Arc<str>, Timestamp)> {
    let tenants = snapshot.tenants().iter();
    let ended = tenants.filter_map(|tenant| {
        let since = expiry::ended(tenant.tokens(), now)?;
        Some((Arc::clone(&tenant.name), since))
    });
    ended.collect()
}

/// When each of them was, by the wall clock.
fn seen(incidents: Vec<Incident>, now: Timestamp) -> Vec<Seen> {
    let at = |incident: &Incident| now.checked_sub(incident.at.elapsed()).unwrap_or(now);
    let seen = incidents.into_iter().map(|incident| Seen {
        at: at(&incident),
        incident,
    });
    seen.collect()
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or_default()
}

fn timestamp(seconds: f64) -> Timestamp {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds.max(0.0)));
    at.and_then(|at| Timestamp::try_from(at).ok())
        .unwrap_or_default()
}
