//! [`Recorded`] → the upstream request: built new, never a filtered copy.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;

use super::record::Recorded;
use crate::{config::snapshot::Target, secret::UpstreamKey, server::Arrival};

/// The `user-agent` of every upstream request.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("alloy-gateway/", env!("CARGO_PKG_VERSION")));

/// The one request that may be sent for a recorded intent. Making it takes the
/// intent, so that nothing unrecorded can be sent.
#[derive(Debug, Clone)]
pub struct UpstreamRequest(Request<Empty<Bytes>>);

impl UpstreamRequest {
    /// One attempt's copy of it.
    pub(super) fn attempt(&self) -> Request<Empty<Bytes>> {
        self.0.clone()
    }
}

/// Builds the upstream request: fixed host, method and path, the key, the
/// pinned version, and nothing that came from the caller but the two ids.
pub fn request(
    recorded: &Recorded<'_>,
    key: &UpstreamKey,
    target: &Target,
    arrival: &Arrival,
) -> UpstreamRequest {
    let permit = recorded.permit();
    let call = permit.call();
    let path = format!("/users/{}/credentials/{}", call.user(), call.credential());
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::DELETE;
    // Ids hold unreserved characters only, so they always make a path.
    *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
    let fields = request.headers_mut();
    fields.reserve(8);
    fields.insert(header::HOST, target.authority.clone());
    fields.insert(header::AUTHORIZATION, key.expose_authorization());
    fields.insert("x-api-version", target.api_version.clone());
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(header::USER_AGENT, USER_AGENT);
    fields.insert(header::VIA, HeaderValue::from_static(arrival.via()));
    fields.insert("x-request-id", arrival.request_id.header_value());
    UpstreamRequest(request)
}
