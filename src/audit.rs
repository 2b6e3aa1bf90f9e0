//! The trail: what was to be done, what came of it, and what was refused, as
//! hash-chained JSON lines.
//!
//! Workers hand records to one writer and wait for it where the order of
//! events depends on it: an intent is durable before its DELETE is sent, an
//! outcome before its answer. The writer takes all that waits at once (group
//! commit): the more callers, the fewer syncs a record. It has a thread of its own; with
//! `relaxed`, whoever handed over a record and has nothing else to do writes it.
//!
//! What its lines look like is in docs/audit-format.md; the names of events are in `event`,
//! the words around them in `format`.
//!
//! # The way of a record
//!
//! - To the writer: `worker` is the trail as a worker sees it, and has `record` make the
//!   middle of the line. The record waits in `queue`, where `coalesce` counts the refusals
//!   of a flood together; `flusher` says when it is written, and `holder` who writes.
//! - To the disk: `writer` takes all that waits, `chain` hashes each line over the one
//!   before, `segment` appends them to a file, by way of `disk`. `cause` says why it can't, and
//!   `counts` how often what was done.
//! - Back: `ticket` is what a call waits with, `inbox` hands a worker all answers of a
//!   batch, `board` tells everybody where the trail stands.
//! - What stays: `retention` says what is old enough to be removed, unless it is not yet where `collected`
//!   says that it goes; `standing` takes the freezes that stand along from file to file.
//! - Reading: `reader` goes line by line and checks the chain. `recover` does so at a start,
//!   `follow` and `tail` while it is written, `query` to answer about calls, `events` about
//!   all else, and `verify` to say whether it is as it was written, by what is `known` beside it.

// What stands in it.
pub mod event;
pub mod format;

// From a worker to the writer.
mod coalesce;
mod flusher;
mod holder;
mod queue;
mod record;
mod worker;

// From the writer to the disk.
mod cause;
mod chain;
mod counts;
mod disk;
mod segment;
mod writer;

// And back to those who wait.
mod board;
mod inbox;
mod ticket;

// What stays of it, and for how long.
mod collected;
mod retention;
mod standing;

// Reading it again.
mod events;
mod follow;
mod known;
mod query;
mod reader;
mod recover;
mod tail;
mod verify;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

pub use self::{
    board::Totals,
    cause::{Cause, Unwritable},
    chain::{Hash, Head},
    collected::{Collected, new_chain},
    counts::{TrailCounts, TrailOp},
    events::events,
    flusher::Flusher,
    follow::Follower,
    holder::Relief,
    known::Known,
    query::{End, Filter, Row, Summary, query, row},
    queue::ENTRIES_MAX as QUEUE_CAPACITY,
    reader::{Fault, LINE_BYTES_MAX, Wrong},
    record::{
        FrozenRecord, IntentRecord, Line, OutcomeKind, OutcomeRecord, RefusedRecord, Sent,
        TEXT_BYTES_MAX, UNAVAILABLE_STATUS, Who,
    },
    recover::Replayed,
    segment::is_begun,
    tail::{Batch, Holds, Tail, first_heads, holds},
    verify::{LineCheck, Outcomes, Report, verify},
    worker::{Intent, OutcomeWritten, Promised, Unavailable, WorkerTrail},
};
use self::{
    disk::{Disk, Lock, System},
    queue::Queue,
    record::Fragment,
    worker::Waits,
    writer::{Ended, SharedWriter, Writer},
};
use crate::{
    config::settings::{Audit, Durability},
    secret::{MacKey, UpstreamKey},
};

/// How a trail is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the config says of it. Its directory is created with mode 0700 if it
    /// does not exist.
    pub settings: Audit,
    /// The key that records are hashed with.
    pub mac_key: Option<MacKey>,
    /// How far back intents count for a limit or a budget.
    pub usage: Duration,
    /// What the database of `audit.ship` has of it; `None` if it goes nowhere.
    pub collected: Option<Arc<Collected>>,
}

/// Why a trail could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be created, read or written.
    #[error("the trail's directory {directory} cannot be used: {error} (audit.directory)")]
    Directory {
        /// The directory of the config.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process writes this trail.
    #[error("the trail in {0} is being written by another process (audit.directory)")]
    Locked(PathBuf),
}

/// The trail of this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Trail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    queue: Arc<Queue>,
    waits: Waits,
    collected: Option<Arc<Collected>>,
    /// What workers write with themselves; `None` with `strict`, where each write is synced,
    /// and a worker would sleep for as long.
    by_workers: Option<Arc<SharedWriter>>,
    writer: Mutex<Option<thread::JoinHandle<Ended>>>,
}

/// How the trail is.
#[derive(Debug, Clone)]
pub struct Status {
    /// Whether it can be written; if not, the cause.
    pub writable: Result<(), Unwritable>,
    /// Whether what the start read of it verified.
    pub verified: bool,
    /// The last record that is durable.
    pub head: Head,
    /// How many records wait to be written.
    pub queue_depth: usize,
    /// When it was synced last.
    pub last_sync: Option<SystemTime>,
    /// What was done since the start.
    pub totals: Totals,
}

/// The disk that a trail stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that are left for us.
    pub free: u64,
    /// Bytes that it has.
    pub size: u64,
}

impl Trail {
    /// Takes the directory's lock, brings in order what an earlier run left, and
    /// starts the writer with a new segment. `replay` hears of the intents within
    /// `options.usage`, of outcomes, of the freezes that stand, and of calls left open.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(options: Options, replay: &mut dyn FnMut(Replayed<'_>)) -> Result<Self, OpenError> {
        Self::open_on(Box::new(System), options, replay)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        options: Options,
        replay: &mut dyn FnMut(Replayed<'_>),
    ) -> Result<Self, OpenError> {
        let directory = options.settings.directory.clone();
        let waits = Waits {
            intent: options.settings.intent_wait,
            outcome: options.settings.outcome_wait,
        };
        let unusable = |error| OpenError::Directory {
            directory: directory.clone(),
            error,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| match error.kind() {
                // "File exists" would puzzle.
                io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
                _ => error,
            })
            .map_err(unusable)?;
        let lock = Lock::take(&directory)
            .map_err(unusable)?
            .ok_or_else(|| OpenError::Locked(directory.clone()))?;
        let queue = Arc::new(Queue::new(waits.intent));
        let collected = options.collected.clone();
        let is_relaxed = options.settings.durability == Durability::Relaxed;
        let writer =
            Writer::open(disk, lock, options, Arc::clone(&queue), replay).map_err(unusable)?;
        let shared = Arc::new(SharedWriter::new(writer));
        let by_workers = is_relaxed.then(|| Arc::clone(&shared));
        let writer = thread::Builder::new()
            .name("trail".to_owned())
            .spawn(move || shared.run())
            .map_err(unusable)?;
        Ok(Self(Arc::new(Inner {
            directory,
            queue,
            waits,
            collected,
            by_workers,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// The trail for one worker. Call it within the worker's runtime.
    pub fn for_worker(&self) -> WorkerTrail {
        WorkerTrail::new(Arc::clone(&self.0.queue), self.0.waits)
    }

    /// What has one worker's records written; see [`WorkerTrail::flushed_by`].
    pub fn flusher(&self) -> Arc<Flusher> {
        let queue = Arc::clone(&self.0.queue);
        Arc::new(Flusher::new(queue, self.0.by_workers.clone()))
    }

    /// How the trail is.
    pub fn status(&self) -> Status {
        let notice = self.0.queue.board.read();
        Status {
            writable: notice.unwritable.map_or(Ok(()), Err),
            verified: notice.verified,
            head: notice.head,
            queue_depth: self.0.queue.depth(),
            last_sync: notice.last_sync,
            totals: notice.totals,
        }
    }

    /// Where its segments are.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// What the database of `audit.ship` has of it; `None` if it goes nowhere.
    pub fn collected(&self) -> Option<&Arc<Collected>> {
        self.0.collected.as_ref()
    }

    /// What the writer counts.
    pub fn counts(&self) -> &TrailCounts {
        &self.0.queue.counts
    }

    /// The disk it stands on. Blocks for as long as the disk does not answer.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn disk(&self) -> io::Result<DiskSpace> {
        let found = rustix::fs::statvfs(&self.0.directory)?;
        Ok(DiskSpace {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            size: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Records that a config is in effect from now on, and with it these lists of users.
    pub fn config_loaded(&self, digest: &str, lists: Option<&str>, tenants: usize, by: &str) {
        let fragment = Fragment::config_loaded(digest, lists, tenants, by);
        self.0.queue.push_change(fragment);
    }

    /// Records that a config was refused, and the one before stays in effect.
    pub fn config_rejected(&self, problems: usize, first: &str, by: &str) {
        let fragment = Fragment::config_rejected(problems, first, by);
        self.0.queue.push_change(fragment);
    }

    /// Records that another key is used from now on.
    pub fn key_rotated(&self, from: &UpstreamKey, to: &UpstreamKey, by: &str) {
        let fragment = Fragment::key_rotated(from, to, by);
        self.0.queue.push_change(fragment);
    }

    /// Records that a tenant, or all of them, is frozen. The record is kept until it
    /// can be written, whether somebody waits for it or not.
    pub fn frozen(&self, record: &FrozenRecord<'_>) -> Promised {
        let inbox = Arc::default();
        let waiting = self.0.queue.push_frozen(Fragment::frozen(record), &inbox);
        Promised::new(waiting, inbox)
    }

    /// Records that a freeze ends, which it does once the record is durable.
    ///
    /// # Errors
    ///
    /// If the trail can't be written now; then there is no record.
    pub fn thawed(&self, record: &FrozenRecord<'_>) -> Result<Promised, Unavailable> {
        let inbox = Arc::default();
        let waiting = self.0.queue.push_thawed(Fragment::thawed(record), &inbox);
        let waiting = waiting.ok_or(Unavailable)?;
        Ok(Promised::new(waiting, inbox))
    }

    /// How long a call waits for the disk before it is refused.
    pub fn patience(&self) -> Duration {
        self.0.waits.intent
    }

    /// Records that somebody sent an admin token that is not good; coalesced under
    /// flood, as all that strangers bring about.
    pub fn admin_refused(&self, peer: &str, path: &str) {
        self.0.queue.push_admin_refused(peer, path);
    }

    /// Records that an operator changed something, or was not let to: `event` is
    /// `admin.` and what, and `by` is empty for a stranger.
    pub fn changed_by(&self, event: &'static str, by: &str, fields: &[(&str, String)]) {
        let by = Some(by).filter(|by| !by.is_empty());
        let fragment = Fragment::now(event).optional("by", by);
        let fragment = fields.iter().fold(fragment, |fragment, (name, value)| {
            fragment.text(name, value)
        });
        self.0.queue.push_change(fragment);
    }

    /// Writes what waits, seals the segment and ends the writer. Later intents
    /// are refused. Whether all of that could be done: if not, outcomes may be lost, and the
    /// log says why.
    pub fn close(&self) -> bool {
        self.0.queue.close();
        let writer = self
            .0
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else {
            // Somebody else closed it, and knows.
            return true;
        };
        match writer.join().unwrap_or(Ended::Broken) {
            Ended::Sealed => true,
            Ended::Unsealed => false,
            Ended::Broken => {
                tracing::error!("the trail's writer ended with a bug");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
