//! [`Recorded`] → the upstream request: built new, never a filtered copy.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;

use super::{record::Recorded, room::Room};
use crate::{config::snapshot::Target, ids::RequestId, secret::UpstreamKey, server::Arrival};

/// The `user-agent` of every upstream request.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("alloy-gateway/", env!("CARGO_PKG_VERSION")));

const X_API_VERSION: HeaderName = HeaderName::from_static("x-api-version");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The one request that may be sent for a recorded intent. Making it takes the
/// intent, so that nothing unrecorded can be sent.
#[derive(Debug)]
pub struct UpstreamRequest {
    uri: Uri,
    authorization: HeaderValue,
    host: HeaderValue,
    api_version: HeaderValue,
    via: &'static str,
    request_id: RequestId,
}

impl UpstreamRequest {
    /// The id of the caller's request.
    pub(super) fn id(&self) -> RequestId {
        self.request_id
    }

    /// What one attempt sends.
    pub(super) fn attempt(&self, room: Room) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = self.uri.clone();
        let mut fields = room.for_fields(7);
        fields.insert(header::HOST, self.host.clone());
        fields.insert(header::AUTHORIZATION, self.authorization.clone());
        fields.insert(X_API_VERSION, self.api_version.clone());
        fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        fields.insert(header::USER_AGENT, USER_AGENT);
        fields.insert(header::VIA, HeaderValue::from_static(self.via));
        fields.insert(X_REQUEST_ID, self.request_id.header_value());
        *request.headers_mut() = fields;
        request
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
    let call = recorded.permit().call();
    let parts = [
        "/users/",
        call.user().as_str(),
        "/credentials/",
        call.credential().as_str(),
    ];
    UpstreamRequest {
        // Ids hold unreserved characters only, so they always make a path.
        uri: Uri::try_from(parts.concat()).unwrap_or_default(),
        authorization: key.expose_authorization(),
        host: target.authority.clone(),
        api_version: target.api_version.clone(),
        via: arrival.via(),
        request_id: arrival.request_id,
    }
}
