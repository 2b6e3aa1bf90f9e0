//! What the gateway tells of itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    OneOf,
    described::{duration, lasting, trust, within},
    pairs::Pairs,
    sources::{FileOf, Secret},
};
use crate::config::ranges;

/// Logs on stderr.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map")]
pub struct Log {
    /// error, warn, info, debug, trace or off; others for some targets behind it, as in `info,hyper=warn`. The environment variables ALLOY_GATEWAY_LOG and RUST_LOG stand above it.
    #[schemars(extend("default" = "info"))]
    pub level: Option<String>,
    /// json, text, or auto: text for a terminal.
    #[schemars(extend("enum" = ["auto", "json", "text"], "default" = "auto"))]
    pub format: Option<String>,
    /// Which calls get a line: all, failures (status 400 and above) or off. Without a good token, those that come fast get only some.
    #[schemars(extend("enum" = ["all", "failures", "off"], "default" = "all"))]
    pub access: Option<String>,
}

/// A collector of spans that speaks OTLP/HTTP.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with an endpoint")]
#[schemars(extend("required" = ["endpoint"]))]
pub struct Otlp {
    /// Scheme, host, port and, if the collector wants one, a path before `/v1/traces`.
    pub endpoint: Option<String>,
    /// The share of calls that are traced. Of a trace that a caller with a good token brings (traceparent), the caller decides.
    #[schemars(extend("default" = 1.0), transform = within(ranges::OTLP_SAMPLING))]
    pub sampling: Option<f64>,
    /// Header fields of each request to the collector, read once at the start.
    pub headers: Option<Pairs<Secret>>,
    /// Bound on one request to the collector.
    #[schemars(schema_with = "duration", extend("default" = "10s"), transform = lasting(ranges::OTLP_TIMEOUT))]
    pub timeout: Option<String>,
    /// service.name of the spans.
    #[schemars(extend("default" = "alloy-gateway"))]
    pub service_name: Option<String>,
    /// Which certificate authorities vouch for the collector, read once at the start: system, bundled, or a PEM file.
    #[schemars(schema_with = "trust", extend("default" = "system"))]
    pub trust: Option<OneOf<FileOf>>,
    /// Allows an http:// endpoint on a host that is not loopback: spans and headers then travel readable.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: Option<bool>,
}
