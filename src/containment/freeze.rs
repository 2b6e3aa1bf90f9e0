//! A freeze, and what it stops.

use jiff::Timestamp;

use crate::{
    audit::FrozenRecord,
    config::{settings::FreezeAfter, show_duration},
    ids::RequestId,
};

/// The name under which a spent budget freezes.
const BUDGET: &str = "freeze_after";

/// What is, or was, frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The tenant of this name, in the config or not.
    Tenant(&'a str),
    /// Every tenant, those included that come with a later config.
    All,
}

impl<'a> Scope<'a> {
    /// The tenant, if it is one.
    pub fn tenant(self) -> Option<&'a str> {
        match self {
            Self::Tenant(name) => Some(name),
            Self::All => None,
        }
    }
}

/// A freeze that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Tells it from others of the same tenant: a UUIDv7.
    pub id: Box<str>,
    /// Who froze, as the trail names them.
    pub by: Box<str>,
    /// For whom, as they said themselves.
    pub on_behalf_of: Option<Box<str>>,
    /// Why.
    pub reason: Box<str>,
    /// Since when.
    pub since: Timestamp,
}

impl Freeze {
    /// What the trail says of it.
    pub fn record<'a>(&'a self, scope: Scope<'a>) -> FrozenRecord<'a> {
        FrozenRecord {
            id: &self.id,
            tenant: scope.tenant(),
            by: &self.by,
            on_behalf_of: self.on_behalf_of.as_deref(),
            reason: &self.reason,
            since: None,
        }
    }

    /// One that begins now.
    pub fn new(by: &str, on_behalf_of: Option<&str>, reason: &str) -> Self {
        Self {
            id: RequestId::next().as_str().into(),
            by: by.into(),
            on_behalf_of: on_behalf_of.map(Into::into),
            reason: reason.into(),
            since: Timestamp::now(),
        }
    }

    /// The same, made after one that stands, whatever clock that was made by: of two the
    /// later one stands in a fleet.
    #[must_use]
    pub fn after(mut self, standing: &Self) -> Self {
        if self.id <= standing.id
            && let Some(id) = RequestId::behind(&standing.id)
        {
            self.id = id.as_str().into();
        }
        self
    }

    /// One of a tenant that spent this budget.
    pub(super) fn of_budget(budget: FreezeAfter) -> Self {
        let (deletions, per) = (budget.deletions, show_duration(budget.per));
        let reason = format!("{deletions} different credentials deleted within {per}");
        Self::new(BUDGET, None, &reason)
    }
}
