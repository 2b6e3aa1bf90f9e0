//! What a tenant keeps over reloads.

use crate::{containment::Switch, pipeline::limit::InFlightCount};

/// A tenant's own that every call changes or looks at, in one place: with many tenants
/// it is hardly ever in the processor's cache.
#[derive(Debug, Default)]
pub struct Lasting {
    /// Whether it is frozen.
    pub switch: Switch,
    /// Its calls under way, those included that an earlier config let in.
    pub in_flight: InFlightCount,
}
