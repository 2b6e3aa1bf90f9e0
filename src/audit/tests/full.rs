//! A disk that is full, and what may be removed from it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::audit::disk::{Disk, System};

/// A disk without any room, until a segment with records is removed.
#[derive(Debug)]
struct Full(Arc<AtomicBool>);

impl Full {
    fn room(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            // ENOSPC
            true => Err(io::Error::from_raw_os_error(28)),
            false => Ok(()),
        }
    }
}

impl Disk for Full {
    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        self.room()?;
        System.append(file, bytes)
    }

    fn allocate(&mut self, file: &fs::File, offset: u64, len: u64) -> io::Result<()> {
        self.room()?;
        System.allocate(file, offset, len)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let is_empty = fs::metadata(path)?.len() == 0;
        System.remove(path)?;
        if !is_empty {
            self.0.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// With some segments, all of which are old by now.
async fn old(directory: &Path) -> Vec<(u64, std::path::PathBuf)> {
    let trail = open(small(directory)).unwrap();
    calls(&trail, 60).await;
    trail.close();
    std::thread::sleep(Duration::from_millis(1100));
    segment::list(directory).unwrap()
}

fn retaining(directory: &Path) -> Options {
    let mut options = small(directory);
    options.settings.retention = Some(Duration::from_secs(1));
    options
}

#[tokio::test]
async fn a_start_on_a_full_disk_removes_what_retention_may_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let before = old(directory.path()).await;
    let full = Arc::new(AtomicBool::new(true));
    let disk = Full(Arc::clone(&full));
    let trail = Trail::open_on(Box::new(disk), retaining(directory.path()), &mut |_| {}).unwrap();
    calls(&trail, 1).await;
    trail.close();
    assert!(!before[0].1.exists());
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    // Nothing may go: then nothing does.
    full.store(true, Ordering::SeqCst);
    let before = segment::list(directory.path()).unwrap();
    let disk = Full(Arc::clone(&full));
    let refused = Trail::open_on(Box::new(disk), small(directory.path()), &mut |_| {});
    assert!(refused.is_err());
    assert_eq!(segment::list(directory.path()).unwrap(), before);
}

/// Whatever fails of a start's first write, the next one finds what this one found: a loop
/// of restarts would gather segments without end.
#[tokio::test]
async fn a_start_that_fails_leaves_no_segment() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let before = segment::list(directory.path()).unwrap();
        for options in [small(directory.path()), relaxed(directory.path())] {
            let disk = Full(Arc::new(AtomicBool::new(true)));
            let refused = Trail::open_on(Box::new(disk), options, &mut |_| {});
            assert!(refused.is_err());
            assert_eq!(segment::list(directory.path()).unwrap(), before);
        }
        old(directory.path()).await;
    }
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}

fn relaxed(directory: &Path) -> Options {
    let mut options = small(directory);
    options.settings.durability = Durability::Relaxed;
    options
}

#[tokio::test]
async fn a_disk_that_fills_gets_room_from_what_retention_may_remove() {
    let directory = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let disk = Full(Arc::clone(&full));
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_secs(3));
    let trail = Trail::open_on(Box::new(disk), options, &mut |_| {}).unwrap();
    calls(&trail, 60).await;
    std::thread::sleep(Duration::from_millis(3100));
    let (_, oldest) = segment::list(directory.path()).unwrap().remove(0);
    full.store(true, Ordering::SeqCst);
    let worker = trail.for_worker();
    let end = std::time::Instant::now() + Duration::from_secs(100);
    while worker.intent(intent(RequestId::next())).await.is_ok() {
        assert!(std::time::Instant::now() < end, "nothing is written");
    }
    while trail.status().writable.is_err() {
        assert!(std::time::Instant::now() < end, "it makes no room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!oldest.exists());
    calls(&trail, 1).await;
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}

#[tokio::test]
async fn a_start_says_that_the_beginning_was_taken_away_and_no_more_often_than_that() {
    let directory = tempfile::tempdir().unwrap();
    let before = old(directory.path()).await;
    // What retention removes is accounted for.
    let trail = open(retaining(directory.path())).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while before[0].1.exists() {
        assert!(std::time::Instant::now() < end, "it never goes");
        std::thread::sleep(Duration::from_millis(20));
    }
    calls(&trail, 60).await;
    trail.close();
    let told = || {
        let told =
            |line: &&String| line.contains("trail.recovered") && line.contains("are missing");
        lines(directory.path()).iter().filter(told).count()
    };
    open(small(directory.path())).unwrap().close();
    assert_eq!(told(), 0);
    let (_, oldest) = segment::list(directory.path()).unwrap().remove(0);
    fs::remove_file(oldest).unwrap();
    open(small(directory.path())).unwrap().close();
    assert_eq!(told(), 1);
    open(small(directory.path())).unwrap().close();
    assert_eq!(told(), 1);
    assert!(!verify(directory.path()).unwrap().is_intact());
}
