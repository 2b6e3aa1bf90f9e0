//! Looks after the connections of one worker: ends those that have overstayed,
//! and lets all of them know that the gateway stops.
//!
//! One task for all of them, which sleeps until the first can be due. A timer
//! and a channel for each connection would be looked at each time that anything
//! moves on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

use super::{
    alarm::Alarm,
    phases::Phase,
    progress::{Progress, Word},
};
use crate::config::settings::Bounds;

/// The watchdog of one worker; cheap to clone.
#[derive(Debug, Clone)]
pub struct Watchdog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Rings when it has to look.
    alarm: Alarm,
    connections: Mutex<Connections>,
}

#[derive(Debug)]
struct Connections {
    places: Vec<Option<Arc<Progress>>>,
    free: Vec<usize>,
    /// What all of them are told, those that come later too.
    word: Word,
}

/// A connection that is looked after until this is dropped.
#[derive(Debug)]
pub struct Watched {
    watchdog: Watchdog,
    place: usize,
    /// How far the connection is.
    pub progress: Arc<Progress>,
}

impl Watchdog {
    /// Nothing to look after yet. Call it within the worker's runtime.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            alarm: Alarm::new(),
            connections: Mutex::new(Connections {
                places: Vec::new(),
                free: Vec::new(),
                word: Word::None,
            }),
        }))
    }

    /// Looks after a connection from now on.
    pub fn watch(&self, is_http2: bool, bounds: &Bounds) -> Watched {
        let progress = Arc::new(Progress::new(is_http2, bounds, self.0.alarm.clone()));
        let mut connections = self.connections();
        progress.tell(connections.word);
        let place = connections.enter(Arc::clone(&progress));
        drop(connections);
        self.0.alarm.ring_by(progress.look(Instant::now()));
        Watched {
            watchdog: self.clone(),
            place,
            progress,
        }
    }

    /// Looks whenever a connection can be due. Never ends.
    pub async fn run(&self, mut phase: watch::Receiver<Phase>) {
        let mut can_change = true;
        // It may have changed before this worker began.
        self.tell_all(Word::of(*phase.borrow_and_update()));
        loop {
            tokio::select! {
                changed = phase.changed(), if can_change => {
                    can_change = changed.is_ok();
                    self.tell_all(Word::of(*phase.borrow_and_update()));
                }
                () = self.0.alarm.rings() => self.look(),
            }
        }
    }

    fn look(&self) {
        let now = Instant::now();
        let connections = self.connections();
        let next = connections.all().map(|progress| progress.look(now)).min();
        drop(connections);
        if let Some(next) = next {
            self.0.alarm.ring_by(next);
        }
    }

    fn tell_all(&self, word: Word) {
        let mut connections = self.connections();
        connections.word = word;
        for progress in connections.all() {
            progress.tell(word);
        }
        drop(connections);
        // Some may have less time from now on.
        self.look();
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        let connections = self.0.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn all(&self) -> impl Iterator<Item = &Arc<Progress>> {
        self.places.iter().flatten()
    }

    fn enter(&mut self, progress: Arc<Progress>) -> usize {
        match self.free.pop() {
            Some(place) => {
                if let Some(empty) = self.places.get_mut(place) {
                    *empty = Some(progress);
                }
                place
            }
            None => {
                self.places.push(Some(progress));
                self.places.len() - 1
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut connections = self.watchdog.connections();
        if let Some(place) = connections.places.get_mut(self.place) {
            *place = None;
            connections.free.push(self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::{
        super::{
            phases::Phases,
            progress::{LAST_WORDS, Seen},
        },
        *,
    };
    use crate::config::settings::testing;

    fn bounds() -> Bounds {
        Bounds {
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(5),
            ..testing::bounds()
        }
    }

    fn running() -> (Watchdog, Phases) {
        let watchdog = Watchdog::new();
        let phases = Phases::new();
        let phase = phases.subscribe();
        let running = watchdog.clone();
        tokio::spawn(async move { running.run(phase).await });
        (watchdog, phases)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_told_once_its_time_is_over_and_soon_after() {
        let (watchdog, _phases) = running();
        let watched = watchdog.watch(false, &bounds());
        sleep(Duration::from_secs(59)).await;
        assert_eq!(watched.progress.word(), Word::None);
        sleep(Duration::from_secs(17)).await;
        assert_eq!(watched.progress.word(), Word::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_or_works_is_not_idle() {
        let (watchdog, _phases) = running();
        let moving = watchdog.watch(false, &bounds());
        let working = watchdog.watch(false, &bounds());
        let busy = working.progress.busy();
        for _ in 0..20 {
            sleep(Duration::from_secs(50)).await;
            moving.progress.moved();
        }
        assert_eq!(moving.progress.word(), Word::None);
        assert_eq!(working.progress.word(), Word::None);
        drop(busy);
        sleep(Duration::from_secs(76)).await;
        assert_eq!(working.progress.word(), Word::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_head_is_due_long_before_an_idle_connection() {
        let (watchdog, _phases) = running();
        let watched = watchdog.watch(false, &bounds());
        sleep(Duration::from_secs(20)).await;
        watched.progress.saw(Seen::PartOfHead);
        sleep(Duration::from_millis(4900)).await;
        watched.progress.moved();
        assert_eq!(watched.progress.word(), Word::None);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(watched.progress.word(), Word::SlowHead);
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_told_to_stop_and_those_that_come_later_too() {
        let (watchdog, phases) = running();
        let before = watchdog.watch(false, &bounds());
        sleep(Duration::from_millis(10)).await;
        phases.drain();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(before.progress.word(), Word::Drain);
        phases.stop();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(before.progress.word(), Word::Stop);
        assert_eq!(watchdog.watch(true, &bounds()).progress.word(), Word::Stop);
        drop(before);
        assert_eq!(watchdog.connections().all().count(), 0);
    }

    /// A connection of a gateway that stops, over HTTP/2 or not.
    async fn stopping(is_http2: bool) -> (Watched, Watchdog, Phases) {
        let (watchdog, phases) = running();
        let watched = watchdog.watch(is_http2, &bounds());
        sleep(Duration::from_millis(10)).await;
        (watched, watchdog, phases)
    }

    const NEARLY: Duration = LAST_WORDS.saturating_sub(Duration::from_millis(20));
    const A_LITTLE_MORE: Duration = Duration::from_millis(40);

    #[tokio::test(start_paused = true)]
    async fn what_has_nothing_to_do_when_it_stops_is_over_soon_whatever_moves() {
        for is_http2 in [false, true] {
            let (watched, watchdog, phases) = stopping(is_http2).await;
            phases.stop();
            sleep(NEARLY).await;
            watched.progress.moved();
            let late = watchdog.watch(is_http2, &bounds());
            assert_eq!(watched.progress.word(), Word::Stop);
            sleep(A_LITTLE_MORE).await;
            assert_eq!(watched.progress.word(), Word::Over);
            assert_eq!(late.progress.word(), Word::Stop);
            sleep(NEARLY).await;
            assert_eq!(late.progress.word(), Word::Over);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_when_it_stops_is_not_over_before_its_answer_could_be_read() {
        for is_http2 in [false, true] {
            let (watched, _watchdog, phases) = stopping(is_http2).await;
            let busy = watched.progress.busy();
            phases.stop();
            sleep(Duration::from_secs(30)).await;
            assert_eq!(watched.progress.word(), Word::Stop);
            drop(busy);
            sleep(NEARLY).await;
            assert_eq!(watched.progress.word(), Word::Stop);
            sleep(A_LITTLE_MORE).await;
            assert_eq!(watched.progress.word(), Word::Over);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_the_upstreams_has_time_as_long_as_it_is_read() {
        let (watched, _watchdog, phases) = stopping(true).await;
        watched.progress.busy().was_sent();
        phases.stop();
        for _ in 0..30 {
            sleep(NEARLY).await;
            watched.progress.moved();
        }
        assert_eq!(watched.progress.word(), Word::Stop);
        sleep(2 * LAST_WORDS + A_LITTLE_MORE).await;
        assert_eq!(watched.progress.word(), Word::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_asking_over_http2_gains_no_time() {
        let (watched, _watchdog, phases) = stopping(true).await;
        phases.stop();
        sleep(NEARLY).await;
        drop(watched.progress.busy());
        sleep(A_LITTLE_MORE).await;
        assert_eq!(watched.progress.word(), Word::Over);
    }
}
