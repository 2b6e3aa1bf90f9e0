//! `audit verify`.

use std::time::Duration;

use anyhow::Context;

use super::{database, stop::Stop};
use crate::{
    audit::{self, Head, Known, Report},
    cli::{
        Exit,
        output::{errln, outln, tame},
        progress::Progress,
    },
    config::{duration, show_duration},
    ship::{self, ChainReport},
};

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    trail: super::Trail,
    #[command(flatten)]
    source: database::Source,
    /// In a database: only chains of the gateways of this name
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// In a database: a gateway that has not been heard of for so long, and was not stopped, is named, and the exit code is 1, as it is if records were removed before they were collected
    #[arg(long, value_name = "SPAN", value_parser = duration)]
    silent_after: Option<Duration>,
    /// A head that was noted elsewhere, as logs, metrics and checkpoints state it
    #[arg(long, value_name = "SEQ:HASH", value_parser = Head::parse)]
    expect: Option<Head>,
}

/// Reads and checks the whole trail.
pub fn run(args: &Args) -> Result<Exit, Stop> {
    let of_database = [
        ("--gateway", args.gateway.is_some()),
        ("--silent-after", args.silent_after.is_some()),
    ];
    args.source.fits(&args.trail, &of_database)?;
    if args.source.is_given() {
        return verify_database(args);
    }
    let trail = match args.expect {
        None => args.trail.open()?,
        // Of a trail that is known to have begun, all may have been taken away.
        Some(_) => args.trail.find()?,
    };
    let mut progress = Progress::of(trail.bytes());
    let known = Known {
        head: args.expect,
        ..trail.known.clone()
    };
    let report = audit::verify(&trail.directory, &known, |bytes| progress.at(bytes))
        .with_context(|| format!("cannot read the trail in {}", trail.directory.display()))?;
    drop(progress);
    outln!("{report}");
    tell_unkeyed(&report, "");
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

/// Which records the key says nothing of, whether it was given or not.
fn tell_unkeyed(report: &Report, of: &str) {
    if let Some((first, last)) = report.unkeyed {
        errln!(
            "note: records {first} to {last}{of} carry no key: only a head noted elsewhere can vouch for them"
        );
    }
}

/// What is said of a gateway without being asked for.
const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);

/// The same of every collected chain.
fn verify_database(args: &Args) -> Result<Exit, Stop> {
    let database = args.source.database(&args.trail.config)?;
    let known = Known {
        head: args.expect,
        ..args.source.known(&args.trail)?
    };
    let mut found = Chains::default();
    database::asked(async {
        let mut connected = database.connect().await?;
        let gateway = args.gateway.as_deref();
        let each = |chain: ChainReport| found.add(&chain, args);
        Ok(ship::verify(&mut connected.client, &known, gateway, each).await?)
    })?;
    Ok(found.verdict(args))
}

/// What was found in a database.
#[derive(Debug, Default)]
struct Chains {
    chains: u64,
    tampered: u64,
    silent: u64,
    lacking: u64,
    is_expected_found: bool,
}

impl Chains {
    fn add(&mut self, chain: &ChainReport, args: &Args) {
        self.chains += 1;
        let gateway = tame(chain.gateway.as_deref().unwrap_or("(no name)"));
        outln!("{gateway} {}: {}", chain.chain, chain.report);
        tell_unkeyed(&chain.report, &format!(" of {gateway} {}", chain.chain));
        self.tampered += u64::from(!chain.report.is_intact());
        self.is_expected_found |= chain.holds_expected;
        if chain.is_fork {
            errln!(
                "note: {gateway} {}: this trail was set back or copied; what differed by then is another chain of this gateway",
                chain.chain
            );
        }
        if let Some((from, until)) = chain.missing {
            self.lacking += 1;
            errln!(
                "MISSING: {gateway} {}: records {from} to {until} of this trail are in no chain of the database: they were removed before they were collected",
                chain.chain
            );
        }
        let silent_after = args.silent_after.unwrap_or(SILENT_AFTER);
        match chain.silent_for {
            Some(silent_for) if silent_for > silent_after && !chain.has_stopped => {
                self.silent += 1;
                errln!(
                    "silent: {gateway} {} has not been heard of for {}, and was not stopped",
                    chain.chain,
                    show_duration(Duration::from_secs(silent_for.as_secs()))
                );
            }
            Some(_) => {}
            None => {
                self.silent += 1;
                errln!(
                    "silent: {gateway} {} was heard of at a time that has not been, says its seen_at: somebody changed it, and nobody can tell how long it has been silent",
                    chain.chain
                );
            }
        }
    }

    fn verdict(&self, args: &Args) -> Exit {
        if self.chains == 0 {
            errln!("there is no chain of that kind in the database");
            return Exit::Failure;
        }
        if let Some(head) = args.expect.filter(|_| !self.is_expected_found) {
            errln!("TAMPERED: no chain holds the head {head}");
            return Exit::Tampered;
        }
        match (self.tampered, self.silent + self.lacking) {
            (1.., _) => Exit::Tampered,
            (0, 1..) if args.silent_after.is_some() => Exit::Failure,
            _ => Exit::Ok,
        }
    }
}
