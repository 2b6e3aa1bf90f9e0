//! The trail: what was to be done, what came of it, and what was refused, as
//! hash-chained JSON lines.
//!
//! Workers hand records to one writer thread and wait for it where the order of
//! events depends on it: an intent is durable before its DELETE is sent, an
//! outcome before its answer. The writer takes all that waits at once (group
//! commit): the more callers, the fewer syncs a record.

mod chain;
mod queue;
mod reader;
mod record;
mod recover;
mod segment;
mod verify;
mod worker;
mod writer;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

pub use self::{
    chain::{Hash, Head},
    reader::{Fault, Wrong},
    record::{IntentRecord, OutcomeKind, OutcomeRecord, RefusedRecord, Sent},
    verify::{Outcomes, Report, verify},
    worker::{Intent, Recorded, Unavailable, WorkerTrail},
};
use self::{queue::Queue, record::Fragment, writer::Writer};
use crate::config::settings::Durability;

/// How a trail is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its segments are; created with mode 0700 if it does not exist.
    pub directory: PathBuf,
    /// Whether records are synced before anything follows from them.
    pub durability: Durability,
    /// How long an answer waits for its outcome.
    pub outcome_wait: Duration,
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
    queue: Arc<Queue>,
    outcome_wait: Duration,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    _lock: fs::File,
}

/// How the trail is.
#[derive(Debug, Clone)]
pub struct Status {
    /// Whether it can be written; if not, the cause.
    pub writable: Result<(), String>,
    /// The number of the last record.
    pub seq: u64,
    /// The hash of the last record.
    pub hash: String,
    /// How many records wait to be written.
    pub queue_depth: usize,
    /// When it was synced last.
    pub last_sync: Option<SystemTime>,
}

impl Trail {
    /// Takes the directory's lock, recovers what an earlier run left, and
    /// starts the writer with a new segment.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let Options {
            directory,
            durability,
            outcome_wait,
        } = options;
        let unusable = |error| OpenError::Directory {
            directory: directory.clone(),
            error,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(unusable)?;
        let lock = lock(&directory)?;
        let queue = Arc::new(Queue::default());
        let writer = Writer::open(&directory, durability, Arc::clone(&queue))?;
        let writer = thread::Builder::new()
            .name("trail".to_owned())
            .spawn(move || writer.run())
            .map_err(unusable)?;
        Ok(Self(Arc::new(Inner {
            queue,
            outcome_wait,
            writer: Mutex::new(Some(writer)),
            _lock: lock,
        })))
    }

    /// The trail for one worker. Call it within the worker's runtime.
    pub fn for_worker(&self) -> WorkerTrail {
        WorkerTrail::new(Arc::clone(&self.0.queue), self.0.outcome_wait)
    }

    /// How the trail is.
    pub fn status(&self) -> Status {
        self.0.queue.status()
    }

    /// Records that a config is in effect from now on.
    pub fn config_loaded(&self, digest: &str, tenants: usize) {
        self.0
            .queue
            .push_unwaited(Fragment::config_loaded(digest, tenants));
    }

    /// Writes what waits, seals the segment and ends the writer. Later intents
    /// are refused.
    pub fn close(&self) {
        self.0.queue.close();
        let writer = self
            .0
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the trail's writer ended with a bug");
        }
    }
}

/// One writer for a directory, as long as the file is open.
fn lock(directory: &Path) -> Result<fs::File, OpenError> {
    let unusable = |error| OpenError::Directory {
        directory: directory.to_owned(),
        error,
    };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests;
