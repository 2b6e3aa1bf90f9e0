//! A config, and everything that it names, read: the one list for a start, for `check`, and
//! for a config that is wrong anyway, so that all of them tell the same problems.

use std::{path::Path, sync::Arc};

use crate::{
    audit::{OpenError, Options, Trail},
    config::{
        self, Loaded,
        problem::{Problem, Problems},
        settings::Settings,
    },
    containment, limits,
    metrics::LeftOpen,
    secret::MacKey,
    ship,
    snapshot::{self, Snapshot, Tenant, otlp::Way},
};

/// Reads and validates a config file; `-` is standard input. What it names is read
/// only if the config is wrong anyway, for all problems to be told at once.
///
/// # Errors
///
/// Every problem at once, none of which shows a secret.
pub fn file(path: &Path) -> Result<Loaded, Problems> {
    config::load(path, unreadable)
}

/// What is worth a warning, in a config and in the files that it names, of which `snapshot`
/// was made; `before` are the settings that it follows while the gateway runs.
pub fn warnings(loaded: &Loaded, snapshot: &Snapshot, before: Option<&Settings>) -> Problems {
    loaded.warnings_with(doubtful(&loaded.settings, snapshot, before))
}

/// What settings name.
pub struct Ready {
    /// What requests see.
    pub snapshot: Snapshot,
    /// The key that the trail's records are hashed with.
    pub mac_key: Option<MacKey>,
    /// The way to the collector of spans.
    pub otlp: Option<Way>,
}

impl Ready {
    /// Reads everything that the settings name.
    ///
    /// # Errors
    ///
    /// Every problem at once; none of them holds anything of a secret.
    pub fn read(loaded: &Loaded) -> Result<Self, Problems> {
        let ready = read(&loaded.settings, &loaded.digest);
        ready.map_err(|problems| loaded.locate(problems))
    }

    /// Opens the trail, and takes from it what was spent of each limit and what is
    /// frozen.
    ///
    /// # Errors
    ///
    /// If it can't be opened.
    pub fn open_trail(&self, loaded: &Loaded) -> Result<Trail, OpenError> {
        let tenants = self.snapshot.tenants();
        let replicas = self
            .snapshot
            .store
            .as_ref()
            .map_or(1, |store| store.replicas());
        let mut spent = limits::Replay::new(tenants.iter().map(Tenant::limited), replicas);
        let contained = tenants.iter().map(Tenant::contained);
        let mut freezes = containment::Replay::new(self.snapshot.containment(), contained);
        let mut left_open = LeftOpen::default();
        let options = Options {
            settings: loaded.settings.audit.clone(),
            mac_key: self.mac_key.clone(),
            usage: spent.span().max(freezes.span()),
            collected: loaded.settings.audit.ship.as_ref().map(|_| Arc::default()),
        };
        let trail = Trail::open(options, &mut |heard| {
            freezes.hear(&heard);
            spent.hear(&heard);
            left_open.hear(&heard);
        })?;
        spent.finish();
        left_open.finish(tenants.iter().map(|it| (&*it.name, &it.counts)));
        // Kept until it is written, and before any call of its tenant.
        freezes.finish(|record| drop(trail.frozen(&record)));
        let lists = self.snapshot.lists.as_deref();
        trail.config_loaded(&loaded.digest, lists, tenants.len(), "start");
        Ok(trail)
    }
}

/// Reads what a start needs.
fn read(settings: &Settings, digest: &str) -> Result<Ready, Vec<Problem>> {
    let snapshot = snapshot::build(settings, digest, None);
    let mac_key = snapshot::mac_key(&settings.audit);
    let otlp = snapshot::otlp::otlp(settings.otlp.as_ref());
    let ship = ship::check(&settings.audit);
    let places = places(settings);
    match (snapshot, mac_key, otlp, &ship, &places) {
        (Ok(snapshot), Ok(mac_key), Ok(otlp), Ok(()), Ok(())) => Ok(Ready {
            snapshot: snapshot.with_lasting(),
            mac_key,
            otlp,
        }),
        (snapshot, mac_key, otlp, ..) => {
            let found = [
                snapshot.err(),
                mac_key.err(),
                otlp.err(),
                ship.err(),
                places.err(),
            ];
            Err(found.into_iter().flatten().flatten().collect())
        }
    }
}

/// Whether trail and sockets can stand where the config says.
fn places(settings: &Settings) -> Result<(), Vec<Problem>> {
    let trail = snapshot::trail_directory(&settings.audit).err();
    let mut problems = trail.unwrap_or_default();
    problems.extend(snapshot::unbindable(settings, None));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// What a start could not bind, and one with the config `before` bound already.
pub fn unbindable_after(settings: &Settings, before: &Settings) -> Vec<Problem> {
    let mut problems = snapshot::unbindable(settings, Some(before));
    problems.extend(snapshot::without_directory(settings, Some(before)));
    problems
}

/// What settings name that can be used, and is hardly meant so; `snapshot` was made of
/// them. The trail that `before` has, too, is in use, and is not looked at: its disk may
/// not answer, and must not hold up another config.
fn doubtful(settings: &Settings, snapshot: &Snapshot, before: Option<&Settings>) -> Vec<Problem> {
    let mut warnings = snapshot::loose_secrets(settings);
    warnings.extend(snapshot::wrapped_keys(settings, snapshot));
    let directory = &settings.audit.directory;
    if before.is_none_or(|before| before.audit.directory != *directory) {
        warnings.extend(snapshot::loose_trail(settings));
        warnings.extend(snapshot::unwritable_trail(settings));
    }
    warnings.extend(snapshot::invalid_certificates(settings));
    warnings.extend(snapshot::without_directory(settings, None));
    warnings.extend(snapshot::without_users(settings, snapshot));
    warnings
}

/// What settings name and can't be read; also of settings that are not right.
pub fn unreadable(settings: &Settings) -> Vec<Problem> {
    read(settings, "").err().unwrap_or_default()
}
