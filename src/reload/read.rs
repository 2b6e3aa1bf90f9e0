//! Reading another config from the disk, which changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{
    files::Files,
    next_start::{AtStart, InUse, NextStart},
};
use crate::{
    config::{
        self, Loaded,
        problem::{Problem, Problems},
        settings::Settings,
    },
    load, named_file,
    snapshot::{self, Built, Snapshot},
};

/// What a config is read against.
pub struct Basis {
    pub path: PathBuf,
    pub settings: Arc<Settings>,
    pub snapshot: Arc<Snapshot>,
    /// The warnings of a text that can't be read a second time.
    pub piped_warnings: Arc<[String]>,
    /// What the start read.
    pub at_start: AtStart,
    /// What its files held when it was read last.
    pub known: Files,
}

/// What was on the disk.
pub struct Read {
    pub at: SystemTime,
    /// Its files, and what they held at the latest when they were read.
    pub found: Files,
    /// The settings, if they are valid by themselves.
    pub named: Option<Arc<Settings>>,
    pub valid: Result<Valid, Problems>,
    /// What could not be read of a config that is refused, whether its changes are
    /// watched or not: a revocation waits for it.
    pub missed: Vec<PathBuf>,
}

/// A config that may take effect.
pub struct Valid {
    pub settings: Arc<Settings>,
    pub built: Built,
    pub next_start: NextStart,
    /// What is worth a warning, as lines for people.
    pub warnings: Vec<String>,
}

impl Basis {
    /// Reads it, and waits for nobody who may write into a pipe.
    pub fn read(&self) -> Read {
        let (read, missed) = named_file::while_running(|| self.read_whatever_is_there());
        if read.valid.is_ok() {
            // What it misses is for the next start, and worth a warning.
            return read;
        }
        Read { missed, ..read }
    }

    fn read_whatever_is_there(&self) -> Read {
        let at = SystemTime::now();
        let files = |named| watched(&self.path, std::iter::once(&*self.settings).chain(named));
        // Before it is read: what changes meanwhile is seen by the next look.
        let found = Files::look(&files(None), Some(&self.known));
        let loaded = self.load();
        let named = loaded.as_ref().ok();
        let named = named.map(|loaded| Arc::clone(&loaded.settings));
        let found = match &named {
            Some(named) => found.extended(&files(Some(named))),
            None => found,
        };
        Read {
            at,
            found,
            named,
            valid: loaded.and_then(|loaded| self.valid(loaded)),
            missed: Vec::new(),
        }
    }

    fn load(&self) -> Result<Loaded, Problems> {
        if config::is_stdin(&self.path) {
            let settings = Arc::clone(&self.settings);
            return Ok(Loaded::read_once(settings, &self.snapshot.digest));
        }
        load::file(&self.path)
    }

    fn valid(&self, mut loaded: Loaded) -> Result<Valid, Problems> {
        let built = self
            .build(&loaded)
            .map_err(|problems| loaded.locate(problems))?;
        let in_use = InUse {
            snapshot: &self.snapshot,
            at_start: &self.at_start,
        };
        let next_start = NextStart::look(&loaded.settings, in_use, &mut loaded.warnings);
        let found = load::warnings(&loaded, built.snapshot(), Some(&self.settings));
        Ok(Valid {
            settings: loaded.settings,
            built,
            next_start,
            warnings: [&*self.piped_warnings, &found.lines()].concat(),
        })
    }

    /// Also what the next start could not bind is told now, while somebody looks.
    fn build(&self, loaded: &Loaded) -> Result<Built, Vec<Problem>> {
        let built = snapshot::build(&loaded.settings, &loaded.digest, Some(&self.snapshot));
        let of_next = load::unbindable_after(&loaded.settings, &self.settings);
        match built {
            Ok(built) if of_next.is_empty() => Ok(built),
            built => {
                let mut problems = built.err().unwrap_or_default();
                problems.extend(of_next);
                Err(problems)
            }
        }
    }
}

/// The config, if it is a file, and every file that these settings name.
pub fn watched<'a>(path: &Path, named: impl IntoIterator<Item = &'a Settings>) -> Vec<PathBuf> {
    let named = named.into_iter().flat_map(snapshot::named_files);
    let config = (!config::is_stdin(path)).then(|| path.to_owned());
    let mut files: Vec<_> = config.into_iter().chain(named).collect();
    files.sort();
    files.dedup();
    files
}

/// How long these files are together, in bytes.
pub fn lengths(files: &[PathBuf]) -> u64 {
    let found = files.iter().filter_map(|file| fs::metadata(file).ok());
    found.map(|found| found.len()).sum()
}
