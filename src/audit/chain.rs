//! The chain: each line holds the hash of the line before.

use aws_lc_rs::digest;

use crate::secret::hex;

/// What stands between a record's content and its hash.
pub const BEFORE_HASH: &str = ",\"hash\":\"";
/// What ends a line.
pub const AFTER_HASH: &str = "\"}\n";

/// The SHA-256 of a record, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash(String);

impl Hash {
    /// What stands before the first record: 64 zeros.
    pub fn first() -> Self {
        Self("0".repeat(64))
    }

    /// The hash of a line's bytes from `{` up to, not including, `,"hash":`.
    pub fn of(content: &[u8]) -> Self {
        Self(hex(digest::digest(&digest::SHA256, content).as_ref()))
    }

    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(lower_hex)).then(|| Self(text.to_owned()))
    }

    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The last record of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}
