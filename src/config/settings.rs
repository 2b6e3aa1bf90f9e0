//! A validated config: immutable, without serde and without I/O.
//!
//! Every value stands here with its unit resolved and its bounds checked.

use std::{
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    fleet,
    ids::{IdGrammar, UserId},
    logging,
    token::TokenDigest,
    traces,
};

/// Everything that one config file says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data listeners, at least one.
    pub listen: Vec<Listen>,
    /// The admin listener.
    pub admin: Admin,
    /// Alloy, and how it is spoken to.
    pub upstream: Upstream,
    /// The Alloy keys; [`Tenant::key`] points into this list.
    pub keys: Vec<Key>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The trail.
    pub audit: Audit,
    /// Where a fleet shares its limits; `None` if each gateway has its own.
    pub limits_store: Option<fleet::Settings>,
    /// Logs on stderr.
    pub log: logging::Settings,
    /// Where spans go; `None` if nowhere.
    pub otlp: Option<traces::Settings>,
    /// How many workers serve; `None` means one per CPU the process may use.
    pub workers: Option<NonZeroUsize>,
    /// How many tenants have series of their own in the metrics.
    pub metrics_tenants: u32,
    /// What callers may take of us.
    pub bounds: Bounds,
}

impl Settings {
    /// All but the tenants, whose number has no bound.
    pub fn without_tenants(&self) -> Self {
        Self {
            listen: self.listen.clone(),
            admin: self.admin.clone(),
            upstream: self.upstream.clone(),
            keys: self.keys.clone(),
            tenants: Vec::new(),
            audit: self.audit.clone(),
            limits_store: self.limits_store.clone(),
            log: self.log.clone(),
            otlp: self.otlp.clone(),
            workers: self.workers,
            metrics_tenants: self.metrics_tenants,
            bounds: self.bounds.clone(),
        }
    }

    /// How many workers serve on this machine.
    pub fn worker_count(&self) -> usize {
        let workers = self.workers;
        let workers = workers.or_else(|| thread::available_parallelism().ok());
        workers.map_or(1, NonZeroUsize::get)
    }
}

/// One data listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it listens.
    pub place: ListenPlace,
    /// How it speaks TLS; `None` for plaintext.
    pub tls: Option<ListenTls>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenPlace {
    /// A TCP address. Port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix {
        /// Where it stands.
        path: PathBuf,
        /// Who may connect: its permission bits.
        mode: u32,
        /// The group that it belongs to, by name or number.
        group: Option<String>,
    },
    /// A socket that systemd opened and hands over.
    Systemd {
        /// Its name there.
        name: String,
        /// Whether it may be plaintext on an address that is not loopback.
        allow_plaintext: bool,
    },
}

impl fmt::Display for ListenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Systemd { name, .. } => write!(f, "systemd:{name}"),
        }
    }
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// The admin listener, never the data port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where the read-only endpoints listen; `None` when switched off.
    pub address: Option<SocketAddr>,
    /// Names in `Host` that are let in besides IP addresses and localhost, in lower case.
    pub hosts: Vec<String>,
    /// The Unix socket (mode 0600) for what a neighbour in the pod must not see or do.
    pub socket: Option<PathBuf>,
    /// The token that allows the same over TCP.
    pub token: Option<TokenEntry>,
}

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

/// A named owner of tokens, limits and a set of Alloy users.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name, unique: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: Arc<str>,
    /// Index into [`Settings::keys`].
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

/// What happens with a call that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is sent.
    Enforce,
    /// Everything but sending; answered 403 `dry-run`.
    DryRun,
    /// Refused with 403 `tenant-suspended`.
    Suspended,
}

/// The trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where its segments are.
    pub directory: PathBuf,
    /// Whether records are synced before anything follows from them.
    pub durability: Durability,
    /// How long a call waits for its intent to be durable before it is refused.
    pub intent_wait: Duration,
    /// How long an answer waits for its outcome to be durable.
    pub outcome_wait: Duration,
    /// A segment that has so many bytes is sealed, and the next one begun.
    pub segment_size: u64,
    /// A segment that is so old is sealed, and the next one begun.
    pub segment_age: Duration,
    /// Sealed segments whose records are all older are removed; `None` keeps them.
    pub retention: Option<Duration>,
    /// How often the head is stated.
    pub checkpoint: Checkpoint,
    /// The key that makes the hash an HMAC.
    pub mac_key: Option<SecretSource>,
    /// Where it is collected; `None` if it stays here.
    pub ship: Option<Ship>,
}

/// Where the trails of many gateways are collected: a database that speaks
/// PostgreSQL's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ship {
    /// What people call this gateway; `None` for the name of its host.
    pub gateway: Option<String>,
    /// Where the database's URL is read from, for each connection anew.
    pub url: SecretSource,
    /// Which roots vouch for the database's certificate.
    pub trust: Trust,
    /// Whether a host that is not loopback may be spoken to in plaintext.
    pub allow_plaintext: bool,
}

/// How often the trail states its head, to be noted outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// After so many records.
    pub records: u32,
    /// After so long, if there was any record.
    pub every: Duration,
}

/// Whether records are synced before anything follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced before sending and before answering.
    Strict,
    /// Written, not synced: survives the process, not the machine.
    Relaxed,
}

/// What callers may take of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections, over all listeners and workers.
    pub connections: u32,
    /// Open connections of one peer address.
    pub connections_per_peer: u32,
    /// Requests being worked on, over all workers.
    pub requests_in_flight: u32,
    /// Failed authentications of one peer address; looked at only after a token failed.
    pub failed_auth: Window,
    /// By when a request head must be in.
    pub header_timeout: Duration,
    /// By when a request body must be in.
    pub body_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long new calls are refused before the listeners close.
    pub drain_delay: Duration,
    /// How long stopping may take, from then on.
    pub drain_timeout: Duration,
    /// How many header fields a request may have.
    pub headers: u32,
    /// How many bytes a request head may have.
    pub header_bytes: u32,
    /// How many decoded bytes a request body may have.
    pub body_bytes: u32,
}

/// Settings for tests, with the defaults of the config.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// `requests` per `per`, and as many at once.
    pub(crate) fn window(requests: u32, per: Duration) -> Window {
        let requests = NonZeroU32::new(requests).unwrap();
        Window {
            requests,
            per,
            burst: requests,
        }
    }

    /// The upstream of a config that says nothing of it.
    pub(crate) fn upstream() -> Upstream {
        Upstream {
            url: UpstreamUrl {
                tls: true,
                host: "production.runalloy.com".to_owned(),
                port: 443,
            },
            api_version: "2025-09".to_owned(),
            auth_scheme: "bearer".to_owned(),
            ids: IdGrammar::Opaque,
            trust: Trust::Bundled,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(30),
            retries: 2,
            circuit_breaker: None,
            idle_timeout: Duration::from_secs(30),
            connection_max_age: Duration::from_secs(300),
            idle_connections: 64,
        }
    }

    /// The bounds of a config that says nothing of them.
    pub(crate) fn bounds() -> Bounds {
        Bounds {
            connections: 4096,
            connections_per_peer: 4096,
            requests_in_flight: 1024,
            failed_auth: window(20, Duration::from_secs(10)),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(35),
            headers: 64,
            header_bytes: 16 << 10,
            body_bytes: 64 << 10,
        }
    }
}
