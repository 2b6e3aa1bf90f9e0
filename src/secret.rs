//! Secrets as types that cannot speak: no `Display`, no `Serialize`, and a
//! `Debug` that says only what kind of thing it is.

use std::fmt;

use aws_lc_rs::digest;

/// A real Alloy API key. Only the `inject` stage reads its bytes.
pub struct ApiKey(Box<[u8]>);

/// Why some bytes cannot be an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadApiKey {
    /// Nothing was left after trailing newlines were dropped.
    #[error("the secret is empty")]
    Empty,
    /// Longer than [`ApiKey::BYTES_MAX`].
    #[error("the secret is longer than {} bytes", ApiKey::BYTES_MAX)]
    TooLong,
    /// A byte that cannot stand in a header value or would be ambiguous there.
    #[error("the secret holds a byte that is not visible ASCII (first at offset {0})")]
    NotVisibleAscii(usize),
}

impl ApiKey {
    /// The longest key that is accepted, in bytes.
    pub const BYTES_MAX: usize = 4096;

    /// Takes the content of a secret file, variable or credential; trailing
    /// newlines are dropped.
    ///
    /// # Errors
    ///
    /// See [`BadApiKey`]; the error never holds a byte of the secret.
    pub fn new(raw: &[u8]) -> Result<Self, BadApiKey> {
        let end = raw
            .iter()
            .rposition(|b| !matches!(b, b'\n' | b'\r'))
            .map_or(0, |last| last + 1);
        let key = raw.get(..end).unwrap_or_default();
        if key.is_empty() {
            return Err(BadApiKey::Empty);
        }
        if key.len() > Self::BYTES_MAX {
            return Err(BadApiKey::TooLong);
        }
        if let Some(at) = key.iter().position(|b| !b.is_ascii_graphic()) {
            return Err(BadApiKey::NotVisibleAscii(at));
        }
        Ok(Self(key.into()))
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

/// Lower-case hex of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_speak() {
        let key = ApiKey::new(b"sk-very-secret\n").unwrap();
        assert_eq!(key.expose(), b"sk-very-secret");
        assert_eq!(format!("{key:?}"), "ApiKey(redacted)");
        assert!(!key.fingerprint().contains("secret"));
    }

    #[test]
    fn what_cannot_be_a_header_value_is_no_key() {
        assert_eq!(ApiKey::new(b"").unwrap_err(), BadApiKey::Empty);
        assert_eq!(ApiKey::new(b"\r\n\n").unwrap_err(), BadApiKey::Empty);
        assert_eq!(
            ApiKey::new(b"ab c").unwrap_err(),
            BadApiKey::NotVisibleAscii(2)
        );
        assert_eq!(ApiKey::new(&[b'a'; 4097]).unwrap_err(), BadApiKey::TooLong);
    }

    #[test]
    fn hex_is_lower_case_and_padded() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
