//! Files of certificates that are refused, now or soon: a warning for whoever loads a config.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use super::{
    certificates::{soon, timestamp},
    secrets::read_file,
};
use crate::{
    config::{
        problem::{FieldPath, Problem},
        settings::{Settings, Trust},
    },
    tls::{self, Validity},
};

/// How long before its end a certificate is worth a warning to whoever loads a config.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// What comes of a chain that is not good.
const REFUSED: &str = "clients refuse it";
/// The same of authorities: their own dates are looked at by few.
const CALLERS_REFUSED: &str =
    "callers whose certificates it issued are refused, since as a rule these end with it";
const NO_UPSTREAM: &str =
    "each call is 502, since as a rule the upstream's certificate ends with it";
const NOT_REACHED: &str =
    "nothing gets there, since as a rule the certificate of the other side ends with it";

/// Warnings about files of certificates that are refused, now or soon.
pub fn invalid_certificates(settings: &Settings) -> Vec<Problem> {
    let now = Timestamp::now();
    let mut warnings = Vec::new();
    for (at, listen) in settings.listen.iter().enumerate() {
        let Some(tls) = &listen.tls else { continue };
        let at = FieldPath::root().key("listen").index(at).key("tls");
        let chain = at.clone().key("certificate").key("file");
        warnings.extend(invalid_chain(&chain, &tls.certificate, now));
        if let Some(path) = &tls.client_ca {
            let at = at.key("client_ca").key("file");
            warnings.extend(invalid_authorities(at, path, CALLERS_REFUSED, now));
        }
    }
    for (at, trust, so) in trusts(settings) {
        if let Trust::File(path) = trust {
            warnings.extend(invalid_authorities(at.key("file"), path, so, now));
        }
    }
    warnings
}

/// Whom the gateway trusts as a client, and what comes of it if that ends.
fn trusts(settings: &Settings) -> impl Iterator<Item = (FieldPath, &Trust, &'static str)> {
    let at = |path: &[&'static str]| {
        let keys = path.iter().chain(&["trust"]);
        keys.fold(FieldPath::root(), |at, key| at.key(*key))
    };
    let upstream = Some(&settings.upstream).filter(|it| it.url.tls);
    let upstream = upstream.map(|it| (at(&["upstream"]), &it.trust, NO_UPSTREAM));
    let store = settings.limits_store.as_ref();
    let store = store.map(|it| (at(&["limits_store", "redis"]), &it.trust, NOT_REACHED));
    let otlp = settings.otlp.as_ref();
    let otlp = otlp.map(|it| (at(&["otlp"]), &it.trust, NOT_REACHED));
    let ship = settings.audit.ship.as_ref();
    let ship = ship.map(|it| (at(&["audit", "ship", "postgres"]), &it.trust, NOT_REACHED));
    [upstream, store, otlp, ship].into_iter().flatten()
}

/// Of a chain each certificate has to be good.
fn invalid_chain(at: &FieldPath, path: &Path, now: Timestamp) -> Vec<Problem> {
    let chain = validities(path);
    let invalid = (1..).zip(chain).filter_map(|(number, validity)| {
        let when = invalid(validity, now)?;
        Some(problem(at.clone(), path, number, &when, REFUSED))
    });
    invalid.collect()
}

/// Of authorities the one counts that ends last, as it does while the gateway runs: they are
/// trusted side by side while one follows another.
fn invalid_authorities(at: FieldPath, path: &Path, so: &str, now: Timestamp) -> Option<Problem> {
    let authorities = validities(path);
    let (number, last) = (1..)
        .zip(&authorities)
        .max_by_key(|(_, validity)| validity.until)?;
    let is_good = |validity: &Validity| invalid(*validity, now).is_none();
    let when = invalid(*last, now).filter(|_| !authorities.iter().any(is_good))?;
    Some(problem(at, path, number, &when, so))
}

fn validities(path: &Path) -> Vec<Validity> {
    // What can't be read was told where it was needed.
    let read = read_file(path, tls::ROOTS_BYTES_MAX);
    tls::validities(&read.unwrap_or_default())
}

fn problem(at: FieldPath, path: &Path, number: usize, when: &str, so: &str) -> Problem {
    let path = path.display();
    Problem::new(at, format!("{path}: certificate {number} {when}: {so}"))
}

/// When a certificate is not good, if that is now or soon.
fn invalid(validity: Validity, now: Timestamp) -> Option<String> {
    let (from, until) = (timestamp(validity.from), timestamp(validity.until));
    if now < from {
        return Some(format!("is not valid before {from}"));
    }
    let Ok(left) = Duration::try_from(until.duration_since(now)) else {
        return Some(format!("has expired on {until}"));
    };
    let lifetime = validity.until.saturating_sub(validity.from);
    let days = left.as_secs() / 86_400;
    let expires = format!("expires on {until}, in {days} day(s)");
    (left <= soon(EXPIRES_SOON, lifetime)).then_some(expires)
}
