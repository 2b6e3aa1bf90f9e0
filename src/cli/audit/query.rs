//! `audit query`.

use std::time::SystemTime;

use anyhow::Context;
use jiff::Timestamp;

use super::format::{Format, Printer};
use crate::{
    audit::{self, Filter},
    cli::{Exit, output::errln, progress::Progress},
    config::duration,
};

/// Arguments of `audit query`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    trail: super::Trail,
    /// Only calls of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only calls about this user
    #[arg(long)]
    user: Option<String>,
    /// Only calls about this credential
    #[arg(long)]
    credential: Option<String>,
    /// Only calls with the token of this id
    #[arg(long, value_name = "ID")]
    token: Option<String>,
    /// Only what came at this time or later: 2026-11-23T18:00:00Z, or a span before now as in 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only what came before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Only what ended so
    #[arg(long, value_parser = ["deleted", "not-deleted", "in-doubt", "failed", "dry-run", "refused", "open"])]
    outcome: Option<String>,
    /// Only the call with this id: X-Request-Id of the answer, or the caller's own
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// How rows are printed
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Prints the rows that are asked for.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let trail = args.trail.open()?;
    let filter = Filter {
        tenant: args.tenant.clone(),
        token: args.token.clone(),
        user: args.user.clone(),
        credential: args.credential.clone(),
        request_id: args.request_id.clone(),
        ended: args.outcome.clone(),
        since: args.since,
        until: args.until,
    };
    let mut progress = Progress::of(trail.bytes());
    let mut printer = Printer::new(args.format);
    let found = audit::query(
        &trail.directory,
        trail.mac_key.as_ref(),
        &filter,
        |row| printer.print(&row),
        |bytes| progress.at(bytes),
    )
    .with_context(|| format!("cannot read the trail in {}", trail.directory.display()))?;
    drop(progress);
    if found.rows == 0 {
        errln!("nothing of that kind is in the trail");
    }
    if found.in_doubt > 0 {
        errln!(
            "{} in doubt: the DELETE may have been carried out, and was never confirmed",
            found.in_doubt
        );
    }
    if found.open > 0 {
        errln!(
            "{} open: under way, or cut by a crash; the next start closes these as in doubt",
            found.open
        );
    }
    if let Some(wrong) = found.wrong {
        errln!("the trail is not as it was written: {wrong}");
        return Ok(Exit::Tampered);
    }
    Ok(Exit::Ok)
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let span = duration(text).map_err(
        |_| "expected a time as in 2026-11-23T18:00:00Z, or a span before now as in 90m, 2h or 7d",
    )?;
    Timestamp::try_from(SystemTime::now())
        .ok()
        .and_then(|now| now.checked_sub(span).ok())
        .ok_or_else(|| "that is before all times".to_owned())
}
