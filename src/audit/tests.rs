//! Expectations here come from the description of the trail, not from its code:
//! lines are taken apart by hand.

use std::{fs, path::Path, time::Duration};

use super::*;
use crate::{
    config::settings::{Checkpoint, Durability},
    ids::RequestId,
};

mod asked;
mod by_worker;
mod claims;
mod edits;
mod faults;
mod full;
mod hanging;
mod keyed;
mod no_file;
mod planted;
mod retention;
mod rotation;
mod standing;
mod start;
mod tail;

fn options(directory: &Path) -> Options {
    Options {
        settings: Audit {
            directory: directory.to_owned(),
            durability: Durability::Strict,
            intent_wait: Duration::from_secs(2),
            outcome_wait: Duration::from_secs(2),
            segment_size: 64 << 20,
            segment_age: Duration::from_secs(86_400),
            retention: None,
            checkpoint: Checkpoint {
                records: 10_000,
                every: Duration::from_secs(600),
            },
            mac_key: None,
            ship: None,
        },
        mac_key: None,
        usage: Duration::ZERO,
        collected: None,
    }
}

/// With segments that a few calls fill.
fn small(directory: &Path) -> Options {
    let mut options = options(directory);
    options.settings.segment_size = 4096;
    options
}

fn segments(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".jsonl"))
        .collect();
    names.sort();
    names
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it never came to be");
        std::thread::sleep(Duration::from_millis(20));
    }
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

fn open(options: Options) -> Result<Trail, OpenError> {
    Trail::open(options, &mut |_| {})
}

fn verify(directory: &Path) -> io::Result<Report> {
    super::verify(directory, &Known::default(), |_| {})
}

fn intent(request_id: RequestId) -> IntentRecord<'static> {
    IntentRecord {
        request_id,
        caller_request_id: None,
        tenant: "billing",
        token: "2026-11",
        peer: "127.0.0.1:51512",
        user: "689593e23e4c93cae95fd75c",
        credential: "63252d14cc29df15cc481a76",
        config: "9f2c1a7b03de",
    }
}

fn deleted() -> OutcomeRecord<'static> {
    OutcomeRecord {
        outcome: OutcomeKind::Deleted,
        status: 200,
        code: None,
        upstream_status: Some(200),
        attempts: 1,
        attempt_ends: &[],
        sent: Sent::Yes,
        latency_us: 81_234,
    }
}

fn refused(request_id: RequestId, code: &'static str) -> RefusedRecord<'static> {
    RefusedRecord {
        request_id,
        caller_request_id: None,
        who: Who::Stranger,
        tenant: None,
        token: None,
        user: None,
        credential: None,
        code,
        reason: None,
        status: 401,
        peer: "127.0.0.1:51512",
    }
}

fn lines(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    names.sort();
    let read = |path| match fs::read_to_string(path) {
        // Retention may take it away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.unwrap(),
    };
    let texts: Vec<_> = names.iter().map(read).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.map(ToOwned::to_owned).collect()
}

fn field(line: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    match &value[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn events(directory: &Path) -> Vec<String> {
    lines(directory)
        .iter()
        .map(|line| field(line, "event"))
        .collect()
}

/// A trail with one whole call and one refusal, sealed.
async fn written(directory: &Path) -> RequestId {
    let trail = open(options(directory)).unwrap();
    let worker = trail.for_worker();
    let id = RequestId::next();
    let begun = worker.intent(intent(id)).await.unwrap();
    assert_eq!(
        worker.outcome(begun, deleted()).await,
        OutcomeWritten::Durable
    );
    worker.refused(refused(RequestId::next(), "unauthenticated"));
    assert!(trail.close());
    id
}

#[test]
fn what_was_taken_from_the_queue_is_gone_and_what_a_flood_took_is_given_back() {
    let queue = Queue::new(Duration::from_secs(1));
    for flood in [1, 2, 1000, 3] {
        (0..flood).for_each(|_| queue.push_own(Fragment::now("x")));
        let taken = queue.take(Duration::ZERO).unwrap();
        assert!(!taken.is_closed);
        assert_eq!((taken.entries.len(), queue.depth()), (flood, 0));
        queue.done(taken.entries, false);
    }
    // The one list, and the other.
    for _ in 0..2 {
        let taken = queue.take(Duration::ZERO).unwrap();
        assert!(taken.entries.capacity() < 1000);
        queue.done(taken.entries, false);
    }
}

/// Else the two would write a record each, in turns, and wake each other for it.
#[test]
fn what_a_worker_is_to_write_its_thread_leaves_to_it_for_a_while() {
    let queue = Queue::new(Duration::from_secs(1));
    let while_it_may = Duration::from_millis(100);
    let (inbox, ticket) = (Arc::default(), Arc::default());
    let fragment = Fragment::now("x");
    let _waits = queue.push_outcome(fragment, 1, (&inbox, ticket), queue::Wake::ByWorker);
    let began = std::time::Instant::now();
    let taken = queue.take(while_it_may).unwrap();
    assert!(began.elapsed() >= while_it_may);
    assert_eq!(taken.entries.len(), 1);
}

#[tokio::test]
async fn a_call_is_recorded_in_the_documented_form_and_order() {
    let directory = tempfile::tempdir().unwrap();
    let id = written(directory.path()).await;
    let lines = lines(directory.path());
    let expected = format!(
        r#""event":"request.intent","request_id":"{id}","tenant":"billing","token":"2026-11","peer":"127.0.0.1:51512","user":"689593e23e4c93cae95fd75c","credential":"63252d14cc29df15cc481a76","config":"9f2c1a7b03de","prev":""#
    );
    assert!(
        lines[1].starts_with(r#"{"v":1,"seq":2,"time":"20"#),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains(&expected), "{}", lines[1]);
    let expected = format!(
        r#""event":"request.outcome","request_id":"{id}","intent":2,"outcome":"deleted","status":200,"upstream_status":200,"attempts":1,"sent":"yes","latency_us":81234,"prev":""#
    );
    assert!(lines[2].contains(&expected), "{}", lines[2]);
    let order = [
        "trail.opened",
        "request.intent",
        "request.outcome",
        "request.refused",
        "trail.sealed",
    ];
    assert_eq!(events(directory.path()), order);
}

#[tokio::test]
async fn each_line_holds_the_sha256_of_its_bytes_and_of_the_line_before() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let mut before = "0".repeat(64);
    for line in lines(directory.path()) {
        let (content, rest) = line.rsplit_once(",\"hash\":").unwrap();
        let hash: String =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes())
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
        assert_eq!(rest, format!("\"{hash}\"}}"));
        assert_eq!(field(&line, "prev"), before);
        before = hash;
    }
}

#[tokio::test]
async fn a_line_taken_out_or_moved_is_named_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let segment = directory.path().join("0000000001.jsonl");
    let good = lines(directory.path());
    let without = [&good[..2], &good[3..]].concat().join("\n") + "\n";
    fs::write(&segment, without).unwrap();
    let wrong = verify(directory.path()).unwrap().wrong.unwrap();
    assert_eq!(
        wrong.to_string(),
        "0000000001.jsonl line 3 (seq 4): record 3 should stand here"
    );

    // Renumbered by somebody who knows the format, but not rehashed.
    let mut renumbered = good.clone();
    renumbered[3] = renumbered[3].replace("\"seq\":4", "\"seq\":3");
    renumbered.remove(2);
    fs::write(&segment, renumbered.join("\n") + "\n").unwrap();
    let wrong = verify(directory.path()).unwrap().wrong.unwrap();
    assert_eq!((wrong.line, wrong.fault), (3, Fault::Content));
}

#[tokio::test]
async fn a_second_writer_is_locked_out() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let second = open(options(directory.path()));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    trail.close();
}

#[tokio::test]
async fn files_and_directory_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("audit");
    written(&directory).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("0000000001.jsonl")), 0o600);
}

#[tokio::test]
async fn a_segment_deleted_under_us_stops_intents_until_a_new_one_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    let begun = worker.intent(intent(RequestId::next())).await.unwrap();
    fs::remove_file(directory.path().join("0000000001.jsonl")).unwrap();
    assert_eq!(
        worker.intent(intent(RequestId::next())).await.unwrap_err(),
        Unavailable
    );
    assert!(trail.status().writable.unwrap_err().cause == "deleted");
    // An outcome is not given up: it waits for the new segment.
    assert_eq!(
        worker.outcome(begun, deleted()).await,
        OutcomeWritten::Durable
    );
    assert!(trail.status().writable.is_ok());
    trail.close();
    // What had been written is there again, from the file that was still open.
    let expected = [
        "trail.opened",
        "request.intent",
        "trail.opened",
        "trail.recovered",
        "request.outcome",
        "trail.sealed",
    ];
    assert_eq!(events(directory.path()), expected);
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}

/// Another gateway may have begun to write the same trail.
#[tokio::test]
async fn a_lock_removed_under_steady_load_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    let lock = directory.path().join("lock");
    fs::remove_file(&lock).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    // So fast that the writer never has nothing to do for as long as a tick. It takes the
    // lock anew, since nobody else has.
    while !lock.exists() {
        assert!(std::time::Instant::now() < end, "nobody looks at the lock");
        if let Ok(begun) = worker.intent(intent(RequestId::next())).await {
            worker.outcome(begun, deleted()).await;
        }
    }
    trail.close();
    let told = |line: &String| line.contains("\"cause\":\"lock-lost\"");
    assert!(lines(directory.path()).iter().any(told));
}

#[tokio::test]
async fn an_intent_that_a_bug_drops_is_closed_in_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    drop(
        trail
            .for_worker()
            .intent(intent(RequestId::next()))
            .await
            .unwrap(),
    );
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert_eq!((report.outcomes.in_doubt, report.open), (1, 0));
}

/// Requests, connections and guesses that were refused.
fn counted(report: &Report) -> (u64, u64, u64) {
    (report.refusals, report.connections_refused, report.guesses)
}

#[tokio::test]
async fn a_flood_of_refusals_is_coalesced_and_none_goes_uncounted() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    for _ in 0..20_000 {
        worker.refused(refused(RequestId::next(), "unauthenticated"));
        worker.connection_refused("10.0.0.7:1", "malformed-request");
    }
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.records < 5_000, "{report}");
    assert_eq!(counted(&report), (20_000, 20_000, 0), "{report}");
}

#[tokio::test]
async fn a_flood_with_an_expired_token_is_bounded_as_that_of_strangers_and_names_its_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    let expired = |request_id| RefusedRecord {
        tenant: Some("billing"),
        token: Some("2025-11"),
        reason: Some("expired"),
        ..refused(request_id, "unauthenticated")
    };
    for _ in 0..1000 {
        worker.refused(expired(RequestId::next()));
    }
    // They took what other strangers have too, and nothing of who holds a good token.
    worker.refused(refused(RequestId::next(), "unauthenticated"));
    worker.refused(RefusedRecord {
        who: Who::Tenant,
        reason: None,
        ..RefusedRecord {
            code: "user-not-allowed",
            ..expired(RequestId::next())
        }
    });
    trail.close();
    let lines = lines(directory.path());
    let of = |event: &str, code: &str, tenant: &str| {
        let is_it = |line: &&String| {
            let is = |name, value: &str| field(line, name) == value;
            is("event", event) && is("code", code) && is("tenant", tenant)
        };
        lines.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let one_by_one = of("request.refused", "unauthenticated", "billing").len();
    let together = of("refusals.coalesced", "unauthenticated", "billing");
    let counts = together.iter().map(|line| {
        assert_eq!(
            (field(line, "token"), field(line, "reason")),
            ("2025-11".into(), "expired".into())
        );
        field(line, "count").parse::<usize>().unwrap()
    });
    assert_eq!(one_by_one + counts.sum::<usize>(), 1000);
    assert!(!together.is_empty());
    assert_eq!(of("refusals.coalesced", "unauthenticated", "null").len(), 1);
    assert_eq!(
        of("request.refused", "user-not-allowed", "billing").len(),
        1
    );
}

#[tokio::test]
async fn guesses_at_the_admin_token_are_coalesced_and_none_goes_uncounted() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    for n in 0..20_000 {
        // A neighbour in the pod has all of 127.0.0.0/8.
        trail.admin_refused(&format!("127.0.{}.{}:1", n / 250 % 250, n % 250), "/config");
    }
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.records < 2_000, "{report}");
    assert_eq!(counted(&report), (0, 0, 20_000), "{report}");
}

#[tokio::test]
async fn records_of_changes_wait_for_the_disk_up_to_a_bound_and_the_rest_is_counted() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("audit");
    let trail = open(options(&directory)).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    for n in 0..10_000 {
        trail.config_loaded("9f2c1a7b03de", None, n, "file");
    }
    let wait_until = async |is_writable| {
        while trail.status().writable.is_ok() != is_writable {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    wait_until(false).await;
    fs::create_dir(&directory).unwrap();
    wait_until(true).await;
    trail.close();
    let lines = lines(&directory);
    let of = |event: &str| {
        let event = format!("\"event\":\"{event}\"");
        lines.iter().filter(move |line| line.contains(&event))
    };
    assert_eq!(of("config.loaded").count(), 4096);
    // How many the writer took before it met the failure is up to the scheduler; that
    // each of the others is counted once is not.
    let not_kept = of("trail.recovered").filter_map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["not_kept"].as_u64()
    });
    assert_eq!(not_kept.sum::<u64>(), 5904);
}

#[tokio::test]
async fn a_closed_trail_takes_no_intent() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    let worker = trail.for_worker();
    trail.close();
    assert_eq!(
        worker.intent(intent(RequestId::next())).await.unwrap_err(),
        Unavailable
    );
}
