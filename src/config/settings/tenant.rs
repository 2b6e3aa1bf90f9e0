//! Tenants: whose tokens are whose, and what limits them.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use crate::{closed_list::closed_list, ids::UserId, token::TokenDigest};

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
    pub not_before: Option<jiff::Timestamp>,
    /// Not accepted from then on.
    pub expires: Option<jiff::Timestamp>,
}

impl TokenEntry {
    /// Whether it is accepted at this time.
    pub fn is_valid(&self, now: jiff::Timestamp) -> bool {
        self.not_before.is_none_or(|from| now >= from)
            && self.expires.is_none_or(|until| now < until)
    }
}

/// A limit: a bucket (GCRA) that holds `burst` and regains one every
/// `per / requests`. Any span of `per` admits at most `requests + burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// How many units come back in `per`.
    pub requests: NonZeroU32,
    /// The span; whole milliseconds, at most 366 days.
    pub per: Duration,
    /// How many units the bucket holds.
    pub burst: NonZeroU32,
}

impl Window {
    /// Its name in headers and problems, such as `key-60s` or `tenant-1d`; `of` says whose
    /// it is. No two limits of one owner have the same span, so none have the same name.
    pub fn name(&self, of: &str) -> String {
        const DAY_MS: u128 = 86_400_000;
        let ms = self.per.as_millis();
        if ms.is_multiple_of(DAY_MS) {
            format!("{of}-{}d", ms / DAY_MS)
        } else if ms.is_multiple_of(1000) {
            format!("{of}-{}s", ms / 1000)
        } else {
            format!("{of}-{ms}ms")
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
