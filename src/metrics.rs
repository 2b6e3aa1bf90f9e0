//! The metrics: counted by each worker for itself, merged when somebody asks.

mod history;
mod left_open;
mod recent;
mod shard;
mod status;
mod tenant;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

pub use self::{
    history::{History, Span},
    left_open::LeftOpen,
    recent::{Incident, is_failure},
    shard::{ConnectFailure, Ended, OpenConnection, OtherRetry, Shard, UpstreamError},
    status::STATUSES,
    tenant::{Counted, OpenCall, TenantCounts},
};

/// What the process counts, but for what belongs to a tenant, a key or the trail.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[Arc<Shard>]>,
    pub(crate) listeners: Box<[String]>,
    pub(crate) reloads: Reloads,
    pub(crate) admin_tokens_refused: AtomicU64,
    history: History,
    started_at: f64,
}

/// What came of tries to load another config.
#[derive(Debug)]
pub(crate) struct Reloads {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) is_last_good: AtomicBool,
    pub(crate) last_good_ms: AtomicU64,
}

impl Metrics {
    /// All at zero, for so many workers and these listeners.
    pub fn new(workers: usize, listeners: impl IntoIterator<Item = String>) -> Self {
        let listeners: Box<[_]> = listeners.into_iter().collect();
        let shards = (0..workers).map(|worker| Arc::new(Shard::new(worker, listeners.len())));
        let metrics = Self {
            shards: shards.collect(),
            listeners,
            reloads: Reloads {
                succeeded: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                is_last_good: AtomicBool::new(true),
                last_good_ms: AtomicU64::new(now_ms()),
            },
            admin_tokens_refused: AtomicU64::new(0),
            history: History::default(),
            started_at: seconds_since_epoch(SystemTime::now()),
        };
        // What comes from now on is seen against this.
        metrics.tick();
        metrics
    }

    /// The part of each worker.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// The name of the listener with this number; none of no listener.
    pub fn listener(&self, number: Option<usize>) -> &str {
        let name = number.and_then(|number| self.listeners.get(number));
        name.map_or("", String::as_str)
    }

    /// The last minutes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Takes note of how things are, now and then, for those who look later.
    pub fn tick(&self) {
        self.history.tick(&self.shards);
    }

    /// The last refusals, or failures, the newest first.
    pub fn latest(&self, failures: bool) -> Vec<Incident> {
        let shards = self.shards.iter();
        recent::latest(shards.map(|shard| &shard.recent), failures)
    }

    /// When the process was started, in Unix time.
    pub fn started_at(&self) -> f64 {
        self.started_at
    }

    /// Counts an admin token that was not good.
    pub fn admin_token_refused(&self) {
        self.admin_tokens_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a try to load another config.
    pub fn reloaded(&self, succeeded: bool) {
        let reloads = &self.reloads;
        let count = if succeeded {
            &reloads.succeeded
        } else {
            &reloads.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
        reloads.is_last_good.store(succeeded, Ordering::Relaxed);
        if succeeded {
            reloads.last_good_ms.store(now_ms(), Ordering::Relaxed);
        }
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Since 1970, in seconds; 0 if before.
pub fn seconds_since_epoch(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
