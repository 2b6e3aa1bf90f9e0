//! Rows for people and for programs.

mod ocsf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::{audit::Row, cli::output::outln};

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

/// Prints rows as they come.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    has_header: bool,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            has_header: false,
        }
    }

    pub fn print(&mut self, row: &Row) {
        match self.format {
            Format::Table => self.columns(row),
            Format::Json => outln!("{}", json_row(row)),
            Format::Ocsf => outln!("{}", ocsf::event(row)),
        }
    }

    fn columns(&mut self, row: &Row) {
        if !self.has_header {
            self.has_header = true;
            line([
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
            ]);
        }
        let dash = || "-".to_owned();
        let who = match (&row.tenant, &row.token) {
            (Some(tenant), Some(token)) => format!("{tenant}/{token}"),
            (Some(tenant), None) => tenant.clone(),
            _ => dash(),
        };
        // Of refusals, what for; of many, how many.
        let ended = match (&row.code, row.count) {
            (Some(code), Some(count)) => format!("{} ({code}) x{count}", row.ended),
            (Some(code), None) => format!("{} ({code})", row.ended),
            (None, _) => row.ended.clone(),
        };
        let number = |number: Option<u64>| number.map_or_else(dash, |number| number.to_string());
        line([
            row.time.as_str(),
            &ended,
            &who,
            row.user.as_deref().unwrap_or("-"),
            row.credential.as_deref().unwrap_or("-"),
            &number(row.status.map(u64::from)),
            &number(row.attempts.map(u64::from)),
            &row.latency_us
                .map_or_else(dash, |us| format!("{}.{}", us / 1000, us % 1000 / 100)),
            row.request_id.as_deref().unwrap_or("-"),
            row.peer.as_deref().unwrap_or("-"),
        ]);
    }
}

fn line(
    [
        time,
        ended,
        who,
        user,
        credential,
        status,
        tries,
        ms,
        request,
        from,
    ]: [&str; 10],
) {
    outln!(
        "{time:27}  {ended:11}  {who:18}  {user:24}  {credential:24}  {status:>6}  {tries:>5}  {ms:>8}  {request:36}  {from}"
    );
}

fn json_row(row: &Row) -> Value {
    let fields = [
        ("time", json!(row.time)),
        ("ended", json!(row.ended)),
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
