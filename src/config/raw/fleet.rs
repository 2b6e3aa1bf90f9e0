//! What a fleet of gateways shares.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    OneOf,
    described::{duration, lasting, trust, within},
    sources::{FileOf, Secret},
};
use crate::config::ranges;

/// A store in which the gateways of a fleet share their limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with redis and replicas"
)]
#[schemars(extend("required" = ["redis", "replicas"]))]
pub struct LimitsStore {
    /// Redis or Valkey, 5 or newer, or a cluster of it.
    pub redis: Option<Redis>,
    /// How long a call waits for the store; then, and while the store is away, each gateway takes its fair share of every limit: 1/replicas.
    #[schemars(schema_with = "duration", extend("default" = "50ms"), transform = lasting(ranges::STORE_TIMEOUT))]
    pub timeout: Option<String>,
    /// How many gateways share the limits, at most: the real number must not be above it. May be changed without a restart.
    #[schemars(transform = within(ranges::STORE_REPLICAS))]
    pub replicas: Option<u64>,
    /// What stands before every name in the store: 1 to 64 of A-Z a-z 0-9 . _ -. Gateways with another prefix are another fleet.
    #[schemars(extend("default" = "alloy-gateway"))]
    pub prefix: Option<String>,
}

/// Where the store is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with url")]
#[schemars(extend("required" = ["url"]))]
pub struct Redis {
    /// Where the URL is read from, once at the start: redis://HOST:PORT, or rediss://USER:PASSWORD@HOST:PORT/DATABASE for TLS and an ACL user.
    pub url: Option<Secret>,
    /// Whether it is a cluster, of which the URL names any node.
    #[schemars(extend("default" = false))]
    pub cluster: Option<bool>,
    /// Which certificate authorities vouch for it, read once at the start: system, bundled, or a PEM file.
    #[schemars(schema_with = "trust", extend("default" = "system"))]
    pub trust: Option<OneOf<FileOf>>,
    /// Allows a redis:// URL on a host that is not loopback, and the nodes there that a cluster names: password and counts then travel readable.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: Option<bool>,
}
