//! The freezes that stand, as far as the trail says.
//!
//! A freeze may stand for longer than its record is kept, and a start must not
//! have to read a trail of years to find it: so each segment begins with those
//! that stand, written anew.

use std::collections::BTreeMap;

use super::{
    event::{FROZEN, THAWED},
    queue::{Entry, Kind},
    record::{Fragment, FrozenRecord, Line},
};

/// The freezes that stand: at most one for each tenant and one for all.
#[derive(Debug, Default)]
pub struct Standing(BTreeMap<Option<Box<str>>, Freeze>);

/// A freeze as it was recorded.
#[derive(Debug)]
struct Freeze {
    id: String,
    by: String,
    on_behalf_of: Option<String>,
    reason: String,
    since: String,
}

impl Standing {
    /// Takes a record that is in the trail, if it freezes or thaws.
    pub fn follow(&mut self, record: &Line<'_>) {
        let tenant = record.tenant.as_deref().map(Into::into);
        match &*record.event {
            FROZEN => {
                let read = FrozenRecord::read(record);
                let freeze = Freeze {
                    id: read.id.to_owned(),
                    by: read.by.to_owned(),
                    on_behalf_of: read.on_behalf_of.map(ToOwned::to_owned),
                    reason: read.reason.to_owned(),
                    since: read.since.unwrap_or(&record.time).to_owned(),
                };
                self.0.insert(tenant, freeze);
            }
            THAWED => {
                self.0.remove(&tenant);
            }
            _ => {}
        }
    }

    /// Takes a record that was just written.
    pub fn follow_own(&mut self, fragment: &Fragment) {
        let line = fragment.as_line();
        // What we wrote ourselves can be read.
        if let Ok(record) = serde_json::from_str::<Line<'_>>(&line) {
            self.follow(&record);
        }
    }

    /// How many there are; `None` if none.
    pub fn count(&self) -> Option<u64> {
        (!self.0.is_empty()).then_some(self.0.len() as u64)
    }

    /// All of them, as the records with which a segment begins.
    pub fn anew(&self) -> impl Iterator<Item = Entry> {
        self.0.iter().map(|(tenant, freeze)| Entry {
            fragment: Fragment::frozen(&FrozenRecord {
                id: &freeze.id,
                tenant: tenant.as_deref(),
                by: &freeze.by,
                on_behalf_of: freeze.on_behalf_of.as_deref(),
                reason: &freeze.reason,
                since: Some(&freeze.since),
            }),
            reply: None,
            kind: Kind::Segment,
        })
    }
}
