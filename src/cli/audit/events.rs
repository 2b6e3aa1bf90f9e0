//! `audit events`.

use std::cell::RefCell;

use anyhow::Context;
use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::stop::Stop;
use crate::{
    audit::{self, event},
    cli::{
        Exit,
        output::{self, errln, outln, tame, tame_json},
        progress::Progress,
    },
};

/// Fields of every record: in columns of their own, or the chain's alone.
const COMMON: [&str; 6] = ["v", "seq", "time", "event", "prev", "hash"];

/// Arguments of `audit events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    trail: super::Trail,
    /// Only what came at this time or later: 2026-11-23T18:00:00Z, or a span before now as in 2h
    #[arg(long, value_name = "TIME", value_parser = super::query::time)]
    since: Option<Timestamp>,
    /// How they are printed
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns
    Table,
    /// The records, as they stand in the trail; on a terminal with control characters escaped
    Json,
}

/// Prints what happened beside calls.
pub fn run(args: &Args) -> Result<Exit, Stop> {
    let trail = args.trail.open()?;
    let progress = RefCell::new(Progress::of(trail.bytes()));
    let is_terminal = output::is_terminal();
    let mut count = 0;
    let wrong = audit::events(
        &trail.directory,
        &trail.known,
        args.since,
        |record| {
            progress.borrow_mut().clear();
            count += 1;
            match args.format {
                Format::Table => outln!("{}", row(record)),
                Format::Json if is_terminal => outln!("{}", tame_json(record)),
                Format::Json => outln!("{record}"),
            }
        },
        |bytes| progress.borrow_mut().at(bytes),
    )
    .with_context(|| format!("cannot read the trail in {}", trail.directory.display()))?;
    drop(progress);
    if count == 0 {
        errln!("nothing of that kind is in the trail");
    }
    Ok(super::verdict(wrong.as_ref(), &trail.known))
}

/// When, what, and each of its own fields.
fn row(record: &str) -> String {
    let fields: Map<String, Value> = serde_json::from_str(record).unwrap_or_default();
    let text = |name| fields.get(name).and_then(Value::as_str).unwrap_or("-");
    let (time, named) = (tame(text("time")), tame(text("event")));
    let width = event::ALL
        .iter()
        .filter(|&&name| name == event::COALESCED || !event::OF_CALLS.contains(&name))
        .map(|name| name.len())
        .max()
        .unwrap_or_default();
    let mut row = format!("{time}  {named:width$}");
    let own = fields
        .iter()
        .filter(|(name, _)| !COMMON.contains(&&***name));
    for (name, value) in own {
        row.push_str(&format!("  {}={}", tame(name), word(value)));
    }
    row
}

/// A value, in quotes where its end could not be seen.
fn word(value: &Value) -> String {
    let is_plain = |text: &str| {
        let is_plain = |b: u8| b.is_ascii_graphic() && b != b'"';
        !text.is_empty() && text.bytes().all(is_plain)
    };
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => format!("{text:?}"),
        other => tame(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever can write the trail is not to write to the terminal of who reads it.
    #[test]
    fn nothing_of_a_record_is_acted_on_by_a_terminal() {
        let record = r#"{"event":"x\u001b[2J","t\u009b1A":"\u007f","list":["\u009b"]}"#;
        assert_eq!(
            row(record),
            r#"-  x\u{1b}[2J          t\u{9b}1A="\u{7f}"  list=["\u{9b}"]"#
        );
    }

    #[test]
    fn a_row_has_the_fields_of_its_event_and_nothing_of_the_chain() {
        let record = r#"{"v":1,"seq":7,"time":"2026-11-29T12:00:00.000000Z","event":"tenant.frozen","scope":"all","by":"uid:0","reason":"a \"stolen\" token\u0007","count":3,"prev":"00","hash":"11"}"#;
        assert_eq!(
            row(record),
            r#"2026-11-29T12:00:00.000000Z  tenant.frozen       scope=all  by=uid:0  reason="a \"stolen\" token\u{7}"  count=3"#
        );
    }
}
