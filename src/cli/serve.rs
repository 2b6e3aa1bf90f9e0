//! `serve`: the gateway itself.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigFile, Exit, color, memory, output::err, process, start::Ready};
use crate::{
    admin::{self, Admin},
    config::{self, Loaded, settings::Durability, show_duration, snapshot},
    containment::Fleet,
    fleet::Life,
    logging,
    reload::Reloader,
    server::{Drain, Gateway, Inherited, Stopped},
    ship::Shipper,
    systemd,
    traces::{Exporter, Way},
};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

/// Serves until it is told to stop.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    // Before there is a second thread.
    let inherited = Inherited::from_env().context("a socket from systemd (LISTEN_FDS)")?;
    let path = &args.config.path;
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            err!("{problems}");
            return Ok(Exit::Config);
        }
    };
    let ready = match Ready::read(&loaded) {
        Ok(ready) => ready,
        Err(problems) => {
            err!("{problems}");
            return Ok(Exit::Config);
        }
    };
    process::harden();
    let _logs = logging::start(&loaded.settings.log, color::is_on(&std::io::stderr()))
        .context("cannot start logging")?;
    logging::panics::report();
    warn(path, &loaded);
    process::take_descriptors(&loaded.settings.bounds);
    memory::warn_if_short(&loaded.settings.bounds);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(loaded, ready, inherited));
    // A file system that does not answer must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn serve(loaded: Loaded, ready: Ready, mut inherited: Inherited) -> anyhow::Result<Exit> {
    let settings = loaded.settings.as_ref();
    // Before anything listens: a signal must find its handler.
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    // A limit on file sizes is to be an error of the trail, not the end.
    let _too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let trail = ready.open_trail(&loaded)?;
    let (mac_key, otlp) = (ready.mac_key, ready.otlp);
    if settings.audit.durability == Durability::Relaxed {
        tracing::warn!("audit.durability is relaxed: records survive the process, not the machine");
    }
    let started = Gateway::start(settings, ready.snapshot, trail.clone(), &mut inherited);
    let gateway = match started {
        Ok(gateway) => gateway,
        Err(error) => {
            trail.close();
            return Err(error.into());
        }
    };
    let reloader = Reloader::new(Arc::clone(gateway.shared()), &loaded, mac_key.as_ref());
    let admin = Admin::new(Arc::clone(gateway.shared()), Arc::clone(&reloader));
    if let Err(error) = start_admin(&admin, settings).await {
        let at_once = Drain {
            delay: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        gateway.stop(at_once, async || {}).await;
        return Err(error);
    }
    reloader.watch()?;
    let exporter = start_exporter(&gateway, settings, otlp);
    let shipper = start_shipper(&gateway, settings)?;
    let store = gateway.shared().snapshot().store.clone();
    let life = store.map(|store| Life::start(&store));
    if let Some(life) = &life {
        Fleet::join(gateway.shared(), life.client());
    }
    for place in gateway.places() {
        tracing::info!(listener = "data", address = %place, "listening");
    }
    let head = trail.status().head;
    tracing::info!(
        config.sha256 = %loaded.digest,
        tenants = settings.tenants.len(),
        upstream = %settings.upstream.url.authority(),
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
        () = reload_on_hangup(&reloader, hangup) => {}
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
    let stopped = gateway.stop(drain, async || signals.next().await).await;
    if let Some(life) = life {
        life.end().await;
    }
    if let Some(exporter) = exporter {
        exporter.close().await;
    }
    if let Some(shipper) = shipper {
        shipper.close().await;
    }
    let head = trail.status().head;
    tracing::info!(
        trail.seq = head.seq,
        trail.hash = head.hash.as_str(),
        clean = (stopped == Stopped::Clean),
        "stopped"
    );
    Ok(match stopped {
        Stopped::Clean => Exit::Ok,
        Stopped::Cut => Exit::Failure,
    })
}

/// Sends spans from now on, if the config says where.
fn start_exporter(
    gateway: &Gateway,
    settings: &config::settings::Settings,
    way: Option<Way>,
) -> Option<Exporter> {
    let traces = Arc::clone(gateway.shared().traces()?);
    let (otlp, upstream) = (settings.otlp.as_ref()?, &settings.upstream.url);
    Some(Exporter::start(traces, otlp, way?, upstream))
}

/// Writes the trail to a database from now on, if the config says where.
fn start_shipper(
    gateway: &Gateway,
    settings: &config::settings::Settings,
) -> anyhow::Result<Option<Shipper>> {
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

async fn start_admin(
    admin: &Arc<Admin>,
    settings: &config::settings::Settings,
) -> anyhow::Result<()> {
    if let Some(address) = settings.admin.address {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (admin.address)"))?;
        let address = listener.local_addr()?;
        tracing::info!(listener = "admin", %address, "listening");
        tokio::spawn(Arc::clone(admin).serve_tcp(listener));
    }
    if let Some(path) = &settings.admin.socket {
        let listener = admin::bind_socket(path)
            .with_context(|| format!("cannot listen on {} (admin.socket)", path.display()))?;
        tracing::info!(listener = "admin", path = %path.display(), "listening");
        tokio::spawn(Arc::clone(admin).serve_socket(listener));
    }
    Ok(())
}

fn warn(path: &Path, loaded: &Loaded) {
    let loose = snapshot::loose_secrets(&loaded.settings);
    for warning in loaded.warnings.iter().chain(&loose) {
        tracing::warn!(file = %path.display(), "{warning}");
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
