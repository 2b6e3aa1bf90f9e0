//! The tokens that callers present.
//!
//! `agw_`, 43 random characters of `0-9A-Za-z`, and 6 characters of the same
//! alphabet: the CRC-32 (IEEE, as zlib's) of all before it, in base 62, most
//! significant first, padded with `0`. The fixed prefix lets secret scanners
//! recognise a token; the checksum catches a typo before any hash is made.
//! 43 characters of 62 are 256 bits, which is why one plain SHA-256 is enough
//! at rest: there is nothing to guess.

use std::{
    fmt,
    hash::{Hash, Hasher},
    time::Duration,
};

use aws_lc_rs::{digest, rand};
use http::{HeaderMap, header};
use memchr::memmem;

use crate::secret::hex;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &[u8] = b"agw_";
const RANDOM_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;

/// The length of every token, in bytes.
pub const TOKEN_LEN: usize = PREFIX.len() + RANDOM_LEN + CHECKSUM_LEN;

/// How long before its end a token is pointed out wherever it is seen.
pub const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Why a request presents nothing that could be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBearer {
    /// It has no `Authorization` field.
    Missing,
    /// It has several of them, or one of another scheme.
    Malformed,
}

/// What a request presents: the credentials of exactly one `Authorization: Bearer …`, the
/// scheme in any case and followed by spaces (RFC 9110 §11.4). Spaces behind them are part
/// of them; HTTP/1 leaves none.
///
/// # Errors
///
/// See [`NoBearer`].
pub fn bearer(fields: &HeaderMap) -> Result<&[u8], NoBearer> {
    let mut values = fields.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(NoBearer::Missing)?;
    if values.next().is_some() {
        return Err(NoBearer::Malformed);
    }
    let (scheme, rest) = value
        .as_bytes()
        .split_at_checked("Bearer".len())
        .ok_or(NoBearer::Malformed)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") || rest.first() != Some(&b' ') {
        return Err(NoBearer::Malformed);
    }
    Ok(rest.trim_ascii_start())
}

/// A well-formed token with a right checksum, borrowed from what was presented.
#[derive(Clone, Copy)]
pub struct Token<'a>(&'a [u8]);

/// Why some bytes are not a token; the text never repeats them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Another length, prefix or alphabet.
    #[error("not a token: it must be `agw_` and 49 characters of 0-9A-Za-z")]
    Malformed,
    /// The right form, but the checksum does not fit: a typo or a cut copy.
    #[error("the token's checksum does not fit: it was probably mistyped or cut")]
    Checksum,
}

impl<'a> Token<'a> {
    /// Checks form and checksum; says nothing about whether the token is known.
    ///
    /// # Errors
    ///
    /// See [`BadToken`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadToken> {
        let body = bytes.strip_prefix(PREFIX).ok_or(BadToken::Malformed)?;
        // All are looked at, not only those up to the first bad one: several at a time.
        let is_plain = |plain: bool, byte: &u8| plain & byte.is_ascii_alphanumeric();
        if body.len() != RANDOM_LEN + CHECKSUM_LEN || !body.iter().fold(true, is_plain) {
            return Err(BadToken::Malformed);
        }
        let (signed, sum) = bytes
            .split_at_checked(TOKEN_LEN - CHECKSUM_LEN)
            .ok_or(BadToken::Malformed)?;
        if sum != checksum(signed) {
            return Err(BadToken::Checksum);
        }
        Ok(Self(bytes))
    }

    /// What the config holds of a token: the SHA-256 of the whole of it.
    pub fn digest(self) -> TokenDigest {
        let sum = digest::digest(&digest::SHA256, self.0);
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(sum.as_ref()) {
            *to = *from;
        }
        TokenDigest(out)
    }
}

/// Whether a text begins as a token does, or holds a whole one, so that it must not be
/// repeated.
pub fn looks_like_token(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.starts_with(PREFIX) || holds_token(bytes)
}

/// Whether what may be a whole token stands anywhere in a text.
pub fn holds_token(bytes: &[u8]) -> bool {
    // Looked for in every id, and few are as long.
    bytes.len() >= TOKEN_LEN
        && memmem::find_iter(bytes, PREFIX).any(|at| {
            let rest = bytes.get(at + PREFIX.len()..at + TOKEN_LEN);
            rest.is_some_and(|rest| rest.iter().all(u8::is_ascii_alphanumeric))
        })
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenDigest([u8; 32]);

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.first_eight());
    }
}

impl TokenDigest {
    /// Reads 64 hex digits, in either case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            for digit in pair {
                *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
            }
        }
        Some(Self(out))
    }

    /// Its first eight bytes: in a hash table as good as all of a SHA-256.
    pub fn first_eight(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    /// The 32 bytes of the sum.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }
}

/// A digest is no secret (the token can't be had from it), but in full it would
/// let a reader of logs test guesses, so only its beginning is shown.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TokenDigest({}…)",
            hex(self.0.get(..4).unwrap_or_default())
        )
    }
}

/// A new token, to be shown once. Reading its text is a deliberate act.
pub struct NewToken(String);

impl NewToken {
    /// Draws a token from the operating system's random numbers; by rejection
    /// sampling, so that each character is equally likely.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random numbers.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut text = PREFIX.to_vec();
        while text.len() < PREFIX.len() + RANDOM_LEN {
            let mut block = [0u8; 64];
            rand::fill(&mut block)?;
            // 248 is the largest multiple of 62 that a byte holds.
            let fair = block.iter().filter(|b| **b < 248);
            let room = PREFIX.len() + RANDOM_LEN - text.len();
            text.extend(fair.take(room).map(|b| base62(u32::from(*b) % 62)));
        }
        let sum = checksum(&text);
        text.extend(sum);
        Ok(Self(text.iter().map(|b| char::from(*b)).collect()))
    }

    /// The token, to be handed to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What goes into the config.
    pub fn digest(&self) -> TokenDigest {
        Token(self.0.as_bytes()).digest()
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken(redacted)")
    }
}

fn checksum(signed: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(signed);
    let mut out = [b'0'; CHECKSUM_LEN];
    for digit in out.iter_mut().rev() {
        *digit = base62(rest % 62);
        rest /= 62;
    }
    out
}

fn base62(digit: u32) -> u8 {
    usize::try_from(digit)
        .ok()
        .and_then(|at| ALPHABET.get(at).copied())
        .unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python: `zlib.crc32(b"agw_" + b"0" * 43)`, then base 62.
    const ZEROS: &str = "agw_00000000000000000000000000000000000000000003wpEYm";

    #[test]
    fn the_checksum_is_zlibs_crc_32_in_base_62() {
        assert_eq!(ZEROS.len(), TOKEN_LEN);
        Token::parse(ZEROS.as_bytes()).unwrap();
    }

    #[test]
    fn a_new_token_parses_and_any_single_typo_is_caught() {
        let token = NewToken::generate().unwrap();
        let text = token.reveal().to_owned();
        assert_eq!(
            Token::parse(text.as_bytes()).unwrap().digest(),
            token.digest()
        );
        for at in PREFIX.len()..TOKEN_LEN {
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(Token::parse(&typo).unwrap_err(), BadToken::Checksum);
        }
    }

    #[test]
    fn a_token_is_seen_at_the_begin_of_a_text_and_a_whole_one_within_it() {
        let token = NewToken::generate().unwrap().reveal().to_owned();
        for text in [
            token.clone(),
            "agw_".to_owned(),
            token[..TOKEN_LEN - 1].to_owned(),
            format!("Bearer-{token}"),
            format!("Bearer.{token}.x"),
            format!("agw-agw_{token}"),
        ] {
            assert!(looks_like_token(&text), "{text}");
        }
        for text in [
            String::new(),
            "my-agw_id-that-is-as-long-as-a-token-and-yet-has-none-in-it".to_owned(),
            format!("x{}", &token[..TOKEN_LEN - 1]),
            token.replace("agw_", "agx_"),
        ] {
            assert!(!looks_like_token(&text), "{text}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let text = NewToken::generate().unwrap().reveal().to_owned();
        let longer = format!("{text}0");
        let other_prefix = text.replace("agw_", "agx_");
        let other_alphabet = format!("{}-", &text[..TOKEN_LEN - 1]);
        for bad in [
            "",
            "agw_",
            "hello",
            &longer,
            &text[..TOKEN_LEN - 1],
            &other_prefix,
            &other_alphabet,
        ] {
            assert_eq!(
                Token::parse(bad.as_bytes()).unwrap_err(),
                BadToken::Malformed,
                "{bad}"
            );
        }
    }

    #[test]
    fn tokens_and_digests_do_not_speak() {
        let token = NewToken::generate().unwrap();
        let parsed = Token::parse(token.reveal().as_bytes()).unwrap();
        let all = format!("{token:?} {parsed:?} {:?}", token.digest());
        assert!(!all.contains(&token.reveal()[4..20]));
        assert!(!all.contains(&token.digest().to_hex()));
    }

    #[test]
    fn a_digest_is_read_from_64_hex_digits_only() {
        let digest = NewToken::generate().unwrap().digest();
        assert_eq!(TokenDigest::from_hex(&digest.to_hex()), Some(digest));
        assert_eq!(
            TokenDigest::from_hex(&digest.to_hex().to_uppercase()),
            Some(digest)
        );
        assert_eq!(TokenDigest::from_hex("00"), None);
        assert_eq!(TokenDigest::from_hex(&"g".repeat(64)), None);
    }
}
