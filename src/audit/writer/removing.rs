//! Old segments are removed beside the writer: calls need not wait until many of them are.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::audit::{disk::Disk, retention::Removal};

/// Segments that are being removed, on a thread of its own.
#[derive(Debug, Default)]
pub struct Removing(Option<Underway>);

#[derive(Debug)]
struct Underway {
    thread: thread::JoinHandle<()>,
    is_to_stop: Arc<AtomicBool>,
}

/// What is to be removed. That it is stands in the trail already.
#[derive(Debug)]
pub struct ToRemove {
    /// The segments, the oldest first.
    pub removals: Vec<Removal>,
    /// Where they are.
    pub directory: PathBuf,
    /// What says so, if it is not durable yet.
    pub unsynced: Option<File>,
}

impl ToRemove {
    /// Removes one after the other, until one can't be or it is to stop: what stays is the
    /// end of the trail, whenever a crash comes, since file systems keep the order in which
    /// names of one directory go. None goes before the record that accounts for it is durable.
    fn remove(&self, disk: &mut dyn Disk, is_to_stop: &AtomicBool) {
        if let Err(error) = self.sync(disk) {
            tracing::warn!(%error, "audit.retention: old segments stay, since what accounts for them cannot be made durable");
            return;
        }
        let mut last = None;
        for (removed, removal) in (1_u64..).zip(&self.removals) {
            if is_to_stop.load(Ordering::Relaxed) {
                break;
            }
            // The trail itself is well; an operator may have forbidden it.
            if let Err(error) = disk.unlink(&removal.path) {
                tracing::warn!(segment = %removal.name, %error, "audit.retention: an old segment cannot be removed, and stays; its removal is in the trail already");
                break;
            }
            last = Some((removed, removal.until));
        }
        let Some((segments, until)) = last else {
            return;
        };
        tracing::info!(segments, %until, "old segments were removed");
        if let Err(error) = disk.sync_directory(&self.directory) {
            tracing::warn!(%error, "audit.retention: segments that were removed may be there again after the end of this machine");
        }
    }

    fn sync(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let Some(file) = &self.unsynced else {
            return Ok(());
        };
        disk.sync(file)?;
        // Its name may not be durable, either.
        disk.sync_directory(&self.directory)
    }
}

impl Removing {
    /// Begins; none may be under way.
    ///
    /// # Errors
    ///
    /// If the system gives no thread: then all stay.
    pub fn begin(&mut self, work: ToRemove, mut disk: Box<dyn Disk>) -> io::Result<()> {
        let is_to_stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&is_to_stop);
        let thread = thread::Builder::new().name("trail-prune".to_owned());
        let thread = thread.spawn(move || work.remove(disk.as_mut(), &stops))?;
        self.0 = Some(Underway { thread, is_to_stop });
        Ok(())
    }

    /// Whether some are being removed.
    pub fn is_under_way(&self) -> bool {
        let underway = self.0.as_ref();
        underway.is_some_and(|underway| !underway.thread.is_finished())
    }

    /// Those that are left stay.
    pub fn stop(&self) {
        if let Some(underway) = &self.0 {
            underway.is_to_stop.store(true, Ordering::Relaxed);
        }
    }

    /// The same, and waits until it has.
    pub fn end(&mut self) {
        self.stop();
        if let Some(underway) = self.0.take() {
            // What went wrong is in the log.
            let _ = underway.thread.join();
        }
    }
}
