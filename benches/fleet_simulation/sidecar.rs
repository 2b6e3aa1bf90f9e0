//! One sidecar: its real limits, and its real judgement of its connection.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use alloy_gateway::{
    config::settings::Window,
    fleet::link_health::LinkHealth,
    limits::{Breaker, Bucket, Limits, Rule, Rules},
};
use tokio::time::Instant;

use super::plan::Sharing;

/// A sidecar.
pub struct Sidecar {
    /// What limits its tenant.
    pub limits: Limits,
    /// How its connection to the store stands.
    pub health: LinkHealth,
    /// Counts its connections, over restarts: answers that come over an earlier one
    /// come to nobody.
    pub connection: u32,
    /// Calls that wait for the store, in the order in which they asked.
    pub waiting: VecDeque<Waiting>,
    /// Until when what was sent last is under way there, and back: answers come in
    /// the order of the questions.
    pub last: (Duration, Duration),
    /// How many sidecars lived when it came to the store last.
    pub live: u32,
    /// Whether it runs.
    pub is_up: bool,
    /// When it sent calls, as its trail says.
    pub trail: Vec<Duration>,
}

/// A call that waits for the store.
#[derive(Debug)]
pub struct Waiting {
    /// Its number.
    pub call: u64,
    /// When it asked.
    pub asked: Instant,
}

impl Sidecar {
    /// One that starts now.
    pub fn new(windows: &[Window], sharing: Sharing, spread: u8) -> Self {
        Self {
            limits: limits(windows, sharing),
            health: LinkHealth::new(spread),
            connection: 0,
            waiting: VecDeque::new(),
            last: Default::default(),
            live: 0,
            is_up: true,
            trail: Vec::new(),
        }
    }

    /// It ends; calls that wait for the store are never sent.
    pub fn stop(&mut self) {
        self.is_up = false;
        self.connection += 1;
        self.waiting.clear();
    }

    /// It starts again at `now`, with nothing but its trail.
    pub fn start(&mut self, windows: &[Window], sharing: Sharing, spread: u8) {
        let before = std::mem::replace(self, Self::new(windows, sharing, spread));
        self.connection = before.connection;
        self.trail = before.trail;
    }
}

fn limits(windows: &[Window], sharing: Sharing) -> Limits {
    let bucket = |window: &Window| {
        Arc::new(match sharing {
            Sharing::Nothing => Bucket::new(Rule::new("tenant", *window)),
            Sharing::Store => Bucket::of_fleet(Rule::new("tenant", *window)),
        })
    };
    Limits::new(
        windows.iter().map(bucket),
        [],
        Arc::default(),
        Arc::new(Breaker::new(None)),
        &mut Rules::default(),
    )
}
