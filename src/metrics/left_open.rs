//! Calls that an earlier run left without an outcome.

use std::collections::HashMap;

use super::TenantCounts;
use crate::audit::{OutcomeKind, Replayed};

/// How many there are of each tenant, while a start reads the trail.
#[derive(Debug, Default)]
pub struct LeftOpen(HashMap<Box<str>, u64>);

impl LeftOpen {
    /// Hears of a record of the trail.
    pub fn hear(&mut self, heard: &Replayed<'_>) {
        if let Replayed::LeftOpen { tenant } = *heard {
            *self.0.entry(tenant.into()).or_default() += 1;
        }
    }

    /// Counts them as what the start made of them, for the tenants that are still there.
    pub fn finish<'a>(self, tenants: impl IntoIterator<Item = (&'a str, &'a TenantCounts)>) {
        if self.0.is_empty() {
            return;
        }
        for (name, counts) in tenants {
            if let (Some(calls), Some(block)) = (self.0.get(name), counts.of(0)) {
                block.ended(OutcomeKind::InDoubt, *calls);
            }
        }
    }
}
