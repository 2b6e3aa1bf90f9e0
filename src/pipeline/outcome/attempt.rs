//! What became of one attempt to reach the upstream.

use std::{borrow::Cow, time::Duration};

use super::Failure;
use crate::{
    audit::{OutcomeKind, Sent},
    limits::Health,
    metrics::{Ended, UpstreamError},
};

/// What became of one attempt.
#[derive(Debug)]
pub struct Attempt {
    /// Its end, for the trail.
    pub end: AttemptEnd,
    /// Whether a DELETE may have reached the upstream.
    pub sent: Sent,
    /// What it says of the credential.
    pub kind: OutcomeKind,
    /// Why its answer can't be passed on, if so.
    pub failure: Option<Failure>,
    /// How long its answer asks to wait, passed on or not.
    pub asks_to_wait: Option<Duration>,
    /// For operators only.
    pub detail: Cow<'static, str>,
    /// How long after the first attempt it began.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The upstream answered with this status.
    Status(u16),
    /// The look-up failed.
    Dns,
    /// No address took the connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// There was no connection in time.
    ConnectTimeout,
    /// A new connection was closed before the request left.
    Closed,
    /// The tenant was frozen while the connection was made; nothing was written.
    Frozen,
    /// The connection broke after something was written.
    Reset,
    /// No whole answer in time, after something was written.
    Timeout,
    /// Something was answered that is no HTTP, or was cut short.
    Protocol(&'static str),
}

impl AttemptEnd {
    /// Its name in the trail: a status, or a word.
    pub fn as_str(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Status(status) => return Cow::Owned(status.to_string()),
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ConnectTimeout => "connect-timeout",
            Self::Closed => "closed",
            Self::Frozen => "frozen",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Protocol(_) => "protocol",
        })
    }

    /// What it counts as; `None` if the upstream had no part in it.
    pub fn counted(&self) -> Option<Ended> {
        Some(match self {
            Self::Status(status) => Ok(*status),
            Self::Dns => Err(UpstreamError::Dns),
            Self::Connect => Err(UpstreamError::Connect),
            Self::Tls => Err(UpstreamError::Tls),
            Self::ConnectTimeout | Self::Timeout => Err(UpstreamError::Timeout),
            Self::Closed | Self::Reset => Err(UpstreamError::Reset),
            Self::Protocol(_) => Err(UpstreamError::Protocol),
            Self::Frozen => return None,
        })
    }
}

impl Attempt {
    /// The upstream's status, if it answered with one.
    pub fn status(&self) -> Option<u16> {
        match self.end {
            AttemptEnd::Status(status) => Some(status),
            _ => None,
        }
    }

    /// What it shows of the upstream's health: time-outs and what keeps a
    /// connection from being made count, odd requests of one tenant do not.
    pub fn health(&self) -> Option<Health> {
        match self.end {
            AttemptEnd::Status(502..=504)
            | AttemptEnd::Dns
            | AttemptEnd::Connect
            | AttemptEnd::Tls
            | AttemptEnd::ConnectTimeout
            | AttemptEnd::Timeout => Some(Health::Failing),
            AttemptEnd::Status(_) => Some(Health::Working),
            AttemptEnd::Closed
            | AttemptEnd::Frozen
            | AttemptEnd::Reset
            | AttemptEnd::Protocol(_) => None,
        }
    }

    /// One that ended without an answer.
    pub(in crate::pipeline) fn failed(
        end: AttemptEnd,
        failure: Failure,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let sent = match failure {
            Failure::Unreachable | Failure::DryRun | Failure::Frozen => Sent::No,
            Failure::Timeout | Failure::Reset => Sent::Unknown,
            Failure::Protocol | Failure::RejectedKey => Sent::Yes,
        };
        let kind = if sent == Sent::No {
            OutcomeKind::Failed
        } else {
            OutcomeKind::InDoubt
        };
        Self {
            end,
            sent,
            kind,
            failure: Some(failure),
            asks_to_wait: None,
            detail: detail.into(),
            after: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}
