//! The schema of values that may be written in several ways, or have a unit.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{CircuitBreaker, FileOf};

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
    json_schema!({ "anyOf": [ { "type": "integer", "minimum": 1, "maximum": 256 }, { "const": "auto" } ] })
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
