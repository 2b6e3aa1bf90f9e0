//! `audit tail`.

use std::{thread, time::Duration};

use anyhow::Context;

use super::format::{Format, Printer};
use crate::{
    audit::Follower,
    cli::{Exit, output::errln},
};

/// How often a followed trail is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Arguments of `audit tail`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    trail: super::Trail,
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
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let directory = args.trail.open()?.directory;
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
