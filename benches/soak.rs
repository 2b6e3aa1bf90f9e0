//! A long run of mixed traffic: good, bad, slow and failing, with reconnects.
//! Memory and descriptors must be flat, and every call accounted for.
//!
//! `cargo bench --bench soak [-- MINUTES]`; 20 by default. Sends only to loopback.

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

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::{
    collections::HashSet,
    fs,
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{
    audit::{self, Filter},
    simulated_alloy::Behaviour,
};
use support::{Connection, Gateway, Setup, USER, delete, trail::sent};

fn main() {
    let minutes = std::env::args()
        .find_map(|argument| argument.parse::<u64>().ok())
        .unwrap_or(20);
    let gateway = Setup::default()
        .upstream("request_timeout: 800ms")
        .bound("header_timeout: 1s")
        .audit("segment_size: 4MiB")
        .log("error,alloy_gateway::cli=info")
        .start();
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let mut threads: Vec<_> = (0..8)
        .map(|caller| good(&gateway, caller, &stop, &calls))
        .collect();
    threads.push(strangers(&gateway, &stop));
    threads.push(slow(&gateway, &stop));
    println!(
        "{:>6}  {:>9}  {:>11}  {:>8}",
        "minute", "calls", "memory KiB", "files"
    );
    let start = Instant::now();
    let (mut first, mut round) = (None, 0_u32);
    for minute in 1..=minutes {
        while start.elapsed() < Duration::from_secs(60 * minute) {
            misbehave(&gateway, round);
            round += 1;
            thread::sleep(Duration::from_millis(50));
        }
        let now = (resident_kib(&gateway), descriptors(&gateway));
        first.get_or_insert(now);
        let calls = calls.load(Ordering::Relaxed);
        println!("{minute:>6}  {calls:>9}  {:>11}  {:>8}", now.0, now.1);
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a caller that saw nothing unexpected");
    }
    account(gateway, first.expect("a minute at least"));
}

/// Faults of all kinds, now and then.
fn misbehave(gateway: &Gateway, round: u32) {
    gateway.alloy.script([
        Behaviour::answer(503, "", "{}"),
        Behaviour::HardReset,
        Behaviour::ThenClose,
        Behaviour::Late(Duration::from_millis(100)),
        Behaviour::answer(404, "", "{}"),
        Behaviour::BytesThenClose(b"nonsense\r\n\r\n".to_vec()),
    ]);
    if round.is_multiple_of(100) {
        gateway
            .alloy
            .script([Behaviour::Stall(Duration::from_secs(2))]);
    }
}

fn good(
    gateway: &Gateway,
    caller: u32,
    stop: &Arc<AtomicBool>,
    calls: &Arc<AtomicU64>,
) -> thread::JoinHandle<()> {
    let (address, token) = (gateway.data, gateway.token().to_owned());
    let (stop, calls) = (Arc::clone(stop), Arc::clone(calls));
    thread::spawn(move || {
        let mut connection = Connection::open(address);
        for n in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if n % 50 == 0 {
                connection = Connection::open(address);
            }
            let credential = format!("s{caller}-{n}");
            let response = connection.send(delete(USER, &credential, &token)).receive();
            assert!(
                [200, 404, 502, 503, 504].contains(&response.status),
                "{}",
                response.text()
            );
            calls.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    })
}

fn strangers(gateway: &Gateway, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (address, stop) = (gateway.data, Arc::clone(stop));
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut connection = Connection::open(address);
            for _ in 0..20 {
                let response = connection.send(delete(USER, "c1", "agw_bad")).receive();
                assert!([401, 429].contains(&response.status), "{}", response.text());
            }
            thread::sleep(Duration::from_millis(50));
        }
    })
}

fn slow(gateway: &Gateway, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (address, stop) = (gateway.data, Arc::clone(stop));
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut crowd: Vec<_> = (0..20)
                .filter_map(|_| TcpStream::connect(address).ok())
                .collect();
            for byte in b"DELETE /users/a/creden" {
                for stream in &mut crowd {
                    let _ = stream.write_all(&[*byte]);
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    })
}

/// Every DELETE that arrived has an intent, every intent an outcome.
fn account(mut gateway: Gateway, (kib, files): (u64, usize)) {
    thread::sleep(Duration::from_secs(3));
    let at_end = (resident_kib(&gateway), descriptors(&gateway));
    assert!(gateway.stop().success());
    let report = gateway.verify();
    assert!(report.is_intact() && report.open == 0, "{report}");
    let mut recorded = HashSet::new();
    audit::query(
        gateway.audit(),
        &audit::Known::default(),
        &Filter::default(),
        |row| recorded.extend(row.credential),
        |_| {},
    )
    .expect("the trail");
    let sent = sent(&gateway);
    let missing = sent
        .iter()
        .filter(|credential| !recorded.contains(*credential))
        .count();
    println!(
        "at the end: {} KiB, {} files (first minute: {kib} KiB, {files} files)",
        at_end.0, at_end.1
    );
    println!(
        "{} DELETEs reached Alloy, {missing} of them without an intent; {report}",
        sent.len()
    );
    assert_eq!(missing, 0);
    assert!(
        at_end.0 < kib + kib / 4 && at_end.1 <= files,
        "memory or descriptors grew"
    );
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).expect("our process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

fn descriptors(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.process.id()))
        .expect("our process")
        .count()
}
