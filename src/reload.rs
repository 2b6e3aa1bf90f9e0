//! Another config while the gateway runs.
//!
//! The new snapshot is built aside and swapped whole. A config that is invalid
//! changes nothing. What can't be changed without a restart is named.

mod files;
mod next_start;
mod read;
mod restart;
mod retired;

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

pub use self::next_start::AtStart;
use self::{
    files::Files,
    read::{Basis, Read, Valid, lengths, watched},
    retired::Retired,
};
use crate::{
    background::{self, Background},
    config::{Loaded, problem::Problems, settings::Settings},
    expiry::{CertificateWatch, ExpiryWatch},
    key_ring::KeyRing,
    logging,
    server::Shared,
    snapshot::{Snapshot, Tenant},
    systemd,
};

/// How often the config and the files it names are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looking takes at most about this part of the time, however many files there are.
/// Reading those that changed comes to it, in spare time if they are long.
const LOOK_SHARE: u32 = 100;
/// What brings about a load of what was found on the disk.
const FOUND: &str = "file";
/// Problems, and warnings, that are logged one by one.
const LOGGED_MAX: usize = 20;

/// Configs and lists up to this length, in bytes together, are read on the spot, if
/// there are no more tenants than that to take the place of: it takes some milliseconds.
const SHORT_BYTES_MAX: u64 = 128 << 10;
const FEW_TENANTS_MAX: usize = 1_000;
/// How long the processors may be busy with calls before a larger one is read beside
/// them all the same.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is read in a second of the processor's time, at the least, in bytes.
const BYTES_A_SECOND: u64 = 4 << 20;
/// However much it is, a revocation does not wait longer for spare time.
const READ_SECONDS_MAX: u64 = 20;

/// Loads other configs into a running gateway.
#[derive(Debug)]
pub struct Reloader {
    shared: Arc<Shared>,
    path: PathBuf,
    /// What can't be changed is held against these. Without the tenants: they can be
    /// changed, and the first ones would be kept for good.
    started: Settings,
    /// What of it is not read again until the next one.
    at_start: AtStart,
    /// The warnings of a config from standard input, which can't be looked at again.
    piped_warnings: Arc<[String]>,
    /// One load at a time, and the last one wins.
    loading: Mutex<()>,
    /// Where long files are looked at, and where long configs are read: a look must not
    /// push what is being read out of spare time.
    looking: Background,
    reading: Background,
    retired: Retired<Snapshot>,
    state: Mutex<State>,
    expiries: ExpiryWatch,
    certificates: CertificateWatch,
}

struct State {
    settings: Arc<Settings>,
    last: Reload,
    /// The config, and what it names: the one in effect, and the last one that
    /// was refused, with all that it misses, so that it is tried again when that is there.
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
    /// What is worth a warning in it, if it is in effect.
    pub warnings: Vec<String>,
}

impl Reloader {
    /// For a gateway that was started with `loaded`, and with what was read then.
    pub fn new(shared: Arc<Shared>, loaded: &Loaded, at_start: AtStart) -> Arc<Self> {
        let watched = watched(loaded.path(), [&*loaded.settings]);
        Arc::new(Self {
            shared,
            path: loaded.path().to_owned(),
            started: loaded.settings.without_tenants(),
            at_start,
            piped_warnings: loaded.piped_warnings().into(),
            loading: Mutex::new(()),
            looking: Background::default(),
            reading: Background::default(),
            retired: Retired::default(),
            expiries: ExpiryWatch::default(),
            certificates: CertificateWatch::default(),
            state: Mutex::new(State {
                settings: Arc::clone(&loaded.settings),
                last: Reload {
                    at: SystemTime::now(),
                    by: "start".to_owned(),
                    problems: Vec::new(),
                    needs_restart: Vec::new(),
                    warnings: Vec::new(),
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
            let _ = self.reload_now(&loading, FOUND);
        }
    }

    fn loading(&self) -> MutexGuard<'_, ()> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_now(&self, _loading: &MutexGuard<'_, ()>, by: &str) -> Result<Reload, Problems> {
        systemd::reloading();
        let read = self.read();
        let result = background::giving_way(|| self.take(read, by));
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

    /// Reads what is on the disk now, and changes nothing: in spare time, if it is much.
    fn read(&self) -> Read {
        let basis = Basis {
            path: self.path.clone(),
            settings: self.settings(),
            snapshot: self.shared.snapshot(),
            piped_warnings: Arc::clone(&self.piped_warnings),
            at_start: self.at_start.clone(),
            known: self.state().loaded.clone(),
        };
        let files = watched(&self.path, [&*basis.settings]);
        self.beside(&self.reading, &files, move || basis.read())
    }

    /// Does `work` with these files: in spare time, if it is long.
    fn beside<T, W>(&self, place: &Background, files: &[PathBuf], work: W) -> T
    where
        T: Send + 'static,
        W: Fn() -> T + Send + Sync + 'static,
    {
        let (length, tenants) = (lengths(files), self.shared.snapshot().tenants().len());
        if length <= SHORT_BYTES_MAX && tenants <= FEW_TENANTS_MAX {
            return work();
        }
        let seconds = (length / BYTES_A_SECOND).min(READ_SECONDS_MAX);
        let patience = PATIENCE + Duration::from_secs(seconds);
        place.run(patience, work)
    }

    /// Lets what was read take effect, if it is valid.
    fn take(&self, read: Read, by: &str) -> Result<Reload, Problems> {
        let mut last = Reload {
            at: read.at,
            by: by.to_owned(),
            problems: Vec::new(),
            needs_restart: Vec::new(),
            warnings: Vec::new(),
        };
        let result = match read.valid {
            Ok(Valid {
                settings,
                built,
                next_start,
                warnings,
            }) => {
                last.needs_restart = self.needs_restart(&settings, &next_start);
                last.warnings = warnings;
                // Not in spare time: it takes a lock that a freeze may wait for.
                self.accept(&settings, built.with_lasting(), &last);
                let before = std::mem::replace(&mut self.state().settings, settings);
                let_go(before);
                Ok(last.clone())
            }
            Err(problems) => {
                last.problems = problems.lines();
                // What cannot be read now and then is told once, until that changes.
                let is_known = by == FOUND && !read.missed.is_empty();
                if !(is_known && last.problems == self.state().last.problems) {
                    self.reject(&last);
                }
                Err(problems)
            }
        };
        let settings = self.settings();
        let named = std::iter::once(&*settings).chain(read.named.as_deref());
        let mut watched = watched(&self.path, named);
        watched.extend(read.missed.iter().cloned());
        watched.sort();
        watched.dedup();
        // What was missed is tried again, whatever the looks at it found.
        let loaded = read.found.extended(&watched).without(&read.missed);
        let mut state = self.state();
        state.last = last;
        state.watched = watched;
        state.loaded = loaded;
        drop(state);
        if let Some(named) = read.named {
            let_go(named);
        }
        result
    }

    fn accept(&self, settings: &Settings, snapshot: Snapshot, reload: &Reload) {
        for field in &reload.needs_restart {
            tracing::warn!(field, "changed, and takes effect only after a restart");
        }
        warn(&reload.warnings);
        if let Some(control) = logging::control() {
            control.configure(&settings.log);
        }
        if let (Some(store), Some(settings)) = (&snapshot.store, &settings.limits_store) {
            store.set_replicas(settings.replicas);
        }
        snapshot.follow_keys(&self.shared.snapshot());
        let (digest, tenants) = (snapshot.digest.clone(), snapshot.tenants().len());
        let lists = snapshot.lists.clone();
        let lists = lists.as_deref();
        // Before any call can use another key: its records come behind this one.
        self.record_other_keys(&snapshot, &reload.by);
        self.retired.add(self.shared.swap(snapshot));
        self.shared.metrics().reloaded(true);
        self.shared
            .trail()
            .config_loaded(&digest, lists, tenants, &reload.by);
        tracing::info!(config.sha256 = %digest, config.lists = lists, tenants, by = reload.by, "config loaded");
    }

    /// Records each key that `next` uses in the place of another.
    fn record_other_keys(&self, next: &Snapshot, by: &str) {
        let now = self.shared.snapshot();
        for key in next.keys() {
            let Some(before) = now.key(key.name()).map(KeyRing::current) else {
                continue;
            };
            let after = key.in_use();
            if before.fingerprint() != after.fingerprint() {
                self.shared.trail().key_rotated(before, after, by);
                tracing::info!(
                    key = key.name(),
                    fingerprint = after.fingerprint(),
                    by,
                    "another key is used from now on"
                );
            }
        }
    }

    fn reject(&self, last: &Reload) {
        for problem in last.problems.iter().take(LOGGED_MAX) {
            tracing::error!(%problem, "the config is invalid; the one before stays in effect");
        }
        let more = last.problems.len().saturating_sub(LOGGED_MAX);
        if more > 0 {
            tracing::error!("so many more problems: {more}; alloy-gateway check has them all");
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
        let (metrics, now) = (self.shared.metrics(), Timestamp::now());
        self.expiries.look(&snapshot, now);
        self.certificates.look(&snapshot, metrics, now);
        metrics.tick();
        let containment = snapshot.containment();
        for before in self.retired.free() {
            let tenants = before.into_tenants();
            containment.keep_spent(tenants.iter().map(Tenant::contained));
            background::let_go(tenants);
        }
        containment.tidy(snapshot.tenants().len());
    }

    /// Loads what changed and then stood still. `before` is what the last look found
    /// changed; returns what this one did, and how long it took to look at all files.
    fn look(&self, before: Option<Files>) -> (Option<Files>, Duration) {
        let (now, took) = self.changed(before.as_ref());
        match now {
            Some(found) if before.as_ref() == Some(&found) => {
                self.reload_found(&found);
                (None, took)
            }
            now => (now, took),
        }
    }

    /// What the watched files hold, if it is not what was loaded, and how long it took
    /// to look at them all, without reading those that changed: in spare time that may
    /// take long, and must not delay the next look.
    fn changed(&self, before: Option<&Files>) -> (Option<Files>, Duration) {
        let (watched, loaded) = {
            let state = self.state();
            (state.watched.clone(), state.loaded.clone())
        };
        let known = before.unwrap_or(&loaded);
        let start = Instant::now();
        let are_still = known.are_still(&watched);
        let took = start.elapsed();
        let now = if are_still {
            known.clone()
        } else {
            let (files, known) = (watched.clone(), known.clone());
            let look = move || Files::look(&files, Some(&known));
            self.beside(&self.looking, &watched, look)
        };
        if now != loaded {
            return (Some(now), took);
        }
        let mut state = self.state();
        if state.loaded == now {
            // What has settled since need not be read again.
            state.loaded = now;
        }
        (None, took)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what is worth a warning in a config that takes effect, in the words of `check`.
pub fn warn(warnings: &[String]) {
    for warning in warnings.iter().take(LOGGED_MAX) {
        tracing::warn!("{warning}");
    }
    let more = warnings.len().saturating_sub(LOGGED_MAX);
    if more > 0 {
        tracing::warn!("so many more warnings: {more}; alloy-gateway check has them all");
    }
}

fn watch(reloader: &Weak<Reloader>) {
    let mut before = None;
    let mut pause = LOOK_EVERY;
    loop {
        thread::sleep(pause);
        let Some(reloader) = reloader.upgrade() else {
            return;
        };
        // A bug in one look must not be the last of all looks.
        let look = AssertUnwindSafe(|| {
            background::giving_way(|| reloader.tidy());
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

/// Frees settings that nobody else holds.
fn let_go(settings: Arc<Settings>) {
    if let Some(settings) = Arc::into_inner(settings) {
        background::let_go(settings.tenants);
    }
}
