//! Rows as the Open Cybersecurity Schema Framework has them, for those who collect
//! such events.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::without_nulls;
use crate::{
    audit::{
        End,
        OutcomeKind::{Deleted, DryRun, Failed, InDoubt, NotDeleted},
        Row,
    },
    pipeline::contract::OPERATION,
};

/// The version of the schema: the first whose `api` knows a token.
const VERSION: &str = "1.8.0";
/// API Activity.
const CLASS: u32 = 6003;
/// Delete.
const ACTIVITY: u32 = 4;

/// API Activity, class 6003 (<https://schema.ocsf.io/1.8.0/classes/api_activity>).
pub fn event(row: &Row) -> Value {
    let (status_id, status) = match row.ended {
        End::Outcome(Deleted) => (1, "Success"),
        End::Outcome(NotDeleted | Failed) | End::Refused => (2, "Failure"),
        End::Outcome(InDoubt | DryRun) | End::Open => (0, "Unknown"),
    };
    // A call in doubt wants a person; a refusal of the gateway may.
    let (severity_id, severity) = match row.ended {
        End::Outcome(InDoubt) => (3, "Medium"),
        End::Refused => (2, "Low"),
        End::Outcome(Deleted | NotDeleted | Failed | DryRun) | End::Open => (1, "Informational"),
    };
    let time = row.time.parse::<Timestamp>().map(Timestamp::as_millisecond);
    without_nulls([
        ("activity_id", json!(ACTIVITY)),
        ("activity_name", json!("Delete")),
        ("category_uid", json!(6)),
        ("category_name", json!("Application Activity")),
        ("class_uid", json!(CLASS)),
        ("class_name", json!("API Activity")),
        ("type_uid", json!(CLASS * 100 + ACTIVITY)),
        ("severity_id", json!(severity_id)),
        ("severity", json!(severity)),
        ("time", json!(time.unwrap_or_default())),
        ("duration", json!(milliseconds(row))),
        ("status_id", json!(status_id)),
        ("status", json!(status)),
        ("status_code", json!(row.code)),
        ("status_detail", json!(row.ended.as_str())),
        ("count", json!(row.count)),
        ("metadata", metadata(row)),
        ("actor", actor(row)),
        ("api", api(row)),
        ("src_endpoint", source(row)),
        ("dst_endpoint", json!({ "svc_name": "alloy-gateway" })),
        ("http_request", request(row)),
        ("http_response", response(row)),
        ("resources", resources(row)),
        ("unmapped", unmapped(row)),
    ])
}

fn metadata(row: &Row) -> Value {
    let product = json!({
        "name": "alloy-gateway",
        "vendor_name": "alloy-gateway",
        "version": env!("CARGO_PKG_VERSION"),
    });
    without_nulls([
        ("version", json!(VERSION)),
        ("uid", json!(row.request_id)),
        ("correlation_uid", json!(row.caller_request_id)),
        ("sequence", json!(row.seq)),
        ("product", product),
    ])
}

/// Somebody has to be named, also if nobody knows who it was.
fn actor(row: &Row) -> Value {
    match &row.tenant {
        Some(tenant) => json!({ "app_uid": tenant }),
        None => json!({ "app_name": "unknown" }),
    }
}

fn api(row: &Row) -> Value {
    let token = row.token.as_ref();
    without_nulls([
        ("operation", json!(OPERATION)),
        (
            "request",
            json!(row.request_id.as_ref().map(|id| json!({ "uid": id }))),
        ),
        (
            "response",
            json!(row.status.map(|code| json!({ "code": code }))),
        ),
        (
            "token",
            json!(token.map(|id| json!({ "uid": id, "type": "API Token", "type_id": 7 }))),
        ),
    ])
}

fn source(row: &Row) -> Value {
    let peer = row.peer.as_deref().unwrap_or("unknown");
    if let Ok(address) = peer.parse::<SocketAddr>() {
        return json!({ "ip": address.ip().to_string(), "port": address.port() });
    }
    // Of refusals that were counted together, the port is not known.
    match peer.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(ip) => json!({ "ip": ip.to_string() }),
        Err(_) => json!({ "name": peer }),
    }
}

fn request(row: &Row) -> Value {
    let (Some(user), Some(credential)) = (&row.user, &row.credential) else {
        return Value::Null;
    };
    without_nulls([
        ("uid", json!(row.request_id)),
        ("http_method", json!("DELETE")),
        (
            "url",
            json!({ "path": format!("/users/{user}/credentials/{credential}") }),
        ),
    ])
}

fn response(row: &Row) -> Value {
    row.status.map_or(Value::Null, |code| {
        without_nulls([("code", json!(code)), ("latency", json!(milliseconds(row)))])
    })
}

fn resources(row: &Row) -> Value {
    let (Some(user), Some(credential)) = (&row.user, &row.credential) else {
        return Value::Null;
    };
    json!([
        { "type": "user", "uid": user },
        { "type": "credential", "uid": credential },
    ])
}

fn unmapped(row: &Row) -> Value {
    without_nulls([
        ("sent", json!(row.sent)),
        ("attempts", json!(row.attempts)),
        ("upstream_status", json!(row.upstream_status)),
        ("reason", json!(row.reason)),
        ("hash", json!(row.hash)),
        ("end_hash", json!(row.end_hash)),
        ("gateway", json!(row.gateway)),
    ])
}

fn milliseconds(row: &Row) -> Option<u64> {
    row.latency_us.map(|us| us / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attributes of the schema itself, with their types.
    const SCHEMA: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/ocsf-api-activity-1.8.0.json"
    ));

    fn rows() -> Vec<Row> {
        let text = |text: &str| Some(text.to_owned());
        let whole = Row {
            time: "2026-11-23T18:22:53.123456Z".to_owned(),
            ended: End::Outcome(Deleted),
            request_id: text("0199"),
            caller_request_id: text("abc"),
            tenant: text("billing"),
            token: text("2026-11"),
            peer: text("127.0.0.1:51512"),
            user: text("u1"),
            credential: text("c1"),
            status: Some(200),
            code: text("rate-limited"),
            reason: text("tenant-1s"),
            upstream_status: Some(200),
            attempts: Some(1),
            sent: text("yes"),
            latency_us: Some(81_234),
            count: Some(3),
            seq: 7,
            hash: "h".to_owned(),
            end_hash: text("e"),
            gateway: text("billing-1"),
        };
        let bare = Row {
            time: whole.time.clone(),
            ended: End::Refused,
            ..Row::default()
        };
        let of = |peer: &str, ended: End| Row {
            peer: text(peer),
            ended,
            ..whole.clone()
        };
        vec![
            of("unix:uid=1000", End::Outcome(InDoubt)),
            of("[::1]:80", End::Outcome(NotDeleted)),
            of("[::1]", End::Outcome(Failed)),
            of("127.0.0.1", End::Open),
            of("other", End::Refused),
            whole,
            bare,
        ]
    }

    fn assert_fits(schema: &Value, kind: &str, value: &Value, place: &str) {
        let object = &schema["objects"][kind];
        let known = object["attributes"].as_object().unwrap();
        let fields = value.as_object().unwrap();
        for (name, attribute) in known {
            let is_required = attribute["required"] == true;
            assert!(
                !is_required || fields.contains_key(name),
                "{place}.{name} is missing"
            );
        }
        if let Some(names) = object["at_least_one"].as_array() {
            let has_one = names
                .iter()
                .any(|name| fields.contains_key(name.as_str().unwrap()));
            assert!(has_one, "{place} has none of {names:?}");
        }
        for (name, value) in fields {
            let place = format!("{place}.{name}");
            let attribute = known
                .get(name)
                .unwrap_or_else(|| panic!("{place} is not in the schema"));
            if attribute["array"] == true {
                for value in value.as_array().unwrap() {
                    assert_value(schema, attribute, value, &place);
                }
            } else {
                assert_value(schema, attribute, value, &place);
            }
        }
    }

    fn assert_value(schema: &Value, attribute: &Value, value: &Value, place: &str) {
        match attribute["type"].as_str().unwrap() {
            "string_t" => assert!(
                value.as_str().is_some_and(|text| !text.is_empty()),
                "{place}"
            ),
            "integer_t" | "long_t" => {
                assert!(value.is_i64() || value.is_u64(), "{place}");
                let allowed = attribute["enum"].as_array();
                assert!(
                    allowed.is_none_or(|allowed| allowed.contains(value)),
                    "{place}: {value}"
                );
            }
            "object" => assert!(value.is_object(), "{place}"),
            kind => assert_fits(schema, kind, value, place),
        }
    }

    #[test]
    fn each_kind_of_row_is_an_event_of_the_schema() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        for row in rows() {
            let event = event(&row);
            assert_fits(&schema, "api_activity", &event, row.ended.as_str());
            assert_eq!(
                (&event["class_uid"], &event["type_uid"]),
                (&6003.into(), &600_304.into())
            );
            assert_eq!(event["time"], 1_795_458_173_123_i64);
        }
    }

    #[test]
    fn only_a_confirmed_deletion_is_a_success() {
        for (ended, status) in [
            (End::Outcome(Deleted), 1),
            (End::Outcome(NotDeleted), 2),
            (End::Outcome(Failed), 2),
            (End::Refused, 2),
            (End::Outcome(InDoubt), 0),
            (End::Open, 0),
            (End::Outcome(DryRun), 0),
        ] {
            let row = Row {
                ended,
                ..Row::default()
            };
            assert_eq!(event(&row)["status_id"], status, "{ended:?}");
        }
    }
}
