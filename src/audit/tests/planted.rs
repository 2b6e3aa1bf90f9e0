//! What somebody puts into the directory who may write it.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::audit::{Collected, FrozenRecord, Replayed, follow::Follower};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(super) fn keyed(directory: &Path) -> Options {
    Options {
        mac_key: Some(MacKey::new(KEY).unwrap()),
        ..options(directory)
    }
}

const BILLING: FrozenRecord<'_> = FrozenRecord {
    id: "0199",
    tenant: Some("billing"),
    by: "unix:uid=0",
    on_behalf_of: None,
    reason: "a drill",
    since: None,
};

/// A trail in which a tenant is frozen and a call is open.
pub(super) async fn frozen(options: Options) {
    let trail = open(options).unwrap();
    let worker = trail.for_worker();
    std::mem::forget(worker.intent(intent(RequestId::next())).await.unwrap());
    trail.frozen(&BILLING).durable().await.unwrap();
    trail.close();
}

/// Who is frozen by what a start hears.
pub(super) fn start(options: Options) -> Vec<String> {
    let mut frozen: Vec<String> = Vec::new();
    let trail = Trail::open(options, &mut |heard| match heard {
        Replayed::Frozen { record, .. } => frozen.push(record.tenant.unwrap().to_owned()),
        Replayed::Thawed { tenant } => frozen.retain(|known| Some(&**known) != tenant),
        _ => {}
    });
    trail.unwrap().close();
    frozen.dedup();
    frozen
}

pub(super) fn segment_of(directory: &Path, number: u64) -> std::path::PathBuf {
    directory.join(segment::name(number))
}

fn append(path: &Path, lines: &str) {
    let text = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, text + lines).unwrap();
}

pub(super) fn thaw(seq: u64, prev: &str, hash: &str) -> String {
    format!(
        r#"{{"v":1,"seq":{seq},"time":"2026-11-30T00:00:00.000000Z","event":"tenant.thawed","freeze":"0199","scope":"tenant","tenant":"billing","by":"x","reason":"x","prev":"{prev}","hash":"{hash}"}}"#
    ) + "\n"
}

#[tokio::test]
async fn a_thaw_or_an_outcome_that_does_not_verify_is_not_obeyed() {
    for forge in [thaw as fn(u64, &str, &str) -> String, |seq, prev, hash| {
        thaw(seq, prev, hash)
            .replace("tenant.thawed", "request.outcome")
            .replace(
                "\"freeze\"",
                "\"intent\":2,\"outcome\":\"failed\",\"freeze\"",
            )
    }] {
        let directory = tempfile::tempdir().unwrap();
        frozen(options(directory.path())).await;
        let head = verify(directory.path()).unwrap().head;
        let forged = [
            forge(head.seq + 1, "", ""),
            forge(head.seq + 1, head.hash.as_str(), head.hash.as_str()),
        ];
        append(&segment_of(directory.path(), 1), &forged.concat());
        assert_eq!(start(options(directory.path())), ["billing"]);
        let in_doubt = |line: &String| line.contains("\"outcome\":\"in-doubt\"");
        assert!(lines(directory.path()).iter().any(in_doubt));
    }
}

/// It would end freezes, and hide calls that are open, from a start that reads no further.
#[tokio::test]
async fn a_planted_segment_without_the_key_hides_nothing_from_a_start_with_it() {
    let directory = tempfile::tempdir().unwrap();
    frozen(keyed(directory.path())).await;
    let known = Known {
        mac_key: Some(MacKey::new(KEY).unwrap()),
        ..Known::default()
    };
    let head = super::super::verify(directory.path(), &known, |_| {})
        .unwrap()
        .head;
    // As somebody would write it who knows all but the key.
    let content = format!(
        r#"{{"v":1,"seq":{},"time":"2026-11-30T00:00:00.000000Z","event":"trail.opened","segment":"0000000002.jsonl","durability":"strict","version":"0.1.0","prev":"{}""#,
        head.seq + 1,
        head.hash.as_str()
    );
    let hash = crate::audit::chain::Hasher::new(None).hash(content.as_bytes());
    let opened = format!("{content},\"hash\":\"{}\"}}\n", hash.as_str());
    append(&segment_of(directory.path(), 2), &opened);
    let own = fs::read_to_string(segment_of(directory.path(), 1)).unwrap();
    // And one of ours again.
    append(
        &segment_of(directory.path(), 3),
        &own[..=own.find('\n').unwrap()],
    );
    assert_eq!(start(keyed(directory.path())), ["billing"]);
    let lines = lines(directory.path());
    let told =
        |line: &String| line.contains("trail.recovered") && line.contains("without the mac_key");
    assert!(lines.iter().any(told));
    let in_doubt = |line: &String| line.contains("\"outcome\":\"in-doubt\"");
    assert!(lines.iter().any(in_doubt));
}

#[tokio::test]
async fn a_key_that_comes_later_or_goes_changes_nothing_of_what_a_start_obeys() {
    let directory = tempfile::tempdir().unwrap();
    frozen(options(directory.path())).await;
    let steps: [fn(&Path) -> Options; 4] = [keyed, keyed, options, options];
    for of in steps {
        assert_eq!(start(of(directory.path())), ["billing"]);
    }
    let trail = open(keyed(directory.path())).unwrap();
    trail.thawed(&BILLING).unwrap().durable().await.unwrap();
    trail.close();
    for of in steps {
        assert_eq!(start(of(directory.path())), Vec::<String>::new());
    }
    let in_doubt = lines(directory.path()).into_iter();
    assert_eq!(in_doubt.filter(|line| line.contains("in-doubt")).count(), 1);
}

#[tokio::test]
async fn a_planted_number_of_ten_nines_hides_nothing_that_comes_after_it() {
    let directory = tempfile::tempdir().unwrap();
    frozen(options(directory.path())).await;
    fs::write(segment_of(directory.path(), 9_999_999_999), "").unwrap();
    for _ in 0..2 {
        assert_eq!(start(options(directory.path())), ["billing"]);
    }
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    assert_eq!(report.segments, 4);
    assert!(segment_of(directory.path(), 10_000_000_001).exists());
    let wrong = lines(&segment_of(directory.path(), 1).with_file_name("")).len() as u64;
    assert_eq!(report.records, wrong, "all of them are found");
}

#[tokio::test]
async fn a_planted_number_that_none_can_follow_is_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    frozen(options(directory.path())).await;
    let planted = segment_of(directory.path(), u64::MAX);
    fs::write(&planted, "").unwrap();
    let error = open(options(directory.path())).unwrap_err().to_string();
    assert!(error.contains("18446744073709551615.jsonl"), "{error}");
    fs::remove_file(planted).unwrap();
    assert_eq!(start(options(directory.path())), ["billing"]);
}

/// A pipe has no end as long as somebody may write into it.
#[tokio::test]
async fn what_is_no_file_is_named_and_waited_for_by_nobody() {
    let plant: [fn(&Path); 3] = [
        |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
    ];
    for plant in plant {
        let directory = tempfile::tempdir().unwrap();
        frozen(options(directory.path())).await;
        plant(&segment_of(directory.path(), 99));
        let wrong = verify(directory.path()).unwrap().wrong.unwrap();
        assert_eq!(
            (wrong.file, wrong.fault),
            (segment::name(99), Fault::NoFile)
        );
        assert_eq!(start(options(directory.path())), ["billing"]);
        assert!(segment_of(directory.path(), 100).exists());
        let rows = super::super::query(
            directory.path(),
            &Known::default(),
            &Filter::default(),
            |_| {},
            |_| {},
        );
        assert!(rows.unwrap().wrong.is_some());
        Follower::begin(directory.path(), 10).unwrap();
    }
}

/// As somebody writes a record who knows all but the key.
fn forged(seq: u64, prev: &str, event: &str) -> String {
    let content = format!(
        r#"{{"v":1,"seq":{seq},"time":"2026-11-30T00:00:00.000000Z","event":"{event}","oldest":1,"chain":"4d2c9a53-9d54-4a7e-a1b0-5ed8d1f3a0c4","prev":"{prev}""#
    );
    let hash = crate::audit::chain::Hasher::new(None).hash(content.as_bytes());
    format!("{content},\"hash\":\"{}\"}}\n", hash.as_str())
}

/// With one byte of it the first record of a segment has no right hash any more.
fn spoil_first_line(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("\"version\":\"", "\"version\":\"x", 1)).unwrap();
}

fn head_of(directory: &Path) -> Head {
    verify(directory).unwrap().head
}

#[tokio::test]
async fn first_records_that_somebody_spoiled_make_a_start_read_all_and_not_what_they_planted() {
    let directory = tempfile::tempdir().unwrap();
    frozen(keyed(directory.path())).await;
    let head = head_of(directory.path());
    spoil_first_line(&segment_of(directory.path(), 1));
    let planted = forged(head.seq + 1, head.hash.as_str(), "trail.opened");
    append(&segment_of(directory.path(), 9), &planted);
    for _ in 0..2 {
        assert_eq!(start(keyed(directory.path())), ["billing"]);
    }
    let told = |line: &String| line.contains("trail.recovered") && line.contains("not what was");
    assert!(lines(directory.path()).iter().any(told));
}

/// Else its own records would follow something that nobody believes, for ever.
#[tokio::test]
async fn what_is_planted_does_not_lead_the_numbers_astray() {
    let copy = |directory: &Path| {
        let own = fs::read(segment_of(directory, 1)).unwrap();
        fs::write(segment_of(directory, 50), own).unwrap();
    };
    let number = |directory: &Path| {
        let line = forged(1 << 62, head_of(directory).hash.as_str(), "checkpoint");
        append(&segment_of(directory, 1), &line);
    };
    let before = |directory: &Path| {
        let own = fs::read_to_string(segment_of(directory, 1)).unwrap();
        let line = forged((1 << 62) - 1, Hash::first().as_str(), "checkpoint");
        fs::write(segment_of(directory, 1), line + &own).unwrap();
    };
    let plants: [fn(&Path); 3] = [copy, number, before];
    for (at, plant) in plants.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        frozen(keyed(directory.path())).await;
        let head = head_of(directory.path());
        plant(directory.path());
        let trail = open(keyed(directory.path())).unwrap();
        trail.thawed(&BILLING).unwrap().durable().await.unwrap();
        calls(&trail, 2).await;
        trail.close();
        for _ in 0..2 {
            assert_eq!(start(keyed(directory.path())), Vec::<String>::new(), "{at}");
        }
        let lines = lines(directory.path());
        let in_doubt = lines.iter().filter(|line| line.contains("in-doubt"));
        assert_eq!(in_doubt.count(), 1, "{at}: the one that was open");
        let last = head_of(directory.path()).seq;
        assert!((head.seq..head.seq + 40).contains(&last), "{at}: {last}");
    }
}

#[tokio::test]
async fn the_id_of_another_trail_is_not_taken_from_a_line_that_was_planted() {
    let directory = tempfile::tempdir().unwrap();
    frozen(options(directory.path())).await;
    let segment = segment_of(directory.path(), 1);
    append(
        &segment,
        &forged(1000, Hash::first().as_str(), "trail.opened"),
    );
    let collected = std::sync::Arc::new(Collected::default());
    let with_ship = Options {
        collected: Some(std::sync::Arc::clone(&collected)),
        ..options(directory.path())
    };
    start(with_ship);
    let chain = collected.chain().unwrap().to_string();
    assert_ne!(chain, "4d2c9a53-9d54-4a7e-a1b0-5ed8d1f3a0c4");
}

/// A hole takes no room on the disk, and hours to read.
#[tokio::test]
async fn a_hole_without_end_is_named_read_by_nobody_and_cut_by_no_start() {
    const HOLE: u64 = 1 << 40;
    let directory = tempfile::tempdir().unwrap();
    frozen(options(directory.path())).await;
    let head = verify(directory.path()).unwrap().head;
    let next = format!(r#"{{"v":1,"seq":{},"time":""#, head.seq + 1);
    for (number, begins) in [(98, ""), (99, &*next)] {
        let planted = segment_of(directory.path(), number);
        fs::write(&planted, begins).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&planted).unwrap();
        file.set_len(HOLE).unwrap();
    }
    let wrong = verify(directory.path()).unwrap().wrong.unwrap();
    assert_eq!(
        (wrong.file, wrong.fault),
        (segment::name(98), Fault::TooLong)
    );
    assert_eq!(start(options(directory.path())), ["billing"]);
    for number in [98, 99] {
        let found = fs::metadata(segment_of(directory.path(), number)).unwrap();
        assert_eq!(found.len(), HOLE, "it is evidence");
    }
    // What stands behind it is read.
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.outcomes.in_doubt, 1, "{report}");
    assert_eq!(report.torn_bytes, 0, "{report}");
    let (follower, rows) = Follower::begin(directory.path(), 10).unwrap();
    assert_eq!((rows.len(), follower.open().count()), (1, 0));
    let mut tail = crate::audit::Tail::behind(directory.path(), head).unwrap();
    let batch = tail.read(&report.head).unwrap();
    assert_eq!(batch.last, Some(report.head));
}

/// Whoever cannot compute a hash can still put a record of ours somewhere else.
#[tokio::test]
async fn a_record_of_ours_that_stands_elsewhere_hides_nothing() {
    for (number, at) in [(0, "last"), (9, "last"), (9, "first")] {
        let directory = tempfile::tempdir().unwrap();
        frozen(keyed(directory.path())).await;
        // This segment says again who is frozen.
        assert_eq!(start(keyed(directory.path())), ["billing"]);
        let own = fs::read_to_string(segment_of(directory.path(), 2)).unwrap();
        let mut own = own.lines();
        let record = match at {
            "first" => own.next(),
            _ => own.next_back(),
        };
        let planted = format!("{}\n", record.unwrap());
        append(&segment_of(directory.path(), number), &planted);
        for _ in 0..2 {
            let frozen = start(keyed(directory.path()));
            assert_eq!(frozen, ["billing"], "{number} {at}");
        }
        assert!(verify_keyed(directory.path()).wrong.is_some());
    }
}

/// A segment that says again who is frozen is believed only as far as that verifies.
#[tokio::test]
async fn a_freeze_that_was_changed_where_it_is_said_again_still_stands() {
    let directory = tempfile::tempdir().unwrap();
    frozen(keyed(directory.path())).await;
    for _ in 0..2 {
        assert_eq!(start(keyed(directory.path())), ["billing"]);
    }
    // No call is open any more: it would be enough to begin with this one.
    let segment = segment_of(directory.path(), 3);
    let text = fs::read_to_string(&segment).unwrap();
    assert!(text.contains("tenant.frozen"));
    fs::write(&segment, text.replace("tenant.frozen", "tenant.frazen")).unwrap();
    assert_eq!(start(keyed(directory.path())), ["billing"]);
}

/// Nobody makes such a line without the key, and anybody can put one in another's place.
#[tokio::test]
async fn a_freeze_that_stands_in_the_place_of_another_does_not_end_that_one() {
    let shipping = FrozenRecord {
        id: "0200",
        tenant: Some("shipping"),
        ..BILLING
    };
    for is_thawed in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let trail = open(keyed(directory.path())).unwrap();
        trail.frozen(&shipping).durable().await.unwrap();
        trail.frozen(&BILLING).durable().await.unwrap();
        if is_thawed {
            trail.thawed(&shipping).unwrap().durable().await.unwrap();
        }
        trail.close();
        // It would be enough to begin with the segment of this start.
        start(keyed(directory.path()));
        let second = segment_of(directory.path(), 2);
        let freeze_of = |number, tenant| {
            let text = fs::read_to_string(segment_of(directory.path(), number)).unwrap();
            let is_it = |line: &&str| line.contains("tenant.frozen") && line.contains(tenant);
            text.lines().find(is_it).unwrap().to_owned()
        };
        let (place, genuine) = match is_thawed {
            true => (freeze_of(2, "billing"), freeze_of(1, "shipping")),
            false => (freeze_of(2, "shipping"), freeze_of(2, "billing")),
        };
        let text = fs::read_to_string(&second).unwrap();
        fs::write(&second, text.replace(&place, &genuine)).unwrap();
        let mut frozen = start(keyed(directory.path()));
        frozen.sort();
        frozen.dedup();
        let expected: &[_] = match is_thawed {
            true => &["billing"],
            false => &["billing", "shipping"],
        };
        assert_eq!(frozen, expected);
    }
}

fn verify_keyed(directory: &Path) -> Report {
    let known = Known {
        mac_key: Some(MacKey::new(KEY).unwrap()),
        ..Known::default()
    };
    super::super::verify(directory, &known, |_| {}).unwrap()
}
