//! The database in which trails are collected, instead of a trail's directory.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::{
    cli::output::err,
    config::{
        self,
        settings::{SecretSource, Ship, Trust},
        snapshot,
    },
    secret::MacKey,
    ship::Database,
};

/// Which database.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Read from the database whose URL stands in this file, instead of from a directory
    #[arg(long, value_name = "FILE", conflicts_with = "collected")]
    from: Option<PathBuf>,
    /// Certificate authorities of that database (PEM), instead of the system's
    #[arg(long, value_name = "FILE", requires = "from")]
    ca: Option<PathBuf>,
    /// Read from the database of the config (`audit.ship`)
    #[arg(long)]
    collected: bool,
}

impl Source {
    /// Whether a database is asked.
    pub fn is_given(&self) -> bool {
        self.from.is_some() || self.collected
    }

    /// Finds it; nothing if the config is invalid, or what it names: that is told.
    pub fn database(&self, config: &Path) -> anyhow::Result<Option<Database>> {
        match &self.from {
            Some(file) => self.named(file).map(Some),
            None => of_config(config),
        }
    }

    /// The key of the config that tells the database, if one does and has one.
    pub fn mac_key(&self, config: &Path) -> anyhow::Result<Option<MacKey>> {
        if !self.collected {
            return Ok(None);
        }
        let loaded = config::load(config).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        snapshot::mac_key(&loaded.settings.audit)
            .map_err(|problems| anyhow::anyhow!("{}", loaded.locate(problems)))
    }

    fn named(&self, file: &Path) -> anyhow::Result<Database> {
        let text = file.to_string_lossy();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            bail!(
                "--from takes a file with the URL, not the URL: everybody on this machine can read command lines"
            );
        }
        let ship = Ship {
            gateway: None,
            url: SecretSource::File(file.to_owned()),
            trust: self.ca.clone().map_or(Trust::System, Trust::File),
            // Whoever writes sslmode=disable by hand means it.
            allow_plaintext: true,
        };
        snapshot::database(&ship)
            .map_err(|problem| anyhow::anyhow!(problem.message).context(file.display().to_string()))
    }
}

fn of_config(path: &Path) -> anyhow::Result<Option<Database>> {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            err!("the config does not tell the database:\n{problems}");
            return Ok(None);
        }
    };
    let Some(ship) = &loaded.settings.audit.ship else {
        bail!("{}: there is no audit.ship in it", path.display());
    };
    match snapshot::database(ship) {
        Ok(database) => Ok(Some(database)),
        Err(problem) => {
            err!("{}", loaded.locate(vec![problem]));
            Ok(None)
        }
    }
}
