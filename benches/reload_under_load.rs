//! A hundred reloads of all kinds under steady load: no call is dropped, no wrong
//! key is sent, no bucket is refilled; what it does to the latency of good calls;
//! how long a revocation takes, on every worker; and ten restarts behind a socket
//! that outlives the process.
//!
//! `cargo bench --bench reload_under_load [-- RELOADS [ordinary]]`; 100 by default;
//! with `ordinary` without the configs of 100,000 tenants; with `aside` there is nothing
//! but their time in their place: what the machine does by itself. Sends only to
//! loopback. The callers, the simulated Alloy and the gateway share the machine, so
//! compare its columns with each other and with nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    dead_code,
    unused_imports,
    reason = "as in the suites that it shares its support with"
)]

#[path = "reload_under_load/restart.rs"]
mod restart;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{simulated_alloy::Behaviour, token::NewToken};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use support::{Connection, Gateway, Setup, USER, delete, gateway::secret};

const OTHER_KEY: &str = "the-key-of-the-other-tenant-0123456789";
const KINDS: [&str; 7] = [
    "good",
    "invalid",
    "half-written",
    "key rotated",
    "tenant removed",
    "certificate renewed",
    "100,000 tenants",
];
/// How many calls the limited tenant has in a day.
const BUDGET: u32 = 40;
/// About as long as a large one takes.
const LARGE: Duration = Duration::from_millis(1500);
/// Between the calls of one caller: a steady load, not a flood.
const PACE: Duration = Duration::from_millis(4);

/// What the callers share.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// The key that a call begun now must be sent with, or a later one.
    key: AtomicU32,
    /// When each good call began, and how long it took.
    took: Mutex<Vec<(Instant, Duration)>>,
    spent: AtomicU32,
}

fn main() {
    let reloads = std::env::args()
        .find_map(|argument| argument.parse::<u32>().ok())
        .unwrap_or(100);
    let kinds = match std::env::args().any(|argument| argument == "ordinary") {
        true => KINDS.len() - 1,
        false => KINDS.len(),
    };
    let (certificate, key) = certificate();
    let gateway = Setup::default()
        .file("api-key", key_of(0))
        .file("other-key", OTHER_KEY)
        .file("tls.crt", certificate)
        .file("tls.key", key)
        .listen("{ address: 127.0.0.1:0, tls: { certificate: { file: tls.crt }, key: { file: tls.key } } }")
        .tenant("app", &["users: all"])
        .tenant("limited", &["users: all", &format!("limits: [ {{ requests: {BUDGET}, per: 1d }} ]")])
        .tenant("other", &["users: all"])
        .tenant("leaver", &["users: all"])
        .log("error,alloy_gateway::cli=info")
        .start();
    gateway.edit_config(|text| {
        let keys = "keys:\n  second:\n    secret: { file: other-key }\n";
        let text = text.replace("keys:\n", keys);
        text.replace(
            "name: other\n    key: production",
            "name: other\n    key: second",
        )
    });
    reload(&gateway, 200);
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    let load = Arc::new(Load::default());
    let callers = callers(&gateway, &load);
    thread::sleep(Duration::from_secs(2));
    let calm = Instant::now();
    thread::sleep(Duration::from_secs(15));
    let began = Instant::now();
    let done = reload_all(&gateway, &load, reloads, kinds);
    let ended = Instant::now();
    load.stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller
            .join()
            .expect("a caller whose every call was answered as it should");
    }
    let took = std::mem::take(&mut *load.took.lock().unwrap());
    println!(
        "{:>22}  {:>7}  {:>8}  {:>8}  {:>8}",
        "", "calls", "p50", "p99", "max"
    );
    percentiles("before", &took, |at| (calm..began).contains(&at));
    percentiles("during the reloads", &took, |at| {
        (began..ended).contains(&at)
    });
    // With what comes after a reload, until the next one begins.
    let kind_at = |at: Instant| {
        let last = done.iter().rev().find(|reload| reload.began <= at);
        last.filter(|_| at < ended).map(|reload| reload.kind)
    };
    for (kind, name) in KINDS.iter().enumerate() {
        percentiles(name, &took, |at| kind_at(at) == Some(kind));
    }
    for (kind, name) in KINDS.iter().enumerate() {
        let of_kind = done.iter().filter(|reload| reload.kind == kind);
        if let Some(span) = of_kind.map(|reload| reload.took).max() {
            println!("slowest reload, {name}: {span:.1?}");
        }
    }
    let spent = load.spent.load(Ordering::Relaxed);
    println!("limited tenant: {spent} calls were let through, {BUDGET} a day are allowed");
    assert!(spent <= BUDGET + 1, "a bucket was refilled");
    assert_keys(&gateway);
    revocation(&gateway);
    drop(gateway);
    restart::restarts();
}

fn key_of(generation: u32) -> String {
    format!("the-key-of-generation-{generation:04}")
}

fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(["gateway.example".to_owned()]).unwrap();
    (names.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[track_caller]
fn reload(gateway: &Gateway, expected: u16) {
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, expected, "{}", said.get(..500).unwrap_or(&said));
}

/// Three of the unlimited tenant (two keep their connections, one does not), one
/// of the tenant with another key, one of the limited.
fn callers(gateway: &Gateway, load: &Arc<Load>) -> Vec<thread::JoinHandle<()>> {
    let token = |name: &str| gateway.token_of(name).to_owned();
    let address = gateway.data;
    vec![
        caller(address, token("app"), "app1", true, load),
        caller(address, token("app"), "app2", true, load),
        caller(address, token("app"), "app3", false, load),
        caller(address, token("other"), "other", true, load),
        limited(address, token("limited"), load),
    ]
}

fn caller(
    address: SocketAddr,
    token: String,
    name: &'static str,
    keeps: bool,
    load: &Arc<Load>,
) -> thread::JoinHandle<()> {
    let load = Arc::clone(load);
    thread::spawn(move || {
        let mut connection = Connection::open(address);
        let mut took = Vec::new();
        for n in 0_u32.. {
            if load.stop.load(Ordering::Relaxed) {
                break;
            }
            if !keeps {
                connection = Connection::open(address);
            }
            let key = load.key.load(Ordering::SeqCst);
            let call = delete(USER, &format!("{name}-{key}-{n}"), &token);
            let start = Instant::now();
            let response = connection.send(call).receive();
            took.push((start, start.elapsed()));
            assert_eq!(response.status, 200, "{}", response.text());
            thread::sleep(PACE);
        }
        load.took.lock().unwrap().extend(took);
    })
}

fn limited(address: SocketAddr, token: String, load: &Arc<Load>) -> thread::JoinHandle<()> {
    let load = Arc::clone(load);
    thread::spawn(move || {
        let mut connection = Connection::open(address);
        for n in 0_u32.. {
            if load.stop.load(Ordering::Relaxed) {
                return;
            }
            let call = delete(USER, &format!("limited-0-{n}"), &token);
            match connection.send(call).receive().status {
                200 => load.spent.fetch_add(1, Ordering::Relaxed),
                429 => 0,
                other => panic!("the limited tenant got {other}"),
            };
            thread::sleep(Duration::from_millis(20));
        }
    })
}

/// A reload that was done.
struct Done {
    kind: usize,
    began: Instant,
    took: Duration,
}

/// Replaces the config without reading the one before, which may be large.
fn put(gateway: &Gateway, text: &str) {
    let aside = gateway.path("config.new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, gateway.config_path()).unwrap();
}

fn reload_all(gateway: &Gateway, load: &Load, reloads: u32, kinds: usize) -> Vec<Done> {
    let mut done = Vec::new();
    let good = fs::read_to_string(gateway.config_path()).unwrap();
    let (kept, leaver) = good.split_at(good.find("  - name: leaver").unwrap());
    let many: String = (0..100_000)
        .map(|n: u64| {
            // Spread as real digests are: the look-up takes the first bytes for its hash.
            let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("  - {{ name: t{n}, key: production, users: all, tokens: [ {{ id: a, sha256: \"{spread:016x}{n:048x}\" }} ] }}\n")
        })
        .collect();
    // Written once, and put in place by its name alone: writing it costs the calls too.
    fs::write(gateway.path("large"), format!("{good}{many}")).unwrap();
    let is_aside = std::env::args().any(|argument| argument == "aside");
    let mut generation = 0;
    for n in 0..reloads {
        let kind = usize::try_from(n).unwrap() % kinds;
        let mut expected = 200;
        match kind {
            0 => put(gateway, &format!("{good}# {n}\n")),
            1 => {
                put(gateway, &good.replace("users: all", "users: nobody"));
                expected = 400;
            }
            2 => {
                // In place, cut within a line: what a writer leaves that was interrupted.
                let half = &good[..good.find("sha256: ").unwrap() + 20];
                fs::write(gateway.config_path(), half).unwrap();
                expected = 400;
            }
            3 => {
                generation += 1;
                put(gateway, &good);
                secret(&gateway.path("key.new"), &key_of(generation));
                fs::rename(gateway.path("key.new"), gateway.path("api-key")).unwrap();
            }
            4 => put(gateway, kept),
            5 => {
                let (certificate, key) = certificate();
                put(gateway, &format!("{kept}{leaver}"));
                fs::write(gateway.path("tls.crt"), certificate).unwrap();
                secret(&gateway.path("tls.key"), &key);
            }
            _ if is_aside => {}
            _ => {
                fs::hard_link(gateway.path("large"), gateway.path("config.new")).unwrap();
                fs::rename(gateway.path("config.new"), gateway.config_path()).unwrap();
            }
        }
        let began = Instant::now();
        if kind == KINDS.len() - 1 && is_aside {
            thread::sleep(LARGE);
        }
        reload(gateway, expected);
        let took = began.elapsed();
        done.push(Done { kind, began, took });
        // Whoever begins now must be sent with the key that was loaded.
        load.key.store(generation, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(150));
    }
    put(gateway, &good);
    reload(gateway, 200);
    done
}

fn percentiles(name: &str, took: &[(Instant, Duration)], is_wanted: impl Fn(Instant) -> bool) {
    let wanted = took.iter().filter(|(at, _)| is_wanted(*at));
    let mut spans: Vec<_> = wanted.map(|(_, span)| *span).collect();
    spans.sort();
    if spans.is_empty() {
        return;
    }
    let at = |share: f64| {
        let index = (spans.len() as f64 * share) as usize;
        format!("{:.2?}", spans[index.min(spans.len() - 1)])
    };
    println!(
        "{name:>22}  {:>7}  {:>8}  {:>8}  {:>8}",
        spans.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Each call was sent with its own tenant's key, and with none that was replaced
/// before it began.
fn assert_keys(gateway: &Gateway) {
    let received = gateway.alloy.received();
    let mut checked = 0;
    for request in &received {
        let text = request.text();
        let credential = text.split("/credentials/").nth(1).unwrap();
        let credential = credential.split(' ').next().unwrap();
        let mut parts = credential.split('-');
        let (name, least) = (parts.next().unwrap(), parts.next().unwrap());
        let key = text
            .lines()
            .find(|line| line.starts_with("authorization"))
            .unwrap();
        if name == "other" {
            assert!(
                key.ends_with(OTHER_KEY),
                "{credential} was sent with another key"
            );
        } else {
            let (_, sent) = key
                .split_once("the-key-of-generation-")
                .expect("a key of ours");
            let (sent, least): (u32, u32) = (sent.trim().parse().unwrap(), least.parse().unwrap());
            assert!(sent >= least, "{credential} was sent with the key {sent}");
        }
        checked += 1;
    }
    println!(
        "upstream: {checked} requests, each with its own tenant's key, none with a replaced one"
    );
}

/// From the change of the file to the first refusal on each of sixteen open
/// connections, which lie on all workers.
fn revocation(gateway: &Gateway) {
    for (way, rounds) in [
        ("POST /-/reload", 10),
        ("SIGHUP", 10),
        ("the file alone", 5),
    ] {
        let mut spans = Vec::new();
        for _ in 0..rounds {
            let token = NewToken::generate().unwrap();
            let digest = token.digest().to_hex();
            let good = fs::read_to_string(gateway.config_path()).unwrap();
            let line = good.lines().find(|line| line.contains("tokens:")).unwrap();
            let given = line.replace("]", &format!(", {{ id: extra, sha256: \"{digest}\" }} ]"));
            gateway.edit_config(|text| text.replacen(line, &given, 1));
            reload(gateway, 200);
            let mut open: Vec<_> = (0..16).map(|_| gateway.connect()).collect();
            let call = delete(USER, "app-0-0", token.reveal());
            for connection in &mut open {
                assert_eq!(connection.send(&call).receive().status, 200);
            }
            let start = Instant::now();
            gateway.edit_config(|_| good);
            match way {
                "SIGHUP" => gateway.process.signal(Signal::HUP),
                "the file alone" => {}
                _ => reload(gateway, 200),
            }
            for connection in &mut open {
                while connection.send(&call).receive().status == 200 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            spans.push(start.elapsed());
        }
        spans.sort();
        println!(
            "revoked by {way}: refused on all open connections after {:.1?} (median), {:.1?} (most)",
            spans[spans.len() / 2],
            spans[spans.len() - 1]
        );
    }
}
