//! Text → shapes. A text that fits is read in one go; of one that does not, every
//! misfit is found: the first is noted and taken out, and so on.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_path_to_error::{Path, Segment as PathSegment};
use serde_yaml::Value;

use super::{
    Raw, bounds, kind, locate,
    misread::Misread,
    odd_keys, parts,
    tree::{find, find_mut, remove},
};
use crate::config::{
    problem::{FieldPath, Place, Problem, Segment},
    suggest::{did_you_mean, is_repeatable},
};

/// More misfits than a person mends at once.
const MISFITS_MAX: usize = 50;
/// Each misfit takes another pass over the whole.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The section that tells where a running gateway is asked.
const ADMIN: &str = "admin";
/// What a count has to be.
const WHOLE_NUMBER: &str = "a whole number";

/// Why a text is no YAML, and where, if that is known.
pub type NotYaml = Box<(Option<Place>, Problem)>;

/// What could be read, and what did not fit.
#[derive(Debug)]
pub struct Collected {
    /// What is left after every misfit was taken out.
    pub raw: Raw,
    /// The misfits.
    pub misfits: Vec<Problem>,
}

/// Reads a config.
///
/// # Errors
///
/// If it is not YAML; then there is one problem, with its place.
pub fn collect(text: &str) -> Result<Collected, NotYaml> {
    // An empty document is a null for the library, and a map for us.
    let whole = || serde_yaml::from_str::<Option<Raw>>(text).ok().flatten();
    if let Some(raw) = parts::read(text).or_else(whole) {
        return Ok(Collected {
            raw,
            misfits: Vec::new(),
        });
    }
    Ok(of_tree(text, read(text)?))
}

/// Reads the admin section of a config, whatever is wrong with the rest.
///
/// # Errors
///
/// If it is not YAML; then there is one problem, with its place.
pub fn collect_admin(text: &str) -> Result<Collected, NotYaml> {
    let mut tree = read(text)?;
    if let Value::Mapping(sections) = &mut tree {
        sections.retain(|name, _| name.as_str() == Some(ADMIN));
    } else {
        tree = Value::Mapping(serde_yaml::Mapping::new());
    }
    Ok(of_tree(text, tree))
}

fn read(text: &str) -> Result<Value, NotYaml> {
    serde_yaml::from_str(text).map_err(|error| Box::new(not_yaml(text, &error)))
}

/// What is in a tree that does not fit, or not all of it.
fn of_tree(text: &str, mut tree: Value) -> Collected {
    let mut misfits = odd_keys::take_out(text, &mut tree);
    let end = Instant::now() + TIME_MAX;
    while let Err(error) = serde_path_to_error::deserialize::<_, Raw>(&tree) {
        let (path, taken_out) = take_out(
            &mut tree,
            error.path(),
            &error.inner().to_string(),
            &mut misfits,
        );
        if !taken_out {
            // Never seen; better one clumsy message than a loop.
            misfits.push(Problem::new(path, "does not fit here"));
            break;
        }
        if misfits.len() >= MISFITS_MAX || Instant::now() > end {
            misfits.push(Problem::new(
                FieldPath::root(),
                "there are more problems; mend these first",
            ));
            break;
        }
    }
    let raw = Raw::deserialize(&tree).unwrap_or_default();
    Collected { raw, misfits }
}

/// Notes one misfit and takes it out of the tree.
fn take_out(
    tree: &mut Value,
    path: &Path,
    message: &str,
    misfits: &mut Vec<Problem>,
) -> (FieldPath, bool) {
    let mut path = field_path(path);
    if is_scalar_for_text(tree, &path, message) {
        return (path, true);
    }
    let unknown = message
        .strip_prefix("unknown field `")
        .or_else(|| message.split_once("unknown field `").map(|(_, rest)| rest))
        .and_then(|rest| rest.split_once('`'));
    if let Some((key, rest)) = unknown {
        if path.segments().last() != Some(&Segment::Key(key.to_owned().into())) {
            path = path.key(key.to_owned());
        }
        let allowed: Vec<_> = rest.split('`').skip(1).step_by(2).collect();
        let list = allowed.join(", ");
        let text = match key {
            "<<" => "merge keys are not supported: write out what they would bring".to_owned(),
            key if key.contains(':') => {
                format!("unknown key, a space is missing behind the colon; allowed here: {list}")
            }
            key => format!(
                "unknown key{}; allowed here: {list}",
                did_you_mean(key, allowed.iter().copied()),
            ),
        };
        misfits.push(Problem::with_key(path.clone(), text));
    } else {
        let expected = message
            .rsplit_once("expected ")
            .map_or("something else", |(_, expected)| expected);
        let message = match find(tree, path.segments()) {
            Some(Value::Tagged(_)) => {
                "found a YAML tag (!), which is not supported; a text that begins with ! is put into quotes".to_owned()
            }
            found => {
                let is_number = matches!(found, Some(Value::Number(_)));
                let found = found.map_or("something else", kind);
                let expected = plain(expected);
                // A number of bytes may be a text, too: the library names neither.
                let bounds = (is_number || expected == WHOLE_NUMBER)
                    .then(|| bounds::at(path.segments()))
                    .flatten();
                match bounds {
                    Some(bounds) => format!("found {found}, expected {WHOLE_NUMBER} from {bounds}"),
                    None => format!("found {found}, expected {expected}"),
                }
            }
        };
        misfits.push(Problem::new(path.clone(), message));
    }
    let removed = remove(tree, path.segments());
    (path, removed)
}

/// Read in one go, `id: 7` is the text `7`; in the tree it is a number already,
/// and has to become a text again.
fn is_scalar_for_text(tree: &mut Value, path: &FieldPath, message: &str) -> bool {
    if !message.contains("expected a string") {
        return false;
    }
    let text = match find(tree, path.segments()) {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(value)) => value.to_string(),
        _ => return false,
    };
    find_mut(tree, path.segments()).is_some_and(|value| {
        *value = Value::String(text);
        true
    })
}

/// What the library calls by its own names.
fn plain(expected: &str) -> &str {
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    match expected {
        "a string" | "string" => "a text",
        "u64" | "u32" | "usize" => WHOLE_NUMBER,
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other => other,
    }
}

fn field_path(path: &Path) -> FieldPath {
    path.iter()
        .fold(FieldPath::root(), |path, segment| match segment {
            PathSegment::Seq { index } => path.index(*index),
            PathSegment::Map { key } => path.key(key.clone()),
            PathSegment::Enum { .. } | PathSegment::Unknown => path,
        })
}

/// What is wrong with a text that is no YAML, without what the library quotes of it.
fn not_yaml(whole: &str, error: &serde_yaml::Error) -> (Option<Place>, Problem) {
    let (mut place, text) = (place_of(error), error.to_string());
    let message = match Misread::of(&text) {
        Misread::Twice(key) => {
            if let Some(twice) = stands_twice(whole) {
                return twice;
            }
            let key = key.filter(|key| is_repeatable(key));
            let key = key.map_or_else(|| "the same key".to_owned(), |key| format!("the key {key}"));
            format!("{key} stands twice in the map that begins here")
        }
        Misread::TooLarge => {
            let message = "is too large a number for any range of this config";
            let field = too_large(whole).unwrap_or_default();
            return (place, Problem::new(field, message));
        }
        Misread::SecondDocument => {
            place = second_document(whole);
            "a second document begins here (---): a config is one document".to_owned()
        }
        Misread::Control(at) => {
            place = Some(place_at(whole, at));
            "not YAML: a control character stands here".to_owned()
        }
        Misread::TooDeep => "nested too deeply".to_owned(),
        Misread::TooManyAliases => "too many aliases".to_owned(),
        Misread::Said(words, slip) => format!("not YAML: {words}{}", slip.hint()),
        Misread::Quoted => "not YAML".to_owned(),
    };
    (place, Problem::new(FieldPath::root(), message))
}

fn place_of(error: &serde_yaml::Error) -> Option<Place> {
    error.location().map(|at| Place {
        line: at.line(),
        column: at.column(),
    })
}

/// The place of what stands so many bytes from the beginning.
fn place_at(text: &str, at: usize) -> Place {
    let before = text.char_indices().take_while(|(begin, _)| *begin < at);
    let begin = Place { line: 1, column: 1 };
    before.fold(begin, |place, (_, c)| match c {
        '\n' => Place {
            line: place.line + 1,
            column: 1,
        },
        _ => Place {
            column: place.column + 1,
            ..place
        },
    })
}

/// The key that stands twice, where both are known: the shapes tell which field it is,
/// and end at the second one.
fn stands_twice(text: &str) -> Option<(Option<Place>, Problem)> {
    let deserializer = serde_yaml::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, Raw>(deserializer).err()?;
    let said = error.inner().to_string();
    let Misread::Twice(Some(key)) = Misread::of(&said) else {
        return None;
    };
    let mut path = field_path(error.path());
    if path.segments().last() != Some(&Segment::Key(key.to_owned().into())) {
        path = path.key(key.to_owned());
    }
    let first = locate::key(text, &path, 0)?;
    let second = locate::key(text, &path, 1)?;
    let message = format!("stands twice; the first is in line {}", first.line);
    Some((Some(second), Problem::with_key(path, message)))
}

/// The field of a number that no type of the library holds.
fn too_large(text: &str) -> Option<FieldPath> {
    let deserializer = serde_yaml::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, Raw>(deserializer).err()?;
    let is_it = Misread::of(&error.inner().to_string()) == Misread::TooLarge;
    is_it.then(|| field_path(error.path()))
}

/// Where a second document begins.
fn second_document(text: &str) -> Option<Place> {
    let mut has_begun = false;
    for (line, said) in (1..).zip(text.lines()) {
        let is_start = said.trim_end() == "---" || said.starts_with("--- ");
        if is_start && has_begun {
            return Some(Place { line, column: 1 });
        }
        let is_content = !said.trim().is_empty() && !said.starts_with(['#', '%']);
        has_begun |= is_content;
    }
    None
}
