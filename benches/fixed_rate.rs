//! Calls at a fixed rate, for `benches/peers.py`: latency counts from the time a
//! call was due, whether or not it could be sent then, so that a pause of the
//! server is not hidden by callers that wait for it (coordinated omission).
//!
//! fixed_rate ADDRESS PATH TOKENS CONNECTIONS RATE SECONDS; prints JSON, in µs.
//! Needs nothing but std: `rustc -O` builds it alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that can't go on has nothing better to do"
)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` starts it, too: there is nothing to do without a server.
    let [address, path, tokens, connections, rate, seconds] = args.as_slice() else {
        eprintln!("usage: fixed_rate ADDRESS PATH TOKENS CONNECTIONS RATE SECONDS");
        return;
    };
    // Sleeps end when they should; threads inherit it.
    fs::write("/proc/self/timerslack_ns", "1").expect("the timer slack of this thread");
    let tokens = fs::read_to_string(tokens).expect("the tokens");
    let requests: Vec<Vec<u8>> = tokens
        .lines()
        .map(|token| {
            format!(
                "DELETE {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n"
            )
            .into_bytes()
        })
        .collect();
    let connections: u64 = connections.parse().expect("a number of connections");
    let rate: u64 = rate.parse().expect("calls a second");
    let seconds: u64 = seconds.parse().expect("seconds");
    let start = Instant::now() + Duration::from_millis(200);
    let mut latencies: Vec<u64> = thread::scope(|scope| {
        let callers: Vec<_> = (0..connections)
            .map(|number| {
                let requests = &requests;
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).expect("a connection");
                    stream.set_nodelay(true).expect("no delay");
                    let timeout = Some(Duration::from_secs(10));
                    stream.set_read_timeout(timeout).expect("a time-out");
                    let numbers = (number..rate * seconds).step_by(connections as usize);
                    numbers
                        .map(|call| {
                            let due = start + Duration::from_nanos(call * 1_000_000_000 / rate);
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                            exchange(&mut stream, &requests[call as usize % requests.len()]);
                            due.elapsed().as_nanos() as u64
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let all = callers.into_iter();
        all.flat_map(|caller| caller.join().expect("a caller that ends"))
            .collect()
    });
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len() as f64 * share) as usize;
        latencies[place.min(latencies.len() - 1)] as f64 / 1e3
    };
    println!(
        "{{\"calls\":{},\"p50\":{:.1},\"p90\":{:.1},\"p99\":{:.1},\"p999\":{:.1},\"max\":{:.1}}}",
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Sends a request and reads its answer, which must be a 200 of a stated length.
fn exchange(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).expect("a request that goes out");
    let mut seen = Vec::with_capacity(2048);
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "the connection was closed");
        seen.extend_from_slice(&buffer[..read]);
        let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&seen[..end]).expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .expect("a content-length");
        if seen.len() >= end + 4 + length {
            return;
        }
    }
}
