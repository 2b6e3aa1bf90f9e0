//! What collecting costs: records a second into a database, and the shipper's own CPU.
//!
//! `DATABASE_URL_FILE=url cargo bench --bench collected [-- RECORDS]`, with a database
//! that `audit migrate` was run on; 1 million records by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that can't go on has nothing better to do"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_gateway::{
    audit::{IntentRecord, Options, OutcomeKind, OutcomeRecord, Sent, Trail, WorkerTrail},
    config::settings::{Audit, Checkpoint, Durability, SecretSource, Ship, Trust},
    ids::RequestId,
    ship::{Shipper, State},
};

fn main() {
    let records = std::env::args()
        .find_map(|argument| argument.parse::<u64>().ok())
        .unwrap_or(1_000_000);
    let Some(url) = std::env::var_os("DATABASE_URL_FILE") else {
        println!("DATABASE_URL_FILE names no file: nothing is measured");
        return;
    };
    let ship = Ship {
        gateway: Some("bench".to_owned()),
        url: SecretSource::File(PathBuf::from(url)),
        trust: Trust::System,
        allow_plaintext: true,
    };
    let directory = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target"))
        .expect("a directory on the disk that is measured");
    make(directory.path(), records);
    let trail = open(directory.path());
    let state = Arc::new(State::new(Arc::clone(
        trail.collected().expect("what is collected"),
    )));
    let head = trail.status().head.seq;
    let before = memory();
    let start = Instant::now();
    let shipper = Shipper::start(&trail, &ship, &state).expect("a thread");
    let mut cpu = 0.0;
    let mut peak = before;
    while state.lag(head).0 > 0 {
        std::thread::sleep(Duration::from_millis(20));
        cpu = cpu_of("ship").unwrap_or(cpu);
        peak = peak.max(memory());
        if let Some((_, trouble)) = state.trouble() {
            println!("{trouble}");
        }
    }
    let took = start.elapsed().as_secs_f64();
    let written = state.records() as f64;
    println!(
        "{written} records in {took:.1} s: {:.0} records/s; the shipper took {cpu:.2} s of CPU: {:.0} records/s and core; {} kB more memory at most",
        written / took,
        written / cpu,
        peak.saturating_sub(before)
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(shipper.close());
    trail.close();
}

fn open(directory: &Path) -> Trail {
    let options = Options {
        settings: Audit {
            directory: directory.to_owned(),
            durability: Durability::Relaxed,
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
        collected: Some(Arc::default()),
    };
    Trail::open(options, &mut |_| {}).expect("a trail")
}

/// A trail as long as that.
fn make(directory: &Path, records: u64) {
    let trail = open(directory);
    let flusher = trail.flusher();
    let before_park = Arc::clone(&flusher);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || _ = before_park.before_park())
        .build()
        .expect("a runtime")
        .block_on(async {
            let worker = trail.for_worker().flushed_by(flusher);
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

async fn call(trail: &WorkerTrail) {
    let request_id = RequestId::next();
    // Different each time, as in life: indexes cost what they cost.
    let credential = request_id.as_str().replace('-', "");
    let intent = IntentRecord {
        request_id,
        caller_request_id: None,
        tenant: "billing",
        token: "2026-11",
        peer: "127.0.0.1:51512",
        user: credential.get(8..32).unwrap_or_default(),
        credential: credential.get(..24).unwrap_or_default(),
        config: "9f2c1a7b03de",
    };
    let intent = trail.intent(intent).await.expect("the disk takes intents");
    let outcome = OutcomeRecord {
        outcome: OutcomeKind::Deleted,
        status: 200,
        code: None,
        upstream_status: Some(200),
        attempts: 1,
        attempt_ends: &["200"],
        sent: Sent::Yes,
        latency_us: 81_234,
    };
    trail.outcome(intent, outcome).await;
}

/// Seconds of CPU that the thread of this name took.
fn cpu_of(name: &str) -> Option<f64> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    for stat in stats {
        let (before, rest) = stat.rsplit_once(") ")?;
        if !before.ends_with(&format!("({name}")) {
            continue;
        }
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: u64 = [11, 12]
            .iter()
            .filter_map(|at| fields.get(*at)?.parse::<u64>().ok())
            .sum();
        return Some(ticks as f64 / 100.0);
    }
    None
}

/// Memory in use, in kB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or_default()
}
