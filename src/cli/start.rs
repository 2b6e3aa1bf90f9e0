//! What every start of a gateway needs beside its listeners.

use std::sync::Arc;

use crate::{
    audit::{Options, Trail},
    config::{Loaded, named, problem::Problems},
    containment,
    metrics::LeftOpen,
    pipeline::limit,
};

pub use crate::config::named::Named as Ready;

impl Ready {
    /// Reads what the settings name.
    ///
    /// # Errors
    ///
    /// Every problem at once.
    pub fn read(loaded: &Loaded) -> Result<Self, Problems> {
        let named = named::read(&loaded.settings, &loaded.digest);
        named.map_err(|problems| loaded.locate(problems))
    }

    /// Opens the trail, and takes from it what was spent of each limit and what is
    /// frozen.
    pub fn open_trail(&self, loaded: &Loaded) -> anyhow::Result<Trail> {
        let mut limits = limit::Replay::new(&self.snapshot);
        let mut freezes = containment::Replay::new(&self.snapshot);
        let mut left_open = LeftOpen::default();
        let options = Options {
            settings: loaded.settings.audit.clone(),
            mac_key: self.mac_key.clone(),
            usage: limits.span().max(freezes.span()),
            collected: loaded.settings.audit.ship.as_ref().map(|_| Arc::default()),
        };
        let trail = Trail::open(options, &mut |heard| {
            freezes.hear(&heard);
            limits.hear(&heard);
            left_open.hear(&heard);
        })?;
        limits.finish();
        left_open.finish(&self.snapshot);
        // Kept until it is written, and before any call of its tenant.
        freezes.finish(|record| drop(trail.frozen(&record)));
        trail.config_loaded(&loaded.digest, loaded.settings.tenants.len(), "start");
        Ok(trail)
    }
}
