//! `config schema`, `config reference` and `config show`.

use std::path::PathBuf;

use super::{
    ConfigFile, Exit,
    output::{err, out},
};
use crate::config;

/// Verbs of `config`.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Print the JSON Schema of the config
    Schema,
    /// Print the reference of the config, as docs/configuration.md holds it
    Reference,
    /// Print the effective config: defaults filled in, secrets left out
    Show(ShowArgs),
}

/// Arguments of `config show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The config file; instead of --config
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Prints the schema, the reference or the effective config.
pub fn run(verb: &Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Schema => out!("{}", config::schema()),
        Verb::Reference => out!("{}", config::reference()),
        Verb::Show(args) => match config::load(args.file.as_ref().unwrap_or(&args.config.path)) {
            Ok(loaded) => out!("{}", config::show(&loaded.settings)),
            Err(problems) => {
                err!("{problems}");
                return Ok(Exit::Config);
            }
        },
    }
    Ok(Exit::Ok)
}
