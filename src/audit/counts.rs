//! What the trail's writer counts, once for each batch.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::event;
use crate::{
    closed_list::closed_list,
    histogram::{BATCH, Histogram, SYNC},
};

closed_list! {
    /// What the writer was doing when it failed, for metrics.
    #[expect(missing_docs, reason = "the names say it")]
    pub enum TrailOp {
        Write => "write",
        Fsync => "fsync",
        Rotate => "rotate",
    }
}

/// What the trail's writer counts.
#[derive(Debug)]
pub struct TrailCounts {
    /// By their event; the last one of all that have none of ours.
    events: [AtomicU64; event::ALL.len() + 1],
    errors: [AtomicU64; TrailOp::COUNT],
    cut: AtomicU64,
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
            cut: AtomicU64::new(0),
            syncs: Histogram::new(&SYNC),
            batches: Histogram::new(&BATCH),
        }
    }
}

impl TrailCounts {
    /// Counts a record that was made durable.
    pub fn recorded(&self, event: &str) {
        let known = event::ALL.iter().position(|known| *known == event);
        let count = self.events.get(known.unwrap_or(event::ALL.len()));
        count.map(|count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts that something could not be done.
    pub fn failed(&self, op: TrailOp) {
        let count = self.errors.get(op.index());
        count.map(|count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts a call that was cut behind its intent: it is in doubt.
    pub fn was_cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that were cut behind their intents.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
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
        event::ALL.into_iter().chain(["other"]).zip(counts)
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
