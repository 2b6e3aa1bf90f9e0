//! [`Recorded`] → the upstream request: built new, never a filtered copy.

use std::fmt;

use http::HeaderValue;

use super::record::Recorded;
use crate::{
    USER_AGENT, config::snapshot::Target, ids::RequestId, secret::UpstreamKey, server::Arrival,
};

/// Room for a request with a key and ids of the usual length, in bytes.
const USUAL_BYTES: usize = 512;

/// The one request that may be sent for a recorded intent. Making it takes the
/// intent, so that nothing unrecorded can be sent.
pub struct UpstreamRequest<'a> {
    bytes: Vec<u8>,
    id: RequestId,
    key: &'a UpstreamKey,
}

impl UpstreamRequest<'_> {
    /// The id of the caller's request.
    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    /// What tells the key it is sent with from others: another may be in use by the
    /// time it is answered.
    pub(super) fn key_fingerprint(&self) -> &str {
        self.key.fingerprint()
    }

    /// Its bytes, with the key among them: for the connection alone.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for UpstreamRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamRequest(redacted)")
    }
}

/// What all requests to one upstream have in common, made once.
#[derive(Debug)]
pub struct Frame {
    /// From behind the path to the key.
    before_key: Box<[u8]>,
    /// From behind the key to the value of `via`.
    behind_key: Box<[u8]>,
}

impl Frame {
    /// Of requests to this host with this version.
    pub fn new(authority: &HeaderValue, api_version: &HeaderValue) -> Self {
        let before = [
            b" HTTP/1.1\r\nhost: ",
            authority.as_bytes(),
            b"\r\nauthorization: ",
        ];
        let behind = [
            b"\r\nx-api-version: ",
            api_version.as_bytes(),
            b"\r\naccept: application/json\r\nuser-agent: ",
            USER_AGENT.as_bytes(),
            b"\r\nvia: ",
        ];
        Self {
            before_key: before.concat().into(),
            behind_key: behind.concat().into(),
        }
    }
}

/// Builds the upstream request: fixed host, method and path, the key, the
/// pinned version, and nothing that came from the caller but the two ids.
pub fn request<'a>(
    recorded: &Recorded<'_>,
    key: &'a UpstreamKey,
    target: &Target,
    arrival: &Arrival,
) -> UpstreamRequest<'a> {
    let call = recorded.permit().call();
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    for part in [
        // Ids hold unreserved characters only, and the rest are values of fields:
        // none of them has a line end or anything else that could end its place.
        b"DELETE /users/",
        call.user().as_str().as_bytes(),
        b"/credentials/",
        call.credential().as_str().as_bytes(),
        &target.frame.before_key,
        key.expose_authorization().as_bytes(),
        &target.frame.behind_key,
        arrival.via().as_bytes(),
        b"\r\nx-request-id: ",
        arrival.request_id.as_bytes(),
        b"\r\n\r\n",
    ] {
        bytes.extend_from_slice(part);
    }
    UpstreamRequest {
        bytes,
        id: arrival.request_id,
        key,
    }
}
