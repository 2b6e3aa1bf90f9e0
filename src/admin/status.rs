//! How the gateway is just now: `/status` for people, `/status.json` for programs.
//! Both show the same facts.

mod json;
mod page;
mod plot;
mod words;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

pub use self::{json::json, page::page};
use crate::{
    audit::{self, DiskSpace},
    config::{
        settings::{Durability, Mode},
        snapshot::{Snapshot, Tenant},
    },
    containment::{Freeze, Scope},
    fleet::{Store, Trouble},
    metrics::{Incident, Span, earliest_expiry},
    pipeline::limit::BreakerState,
    reload::{Reload, Reloader},
    server::Shared,
    token::EXPIRES_SOON,
};

/// Tenants that are shown one by one.
const TENANTS_MAX: usize = 50;
/// Problems of a config that are shown one by one.
const PROBLEMS_MAX: usize = 20;
/// Below this share of free space the disk is pointed out.
const DISK_LOW_PERCENT: u64 = 10;

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
    /// see of `shipping` is not in it.
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
}

/// Where a fleet shares its limits, and how it stands.
struct StoreFacts {
    degraded: bool,
    why: Option<Trouble>,
    /// Why what the fleet freezes is not known, although the store answers.
    freezes_unknown: Option<Trouble>,
    replicas: u32,
    /// 0 if it is not known.
    live: u32,
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
        });
        Self {
            now,
            started_at: timestamp(metrics.started_at()),
            unready: shared.unready(),
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
            store: snapshot.store.as_deref().map(store),
            spans: metrics.history().spans(),
            lately: metrics.history().whole(metrics.shards()),
        }
    }

    /// What needs somebody's attention, in words; the gravest first.
    fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if let Some(why) = &self.unready {
            concerns.push(format!("No calls are taken: {why}."));
        }
        concerns.extend(self.frozen());
        for key in self
            .keys
            .iter()
            .filter(|key| key.breaker != BreakerState::Closed)
        {
            let name = &key.name;
            concerns.push(match key.breaker {
                BreakerState::Open => format!("Calls with key {name} are refused, since the upstream failed several times in a row."),
                _ => format!("The upstream failed several times in a row with key {name}; single calls find out whether it is back."),
            });
        }
        concerns.extend(self.store.iter().flat_map(StoreFacts::concerns));
        if !self.reload.problems.is_empty() {
            let count = self.reload.problems.len();
            let s = if count == 1 { "" } else { "s" };
            concerns.push(format!(
                "The last config was refused ({count} problem{s}); the one before is in effect."
            ));
        }
        if let Some(disk) = self.disk.filter(|disk| is_low(*disk)) {
            concerns.push(format!(
                "The trail's disk is nearly full: {} left.",
                words::bytes(disk.free)
            ));
        }
        if let Some(shipping) = self.shipping.as_ref().filter(|it| !it.is_up)
            && let Some(why) = &shipping.trouble
        {
            concerns.push(format!(
                "The trail does not get into the database: {why}. {} records wait on disk.",
                shipping.missing
            ));
        }
        if let Some(held) = self.shipping.as_ref().map(|it| it.held_segments)
            && held > 0
        {
            concerns.push(format!(
                "{held} old segments of the trail are kept until the database has them."
            ));
        }
        // Where the trail can't be written it is said already, and better.
        if self.disk.is_none() && self.trail.writable.is_ok() {
            concerns.push("The trail's disk does not answer.".to_owned());
        }
        if self.is_at_connection_cap {
            concerns.push("As many connections are open as may be: new ones wait.".to_owned());
        }
        if !self.reload.needs_restart.is_empty() {
            let fields = self.reload.needs_restart.join(", ");
            concerns.push(format!(
                "Changed in the config, and takes effect only after a restart: {fields}."
            ));
        }
        for tenant in &self.tenants {
            let left = tenant.expires.map(|expires| until(self.now, expires));
            if let Some(left) = left.filter(|left| *left <= EXPIRES_SOON) {
                concerns.push(format!(
                    "A token of {} expires in {}.",
                    tenant.name,
                    words::span(left)
                ));
            }
        }
        concerns
    }
}

impl Facts {
    /// What is frozen. Who did it and why is for those who may see the config.
    fn frozen(&self) -> Vec<String> {
        let mut said = Vec::new();
        let because = |freeze: &Freeze| {
            let since = words::moment(freeze.since);
            if self.shows_problems {
                let Freeze { by, reason, .. } = freeze;
                format!("since {since}, by {by}: {reason}")
            } else {
                format!("since {since}")
            }
        };
        if let Some(freeze) = &self.all_frozen {
            said.push(format!("Every tenant is frozen, {}.", because(freeze)));
        }
        let shown = self.tenants.iter();
        let shown = shown.filter_map(|tenant| Some((tenant, tenant.frozen.as_ref()?)));
        let shown: Vec<_> = shown.collect();
        for (tenant, freeze) in &shown {
            said.push(format!(
                "Tenant {} is frozen, {}.",
                tenant.name,
                because(freeze)
            ));
        }
        let more = self.frozen.len().saturating_sub(shown.len());
        if more > 0 {
            said.push(format!(
                "{more} more tenants are frozen, some of which may not be in the config."
            ));
        }
        said
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

impl StoreFacts {
    fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        let share = self.replicas.max(self.live);
        if self.degraded {
            let why = self
                .why
                .map_or_else(String::new, |trouble| format!(" ({trouble})"));
            concerns.push(format!("The limits store does not decide{why}: this gateway takes its fair share of each limit, 1/{share}."));
        }
        if let Some(trouble) = self.freezes_unknown {
            concerns.push(format!("What the fleet freezes is neither heard nor told, though limits are shared: {trouble}."));
        }
        if self.live > self.replicas {
            concerns.push(format!(
                "{} gateways share the limits, more than limits_store.replicas ({}).",
                self.live, self.replicas
            ));
        }
        concerns
    }
}

fn store(store: &Store) -> StoreFacts {
    let board = store.board();
    StoreFacts {
        degraded: board.is_degraded(),
        why: board.why(),
        freezes_unknown: board.freezes_trouble(),
        replicas: store.replicas(),
        live: board.live(),
    }
}

fn is_low(disk: DiskSpace) -> bool {
    disk.free < disk.size / 100 * DISK_LOW_PERCENT
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
        expires: earliest_expiry(tenant, now),
        is_frozen: tenant.is_frozen(),
        frozen: if tenant.is_frozen() {
            snapshot.containment().standing(Scope::Tenant(&tenant.name))
        } else {
            None
        },
    }
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
