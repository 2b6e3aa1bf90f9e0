//! `audit tail`.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::Context;

use super::{
    format::{Format, Printer},
    named::IsNamed,
    stop::Stop,
};
use crate::{
    audit::Follower,
    cli::{ConfigFile, Exit, output::errln},
};

/// How often a followed trail is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Arguments of `audit tail`, which verifies nothing and takes no key.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The trail's directory; without it, that of the config
    directory: Option<PathBuf>,
    #[command(flatten)]
    is_config_named: IsNamed,
    #[command(flatten)]
    config: ConfigFile,
    /// How many rows to begin with
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    rows: u32,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How rows are printed
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Prints the last rows, and those that come.
pub fn run(args: &Args) -> Result<Exit, Stop> {
    let directory = directory(args)?;
    let unreadable = || format!("cannot read the trail in {}", directory.display());
    let rows = usize::try_from(args.rows).unwrap_or(usize::MAX);
    let (mut follower, last) = Follower::begin(&directory, rows).with_context(unreadable)?;
    let mut printer = Printer::new(args.format);
    for row in &last {
        printer.print(row);
    }
    printer.flush();
    if args.follow {
        loop {
            thread::sleep(EVERY);
            follower
                .read(|row| printer.print(&row))
                .with_context(unreadable)?;
            printer.flush();
        }
    }
    let open = follower.open().count();
    if open > 0 {
        errln!("{open} open: under way, or cut by a crash");
    }
    Ok(Exit::Ok)
}

fn directory(args: &Args) -> Result<PathBuf, Stop> {
    let directory = match &args.directory {
        Some(_) if args.is_config_named.0 => {
            return Err(Stop::Usage(
                "DIRECTORY and -c both tell which trail: name one of them".to_owned(),
            ));
        }
        Some(directory) => directory.clone(),
        None => {
            let loaded = super::that_tells_the_directory(&args.config)?;
            loaded.settings.audit.directory.clone()
        }
    };
    super::readable(&directory)?;
    super::begun(&directory)?;
    Ok(directory)
}
