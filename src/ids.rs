//! Identifiers that a caller names, or that we give a call.

use std::{cell::RefCell, fmt};

use http::HeaderValue;
use jiff::Timestamp;

use crate::token::looks_like_token;

/// Random bytes that are fetched at once.
const RANDOM_BLOCK: usize = 1280;

/// Which identifiers `upstream.ids` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdGrammar {
    /// 1 to 128 of `A-Z a-z 0-9 . _ ~ -`, and not `.` or `..`: RFC 3986's
    /// unreserved characters, so that no id ever needs percent-encoding. What
    /// begins as a token does, or holds one, is none.
    #[default]
    Opaque,
    /// Exactly 24 hex digits: an object id, as in the vendor's examples.
    ObjectId,
}

impl IdGrammar {
    /// The longest opaque id, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Whether `id`, taken as raw bytes, is an identifier.
    pub fn accepts(self, id: &str) -> bool {
        match self {
            Self::Opaque => {
                (1..=Self::BYTES_MAX).contains(&id.len())
                    && id != "."
                    && id != ".."
                    // A token in the wrong place must reach neither the trail nor the upstream.
                    && !looks_like_token(id)
                    && id.bytes().all(|b| {
                        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-')
                    })
            }
            Self::ObjectId => id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        }
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes `id` if `grammar` accepts it; nothing is decoded.
            pub fn parse(id: &str, grammar: IdGrammar) -> Option<Self> {
                grammar.accepts(id).then(|| Self(id.into()))
            }

            /// The id as it stood in the path.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id_type! {
    /// The Alloy user a credential belongs to.
    UserId
}
id_type! {
    /// The credential to delete.
    CredentialId
}

/// The latest time that an id can have, in ms since 1970: it has 48 bits for it.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// Our own id of one request: a UUIDv7 (RFC 9562 §5.7), so that ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; uuid::fmt::Hyphenated::LENGTH]);

impl RequestId {
    /// A new id, never given before.
    pub fn next() -> Self {
        Self::at(Timestamp::now())
    }

    /// A new id, never given before, of a request that came at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self::at_millis(u64::try_from(now.as_millisecond()).unwrap_or_default())
    }

    /// A new id that sorts behind another one, if that is one: a millisecond later.
    pub fn behind(other: &str) -> Option<Self> {
        let [a, b, c, d, e, f, ..] = uuid::Uuid::try_parse(other).ok()?.into_bytes();
        let millis = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Some(Self::at_millis((millis + 1).min(MILLIS_MAX)))
    }

    fn at_millis(millis: u64) -> Self {
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random());
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        id.into_uuid().as_hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// The id as text: 36 hex digits and hyphens.
    pub fn as_str(&self) -> &str {
        // It always is.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 16 bytes that it stands for.
    pub fn bytes(&self) -> [u8; 16] {
        uuid::Uuid::try_parse_ascii(&self.0).map_or([0; 16], uuid::Uuid::into_bytes)
    }

    /// The bytes of its text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as the value of a header field.
    pub fn header_value(&self) -> HeaderValue {
        // Hex digits and hyphens are always a header value.
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Random bytes, fetched from the system for many ids at once. They make ids
/// unique; nothing has to be kept secret by them.
pub fn random<const N: usize>() -> [u8; N] {
    thread_local! {
        static BLOCK: RefCell<([u8; RANDOM_BLOCK], usize)> = const { RefCell::new(([0; RANDOM_BLOCK], RANDOM_BLOCK)) };
    }
    BLOCK.with_borrow_mut(|(block, used)| {
        if *used + N > RANDOM_BLOCK {
            // Without random numbers the time still tells ids apart, mostly.
            let _ = aws_lc_rs::rand::fill(block);
            *used = 0;
        }
        let mut random = [0; N];
        random.copy_from_slice(block.get(*used..*used + N).unwrap_or(&[0; N]));
        *used += N;
        random
    })
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_id_is_1_to_128_unreserved_characters() {
        let longest = "a".repeat(128);
        for good in [
            "a",
            "A-Z.a_z~9",
            "...",
            ".a",
            "689593e23e4c93cae95fd75c",
            longest.as_str(),
        ] {
            assert!(IdGrammar::Opaque.accepts(good), "{good}");
        }
        let too_long = "a".repeat(129);
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a%41",
            "a/b",
            "a;b",
            "a?",
            "ü",
            "a\0",
            "a+b",
            too_long.as_str(),
            "agw_x",
            // A token but for its checksum, which can be computed.
            "agw_0123456789abcdefghijABCDEFGHIJ0123456789abc",
            "Bearer.agw_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghi",
        ] {
            assert!(!IdGrammar::Opaque.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn an_object_id_is_24_hex_digits() {
        assert!(IdGrammar::ObjectId.accepts("689593e23e4c93cae95fd75c"));
        assert!(IdGrammar::ObjectId.accepts("689593E23E4C93CAE95FD75C"));
        assert!(!IdGrammar::ObjectId.accepts("689593e23e4c93cae95fd75"));
        assert!(!IdGrammar::ObjectId.accepts("689593e23e4c93cae95fd75cc"));
        assert!(!IdGrammar::ObjectId.accepts("689593e23e4c93cae95fd75g"));
    }

    #[test]
    fn an_id_is_behind_another_one_whenever_that_was_made() {
        let now = RequestId::next();
        let later = RequestId::behind(now.as_str()).unwrap();
        assert!(later.as_str() > now.as_str());
        let last = "ffffffff-ffff-7fff-bfff-ffffffffffff";
        assert_eq!(
            &RequestId::behind(last).unwrap().as_str()[..13],
            &last[..13]
        );
        assert!(RequestId::behind("no id").is_none());
    }
}
