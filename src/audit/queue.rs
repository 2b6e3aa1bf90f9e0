//! What workers hand to the writer.

mod taking;

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use self::taking::Taken;
use super::{
    TrailCounts,
    board::Board,
    coalesce::{Coalesced, Key},
    holder::Holder,
    inbox::{Inbox, Reply, reply_to},
    record::{Fragment, RefusedRecord, Who},
    ticket::{Ticket, Waiting, wait_with},
};
use crate::ids::RequestId;

/// Records that may wait before intents are refused.
pub const ENTRIES_MAX: usize = 8192;
/// Records of changes that may wait, for a disk that hangs or fails; what comes on top
/// is only counted. Intents, outcomes and freezes are not among them: there are never
/// more than calls under way, and than freezes.
pub const CHANGES_MAX: usize = 4096;
/// Records that wake the writer even if their worker has more to do.
pub const BATCH_MIN: usize = 64;

/// The records that wait for the writer.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// What the writer tells.
    pub board: Board,
    /// What the writer counts.
    pub counts: TrailCounts,
}

/// One record that waits.
#[derive(Debug)]
pub struct Entry {
    /// What is to be written.
    pub fragment: Fragment,
    /// Who waits for it.
    pub reply: Option<Reply>,
    /// What happens with it if the trail can't be written now.
    pub kind: Kind,
}

impl Entry {
    /// Whether somebody waited for it and does not any more.
    pub fn is_given_up(&self) -> bool {
        self.reply
            .as_ref()
            .is_some_and(|reply| reply.teller.is_given_up())
    }
}

/// What happens with a record that can't be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is given up: what it announces is not done.
    Intent,
    /// It closes the intent with this number, and is kept until it can be written.
    Outcome(u64),
    /// It is kept until it can be written, as long as there is room.
    Kept,
    /// The writer says what was not kept: this itself always is.
    Own,
    /// It says that a tenant is frozen, which it is already: kept until it can be written.
    Frozen,
    /// It ends a freeze once it is written: given up if it can't be written now.
    Thawed,
    /// It is about the segment it stands in, and makes no sense in another.
    Segment,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    /// How many of them are of changes, and how many found no room.
    changes: usize,
    not_kept: u64,
    closed: bool,
    /// Some of them are not a worker's to write, or it asked somebody else to.
    are_for_thread: bool,
    holder: Holder,
    /// The writer's thread waits.
    writer_sleeps: bool,
    coalesced: Coalesced,
    /// Memory for the next records.
    spare: Vec<Entry>,
}

/// When the writer is told of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// At once.
    Now,
    /// When the worker that hands it over has nothing else to do, and says so:
    /// what else it has until then goes with the same write.
    OnPark,
    /// Not at all: the worker that hands it over writes it, or tells.
    ByWorker,
}

impl Queue {
    /// An empty queue. A write that takes longer than `stalled_after` counts as
    /// one that may never end.
    pub fn new(stalled_after: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            board: Board::new(stalled_after),
            counts: TrailCounts::default(),
        }
    }

    /// Hands over an intent; `None` if it can't be taken now.
    pub fn push_intent(
        &self,
        fragment: Fragment,
        request_id: RequestId,
        inbox: &Arc<Inbox>,
        wake: Wake,
    ) -> Option<Waiting> {
        let is_unwritable = self.board.is_unwritable();
        let (teller, waiting) = wait_with(Arc::default());
        let state = lock(&self.state);
        if is_unwritable || state.closed || state.entries.len() >= ENTRIES_MAX {
            return None;
        }
        let reply = Reply {
            teller,
            inbox: Arc::clone(inbox),
            intent_of: Some(request_id),
        };
        self.add(state, fragment, Some(reply), Kind::Intent, wake);
        Some(waiting)
    }

    /// Hands over the outcome of an intent, which is always taken, and waits for
    /// it with the ticket that waited for the intent.
    pub fn push_outcome(
        &self,
        fragment: Fragment,
        intent: u64,
        (inbox, ticket): (&Arc<Inbox>, Arc<Ticket>),
        wake: Wake,
    ) -> Waiting {
        let (teller, waiting) = wait_with(ticket);
        let reply = Reply {
            teller,
            inbox: Arc::clone(inbox),
            intent_of: None,
        };
        self.push(fragment, Some(reply), Kind::Outcome(intent), wake);
        waiting
    }

    /// Closes an intent that nobody waits for any more.
    pub fn close_intent(&self, fragment: Fragment, intent: u64) {
        self.push(fragment, None, Kind::Outcome(intent), Wake::Now);
    }

    /// Closes an intent whose caller was refused before it was durable; nothing
    /// was sent.
    pub fn push_too_late(&self, request_id: RequestId, intent: u64) {
        self.close_intent(Fragment::too_late(request_id, intent), intent);
    }

    /// Hands over a record of a change, which nobody waits for; only counted if too
    /// many of them wait.
    pub fn push_change(&self, fragment: Fragment) {
        let mut state = lock(&self.state);
        if state.changes >= CHANGES_MAX {
            state.not_kept += 1;
            return;
        }
        state.changes += 1;
        self.add(state, fragment, None, Kind::Kept, Wake::Now);
    }

    /// Hands over what the writer itself has to say, which is always taken.
    pub fn push_own(&self, fragment: Fragment) {
        self.push(fragment, None, Kind::Own, Wake::Now);
    }

    /// How many records of changes found no room since this was asked last.
    pub fn not_kept(&self) -> u64 {
        mem::take(&mut lock(&self.state).not_kept)
    }

    /// Hands over that a tenant is frozen, which is always taken, and waits for it.
    pub fn push_frozen(&self, fragment: Fragment, inbox: &Arc<Inbox>) -> Waiting {
        let (reply, waiting) = reply_to(inbox);
        self.push(fragment, Some(reply), Kind::Frozen, Wake::Now);
        waiting
    }

    /// Hands over that a freeze ends; `None` if the trail can't be written now.
    pub fn push_thawed(&self, fragment: Fragment, inbox: &Arc<Inbox>) -> Option<Waiting> {
        if self.board.is_unwritable() {
            return None;
        }
        let (reply, waiting) = reply_to(inbox);
        self.push(fragment, Some(reply), Kind::Thawed, Wake::Now);
        Some(waiting)
    }

    fn push(&self, fragment: Fragment, reply: Option<Reply>, kind: Kind, wake: Wake) {
        self.add(lock(&self.state), fragment, reply, kind, wake);
    }

    fn add(
        &self,
        mut state: MutexGuard<'_, State>,
        fragment: Fragment,
        reply: Option<Reply>,
        kind: Kind,
        wake: Wake,
    ) {
        state.entries.push(Entry {
            fragment,
            reply,
            kind,
        });
        self.wake(state, wake);
    }

    /// Hands over a refusal: one by one as long as there are few and the trail
    /// can be written, else coalesced by tenant, token, peer, code and reason, so
    /// that a flood of them buys neither disk nor memory.
    pub fn push_refused(&self, record: &RefusedRecord<'_>, wake: Wake) {
        let (key, fragment) = (|| Key::of(record), || Fragment::refused(record));
        self.push_bounded(record.who, key, fragment, wake);
    }

    /// Hands over that a connection ended before there was a request; bounded as
    /// refusals are.
    pub fn push_connection_refused(&self, peer: &str, reason: &str) {
        self.push_bounded(
            Who::Stranger,
            || Key::connection(peer, reason),
            || Fragment::connection_refused(peer, reason),
            Wake::Now,
        );
    }

    /// Hands over that an admin token was not good; bounded as refusals are.
    pub fn push_admin_refused(&self, peer: &str, path: &str) {
        self.push_bounded(
            Who::AtAdmin,
            || Key::admin(peer),
            || Fragment::admin_refused(peer, path),
            Wake::Now,
        );
    }

    fn push_bounded(
        &self,
        who: Who,
        key: impl FnOnce() -> Key,
        fragment: impl FnOnce() -> Fragment,
        wake: Wake,
    ) {
        let is_broken = self.board.is_broken();
        let mut state = lock(&self.state);
        if state.coalesced.admit(who) && state.entries.len() < ENTRIES_MAX && !is_broken {
            self.add(state, fragment(), None, Kind::Kept, wake);
        } else {
            // The first of them sets the writer's alarm; the others only count.
            let is_first = state.coalesced.due().is_none();
            state.coalesced.add(who, key());
            if is_first {
                self.wake(state, Wake::Now);
            }
        }
    }

    /// No intents any more; the writer ends once all is written.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_one();
    }

    /// How many records wait.
    pub fn depth(&self) -> usize {
        lock(&self.state).entries.len()
    }

    /// Tells the writer's thread of what waits, if it sleeps, or whoever has the writer
    /// now, to tell it when he is done.
    pub fn flush(&self) {
        let mut state = lock(&self.state);
        if state.entries.is_empty() {
            return;
        }
        state.are_for_thread = true;
        match state.holder.is_worker() {
            true => state.holder.want(),
            false => self.wake_if(state, true),
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, wake: Wake) {
        state.are_for_thread |= wake != Wake::ByWorker;
        let is_time = match wake {
            Wake::Now => true,
            Wake::OnPark => state.entries.len() >= BATCH_MIN,
            Wake::ByWorker => false,
        };
        self.wake_if(state, is_time);
    }

    fn wake_if(&self, mut state: MutexGuard<'_, State>, is_time: bool) {
        let is_needed = state.writer_sleeps && is_time;
        // It need not be told twice.
        state.writer_sleeps &= !is_needed;
        drop(state);
        if is_needed {
            self.wake.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
