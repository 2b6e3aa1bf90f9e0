//! The queue of those who wait for their turn.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use super::{Asking, Backend, InFlightCount, Pass, Refused};

/// Those who wait for their turn, first come first served.
#[derive(Debug)]
pub struct WaitQueue {
    turn: tokio::sync::Mutex<()>,
    waiting: InFlightCount,
    waiting_max: u32,
    /// What the queue waits for, as its head was told, and until when.
    waits_for: Mutex<Option<(Refused, Instant)>>,
}

impl WaitQueue {
    /// An empty queue for at most `waiting_max` calls.
    pub fn new(waiting_max: u32) -> Self {
        Self {
            turn: tokio::sync::Mutex::new(()),
            waiting: InFlightCount::default(),
            waiting_max,
            waits_for: Mutex::new(None),
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

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Notes what whoever waits, or will, waits for; until when.
    pub fn note(&self, refusal: &Refused) -> Instant {
        let wait = refusal.retry_after().unwrap_or_default();
        let until = Instant::now() + wait.max(Duration::from_millis(1));
        *self.noted() = Some((refusal.clone(), until));
        until
    }

    /// What a call is told that finds no place: what the head waits for. It takes nothing,
    /// even if there is something just now.
    fn no_place(&self) -> Refused {
        let noted = self.noted().clone();
        match noted {
            Some((refusal, until)) => {
                let wait = until.saturating_duration_since(Instant::now());
                refusal.with_retry_after(wait)
            }
            None => Refused::QueueFull,
        }
    }

    fn noted(&self) -> MutexGuard<'_, Option<(Refused, Instant)>> {
        self.waits_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the end of the queue; only its head asks the limits, and whoever waited as
    /// long as it may. Without a place in it a call is refused, whatever the limits hold:
    /// who came first goes first.
    pub async fn wait(
        &self,
        asking: Asking<'_>,
        deadline: Instant,
    ) -> Result<(Pass, Backend), Refused> {
        // Who waits for something else would hear of it much later.
        asking.limits.circuit_is_closed()?;
        let Some(_place) = self.waiting.enter(self.waiting_max) else {
            return Err(self.no_place());
        };
        let head_of_line = async {
            let _turn = self.turn.lock().await;
            loop {
                let refusal = match asking.pass().await {
                    Ok(passed) => return Ok(passed),
                    Err(refusal) => refusal,
                };
                if matches!(refusal, Refused::CircuitOpen { .. }) {
                    return Err(refusal);
                }
                let until = self.note(&refusal);
                if until > deadline {
                    return Err(refusal);
                }
                sleep(until - Instant::now()).await;
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
    use std::{num::NonZeroU32, sync::Arc};

    use tokio::time::advance;

    use super::*;
    use crate::{
        code::LimitedBy,
        config::settings::{CircuitBreaker, testing::window},
        limits::{Breaker, Bucket, Limits, Rule, Rules},
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// The head is woken a moment late, maybe: its unit is not for one who came later.
    #[tokio::test(start_paused = true)]
    async fn whoever_finds_the_line_full_takes_nothing_of_those_who_wait() {
        let bucket = Arc::new(Bucket::new(Rule::new("key", window(1, MINUTE))));
        let opens = CircuitBreaker {
            failures: NonZeroU32::MIN,
            open_for: MINUTE,
        };
        let limits = Limits::new(
            [],
            [bucket],
            Arc::default(),
            Arc::new(Breaker::new(Some(opens))),
            &mut Rules::default(),
        );
        let asking = Asking {
            limits: &limits,
            tenant: "t",
            key: "k",
            store: None,
            is_sent: true,
        };
        let queue = WaitQueue::new(1);
        let place = queue.waiting.enter(1);
        let told = async || {
            let told = queue.wait(asking, Instant::now() + MINUTE).await;
            told.map(|(pass, _)| pass.worked()).unwrap_err()
        };
        // What the head was told, by the store, say; the units that are there stay there.
        let by_store = |retry_after| Refused::RateLimited {
            by: LimitedBy::Key,
            policy: Some("key-60s".to_owned()),
            retry_after,
            by_store: true,
        };
        queue.note(&by_store(MINUTE));
        for _ in 0..3 {
            assert_eq!(told().await, by_store(MINUTE));
        }
        advance(MINUTE / 3).await;
        assert_eq!(told().await, by_store(MINUTE * 2 / 3));
        limits.try_pass().unwrap().failed();
        // With a place or none, a call hears of the breaker at once.
        let head = queue.turn.lock().await;
        let now = Instant::now();
        for place in [place, None] {
            let open = told().await;
            assert!(matches!(open, Refused::CircuitOpen { .. }), "{open:?}");
            drop(place);
        }
        assert_eq!(Instant::now(), now);
        drop(head);
    }
}
