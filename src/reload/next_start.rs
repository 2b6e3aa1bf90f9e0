//! What only the next start reads: looked at while there is somebody to mend it, and no
//! reason to hold up what a config revokes.

use crate::{
    config::{problem::Problem, settings::Settings},
    secret::MacKey,
    ship,
    snapshot::{self, Snapshot, otlp::Way},
    tls::ClientTls,
};

/// What a start reads and no reload does. Of `audit.ship` that is nothing: its URL and
/// authorities are read for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The key of the trail.
    MacKey,
    /// The URL of the store, be it only its password: the connections are made with that
    /// of the start.
    StoreUrl,
    /// The authorities that vouch for the store.
    StoreTrust,
    /// The values of the fields that the collector of spans is sent.
    OtlpHeaders,
    /// The authorities that vouch for the collector.
    OtlpTrust,
}

/// What a start would read, held against what is in use. What can't be read is no other.
pub struct NextStart {
    others: Vec<Named>,
}

/// What the last start read, as far as another content is to be noticed: fingerprints,
/// no secrets.
#[derive(Debug, Clone)]
pub struct AtStart {
    mac_key: Option<String>,
    collector: Option<Collector>,
}

#[derive(Debug, Clone)]
struct Collector {
    fields: Vec<String>,
    tls: Option<ClientTls>,
}

/// What is in use.
pub struct InUse<'a> {
    /// It has the store.
    pub snapshot: &'a Snapshot,
    /// All else.
    pub at_start: &'a AtStart,
}

impl AtStart {
    /// Of a trail with this key, and the way to a collector of spans.
    pub fn new(mac_key: Option<&MacKey>, otlp: Option<&Way>) -> Self {
        Self {
            mac_key: mac_key.map(MacKey::fingerprint),
            collector: otlp.map(Collector::of),
        }
    }
}

impl Collector {
    fn of(way: &Way) -> Self {
        Self {
            fields: way.fingerprints(),
            tls: way.tls.clone(),
        }
    }

    fn others(&self, named: &Self) -> impl Iterator<Item = Named> + use<> {
        let tls = self.tls.as_ref().zip(named.tls.as_ref());
        let has_same_trust = tls.is_none_or(|(in_use, named)| in_use.has_authorities_of(named));
        let fields = (self.fields != named.fields).then_some(Named::OtlpHeaders);
        let trust = (!has_same_trust).then_some(Named::OtlpTrust);
        fields.into_iter().chain(trust)
    }
}

impl NextStart {
    /// Reads what `settings` name beside a snapshot, and warns of what is wrong with it.
    pub fn look(settings: &Settings, in_use: InUse<'_>, warnings: &mut Vec<Problem>) -> Self {
        let (mut problems, mut others) = (Vec::new(), Vec::new());
        let InUse { snapshot, at_start } = in_use;
        match snapshot::mac_key(&settings.audit) {
            Ok(named) if named.as_ref().map(MacKey::fingerprint) != at_start.mac_key => {
                others.push(Named::MacKey);
            }
            Ok(_) => {}
            Err(found) => problems.extend(found),
        }
        let store = settings.limits_store.as_ref();
        let store = store.and_then(|store| snapshot::store(store, &mut problems));
        if let Some((in_use, named)) = snapshot.store.as_ref().zip(store) {
            others.extend((!in_use.has_url_of(&named)).then_some(Named::StoreUrl));
            others.extend((!in_use.has_authorities_of(&named)).then_some(Named::StoreTrust));
        }
        match snapshot::otlp::otlp(settings.otlp.as_ref()) {
            Ok(named) => {
                let named = named.as_ref().map(Collector::of);
                let both = at_start.collector.as_ref().zip(named);
                others.extend(both.into_iter().flat_map(|(it, named)| it.others(&named)));
            }
            Err(found) => problems.extend(found),
        }
        let ship = ship::check(&settings.audit);
        problems.extend(ship.err().into_iter().flatten());
        warnings.extend(problems.into_iter().map(|problem| Problem {
            message: format!(
                "{}; the next start needs it, and no reload",
                problem.message
            ),
            ..problem
        }));
        Self { others }
    }

    /// Whether this would be another than the one in use.
    pub fn has_other(&self, named: Named) -> bool {
        self.others.contains(&named)
    }
}
