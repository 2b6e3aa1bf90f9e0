//! The shapes of the YAML, without meaning: every field is optional, every value
//! is as it was written. The only place that names the YAML library.

mod bounds;
mod collect;
mod described;
mod fleet;
pub mod locate;
mod misread;
mod observe;
mod odd_keys;
mod one_of;
mod pairs;
mod parts;
mod shapes;
mod ship;
mod sources;
mod tree;

use serde_yaml::Value;

pub use self::{
    collect::{Collected, NotYaml, collect, collect_admin},
    fleet::LimitsStore,
    observe::{Log, Otlp},
    one_of::OneOf,
    pairs::Pairs,
    shapes::{
        Admin, Audit, Bounds, CircuitBreaker, FreezeAfter, Key, Listen, ListenTls, Nothing, Raw,
        Tenant, Token, UnixSocket, Upstream, Window,
    },
    ship::Ship,
    sources::{FileOf, Secret},
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

/// What kind of value was found; without the value, unless it is one of the words that
/// were true or false in older YAML.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(number) if number.as_u64().is_none() => "a negative number",
        Value::Number(_) => "a number",
        Value::String(word) if matches!(word.as_str(), "yes" | "on") => {
            "a text (YAML 1.2 says true)"
        }
        Value::String(word) if matches!(word.as_str(), "no" | "off") => {
            "a text (YAML 1.2 says false)"
        }
        Value::String(word) if word.len() > 1 && is_digits(word) && word.starts_with('0') => {
            "a text, since no number begins with 0"
        }
        Value::String(word) if is_digits(word) => "a text, since it is in quotes",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a map",
        Value::Tagged(_) => "a YAML tag",
    }
}

fn is_digits(word: &str) -> bool {
    word.parse::<u64>().is_ok() && word.bytes().all(|b| b.is_ascii_digit())
}
