//! What the upstream answered, and whether it may be passed on.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use httparse::Header;

use super::{Failure, success::success_in};
use crate::{audit::OutcomeKind, key_ring::KeyRing};

/// The longest wait that an upstream is taken at its word for: no call lives longer.
const ASKED_MAX: Duration = Duration::from_secs(3600);

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
    /// What Alloy says when it has deleted, word for word, nearly always.
    pub const SUCCESS: &[u8] = br#"{"success":true}"#;

    /// Takes from a head what matters of it; of a field that stands there several
    /// times, the first. The body is not there yet.
    pub fn new(status: u16, fields: &[Header<'_>]) -> Self {
        let mut answer = Self {
            status,
            body: Bytes::new(),
            is_coded: false,
            content_type: None,
            date: None,
            cache_control: None,
            retry_after: None,
        };
        for field in fields {
            let place = match field.name {
                name if name.eq_ignore_ascii_case("content-type") => &mut answer.content_type,
                name if name.eq_ignore_ascii_case("date") => &mut answer.date,
                name if name.eq_ignore_ascii_case("cache-control") => &mut answer.cache_control,
                name if name.eq_ignore_ascii_case("retry-after") => &mut answer.retry_after,
                name if name.eq_ignore_ascii_case("content-encoding") => {
                    answer.is_coded |= !field.value.eq_ignore_ascii_case(b"identity");
                    continue;
                }
                _ => continue,
            };
            if place.is_none() {
                *place = Some(owned(field.value));
            }
        }
        answer
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

    /// What `Retry-After` asks for; never more than can be added to any clock.
    pub fn asks_to_wait(&self) -> Option<Duration> {
        let text = self.retry_after.as_ref()?.to_str().ok()?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let asked = match is_number {
            // Of any length (RFC 9110 §10.2.3).
            true => Duration::from_secs(text.parse().unwrap_or(u64::MAX)),
            false => httpdate::parse_http_date(text)
                .ok()?
                .duration_since(SystemTime::now())
                .unwrap_or_default(),
        };
        Some(asked.min(ASKED_MAX))
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
            400..=499 => OutcomeKind::NotDeleted,
            // A redirect too: 303 is how a request is answered that was carried out
            // (RFC 9110 §15.4.4).
            _ => OutcomeKind::InDoubt,
        }
    }

    /// The vendor's contract: `{"success": true}`.
    fn success(&self) -> Option<bool> {
        if *self.body == *Self::SUCCESS {
            return Some(true);
        }
        success_in(&self.body)
    }
}

/// The value in memory of its own.
fn owned(value: &[u8]) -> HeaderValue {
    match value {
        b"application/json" => HeaderValue::from_static("application/json"),
        // It was parsed as a value.
        other => HeaderValue::from_bytes(other).unwrap_or(HeaderValue::from_static("")),
    }
}
