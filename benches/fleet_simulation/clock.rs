//! Simulated time: the runtime's clock, which the limits look at, stands still
//! until it is set forward.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::{
    runtime::{Builder, EnterGuard, Runtime},
    time,
};

/// A clock that stands still.
pub struct Clock(Runtime);

/// The clock, where it is looked at.
pub struct Running<'a> {
    now: Duration,
    _entered: EnterGuard<'a>,
}

impl Clock {
    /// At zero.
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        Self(runtime.expect("a runtime"))
    }

    /// This thread's time is its time from now on.
    pub fn enter(&self) -> Running<'_> {
        Running {
            now: Duration::ZERO,
            _entered: self.0.enter(),
        }
    }
}

impl Running<'_> {
    /// What it shows.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Sets it forward.
    pub fn set(&mut self, now: Duration) {
        // Once polled it is done; then it only lets others have their turn.
        let _ = time::advance(now.saturating_sub(self.now)).now_or_never();
        self.now = now;
    }
}
