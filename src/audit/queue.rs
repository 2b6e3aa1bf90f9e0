//! What workers hand to the writer, and what the writer hands back.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, oneshot};

use super::{
    Status,
    chain::Head,
    record::{Fragment, RefusedRecord, time},
};

/// Records that may wait before intents are refused.
const ENTRIES_MAX: usize = 8192;
/// Refusals written one by one in a second; what is above is coalesced.
const REFUSALS_A_SECOND_MAX: u32 = 200;
/// Different refusals that are coalesced apart from each other.
const COALESCED_KEYS_MAX: usize = 1024;
/// How long coalesced refusals are collected.
const COALESCE_FOR: Duration = Duration::from_secs(1);

/// The records that wait for the writer.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    broken: AtomicBool,
    published: Mutex<Published>,
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

/// What happens with a record that can't be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is given up: what it announces is not done.
    Intent,
    /// It is kept until it can be written.
    Kept,
}

/// The way back to the worker that waits.
#[derive(Debug)]
pub struct Reply {
    /// Gets the record's number once it is durable.
    pub sender: oneshot::Sender<u64>,
    /// Where the worker is.
    pub inbox: Arc<Inbox>,
}

/// The answers for one worker: it is woken once for a whole batch.
#[derive(Debug, Default)]
pub struct Inbox {
    answers: Mutex<Vec<(oneshot::Sender<u64>, u64)>>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    closed: bool,
    writer_sleeps: bool,
    refusals: Option<(Instant, u32)>,
    coalesced: HashMap<RefusalKey, Coalesced>,
    flush_at: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RefusalKey {
    tenant: Option<String>,
    token: Option<String>,
    peer: String,
    code: String,
    reason: Option<String>,
}

#[derive(Debug)]
struct Coalesced {
    count: u64,
    first_us: i64,
    last_us: i64,
}

#[derive(Debug)]
struct Published {
    head: Head,
    cause: Option<String>,
    last_sync: Option<SystemTime>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            head: Head::empty(),
            cause: None,
            last_sync: None,
        }
    }
}

/// What the writer finds to do.
#[derive(Debug)]
pub struct Batch {
    /// Everything that waited.
    pub entries: Vec<Entry>,
    /// Nothing will come any more.
    pub closed: bool,
}

impl Queue {
    /// Hands over a record that somebody waits for. `None` if an intent can't be
    /// taken now; what is kept is always taken.
    pub fn push(
        &self,
        fragment: Fragment,
        kind: Kind,
        inbox: &Arc<Inbox>,
    ) -> Option<oneshot::Receiver<u64>> {
        let (sender, receiver) = oneshot::channel();
        let reply = Reply {
            sender,
            inbox: Arc::clone(inbox),
        };
        let mut state = lock(&self.state);
        let full = state.entries.len() >= ENTRIES_MAX
            || state.closed
            || self.broken.load(Ordering::Acquire);
        if kind == Kind::Intent && full {
            return None;
        }
        state.entries.push(Entry {
            fragment,
            reply: Some(reply),
            kind,
        });
        self.wake(state);
        Some(receiver)
    }

    /// Hands over a record that nobody waits for.
    pub fn push_unwaited(&self, fragment: Fragment) {
        let mut state = lock(&self.state);
        state.entries.push(Entry {
            fragment,
            reply: None,
            kind: Kind::Kept,
        });
        self.wake(state);
    }

    /// Hands over a refusal: one by one as long as there are few and the trail
    /// can be written, else coalesced by tenant, token, peer, code and reason, so
    /// that a flood of them buys neither disk nor memory.
    pub fn push_refused(&self, record: &RefusedRecord<'_>) {
        let key = RefusalKey {
            tenant: record.tenant.map(ToOwned::to_owned),
            token: record.token.map(ToOwned::to_owned),
            peer: address_of(record.peer).to_owned(),
            code: record.code.to_owned(),
            reason: record.reason.map(ToOwned::to_owned),
        };
        self.push_bounded(key, || Fragment::refused(record));
    }

    /// Hands over that a connection ended before there was a request; bounded as
    /// refusals are.
    pub fn push_connection_refused(&self, peer: &str, reason: &str) {
        let key = RefusalKey {
            tenant: None,
            token: None,
            peer: address_of(peer).to_owned(),
            code: "connection-refused".to_owned(),
            reason: Some(reason.to_owned()),
        };
        self.push_bounded(key, || Fragment::connection_refused(peer, reason));
    }

    fn push_bounded(&self, key: RefusalKey, fragment: impl FnOnce() -> Fragment) {
        let now = Instant::now();
        let is_broken = self.broken.load(Ordering::Acquire);
        let mut state = lock(&self.state);
        let (since, count) = state.refusals.unwrap_or((now, 0));
        let (since, count) = if now - since >= Duration::from_secs(1) {
            (now, 0)
        } else {
            (since, count)
        };
        state.refusals = Some((since, count.saturating_add(1)));
        if count < REFUSALS_A_SECOND_MAX && state.entries.len() < ENTRIES_MAX && !is_broken {
            let fragment = fragment();
            state.entries.push(Entry {
                fragment,
                reply: None,
                kind: Kind::Kept,
            });
        } else {
            state.coalesce(key);
            state.flush_at.get_or_insert(now + COALESCE_FOR);
        }
        self.wake(state);
    }

    /// Everything that waits; blocks until there is something, or for `wait_max`.
    pub fn take(&self, wait_max: Duration) -> Batch {
        // Refusals stay coalesced while the trail can't be written.
        let is_broken = self.broken.load(Ordering::Acquire);
        let mut state = lock(&self.state);
        let until = Instant::now() + wait_max;
        while state.entries.is_empty() && !state.closed && (is_broken || !state.is_flush_due()) {
            let wake_at = state
                .flush_at
                .filter(|_| !is_broken)
                .map_or(until, |at| at.min(until));
            let wait = wake_at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            state.writer_sleeps = true;
            state = self
                .wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.writer_sleeps = false;
        }
        let closed = state.closed;
        let mut entries = mem::take(&mut state.entries);
        if (state.is_flush_due() && !is_broken) || closed {
            entries.extend(state.flush());
        }
        Batch { entries, closed }
    }

    /// No intents any more; the writer ends once all is written.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_one();
    }

    /// How the trail is.
    pub fn status(&self) -> Status {
        let queue_depth = lock(&self.state).entries.len();
        let published = lock(&self.published);
        Status {
            writable: published.cause.clone().map_or(Ok(()), Err),
            seq: published.head.seq,
            hash: published.head.hash.as_str().to_owned(),
            queue_depth,
            last_sync: published.last_sync,
        }
    }

    /// The writer tells where the trail stands.
    pub fn publish(&self, head: &Head, synced: bool) {
        self.broken.store(false, Ordering::Release);
        let mut published = lock(&self.published);
        published.head = head.clone();
        published.cause = None;
        if synced {
            published.last_sync = Some(SystemTime::now());
        }
    }

    /// The writer tells that the trail can't be written, and why.
    pub fn publish_broken(&self, cause: &str) {
        self.broken.store(true, Ordering::Release);
        lock(&self.published).cause = Some(cause.to_owned());
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let sleeps = state.writer_sleeps;
        drop(state);
        if sleeps {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn coalesce(&mut self, mut key: RefusalKey) {
        if self.coalesced.len() >= COALESCED_KEYS_MAX && !self.coalesced.contains_key(&key) {
            key = RefusalKey {
                tenant: None,
                token: None,
                peer: "other".to_owned(),
                code: key.code,
                reason: None,
            };
        }
        let now_us = jiff::Timestamp::now().as_microsecond();
        let entry = self.coalesced.entry(key).or_insert(Coalesced {
            count: 0,
            first_us: now_us,
            last_us: now_us,
        });
        entry.count += 1;
        entry.last_us = now_us;
    }

    fn is_flush_due(&self) -> bool {
        self.flush_at.is_some_and(|at| at <= Instant::now())
    }

    fn flush(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.flush_at = None;
        mem::take(&mut self.coalesced)
            .into_iter()
            .map(|(key, coalesced)| Entry {
                fragment: Fragment::now("refusals.coalesced")
                    .optional("tenant", key.tenant.as_deref())
                    .optional("token", key.token.as_deref())
                    .text("peer", &key.peer)
                    .text("code", &key.code)
                    .optional("reason", key.reason.as_deref())
                    .number("count", coalesced.count)
                    .text("first", &time(coalesced.first_us))
                    .text("last", &time(coalesced.last_us)),
                reply: None,
                kind: Kind::Kept,
            })
    }
}

impl Inbox {
    /// Puts an answer in; the worker is not woken yet.
    pub fn put(&self, sender: oneshot::Sender<u64>, seq: u64) {
        lock(&self.answers).push((sender, seq));
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Hands each answer to the call that waits for it, on the worker's own
    /// thread. Never ends.
    pub async fn hand_out(&self) {
        loop {
            self.filled.notified().await;
            let answers = mem::take(&mut *lock(&self.answers));
            for (sender, seq) in answers {
                // A call that does not wait any more knows why.
                let _ = sender.send(seq);
            }
        }
    }
}

/// The address of a peer without its port, which differs with each connection.
fn address_of(peer: &str) -> &str {
    peer.rsplit_once(':')
        .filter(|_| !peer.starts_with("unix:"))
        .map_or(peer, |(address, _)| address)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
