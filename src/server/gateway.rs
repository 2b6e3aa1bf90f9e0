//! The running gateway: what all workers share, its start and its end.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    inherited::Inherited,
    listener::{self, Listening},
    phases::{Phase, Phases},
    slots::Slots,
    worker,
};
use crate::{
    audit::Trail,
    config::{
        settings::{ListenAddress, Settings},
        snapshot::Snapshot,
    },
    metrics::Metrics,
    pipeline::limit::{InFlight, InFlightCount},
    ship,
    traces::Traces,
};

/// How long the end itself may take once no call is waited for any more: a disk
/// that hangs must not keep the process, whose outcomes are in doubt then.
const END_MAX: Duration = Duration::from_secs(5);
/// Workers look around every 15 s, whatever they do.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    pub(super) snapshot: ArcSwap<Snapshot>,
    trail: Trail,
    metrics: Metrics,
    slots: Arc<Slots>,
    in_flight: InFlightCount,
    in_flight_max: u32,
    /// Listeners that may still begin connections.
    accepting: AtomicU32,
    phases: Phases,
    started: Instant,
    pulses: Box<[Pulse]>,
    traces: Option<Arc<Traces>>,
    shipping: Option<Arc<ship::State>>,
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

/// When a worker was last seen to do something, in seconds since the start.
#[derive(Debug, Default)]
struct Pulse(AtomicU64);

impl Shared {
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

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether new calls are refused because the gateway stops.
    pub fn is_draining(&self) -> bool {
        self.phases.is_draining()
    }

    /// Why no calls are taken just now, if so. The upstream's health is not
    /// among the reasons: a sidecar that leaves with its upstream helps nobody.
    pub fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".to_owned());
        }
        let trail = self.trail.status().writable.err()?;
        Some(format!("the trail cannot be written: {trail}"))
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

    /// A worker that has done nothing for so long that it must be stuck.
    pub fn stuck_worker(&self) -> Option<usize> {
        let now = self.started.elapsed().as_secs();
        let is_stuck = |pulse: &Pulse| {
            let last = pulse.0.load(Ordering::Relaxed);
            now.saturating_sub(last) > STUCK_AFTER.as_secs()
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

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// One more listener that may begin connections.
    pub(super) fn accepting(self: &Arc<Self>) -> Accepting {
        self.accepting.fetch_add(1, Ordering::AcqRel);
        Accepting(Arc::clone(self))
    }

    /// A place for a request, unless `bounds.requests_in_flight` are being worked on.
    pub(super) fn enter(&self) -> Option<InFlight<'_>> {
        self.in_flight.enter(self.in_flight_max)
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phases.subscribe()
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    addresses: Vec<ListenAddress>,
    workers: Vec<thread::JoinHandle<io::Result<()>>>,
    finish: watch::Sender<bool>,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(.address, .error))]
    Listen {
        /// The address of the config.
        address: ListenAddress,
        /// What the system said.
        error: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

fn hint(address: &ListenAddress, error: &io::Error) -> &'static str {
    match address {
        ListenAddress::Tcp(_) => why_not_bound(error),
        // Binding one says it itself.
        ListenAddress::Unix { .. } | ListenAddress::Systemd { .. } => "",
    }
}

/// Why a TCP address can't be listened on, if `error` tells it, for people.
pub fn why_not_bound(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there; `ss -lntxp` shows which)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

/// How long stopping may take.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long new calls are refused before the listeners close.
    pub delay: Duration,
    /// How long calls under way may take from then on.
    pub timeout: Duration,
}

/// How stopping went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every call under way was answered.
    Clean,
    /// `drain_timeout` passed, or stopping was cut: some calls were not answered.
    Cut,
}

impl Gateway {
    /// Binds every address and starts the workers.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is left running then.
    pub fn start(
        settings: &Settings,
        snapshot: Snapshot,
        trail: Trail,
        inherited: &mut Inherited,
    ) -> Result<Self, StartError> {
        let workers = settings.worker_count();
        let mut addresses = Vec::new();
        let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for listen in &settings.listen {
            let bound =
                listener::bind(listen, workers, inherited).map_err(|error| StartError::Listen {
                    address: listen.address.clone(),
                    error,
                })?;
            addresses.push(bound.address);
            for (worker, socket) in sockets.iter_mut().zip(bound.sockets) {
                worker.push(socket);
            }
        }
        let shipping = trail.collected().map(Arc::clone);
        let shipping = shipping.map(|collected| Arc::new(ship::State::new(collected)));
        let shared = Arc::new(Shared {
            metrics: Metrics::new(workers, addresses.iter().map(ToString::to_string)),
            snapshot: ArcSwap::from_pointee(snapshot),
            trail,
            slots: Arc::new(Slots::new(&settings.bounds)),
            in_flight: InFlightCount::default(),
            in_flight_max: settings.bounds.requests_in_flight,
            accepting: AtomicU32::new(0),
            phases: Phases::new(),
            started: Instant::now(),
            pulses: (0..workers).map(|_| Pulse::default()).collect(),
            traces: settings.otlp.as_ref().map(Traces::new),
            shipping,
        });
        let finish = watch::Sender::new(false);
        let workers = (0..)
            .zip(sockets)
            .map(|(number, sockets)| spawn(number, &shared, sockets, finish.subscribe()))
            .collect::<io::Result<_>>()
            .map_err(StartError::Worker)?;
        Ok(Self {
            shared,
            addresses,
            workers,
            finish,
        })
    }

    /// Where it listens, in the order of the config.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The first TCP address that it listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix { .. } | ListenAddress::Systemd { .. } => None,
        })
    }

    /// What admin endpoints read.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops: new calls are refused, after a while the listeners close, and calls
    /// under way are answered and have outcomes. When the time is over, or `cut`
    /// resolves, what is left is cut, and its outcomes are in doubt. Seals the
    /// trail at last, in at most five seconds or until `cut` resolves once more.
    pub async fn stop(self, drain: Drain, mut cut: impl AsyncFnMut()) -> Stopped {
        let Self {
            shared,
            workers,
            finish,
            ..
        } = self;
        let drained = async {
            if !drain.delay.is_zero() {
                shared.drain();
                tokio::time::sleep(drain.delay).await;
            }
            shared.phases.stop();
            // Waiting for all slots takes them: first who waited in the backlog gets one.
            until(|| shared.accepting.load(Ordering::Acquire) == 0).await;
            shared.slots.all_free().await;
            // Work that outlived its connection.
            until(|| shared.in_flight.count() == 0).await;
        };
        let stopped = tokio::select! {
            biased;
            () = drained => Stopped::Clean,
            // Connections without a call, which only their peers keep open, are not cut short.
            () = tokio::time::sleep(drain.delay.saturating_add(drain.timeout)) => {
                match shared.in_flight.count() {
                    0 => Stopped::Clean,
                    _ => Stopped::Cut,
                }
            }
            () = cut() => Stopped::Cut,
        };
        finish.send_replace(true);
        let trail = shared.trail.clone();
        // Joining and the last sync block.
        let ended = tokio::task::spawn_blocking(move || {
            for worker in workers {
                if !matches!(worker.join(), Ok(Ok(()))) {
                    tracing::error!(
                        "a worker ended with an error: its last calls may be in doubt, see alloy-gateway audit query --outcome in-doubt after the next start"
                    );
                }
            }
            trail.close();
        });
        let in_order = tokio::select! {
            biased;
            ended = ended => ended.is_ok(),
            () = tokio::time::sleep(END_MAX) => false,
            () = cut() => false,
        };
        if in_order {
            return stopped;
        }
        tracing::error!(
            "the trail was not closed in order: the next start mends it, and says so in the trail"
        );
        Stopped::Cut
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn spawn(
    number: usize,
    shared: &Arc<Shared>,
    sockets: Vec<Listening>,
    finish: watch::Receiver<bool>,
) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    let shared = Arc::clone(shared);
    // Its backlog fills from now on, whenever the thread comes to it.
    let starting = shared.accepting();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || worker::run(&shared, number, sockets, starting, finish))
}
