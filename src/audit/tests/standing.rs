//! Freezes that stand, in a trail that goes on for long.

use std::{fs::OpenOptions, io::Write as _};

use jiff::Timestamp;

use super::*;
use crate::audit::{FrozenRecord, Replayed};

fn frozen(tenant: Option<&str>) -> FrozenRecord<'_> {
    FrozenRecord {
        id: "0199",
        tenant,
        by: "unix:uid=0",
        on_behalf_of: None,
        reason: "a \"drill\"",
        since: None,
    }
}

fn small(directory: &Path) -> Options {
    let mut options = options(directory);
    options.settings.segment_size = 4096;
    options
}

async fn calls(trail: &Trail, calls: usize) {
    let worker = trail.for_worker();
    for _ in 0..calls {
        let begun = worker.intent(intent(RequestId::next())).await.unwrap();
        assert_eq!(
            worker.outcome(begun, deleted()).await,
            OutcomeWritten::Durable
        );
    }
}

/// What stands by what the next start hears, with since when and why.
fn next_start(options: Options) -> Vec<(Option<String>, Timestamp, String)> {
    let mut standing: Vec<(Option<String>, Timestamp, String)> = Vec::new();
    let trail = Trail::open(options, &mut |heard| match heard {
        Replayed::Frozen { record, since } => {
            let tenant = record.tenant.map(ToOwned::to_owned);
            standing.retain(|(known, ..)| *known != tenant);
            standing.push((tenant, since, record.reason.to_owned()));
        }
        Replayed::Thawed { tenant } => {
            standing.retain(|(known, ..)| known.as_deref() != tenant);
        }
        _ => {}
    });
    trail.unwrap().close();
    standing.sort();
    standing
}

fn names(standing: &[(Option<String>, Timestamp, String)]) -> Vec<Option<&str>> {
    standing.iter().map(|(name, ..)| name.as_deref()).collect()
}

fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|is| is == "jsonl"))
        .collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_freeze_outlives_its_record_and_a_start_reads_only_the_end_to_find_it() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    trail
        .frozen(&frozen(Some("billing")))
        .durable()
        .await
        .unwrap();
    trail.frozen(&frozen(Some("crm"))).durable().await.unwrap();
    trail.frozen(&frozen(None)).durable().await.unwrap();
    calls(&trail, 60).await;
    let thawed = trail.thawed(&frozen(Some("crm"))).unwrap();
    thawed.durable().await.unwrap();
    calls(&trail, 60).await;
    trail.close();
    drop(trail);
    let (first, since, why) = next_start(small(directory.path())).remove(1);
    assert_eq!(first.as_deref(), Some("billing"));
    assert_eq!(why, "a \"drill\"");
    assert!(verify(directory.path()).unwrap().is_intact());
    // All but the last two segments are gone, as retention would have it.
    let all = segments(directory.path());
    assert!(all.len() > 8, "{all:?}");
    for path in &all[..all.len() - 2] {
        fs::remove_file(path).unwrap();
    }
    let standing = next_start(small(directory.path()));
    assert_eq!(names(&standing), [None, Some("billing")]);
    assert_eq!(standing[1].1, since, "it is as old as it was");
}

#[tokio::test]
async fn retention_removes_no_freeze() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = small(directory.path());
    options.settings.retention = Some(Duration::from_secs(1));
    let trail = open(options.clone()).unwrap();
    trail
        .frozen(&frozen(Some("billing")))
        .durable()
        .await
        .unwrap();
    calls(&trail, 60).await;
    std::thread::sleep(Duration::from_millis(1100));
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let first = segments(directory.path())[0].clone();
    while first.exists() {
        assert!(std::time::Instant::now() < end, "nothing is removed");
        calls(&trail, 20).await;
    }
    trail.close();
    drop(trail);
    assert_eq!(names(&next_start(options)), [Some("billing")]);
    assert!(verify(directory.path()).unwrap().is_intact());
}

#[tokio::test]
async fn a_crash_while_a_segment_begins_loses_no_freeze() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(small(directory.path())).unwrap();
    let tenants = ["a", "b", "c"];
    for tenant in tenants {
        trail.frozen(&frozen(Some(tenant))).durable().await.unwrap();
    }
    trail.close();
    drop(trail);
    assert_eq!(next_start(small(directory.path())).len(), 3);
    let last = segments(directory.path()).pop().unwrap();
    let whole = fs::read_to_string(&last).unwrap();
    assert!(
        whole.lines().next().unwrap().contains("\"frozen\":3"),
        "{whole}"
    );
    let line_ends: Vec<_> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    // Cut after each of its first records, and within the next.
    for keep in line_ends.iter().take(4).flat_map(|end| [*end, end + 20]) {
        let copy = tempfile::tempdir().unwrap();
        for path in segments(directory.path()) {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let cut = copy.path().join(last.file_name().unwrap());
        fs::write(&cut, &whole.as_bytes()[..keep.min(whole.len())]).unwrap();
        // And a segment that did not even begin.
        let empty = copy.path().join("0000000009.jsonl");
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(empty)
            .unwrap()
            .flush()
            .unwrap();
        let standing = next_start(small(copy.path()));
        assert_eq!(names(&standing), tenants.map(Some), "cut at {keep}");
        assert_eq!(names(&next_start(small(copy.path()))), tenants.map(Some));
    }
}
