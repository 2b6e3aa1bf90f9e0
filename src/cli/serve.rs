//! `serve`: the gateway itself.

use std::{future::pending, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Exit, FileOrConfig, color, memory, output::errln, process, start::Ready};
use crate::{
    admin,
    admin::Admin,
    audit::Trail,
    config::{
        Loaded, settings,
        settings::{Durability, Settings},
        show_duration,
    },
    containment::FleetFreezes,
    fleet::Life,
    load, logging, reload,
    reload::{AtStart, Reloader},
    secret::MacKey,
    server::{Drain, Gateway, Inherited, Stopped, bind_admin, why_not_bound},
    ship::Shipper,
    snapshot::otlp::Way,
    systemd,
    traces::Exporter,
};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("file", |file| file.help(
    "The config file, or - for standard input, which is read once; instead of --config"
)))]
pub struct Args {
    #[command(flatten)]
    config: FileOrConfig,
}

/// Serves until it is told to stop.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    // Before any secret is read.
    process::harden();
    // Before there is a second thread.
    let inherited = Inherited::from_env().context("a socket from systemd (LISTEN_FDS)")?;
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            // Until a config says how, the terminal decides.
            let _logs = start_logging(&logging::Settings::default())?;
            give_up(&problems.lines());
            return Ok(Exit::Config);
        }
    };
    let _logs = start_logging(&loaded.settings.log)?;
    let ready = match Ready::read(&loaded) {
        Ok(ready) => ready,
        Err(problems) => {
            give_up(&problems.lines());
            return Ok(Exit::Config);
        }
    };
    logging::panics::report();
    reload::warn(&load::warnings(&loaded, &ready.snapshot, None).lines());
    process::take_descriptors(&loaded.settings.bounds);
    memory::warn_if_short(&loaded.settings.bounds);
    if let Err(error) = process::has_few_descriptors() {
        give_up(&[format!(
            "alloy-gateway: too few file descriptors to start (ulimit -n, LimitNOFILE): {error}"
        )]);
        return Ok(Exit::Failure);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(loaded, ready, inherited));
    // A file system that does not answer must not hold up the end.
    runtime.shutdown_background();
    ended.or_else(|error| {
        give_up(&[format!("alloy-gateway: {error:#}")]);
        Ok(Exit::Failure)
    })
}

fn start_logging(settings: &logging::Settings) -> anyhow::Result<logging::Logs> {
    logging::start(settings, color::is_on(&std::io::stderr())).context("cannot start logging")
}

/// Says why it ends: as the rest of the log if programs read that, else as the other
/// verbs do.
fn give_up(why: &[String]) {
    for line in why {
        if logging::is_json() && tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{line}");
        } else {
            errln!("{line}");
        }
    }
}

async fn serve(loaded: Loaded, ready: Ready, mut inherited: Inherited) -> anyhow::Result<Exit> {
    let settings = loaded.settings.as_ref();
    // Before anything listens: a signal must find its handler.
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    tokio::spawn(ignore(
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    ));
    // A limit on file sizes is to be an error of the trail, not the end.
    let _too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let trail = ready.open_trail(&loaded)?;
    if settings.audit.durability == Durability::Relaxed {
        tracing::warn!("audit.durability is relaxed: records survive the process, not the machine");
    }
    let life = ready.snapshot.store.as_ref().map(Life::start);
    if let Some(life) = &life {
        FleetFreezes::hear_first(ready.snapshot.containment(), &trail, life.client()).await;
    }
    let started = start(&loaded, ready, &trail, &mut inherited);
    let (gateway, beside) = match started.await {
        Ok(started) => started,
        Err(error) => {
            if let Some(life) = life {
                life.end().await;
            }
            trail.close();
            return Err(error);
        }
    };
    close_unnamed(inherited);
    let reloader = &beside.reloader;
    if let Some(life) = &life {
        let snapshot = gateway.shared().snapshot();
        FleetFreezes::join(snapshot.containment(), &trail, life.client());
    }
    for address in gateway.addresses() {
        tracing::info!(listener = "data", %address, "listening");
    }
    let head = trail.status().head;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config.sha256 = %loaded.digest,
        tenants = settings.tenants.len(),
        upstream = %settings.upstream.url.authority(),
        trail.directory = %settings.audit.directory.display(),
        trail.seq = head.seq,
        trail.hash = head.hash.as_str(),
        "ready"
    );
    // Once another config takes its place, nothing of this one should be left.
    drop(loaded);
    systemd::ready(&reloader.summary());
    tokio::spawn(systemd::keep_watchdog(Arc::clone(gateway.shared())));
    tokio::select! {
        () = signals.next() => {}
        () = reload_on_hangup(reloader, hangup) => {}
    }
    systemd::stopping();
    let bounds = &reloader.settings().bounds;
    let drain = Drain {
        delay: bounds.drain_delay,
        timeout: bounds.drain_timeout,
    };
    tracing::info!(
        drain_delay = show_duration(drain.delay),
        drain_timeout = show_duration(drain.timeout),
        "stopping; a second signal ends it at once"
    );
    let mut is_urged = false;
    let cut = async || {
        signals.next().await;
        is_urged = true;
    };
    let stopped = gateway.stop(drain, cut).await;
    let is_clean = !is_urged
        && tokio::select! {
            () = close(life, beside.exporter, beside.shipper) => stopped == Stopped::Clean,
            () = signals.next() => false,
        };
    let head = trail.status().head;
    tracing::info!(
        trail.seq = head.seq,
        trail.hash = head.hash.as_str(),
        clean = is_clean,
        "stopped"
    );
    Ok(if is_clean { Exit::Ok } else { Exit::Failure })
}

/// Says what is left to say to the store, the collector of spans and the database, which
/// wait for each other no longer than for the slowest.
async fn close(life: Option<Life>, exporter: Option<Exporter>, shipper: Option<Shipper>) {
    let leave = async {
        if let Some(life) = life {
            life.end().await;
        }
    };
    let export = async {
        if let Some(exporter) = exporter {
            exporter.close().await;
        }
    };
    let ship = async {
        if let Some(shipper) = shipper {
            shipper.close().await;
        }
    };
    tokio::join!(leave, export, ship);
}

/// Callers who wait at a socket that nobody listens to would wait for ever, and nobody
/// would know.
fn close_unnamed(inherited: Inherited) {
    for (name, socket) in inherited.left() {
        tracing::warn!(
            name,
            address = socket.place(),
            "systemd handed over a socket that listen does not name: nobody is served there, and it is closed"
        );
    }
}

/// Begins to listen. The trail's lock was taken before: a second gateway must not touch
/// the socket of one that runs. Callers come last: where operators cannot be listened to,
/// nobody is served and then cut off.
async fn start(
    loaded: &Loaded,
    ready: Ready,
    trail: &Trail,
    inherited: &mut Inherited,
) -> anyhow::Result<(Gateway, Beside)> {
    let settings = loaded.settings.as_ref();
    let listeners = AdminListeners::bind(&settings.admin)?;
    let gateway = Gateway::start(settings, ready.snapshot, trail.clone(), inherited)?;
    match Beside::start(&gateway, loaded, ready.mac_key.as_ref(), ready.otlp) {
        Ok(beside) => {
            let shared = Arc::clone(gateway.shared());
            listeners.serve(&Admin::new(shared, Arc::clone(&beside.reloader)));
            Ok((gateway, beside))
        }
        Err(error) => {
            let at_once = Drain {
                delay: Duration::ZERO,
                timeout: Duration::ZERO,
            };
            gateway.stop(at_once, async || pending().await).await;
            Err(error)
        }
    }
}

/// What goes on beside the calls.
struct Beside {
    reloader: Arc<Reloader>,
    exporter: Option<Exporter>,
    shipper: Option<Shipper>,
}

impl Beside {
    fn start(
        gateway: &Gateway,
        loaded: &Loaded,
        mac_key: Option<&MacKey>,
        otlp: Option<Way>,
    ) -> anyhow::Result<Self> {
        let settings = loaded.settings.as_ref();
        let at_start = AtStart::new(mac_key, otlp.as_ref());
        let reloader = Reloader::new(Arc::clone(gateway.shared()), loaded, at_start);
        reloader.watch()?;
        Ok(Self {
            exporter: start_exporter(gateway, settings, otlp),
            shipper: start_shipper(gateway, settings)?,
            reloader,
        })
    }
}

/// Sends spans from now on, if the config says where.
fn start_exporter(gateway: &Gateway, settings: &Settings, way: Option<Way>) -> Option<Exporter> {
    let traces = Arc::clone(gateway.shared().traces()?);
    Some(Exporter::start(traces, settings.otlp.as_ref()?, way?))
}

/// Writes the trail to a database from now on, if the config says where.
fn start_shipper(gateway: &Gateway, settings: &Settings) -> anyhow::Result<Option<Shipper>> {
    let shared = gateway.shared();
    let (Some(state), Some(ship)) = (shared.shipping(), &settings.audit.ship) else {
        return Ok(None);
    };
    let shipper = Shipper::start(shared.trail(), ship, state);
    Ok(Some(shipper.context("cannot start collecting the trail")?))
}

/// Loads the config anew at each SIGHUP. Never ends.
async fn reload_on_hangup(reloader: &Arc<Reloader>, mut hangup: Signal) {
    loop {
        hangup.recv().await;
        let reloader = Arc::clone(reloader);
        let done = tokio::task::spawn_blocking(move || reloader.reload("SIGHUP").is_ok());
        if done.await.is_err() {
            tracing::error!("loading the config ended with a bug");
        }
    }
}

/// Says of each SIGUSR1 and SIGUSR2 what would be right: rotation of logs sends them by
/// habit, and without a handler they end a process at once. Never ends.
async fn ignore(mut first: Signal, mut second: Signal) {
    loop {
        let name = tokio::select! {
            _ = first.recv() => "SIGUSR1",
            _ = second.recv() => "SIGUSR2",
        };
        tracing::warn!(
            signal = name,
            "ignored: no file is to be opened again, since the trail rotates by itself and logs go to stderr; SIGHUP loads the config anew"
        );
    }
}

/// Where operators are listened to.
struct AdminListeners {
    tcp: Option<(SocketAddr, TcpListener)>,
    socket: Option<(PathBuf, UnixListener)>,
}

impl AdminListeners {
    fn bind(settings: &settings::Admin) -> anyhow::Result<Self> {
        let tcp = settings.address.map(|address| {
            let listen = || {
                let listener = TcpListener::from_std(bind_admin(address)?)?;
                Ok((listener.local_addr()?, listener))
            };
            listen().map_err(|error: io::Error| {
                let hint = why_not_bound(&error);
                anyhow::anyhow!("cannot listen on {address} (admin.address): {error}{hint}")
            })
        });
        let socket = settings.socket.as_ref().map(|path| {
            let listener = admin::bind_socket(path)
                .with_context(|| format!("cannot listen on {} (admin.socket)", path.display()))?;
            anyhow::Ok((path.clone(), listener))
        });
        Ok(Self {
            tcp: tcp.transpose()?,
            socket: socket.transpose()?,
        })
    }

    fn serve(self, admin: &Arc<Admin>) {
        if let Some((address, listener)) = self.tcp {
            tracing::info!(listener = "admin", %address, "listening");
            tokio::spawn(Arc::clone(admin).serve_tcp(listener));
        }
        if let Some((path, listener)) = self.socket {
            tracing::info!(listener = "admin", path = %path.display(), "listening");
            tokio::spawn(Arc::clone(admin).serve_socket(listener));
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
