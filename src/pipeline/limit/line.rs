//! The line of those who wait for their turn.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Asking, Backend, InFlightCount, Pass};
use crate::pipeline::refusal::Refusal;

/// Those who wait for their turn, first come first served.
#[derive(Debug)]
pub struct Line {
    turn: tokio::sync::Mutex<()>,
    waiting: InFlightCount,
    waiting_max: u32,
}

impl Line {
    /// An empty line for at most `waiting_max` calls.
    pub fn new(waiting_max: u32) -> Self {
        Self {
            turn: tokio::sync::Mutex::new(()),
            waiting: InFlightCount::default(),
            waiting_max,
        }
    }

    /// How many may wait.
    pub fn waiting_max(&self) -> u32 {
        self.waiting_max
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Joins the end of the line; only its head asks the limits.
    pub(super) async fn wait(
        &self,
        asking: Asking<'_>,
        deadline: Instant,
    ) -> Result<(Pass, Backend), Refusal> {
        let Some(_place) = self.waiting.enter(self.waiting_max) else {
            return asking.pass().await;
        };
        let head_of_line = async {
            let _turn = self.turn.lock().await;
            loop {
                let refusal = match asking.pass().await {
                    Ok(passed) => return Ok(passed),
                    Err(refusal) => refusal,
                };
                let wait = refusal.retry_after().unwrap_or_default();
                let at = Instant::now() + wait.max(Duration::from_millis(1));
                if at > deadline || matches!(refusal, Refusal::CircuitOpen { .. }) {
                    return Err(refusal);
                }
                sleep(at - Instant::now()).await;
            }
        };
        match timeout_at(deadline, head_of_line).await {
            Ok(ended) => ended,
            Err(_) => asking.pass().await,
        }
    }
}
