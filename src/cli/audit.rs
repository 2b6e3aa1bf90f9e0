//! `audit`: reading the trail.

mod database;
mod events;
pub(super) mod format;
mod migrate;
mod named;
mod query;
mod stop;
mod tail;
mod verify;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Subcommand;

use self::{named::IsNamed, stop::Stop};
use super::{ConfigFile, Exit, output::errln};
use crate::{
    audit::{self, Known, Wrong},
    config::Loaded,
    load,
    secret::MacKey,
    snapshot,
};

/// What is to be done with the trail.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check that every record is as it was written
    ///
    /// A bare chain shows every edit. It cannot show that records were cut off its
    /// end, nor that somebody who can write the directory wrote it all anew:
    /// for that, give a head that was noted elsewhere (--expect), or set audit.mac_key.
    Verify(verify::Args),
    /// Show calls and how they ended: who deleted this credential?
    Query(query::Args),
    /// Show the last calls, and follow
    Tail(tail::Args),
    /// Show what else happened: freezes, configs, keys, starts, outages of the trail, guesses
    /// at the admin token
    Events(events::Args),
    /// Make the tables of the database in which trails are collected (audit.ship)
    Migrate(migrate::Args),
}

/// Runs one of the verbs.
pub fn run(verb: &Verb) -> anyhow::Result<Exit> {
    let ended = match verb {
        Verb::Verify(args) => verify::run(args),
        Verb::Query(args) => query::run(args),
        Verb::Tail(args) => tail::run(args),
        Verb::Events(args) => events::run(args),
        Verb::Migrate(args) => migrate::run(args),
    };
    ended.or_else(Stop::told)
}

/// Which trail, and the key it is hashed with.
#[derive(Debug, clap::Args)]
struct Trail {
    /// The trail's directory; without it, that of the config
    directory: Option<PathBuf>,
    /// The file with the trail's mac_key; without it, that of the config, if one tells
    /// where the trail is or is named with -c
    #[arg(long, value_name = "FILE")]
    mac_key: Option<PathBuf>,
    /// The number of the first record with that key, if the trail got it later; without
    /// it, each record must have the key
    #[arg(long, value_name = "SEQ")]
    keyed_from: Option<u64>,
    #[command(flatten)]
    is_config_named: IsNamed,
    #[command(flatten)]
    config: ConfigFile,
}

/// A trail that was found.
struct Opened {
    directory: PathBuf,
    known: Known,
}

impl Trail {
    /// Finds one that has begun.
    fn open(&self) -> Result<Opened, Stop> {
        let found = self.find()?;
        begun(&found.directory)?;
        Ok(found)
    }

    /// Finds where it should be. Beside a directory a config counts only if the command
    /// line names it: an auditor with a copy of the trail needs none, and what happens to
    /// lie on their machine must not decide what is intact.
    fn find(&self) -> Result<Opened, Stop> {
        let (directory, known) = match &self.directory {
            Some(directory) => {
                let known = self.known()?;
                if known.mac_key.is_none() && !self.is_config_named.0 {
                    self.tell_unused_key();
                }
                (directory.clone(), known)
            }
            None => {
                let loaded = that_tells_the_directory(&self.config)?;
                let known = self.known_with(Some(&loaded))?;
                (loaded.settings.audit.directory.clone(), known)
            }
        };
        readable(&directory)?;
        let known = useful(known)?;
        Ok(Opened { directory, known })
    }

    /// What is known where the config does not tell which trail it is: its key is that of
    /// a config that the command line names.
    fn known(&self) -> Result<Known, Stop> {
        let named = self.is_config_named.0;
        let loaded = named.then(|| self.config.load());
        let loaded = loaded.transpose().map_err(Stop::of)?;
        self.known_with(loaded.as_ref())
    }

    /// The same, with the config to look into if no key is given.
    fn known_with(&self, loaded: Option<&Loaded>) -> Result<Known, Stop> {
        let mac_key = match (&self.mac_key, loaded) {
            (Some(file), _) => Some(read_key(file)?),
            (None, Some(loaded)) => snapshot::mac_key(&loaded.settings.audit)
                .map_err(|problems| Stop::of(loaded.locate(problems)))?,
            (None, None) => None,
        };
        Ok(Known {
            mac_key,
            keyed_from: self.keyed_from,
            head: None,
        })
    }

    /// Says so where the config that would be read without a directory names a key. If it
    /// can't be read, nobody counted on it.
    fn tell_unused_key(&self) {
        let path = &self.config.path;
        if load::file(path).is_ok_and(|loaded| loaded.settings.audit.mac_key.is_some()) {
            errln!(
                "note: the trail's key that {} names was not used: beside a directory name that config with -c, or the key with --mac-key",
                path.display()
            );
        }
    }
}

const KEYED_FROM_NEEDS: &str = "--keyed-from needs --mac-key, or a config with audit.mac_key";

/// Where on a trail has its key says nothing without the key.
fn useful(known: Known) -> Result<Known, Stop> {
    if known.keyed_from.is_some() && known.mac_key.is_none() {
        return Err(Stop::Usage(KEYED_FROM_NEEDS.to_owned()));
    }
    Ok(known)
}

/// The config where no directory is named.
fn that_tells_the_directory(file: &ConfigFile) -> Result<Loaded, Stop> {
    file.load().map_err(|problems| {
        Stop::of(format_args!(
            "no directory is named, and the config does not tell one:\n{problems}"
        ))
    })
}

fn readable(directory: &Path) -> Result<(), Stop> {
    let Err(error) = fs::read_dir(directory) else {
        return Ok(());
    };
    // Its password must not be repeated.
    if error.kind() == io::ErrorKind::NotFound && directory.to_string_lossy().contains("://") {
        return Err(Stop::Usage(
            "DIRECTORY is one of this machine: a database is named with --from, a file that holds its URL".to_owned(),
        ));
    }
    let place = directory.display();
    Err(anyhow!(error)
        .context(format!("cannot read the trail in {place}"))
        .into())
}

fn begun(directory: &Path) -> anyhow::Result<()> {
    if audit::is_begun(directory).unwrap_or(true) {
        return Ok(());
    }
    Err(anyhow!(
        "there is no trail in {}: it has no file like 0000000001.jsonl",
        directory.display()
    ))
}

/// What the first bad record of what was read means, told; nothing if there is none. Who
/// gave no key did not ask for what only the key can show.
fn verdict(wrong: Option<&Wrong>, known: &Known) -> Exit {
    match wrong {
        None => Exit::Ok,
        Some(wrong) if known.mac_key.is_none() && wrong.is_want_of_key() => {
            errln!("the records were not verified: {wrong}");
            Exit::Ok
        }
        Some(wrong) => {
            errln!("the trail is not as it was written: {wrong}");
            Exit::Tampered
        }
    }
}

impl Opened {
    /// How many bytes the trail has.
    fn bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let metadata = entries.filter_map(|entry| entry.ok()?.metadata().ok());
        metadata.map(|metadata| metadata.len()).sum()
    }
}

fn read_key(path: &Path) -> Result<MacKey, Stop> {
    let raw = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_key(path) => {
            return Err(Stop::Usage(
                "--mac-key takes a file with the key, not the key: everybody on this machine can read command lines".to_owned(),
            ));
        }
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let key = MacKey::new(&raw).with_context(|| path.display().to_string())?;
    Ok(key)
}

/// Whether what should name a file is as long and plain as a key itself, and must not be
/// repeated.
fn is_key(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.len() >= 32 && !text.contains(['/', '.'])
}
