//! [`Recorded`] → the upstream request: built new, never a filtered copy.

use std::fmt;

use super::record::Recorded;
use crate::{arrival::Arrival, ids::RequestId, secret::UpstreamKey, snapshot::Target};

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
