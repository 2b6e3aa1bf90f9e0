//! One worker: a thread with a runtime, a socket on every address, and upstream
//! connections of its own, so that a request is read, decided, sent and
//! answered without another thread.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    connection::{self, ConnectionContext},
    driver,
    listening::{Backlog, Listening, ListeningSocket},
    phases::Phase,
    rim::Rim,
    shared::{Accepting, Shared},
    watchdog::Watchdog,
};
use crate::{
    arrival::Peer,
    audit::{Flusher, WorkerTrail},
    code::ConnectionEnd,
    fault_point::FaultPoint,
    fleet::{Client, Role},
    metrics::Shard,
    pipeline::Pipeline,
};

/// How long those are still let in who waited in the backlog when the gateway stops.
const LAST_ROUND: Duration = Duration::from_millis(20);
/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often unused upstream connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// No worker takes a call before all can: a start that fails must not cut any off.
#[derive(Debug)]
pub struct Together {
    /// Told once this one could begin.
    pub says_ready: mpsc::SyncSender<()>,
    /// Says that all others could, too; closed if one can't.
    pub may_go: mpsc::Receiver<()>,
}

/// Serves on `sockets` until `finish` says so, as the worker with this number, once all
/// workers are ready.
///
/// # Errors
///
/// If the system gives no runtime or takes a socket back.
pub fn run(
    shared: Arc<Shared>,
    number: usize,
    sockets: Vec<Listening>,
    starting: Accepting,
    together: Together,
    finish: watch::Receiver<bool>,
) -> io::Result<()> {
    let counts = shared.metrics().shards().get(number);
    let counts = counts.ok_or_else(|| io::Error::other("more workers than were to be"))?;
    let counts = Arc::clone(counts);
    FaultPoint::WorkerStarts.reach();
    let flusher = shared.trail().flusher();
    let worker = Worker {
        shared,
        number,
        counts,
        flusher: Arc::clone(&flusher),
    };
    driver::run(
        &name(number),
        flusher,
        worker.serve(sockets, starting, together, finish),
    )?
}

/// What the threads of a worker are called.
pub fn name(number: usize) -> String {
    format!("worker-{number}")
}

/// What a worker has of its own.
struct Worker {
    shared: Arc<Shared>,
    number: usize,
    counts: Arc<Shard>,
    flusher: Arc<Flusher>,
}

impl Worker {
    async fn serve(
        self,
        sockets: Vec<Listening>,
        starting: Accepting,
        together: Together,
        mut finish: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let Self {
            shared,
            number,
            counts,
            flusher,
        } = self;
        let trail = shared.trail().for_worker().flushed_by(flusher);
        let store = shared.snapshot().store.clone();
        let store = store.map(|store| Client::start(&store, Role::Calls));
        let budget = Arc::clone(shared.retry_budget());
        let pipeline = Pipeline::new(trail.clone(), Arc::clone(&counts), budget, store);
        let pipeline = Arc::new(pipeline);
        let rim = Rim::new(
            Arc::clone(&shared),
            Arc::clone(&pipeline),
            Arc::clone(&counts),
        );
        let context = ConnectionContext {
            rim: Arc::new(rim),
            watchdog: Watchdog::new(),
            phase: shared.phase(),
        };
        // Registered first: that is what can fail.
        let sockets = sockets.into_iter().map(Registered::new);
        let sockets: Vec<_> = sockets.collect::<io::Result<_>>()?;
        // Whoever started it waits for this.
        let _ = together.says_ready.send(());
        if together.may_go.recv().is_err() {
            return Ok(());
        }
        // Dropped before the runtime, which may have to wait for a look-up.
        let _lives = shared.worker_lives(number);
        for (listener, (socket, backlog)) in sockets.into_iter().enumerate() {
            let acceptor = Acceptor {
                shared: Arc::clone(&shared),
                context: context.clone(),
                trail: trail.clone(),
                counts: Arc::clone(&counts),
                listener,
            };
            let accepting = shared.accepting();
            match socket {
                Registered::Tcp(socket) => {
                    tokio::spawn(acceptor.accept(socket, backlog, accepting));
                }
                Registered::Unix(socket) => {
                    tokio::spawn(acceptor.accept(socket, backlog, accepting));
                }
            }
        }
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                shared.pulse(number);
                pipeline.sweep();
            }
        };
        // Each listener has its own by now.
        drop(starting);
        FaultPoint::WorkerServes.reach();
        tokio::select! {
            // An error means that the gateway is gone: then there is nothing left to do either.
            _ = finish.wait_for(|finish| *finish) => {}
            () = sweeping => {}
            () = context.watchdog.run(shared.phase()) => {}
        }
        Ok(())
    }
}

/// A socket that the runtime of this worker tells of.
enum Registered {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Registered {
    fn new(Listening { socket, backlog }: Listening) -> io::Result<(Self, Backlog)> {
        let registered = match socket {
            ListeningSocket::Tcp(socket) => Self::Tcp(tokio::net::TcpListener::from_std(socket)?),
            ListeningSocket::Unix(socket) => {
                Self::Unix(tokio::net::UnixListener::from_std(socket)?)
            }
        };
        Ok((registered, backlog))
    }
}

/// A listening socket of either kind.
trait Socket {
    /// What it accepts.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and who is at its other end.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>>;
}

impl Socket for tokio::net::TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.accept().await?;
        // Answers are one small write each: waiting for more would only cost time.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer::Tcp(address)))
    }
}

impl Socket for tokio::net::UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::Unix { uid }))
    }
}

/// What one listener does with its connections.
#[derive(Clone)]
struct Acceptor {
    shared: Arc<Shared>,
    context: ConnectionContext,
    trail: WorkerTrail,
    counts: Arc<Shard>,
    /// Its number in the config.
    listener: usize,
}

impl Acceptor {
    /// Accepts until the gateway stops, and then what was waiting already.
    async fn accept<S: Socket>(self, socket: S, backlog: Backlog, _accepting: Accepting) {
        let mut phase = self.shared.phase();
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == Phase::Stopping) => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    self.begin(stream, peer).await;
                }
                Err(error) if is_one_connection(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "cannot accept connections for now: new ones wait, open ones go on. It is tried again all the time; if files ran out, raise the limit (LimitNOFILE) or lower bounds.connections");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if backlog == Backlog::OfTheNext {
            return;
        }
        // A moment, and no single look: the system may not have told of it yet.
        let end = Instant::now() + LAST_ROUND;
        while let Ok(Ok((stream, peer))) = timeout_at(end, socket.accept()).await {
            self.begin(stream, peer).await;
        }
    }

    async fn begin<T>(&self, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(slot) = self.shared.slots().take(&peer).await else {
            self.ended(peer, ConnectionEnd::PerPeer);
            return;
        };
        let acceptor = self.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let _open = acceptor.counts.connected(acceptor.listener);
            if let Err(end) = acceptor.serve(stream, peer).await {
                acceptor.ended(peer, end);
            }
        });
    }

    async fn serve<T>(&self, stream: T, peer: Peer) -> Result<(), ConnectionEnd>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let snapshot = self.shared.snapshot();
        let bounds = snapshot.bounds.clone();
        let tls = snapshot.listen_tls(self.listener).cloned();
        drop(snapshot);
        let context = self.context.clone();
        let Some(tls) = tls else {
            return connection::serve(stream, peer, &bounds, context).await;
        };
        // Boxed: a plaintext connection must not have the size of this one.
        let serving = Box::pin(async {
            let handshake = tokio::time::timeout(bounds.header_timeout, tls.accept(stream));
            let shaken = tokio::select! {
                biased;
                shaken = handshake => shaken,
                () = connection::last_words(context.phase.clone()) => return Ok(()),
            };
            match shaken {
                Ok(Ok(stream)) => connection::serve(stream, peer, &bounds, context).await,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    Err(ConnectionEnd::TlsHandshake)
                }
                Err(_) => Err(ConnectionEnd::HeaderTimeout),
            }
        });
        serving.await
    }

    fn ended(&self, peer: Peer, end: ConnectionEnd) {
        self.counts.connection_ended(end);
        if end.is_refusal() {
            self.trail
                .connection_refused(&peer.to_string(), end.as_str());
        }
    }
}

/// Errors of accept that concern only the connection that was being accepted.
fn is_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
