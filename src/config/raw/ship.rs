//! Where the trail is collected.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    OneOf,
    described::trust,
    sources::{FileOf, Secret},
};

/// Where the records of many gateways are collected.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with postgres")]
#[schemars(extend("required" = ["postgres"]))]
pub struct Ship {
    /// The name of this gateway there, for people: 1 to 64 of A-Z a-z 0-9 . _ - ; that of the host if absent (in Kubernetes the pod's). It need not be unique: a trail carries its own id.
    pub gateway: Option<String>,
    /// A database that speaks PostgreSQL's protocol.
    pub postgres: Option<Postgres>,
}

/// A database that speaks PostgreSQL's protocol.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map with url")]
#[schemars(extend("required" = ["url"]))]
pub struct Postgres {
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE. It is read anew for each connection.
    pub url: Option<Secret>,
    /// Which certificate authorities vouch for the database: system, bundled, or a PEM file.
    #[schemars(schema_with = "trust", extend("default" = "system"))]
    pub trust: Option<OneOf<FileOf>>,
    /// Allows sslmode=disable to a host that is not loopback: password and records then travel readable.
    #[schemars(extend("default" = false))]
    pub allow_plaintext: Option<bool>,
}
