//! Rows for people and for programs.

mod ocsf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::{
    audit::Row,
    cli::output::{outln, tame, tame_json},
};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns
    Table,
    /// One JSON object a line
    Json,
    /// One JSON object a line: API Activity of the Open Cybersecurity Schema Framework
    Ocsf,
}

/// What stands above the columns of a table.
const HEADER: [&str; 10] = [
    "TIME",
    "ENDED",
    "TENANT/TOKEN",
    "USER",
    "CREDENTIAL",
    "STATUS",
    "TRIES",
    "MS",
    "REQUEST",
    "FROM",
];
/// The columns of numbers, which stand at the right.
const NUMBERS: std::ops::Range<usize> = 5..8;
/// Rows that are looked at before columns get their width.
const LOOK_AHEAD: usize = 256;

/// Prints rows; those of a table once it is known how wide they are.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    waiting: Vec<[String; HEADER.len()]>,
    widths: Option<[usize; HEADER.len()]>,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            waiting: Vec::new(),
            widths: None,
        }
    }

    pub fn print(&mut self, row: &Row) {
        match self.format {
            Format::Table => {
                self.waiting.push(columns(row));
                if self.widths.is_some() || self.waiting.len() >= LOOK_AHEAD {
                    self.flush();
                }
            }
            // serde_json leaves what is above U+001F.
            Format::Json => outln!("{}", tame_json(&json_row(row).to_string())),
            Format::Ocsf => outln!("{}", tame_json(&ocsf::event(row).to_string())),
        }
    }

    /// Prints what waits for others to be compared with.
    pub fn flush(&mut self) {
        let rows = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return;
        }
        let widths = match self.widths {
            Some(widths) => widths,
            None => {
                let widths = fitting(&rows);
                outln!("{}", header(&widths));
                *self.widths.insert(widths)
            }
        };
        for row in &rows {
            outln!("{}", line(row, &widths));
        }
    }
}

/// A table of these rows, as a [`Printer`] prints it.
pub fn table<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let rows: Vec<_> = rows.into_iter().map(columns).collect();
    let widths = fitting(&rows);
    let lines = rows.iter().map(|row| line(row, &widths));
    let lines: Vec<_> = std::iter::once(header(&widths)).chain(lines).collect();
    lines.join("\n")
}

fn header(widths: &[usize; HEADER.len()]) -> String {
    line(&HEADER.map(ToOwned::to_owned), widths)
}

fn columns(row: &Row) -> [String; HEADER.len()] {
    let dash = || "-".to_owned();
    let who = match (&row.tenant, &row.token) {
        (Some(tenant), Some(token)) => format!("{tenant}/{token}"),
        (Some(tenant), None) => tenant.clone(),
        _ => dash(),
    };
    let number = |number: Option<u64>| number.map_or_else(dash, |number| number.to_string());
    let text = |text: &Option<String>| text.clone().unwrap_or_else(dash);
    // Of many gateways, at which of them.
    let from = match &row.gateway {
        Some(gateway) => format!("{} at {gateway}", text(&row.peer)),
        None => text(&row.peer),
    };
    let ms = |us: u64| format!("{}.{}", us / 1000, us % 1000 / 100);
    [
        row.time.clone(),
        ended(row),
        who,
        text(&row.user),
        text(&row.credential),
        number(row.status.map(u64::from)),
        number(row.attempts.map(u64::from)),
        row.latency_us.map_or_else(dash, ms),
        text(&row.request_id),
        from,
    ]
    // Whoever can write the trail is not to write to the reader's terminal.
    .map(|cell| tame(&cell))
}

/// How it ended; of refusals, what for and why; of many, how many.
fn ended(row: &Row) -> String {
    let mut text = row.ended.as_str().to_owned();
    let why = [row.code.as_deref(), row.reason.as_deref()];
    let why: Vec<_> = why.into_iter().flatten().collect();
    if !why.is_empty() {
        text += &format!(" ({})", why.join(": "));
    }
    if let Some(count) = row.count {
        text += &format!(" x{count}");
    }
    text
}

/// How wide each column has to be.
fn fitting(rows: &[[String; HEADER.len()]]) -> [usize; HEADER.len()] {
    let mut widths = HEADER.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn line(cells: &[String; HEADER.len()], widths: &[usize; HEADER.len()]) -> String {
    let cells = cells.iter().zip(widths).enumerate();
    let padded = cells.map(|(at, (cell, &width))| {
        if NUMBERS.contains(&at) {
            format!("{cell:>width$}")
        } else {
            format!("{cell:width$}")
        }
    });
    let line = padded.collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}

fn json_row(row: &Row) -> Value {
    let fields = [
        ("time", json!(row.time)),
        ("ended", json!(row.ended.as_str())),
        ("request_id", json!(row.request_id)),
        ("caller_request_id", json!(row.caller_request_id)),
        ("tenant", json!(row.tenant)),
        ("token", json!(row.token)),
        ("peer", json!(row.peer)),
        ("user", json!(row.user)),
        ("credential", json!(row.credential)),
        ("status", json!(row.status)),
        ("code", json!(row.code)),
        ("reason", json!(row.reason)),
        ("upstream_status", json!(row.upstream_status)),
        ("attempts", json!(row.attempts)),
        ("sent", json!(row.sent)),
        ("latency_us", json!(row.latency_us)),
        ("count", json!(row.count)),
        ("seq", json!(row.seq)),
        ("hash", json!(row.hash)),
        ("end_hash", json!(row.end_hash)),
        ("gateway", json!(row.gateway)),
    ];
    without_nulls(fields)
}

/// The fields that have a value, also within.
fn without_nulls<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields: Map<_, _> = fields
        .into_iter()
        .map(|(name, value)| (name, dense(value)))
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::Object(fields)
}

fn dense(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, dense(value)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::End;

    #[test]
    fn a_refusal_is_shown_with_its_code_and_reason_and_how_many_there_were() {
        let shown = |code: Option<&str>, reason: Option<&str>, count| {
            ended(&Row {
                ended: End::Refused,
                code: code.map(ToOwned::to_owned),
                reason: reason.map(ToOwned::to_owned),
                count,
                ..Row::default()
            })
        };
        let code = Some("unauthenticated");
        assert_eq!(
            shown(code, Some("expired"), None),
            "refused (unauthenticated: expired)"
        );
        assert_eq!(
            shown(code, Some("expired"), Some(3)),
            "refused (unauthenticated: expired) x3"
        );
        assert_eq!(shown(code, None, Some(3)), "refused (unauthenticated) x3");
        // A connection has a reason and no code.
        assert_eq!(
            shown(None, Some("header-timeout"), None),
            "refused (header-timeout)"
        );
        assert_eq!(shown(None, None, None), "refused");
    }
}
