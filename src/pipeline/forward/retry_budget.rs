//! How many retries all calls of the process may have together.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tower::retry::budget::Budget;

/// The seconds that count, this one included.
const SECONDS: usize = 10;
/// What a retry takes; a call brings one.
const RETRY: i32 = 5;
/// What is there without any call: a retry a second.
const RESERVE: i64 = RETRY as i64 * SECONDS as i64;
/// What stands for nothing in a slot: so what was taken never borrows from the second.
const NOTHING: u32 = 1 << 31;

/// At most a fifth of the calls of the last ten seconds, and one a second for a gateway
/// that has little to do: a budget as tower's retry policies take it.
///
/// One for all workers: with one for each the reserve, and what is rounded in its favour,
/// would be there as often as there are workers. A call adds to one atomic, which it has
/// in common with all calls of the same second; only a retry looks at all of them. tower's
/// own budget takes a lock and reads the clock for each call.
#[derive(Debug)]
pub struct RetryBudget {
    start: Instant,
    /// One for each second: which one, and above [`NOTHING`] what was brought less what
    /// was taken.
    slots: [AtomicU64; SECONDS],
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            slots: Default::default(),
        }
    }
}

impl Budget for RetryBudget {
    fn deposit(&self) {
        self.deposit_at(Instant::now());
    }

    fn withdraw(&self) -> bool {
        let second = self.second(Instant::now());
        if self.balance(second) < i64::from(RETRY) {
            return false;
        }
        self.add(second, -RETRY);
        // Others may have done the same meanwhile: rather none of them than too many.
        let is_there = self.balance(second) >= 0;
        if !is_there {
            self.add(second, RETRY);
        }
        is_there
    }
}

impl RetryBudget {
    /// Counts a call that began at `at`, which is about now.
    pub fn deposit_at(&self, at: Instant) {
        self.add(self.second(at), 1);
    }

    /// Never one that an unused slot could be taken for.
    fn second(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.start) + Duration::from_secs(SECONDS as u64);
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    }

    fn add(&self, second: u32, amount: i32) {
        let Some(slot) = self.slots.get(second as usize % SECONDS) else {
            return;
        };
        let mut seen = slot.load(Ordering::Relaxed);
        // The first one of a second begins it.
        while second_of(seen) < second {
            let begun = u64::from(second) << 32 | u64::from(NOTHING.wrapping_add_signed(amount));
            match slot.compare_exchange_weak(seen, begun, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
        // Whoever was held up for ten seconds adds to a later one.
        slot.fetch_add(i64::from(amount).cast_unsigned(), Ordering::AcqRel);
    }

    /// What there is, in fifths of a retry.
    fn balance(&self, second: u32) -> i64 {
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::Acquire));
        let counts = slots.filter(|slot| second_of(*slot) + SECONDS as u32 > second);
        let balances = counts.map(|slot| (slot & u64::from(u32::MAX)) as i64 - i64::from(NOTHING));
        balances.sum::<i64>() + RESERVE
    }
}

fn second_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn taken(budget: &RetryBudget) -> usize {
        (0..10_000).take_while(|_| budget.withdraw()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_calls_and_one_a_second_may_be_made_again_and_no_more() {
        let budget = RetryBudget::default();
        assert_eq!(taken(&budget), 10, "of the ten seconds before the start");
        for _ in 0..100 {
            budget.deposit();
        }
        assert_eq!(taken(&budget), 20);
        assert_eq!(taken(&budget), 0);
        // What was taken counts as long as what it was taken from.
        advance(Duration::from_secs(9)).await;
        assert_eq!(taken(&budget), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&budget), 10);
        assert_eq!(taken(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_count_for_ten_seconds() {
        let budget = RetryBudget::default();
        for _ in 0..25 {
            for _ in 0..10 {
                budget.deposit();
            }
            advance(Duration::from_secs(1)).await;
        }
        // Nine whole seconds and the one that has just begun.
        assert_eq!(taken(&budget), 10 + 9 * 10 / 5);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(&budget), 10);
    }

    #[test]
    fn workers_never_take_more_than_there_is_together() {
        let budget = RetryBudget::default();
        let taken: usize = std::thread::scope(|scope| {
            let work = || {
                let calls = (0..1000).map(|_| {
                    budget.deposit();
                    budget.withdraw()
                });
                calls.filter(|was_there| *was_there).count()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert!(taken <= 10 + 8000 / 5, "{taken}");
        // What was refused where two met is still there.
        let left = (0..8000).take_while(|_| budget.withdraw()).count();
        assert_eq!(taken + left, 10 + 8000 / 5);
    }
}
