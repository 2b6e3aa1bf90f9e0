//! Roots that can't be trusted, as a problem of the field that names them.

use crate::{
    config::{
        problem::{FieldPath, Problem},
        settings::Trust,
    },
    tls::TrustError,
};

/// `at` is the path of the field `trust`.
pub fn bad_trust(at: FieldPath, trust: &Trust, error: &TrustError) -> Problem {
    let at = match trust {
        Trust::File(_) => at.key("file"),
        _ => at,
    };
    Problem::new(at, error.to_string())
}
