//! The shapes of the YAML, without meaning: every field is optional, every value
//! is as it was written. The only place that names the YAML library.

mod collect;
mod described;
mod fleet;
pub mod locate;
mod observe;
mod one_of;
mod pairs;
mod parts;
mod shapes;
mod ship;

use serde_yaml::Value;

pub use self::{
    collect::collect,
    fleet::LimitsStore,
    observe::{Log, Otlp},
    one_of::OneOf,
    pairs::Pairs,
    shapes::{
        Admin, Audit, Bounds, CircuitBreaker, FileOf, FreezeAfter, Key, Listen, ListenTls, Nothing,
        Raw, Secret, Tenant, Token, UnixSocket, Upstream, Window,
    },
    ship::Ship,
};

/// The JSON Schema of the config.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Raw);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Prints a tree as YAML.
pub fn to_yaml(tree: &serde_json::Value) -> String {
    serde_yaml::to_string(tree).unwrap_or_default()
}

/// What kind of value was found, without the value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a map",
        Value::Tagged(_) => "a YAML tag",
    }
}
