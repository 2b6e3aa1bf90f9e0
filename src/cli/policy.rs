//! `policy`: what the config says of a call.

mod explain;

use clap::ValueEnum;

use super::{
    ConfigFile, Exit,
    output::{err, outln},
};

/// Verbs of `policy`.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Say what would happen to a call and why: nothing is asked but the config
    Explain(Args),
}

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The id of the caller's token, as in the config; never the token itself
    #[arg(long, value_name = "ID")]
    token_id: String,
    /// The tenant, where several have a token of this id
    #[arg(long)]
    tenant: Option<String>,
    /// The user of the call
    #[arg(long)]
    user: String,
    /// The credential of the call
    #[arg(long)]
    credential: Option<String>,
    /// How it is printed
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Runs a verb of `policy`.
pub fn run(verb: &Verb) -> anyhow::Result<Exit> {
    let Verb::Explain(args) = verb;
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            err!("{problems}");
            return Ok(Exit::Config);
        }
    };
    let explained = explain::explain(&loaded.settings, args)?;
    match args.format {
        Format::Text => outln!("{}", explained.text()),
        Format::Json => outln!("{:#}", explained.json()),
    }
    Ok(Exit::Ok)
}
