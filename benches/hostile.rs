//! Hostile load on loopback: what the gateway takes of memory and descriptors
//! before, during and after, and how a good caller fares meanwhile.
//!
//! `cargo bench --bench hostile [-- SECONDS [KIND]]`: so long for each kind, 10 by
//! default; or only for the kinds that have this word in their name.
//! Uses Debian's slowhttptest where it is installed. Sends only to loopback.

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
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use support::{
    Connection, Gateway, Setup, USER, delete,
    raw_h2::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, block, call},
};

/// Answers 401 or 429, each to a token that is none.
const BAD_TOKENS: u64 = 1_000_000;

/// What hostile callers do until they are told to stop; how often they did it.
type Hostility = fn(&Stage) -> u64;

/// What hostile callers know.
struct Stage {
    address: SocketAddr,
    token: String,
    stop: AtomicBool,
}

impl Stage {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        TcpStream::connect(self.address).ok()
    }

    fn crowd(&self, size: usize) -> Vec<TcpStream> {
        (0..size).filter_map(|_| self.connect()).collect()
    }

    fn wait(&self) {
        while self.goes_on() {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[rustfmt::skip]
const KINDS: &[(&str, Hostility)] = &[
    ("nobody else", |stage| { stage.wait(); 0 }),
    ("2,000 idle connections", |stage| { let crowd = stage.crowd(2000); stage.wait(); crowd.len() as u64 }),
    ("500 slow heads", |stage| slowly(stage, "DELETE /users/a/credentials/b HTTP/1.1\r\nHost: x\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaa")),
    ("500 slow bodies, with a good token", slow_bodies),
    ("slowhttptest, 1,000 slow heads", |stage| slowhttptest(stage, "-H")),
    ("slowhttptest, 1,000 slow bodies", |stage| slowhttptest(stage, "-B")),
    ("slowhttptest, 1,000 slow readers", |stage| slowhttptest(stage, "-X")),
    ("resets in the head", resets),
    ("rapid resets over HTTP/2", rapid_resets),
    ("answers never read", never_reading),
    ("1,000,000 bad tokens", |stage| bad_tokens(stage, BAD_TOKENS)),
    ("a tenant's flood at an upstream of 30 s", flood),
];

fn main() {
    let seconds = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(10);
    let only = std::env::args()
        .skip(1)
        .find(|argument| argument.parse::<u64>().is_err() && !argument.starts_with('-'));
    let gateway = Setup::default()
        .tenant("flooding", &["users: all"])
        .tenant("good", &["users: all"])
        .upstream("request_timeout: 40s")
        .log("error,alloy_gateway::cli=info")
        .start();
    let well = Behaviour::answer(200, "", r#"{"success":true}"#);
    gateway.alloy.always(well.clone());
    println!(
        "| {:<40} | {:>9} | {:>8} | {:>7} | {:>7} | {:>7} | {:>6} | {:>5} |",
        "hostile callers", "they did", "good", "of them", "p50 ms", "p99 ms", "MiB", "files"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (name, hostility) in KINDS {
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let mut held = Vec::new();
        if name.starts_with("a tenant") {
            held = fill(&gateway, "flooding");
        }
        let stage = Arc::new(Stage {
            address: gateway.data,
            token: gateway.token_of("flooding").to_owned(),
            stop: AtomicBool::new(false),
        });
        let hostile = {
            let (stage, hostility) = (Arc::clone(&stage), *hostility);
            thread::spawn(move || hostility(&stage))
        };
        thread::sleep(Duration::from_secs(1));
        let is_counted = name.ends_with("bad tokens");
        let good = Good::during(&gateway, || {
            if is_counted {
                while !hostile.is_finished() {
                    thread::sleep(Duration::from_millis(20));
                }
            } else {
                thread::sleep(Duration::from_secs(seconds));
            }
        });
        stage.stop.store(true, Ordering::Relaxed);
        let did = hostile.join().expect("hostile callers do not panic");
        for connection in &mut held {
            // By the vendor's contract: the first deletes it, the others find nothing.
            assert!(matches!(connection.receive().status, 200 | 404));
        }
        good.print(name, did + held.len() as u64);
    }
    thread::sleep(Duration::from_secs(seconds));
    Good::during(&gateway, || thread::sleep(Duration::from_secs(seconds))).print("after all", 0);
    assert!(gateway.verify().is_intact());
    if only.is_none() {
        overload(seconds);
    }
}

/// How good callers fared.
struct Good {
    /// In µs, of those that went well.
    latencies: Vec<u64>,
    calls: usize,
    kib: u64,
    files: usize,
}

impl Good {
    /// Four good callers, each over a kept connection and now and then a new one.
    fn during(gateway: &Gateway, something: impl FnOnce()) -> Self {
        let stop = AtomicBool::new(false);
        let highest = AtomicU64::new(0);
        let files = AtomicU64::new(0);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| calls(gateway, &stop)))
                .collect();
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    highest.fetch_max(resident_kib(gateway), Ordering::Relaxed);
                    files.fetch_max(descriptors(gateway) as u64, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(100));
                }
            });
            something();
            stop.store(true, Ordering::Relaxed);
            let mut all = Self {
                latencies: Vec::new(),
                calls: 0,
                kib: 0,
                files: 0,
            };
            for caller in callers {
                let (latencies, calls) = caller.join().expect("a good caller");
                all.latencies.extend(latencies);
                all.calls += calls;
            }
            all.kib = highest.load(Ordering::Relaxed);
            all.files = usize::try_from(files.load(Ordering::Relaxed)).expect("not many");
            all
        })
    }

    fn print(mut self, name: &str, did: u64) {
        self.latencies.sort_unstable();
        let share = 100.0 * self.latencies.len() as f64 / self.calls.max(1) as f64;
        let at = |percent: usize| {
            let at = self.latencies.len() * percent / 100;
            self.latencies.get(at).copied().unwrap_or_default() as f64 / 1e3
        };
        println!(
            "| {name:<40} | {did:>9} | {:>8} | {share:>5.2} % | {:>7.2} | {:>7.2} | {:>6.1} | {:>5} |",
            self.calls,
            at(50),
            at(99),
            self.kib as f64 / 1024.0,
            self.files
        );
    }
}

fn calls(gateway: &Gateway, stop: &AtomicBool) -> (Vec<u64>, usize) {
    let request = delete(USER, "good", gateway.token_of("good"));
    let mut connection = gateway.connect();
    let (mut latencies, mut calls) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        if calls % 20 == 19 {
            connection = gateway.connect();
        }
        let answer = connection.send(&request).try_receive();
        if answer.is_some_and(|answer| answer.status == 200) {
            latencies.push(u64::try_from(start.elapsed().as_micros()).expect("not long"));
        }
        calls += 1;
        thread::sleep(Duration::from_millis(5));
    }
    (latencies, calls)
}

fn slowly(stage: &Stage, head: &str) -> u64 {
    let mut begun = 0;
    while stage.goes_on() {
        let crowd = stage.crowd(500);
        begun += drip(stage, crowd, "", head);
    }
    begun
}

fn slow_bodies(stage: &Stage) -> u64 {
    let line = "DELETE /users/a/credentials/b HTTP/1.1";
    let head = support::client::request(line, &stage.token, "Content-Length: 99\r\n");
    let mut begun = 0;
    while stage.goes_on() {
        let crowd = stage.crowd(500);
        begun += drip(stage, crowd, &head, "0123456789");
    }
    begun
}

/// Sends `first` at once and then `bytes` one by one; how many connections there were.
fn drip(stage: &Stage, mut crowd: Vec<TcpStream>, first: &str, bytes: &str) -> u64 {
    for stream in &mut crowd {
        // The gateway may have had enough of it, here and below.
        let _ = stream.write_all(first.as_bytes());
    }
    for byte in bytes.bytes() {
        for stream in &mut crowd {
            let _ = stream.write_all(&[byte]);
        }
        thread::sleep(Duration::from_millis(300));
        if !stage.goes_on() {
            break;
        }
    }
    crowd.len() as u64
}

fn slowhttptest(stage: &Stage, mode: &str) -> u64 {
    let url = format!("http://{}/users/a/credentials/b", stage.address);
    let arguments = [
        "-c", "1000", "-r", "500", "-i", "1", "-p", "3", "-t", "DELETE", "-u", &url,
    ];
    let started = Command::new("slowhttptest")
        .args(["-l", "600", mode])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return 0 };
    stage.wait();
    // Only ever the process started here.
    let _ = child.kill();
    let _ = child.wait();
    1000
}

fn resets(stage: &Stage) -> u64 {
    let mut begun = 0;
    while stage.goes_on() {
        let Some(mut stream) = stage.connect() else {
            continue;
        };
        let _ = stream.write_all(b"DELETE /users/a/credentials/b HTTP/1.1\r\nHo");
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        begun += 1;
        if begun % 50 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    begun
}

fn rapid_resets(stage: &Stage) -> u64 {
    let path = format!("/users/{USER}/credentials/c1");
    let fields = block(&call(&path, "Bearer bad"));
    let mut resets = 0;
    while stage.goes_on() {
        let mut raw = Raw::open(stage.address);
        resets += (0..10_000)
            .take_while(|n| {
                raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &fields)
                    && raw.send(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])
            })
            .count() as u64;
    }
    resets
}

fn never_reading(stage: &Stage) -> u64 {
    let many = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let mut crowd = stage.crowd(200);
    for stream in &crowd {
        stream.set_nonblocking(true).expect("a socket");
    }
    while stage.goes_on() {
        for stream in &mut crowd {
            let _ = stream.write(&many);
        }
        thread::sleep(Duration::from_millis(50));
    }
    crowd.len() as u64
}

fn bad_tokens(stage: &Stage, count: u64) -> u64 {
    const AT_ONCE: u64 = 50;
    let guess = |n: u64| delete(USER, "c1", &format!("agw_{n:049}"));
    thread::scope(|scope| {
        let guessing = |caller: u64| {
            let mut connection = Connection::open(stage.address);
            for round in 0..count / 4 / AT_ONCE {
                let all: String = (0..AT_ONCE)
                    .map(|n| guess(caller * count + round * AT_ONCE + n))
                    .collect();
                connection.send(all);
                for _ in 0..AT_ONCE {
                    assert!(matches!(connection.receive().status, 401 | 429));
                }
            }
        };
        for caller in 0..4 {
            scope.spawn(move || guessing(caller));
        }
    });
    count
}

/// As many calls as a tenant may have in flight, each at an Alloy that takes 30 s.
///
/// All of them are at Alloy when this returns: nobody else gets one of its slow answers.
fn fill(gateway: &Gateway, tenant: &str) -> Vec<Connection> {
    const PLACES: usize = 256;
    let slow = Behaviour::Late(Duration::from_secs(30));
    let before = gateway.alloy.received().len();
    gateway.alloy.script(vec![slow; PLACES]);
    let request = delete(USER, "c1", gateway.token_of(tenant));
    let held = (0..PLACES)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send(&request);
            connection
        })
        .collect();
    let arrived = gateway
        .alloy
        .wait_for(before + PLACES, Duration::from_secs(20));
    assert!(arrived, "not all of the flood reached Alloy within 20 s");
    held
}

/// Ever more calls of a tenant that has no place left; how many were shed.
fn flood(stage: &Stage) -> u64 {
    let request = delete(USER, "c1", &stage.token);
    let mut connection = Connection::open(stage.address);
    let mut shed = 0;
    while stage.goes_on() {
        shed += u64::from(connection.send(&request).receive().status == 503);
    }
    shed
}

/// Several times as many callers as there are places: what is above is told so at once.
fn overload(seconds: u64) {
    let gateway = Setup::default()
        .tenant("billing", &["users: all", "in_flight: 64"])
        .bound("requests_in_flight: 64")
        .log("error,alloy_gateway::cli=info")
        .start();
    gateway
        .alloy
        .always(Behaviour::Late(Duration::from_millis(100)));
    let request = delete(USER, "c1", gateway.token());
    assert_eq!(gateway.send(&request).status, 200);
    let before = resident_kib(&gateway);
    let stop = AtomicBool::new(false);
    let (accepted, shed, highest) = thread::scope(|scope| {
        let callers: Vec<_> = (0..384)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = gateway.connect();
                    let (mut accepted, mut shed) = (Vec::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        match connection.send(&request).receive().status {
                            503 => shed.push(start.elapsed()),
                            _ => accepted.push(start.elapsed()),
                        }
                        thread::sleep(Duration::from_millis(20));
                    }
                    (accepted, shed)
                })
            })
            .collect();
        let mut highest = 0;
        for _ in 0..seconds * 10 {
            thread::sleep(Duration::from_millis(100));
            highest = highest.max(resident_kib(&gateway));
        }
        stop.store(true, Ordering::Relaxed);
        let (mut accepted, mut shed) = (Vec::new(), Vec::new());
        for caller in callers {
            let (of_caller, shed_of_caller) = caller.join().expect("a caller");
            accepted.extend(of_caller);
            shed.extend(shed_of_caller);
        }
        (accepted, shed, highest)
    });
    let start = Instant::now();
    let after = gateway.send(&request).status;
    println!(
        "\noverload: 384 callers, 64 places, an upstream of 100 ms, {seconds} s\n\
         {} accepted, p99 {:?}; {} shed, p99 {:?}; {before} KiB before, at most {highest} KiB; \
         the first call after it: {after} in {:?}",
        accepted.len(),
        p99(accepted),
        shed.len(),
        p99(shed),
        start.elapsed()
    );
}

fn p99(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans
        .get(spans.len() * 99 / 100)
        .copied()
        .unwrap_or_default()
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).expect("our process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("VmRSS")
}

fn descriptors(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.process.id()))
        .expect("our process")
        .count()
}
