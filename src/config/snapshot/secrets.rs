//! Reading the secrets that settings name.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    background,
    config::{
        problem::{FieldPath, Problem},
        settings::{Audit, SecretSource, Settings},
        suggest::is_repeatable,
    },
    secret::{ApiKey, MacKey},
    token::looks_like_token,
};

/// The longest secret of any kind, in bytes, with a line end.
const SECRET_BYTES_MAX: u64 = 4096 + 2;
/// The longest name of a variable that is repeated to people, in bytes.
const VARIABLE_MAX: usize = 64;

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

/// Warnings about keys of Alloy that hold more than the key.
pub fn wrapped_keys(settings: &Settings) -> Vec<Problem> {
    let wrapped = keys(settings).filter_map(|(at, source)| {
        let (field, raw) = read(source).ok()?;
        let found = wrapping(str::from_utf8(&raw).ok()?.trim_end_matches(['\r', '\n']))?;
        let message = format!("{found}, and all of it is sent to Alloy: expected the key alone");
        Some(Problem::new(at.key(field), message))
    });
    wrapped.collect()
}

/// What stands around a key that was copied from a shell or a .env file.
fn wrapping(text: &str) -> Option<&'static str> {
    let is_in = |quote: char| text.starts_with(quote) && text.ends_with(quote);
    if is_in('"') || is_in('\'') {
        return Some("begins and ends with a quote");
    }
    let (name, value) = text.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_') && is_usual(name);
    // Not the padding of base32 or base64.
    let is_padding = value.trim_start_matches('=').is_empty();
    (is_name && !is_padding).then_some("begins with a name and =, as a line of a .env file does")
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

/// The bytes, and the field that they come from.
pub fn read(source: &SecretSource) -> Result<(&'static str, Vec<u8>), (&'static str, String)> {
    let (field, raw) = match source {
        SecretSource::File(path) => ("file", read_file(path, SECRET_BYTES_MAX)),
        SecretSource::Env(name) => (
            "env",
            env::var(name).map(String::into_bytes).map_err(|_| {
                format!(
                    "the environment variable {} is not set, or not UTF-8",
                    shown(name)
                )
            }),
        ),
        SecretSource::Credential(name) => ("credential", read_credential(name)),
        SecretSource::Inline(secret) => ("value", Ok(secret.expose().as_bytes().to_vec())),
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
    contents(&path, SECRET_BYTES_MAX).map_err(|error| match is_repeatable(name) {
        true => format!("cannot read {}: {error}", path.display()),
        false => format!("cannot read the credential that is named there (a long name is not repeated: it may be the secret): {error}"),
    })
}

/// A file to its end, or to somewhat beyond `bytes_max`, so that the reader sees the excess.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    contents(path, bytes_max).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn contents(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    background::read(file, length, bytes_max)
}
