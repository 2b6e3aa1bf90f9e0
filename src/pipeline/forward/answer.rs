//! What the upstream answered, and whether it may be passed on.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, response::Parts};

use super::Failure;
use crate::{audit::OutcomeKind, key_ring::KeyRing};

/// The fields of an upstream answer that callers see; everything else speaks
/// for another origin.
const PASSED_ON: [HeaderName; 3] = [header::CONTENT_TYPE, header::DATE, header::CACHE_CONTROL];

/// An upstream answer, read whole.
#[derive(Debug, Clone)]
pub struct UpstreamAnswer {
    /// Its status code.
    pub status: u16,
    /// Its body, at most [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).
    pub body: Bytes,
    fields: HeaderMap,
}

impl UpstreamAnswer {
    /// Puts head and body together.
    pub fn new(head: Parts, body: Bytes) -> Self {
        Self {
            status: head.status.as_u16(),
            body,
            fields: head.headers,
        }
    }

    /// The fields that are passed on, in a fixed order.
    pub fn passed_on(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        let retry_after = (self.status == 429).then_some(header::RETRY_AFTER);
        PASSED_ON
            .into_iter()
            .chain(retry_after)
            .filter_map(|name| self.fields.get(&name).map(|value| (name.clone(), value)))
    }

    /// `Retry-After` as it stands.
    pub fn retry_after(&self) -> Option<&HeaderValue> {
        self.fields.get(header::RETRY_AFTER)
    }

    /// Whether the caller may see it.
    ///
    /// # Errors
    ///
    /// The failure it counts as, and for the log in which way.
    pub fn check(&self, keys: &KeyRing) -> Result<(), (Failure, &'static str)> {
        let protocol = |why| Err((Failure::Protocol, why));
        let mut codings = self.fields.get_all(header::CONTENT_ENCODING).iter();
        match self.status {
            401 => return Err((Failure::RejectedKey, "the upstream refused the key")),
            100..=199 => return protocol("an interim status as the final one"),
            300..=399 => return protocol("a redirect"),
            600.. => return protocol("a status outside 100 to 599"),
            _ => {}
        }
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return protocol("a content-encoding that was not asked for");
        }
        let in_fields = self
            .passed_on()
            .any(|(_, value)| keys.is_echoed_in(value.as_bytes()));
        if in_fields || keys.is_echoed_in(&self.body) {
            return protocol("the key stands in the answer");
        }
        Ok(())
    }

    /// What the answer says of the credential.
    pub fn kind(&self) -> OutcomeKind {
        match self.status {
            200 => match self.success() {
                Some(true) => OutcomeKind::Deleted,
                Some(false) => OutcomeKind::NotDeleted,
                None => OutcomeKind::InDoubt,
            },
            300..=499 => OutcomeKind::NotDeleted,
            _ => OutcomeKind::InDoubt,
        }
    }

    /// The vendor's contract: `{"success": true}`.
    fn success(&self) -> Option<bool> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.get("success")?.as_bool()
    }
}
