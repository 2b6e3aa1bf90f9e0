//! Retention: what is removed, what stays, and what the rest shows of it.

use std::time::Instant;

use super::*;
use crate::audit::{
    Replayed,
    chain::Hasher,
    disk::{Disk, System},
    retention::removable,
};

/// As a crash leaves one that was made and has no record yet.
#[tokio::test]
async fn an_empty_segment_does_not_end_retention() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 20).await;
    trail.close();
    let empty = segment::list(directory.path()).unwrap().len() as u64 + 1;
    fs::File::create(directory.path().join(segment::name(empty))).unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 20).await;
    trail.close();
    assert!(verify(directory.path()).unwrap().is_intact());
    let all = segment::list(directory.path()).unwrap();
    let hasher = Hasher::new(None);
    let old = removable(
        directory.path(),
        &hasher,
        jiff::Timestamp::now(),
        u64::MAX,
        Some(1),
    )
    .unwrap();
    let names: Vec<_> = old.iter().map(|removal| removal.name.clone()).collect();
    // All but the empty one, and the last.
    let mut expected: Vec<_> = all
        .iter()
        .map(|(number, _)| segment::name(*number))
        .collect();
    expected.pop();
    expected.retain(|name| *name != segment::name(empty));
    assert_eq!(names, expected);
}

/// The clock fell back, and the gateway ended then.
#[tokio::test]
async fn a_segment_whose_last_record_alone_looks_old_is_not_removable() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    calls(&trail, 2).await;
    trail.close();
    let segment = directory.path().join(segment::name(1));
    let text = fs::read_to_string(&segment).unwrap();
    let last = text.lines().last().unwrap();
    let (content, _) = last.rsplit_once(",\"hash\":").unwrap();
    let content = content.replace(&field(last, "time"), "1970-01-01T00:00:09.000000Z");
    let hash = Hasher::new(None).hash(content.as_bytes());
    let changed = format!("{content},\"hash\":\"{}\"}}", hash.as_str());
    fs::write(&segment, text.replace(last, &changed)).unwrap();
    open(options(directory.path())).unwrap().close();
    assert!(verify(directory.path()).unwrap().is_intact());
    let removable = |is_old_before: jiff::Timestamp| {
        let hasher = Hasher::new(None);
        removable(directory.path(), &hasher, is_old_before, u64::MAX, Some(1))
            .unwrap()
            .len()
    };
    let now = jiff::Timestamp::now();
    assert_eq!(removable(now - Duration::from_secs(86_400)), 0);
    assert_eq!(removable(now), 1);
}

/// A crash left it empty, and retention removed all that was before it.
#[tokio::test]
async fn an_empty_segment_in_front_does_not_end_retention_if_nothing_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 20).await;
    trail.close();
    let first = segment::list(directory.path()).unwrap().remove(0).1;
    let lines_of_it = fs::read_to_string(&first).unwrap().lines().count() as u64;
    fs::File::create(&first).unwrap();
    let removable = |oldest: u64| {
        let hasher = Hasher::new(None);
        let now = jiff::Timestamp::now();
        let found = removable(directory.path(), &hasher, now, u64::MAX, Some(oldest));
        found.unwrap().len()
    };
    assert_eq!(removable(1), 0, "what was in it is missing");
    assert!(removable(lines_of_it + 1) > 1);
}

#[tokio::test]
async fn an_oldest_segment_that_somebody_emptied_ends_retention() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 20).await;
    trail.close();
    let removable = || {
        let hasher = Hasher::new(None);
        let found = removable(
            directory.path(),
            &hasher,
            jiff::Timestamp::now(),
            u64::MAX,
            Some(1),
        );
        found.unwrap().len()
    };
    assert!(removable() > 2);
    fs::File::create(directory.path().join(segment::name(1))).unwrap();
    assert_eq!(removable(), 0);
}

#[tokio::test]
async fn retention_removes_what_is_old_and_the_rest_still_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 60).await;
    trail.close();
    drop(trail);
    let before = segments(directory.path());
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_secs(1));
    std::thread::sleep(Duration::from_millis(1100));
    let trail = open(options).unwrap();
    wait_until(|| segments(directory.path()).len() == 1);
    calls(&trail, 3).await;
    trail.close();
    assert!(!segments(directory.path()).contains(&before[0]));
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    let mut all_pruned = lines(directory.path());
    all_pruned.retain(|line| line.contains("trail.pruned"));
    assert_eq!(all_pruned.len(), before.len(), "one for each segment");
    let pruned = all_pruned.pop().unwrap();
    assert_eq!(field(&pruned, "from_segment"), before[0]);
    assert_eq!(&field(&pruned, "until_segment"), before.last().unwrap());
    // The next start goes on behind it.
    open(small(directory.path())).unwrap().close();
    assert!(verify(directory.path()).unwrap().is_intact());
}

#[tokio::test]
async fn that_retention_removed_a_noted_head_counts_only_from_a_record_with_the_key() {
    let key = MacKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    for mac_key in [None, Some(key)] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options {
            mac_key: mac_key.clone(),
            ..small(directory.path())
        };
        let trail = open(options.clone()).unwrap();
        calls(&trail, 20).await;
        trail.close();
        drop(trail);
        let known = Known {
            mac_key: mac_key.clone(),
            ..Known::default()
        };
        let verify = |known: &Known| super::super::verify(directory.path(), known, |_| {}).unwrap();
        let expecting = |head: Head| Known {
            head: Some(head),
            ..known.clone()
        };
        let head = verify(&known).head;
        options.settings.retention = Some(Duration::ZERO);
        let trail = open(options).unwrap();
        wait_until(|| segments(directory.path()).len() == 1);
        trail.close();
        assert!(verify(&known).is_intact());
        let report = verify(&expecting(head));
        if mac_key.is_some() {
            assert!(report.is_intact(), "{report}");
            let by = report.expected_removed_by.unwrap();
            let names_it = format!("trail.pruned (seq {by}) names it");
            assert!(report.to_string().contains(&names_it), "{report}");
        } else {
            let wrong = report.wrong.unwrap();
            assert_eq!(wrong.fault, Fault::OnlyNamed(head.seq), "{wrong}");
        }
        // Another one under its number was never there.
        let other = Head {
            seq: head.seq,
            hash: Hasher::new(None).hash(b"other"),
        };
        let wrong = verify(&expecting(other)).wrong.unwrap();
        assert!(wrong.to_string().contains(head.hash.as_str()), "{wrong}");
    }
}

/// All records dated so much earlier, and chained anew: as if the clock were ahead by that.
fn date_back(directory: &Path, by: jiff::SignedDuration) {
    let mut before = Hash::first();
    for name in segments(directory) {
        let path = directory.join(name);
        let mut text = String::new();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let time = field(line, "time");
            let earlier = time.parse::<jiff::Timestamp>().unwrap() - by;
            let (content, _) = line.split_once(",\"prev\":").unwrap();
            let content = content.replacen(&time, &format!("{earlier:.6}"), 1);
            let content = format!("{content},\"prev\":\"{}\"", before.as_str());
            before = Hasher::new(None).hash(content.as_bytes());
            text += &format!("{content},\"hash\":\"{}\"}}\n", before.as_str());
        }
        fs::write(path, text).unwrap();
    }
}

/// The wall clock is ahead for some seconds at a start, and the next one may come meanwhile.
#[tokio::test]
async fn a_clock_that_is_ahead_at_a_start_removes_nothing_of_what_it_makes_look_old() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 30).await;
    trail.close();
    let day = jiff::SignedDuration::from_hours(24);
    date_back(directory.path(), day * 400);
    assert!(verify(directory.path()).unwrap().is_intact());
    let before = segments(directory.path());
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_secs(365 * 86_400));
    for _ in 0..2 {
        let trail = open(options.clone()).unwrap();
        // Its writer comes round many times.
        calls(&trail, 30).await;
        trail.close();
        let now = segments(directory.path());
        assert_eq!(now.get(..before.len()), Some(&*before));
        assert!(!events(directory.path()).contains(&"trail.pruned".to_owned()));
    }
    let lines = lines(directory.path());
    let mut opened = lines
        .iter()
        .rev()
        .filter(|line| line.contains("trail.opened"));
    let rests: u64 = field(opened.next().unwrap(), "retention_rests_ms")
        .parse()
        .unwrap();
    assert!((80_000_000..=86_400_000).contains(&rests), "{rests}");
}

/// Their records are all there is to count a limit from at the next start.
#[tokio::test]
async fn retention_keeps_what_limits_are_counted_from() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_millis(1));
    options.usage = Duration::from_secs(3600);
    let trail = open(options.clone()).unwrap();
    calls(&trail, 60).await;
    trail.close();
    let mut counted = 0;
    let trail = Trail::open(options, &mut |heard| {
        counted += u32::from(matches!(heard, Replayed::Intent { .. }));
    });
    trail.unwrap().close();
    assert_eq!(counted, 60);
}

/// A disk on which nothing can be removed but what `lets_go` names.
#[derive(Debug, Clone)]
struct Stubborn {
    lets_go: String,
}

impl Disk for Stubborn {
    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        if path.ends_with(&self.lets_go) {
            return System.unlink(path);
        }
        Err(io::Error::from_raw_os_error(1))
    }

    fn beside(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }
}

/// A trail of some old segments that retention said it removes, and did not
/// get beyond what `lets_go` names.
async fn half_pruned(directory: &Path, lets_go: &str) -> Vec<String> {
    let trail = open(small(directory)).unwrap();
    calls(&trail, 60).await;
    trail.close();
    drop(trail);
    let before = segments(directory);
    std::thread::sleep(Duration::from_millis(1100));
    let mut options = small(directory);
    options.settings.retention = Some(Duration::from_secs(1));
    let disk = Stubborn {
        lets_go: lets_go.to_owned(),
    };
    let trail = Trail::open_on(Box::new(disk), options, &mut |_| {}).unwrap();
    wait_until(|| events(directory).contains(&"trail.pruned".to_owned()));
    calls(&trail, 1).await;
    assert!(trail.status().writable.is_ok(), "it is no reason to stop");
    trail.close();
    before
}

#[tokio::test]
async fn a_removal_that_ends_half_way_leaves_a_trail_that_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let before = half_pruned(directory.path(), "0000000001.jsonl").await;
    assert_eq!(segments(directory.path())[0], before[1]);
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}

#[tokio::test]
async fn what_retention_removes_while_it_is_read_is_no_gap() {
    let directory = tempfile::tempdir().unwrap();
    let before = half_pruned(directory.path(), "none").await;
    let report = verify_while_removing(directory.path(), &before[1..4]);
    assert!(report.is_intact(), "{report}");
}

#[tokio::test]
async fn what_somebody_else_removes_while_it_is_read_is_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 60).await;
    trail.close();
    let names = segments(directory.path());
    let report = verify_while_removing(directory.path(), &names[1..3]);
    let wrong = report.wrong.unwrap();
    assert_eq!((wrong.file.as_str(), wrong.line), (names[3].as_str(), 1));
    assert!(matches!(wrong.fault, Fault::Beginning(_)), "{wrong}");
}

/// Removes segments once the first record was read.
fn verify_while_removing(directory: &Path, names: &[String]) -> Report {
    let mut names = names.iter();
    super::super::verify(directory, &Known::default(), |_| {
        for name in names.by_ref() {
            fs::remove_file(directory.join(name)).unwrap();
        }
    })
    .unwrap()
}

#[tokio::test]
async fn segments_taken_away_by_somebody_else_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 60).await;
    trail.close();
    let names = segments(directory.path());
    let first = fs::read(directory.path().join(&names[0])).unwrap();
    fs::remove_file(directory.path().join(&names[0])).unwrap();
    let wrong = verify(directory.path()).unwrap().wrong.unwrap();
    assert_eq!((wrong.file.as_str(), wrong.line), (names[1].as_str(), 1));
    assert!(matches!(wrong.fault, Fault::Beginning(_)), "{wrong}");
    fs::write(directory.path().join(&names[0]), first).unwrap();
    fs::remove_file(directory.path().join(&names[2])).unwrap();
    let wrong = verify(directory.path()).unwrap().wrong.unwrap();
    assert_eq!((wrong.file.as_str(), wrong.line), (names[3].as_str(), 1));
}

#[tokio::test]
async fn what_does_not_verify_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 60).await;
    trail.close();
    drop(trail);
    let names = segments(directory.path());
    let path = directory.path().join(&names[1]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("billing", "selling", 1)).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_secs(1));
    let trail = open(options).unwrap();
    wait_until(|| !directory.path().join(&names[0]).exists());
    std::thread::sleep(Duration::from_millis(1500));
    trail.close();
    assert_eq!(segments(directory.path())[0], names[1]);
}

/// A disk that takes its time for changes of the directory, and notes what is done to it.
#[derive(Debug, Clone, Default)]
struct Noting {
    each_takes: Duration,
    done: Arc<Mutex<Vec<Done>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Said,
    Synced,
    Removed,
    DirectorySynced,
}

impl Noting {
    fn note(&self, done: Done) {
        self.done.lock().unwrap().push(done);
    }

    /// All that was done from the first word of a removal on.
    fn since_said(&self) -> Vec<Done> {
        let done = self.done.lock().unwrap();
        let since = done.iter().skip_while(|done| **done != Done::Said);
        since.copied().collect()
    }
}

impl Disk for Noting {
    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        if String::from_utf8_lossy(bytes).contains("trail.pruned") {
            self.note(Done::Said);
        }
        System.append(file, bytes)
    }

    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        self.note(Done::Synced);
        System.sync(file)
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        thread::sleep(self.each_takes);
        self.note(Done::Removed);
        System.unlink(path)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        thread::sleep(self.each_takes);
        self.note(Done::DirectorySynced);
        System.sync_directory(directory)
    }

    fn beside(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }
}

/// A trail of old segments, which it removes from now on. Their names.
async fn removing(directory: &Path, disk: &Noting, durability: Durability) -> (Trail, Vec<String>) {
    let trail = open(small(directory)).unwrap();
    calls(&trail, 200).await;
    trail.close();
    drop(trail);
    let old = segments(directory);
    assert!(old.len() > 20, "{old:?}");
    thread::sleep(Duration::from_millis(1100));
    let mut options = small(directory);
    options.settings.retention = Some(Duration::from_secs(1));
    options.settings.durability = durability;
    options.settings.intent_wait = Duration::from_millis(300);
    options.settings.outcome_wait = Duration::from_millis(300);
    let trail = Trail::open_on(Box::new(disk.clone()), options, &mut |_| {}).unwrap();
    (trail, old)
}

#[tokio::test]
async fn calls_go_on_while_many_segments_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Noting {
        each_takes: Duration::from_millis(30),
        ..Noting::default()
    };
    let (trail, old) = removing(directory.path(), &disk, Durability::Strict).await;
    let worker = trail.for_worker();
    let last = directory.path().join(old.last().unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    while last.exists() {
        assert!(Instant::now() < end, "they never go");
        let begun = worker.intent(intent(RequestId::next())).await.unwrap();
        let recorded = worker.outcome(begun, deleted()).await;
        assert_eq!(recorded, OutcomeWritten::Durable);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}

/// A crash between the two would leave a trail whose beginning is missing.
#[tokio::test]
async fn what_accounts_for_a_removal_is_durable_before_it() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Noting::default();
        let (trail, old) = removing(directory.path(), &disk, durability).await;
        wait_until(|| segments(directory.path()).len() == 1);
        trail.close();
        let done = disk.since_said();
        let first = |what| done.iter().position(|done| *done == what).unwrap();
        assert!(first(Done::Synced) < first(Done::Removed), "{done:?}");
        let removed = done.iter().filter(|done| **done == Done::Removed);
        assert_eq!(removed.count(), old.len());
        // One sync of the directory is enough for all of them.
        let last = done.iter().rposition(|done| *done == Done::Removed);
        let (before, after) = done.split_at(last.unwrap());
        assert!(after.contains(&Done::DirectorySynced), "{done:?}");
        let while_removing = before.iter().skip(first(Done::Removed));
        let syncs = while_removing.filter(|done| **done == Done::DirectorySynced);
        assert_eq!(syncs.count(), 0, "{done:?}");
    }
}

/// Thousands of them must not hold up the end; and what is left is accounted for.
#[tokio::test]
async fn a_stop_leaves_the_segments_that_are_not_removed_yet() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Noting {
        each_takes: Duration::from_millis(100),
        ..Noting::default()
    };
    let (trail, old) = removing(directory.path(), &disk, Durability::Strict).await;
    wait_until(|| !directory.path().join(&old[0]).exists());
    let began = Instant::now();
    assert!(trail.close());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(segments(directory.path()).contains(&old[15]));
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    drop(trail);
    // The next run goes on with it.
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_secs(1));
    let trail = open(options).unwrap();
    wait_until(|| !directory.path().join(&old[15]).exists());
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}
