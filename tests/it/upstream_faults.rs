//! The fault matrix of the upstream: what each fault is to the caller, how often
//! the DELETE arrived, and what the trail says; and the next call goes well.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{simulated_alloy::Behaviour, tls::ServerTls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::watch;

use crate::support::{Gateway, KEY, Setup, USER, assert_refusal};

const LONG: Duration = Duration::from_secs(30);

/// What must come of a fault.
struct Expected {
    status: u16,
    /// Empty where Alloy's own answer is passed on.
    code: &'static str,
    sent: &'static str,
    /// DELETEs that arrived.
    arrived: usize,
    outcome: &'static str,
}

const fn passed_on(status: u16, arrived: usize, outcome: &'static str) -> Expected {
    Expected {
        status,
        code: "",
        sent: "yes",
        arrived,
        outcome,
    }
}

const fn refused(
    status: u16,
    code: &'static str,
    sent: &'static str,
    arrived: usize,
    outcome: &'static str,
) -> Expected {
    Expected {
        status,
        code,
        sent,
        arrived,
        outcome,
    }
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[rustfmt::skip]
fn matrix() -> Vec<(&'static str, Vec<Behaviour>, Expected)> {
    use Behaviour::{BytesThenClose, BytesThenReset, BytesThenStall, Drip, Endless, HardReset, Reset, Stall};
    let own = |text: &str| vec![Behaviour::Bytes(bytes(text))];
    let closing = |text: &str| vec![BytesThenClose(bytes(text))];
    let twice = |behaviour: Behaviour| vec![behaviour.clone(), behaviour];
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let protocol = |arrived| refused(502, "upstream-protocol", "yes", arrived, "in-doubt");
    let timeout = || refused(504, "upstream-timeout", "unknown", 1, "in-doubt");
    vec![
        // Resets: before, in and after the header, in the body.
        ("closed before the header", twice(Reset), refused(502, "upstream-reset", "unknown", 2, "in-doubt")),
        ("reset before the header", twice(HardReset), refused(502, "upstream-reset", "unknown", 2, "in-doubt")),
        ("reset in the status line", twice(BytesThenReset(bytes("HTTP/1."))), refused(502, "upstream-reset", "unknown", 2, "in-doubt")),
        ("reset in the header", twice(BytesThenReset(bytes("HTTP/1.1 200 OK\r\nContent-Ty"))), refused(502, "upstream-reset", "unknown", 2, "in-doubt")),
        ("reset after the header", vec![BytesThenReset(bytes(&format!("{ok}Content-Length: 16\r\n\r\n")))], protocol(1)),
        ("reset in the body", vec![BytesThenReset(bytes(&format!("{ok}Content-Length: 16\r\n\r\n{{\"succ")))], protocol(1)),
        ("reset once, then well", vec![HardReset], passed_on(200, 2, "deleted")),
        // Stalls at each point.
        ("stall before the header", vec![Stall(LONG)], timeout()),
        ("stall in the header", vec![BytesThenStall(bytes("HTTP/1.1 200 OK\r\nContent"), LONG)], timeout()),
        ("stall after the header", vec![BytesThenStall(bytes(&format!("{ok}Content-Length: 16\r\n\r\n")), LONG)], timeout()),
        ("stall in the body", vec![BytesThenStall(bytes(&format!("{ok}Content-Length: 16\r\n\r\n{{")), LONG)], timeout()),
        ("stall in a chunk", vec![BytesThenStall(bytes(&format!("{ok}Transfer-Encoding: chunked\r\n\r\n10\r\n{{")), LONG)], timeout()),
        ("stall after an interim answer", vec![BytesThenStall(bytes("HTTP/1.1 103 Early Hints\r\n\r\n"), LONG)], timeout()),
        ("slow drip", vec![Drip(bytes(&format!("{ok}Content-Length: 16\r\n\r\n{{\"success\":true}}")), Duration::from_millis(40))], timeout()),
        // Interim answers and floods of fields.
        ("a few interim answers", own(&format!("{}{ok}Content-Length: 16\r\n\r\n{{\"success\":true}}", "HTTP/1.1 103 E\r\n\r\n".repeat(3))), passed_on(200, 1, "deleted")),
        ("a storm of interim answers", vec![Endless { first: Vec::new(), again: "HTTP/1.1 103 E\r\nLink: <x>\r\n\r\n".repeat(100).into_bytes() }], protocol(1)),
        ("a storm of interim answers after empty lines", vec![Endless { first: Vec::new(), again: "\nHTTP/1.1 103 E\r\nLink: <x>\r\n\r\n".repeat(100).into_bytes() }], protocol(1)),
        ("101", closing("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), protocol(1)),
        ("a flood of fields", vec![Endless { first: bytes("HTTP/1.1 200 OK\r\n"), again: "X-A: aaaaaaaaaaaaaaaa\r\n".repeat(100).into_bytes() }], protocol(1)),
        ("one endless field", vec![Endless { first: bytes("HTTP/1.1 200 OK\r\nX-A: "), again: vec![b'a'; 4096] }], protocol(1)),
        // Bodies.
        ("an endless body", vec![Endless { first: bytes("HTTP/1.1 200 OK\r\n\r\n"), again: vec![b'a'; 65536] }], protocol(1)),
        ("an endless chunked body", vec![Endless { first: bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), again: [bytes("1000\r\n"), vec![b'a'; 4096], bytes("\r\n")].concat() }], protocol(1)),
        ("a body above 1 MiB", closing(&format!("{ok}Content-Length: 1048577\r\n\r\n{}", "a".repeat(1_048_577))), protocol(1)),
        ("a body of exactly 1 MiB", closing(&format!("{ok}Content-Length: 1048576\r\n\r\n{}", "a".repeat(1_048_576))), passed_on(200, 1, "in-doubt")),
        ("a body shorter than its length", closing(&format!("{ok}Content-Length: 50\r\n\r\n{{\"success\":true}}")), protocol(1)),
        ("a body longer than its length", own(&format!("{ok}Content-Length: 16\r\n\r\n{{\"success\":true}}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), passed_on(200, 1, "deleted")),
        ("chunks without an end", closing(&format!("{ok}Transfer-Encoding: chunked\r\n\r\n10\r\n{{\"success\":true}}\r\n")), protocol(1)),
        ("a bad chunk size", closing(&format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n")), protocol(1)),
        ("a body until the connection closes", closing(&format!("{ok}\r\n{{\"success\":true}}")), passed_on(200, 1, "deleted")),
        ("both lengths: the chunks count (RFC 9112 §6.3 rule 3)", own(&format!("{ok}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{{\"success\":true}}\r\n0\r\n\r\n")), passed_on(200, 1, "deleted")),
        ("two lengths that differ", closing(&format!("{ok}Content-Length: 16\r\nContent-Length: 17\r\n\r\n{{\"success\":true}}")), protocol(1)),
        ("a length that is none", closing(&format!("{ok}Content-Length: abc\r\n\r\n{{}}")), protocol(1)),
        ("204 with a body", own("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"), passed_on(204, 1, "in-doubt")),
        ("304 with a body", own("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}"), refused(502, "upstream-protocol", "yes", 1, "in-doubt")),
        ("200 without a body", own("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), passed_on(200, 1, "in-doubt")),
        // Not HTTP.
        ("garbage", closing("\x15\x03\x01 this is no http\r\n\r\n"), protocol(1)),
        ("HTTP/0.9", closing("{\"success\":true}"), protocol(1)),
        ("HTTP/2 in the clear", closing("\0\0\0\x04\0\0\0\0\0"), protocol(1)),
        ("another protocol's version", closing("ICY 200 OK\r\n\r\n"), protocol(1)),
        ("status 99", closing("HTTP/1.1 99 Odd\r\nContent-Length: 0\r\n\r\n"), protocol(1)),
        ("status 999", own("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), protocol(1)),
        ("a space before a colon", closing("HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"), protocol(1)),
        ("NUL in a field", closing("HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 0\r\n\r\n"), protocol(1)),
        ("HTTP/1.0", closing("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"success\":true}"), passed_on(200, 1, "deleted")),
        // Answers that are not passed on, and those that are.
        ("a redirect", own("HTTP/1.1 307 X\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"), refused(502, "upstream-protocol", "yes", 1, "in-doubt")),
        ("a redirect to another method", own("HTTP/1.1 303 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), refused(502, "upstream-protocol", "yes", 1, "in-doubt")),
        ("401", vec![Behaviour::answer(401, "WWW-Authenticate: Bearer\r\n", "{}")], refused(502, "upstream-rejected-key", "yes", 1, "not-deleted")),
        ("a coding that was not asked for", vec![Behaviour::answer(200, "Content-Encoding: br\r\n", "{\"success\":true}")], refused(502, "upstream-protocol", "yes", 1, "deleted")),
        ("the key in the answer", vec![Behaviour::Echo], refused(502, "upstream-protocol", "yes", 1, "deleted")),
        ("500", vec![Behaviour::answer(500, "", "{}")], passed_on(500, 1, "in-doubt")),
        ("503 twice", twice(Behaviour::answer(503, "", "{}")), passed_on(503, 2, "in-doubt")),
        ("503 once, then gone", vec![Behaviour::answer(503, "", "{}"), Behaviour::answer(404, "", "{}")], passed_on(404, 2, "in-doubt")),
        ("502 once, then well", vec![Behaviour::answer(502, "", "{}")], passed_on(200, 2, "deleted")),
        ("503 that asks for more time than there is", vec![Behaviour::answer(503, "Retry-After: 60\r\n", "{}")], passed_on(503, 1, "in-doubt")),
        ("503 that asks for more seconds than a clock has", vec![Behaviour::answer(503, "Retry-After: 18446744073709551615\r\n", "{}")], passed_on(503, 1, "in-doubt")),
        ("503 that asks for more seconds than fit in any number", vec![Behaviour::answer(503, "Retry-After: 99999999999999999999\r\n", "{}")], passed_on(503, 1, "in-doubt")),
        ("503 that can't be passed on and asks for more time than there is", vec![Behaviour::answer(503, "Content-Encoding: gzip\r\nRetry-After: 60\r\n", "{}")], refused(502, "upstream-protocol", "yes", 1, "in-doubt")),
        ("503 that asks for a day in another age", vec![Behaviour::answer(503, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", "{}")], passed_on(503, 1, "in-doubt")),
        ("503 that asks for nonsense", twice(Behaviour::answer(503, "Retry-After: -1\r\n", "{}")), passed_on(503, 2, "in-doubt")),
    ]
}

#[test]
fn each_fault_ends_in_the_answer_that_is_promised_and_the_next_call_goes_well() {
    let within = |request: &str, connect: &str| {
        Setup::default()
            .workers(1)
            .upstream(&format!("request_timeout: {request}"))
            .upstream(&format!("connect_timeout: {connect}"))
            .upstream("circuit_breaker: off")
            .start()
    };
    // What ends at the deadline is tried with a short one, and nothing else.
    let (hasty, patient) = (within("1500ms", "1200ms"), within("20s", "10s"));
    let matrix = matrix();
    let mut budget = RetryBudget::default();
    for (n, (name, behaviours, expected)) in matrix.into_iter().enumerate() {
        let gateway = match expected.code {
            "upstream-timeout" => &hasty,
            _ => &patient,
        };
        // A deadline leaves no time for a retry.
        if expected.code != "upstream-timeout" {
            budget.leave_room_for(gateway);
        }
        let before = gateway.alloy.received().len();
        let first_record = gateway.trail().len();
        gateway.alloy.script(behaviours);
        let start = Instant::now();
        let response = gateway.delete(USER, &format!("c{n}"));
        // The deadline, and time for a busy machine.
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{name} took {:?}",
            start.elapsed()
        );
        let said = format!(
            "{name}: {} {}",
            response.status,
            response.text().chars().take(300).collect::<String>()
        );
        assert_eq!(response.status, expected.status, "{said}");
        if expected.code.is_empty() {
            assert_eq!(
                response.field("x-alloy-gateway-source"),
                Some("upstream"),
                "{said}"
            );
        } else {
            assert_eq!(response.json()["code"], expected.code, "{said}");
        }
        let sent = response.field("x-alloy-gateway-sent");
        // A header that was read whole is an answer: `yes` is as true as `unknown`.
        assert!(
            sent == Some(expected.sent)
                || (expected.code == "upstream-timeout" && sent == Some("yes")),
            "{said}: sent {sent:?}"
        );
        let record = gateway.last_record_of(&response);
        assert_eq!(record["outcome"], expected.outcome, "{name}: {record}");
        assert_eq!(record["sent"], sent.unwrap(), "{name}: {record}");
        let arrived = gateway.alloy.received().len() - before;
        assert_eq!(arrived, expected.arrived, "{said}: {record}");
        assert_eq!(record["attempts"], expected.arrived, "{name}: {record}");
        // The key is in nothing that came of it.
        let trail: String = gateway
            .trail()
            .iter()
            .skip(first_record)
            .map(ToString::to_string)
            .collect();
        let fields = format!("{:?}", response.fields);
        for output in [response.text(), fields, trail] {
            assert!(!output.contains(KEY), "{name}: the key is in {output}");
        }
        // And no connection is used again that might be out of step.
        let next = gateway.delete(USER, &format!("c{}", 300 + n));
        assert_eq!(
            (next.status, next.text().as_str()),
            (200, r#"{"success":true}"#),
            "after {name}"
        );
    }
    for gateway in [hasty, patient] {
        let output = gateway.process.output();
        assert!(!output.contains(KEY) && !output.contains("panicked"));
    }
}

/// Retries may be a fifth of the calls: faults that take one must be spread
/// between calls that take none.
#[derive(Default)]
struct RetryBudget {
    calls: usize,
}

impl RetryBudget {
    fn leave_room_for(&mut self, gateway: &Gateway) {
        for _ in 0..8 {
            self.calls += 1;
            let response = gateway.delete(USER, &format!("calm-{}", self.calls));
            assert_eq!(response.status, 404);
        }
    }
}

#[test]
fn retries_never_exceed_a_fifth_of_the_calls() {
    // However the calls are spread: each comes over a connection of its own.
    for workers in [1, 8] {
        let gateway = Setup::default()
            .workers(workers)
            .upstream("circuit_breaker: off")
            .start();
        gateway.alloy.always(Behaviour::answer(503, "", "{}"));
        let start = Instant::now();
        for n in 0..200 {
            assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 503);
        }
        let retries = gateway.alloy.received().len() - 200;
        // A fifth, and one a second for a gateway that has little to do, those of the
        // last ten seconds at once.
        let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
        assert!(
            (1..=200 / 5 + 10 + seconds).contains(&retries),
            "{workers} workers: {retries} retries of 200 calls in {seconds} s"
        );
    }
}

/// Servers whose TLS fails in some way: nothing was written, nothing was sent.
#[test]
fn a_handshake_that_fails_means_that_nothing_was_sent() {
    let authority = || {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(ca, key))
    };
    let (ca_pem, issuer) = authority();
    let (_, other_issuer) = authority();
    let leaf =
        |name: &str, change: fn(&mut CertificateParams), issuer: Option<&Issuer<'_, KeyPair>>| {
            let key = KeyPair::generate().unwrap();
            let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
            change(&mut leaf);
            let certificate = match issuer {
                Some(issuer) => leaf.signed_by(&key, issuer),
                None => leaf.self_signed(&key),
            };
            ServerTls::from_pem(
                certificate.unwrap().pem().as_bytes(),
                key.serialize_pem().as_bytes(),
            )
            .unwrap()
        };
    let unchanged: fn(&mut CertificateParams) = |_| {};
    let expired: fn(&mut CertificateParams) =
        |leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let early: fn(&mut CertificateParams) =
        |leaf| leaf.not_before = rcgen::date_time_ymd(2090, 1, 1);
    let servers = [
        ("self-signed", leaf("localhost", unchanged, None)),
        (
            "of another authority",
            leaf("localhost", unchanged, Some(&other_issuer)),
        ),
        (
            "for another name",
            leaf("elsewhere.example", unchanged, Some(&issuer)),
        ),
        ("expired", leaf("localhost", expired, Some(&issuer))),
        ("not yet valid", leaf("localhost", early, Some(&issuer))),
    ];
    for (name, tls) in servers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve_tls(listener, tls));
        assert_unreachable(name, address.port(), &ca_pem);
    }
    // A server that speaks TLS 1.1 at most: its ServerHello (RFC 4346 §7.4.1.3).
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let raw: [(&str, Vec<u8>); 4] = [
        ("TLS 1.1", hello),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        (
            "HTTP in the clear",
            bytes("HTTP/1.1 400 Bad Request\r\n\r\n"),
        ),
        ("nothing", Vec::new()),
    ];
    for (name, answer) in raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&answer);
                thread::sleep(if answer.is_empty() {
                    LONG
                } else {
                    Duration::from_millis(50)
                });
            }
        });
        assert_unreachable(name, port, &ca_pem);
    }
}

fn serve_tls(listener: TcpListener, tls: ServerTls) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever came this far would be answered as Alloy answers.
            if let Ok(mut stream) = tls.accept(stream).await {
                use tokio::io::AsyncWriteExt;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"success\":true}")
                    .await;
            }
        }
    });
}

#[track_caller]
fn assert_unreachable(name: &str, port: u16, ca_pem: &str) {
    let gateway = Setup::default()
        .upstream_url(format!("https://localhost:{port}"))
        .upstream("retries: 0")
        .upstream("connect_timeout: 400ms")
        .ca(ca_pem)
        .start();
    let response = gateway.delete(USER, "c1");
    assert_eq!(response.status, 502, "{name}: {}", response.text());
    assert_refusal(&response, 502, "upstream-unreachable", "no");
    let record = gateway.last_record_of(&response);
    assert_eq!(
        (&record["outcome"], &record["sent"]),
        (&"failed".into(), &"no".into()),
        "{name}: {record}"
    );
}

#[test]
fn a_call_whose_attempts_all_fail_is_one_warning() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut gateway = Setup::default()
        .upstream_url(format!("https://localhost:{}", address.port()))
        .upstream("retries: 2")
        .start();
    let answer = gateway.delete(USER, "c1");
    assert_eq!(answer.status, 502);
    assert_eq!(gateway.last_record_of(&answer)["attempts"], 3);
    assert!(gateway.stop().success());
    let output = gateway.process.output();
    let warnings = output.matches("an attempt to reach the upstream failed");
    assert_eq!(warnings.count(), 1, "{output}");
}

#[test]
fn an_answer_without_a_body_that_declares_one_is_the_last_on_its_connection() {
    let gateway = Setup::default().workers(1).start();
    let cases = [
        ("204 No Content", "", true),
        ("204 No Content", "Content-Length: 0\r\n", true),
        ("204 No Content", "Content-Length: 16\r\n", false),
        ("204 No Content", "Transfer-Encoding: chunked\r\n", false),
        ("304 Not Modified", "Content-Length: 0\r\n", true),
        ("304 Not Modified", "Content-Length: 16\r\n", false),
    ];
    for (n, (status, fields, is_used_again)) in cases.into_iter().enumerate() {
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        gateway.alloy.script([Behaviour::Bytes(bytes(&head))]);
        gateway.delete(USER, "c1");
        let next = gateway.delete(USER, &format!("c{}", 10 + n));
        assert_eq!(next.status, 200, "after {head:?}");
        let connections: Vec<_> = gateway
            .alloy
            .received()
            .iter()
            .map(|r| r.connection)
            .collect();
        let [.., first, second] = connections[..] else {
            panic!("{connections:?}");
        };
        assert_eq!(second == first, is_used_again, "after {head:?}");
    }
}

/// Six connections lie unused; then the upstream forgets them all.
fn with_six_lost_connections(gateway: &Gateway, behaviour: Behaviour) {
    let (release, released) = watch::channel(false);
    gateway.alloy.script(vec![Behaviour::Held(released); 6]);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|n| scope.spawn(move || gateway.delete(USER, &format!("c{n}")).status))
            .collect();
        assert!(gateway.alloy.wait_for(6, LONG));
        release.send_replace(true);
        for call in calls {
            assert_eq!(call.join().unwrap(), 200);
        }
    });
    assert_eq!(gateway.alloy.connections(), 6);
    gateway.alloy.lose_connections(behaviour);
}

#[test]
fn connections_that_the_upstream_resets_after_a_failover_cost_one_retry_in_all() {
    let gateway = Setup::default().workers(1).start();
    with_six_lost_connections(&gateway, Behaviour::HardReset);
    for n in 10..14 {
        let response = gateway.delete(USER, &format!("c{n}"));
        assert_eq!(response.status, 200, "{n}: {}", response.text());
        let attempts = if n == 10 { 2 } else { 1 };
        let record = gateway.last_record_of(&response);
        assert_eq!(record["attempts"], attempts, "{record}");
    }
}

#[test]
fn connections_that_fall_silent_after_a_failover_cost_one_call_in_all() {
    let gateway = Setup::default()
        .workers(1)
        .upstream("request_timeout: 2s")
        .upstream("connect_timeout: 1500ms")
        .start();
    with_six_lost_connections(&gateway, Behaviour::Stall(LONG));
    assert_refusal(
        &gateway.delete(USER, "c10"),
        504,
        "upstream-timeout",
        "unknown",
    );
    for n in 11..14 {
        let response = gateway.delete(USER, &format!("c{n}"));
        assert_eq!(response.status, 200, "{n}: {}", response.text());
    }
}

#[test]
fn a_breakers_probe_trusts_no_connection_from_before() {
    let gateway = Setup::default()
        .workers(1)
        .upstream("retries: 0")
        .upstream("request_timeout: 2s")
        .upstream("connect_timeout: 1500ms")
        .upstream("circuit_breaker: { failures: 1, open_for: 100ms }")
        .start();
    gateway.alloy.script([Behaviour::answer(503, "", "{}")]);
    let failed = gateway.delete(USER, "c10");
    assert_eq!(
        failed.field("x-alloy-gateway-source"),
        Some("upstream"),
        "{}",
        failed.text()
    );
    gateway.alloy.lose_connections(Behaviour::Stall(LONG));
    let probe = loop {
        let response = gateway.delete(USER, "c11");
        if response.status != 503 {
            break response;
        }
    };
    assert_eq!(probe.status, 200, "{}", probe.text());
}
