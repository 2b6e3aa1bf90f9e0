//! The stable names of what the gateway answers by itself, as a closed list:
//! what counts answers can index an array with them.

use crate::audit;

/// How a request was answered: by the upstream, or by the gateway and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is described where it is decided, in `Refusal`"
)]
pub enum Code {
    /// The upstream's answer was passed on.
    PassedOn,
    InvalidPath,
    UnexpectedQuery,
    ApiVersionMismatch,
    MalformedRequest,
    Unauthenticated,
    TenantFrozen,
    TenantSuspended,
    UserNotAllowed,
    DryRun,
    NoSuchRoute,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    HeadersTooLarge,
    RateLimited,
    InternalError,
    UpstreamUnreachable,
    UpstreamProtocol,
    UpstreamRejectedKey,
    AuditUnavailable,
    Overloaded,
    Draining,
    CircuitOpen,
    UpstreamTimeout,
    UpstreamReset,
    /// The caller left before its answer; nobody ever sees this one.
    ClientClosed,
}

impl Code {
    /// How many there are.
    pub const COUNT: usize = 27;

    /// All of them, each at its own index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::PassedOn,
        Self::InvalidPath,
        Self::UnexpectedQuery,
        Self::ApiVersionMismatch,
        Self::MalformedRequest,
        Self::Unauthenticated,
        Self::TenantFrozen,
        Self::TenantSuspended,
        Self::UserNotAllowed,
        Self::DryRun,
        Self::NoSuchRoute,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::ContentTooLarge,
        Self::HeadersTooLarge,
        Self::RateLimited,
        Self::InternalError,
        Self::UpstreamUnreachable,
        Self::UpstreamProtocol,
        Self::UpstreamRejectedKey,
        Self::AuditUnavailable,
        Self::Overloaded,
        Self::Draining,
        Self::CircuitOpen,
        Self::UpstreamTimeout,
        Self::UpstreamReset,
        Self::ClientClosed,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name that callers, trail and metrics see; empty for an answer passed on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PassedOn => "",
            Self::InvalidPath => "invalid-path",
            Self::UnexpectedQuery => "unexpected-query",
            Self::ApiVersionMismatch => "api-version-mismatch",
            Self::MalformedRequest => "malformed-request",
            Self::Unauthenticated => "unauthenticated",
            Self::TenantFrozen => "tenant-frozen",
            Self::TenantSuspended => "tenant-suspended",
            Self::UserNotAllowed => "user-not-allowed",
            Self::DryRun => "dry-run",
            Self::NoSuchRoute => "no-such-route",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::ContentTooLarge => "content-too-large",
            Self::HeadersTooLarge => "headers-too-large",
            Self::RateLimited => "rate-limited",
            Self::InternalError => "internal-error",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamProtocol => "upstream-protocol",
            Self::UpstreamRejectedKey => "upstream-rejected-key",
            Self::AuditUnavailable => audit::UNAVAILABLE_CODE,
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::CircuitOpen => "circuit-open",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::UpstreamReset => "upstream-reset",
            Self::ClientClosed => "client_closed",
        }
    }

    /// The name in the trail and in problems; `None` for an answer passed on.
    pub fn of_refusal(self) -> Option<&'static str> {
        (self != Self::PassedOn).then(|| self.as_str())
    }

    /// Whether it can be the answer before it is known who asks.
    pub fn comes_before_the_tenant(self) -> bool {
        matches!(
            self,
            Self::InvalidPath
                | Self::UnexpectedQuery
                | Self::ApiVersionMismatch
                | Self::MalformedRequest
                | Self::Unauthenticated
                | Self::NoSuchRoute
                | Self::MethodNotAllowed
                | Self::HeadersTooLarge
                | Self::RateLimited
                | Self::InternalError
                | Self::Overloaded
                | Self::Draining
                | Self::ClientClosed
        )
    }

    /// Whether it can be the answer once it is known who asks.
    pub fn comes_after_the_tenant(self) -> bool {
        matches!(
            self,
            Self::PassedOn
                | Self::TenantFrozen
                | Self::TenantSuspended
                | Self::UserNotAllowed
                | Self::DryRun
                | Self::RequestTimeout
                | Self::ContentTooLarge
                | Self::RateLimited
                | Self::UpstreamUnreachable
                | Self::UpstreamProtocol
                | Self::UpstreamRejectedKey
                | Self::AuditUnavailable
                | Self::Overloaded
                | Self::CircuitOpen
                | Self::UpstreamTimeout
                | Self::UpstreamReset
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::{CODE_OF_CONNECTIONS, CODE_OF_GUESSES};

    #[test]
    fn each_code_stands_at_its_own_index_and_belongs_somewhere() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), index, "{code:?}");
            assert!(
                code.comes_before_the_tenant() || code.comes_after_the_tenant(),
                "{code:?}"
            );
        }
    }

    /// In `refusals.coalesced` it stands beside them.
    #[test]
    fn no_refusal_has_the_code_of_what_is_no_call() {
        for code in Code::ALL.map(Code::as_str) {
            assert!(![CODE_OF_CONNECTIONS, CODE_OF_GUESSES].contains(&code));
        }
    }
}
