//! When the watchdog of a worker has to look next: each connection may ask for an earlier
//! look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The far future: nothing can be due.
const NEVER: u64 = u64::MAX;

/// The alarm of one worker; cheap to clone.
#[derive(Debug, Clone)]
pub struct Alarm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// When it rings, in ms since `start`, or [`NEVER`].
    rings_at_ms: AtomicU64,
    earlier: Notify,
}

impl Alarm {
    /// It is not set.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            start: Instant::now(),
            rings_at_ms: AtomicU64::new(NEVER),
            earlier: Notify::new(),
        }))
    }

    /// It rings at the latest at `at`.
    pub fn ring_by(&self, at: Instant) {
        let at_ms = self.ms(at);
        if self.0.rings_at_ms.fetch_min(at_ms, Ordering::AcqRel) > at_ms {
            self.0.earlier.notify_one();
        }
    }

    /// Waits until it rings; it is not set then.
    pub async fn rings(&self) {
        loop {
            let rings_at_ms = self.0.rings_at_ms.load(Ordering::Acquire);
            let rings_at = self.0.start + Duration::from_millis(rings_at_ms);
            tokio::select! {
                () = self.0.earlier.notified() => {}
                () = sleep_until(rings_at), if rings_at_ms != NEVER => break,
            }
        }
        // What comes meanwhile may set it again.
        self.0.rings_at_ms.store(NEVER, Ordering::Release);
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0.start);
        // Rounded up: nothing is due before its time.
        u64::try_from(since.as_millis()).map_or(NEVER, |ms| ms.saturating_add(1))
    }
}
