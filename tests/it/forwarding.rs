//! What the upstream does, and what callers and trail are told of it.

use std::{
    iter,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::{Behaviour, answer};
use base64_free as b64;

use crate::support::{Gateway, KEY, Response, Setup, USER, assert_refusal};

/// Base64 by RFC 4648 §4, written here so that the gateway's own is not trusted.
mod base64_free {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub fn encode(bytes: &[u8]) -> String {
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let mut group = [0_u8; 3];
            group[..chunk.len()].copy_from_slice(chunk);
            let number = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            for at in 0..4_usize {
                if at <= chunk.len() {
                    let index = (number >> (18 - 6 * at)) & 63;
                    out.push(char::from(ALPHABET[usize::try_from(index).unwrap()]));
                } else {
                    out.push('=');
                }
            }
        }
        out
    }
}

fn outcome_of(gateway: &Gateway, response: &Response) -> serde_json::Value {
    let record = gateway.last_record_of(response);
    assert_eq!(record["event"], "request.outcome", "{record}");
    record
}

#[track_caller]
fn assert_outcome(
    gateway: &Gateway,
    response: &Response,
    outcome: &str,
    sent: &str,
    attempts: u64,
) {
    let record = outcome_of(gateway, response);
    assert_eq!(record["outcome"], outcome, "{record}");
    assert_eq!(record["sent"], sent, "{record}");
    assert_eq!(record["attempts"], attempts, "{record}");
    assert_eq!(record["status"], response.status, "{record}");
}

#[test]
fn answers_of_the_upstream_pass_back_with_their_status_and_body() {
    let gateway = Setup::default()
        .upstream("retries: 0")
        .upstream("circuit_breaker: off")
        .start();
    let cases = [
        (200, r#"{"success":false}"#, "not-deleted"),
        (200, r#"{"other":1}"#, "in-doubt"),
        (200, "not json", "in-doubt"),
        (202, r#"{"success":true}"#, "in-doubt"),
        (400, r#"{"error":"bad"}"#, "not-deleted"),
        (403, r#"{"error":"no"}"#, "not-deleted"),
        (404, r#"{"error":"gone"}"#, "not-deleted"),
        (422, r#"{"error":"odd"}"#, "not-deleted"),
        (500, "", "in-doubt"),
        (503, "<html>", "in-doubt"),
    ];
    for (status, body, outcome) in cases {
        let fields = "X-Internal: 1\r\nSet-Cookie: a=b\r\nServer: x\r\nCache-Control: no-store\r\nConnection: keep-alive\r\n";
        gateway
            .alloy
            .script([Behaviour::answer(status, fields, body)]);
        let response = gateway.delete(USER, "c1");
        assert_eq!((response.status, response.text().as_str()), (status, body));
        assert_eq!(response.field("x-alloy-gateway-source"), Some("upstream"));
        assert_eq!(response.field("x-alloy-gateway-sent"), Some("yes"));
        assert_eq!(response.field("cache-control"), Some("no-store"));
        for dropped in ["x-internal", "set-cookie", "server"] {
            assert_eq!(response.field(dropped), None);
        }
        assert_outcome(&gateway, &response, outcome, "yes", 1);
    }
}

#[test]
fn answers_that_must_not_be_passed_on_become_502() {
    let gateway = Setup::default()
        .upstream("retries: 0")
        .upstream("circuit_breaker: off")
        .start();
    let percent: String = KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let cases = [
        (
            Behaviour::answer(401, "", "{}"),
            "upstream-rejected-key",
            "not-deleted",
        ),
        (
            Behaviour::answer(302, "Location: https://evil.example/\r\n", ""),
            "upstream-protocol",
            "in-doubt",
        ),
        (
            Behaviour::answer(200, "Content-Encoding: gzip\r\n", r#"{"success":true}"#),
            "upstream-protocol",
            "deleted",
        ),
        (Behaviour::Echo, "upstream-protocol", "deleted"),
        (
            Behaviour::answer(400, "", &b64::encode(KEY.as_bytes())),
            "upstream-protocol",
            "not-deleted",
        ),
        (
            Behaviour::answer(400, "", &b64::encode(format!("bearer {KEY}").as_bytes())),
            "upstream-protocol",
            "not-deleted",
        ),
        (
            Behaviour::answer(400, "", &percent),
            "upstream-protocol",
            "not-deleted",
        ),
        (
            Behaviour::answer(400, &format!("Cache-Control: {KEY}\r\n"), ""),
            "upstream-protocol",
            "not-deleted",
        ),
        (
            Behaviour::BytesThenClose(b"garbage\r\n\r\n".to_vec()),
            "upstream-protocol",
            "in-doubt",
        ),
        (
            Behaviour::BytesThenClose(
                b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
            ),
            "upstream-protocol",
            "in-doubt",
        ),
        (
            Behaviour::Endless {
                first: b"HTTP/1.1 200 OK\r\n".to_vec(),
                again: b"X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec(),
            },
            "upstream-protocol",
            "in-doubt",
        ),
        (
            Behaviour::Endless {
                first: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec(),
                again: vec![b'x'; 65536],
            },
            "upstream-protocol",
            "in-doubt",
        ),
    ];
    for (behaviour, code, outcome) in cases {
        let what = format!("{behaviour:?}")
            .chars()
            .take(100)
            .collect::<String>();
        gateway.alloy.script([behaviour]);
        let response = gateway.delete(USER, "c1");
        assert_eq!(response.json()["code"], code, "{what}: {}", response.text());
        assert_refusal(&response, 502, code, "yes");
        assert!(!response.text().contains(KEY));
        assert_outcome(&gateway, &response, outcome, "yes", 1);
    }
}

#[test]
fn a_truncated_answer_is_never_passed_on_as_whole() {
    let gateway = Setup::default()
        .upstream("retries: 0")
        .upstream("circuit_breaker: off")
        .start();
    let cut = [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"success\":true}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"success\":true}\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: appl",
    ];
    for bytes in cut {
        gateway
            .alloy
            .script([Behaviour::BytesThenClose(bytes.as_bytes().to_vec())]);
        let response = gateway.delete(USER, "c1");
        assert_eq!(response.status, 502, "{bytes:?} {response:?}");
        assert_ne!(response.field("x-alloy-gateway-sent"), Some("no"));
        assert_eq!(outcome_of(&gateway, &response)["outcome"], "in-doubt");
    }
    // Nothing of these is left on a connection that is used again.
    assert_eq!(
        gateway.delete(USER, "c2").json(),
        serde_json::json!({ "success": true })
    );
}

#[test]
fn a_reset_after_writing_is_tried_once_more_and_then_in_doubt() {
    let gateway = Setup::default().upstream("retries: 5").start();
    gateway.alloy.always(Behaviour::HardReset);
    let response = gateway.delete(USER, "c1");
    assert_refusal(&response, 502, "upstream-reset", "unknown");
    assert_outcome(&gateway, &response, "in-doubt", "unknown", 2);
    assert_eq!(gateway.alloy.received().len(), 2);
}

#[test]
fn a_call_is_not_sent_again_once_another_one_closed_the_gate_or_opened_the_breaker() {
    let says = |status, fields: &str| Behaviour::answer(status, fields, "{}");
    for (other, refused_as) in [
        (says(429, "Retry-After: 60\r\n"), "rate-limited"),
        (says(503, "Retry-After: 60\r\n"), "circuit-open"),
    ] {
        let gateway = Setup::default()
            .upstream("circuit_breaker: { failures: 1, open_for: 60s }")
            .start();
        // Long enough for the other call to come between the two attempts.
        let busy = says(503, "Retry-After: 3\r\n");
        gateway.alloy.script([busy, other]);
        thread::scope(|scope| {
            let call = scope.spawn(|| gateway.delete(USER, "c1"));
            assert!(gateway.alloy.wait_for(1, Duration::from_secs(30)));
            assert_ne!(gateway.delete(USER, "c2").status, 200);
            assert_eq!(gateway.delete(USER, "c3").json()["code"], refused_as);
            let ended = call.join().unwrap();
            assert_eq!(ended.status, 503, "{refused_as}");
            assert_outcome(&gateway, &ended, "in-doubt", "yes", 1);
        });
        assert_eq!(gateway.alloy.received().len(), 2, "{refused_as}");
    }
}

#[test]
fn calls_that_are_not_sent_again_take_nothing_of_the_budget_for_retries() {
    const CALLS: usize = 15;
    let gateway = Setup::default()
        .upstream("circuit_breaker: { failures: 1, open_for: 60s }")
        .start();
    // Long enough for another call to open the breaker before they end.
    let slow = Behaviour::Drip(answer(503, "", "{}"), Duration::from_millis(40));
    let opens = Behaviour::answer(503, "Retry-After: 60\r\n", "{}");
    let script = iter::repeat_n(slow, CALLS).chain([opens]);
    gateway.alloy.script(script);
    thread::scope(|scope| {
        let call = |n| gateway.delete(USER, &format!("c{n}")).status;
        let calls: Vec<_> = (0..CALLS).map(|n| scope.spawn(move || call(n))).collect();
        assert!(gateway.alloy.wait_for(CALLS, Duration::from_secs(30)));
        assert_eq!(gateway.delete(USER, "opens").status, 503);
        for call in calls {
            assert_eq!(call.join().unwrap(), 503);
        }
    });
    assert_eq!(gateway.alloy.received().len(), CALLS + 1);
    let exhausted = gateway
        .scrape()
        .get("upstream_retry_budget_exhausted_total");
    assert_eq!(exhausted, 0.0);
}

#[test]
fn a_404_after_an_attempt_of_unknown_end_is_marked_and_stays_in_doubt() {
    let gateway = Gateway::start();
    gateway.alloy.script([
        Behaviour::Reset,
        Behaviour::answer(404, "", r#"{"error":"gone"}"#),
    ]);
    let response = gateway.delete(USER, "c1");
    assert_eq!(response.status, 404);
    assert_eq!(
        response.field("x-alloy-gateway-outcome"),
        Some("gone-after-retry")
    );
    assert_eq!(response.field("x-alloy-gateway-sent"), Some("yes"));
    assert_outcome(&gateway, &response, "in-doubt", "yes", 2);
}

#[test]
fn a_deletion_after_a_retry_is_a_deletion() {
    let gateway = Gateway::start();
    gateway.alloy.script([Behaviour::Reset]);
    let response = gateway.delete(USER, "c1");
    assert_eq!(response.status, 200);
    assert_outcome(&gateway, &response, "deleted", "yes", 2);
}

#[test]
fn a_stalling_upstream_ends_at_the_deadline_with_504_and_without_retry_after() {
    let gateway = Setup::default()
        .upstream("request_timeout: 2s")
        .upstream("connect_timeout: 1500ms")
        .start();
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{".to_vec();
    for behaviour in [
        Behaviour::Stall(Duration::from_secs(30)),
        Behaviour::BytesThenStall(half, Duration::from_secs(30)),
        Behaviour::Drip(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            Duration::from_millis(200),
        ),
    ] {
        gateway.alloy.script([behaviour]);
        let start = Instant::now();
        let response = gateway.delete(USER, "c1");
        assert_eq!(response.field("retry-after"), None);
        assert_eq!(response.status, 504, "{response:?}");
        assert_eq!(response.json()["code"], "upstream-timeout");
        assert_ne!(response.field("x-alloy-gateway-sent"), Some("no"));
        assert_eq!(outcome_of(&gateway, &response)["outcome"], "in-doubt");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(gateway.delete(USER, "c2").status, 200);
}

#[test]
fn an_upstream_that_cannot_be_reached_means_that_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = format!("https://{free}");
    for url in [closed.as_str(), "https://name.invalid"] {
        let gateway = Setup::default()
            .upstream_url(url)
            .upstream("retries: 1")
            .start();
        let response = gateway.delete(USER, "c1");
        assert_refusal(&response, 502, "upstream-unreachable", "no");
        let record = outcome_of(&gateway, &response);
        assert_eq!(
            (&record["outcome"], &record["sent"]),
            (&"failed".into(), &"no".into()),
            "{record}"
        );
    }
}

#[test]
fn a_certificate_that_does_not_verify_means_that_nothing_was_sent() {
    // The same Alloy under a name that its certificate does not have.
    let other = Setup::default().start();
    let by_ip = other.alloy.url().replace("localhost", "127.0.0.1");
    let gateway = Setup::default()
        .upstream_url(by_ip)
        .upstream("retries: 0")
        .start();
    assert_refusal(
        &gateway.delete(USER, "c1"),
        502,
        "upstream-unreachable",
        "no",
    );
    // And one whose authority is another.
    let gateway = Setup::default()
        .upstream_url(other.alloy.url())
        .upstream("retries: 0")
        .start();
    assert_refusal(
        &gateway.delete(USER, "c1"),
        502,
        "upstream-unreachable",
        "no",
    );
    assert_eq!(other.alloy.received().len(), 0);
}

#[test]
fn a_kept_alive_connection_that_closes_as_it_is_reused_is_not_the_callers_problem() {
    let gateway = Setup::default().workers(1).start();
    for n in 0..40 {
        gateway.alloy.script([Behaviour::ThenClose]);
        let response = gateway.delete(USER, &format!("c{n}"));
        assert_eq!(response.status, 200, "{n}: {}", response.text());
    }
    // Never more than the calls and their allowed repetitions.
    assert!((40..=80).contains(&gateway.alloy.received().len()));
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_not_used_again() {
    let answer = alloy_gateway::simulated_alloy::answer(200, "", r#"{"success":true}"#);
    let later = Behaviour::BytesThenStall(answer, Duration::from_millis(20));
    // Together with the answer, and some time after it.
    for closing in [Behaviour::ThenClose, later] {
        let gateway = Setup::default().workers(1).upstream("retries: 0").start();
        gateway.alloy.script([closing.clone()]);
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        std::thread::sleep(Duration::from_millis(1500));
        // Without another attempt: it was seen before anything was written.
        assert_eq!(gateway.delete(USER, "c2").status, 200, "{closing:?}");
        assert_eq!(gateway.alloy.received().len(), 2);
        assert_eq!(gateway.alloy.connections(), 2);
    }
}

#[test]
fn connections_are_kept_alive_and_replaced_when_old_or_idle() {
    let gateway = Setup::default().workers(1).start();
    for n in 0..5 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    assert_eq!(gateway.alloy.connections(), 1);
    for line in ["connection_max_age: 100ms", "idle_timeout: 100ms"] {
        let gateway = Setup::default().workers(1).upstream(line).start();
        for n in 0..3 {
            assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
            std::thread::sleep(Duration::from_millis(150));
        }
        assert_eq!(gateway.alloy.connections(), 3, "{line}");
    }
}

#[test]
fn bytes_behind_an_answer_never_become_the_next_ones() {
    let gateway = Setup::default().workers(1).start();
    let two = [
        alloy_gateway::simulated_alloy::answer(404, "", "{}"),
        alloy_gateway::simulated_alloy::answer(200, "", r#"{"success":true}"#),
    ]
    .concat();
    gateway
        .alloy
        .script([Behaviour::Bytes(two), Behaviour::answer(403, "", "{}")]);
    assert_eq!(gateway.delete(USER, "c1").status, 404);
    assert_eq!(
        gateway.delete(USER, "c2").status,
        403,
        "the excess was taken for an answer"
    );
}

#[test]
fn interim_answers_are_skipped_up_to_a_small_number() {
    let gateway = Setup::default().upstream("retries: 0").start();
    let answer = |n: usize| {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(n);
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"success\":true}";
        Behaviour::Bytes((early + last).into_bytes())
    };
    gateway.alloy.script([answer(3)]);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    gateway.alloy.script([answer(2000)]);
    let response = gateway.delete(USER, "c1");
    assert_refusal(&response, 502, "upstream-protocol", "yes");
}
