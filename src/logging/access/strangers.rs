//! The lines of callers without a good token, in bounds: who needs no token must not buy
//! disk with what we say of it. The trail bounds what it keeps of them by itself.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::allowance::Allowance;

/// Lines of a worker that are written however fast they come.
const BURST: u32 = 200;
/// After that: one in so long. A million requests, sent at a thousand a second, are under
/// a megabyte then.
const EVERY: Duration = Duration::from_millis(500);
/// How long those that were left out are collected before they are told of.
const COLLECT_FOR: Duration = Duration::from_secs(1);

static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines that were left out since the start, as far as they were told.
pub fn lines_left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// What the lines of one worker hold of strangers.
#[derive(Debug)]
pub struct Strangers {
    allowance: Allowance,
    left_out: u64,
    /// When that is told.
    due: Option<Instant>,
}

impl Strangers {
    /// Nothing was said of any.
    pub const fn new() -> Self {
        Self {
            allowance: Allowance::new(BURST, EVERY),
            left_out: 0,
            due: None,
        }
    }

    /// Whether one more may have a line. If not, it is counted.
    pub fn admit(&mut self, now: Instant) -> bool {
        let is_admitted = self.allowance.take(now.into_std());
        if !is_admitted {
            self.left_out += 1;
            self.due.get_or_insert(now + COLLECT_FOR);
        }
        is_admitted
    }

    /// How many lines were left out, once that is to be told: at `now`, which is asked for
    /// only if there are any.
    pub fn take_due(&mut self, now: impl FnOnce() -> Instant) -> Option<u64> {
        match self.due {
            Some(due) if due <= now() => self.take(),
            _ => None,
        }
    }

    /// How many lines were left out and not told yet.
    pub fn take(&mut self) -> Option<u64> {
        self.due.take()?;
        let left_out = std::mem::take(&mut self.left_out);
        LEFT_OUT.fetch_add(left_out, Ordering::Relaxed);
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_once_a_second_and_none_goes_untold() {
        let mut strangers = Strangers::new();
        let start = Instant::now();
        let (mut lines, mut told) = (0, Vec::new());
        for n in 0..10_000 {
            // A thousand a second.
            let now = start + Duration::from_millis(n);
            lines += u64::from(strangers.admit(now));
            told.extend(strangers.take_due(|| now));
        }
        assert_eq!(lines, 200 + 19);
        assert!((8..=10).contains(&told.len()), "{told:?}");
        let rest = strangers.take().unwrap();
        assert_eq!(lines + told.iter().sum::<u64>() + rest, 10_000);
        assert_eq!(strangers.take(), None);
        assert_eq!(strangers.take_due(|| panic!("there are none")), None);
    }
}
