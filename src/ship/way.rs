//! What `audit.ship` names: the database's URL, and roots.

use super::Database;
use crate::{
    config::{
        problem::{FieldPath, Problem},
        settings::{Audit, Ship},
    },
    snapshot::{bad_trust, read_secret},
    tls,
};

/// Whether all that `audit.ship` names can be read, if there is such a thing.
///
/// # Errors
///
/// Every problem; none of them holds anything of a secret.
pub fn check(audit: &Audit) -> Result<(), Vec<Problem>> {
    match &audit.ship {
        Some(ship) => database(ship).map(drop).map_err(|problem| vec![problem]),
        None => Ok(()),
    }
}

/// The way to the database. The URL is read each time: passwords are changed.
///
/// # Errors
///
/// What is wrong; without anything of the URL.
pub fn database(ship: &Ship) -> Result<Database, Problem> {
    let at = FieldPath::root().key("audit").key("ship").key("postgres");
    let found = read_secret(&ship.url).and_then(|(field, raw)| {
        Database::parse(&raw, ship.allow_plaintext).map_err(|why| (field, why))
    });
    let database = match found {
        Ok(database) => database,
        Err((field, why)) => return Err(Problem::new(at.key("url").key(field), why)),
    };
    if !database.wants_tls() {
        return Ok(database);
    }
    tls::database_config(&ship.trust)
        .map(|tls| database.with_tls(tls))
        .map_err(|error| bad_trust(at.key("trust"), &ship.trust, &error))
}
