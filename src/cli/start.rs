//! What every start of a gateway needs beside its listeners.

use std::sync::Arc;

use crate::{
    audit::{Options, Trail},
    config::Loaded,
    containment, limits,
    load::Ready,
    metrics::LeftOpen,
    snapshot::Tenant,
};

impl Ready {
    /// Opens the trail, and takes from it what was spent of each limit and what is
    /// frozen.
    pub fn open_trail(&self, loaded: &Loaded) -> anyhow::Result<Trail> {
        let tenants = self.snapshot.tenants();
        let replicas = self
            .snapshot
            .store
            .as_ref()
            .map_or(1, |store| store.replicas());
        let mut spent = limits::Replay::new(tenants.iter().map(Tenant::limited), replicas);
        let contained = tenants.iter().map(Tenant::contained);
        let mut freezes = containment::Replay::new(self.snapshot.containment(), contained);
        let mut left_open = LeftOpen::default();
        let options = Options {
            settings: loaded.settings.audit.clone(),
            mac_key: self.mac_key.clone(),
            usage: spent.span().max(freezes.span()),
            collected: loaded.settings.audit.ship.as_ref().map(|_| Arc::default()),
        };
        let trail = Trail::open(options, &mut |heard| {
            freezes.hear(&heard);
            spent.hear(&heard);
            left_open.hear(&heard);
        })?;
        spent.finish();
        left_open.finish(tenants.iter().map(|it| (&*it.name, &it.counts)));
        // Kept until it is written, and before any call of its tenant.
        freezes.finish(|record| drop(trail.frozen(&record)));
        let lists = self.snapshot.lists.as_deref();
        trail.config_loaded(&loaded.digest, lists, tenants.len(), "start");
        Ok(trail)
    }
}
