//! How many things are under way at once.

use std::sync::atomic::{AtomicU32, Ordering};

/// A count of things under way. Each counts until it is dropped, however it ends.
#[derive(Debug, Default)]
pub struct InFlightCount(AtomicU32);

/// One of the things under way; ends when dropped.
#[derive(Debug)]
pub struct InFlight<'a>(&'a AtomicU32);

impl InFlightCount {
    /// One more, unless there are `max` already.
    pub fn enter(&self, max: u32) -> Option<InFlight<'_>> {
        let one_more = |count| (count < max).then_some(count + 1);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()
            .map(|_| InFlight(&self.0))
    }

    /// How many are under way.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
