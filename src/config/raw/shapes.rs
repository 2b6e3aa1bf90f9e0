//! The maps of the config. Doc comments here are the descriptions of the JSON
//! Schema.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    OneOf,
    described::{
        breaker, duration, duration_or_forever, lasting, size, sized, trust, users, within, workers,
    },
    fleet::LimitsStore,
    observe::{Log, Otlp},
    pairs::Pairs,
    ship::Ship,
    sources::{FileOf, Secret},
};
use crate::config::ranges;

/// The config of alloy-gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
#[schemars(extend("required" = ["version", "listen", "keys", "tenants"]))]
pub struct Raw {
    /// The version of the config's format: 1.
    #[schemars(extend("const" = 1))]
    pub version: Option<u64>,
    /// Where callers connect to.
    #[schemars(extend("minItems" = 1))]
    pub listen: Option<Vec<Option<Listen>>>,
    /// The admin listener, never the data port.
    pub admin: Option<Admin>,
    /// Alloy, and how it is spoken to.
    pub upstream: Option<Upstream>,
    /// The Alloy keys, by name.
    pub keys: Option<Pairs<Key>>,
    /// Who may call.
    #[schemars(extend("minItems" = 1))]
    pub tenants: Option<Vec<Option<Tenant>>>,
    /// The audit trail.
    pub audit: Option<Audit>,
    /// Where a fleet of gateways shares its limits; each gateway has its own if absent.
    pub limits_store: Option<LimitsStore>,
    /// Logs on stderr.
    pub log: Option<Log>,
    /// Where the spans of traces go; nowhere if absent.
    pub otlp: Option<Otlp>,
    /// How many workers serve: a number, or auto for one per CPU the process may use.
    #[schemars(schema_with = "workers", extend("default" = "auto"))]
    pub workers: Option<OneOf<Nothing>>,
    /// What the metrics show.
    pub metrics: Option<Metrics>,
    /// What callers may take of the gateway.
    pub bounds: Option<Bounds>,
    /// Allows `{ value: … }` for secrets. Anybody who can read the config can then read the keys.
    #[schemars(extend("default" = false))]
    pub allow_inline_secrets: Option<bool>,
}

/// A data listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with address, unix or systemd"
)]
#[schemars(extend("oneOf" = [ { "required": ["address"] }, { "required": ["unix"] }, { "required": ["systemd"] } ]))]
pub struct Listen {
    /// IP address and port, as in `127.0.0.1:8080` or `[::1]:8080`.
    pub address: Option<String>,
    /// A Unix domain socket instead of an address.
    pub unix: Option<UnixSocket>,
    /// A socket that systemd opened, by its name (FileDescriptorName=, or the name of the .socket unit).
    pub systemd: Option<String>,
    /// Speaks TLS 1.2 and 1.3; files are read anew when they change.
    pub tls: Option<ListenTls>,
    /// Allows plaintext on an address that is not loopback: tokens then travel readable.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: Option<bool>,
}

/// A Unix domain socket.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with a path")]
#[schemars(extend("required" = ["path"]))]
pub struct UnixSocket {
    /// Where it stands, relative to the config file.
    pub path: Option<String>,
    /// Who may connect, in octal.
    #[schemars(extend("default" = "0660", "pattern" = "^0?[0-7]{3}$"))]
    pub mode: Option<String>,
    /// The group that it belongs to, by name or number; else that of the process.
    pub group: Option<String>,
}

/// How a listener speaks TLS.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with certificate and key"
)]
#[schemars(extend("required" = ["certificate", "key"]))]
pub struct ListenTls {
    /// The certificate chain, PEM.
    pub certificate: Option<FileOf>,
    /// Its private key, PEM.
    pub key: Option<FileOf>,
    /// Only clients with a certificate of one of these authorities (PEM) may connect, in addition to the token.
    pub client_ca: Option<FileOf>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Admin {
    /// IP address and port of the read-only endpoints, or off.
    #[schemars(extend("default" = "127.0.0.1:9465"))]
    pub address: Option<String>,
    /// Names that a request to address may have in Host besides IP addresses and localhost: those by which scrapers and probes know it. Exact, in any case, without a port.
    pub hosts: Option<Vec<Option<String>>>,
    /// Path of the Unix socket (mode 0600) for what callers must not see or do.
    pub socket: Option<String>,
    /// A token that allows the same over address; `alloy-gateway token new --admin` makes one.
    pub token: Option<Token>,
    /// Allows a token on an address that is not loopback: it then travels readable.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: Option<bool>,
}

/// What the metrics show.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Metrics {
    /// How many tenants, in the order of the config, have series of their own; the others share the label _other.
    #[schemars(extend("default" = 200), transform = within(ranges::METRICS_MAX_TENANTS))]
    pub max_tenants: Option<u64>,
}

/// Alloy, and how it is spoken to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Upstream {
    /// Scheme, host and port; no path.
    #[schemars(extend("default" = "https://production.runalloy.com"))]
    pub url: Option<String>,
    /// The value of x-api-version.
    #[schemars(extend("default" = "2025-09"))]
    pub api_version: Option<String>,
    /// The scheme before the key in authorization, spelled as it is sent.
    #[schemars(extend("default" = "bearer"))]
    pub auth_scheme: Option<String>,
    /// Which ids are accepted: opaque (1 to 128 of A-Z a-z 0-9 . _ ~ -, not beginning with agw_ and holding no token) or object_id (24 hex digits).
    #[schemars(extend("enum" = ["opaque", "object_id"], "default" = "opaque"))]
    pub ids: Option<String>,
    /// Which certificate authorities are trusted: system, bundled, or a PEM file.
    #[schemars(schema_with = "trust", extend("default" = "system"))]
    pub trust: Option<OneOf<FileOf>>,
    /// Bound on look-up, TCP and TLS of a new connection together.
    #[schemars(schema_with = "duration", extend("default" = "2s"), transform = lasting(ranges::UPSTREAM_CONNECT_TIMEOUT))]
    pub connect_timeout: Option<String>,
    /// Bound on the whole call with every attempt, from the end of its wait.
    #[schemars(schema_with = "duration", extend("default" = "30s"), transform = lasting(ranges::UPSTREAM_REQUEST_TIMEOUT))]
    pub request_timeout: Option<String>,
    /// Further attempts while nothing was written; at most one after something was.
    #[schemars(extend("default" = 2), transform = within(ranges::UPSTREAM_RETRIES))]
    pub retries: Option<u64>,
    /// When to stop sending for a while, or off.
    #[schemars(schema_with = "breaker", extend("default" = { "failures": 10, "open_for": "5s" }))]
    pub circuit_breaker: Option<OneOf<CircuitBreaker>>,
    /// How long an unused connection is kept.
    #[schemars(schema_with = "duration", extend("default" = "30s"), transform = lasting(ranges::UPSTREAM_IDLE_TIMEOUT))]
    pub idle_timeout: Option<String>,
    /// How old a connection may become, so that a change in DNS is seen.
    #[schemars(schema_with = "duration", extend("default" = "5m"), transform = lasting(ranges::UPSTREAM_CONNECTION_MAX_AGE))]
    pub connection_max_age: Option<String>,
    /// How many unused connections each worker keeps.
    #[schemars(extend("default" = 64), transform = within(ranges::UPSTREAM_IDLE_CONNECTIONS))]
    pub idle_connections: Option<u64>,
    /// Allows an http:// url on a host that is not loopback: the key then travels readable.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: Option<bool>,
}

/// Opens after consecutive failures of the upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct CircuitBreaker {
    /// Consecutive failures that open it.
    #[schemars(extend("default" = 10), transform = within(ranges::BREAKER_FAILURES))]
    pub failures: Option<u64>,
    /// How long it stays open before a single call probes.
    #[schemars(schema_with = "duration", extend("default" = "5s"), transform = lasting(ranges::BREAKER_OPEN_FOR))]
    pub open_for: Option<String>,
}

/// An Alloy key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with a secret")]
#[schemars(extend("required" = ["secret"]))]
pub struct Key {
    /// Where the key is read from: 8 to 4096 bytes of visible ASCII, without a space.
    pub secret: Option<Secret>,
    /// The key that follows: it is used once Alloy answers 401 to the other, or on command.
    pub next: Option<Secret>,
    /// Limits shared by every tenant that uses the key.
    pub limits: Option<Vec<Option<Window>>>,
}

/// A named owner of tokens, limits and a set of Alloy users.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with a name")]
#[schemars(extend("required" = ["name", "key", "users", "tokens"]))]
pub struct Tenant {
    /// Its name: 1 to 64 of A-Z a-z 0-9 . _ -
    pub name: Option<String>,
    /// The name of the Alloy key that its calls are sent with.
    pub key: Option<String>,
    /// Whom it may touch: all, a list of user ids, or a file with one id a line.
    #[schemars(schema_with = "users")]
    pub users: Option<OneOf<FileOf>>,
    /// Its tokens; several, so that they can be rotated with overlap.
    #[schemars(extend("minItems" = 1))]
    pub tokens: Option<Vec<Option<Token>>>,
    /// Its own limits.
    pub limits: Option<Vec<Option<Window>>>,
    /// How long a call may wait for its turn before it is refused.
    #[schemars(schema_with = "duration", extend("default" = "0s"), transform = lasting(ranges::TENANT_WAIT))]
    pub wait: Option<String>,
    /// How many calls may wait at once; the next one is refused.
    #[schemars(extend("default" = 64), transform = within(ranges::TENANT_WAIT_QUEUE))]
    pub wait_queue: Option<u64>,
    /// How many of its calls may be under way at once; at most bounds.requests_in_flight, and a quarter of it if absent.
    #[schemars(transform = within(ranges::TENANT_IN_FLIGHT))]
    pub in_flight: Option<u64>,
    /// What happens with a call that is allowed.
    #[schemars(extend("enum" = ["enforce", "dry_run", "suspended"], "default" = "enforce"))]
    pub mode: Option<String>,
    /// How many credentials it may delete before it is frozen, until an operator thaws it; never if absent.
    pub freeze_after: Option<FreezeAfter>,
}

/// A budget of deletions: a tenant that spends it is frozen until an operator thaws it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with deletions and per"
)]
#[schemars(extend("required" = ["deletions", "per"]))]
pub struct FreezeAfter {
    /// How many different credentials; the call that deletes the last of them is answered as always.
    #[schemars(transform = within(ranges::FREEZE_DELETIONS))]
    pub deletions: Option<u64>,
    /// Within which span: any of that length, not one by the clock.
    #[schemars(schema_with = "duration", transform = lasting(ranges::FREEZE_PER))]
    pub per: Option<String>,
}

/// A token, as the config knows it; `alloy-gateway token new` makes one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with id and sha256")]
#[schemars(extend("required" = ["id", "sha256"]))]
pub struct Token {
    /// Its name in trail and metrics: 1 to 64 of A-Z a-z 0-9 . _ -
    pub id: Option<String>,
    /// The SHA-256 of the whole token, 64 hex digits.
    #[schemars(extend("pattern" = "^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// Not accepted before (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub not_before: Option<String>,
    /// Not accepted from then on (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub expires: Option<String>,
}

/// A limit: a bucket that holds `burst` and regains one every `per / requests`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with requests and per"
)]
#[schemars(extend("required" = ["requests", "per"]))]
pub struct Window {
    /// How many come back in `per`.
    #[schemars(transform = within(ranges::LIMIT_UNITS))]
    pub requests: Option<u64>,
    /// The span.
    #[schemars(schema_with = "duration", transform = lasting(ranges::LIMIT_PER))]
    pub per: Option<String>,
    /// How many at once; as `requests` if absent.
    #[schemars(transform = within(ranges::LIMIT_UNITS))]
    pub burst: Option<u64>,
}

/// The audit trail.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Audit {
    /// Where its segments are; made with mode 0700 if it does not exist.
    #[schemars(extend("default" = "/var/lib/alloy-gateway/audit"))]
    pub directory: Option<String>,
    /// strict: synced before sending and before answering. relaxed: written, not synced.
    #[schemars(extend("enum" = ["strict", "relaxed"], "default" = "strict"))]
    pub durability: Option<String>,
    /// How long a call waits for its intent to be durable before it is refused.
    #[schemars(schema_with = "duration", extend("default" = "2s"), transform = lasting(ranges::AUDIT_INTENT_WAIT))]
    pub intent_wait: Option<String>,
    /// How long an answer waits for its outcome to be durable.
    #[schemars(schema_with = "duration", extend("default" = "2s"), transform = lasting(ranges::AUDIT_OUTCOME_WAIT))]
    pub outcome_wait: Option<String>,
    /// A segment that has so many bytes is sealed, and the next one begun, once the disk has room for it.
    #[schemars(schema_with = "size", extend("default" = "64MiB"), transform = sized(ranges::AUDIT_SEGMENT_SIZE))]
    pub segment_size: Option<OneOf<Nothing>>,
    /// A segment that is so old is sealed, and the next one begun, once the disk has room for it.
    #[schemars(schema_with = "duration", extend("default" = "1d"), transform = lasting(ranges::AUDIT_SEGMENT_AGE))]
    pub segment_age: Option<String>,
    /// Sealed segments whose records are all older are removed; or forever. Nothing is removed that a limit or a budget counts from, nor for a day after the system's clock was set or found a day ahead of the last record.
    #[schemars(schema_with = "duration_or_forever", extend("default" = "forever"), transform = lasting(ranges::AUDIT_RETENTION))]
    pub retention: Option<String>,
    /// How often the head is stated in trail and log, to be noted outside.
    pub checkpoint: Option<Checkpoint>,
    /// A key of 32 to 4096 bytes that makes each record's hash an HMAC-SHA256.
    pub mac_key: Option<Secret>,
    /// A database in which the trails of many gateways are collected; retention waits for it. The trail on disk stays the one that counts.
    pub ship: Option<Ship>,
}

/// How often the trail states its head.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Checkpoint {
    /// After so many records.
    #[schemars(extend("default" = 10000), transform = within(ranges::CHECKPOINT_RECORDS))]
    pub records: Option<u64>,
    /// After so long, if there was any record.
    #[schemars(schema_with = "duration", extend("default" = "10m"), transform = lasting(ranges::CHECKPOINT_EVERY))]
    pub every: Option<String>,
}

/// What callers may take of the gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Bounds {
    /// Open connections in all.
    #[schemars(extend("default" = 4096), transform = within(ranges::BOUNDS_CONNECTIONS))]
    pub connections: Option<u64>,
    /// Open connections of one peer: of an IPv4 address, an IPv6 /64, or a user on a Unix socket.
    #[schemars(extend("default" = 4096), transform = within(ranges::BOUNDS_CONNECTIONS_PER_PEER))]
    pub connections_per_peer: Option<u64>,
    /// Requests being worked on.
    #[schemars(extend("default" = 1024), transform = within(ranges::BOUNDS_REQUESTS_IN_FLIGHT))]
    pub requests_in_flight: Option<u64>,
    /// Failed authentications of one peer, as `connections_per_peer` has it; looked at only after a token failed. 20 per 10s if absent.
    pub failed_auth: Option<Window>,
    /// By when a request head, an h2 header block or a TLS handshake must be in.
    #[schemars(schema_with = "duration", extend("default" = "5s"), transform = lasting(ranges::BOUNDS_HEADER_TIMEOUT))]
    pub header_timeout: Option<String>,
    /// By when a request body must be in.
    #[schemars(schema_with = "duration", extend("default" = "10s"), transform = lasting(ranges::BOUNDS_BODY_TIMEOUT))]
    pub body_timeout: Option<String>,
    /// How long a connection may stay without a request, or without reading its answer.
    #[schemars(schema_with = "duration", extend("default" = "60s"), transform = lasting(ranges::BOUNDS_IDLE_TIMEOUT))]
    pub idle_timeout: Option<String>,
    /// How long new calls are answered 503 `draining` before the listeners close.
    #[schemars(schema_with = "duration", extend("default" = "0s"), transform = lasting(ranges::BOUNDS_DRAIN_DELAY))]
    pub drain_delay: Option<String>,
    /// How long stopping may take, from the end of drain_delay.
    #[schemars(schema_with = "duration", extend("default" = "35s"), transform = lasting(ranges::BOUNDS_DRAIN_TIMEOUT))]
    pub drain_timeout: Option<String>,
    /// Header fields of a request.
    #[schemars(extend("default" = 64), transform = within(ranges::BOUNDS_HEADERS))]
    pub headers: Option<u64>,
    /// Bytes of a request's head.
    #[schemars(schema_with = "size", extend("default" = "16KiB"), transform = sized(ranges::BOUNDS_HEADER_BYTES))]
    pub header_bytes: Option<OneOf<Nothing>>,
    /// Decoded bytes of a request's body, which is read and dropped.
    #[schemars(schema_with = "size", extend("default" = "64KiB"), transform = sized(ranges::BOUNDS_BODY_BYTES))]
    pub body_bytes: Option<OneOf<Nothing>>,
}

/// A map that is never right.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a single value")]
pub struct Nothing {}
