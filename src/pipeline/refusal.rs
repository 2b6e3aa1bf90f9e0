//! Every answer that the gateway makes itself, without its wire form: that is
//! [`respond`](super::respond)'s.

use std::time::Duration;

use super::outcome::Failure;
use crate::{
    audit::Sent,
    code::{AuthFailure, Code, LimitedBy},
    limits::Refused,
};

/// Why the gateway answers by itself. The names are those of the `code` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Four segments, but one of the ids is empty or has a byte that no id has.
    InvalidPath,
    /// Anything behind a `?`.
    UnexpectedQuery,
    /// `x-api-version` names another version than the configured one.
    ApiVersionMismatch,
    /// The message is ambiguous or breaks HTTP; the connection is closed.
    MalformedRequest(&'static str),
    /// The token is missing or not good. Callers see one answer for all reasons.
    Unauthenticated(AuthFailure),
    /// The tenant deleted more than its budget, or an operator stopped it: until an
    /// operator thaws it.
    TenantFrozen,
    /// The operator suspended the tenant.
    TenantSuspended,
    /// The tenant may not touch this user.
    UserNotAllowed,
    /// Another path.
    NoSuchRoute,
    /// The right path with another method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is longer than `body_bytes`.
    ContentTooLarge,
    /// More or longer header fields than the bounds allow.
    HeadersTooLarge,
    /// A limit is spent.
    RateLimited {
        /// Whose limit.
        by: LimitedBy,
        /// The limit's name, where it has one.
        policy: Option<String>,
        /// When a retry can pass.
        retry_after: Duration,
        /// Whether it was refused in the store that a fleet shares.
        by_store: bool,
    },
    /// A bug. `sent` is `unknown` from the intent on.
    InternalError(Sent),
    /// The trail can't be written.
    AuditUnavailable,
    /// Too many requests are being worked on.
    Overloaded,
    /// The gateway is stopping.
    Draining,
    /// The upstream failed several times in a row.
    CircuitOpen {
        /// When a retry can pass.
        retry_after: Duration,
    },
    /// The intent was recorded, and there is no answer of the upstream to pass on.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether a DELETE was sent.
        sent: Sent,
    },
}

impl Refusal {
    /// The stable name that callers, trail and metrics see.
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidPath => Code::InvalidPath,
            Self::UnexpectedQuery => Code::UnexpectedQuery,
            Self::ApiVersionMismatch => Code::ApiVersionMismatch,
            Self::MalformedRequest(_) => Code::MalformedRequest,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::TenantFrozen => Code::TenantFrozen,
            Self::TenantSuspended => Code::TenantSuspended,
            Self::UserNotAllowed => Code::UserNotAllowed,
            Self::NoSuchRoute => Code::NoSuchRoute,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::RequestTimeout => Code::RequestTimeout,
            Self::ContentTooLarge => Code::ContentTooLarge,
            Self::HeadersTooLarge => Code::HeadersTooLarge,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::InternalError(_) => Code::InternalError,
            Self::AuditUnavailable => Code::AuditUnavailable,
            Self::Overloaded => Code::Overloaded,
            Self::Draining => Code::Draining,
            Self::CircuitOpen { .. } => Code::CircuitOpen,
            Self::Failed { failure, .. } => failure.code(),
        }
    }

    /// Whether a DELETE may have reached the upstream.
    pub fn sent(&self) -> Sent {
        match self {
            Self::InternalError(sent) | Self::Failed { sent, .. } => *sent,
            _ => Sent::No,
        }
    }

    /// When a retry can pass, where that is known and a retry is safe.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::CircuitOpen { retry_after } => {
                Some(*retry_after)
            }
            // By then an overload has passed, or another instance answers.
            Self::AuditUnavailable => Some(Duration::from_secs(5)),
            Self::Overloaded | Self::Draining => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What trail and logs add to the code; never shown to callers.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unauthenticated(failure) => Some(failure.as_str()),
            Self::MalformedRequest(what) => Some(what),
            Self::RateLimited { by, policy, .. } => Some(policy.as_deref().unwrap_or(by.as_str())),
            _ => None,
        }
    }

    /// Whether the connection can't be trusted to carry another request.
    pub fn closes_connection(&self) -> bool {
        matches!(
            self,
            Self::MalformedRequest(_)
                | Self::RequestTimeout
                | Self::ContentTooLarge
                | Self::HeadersTooLarge
                | Self::Draining
        )
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::RateLimited {
                by,
                policy,
                retry_after,
                by_store,
            } => Self::RateLimited {
                by,
                policy,
                retry_after,
                by_store,
            },
            Refused::CircuitOpen { retry_after } => Self::CircuitOpen { retry_after },
            Refused::QueueFull => Self::Overloaded,
        }
    }
}
