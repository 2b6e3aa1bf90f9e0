//! What a caller can take of the gateway: each bound of the config, and what is
//! seen at it. Just within it a call goes well, and after it the gateway is as before.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;

use crate::support::{
    Connection, Gateway, Setup, USER, assert_refusal,
    client::{delete, request},
};

/// What is seen at a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// A refusal with this status and code; nothing is sent.
    Refused(u16, &'static str),
    /// The connection ends, and the trail says why.
    Closed(&'static str),
    /// The caller waits its turn and is served then.
    Waits,
}

use Class::{Closed, Refused, Waits};

/// A case: the key of `bounds`, or what else bounds it; what is taken too much of;
/// where the bound comes from; the line of the config; what is seen; the taking.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Class,
    fn(&Gateway, Class),
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("connections", "in all", "CWE-770", "connections: 3", Waits, connections),
    ("connections_per_peer", "of one address", "CWE-770", "connections_per_peer: 3", Closed("connections-per-peer"), connections_of_one_peer),
    ("requests_in_flight", "calls at a slow upstream", "CWE-770", "requests_in_flight: 2", Refused(503, "overloaded"), in_flight),
    ("requests_in_flight", "bodies that never come", "Slow POST, 2010", "requests_in_flight: 8", Refused(503, "overloaded"), slow_bodies_of_a_tenant),
    ("failed_auth", "guesses from one address", "CWE-307", "failed_auth: { requests: 3, per: 60s }", Refused(429, "rate-limited"), guesses),
    ("header_timeout", "a request line that stands still", "Slowloris, 2009", "header_timeout: 300ms", Closed("header-timeout"), |g, c| slow(g, c, "DELETE /users/")),
    ("header_timeout", "a field that stands still", "Slowloris, 2009", "header_timeout: 300ms", Closed("header-timeout"), |g, c| slow(g, c, "DELETE / HTTP/1.1\r\nX-A: ")),
    ("header_timeout", "the HTTP/2 preface", "RFC 9113 §3.4", "header_timeout: 300ms", Closed("header-timeout"), |g, c| slow(g, c, "PRI * HTTP/2.0\r\n\r\nSM")),
    ("header_timeout", "one byte", "Slowloris, 2009", "header_timeout: 300ms", Closed("header-timeout"), |g, c| slow(g, c, "P")),
    ("header_timeout", "the second head", "Slowloris, 2009", "header_timeout: 300ms", Closed("header-timeout"), second_head),
    ("body_timeout", "a length that does not come", "Slow POST, 2010", "body_timeout: 300ms", Refused(408, "request-timeout"), |g, c| body(g, c, "Content-Length: 9\r\n\r\n1234")),
    ("body_timeout", "chunks without an end", "Slow POST, 2010", "body_timeout: 300ms", Refused(408, "request-timeout"), |g, c| body(g, c, "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")),
    ("body_timeout", "trailers without an end", "RFC 9112 §7.1.2", "body_timeout: 300ms", Refused(408, "request-timeout"), |g, c| body(g, c, "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\r\n")),
    ("body_timeout", "100-continue and then nothing", "RFC 9110 §10.1.1", "body_timeout: 300ms", Refused(408, "request-timeout"), |g, c| body(g, c, "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")),
    ("idle_timeout", "nothing at all", "CWE-400", "idle_timeout: 300ms", Closed(""), |g, c| slow(g, c, "")),
    ("idle_timeout", "nothing after an answer", "RFC 9112 §9.3", "idle_timeout: 300ms", Closed(""), after_an_answer),
    ("idle_timeout", "empty lines and no request", "RFC 9112 §2.2", "idle_timeout: 300ms", Closed(""), empty_lines),
    ("idle_timeout", "empty lines after an answer", "RFC 9112 §2.2", "idle_timeout: 300ms", Closed(""), empty_lines_after_an_answer),
    ("empty lines", "without an end", "RFC 9112 §2.2", "idle_timeout: 30s", Closed("flood"), |g, c| slow(g, c, &"\r\n".repeat(5000))),
    ("empty lines", "behind a call", "RFC 9112 §2.2", "idle_timeout: 1h", Closed("flood"), empty_lines_behind_a_call),
    ("idle_timeout", "answers are not read", "Slow read, 2012", "idle_timeout: 1s", Closed(""), unread),
    ("headers", "65 fields", "RFC 9110 §5.4", "headers: 64", Refused(431, "headers-too-large"), fields),
    ("headers", "ten thousand fields", "RFC 6585 §5", "headers: 64", Closed("head-too-large"), |g, c| slow(g, c, &format!("DELETE / HTTP/1.1\r\n{}\r\n", "X-A: b\r\n".repeat(10_000)))),
    ("header_bytes", "a field above it", "RFC 6585 §5", "header_bytes: 8KiB", Refused(431, "headers-too-large"), |g, c| head(g, c, 8 << 10)),
    ("header_bytes", "a field far above it", "RFC 6585 §5", "header_bytes: 8KiB", Closed("head-too-large"), |g, c| slow(g, c, &format!("DELETE / HTTP/1.1\r\nX-A: {}", "a".repeat(1 << 20)))),
    ("header_bytes", "a request line above it", "RFC 9112 §3", "header_bytes: 8KiB", Refused(431, "headers-too-large"), request_line),
    ("header_bytes", "a request line far above it", "RFC 9112 §3", "header_bytes: 8KiB", Closed("head-too-large"), |g, c| slow(g, c, &format!("DELETE /{}", "a".repeat(1 << 20)))),
    ("body_bytes", "a length above it", "RFC 9110 §15.5.14", "body_bytes: 1KiB", Refused(413, "content-too-large"), |g, c| body(g, c, "Content-Length: 1025\r\n\r\n")),
    ("body_bytes", "chunks above it", "RFC 9110 §15.5.14", "body_bytes: 1KiB", Refused(413, "content-too-large"), |g, c| body(g, c, &format!("Transfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n", "a".repeat(1025)))),
    ("body_bytes", "far more, sent without waiting", "RFC 9112 §9.6", "body_bytes: 1KiB", Refused(413, "content-too-large"), |g, c| body(g, c, &format!("Content-Length: 5000000\r\n\r\n{}", "a".repeat(5_000_000)))),
    ("drain_timeout", "stopping is not held up", "design", "drain_timeout: 300ms", Closed(""), stopping),
    ("drain_delay", "a call while it lasts", "design", "drain_delay: 5s", Refused(503, "draining"), draining),
    ("pipelining", "requests ahead of their answers", "RFC 9112 §9.3.2", "headers: 64", Waits, pipelined),
];

#[test]
fn at_each_bound_is_seen_what_is_promised_and_a_good_call_goes_well_after_it() {
    let mut classes = std::collections::BTreeMap::<_, usize>::new();
    for (bound, what, source, line, class, take) in CASES {
        println!("{bound}: {what} ({source})");
        let setup = Setup::default().bound(line);
        let tenants = ["a", "b", "c"].into_iter();
        let gateway = tenants
            .fold(setup, |setup, name| setup.tenant(name, &["users: all"]))
            .start();
        take(&gateway, *class);
        if !bound.starts_with("drain") {
            // A place is free once the gateway has seen that its connection ended.
            wait_until(what, || {
                let call = delete(USER, "c999", gateway.token());
                let answer = gateway.connect().send(call).try_receive();
                answer.is_some_and(|answer| answer.status == 200)
            });
        }
        *classes.entry(format!("{class:?}")).or_default() += 1;
    }
    println!("{classes:?}");
}

#[test]
fn every_key_of_bounds_has_a_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = fs::read_to_string(root.join("config/full.yaml")).unwrap();
    let keys: Vec<_> = config
        .lines()
        .skip_while(|line| !line.starts_with("bounds:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.trim().split(':').next().unwrap())
        .collect();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        assert!(CASES.iter().any(|case| case.0 == key), "{key} has no case");
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: never");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The connection ends by itself, and the trail says why.
#[track_caller]
fn assert_closes(gateway: &Gateway, connection: &mut Connection, class: Class) {
    if let Some(answer) = connection.try_receive() {
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert!(connection.is_closed(), "it stayed open");
    let Closed(reason) = class else {
        panic!("{class:?}")
    };
    if !reason.is_empty() {
        gateway.record(reason, |record| {
            record["event"] == "connection.refused" && record["reason"] == reason
        });
    }
    assert_eq!(gateway.alloy.received().len(), 0);
}

#[track_caller]
fn assert_refused(gateway: &Gateway, connection: &mut Connection, class: Class) {
    let Refused(status, code) = class else {
        panic!("{class:?}")
    };
    let response = connection.receive();
    assert_refusal(&response, status, code, "no");
    assert_eq!(gateway.last_record_of(&response)["code"], code);
}

/// Three connections that were answered, and so have a place.
fn three(gateway: &Gateway) -> Vec<Connection> {
    let unknown = request("GET /x HTTP/1.1", gateway.token(), "");
    (0..3)
        .map(|_| {
            let mut connection = gateway.connect();
            assert_eq!(connection.send(&unknown).receive().status, 404);
            connection
        })
        .collect()
}

fn connections(gateway: &Gateway, _: Class) {
    let mut held = three(gateway);
    let mut fourth = gateway.connect();
    fourth.send(delete(USER, "c1", gateway.token()));
    let found = gateway.scrape();
    let open = format!("connections{{listener=\"{}\"}}", gateway.data);
    assert_eq!(
        (found.get(&open), found.get("connections_at_cap")),
        (3.0, 1.0)
    );
    assert_eq!(gateway.alloy.received().len(), 0);
    held.pop();
    assert_eq!(fourth.receive().status, 200);
}

fn connections_of_one_peer(gateway: &Gateway, class: Class) {
    let _held = three(gateway);
    assert_closes(gateway, &mut gateway.connect(), class);
}

/// Each tenant may take one of the two places; a third finds none.
fn in_flight(gateway: &Gateway, class: Class) {
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script(vec![Behaviour::Held(held); 2]);
    let call = |tenant| {
        let mut connection = gateway.connect();
        connection.send(delete(USER, "c1", gateway.token_of(tenant)));
        connection
    };
    let mut slow = ["a", "b"].map(call);
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(10)));
    assert_refused(gateway, &mut call("c"), class);
    release.send(true).unwrap();
    for connection in &mut slow {
        assert!(connection.try_receive().is_some());
    }
}

/// One tenant may take a quarter of the places, its bodies that do not come included.
fn slow_bodies_of_a_tenant(gateway: &Gateway, class: Class) {
    let opening = request(
        "DELETE /users/a/credentials/b HTTP/1.1",
        gateway.token(),
        "Content-Length: 9\r\n",
    );
    let mut crowd: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for connection in crowd.iter_mut().take(2) {
        connection.send(&opening);
    }
    // That they are being worked on shows in the count of the status page.
    wait_until("two calls in flight", || {
        gateway.admin("/status.json").json()["requests_in_flight"] == 2
    });
    for connection in crowd.iter_mut().skip(2) {
        assert_refused(gateway, connection.send(&opening), class);
    }
    for connection in crowd.iter_mut().take(2) {
        connection.send("123456789");
        assert_eq!(connection.receive().status, 404);
    }
}

fn guesses(gateway: &Gateway, class: Class) {
    for _ in 0..3 {
        let response = gateway.send(delete(USER, "c1", "agw_x"));
        assert_refusal(&response, 401, "unauthenticated", "no");
    }
    for _ in 0..10 {
        let guess = delete(USER, "c1", "agw_x");
        assert_refused(gateway, gateway.connect().send(guess), class);
    }
}

fn slow(gateway: &Gateway, class: Class, bytes: &str) {
    assert_closes(gateway, gateway.connect().send(bytes), class);
}

fn second_head(gateway: &Gateway, class: Class) {
    let mut connection = gateway.connect();
    let first = request("GET /x HTTP/1.1", gateway.token(), "");
    assert_eq!(connection.send(first).receive().status, 404);
    assert_closes(gateway, connection.send("DELETE /"), class);
}

fn body(gateway: &Gateway, class: Class, framing: &str) {
    let call = request(
        "DELETE /users/a/credentials/b HTTP/1.1",
        gateway.token(),
        "",
    );
    let bytes = call.trim_end().to_owned() + "\r\n" + framing;
    let mut connection = gateway.connect();
    connection.send(bytes);
    assert_refused(gateway, &mut connection, class);
    assert!(connection.is_closed());
    assert_eq!(gateway.alloy.received().len(), 0);
}

fn after_an_answer(gateway: &Gateway, class: Class) {
    let mut connection = gateway.connect();
    let unknown = request("GET /x HTTP/1.1", gateway.token(), "");
    assert_eq!(connection.send(unknown).receive().status, 404);
    assert_closes(gateway, &mut connection, class);
}

/// They are not a request, and nothing that moves.
fn empty_lines(gateway: &Gateway, _: Class) {
    trickle_until_closed(gateway.connect());
}

fn empty_lines_after_an_answer(gateway: &Gateway, _: Class) {
    let mut connection = gateway.connect();
    let unknown = request("GET /x HTTP/1.1", gateway.token(), "") + "\r\n\r";
    assert_eq!(connection.send(unknown).receive().status, 404);
    trickle_until_closed(connection);
}

/// Byte by byte, so that some reads end between the two of a line's end.
fn trickle_until_closed(mut connection: Connection) {
    let mut bytes = [b"\n", b"\r"].into_iter().cycle();
    wait_until("the end of empty lines", || {
        connection.send(bytes.next().unwrap()).has_more()
    });
    assert!(connection.is_closed());
}

/// The call is answered all the same.
fn empty_lines_behind_a_call(gateway: &Gateway, class: Class) {
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    connection.send("\r\n".repeat(5000));
    release.send(true).unwrap();
    assert_eq!(connection.receive().status, 200);
    assert!(connection.is_closed());
    gateway.record("the end", |record| {
        record["event"] == "connection.refused"
            && class == Closed("flood")
            && record["reason"] == "flood"
    });
}

fn unread(gateway: &Gateway, _: Class) {
    let mut stream = std::net::TcpStream::connect(gateway.data).unwrap();
    let many = request("GET /x HTTP/1.1", gateway.token(), "").repeat(100);
    stream
        .set_write_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // Written until the gateway reads no more, and then until it has had enough.
    let end = loop {
        if let Err(error) = stream.write_all(many.as_bytes()) {
            break error.kind();
        }
    };
    assert!(
        matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{end}"
    );
}

fn fields(gateway: &Gateway, class: Class) {
    // Host and Authorization are two.
    let with = |n: usize| {
        let fields: String = (0..n).map(|n| format!("X-{n}: y\r\n")).collect();
        request(
            "DELETE /users/a/credentials/b HTTP/1.1",
            gateway.token(),
            &fields,
        )
    };
    assert_eq!(gateway.send(with(62)).status, 404);
    assert_refused(gateway, gateway.connect().send(with(63)), class);
}

fn head(gateway: &Gateway, class: Class, bytes_max: usize) {
    let line = "DELETE /users/a/credentials/b HTTP/1.1";
    // All that counts: the target and the fields, without the method, version and ends.
    let counted = |fields: &str| {
        let text = request(line, gateway.token(), fields);
        text.len() - "DELETE  HTTP/1.1\r\n\r\n".len()
    };
    let empty = counted("X-A: \r\n");
    let with = |n: usize| {
        request(
            line,
            gateway.token(),
            &format!("X-A: {}\r\n", "a".repeat(n)),
        )
    };
    assert_eq!(gateway.send(with(bytes_max - empty)).status, 404);
    let above = with(bytes_max - empty + 1);
    assert_refused(gateway, gateway.connect().send(above), class);
}

fn request_line(gateway: &Gateway, class: Class) {
    let line = format!("DELETE /{} HTTP/1.1", "a".repeat(9 << 10));
    let bytes = request(&line, gateway.token(), "");
    assert_refused(gateway, gateway.connect().send(bytes), class);
}

fn stopping(gateway: &Gateway, _: Class) {
    let mut idle = gateway.connect();
    idle.send("DELETE /users/");
    gateway.process.signal(rustix::process::Signal::TERM);
    assert!(idle.is_closed());
}

fn draining(gateway: &Gateway, class: Class) {
    gateway.process.signal(rustix::process::Signal::TERM);
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("stopping")
    });
    let call = delete(USER, "c1", gateway.token());
    assert_refused(gateway, gateway.connect().send(call), class);
}

/// A head that came only in part with the request before it waits as long as that
/// request does: the caller has sent it, the gateway has not read it.
fn pipelined(_: &Gateway, _: Class) {
    let gateway = Setup::default().bound("header_timeout: 300ms").start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let all: String = (0..200)
        .map(|n| delete(USER, &format!("c{n}"), gateway.token()))
        .collect();
    let mut connection = gateway.connect();
    connection.send(all);
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    // One after another: the second is not begun before the first is answered.
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(gateway.alloy.received().len(), 1);
    release.send(true).unwrap();
    for n in 0..200 {
        let answer = connection.try_receive();
        assert!(answer.is_some_and(|answer| answer.status == 200), "{n}");
    }
}
