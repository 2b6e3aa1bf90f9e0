//! The store: what its script does, with the rule of a shared limit as the product
//! has it (`gcra`, which is held against the script in real servers).

use std::time::Duration;

use alloy_gateway::{
    fleet::{Answer, Window},
    gcra::{Bucket, take_all},
};

/// How long a bucket stays after it is full, as in the script.
const STAYS: Duration = Duration::from_secs(2);

/// The buckets of one fleet, one for each window, shortest first.
#[derive(Debug, Default)]
pub struct Store {
    /// When each is full, in ns; the script counts whole microseconds.
    full_at_ns: Vec<Option<u64>>,
}

impl Store {
    /// All buckets are gone.
    pub fn lose(&mut self) {
        self.full_at_ns.clear();
    }

    /// Runs the script at `now`.
    pub fn take(&mut self, windows: &[Window], now: Duration) -> Answer {
        let now_ns = micros_down(nanos(now));
        self.full_at_ns.resize(windows.len(), None);
        let stays = nanos(STAYS);
        for full_at in &mut self.full_at_ns {
            *full_at = full_at.filter(|at| at + stays > now_ns);
        }
        let buckets = windows.iter().zip(&self.full_at_ns);
        let mut buckets: Vec<Bucket> = buckets
            .map(|(window, stored)| Bucket {
                shape: window.shape,
                full_at_ns: stored.unwrap_or_else(|| now_ns + micros_down(nanos(window.known))),
            })
            .collect();
        let refused = take_all(&mut buckets, now_ns).err();
        for (stored, bucket) in self.full_at_ns.iter_mut().zip(&buckets) {
            // Of a call that is refused: what was not there, or lay beyond empty.
            let is_spent = bucket.full_at_ns > now_ns;
            if refused.is_none() || is_spent {
                *stored = Some(bucket.full_at_ns);
            }
        }
        let spent = |bucket: &Bucket| micros_up(bucket.full_at_ns.saturating_sub(now_ns));
        Answer {
            refused: refused.map(|it| (it.bucket, micros_up(nanos(it.wait)))),
            spent: buckets.iter().map(spent).collect(),
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn micros_down(ns: u64) -> u64 {
    ns / 1000 * 1000
}

fn micros_up(ns: u64) -> Duration {
    Duration::from_micros(ns.div_ceil(1000))
}
