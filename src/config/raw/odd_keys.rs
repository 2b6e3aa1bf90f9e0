//! Keys of maps that are no text, which the shapes cannot name.

use serde_yaml::{Mapping, Value};

use super::{
    kind,
    tree::{find_mut, remove},
};
use crate::{
    background,
    config::problem::{FieldPath, Problem},
};

/// Lets `1:` and `true:` be the texts that they are where a config is read in one go, and
/// takes out what has a list or a map for a key, with a problem for each.
pub fn take_out(text: &str, tree: &mut Value) -> Vec<Problem> {
    let mut found = Vec::new();
    look(tree, FieldPath::root(), &mut found);
    // From the inside: what is around may be taken out as well.
    found.sort_by_key(|odd| std::cmp::Reverse(odd.at.segments().len()));
    let problems = found.into_iter().map(|odd| {
        if odd.is_all_of_it {
            remove(tree, odd.at.segments());
        } else if let Some(Value::Mapping(map)) = find_mut(tree, odd.at.segments()) {
            map.retain(|key, _| key.is_string());
        }
        odd.problem(text)
    });
    problems.collect()
}

/// A map with a key that is a list or a map.
struct Odd {
    at: FieldPath,
    /// What kind the key is.
    kind: &'static str,
    /// `{{ name }}` alone: a map whose only key is a map.
    is_all_of_it: bool,
}

impl Odd {
    fn problem(self, text: &str) -> Problem {
        let line = match self.at.segments() {
            [] => template_line(text),
            // It has a place.
            _ => None,
        };
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        let template = match self.kind {
            "a map" => ": was a template, {{ … }}, not filled in?",
            _ => "",
        };
        let found = self.kind;
        let message = format!("{line}a key must be a text, and {found} stands there{template}");
        Problem::new(self.at, message)
    }
}

fn look(value: &mut Value, at: FieldPath, found: &mut Vec<Odd>) {
    background::give_way();
    match value {
        Value::Mapping(map) => {
            if !map.keys().all(Value::is_string) {
                let odd = map.keys().filter(|key| word(key).is_none());
                let kinds: Vec<_> = odd.map(kind).collect();
                if let Some(kind) = kinds.first() {
                    found.push(Odd {
                        at: at.clone(),
                        kind,
                        is_all_of_it: kinds.len() == map.len(),
                    });
                }
                name_by_words(map);
            }
            for (key, value) in map.iter_mut() {
                if let Value::String(key) = key {
                    look(value, at.clone().key(key.clone()), found);
                }
            }
        }
        Value::Sequence(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                look(value, at.clone().index(index), found);
            }
        }
        _ => {}
    }
}

fn name_by_words(map: &mut Mapping) {
    let named = std::mem::take(map).into_iter().map(|(key, value)| {
        let word = word(&key).map(Value::String);
        (word.unwrap_or(key), value)
    });
    *map = named.collect();
}

/// A key as a text, if it is a single word.
fn word(key: &Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null => Some("null".to_owned()),
        _ => None,
    }
}

/// The first line of the outermost map that begins with a template.
fn template_line(text: &str) -> Option<usize> {
    let at = text.lines().position(|line| line.starts_with("{{"))?;
    Some(at + 1)
}
