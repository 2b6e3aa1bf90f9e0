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

    /// Joins the end of the line; only its head asks the limits. Without a place in it a
    /// call is refused, whatever the limits hold: who came first goes first.
    pub(super) async fn wait(
        &self,
        asking: Asking<'_>,
        deadline: Instant,
    ) -> Result<(Pass, Backend), Refusal> {
        let Some(_place) = self.waiting.enter(self.waiting_max) else {
            return Err(asking.limits.no_place());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::settings::testing::window,
        pipeline::{
            limit::{Breaker, Bucket, Limits, Rule, Rules},
            refusal::LimitedBy,
        },
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// The head is woken a moment late, maybe: its unit is not for one who came later.
    #[tokio::test(start_paused = true)]
    async fn whoever_finds_the_line_full_takes_nothing_of_those_who_wait() {
        let bucket = |scope, n| Arc::new(Bucket::new(Rule::new(scope, window(n, MINUTE))));
        let limits = Limits::new(
            [bucket("tenant", 2)],
            [bucket("key", 1)],
            Arc::default(),
            Arc::new(Breaker::new(None)),
            &mut Rules::default(),
        );
        let asking = Asking {
            limits: &limits,
            tenant: "t",
            key: "k",
            store: None,
        };
        let line = Line::new(1);
        let place = line.waiting.enter(1);
        let told = async || {
            let told = line.wait(asking, Instant::now() + MINUTE).await;
            told.map(|(pass, _)| pass.worked()).unwrap_err()
        };
        let by = |by, policy: Option<&str>, retry_after| Refusal::RateLimited {
            by,
            policy: policy.map(Into::into),
            retry_after,
            by_store: false,
        };
        // All is there, and stays there.
        for _ in 0..3 {
            assert!(matches!(told().await, Refusal::RateLimited { .. }));
        }
        limits.try_pass().unwrap().worked();
        // The wait that it tells is the longest.
        assert_eq!(told().await, by(LimitedBy::Key, Some("key-60s"), MINUTE));
        limits.gate().close_for(MINUTE / 2);
        assert_eq!(told().await, by(LimitedBy::Upstream, None, MINUTE / 2));
        drop(place);
    }
}
