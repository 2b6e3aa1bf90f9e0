//! What the upstream answered, and whether it may be passed on.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Failure;
use crate::{audit::OutcomeKind, key_ring::KeyRing};

/// An upstream answer, read whole.
#[derive(Debug, Clone)]
pub struct UpstreamAnswer {
    /// Its status code.
    pub status: u16,
    /// Its body, at most [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).
    pub body: Bytes,
    /// Whether it has a content-encoding other than identity.
    is_coded: bool,
    /// The fields that callers see; everything else speaks for another origin.
    content_type: Option<HeaderValue>,
    date: Option<HeaderValue>,
    cache_control: Option<HeaderValue>,
    retry_after: Option<HeaderValue>,
}

impl UpstreamAnswer {
    /// Takes from a head what matters of it, as values of their own: a field of the
    /// head would keep all of the connection's buffer.
    pub fn new(status: u16, fields: &HeaderMap, body: Bytes) -> Self {
        let mut codings = fields.get_all(header::CONTENT_ENCODING).iter();
        let own = |name| fields.get(name).map(owned);
        Self {
            status,
            body,
            is_coded: codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")),
            content_type: own(header::CONTENT_TYPE),
            date: own(header::DATE),
            cache_control: own(header::CACHE_CONTROL),
            retry_after: own(header::RETRY_AFTER),
        }
    }

    /// The fields that are passed on, in a fixed order.
    pub fn passed_on(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        let retry_after = self.retry_after.as_ref().filter(|_| self.status == 429);
        [
            (header::CONTENT_TYPE, self.content_type.as_ref()),
            (header::DATE, self.date.as_ref()),
            (header::CACHE_CONTROL, self.cache_control.as_ref()),
            (header::RETRY_AFTER, retry_after),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// `Retry-After` as it stands.
    pub fn retry_after(&self) -> Option<&HeaderValue> {
        self.retry_after.as_ref()
    }

    /// Whether the caller may see it.
    ///
    /// # Errors
    ///
    /// The failure it counts as, and for the log in which way.
    pub fn check(&self, keys: &KeyRing) -> Result<(), (Failure, &'static str)> {
        let protocol = |why| Err((Failure::Protocol, why));
        match self.status {
            401 => return Err((Failure::RejectedKey, "the upstream refused the key")),
            100..=199 => return protocol("an interim status as the final one"),
            300..=399 => return protocol("a redirect"),
            600.. => return protocol("a status outside 100 to 599"),
            _ => {}
        }
        if self.is_coded {
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
        // Word for word what Alloy says, nearly always.
        if *self.body == *br#"{"success":true}"# {
            return Some(true);
        }
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.get("success")?.as_bool()
    }
}

/// The same value in memory of its own.
fn owned(value: &HeaderValue) -> HeaderValue {
    match value.as_bytes() {
        b"application/json" => HeaderValue::from_static("application/json"),
        // It was a value before.
        other => HeaderValue::from_bytes(other).unwrap_or(HeaderValue::from_static("")),
    }
}
