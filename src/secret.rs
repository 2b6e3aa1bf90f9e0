//! Secrets as types that cannot speak: no `Display`, no `Serialize`, and a
//! `Debug` that says only what kind of thing it is.

mod echo;

use std::fmt;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::HeaderValue;

use self::echo::KeyEcho;

/// A real Alloy API key. Only the `inject` stage reads its bytes.
pub struct ApiKey(Box<[u8]>);

/// Why some bytes cannot be an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadApiKey {
    /// Nothing was left after trailing newlines were dropped.
    #[error("the secret is empty")]
    Empty,
    /// Shorter than [`ApiKey::BYTES_MIN`]: no real key is, and answers could not
    /// be searched for it.
    #[error("the secret is shorter than {} bytes", ApiKey::BYTES_MIN)]
    TooShort,
    /// Longer than [`ApiKey::BYTES_MAX`].
    #[error("the secret is longer than {} bytes", ApiKey::BYTES_MAX)]
    TooLong,
    /// A space, as two keys or a key and a word beside it have between them.
    #[error("the secret holds a space (first at offset {0})")]
    Space(usize),
    /// Another byte that cannot stand in a header value or would be ambiguous there.
    #[error("the secret holds a byte that is not visible ASCII (first at offset {0})")]
    NotVisibleAscii(usize),
}

impl ApiKey {
    /// The shortest key that is accepted, in bytes.
    pub const BYTES_MIN: usize = 8;
    /// The longest key that is accepted, in bytes.
    pub const BYTES_MAX: usize = 4096;

    /// Takes the content of a secret file, variable or credential; trailing
    /// newlines are dropped.
    ///
    /// # Errors
    ///
    /// See [`BadApiKey`]; the error never holds a byte of the secret.
    pub fn new(raw: &[u8]) -> Result<Self, BadApiKey> {
        let key = without_newlines(raw);
        if key.is_empty() {
            return Err(BadApiKey::Empty);
        }
        if key.len() < Self::BYTES_MIN {
            return Err(BadApiKey::TooShort);
        }
        if key.len() > Self::BYTES_MAX {
            return Err(BadApiKey::TooLong);
        }
        let mut bytes = key.iter().enumerate();
        match bytes.find(|(_, byte)| !byte.is_ascii_graphic()) {
            Some((at, b' ')) => Err(BadApiKey::Space(at)),
            Some((at, _)) => Err(BadApiKey::NotVisibleAscii(at)),
            None => Ok(Self(key.into())),
        }
    }

    /// The key itself, for the one header that carries it upstream and for the
    /// detector that looks for it in answers.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The first 12 hex digits of the key's SHA-256: enough to tell two keys
    /// apart in the trail, nothing to guess the key from.
    pub fn fingerprint(&self) -> String {
        let sum = digest::digest(&digest::SHA256, &self.0);
        hex(sum.as_ref().get(..6).unwrap_or_default())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

/// The key of a trail's HMAC (`audit.mac_key`).
#[derive(Clone)]
pub struct MacKey(Box<[u8]>);

/// Why some bytes cannot be the key of a trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key has {0} bytes, expected {min} to {max} (`openssl rand -hex 32` makes one)",
    min = MacKey::BYTES_MIN,
    max = MacKey::BYTES_MAX
)]
pub struct BadMacKey(usize);

impl MacKey {
    /// The shortest key that is accepted, in bytes: the length of the hash (RFC 2104 §3).
    pub const BYTES_MIN: usize = 32;
    /// The longest key that is accepted, in bytes.
    pub const BYTES_MAX: usize = 4096;

    /// Takes the content of a secret file, variable or credential; trailing
    /// newlines are dropped.
    ///
    /// # Errors
    ///
    /// If it is too short or too long.
    pub fn new(raw: &[u8]) -> Result<Self, BadMacKey> {
        let key = without_newlines(raw);
        if !(Self::BYTES_MIN..=Self::BYTES_MAX).contains(&key.len()) {
            return Err(BadMacKey(key.len()));
        }
        Ok(Self(key.into()))
    }

    /// The key itself, for the trail's hash.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// What tells two keys apart: the first 12 hex digits of the HMAC-SHA256
    /// of a fixed text.
    pub fn fingerprint(&self) -> String {
        fingerprint_of(&self.0, "alloy-gateway mac_key")
    }

    /// Whether a text can be what [`fingerprint`](Self::fingerprint) tells of a key.
    pub fn is_fingerprint(text: &str) -> bool {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == 12 && text.bytes().all(is_digit)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(redacted)")
    }
}

/// A key with the scheme it is sent with, ready to stand in a header.
pub struct UpstreamKey {
    name: Box<str>,
    authorization: HeaderValue,
    echo: KeyEcho,
    fingerprint: Box<str>,
    wrapping: Option<&'static str>,
}

impl UpstreamKey {
    /// Puts `scheme` before the key; `None` if `scheme` is no header text.
    pub fn new(name: &str, key: &ApiKey, scheme: &str) -> Option<Self> {
        let mut value = Vec::with_capacity(scheme.len() + 1 + key.0.len());
        value.extend_from_slice(scheme.as_bytes());
        value.push(b' ');
        value.extend_from_slice(key.expose());
        let mut authorization = HeaderValue::from_maybe_shared(Bytes::from(value)).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            name: name.into(),
            authorization,
            echo: KeyEcho::new(key.expose()),
            fingerprint: key.fingerprint().into(),
            wrapping: str::from_utf8(key.expose()).ok().and_then(wrapping),
        })
    }

    /// The key's name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`ApiKey::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What stands around the key, if something seems to.
    pub fn wrapping(&self) -> Option<&'static str> {
        self.wrapping
    }

    /// Whether both are the same key of one name, sent in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.authorization == other.authorization
    }

    /// The value of `authorization`. Only the `inject` stage may ask for it.
    pub(crate) fn expose_authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// Whether `bytes` hold the key, in plain or base64, as it stands or with percent
    /// escapes, JSON escapes, or both.
    pub fn is_echoed_in(&self, bytes: &[u8]) -> bool {
        self.echo.is_in(bytes)
    }
}

impl fmt::Debug for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamKey({}, redacted)", self.name)
    }
}

/// What stands around a key that was copied from a shell or a .env file.
fn wrapping(text: &str) -> Option<&'static str> {
    let is_in = |quote: char| text.starts_with(quote) && text.ends_with(quote);
    if is_in('"') || is_in('\'') {
        return Some("begins and ends with a quote");
    }
    let (name, value) = text.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    // Not the padding of base32 or base64.
    let is_padding = value.trim_start_matches('=').is_empty();
    (is_name && !is_padding).then_some("begins with a name and =, as a line of a .env file does")
}

/// What tells two secrets of one purpose apart, and gives nothing of them away: the first
/// 12 hex digits of the HMAC-SHA256 of the purpose, with the secret as its key.
pub fn fingerprint_of(secret: &[u8], purpose: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let sum = hmac::sign(&key, purpose.as_bytes());
    hex(sum.as_ref().get(..6).unwrap_or_default())
}

fn without_newlines(raw: &[u8]) -> &[u8] {
    let end = raw
        .iter()
        .rposition(|b| !matches!(b, b'\n' | b'\r'))
        .map_or(0, |last| last + 1);
    raw.get(..end).unwrap_or_default()
}

/// Lower-case hex of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| hex_pair(*byte))
        .map(char::from)
        .collect()
}

/// The two lower-case hex digits of a byte.
pub fn hex_pair(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble - 10),
    };
    [digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_speak() {
        let key = ApiKey::new(b"sk-very-secret\n").unwrap();
        assert_eq!(key.expose(), b"sk-very-secret");
        assert_eq!(format!("{key:?}"), "ApiKey(redacted)");
        // Python: hashlib.sha256(b"sk-very-secret").hexdigest()[:12]
        assert_eq!(key.fingerprint(), "e7f15906532b");
    }

    #[test]
    fn what_cannot_be_a_header_value_is_no_key() {
        assert_eq!(ApiKey::new(b"").unwrap_err(), BadApiKey::Empty);
        assert_eq!(ApiKey::new(b"\r\n\n").unwrap_err(), BadApiKey::Empty);
        let told = |raw: &[u8]| ApiKey::new(raw).unwrap_err().to_string();
        let space = "the secret holds a space (first at offset 2)";
        assert_eq!(told(b"ab cdefgh"), space);
        let tab = "the secret holds a byte that is not visible ASCII (first at offset 2)";
        assert_eq!(told(b"ab\tcdefgh"), tab);
        assert_eq!(ApiKey::new(b"1234567\n").unwrap_err(), BadApiKey::TooShort);
        assert_eq!(ApiKey::new(&[b'a'; 4097]).unwrap_err(), BadApiKey::TooLong);
    }

    #[test]
    fn an_upstream_key_does_not_speak() {
        let key =
            UpstreamKey::new("main", &ApiKey::new(b"sk-very-secret").unwrap(), "bearer").unwrap();
        assert_eq!(key.expose_authorization(), "bearer sk-very-secret");
        assert!(!format!("{key:?} {:?}", key.expose_authorization()).contains("secret"));
        assert!(!format!("{key:?} {:?}", key.expose_authorization()).contains("sk-"));
    }

    #[test]
    fn hex_is_lower_case_and_padded() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
