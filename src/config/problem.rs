//! What is wrong with a config, and where.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use super::suggest::is_repeatable;

/// The place of a field in a config: `tenants[3].limits[0].per`.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Segment>);

/// One step into a config.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Into a map.
    Key(Cow<'static, str>),
    /// Into a list.
    Index(usize),
}

impl FieldPath {
    /// The whole config.
    pub fn root() -> Self {
        Self::default()
    }

    /// The entry of a map.
    #[must_use]
    pub fn key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.0.push(Segment::Key(key.into()));
        self
    }

    /// The entry of a list.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is `other` or something around it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl Clone for FieldPath {
    /// With room for the step that mostly follows: each field that is looked at has
    /// such a path, for the problem that there may be.
    fn clone(&self) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if at > 0 => write!(f, ".{}", quotable(key))?,
                Segment::Key(key) => f.write_str(quotable(key))?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A key as it may be shown: somebody may have put a secret there by mistake.
fn quotable(key: &str) -> &str {
    let is_name = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if is_name && is_repeatable(key) {
        key
    } else {
        "(unusual key)"
    }
}

/// One thing that is wrong with a config, or is worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field; a missing one is located at what is around it.
    pub path: FieldPath,
    /// What was found and what is allowed; never a secret.
    pub message: String,
    /// Whether the key is to blame, not its value.
    pub is_about_key: bool,
}

impl Problem {
    /// A problem with the value of a field.
    pub fn new(path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            path,
            message: message.into(),
            is_about_key: false,
        }
    }

    /// A problem with a key that should not be there.
    pub fn with_key(path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            is_about_key: true,
            ..Self::new(path, message)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.segments().is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Where a problem stands in its file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// All that is wrong with one config, in the order of the file.
#[derive(Debug)]
pub struct Problems {
    file: String,
    found: Vec<(Option<Place>, Problem)>,
}

impl Problems {
    /// Problems whose places are known.
    pub fn with_places(file: &str, mut found: Vec<(Option<Place>, Problem)>) -> Self {
        found.sort_by_key(|(place, _)| *place);
        Self {
            file: file.to_owned(),
            found,
        }
    }

    /// One problem with the file as a whole.
    pub fn with_file(file: &str, message: impl Into<String>) -> Self {
        Self::with_places(file, vec![(None, Problem::new(FieldPath::root(), message))])
    }

    /// The same, with what to do about it behind each message.
    #[must_use]
    pub fn with_hint(mut self, hint: &str) -> Self {
        for (_, problem) in &mut self.found {
            problem.message.push_str(hint);
        }
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Each of them as a line for people.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(ToOwned::to_owned).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// One JSON object a problem.
    pub fn to_json(&self, severity: &str) -> Vec<serde_json::Value> {
        let object = |(place, problem): &(Option<Place>, Problem)| {
            serde_json::json!({
                "severity": severity,
                "file": self.file,
                "line": place.map(|place| place.line),
                "column": place.map(|place| place.column),
                "path": problem.path.to_string(),
                "message": problem.message,
            })
        };
        self.found.iter().map(object).collect()
    }

    /// As annotations of a GitHub workflow, one a line; `level` is `error` or
    /// `warning`.
    pub fn to_github(&self, level: &str) -> String {
        let mut text = String::new();
        for (place, problem) in &self.found {
            let place = place.map_or_else(String::new, |at| {
                format!(",line={},col={}", at.line, at.column)
            });
            let message = problem.to_string().replace('%', "%25").replace('\n', "%0A");
            // Writing to a string can't fail.
            let _ = writeln!(text, "::{level} file={}{place}::{message}", self.file);
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in &self.found {
            match place {
                Some(Place { line, column }) => {
                    writeln!(f, "{}:{line}:{column}: {problem}", self.file)?
                }
                None => writeln!(f, "{}: {problem}", self.file)?,
            }
        }
        Ok(())
    }
}
