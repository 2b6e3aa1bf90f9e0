//! Where something is read from.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where a secret is read from: exactly one of these.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map with file, env or credential"
)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Secret {
    /// A file; trailing newlines are dropped. An absolute path, or one relative to the config file.
    pub file: Option<String>,
    /// An environment variable.
    pub env: Option<String>,
    /// A systemd credential (LoadCredential=).
    pub credential: Option<String>,
    /// The secret itself; only with allow_inline_secrets.
    pub value: Option<String>,
}

// Not derived: `value` is a secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with file")]
#[schemars(extend("required" = ["file"]))]
pub struct FileOf {
    /// Its path, relative to the config file.
    pub file: Option<String>,
}
