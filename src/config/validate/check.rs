//! Reading single values, and the list of what is wrong with them.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::literal::Literal;
use crate::config::{
    problem::{FieldPath, Problem, Segment},
    ranges::{self, Bytes, Range},
    raw::{self, Nothing, OneOf},
    settings::Window,
    suggest::{did_you_mean, is_repeatable, quote},
    unit::{duration, size},
};

/// The longest path of a Unix socket (`sun_path` of `unix(7)`, without its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// More problems than a person mends at once.
const PROBLEMS_MAX: usize = 100;
/// Of very many tenants without limits, each is worth a warning.
const WARNINGS_OF_TENANTS_MAX: usize = 100;
/// The list that those stand in.
const TENANTS: &str = "tenants";

/// What is wrong so far. Values that are wrong get a placeholder, so that the
/// rest can be looked at; with a problem, no settings are made of them.
#[derive(Debug)]
pub struct Check<'a> {
    directory: &'a Path,
    problems: Vec<Problem>,
    misfits: usize,
    warnings: Vec<Problem>,
    /// How many warnings there were about single tenants.
    of_tenants: usize,
}

impl<'a> Check<'a> {
    pub fn new(directory: &'a Path, misfits: Vec<Problem>) -> Self {
        Self {
            directory,
            misfits: misfits.len(),
            problems: misfits,
            warnings: Vec::new(),
            of_tenants: 0,
        }
    }

    /// Problems and warnings.
    pub fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        let untold = self.of_tenants.saturating_sub(WARNINGS_OF_TENANTS_MAX);
        if untold > 0 {
            let at = FieldPath::root().key(TENANTS);
            let message = format!("{untold} further warning(s) about tenants are not told");
            self.warnings.push(Problem::new(at, message));
        }
        (self.problems, self.warnings)
    }

    /// Notes a problem, unless the field, or what is around it, did not fit and
    /// was taken out.
    pub fn problem(&mut self, path: FieldPath, message: impl Into<String>) {
        let misfits = self.problems.iter().take(self.misfits);
        let known = misfits.enumerate().any(|(at, known)| {
            // The whole is a misfit only if nothing of it could be read.
            known.path.contains(&path) && (at == 0 || !known.path.segments().is_empty())
        });
        if known || self.problems.len() > PROBLEMS_MAX {
            return;
        }
        if self.problems.len() == PROBLEMS_MAX {
            self.problems.push(Problem::new(
                FieldPath::root(),
                "there are more problems; mend these first",
            ));
            return;
        }
        self.problems.push(Problem::new(path, message));
    }

    /// Whether one of these keys of `at` was there and did not fit, so that it is not
    /// missing.
    pub fn is_misfit(&self, at: &FieldPath, keys: &[&'static str]) -> bool {
        let misfits = || self.problems.iter().take(self.misfits);
        keys.iter().any(|key| {
            let at = at.clone().key(*key);
            misfits().any(|known| at.contains(&known.path))
        })
    }

    pub fn warning(&mut self, path: FieldPath, message: impl Into<String>) {
        if matches!(path.segments().first(), Some(Segment::Key(key)) if key == TENANTS) {
            self.of_tenants += 1;
            if self.of_tenants > WARNINGS_OF_TENANTS_MAX {
                return;
            }
        }
        self.warnings.push(Problem::new(path, message));
    }

    /// A value that has to be there.
    pub fn required<T>(&mut self, path: FieldPath, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.problem(path, "is missing");
        }
        value
    }

    /// A path, relative to the config file.
    pub fn path(&mut self, at: FieldPath, path: &str) -> PathBuf {
        self.path_that_is(at, path, is_repeatable(path))
    }

    /// The same of a secret's file, which is not repeated: it may be the secret itself.
    pub fn path_of_secret(&mut self, at: FieldPath, path: &str) -> PathBuf {
        self.path_that_is(at, path, false)
    }

    /// Every path of a config comes by here.
    fn path_that_is(&mut self, at: FieldPath, path: &str, is_repeatable: bool) -> PathBuf {
        if path.is_empty() || path.contains('\0') {
            self.problem(at, "expected a path");
        } else if let Some(literal) = Literal::found_in(path) {
            let found = match is_repeatable {
                true => quote(path),
                false => format!("a text of {} bytes{}", path.len(), literal.told()),
            };
            self.problem(at, format!("found {found}, {}", literal.why()));
        }
        self.directory.join(path)
    }

    /// The path of what the gateway makes: another one is never found to be missing, so a
    /// word that no path is meant by is refused.
    pub fn path_to_make(&mut self, at: FieldPath, path: &str) -> PathBuf {
        if is_word_for_none(path) {
            let found = quote(path);
            let message = format!("found {found}, expected a path (./{path}, if that is one)");
            self.problem(at, message);
            return self.directory.join(path);
        }
        self.path(at, path)
    }

    /// A text that may be left out, as the words for that: no path and no name is meant.
    /// Returns whether one was found.
    pub fn word_for_none(&mut self, at: &FieldPath, text: Option<&str>, what: &str) -> bool {
        let word = text.filter(|text| is_word_for_none(text));
        if let Some(word) = word {
            let message = format!(
                "found {}, expected {what}: leave it out for none",
                quote(word)
            );
            self.problem(at.clone(), message);
        }
        word.is_some()
    }

    /// The path of a socket.
    pub fn socket(&mut self, at: FieldPath, path: &str) -> PathBuf {
        let path = self.path_to_make(at.clone(), path);
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            self.problem(
                at,
                format!("has {bytes} bytes with its directory, at most {SOCKET_PATH_BYTES_MAX} fit into the address of a socket"),
            );
        }
        path
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        at: FieldPath,
        found: Option<String>,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(found) = found else { return default };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == found) {
            return *value;
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(&found, words.iter().copied());
        self.problem(
            at,
            format!(
                "found {}, expected {}{hint}",
                quote(&found),
                words.join(" or ")
            ),
        );
        default
    }

    /// A span of time.
    pub fn span(
        &mut self,
        at: FieldPath,
        found: Option<String>,
        default: &str,
        allowed: Range<Duration>,
    ) -> Duration {
        let found = found.as_deref().unwrap_or(default);
        match duration(found) {
            Ok(span) if allowed.contains(&span) => span,
            Ok(_) => {
                self.problem(at, format!("found {}, expected {allowed}", quote(found)));
                allowed.min
            }
            Err(expected) => {
                self.problem(at, format!("found {}, {expected}", quote(found)));
                allowed.min
            }
        }
    }

    /// A whole number.
    pub fn count(
        &mut self,
        at: FieldPath,
        found: Option<u64>,
        default: u32,
        allowed: Range<u32>,
    ) -> u32 {
        let Some(found) = found else { return default };
        match u32::try_from(found) {
            Ok(count) if allowed.contains(&count) => count,
            _ => {
                self.problem(at, format!("found {found}, expected {allowed}"));
                default
            }
        }
    }

    /// A number of bytes.
    pub fn size(
        &mut self,
        at: FieldPath,
        found: Option<OneOf<Nothing>>,
        default: u32,
        allowed: Range<Bytes>,
    ) -> u32 {
        let bytes = match found {
            None => return default,
            Some(OneOf::Number(bytes)) => Ok(bytes),
            Some(OneOf::Word(text)) => {
                size(&text).map_err(|expected| format!("found {}, {expected}", quote(&text)))
            }
            Some(OneOf::List(_) | OneOf::Map(_)) => Err("expected bytes, as in 16KiB".to_owned()),
        };
        match bytes.map(u32::try_from) {
            Ok(Ok(bytes)) if allowed.contains(&Bytes(bytes)) => bytes,
            Ok(_) => {
                self.problem(at, format!("is out of bounds, expected {allowed}"));
                default
            }
            Err(message) => {
                self.problem(at, message);
                default
            }
        }
    }

    /// A limit.
    pub fn window(&mut self, at: FieldPath, raw: &raw::Window) -> Window {
        let requests = self.units(at.clone().key("requests"), raw.requests, None);
        let burst = self.units(at.clone().key("burst"), raw.burst, Some(requests));
        let per_at = at.key("per");
        let per = match &raw.per {
            Some(per) => self.span(per_at.clone(), Some(per.clone()), "1s", ranges::LIMIT_PER),
            None => {
                self.problem(per_at.clone(), "is missing, expected a span as in 1s or 1d");
                Duration::from_secs(1)
            }
        };
        // `burst` units take burst × per / requests to come back: no wait may be
        // longer than what the clock of the limiter counts (584 years).
        let refill_ns = per.as_nanos() / u128::from(requests.get()) * u128::from(burst.get());
        if refill_ns > u128::from(u64::MAX) / 4 {
            self.problem(
                per_at,
                "is too long for this burst: it would take more than 146 years to come back",
            );
        }
        Window {
            requests,
            per,
            burst,
        }
    }

    fn units(
        &mut self,
        at: FieldPath,
        found: Option<u64>,
        default: Option<NonZeroU32>,
    ) -> NonZeroU32 {
        let allowed = ranges::LIMIT_UNITS;
        let expected = || format!("expected a whole number from {allowed}");
        let units = match (found, default) {
            (None, Some(default)) => return default,
            (None, None) => {
                self.problem(at, format!("is missing, {}", expected()));
                None
            }
            (Some(found), _) => {
                let units = u32::try_from(found)
                    .ok()
                    .filter(|units| allowed.contains(units))
                    .and_then(NonZeroU32::new);
                if units.is_none() {
                    let hint = if found == 0 {
                        " (a limit of zero admits nothing: use mode: suspended)"
                    } else {
                        ""
                    };
                    self.problem(at, format!("found {found}, {}{hint}", expected()));
                }
                units
            }
        };
        units.unwrap_or(NonZeroU32::MIN)
    }

    /// A list of limits, shortest first, each span once.
    pub fn windows(
        &mut self,
        at: &FieldPath,
        raw: Option<Vec<Option<raw::Window>>>,
    ) -> Box<[Window]> {
        let raw = raw.unwrap_or_default();
        let mut windows = Vec::with_capacity(raw.len());
        for (index, window) in raw.into_iter().enumerate() {
            let at = at.clone().index(index);
            let Some(raw) = self.entry(&at, window) else {
                continue;
            };
            let window = self.window(at.clone(), &raw);
            if windows.iter().any(|known: &Window| known.per == window.per) {
                self.problem(
                    at.key("per"),
                    "another limit of this list has the same span: remove one of them",
                );
            }
            windows.push(window);
        }
        windows.sort_by_key(|window| window.per);
        windows.into()
    }

    /// The entry of a list: `- ` without anything behind it is a problem.
    pub fn entry<T>(&mut self, at: &FieldPath, entry: Option<T>) -> Option<T> {
        if entry.is_none() {
            self.problem(at.clone(), "is empty");
        }
        entry
    }

    /// A [name](name()).
    pub fn name(&mut self, at: FieldPath, text: &str) -> bool {
        let checked = name(text);
        let fits = checked.is_ok();
        if let Err(expected) = checked {
            self.problem(at, format!("found {}, {expected}", quote(text)));
        }
        fits
    }
}

/// Words with which people say that there is to be none. YAML's own (null, ~) are nothing
/// already, unless they stand in quotes.
fn is_word_for_none(text: &str) -> bool {
    let words = ["off", "none", "no", "false", "null", "~"];
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A name of a tenant, a token or a key, as a config may have it: 1 to 64 of
/// `A-Z a-z 0-9 . _ -`, and nothing that looks like a token.
///
/// # Errors
///
/// What is expected instead.
pub fn name(text: &str) -> Result<String, &'static str> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !crate::token::looks_like_token(text);
    let expected = "expected a name: 1 to 64 of A-Z a-z 0-9 . _ -";
    fits.then(|| text.to_owned()).ok_or(expected)
}
