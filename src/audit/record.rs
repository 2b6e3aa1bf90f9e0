//! The records, and how they are written.
//!
//! A worker makes the middle of a line, from its time to its last own field; the
//! writer puts number, event and chain around it.

mod freeze;
mod line;
mod text;

use std::{cell::RefCell, fmt::Write};

use jiff::Timestamp;

use self::text::escape;
pub use self::{
    freeze::FrozenRecord,
    line::{Line, Refused},
    text::{TEXT_BYTES_MAX, time, write_time},
};
use super::event;
use crate::{closed_list::closed_list, code::Code, ids::RequestId, secret::UpstreamKey};

/// Room for what nearly every record holds.
const FIELDS_BYTES: usize = 320;
/// Texts that a thread keeps for its next records.
const SPARE_MAX: usize = 1024;

thread_local! {
    // A record is made on one thread and written on another: memory that goes
    // back where it was taken is memory that the two do not contend for.
    static SPARE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The status that a caller gets whose intent was not durable in time. The trail says it of
/// an intent that was durable later: it is what the pipeline answers with.
pub const UNAVAILABLE_STATUS: u16 = 503;
/// What is about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct IntentRecord<'a> {
    /// Joins the records of one request.
    pub request_id: RequestId,
    /// The caller's own id.
    pub caller_request_id: Option<&'a str>,
    /// Whose token it was.
    pub tenant: &'a str,
    /// Which of the tenant's tokens.
    pub token: &'a str,
    /// Who sent it.
    pub peer: &'a str,
    /// The user the credential belongs to.
    pub user: &'a str,
    /// The credential to delete.
    pub credential: &'a str,
    /// The digest of the config that the call was decided by.
    pub config: &'a str,
}

/// How a recorded call ended.
#[derive(Debug, Clone, Copy)]
pub struct OutcomeRecord<'a> {
    /// What is known of the credential.
    pub outcome: OutcomeKind,
    /// The status that the caller gets.
    pub status: u16,
    /// The code, if the gateway answers by itself.
    pub code: Option<&'a str>,
    /// The status of the upstream's last answer.
    pub upstream_status: Option<u16>,
    /// How many attempts were made.
    pub attempts: u32,
    /// How each ended, a status or a word; none where one attempt was answered, and
    /// `upstream_status` says it.
    pub attempt_ends: &'a [&'a str],
    /// Whether a DELETE may have reached the upstream.
    pub sent: Sent,
    /// From the request's head to its outcome, in µs.
    pub latency_us: u64,
}

/// Who was refused, as far as that was shown. Each has an allowance of its own, so that
/// none hides what another tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Somebody without a good token: one that is expired, or not valid yet, is none.
    Stranger,
    /// Somebody with one.
    Tenant,
    /// Somebody at the admin listener, whose token was not good.
    AtAdmin,
}

/// A request that the gateway answered by itself, before any intent.
#[derive(Debug, Clone, Copy)]
pub struct RefusedRecord<'a> {
    /// Our id of the request.
    pub request_id: RequestId,
    /// The caller's own id.
    pub caller_request_id: Option<&'a str>,
    /// Whose allowance it is written from.
    pub who: Who,
    /// Whose token it was, if it was somebody's: also if it is not valid now, and so was
    /// no proof.
    pub tenant: Option<&'a str>,
    /// Which of the tenant's tokens.
    pub token: Option<&'a str>,
    /// The user of the path, if it was one.
    pub user: Option<&'a str>,
    /// The credential of the path, if it was one.
    pub credential: Option<&'a str>,
    /// The code that the caller got.
    pub code: &'a str,
    /// What the code does not say.
    pub reason: Option<&'a str>,
    /// The status that the caller got.
    pub status: u16,
    /// Who sent it.
    pub peer: &'a str,
}

closed_list! {
    /// What is known of the credential after a call, over all attempts, as the trail
    /// names it.
    #[derive(Hash)]
    pub enum OutcomeKind {
        /// The upstream answered 200 with `"success": true`.
        Deleted => "deleted",
        /// It may have been deleted, and that was never confirmed.
        InDoubt => "in-doubt",
        /// The upstream said no.
        NotDeleted => "not-deleted",
        /// Nothing reached the upstream.
        Failed => "failed",
        /// Nothing was to be sent.
        DryRun => "dry-run",
    }
}

impl OutcomeKind {
    /// The one with this name in the trail; a name that is not known confirms nothing.
    pub fn read(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        known.unwrap_or(Self::InDoubt)
    }

    /// Whether the credential was deleted, or may have been.
    pub fn is_deletion(self) -> bool {
        match self {
            Self::Deleted | Self::InDoubt => true,
            Self::NotDeleted | Self::Failed | Self::DryRun => false,
        }
    }
}

/// Whether a DELETE may have reached the upstream; ordered by strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sent {
    /// Certainly not.
    No,
    /// Something was written, and nothing was answered.
    Unknown,
    /// The upstream answered.
    Yes,
}

impl Sent {
    /// Its name in trail and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Yes => "yes",
        }
    }
}

/// The part of a line that its maker knows.
#[derive(Debug)]
pub struct Fragment {
    /// The event's name.
    pub event: &'static str,
    /// When it happened, in µs since 1970.
    pub time_us: i64,
    /// Its own fields, each with a comma before it.
    pub fields: String,
}

impl Fragment {
    /// A fragment of an event that happens now.
    pub fn now(event: &'static str) -> Self {
        Self {
            event,
            time_us: Timestamp::now().as_microsecond(),
            fields: SPARE
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| String::with_capacity(FIELDS_BYTES)),
        }
    }

    /// Keeps the memory of a record that was written for the next one of this thread.
    pub fn recycle(self) {
        let mut text = self.fields;
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX && text.capacity() <= 2 * FIELDS_BYTES {
                text.clear();
                spare.push(text);
            }
        });
    }

    /// `request.intent`.
    pub fn intent(record: &IntentRecord<'_>) -> Self {
        Self::now(event::INTENT)
            .text("request_id", record.request_id.as_str())
            .optional("caller_request_id", record.caller_request_id)
            .text("tenant", record.tenant)
            .text("token", record.token)
            .text("peer", record.peer)
            .text("user", record.user)
            .text("credential", record.credential)
            .text("config", record.config)
    }

    /// `request.outcome` of the intent with the number `intent`.
    pub fn outcome(request_id: RequestId, intent: u64, record: &OutcomeRecord<'_>) -> Self {
        let fragment = Self::now(event::OUTCOME)
            .text("request_id", request_id.as_str())
            .number("intent", intent)
            .text("outcome", record.outcome.as_str())
            .number("status", u64::from(record.status))
            .optional("code", record.code)
            .optional_number("upstream_status", record.upstream_status.map(u64::from))
            .number("attempts", u64::from(record.attempts));
        let fragment = match record.attempt_ends {
            [] => fragment,
            ends => fragment.list("attempt_ends", ends),
        };
        fragment
            .text("sent", record.sent.as_str())
            .number("latency_us", record.latency_us)
    }

    /// `request.outcome` of an intent that nobody can close any more: the
    /// process that wrote it ended, or a bug cut the work. It happened, if it
    /// did, between `since` and now.
    pub fn in_doubt(request_id: &str, intent: u64, since: Option<&str>) -> Self {
        Self::now(event::OUTCOME)
            .text("request_id", request_id)
            .number("intent", intent)
            .text("outcome", OutcomeKind::InDoubt.as_str())
            .text("sent", Sent::Unknown.as_str())
            .optional("since", since)
    }

    /// `request.outcome` of an intent that became durable too late: its caller
    /// was refused, and nothing was sent.
    pub fn too_late(request_id: RequestId, intent: u64) -> Self {
        Self::now(event::OUTCOME)
            .text("request_id", request_id.as_str())
            .number("intent", intent)
            .text("outcome", OutcomeKind::Failed.as_str())
            .number("status", u64::from(UNAVAILABLE_STATUS))
            .text("code", Code::AuditUnavailable.as_str())
            .number("attempts", 0)
            .text("sent", Sent::No.as_str())
    }

    /// `request.refused`.
    pub fn refused(record: &RefusedRecord<'_>) -> Self {
        Self::now(event::REFUSED)
            .text("request_id", record.request_id.as_str())
            .optional("caller_request_id", record.caller_request_id)
            .optional("tenant", record.tenant)
            .optional("token", record.token)
            .optional("user", record.user)
            .optional("credential", record.credential)
            .text("code", record.code)
            .optional("reason", record.reason)
            .number("status", u64::from(record.status))
            .text("peer", record.peer)
    }

    /// `connection.refused`: it ended before there was a request to answer.
    pub fn connection_refused(peer: &str, reason: &str) -> Self {
        Self::now(event::CONNECTION_REFUSED)
            .text("peer", peer)
            .text("reason", reason)
    }

    /// `admin.refused`: somebody sent an admin token that is not good.
    pub fn admin_refused(peer: &str, path: &str) -> Self {
        Self::now(event::ADMIN_REFUSED)
            .text("peer", peer)
            .text("path", path)
    }

    /// `config.loaded`; `by` is what brought it about.
    pub fn config_loaded(digest: &str, lists: Option<&str>, tenants: usize, by: &str) -> Self {
        Self::now(event::CONFIG_LOADED)
            .text("config", digest)
            .optional("lists", lists)
            .number("tenants", tenants as u64)
            .text("by", by)
    }

    /// `key.rotated`: the fingerprints tell the keys apart, and nothing else.
    pub fn key_rotated(from: &UpstreamKey, to: &UpstreamKey, by: &str) -> Self {
        Self::now(event::KEY_ROTATED)
            .text("key", to.name())
            .text("from", from.fingerprint())
            .text("to", to.fingerprint())
            .text("by", by)
    }

    /// `config.rejected`.
    pub fn config_rejected(problems: usize, first: &str, by: &str) -> Self {
        Self::now(event::CONFIG_REJECTED)
            .number("problems", problems as u64)
            .text("first", first)
            .text("by", by)
    }

    /// Adds a text field.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        escape(&mut self.fields, value);
        self
    }

    /// Adds a text field if there is a value.
    pub fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a number.
    pub fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        self.fields.push_str(itoa::Buffer::new().format(value));
        self
    }

    fn name(&mut self, name: &str) {
        for part in [",\"", name, "\":"] {
            self.fields.push_str(part);
        }
    }

    /// Adds a number with a sign.
    pub fn signed(mut self, name: &str, value: i64) -> Self {
        let _ = write!(self.fields, ",\"{name}\":{value}");
        self
    }

    /// Adds a number if there is one.
    pub fn optional_number(self, name: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    fn list(mut self, name: &str, values: &[&str]) -> Self {
        let _ = write!(self.fields, ",\"{name}\":[");
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.fields.push(',');
            }
            escape(&mut self.fields, value);
        }
        self.fields.push(']');
        self
    }
}
