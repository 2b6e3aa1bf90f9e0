//! What every refusal looks like, by the text of the design, RFC 9457 and RFC 9562.

use super::Response;

/// The answer is a refusal of the gateway with this status, code and `sent`, and
/// complete in all other parts.
#[track_caller]
pub fn assert_refusal(response: &Response, status: u16, code: &str, sent: &str) {
    assert_eq!(response.status, status, "{response:?} {}", response.text());
    assert_eq!(
        response.field("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(response.field("x-alloy-gateway-source"), Some("gateway"));
    assert_eq!(
        response.field("x-alloy-gateway-sent"),
        Some(sent),
        "{response:?}"
    );
    let id = response.field("x-request-id").expect("x-request-id");
    assert_is_uuid_v7(id);
    let problem = response.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["sent"], sent);
    assert_eq!(problem["source"], "gateway");
    assert_eq!(problem["request_id"], id);
    assert_eq!(problem["message"], problem["detail"]);
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.len() > 10),
        "{problem}"
    );
    assert!(
        problem["title"]
            .as_str()
            .is_some_and(|title| !title.is_empty()),
        "{problem}"
    );
    let kind = match code {
        "rate-limited" => "https://iana.org/assignments/http-problem-types#quota-exceeded",
        _ => "about:blank",
    };
    assert_eq!(problem["type"], kind);
    // RFC 9209 §2.3: the error types, by what happened.
    let error = match code {
        "upstream-unreachable" | "circuit-open" => "destination_unavailable",
        "upstream-protocol" => "http_protocol_error",
        "upstream-rejected-key" => "proxy_configuration_error",
        "upstream-timeout" => "http_response_timeout",
        "upstream-reset" => "connection_terminated",
        "internal-error" | "audit-unavailable" => "proxy_internal_error",
        "overloaded" | "draining" => "proxy_internal_response",
        _ if [401, 403, 429].contains(&status) => "http_request_denied",
        _ => "http_request_error",
    };
    assert_eq!(
        response.field("proxy-status"),
        Some(format!("alloy-gateway; error={error}").as_str())
    );
    // Common clients re-send by themselves when they are told to.
    let retry_is_safe = matches!(status, 429 | 503);
    assert_eq!(
        response.field("retry-after").is_some(),
        retry_is_safe,
        "{response:?}"
    );
    assert_eq!(response.field("www-authenticate").is_some(), status == 401);
    assert_eq!(response.field("allow"), (status == 405).then_some("DELETE"));
}

#[track_caller]
pub fn assert_is_uuid_v7(id: &str) {
    let parts: Vec<_> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
    assert_eq!(id.as_bytes()[14], b'7', "{id}");
    assert!(
        matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'),
        "{id}"
    );
}
