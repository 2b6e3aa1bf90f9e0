//! What is counted for one tenant. A tenant keeps its counts over reloads; they
//! go when it does.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::status::{self, STATUSES};
use crate::{
    audit::OutcomeKind,
    code::{Code, LimitedBy},
    limits::Backend,
};

/// Answers passed on, by status, and then refusals, by code.
const SLOTS: usize = STATUSES.len() + Code::COUNT;

/// The counts of one tenant: for each worker a part of its own, made when it is
/// first needed. Workers never share a cache line.
#[derive(Debug, Clone)]
pub struct TenantCounts(Arc<[OnceLock<Box<Block>>]>);

/// What one worker counted for one tenant; what most calls change comes first, in one
/// cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Block {
    allowed: AtomicU64,
    delayed: AtomicU64,
    outcomes: [AtomicU64; OutcomeKind::COUNT],
    answers: [AtomicU64; SLOTS],
    limited: [AtomicU64; LimitedBy::COUNT],
    store: InStore<AtomicU64>,
}

/// What the store of a fleet decided.
#[derive(Debug, Clone, Copy, Default)]
pub struct InStore<T> {
    /// Calls that passed every limit at once.
    pub allowed: T,
    /// Calls that passed every limit after a wait.
    pub delayed: T,
    /// Calls that one of the tenant's own limits refused.
    pub refused_by_tenant: T,
    /// Calls that one of its key's limits refused.
    pub refused_by_key: T,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            allowed: AtomicU64::default(),
            delayed: AtomicU64::default(),
            outcomes: Default::default(),
            answers: [const { AtomicU64::new(0) }; SLOTS],
            limited: Default::default(),
            store: InStore::default(),
        }
    }
}

impl Block {
    /// Counts an answer.
    pub fn answered(&self, code: Code, status: u16) {
        let slot = match code {
            Code::PassedOn => status::slot(status),
            _ => STATUSES.len() + code.index(),
        };
        if let Some(count) = self.answers.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that passed every limit, at once or after a wait.
    pub fn admitted(&self, after_a_wait: bool, by: Backend) {
        let count = match (by, after_a_wait) {
            (Backend::Local, false) => &self.allowed,
            (Backend::Local, true) => &self.delayed,
            (Backend::Store, false) => &self.store.allowed,
            (Backend::Store, true) => &self.store.delayed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts calls with an intent, by how they ended.
    pub fn ended(&self, kind: OutcomeKind, calls: u64) {
        if let Some(count) = self.outcomes.get(kind.index()) {
            count.fetch_add(calls, Ordering::Relaxed);
        }
    }

    /// Counts a call that a limit refused.
    pub fn limited(&self, by: LimitedBy, by_store: bool) {
        let count = match (by_store, by) {
            (true, LimitedBy::Key) => Some(&self.store.refused_by_key),
            (true, _) => Some(&self.store.refused_by_tenant),
            (false, _) => self.limited.get(by.index()),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it counted, added to `sum`.
    pub fn add_to(&self, sum: &mut Counted) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (sum, count) in sum.answers.iter_mut().zip(&self.answers) {
            *sum += get(count);
        }
        for (sum, count) in sum.outcomes.iter_mut().zip(&self.outcomes) {
            *sum += get(count);
        }
        sum.allowed += get(&self.allowed);
        sum.delayed += get(&self.delayed);
        for (sum, count) in sum.limited.iter_mut().zip(&self.limited) {
            *sum += get(count);
        }
        sum.store.allowed += get(&self.store.allowed);
        sum.store.delayed += get(&self.store.delayed);
        sum.store.refused_by_tenant += get(&self.store.refused_by_tenant);
        sum.store.refused_by_key += get(&self.store.refused_by_key);
    }
}

/// The sum over all workers.
#[derive(Debug, Clone)]
pub struct Counted {
    answers: [u64; SLOTS],
    outcomes: [u64; OutcomeKind::COUNT],
    /// Calls that passed every limit of this gateway at once, and no other's.
    pub allowed: u64,
    /// Calls that passed every limit of this gateway after a wait, and no other's.
    pub delayed: u64,
    /// What the store of a fleet decided.
    pub store: InStore<u64>,
    limited: [u64; LimitedBy::COUNT],
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            answers: [0; SLOTS],
            outcomes: [0; OutcomeKind::COUNT],
            allowed: 0,
            delayed: 0,
            store: InStore::default(),
            limited: [0; LimitedBy::COUNT],
        }
    }
}

impl Counted {
    /// Answers passed on, by status.
    pub fn passed_on(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STATUSES.into_iter().zip(self.answers)
    }

    /// Refusals, by code.
    pub fn refused(&self) -> impl Iterator<Item = (Code, u64)> {
        let counts = self.answers.into_iter().skip(STATUSES.len());
        Code::ALL.into_iter().zip(counts)
    }

    /// Calls with an intent, by how they ended.
    pub fn outcomes(&self) -> impl Iterator<Item = (OutcomeKind, u64)> {
        OutcomeKind::ALL.into_iter().zip(self.outcomes)
    }

    /// Calls that this limit refused.
    pub fn limited(&self, by: LimitedBy) -> u64 {
        self.limited.get(by.index()).copied().unwrap_or_default()
    }
}

/// A call with an intent, counted by how it ended. Dropped before, by a bug or by a
/// runtime that ends, it is in doubt, as it is in the trail.
#[derive(Debug)]
#[must_use]
pub struct OpenCall<'a> {
    block: Option<&'a Block>,
    kind: OutcomeKind,
}

impl OpenCall<'_> {
    /// It ended so.
    pub fn ended(mut self, kind: OutcomeKind) {
        self.kind = kind;
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            block.ended(self.kind, 1);
        }
    }
}

impl TenantCounts {
    /// All at zero, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// Whether these are the very counts of `other`.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// For how many workers it is.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// The part of one worker.
    pub fn of(&self, worker: usize) -> Option<&Block> {
        let block = self.0.get(worker)?;
        Some(block.get_or_init(Box::default))
    }

    /// A call of which this worker just wrote the intent.
    pub fn begun(&self, worker: usize) -> OpenCall<'_> {
        OpenCall {
            block: self.of(worker),
            kind: OutcomeKind::InDoubt,
        }
    }

    /// The sum over all workers.
    pub fn sum(&self) -> Counted {
        let mut sum = Counted::default();
        for block in self.0.iter().filter_map(OnceLock::get) {
            block.add_to(&mut sum);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_counted_is_added_up() {
        let counts = TenantCounts::new(2);
        for worker in 0..2 {
            let block = counts.of(worker).unwrap();
            block.answered(Code::PassedOn, 200);
            block.answered(Code::PassedOn, 418);
            block.answered(Code::RateLimited, 429);
            block.limited(LimitedBy::Key, false);
            block.limited(LimitedBy::Key, true);
            block.admitted(false, Backend::Store);
            block.admitted(worker == 1, Backend::Local);
            counts.begun(worker).ended(OutcomeKind::Deleted);
            drop(counts.begun(worker));
        }
        assert!(counts.of(2).is_none());
        let sum = counts.sum();
        let passed_on: Vec<_> = sum.passed_on().filter(|(_, count)| *count > 0).collect();
        assert_eq!(passed_on, [("200", 2), ("4xx", 2)]);
        let refused: Vec<_> = sum.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(Code::RateLimited, 2)]);
        assert_eq!((sum.allowed, sum.delayed), (1, 1));
        let ended: Vec<_> = sum.outcomes().filter(|(_, count)| *count > 0).collect();
        let expected = [(OutcomeKind::Deleted, 2), (OutcomeKind::InDoubt, 2)];
        assert_eq!(ended, expected);
        assert_eq!(sum.limited(LimitedBy::Key), 2);
        assert_eq!(sum.limited(LimitedBy::Tenant), 0);
        assert_eq!((sum.store.allowed, sum.store.refused_by_key), (2, 2));
    }
}
