//! A disk that fails, tears and stalls, at each single write and sync in turn.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::*;
use crate::audit::{disk::Disk, segment::Segment};

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The operation fails.
    Fails,
    /// Half of the bytes are written, and the rest fails.
    Tears,
    /// It takes its time.
    Stalls,
}

/// A disk that does as it is told until its operation number `at`; from there on
/// `for_ops` operations go wrong.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    at: u64,
    for_ops: u64,
    done: Arc<AtomicU64>,
}

impl Faulty {
    fn strike(&self) -> Option<Fault> {
        let now = self.done.fetch_add(1, Ordering::SeqCst);
        (self.at..self.at + self.for_ops)
            .contains(&now)
            .then_some(self.fault)
    }

    fn op(&self) -> io::Result<()> {
        match self.strike() {
            None => Ok(()),
            Some(Fault::Stalls) => {
                thread::sleep(Duration::from_millis(120));
                Ok(())
            }
            Some(_) => Err(io::Error::from_raw_os_error(5)),
        }
    }
}

impl Disk for Faulty {
    fn create(&mut self, path: &Path) -> io::Result<fs::File> {
        self.op()?;
        System.create(path)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.op()?;
        System.sync_directory(directory)
    }

    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        match self.strike() {
            None => System.append(file, bytes),
            Some(Fault::Tears) => {
                System.append(file, &bytes[..bytes.len() / 2])?;
                Err(io::Error::from_raw_os_error(28))
            }
            Some(Fault::Stalls) => {
                thread::sleep(Duration::from_millis(120));
                System.append(file, bytes)
            }
            Some(Fault::Fails) => Err(io::Error::from_raw_os_error(5)),
        }
    }

    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        self.op()?;
        System.sync(file)
    }

    fn allocate(&mut self, file: &fs::File, offset: u64, len: u64) -> io::Result<()> {
        self.op()?;
        System.allocate(file, offset, len)
    }

    fn trim(&mut self, file: &fs::File, len: u64) -> io::Result<()> {
        self.op()?;
        System.trim(file, len)
    }

    fn cut(&mut self, path: &Path, len: u64) -> io::Result<()> {
        self.op()?;
        System.cut(path, len)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.op()?;
        System.remove(path)
    }
}

/// Calls while a disk goes wrong: what was sent, and what was answered how.
async fn drive(fault: Fault, at: u64, for_ops: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.settings.segment_size = 4096;
    options.settings.intent_wait = Duration::from_millis(50);
    options.settings.outcome_wait = Duration::from_millis(50);
    let done = Arc::new(AtomicU64::new(0));
    let disk = Faulty {
        fault,
        at,
        for_ops,
        done,
    };
    let Ok(trail) = Trail::open_on(Box::new(disk), options, &mut |_| {}) else {
        // It never came to take calls; what it left must not be worse for it.
        assert!(verify(directory.path()).unwrap().is_intact());
        return;
    };
    let worker = trail.for_worker();
    let (mut sent, mut durable) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        let id = RequestId::next();
        let Ok(begun) = worker.intent(intent(id)).await else {
            continue;
        };
        sent.push(id.to_string());
        let on_disk = lines(directory.path());
        assert!(
            on_disk.iter().any(|line| line.contains(&id.to_string())),
            "{fault:?} at {at}: sent without an intent on disk"
        );
        if worker.outcome(begun, deleted()).await == OutcomeWritten::Durable {
            durable.push(id.to_string());
        }
    }
    tokio::task::spawn_blocking(move || trail.close())
        .await
        .unwrap();
    drop(worker);
    // The next start closes what was left open.
    open(super::options(directory.path())).unwrap().close();
    let report = verify(directory.path()).unwrap();
    assert!(
        report.is_intact(),
        "{fault:?} at {at} for {for_ops}: {report}"
    );
    assert_eq!(report.open, 0, "{fault:?} at {at}: {report}");
    let all = lines(directory.path());
    let of = |id: &str, what: &str| {
        all.iter()
            .filter(|line| line.contains(id) && line.contains(what))
            .count()
    };
    for id in &sent {
        assert_eq!(of(id, "request.intent"), 1, "{fault:?} at {at}: {id}");
        assert_eq!(of(id, "request.outcome"), 1, "{fault:?} at {at}: {id}");
    }
    for id in &durable {
        assert_eq!(of(id, "\"deleted\""), 1, "{fault:?} at {at}: {id}");
    }
    // What was refused was never sent, and nothing says that it might have been;
    // unless the trail could not even be cut any more before the end.
    let ends: &[&str] = if for_ops == 1 {
        &["\"outcome\":\"failed\""]
    } else {
        &["\"outcome\":\"failed\"", "\"outcome\":\"in-doubt\""]
    };
    let intents = all.iter().filter(|line| line.contains("request.intent"));
    for line in intents {
        let id = field(line, "request_id");
        if !sent.contains(&id) {
            let ended: usize = ends.iter().map(|end| of(&id, end)).sum();
            assert_eq!(ended, 1, "{fault:?} at {at}: {id}");
        }
    }
}

#[tokio::test]
async fn each_single_operation_may_fail() {
    for at in 0..60 {
        drive(Fault::Fails, at, 1).await;
    }
}

#[tokio::test]
async fn each_single_write_may_tear() {
    for at in 0..60 {
        drive(Fault::Tears, at, 1).await;
    }
}

#[tokio::test]
async fn each_single_operation_may_stall() {
    for at in 0..40 {
        drive(Fault::Stalls, at, 1).await;
    }
}

#[tokio::test]
async fn operations_may_fail_in_a_row_while_it_recovers() {
    for (at, for_ops) in [(6, 2), (8, 3), (9, 5), (12, 7), (20, 4)] {
        drive(Fault::Fails, at, for_ops).await;
        drive(Fault::Tears, at, for_ops).await;
    }
}

/// A disk on which some writes fail, and nothing else does.
#[derive(Debug, Default, Clone)]
struct RefusesWrites(Arc<AtomicU64>);

impl Disk for RefusesWrites {
    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(1);
        match self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        {
            Ok(_) => Err(io::Error::from_raw_os_error(5)),
            Err(_) => System.append(file, bytes),
        }
    }
}

#[tokio::test]
async fn a_trail_that_could_not_be_sealed_says_so_when_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RefusesWrites::default();
    let opened = Trail::open_on(
        Box::new(disk.clone()),
        options(directory.path()),
        &mut |_| {},
    );
    let trail = opened.unwrap();
    disk.0.store(u64::MAX, Ordering::SeqCst);
    assert!(!trail.close());
}

#[tokio::test]
async fn what_is_said_of_a_recovery_is_of_the_segment_that_broke_first() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RefusesWrites::default();
    let opened = Trail::open_on(
        Box::new(disk.clone()),
        options(directory.path()),
        &mut |_| {},
    );
    let trail = opened.unwrap();
    let worker = trail.for_worker();
    let begun = worker.intent(intent(RequestId::next())).await.unwrap();
    worker.outcome(begun, deleted()).await;
    // The intent, and the first words of the segment after it.
    disk.0.store(2, Ordering::SeqCst);
    assert!(worker.intent(intent(RequestId::next())).await.is_err());
    let recovered = || {
        let lines = lines(directory.path());
        lines
            .into_iter()
            .find(|line| field(line, "event") == "trail.recovered")
    };
    while recovered().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let recovered = recovered().unwrap();
    let segment = |number| segment::name(number);
    assert_eq!(field(&recovered, "segment_before"), segment(1));
    assert_eq!(field(&recovered, "good_part"), "intact");
    assert_eq!(field(&recovered, "segment"), segment(2));
    trail.close();
}

/// A disk whose syncs all take their time.
#[derive(Debug)]
struct Slow;

impl Disk for Slow {
    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        thread::sleep(Duration::from_millis(40));
        System.sync(file)
    }

    fn beside(&self) -> Box<dyn Disk> {
        Box::new(Self)
    }
}

/// What is said of a slow disk is written to it: once said, it must not be said of that.
#[tokio::test]
async fn a_gateway_that_idles_on_a_slow_disk_says_once_that_it_is_slow() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.settings.intent_wait = Duration::from_millis(20);
    let trail = Trail::open_on(Box::new(Slow), options, &mut |_| {}).unwrap();
    let worker = trail.for_worker();
    assert!(worker.intent(intent(RequestId::next())).await.is_err());
    let recovered = || {
        let events = events(directory.path());
        let told = events.iter().filter(|event| *event == "trail.recovered");
        told.count()
    };
    wait_until(|| recovered() > 0);
    // A few looks, once a second: also what closes the intent is written slowly.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    let told = recovered();
    assert!(told <= 2, "{told}");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(recovered(), told);
    trail.close();
}

/// A disk that knows how much of what was written was also synced.
#[derive(Debug, Default, Clone)]
struct Counting {
    written: Arc<AtomicU64>,
    synced: Arc<AtomicU64>,
    directories: Arc<AtomicU64>,
    /// By another thread than the writer's.
    directories_beside: Arc<AtomicU64>,
}

impl Disk for Counting {
    fn beside(&self) -> Box<dyn Disk> {
        Box::new(Self {
            directories: Arc::clone(&self.directories_beside),
            ..Self::default()
        })
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.directories.fetch_add(1, Ordering::SeqCst);
        System.sync_directory(directory)
    }

    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        self.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        System.append(file, bytes)
    }

    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        let written = self.written.load(Ordering::SeqCst);
        System.sync(file)?;
        self.synced.store(written, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn strict_means_synced_before_anything_follows_and_relaxed_means_never() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        options.settings.durability = durability;
        let disk = Counting::default();
        let trail = Trail::open_on(Box::new(disk.clone()), options, &mut |_| {}).unwrap();
        let unsynced = || {
            let synced = disk.synced.load(Ordering::SeqCst);
            disk.written.load(Ordering::SeqCst) - synced
        };
        // A segment whose name is not durable is lost with the machine; with relaxed a
        // start does not wait for it.
        let (waited_for, beside) = match durability {
            Durability::Strict => (1, 0),
            Durability::Relaxed => (0, 1),
        };
        assert_eq!(disk.directories.load(Ordering::SeqCst), waited_for);
        let until = Instant::now() + Duration::from_secs(10);
        while disk.directories_beside.load(Ordering::SeqCst) < beside {
            assert!(Instant::now() < until, "no durable name");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let worker = trail.for_worker();
        for _ in 0..20 {
            let begun = worker.intent(intent(RequestId::next())).await.unwrap();
            let after_intent = unsynced();
            worker.outcome(begun, deleted()).await;
            let after_outcome = unsynced();
            match durability {
                Durability::Strict => assert_eq!((after_intent, after_outcome), (0, 0)),
                Durability::Relaxed => assert!(after_intent > 0 && after_outcome > after_intent),
            }
        }
        trail.close();
        assert_eq!(unsynced(), 0, "a sealed segment is synced");
        let opened = lines(directory.path()).remove(0);
        let expected = if durability == Durability::Strict {
            "strict"
        } else {
            "relaxed"
        };
        assert_eq!(field(&opened, "durability"), expected);
    }
}

/// Callers wait for the writer: what need not be durable at once must not hold it up.
#[tokio::test]
async fn where_one_segment_follows_another_only_what_must_be_durable_is_waited_for() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = small(directory.path());
        options.settings.durability = durability;
        let disk = Counting::default();
        let trail = Trail::open_on(Box::new(disk.clone()), options, &mut |_| {}).unwrap();
        let at_start = disk.synced.load(Ordering::SeqCst);
        // So that the last of them is not what fills a segment.
        calls(&trail, 28).await;
        let segments = segment::list(directory.path()).unwrap().len() as u64;
        assert!(segments > 2, "{segments}");
        let names_synced = disk.directories.load(Ordering::SeqCst);
        let synced = disk.synced.load(Ordering::SeqCst);
        match durability {
            // Else its records would be lost with its name.
            Durability::Strict => assert_eq!(names_synced, segments),
            Durability::Relaxed => assert_eq!((names_synced, synced), (0, at_start)),
        }
        trail.close();
    }
}

/// A worker under a flood never sleeps: its records must not wait for the
/// writer's own look, once a second.
#[tokio::test]
async fn the_records_of_a_worker_that_is_never_done_are_written_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker().flushed_by(trail.flusher());
    let busy = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let all = async {
        for _ in 0..10 {
            let open = worker.intent(intent(RequestId::next())).await.unwrap();
            let recorded = worker.outcome(open, deleted()).await;
            assert_eq!(recorded, OutcomeWritten::Durable);
        }
    };
    // Twenty records, a second each, would take longer.
    let ended = tokio::time::timeout(Duration::from_secs(12), all).await;
    busy.abort();
    ended.unwrap();
}

#[tokio::test]
async fn a_failure_takes_nothing_away_behind_a_record_that_somebody_changed() {
    let directory = tempfile::tempdir().unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let at = 1_000_000;
    let disk = Faulty {
        fault: Fault::Fails,
        at,
        for_ops: 1,
        done: Arc::clone(&done),
    };
    let trail = Trail::open_on(Box::new(disk), options(directory.path()), &mut |_| {}).unwrap();
    let worker = trail.for_worker();
    for _ in 0..4 {
        let begun = worker.intent(intent(RequestId::next())).await.unwrap();
        assert_eq!(
            worker.outcome(begun, deleted()).await,
            OutcomeWritten::Durable
        );
    }
    let segment = directory.path().join("0000000001.jsonl");
    let good = fs::read_to_string(&segment).unwrap();
    let bad = good.replacen("request.intent", "request.intenT", 1);
    // In place, as a disk would do it.
    let mut file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::io::Write::write_all(&mut file, bad.as_bytes()).unwrap();
    done.store(at, Ordering::SeqCst);
    assert!(worker.intent(intent(RequestId::next())).await.is_err());
    tokio::task::spawn_blocking(move || trail.close())
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(&segment).unwrap(), bad);
    assert!(!verify(directory.path()).unwrap().is_intact());
}

#[tokio::test]
async fn a_directory_that_cannot_be_synced_gathers_no_empty_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Faulty {
        fault: Fault::Fails,
        at: 1,
        for_ops: 1,
        done: Arc::default(),
    };
    assert!(Segment::create(&mut disk, directory.path(), 1).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
