//! What a limit says.

use std::{num::NonZeroU32, time::Duration};

/// A limit: a bucket (GCRA) that holds `burst` and regains one every
/// `per / requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// How many units come back in `per`.
    pub requests: NonZeroU32,
    /// The span; whole milliseconds, at most 366 days.
    pub per: Duration,
    /// How many units the bucket holds.
    pub burst: NonZeroU32,
}

impl Window {
    /// The most units that any span of `per` admits.
    pub fn ceiling(&self) -> u64 {
        u64::from(self.requests.get()) + u64::from(self.burst.get())
    }

    /// Its name in headers and problems, such as `key-60s` or `tenant-1d`; `of` says whose
    /// it is. No two limits of one owner have the same span, so none have the same name.
    pub fn name(&self, of: &str) -> String {
        const DAY_MS: u128 = 86_400_000;
        let ms = self.per.as_millis();
        if ms.is_multiple_of(DAY_MS) {
            format!("{of}-{}d", ms / DAY_MS)
        } else if ms.is_multiple_of(1000) {
            format!("{of}-{}s", ms / 1000)
        } else {
            format!("{of}-{ms}ms")
        }
    }
}
