//! What a call took of its limits, for as long as it may still be given back.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Bucket, Limits};

/// One unit of each local bucket; given back when dropped, unless they are kept.
#[derive(Debug)]
pub struct Taken<'a> {
    from: Option<&'a Limits>,
    since: Instant,
}

impl<'a> Taken<'a> {
    /// What [`Limits::try_pass`] took, not before `since`.
    pub fn from(limits: &'a Limits, since: Instant) -> Self {
        Self {
            from: Some(limits),
            since,
        }
    }

    /// They stay spent.
    pub fn keep(&mut self) {
        self.from = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(limits) = self.from else { return };
        let held_for = self.since.elapsed();
        // What came back by itself would be given back twice.
        let still_out = |bucket: &&Arc<Bucket>| held_for < bucket.unit();
        let buckets = limits.buckets().filter(still_out);
        buckets.for_each(|bucket| bucket.give_back());
    }
}
