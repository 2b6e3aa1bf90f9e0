//! How shipping goes, for metrics and `/status`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::fault::{Failure, Reason};
use crate::audit::Collected;

/// How shipping goes.
#[derive(Debug)]
pub struct State {
    collected: Arc<Collected>,
    is_up: AtomicBool,
    records: AtomicU64,
    errors: [AtomicU64; Reason::COUNT],
    /// When the database last had everything, in ms since `born`.
    whole_ms: AtomicU64,
    born: Instant,
    trouble: Mutex<Option<(Reason, String)>>,
}

impl State {
    /// Nothing done yet.
    pub fn new(collected: Arc<Collected>) -> Self {
        Self {
            collected,
            is_up: AtomicBool::new(false),
            records: AtomicU64::new(0),
            errors: Default::default(),
            whole_ms: AtomicU64::new(0),
            born: Instant::now(),
            trouble: Mutex::new(None),
        }
    }

    /// What the trail's retention knows.
    pub fn collected(&self) -> &Collected {
        &self.collected
    }

    /// Whether the database takes records.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Records written since the start.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How often it failed, by why.
    pub fn errors(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self
            .errors
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.into_iter().zip(counts)
    }

    /// How many records, of those up to `head`, the database does not have, and for how
    /// long it has not had everything. Before it was asked, all are missing.
    pub fn lag(&self, head: u64) -> (u64, Duration) {
        let missing = head.saturating_sub(self.collected.until());
        if missing == 0 {
            return (0, Duration::ZERO);
        }
        let whole = Duration::from_millis(self.whole_ms.load(Ordering::Relaxed));
        (missing, self.born.elapsed().saturating_sub(whole))
    }

    /// Why records do not get into the database just now: what kind of failure, and the
    /// text of it, which can hold parts of the config.
    pub fn trouble(&self) -> Option<(Reason, String)> {
        self.kept().clone()
    }

    /// Records were written; the last has this number.
    pub(super) fn wrote(&self, records: usize, seq: u64) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.collected.set_until(seq);
    }

    /// At this time nothing was missing that was in the trail then.
    pub(super) fn whole(&self, at: Instant) {
        let span = at.saturating_duration_since(self.born).as_millis();
        let ms = u64::try_from(span).unwrap_or(u64::MAX);
        self.whole_ms.store(ms, Ordering::Relaxed);
    }

    /// The database takes records; said in the log after it did not.
    pub(super) fn works(&self, place: &str, missing: u64) {
        self.is_up.store(true, Ordering::Relaxed);
        if self.kept().take().is_some() {
            tracing::info!(database = place, missing, "the trail is collected again");
        } else {
            tracing::info!(database = place, missing, "the trail is collected");
        }
    }

    /// Something is wrong that does not keep records from the database.
    pub(super) fn count(&self, reason: Reason, times: u64) {
        let count = self.errors.get(reason.index());
        count.map(|count| count.fetch_add(times, Ordering::Relaxed));
    }

    /// It can't be written; said once in the log for each kind of failure.
    pub(super) fn failed(&self, failure: &Failure) {
        self.is_up.store(false, Ordering::Relaxed);
        self.count(failure.reason, 1);
        let mut trouble = self.kept();
        let is_known = matches!(&*trouble, Some((reason, _)) if *reason == failure.reason);
        if !is_known {
            tracing::warn!(
                reason = failure.reason.as_str(),
                "records do not get into the database of audit.ship: {failure}. They stay on disk and are tried again; calls are not touched by it"
            );
        }
        *trouble = Some((failure.reason, failure.what.clone()));
    }

    /// The thread ended.
    pub(super) fn ended(&self) {
        self.is_up.store(false, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Option<(Reason, String)>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
