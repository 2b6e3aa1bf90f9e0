//! `audit migrate`.

use clap::ArgGroup;

use super::{database::Source, stop::Stop};
use crate::{
    cli::{
        ConfigFile, Exit,
        output::{out, outln},
        process::block_on,
    },
    ship::{self, Migrated, SCHEMA_VERSION},
};

/// Arguments of `audit migrate`.
#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("database").required(true).args(["from", "collected", "print"])),
    mut_arg("from", |from| from.help("Make the tables of the database whose URL stands in this file")),
    mut_arg("collected", |collected| collected.help("Make the tables of the database of the config (`audit.ship`)"))
)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    config: ConfigFile,
    /// Print the SQL that makes all tables, and change nothing
    #[arg(long)]
    print: bool,
}

/// Makes the tables of the database, or brings them up to date.
pub fn run(args: &Args) -> Result<Exit, Stop> {
    if args.print {
        out!("{}", ship::schema_sql());
        return Ok(Exit::Ok);
    }
    let database = args.source.database(&args.config)?.for_writing();
    let Migrated { from, to } = block_on(async {
        let mut connected = database.connect().await?;
        Ok(ship::migrate(&mut connected.client).await?)
    })?;
    if from == to {
        outln!("the tables are of version {SCHEMA_VERSION} already");
    } else {
        outln!("the tables were of version {from}, and are of version {to} now");
    }
    Ok(Exit::Ok)
}
