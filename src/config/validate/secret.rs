//! Where secrets come from.

use super::check::Check;
use crate::config::{
    problem::FieldPath,
    raw,
    settings::{InlineSecret, SecretSource},
};

/// Where a secret is to be read from.
pub fn source(
    check: &mut Check,
    at: &FieldPath,
    raw: raw::Secret,
    allow_inline: bool,
) -> SecretSource {
    let raw::Secret {
        file,
        env,
        credential,
        value,
    } = raw;
    match (file, env, credential, value) {
        (Some(file), None, None, None) => {
            SecretSource::File(check.path_of_secret(at.clone().key("file"), &file))
        }
        (None, Some(env), None, None) => {
            if !is_variable(&env) {
                check.problem(
                    at.clone().key("env"),
                    "expected the name of an environment variable: letters, digits and _ . -, as in ALLOY_API_KEY",
                );
            }
            SecretSource::Env(env)
        }
        (None, None, Some(name), None) => {
            if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
                check.problem(
                    at.clone().key("credential"),
                    "expected the name of a systemd credential, without a path",
                );
            }
            SecretSource::Credential(name)
        }
        (None, None, None, Some(value)) => {
            let at = at.clone().key("value");
            if allow_inline {
                check.warning(
                    at,
                    "the secret stands in the config: whoever reads the config has it",
                );
            } else {
                check.problem(at, "a secret in the config needs allow_inline_secrets: true at the top; better use { file: PATH }");
            }
            SecretSource::Inline(InlineSecret::new(value))
        }
        (None, None, None, None)
            if check.is_misfit(at, &["file", "env", "credential", "value"]) =>
        {
            SecretSource::Env(String::new())
        }
        _ => {
            check.problem(at.clone(), "expected exactly one of file, env, credential");
            SecretSource::Env(String::new())
        }
    }
}

/// POSIX.1-2017 §3.235, and what containers are given besides.
fn is_variable(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    name.bytes().all(is_part) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}
