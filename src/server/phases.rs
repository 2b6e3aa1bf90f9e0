//! How far the gateway is on its way to its end.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What the gateway is about; never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes calls.
    Serving,
    /// Refuses calls and asks connections to end, but still accepts new ones.
    Draining,
    /// Accepts no connections either, and ends those that are open.
    Stopping,
}

/// The phase of this gateway, for those who wait for it and for those who only look.
#[derive(Debug)]
pub struct Phases {
    phase: watch::Sender<Phase>,
    /// Looked at for each call: a look at the phase itself takes a lock. And when the
    /// gateway stops, calls are refused a moment later than the phase changes.
    refuses_calls: AtomicBool,
}

impl Phases {
    /// Serving.
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            refuses_calls: AtomicBool::new(false),
        }
    }

    /// Calls are refused from now on, and connections asked to end.
    pub fn drain(&self) {
        self.refuses_calls.store(true, Ordering::Release);
        self.phase.send_if_modified(|phase| {
            let is_new = *phase < Phase::Draining;
            *phase = Phase::Draining.max(*phase);
            is_new
        });
    }

    /// The listeners close from now on, and calls are refused.
    pub fn stop(&self) {
        // The listeners first: who is refused and comes again at once is to find the
        // process that takes over, and not this one again (but for one that a listener is
        // just taking).
        self.phase.send_replace(Phase::Stopping);
        self.refuses_calls.store(true, Ordering::Release);
    }

    /// Whether calls are refused.
    pub fn is_draining(&self) -> bool {
        self.refuses_calls.load(Ordering::Acquire)
    }

    /// Tells of each change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_told_of_once_and_none_goes_back() {
        let phases = Phases::new();
        let mut phase = phases.subscribe();
        let mut told = || {
            let is_new = phase.has_changed().unwrap();
            is_new.then(|| *phase.borrow_and_update())
        };
        assert_eq!(told(), None);
        phases.drain();
        assert_eq!(told(), Some(Phase::Draining));
        phases.drain();
        assert_eq!(told(), None);
        phases.stop();
        assert_eq!(told(), Some(Phase::Stopping));
        phases.drain();
        assert_eq!(told(), None);
        assert!(phases.is_draining());
    }
}
