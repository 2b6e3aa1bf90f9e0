//! What the trail's writer counts: once for each batch, on its own thread.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::histogram::{BATCH, Histogram, SYNC};

/// The events of the trail.
pub const EVENTS: [&str; 22] = [
    "request.intent",
    "request.outcome",
    "request.refused",
    "refusals.coalesced",
    "connection.refused",
    "config.loaded",
    "config.rejected",
    "key.rotated",
    "tenant.frozen",
    "tenant.thawed",
    "admin.drain",
    "admin.reload",
    "admin.rotate-key",
    "admin.refused",
    "admin.log-level",
    "trail.opened",
    "trail.sealed",
    "trail.recovered",
    "trail.pruned",
    "checkpoint",
    "clock.stepped",
    "other",
];

/// What the writer was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TrailOp {
    Write,
    Fsync,
    Rotate,
}

impl TrailOp {
    /// All of them, each at its own index.
    pub const ALL: [Self; 3] = [Self::Write, Self::Fsync, Self::Rotate];

    /// Its name in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Fsync => "fsync",
            Self::Rotate => "rotate",
        }
    }
}

/// What the trail's writer counts.
#[derive(Debug)]
pub struct TrailCounts {
    events: [AtomicU64; EVENTS.len()],
    errors: [AtomicU64; TrailOp::ALL.len()],
    /// How long syncs took, in ns.
    pub syncs: Histogram<12>,
    /// How many records each write held.
    pub batches: Histogram<10>,
}

impl Default for TrailCounts {
    fn default() -> Self {
        Self {
            events: Default::default(),
            errors: Default::default(),
            syncs: Histogram::new(&SYNC),
            batches: Histogram::new(&BATCH),
        }
    }
}

impl TrailCounts {
    /// Counts a record that was made durable.
    pub fn recorded(&self, event: &str) {
        let known = EVENTS.iter().position(|known| *known == event);
        let count = self.events.get(known.unwrap_or(EVENTS.len() - 1));
        count.map(|count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts that something could not be done.
    pub fn failed(&self, op: TrailOp) {
        let count = self.errors.get(op as usize);
        count.map(|count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts a sync.
    pub fn synced(&self, took: Duration) {
        self.syncs.observe_span(took);
    }

    /// Records, by event.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .events
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        EVENTS.into_iter().zip(counts)
    }

    /// Failures, by what failed.
    pub fn errors(&self) -> impl Iterator<Item = (TrailOp, u64)> {
        let counts = self
            .errors
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        TrailOp::ALL.into_iter().zip(counts)
    }
}
