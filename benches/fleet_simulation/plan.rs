//! What is simulated in one run.

use std::time::Duration;

use alloy_gateway::config::settings::Window;

use super::weather::Spell;

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The limits of the one tenant, shortest first.
    pub limits: Vec<Window>,
    /// How many sidecars there are.
    pub sidecars: usize,
    /// How many the config says there are.
    pub replicas: u32,
    /// Whether they share the limits.
    pub sharing: Sharing,
    /// What happens to the store.
    pub spells: Vec<Spell>,
    /// In how much time each sidecar is restarted once, one after the other.
    pub rollout: Option<Duration>,
    /// What callers do.
    pub load: Load,
    /// How long it is.
    pub span: Duration,
    /// Another seed, another run.
    pub seed: u64,
}

/// Whether sidecars know of one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Each has the whole limit.
    Nothing,
    /// Through a store.
    Store,
}

/// What callers do.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// Every sidecar, about once in each pause, gets calls until one is refused: all
    /// that can be admitted is.
    Greedy(Duration),
    /// All together a call in each pause on average, uneven over the sidecars (Zipf);
    /// what is refused does not come again.
    Uneven(Duration),
}

impl Plan {
    /// Greedy callers and a store that is always there.
    pub fn new(limit: Window, sidecars: usize) -> Self {
        let pause = Duration::from_millis(u64::try_from(sidecars).unwrap_or(u64::MAX));
        let bounds = (Duration::from_millis(20), Duration::from_secs(2));
        Self {
            limits: vec![limit],
            sidecars,
            replicas: u32::try_from(sidecars).unwrap_or(u32::MAX),
            sharing: Sharing::Store,
            spells: Vec::new(),
            rollout: None,
            load: Load::Greedy(pause.clamp(bounds.0, bounds.1)),
            span: Duration::from_secs(300),
            seed: 7,
        }
    }
}
