//! Time-outs of one worker, kept by one coarse tick.
//!
//! A call has several time-outs and hardly ever meets one. A timer of the
//! runtime for each would be set and unset several times a call; here that is a
//! place in a list, and a tick that goes only while there is something in it.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How often time-outs are looked at: so much later than asked may one come.
const TICK: Duration = Duration::from_millis(20);

/// The time-outs of one worker; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Timers(Arc<Mutex<State>>);

/// The time allowed has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time allowed has passed")]
pub struct TimedOut;

#[derive(Default)]
struct State {
    places: Vec<Place>,
    free: Vec<usize>,
    ticks: bool,
    at_tick: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.places.len() - self.free.len();
        f.debug_struct("State").field("waiting", &waiting).finish()
    }
}

#[derive(Debug)]
enum Place {
    Free,
    Waiting { until: Instant, waker: Waker },
    Due,
}

impl Timers {
    /// `future`'s output, if it has one by `deadline` or shortly after. Call it
    /// within the worker's runtime.
    ///
    /// # Errors
    ///
    /// If the time passes; the future is dropped then.
    pub async fn within<F: Future>(
        &self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, TimedOut> {
        let mut future = pin!(future);
        let mut wait = Wait {
            timers: self,
            place: None,
        };
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            wait.poll(deadline, cx).map(Err)
        })
        .await
    }

    /// Calls `work` at each tick, that is now and then while anybody waits, however
    /// busy the worker is.
    pub fn at_tick(&self, work: impl Fn() + Send + Sync + 'static) {
        self.state().at_tick = Some(Arc::new(work));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whose time has passed, until nobody waits any more.
    async fn tick(self) {
        loop {
            sleep(TICK).await;
            let now = Instant::now();
            let mut state = self.state();
            if state.free.len() == state.places.len() {
                // The next one who waits starts it again.
                state.ticks = false;
                return;
            }
            for place in &mut state.places {
                let is_due = matches!(place, Place::Waiting { until, .. } if *until <= now);
                if is_due && let Place::Waiting { waker, .. } = std::mem::replace(place, Place::Due)
                {
                    waker.wake();
                }
            }
            let work = state.at_tick.clone();
            drop(state);
            if let Some(work) = work {
                // A bug in it must not end the time-outs; the panic hook tells of it.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| work()));
            }
        }
    }
}

/// One who waits.
struct Wait<'a> {
    timers: &'a Timers,
    place: Option<usize>,
}

impl Wait<'_> {
    fn poll(&mut self, deadline: Instant, cx: &Context<'_>) -> Poll<TimedOut> {
        let mut state = self.timers.state();
        let Some(at) = self.place else {
            let waiting = Place::Waiting {
                until: deadline,
                waker: cx.waker().clone(),
            };
            self.place = Some(state.enter(waiting));
            if !std::mem::replace(&mut state.ticks, true) {
                tokio::spawn(self.timers.clone().tick());
            }
            return Poll::Pending;
        };
        match state.places.get_mut(at) {
            Some(Place::Waiting { waker, .. }) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(TimedOut),
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(at) = self.place else { return };
        let mut state = self.timers.state();
        if let Some(place) = state.places.get_mut(at) {
            *place = Place::Free;
            state.free.push(at);
        }
    }
}

impl State {
    fn enter(&mut self, waiting: Place) -> usize {
        match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.places.get_mut(at) {
                    *place = waiting;
                }
                at
            }
            None => {
                self.places.push(waiting);
                self.places.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_done_in_time_is_handed_on() {
        let timers = Timers::default();
        let deadline = Instant::now() + SECOND;
        assert_eq!(timers.within(deadline, ready(7)).await, Ok(7));
        let slow = sleep(SECOND / 2);
        assert_eq!(timers.within(deadline, slow).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_in_time_ends_at_most_a_tick_later() {
        let timers = Timers::default();
        let begun = Instant::now();
        let late = timers.within(begun + SECOND, pending::<()>()).await;
        assert_eq!(late, Err(TimedOut));
        let took = begun.elapsed();
        assert!(took >= SECOND && took <= SECOND + 2 * TICK, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tick_stops_when_nobody_waits_and_places_are_used_again() {
        let timers = Timers::default();
        for _ in 0..3 {
            let deadline = Instant::now() + SECOND;
            assert!(timers.within(deadline, pending::<()>()).await.is_err());
        }
        assert_eq!(timers.state().places.len(), 1);
        assert!(timers.state().ticks);
        sleep(2 * TICK).await;
        assert!(!timers.state().ticks);
        // And it starts again.
        let deadline = Instant::now() + SECOND;
        assert!(timers.within(deadline, pending::<()>()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_many_waits_for_its_own_deadline() {
        let timers = Timers::default();
        let begun = Instant::now();
        let waiting: Vec<_> = (1..=50)
            .map(|n| {
                let timers = timers.clone();
                tokio::spawn(async move {
                    let deadline = begun + n * SECOND;
                    let ended = timers.within(deadline, pending::<()>()).await;
                    (ended, begun.elapsed(), n * SECOND)
                })
            })
            .collect();
        advance(SECOND / 2).await;
        for task in waiting {
            let (ended, took, asked) = task.await.unwrap();
            assert_eq!(ended, Err(TimedOut));
            assert!(took >= asked && took <= asked + 2 * TICK, "{took:?}");
        }
    }
}
