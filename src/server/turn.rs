//! Turn-taking: how the requests of one connection are begun and polled.
//!
//! A turn is one poll of the connection's task. Over HTTP/1.1, hyper hands over a
//! request, and polls the work on it, within a turn; what is pipelined behind it waits
//! until it is answered. Two things follow:
//!
//! - One request is begun a turn. Of a thousand that were pipelined and are refused at
//!   once, hyper would answer all in one, and the worker's other connections would wait.
//! - The work can be begun as soon as it is handed over, in the name of the task that
//!   polls it later in the same turn: that first poll then has nothing to do.
//!
//! Over HTTP/2 each request has a task of its own, and is begun at once.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

/// The turns of one connection.
#[derive(Debug)]
pub struct Turns {
    /// Whether requests come one after another: HTTP/1.
    one_by_one: bool,
    has_begun_one: AtomicBool,
    task: OnceLock<Waker>,
}

/// How to begin a request.
#[derive(Debug, Clone, Copy)]
pub enum Begin<'a> {
    /// At once. The task polls it later in this turn, if that is known.
    Now(Option<&'a Waker>),
    /// In the next turn: in this one another was begun.
    NextTurn,
}

impl Turns {
    /// Of a connection that has just been opened.
    pub fn new(is_http2: bool) -> Self {
        Self {
            one_by_one: !is_http2,
            has_begun_one: AtomicBool::new(false),
            task: OnceLock::new(),
        }
    }

    /// A new turn. `task` polls the connection, and always the same one does.
    pub fn next(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
        self.has_begun_one.store(false, Ordering::Relaxed);
    }

    /// How to begin the request that was handed over in this turn. A body comes by way
    /// of hyper within the turn, so that the next poll of one that has one has to look.
    pub fn admit(&self, has_body: bool) -> Begin<'_> {
        if !self.one_by_one {
            return Begin::Now(None);
        }
        match self.has_begun_one.swap(true, Ordering::Relaxed) {
            false => Begin::Now(self.task.get().filter(|_| !has_body)),
            true => Begin::NextTurn,
        }
    }

    /// Whether this is still the turn in which a request was [begun](Self::admit).
    pub fn is_same(&self) -> bool {
        self.has_begun_one.load(Ordering::Relaxed)
    }

    /// Whether requests come one after another: HTTP/1.
    pub fn are_one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// Has the connection polled, if it ever was.
    pub fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pipelined_requests_one_is_begun_a_turn() {
        let turns = Turns::new(false);
        for _ in 0..2 {
            turns.next(Waker::noop());
            assert!(!turns.is_same());
            assert!(matches!(turns.admit(false), Begin::Now(Some(_))));
            assert!(turns.is_same());
            assert!(matches!(turns.admit(false), Begin::NextTurn));
        }
    }

    #[test]
    fn one_with_a_body_is_begun_and_polled_again() {
        let turns = Turns::new(false);
        turns.next(Waker::noop());
        assert!(matches!(turns.admit(true), Begin::Now(None)));
        assert!(matches!(turns.admit(false), Begin::NextTurn));
    }

    #[test]
    fn over_http2_each_is_begun_at_once_by_a_task_of_its_own() {
        let turns = Turns::new(true);
        turns.next(Waker::noop());
        for _ in 0..2 {
            assert!(matches!(turns.admit(false), Begin::Now(None)));
        }
    }
}
