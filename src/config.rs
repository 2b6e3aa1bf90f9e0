//! One YAML file → [`settings`].
//!
//! `raw` (shapes without meaning) → [`settings`] (validated, without I/O). What these name is
//! read by others, who stand above.

mod admin_section;
pub mod problem;
mod ranges;
mod raw;
mod reference;
pub mod settings;
mod show;
mod suggest;
mod unit;
mod validate;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use self::validate::is_loopback;
pub use self::{
    admin_section::{AdminSection, admin},
    raw::schema,
    show::show,
    suggest::{did_you_mean, is_repeatable, quote},
    unit::{duration, show_duration},
    validate::expected_id,
    validate::name,
};
use self::{
    problem::{FieldPath, Problem, Problems},
    settings::Settings,
    validate::Invalid,
};
use crate::{background, named_file, secret::hex};

/// The longest config that is read; 100,000 tenants take some 20 MiB.
const CONFIG_BYTES_MAX: u64 = 32 << 20;
/// What stands for standard input in the place of a path.
const STDIN: &str = "-";
/// How deep a config may nest. Ours nests 6 deep; YAML parsers take quadratic
/// time on what is very deep.
const NESTING_MAX: usize = 64;
/// How far a line may be indented.
const INDENT_MAX: usize = 512;

/// The reference of the config, as Markdown.
pub fn reference() -> String {
    let schema = serde_json::from_str(&schema()).unwrap_or_default();
    reference::reference(&schema)
}

/// A config file that is right.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Arc<Settings>,
    /// The first 12 hex digits of its SHA-256.
    pub digest: String,
    /// What is allowed, and hardly meant.
    pub warnings: Vec<Problem>,
    path: PathBuf,
    /// What can't be read a second time.
    piped: Option<String>,
}

/// Reads and validates a config file; `-` is standard input. If the config is wrong,
/// `more` looks for problems of what it names, for all to be told at once.
///
/// # Errors
///
/// Every problem at once, none of which shows a secret.
pub fn load(path: &Path, more: impl FnOnce(&Settings) -> Vec<Problem>) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    let text = read(path).map_err(|message| Problems::with_file(&file, message))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let (settings, warnings) = parse(&file, &text, directory, more)?;
    let sum = background::sha256(text.as_bytes());
    Ok(Loaded {
        settings: Arc::new(settings),
        digest: hex(&sum).chars().take(12).collect(),
        warnings,
        path: path.to_owned(),
        piped: is_stdin(path).then_some(text),
    })
}

/// Whether this stands for standard input, which can't be read a second time.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

impl Loaded {
    /// A config from standard input, as it was read at the start: what it names may be
    /// read again.
    pub fn read_once(settings: Arc<Settings>, digest: &str) -> Self {
        let once = "the config came from standard input, which is read once: restart to change it";
        Self {
            settings,
            digest: digest.to_owned(),
            warnings: vec![Problem::new(FieldPath::root(), once)],
            path: STDIN.into(),
            piped: Some(String::new()),
        }
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is worth a warning in it, and what was found besides in what it names.
    pub fn warnings_with(&self, found: Vec<Problem>) -> Problems {
        let warnings: Vec<_> = self.warnings.iter().cloned().chain(found).collect();
        if warnings.is_empty() {
            // Nothing is to be found in the text.
            return Problems::with_places(&self.path.display().to_string(), Vec::new());
        }
        self.locate(warnings)
    }

    /// What is worth a warning in a text that can't be read a second time, for later.
    pub fn piped_warnings(&self) -> Vec<String> {
        match self.piped {
            Some(_) => self.locate(self.warnings.clone()).lines(),
            None => Vec::new(),
        }
    }

    /// Finds the places of problems or warnings that were found later.
    pub fn locate(&self, problems: Vec<Problem>) -> Problems {
        // Read again: keeping the text of a large config for this would cost
        // every run of a right one.
        let text = match &self.piped {
            Some(text) => text,
            None => &read(&self.path).unwrap_or_default(),
        };
        Problems::locate(
            &self.path.display().to_string(),
            without_mark(text),
            problems,
        )
    }
}

/// Text → settings, and what is worth a warning. If something is wrong, `more`
/// looks for problems of what the settings name.
fn parse(
    file: &str,
    text: &str,
    directory: &Path,
    more: impl FnOnce(&Settings) -> Vec<Problem>,
) -> Result<(Settings, Vec<Problem>), Problems> {
    let text = without_mark(text);
    let collected =
        raw::collect(text).map_err(|problem| Problems::with_places(file, vec![*problem]))?;
    match validate::validate(collected.raw, directory, collected.misfits) {
        Ok(validated) => Ok((validated.settings, validated.warnings)),
        Err(invalid) => {
            let Invalid {
                mut problems,
                settings,
            } = *invalid;
            let is_known = |found: &Problem| {
                let known = problems.iter().map(|problem| &problem.path);
                known
                    .into_iter()
                    .any(|known| known.contains(&found.path) || found.path.contains(known))
            };
            let mut found = more(&settings);
            found.retain(|found| !is_known(found));
            problems.extend(found);
            Err(Problems::locate(file, text, problems))
        }
    }
}

/// The text without a byte order mark, which some editors put before it: it says nothing
/// about UTF-8, and the YAML library takes it for a document of its own.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = if is_stdin(path) {
        background::read(io::stdin().lock(), 0, CONFIG_BYTES_MAX)
    } else {
        named_file::read(path, CONFIG_BYTES_MAX)
    };
    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("is longer than {} MiB", CONFIG_BYTES_MAX >> 20));
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read_bytes(path)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let good = error.as_bytes().get(..good).unwrap_or_default();
        let good = String::from_utf8_lossy(good);
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("is not UTF-8 at line {line}, column {column}")
    })?;
    if text.trim().is_empty() {
        return Err("is empty; config/example.yaml is a good start".to_owned());
    }
    nests_sanely(&text)?;
    names_anchors_once(&text)?;
    Ok(text)
}

/// YAML lets an anchor be defined anew, and the parser (yaml_serde 0.10) then confuses
/// the definitions from the third on: a tenant could get the users of another. Nobody
/// needs that, so it is refused, also where only a comment looks like it.
fn names_anchors_once(text: &str) -> Result<(), String> {
    let mut defined = HashMap::new();
    if !text.contains('&') {
        return Ok(());
    }
    for (number, line) in (1_usize..).zip(text.lines()) {
        background::give_way();
        if line.trim_start().starts_with('#') {
            continue;
        }
        for (at, _) in line.match_indices('&') {
            let (before, name) = (line.get(..at), line.get(at + 1..).unwrap_or_default());
            let is_within = before.is_some_and(|before| {
                before.ends_with(|last: char| !last.is_whitespace() && !"[{,:-?".contains(last))
            });
            let ends = |c: char| c.is_whitespace() || "[]{},".contains(c);
            let name = name.split(ends).next().unwrap_or_default();
            if is_within || name.is_empty() {
                continue;
            }
            if let Some(first) = defined.insert(name, number) {
                // The name is not told: it could be part of a secret in a wrong place.
                return Err(format!(
                    "line {number}: defines an anchor (&) that line {first} defines already; each needs a name of its own"
                ));
            }
        }
    }
    Ok(())
}

/// A cheap look before the parser's: it need not be exact, only never be wrong
/// about a config that a person would write.
fn nests_sanely(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for (number, line) in (1..).zip(text.lines()) {
        background::give_way();
        let mut rest = line.trim_start_matches([' ', '\t']);
        let mut dashes = 0;
        while let Some(after) = rest.strip_prefix("- ").or_else(|| rest.strip_prefix("? ")) {
            rest = after.trim_start_matches(' ');
            dashes += 1;
        }
        let mut quote = None;
        let mut before = b' ';
        for byte in rest.bytes() {
            match (quote, byte) {
                (Some(open), _) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'#') if before == b' ' => break,
                (None, b'[' | b'{') => depth += 1,
                (None, b']' | b'}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            before = byte;
            if depth > NESTING_MAX {
                break;
            }
        }
        if depth > NESTING_MAX || dashes > NESTING_MAX || line.len() - rest.len() > INDENT_MAX {
            return Err(format!(
                "line {number}: nested too deeply (at most {NESTING_MAX} levels)"
            ));
        }
    }
    Ok(())
}

/// The root, for problems that are about the file as a whole.
impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self::new(FieldPath::root(), message)
    }
}

#[cfg(test)]
mod tests;
