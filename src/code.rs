//! The stable names of how requests and connections end, and of what refused them, as closed
//! lists: what counts them can index an array with them.

mod connection_end;

pub use self::connection_end::ConnectionEnd;
use crate::closed_list::closed_list;

closed_list! {
    /// How a request was answered: by the upstream, or by the gateway and why. The
    /// names are what callers, trail and metrics see; that of an answer passed on is empty.
    #[expect(
        missing_docs,
        reason = "each is described where it is decided, in `pipeline::refusal::Refusal` or `pipeline::outcome::Failure`"
    )]
    pub enum Code {
        /// The upstream's answer was passed on.
        PassedOn => "",
        InvalidPath => "invalid-path",
        UnexpectedQuery => "unexpected-query",
        ApiVersionMismatch => "api-version-mismatch",
        MalformedRequest => "malformed-request",
        Unauthenticated => "unauthenticated",
        TenantFrozen => "tenant-frozen",
        TenantSuspended => "tenant-suspended",
        UserNotAllowed => "user-not-allowed",
        DryRun => "dry-run",
        NoSuchRoute => "no-such-route",
        MethodNotAllowed => "method-not-allowed",
        RequestTimeout => "request-timeout",
        ContentTooLarge => "content-too-large",
        HeadersTooLarge => "headers-too-large",
        RateLimited => "rate-limited",
        InternalError => "internal-error",
        UpstreamUnreachable => "upstream-unreachable",
        UpstreamProtocol => "upstream-protocol",
        UpstreamRejectedKey => "upstream-rejected-key",
        AuditUnavailable => "audit-unavailable",
        Overloaded => "overloaded",
        Draining => "draining",
        CircuitOpen => "circuit-open",
        UpstreamTimeout => "upstream-timeout",
        UpstreamReset => "upstream-reset",
        /// The caller left before its answer; nobody ever sees this one.
        ClientClosed => "client_closed",
    }
}

impl Code {
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

closed_list! {
    /// Why a token was refused: for the trail and the metrics, never for the caller.
    #[derive(PartialOrd, Ord, Hash)]
    pub enum AuthFailure {
        /// No `Authorization` field.
        Missing => "missing",
        /// Several of them, another scheme, or not a token's form.
        Malformed => "malformed",
        /// A token's form with a wrong checksum.
        Checksum => "checksum",
        /// No tenant has it.
        Unknown => "unknown",
        /// Its `expires` has passed.
        Expired => "expired",
        /// Its `not_before` is yet to come.
        NotYetValid => "not_yet_valid",
    }
}

closed_list! {
    /// Whose limit refused a call, as problems and metrics name it.
    pub enum LimitedBy {
        /// The tenant's own.
        Tenant => "tenant",
        /// The one shared by all tenants of a key.
        Key => "key",
        /// The upstream's: it answered 429 and closed the key's gate.
        Upstream => "upstream",
        /// The one on failed authentications of a peer.
        Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::{CODE_OF_CONNECTIONS, CODE_OF_GUESSES};

    #[test]
    fn each_code_comes_before_or_after_the_tenant_is_known() {
        for code in Code::ALL {
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
