//! What a call costs more with a store of shared limits: the same gateway at the
//! same fixed rate with and without one, in turns.
//!
//! limits_store GATEWAY [RATE] [SECONDS] [TURNS]; GATEWAY is a release binary. Needs
//! redis-server. Prints the medians over the turns: CPU of the gateway and of Redis for
//! each call, and how long calls took from when they were due.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that can't go on has nothing better to do"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{
    simulated_alloy::{Options, SimulatedAlloy},
    token::NewToken,
};

const KEY: &str = "bench-key/0123456789";
const USER: &str = "689593e23e4c93cae95fd75c";
/// As the kernel counts CPU time, on Linux everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// Ends with the benchmark.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("its stat");
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .expect("a name")
            .1
            .split(' ')
            .collect();
        let ticks: f64 = [fields[12], fields[13]]
            .iter()
            .map(|ticks| ticks.parse::<f64>().expect("ticks"))
            .sum();
        ticks / TICKS_PER_SECOND
    }
}

#[derive(Debug, Clone, Copy)]
struct Figures {
    gateway_us: f64,
    redis_us: f64,
    p50_us: f64,
    p99_us: f64,
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    // `cargo bench` starts it, too: there is nothing to do without a gateway.
    let Some(binary) = args.first() else {
        eprintln!("usage: limits_store GATEWAY [RATE] [SECONDS] [TURNS]");
        return;
    };
    let number = |at: usize, default: u64| {
        args.get(at)
            .map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (rate, seconds, turns) = (number(1, 1000), number(2, 8), number(3, 3));
    let _ = fs::write("/proc/self/timerslack_ns", "1");
    let mut all: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for _ in 0..turns {
        for (name, with_store) in [("without", false), ("with", true)] {
            let figures = turn(binary, with_store, rate, seconds);
            println!("{name:>8} a store: {figures:?}");
            all.entry(name).or_default().push(figures);
        }
    }
    for (name, of) in &all {
        let median = |value: fn(&Figures) -> f64| {
            let mut values: Vec<_> = of.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{name:>8} a store, {rate} calls a second: gateway {:.1} µs CPU a call, redis {:.1} µs; p50 {:.0} µs, p99 {:.0} µs",
            median(|it| it.gateway_us),
            median(|it| it.redis_us),
            median(|it| it.p50_us),
            median(|it| it.p99_us)
        );
    }
}

fn turn(binary: &str, with_store: bool, rate: u64, seconds: u64) -> Figures {
    let directory = tempfile::tempdir().expect("a directory");
    let alloy = SimulatedAlloy::start(Options {
        tls: false,
        api_key: KEY.to_owned(),
        api_version: "2025-09".to_owned(),
        users: BTreeMap::from([(USER.to_owned(), vec!["c".to_owned()])]),
    })
    .expect("an upstream");
    let redis_port = free_port();
    let redis = Started(
        Command::new("redis-server")
            .args(["--port", &redis_port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server"),
    );
    let token = NewToken::generate().expect("a token");
    configure(
        directory.path(),
        &alloy.url(),
        &token,
        with_store.then_some(redis_port),
    );
    let mut gateway = Command::new(binary)
        .args(["serve", "-c"])
        .arg(directory.path().join("config.yaml"))
        .env("ALLOY_GATEWAY_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .map(Started)
        .expect("the gateway");
    let address = address(&mut gateway.0, with_store);
    let request = format!(
        "DELETE /users/{USER}/credentials/c HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n",
        token.reveal()
    );
    calls(&address, &request, rate, 1);
    let before = (gateway.cpu_seconds(), redis.cpu_seconds());
    let mut took = calls(&address, &request, rate, seconds);
    let of_calls = |before: f64, after: f64| (after - before) * 1e6 / took.len() as f64;
    let gateway_us = of_calls(before.0, gateway.cpu_seconds());
    let redis_us = of_calls(before.1, redis.cpu_seconds());
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e6;
    Figures {
        gateway_us,
        redis_us,
        p50_us: at(50),
        p99_us: at(99),
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn configure(directory: &Path, upstream: &str, token: &NewToken, redis_port: Option<u16>) {
    fs::write(directory.join("key"), KEY).expect("a key");
    let store = redis_port.map_or_else(String::new, |port| {
        fs::write(directory.join("url"), format!("redis://127.0.0.1:{port}")).expect("a URL");
        "limits_store: { redis: { url: { file: url } }, replicas: 3 }\n".to_owned()
    });
    let config = format!(
        "version: 1\nworkers: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\nadmin: {{ address: off }}\nupstream: {{ url: \"{upstream}\" }}\n\
         log: {{ access: off }}\naudit: {{ directory: audit, durability: relaxed }}\n{store}\
         keys: {{ k: {{ secret: {{ file: key }}, limits: [ {{ requests: 1000000, per: 1s }} ] }} }}\n\
         tenants:\n  - name: billing\n    key: k\n    users: all\n    limits: [ {{ requests: 1000000, per: 1s }}, {{ requests: 1000000, per: 60s }} ]\n    tokens: [ {{ id: t, sha256: \"{}\" }} ]\n",
        token.digest().to_hex()
    );
    fs::write(directory.join("config.yaml"), config).expect("a config");
}

fn address(gateway: &mut Child, with_store: bool) -> String {
    let mut lines = BufReader::new(gateway.stderr.take().expect("its log")).lines();
    let (mut address, mut is_shared) = (None, !with_store);
    while address.is_none() || !is_shared {
        let line = lines.next().expect("a line").expect("text");
        is_shared |= line.contains("limits are shared");
        if line.contains("\"listening\"") {
            let rest = line.split_once("\"address\":\"").expect("an address").1;
            address = rest.split('"').next().map(ToOwned::to_owned);
        }
    }
    // What it says further must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    address.expect("an address")
}

/// At a fixed rate over four connections; how long each call took from when it was due.
fn calls(address: &str, request: &str, rate: u64, seconds: u64) -> Vec<Duration> {
    let start = Instant::now() + Duration::from_millis(100);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).expect("a connection");
                    stream.set_nodelay(true).expect("no delay");
                    let numbers = (number..rate * seconds).step_by(4);
                    let one = |call| {
                        let due = start + Duration::from_nanos(call * 1_000_000_000 / rate);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        exchange(&mut stream, request);
                        due.elapsed()
                    };
                    numbers.map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        let all = callers.into_iter();
        all.flat_map(|caller| caller.join().expect("a caller that ends"))
            .collect()
    })
}

/// Sends a request and reads its answer, which the upstream must have given.
fn exchange(stream: &mut TcpStream, request: &str) {
    stream
        .write_all(request.as_bytes())
        .expect("a request that goes out");
    let mut seen = Vec::with_capacity(2048);
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "the connection was closed");
        seen.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.contains("x-alloy-gateway-source: upstream"), "{text}");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            value.trim().parse::<usize>().ok().filter(|_| is_it)
        });
        if body.len() >= length.expect("a content-length") {
            return;
        }
    }
}
