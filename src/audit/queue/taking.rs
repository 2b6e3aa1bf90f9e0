//! How whoever writes gets what waits, and the writer with it.

use std::{
    mem,
    sync::{PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{Entry, Kind, Queue, State, lock};
use crate::audit::holder::Relief;

/// Room for so many records is kept when they are written; what a flood took is given back.
const SPARE_MAX: usize = 512;

/// What the writer's thread is to write.
#[derive(Debug)]
pub struct Taken {
    /// All that waited.
    pub entries: Vec<Entry>,
    /// Nothing will come any more.
    pub is_closed: bool,
}

impl State {
    fn entries(&mut self) -> Vec<Entry> {
        self.changes = 0;
        self.are_for_thread = false;
        mem::replace(&mut self.entries, mem::take(&mut self.spare))
    }
}

impl Queue {
    /// Gives the writer to its thread, and everything that waits, once there is something
    /// that no worker writes or `wait_max` has passed, and no worker has it. Until then it
    /// looks after workers that have it. `None` if one of them broke it.
    pub fn take(&self, wait_max: Duration) -> Option<Taken> {
        let mut state = lock(&self.state);
        let mut now = Instant::now();
        let until = now + wait_max;
        loop {
            let due = self.coalesced_until(&state);
            let wake_at = due.map_or(until, |due| due.min(until));
            if state.are_for_thread || state.closed || wake_at <= now {
                state.holder.want();
            }
            if state.holder.is_lost() {
                return None;
            }
            if state.holder.is_wanted() && state.holder.is_free() {
                break;
            }
            let wait = match state.holder.is_wanted() {
                // Whoever has it tells when he is done.
                true => wait_max,
                false => wake_at - now,
            };
            let wait = state.holder.look_in().map_or(wait, |tick| tick.min(wait));
            state.writer_sleeps = true;
            let woken = self.wake.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.writer_sleeps = false;
            now = Instant::now();
            if let Some(relief) = state.holder.look(now) {
                drop(state);
                relief.relieve();
                state = lock(&self.state);
            }
        }
        state.holder.take();
        Some(self.all(&mut state, now))
    }

    /// Gives the writer to a worker, and everything that waits, if nobody has it and it
    /// can write.
    pub fn take_for(&self, relief: &Weak<dyn Relief>) -> Option<Vec<Entry>> {
        let mut state = lock(&self.state);
        // Looked at under the lock: whoever had the writer says so before he gives it back.
        if state.closed || state.entries.is_empty() || self.board.is_broken() {
            return None;
        }
        if !state.holder.take_for(relief) {
            return None;
        }
        let entries = state.entries();
        let is_to_look = state.holder.begin_to_look();
        self.wake_if(state, is_to_look);
        Some(entries)
    }

    /// Whoever had the writer has written `entries`, of which the memory is used again.
    /// With `calls`, its thread has something to do, too.
    pub fn done(&self, mut entries: Vec<Entry>, calls: bool) {
        entries.clear();
        let mut state = lock(&self.state);
        if entries.capacity() <= SPARE_MAX {
            state.spare = entries;
        }
        state.holder.give_back();
        if calls {
            state.holder.want();
        }
        let is_wanted = state.holder.is_wanted();
        self.wake_if(state, is_wanted);
    }

    /// Whoever had the writer broke it.
    pub fn lose(&self) {
        let mut state = lock(&self.state);
        state.holder.lose();
        self.wake_if(state, true);
    }

    /// What still came in after the last of it was [taken](Self::take) and the queue closed.
    pub fn take_rest(&self) -> Vec<Entry> {
        self.all(&mut lock(&self.state), Instant::now()).entries
    }

    fn all(&self, state: &mut State, now: Instant) -> Taken {
        let mut entries = state.entries();
        let is_due = self
            .coalesced_until(state)
            .is_some_and(|until| until <= now);
        if state.closed || is_due {
            entries.extend(state.coalesced.take().map(|fragment| Entry {
                fragment,
                reply: None,
                kind: Kind::Kept,
            }));
        }
        Taken {
            entries,
            is_closed: state.closed,
        }
    }

    /// Until when refusals are counted together; they stay so while the trail can't be
    /// written.
    fn coalesced_until(&self, state: &State) -> Option<Instant> {
        state.coalesced.due().filter(|_| !self.board.is_broken())
    }
}
