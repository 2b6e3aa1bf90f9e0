//! The register of freezes in the store: one entry for each tenant that was ever
//! frozen in the fleet, and one for all.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Freeze, Scope};
use crate::{
    audit::TEXT_BYTES_MAX,
    fleet::{Client, Store, Table, Trouble, distinct},
};

/// Its name, behind the prefix of the config.
const NAME: &str = "freezes";
/// The name of the entry of all; those of tenants begin with [`TENANT`].
const ALL: &str = "all";
const TENANT: &str = "tenant:";

/// The register.
#[derive(Debug, Clone)]
pub struct Register {
    table: Table,
    client: Arc<Client>,
}

/// What it says of a tenant, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The tenant; `None` for all.
    pub tenant: Option<Box<str>>,
    /// The last freeze; of an ended one, who ended it and why and when.
    pub freeze: Freeze,
    /// Whether it stands.
    pub stands: bool,
}

impl Entry {
    /// What it is about.
    pub fn scope(&self) -> Scope<'_> {
        self.tenant.as_deref().map_or(Scope::All, Scope::Tenant)
    }
}

impl Register {
    /// The one that this way to the store leads to.
    pub fn new(client: &Arc<Client>) -> Self {
        Self {
            table: Table::new(client, NAME),
            client: Arc::clone(client),
        }
    }

    /// The store that it is in.
    pub fn store(&self) -> &Store {
        self.client.store()
    }

    /// Every entry that can be read.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn read(&self) -> Result<Vec<Entry>, Trouble> {
        let texts = self.table.read().await?;
        let entries = texts.iter().map(|(name, text)| read(name, text));
        Ok(entries.flatten().collect())
    }

    /// Enters that a freeze ended, with a new budget of deletions; `end` says who did
    /// it and why. Each gateway then ends it by itself.
    ///
    /// # Errors
    ///
    /// If the store does not answer: those who hold it freeze all others again.
    pub async fn end(&self, scope: Scope<'_>, end: &Freeze) -> Result<(), Trouble> {
        if let Some(tenant) = scope.tenant() {
            // First: who hears of the end begins anew.
            distinct::forget(&self.client, &deleted_by(tenant)).await?;
        }
        self.enter(scope, end, false).await
    }

    /// Counts the deletion of a credential, so long `ago`, over the fleet; how many
    /// different ones the tenant deleted within `per`.
    ///
    /// # Errors
    ///
    /// If the store does not answer; counting it again changes nothing.
    pub async fn count(
        &self,
        tenant: &str,
        credential: u128,
        ago: Duration,
        per: Duration,
    ) -> Result<u64, Trouble> {
        let credential = format!("{credential:032x}");
        distinct::count(&self.client, &deleted_by(tenant), &credential, ago, per).await
    }

    /// Enters a freeze, or that it ended.
    ///
    /// # Errors
    ///
    /// If the store does not answer; it may be entered all the same.
    pub async fn enter(
        &self,
        scope: Scope<'_>,
        freeze: &Freeze,
        stands: bool,
    ) -> Result<(), Trouble> {
        let name = scope
            .tenant()
            .map_or_else(|| ALL.to_owned(), |tenant| format!("{TENANT}{tenant}"));
        self.table.set(&name, &write(freeze, stands)).await
    }
}

/// What a tenant's deletions are counted under.
fn deleted_by(tenant: &str) -> String {
    format!("deleted:{tenant}")
}

fn write(freeze: &Freeze, stands: bool) -> String {
    json!({
        "state": if stands { "frozen" } else { "thawed" },
        "freeze": freeze.id,
        "by": freeze.by,
        "on_behalf_of": freeze.on_behalf_of,
        "reason": freeze.reason,
        "at": freeze.since.to_string(),
    })
    .to_string()
}

/// An entry, if it is one as gateways write them.
fn read(name: &str, text: &str) -> Option<Entry> {
    let tenant = match name.strip_prefix(TENANT) {
        Some(tenant) => Some(tenant.into()),
        None if name == ALL => None,
        None => return None,
    };
    let value: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| {
        let text = value.get(name)?.as_str()?;
        // Longer ones no gateway enters: the trail would cut them.
        (text.len() <= TEXT_BYTES_MAX).then_some(text)
    };
    let stands = match text("state")? {
        "frozen" => true,
        "thawed" => false,
        _ => return None,
    };
    let freeze = Freeze {
        id: text("freeze").filter(|id| !id.is_empty())?.into(),
        by: text("by")?.into(),
        on_behalf_of: text("on_behalf_of").map(Into::into),
        reason: text("reason")?.into(),
        since: text("at")?.parse::<Timestamp>().ok()?,
    };
    Some(Entry {
        tenant,
        freeze,
        stands,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_what_is_none_is_left_alone() {
        for on_behalf_of in [None, Some("the night shift")] {
            let freeze = Freeze::new("unix:uid=0", on_behalf_of, "a \"drill\"");
            for stands in [true, false] {
                let text = write(&freeze, stands);
                let entry = read("tenant:billing", &text).unwrap();
                assert_eq!(entry.scope(), Scope::Tenant("billing"));
                assert_eq!((&entry.freeze, entry.stands), (&freeze, stands));
                assert_eq!(read("all", &text).unwrap().scope(), Scope::All);
                assert_eq!(read("other", &text), None);
            }
        }
        let good = write(&Freeze::new("x", None, "y"), true);
        for bad in [
            "",
            "{}",
            &good.replace("frozen", "melted"),
            &good.replace(
                "\"reason\":\"y\"",
                &format!("\"reason\":\"{}\"", "y".repeat(257)),
            ),
            &good.replace("\"freeze\":\"", "\"frieze\":\""),
        ] {
            assert_eq!(read("all", bad), None, "{bad}");
        }
    }
}
