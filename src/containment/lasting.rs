//! What a tenant keeps over reloads.

use std::sync::Arc;

use super::Switch;
use crate::{config::settings::FreezeAfter, limits::InFlightCount};

/// A tenant's own that every call changes or looks at, in one place: with many tenants
/// it is hardly ever in the processor's cache.
#[derive(Debug, Default)]
pub struct Lasting {
    /// Whether it is frozen.
    pub switch: Switch,
    /// Its calls under way, those included that an earlier config let in.
    pub in_flight: InFlightCount,
}

/// A tenant, as far as it can be stopped.
#[derive(Debug, Clone, Copy)]
pub struct Contained<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// What it keeps over reloads.
    pub lasting: &'a Arc<Lasting>,
    /// The budget of deletions that freezes it.
    pub freeze_after: Option<FreezeAfter>,
}
