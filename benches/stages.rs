//! What the stages of a call cost by themselves: contract, token look-up, limit,
//! the records of the trail, and its chain.
//!
//! `cargo bench --bench stages`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that can't go on has nothing better to do"
)]

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use alloy_gateway::{
    arrival::Peer,
    audit::{
        IntentRecord, Known, Options, OutcomeKind, OutcomeRecord, Sent, Trail, WorkerTrail, verify,
    },
    config::{
        Loaded,
        settings::{Audit, Checkpoint, Durability},
    },
    ids::RequestId,
    load,
    pipeline::{authenticate, authorize, contract, limit},
    snapshot::{self, Snapshot},
    token::NewToken,
};
use divan::{Bencher, black_box, counter::ItemsCount};
use futures_util::{FutureExt as _, future::join_all};
use http::{Request, header, request::Parts};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{runtime::Runtime, time::Instant};

const PATH: &str = "/users/689593e23e4c93cae95fd75c/credentials/63252d14cc29df15cc481a76";
const TENANTS: [usize; 3] = [10, 1_000, 100_000];

fn main() {
    divan::main();
}

/// A snapshot with so many tenants, and a request of each.
struct Stage {
    loaded: Loaded,
    snapshot: Snapshot,
    requests: Vec<Parts>,
    _directory: TempDir,
}

impl Stage {
    fn with(tenants: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("key"), "a-key-of-the-bench").expect("a key");
        let mut text = "version: 1\nlisten: [ { address: 127.0.0.1:0 } ]\n\
             upstream: { url: \"http://localhost:1\" }\n\
             keys: { k: { secret: { file: key } } }\ntenants:\n"
            .to_owned();
        let mut requests = Vec::with_capacity(tenants);
        for number in 0..tenants {
            let token = NewToken::generate().expect("random numbers");
            text += &format!(
                "  - {{ name: t{number}, key: k, users: all, tokens: [ {{ id: a, sha256: \"{}\" }} ], \
                 limits: [ {{ requests: 1000000, per: 1s }} ] }}\n",
                token.digest().to_hex()
            );
            requests.push(request(token.reveal()));
        }
        let path = directory.path().join("config.yaml");
        fs::write(&path, text).expect("a config");
        let loaded = load::file(&path).expect("a config that is right");
        let snapshot = snapshot::build(&loaded.settings, &loaded.digest, None)
            .expect("a snapshot")
            .with_lasting();
        Self {
            loaded,
            snapshot,
            requests,
            _directory: directory,
        }
    }

    fn read(&self, head: &Parts) -> contract::Call {
        let settings = &self.loaded.settings;
        contract::read(head, &settings.upstream, &settings.bounds).expect("the call is right")
    }

    fn identify(&self, head: &Parts, now: Timestamp) -> authenticate::Identity<'_> {
        let peer = Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 51_512)));
        authenticate::identify(&head.headers, &self.snapshot, &peer, now)
            .expect("the token is known")
    }
}

fn request(token: &str) -> Parts {
    let request = Request::delete(PATH)
        .header(header::HOST, "gateway")
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.body(()).expect("a request").into_parts().0
}

#[divan::bench]
fn contract_read(bencher: Bencher) {
    let stage = Stage::with(1);
    bencher.bench(|| stage.read(black_box(&stage.requests[0])));
}

/// Every token in turn: with 100,000 of them, caches are cold.
#[divan::bench(args = TENANTS)]
fn token_look_up(bencher: Bencher, tenants: usize) {
    let stage = Stage::with(tenants);
    let now = Timestamp::now();
    let mut requests = stage.requests.iter().cycle();
    bencher.bench_local(|| {
        let head = requests.next().expect("a request");
        black_box(stage.identify(head, now).tenant());
    });
}

/// No more calls than the limit lets pass at once.
#[divan::bench(sample_count = 100, sample_size = 1000)]
fn limit_admit(bencher: Bencher) {
    let stage = Stage::with(1);
    let head = &stage.requests[0];
    let call = stage.read(head);
    let identity = stage.identify(head, Timestamp::now());
    let since = Instant::now();
    bencher.bench(|| {
        let permit = authorize::permit(identity, black_box(&call)).expect("a permit");
        let entered = limit::enter(permit).expect("a place");
        let admitted = limit::admit(entered, None, since).now_or_never();
        let mut admitted = admitted.expect("no wait").expect("a limit that is far");
        admitted.spend();
    });
}

fn options(directory: &Path) -> Options {
    Options {
        settings: Audit {
            directory: directory.to_owned(),
            durability: Durability::Relaxed,
            intent_wait: Duration::from_secs(10),
            outcome_wait: Duration::from_secs(10),
            segment_size: 64 << 20,
            segment_age: Duration::from_secs(86_400),
            retention: None,
            checkpoint: Checkpoint {
                records: 1_000_000,
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

async fn record(trail: &WorkerTrail) {
    let intent = IntentRecord {
        request_id: RequestId::next(),
        caller_request_id: None,
        tenant: "billing",
        token: "2026-11",
        peer: "127.0.0.1:51512",
        user: "689593e23e4c93cae95fd75c",
        credential: "63252d14cc29df15cc481a76",
        config: "9f2c1a7b03de",
    };
    let intent = trail.intent(intent).await.expect("the disk takes intents");
    let outcome = OutcomeRecord {
        outcome: OutcomeKind::Deleted,
        status: 200,
        code: None,
        upstream_status: Some(200),
        attempts: 1,
        attempt_ends: &[],
        sent: Sent::Yes,
        latency_us: 81_234,
    };
    trail.outcome(intent, outcome).await;
}

/// As a worker has it: the writer is told when the thread is about to sleep.
fn worker(trail: &Trail) -> (Runtime, WorkerTrail) {
    let flusher = trail.flusher();
    let before_park = Arc::clone(&flusher);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || _ = before_park.before_park())
        .build()
        .expect("a runtime");
    let worker = runtime.block_on(async { trail.for_worker().flushed_by(flusher) });
    (runtime, worker)
}

/// Both records of a call, from the worker to the file and back (`relaxed`), of so
/// many calls at once. By way of the trail's thread, as with `strict`: a worker of the
/// gateway would write them itself.
#[divan::bench(args = [1, 64])]
fn record_intent_and_outcome(bencher: Bencher, calls: usize) {
    let directory = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target"))
        .expect("a directory on the disk that is measured");
    let trail = Trail::open(options(directory.path()), &mut |_| {}).expect("a trail");
    let (runtime, worker) = worker(&trail);
    bencher.counter(ItemsCount::new(calls)).bench_local(|| {
        runtime.block_on(join_all((0..calls).map(|_| record(&worker))));
    });
    trail.close();
}

/// Reading a trail back and hashing each record anew.
#[divan::bench(sample_count = 20)]
fn chain_verify(bencher: Bencher) {
    const CALLS: usize = 10_000;
    let directory = tempfile::tempdir().expect("a directory");
    let trail = Trail::open(options(directory.path()), &mut |_| {}).expect("a trail");
    let (runtime, worker) = worker(&trail);
    runtime.block_on(async {
        for _ in 0..CALLS / 100 {
            join_all((0..100).map(|_| record(&worker))).await;
        }
    });
    trail.close();
    bencher.counter(ItemsCount::new(CALLS * 2)).bench(|| {
        let report = verify(directory.path(), &Known::default(), |_| {}).expect("a trail");
        black_box(report)
    });
}
