//! `serve`: the gateway itself.

mod admin_listeners;

use std::{future::pending, sync::Arc, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::admin_listeners::AdminListeners;
use super::{Exit, FileOrConfig, color, memory, output::errln, process};
use crate::{
    admin::Admin,
    audit::Trail,
    config::{
        Loaded,
        settings::{Durability, Settings},
        show_duration,
    },
    containment::FleetFreezes,
    fleet::Life,
    load::{self, Ready},
    logging,
    reload::{self, AtStart, Reloader},
    secret::MacKey,
    server::{Cut, CutBy, Drain, Gateway, Inherited, Stopped},
    ship::Shipper,
    snapshot::otlp::Way,
    systemd,
    traces::Exporter,
};

/// For what a clock was set meanwhile, and what comes before an intent.
const A_MOMENT: Duration = Duration::from_secs(60);

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
            let logs = start_logging(&logging::Settings::default())?;
            give_up(logs, &problems.lines());
            return Ok(Exit::Config);
        }
    };
    let logs = start_logging(&loaded.settings.log)?;
    let ready = match Ready::read(&loaded) {
        Ok(ready) => ready,
        Err(problems) => {
            give_up(logs, &problems.lines());
            return Ok(Exit::Config);
        }
    };
    logging::panics::report();
    reload::warn(&load::warnings(&loaded, &ready.snapshot, None).lines());
    process::take_descriptors(&loaded.settings.bounds);
    memory::warn_if_short(&loaded.settings.bounds);
    if let Err(error) = process::has_few_descriptors() {
        let why = format!(
            "alloy-gateway: too few file descriptors to start (ulimit -n, LimitNOFILE): {error}"
        );
        give_up(logs, &[why]);
        return Ok(Exit::Failure);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(loaded, ready, inherited));
    // A file system that does not answer must not hold up the end.
    runtime.shutdown_background();
    ended.or_else(|error| {
        give_up(logs, &[format!("alloy-gateway: {error:#}")]);
        Ok(Exit::Failure)
    })
}

fn start_logging(settings: &logging::Settings) -> anyhow::Result<logging::Logs> {
    logging::start(settings, color::is_on(&std::io::stderr())).context("cannot start logging")
}

/// Says why it ends, last of all: as the rest of the log if programs read that, else as the
/// other verbs do.
fn give_up(logs: logging::Logs, why: &[String]) {
    if logging::is_json() && tracing::enabled!(tracing::Level::ERROR) {
        for line in why {
            tracing::error!("{line}");
        }
        return;
    }
    // Writes what waits.
    drop(logs);
    for line in why {
        errln!("{line}");
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
    try_addresses(settings, &inherited)?;
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
        config.lists = gateway.shared().snapshot().lists.as_deref(),
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
    Ok(stop(gateway, beside, life, &trail, signals).await)
}

/// Ends everything in order, or at once if one more signal comes.
async fn stop(
    gateway: Gateway,
    beside: Beside,
    life: Option<Life>,
    trail: &Trail,
    mut signals: Signals,
) -> Exit {
    let reloader = &beside.reloader;
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
    let (stopping_at, cut_before) = (Timestamp::now(), trail.counts().cut());
    let stopped = gateway.stop(drain, cut).await;
    if let Stopped::Cut(cut) = stopped {
        let longest = reloader.settings().upstream.request_timeout;
        let in_doubt = trail.counts().cut().saturating_sub(cut_before);
        tell_cut(cut, in_doubt, stopping_at, longest);
    }
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
    if is_clean { Exit::Ok } else { Exit::Failure }
}

/// Says how many calls stopping has cut, and how to find what became of them. They began
/// while it stopped, or at most `longest` before.
fn tell_cut(cut: Cut, in_doubt: u64, stopping_at: Timestamp, longest: Duration) {
    let Cut {
        calls,
        by,
        is_sealed,
    } = cut;
    if calls == 0 && in_doubt == 0 {
        return;
    }
    let by = match by {
        CutBy::Timeout => "bounds.drain_timeout",
        CutBy::Urged => "a second signal",
        CutBy::Worker => "an error of a worker",
        CutBy::Trail => "the trail, which could not be closed",
    };
    let since = stopping_at.checked_sub(longest + A_MOMENT);
    let since = since
        .unwrap_or(Timestamp::MIN)
        .strftime("%Y-%m-%dT%H:%M:%SZ");
    // Before it mends the trail, what was not written is not known to be in doubt.
    let when = if is_sealed {
        ""
    } else {
        "after the next start "
    };
    if in_doubt > 0 {
        tracing::warn!(
            calls,
            in_doubt,
            by,
            "calls were cut that may have been carried out: {when}ask Alloy about those of `alloy-gateway audit query --outcome in-doubt --since {since}`"
        );
    } else {
        // Some of them may have their outcome in the trail, and not yet in the caller's hands.
        tracing::warn!(
            calls,
            in_doubt,
            by,
            "calls were cut without an answer: {when}`alloy-gateway audit query --since {since}` tells what became of each that is in the trail"
        );
    }
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
        let address = socket.place();
        // Before it is said.
        drop(socket);
        tracing::warn!(
            name,
            address,
            "systemd handed over a socket that listen does not name: nobody is served there, and it is closed"
        );
    }
}

/// Tries whether all addresses could be listened on, before anything is written: else each of
/// many starts on an address that is taken would leave a segment of the trail. What is taken
/// between this and the start of listening is found then.
fn try_addresses(settings: &Settings, inherited: &Inherited) -> anyhow::Result<()> {
    AdminListeners::try_bind(&settings.admin, &settings.audit.directory)?;
    Gateway::try_bind(settings, inherited)?;
    Ok(())
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
