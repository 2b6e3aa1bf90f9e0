//! Tenants: whose tokens are whose, and what limits them.

use std::{fmt, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{closed_list::closed_list, gcra::Window, ids::UserId, token::TokenDigest};

/// A named owner of tokens, limits and a set of Alloy users.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name, unique: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: Arc<str>,
    /// Index into [`Settings::keys`](super::Settings::keys).
    pub key: usize,
    /// Whom it may touch.
    pub users: Users,
    /// Its tokens, in the order of the file.
    pub tokens: Arc<[TokenEntry]>,
    /// Its own limits, shortest window first.
    pub limits: Box<[Window]>,
    /// How long a call may wait for its turn before it is refused.
    pub wait: Duration,
    /// How many calls may wait at once.
    pub wait_queue: u32,
    /// How many of its calls may be under way at once.
    pub in_flight: u32,
    /// What happens with a call that is allowed.
    pub mode: Mode,
    /// The budget of deletions that freezes it; `None` if none does.
    pub freeze_after: Option<FreezeAfter>,
}

/// So many different credentials deleted within any span of `per` freeze a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreezeAfter {
    /// How many different credentials, 1 to 100,000.
    pub deletions: NonZeroU32,
    /// Within which span; 1 s to 366 days.
    pub per: Duration,
}

/// Whom a tenant may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Every user.
    All,
    /// These users.
    Listed(Vec<UserId>),
    /// The users in a file, one id a line; `#` begins a comment.
    File(PathBuf),
}

/// One token of a tenant, as the config knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// Its name in trail and metrics; no secret. 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub id: Arc<str>,
    /// The SHA-256 of the whole token.
    pub digest: TokenDigest,
    /// Not accepted before.
    pub not_before: Option<Timestamp>,
    /// Not accepted from then on.
    pub expires: Option<Timestamp>,
}

impl TokenEntry {
    /// Whether it is accepted at this time, and until when or why not.
    #[inline]
    pub fn state(&self, now: Timestamp) -> TokenState {
        // Each call asks: what it does not need is not copied.
        match (&self.not_before, &self.expires) {
            (Some(from), _) if now < *from => TokenState::NotYet(*from),
            (_, Some(until)) if now >= *until => TokenState::Expired(*until),
            (_, until) => TokenState::Good(*until),
        }
    }

    /// Whether it is accepted at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        matches!(self.state(now), TokenState::Good(_))
    }
}

/// How a token stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It is accepted: before this time, or for ever.
    Good(Option<Timestamp>),
    /// It is not accepted before this time.
    NotYet(Timestamp),
    /// It has not been accepted since this time.
    Expired(Timestamp),
}

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(Some(until)) => write!(f, "valid until {until}"),
            Self::Good(None) => f.write_str("valid, does not expire"),
            Self::NotYet(from) => write!(f, "not valid before {from}"),
            Self::Expired(until) => write!(f, "expired at {until}"),
        }
    }
}

closed_list! {
    /// What happens with a call that is allowed, as config and status name it.
    pub enum Mode {
        /// It is sent.
        Enforce => "enforce",
        /// Everything but sending; answered 403 `dry-run`.
        DryRun => "dry_run",
        /// Refused with 403 `tenant-suspended`.
        Suspended => "suspended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::testing::window;

    #[test]
    fn a_token_is_good_from_its_first_moment_until_before_its_last() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let token = |not_before: Option<i64>, expires: Option<i64>| TokenEntry {
            id: "t".into(),
            digest: TokenDigest::from_hex(&"0".repeat(64)).unwrap(),
            not_before: not_before.map(at),
            expires: expires.map(at),
        };
        let (from, until) = (at(10), at(20));
        let good = TokenState::Good(Some(until));
        let bounded = token(Some(10), Some(20));
        for (now, expected, words) in [
            (
                9,
                TokenState::NotYet(from),
                format!("not valid before {from}"),
            ),
            (10, good, format!("valid until {until}")),
            (19, good, format!("valid until {until}")),
            (
                20,
                TokenState::Expired(until),
                format!("expired at {until}"),
            ),
        ] {
            let state = bounded.state(at(now));
            assert_eq!((state, state.to_string()), (expected, words), "{now}");
            assert_eq!(bounded.is_valid(at(now)), expected == good, "{now}");
        }
        let endless = token(None, None).state(from);
        assert_eq!(endless, TokenState::Good(None));
        assert_eq!(endless.to_string(), "valid, does not expire");
    }

    #[test]
    fn a_limit_is_named_by_its_span_and_none_is_rounded() {
        let name = |ms| window(1, Duration::from_millis(ms)).name("tenant");
        // The first three are what the design names.
        for (ms, expected) in [
            (1000, "tenant-1s"),
            (86_400_000, "tenant-1d"),
            (60_000, "tenant-60s"),
            (3_600_000, "tenant-3600s"),
            (500, "tenant-500ms"),
            (1500, "tenant-1500ms"),
            (604_800_000, "tenant-7d"),
        ] {
            assert_eq!(name(ms), expected);
        }
    }
}
