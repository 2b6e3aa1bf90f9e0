//! Each refusal, and what a caller gets for it.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use http::{Request, Response, Version};
use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::code::AuthFailure;

/// The one value of a field.
pub fn field<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

/// The body.
pub async fn json(response: Response<Body>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// A refusal, its status, code, `sent` and `Retry-After`, and whether HTTP/1 closes.
type Row = (
    Refusal,
    u16,
    &'static str,
    &'static str,
    Option<&'static str>,
    bool,
);

const SECOND: Duration = Duration::from_millis(1200);

fn limited(by: LimitedBy, policy: Option<&str>) -> Refusal {
    Refusal::RateLimited {
        by,
        policy: policy.map(ToOwned::to_owned),
        retry_after: SECOND,
        by_store: false,
    }
}

fn failed(failure: Failure, sent: Sent) -> Refusal {
    Refusal::Failed { failure, sent }
}

#[rustfmt::skip]
fn table() -> [Row; 29] {
    use LimitedBy::{Key, Tenant, Unauthenticated, Upstream};
    let unknown = Refusal::Unauthenticated(AuthFailure::Unknown);
    let open = Refusal::CircuitOpen { retry_after: SECOND };
    [
        (Refusal::InvalidPath, 400, "invalid-path", "no", None, false),
        (Refusal::UnexpectedQuery, 400, "unexpected-query", "no", None, false),
        (Refusal::ApiVersionMismatch, 400, "api-version-mismatch", "no", None, false),
        (Refusal::MalformedRequest("x"), 400, "malformed-request", "no", None, true),
        (unknown, 401, "unauthenticated", "no", None, false),
        (Refusal::TenantFrozen, 403, "tenant-frozen", "no", None, false),
        (Refusal::TenantSuspended, 403, "tenant-suspended", "no", None, false),
        (Refusal::UserNotAllowed, 403, "user-not-allowed", "no", None, false),
        (failed(Failure::DryRun, Sent::No), 403, "dry-run", "no", None, false),
        (Refusal::NoSuchRoute, 404, "no-such-route", "no", None, false),
        (Refusal::MethodNotAllowed, 405, "method-not-allowed", "no", None, false),
        (Refusal::RequestTimeout, 408, "request-timeout", "no", None, true),
        (Refusal::ContentTooLarge, 413, "content-too-large", "no", None, true),
        (limited(Tenant, Some("tenant-1s")), 429, "rate-limited", "no", Some("2"), false),
        (limited(Key, Some("key-1s")), 429, "rate-limited", "no", Some("2"), false),
        (limited(Upstream, None), 429, "rate-limited", "no", Some("2"), false),
        (limited(Unauthenticated, None), 429, "rate-limited", "no", Some("2"), false),
        (Refusal::HeadersTooLarge, 431, "headers-too-large", "no", None, true),
        (Refusal::InternalError(Sent::No), 500, "internal-error", "no", None, false),
        (Refusal::InternalError(Sent::Unknown), 500, "internal-error", "unknown", None, false),
        (failed(Failure::Unreachable, Sent::No), 502, "upstream-unreachable", "no", None, false),
        (failed(Failure::Protocol, Sent::Yes), 502, "upstream-protocol", "yes", None, false),
        (failed(Failure::RejectedKey, Sent::Yes), 502, "upstream-rejected-key", "yes", None, false),
        (failed(Failure::Reset, Sent::Unknown), 502, "upstream-reset", "unknown", None, false),
        (Refusal::AuditUnavailable, 503, "audit-unavailable", "no", Some("5"), false),
        (Refusal::Overloaded, 503, "overloaded", "no", Some("1"), false),
        (Refusal::Draining, 503, "draining", "no", Some("1"), true),
        (open, 503, "circuit-open", "no", Some("2"), false),
        (failed(Failure::Timeout, Sent::Unknown), 504, "upstream-timeout", "unknown", None, false),
    ]
}

#[tokio::test]
async fn every_refusal_has_its_row_of_the_table() {
    let mut details = BTreeSet::new();
    let mut codes = BTreeSet::new();
    for row in table() {
        codes.insert(row.0.code().index());
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let request = Request::delete("/").version(version).body(()).unwrap();
            let response = refusal(&Arrival::of(&request), &row.0, None);
            has_the_fields(&response, version, &row);
            let id = field(&response, "x-request-id").unwrap().to_owned();
            let problem = json(response).await;
            assert_eq!(problem["request_id"], id);
            says_the_same(&problem, &row);
            details.insert(problem["detail"].to_string());
        }
    }
    let no_refusals = [Code::PassedOn, Code::ClientClosed];
    let refusals = Code::ALL.iter().filter(|code| !no_refusals.contains(code));
    assert_eq!(codes, refusals.map(|code| code.index()).collect());
    // Each says what happened; both internal errors say the same.
    assert_eq!(details.len(), table().len() - 1);
    assert!(details.iter().all(|detail| detail.len() > 30));
}

fn has_the_fields(response: &Response<Body>, version: Version, row: &Row) {
    let (_, status, code, sent, retry_after, closes) = row;
    assert_eq!(response.status(), *status, "{code}");
    let closes = (*closes && version == Version::HTTP_11).then_some("close");
    let challenge = (*status == 401).then_some("Bearer realm=\"alloy-gateway\"");
    let made_by = format!("alloy-gateway; error={}", kind_of_error(code, *status));
    for (name, value) in [
        ("connection", closes),
        ("retry-after", *retry_after),
        ("x-alloy-gateway-sent", Some(*sent)),
        ("x-alloy-gateway-source", Some("gateway")),
        ("x-correlation-id", None),
        ("www-authenticate", challenge),
        ("allow", (*status == 405).then_some("DELETE")),
        ("ratelimit", None),
        ("proxy-status", Some(&*made_by)),
    ] {
        assert_eq!(field(response, name), value, "{name} of {code}");
    }
    let date = httpdate::parse_http_date(field(response, "date").unwrap()).unwrap();
    let age = SystemTime::now().duration_since(date).unwrap();
    assert!(age < Duration::from_secs(3600), "{age:?}");
}

/// The kinds of error that RFC 9209 §2.3 registers.
fn kind_of_error(code: &str, status: u16) -> &'static str {
    match code {
        "unauthenticated" | "rate-limited" => "http_request_denied",
        "internal-error" | "audit-unavailable" => "proxy_internal_error",
        "overloaded" | "draining" => "proxy_internal_response",
        "upstream-unreachable" | "circuit-open" => "destination_unavailable",
        "upstream-protocol" => "http_protocol_error",
        "upstream-rejected-key" => "proxy_configuration_error",
        "upstream-timeout" => "http_response_timeout",
        "upstream-reset" => "connection_terminated",
        _ if status == 403 => "http_request_denied",
        _ => "http_request_error",
    }
}

fn says_the_same(problem: &Value, (refusal, status, code, sent, ..): &Row) {
    assert_eq!(problem["code"], *code);
    assert_eq!(problem["sent"], *sent);
    assert_eq!(problem["status"], *status);
    assert_eq!(problem["message"], problem["detail"]);
    let by = match refusal {
        Refusal::RateLimited { by, policy, .. } => {
            let policies = policy.as_ref().map(|policy| vec![policy.clone()]);
            assert_eq!(problem["violated-policies"], serde_json::json!(policies));
            Some(by.as_str())
        }
        _ => None,
    };
    assert_eq!(problem["limit"], serde_json::json!(by));
    let quota = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    let kind = if by.is_some() { quota } else { "about:blank" };
    assert_eq!(problem["type"], kind);
}
