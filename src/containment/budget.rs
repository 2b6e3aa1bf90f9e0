//! How many different credentials were deleted lately.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;

use crate::config::settings::FreezeAfter;

/// The credentials that a tenant deleted within its budget's span, as fingerprints,
/// each with when it was deleted last: at most as many as the budget has, some 90
/// bytes each.
#[derive(Debug, Default)]
pub struct Spent {
    by_credential: BTreeMap<u128, i64>,
    by_time: BTreeSet<(i64, u128)>,
    per_ms: i64,
}

impl Spent {
    /// Counts a deletion at `at_ms`; whether the budget is spent with it. Deleting
    /// the same credential again within the span only makes it count for longer.
    pub fn count(&mut self, budget: FreezeAfter, credential: u128, at_ms: i64) -> bool {
        self.per_ms = i64::try_from(budget.per.as_millis()).unwrap_or(i64::MAX);
        self.expire(at_ms);
        let deletions = usize::try_from(budget.deletions.get()).unwrap_or(usize::MAX);
        let known = self.by_credential.get(&credential).copied();
        let is_new = known.is_none();
        if known.is_none_or(|before| before < at_ms)
            && (!is_new || self.by_credential.len() < deletions)
        {
            if let Some(before) = known {
                self.by_time.remove(&(before, credential));
            }
            self.by_credential.insert(credential, at_ms);
            self.by_time.insert((at_ms, credential));
        }
        is_new && self.by_credential.len() >= deletions
    }

    /// Whether there is a deletion that still counts.
    pub fn counts(&mut self, now_ms: i64) -> bool {
        self.expire(now_ms);
        !self.by_credential.is_empty()
    }

    fn expire(&mut self, now_ms: i64) {
        let until_ms = now_ms.saturating_sub(self.per_ms);
        while let Some((at_ms, credential)) = self.by_time.first().copied() {
            if at_ms > until_ms {
                break;
            }
            self.by_time.pop_first();
            self.by_credential.remove(&credential);
        }
    }
}

/// What stands for a credential here. A caller who could find two credentials with
/// the same would have one of them counted for both.
pub fn fingerprint(credential: &str) -> u128 {
    let sum = digest::digest(&digest::SHA256, credential.as_bytes());
    let first = sum.as_ref().first_chunk().copied();
    u128::from_be_bytes(first.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;

    fn budget(deletions: u32, per_ms: u64) -> FreezeAfter {
        FreezeAfter {
            deletions: NonZeroU32::new(deletions).unwrap(),
            per: Duration::from_millis(per_ms),
        }
    }

    #[test]
    fn the_same_credential_counts_once_and_the_last_of_the_budget_spends_it() {
        let mut spent = Spent::default();
        let budget = budget(3, 1000);
        assert!(!spent.count(budget, 1, 0));
        assert!(!spent.count(budget, 2, 1));
        assert!(!spent.count(budget, 1, 2));
        assert!(!spent.count(budget, 2, 3));
        assert!(spent.count(budget, 3, 4));
        assert!(!spent.count(budget, 3, 5), "it was counted already");
    }

    #[test]
    fn what_is_older_than_the_span_counts_no_more() {
        let mut spent = Spent::default();
        let budget = budget(2, 1000);
        assert!(!spent.count(budget, 1, 0));
        assert!(!spent.count(budget, 2, 1000));
        assert!(spent.counts(1999));
        assert!(!spent.counts(2000));
        assert!(!spent.count(budget, 3, 2000));
        assert!(spent.count(budget, 4, 2999));
    }

    #[test]
    fn a_credential_that_is_deleted_again_counts_from_then_on() {
        let mut spent = Spent::default();
        let budget = budget(2, 1000);
        assert!(!spent.count(budget, 1, 0));
        assert!(!spent.count(budget, 1, 900));
        assert!(spent.count(budget, 2, 1500));
    }

    proptest::proptest! {
        #[test]
        fn it_counts_as_a_list_of_all_deletions_would_and_never_holds_more_than_the_budget(
            deletions in 1_u32..6,
            calls in proptest::collection::vec((0_u128..8, 0_i64..40), 0..60),
        ) {
            let budget = budget(deletions, 100);
            let (mut spent, mut all, mut now) = (Spent::default(), Vec::new(), 0);
            for (credential, later) in calls {
                now += later;
                let lately = |all: &[(u128, i64)]| -> BTreeSet<u128> {
                    let lately = all.iter().filter(|(_, at)| *at > now - 100);
                    lately.map(|(credential, _)| *credential).collect()
                };
                let is_new = !lately(&all).contains(&credential);
                all.push((credential, now));
                let expected = is_new && lately(&all).len() >= deletions as usize;
                let is_spent = spent.count(budget, credential, now);
                proptest::prop_assert_eq!(is_spent, expected);
                proptest::prop_assert!(spent.by_credential.len() <= deletions as usize);
                proptest::prop_assert_eq!(spent.by_credential.len(), spent.by_time.len());
                if is_spent {
                    // Frozen: an operator thaws it, which begins a new budget.
                    spent = Spent::default();
                    all.clear();
                }
            }
        }
    }
}
