//! Where spans are sent.

use std::time::Duration;

use http::HeaderName;

use super::{SecretSource, Trust, UpstreamUrl};

/// Where spans go, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The collector.
    pub url: UpstreamUrl,
    /// What stands before `/v1/traces`.
    pub prefix: String,
    /// The share of the traces begun here that is sent, 0 to 1. Of a caller's
    /// trace, the caller decides.
    pub sampling: f64,
    /// Fields of each request, usually one with a token.
    pub headers: Vec<(HeaderName, SecretSource)>,
    /// Bound on one request to the collector, connecting included.
    pub timeout: Duration,
    /// `service.name`.
    pub service_name: String,
    /// Which roots vouch for the collector's certificate.
    pub trust: Trust,
}
