//! What a call sees of containment: one flag.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::budget::Spent;
use crate::config::settings::FreezeAfter;

/// Whether a tenant is frozen, and what it spent of its budget of deletions. A
/// tenant keeps it over reloads.
#[derive(Debug, Default)]
pub struct Switch {
    frozen: AtomicBool,
    /// Made with the first deletion that counts.
    spent: OnceLock<Box<Mutex<Spent>>>,
}

impl Switch {
    /// Whether calls of the tenant are refused: all that a call costs.
    pub fn is_frozen(&self) -> bool {
        // Nothing else is read that this would have to come before.
        self.frozen.load(Ordering::Relaxed)
    }

    /// Turns it.
    pub(super) fn turn(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Counts the deletion of a credential; whether the budget is spent with it.
    pub(super) fn count(&self, budget: FreezeAfter, credential: u128, at_ms: i64) -> bool {
        let spent = self.spent.get_or_init(Box::default);
        let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.count(budget, credential, at_ms)
    }

    /// Whether there is a deletion that still counts.
    pub(super) fn counts(&self, now_ms: i64) -> bool {
        self.spent.get().is_some_and(|spent| {
            let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.counts(now_ms)
        })
    }

    /// Begins a new budget.
    pub(super) fn forget(&self) {
        if let Some(spent) = self.spent.get() {
            *spent.lock().unwrap_or_else(PoisonError::into_inner) = Spent::default();
        }
    }
}
