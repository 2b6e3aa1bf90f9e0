//! The chain: each line holds the hash of the line before.

use std::fmt;

use aws_lc_rs::{digest, hmac};

use super::record::Line;
use crate::secret::{MacKey, hex_pair};

/// The hash of a record, in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; Self::LEN]);

impl Hash {
    /// Hex digits of a SHA-256.
    const LEN: usize = 64;

    /// What stands before the first record: 64 zeros.
    pub fn first() -> Self {
        Self([b'0'; Self::LEN])
    }

    /// Of 32 bytes.
    fn of(sum: &[u8]) -> Self {
        let mut digits = [b'0'; Self::LEN];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(sum) {
            pair.copy_from_slice(&hex_pair(*byte));
        }
        Self(digits)
    }

    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let digits = text.as_bytes().try_into().ok()?;
        text.bytes().all(lower_hex).then_some(Self(digits))
    }

    /// Of 32 bytes, as a database has them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == Self::LEN / 2).then(|| Self::of(bytes))
    }

    /// The 32 bytes.
    pub fn to_bytes(&self) -> [u8; Self::LEN / 2] {
        let mut bytes = [0; Self::LEN / 2];
        let digit = |digit: u8| match digit {
            b'a'..=b'f' => digit - b'a' + 10,
            _ => digit & 15,
        };
        for (byte, pair) in bytes.iter_mut().zip(self.0.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, hex| byte << 4 | digit(*hex));
        }
        bytes
    }

    /// The bytes of its digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        // It always is.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.as_str())
    }
}

/// How a line's bytes from `{` up to, not including, `,"hash":` become its hash.
#[derive(Clone, Default)]
pub enum Hasher {
    /// SHA-256: anybody can check it, and anybody who can write can rewrite it all.
    #[default]
    Sha256,
    /// HMAC-SHA256 (RFC 2104) with `audit.mac_key`: only who has the key can write it.
    Hmac {
        /// The key.
        key: Box<hmac::Key>,
        /// What tells one key from another.
        fingerprint: String,
    },
}

impl Hasher {
    /// SHA-256 without a key, HMAC-SHA256 with one.
    pub fn new(key: Option<&MacKey>) -> Self {
        key.map_or(Self::Sha256, |key| Self::Hmac {
            key: Box::new(hmac::Key::new(hmac::HMAC_SHA256, key.expose())),
            fingerprint: key.fingerprint(),
        })
    }

    /// The hash of a line's content.
    pub fn hash(&self, content: &[u8]) -> Hash {
        match self {
            Self::Sha256 => Hash::of(digest::digest(&digest::SHA256, content).as_ref()),
            Self::Hmac { key, .. } => Hash::of(hmac::sign(key, content).as_ref()),
        }
    }

    /// The fingerprint of the key, if there is one.
    pub fn key_fingerprint(&self) -> Option<&str> {
        match self {
            Self::Sha256 => None,
            Self::Hmac { fingerprint, .. } => Some(fingerprint),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "Sha256",
            Self::Hmac { .. } => "Hmac(redacted)",
        })
    }
}

/// The last record of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// The head of an empty trail.
    pub fn empty() -> Self {
        Self {
            seq: 0,
            hash: Hash::first(),
        }
    }

    /// The one that a record makes; `None` if its hash is none.
    pub fn of(record: &Line<'_>) -> Option<Self> {
        Some(Self {
            seq: record.seq,
            hash: Hash::parse(&record.hash)?,
        })
    }

    /// Whether a record says that it follows this one.
    pub fn precedes(&self, record: &Line<'_>) -> bool {
        self.seq.checked_add(1) == Some(record.seq) && &*record.prev == self.hash.as_str()
    }

    /// Reads `SEQ:HASH`, as heads are printed.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "expected SEQ:HASH, a number and 64 lower-case hex digits";
        let (seq, hash) = text.split_once(':').ok_or(expected)?;
        Ok(Self {
            seq: seq.parse().map_err(|_| expected)?,
            hash: Hash::parse(hash).ok_or(expected)?,
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc` (FIPS 180-2, appendix B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_hash_is_the_same_as_digits_and_as_bytes() {
        let hash = Hasher::new(None).hash(b"abc");
        assert_eq!(hash.as_str(), ABC);
        assert_eq!(hash.as_bytes(), ABC.as_bytes());
        assert_eq!(Hash::parse(ABC), Some(hash));
        let bytes = hash.to_bytes();
        assert_eq!(&bytes[..3], b"\xba\x78\x16");
        assert_eq!(Hash::from_bytes(&bytes), Some(hash));
        assert_eq!(Hash::from_bytes(&bytes[1..]), None);
        assert_eq!(Hash::first().to_bytes(), [0; 32]);
        for not_one in [&ABC[1..], &ABC.to_uppercase(), &ABC.replace('f', "g")] {
            assert_eq!(Hash::parse(not_one), None, "{not_one}");
        }
    }

    #[test]
    fn a_head_reads_as_it_is_written() {
        let head = Head {
            seq: 7,
            hash: Hasher::new(None).hash(b"abc"),
        };
        assert_eq!(head.to_string(), format!("7:{ABC}"));
        assert_eq!(Head::parse(&head.to_string()), Ok(head));
        for not_one in [ABC, "x:", &format!("x:{ABC}"), "7:ab"] {
            assert!(Head::parse(not_one).is_err(), "{not_one}");
        }
    }

    /// RFC 4231 §4.7: a key longer than the block.
    #[test]
    fn with_a_key_it_is_the_hmac_and_the_key_is_told_by_its_fingerprint_alone() {
        let key = MacKey::new(&[0xaa; 131]).unwrap();
        let hasher = Hasher::new(Some(&key));
        let hash = hasher.hash(b"Test Using Larger Than Block-Size Key - Hash Key First");
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(hash.as_str(), expected);
        let fingerprint = key.fingerprint();
        assert_eq!(hasher.key_fingerprint(), Some(fingerprint.as_str()));
        assert_eq!(Hasher::new(None).key_fingerprint(), None);
        assert_eq!(format!("{hasher:?}"), "Hmac(redacted)");
    }
}
