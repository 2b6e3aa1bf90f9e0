//! Whom the end waits for, and whom not.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{
    Gateway, Setup, USER, delete,
    raw_h2::{
        DATA, END_HEADERS, END_STREAM, HEADERS, Raw, SETTINGS, WINDOW_UPDATE, block, call, status,
    },
};

const UNKNOWN: &str = "GET /x HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// A gateway that waits for those who may be waited for.
fn patient() -> Setup {
    Setup::default()
        .bound("drain_timeout: 10m")
        .bound("idle_timeout: 10m")
        .bound("header_timeout: 10m")
}

fn says_stopping(gateway: &Gateway) {
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("stopping")
    });
}

/// A connection that takes little before it is read from.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

fn silent_over_http2(address: SocketAddr) -> Raw {
    Raw::open(address)
}

/// Is answered, and never ends its body.
fn never_ends_its_body(address: SocketAddr) -> Raw {
    let mut raw = Raw::open(address);
    raw.send(HEADERS, END_HEADERS, 1, &block(&call("/x", "Bearer a")));
    assert_eq!(raw.fate(1), Some(404));
    raw
}

/// Never opens its window for the answer.
fn opens_no_window(address: SocketAddr) -> Raw {
    let mut raw = Raw::open(address);
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    raw.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.headers(1, &call("/x", "Bearer a"));
    assert_eq!(raw.fate(1), Some(404));
    raw
}

/// Reads none of its many answers.
fn reads_nothing(address: SocketAddr) -> TcpStream {
    let mut stream = narrow(address);
    stream.set_nonblocking(true).unwrap();
    let many = UNKNOWN.repeat(100);
    let mut is_full_since = None;
    loop {
        match stream.write(many.as_bytes()) {
            Ok(_) => is_full_since = None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let since = *is_full_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(500) {
                    return stream;
                }
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn says_a_part(address: SocketAddr, part: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(part.as_bytes()).unwrap();
    stream
}

/// Asks again and again, and answers no PING.
fn goes_on_asking(address: SocketAddr) -> thread::JoinHandle<()> {
    let mut raw = Raw::open(address);
    thread::spawn(move || {
        for stream in (1..).step_by(2) {
            if !raw.headers(stream, &call("/x", "Bearer a")) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    })
}

#[test]
fn strangers_who_say_and_read_nothing_do_not_hold_up_the_stop() {
    let mut gateway = patient().start();
    let address = gateway.data;
    let late = Duration::from_secs(4);
    gateway.alloy.script([Behaviour::Late(late)]);
    let mut called = gateway.connect();
    called.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    let _over_http2 = [
        silent_over_http2(address),
        never_ends_its_body(address),
        opens_no_window(address),
    ];
    let _over_http1 = [
        reads_nothing(address),
        says_a_part(address, "GET /x HT"),
        says_a_part(address, "PRI * HT"),
        says_a_part(address, ""),
    ];
    let asking = goes_on_asking(address);
    let start = Instant::now();
    says_stopping(&gateway);
    assert_eq!(called.receive().status, 200);
    assert_eq!(gateway.process.wait().code(), Some(0));
    let took = start.elapsed();
    // Nobody is waited for but the call.
    assert!(took < Duration::from_secs(60), "{took:?}");
    asking.join().unwrap();
    assert!(gateway.verify().is_intact());
}

/// As long as an answer that Alloy may give.
fn long_answer() -> (Behaviour, usize) {
    let body = "a".repeat(900 << 10);
    let length = body.len();
    (Behaviour::answer(400, "", &body), length)
}

/// How long a caller rests who reads at its own pace, and how much it reads then.
const REST: Duration = Duration::from_millis(150);
const BYTES: usize = 48 << 10;

#[test]
fn an_answer_that_is_being_read_when_the_gateway_stops_is_read_to_its_end() {
    let mut gateway = patient().start();
    let (answer, length) = long_answer();
    gateway.alloy.script([answer]);
    let mut caller = narrow(gateway.data);
    caller
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let bytes = delete(USER, "c1", gateway.token());
    caller.write_all(bytes.as_bytes()).unwrap();
    gateway.record("the outcome", |it| it["event"] == "request.outcome");
    says_stopping(&gateway);
    let mut read = 0;
    loop {
        let mut some = vec![0; BYTES];
        match caller.read(&mut some).unwrap() {
            0 => break,
            more => read += more,
        }
        thread::sleep(REST / 4);
    }
    assert!(read > length, "{read} of {length}");
    assert_eq!(gateway.process.wait().code(), Some(0));
}

#[test]
fn an_answer_that_is_being_read_over_http2_when_the_gateway_stops_is_read_to_its_end() {
    let mut gateway = patient().start();
    let (answer, length) = long_answer();
    gateway.alloy.script([answer]);
    let mut caller = Raw::open(gateway.data);
    let path = format!("/users/{USER}/credentials/c1");
    caller.headers(1, &call(&path, &format!("Bearer {}", gateway.token())));
    gateway.record("the outcome", |it| it["event"] == "request.outcome");
    says_stopping(&gateway);
    let (mut read, mut owed) = (0, 0);
    while let Some(frame) = caller.receive() {
        match frame.kind {
            HEADERS => assert_eq!(status(&frame.payload), 400),
            DATA => {
                read += frame.payload.len();
                owed += frame.payload.len();
                if owed >= BYTES {
                    thread::sleep(REST);
                    let more = u32::try_from(owed).unwrap().to_be_bytes();
                    caller.send(WINDOW_UPDATE, 0, 0, &more);
                    caller.send(WINDOW_UPDATE, 0, 1, &more);
                    owed = 0;
                }
            }
            _ => {}
        }
    }
    assert_eq!(read, length);
    assert_eq!(gateway.process.wait().code(), Some(0));
}

/// The end of one call gives its answer time, whatever went on before it.
#[test]
fn a_call_that_ends_long_after_the_stop_began_is_answered_over_http2() {
    let mut gateway = patient().start();
    let late = Duration::from_secs(3);
    gateway.alloy.script([Behaviour::Late(late)]);
    let mut caller = Raw::open(gateway.data);
    let path = format!("/users/{USER}/credentials/c1");
    caller.headers(1, &call(&path, &format!("Bearer {}", gateway.token())));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    says_stopping(&gateway);
    // Comes too late, and its refusal is no reason to end the connection.
    thread::sleep(Duration::from_secs(1));
    caller.send(
        HEADERS,
        END_HEADERS | END_STREAM,
        3,
        &block(&call("/x", "Bearer a")),
    );
    let (mut answered, mut refused) = (None, None);
    while let Some(frame) = caller.receive() {
        match (frame.kind, frame.stream) {
            (HEADERS, 1) => answered = Some(status(&frame.payload)),
            (HEADERS, 3) => refused = Some(status(&frame.payload)),
            _ => {}
        }
    }
    assert_eq!((answered, refused), (Some(200), Some(503)));
    assert_eq!(gateway.process.wait().code(), Some(0));
}
