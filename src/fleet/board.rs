//! What is told of the store: to the log once per change, to metrics and `/status`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::trouble::{Counted, Trouble, Why};
use crate::histogram::{Histogram, STORE};

/// What the whole process knows of the store.
#[derive(Debug)]
pub struct Board {
    times: Histogram<11>,
    troubles: [AtomicU64; Trouble::COUNT],
    /// Connections that calls would be asked over, and those of them that are good.
    links: AtomicU32,
    good: AtomicU32,
    live: AtomicU32,
    told: Mutex<Told>,
}

/// What was said last.
#[derive(Debug, Default)]
struct Told {
    is_shared: Option<bool>,
    are_too_many: bool,
    why: Option<Why>,
    /// Each reason that was told while limits are not shared.
    whys: Vec<Why>,
    /// Looks at the freezes of the fleet that failed, one after another.
    unseen: u32,
    /// Why, as soon as they are enough.
    unseen_why: Option<Trouble>,
    /// Of each that the store counts.
    uncounted: [Uncounted; Counted::COUNT],
    /// Why a connection that is not for calls failed since the last look that did not.
    beside: Option<Why>,
}

/// What the store would not count.
#[derive(Debug, Default)]
struct Uncounted {
    /// Tries that failed, one after another.
    failures: u32,
    /// Why, as soon as they are enough.
    why: Option<Why>,
}

/// One look may fail for many reasons, and the next one is soon.
const UNSEEN_MAX: u32 = 3;
/// Reasons that are told of one time without the store: what else comes is on `/status`.
const WHYS_MAX: usize = 16;

impl Default for Board {
    fn default() -> Self {
        Self {
            times: Histogram::new(&STORE),
            troubles: Default::default(),
            links: AtomicU32::new(0),
            good: AtomicU32::new(0),
            live: AtomicU32::new(0),
            told: Mutex::default(),
        }
    }
}

impl Board {
    /// How long it took to decide.
    pub fn times(&self) -> &Histogram<11> {
        &self.times
    }

    pub(super) fn took(&self, span: Duration) {
        self.times.observe_span(span);
    }

    /// How often each kind of trouble was met.
    pub fn troubles(&self) -> impl Iterator<Item = (Trouble, u64)> {
        let counts = self.troubles.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        Trouble::ALL.into_iter().zip(counts)
    }

    /// Whether calls, or some of them, are decided by the fair share.
    pub fn is_degraded(&self) -> bool {
        let links = self.links.load(Ordering::Acquire);
        links == 0 || self.good.load(Ordering::Acquire) < links
    }

    /// Why, if it is known.
    pub fn why(&self) -> Option<Why> {
        let is_degraded = self.is_degraded();
        self.told().why.clone().filter(|_| is_degraded)
    }

    /// How many gateways lived when the store was asked last; 0 if it never was, or did
    /// not count this one though it answered.
    pub fn live(&self) -> u32 {
        if self.is_to_be_counted_again(Counted::Gateways) {
            0
        } else {
            self.lived()
        }
    }

    /// The same as it was known last.
    pub(super) fn lived(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, trouble: Trouble) {
        if let Some(count) = self.troubles.get(trouble.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is one more connection; not good yet.
    pub(super) fn opened(&self) {
        self.links.fetch_add(1, Ordering::AcqRel);
    }

    /// A connection is no more; `was_good` is how it stood.
    pub(super) fn dropped(&self, was_good: bool) {
        if was_good {
            self.good.fetch_sub(1, Ordering::AcqRel);
        }
        self.links.fetch_sub(1, Ordering::AcqRel);
    }

    /// A connection is good to ask over from now on.
    pub(super) fn came_up(&self) {
        self.good.fetch_add(1, Ordering::AcqRel);
        self.tell_if_shared();
    }

    /// One that was wanted and could not even be tried is wanted no more.
    pub(super) fn found(&self) {
        self.dropped(false);
        self.tell_if_shared();
    }

    fn tell_if_shared(&self) {
        let mut told = self.told();
        if !self.is_degraded() && told.is_shared != Some(true) {
            told.is_shared = Some(true);
            told.why = None;
            tracing::info!("limits are shared through the store");
        }
    }

    /// A connection, or a try to have one, failed. `detail` is for people.
    pub(super) fn failed(&self, was_good: bool, trouble: Trouble, detail: &str) {
        self.count(trouble);
        if was_good {
            self.good.fetch_sub(1, Ordering::AcqRel);
        }
        let mut told = self.told();
        let was_away = told.is_shared == Some(false);
        if !told.is_told_now((trouble, detail.to_owned())) {
            return;
        }
        let reason = trouble.as_str();
        if was_away {
            tracing::warn!(
                reason,
                detail,
                "the limits store still does not decide, now for another reason: {trouble}"
            );
        } else {
            tracing::warn!(
                reason,
                detail,
                "the limits store does not decide: {trouble}. Until it is back this gateway takes its fair share of each limit, and no more"
            );
        }
    }

    /// A connection that is not for calls failed.
    pub(super) fn failed_beside(&self, trouble: Trouble, detail: &str) {
        self.told().beside = Some((trouble, detail.to_owned()));
    }

    /// The freezes of the fleet were looked at, or could not be. Said only where it is
    /// not said already that the store does not answer at all.
    pub fn freezes_looked_at(&self, looked: Result<(), Trouble>) {
        let is_degraded = self.is_degraded();
        let mut told = self.told();
        let Err(trouble) = looked else {
            told.unseen = 0;
            told.beside = None;
            if told.unseen_why.take().is_some() {
                tracing::info!("the freezes of the fleet are known again");
            }
            return;
        };
        if is_degraded || told.unseen_why.is_some() {
            return;
        }
        told.unseen += 1;
        if told.unseen < UNSEEN_MAX {
            return;
        }
        // Without a connection, what ended the last one is the reason.
        let beside = told.beside.take();
        let beside = beside.filter(|(why, _)| trouble == Trouble::Connect || *why == trouble);
        let (why, detail) = beside.unwrap_or((trouble, String::new()));
        told.unseen_why = Some(why);
        tracing::error!(
            reason = why.as_str(),
            detail,
            "the freezes of the fleet are neither heard nor told, though limits are shared through the store: {why}"
        );
    }

    /// Why the freezes of the fleet are not known, although the store answers calls.
    pub fn freezes_trouble(&self) -> Option<Trouble> {
        self.told().unseen_why.filter(|_| !self.is_degraded())
    }

    /// Why the store does not count something over the fleet, although it answers calls.
    pub fn uncounted(&self, what: Counted) -> Option<Why> {
        self.uncounted_last(what).filter(|_| !self.is_degraded())
    }

    /// Whether the store did not count something when it answered last, be it away now:
    /// only the next try shows whether it does again.
    pub fn is_to_be_counted_again(&self, what: Counted) -> bool {
        self.uncounted_last(what).is_some()
    }

    fn uncounted_last(&self, what: Counted) -> Option<Why> {
        let told = self.told();
        told.uncounted.get(what.index())?.why.clone()
    }

    /// The store did not count something. Told only where nothing else says that it fails.
    pub fn not_counted(&self, what: Counted, trouble: Trouble) {
        let is_degraded = self.is_degraded();
        let mut told = self.told();
        if is_degraded || told.unseen > 0 {
            return;
        }
        let detail = told.beside.as_ref().filter(|(why, _)| *why == trouble);
        let detail = detail.map_or_else(String::new, |(_, detail)| detail.clone());
        let Some(it) = told.uncounted.get_mut(what.index()) else {
            return;
        };
        it.failures = it.failures.saturating_add(1);
        if it.failures < UNSEEN_MAX {
            return;
        }
        let is_told = it.why.replace((trouble, detail.clone())).is_some();
        let reason = trouble.as_str();
        match what {
            _ if is_told => {}
            Counted::Gateways => tracing::error!(
                reason,
                detail,
                "this gateway is not counted in the fleet, though limits are shared through the store: {trouble}. Until it is, nobody is told if more gateways live than limits_store.replicas says"
            ),
            Counted::Deletions => tracing::error!(
                reason,
                detail,
                "what this gateway deletes is not counted in the fleet, though limits are shared through the store: {trouble}. Until it is, freeze_after counts what it deletes by itself"
            ),
        }
    }

    /// The store counted something.
    pub fn counted(&self, what: Counted) {
        let mut told = self.told();
        let it = told.uncounted.get_mut(what.index());
        if it.is_some_and(|it| std::mem::take(it).why.is_some()) {
            match what {
                Counted::Gateways => tracing::info!("this gateway is counted in the fleet again"),
                Counted::Deletions => {
                    tracing::info!("what this gateway deletes is counted in the fleet again");
                }
            }
        }
    }

    /// So many gateways live, of as many as there are to be.
    pub(super) fn live_now(&self, live: u32, replicas: u32) {
        self.live.store(live, Ordering::Relaxed);
        self.counted(Counted::Gateways);
        let are_too_many = live > replicas;
        let mut told = self.told();
        if told.are_too_many != are_too_many {
            told.are_too_many = are_too_many;
            if are_too_many {
                tracing::warn!(
                    live,
                    replicas,
                    "more gateways live than limits_store.replicas says: set it to at least as many, or the ceiling that check prints is not kept while the store is away"
                );
            } else {
                tracing::info!(
                    live,
                    replicas,
                    "no more gateways live than limits_store.replicas says"
                );
            }
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// The store does not decide, for this reason; whether that is to be told: each
    /// reason once until limits are shared again, however they take turns.
    fn is_told_now(&mut self, why: Why) -> bool {
        if self.is_shared.replace(false) != Some(false) {
            self.whys.clear();
        }
        let is_news = self.whys.len() < WHYS_MAX && !self.whys.contains(&why);
        if is_news {
            self.whys.push(why.clone());
        }
        self.why = Some(why);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_degraded_while_any_connection_is_not_good() {
        let board = Board::default();
        assert!(board.is_degraded());
        board.opened();
        board.opened();
        board.came_up();
        assert!(board.is_degraded());
        board.came_up();
        assert!(!board.is_degraded());
        board.failed(true, Trouble::Timeout, "");
        assert!(board.is_degraded());
        assert_eq!(board.why(), Some((Trouble::Timeout, String::new())));
        board.dropped(false);
        assert!(!board.is_degraded());
        assert_eq!(board.why(), None);
        let timeouts = board.troubles().find(|(it, _)| *it == Trouble::Timeout);
        assert_eq!(timeouts.unwrap().1, 1);
    }

    #[test]
    fn freezes_are_unknown_after_some_looks_that_fail_while_limits_are_shared() {
        let board = Board::default();
        board.opened();
        let fail = |times| (0..times).for_each(|_| board.freezes_looked_at(Err(Trouble::Connect)));
        fail(2 * UNSEEN_MAX);
        assert_eq!(board.freezes_trouble(), None, "the store does not answer");
        board.came_up();
        board.failed_beside(Trouble::Error, "no right");
        fail(UNSEEN_MAX - 1);
        assert_eq!(board.freezes_trouble(), None);
        fail(1);
        assert_eq!(board.freezes_trouble(), Some(Trouble::Error));
        board.freezes_looked_at(Ok(()));
        assert_eq!(board.freezes_trouble(), None);
        // What was long ago is no reason.
        (0..UNSEEN_MAX).for_each(|_| board.freezes_looked_at(Err(Trouble::Moved)));
        assert_eq!(board.freezes_trouble(), Some(Trouble::Moved));
    }

    #[test]
    fn each_reason_is_told_once_while_the_store_is_away_and_anew_the_next_time() {
        let mut told = Told::default();
        let mut is_told = |detail: &str| told.is_told_now((Trouble::Connect, detail.to_owned()));
        assert!(is_told("refused") && is_told("unknown issuer"));
        for _ in 0..9 {
            assert!(!is_told("refused") && !is_told("unknown issuer"));
        }
        let others = (0..1000).filter(|number| is_told(&number.to_string()));
        assert_eq!(others.count(), WHYS_MAX - 2);
        told.is_shared = Some(true);
        assert!(told.is_told_now((Trouble::Connect, "refused".to_owned())));
        assert!(!told.is_told_now((Trouble::Connect, "refused".to_owned())));
        assert!(told.is_told_now((Trouble::Auth, "refused".to_owned())));
    }

    #[test]
    fn what_is_not_counted_is_told_after_some_tries_while_limits_are_shared() {
        let board = Board::default();
        let fail = |times| {
            (0..times).for_each(|_| board.not_counted(Counted::Gateways, Trouble::Error));
        };
        board.live_now(3, 3);
        fail(2 * UNSEEN_MAX);
        assert_eq!(board.live(), 3, "the store does not answer");
        board.opened();
        board.came_up();
        fail(UNSEEN_MAX - 1);
        assert_eq!(board.uncounted(Counted::Gateways), None);
        board.failed_beside(Trouble::Error, "no right");
        fail(1);
        let why = (Trouble::Error, "no right".to_owned());
        assert_eq!(board.uncounted(Counted::Gateways), Some(why));
        assert_eq!(board.uncounted(Counted::Deletions), None);
        assert_eq!((board.live(), board.lived()), (0, 3));
        board.live_now(2, 3);
        assert_eq!(board.uncounted(Counted::Gateways), None);
        assert_eq!(board.live(), 2);
    }

    #[test]
    fn where_the_store_does_not_decide_nothing_is_said_to_fail_though_it_does() {
        let board = Board::default();
        board.opened();
        board.came_up();
        let why = (Trouble::Error, String::new());
        (0..UNSEEN_MAX).for_each(|_| board.not_counted(Counted::Deletions, Trouble::Error));
        (0..UNSEEN_MAX).for_each(|_| board.freezes_looked_at(Err(Trouble::Error)));
        assert_eq!(board.uncounted(Counted::Deletions), Some(why.clone()));
        assert_eq!(board.freezes_trouble(), Some(Trouble::Error));
        board.failed(true, Trouble::Closed, "");
        assert_eq!(board.uncounted(Counted::Deletions), None);
        assert_eq!(board.freezes_trouble(), None);
        // What was not counted is tried again all the same.
        assert!(board.is_to_be_counted_again(Counted::Deletions));
        board.came_up();
        assert_eq!(board.uncounted(Counted::Deletions), Some(why));
        assert_eq!(board.freezes_trouble(), Some(Trouble::Error));
        board.counted(Counted::Deletions);
        assert!(!board.is_to_be_counted_again(Counted::Deletions));
    }
}
