//! The running gateway: its start and its end.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    inherited::Inherited,
    listener,
    listening::Listening,
    shared::Shared,
    worker::{self, Together},
};
use crate::{
    audit::Trail,
    config::settings::{ListenAddress, Settings},
    snapshot::Snapshot,
};

/// How long the end itself may take once no call is waited for any more: a disk
/// that hangs must not keep the process, whose outcomes are in doubt then.
const END_MAX: Duration = Duration::from_secs(5);

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
    /// The system gives no thread, or nothing to wait for connections with.
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
    /// Every call under way was answered, and all of it is in the trail, which is sealed.
    Clean,
    /// Some calls may not have been answered, or what became of them is not in the trail.
    Cut(Cut),
}

/// How stopping was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How many calls were under way then.
    pub calls: u32,
    /// What cut it.
    pub by: CutBy,
    /// Whether the trail was sealed all the same. Else the next start mends it.
    pub is_sealed: bool,
}

/// What cuts stopping short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutBy {
    /// `drain_timeout` passed.
    Timeout,
    /// Whoever had it stopped did not wait.
    Urged,
    /// A worker ended with an error.
    Worker,
    /// The trail was not closed in order.
    Trail,
}

impl Gateway {
    /// Tries whether every address could be bound once the trail has its directory, and
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`].
    pub fn try_bind(settings: &Settings, inherited: &Inherited) -> Result<(), StartError> {
        for listen in &settings.listen {
            let to_be_made = &settings.audit.directory;
            listener::try_bind(listen, inherited, to_be_made).map_err(|error| {
                StartError::Listen {
                    address: listen.address.clone(),
                    error,
                }
            })?;
        }
        Ok(())
    }

    /// Binds every address and starts the workers.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. No call was taken then. If it is a worker that can't serve, the
    /// others end by themselves, not waited for.
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
        let shared = Arc::new(Shared::new(settings, snapshot, trail, &addresses));
        let finish = watch::Sender::new(false);
        let workers = (0..)
            .zip(sockets)
            .map(|(number, sockets)| spawn(number, &shared, sockets, finish.subscribe()))
            .collect::<io::Result<Vec<_>>>();
        let workers = workers.map_err(StartError::Worker)?.into_iter();
        let workers = workers.map(Starting::ready).collect::<io::Result<Vec<_>>>();
        let workers = workers.map_err(StartError::Worker)?;
        let workers = workers.into_iter().map(Ready::go).collect();
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

    /// What the workers share, for all others that look at the running gateway or change it.
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
            shared.stop();
            // Waiting for all slots takes them: first who waited in the backlog gets one.
            until(|| !shared.is_accepting()).await;
            shared.slots().all_free().await;
            // Work that outlived its connection.
            until(|| shared.requests_in_flight() == 0).await;
        };
        let cut_by = |by| {
            let calls = shared.requests_in_flight();
            Some((calls, by))
        };
        let cut_short = tokio::select! {
            biased;
            () = drained => None,
            // Connections without a call, which only their peers keep open, are not cut short.
            () = tokio::time::sleep(drain.delay.saturating_add(drain.timeout)) => {
                match shared.requests_in_flight() {
                    0 => None,
                    _ => cut_by(CutBy::Timeout),
                }
            }
            () = cut() => cut_by(CutBy::Urged),
        };
        // Also where it was cut while it still took calls.
        shared.stop();
        finish.send_replace(true);
        let trail = shared.trail().clone();
        // Joining and the last sync block.
        let ended = tokio::task::spawn_blocking(move || (join(workers), trail.close()));
        let (are_sound, is_sealed) = tokio::select! {
            biased;
            ended = ended => ended.unwrap_or_default(),
            () = tokio::time::sleep(END_MAX) => (false, false),
            () = cut() => (false, false),
        };
        if !is_sealed {
            tracing::error!(
                "the trail was not closed in order: the next start mends it, and says so in the trail"
            );
        }
        let (calls, by) = match (cut_short, is_sealed, are_sound) {
            (Some(cut_short), ..) => cut_short,
            (None, false, _) => (0, CutBy::Trail),
            (None, true, false) => (0, CutBy::Worker),
            (None, true, true) => return Stopped::Clean,
        };
        Stopped::Cut(Cut {
            calls,
            by,
            is_sealed,
        })
    }
}

/// Waits for the workers; whether each ended as it was told to.
fn join(workers: Vec<thread::JoinHandle<io::Result<()>>>) -> bool {
    let mut are_sound = true;
    for worker in workers {
        if !matches!(worker.join(), Ok(Ok(()))) {
            are_sound = false;
            tracing::error!(
                "a worker ended with an error: its last calls may be in doubt, see alloy-gateway audit query --outcome in-doubt after the next start"
            );
        }
    }
    are_sound
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A worker of which it is not known yet whether it can serve.
struct Starting {
    thread: thread::JoinHandle<io::Result<()>>,
    ready: mpsc::Receiver<()>,
    go: mpsc::SyncSender<()>,
}

/// A worker that takes connections as soon as it is told to.
struct Ready {
    thread: thread::JoinHandle<io::Result<()>>,
    go: mpsc::SyncSender<()>,
}

impl Ready {
    /// All others are ready, too.
    fn go(self) -> thread::JoinHandle<io::Result<()>> {
        // If it ended meanwhile, its thread tells.
        let _ = self.go.send(());
        self.thread
    }
}

impl Starting {
    /// Waits until it could take connections.
    fn ready(self) -> io::Result<Ready> {
        let Self { thread, ready, go } = self;
        if ready.recv().is_ok() {
            return Ok(Ready { thread, go });
        }
        let ended = thread.join();
        Err(match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => {
                io::Error::other("its thread ended by a bug, which the log tells")
            }
        })
    }
}

fn spawn(
    number: usize,
    shared: &Arc<Shared>,
    sockets: Vec<Listening>,
    finish: watch::Receiver<bool>,
) -> io::Result<Starting> {
    let shared = Arc::clone(shared);
    // Its backlog fills from now on, whenever the thread comes to it.
    let starting = shared.accepting();
    let (says_ready, ready) = mpsc::sync_channel(1);
    let (go, may_go) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(worker::name(number))
        .spawn(move || {
            let together = Together { says_ready, may_go };
            worker::run(shared, number, sockets, starting, together, finish)
        })?;
    Ok(Starting { thread, ready, go })
}
