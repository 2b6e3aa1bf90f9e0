//! `audit verify`.

use anyhow::Context;

use crate::{
    audit::{self, Head, Known},
    cli::{
        Exit,
        output::{errln, outln},
        progress::Progress,
    },
};

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    trail: super::Trail,
    /// A head that was noted elsewhere, as logs, metrics and checkpoints state it
    #[arg(long, value_name = "SEQ:HASH", value_parser = Head::parse)]
    expect: Option<Head>,
}

/// Reads and checks the whole trail.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let trail = args.trail.open()?;
    let mut progress = Progress::of(trail.bytes());
    let known = Known {
        mac_key: trail.mac_key.clone(),
        head: args.expect,
    };
    let report = audit::verify(&trail.directory, &known, |bytes| progress.at(bytes))
        .with_context(|| format!("cannot read the trail in {}", trail.directory.display()))?;
    drop(progress);
    outln!("{report}");
    if !report.is_intact() {
        return Ok(Exit::Tampered);
    }
    if report.outcomes.in_doubt > 0 {
        errln!(
            "note: calls in doubt may or may not have been carried out: `audit query --outcome in-doubt` shows them"
        );
    }
    Ok(Exit::Ok)
}
