//! [`Outcome`] or [`Refusal`] → the answer on the wire. With the admin listener,
//! the only place that knows status codes.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::{
    contract::route_text,
    outcome::{Failure, Outcome, UpstreamAnswer},
    refusal::Refusal,
    room::Room,
};
use crate::{
    arrival::Arrival,
    audit::{self, OutcomeWritten, Sent},
    code::{Code, LimitedBy},
    limits::{Limits, seconds_up},
};

/// The IANA problem type of a spent limit (draft-ietf-httpapi-ratelimit-headers-10 §6).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// What a caller gets.
pub type Body = Full<Bytes>;

/// The fields that an answer has that is passed on.
const FIELDS: usize = 8;

const SOURCE: HeaderName = HeaderName::from_static("x-alloy-gateway-source");
const SENT: HeaderName = HeaderName::from_static("x-alloy-gateway-sent");
const OUTCOME: HeaderName = HeaderName::from_static("x-alloy-gateway-outcome");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

// The values of `x-alloy-gateway-source`.
const UPSTREAM: HeaderValue = HeaderValue::from_static("upstream");
const GATEWAY: HeaderValue = HeaderValue::from_static("gateway");

/// The status that the caller will see of an outcome.
pub fn status_of_outcome(outcome: &Outcome) -> u16 {
    match outcome.result() {
        Ok(answer) => answer.status,
        Err(failure) => status_or_500(failure.code()).as_u16(),
    }
}

/// The status of a refusal, for trail and metrics; `None` for what is no refusal.
pub fn status_of(code: Code) -> Option<u16> {
    status(code).map(|status| status.as_u16())
}

/// The answer to a call whose intent was recorded, with the limits as of now.
pub fn outcome(
    arrival: &Arrival,
    outcome: &Outcome,
    recorded: OutcomeWritten,
    (limits, now): (&Limits, Instant),
    room: Room,
) -> Response<Body> {
    let mut response = match outcome.result() {
        Ok(answer) => pass_on(answer, room),
        Err(failure) => {
            let sent = outcome.sent();
            problem(arrival, &Refusal::Failed { failure, sent })
        }
    };
    let source = if outcome.result().is_ok() {
        UPSTREAM
    } else {
        GATEWAY
    };
    sign(&mut response, arrival, source, outcome.sent());
    let fields = response.headers_mut();
    if recorded == OutcomeWritten::Pending {
        fields.insert(OUTCOME, HeaderValue::from_static("unrecorded"));
    } else if outcome.is_gone_after_retry() {
        fields.insert(OUTCOME, HeaderValue::from_static("gone-after-retry"));
    }
    rate_limit(&mut response, limits, now);
    response
}

/// The answer to a request that was refused. `limits` are those that it got as
/// far as.
pub fn refusal(arrival: &Arrival, refusal: &Refusal, limits: Option<&Limits>) -> Response<Body> {
    let mut response = problem(arrival, refusal);
    sign(&mut response, arrival, GATEWAY, refusal.sent());
    let fields = response.headers_mut();
    if let Some(span) = refusal.retry_after() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds_up(span)));
    }
    match refusal {
        Refusal::Unauthenticated(_) => {
            let challenge = HeaderValue::from_static("Bearer realm=\"alloy-gateway\"");
            fields.insert(header::WWW_AUTHENTICATE, challenge);
        }
        Refusal::MethodNotAllowed => {
            fields.insert(header::ALLOW, HeaderValue::from_static("DELETE"));
        }
        _ => {}
    }
    if refusal.closes_connection() && arrival.version < http::Version::HTTP_2 {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(limits) = limits {
        rate_limit(&mut response, limits, Instant::now());
    }
    response
}

fn pass_on(answer: &UpstreamAnswer, room: Room) -> Response<Body> {
    let mut response = response(answer.body.clone(), room);
    // `check` let only valid statuses through.
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in answer.passed_on() {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// RFC 9457, with the members that make a refusal safe to act on.
fn problem(arrival: &Arrival, refusal: &Refusal) -> Response<Body> {
    let status = status_or_500(refusal.code());
    let detail = detail(refusal);
    let (kind, title) = match refusal {
        Refusal::RateLimited { .. } => (QUOTA_EXCEEDED, "Rate limit exceeded"),
        _ => ("about:blank", status.canonical_reason().unwrap_or("Error")),
    };
    let mut body = serde_json::json!({
        "type": kind,
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
        "code": refusal.code().as_str(),
        "message": detail,
        "request_id": arrival.request_id.to_string(),
        "source": "gateway",
        "sent": refusal.sent().as_str(),
    });
    if let (Refusal::RateLimited { by, policy, .. }, Some(body)) = (refusal, body.as_object_mut()) {
        body.insert("limit".to_owned(), by.as_str().into());
        if let Some(policy) = policy {
            body.insert("violated-policies".to_owned(), vec![policy.as_str()].into());
        }
    }
    let mut response = response(Bytes::from(body.to_string()), Room::default());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/problem+json");
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, json);
    fields.insert(
        PROXY_STATUS,
        HeaderValue::from_static(proxy_status(refusal)),
    );
    response
}

/// Who made the error, and of which of its kinds it is, for programs that know
/// nothing of this gateway (RFC 9209 §2.3).
fn proxy_status(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::InvalidPath
        | Refusal::UnexpectedQuery
        | Refusal::ApiVersionMismatch
        | Refusal::MalformedRequest(_)
        | Refusal::NoSuchRoute
        | Refusal::MethodNotAllowed
        | Refusal::RequestTimeout
        | Refusal::ContentTooLarge
        | Refusal::HeadersTooLarge => "alloy-gateway; error=http_request_error",
        Refusal::Unauthenticated(_)
        | Refusal::TenantFrozen
        | Refusal::TenantSuspended
        | Refusal::UserNotAllowed
        | Refusal::RateLimited { .. } => "alloy-gateway; error=http_request_denied",
        Refusal::InternalError(_) | Refusal::AuditUnavailable => {
            "alloy-gateway; error=proxy_internal_error"
        }
        Refusal::Overloaded | Refusal::Draining => "alloy-gateway; error=proxy_internal_response",
        Refusal::CircuitOpen { .. } => "alloy-gateway; error=destination_unavailable",
        Refusal::Failed { failure, .. } => match failure {
            Failure::DryRun | Failure::Frozen => "alloy-gateway; error=http_request_denied",
            Failure::Unreachable => "alloy-gateway; error=destination_unavailable",
            Failure::Protocol => "alloy-gateway; error=http_protocol_error",
            Failure::RejectedKey => "alloy-gateway; error=proxy_configuration_error",
            Failure::Timeout => "alloy-gateway; error=http_response_timeout",
            Failure::Reset => "alloy-gateway; error=connection_terminated",
        },
    }
}

/// The fields that stand on every answer.
fn sign(response: &mut Response<Body>, arrival: &Arrival, source: HeaderValue, sent: Sent) {
    let fields = response.headers_mut();
    // RFC 9110 §6.6.1: we have a clock, so an answer without a date gets one.
    if let header::Entry::Vacant(date) = fields.entry(header::DATE) {
        date.insert(date_now());
    }
    fields.insert(REQUEST_ID, arrival.request_id.header_value());
    if let Some(id) = arrival.caller_request_id.clone() {
        fields.insert(CORRELATION_ID, id);
    }
    fields.insert(SOURCE, source);
    fields.insert(SENT, sent_value(sent));
    if arrival.version == http::Version::HTTP_10 {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Checked when it is compiled, not with each answer.
fn sent_value(sent: Sent) -> HeaderValue {
    match sent {
        Sent::No => const { HeaderValue::from_static(Sent::No.as_str()) },
        Sent::Unknown => const { HeaderValue::from_static(Sent::Unknown.as_str()) },
        Sent::Yes => const { HeaderValue::from_static(Sent::Yes.as_str()) },
    }
}

/// An answer with room for the fields that nearly every one has.
fn response(body: Bytes, room: Room) -> Response<Body> {
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = room.for_fields(FIELDS);
    response
}

/// The time as HTTP writes it, put into words once a second.
fn date_now() -> HeaderValue {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> =
            const { RefCell::new((0, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DATE.with_borrow_mut(|(known, text)| {
        if *known != second
            && let Ok(value) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*known, *text) = (second, value);
        }
        text.clone()
    })
}

fn rate_limit(response: &mut Response<Body>, limits: &Limits, now: Instant) {
    if let Some((policy, levels)) = limits.headers(now) {
        let fields = response.headers_mut();
        fields.insert(RATE_LIMIT_POLICY, policy);
        fields.insert(RATE_LIMIT, levels);
    }
}

/// The status of a refusal: every one has one.
fn status_or_500(code: Code) -> StatusCode {
    status(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The trail says it, too, of a call whose intent was durable too late.
const _: () = assert!(matches!(
    status(Code::AuditUnavailable),
    Some(status) if status.as_u16() == audit::UNAVAILABLE_STATUS
));

const fn status(code: Code) -> Option<StatusCode> {
    Some(match code {
        Code::InvalidPath
        | Code::UnexpectedQuery
        | Code::ApiVersionMismatch
        | Code::MalformedRequest => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::TenantFrozen | Code::TenantSuspended | Code::UserNotAllowed | Code::DryRun => {
            StatusCode::FORBIDDEN
        }
        Code::NoSuchRoute => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::ContentTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Code::UpstreamUnreachable
        | Code::UpstreamProtocol
        | Code::UpstreamRejectedKey
        | Code::UpstreamReset => StatusCode::BAD_GATEWAY,
        Code::AuditUnavailable | Code::Overloaded | Code::Draining | Code::CircuitOpen => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::PassedOn | Code::ClientClosed => return None,
    })
}

const FROZEN: &str = "Your tenant is frozen: nothing is deleted for it until the operator of this gateway thaws it. A retry will not help before.";

/// What a caller's developer should read: what happened and what to do, and
/// nothing of keys, tokens, hosts, files or other tenants.
fn detail(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::InvalidPath => {
            "A user or credential id in the path is empty, has a character that ids do not have, or begins as a token does or holds one. Nothing is percent-decoded."
        }
        Refusal::UnexpectedQuery => {
            "This call takes no query. Remove everything from the question mark on."
        }
        Refusal::ApiVersionMismatch => {
            "x-api-version names another version than the one this gateway speaks. Leave the field out, or send the gateway's version."
        }
        Refusal::MalformedRequest(_) => {
            "The request is ambiguous or breaks HTTP, so it was not acted on."
        }
        Refusal::Unauthenticated(_) => {
            "Send a valid gateway token as `Authorization: Bearer agw_...`."
        }
        Refusal::TenantFrozen => FROZEN,
        Refusal::TenantSuspended => "The operator of this gateway has suspended your tenant.",
        Refusal::UserNotAllowed => "Your tenant may not touch this user.",
        Refusal::NoSuchRoute => {
            concat!("The only route is DELETE ", route_text!(), ".")
        }
        Refusal::MethodNotAllowed => "The only method here is DELETE.",
        Refusal::RequestTimeout => "The request did not arrive in time. Nothing was sent.",
        Refusal::ContentTooLarge => "The body is too large. This call needs none.",
        Refusal::HeadersTooLarge => "The header fields are too many or too large.",
        Refusal::RateLimited { by, .. } => match by {
            LimitedBy::Tenant => {
                "Your tenant's limit is spent. Retry after the time in Retry-After."
            }
            LimitedBy::Key => {
                "A limit that your tenant shares with others is spent. Retry after the time in Retry-After."
            }
            LimitedBy::Upstream => {
                "Alloy asked this gateway to slow down. Retry after the time in Retry-After."
            }
            LimitedBy::Unauthenticated => {
                "Too many requests without a valid token came from your address. Retry after the time in Retry-After, with a valid token."
            }
        },
        Refusal::InternalError(_) => {
            "The gateway failed. The operator can find the cause by the request id."
        }
        Refusal::AuditUnavailable => {
            "The audit trail can't be written just now, so nothing was sent. A retry is safe."
        }
        Refusal::Overloaded => {
            "The gateway has as much to do as it may. Nothing was sent; a retry is safe."
        }
        Refusal::Draining => "This gateway is stopping. Nothing was sent; a retry is safe.",
        Refusal::CircuitOpen { .. } => {
            "Alloy failed several times in a row. Nothing was sent; a retry is safe."
        }
        Refusal::Failed { failure, .. } => match failure {
            Failure::DryRun => {
                "Your tenant is in dry-run mode: the call was in order and would have been sent, but was not."
            }
            Failure::Frozen => FROZEN,
            Failure::Unreachable => {
                "Alloy could not be reached. Nothing was sent; a retry is safe."
            }
            Failure::Timeout => {
                "Alloy did not answer in time. The credential may have been deleted."
            }
            Failure::Reset => {
                "The connection to Alloy broke before an answer came. The credential may have been deleted."
            }
            Failure::Protocol => {
                "Alloy gave an answer that can't be passed on. The credential may have been deleted."
            }
            Failure::RejectedKey => {
                "Alloy refused the gateway's own key. Only the gateway's operator can mend this."
            }
        },
    }
}

#[cfg(test)]
pub(super) mod tests;
