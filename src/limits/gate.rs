//! The gate of one key: closed for a while after the upstream's own 429.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::gcra::nanos;

/// Closed until a moment, for every caller of the key.
#[derive(Debug)]
pub struct Gate {
    start: Instant,
    closed_until_ns: AtomicU64,
}

impl Gate {
    /// The longest that one answer can close it.
    pub const CLOSED_MAX: Duration = Duration::from_secs(60);

    /// An open gate.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            closed_until_ns: AtomicU64::new(0),
        }
    }

    /// Closes the gate for `span`, at most [`CLOSED_MAX`](Self::CLOSED_MAX); never
    /// shortens what an earlier answer asked for.
    pub fn close_for(&self, span: Duration) {
        let until = self.start.elapsed() + span.min(Self::CLOSED_MAX);
        self.closed_until_ns
            .fetch_max(nanos(until), Ordering::AcqRel);
    }

    /// Passes if the gate is open.
    ///
    /// # Errors
    ///
    /// How long it stays closed.
    pub fn pass(&self) -> Result<(), Duration> {
        let until_ns = self.closed_until_ns.load(Ordering::Acquire);
        if until_ns == 0 {
            // It never was closed: no need to look at the clock.
            return Ok(());
        }
        let until = Duration::from_nanos(until_ns);
        match until.checked_sub(self.start.elapsed()) {
            Some(rest) if !rest.is_zero() => Err(rest),
            _ => Ok(()),
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_by_itself_and_is_never_closed_for_long() {
        let gate = Gate::new();
        assert_eq!(gate.pass(), Ok(()));
        gate.close_for(Duration::from_secs(3));
        gate.close_for(Duration::from_secs(1));
        assert_eq!(gate.pass(), Err(Duration::from_secs(3)));
        advance(Duration::from_secs(3)).await;
        assert_eq!(gate.pass(), Ok(()));
        gate.close_for(Duration::from_secs(86_400));
        assert_eq!(gate.pass(), Err(Gate::CLOSED_MAX));
    }
}
