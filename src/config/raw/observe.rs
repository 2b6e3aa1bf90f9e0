//! What the gateway tells of itself.

use schemars::JsonSchema;
use serde::Deserialize;

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
    /// Which calls get a line: all, failures (status 400 and above) or off.
    #[schemars(extend("enum" = ["all", "failures", "off"], "default" = "all"))]
    pub access: Option<String>,
}
