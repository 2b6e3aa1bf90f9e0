//! Every row of the refusal table, over a real socket, and in the trail.

use std::time::Duration;

use alloy_gateway::{fault_point::FaultPoint, simulated_alloy::Behaviour, token::NewToken};

use crate::support::{
    CREDENTIAL, FOREIGN_USER, Gateway, KEY, Response, Setup, USER, assert_refusal,
    client::{delete, request},
    fault_points,
    gateway::audit_verb,
};

/// The refusal is in the trail as the caller saw it.
#[track_caller]
fn assert_recorded(gateway: &Gateway, response: &Response, event: &str) -> serde_json::Value {
    let record = gateway.last_record_of(response);
    let problem = response.json();
    assert_eq!(record["event"], event, "{record}");
    assert_eq!(record["status"], problem["status"], "{record}");
    assert_eq!(record["code"], problem["code"], "{record}");
    record
}

fn call() -> String {
    format!("DELETE /users/{USER}/credentials/{CREDENTIAL} HTTP/1.1")
}

#[test]
fn rows_400_404_405_are_refused_and_recorded() {
    let gateway = Gateway::start();
    let token = gateway.token();
    let rows = [
        (
            request(
                &format!("DELETE /users/%2e/credentials/{CREDENTIAL} HTTP/1.1"),
                token,
                "",
            ),
            400,
            "invalid-path",
        ),
        (
            request(
                &format!("DELETE /users/{USER}/credentials/{CREDENTIAL}?a HTTP/1.1"),
                token,
                "",
            ),
            400,
            "unexpected-query",
        ),
        (
            request(&call(), token, "x-api-version: 2024-01\r\n"),
            400,
            "api-version-mismatch",
        ),
        (
            request(
                &call(),
                token,
                "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            ),
            400,
            "malformed-request",
        ),
        (
            request("GET /anything HTTP/1.1", token, ""),
            404,
            "no-such-route",
        ),
        (
            request(&call().replace("DELETE", "PUT"), token, ""),
            405,
            "method-not-allowed",
        ),
    ];
    for (bytes, status, code) in rows {
        let response = gateway.send(bytes);
        assert_refusal(&response, status, code, "no");
        assert_recorded(&gateway, &response, "request.refused");
    }
    assert_eq!(gateway.alloy.received().len(), 0);
}

#[test]
fn row_401_is_one_answer_for_all_reasons_and_the_trail_has_the_reason() {
    let gateway = Setup::default()
        .tenant("billing", &["users: all"])
        .bound("failed_auth: { requests: 100, per: 1s }")
        .start();
    let good = gateway.token();
    let flipped = if good.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{flipped}", &good[..good.len() - 1]);
    let unknown = NewToken::generate().unwrap();
    let cases = [
        (String::new(), "missing"),
        ("Authorization: Bearer\r\n".to_owned(), "malformed"),
        ("Authorization: Bearer x\r\n".to_owned(), "malformed"),
        (format!("Authorization: Basic {good}\r\n"), "malformed"),
        (
            format!("Authorization: Bearer {good} {good}\r\n"),
            "malformed",
        ),
        (
            format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
            "malformed",
        ),
        (format!("Authorization: {good}\r\n"), "malformed"),
        (format!("Authorization: Bearer {mistyped}\r\n"), "checksum"),
        (
            format!("Authorization: Bearer {}\r\n", unknown.reveal()),
            "unknown",
        ),
    ];
    let mut bodies = Vec::new();
    for (field, reason) in cases {
        let response = gateway.send(format!("{}\r\nHost: x\r\n{field}\r\n", call()));
        assert_refusal(&response, 401, "unauthenticated", "no");
        assert!(
            response
                .field("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
        assert_eq!(
            assert_recorded(&gateway, &response, "request.refused")["reason"],
            reason,
            "{field}"
        );
        let mut body = response.json();
        body["request_id"] = "".into();
        bodies.push(body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let scheme = format!(
        "{}\r\nHost: x\r\nAuthorization: bEaReR {good}\r\n\r\n",
        call()
    );
    assert_eq!(
        gateway.send(scheme).status,
        200,
        "the scheme is read in any case"
    );
}

/// A gateway whose tenant `billing` has a token that is expired, one that is not valid yet,
/// and one that is good.
fn with_three_tokens(setup: Setup) -> (Gateway, [NewToken; 3]) {
    let tokens = [(); 3].map(|()| NewToken::generate().unwrap());
    let entry = |id: &str, token: &NewToken, validity: &str| {
        format!(
            "{{ id: {id}, sha256: \"{}\", {validity} }}",
            token.digest().to_hex()
        )
    };
    let [old, new, current] = &tokens;
    let lines = format!(
        "tokens: [ {}, {}, {} ]",
        entry("old", old, "expires: 2020-01-01T00:00:00Z"),
        entry("new", new, "not_before: 2120-01-01T00:00:00Z"),
        entry(
            "current",
            current,
            "not_before: 2020-01-01T00:00:00Z, expires: 2120-01-01T00:00:00Z"
        ),
    );
    let gateway = setup.tenant("billing", &["users: all", &lines]).start();
    (gateway, tokens)
}

#[test]
fn tokens_are_valid_from_not_before_until_expires_and_overlap() {
    let (gateway, [old, new, current]) = with_three_tokens(Setup::default());
    for (token, reason) in [(&old, "expired"), (&new, "not_yet_valid")] {
        let response = gateway.send(delete(USER, CREDENTIAL, token.reveal()));
        assert_refusal(&response, 401, "unauthenticated", "no");
        assert_eq!(
            assert_recorded(&gateway, &response, "request.refused")["reason"],
            reason
        );
    }
    assert_eq!(
        gateway
            .send(delete(USER, CREDENTIAL, current.reveal()))
            .status,
        200
    );
    let intent = gateway.record("intent", |record| record["event"] == "request.intent");
    assert_eq!(intent["token"], "current");
}

/// Whoever looks for why a tenant's calls fail asks the trail for that tenant.
#[test]
fn the_trail_alone_names_whose_token_was_expired_or_is_not_valid_yet() {
    let setup = Setup::default().bound("failed_auth: { requests: 3, per: 1h }");
    let (gateway, [old, new, _]) = with_three_tokens(setup);
    let unknown = NewToken::generate().unwrap();
    let send = |token: &NewToken| gateway.send(delete(USER, CREDENTIAL, token.reveal()));
    let answered = |response: &Response| {
        let fields = response.fields.iter();
        let mut fields: Vec<_> = fields
            .filter(|(name, _)| name != "x-request-id" && name != "date")
            .cloned()
            .collect();
        fields.sort();
        let mut body = response.json();
        body["request_id"] = "".into();
        (response.status, fields, body)
    };
    let stranger = send(&unknown);
    for (token, id, reason) in [(&old, "old", "expired"), (&new, "new", "not_yet_valid")] {
        let response = send(token);
        assert_eq!(answered(&response), answered(&stranger), "{id}");
        let record = assert_recorded(&gateway, &response, "request.refused");
        let whose = (&record["tenant"], &record["token"], &record["reason"]);
        assert_eq!(whose, (&"billing".into(), &id.into(), &reason.into()));
    }
    let limited = send(&old);
    assert_refusal(&limited, 429, "rate-limited", "no");
    let record = assert_recorded(&gateway, &limited, "request.refused");
    assert_eq!(
        (&record["tenant"], &record["token"]),
        (&"billing".into(), &"old".into())
    );
    let limited = send(&unknown);
    let record = assert_recorded(&gateway, &limited, "request.refused");
    assert!(
        record["tenant"].is_null() && record["token"].is_null(),
        "{record}"
    );

    let output = audit_verb(gateway.audit(), "query", &["--tenant", "billing"]);
    let rows = String::from_utf8(output.stdout).unwrap();
    let expected = [
        ("billing/old", "refused (unauthenticated: expired)"),
        ("billing/new", "refused (unauthenticated: not_yet_valid)"),
        ("billing/old", "refused (rate-limited: unauthenticated)"),
    ];
    assert_eq!(rows.lines().count(), 1 + expected.len(), "{rows}");
    for (row, (id, why)) in rows.lines().skip(1).zip(expected) {
        assert!(
            row.contains(id) && row.contains(why),
            "{id} {why} in {rows}"
        );
    }

    // Nobody has shown to be that tenant: what counts and tells of tenants says nothing.
    let id = limited.field("x-request-id").unwrap();
    gateway.process.wait_for(|line| line["request.id"] == id);
    let output = gateway.process.output();
    assert!(!output.contains("\"tenant.id\""), "{output}");
    let metrics = gateway.admin("/metrics").text();
    for line in [
        "requests_total{tenant=\"\",status=\"401\",code=\"unauthenticated\"} 3",
        "requests_total{tenant=\"\",status=\"429\",code=\"rate-limited\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn row_403_tells_apart_suspended_foreign_user_and_dry_run() {
    let gateway = Setup::default()
        .tenant("suspended", &["users: all", "mode: suspended"])
        .tenant("narrow", &[&format!("users: [ {USER} ]")])
        .tenant(
            "dry",
            &[
                "users: all",
                "mode: dry_run",
                "limits: [ { requests: 1, per: 60s } ]",
            ],
        )
        .start();
    let send =
        |tenant: &str, user: &str| gateway.send(delete(user, CREDENTIAL, gateway.token_of(tenant)));
    let response = send("suspended", USER);
    assert_refusal(&response, 403, "tenant-suspended", "no");
    assert_eq!(
        assert_recorded(&gateway, &response, "request.refused")["tenant"],
        "suspended"
    );
    let response = send("narrow", FOREIGN_USER);
    assert_refusal(&response, 403, "user-not-allowed", "no");
    let record = assert_recorded(&gateway, &response, "request.refused");
    assert_eq!(
        (&record["user"], &record["credential"]),
        (&FOREIGN_USER.into(), &CREDENTIAL.into())
    );
    let response = send("dry", USER);
    assert_refusal(&response, 403, "dry-run", "no");
    assert_eq!(
        assert_recorded(&gateway, &response, "request.outcome")["outcome"],
        "dry-run"
    );
    // A dry run spends the limit as a real one would.
    assert_refusal(&send("dry", USER), 429, "rate-limited", "no");
    assert_eq!(gateway.alloy.received().len(), 0);
    assert_eq!(send("narrow", USER).status, 200);
}

#[test]
fn users_of_a_file_are_allowed_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("users.txt");
    std::fs::write(&list, format!("# ours\n{USER}  # the first\n\nother\n")).unwrap();
    let users = format!("users: {{ file: {} }}", list.display());
    let gateway = Setup::default().tenant("billing", &[&users]).start();
    assert_eq!(gateway.delete(USER, CREDENTIAL).status, 200);
    assert_refusal(
        &gateway.delete(FOREIGN_USER, CREDENTIAL),
        403,
        "user-not-allowed",
        "no",
    );
}

#[test]
fn rows_408_413_431_are_refused_and_recorded() {
    let gateway = Setup::default()
        .bound("body_timeout: 300ms")
        .bound("body_bytes: 100")
        .bound("headers: 20")
        .bound("header_bytes: 8KiB")
        .start();
    let token = gateway.token();
    let response = gateway.send(request(&call(), token, "Content-Length: 10\r\n"));
    assert_refusal(&response, 408, "request-timeout", "no");
    assert_recorded(&gateway, &response, "request.refused");
    for framing in [
        format!("Content-Length: 101\r\n\r\n{}", "x".repeat(101)),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n",
            "x".repeat(101)
        ),
    ] {
        let head = format!("{}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n", call());
        let response = gateway.send(head + &framing);
        assert_refusal(&response, 413, "content-too-large", "no");
        assert_recorded(&gateway, &response, "request.refused");
    }
    let many: String = (0..30).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(9 << 10));
    for fields in [many, long] {
        let response = gateway.send(request(&call(), token, &fields));
        assert_refusal(&response, 431, "headers-too-large", "no");
        assert_recorded(&gateway, &response, "request.refused");
    }
    assert_eq!(gateway.alloy.received().len(), 0);
    let exactly = format!("Content-Length: 100\r\n\r\n{}", "x".repeat(100));
    let head = format!("{}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n", call());
    assert_eq!(gateway.send(head + &exactly).status, 200);
}

#[test]
fn row_429_names_what_refused() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 3, per: 60s } ]")
        .bound("failed_auth: { requests: 2, per: 60s }")
        .tenant(
            "one",
            &["users: all", "limits: [ { requests: 1, per: 60s } ]"],
        )
        .tenant("two", &["users: all"])
        .start();
    let send = |tenant: &str| gateway.send(delete(USER, "c1", gateway.token_of(tenant)));
    assert_eq!(send("one").status, 200);
    let assert_limited = |response: &Response, by: &str| {
        assert_refusal(response, 429, "rate-limited", "no");
        assert_eq!(response.json()["limit"], by);
        assert_recorded(&gateway, response, "request.refused");
    };
    assert_limited(&send("one"), "tenant");
    gateway.alloy.always(Behaviour::Contract);
    send("two");
    send("two");
    assert_limited(&send("two"), "key");
    // The stranger's own limit; a good token from the same address still works.
    let stranger = || gateway.send(delete(USER, "c1", "agw_x"));
    assert_refusal(&stranger(), 401, "unauthenticated", "no");
    assert_refusal(&stranger(), 401, "unauthenticated", "no");
    assert_limited(&stranger(), "unauthenticated");
    assert_limited(&send("one"), "tenant");
}

#[test]
fn an_upstream_429_is_passed_on_and_closes_the_gate_for_its_time() {
    let gateway = Gateway::start();
    gateway.alloy.script([Behaviour::answer(
        429,
        "Retry-After: 2\r\n",
        r#"{"error":"slow down"}"#,
    )]);
    let response = gateway.delete(USER, "c1");
    assert_eq!(response.status, 429);
    assert_eq!(response.field("x-alloy-gateway-source"), Some("upstream"));
    assert_eq!(response.field("retry-after"), Some("2"));
    let response = gateway.delete(USER, "c1");
    assert_refusal(&response, 429, "rate-limited", "no");
    assert_eq!(response.json()["limit"], "upstream");
    assert_recorded(&gateway, &response, "request.refused");
    assert_eq!(gateway.alloy.received().len(), 1);
    let wait: u64 = response.field("retry-after").unwrap().parse().unwrap();
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(gateway.delete(USER, "c1").status, 200);
}

#[test]
fn an_upstream_429_closes_the_gate_also_where_it_cannot_be_passed_on_or_asks_for_ages() {
    let cases = [
        (
            "Content-Encoding: gzip\r\nRetry-After: 40\r\n",
            "{}",
            502,
            30,
        ),
        ("Retry-After: 40\r\n", KEY, 502, 30),
        ("Retry-After: 99999999999999999999\r\n", "{}", 429, 50),
    ];
    for (fields, body, status, at_least) in cases {
        let gateway = Gateway::start();
        gateway.alloy.script([Behaviour::answer(429, fields, body)]);
        assert_eq!(gateway.delete(USER, "c1").status, status, "{fields}");
        let response = gateway.delete(USER, "c1");
        assert_refusal(&response, 429, "rate-limited", "no");
        assert_eq!(response.json()["limit"], "upstream");
        let wait: u64 = response.field("retry-after").unwrap().parse().unwrap();
        assert!((at_least..=60).contains(&wait), "{fields}: {wait}");
        assert_eq!(gateway.alloy.received().len(), 1);
    }
}

#[test]
fn row_503_circuit_open_comes_before_any_budget_and_ends_with_a_good_probe() {
    let gateway = Setup::default()
        .upstream("circuit_breaker: { failures: 2, open_for: 4s }")
        .upstream("retries: 0")
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 4, per: 600s } ]"],
        )
        .start();
    let down = Behaviour::answer(503, "", "{}");
    gateway.alloy.script([down.clone(), down]);
    for _ in 0..2 {
        let response = gateway.delete(USER, "c1");
        assert_eq!(response.status, 503);
        assert_eq!(response.field("x-alloy-gateway-source"), Some("upstream"));
    }
    for _ in 0..5 {
        let response = gateway.delete(USER, "c1");
        assert_refusal(&response, 503, "circuit-open", "no");
        assert_recorded(&gateway, &response, "request.refused");
    }
    assert_eq!(gateway.alloy.received().len(), 2);
    std::thread::sleep(Duration::from_millis(4100));
    // Two of the four units were spent by what was sent, none by what was not.
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    assert_refusal(&gateway.delete(USER, "c3"), 429, "rate-limited", "no");
}

#[test]
fn row_503_overloaded_is_shed_at_the_bound_of_requests_in_flight() {
    let gateway = Setup::default().bound("requests_in_flight: 1").start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut slow = gateway.connect();
    slow.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    let response = gateway.delete(USER, "c2");
    assert_refusal(&response, 503, "overloaded", "no");
    assert_recorded(&gateway, &response, "request.refused");
    release.send(true).unwrap();
    assert_eq!(slow.receive().status, 200);
    assert_eq!(gateway.delete(USER, "c2").status, 200);
}

#[test]
fn row_503_audit_unavailable_sends_nothing_and_ends_by_itself() {
    let gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let moved = gateway.path("moved");
    std::fs::rename(gateway.path("audit"), &moved).unwrap();
    let response = gateway.delete(USER, "c2");
    assert_refusal(&response, 503, "audit-unavailable", "no");
    assert_eq!(gateway.admin("/readyz").status, 503);
    assert_eq!(gateway.admin("/livez").status, 200);
    assert_eq!(gateway.alloy.received().len(), 1);
    std::fs::rename(&moved, gateway.path("audit")).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while gateway.admin("/readyz").status != 200 {
        assert!(std::time::Instant::now() < end, "it never came back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    // Refusals that could not be written meanwhile are coalesced, and counted.
    let coalesced = gateway.record("refusals", |record| record["event"] == "refusals.coalesced");
    assert_eq!(
        (&coalesced["code"], &coalesced["count"]),
        (&"audit-unavailable".into(), &1.into())
    );
    gateway.record("recovery", |record| record["event"] == "trail.recovered");
    let report = gateway.verify();
    assert!(report.is_intact(), "{report}");
}

#[test]
fn row_500_a_bug_at_any_stage_is_an_answer_and_a_record_and_the_next_call_goes_well() {
    for point in fault_points() {
        let mut gateway = Setup::default()
            .env("ALLOY_GATEWAY_PANIC_AT", point.as_str())
            .start();
        let sent = if point == FaultPoint::Admitted {
            "no"
        } else {
            "unknown"
        };
        let response = gateway.delete(USER, "c1");
        assert_refusal(&response, 500, "internal-error", sent);
        gateway.record("refusal", |record| {
            record["event"] == "request.refused" && record["code"] == "internal-error"
        });
        let has_arrived = matches!(
            point,
            FaultPoint::AnswerRead | FaultPoint::OutcomeDurable | FaultPoint::AnswerMade
        );
        assert_eq!(gateway.alloy.received().len(), usize::from(has_arrived));
        // Another call is none the worse for it.
        let unauthenticated = gateway.send(delete(USER, "c1", "agw_x"));
        assert_refusal(&unauthenticated, 401, "unauthenticated", "no");
        let metrics = gateway.scrape();
        assert_eq!(metrics.get("panics_total"), 1.0, "{point:?}");
        assert!(gateway.stop().success());
        let line = gateway
            .process
            .wait_for(|line| line["location"].is_string());
        assert_eq!(line["what"], "a bug that a test asked for");
        let logs = gateway.process.output();
        for unwanted in ["panicked at", KEY, gateway.token()] {
            assert!(!logs.contains(unwanted), "{point:?}: {logs}");
        }
        let report = gateway.verify();
        assert!(
            report.is_intact() && report.open == 0,
            "{point:?}: {report}"
        );
        let ends = (
            report.intents,
            report.outcomes.in_doubt,
            report.outcomes.deleted,
        );
        let expected = match point {
            FaultPoint::Admitted => (0, 0, 0),
            FaultPoint::OutcomeDurable | FaultPoint::AnswerMade => (1, 0, 1),
            _ => (1, 1, 0),
        };
        assert_eq!(ends, expected, "{point:?}: {report}");
        let counted = ["in-doubt", "deleted"].map(|outcome| {
            metrics.get(&format!(
                "outcomes_total{{tenant=\"billing\",outcome=\"{outcome}\"}}"
            ))
        });
        let (_, in_doubt, deleted) = expected;
        assert_eq!(
            counted,
            [in_doubt, deleted].map(|calls| calls as f64),
            "{point:?}"
        );
    }
}
