//! `audit`: reading the trail.

mod database;
mod events;
pub(super) mod format;
mod migrate;
mod query;
mod tail;
mod verify;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{ConfigFile, Exit, output::errln};
use crate::{
    audit::{self, Known, Wrong},
    config::{self, snapshot},
    secret::MacKey,
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
    /// Show what else happened: freezes, configs, keys, starts, outages of the trail
    Events(events::Args),
    /// Make the tables of the database in which trails are collected (audit.ship)
    Migrate(migrate::Args),
}

/// Runs one of the verbs.
pub fn run(verb: &Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Verify(args) => verify::run(args),
        Verb::Query(args) => query::run(args),
        Verb::Tail(args) => tail::run(args),
        Verb::Events(args) => events::run(args),
        Verb::Migrate(args) => migrate::run(args),
    }
}

/// Which trail, and the key it is hashed with.
#[derive(Debug, clap::Args)]
struct Trail {
    /// The trail's directory; without it, that of the config
    directory: Option<PathBuf>,
    /// The file with the trail's mac_key; without it, that of the config, if one tells where the trail is
    #[arg(long, value_name = "FILE")]
    mac_key: Option<PathBuf>,
    /// The number of the first record with that key, if the trail got it later; without
    /// it, each record must have the key
    #[arg(long, value_name = "SEQ")]
    keyed_from: Option<u64>,
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
    fn open(&self) -> anyhow::Result<Opened> {
        let found = self.find()?;
        let directory = &found.directory;
        if !audit::is_begun(directory).unwrap_or(true) {
            bail!(
                "there is no trail in {}: it has no file like 0000000001.jsonl",
                directory.display()
            );
        }
        Ok(found)
    }

    /// Finds where it should be. A config is read only if no directory is named, so
    /// that an auditor needs none.
    fn find(&self) -> anyhow::Result<Opened> {
        let mut known = self.known()?;
        let directory = if let Some(directory) = &self.directory {
            directory.clone()
        } else {
            let path = &self.config.path;
            let loaded = config::load(path).map_err(|problems| {
                let problems = problems.to_string();
                anyhow::anyhow!(
                    "no directory is named, and the config does not tell one:\n{}",
                    problems.trim_end()
                )
            })?;
            if known.mac_key.is_none() {
                known.mac_key = snapshot::mac_key(&loaded.settings.audit)
                    .map_err(|problems| anyhow::anyhow!("{}", loaded.locate(problems)))?;
            }
            loaded.settings.audit.directory.clone()
        };
        let found = fs::read_dir(&directory);
        found.with_context(|| format!("cannot read the trail in {}", directory.display()))?;
        Ok(Opened { directory, known })
    }

    /// What is known of trails in a database: a config that tells it tells its key, too.
    fn known_of(&self, source: &database::Source) -> anyhow::Result<Known> {
        let mut known = self.known()?;
        if known.mac_key.is_none() {
            known.mac_key = source.mac_key(&self.config.path)?;
        }
        Ok(known)
    }

    /// What is known without a directory and its config.
    fn known(&self) -> anyhow::Result<Known> {
        Ok(Known {
            mac_key: self.mac_key.as_deref().map(read_key).transpose()?,
            keyed_from: self.keyed_from,
            head: None,
        })
    }
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

fn read_key(path: &Path) -> anyhow::Result<MacKey> {
    let raw = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    MacKey::new(&raw).with_context(|| path.display().to_string())
}
