//! What workers hand to the writer, and what the writer hands back.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, oneshot};

use super::{
    Status,
    chain::Head,
    record::{Fragment, RefusedRecord, time},
};
use crate::ids::RequestId;

/// Records that may wait before intents are refused.
const ENTRIES_MAX: usize = 8192;
/// Refusals written one by one in a second; what is above is coalesced.
const REFUSALS_A_SECOND_MAX: u32 = 200;
/// Different refusals that are coalesced apart from each other.
const COALESCED_KEYS_MAX: usize = 1024;
/// How long coalesced refusals are collected.
const COALESCE_FOR: Duration = Duration::from_secs(1);

/// The records that wait for the writer.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    broken: AtomicBool,
    work: Work,
    published: Mutex<Published>,
}

/// Whether the writer is at work, and for how long: a disk that does not answer
/// blocks it, and then nobody else can tell.
#[derive(Debug)]
struct Work {
    born: Instant,
    /// When it began, in ms since `born`; 0 while it waits.
    since_ms: AtomicU64,
    /// After how long it counts as stalled.
    stalled_after: Duration,
    is_told: AtomicBool,
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
            .is_some_and(|reply| reply.sender.is_closed())
    }
}

/// What happens with a record that can't be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is given up: what it announces is not done.
    Intent,
    /// It closes the intent with this number, and is kept until it can be written.
    Outcome(u64),
    /// It is kept until it can be written.
    Kept,
    /// It is about the segment it stands in, and makes no sense in another.
    Segment,
}

/// The way back to the worker that waits.
#[derive(Debug)]
pub struct Reply {
    /// Gets the record's number once it is durable.
    pub sender: oneshot::Sender<u64>,
    /// Where the worker is.
    pub inbox: Arc<Inbox>,
    /// The request of an intent: one that comes too late must be closed.
    pub intent_of: Option<RequestId>,
}

/// The answers for one worker: it is woken once for a whole batch.
#[derive(Debug, Default)]
pub struct Inbox {
    answers: Mutex<Vec<(Reply, u64)>>,
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
    /// An empty queue. A write that takes longer than `stalled_after` counts as
    /// one that may never end.
    pub fn new(stalled_after: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            broken: AtomicBool::new(false),
            work: Work {
                born: Instant::now(),
                since_ms: AtomicU64::new(0),
                stalled_after,
                is_told: AtomicBool::new(false),
            },
            published: Mutex::default(),
        }
    }

    /// Hands over an intent; `None` if it can't be taken now.
    pub fn push_intent(
        &self,
        fragment: Fragment,
        request_id: RequestId,
        inbox: &Arc<Inbox>,
    ) -> Option<oneshot::Receiver<u64>> {
        let is_unwritable = self.broken.load(Ordering::Acquire) || self.work.stalled().is_some();
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        if is_unwritable || state.closed || state.entries.len() >= ENTRIES_MAX {
            return None;
        }
        state.entries.push(Entry {
            fragment,
            reply: Some(Reply {
                sender,
                inbox: Arc::clone(inbox),
                intent_of: Some(request_id),
            }),
            kind: Kind::Intent,
        });
        self.wake(state);
        Some(receiver)
    }

    /// Hands over the outcome of an intent, which is always taken.
    pub fn push_outcome(
        &self,
        fragment: Fragment,
        intent: u64,
        inbox: Option<&Arc<Inbox>>,
    ) -> oneshot::Receiver<u64> {
        let (sender, receiver) = oneshot::channel();
        let reply = inbox.map(|inbox| Reply {
            sender,
            inbox: Arc::clone(inbox),
            intent_of: None,
        });
        let mut state = lock(&self.state);
        state.entries.push(Entry {
            fragment,
            reply,
            kind: Kind::Outcome(intent),
        });
        self.wake(state);
        receiver
    }

    /// Closes an intent whose caller was refused before it was durable; nothing
    /// was sent.
    pub fn push_too_late(&self, request_id: RequestId, intent: u64) {
        self.push_outcome(Fragment::too_late(request_id, intent), intent, None);
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
        let stalled = || {
            let span = self.work.stalled()?;
            Some(format!("a write has taken {} ms so far", span.as_millis()))
        };
        let cause = published.cause.clone().or_else(stalled);
        Status {
            writable: cause.map_or(Ok(()), Err),
            seq: published.head.seq,
            hash: published.head.hash.as_str().to_owned(),
            queue_depth,
            last_sync: published.last_sync,
        }
    }

    /// The writer tells up to where the trail is durable, and why intents can't
    /// be taken all the same.
    pub fn publish(&self, head: &Head, synced: bool, shortage: Option<&str>) {
        self.broken.store(shortage.is_some(), Ordering::Release);
        let mut published = lock(&self.published);
        published.head = head.clone();
        published.cause = shortage.map(ToOwned::to_owned);
        if synced {
            published.last_sync = Some(SystemTime::now());
        }
    }

    /// The writer tells that the trail can't be written, and why.
    pub fn publish_broken(&self, cause: &str) {
        self.broken.store(true, Ordering::Release);
        lock(&self.published).cause = Some(cause.to_owned());
    }

    /// The writer begins to write.
    pub fn begin_work(&self) {
        self.work
            .since_ms
            .store(self.work.now_ms(), Ordering::Release);
    }

    /// The writer waits again; how long it wrote, if that was too long.
    pub fn end_work(&self) -> Option<Duration> {
        let since = self.work.since_ms.swap(0, Ordering::AcqRel);
        self.work.is_told.store(false, Ordering::Release);
        let took = Duration::from_millis(self.work.now_ms().saturating_sub(since));
        (took > self.work.stalled_after).then_some(took)
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let sleeps = state.writer_sleeps;
        drop(state);
        if sleeps {
            self.wake.notify_one();
        }
    }
}

impl Work {
    fn now_ms(&self) -> u64 {
        // Never 0, which means that nothing is being written.
        u64::try_from(self.born.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// How long the writer has been writing, if that is too long. The first who
    /// notices says so in the log.
    fn stalled(&self) -> Option<Duration> {
        let since = self.since_ms.load(Ordering::Acquire);
        if since == 0 {
            return None;
        }
        let span = Duration::from_millis(self.now_ms().saturating_sub(since));
        if span <= self.stalled_after {
            return None;
        }
        if !self.is_told.swap(true, Ordering::AcqRel) {
            tracing::error!(
                cause = "the disk does not answer",
                "the trail cannot be written: nothing is forwarded until it can"
            );
        }
        Some(span)
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
    pub fn put(&self, reply: Reply, seq: u64) {
        lock(&self.answers).push((reply, seq));
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Hands each answer to the call that waits for it, on the worker's own
    /// thread. Never ends.
    pub async fn hand_out(&self, queue: &Queue) {
        loop {
            self.filled.notified().await;
            let answers = mem::take(&mut *lock(&self.answers));
            for (reply, seq) in answers {
                let is_late = reply.sender.send(seq).is_err();
                if let (true, Some(request_id)) = (is_late, reply.intent_of) {
                    queue.push_too_late(request_id, seq);
                }
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
