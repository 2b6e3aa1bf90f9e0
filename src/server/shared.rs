//! What all parts of the running gateway see of it, and of one another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    phases::{Phase, Phases},
    readiness::Readiness,
    slots::Slots,
};
use crate::{
    audit::Trail,
    config::settings::{ListenAddress, Settings},
    limits::{InFlight, InFlightCount},
    metrics::Metrics,
    pipeline::forward::RetryBudget,
    ship,
    snapshot::Snapshot,
    traces::Traces,
};

/// Workers look around every 15 s, whatever they do: one that did not for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What the workers share. The admin port, metrics, traces, the fleet and systemd look at
/// the running gateway, and change it, by way of this too.
#[derive(Debug)]
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    trail: Trail,
    metrics: Metrics,
    slots: Arc<Slots>,
    in_flight: InFlightCount,
    in_flight_max: u32,
    retry_budget: Arc<RetryBudget>,
    /// Listeners that may still begin connections.
    accepting: AtomicU32,
    phases: Phases,
    started: Instant,
    pulses: Box<[Pulse]>,
    traces: Option<Arc<Traces>>,
    shipping: Option<Arc<ship::State>>,
}

/// When a worker was last seen to do something, in seconds since the start.
#[derive(Debug, Default)]
struct Pulse(AtomicU64);

impl Pulse {
    /// Of a worker that is gone.
    const NEVER_AGAIN: u64 = u64::MAX;
}

impl Shared {
    /// Serving, with nothing under way.
    pub(super) fn new(
        settings: &Settings,
        snapshot: Snapshot,
        trail: Trail,
        addresses: &[ListenAddress],
    ) -> Self {
        let workers = settings.worker_count();
        let shipping = trail.collected().map(Arc::clone);
        let shipping = shipping.map(|collected| Arc::new(ship::State::new(collected)));
        Self {
            metrics: Metrics::new(workers, addresses.iter().map(ToString::to_string)),
            snapshot: ArcSwap::from_pointee(snapshot),
            trail,
            slots: Arc::new(Slots::new(&settings.bounds)),
            in_flight: InFlightCount::default(),
            in_flight_max: settings.bounds.requests_in_flight,
            retry_budget: Arc::default(),
            accepting: AtomicU32::new(0),
            phases: Phases::new(),
            started: Instant::now(),
            pulses: (0..workers).map(|_| Pulse::default()).collect(),
            traces: settings.otlp.as_ref().map(Traces::new),
            shipping,
        }
    }

    /// The config that requests see from now on.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Lets requests see another config from now on. The one before may still be
    /// held by calls; whoever lets go of it last takes it apart, which had better
    /// not be a worker.
    #[must_use]
    pub fn swap(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        self.snapshot.swap(Arc::new(snapshot))
    }

    /// Refuses calls from now on; what is under way is answered, and connections
    /// are asked to end (`Connection: close`, GOAWAY).
    pub fn drain(&self) {
        self.phases.drain();
    }

    /// The trail.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// What is told of calls to a collector; `None` if nothing is.
    pub fn traces(&self) -> Option<&Arc<Traces>> {
        self.traces.as_ref()
    }

    /// How the trail gets into the database of `audit.ship`; `None` if it stays here.
    pub fn shipping(&self) -> Option<&Arc<ship::State>> {
        self.shipping.as_ref()
    }

    /// What all workers take their retries from.
    pub fn retry_budget(&self) -> &Arc<RetryBudget> {
        &self.retry_budget
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether new calls are refused because the gateway stops.
    pub fn is_draining(&self) -> bool {
        self.phases.is_draining()
    }

    /// Whether calls are taken just now. The upstream's health is not asked for: a
    /// sidecar that leaves with its upstream helps nobody.
    pub fn readiness(&self) -> Readiness {
        Readiness {
            is_draining: self.is_draining(),
            stuck_worker: self.stuck_worker(),
            trail: self.trail.status().writable.err(),
        }
    }

    /// How many requests are being worked on.
    pub fn requests_in_flight(&self) -> u32 {
        self.in_flight.count()
    }

    /// How many connections are open.
    pub fn connections(&self) -> u32 {
        self.slots.taken()
    }

    /// Whether new connections have to wait for a slot.
    pub fn is_at_connection_cap(&self) -> bool {
        self.slots.is_full()
    }

    /// A worker that has done nothing for so long that it must be stuck, or that is gone
    /// while the gateway is not: its calls are not answered.
    pub fn stuck_worker(&self) -> Option<usize> {
        let now = self.started.elapsed().as_secs();
        let is_stuck = |pulse: &Pulse| {
            let last = pulse.0.load(Ordering::Relaxed);
            last == Pulse::NEVER_AGAIN || now.saturating_sub(last) > STUCK_AFTER.as_secs()
        };
        self.pulses.iter().position(is_stuck)
    }

    /// The worker with this number does something.
    pub(super) fn pulse(&self, worker: usize) {
        if let Some(pulse) = self.pulses.get(worker) {
            let now = self.started.elapsed().as_secs();
            pulse.0.store(now, Ordering::Relaxed);
        }
    }

    /// Held by a worker for as long as it may have calls.
    pub(super) fn worker_lives(self: &Arc<Self>, worker: usize) -> WorkerLives {
        WorkerLives {
            shared: Arc::clone(self),
            worker,
        }
    }

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// One more listener that may begin connections.
    pub(super) fn accepting(self: &Arc<Self>) -> Accepting {
        self.accepting.fetch_add(1, Ordering::AcqRel);
        Accepting(Arc::clone(self))
    }

    /// Whether any listener may still begin connections.
    pub(super) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire) > 0
    }

    /// A place for a request, unless `bounds.requests_in_flight` are being worked on.
    pub(super) fn enter(&self) -> Option<InFlight<'_>> {
        self.in_flight.enter(self.in_flight_max)
    }

    /// The listeners close from now on, and calls are refused.
    pub(super) fn stop(&self) {
        self.phases.stop();
    }

    /// Tells of each change from now on.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phases.subscribe()
    }
}

/// Held by a listener as long as it may begin connections.
#[derive(Debug)]
#[must_use]
pub(super) struct Accepting(Arc<Shared>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Notes when the worker that holds it ends, in whichever way.
#[derive(Debug)]
#[must_use]
pub(super) struct WorkerLives {
    shared: Arc<Shared>,
    worker: usize,
}

impl Drop for WorkerLives {
    fn drop(&mut self) {
        let worker = self.worker;
        let is_to_end = *self.shared.phase().borrow() == Phase::Stopping;
        if let Some(pulse) = self.shared.pulses.get(worker)
            && !is_to_end
        {
            pulse.0.store(Pulse::NEVER_AGAIN, Ordering::Relaxed);
            tracing::error!(
                worker,
                "a worker is gone, and its calls with it: restart the gateway, as /livez and systemd's watchdog now ask for"
            );
        }
    }
}
