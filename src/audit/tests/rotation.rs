//! Segments that follow each other.

use std::{
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::audit::{
    Replayed,
    disk::{Disk, System},
};

#[tokio::test]
async fn a_full_segment_is_sealed_and_the_next_goes_on() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = small(directory.path());
        options.settings.durability = durability;
        let trail = open(options).unwrap();
        calls(&trail, 60).await;
        trail.close();
        let names = segments(directory.path());
        assert!(names.len() > 5, "{names:?}");
        for name in &names {
            let path = directory.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.lines().next().unwrap().contains("trail.opened"));
            assert!(text.lines().last().unwrap().contains("trail.sealed"));
            assert!(text.len() < 4096 + 2048, "{}", text.len());
            // Of the room that was kept behind it nothing is left.
            let taken = fs::metadata(&path).unwrap().blocks() * 512;
            assert!(taken < 64 << 10, "{name}: {taken}");
        }
        let report = verify(directory.path()).unwrap();
        assert!(report.is_intact(), "{report}");
        assert_eq!((report.intents, report.outcomes.deleted), (60, 60));
    }
}

#[tokio::test]
async fn an_old_segment_is_sealed_even_if_little_happens() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.settings.segment_age = Duration::from_millis(100);
    let trail = open(options).unwrap();
    wait_until(|| segments(directory.path()).len() > 2);
    trail.close();
    assert!(verify(directory.path()).unwrap().is_intact());
}

#[tokio::test]
async fn checkpoints_state_the_head_after_so_many_records() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.settings.checkpoint.records = 10;
    let trail = open(options).unwrap();
    calls(&trail, 50).await;
    trail.close();
    let checkpoints = events(directory.path())
        .iter()
        .filter(|event| *event == "checkpoint")
        .count();
    assert!((5..=11).contains(&checkpoints), "{checkpoints}");
}

/// What a clock leaves that was set back: the first segment is dated later than
/// those after it.
#[tokio::test]
async fn a_clock_that_was_set_back_hides_nothing_from_a_query_or_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let dated = |name: &str, seq: u64, time: &str, credential: &str| {
        let line = format!(
            r#"{{"v":1,"seq":{seq},"time":"{time}","event":"request.intent","request_id":"r{seq}","tenant":"billing","token":"t","peer":"p","user":"u","credential":"{credential}","config":"c","prev":"0","hash":"0"}}"#
        );
        fs::write(directory.path().join(name), line + "\n").unwrap();
    };
    let now = jiff::Timestamp::now();
    let ago = |hours: i64| (now - jiff::SignedDuration::from_hours(hours)).to_string();
    dated("0000000001.jsonl", 1, &ago(1000), "long-ago");
    dated("0000000002.jsonl", 2, &ago(2), "wanted");
    dated("0000000003.jsonl", 3, &ago(500), "after-the-clock-was-set");
    let filter = Filter {
        since: Some(now - jiff::SignedDuration::from_hours(10)),
        ..Filter::default()
    };
    let mut found = Vec::new();
    let each = |row: Row| found.extend(row.credential);
    super::super::query(directory.path(), &Known::default(), &filter, each, |_| {}).unwrap();
    assert_eq!(found, ["wanted"]);
    let mut recent = small(directory.path());
    recent.usage = Duration::from_secs(36_000);
    let mut counted = 0;
    Trail::open(recent, &mut |heard| {
        counted += u32::from(matches!(heard, Replayed::Intent { .. }))
    })
    .unwrap()
    .close();
    assert_eq!(counted, 1);
}

#[tokio::test]
async fn a_start_counts_recent_intents_from_every_segment() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    calls(&trail, 60).await;
    trail.close();
    drop(trail);
    let mut recent = small(directory.path());
    recent.usage = Duration::from_secs(3600);
    let mut counted = Vec::new();
    Trail::open(recent, &mut |heard| {
        if let Replayed::Intent { tenant, .. } = heard {
            counted.push(tenant.to_owned());
        }
    })
    .unwrap()
    .close();
    assert_eq!(counted, vec!["billing"; 60]);
}

/// A disk on which no more room can be had while it is full.
#[derive(Debug)]
struct Full(Arc<AtomicBool>);

impl Disk for Full {
    fn allocate(&mut self, file: &fs::File, offset: u64, len: u64) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            // ENOSPC
            true => Err(io::Error::from_raw_os_error(28)),
            false => System.allocate(file, offset, len),
        }
    }
}

/// Its reserve is what the outcomes of calls that were sent are written into.
#[tokio::test]
async fn while_there_is_only_the_reserve_no_new_segment_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.settings.segment_age = Duration::from_millis(1);
    options.settings.intent_wait = Duration::from_secs(10);
    let is_full = Arc::new(AtomicBool::new(true));
    let disk = Box::new(Full(Arc::clone(&is_full)));
    let trail = Trail::open_on(disk, options, &mut |_| {}).unwrap();
    let worker = trail.for_worker();
    // Which of them come before the room is found to be missing does not matter.
    let mut came = 0;
    while worker.intent(intent(RequestId::next())).await.is_ok() {
        came += 1;
        assert!(came < 100, "nobody notices that there is no room");
    }
    let of_reserve = segments(directory.path());
    for _ in 0..2 {
        // The writer looks once a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(worker.intent(intent(RequestId::next())).await.is_err());
        assert_eq!(segments(directory.path()), of_reserve);
    }
    is_full.store(false, Ordering::SeqCst);
    wait_until(|| trail.status().writable.is_ok());
    calls(&trail, 1).await;
    wait_until(|| segments(directory.path()).len() > of_reserve.len());
    trail.close();
    assert!(verify(directory.path()).unwrap().is_intact());
}
