//! `audit query`.

use std::{cell::RefCell, time::SystemTime};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::{
    database,
    format::{Format, Printer},
    stop::Stop,
};
use crate::{
    audit::{self, End, Filter, OutcomeKind, Row, Summary},
    cli::{Exit, output::errln, progress::Progress},
    config::duration,
    ship::{self, Asked},
};

/// Arguments of `audit query`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    trail: super::Trail,
    #[command(flatten)]
    source: database::Source,
    /// In a database: only calls of the gateways of this name
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
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
    #[arg(long, value_parser = end())]
    outcome: Option<End>,
    /// Only the call with this id: X-Request-Id of the answer, or the caller's own
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// How rows are printed
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Prints the rows that are asked for.
pub fn run(args: &Args) -> Result<Exit, Stop> {
    let of_database = [("--gateway", args.gateway.is_some())];
    args.source.fits(&args.trail, &of_database)?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && until <= since
    {
        // Else the answer would be that there is nothing.
        return Err(Stop::Usage(format!(
            "--until lies before --since ({until}, {since}): nothing can lie between. Spans count back from now, as in --since 3h --until 2h"
        )));
    }
    let filter = Filter {
        tenant: args.tenant.clone(),
        token: args.token.clone(),
        user: args.user.clone(),
        credential: args.credential.clone(),
        request_id: args.request_id.clone(),
        ended: args.outcome,
        since: args.since,
        until: args.until,
    };
    if args.source.is_given() {
        return ask_database(args, &filter);
    }
    let trail = args.trail.open()?;
    let progress = RefCell::new(Progress::of(trail.bytes()));
    let mut printer = Printer::new(args.format);
    let found = audit::query(
        &trail.directory,
        &trail.known,
        &filter,
        |row| {
            progress.borrow_mut().clear();
            printer.print(&row);
        },
        |bytes| progress.borrow_mut().at(bytes),
    )
    .with_context(|| format!("cannot read the trail in {}", trail.directory.display()))?;
    drop(progress);
    printer.flush();
    conclude(&found, args.format);
    Ok(super::verdict(found.wrong.as_ref(), &trail.known))
}

/// The same of the collected trails. Each record is held against its own hash; whether
/// some are missing tells `audit verify`.
fn ask_database(args: &Args, filter: &Filter) -> Result<Exit, Stop> {
    let database = args.source.database(&args.trail.config)?;
    let known = args.source.known(&args.trail)?;
    let mut printer = Printer::new(args.format);
    let Asked { found, wants_key } = database::asked(async {
        let mut connected = database.connect().await?;
        let gateway = args.gateway.as_deref();
        let each = |row: Row| printer.print(&row);
        Ok(ship::ask(&mut connected.client, filter, gateway, &known, each).await?)
    })?;
    printer.flush();
    conclude(&found, args.format);
    if wants_key {
        errln!(
            "records were not verified: they were hashed with audit.mac_key, which was not given"
        );
    }
    Ok(match found.wrong {
        None => Exit::Ok,
        Some(wrong) => {
            errln!("the collected trail is not as it was written: {wrong}");
            Exit::Tampered
        }
    })
}

/// Says in words what the rows mean; beside rows for programs only what wants a person.
fn conclude(found: &Summary, format: Format) {
    if found.rows == 0 {
        errln!("nothing of that kind is in the trail");
    }
    for (end, &count) in End::ALL.into_iter().zip(&found.ended) {
        let wants_a_person = matches!(end, End::Outcome(OutcomeKind::InDoubt) | End::Open);
        if count > 0 && (format == Format::Table || wants_a_person) {
            let name = end.as_str().replace('-', " ");
            errln!("{count} {name}: {}", meaning(end));
        }
    }
}

fn meaning(end: End) -> &'static str {
    match end {
        End::Outcome(OutcomeKind::Deleted) => "it went through, and the upstream confirmed it",
        End::Outcome(OutcomeKind::NotDeleted) => "the upstream said no",
        End::Outcome(OutcomeKind::InDoubt) => {
            "the DELETE may have been carried out, and was never confirmed"
        }
        End::Outcome(OutcomeKind::Failed) => "nothing reached the upstream",
        End::Outcome(OutcomeKind::DryRun) => "nothing was to be sent",
        End::Refused => "by the gateway itself: nothing was sent",
        End::Open => "under way, or cut by a crash; the next start closes these as in doubt",
    }
}

/// An end by its name.
fn end() -> impl TypedValueParser<Value = End> {
    PossibleValuesParser::new(End::ALL.map(End::as_str)).map(|name| {
        let named = End::ALL.into_iter().find(|end| end.as_str() == name);
        named.unwrap_or_default()
    })
}

/// A time of the command line: itself, or so long before now.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
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
