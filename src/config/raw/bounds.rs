//! The bounds of a whole number, as the schema tells them: for what is no whole number, and
//! so never comes to where bounds are checked.

use serde_json::Value;

use super::Raw;
use crate::config::problem::Segment;

/// Those of the field at `path`, in words; `None` if it takes no whole number, or any.
pub fn at(path: &[Segment]) -> Option<String> {
    let schema = schemars::schema_for!(Raw).to_value();
    let shapes = path.iter().fold(vec![&schema], |shapes, segment| {
        let within = shapes.into_iter().filter_map(|shape| child(shape, segment));
        within.flat_map(|shape| choices(&schema, shape)).collect()
    });
    shapes.into_iter().find_map(|shape| {
        let (min, max) = (shape["minimum"].as_u64()?, shape["maximum"].as_u64()?);
        Some(format!("{min} to {max}"))
    })
}

/// What the schema says of an entry of a map or a list.
fn child<'a>(shape: &'a Value, segment: &Segment) -> Option<&'a Value> {
    match segment {
        Segment::Key(key) => {
            let known = shape["properties"].get(&**key);
            known.or_else(|| shape.get("additionalProperties"))
        }
        Segment::Index(_) => shape.get("items"),
    }
}

/// Each of the shapes that a value may have.
fn choices<'a>(schema: &'a Value, shape: &'a Value) -> Vec<&'a Value> {
    let name = shape["$ref"].as_str().and_then(|it| it.rsplit('/').next());
    if let Some(shape) = name.and_then(|name| schema["$defs"].get(name)) {
        return choices(schema, shape);
    }
    match shape["anyOf"].as_array() {
        Some(several) => several.iter().flat_map(|it| choices(schema, it)).collect(),
        None => vec![shape],
    }
}
