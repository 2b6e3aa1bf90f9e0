//! How many of a key's answers are 404. A key of another environment is accepted
//! by the upstream, and then knows none of the users: every call is a 404, which
//! looks like an answer. So an unusual share of them is worth a warning.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Answers that are looked at together.
const TOGETHER: u64 = 20;
/// The 404s among them are counted in the upper half of the number.
const ONE_404: u64 = 1 << 32;

/// The answers of one key since they were looked at last, over all workers.
#[derive(Debug, Default)]
pub struct NotFound {
    answers: AtomicU64,
    is_unusual: AtomicBool,
}

/// What another answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// More than half of the last `TOGETHER` answers are 404.
    Unusual,
    /// Fewer than a quarter are, again.
    Usual,
}

impl NotFound {
    /// Begins where another ended.
    pub fn after(previous: &Self) -> Self {
        Self {
            answers: AtomicU64::new(0),
            is_unusual: AtomicBool::new(previous.is_unusual()),
        }
    }

    /// Whether the share is unusual.
    pub fn is_unusual(&self) -> bool {
        self.is_unusual.load(Ordering::Relaxed)
    }

    /// Counts an answer; says so if the share has become unusual, or usual again.
    pub fn count(&self, status: u16) -> Option<Share> {
        let answer = if status == 404 { 1 + ONE_404 } else { 1 };
        let counted = self.answers.fetch_add(answer, Ordering::Relaxed) + answer;
        let (missing, all) = (counted / ONE_404, counted % ONE_404);
        if all < TOGETHER {
            return None;
        }
        // Fails only if somebody counted after us, and then looks instead.
        let taken = self
            .answers
            .compare_exchange(counted, 0, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err() {
            return None;
        }
        if missing * 2 > all {
            let was = self.is_unusual.swap(true, Ordering::Relaxed);
            (!was).then_some(Share::Unusual)
        } else if missing * 4 < all {
            let was = self.is_unusual.swap(false, Ordering::Relaxed);
            was.then_some(Share::Usual)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `count` said of so many answers, of which the first `missing` are 404.
    fn answers(share: &NotFound, missing: u64) -> Vec<Share> {
        (0..TOGETHER)
            .filter_map(|n| share.count(if n < missing { 404 } else { 200 }))
            .collect()
    }

    #[test]
    fn more_than_half_is_unusual_and_said_once_until_fewer_than_a_quarter_are() {
        let share = NotFound::default();
        assert_eq!(answers(&share, 10), []);
        assert_eq!(answers(&share, 11), [Share::Unusual]);
        assert_eq!(answers(&share, 20), []);
        assert_eq!(answers(&share, 5), []);
        assert!(share.is_unusual() && NotFound::after(&share).is_unusual());
        assert_eq!(answers(&share, 4), [Share::Usual]);
        assert_eq!(answers(&share, 0), []);
        assert!(!share.is_unusual());
    }

    #[test]
    fn the_looking_goes_on_when_many_count_at_once() {
        let share = NotFound::default();
        let said: usize = std::thread::scope(|scope| {
            let counting: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..5000).filter_map(|_| share.count(404)).count()))
                .collect();
            counting.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(said, 1);
        assert!(share.answers.load(Ordering::Relaxed) % ONE_404 < TOGETHER);
    }
}
