//! Another config while the gateway runs.
//!
//! The new snapshot is built aside and swapped whole. A config that is invalid
//! changes nothing. What can't be changed without a restart is named.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    config::{self, Loaded, problem::Problems, settings::Settings, snapshot},
    logging,
    server::Shared,
};

/// How often the config and the files it names are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Problems that are logged one by one.
const LOGGED_MAX: usize = 20;

/// Loads other configs into a running gateway.
#[derive(Debug)]
pub struct Reloader {
    shared: Arc<Shared>,
    path: PathBuf,
    /// What can't be changed is held against these.
    started: Arc<Settings>,
    /// One load at a time, and the last one wins.
    loading: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Arc<Settings>,
    last: Reload,
}

/// How the last try to load a config went.
#[derive(Debug, Clone)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// What brought it about.
    pub by: String,
    /// What was wrong with it; empty if it is in effect.
    pub problems: Vec<String>,
    /// What it changes only after a restart.
    pub needs_restart: Vec<&'static str>,
}

/// What a file is to the system: another one, or another content, differs in one of these.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Reloader {
    /// For a gateway that was started with `loaded`.
    pub fn new(shared: Arc<Shared>, loaded: &Loaded) -> Arc<Self> {
        Arc::new(Self {
            shared,
            path: loaded.path().to_owned(),
            started: Arc::clone(&loaded.settings),
            loading: Mutex::new(()),
            state: Mutex::new(State {
                settings: Arc::clone(&loaded.settings),
                last: Reload {
                    at: SystemTime::now(),
                    by: "start".to_owned(),
                    problems: Vec::new(),
                    needs_restart: Vec::new(),
                },
            }),
        })
    }

    /// The settings in effect.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.state().settings)
    }

    /// How the last try went.
    pub fn last(&self) -> Reload {
        self.state().last.clone()
    }

    /// Loads the config anew; blocks. `by` is what brought it about.
    ///
    /// # Errors
    ///
    /// Every problem; the config before stays in effect.
    pub fn reload(&self, by: &str) -> Result<Reload, Problems> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = Reload {
            at: SystemTime::now(),
            by: by.to_owned(),
            problems: Vec::new(),
            needs_restart: Vec::new(),
        };
        let before = self.shared.snapshot();
        let built = config::load(&self.path).and_then(|loaded| {
            snapshot::build(&loaded.settings, &loaded.digest, Some(&before))
                .map(|snapshot| (loaded.settings.clone(), snapshot))
                .map_err(|problems| loaded.locate(problems))
        });
        let (settings, snapshot) = match built {
            Ok(built) => built,
            Err(problems) => {
                last.problems = problems.lines();
                self.reject(&last);
                self.state().last = last;
                return Err(problems);
            }
        };
        last.needs_restart = needs_restart(&self.started, &settings);
        for field in &last.needs_restart {
            tracing::warn!(field, "changed, and takes effect only after a restart");
        }
        tracing::info!(config.sha256 = %snapshot.digest, tenants = snapshot.tenants().len(), by, "config loaded");
        let trail = self.shared.trail();
        trail.config_loaded(&snapshot.digest, snapshot.tenants().len(), by);
        if let Some(control) = logging::control() {
            control.configure(&settings.log);
        }
        self.shared.swap(snapshot);
        self.shared.metrics().reloaded(true);
        *self.state() = State {
            settings,
            last: last.clone(),
        };
        Ok(last)
    }

    fn reject(&self, last: &Reload) {
        for problem in last.problems.iter().take(LOGGED_MAX) {
            tracing::error!(%problem, "the config is invalid; the one before stays in effect");
        }
        let first = last.problems.first().map_or("", String::as_str);
        let trail = self.shared.trail();
        trail.config_rejected(last.problems.len(), first, &last.by);
        self.shared.metrics().reloaded(false);
    }

    /// Looks at the config and the files it names, and loads it when they
    /// changed and then stood still: a file that is being written is left alone.
    /// Never ends.
    pub async fn watch(self: Arc<Self>) {
        let mut applied = self.stamps();
        let mut before = applied.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.stamps();
            if now != applied && now == before {
                let reloader = Arc::clone(&self);
                let done = tokio::task::spawn_blocking(move || reloader.reload("file").is_ok());
                if done.await.is_err() {
                    tracing::error!("loading the config ended with a bug");
                }
                // Other files may be named now.
                applied = self.stamps();
            }
            before = now;
        }
    }

    fn stamps(&self) -> Vec<(PathBuf, Stamp)> {
        let named = snapshot::named_files(&self.settings());
        std::iter::once(self.path.clone())
            .chain(named)
            .map(|path| {
                let stamp = stamp(&path);
                (path, stamp)
            })
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> Stamp {
    // Follows links: Kubernetes swaps one to publish a new set of files.
    let found = fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

/// What differs and can't be changed in a running gateway.
fn needs_restart(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let (old, new) = (&before.bounds, &after.bounds);
    [
        ("listen", before.listen != after.listen),
        ("admin.address", before.admin.address != after.admin.address),
        ("admin.socket", before.admin.socket != after.admin.socket),
        ("workers", before.workers != after.workers),
        ("audit", before.audit != after.audit),
        ("log.format", before.log.format != after.log.format),
        ("bounds.connections", old.connections != new.connections),
        (
            "bounds.connections_per_peer",
            old.connections_per_peer != new.connections_per_peer,
        ),
        (
            "bounds.requests_in_flight",
            old.requests_in_flight != new.requests_in_flight,
        ),
    ]
    .into_iter()
    .filter_map(|(field, differs)| differs.then_some(field))
    .collect()
}
