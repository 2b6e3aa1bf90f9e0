//! Start, end, and what a caller's leaving does to a call.

mod held_up;

use std::{
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{fault_point::FaultPoint, simulated_alloy::Behaviour};
use rustix::process::Signal;
use serde_json::Value;
use socket2::SockRef;

use crate::support::{
    CREDENTIAL, Gateway, Setup, USER, assert_refusal, binary, delete, fault_points,
    gateway::{Process, audit_verb},
    h2,
    raw_h2::{Raw, call},
};

#[test]
fn sigterm_answers_calls_under_way_seals_the_trail_and_exits_0() {
    let mut gateway = Gateway::start();
    gateway
        .alloy
        .script([Behaviour::Late(Duration::from_millis(600))]);
    let mut slow = gateway.connect();
    slow.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    gateway.process.signal(Signal::TERM);
    let response = slow.receive();
    assert_eq!(response.status, 200);
    assert_eq!(
        gateway.process.wait().code(),
        Some(0),
        "{}",
        gateway.process.output()
    );
    let trail = gateway.trail();
    assert_eq!(trail.last().unwrap()["event"], "trail.sealed");
    let report = gateway.verify();
    assert!(
        report.is_intact() && report.open == 0 && report.outcomes.deleted == 1,
        "{report}"
    );
    assert!(
        TcpStream::connect(gateway.data).is_err(),
        "it still listens"
    );
}

#[test]
fn a_call_on_an_open_connection_while_stopping_gets_503_draining() {
    let gateway = Gateway::start();
    gateway
        .alloy
        .script([Behaviour::Late(Duration::from_millis(800))]);
    let (mut slow, mut open) = (gateway.connect(), gateway.connect());
    // Half a request: the connection is busy, so it is not closed as idle.
    let bytes = delete(USER, "c2", gateway.token());
    let (half, rest) = bytes.split_at(20);
    open.send(half);
    slow.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    std::thread::sleep(Duration::from_millis(50));
    gateway.process.signal(Signal::INT);
    gateway.process.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("stopping"))
    });
    if let Some(response) = open.send(rest).try_receive() {
        assert_refusal(&response, 503, "draining", "no");
    }
    assert_eq!(slow.receive().status, 200);
    assert_eq!(gateway.alloy.received().len(), 1);
}

#[test]
fn while_drain_delay_lasts_new_calls_are_answered_503_and_the_listeners_stay_open() {
    let mut gateway = Setup::default().bound("drain_delay: 4s").start();
    let mut kept = gateway.connect();
    assert_eq!(
        kept.send(delete(USER, "c1", gateway.token()))
            .receive()
            .status,
        200
    );
    gateway
        .alloy
        .script([Behaviour::Late(Duration::from_millis(2000))]);
    let mut slow = gateway.connect();
    slow.send(delete(USER, "c2", gateway.token()));
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(10)));
    let mut streams = h2::Client::open(gateway.data);
    gateway.process.signal(Signal::TERM);
    assert!(streams.is_told_to_go_away());
    assert_eq!(gateway.admin("/readyz").status, 503);
    // Open and new connections alike; both end with the answer.
    for connection in [&mut kept, &mut gateway.connect()] {
        let response = connection
            .send(delete(USER, "c3", gateway.token()))
            .receive();
        assert_refusal(&response, 503, "draining", "no");
        assert_eq!(response.field("connection"), Some("close"));
        assert!(connection.is_closed());
    }
    assert_eq!(slow.receive().status, 200);
    assert!(gateway.process.wait().success());
    assert!(TcpStream::connect(gateway.data).is_err());
}

#[test]
fn a_second_signal_ends_it_at_once_with_exit_1_and_the_call_in_doubt() {
    let mut gateway = Gateway::start();
    gateway
        .alloy
        .script([Behaviour::Stall(Duration::from_secs(60))]);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    let start = Instant::now();
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("stopping"))
    });
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(20));
    let report = gateway.verify();
    assert!(report.is_intact(), "{report}");
    assert_eq!((report.outcomes.in_doubt, report.open), (1, 0), "{report}");
    assert_cut_is_told(&gateway, "a second signal");
}

/// Whoever looks why it ended with 1 learns how many calls were cut, why, and which.
fn assert_cut_is_told(gateway: &Gateway, why: &str) {
    let is_it = |line: &Value| line["in_doubt"] == 1;
    let line = gateway.process.wait_for(is_it);
    assert_eq!(
        (&line["level"], &line["calls"], &line["by"]),
        (&"warn".into(), &1.into(), &why.into()),
        "{line}"
    );
    let message = line["message"].as_str().unwrap();
    let query = message.split('`').nth(1).unwrap();
    let args: Vec<_> = query.split(' ').skip(3).collect();
    let output = audit_verb(gateway.audit(), "query", &args);
    let found = String::from_utf8(output.stdout).unwrap();
    assert!(
        query.starts_with("alloy-gateway audit query ") && found.contains("c1"),
        "{line}\n{found}"
    );
}

/// Whoever is told of the end beside the callers may not answer.
#[test]
fn a_second_signal_ends_it_at_once_also_when_all_calls_are_answered() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = silent.local_addr().unwrap();
    let mut gateway = Setup::default()
        .lines(&format!("otlp:\n  endpoint: http://{collector}\n"))
        .start();
    assert_eq!(gateway.delete(USER, CREDENTIAL).status, 200);
    let start = Instant::now();
    gateway.process.signal(Signal::TERM);
    while TcpStream::connect(gateway.data).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    // Long enough for the trail to be sealed, and not for the collector.
    thread::sleep(Duration::from_secs(1));
    assert!(gateway.trail_text().contains("trail.sealed"));
    assert!(!gateway.process.has_ended());
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.wait().code(), Some(1));
    assert!(gateway.verify().is_intact());
}

#[test]
fn draining_is_bounded_by_drain_timeout() {
    let mut gateway = Setup::default().bound("drain_timeout: 300ms").start();
    gateway
        .alloy
        .script([Behaviour::Stall(Duration::from_secs(60))]);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    let start = Instant::now();
    assert_eq!(gateway.stop().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_cut_is_told(&gateway, "bounds.drain_timeout");
}

#[test]
fn connections_that_said_nothing_but_empty_lines_do_not_hold_up_the_stop() {
    let mut gateway = Setup::default()
        .bound("drain_timeout: 10m")
        .bound("idle_timeout: 10m")
        .start();
    let (mut fresh, mut kept) = (gateway.connect(), gateway.connect());
    fresh.send("\r\n");
    let unknown = "GET /x HTTP/1.1\r\nHost: gateway\r\n\r\n\r\n\r";
    assert_eq!(kept.send(unknown).receive().status, 404);
    gateway.process.signal(Signal::TERM);
    for connection in [&mut fresh, &mut kept] {
        let end = Instant::now() + Duration::from_secs(30);
        while !connection.has_more() {
            assert!(Instant::now() < end, "it stayed open");
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(gateway.process.wait().code(), Some(0));
}

#[test]
fn sigusr1_and_sigusr2_are_ignored_with_a_line_that_says_what_would_be_right() {
    let mut gateway = Gateway::start();
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        gateway.process.signal(signal);
        let line = gateway.process.wait_for(|line| line["signal"] == name);
        let said = line["message"].as_str().unwrap();
        for word in ["ignored", "rotates by itself", "stderr", "SIGHUP"] {
            assert!(said.contains(word), "{said}");
        }
    }
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_caller_that_hangs_up_cannot_cut_a_call_that_was_sent() {
    let gateway = Gateway::start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script(vec![Behaviour::Held(held); 10]);
    for n in 0..10 {
        let mut connection = gateway.connect();
        connection.send(delete(USER, &format!("c{n}"), gateway.token()));
        assert!(gateway.alloy.wait_for(n + 1, Duration::from_secs(10)));
        drop(connection);
    }
    // The gateway has seen most of them go by then.
    release.send(true).unwrap();
    for n in 0..10 {
        let credential = format!("c{n}");
        let intent = gateway.record("intent", |record| {
            record["event"] == "request.intent" && record["credential"] == credential
        });
        let outcome = gateway.record("outcome", |record| record["intent"] == intent["seq"]);
        assert_eq!(outcome["outcome"], "deleted", "{outcome}");
    }
}

#[test]
fn no_delete_is_sent_before_its_intent_is_on_disk() {
    let gateway = Gateway::start();
    for n in 0..20 {
        let (release, held) = tokio::sync::watch::channel(false);
        gateway.alloy.script([Behaviour::Held(held)]);
        let mut connection = gateway.connect();
        connection.send(delete(USER, &format!("c{n}"), gateway.token()));
        assert!(gateway.alloy.wait_for(n + 1, Duration::from_secs(10)));
        // It has arrived, and not been answered: the intent has to be there now.
        let trail = gateway.trail();
        release.send(true).unwrap();
        let last = trail.last().unwrap();
        assert_eq!(
            (&last["event"], &last["credential"]),
            (&"request.intent".into(), &format!("c{n}").into())
        );
        assert_eq!(connection.receive().status, 200);
        // And with the answer, the outcome.
        let trail = gateway.trail();
        assert_eq!(trail.last().unwrap()["event"], "request.outcome");
    }
}

/// docs/audit-format.md: `connection.refused` is of a connection that ended before there was
/// a request. Of one that was worked on, the trail tells otherwise.
#[test]
fn a_caller_that_leaves_while_its_call_is_worked_on_was_not_turned_away() {
    let gateway = Gateway::start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.always(Behaviour::Held(held));
    let leaves: [fn(TcpStream) -> Option<TcpStream>; 3] = [
        |_closed| None,
        |half_closed| {
            half_closed.shutdown(Shutdown::Write).unwrap();
            Some(half_closed)
        },
        |reset| {
            let linger = SockRef::from(&reset).set_linger(Some(Duration::ZERO));
            linger.unwrap();
            None
        },
    ];
    let left_are = |count: usize| {
        let left = "connections_refused_total{reason=\"caller-left\"}";
        let end = Instant::now() + Duration::from_secs(10);
        while gateway.scrape().get(left) != count as f64 {
            assert!(Instant::now() < end, "{count}: {}", gateway.trail_text());
            thread::sleep(Duration::from_millis(20));
        }
    };
    for (n, leave) in leaves.into_iter().enumerate() {
        let mut caller = TcpStream::connect(gateway.data).unwrap();
        let bytes = delete(USER, &format!("c{n}"), gateway.token());
        caller.write_all(bytes.as_bytes()).unwrap();
        assert!(gateway.alloy.wait_for(n + 1, Duration::from_secs(10)));
        let _half_closed = leave(caller);
        left_are(n + 1);
    }
    let calls = leaves.len() + 1;
    let mut over_http2 = Raw::open(gateway.data);
    let path = format!("/users/{USER}/credentials/c{}", leaves.len());
    over_http2.headers(1, &call(&path, &format!("Bearer {}", gateway.token())));
    assert!(gateway.alloy.wait_for(calls, Duration::from_secs(10)));
    drop(over_http2);
    left_are(calls);
    release.send(true).unwrap();
    for n in 0..calls {
        let is_it = |record: &Value| record["credential"] == format!("c{n}");
        let intent = gateway.record("the intent", is_it);
        gateway.record("the outcome", |record| record["intent"] == intent["seq"]);
    }
    let is_refused = |record: &Value| record["event"] == "connection.refused";
    assert!(!gateway.trail().iter().any(is_refused));
    // A head that is not whole is none of a request.
    let mut caller = TcpStream::connect(gateway.data).unwrap();
    caller.write_all(b"DELETE / HTTP/1.1\r\nHost").unwrap();
    drop(caller);
    let refused = gateway.record("the end", is_refused);
    assert_eq!(refused["reason"], "cut-short");
}

#[test]
fn kill_9_in_the_middle_leaves_a_trail_that_verifies_and_closes_its_calls_at_the_next_start() {
    let mut gateway = Gateway::start();
    gateway.alloy.script([
        Behaviour::Contract,
        Behaviour::Stall(Duration::from_secs(60)),
    ]);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c2", gateway.token()));
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(10)));
    gateway.process.signal(Signal::KILL);
    gateway.process.wait();
    let report = gateway.verify();
    assert!(report.is_intact() && report.open == 1, "{report}");
    let mut again = crate::support::gateway::Process::spawn(&gateway.config_path(), "info");
    again.listening("data");
    again.signal(Signal::TERM);
    assert_eq!(again.wait().code(), Some(0), "{}", again.output());
    let report = gateway.verify();
    assert!(report.is_intact(), "{report}");
    assert_eq!(
        (
            report.open,
            report.outcomes.in_doubt,
            report.outcomes.deleted
        ),
        (0, 1, 1),
        "{report}"
    );
}

/// Bugs outside of any call: nothing else ends a worker.
#[test]
fn a_worker_that_cannot_serve_ends_the_start_and_one_that_is_gone_is_told() {
    if fault_points().next().is_none() {
        return;
    }
    let mut gateway = Setup::default()
        .env("ALLOY_GATEWAY_PANIC_AT", FaultPoint::WorkerServes.as_str())
        .workers(1)
        .start();
    let end = Instant::now() + Duration::from_secs(30);
    while gateway.admin("/livez").status != 503 {
        assert!(Instant::now() < end, "nobody notices");
        thread::sleep(Duration::from_millis(20));
    }
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("a worker is gone") && line["worker"] == 0
    });
    let said = gateway.admin("/readyz?verbose");
    assert_eq!(said.status, 503);
    assert!(
        said.text().contains("[-] workers alive: worker 0 is not\n"),
        "{}",
        said.text()
    );
    assert_eq!(gateway.stop().code(), Some(1));
    assert!(gateway.verify().is_intact());

    let mut again = Command::new(binary());
    again
        .args(["serve", "-c"])
        .arg(gateway.config_path())
        .env("ALLOY_GATEWAY_PANIC_AT", FaultPoint::WorkerStarts.as_str());
    let mut again = Process::run(again);
    assert_eq!(again.wait().code(), Some(1));
    let said = again.output();
    assert!(said.contains("cannot start a worker: "), "{said}");
    for untrue in ["\"ready\"", "a worker is gone"] {
        assert!(!said.contains(untrue), "{said}");
    }
}

#[test]
fn the_admin_listener_tells_liveness_and_readiness_and_checks_the_host() {
    let gateway = Gateway::start();
    for path in ["/livez", "/readyz", "/version", "/metrics"] {
        assert_eq!(gateway.admin(path).status, 200, "{path}");
    }
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let metrics = gateway.admin("/metrics").text();
    assert!(
        metrics.contains("alloy_gateway_requests_total"),
        "{metrics}"
    );
    let rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let response = crate::support::Connection::open(gateway.admin)
        .send(rebound)
        .receive();
    assert_ne!(response.status, 200);
    // And the data port has none of it.
    let response = gateway.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_refusal(&response, 404, "no-such-route", "no");
}

#[test]
fn idle_connections_and_slow_heads_are_ended_at_their_bounds() {
    let gateway = Setup::default()
        .bound("header_timeout: 300ms")
        .bound("idle_timeout: 300ms")
        .start();
    let mut idle = gateway.connect();
    assert!(idle.is_closed());
    let mut slow = gateway.connect();
    slow.send("DELETE /users/");
    if let Some(response) = slow.try_receive() {
        assert_eq!(response.status, 408);
    }
    let mut kept = gateway.connect();
    assert_eq!(
        kept.send(delete(USER, "c1", gateway.token()))
            .receive()
            .status,
        200
    );
    assert!(kept.is_closed());
    assert_eq!(gateway.delete(USER, "c2").status, 200);
}

#[test]
fn the_bound_of_connections_per_peer_holds() {
    let gateway = Setup::default().bound("connections_per_peer: 3").start();
    let mut held: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    // An answer shows that they were accepted.
    for (n, connection) in held.iter_mut().enumerate() {
        let response = connection
            .send(delete(USER, &format!("c{n}"), gateway.token()))
            .receive();
        assert_eq!(response.status, 200);
    }
    let mut more = gateway.connect();
    more.send(delete(USER, "c2", gateway.token()));
    assert!(more.is_closed(), "a fourth connection was served");
    drop(held);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut connection = gateway.connect();
        if connection
            .send(delete(USER, "c3", gateway.token()))
            .try_receive()
            .is_some()
        {
            break;
        }
        assert!(Instant::now() < end, "places are never given back");
    }
}

#[test]
fn who_waits_in_the_backlog_when_it_stops_is_answered() {
    let mut gateway = Gateway::start();
    // Frozen, it accepts nothing; what connects meanwhile waits in the backlog.
    gateway.process.signal(Signal::STOP);
    let mut waiting: Vec<_> = (0..50)
        .map(|n| {
            let mut connection = gateway.connect();
            connection.send(delete(USER, &format!("b{n}"), gateway.token()));
            connection
        })
        .collect();
    gateway.process.signal(Signal::TERM);
    gateway.process.signal(Signal::CONT);
    let answers = waiting
        .iter_mut()
        .filter_map(|connection| connection.try_receive());
    let statuses: Vec<_> = answers.map(|response| response.status).collect();
    let code = gateway.process.wait().code();
    // Alloy has none of these credentials.
    assert!(
        statuses.iter().all(|status| [404, 503].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(
        (statuses.len(), code),
        (50, Some(0)),
        "{}",
        gateway.process.output()
    );
}
