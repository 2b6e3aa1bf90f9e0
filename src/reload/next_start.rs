//! What only the next start reads: looked at while there is somebody to mend it, and no
//! reason to hold up what a config revokes.

use crate::{
    config::{problem::Problem, settings::Settings},
    secret::MacKey,
    ship, snapshot,
    snapshot::Snapshot,
};

/// What a start would read, held against what is in use. What can't be read is no other.
pub struct NextStart {
    /// Whether the key of the trail is another one.
    pub has_other_mac_key: bool,
    /// Whether the URL of the store is another one, be it only its password: the
    /// connections are made with that of the start.
    pub has_other_store_url: bool,
}

/// What was read at the last start.
pub struct InUse<'a> {
    /// It has the store.
    pub snapshot: &'a Snapshot,
    /// The fingerprint of the trail's key.
    pub mac_key: Option<&'a str>,
}

impl NextStart {
    /// Reads what `settings` name beside a snapshot, and warns of what is wrong with it.
    pub fn look(settings: &Settings, in_use: InUse<'_>, warnings: &mut Vec<Problem>) -> Self {
        let mut problems = Vec::new();
        let has_other_mac_key = match snapshot::mac_key(&settings.audit) {
            Ok(named) => named.as_ref().map(MacKey::fingerprint).as_deref() != in_use.mac_key,
            Err(found) => {
                problems.extend(found);
                false
            }
        };
        let store = settings.limits_store.as_ref();
        let store = store.and_then(|store| snapshot::store(store, &mut problems));
        let both = in_use.snapshot.store.as_ref().zip(store);
        let ship = ship::check(&settings.audit);
        problems.extend(ship.err().into_iter().flatten());
        warnings.extend(problems.into_iter().map(|problem| Problem {
            message: format!(
                "{}; the next start needs it, and no reload",
                problem.message
            ),
            ..problem
        }));
        Self {
            has_other_mac_key,
            has_other_store_url: both.is_some_and(|(in_use, named)| !in_use.has_url_of(&named)),
        }
    }
}
