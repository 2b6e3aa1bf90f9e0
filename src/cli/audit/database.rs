//! The database in which trails are collected, instead of a trail's directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{
    cli::ConfigFile,
    config::{
        self, Loaded,
        settings::{SecretSource, Ship, Trust},
        snapshot,
    },
    secret::MacKey,
    ship::{Connected, Database},
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

    /// Connects.
    pub async fn connect(&self, config: &ConfigFile) -> anyhow::Result<Connected> {
        let database = self.database(&config.path)?;
        Ok(database.connect().await?)
    }

    /// The key of the config that tells the database, if one does and has one.
    pub fn mac_key(&self, config: &ConfigFile) -> anyhow::Result<Option<MacKey>> {
        if !self.collected {
            return Ok(None);
        }
        let loaded = load(&config.path)?;
        snapshot::mac_key(&loaded.settings.audit)
            .map_err(|problems| anyhow::anyhow!("{}", loaded.locate(problems)))
    }

    fn database(&self, config: &Path) -> anyhow::Result<Database> {
        if let Some(file) = &self.from {
            let text = file.to_string_lossy();
            if text.starts_with("postgres://") || text.starts_with("postgresql://") {
                bail!(
                    "--from takes a file with the URL, not the URL: everybody on this machine can read command lines"
                );
            }
            let ship = Ship {
                gateway: None,
                url: SecretSource::File(file.clone()),
                trust: self.ca.clone().map_or(Trust::System, Trust::File),
                // Whoever writes sslmode=disable by hand means it.
                allow_plaintext: true,
            };
            return snapshot::database(&ship).map_err(|problem| {
                anyhow::anyhow!(problem.message).context(file.display().to_string())
            });
        }
        of_config(&load(config)?).with_context(|| config.display().to_string())
    }
}

fn load(config: &Path) -> anyhow::Result<Loaded> {
    config::load(config)
        .map_err(|problems| anyhow::anyhow!("the config does not tell the database:\n{problems}"))
}

fn of_config(loaded: &Loaded) -> anyhow::Result<Database> {
    let Some(ship) = &loaded.settings.audit.ship else {
        bail!("there is no audit.ship in it");
    };
    snapshot::database(ship).map_err(|problem| anyhow::anyhow!("{}", loaded.locate(vec![problem])))
}
