//! The calls that wait to be sent.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::finished::Finished;

/// Calls that may wait, some 2 MB.
const CALLS_MAX: usize = 2048;
/// So many are sent without waiting for more.
const CALLS_ENOUGH: usize = 256;

/// The calls that wait to be sent.
#[derive(Debug, Default)]
pub struct Queue {
    calls: Mutex<Vec<Finished>>,
    /// There are enough of them.
    pub filled: Notify,
    counts: Counts,
}

/// What was sent and lost since the start, in spans.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    overflowed: AtomicU64,
    undelivered: AtomicU64,
    rejected: AtomicU64,
}

impl Counts {
    /// Taken by the collector.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Lost, by reason: the queue was full, the collector could not be reached or
    /// refused the request, or took it and rejected some spans.
    pub fn dropped(&self) -> [(&'static str, u64); 3] {
        [
            ("queue_full", &self.overflowed),
            ("undelivered", &self.undelivered),
            ("rejected", &self.rejected),
        ]
        .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// Counts a delivery of which the collector rejected some.
    pub(super) fn delivered(&self, spans: u64, rejected: u64) {
        let rejected = rejected.min(spans);
        self.exported.fetch_add(spans - rejected, Ordering::Relaxed);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
    }

    /// Counts spans that were given up.
    pub(super) fn gave_up(&self, spans: u64) {
        self.undelivered.fetch_add(spans, Ordering::Relaxed);
    }
}

impl Queue {
    /// Takes a call, or counts it as lost.
    pub fn push(&self, call: Finished) {
        let mut calls = self.calls();
        if calls.len() >= CALLS_MAX {
            drop(calls);
            let spans = &self.counts.overflowed;
            spans.fetch_add(call.spans(), Ordering::Relaxed);
            return;
        }
        calls.push(call);
        let is_enough = calls.len() == CALLS_ENOUGH;
        drop(calls);
        if is_enough {
            self.filled.notify_one();
        }
    }

    /// Everything that waits, in parts that make one request each.
    pub fn take(&self) -> Vec<Finished> {
        let mut calls = self.calls();
        if calls.len() <= CALLS_ENOUGH {
            return mem::take(&mut *calls);
        }
        let rest = calls.split_off(CALLS_ENOUGH);
        mem::replace(&mut *calls, rest)
    }

    /// What was sent and lost.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Finished>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
