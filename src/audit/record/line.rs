//! A line as a reader sees it.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::Deserialize;

use crate::audit::{
    event,
    format::{CODE_OF_CONNECTIONS, CODE_OF_GUESSES},
};

/// A line as a reader sees it. Unknown fields and events are accepted.
#[derive(Debug, Deserialize)]
pub struct Line<'a> {
    /// The version of the format.
    pub v: u32,
    /// The record's number.
    pub seq: u64,
    /// When it happened: UTC, RFC 3339, six decimals.
    #[serde(borrow)]
    pub time: Text<'a>,
    /// What happened.
    #[serde(borrow)]
    pub event: Text<'a>,
    /// The request, if it is about one.
    #[serde(borrow, default)]
    pub request_id: Option<Text<'a>>,
    /// The caller's own id of the request.
    #[serde(borrow, default)]
    pub caller_request_id: Option<Text<'a>>,
    /// Whose token it was.
    #[serde(borrow, default)]
    pub tenant: Option<Text<'a>>,
    /// Which of the tenant's tokens.
    #[serde(borrow, default)]
    pub token: Option<Text<'a>>,
    /// Who sent it.
    #[serde(borrow, default)]
    pub peer: Option<Text<'a>>,
    /// The user of the path.
    #[serde(borrow, default)]
    pub user: Option<Text<'a>>,
    /// The credential of the path.
    #[serde(borrow, default)]
    pub credential: Option<Text<'a>>,
    /// The number of the intent, in an outcome.
    #[serde(default)]
    pub intent: Option<u64>,
    /// How it ended, in an outcome.
    #[serde(borrow, default)]
    pub outcome: Option<Text<'a>>,
    /// The status that the caller got.
    #[serde(default)]
    pub status: Option<u16>,
    /// The code that the caller got.
    #[serde(borrow, default)]
    pub code: Option<Text<'a>>,
    /// What the code does not say.
    #[serde(borrow, default)]
    pub reason: Option<Text<'a>>,
    /// The status of the upstream's last answer.
    #[serde(default)]
    pub upstream_status: Option<u16>,
    /// How many attempts were made.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// Whether a DELETE may have reached the upstream.
    #[serde(borrow, default)]
    pub sent: Option<Text<'a>>,
    /// From the request's head to its outcome, in µs.
    #[serde(default)]
    pub latency_us: Option<u64>,
    /// Which freeze a record is about.
    #[serde(borrow, default)]
    pub freeze: Option<Text<'a>>,
    /// Who brought it about, in a change.
    #[serde(borrow, default)]
    pub by: Option<Text<'a>>,
    /// For whom, as they say themselves, in a change.
    #[serde(borrow, default)]
    pub on_behalf_of: Option<Text<'a>>,
    /// Since when what the record says again is so.
    #[serde(borrow, default)]
    pub since: Option<Text<'a>>,
    /// How many refusals a coalesced record stands for.
    #[serde(default)]
    pub count: Option<u64>,
    /// In `trail.opened`: the number of the oldest intent without an outcome.
    #[serde(default)]
    pub open: Option<u64>,
    /// In `trail.opened`: how many freezes stand; that many records follow that say so.
    #[serde(default)]
    pub frozen: Option<u64>,
    /// In `trail.opened`: the id under which the trail is collected.
    #[serde(borrow, default)]
    pub chain: Option<Text<'a>>,
    /// In `trail.opened`: the fingerprint of the key that records are hashed with.
    #[serde(borrow, default)]
    pub mac_key: Option<Text<'a>>,
    /// In `trail.opened`: for how many ms retention removes nothing yet.
    #[serde(default)]
    pub retention_rests_ms: Option<u64>,
    /// In `trail.opened`: the number of the oldest record that was there.
    #[serde(default)]
    pub oldest: Option<u64>,
    /// In `trail.pruned`: the number of the last record that was removed.
    #[serde(default)]
    pub until_seq: Option<u64>,
    /// In `trail.pruned`: the hash of the last record that was removed.
    #[serde(borrow, default)]
    pub until_hash: Option<Text<'a>>,
    /// The hash of the record before.
    #[serde(borrow)]
    pub prev: Text<'a>,
    /// The hash of this one.
    #[serde(borrow)]
    pub hash: Text<'a>,
}

/// What a record says was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Calls, and requests that were none.
    Calls,
    /// Connections, before there was a request.
    Connections,
    /// Guesses at the admin token.
    Guesses,
}

impl Line<'_> {
    /// What it says was refused, and how often; `None` if nothing was.
    pub fn refused(&self) -> Option<(Refused, u64)> {
        match &*self.event {
            event::REFUSED => Some((Refused::Calls, 1)),
            event::CONNECTION_REFUSED => Some((Refused::Connections, 1)),
            event::ADMIN_REFUSED => Some((Refused::Guesses, 1)),
            event::COALESCED => {
                let what = match self.code.as_deref() {
                    Some(CODE_OF_CONNECTIONS) => Refused::Connections,
                    Some(CODE_OF_GUESSES) => Refused::Guesses,
                    _ => Refused::Calls,
                };
                Some((what, self.count.unwrap_or(0)))
            }
            _ => None,
        }
    }

    /// Whether it is about calls, or attempts at one: `audit query` tells those, `audit
    /// events` all else. What was counted together stands where each of it would.
    pub fn is_of_calls(&self) -> bool {
        let is_guess = matches!(self.refused(), Some((Refused::Guesses, _)));
        event::OF_CALLS.contains(&&*self.event) && !is_guess
    }
}

/// Text of a line, borrowed where nothing was escaped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &str, code: &str) -> String {
        let code = match code {
            "" => String::new(),
            code => format!(r#","code":"{code}","count":7"#),
        };
        format!(r#"{{"v":1,"seq":1,"time":"","event":"{event}"{code},"prev":"","hash":""}}"#)
    }

    #[test]
    fn what_was_counted_together_is_told_where_each_of_it_would_be() {
        for (single, code, what) in [
            (event::REFUSED, "unauthenticated", Refused::Calls),
            (event::REFUSED, "of-a-later-version", Refused::Calls),
            (
                event::CONNECTION_REFUSED,
                CODE_OF_CONNECTIONS,
                Refused::Connections,
            ),
            (event::ADMIN_REFUSED, CODE_OF_GUESSES, Refused::Guesses),
        ] {
            let (single, together) = (line(single, ""), line(event::COALESCED, code));
            let single: Line<'_> = serde_json::from_str(&single).unwrap();
            let together: Line<'_> = serde_json::from_str(&together).unwrap();
            assert_eq!(single.refused(), Some((what, 1)));
            assert_eq!(together.refused(), Some((what, 7)), "{code}");
            assert_eq!(single.is_of_calls(), together.is_of_calls(), "{code}");
            assert_eq!(single.is_of_calls(), what != Refused::Guesses, "{code}");
        }
    }
}
