//! The store in which a fleet shares its limits.

use std::time::Duration;

use super::{SecretSource, Trust};

/// The store of shared limits, as the config says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsStore {
    /// Where its URL is read from, which may hold a password.
    pub url: SecretSource,
    /// Whether it is a cluster, of which the URL names one node.
    pub is_cluster: bool,
    /// Which roots vouch for its certificate.
    pub trust: Trust,
    /// Whether it may be plaintext on another host than this.
    pub allow_plaintext: bool,
    /// How long a call waits for it.
    pub timeout: Duration,
    /// How many gateways share the limits, at least 1.
    pub replicas: u32,
    /// What stands before the name of everything in the store.
    pub prefix: String,
}
