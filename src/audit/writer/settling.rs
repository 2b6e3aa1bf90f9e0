//! What becomes durable beside the writer with `relaxed`: a full segment, and the name
//! of a new one.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::audit::{TrailOp, disk::Disk, queue::Queue, segment::Sealed};

/// With `relaxed`, the segment before the one that is written, if it is of this run, and
/// the entry of this one in the directory are made durable beside it.
#[derive(Debug, Default)]
pub struct Settling(Option<Underway>);

#[derive(Debug)]
struct Underway {
    thread: thread::JoinHandle<()>,
    since: Instant,
    is_told: bool,
}

/// What is to be made durable, and where its failures are counted.
#[derive(Debug)]
pub struct ToSettle {
    /// The full segment, if there is one.
    pub sealed: Option<Sealed>,
    /// Where the new one has its name.
    pub directory: PathBuf,
    /// What the writer counts with.
    pub queue: Arc<Queue>,
}

impl ToSettle {
    fn settle(&self, disk: &mut dyn Disk) {
        if let Some(sealed) = &self.sealed
            && let Err(error) = sealed.settle(disk)
        {
            self.queue.counts.failed(TrailOp::Rotate);
            tracing::error!(segment = %sealed.path().display(), %error, "a full segment cannot be settled: its records may not survive the end of this machine");
        }
        // Whatever became of that.
        if let Err(error) = disk.sync_directory(&self.directory) {
            self.queue.counts.failed(TrailOp::Rotate);
            tracing::error!(directory = %self.directory.display(), %error, "a new segment has no durable name yet: it may not survive the end of this machine");
        }
    }
}

impl Settling {
    /// How long it may take before it is told.
    const LONG: Duration = Duration::from_secs(10);

    /// Begins; none may be under way.
    pub fn begin(&mut self, work: ToSettle, disk: &mut dyn Disk) {
        let work = Arc::new(work);
        let (beside, mut disk_beside) = (Arc::clone(&work), disk.beside());
        let name = "trail-settle".to_owned();
        let spawned = thread::Builder::new()
            .name(name)
            .spawn(move || beside.settle(disk_beside.as_mut()));
        match spawned {
            Ok(thread) => {
                self.0 = Some(Underway {
                    thread,
                    since: Instant::now(),
                    is_told: false,
                });
            }
            // Calls have to wait for it, then: that is no reason to refuse them.
            Err(_) => work.settle(disk),
        }
    }

    /// Tells of one that takes long.
    pub fn look(&mut self) {
        let Some(underway) = &mut self.0 else { return };
        let is_long = underway.since.elapsed() >= Self::LONG && !underway.thread.is_finished();
        if is_long && !underway.is_told {
            underway.is_told = true;
            tracing::warn!(
                "the disk takes long to make a full segment, or the name of a new one, durable: until it has, records in them would not survive the end of this machine"
            );
        }
    }

    /// Until none is under way.
    pub fn wait(&mut self) {
        if let Some(underway) = self.0.take() {
            // What went wrong is in the log.
            let _ = underway.thread.join();
        }
    }
}
