//! The schema of values that may be written in several ways, or have a unit.

use std::{
    fmt::{Display, Write as _},
    time::Duration,
};

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{CircuitBreaker, FileOf};
use crate::config::ranges::{self, Bytes, Range};

/// States the bounds of a number.
pub(super) fn within<T: Copy + Into<Value>>(range: Range<T>) -> impl FnMut(&mut Schema) {
    move |schema| {
        schema.insert("minimum".to_owned(), range.min.into());
        schema.insert("maximum".to_owned(), range.max.into());
    }
}

/// States the bounds of a span. No JSON Schema can tell which of two is longer, so that
/// only people are told.
pub(super) fn lasting(range: Range<Duration>) -> impl FnMut(&mut Schema) {
    move |schema| tell(schema, &range)
}

/// States the bounds of a size, for people, and of one in bytes.
pub(super) fn sized(range: Range<Bytes>) -> impl FnMut(&mut Schema) {
    move |schema| {
        tell(schema, &range);
        let number = schema.get_mut("anyOf").and_then(|it| it.get_mut(0));
        if let Some(Value::Object(number)) = number {
            number.insert("minimum".to_owned(), range.min.0.into());
            number.insert("maximum".to_owned(), range.max.0.into());
        }
    }
}

fn tell(schema: &mut Schema, range: &dyn Display) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        // Writing to a string can't fail.
        let _ = write!(description, " {range}.");
    }
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["250ms", "5s", "10m", "1h", "1d"] })
}

pub(super) fn duration_or_forever(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d)|forever)$", "examples": ["90d", "forever"] })
}

pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [ { "type": "integer" }, { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB)$" } ] })
}

pub(super) fn workers(_: &mut SchemaGenerator) -> Schema {
    let Range { min, max } = ranges::WORKERS;
    json_schema!({ "anyOf": [ { "type": "integer", "minimum": min, "maximum": max }, { "const": "auto" } ] })
}

pub(super) fn trust(generator: &mut SchemaGenerator) -> Schema {
    let file = generator.subschema_for::<FileOf>();
    json_schema!({ "anyOf": [ { "enum": ["system", "bundled"] }, file ] })
}

pub(super) fn users(generator: &mut SchemaGenerator) -> Schema {
    let file = generator.subschema_for::<FileOf>();
    json_schema!({ "anyOf": [ { "const": "all" }, { "type": "array", "items": { "type": "string" } }, file ] })
}

pub(super) fn breaker(generator: &mut SchemaGenerator) -> Schema {
    let breaker = generator.subschema_for::<CircuitBreaker>();
    json_schema!({ "anyOf": [ { "const": "off" }, breaker ] })
}
