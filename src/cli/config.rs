//! `config schema`, `config reference` and `config show`.

use super::{
    Exit, FileOrConfig,
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
    Show(FileOrConfig),
}

/// Prints the schema, the reference or the effective config.
pub fn run(verb: &Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Schema => out!("{}", config::schema()),
        Verb::Reference => out!("{}", config::reference()),
        Verb::Show(file) => match file.load() {
            Ok(loaded) => out!("{}", config::show(&loaded.settings)),
            Err(problems) => {
                err!("{problems}");
                return Ok(Exit::Config);
            }
        },
    }
    Ok(Exit::Ok)
}
