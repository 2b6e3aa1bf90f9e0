//! Workers that write themselves, with `relaxed`.

use std::sync::{
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use super::{hanging::Hanging, *};
use crate::{audit::disk::Disk, server::driver};

const LONG: Duration = Duration::from_secs(30);

fn relaxed(directory: &Path) -> Options {
    let mut options = options(directory);
    options.settings.durability = Durability::Relaxed;
    options
}

/// A disk whose writes can hang, and a trail on it for which nobody waits long.
fn on_hanging_disk(directory: &Path) -> (Hanging, Trail) {
    let disk = Hanging::in_writes();
    let mut options = relaxed(directory);
    options.settings.intent_wait = Duration::from_millis(200);
    options.settings.outcome_wait = Duration::from_millis(200);
    let trail = Trail::open_on(Box::new(disk.clone()), options, &mut |_| {}).unwrap();
    (disk, trail)
}

/// Runs `calls` on a worker of its own.
fn on_worker<T, F>(trail: &Trail, calls: impl FnOnce(WorkerTrail) -> F + Send + 'static) -> T
where
    T: std::fmt::Debug + Send + 'static,
    F: Future<Output = T> + Send,
{
    let (trail, flusher) = (trail.clone(), trail.flusher());
    let main = Arc::clone(&flusher);
    let ended = driver::run("worker", flusher, async move {
        calls(trail.for_worker().flushed_by(main)).await
    });
    ended.unwrap()
}

async fn call(worker: &WorkerTrail) -> Result<OutcomeWritten, Unavailable> {
    let begun = worker.intent(intent(RequestId::next())).await?;
    Ok(worker.outcome(begun, deleted()).await)
}

/// Tells the names of the threads that write.
#[derive(Debug)]
struct Telling(mpsc::Sender<String>);

impl Disk for Telling {
    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        let name = thread::current().name().map(str::to_owned);
        self.0.send(name.unwrap()).unwrap();
        System.append(file, bytes)
    }

    fn beside(&self) -> Box<dyn Disk> {
        Box::new(System)
    }
}

#[test]
fn with_relaxed_a_worker_writes_its_calls_itself_and_with_strict_it_does_not() {
    for durability in [Durability::Relaxed, Durability::Strict] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        options.settings.durability = durability;
        let (tell, told) = mpsc::channel();
        let trail = Trail::open_on(Box::new(Telling(tell)), options, &mut |_| {}).unwrap();
        let at_start = told.try_iter().count();
        assert!(at_start > 0);
        let trail_of_worker = trail.clone();
        on_worker(&trail, async move |worker| {
            for _ in 0..10 {
                assert_eq!(call(&worker).await, Ok(OutcomeWritten::Durable));
            }
            assert_eq!(trail_of_worker.status().head.seq, 1 + 20);
        });
        // Once a second its own thread has the writer, whoever else would.
        let by_worker = told.try_iter().filter(|by| by != "trail").count();
        match durability {
            Durability::Relaxed => assert!(by_worker > 10, "{by_worker}"),
            Durability::Strict => assert_eq!(by_worker, 0),
        }
        trail.close();
        assert!(verify(directory.path()).unwrap().is_intact());
    }
}

#[test]
fn a_worker_that_hangs_with_the_disk_is_relieved_and_its_calls_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, trail) = on_hanging_disk(directory.path());
    // A worker that nobody relieves would hang for ever.
    let (ended, ends) = mpsc::channel::<()>();
    let mends = disk.clone();
    let mending = thread::spawn(move || {
        let _ = ends.recv_timeout(LONG);
        mends.hang(false);
    });
    let threads = on_worker(&trail, async move |worker| {
        let mut threads = Vec::new();
        // Either thread is relieved by the other.
        for _ in 0..3 {
            let begun = worker.intent(intent(RequestId::next())).await.unwrap();
            threads.push(thread::current().id());
            disk.hang(true);
            let recorded = worker.outcome(begun, deleted()).await;
            assert_eq!(recorded, OutcomeWritten::Pending);
            // Time-outs pass, calls are refused, and once that is known at once.
            assert_eq!(call(&worker).await, Err(Unavailable));
            disk.hang(false);
            while call(&worker).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        threads
    });
    let _ = ended.send(());
    mending.join().unwrap();
    assert_eq!(threads[0], thread::current().id());
    assert_ne!(threads[1], threads[0]);
    assert_eq!(threads[2], threads[0]);
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    let deleted = lines(directory.path());
    let deleted = deleted.iter().filter(|line| line.contains("\"deleted\""));
    assert_eq!(
        deleted.count(),
        6,
        "an outcome is lost, or stands there twice"
    );
}

/// A disk that panics in a write, as a bug of ours would.
#[derive(Debug)]
struct Panics(Arc<AtomicBool>);

impl Disk for Panics {
    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.0.load(Ordering::SeqCst), "a bug in the writer");
        System.append(file, bytes)
    }

    fn beside(&self) -> Box<dyn Disk> {
        Box::new(System)
    }
}

#[test]
fn a_bug_in_the_writer_lets_the_worker_refuse_calls() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = relaxed(directory.path());
    options.settings.intent_wait = Duration::from_millis(200);
    let panics = Arc::new(AtomicBool::new(false));
    let disk = Box::new(Panics(Arc::clone(&panics)));
    let trail = Trail::open_on(disk, options, &mut |_| {}).unwrap();
    on_worker(&trail, async move |worker| {
        assert_eq!(call(&worker).await, Ok(OutcomeWritten::Durable));
        panics.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(call(&worker).await, Err(Unavailable));
        }
        assert!(!worker.is_writable());
    });
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(trail.close()));
    let is_sealed = told.recv_timeout(LONG).unwrap();
    assert!(!is_sealed);
}

/// Does something when it is dropped.
struct AtTheEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtTheEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_worker_that_ends_while_the_disk_hangs_cuts_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, trail) = on_hanging_disk(directory.path());
    let (tell, told) = mpsc::channel();
    let hangs = disk.clone();
    let worker = thread::spawn(move || {
        on_worker(&trail, async move |worker| {
            let connection = AtTheEnd(move || tell.send(()).unwrap_or_default());
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(connection);
            });
            let begun = worker.intent(intent(RequestId::next())).await.unwrap();
            hangs.hang(true);
            let recorded = worker.outcome(begun, deleted()).await;
            assert_eq!(recorded, OutcomeWritten::Pending);
        });
    });
    let cut = told.recv_timeout(LONG);
    disk.hang(false);
    worker.join().unwrap();
    cut.unwrap();
}

/// Else the trail would be sealed with an intent of which nobody knows what came.
#[test]
fn an_intent_whose_answer_its_worker_does_not_live_to_read_is_closed_as_never_sent() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Hanging::default();
    let trail = Trail::open_on(
        Box::new(disk.clone()),
        options(directory.path()),
        &mut |_| {},
    );
    let trail = trail.unwrap();
    let of_worker = trail.clone();
    on_worker(&trail, async move |worker| {
        let hangs = disk.clone();
        // Cut before the call is: it is answered while nobody hands answers out any more.
        let before = AtTheEnd(move || {
            hangs.hang(false);
            wait_until(|| of_worker.status().head.seq == 2);
            thread::sleep(Duration::from_millis(50));
        });
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(before);
        });
        disk.hang(true);
        tokio::spawn(async move { worker.intent(intent(RequestId::next())).await });
        // What is handed over goes with the rest of the round.
        tokio::time::sleep(Duration::from_millis(50)).await;
        disk.wait_until_held();
    });
    assert!(trail.close());
    assert_closed_as_never_sent(directory.path());
}

#[track_caller]
fn assert_closed_as_never_sent(directory: &Path) {
    let report = verify(directory).unwrap();
    assert_eq!(
        (report.intents, report.outcomes.failed, report.open),
        (1, 1, 0),
        "{report}"
    );
}

#[tokio::test]
async fn an_intent_that_nobody_takes_once_it_is_durable_is_closed_as_never_sent() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    let mut written = Box::pin(worker.intent(intent(RequestId::next())));
    tokio::select! {
        biased;
        _ = &mut written => panic!("the disk was not asked yet"),
        () = std::future::ready(()) => {}
    }
    while trail.status().head.seq < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Meanwhile its number is told.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(written);
    assert!(trail.close());
    assert_closed_as_never_sent(directory.path());
}

#[test]
fn workers_that_write_at_the_same_time_lose_nothing_and_fill_one_segment_after_another() {
    const WORKERS: usize = 3;
    const CALLERS: usize = 40;
    const CALLS: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let mut options = relaxed(directory.path());
    options.settings.segment_size = 64 << 10;
    options.settings.checkpoint.records = 500;
    let trail = open(options).unwrap();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                on_worker(&trail, async move |worker| {
                    let calls = (0..CALLERS).map(|_| {
                        let worker = worker.clone();
                        tokio::spawn(async move {
                            for _ in 0..CALLS {
                                assert_eq!(call(&worker).await, Ok(OutcomeWritten::Durable));
                            }
                        })
                    });
                    for caller in calls.collect::<Vec<_>>() {
                        caller.await.unwrap();
                    }
                });
            });
        }
    });
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    let lines = lines(directory.path());
    let of = |event: &str| {
        let event = format!("\"event\":\"{event}\"");
        lines.iter().filter(|line| line.contains(&event)).count()
    };
    let calls = WORKERS * CALLERS * CALLS;
    assert_eq!(
        (of("request.intent"), of("request.outcome")),
        (calls, calls)
    );
    assert!(of("checkpoint") > 5, "{}", of("checkpoint"));
    assert!(segment::list(directory.path()).unwrap().len() > 10);
}

/// Else the trail would be closed before calls that are cut have their outcomes.
#[test]
fn a_worker_that_was_relieved_ends_when_what_is_left_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, trail) = on_hanging_disk(directory.path());
    let is_cut = Arc::new(AtomicBool::new(false));
    let has_cut = Arc::clone(&is_cut);
    // Many of them take their time.
    let connection = AtTheEnd(move || {
        thread::sleep(Duration::from_millis(300));
        has_cut.store(true, Ordering::SeqCst);
    });
    on_worker(&trail, async move |worker| {
        let begun = worker.intent(intent(RequestId::next())).await.unwrap();
        disk.hang(true);
        let recorded = worker.outcome(begun, deleted()).await;
        assert_eq!(recorded, OutcomeWritten::Pending);
        disk.hang(false);
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(connection);
        });
    });
    assert!(is_cut.load(Ordering::SeqCst));
    trail.close();
}
