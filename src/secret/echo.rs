//! Whether an answer of the upstream contains the key that was sent, in any form in which
//! a server plausibly writes back what it was given.

use std::collections::BTreeSet;

use memchr::{memchr, memmem};

/// Looks for a key in what the upstream answered.
pub(super) struct KeyEcho {
    plain: memmem::Finder<'static>,
    base64: Vec<memmem::Finder<'static>>,
}

impl KeyEcho {
    pub(super) fn new(key: &[u8]) -> Self {
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

    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{ApiKey, UpstreamKey};

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
}
