//! Reading the secrets that settings name.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::Snapshot;
use crate::{
    config::{
        is_repeatable,
        problem::{FieldPath, Problem, Segment},
        settings::{Audit, SecretSource, Settings},
    },
    named_file,
    secret::{ApiKey, MacKey},
    token::looks_like_token,
};

/// The longest secret of any kind, in bytes, with a line end.
const SECRET_BYTES_MAX: u64 = 4096 + 2;
/// The longest name of a variable that is repeated to people, in bytes.
const VARIABLE_MAX: usize = 64;
/// The longest word in a path that is repeated to people, and the longest such words
/// together, in bytes.
const WORD_MAX: usize = 16;
const WORDS_MAX: usize = 64;
/// The same of a word, and of a number, in a name that nothing marks as that of a file.
const BARE_WORD_MAX: usize = 11;
const BARE_NUMBER_MAX: usize = 4;
/// The longest that stands behind the last point of a file's name, in bytes.
const EXTENSION_MAX: usize = 6;

/// An API key, or the field to blame and what is wrong with it.
pub fn api_key(source: &SecretSource) -> Result<ApiKey, (&'static str, String)> {
    let (field, raw) = read(source)?;
    if str::from_utf8(&raw).is_ok_and(|text| looks_like_token(text.trim())) {
        let wrong =
            "found a token that callers present to this gateway, expected the API key of Alloy";
        return Err((field, wrong.to_owned()));
    }
    ApiKey::new(&raw).map_err(|bad| (field, bad.to_string()))
}

/// Where each key of Alloy comes from, with the place of its field.
pub fn keys(settings: &Settings) -> impl Iterator<Item = (FieldPath, &SecretSource)> {
    settings.keys.iter().flat_map(|key| {
        let at = FieldPath::root().key("keys").key(key.name.clone());
        let next = key.next.as_ref().map(|next| (at.clone().key("next"), next));
        std::iter::once((at.key("secret"), &key.secret)).chain(next)
    })
}

/// Warnings about keys of Alloy that hold more than the key: those that `snapshot` has, since
/// a file may have another by now, or be a pipe that is read once.
pub fn wrapped_keys(settings: &Settings, snapshot: &Snapshot) -> Vec<Problem> {
    let wrapped = keys(settings).filter_map(|(at, source)| {
        let [.., Segment::Key(name), Segment::Key(which)] = at.segments() else {
            return None;
        };
        let ring = snapshot.key(name)?;
        let key = if which == "next" {
            ring.next()?
        } else {
            ring.first()
        };
        let found = key.wrapping()?;
        let message = format!("{found}, and all of it is sent to Alloy: expected the key alone");
        Some(Problem::new(at.key(field(source)), message))
    });
    wrapped.collect()
}

/// The key of the trail's HMAC, if there is one.
///
/// # Errors
///
/// If it can't be read, or is none.
pub fn mac_key(audit: &Audit) -> Result<Option<MacKey>, Vec<Problem>> {
    let Some(source) = &audit.mac_key else {
        return Ok(None);
    };
    let at = FieldPath::root().key("audit").key("mac_key");
    read(source)
        .and_then(|(field, raw)| MacKey::new(&raw).map_err(|bad| (field, bad.to_string())))
        .map(Some)
        .map_err(|(field, message)| vec![Problem::new(at.key(field), message)])
}

/// The field that names where a secret comes from.
fn field(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::File(_) => "file",
        SecretSource::Env(_) => "env",
        SecretSource::Credential(_) => "credential",
        SecretSource::Inline(_) => "value",
    }
}

/// The bytes, and the field that they come from.
pub fn read(source: &SecretSource) -> Result<(&'static str, Vec<u8>), (&'static str, String)> {
    let field = field(source);
    let raw = match source {
        SecretSource::File(path) => read_secret(path),
        SecretSource::Env(name) => env::var(name).map(String::into_bytes).map_err(|_| {
            format!(
                "the environment variable {} is not set, or not UTF-8",
                shown(name)
            )
        }),
        SecretSource::Credential(name) => read_credential(name),
        SecretSource::Inline(secret) => Ok(secret.expose().as_bytes().to_vec()),
    };
    match raw {
        Ok(raw) => Ok((field, raw)),
        Err(message) => Err((field, message)),
    }
}

/// The name of a variable, if it looks like one: a template may have put the secret
/// itself in its place.
fn shown(name: &str) -> &str {
    if name.len() <= VARIABLE_MAX && is_usual(name) {
        name
    } else {
        "that is named there (a name that is not in capitals is not repeated: it may be the secret)"
    }
}

/// Whether a name has the letters that variables usually have.
fn is_usual(name: &str) -> bool {
    let is_usual = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    name.bytes().all(is_usual)
}

fn read_credential(name: &str) -> Result<Vec<u8>, String> {
    let directory = env::var_os("CREDENTIALS_DIRECTORY").ok_or(
        "CREDENTIALS_DIRECTORY is not set: systemd sets it for a unit with LoadCredential=; to check by hand, set it to the directory in which a file of that name stands",
    )?;
    let path = PathBuf::from(directory).join(name);
    named_file::read(&path, SECRET_BYTES_MAX).map_err(|error| match is_name(name) {
        true => format!("cannot read {}: {error}", path.display()),
        false => format!("cannot read the credential that is named there (its name is not repeated: it may be the secret): {error}"),
    })
}

fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    named_file::read(path, SECRET_BYTES_MAX).map_err(|error| match is_repeatable_path(path) {
        true => format!("cannot read {}: {error}", path.display()),
        false => format!("cannot read the file that is named there (its name is not repeated: it may be the secret): {error}"),
    })
}

/// Whether a path may be told, for which somebody may have put the secret itself: what of
/// it is on the disk is none. The rest is one text, since secrets hold `/`, too.
fn is_repeatable_path(path: &Path) -> bool {
    let there = path.ancestors().find(|part| part.exists());
    let missing = there.and_then(|there| path.strip_prefix(there).ok());
    missing.unwrap_or(path).to_str().is_some_and(is_name)
}

/// Whether this names a file, and is no secret in the place of its name. What looks like a
/// path may be told if it is short, or of words alone; keys are as short as any other name.
fn is_name(text: &str) -> bool {
    let looks_like_path = text.contains('/') || has_extension(text);
    match looks_like_path {
        true => is_repeatable(text) || is_words(text),
        false => is_of_bare_words(text),
    }
}

/// Whether a name ends like that of a file: `.pem`, `.v2`.
fn has_extension(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let begins = extension.starts_with(|c: char| c.is_ascii_lowercase());
    !stem.is_empty() && begins && extension.len() <= EXTENSION_MAX && extension.bytes().all(fits)
}

/// Whether these are words of people, with what stands between them in a path.
fn is_words(text: &str) -> bool {
    let mut words = text.split(['/', '-', '_', '.']);
    let is_word =
        |word: &str| word.len() <= WORD_MAX && word.bytes().all(|b| b.is_ascii_lowercase());
    text.len() <= WORDS_MAX && words.all(is_word)
}

/// Whether these are plain words, as in `alloy-key-2026` or `ALLOY_API_KEY`: letters of one
/// case, or a small number, each.
fn is_of_bare_words(name: &str) -> bool {
    let is_word = |word: &str| {
        let all = |is: fn(&u8) -> bool| word.as_bytes().iter().all(is);
        let is_of_letters = all(u8::is_ascii_lowercase) || all(u8::is_ascii_uppercase);
        word.len() <= BARE_WORD_MAX && is_of_letters
            || word.len() <= BARE_NUMBER_MAX && all(u8::is_ascii_digit)
    };
    name.len() <= WORDS_MAX && name.split(['-', '_', '.']).all(is_word)
}

/// A file to its end, or to somewhat beyond `bytes_max`, so that the reader sees the excess.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    named_file::read(path, bytes_max)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}
