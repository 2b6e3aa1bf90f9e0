//! The bounds of each key: what schema and reference tell is what is enforced.

use std::fmt;

use serde_json::{Value, json};

use super::{duration, problems, schema, show_duration};
use crate::config::unit::size;

/// One that holds each map of the schema, and room for each value.
fn config() -> Value {
    let limit = json!({ "requests": 1, "per": "1s" });
    json!({
        "version": 1,
        "listen": [{ "address": "127.0.0.1:0" }],
        "upstream": { "circuit_breaker": {} },
        "keys": { "k": { "secret": { "file": "key" }, "limits": [limit] } },
        "tenants": [{
            "name": "t",
            "key": "k",
            "users": "all",
            "tokens": [{ "id": "a", "sha256": "0a".repeat(32) }],
            "limits": [limit],
            "freeze_after": { "deletions": 1, "per": "1h" },
        }],
        "audit": { "checkpoint": {} },
        "limits_store": { "redis": { "url": { "file": "url" } }, "replicas": 1 },
        "otlp": { "endpoint": "http://127.0.0.1:4318" },
        "metrics": {},
        "bounds": { "failed_auth": limit, "requests_in_flight": 1_000_000 },
    })
}

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index,
}

/// Where a value stands, as problems have it.
#[derive(Debug, Clone, Default)]
struct Place(Vec<Step>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at > 0 => write!(f, ".{key}")?,
                Step::Key(key) => f.write_str(key)?,
                Step::Index => f.write_str("[0]")?,
            }
        }
        Ok(())
    }
}

impl Place {
    fn within(&self, step: Step) -> Self {
        let mut place = self.clone();
        place.0.push(step);
        place
    }

    fn in_config(&self, value: &Value) -> String {
        let mut config = config();
        let mut at = &mut config;
        for step in &self.0 {
            at = match step {
                Step::Key(key) => &mut at[key.as_str()],
                Step::Index => &mut at[0],
            };
        }
        *at = value.clone();
        config.to_string()
    }

    /// What the validator says of this value there.
    fn refused(&self, value: &Value) -> Option<String> {
        let said = problems(&self.in_config(value));
        let mut lines = said.lines();
        lines
            .find(|line| line.contains(&format!(": {self}: ")))
            .map(ToOwned::to_owned)
    }
}

/// Each value of the schema that is a number, a span or a size.
fn measured(schema: &Value, shape: &Value, place: &Place, found: &mut Vec<(Place, Value)>) {
    if let Some(name) = shape["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return measured(schema, &schema["$defs"][name], place, found);
    }
    let choices = shape["anyOf"].as_array().cloned().unwrap_or_default();
    let is_measure = |shape: &Value| {
        let kind = shape["type"].to_string();
        let pattern = shape["pattern"].as_str().unwrap_or_default();
        let has_unit = ["ms|s", "KiB"].iter().any(|unit| pattern.contains(unit));
        kind.contains("integer") || kind.contains("number") || has_unit
    };
    if is_measure(shape) || choices.iter().any(is_measure) {
        found.push((place.clone(), shape.clone()));
        return;
    }
    for choice in &choices {
        measured(schema, choice, place, found);
    }
    let properties = shape["properties"].as_object().into_iter().flatten();
    for (name, field) in properties.filter(|(_, field)| field["const"].is_null()) {
        measured(schema, field, &place.within(Step::Key(name.clone())), found);
    }
    if shape["items"].is_object() {
        measured(schema, &shape["items"], &place.within(Step::Index), found);
    }
    if shape["additionalProperties"].is_object() {
        let name = Step::Key("k".to_owned());
        measured(
            schema,
            &shape["additionalProperties"],
            &place.within(name),
            found,
        );
    }
}

/// What is just allowed, what is just not, and the bounds in words.
#[derive(Debug)]
struct Edges {
    allowed: [Value; 2],
    refused: Vec<Value>,
    words: String,
}

/// The bounds that the schema states in numbers.
fn of_numbers(shape: &Value) -> Option<Edges> {
    let (min, max) = (&shape["minimum"], &shape["maximum"]);
    let words = format!("{min} to {max}");
    let allowed = [min.clone(), max.clone()];
    let refused = if let (Some(min), Some(max)) = (min.as_u64(), max.as_u64()) {
        let below = min.checked_sub(1).map(Value::from);
        below.into_iter().chain([json!(max + 1)]).collect()
    } else {
        vec![json!(min.as_f64()? - 0.001), json!(max.as_f64()? + 0.001)]
    };
    Some(Edges {
        allowed,
        refused,
        words,
    })
}

/// Those that a JSON Schema can't state of texts: they end the description.
fn of_words(shape: &Value) -> Option<Edges> {
    let description = shape["description"].as_str()?.strip_suffix('.')?;
    let mut words = description.rsplit(' ');
    let (max, to, min) = (words.next()?, words.next()?, words.next()?);
    let bounds = format!("{min} {to} {max}");
    let (below, above) = match (duration(min), duration(max)) {
        (Ok(min), Ok(max)) => {
            let ms = std::time::Duration::from_millis(1);
            let below = min.checked_sub(ms).map(show_duration);
            (below.map(Value::from), show_duration(max + ms).into())
        }
        _ => {
            let below = size(min).ok()?.checked_sub(1);
            (below.map(Value::from), (size(max).ok()? + 1).into())
        }
    };
    Some(Edges {
        allowed: [min.into(), max.into()],
        refused: below.into_iter().chain([above]).collect(),
        words: bounds,
    })
}

#[test]
fn every_bound_that_the_schema_states_is_the_one_that_is_enforced() {
    assert_eq!(problems(&config().to_string()), "");
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut found = Vec::new();
    measured(&schema, &schema, &Place::default(), &mut found);
    let mut wrong = Vec::new();
    for (place, shape) in &found {
        let choices = shape["anyOf"].as_array().into_iter().flatten();
        let numbers: Vec<_> = std::iter::once(shape)
            .chain(choices)
            .filter(|it| it["type"].to_string().contains('n') && it["pattern"].is_null())
            .filter(|it| it["const"].is_null() && it["anyOf"].is_null())
            .map(of_numbers)
            .collect();
        let texts = shape.to_string().contains("\"pattern\"");
        let all = numbers.into_iter().chain(texts.then(|| of_words(shape)));
        for edges in all {
            let Some(edges) = edges else {
                wrong.push(format!("{place} has no bounds: {shape}"));
                continue;
            };
            for value in &edges.allowed {
                if let Some(said) = place.refused(value) {
                    wrong.push(format!(
                        "{place}: {value} is within {}: {said}",
                        edges.words
                    ));
                }
            }
            for value in &edges.refused {
                let said = place.refused(value);
                // A size in bytes is told as one with a unit.
                let is_size = shape.to_string().contains("KiB");
                let names = |said: &String| is_size || said.contains(&edges.words);
                if !said.as_ref().is_some_and(names) {
                    wrong.push(format!("{place}: {value} is not {}: {said:?}", edges.words));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found.len() > 40, "only {} were found", found.len());
}
