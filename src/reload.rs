//! Another config while the gateway runs.
//!
//! The new snapshot is built aside and swapped whole. A config that is invalid
//! changes nothing. What can't be changed without a restart is named.

mod files;
mod retired;

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

use self::{files::Files, retired::Retired};
use crate::{
    background,
    config::{
        self, Loaded,
        problem::Problems,
        settings::{Listen, Settings},
        snapshot::{self, Snapshot},
    },
    fleet, logging,
    metrics::ExpiryWatch,
    secret::MacKey,
    server::Shared,
    systemd,
};

/// How often the config and the files it names are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looking takes at most this part of the time, however many files there are.
const LOOK_SHARE: u32 = 100;
/// Problems that are logged one by one.
const LOGGED_MAX: usize = 20;

/// Loads other configs into a running gateway.
#[derive(Debug)]
pub struct Reloader {
    shared: Arc<Shared>,
    path: PathBuf,
    /// What can't be changed is held against these.
    started: Arc<Settings>,
    /// What tells the key of the trail from another.
    mac_key: Option<String>,
    /// One load at a time, and the last one wins.
    loading: Mutex<()>,
    retired: Retired<Snapshot>,
    state: Mutex<State>,
    expiries: ExpiryWatch,
}

struct State {
    settings: Arc<Settings>,
    last: Reload,
    /// The config, and what it names: the one in effect, and the last one that
    /// was refused, so that it is tried again when what it misses is there.
    watched: Vec<PathBuf>,
    /// What they held when a config was loaded last, or refused.
    loaded: Files,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("last", &self.last).finish()
    }
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

impl Reloader {
    /// For a gateway that was started with `loaded`, and a trail with this key.
    pub fn new(shared: Arc<Shared>, loaded: &Loaded, mac_key: Option<&MacKey>) -> Arc<Self> {
        let watched = watched(loaded.path(), [&*loaded.settings]);
        Arc::new(Self {
            shared,
            path: loaded.path().to_owned(),
            started: Arc::clone(&loaded.settings),
            mac_key: mac_key.map(MacKey::fingerprint),
            loading: Mutex::new(()),
            retired: Retired::default(),
            expiries: ExpiryWatch::default(),
            state: Mutex::new(State {
                settings: Arc::clone(&loaded.settings),
                last: Reload {
                    at: SystemTime::now(),
                    by: "start".to_owned(),
                    problems: Vec::new(),
                    needs_restart: Vec::new(),
                },
                loaded: Files::look(&watched, None),
                watched,
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

    /// Loads the config anew; blocks, and leaves the processors to the workers where
    /// it can. `by` is what brought it about.
    ///
    /// # Errors
    ///
    /// Every problem; the config before stays in effect.
    pub fn reload(&self, by: &str) -> Result<Reload, Problems> {
        let loading = self.loading();
        self.reload_now(&loading, by)
    }

    /// Loads what was found on the disk, unless somebody did while this waited.
    fn reload_found(&self, found: &Files) {
        let loading = self.loading();
        if self.state().loaded != *found {
            // Its problems are told where it is refused.
            let _ = self.reload_now(&loading, "file");
        }
    }

    fn loading(&self) -> MutexGuard<'_, ()> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_now(&self, _loading: &MutexGuard<'_, ()>, by: &str) -> Result<Reload, Problems> {
        systemd::reloading();
        let result = background::run(|| self.load(by));
        systemd::ready(&self.summary());
        result
    }

    /// What is in effect, in a line for people.
    pub fn summary(&self) -> String {
        let snapshot = self.shared.snapshot();
        let (tenants, digest) = (snapshot.tenants().len(), &snapshot.digest);
        let refused = match self.state().last.problems.len() {
            0 => String::new(),
            problems => format!("; the config on disk is invalid ({problems} problem(s))"),
        };
        format!("{tenants} tenant(s), config {digest}{refused}")
    }

    fn load(&self, by: &str) -> Result<Reload, Problems> {
        let mut last = Reload {
            at: SystemTime::now(),
            by: by.to_owned(),
            problems: Vec::new(),
            needs_restart: Vec::new(),
        };
        // Before it is read: what changes meanwhile is seen by the next look.
        let before = self.settings();
        let known = self.state().loaded.clone();
        let mut found = Files::look(&watched(&self.path, [&*before]), Some(&known));
        let loaded = config::load(&self.path);
        let named = loaded.as_ref().ok();
        let named = named.map(|loaded| Arc::clone(&loaded.settings));
        if let Some(named) = &named {
            found = found.extended(&watched(&self.path, [&*before, named]));
        }
        drop(before);
        let built = loaded.and_then(|loaded| {
            let before = self.shared.snapshot();
            snapshot::build(&loaded.settings, &loaded.digest, Some(&before))
                .map(|snapshot| (loaded.settings.clone(), snapshot))
                .map_err(|problems| loaded.locate(problems))
        });
        let result = match built {
            Ok((settings, snapshot)) => {
                last.needs_restart = self.needs_restart(&settings);
                self.accept(&settings, snapshot, &last);
                let before = std::mem::replace(&mut self.state().settings, settings);
                // Whoever asks for the state must not wait while it is taken apart.
                if let Some(before) = Arc::into_inner(before) {
                    background::drop_all(before.tenants);
                }
                Ok(last.clone())
            }
            Err(problems) => {
                last.problems = problems.lines();
                self.reject(&last);
                Err(problems)
            }
        };
        let mut state = self.state();
        state.last = last;
        let settings = Arc::clone(&state.settings);
        let named = std::iter::once(&*settings).chain(named.as_deref());
        state.watched = watched(&self.path, named);
        state.loaded = found.extended(&state.watched);
        result
    }

    fn accept(&self, settings: &Settings, snapshot: Snapshot, reload: &Reload) {
        for field in &reload.needs_restart {
            tracing::warn!(field, "changed, and takes effect only after a restart");
        }
        if let Some(control) = logging::control() {
            control.configure(&settings.log);
        }
        if let (Some(store), Some(settings)) = (&snapshot.store, &settings.limits_store) {
            store.set_replicas(settings.replicas);
        }
        let (digest, tenants) = (snapshot.digest.clone(), snapshot.tenants().len());
        self.retired.add(self.shared.swap(snapshot));
        self.shared.metrics().reloaded(true);
        self.shared
            .trail()
            .config_loaded(&digest, tenants, &reload.by);
        tracing::info!(config.sha256 = %digest, tenants, by = reload.by, "config loaded");
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

    /// Looks at the config and the files it names, in a thread of its own, and
    /// loads it when they changed and then stood still: a file that is being
    /// written is left alone. Ends with the reloader.
    ///
    /// Why not inotify: Kubernetes swaps links, editors rename, and network file
    /// systems tell nothing.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let reloader = Arc::downgrade(self);
        thread::Builder::new()
            .name("config".to_owned())
            .spawn(move || watch(&reloader))?;
        Ok(())
    }

    /// Does what is to be done now and then, so that an idle gateway wakes for the
    /// look at its files and for little else.
    fn tidy(&self) {
        let snapshot = self.shared.snapshot();
        self.expiries.look(&snapshot, Timestamp::now());
        self.shared.metrics().tick();
        for snapshot in self.retired.free() {
            snapshot.take_apart();
        }
    }

    /// Loads what changed and then stood still. `before` is what the last look found
    /// changed; returns what this one did, and how long it took to look.
    fn look(&self, before: Option<Files>) -> (Option<Files>, Duration) {
        let start = Instant::now();
        let now = self.changed(before.as_ref());
        let took = start.elapsed();
        match now {
            Some(found) if before.as_ref() == Some(&found) => {
                self.reload_found(&found);
                (None, took)
            }
            now => (now, took),
        }
    }

    /// What the watched files hold, if it is not what was loaded.
    fn changed(&self, before: Option<&Files>) -> Option<Files> {
        let (watched, loaded) = {
            let state = self.state();
            (state.watched.clone(), state.loaded.clone())
        };
        let now = Files::look(&watched, before.or(Some(&loaded)));
        if now != loaded {
            return Some(now);
        }
        let mut state = self.state();
        if state.loaded == now {
            // What has settled since need not be read again.
            state.loaded = now;
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(reloader: &Weak<Reloader>) {
    background::stand_behind();
    let mut before = None;
    let mut pause = LOOK_EVERY;
    loop {
        thread::sleep(pause);
        let Some(reloader) = reloader.upgrade() else {
            return;
        };
        // A bug in one look must not be the last of all looks.
        let look = AssertUnwindSafe(|| {
            reloader.tidy();
            reloader.look(before.take())
        });
        let (found, took) = panic::catch_unwind(look).unwrap_or_else(|_| {
            tracing::error!("looking at the config ended with a bug");
            (None, Duration::ZERO)
        });
        before = found;
        pause = LOOK_EVERY.max(took * LOOK_SHARE);
    }
}

/// The config and every file that these settings name.
fn watched<'a>(path: &Path, named: impl IntoIterator<Item = &'a Settings>) -> Vec<PathBuf> {
    let named = named.into_iter().flat_map(snapshot::named_files);
    let mut files: Vec<_> = std::iter::once(path.to_owned()).chain(named).collect();
    files.sort();
    files.dedup();
    files
}

impl Reloader {
    /// What differs and can't be changed in a running gateway.
    fn needs_restart(&self, after: &Settings) -> Vec<&'static str> {
        let before = &*self.started;
        let (old, new) = (&before.bounds, &after.bounds);
        let mac_key = || snapshot::mac_key(&after.audit).ok().flatten();
        let is_same_trail = before.audit == after.audit;
        let mac_key = || mac_key().as_ref().map(MacKey::fingerprint);
        [
            ("listen", !is_same_listeners(&before.listen, &after.listen)),
            ("admin.address", before.admin.address != after.admin.address),
            ("admin.socket", before.admin.socket != after.admin.socket),
            ("workers", before.workers != after.workers),
            ("audit", !is_same_trail),
            ("audit.mac_key", is_same_trail && mac_key() != self.mac_key),
            ("limits_store", !is_same_store(before, after)),
            ("otlp", before.otlp != after.otlp),
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
}

/// Whether both share limits in the same store; among how many is seen at once.
fn is_same_store(before: &Settings, after: &Settings) -> bool {
    let but_replicas = |settings: &Settings| {
        let store = settings.limits_store.clone();
        store.map(|store| fleet::Settings {
            replicas: 1,
            ..store
        })
    };
    but_replicas(before) == but_replicas(after)
}

/// Whether both are the same ports and sockets, with TLS or without; other
/// certificates are used at once.
fn is_same_listeners(before: &[Listen], after: &[Listen]) -> bool {
    let is_same = |(one, other): (&Listen, &Listen)| {
        one.place == other.place && one.tls.is_some() == other.tls.is_some()
    };
    before.len() == after.len() && before.iter().zip(after).all(is_same)
}
