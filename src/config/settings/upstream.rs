//! Alloy, the keys for it, and where secrets are read from.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::Window;
use crate::ids::IdGrammar;

/// Alloy, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The one pinned origin.
    pub url: UpstreamUrl,
    /// The value of `x-api-version`.
    pub api_version: String,
    /// The scheme before the key in `authorization`, spelled as it is sent.
    pub auth_scheme: String,
    /// Which ids are accepted in the path.
    pub ids: IdGrammar,
    /// Which roots vouch for the upstream's certificate.
    pub trust: Trust,
    /// Bound on look-up, TCP and TLS of one new connection together.
    pub connect_timeout: Duration,
    /// Bound on one call with all its attempts.
    pub request_timeout: Duration,
    /// How many more attempts a call may take.
    pub retries: u32,
    /// When to stop sending for a while; `None` when switched off.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How old a connection may become before it is no longer reused, so that
    /// a change in DNS is seen.
    pub connection_max_age: Duration,
    /// How many unused connections each worker keeps.
    pub idle_connections: usize,
}

/// The upstream's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// `https`, or plaintext `http`.
    pub tls: bool,
    /// The host, a name or an IP literal without brackets.
    pub host: String,
    /// The port, the scheme's default if the URL named none.
    pub port: u16,
}

impl UpstreamUrl {
    /// The `Host` header: the port only where it is not the scheme's default
    /// (RFC 9110 §7.2), an IPv6 literal in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Which roots vouch for the upstream's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The operating system's store.
    System,
    /// The Mozilla roots compiled into the program.
    Bundled,
    /// A PEM file of certificate authorities, and no others.
    File(PathBuf),
}

/// Opens after so many consecutive failures, for so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Consecutive failures that open it.
    pub failures: NonZeroU32,
    /// How long it stays open before a single call probes.
    pub open_for: Duration,
}

/// One Alloy key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name in the config; no secret.
    pub name: String,
    /// Where the secret is read from.
    pub secret: SecretSource,
    /// The key that follows when the upstream refuses this one.
    pub next: Option<SecretSource>,
    /// Limits shared by all tenants that use the key.
    pub limits: Box<[Window]>,
}

/// Where a secret is read from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential, in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// The value itself; only with `allow_inline_secrets: true`.
    Inline(InlineSecret),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::Credential(name) => write!(f, "Credential({name})"),
            Self::Inline(_) => f.write_str("Inline(redacted)"),
        }
    }
}

/// A secret that stood in the config itself.
#[derive(Clone, PartialEq, Eq)]
pub struct InlineSecret(String);

impl InlineSecret {
    /// Wraps the value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the snapshot to make a key of.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for InlineSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InlineSecret(redacted)")
    }
}
