//! Secrets as types that cannot speak: no `Display`, no `Serialize`, and a
//! `Debug` that says only what kind of thing it is.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::HeaderValue;
use memchr::{memchr, memmem};

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
    /// A byte that cannot stand in a header value or would be ambiguous there.
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
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let sum = hmac::sign(&key, b"alloy-gateway mac_key");
        hex(sum.as_ref().get(..6).unwrap_or_default())
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

fn without_newlines(raw: &[u8]) -> &[u8] {
    let end = raw
        .iter()
        .rposition(|b| !matches!(b, b'\n' | b'\r'))
        .map_or(0, |last| last + 1);
    raw.get(..end).unwrap_or_default()
}

/// Looks for a key in what the upstream answered.
struct KeyEcho {
    plain: memmem::Finder<'static>,
    base64: Vec<memmem::Finder<'static>>,
}

impl KeyEcho {
    fn new(key: &[u8]) -> Self {
        let mut forms = Vec::new();
        // Inside a longer text the key begins at one of three places of a
        // base64 group; its first and last characters mix with what is around.
        for skew in 0..3usize {
            let mut text = vec![0; skew];
            text.extend_from_slice(key);
            let whole = base64(&text);
            let first = (skew * 8).div_ceil(6);
            let last = text.len() * 8 / 6;
            if let Some(form) = whole.get(first..last).filter(|form| !form.is_empty()) {
                forms.push(form.to_vec());
            }
        }
        let url_safe = forms.iter().map(|form| {
            let swap = |b: &u8| match b {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            };
            form.iter().map(swap).collect::<Vec<_>>()
        });
        let all: BTreeSet<Vec<u8>> = url_safe.chain(forms.iter().cloned()).collect();
        Self {
            plain: memmem::Finder::new(key).into_owned(),
            base64: all
                .iter()
                .map(|form| memmem::Finder::new(form).into_owned())
                .collect(),
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        // No form of the key is shorter than the key, nor has it a byte that is not
        // visible: without a word as long as the key, it is not there.
        if !has_word(bytes, self.plain.needle().len()) {
            return false;
        }
        self.is_in_text(bytes)
            || (memchr(b'\\', bytes).is_some() && self.is_in_text(&json_unescaped(bytes)))
    }

    fn is_in_text(&self, text: &[u8]) -> bool {
        self.stands_in(text)
            || (memchr(b'%', text).is_some() && {
                let decoded = percent_decoded(text);
                self.stands_in(&decoded)
                    || (memchr(b'\\', &decoded).is_some()
                        && self.stands_in(&json_unescaped(&decoded)))
            })
    }

    fn stands_in(&self, text: &[u8]) -> bool {
        self.plain.find(text).is_some() || self.base64.iter().any(|form| form.find(text).is_some())
    }
}

/// Whether so many visible bytes follow each other. Most are never looked at: a place
/// for them is looked through from its end, and the next one begins behind the last
/// byte in it that is not visible.
fn has_word(bytes: &[u8], length: usize) -> bool {
    let mut begin = 0;
    while let Some(place) = bytes.get(begin..begin + length) {
        match place.iter().rposition(|byte| !byte.is_ascii_graphic()) {
            Some(last) => begin += last + 1,
            None => return true,
        }
    }
    false
}

/// RFC 4648 §4, without padding: all this needs is to be searched for.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        let sextets = [18, 12, 6, 0].map(|shift| (bits >> shift) & 63);
        let used = sextets.iter().take(group.len() + 1);
        out.extend(used.filter_map(|s| ALPHABET.get(usize::try_from(*s).ok()?)));
    }
    out
}

/// Every `%XX` as its byte (RFC 3986 §2.1); anything else as it stands.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    unescaped(bytes, |rest| match rest {
        [b'%', high, low, ..] => Some((hex_byte(*high, *low)?, 3)),
        _ => None,
    })
}

/// Every JSON escape of a visible character as that (RFC 8259 §7); anything else as it
/// stands.
fn json_unescaped(bytes: &[u8]) -> Vec<u8> {
    unescaped(bytes, |rest| match rest {
        [b'\\', it @ (b'"' | b'\\' | b'/'), ..] => Some((*it, 2)),
        [b'\\', b'u', b'0', b'0', high, low, ..] => hex_byte(*high, *low)
            .filter(u8::is_ascii_graphic)
            .map(|it| (it, 6)),
        _ => None,
    })
}

/// All bytes, but those of each escape that `read` finds at the begin of the rest as the one
/// byte that it means; `read` says how many it takes.
fn unescaped(bytes: &[u8], read: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, ..] = rest {
        let (byte, length) = read(rest).unwrap_or((*first, 1));
        out.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
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
        assert_eq!(
            ApiKey::new(b"ab cdefgh").unwrap_err(),
            BadApiKey::NotVisibleAscii(2)
        );
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
    fn an_echo_is_found_in_plain_and_base64_with_percent_and_json_escapes() {
        let key =
            UpstreamKey::new("main", &ApiKey::new(b"sk-ab?~>~?>cd/9").unwrap(), "bearer").unwrap();
        // The base64 texts were made with Python's base64 module.
        for echo in [
            &b"{\"echo\":\"sk-ab?~>~?>cd/9\"}"[..],
            b"c2stYWI/fj5+Pz5jZC85",
            b"c2stYWI_fj5-Pz5jZC85",
            b"YXNrLWFiP34+fj8+Y2QvOQ==",
            b"YmVhcmVyIHNrLWFiP34+fj8+Y2QvOXg=",
            b"sk-ab%3F~%3e~?%3Ecd%2f9",
            b"%73%6B%2D%61%62%3F%7E%3E%7E%3F%3E%63%64%2F%39",
            b"c2stYWI%2Ffj5%2bPz5jZC85",
            // Each as an encoder of JSON may write it.
            br#"{"echo":"sk-ab?~>~?>cd\/9"}"#,
            br#"{"echo":"sk-ab?~\u003e~?\u003Ecd/9"}"#,
            br#"{"echo":"\u0073k-ab?~>~?>cd\u002f\u0039"}"#,
            br#"{"echo":"c2stYWI\/fj5+Pz5jZC85"}"#,
            br#"{"echo":"c2stYWI\/fj5\u002bPz5jZC85"}"#,
            br#"{"echo":"sk-ab\u00253F~>~?>cd/9"}"#,
            b"echo=sk-ab%5Cu003f~%3E~%5Cu003F>cd%5C/9",
        ] {
            assert!(key.is_echoed_in(echo), "{}", String::from_utf8_lossy(echo));
        }
        for other in [
            &b""[..],
            b"%",
            b"%7",
            b"{\"success\":true}",
            b"sk-ab",
            b"100%25 sk-",
            b"\\",
            b"\\u",
            b"\\u00",
            b"\\u003",
            br#"{"path":"C:\\\\sk-ab","error":"\u00e9\n\ud83d\ude00"}"#,
        ] {
            assert!(!key.is_echoed_in(other));
        }
        let key = UpstreamKey::new("main", &ApiKey::new(br#"sk-"a\b"c"#).unwrap(), "bearer");
        assert!(key.unwrap().is_echoed_in(br#"{"echo":"sk-\"a\\b\"c"}"#));
    }

    proptest::proptest! {
        #[test]
        fn a_word_is_long_enough_if_one_of_all_words_is(text in "[ab ]{0,40}", length in 1usize..8) {
            let is_there = text.split(' ').any(|word| word.len() >= length);
            assert_eq!(has_word(text.as_bytes(), length), is_there);
        }
    }

    #[test]
    fn hex_is_lower_case_and_padded() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
