//! What the trail costs: answers a second and records a sync by number of
//! callers, and reading a long trail back.
//!
//! `cargo bench --bench trail [-- RECORDS]`; 5 million records by default. All of
//! it runs on the disk of the current directory's `target`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that can't go on has nothing better to do"
)]

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_gateway::{
    audit::{IntentRecord, Options, OutcomeKind, OutcomeRecord, Sent, Trail, WorkerTrail},
    config::settings::{Audit, Checkpoint, Durability},
    ids::RequestId,
    server::driver,
};

/// How long each number of callers is measured.
const MEASURE_FOR: Duration = Duration::from_secs(3);

fn main() {
    let records = std::env::args()
        .find_map(|argument| argument.parse::<u64>().ok())
        .unwrap_or(5_000_000);
    let directory = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target"))
        .expect("a directory on the disk that is measured");
    println!("intent and outcome of one call after the other, by each caller");
    println!(
        "{:>8}  {:>8}  {:>10}  {:>16}",
        "callers", "", "answers/s", "records per sync"
    );
    for durability in [Durability::Strict, Durability::Relaxed] {
        for callers in [1, 8, 64, 256] {
            write(&directory.path().join("w"), durability, callers);
        }
    }
    let long = directory.path().join("long");
    make(&long, records);
    println!(
        "\nreading {records} records, {} MB",
        bytes(&long) / 1_000_000
    );
    read(&long, "verify", &[]);
    read(&long, "query", &["--credential", "nobody's", "-o", "json"]);
    let python = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/verify_trail.py"
    ));
    let start = Instant::now();
    let verified = Command::new("python3")
        .arg(python)
        .arg(&long)
        .stdout(Stdio::null())
        .status();
    if verified.is_ok_and(|status| status.success()) {
        say("verify_trail.py", start.elapsed(), &long, None);
    }
}

fn options(directory: &Path, durability: Durability) -> Options {
    Options {
        settings: Audit {
            directory: directory.to_owned(),
            durability,
            intent_wait: Duration::from_secs(10),
            outcome_wait: Duration::from_secs(10),
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

async fn call(trail: &WorkerTrail) {
    let request_id = RequestId::next();
    let intent = trail
        .intent(IntentRecord {
            request_id,
            caller_request_id: None,
            tenant: "billing",
            token: "2026-11",
            peer: "127.0.0.1:51512",
            user: "689593e23e4c93cae95fd75c",
            credential: "63252d14cc29df15cc481a76",
            config: "9f2c1a7b03de",
        })
        .await
        .expect("the disk takes intents");
    trail
        .outcome(
            intent,
            OutcomeRecord {
                outcome: OutcomeKind::Deleted,
                status: 200,
                code: None,
                upstream_status: Some(200),
                attempts: 1,
                attempt_ends: &[],
                sent: Sent::Yes,
                latency_us: 81_234,
            },
        )
        .await;
}

/// Makes calls on a worker, as the gateway has it.
fn on_worker<T, F>(trail: &Trail, calls: impl FnOnce(WorkerTrail) -> F + Send + 'static) -> T
where
    T: fmt::Debug + Send + 'static,
    F: Future<Output = T> + Send,
{
    let (trail, flusher) = (trail.clone(), trail.flusher());
    let main = Arc::clone(&flusher);
    let made = async move { calls(trail.for_worker().flushed_by(main)).await };
    driver::run("worker", flusher, made).expect("a runtime")
}

fn write(directory: &Path, durability: Durability, callers: u32) {
    let trail = Trail::open(options(directory, durability), &mut |_| {}).expect("a trail");
    let before = trail.status().totals;
    let start = Instant::now();
    let calls: u64 = on_worker(&trail, async move |worker| {
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let worker = worker.clone();
                tokio::spawn(async move {
                    let mut calls = 0;
                    while start.elapsed() < MEASURE_FOR {
                        call(&worker).await;
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut calls = 0;
        for task in tasks {
            calls += task.await.expect("a caller that ends");
        }
        calls
    });
    let seconds = start.elapsed().as_secs_f64();
    let after = trail.status().totals;
    trail.close();
    let syncs = after.syncs - before.syncs;
    let per_sync = if syncs == 0 {
        "no syncs".to_owned()
    } else {
        format!(
            "{:.1}",
            (after.records - before.records) as f64 / syncs as f64
        )
    };
    let name = if durability == Durability::Strict {
        "strict"
    } else {
        "relaxed"
    };
    println!(
        "{callers:>8}  {name:>8}  {:>10.0}  {per_sync:>16}",
        calls as f64 / seconds
    );
    fs::remove_dir_all(directory).expect("the directory is ours");
}

fn make(directory: &Path, records: u64) {
    let trail = Trail::open(options(directory, Durability::Relaxed), &mut |_| {}).expect("a trail");
    on_worker(&trail, async move |worker| {
        let tasks: Vec<_> = (0..256)
            .map(|_| {
                let worker = worker.clone();
                tokio::spawn(async move {
                    for _ in 0..records / 512 {
                        call(&worker).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a caller that ends");
        }
    });
    trail.close();
}

fn read(directory: &Path, verb: &str, args: &[&str]) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_alloy-gateway"))
        .args(["audit", verb])
        .arg(directory)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the gateway's binary");
    let mut peak = None;
    let status = loop {
        peak = peak_kib(child.id()).or(peak);
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "audit {verb} ended with {status}");
    say(&format!("audit {verb}"), start.elapsed(), directory, peak);
}

fn say(what: &str, took: Duration, directory: &Path, peak: Option<u64>) {
    let seconds = took.as_secs_f64();
    let bytes = bytes(directory) as f64;
    let lines = count(directory) as f64;
    let memory = peak.map_or_else(String::new, |kib| {
        format!(", peak {:.1} MB", kib as f64 / 1000.0)
    });
    println!(
        "{what:>16}: {seconds:.1} s, {:.0} MB/s, {:.0} records/s{memory}",
        bytes / seconds / 1e6,
        lines / seconds
    );
}

fn peak_kib(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the trail's directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

fn bytes(directory: &Path) -> u64 {
    let sizes = segments(directory).into_iter();
    sizes
        .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .sum()
}

fn count(directory: &Path) -> u64 {
    let texts = segments(directory)
        .into_iter()
        .filter_map(|path| fs::read(path).ok());
    texts
        .map(|text| memchr::memchr_iter(b'\n', &text).count() as u64)
        .sum()
}
