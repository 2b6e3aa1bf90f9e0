//! Rows for people and for programs.

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{audit::Row, cli::output::outln};

/// The version of the Open Cybersecurity Schema Framework that is written.
const OCSF_VERSION: &str = "1.6.0";

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
            Format::Ocsf => outln!("{}", ocsf(row)),
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

/// API Activity, class 6003 of the Open Cybersecurity Schema Framework
/// (<https://schema.ocsf.io/1.6.0/classes/api_activity>).
fn ocsf(row: &Row) -> Value {
    let (class, delete) = (6003, 4);
    let (status_id, status) = match row.ended.as_str() {
        "deleted" => (1, "Success"),
        "not-deleted" | "failed" | "refused" => (2, "Failure"),
        _ => (0, "Unknown"),
    };
    // A call in doubt wants a person; a refusal of the gateway may.
    let severity = match row.ended.as_str() {
        "in-doubt" => 3,
        "refused" => 2,
        _ => 1,
    };
    let time = row.time.parse::<Timestamp>().map(Timestamp::as_millisecond);
    let address = row.peer.as_deref().unwrap_or_default();
    let endpoint = match address.parse::<std::net::SocketAddr>() {
        Ok(address) => json!({ "ip": address.ip().to_string(), "port": address.port() }),
        Err(_) => json!({ "name": address }),
    };
    without_nulls([
        ("activity_id", json!(delete)),
        ("activity_name", json!("Delete")),
        ("category_uid", json!(6)),
        ("category_name", json!("Application Activity")),
        ("class_uid", json!(class)),
        ("class_name", json!("API Activity")),
        ("type_uid", json!(class * 100 + delete)),
        ("severity_id", json!(severity)),
        ("time", json!(time.unwrap_or_default())),
        ("duration", json!(row.latency_us.map(|us| us / 1000))),
        ("status_id", json!(status_id)),
        ("status", json!(status)),
        ("status_code", json!(row.code)),
        ("status_detail", json!(row.ended)),
        ("count", json!(row.count)),
        (
            "metadata",
            without_nulls([
                ("version", json!(OCSF_VERSION)),
                ("uid", json!(row.request_id)),
                ("correlation_uid", json!(row.caller_request_id)),
                ("sequence", json!(row.seq)),
                (
                    "product",
                    json!({
                        "name": "alloy-gateway",
                        "vendor_name": "alloy-gateway",
                        "version": env!("CARGO_PKG_VERSION"),
                    }),
                ),
            ]),
        ),
        ("actor", without_nulls([("app_uid", json!(row.tenant))])),
        (
            "api",
            json!({
                "operation": "DELETE /users/{userId}/credentials/{credentialId}",
                "request": { "uid": row.request_id },
                "response": { "code": row.status },
                "token": row.token.as_ref().map(|token| json!({ "uid": token, "type_id": 7 })),
            }),
        ),
        ("src_endpoint", endpoint),
        (
            "resources",
            row.user.as_ref().map_or(Value::Null, |user| {
                json!([
                    { "type": "user", "uid": user },
                    { "type": "credential", "uid": row.credential },
                ])
            }),
        ),
        (
            "unmapped",
            without_nulls([
                ("sent", json!(row.sent)),
                ("attempts", json!(row.attempts)),
                ("upstream_status", json!(row.upstream_status)),
                ("reason", json!(row.reason)),
                ("hash", json!(row.hash)),
                ("end_hash", json!(row.end_hash)),
            ]),
        ),
    ])
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
