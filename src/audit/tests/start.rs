//! What a start finds of an earlier run, and brings in order.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::audit::{
    FrozenRecord, Replayed,
    disk::{Disk, System},
};

/// A disk that remembers which files were synced.
#[derive(Debug, Default, Clone)]
struct Remembering(Arc<Mutex<Vec<u64>>>);

impl Disk for Remembering {
    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        self.0.lock().unwrap().push(file.metadata()?.ino());
        System.sync(file)
    }
}

/// What a killed run wrote may be in memory only: with it the machine would lose what
/// the records that follow are chained to.
#[tokio::test]
async fn what_an_earlier_run_left_is_synced_before_anything_is_chained_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 20).await;
    trail.close();
    let disk = Remembering::default();
    let segments = segment::list(directory.path()).unwrap();
    let opened = Trail::open_on(Box::new(disk.clone()), small(directory.path()), &mut |_| {});
    let synced = disk.0.lock().unwrap().clone();
    opened.unwrap().close();
    let last_two = segments.iter().rev().take(2);
    let expected: Vec<_> = last_two
        .map(|(_, path)| fs::metadata(path).unwrap().ino())
        .collect();
    assert_eq!(synced.get(..2), Some(&*expected));
}

/// What is forged is told, and the next run counts on from the record before it.
async fn assert_goes_on_behind(before: u64, directory: &Path) {
    assert!(!verify(directory).unwrap().is_intact());
    written(directory).await;
    let lines = lines(directory);
    let opened = lines
        .iter()
        .rev()
        .find(|line| line.contains("trail.opened"));
    assert_eq!(field(opened.unwrap(), "seq"), (before + 1).to_string());
}

/// Counted on from there, numbers would begin anew, or mean something else to who waits.
#[tokio::test]
async fn a_forged_last_number_is_told_and_not_counted_on_from() {
    for forged in [u64::MAX, u64::MAX - 1, u64::MAX - 3] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).await;
        let before = verify(directory.path()).unwrap().head.seq;
        let (_, segment) = segment::list(directory.path()).unwrap().pop().unwrap();
        let mut text = fs::read_to_string(&segment).unwrap();
        let last = text.lines().last().unwrap();
        let (seq, number) = (format!("\"seq\":{before}"), format!("\"seq\":{forged}"));
        assert!(last.contains(&seq), "{last}");
        text.push_str(&last.replace(&seq, &number));
        text.push('\n');
        fs::write(&segment, text).unwrap();
        assert_goes_on_behind(before, directory.path()).await;
    }
}

/// It begins its segment, so that nothing stands before it there.
#[tokio::test]
async fn a_segment_that_begins_with_a_forged_number_is_told_and_not_counted_on_from() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let before = verify(directory.path()).unwrap().head.seq;
    let first = lines(directory.path()).remove(0);
    let forged = first.replace("\"seq\":1,", &format!("\"seq\":{},", u64::MAX));
    assert_ne!(forged, first);
    let segment = directory.path().join(segment::name(2));
    fs::write(&segment, forged + "\n").unwrap();
    assert_goes_on_behind(before, directory.path()).await;
}

/// A run that was killed while it settled one segment leaves room behind two.
#[tokio::test]
async fn room_that_a_killed_run_left_behind_its_segments_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 20).await;
    trail.close();
    let segments = segment::list(directory.path()).unwrap();
    let last_two = || segments.iter().rev().take(2).map(|(_, path)| path);
    for path in last_two() {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        System.allocate(&file, len, 2 << 20).unwrap();
    }
    let room = |path| fs::metadata(path).unwrap().blocks() * 512;
    assert!(last_two().all(|path| room(path) > 2 << 20));
    open(small(directory.path())).unwrap().close();
    assert!(last_two().all(|path| room(path) < 64 << 10));
    assert!(verify(directory.path()).unwrap().is_intact());
}

#[tokio::test]
async fn a_restart_goes_on_with_the_chain_in_a_new_segment() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    written(directory.path()).await;
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    assert_eq!(
        (
            report.segments,
            report.records,
            report.intents,
            report.refusals
        ),
        (2, 10, 2, 2)
    );
    assert_eq!(report.head.seq, 10);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_and_its_open_calls_are_closed_in_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    let id = RequestId::next();
    let begun = worker.intent(intent(id)).await.unwrap();
    std::mem::forget(begun);
    let segment = directory.path().join("0000000001.jsonl");
    let at_crash = fs::read(&segment).unwrap();
    drop(worker);
    trail.close();
    drop(trail);
    // What a kill in the middle of a write leaves.
    fs::write(&segment, [&at_crash[..], br#"{"v":1,"seq":3,"ti"#].concat()).unwrap();
    let torn = verify(directory.path()).unwrap();
    assert!(
        torn.is_intact() && torn.torn_bytes == 18 && torn.open == 1,
        "{torn}"
    );

    open(options(directory.path())).unwrap().close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact() && report.torn_bytes == 0, "{report}");
    assert_eq!((report.outcomes.in_doubt, report.open), (1, 0));
    let lines = lines(directory.path());
    let outcome = lines
        .iter()
        .find(|line| line.contains("request.outcome"))
        .unwrap();
    assert_eq!(field(outcome, "request_id"), id.to_string());
    assert_eq!(field(outcome, "intent"), "2");
    assert_eq!(field(outcome, "since"), field(&lines[1], "time"));
    assert!(
        lines
            .iter()
            .any(|line| line.contains(r#""event":"trail.recovered","torn_bytes":18"#))
    );
}

#[tokio::test]
async fn a_call_left_open_some_segments_ago_is_closed_in_doubt_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    let worker = trail.for_worker();
    let id = RequestId::next();
    std::mem::forget(worker.intent(intent(id)).await.unwrap());
    calls(&trail, 60).await;
    trail.close();
    drop((worker, trail));
    assert!(segment::list(directory.path()).unwrap().len() > 5);
    open(small(directory.path())).unwrap().close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    assert_eq!((report.outcomes.in_doubt, report.open), (1, 0), "{report}");
}

/// Cut, it would be evidence that is gone, and a trail that verifies.
#[tokio::test]
async fn what_no_crash_leaves_at_the_end_is_kept_and_told_for_good() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let segment = directory.path().join(segment::name(1));
    let good = fs::read_to_string(&segment).unwrap();
    let one_line = good.replace('\n', "");
    // Of the number that comes next, and as a whole record that was never hashed so.
    let before = verify(directory.path()).unwrap().head.seq;
    let last = good.lines().last().unwrap();
    let (this, next) = (
        format!("\"seq\":{before}"),
        format!("\"seq\":{}", before + 1),
    );
    let forged = good.clone() + &last.replace(&this, &next);
    for bad in [one_line, forged, good.clone() + "rubbish"] {
        let directory = tempfile::tempdir().unwrap();
        let segment = directory.path().join(segment::name(1));
        fs::write(&segment, &bad).unwrap();
        for _ in 0..2 {
            open(options(directory.path())).unwrap().close();
            assert_eq!(fs::read_to_string(&segment).unwrap(), bad);
            let wrong = verify(directory.path()).unwrap().wrong.unwrap();
            assert_eq!(wrong.file, segment::name(1), "{wrong}");
        }
        assert!(
            lines(directory.path())
                .iter()
                .any(|line| line.contains("\"trail.recovered\",\"wrong\":"))
        );
    }
}

/// A crash comes between any two bytes, also before a line's last one.
#[tokio::test]
async fn a_last_record_that_lacks_only_its_lines_end_stands() {
    for behind in ["", "\0\0\0"] {
        let directory = tempfile::tempdir().unwrap();
        let trail = open(options(directory.path())).unwrap();
        std::mem::forget(
            trail
                .for_worker()
                .intent(intent(RequestId::next()))
                .await
                .unwrap(),
        );
        let frozen = FrozenRecord {
            id: "0199",
            tenant: Some("billing"),
            by: "freeze_after",
            on_behalf_of: None,
            reason: "its budget is spent",
            since: None,
        };
        trail.frozen(&frozen).durable().await.unwrap();
        let segment = directory.path().join(segment::name(1));
        let at_crash = fs::read_to_string(&segment).unwrap();
        trail.close();
        let last = at_crash.strip_suffix('\n').unwrap().to_owned();
        assert!(last.lines().last().unwrap().contains("tenant.frozen"));
        fs::write(&segment, last + behind).unwrap();
        let mut standing = Vec::new();
        let trail = Trail::open(options(directory.path()), &mut |heard| {
            if let Replayed::Frozen { record, .. } = heard {
                standing.extend(record.tenant.map(ToOwned::to_owned));
            }
        });
        trail.unwrap().close();
        assert_eq!(standing, ["billing"]);
        assert_eq!(fs::read_to_string(&segment).unwrap(), at_crash);
        let report = verify(directory.path()).unwrap();
        assert!(report.is_intact(), "{report}");
        assert_eq!(report.outcomes.in_doubt, 1);
    }
}
