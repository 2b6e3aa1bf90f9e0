//! The database in which trails are collected, instead of a trail's directory.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::{KEYED_FROM_NEEDS, Trail, stop::Stop, useful};
use crate::{
    audit::Known,
    cli::{ConfigFile, process::block_on},
    config::settings::{SecretSource, Ship, Trust},
    ship::{self, Database, Failure},
};

const MAY_NOT_READ: &str =
    "this role may not read what was collected: name an auditor's URL with --from";

/// Which database.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Read from the database whose URL stands in this file, instead of from a directory
    #[arg(long, value_name = "FILE", conflicts_with = "collected")]
    from: Option<PathBuf>,
    /// Certificate authorities of that database (PEM), instead of the system's
    #[arg(long, value_name = "FILE", requires = "from")]
    ca: Option<PathBuf>,
    /// Read from the database of the config (`audit.ship`), as the role that its URL names: a gateway's may write alone, as docs/fleet.md sets it up, and an auditor has --from
    #[arg(long)]
    collected: bool,
}

impl Source {
    /// Nothing that is asked for is left out in silence.
    ///
    /// # Errors
    ///
    /// If what is asked for is of a database and none is, or of both kinds of trails.
    pub fn fits(&self, trail: &Trail, of_database: &[(&str, bool)]) -> Result<(), Stop> {
        if !self.is_given() {
            let given = of_database.iter().filter(|(_, is_given)| *is_given);
            let names: Vec<_> = given.map(|(name, _)| *name).collect();
            let are = match names.len() {
                0 => return Ok(()),
                1 => "is",
                _ => "are",
            };
            let names = names.join(" and ");
            return Err(Stop::Usage(format!(
                "{names} {are} of a database: add --from or --collected"
            )));
        }
        if trail.directory.is_some() {
            return Err(Stop::Usage(
                "DIRECTORY is a trail on disk: leave it out, or --from and --collected".to_owned(),
            ));
        }
        let may_have_key = trail.mac_key.is_some() || trail.is_config_named.0 || self.collected;
        if trail.keyed_from.is_some() && !may_have_key {
            return Err(Stop::Usage(KEYED_FROM_NEEDS.to_owned()));
        }
        Ok(())
    }

    /// Whether a database is asked.
    pub fn is_given(&self) -> bool {
        self.from.is_some() || self.collected
    }

    /// Finds it.
    pub fn database(&self, config: &ConfigFile) -> Result<Database, Stop> {
        match &self.from {
            Some(file) => self.named(file),
            None => of_config(config),
        }
    }

    /// What is known of its trails: a config that tells it tells its key, too.
    pub fn known(&self, trail: &Trail) -> Result<Known, Stop> {
        useful(if self.collected {
            let loaded = trail.config.load().map_err(Stop::of)?;
            trail.known_with(Some(&loaded))?
        } else {
            trail.known()?
        })
    }

    fn named(&self, file: &Path) -> Result<Database, Stop> {
        let text = file.to_string_lossy();
        if text.contains("://") || text.contains("password=") {
            return Err(Stop::Usage(
                "--from takes a file with the URL, not the URL: everybody on this machine can read command lines".to_owned(),
            ));
        }
        let ship = Ship {
            gateway: None,
            url: SecretSource::File(file.to_owned()),
            trust: self.ca.clone().map_or(Trust::System, Trust::File),
            // Whoever writes sslmode=disable by hand means it.
            allow_plaintext: true,
        };
        let found = ship::database(&ship);
        found.map_err(|problem| {
            Stop::Failure(anyhow!(problem.message).context(file.display().to_string()))
        })
    }
}

/// What a database answers that is asked for its trails. Of a role that may not read them
/// it is said which one may.
///
/// # Errors
///
/// If it does not answer, or refuses.
pub fn asked<T>(answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    block_on(answer).map_err(|error| {
        let failure = error.downcast_ref::<Failure>();
        match failure.is_some_and(Failure::is_of_rights) {
            true => error.context(MAY_NOT_READ),
            false => error,
        }
    })
}

fn of_config(file: &ConfigFile) -> Result<Database, Stop> {
    let loaded = file.load().map_err(|problems| {
        Stop::of(format_args!(
            "the config does not tell the database:\n{problems}"
        ))
    })?;
    let Some(ship) = &loaded.settings.audit.ship else {
        return Err(anyhow!("{}: there is no audit.ship in it", file.path.display()).into());
    };
    ship::database(ship).map_err(|problem| Stop::of(loaded.locate(vec![problem])))
}
