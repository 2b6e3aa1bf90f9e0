//! The records of freezes and their ends.

use super::{Fragment, Line, time};
use crate::audit::{
    event,
    format::{BEFORE_HASH, BEFORE_SEQ, BEFORE_TIME},
};

/// A tenant, or all of them, is frozen, or not any more.
#[derive(Debug, Clone, Copy)]
pub struct FrozenRecord<'a> {
    /// Tells this freeze from others of the same tenant.
    pub id: &'a str,
    /// Which tenant; `None` for all, those included that come later.
    pub tenant: Option<&'a str>,
    /// Who did it.
    pub by: &'a str,
    /// For whom, as they say themselves.
    pub on_behalf_of: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
    /// Since when, if the record only says again that it still is.
    pub since: Option<&'a str>,
}

impl<'a> FrozenRecord<'a> {
    /// What a `tenant.frozen` in the trail says.
    pub fn read(record: &'a Line<'_>) -> Self {
        Self {
            id: record.freeze.as_deref().unwrap_or_default(),
            tenant: record.tenant.as_deref(),
            by: record.by.as_deref().unwrap_or_default(),
            on_behalf_of: record.on_behalf_of.as_deref(),
            reason: record.reason.as_deref().unwrap_or_default(),
            since: record.since.as_deref(),
        }
    }
}

impl Fragment {
    /// `tenant.frozen`.
    pub fn frozen(record: &FrozenRecord<'_>) -> Self {
        Self::change_of_freeze(event::FROZEN, record).optional("since", record.since)
    }

    /// `tenant.thawed`: who ended a freeze, and why.
    pub fn thawed(record: &FrozenRecord<'_>) -> Self {
        Self::change_of_freeze(event::THAWED, record)
    }

    fn change_of_freeze(event: &'static str, record: &FrozenRecord<'_>) -> Self {
        let scope = record.tenant.map_or("all", |_| "tenant");
        Self::now(event)
            .text("freeze", record.id)
            .text("scope", scope)
            .optional("tenant", record.tenant)
            .text("by", record.by)
            .optional("on_behalf_of", record.on_behalf_of)
            .text("reason", record.reason)
    }

    /// The record as a reader would see it, but for its place in the chain.
    pub fn as_line(&self) -> String {
        let (time, event, fields) = (time(self.time_us), self.event, &self.fields);
        format!(
            r#"{BEFORE_SEQ}0{BEFORE_TIME}{time}","event":"{event}"{fields},"prev":""{BEFORE_HASH}"}}"#
        )
    }
}
