//! W3C Trace Context in, spans out by OTLP/HTTP, against a collector stand-in.

use std::process::Command;

use alloy_gateway::simulated_alloy::Behaviour;

use crate::support::{
    CREDENTIAL, Gateway, Response, Setup, USER,
    client::request,
    collector::{Collector, Reply, Span, all, attributes, spans},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traced(collector: &Collector, more: &str) -> Setup {
    let endpoint = collector.endpoint();
    Setup::default()
        .workers(1)
        .lines(&format!("otlp:\n  endpoint: {endpoint}\n{more}"))
}

/// A call with further fields.
fn call(gateway: &Gateway, credential: &str, fields: &str) -> Response {
    let line = format!("DELETE /users/{USER}/credentials/{credential} HTTP/1.1");
    gateway.send(request(&line, gateway.token(), fields))
}

fn id(response: &Response) -> &str {
    response.field("x-request-id").unwrap()
}

fn is(kind: u64) -> impl Fn(&&Span) -> bool {
    move |span| span.kind == kind
}

#[test]
fn a_callers_trace_is_continued_with_a_span_of_the_call_and_one_of_each_attempt() {
    let collector = Collector::start([]);
    let gateway = traced(&collector, "").start();
    gateway
        .alloy
        .script([Behaviour::answer(503, "", "{}"), Behaviour::Contract]);
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let answer = call(&gateway, CREDENTIAL, &parent);
    assert_eq!(answer.status, 200);
    let posted = &collector.wait_for(1)[0];
    assert!(
        posted.head.starts_with("POST /v1/traces HTTP/1.1\r\n"),
        "{}",
        posted.head
    );
    let head = posted.head.to_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("host: {}\r\n", collector.address)),
        "{head}"
    );

    let resource = &all(&all(&posted.body, 1)[0], 1)[0];
    let resource = attributes(resource, 1);
    assert_eq!(
        resource[0],
        ("service.name".to_owned(), "alloy-gateway".to_owned())
    );

    let spans = spans(&posted.body);
    assert_eq!(spans.len(), 3);
    let server = spans.iter().find(is(2)).unwrap();
    assert_eq!((&*server.trace_id, &*server.parent), (TRACE, PARENT));
    assert_eq!(
        server.name,
        "DELETE /users/{userId}/credentials/{credentialId}"
    );
    assert!(!server.is_error);
    // Sampled, and the parent is known to be remote.
    assert_eq!(server.flags, 0x301);
    for (key, value) in [
        ("http.request.method", "DELETE"),
        ("http.route", "/users/{userId}/credentials/{credentialId}"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("request.id", id(&answer)),
        ("tenant.id", "billing"),
        ("token.id", "first"),
        ("outcome", "deleted"),
    ] {
        assert_eq!(server.attribute(key), Some(value), "{key}");
    }
    assert_eq!(server.attribute("error.type"), None);

    let attempts: Vec<_> = spans.iter().filter(is(3)).collect();
    for attempt in &attempts {
        assert_eq!(
            (&attempt.trace_id, &attempt.parent),
            (&server.trace_id, &server.span_id)
        );
        assert!(server.start <= attempt.start && attempt.end <= server.end);
        assert!(attempt.start < attempt.end);
        assert_eq!(attempt.attribute("server.address"), Some("localhost"));
        assert_eq!(attempt.flags, 0x101);
    }
    let [first, second] = attempts[..] else {
        panic!("{attempts:?}")
    };
    assert!(first.end < second.start && first.span_id != second.span_id);
    assert!(first.is_error && !second.is_error);
    assert_eq!(first.attribute("error.type"), Some("503"));
    assert_eq!(first.attribute("http.response.status_code"), Some("503"));
    assert_eq!(first.attribute("http.request.resend_count"), None);
    assert_eq!(second.attribute("http.request.resend_count"), Some("1"));
    assert_eq!(second.attribute("sent"), Some("yes"));

    let line = gateway
        .process
        .wait_for(|line| line["request.id"] == id(&answer));
    assert_eq!(
        (&line["trace_id"], &line["span_id"]),
        (&TRACE.into(), &(*server.span_id).into())
    );
    // Neither do ids of people leave, nor does anything of the trace reach Alloy.
    for personal in [USER, CREDENTIAL] {
        let body = String::from_utf8_lossy(&posted.body);
        assert!(!body.contains(personal), "{personal}");
    }
    for received in gateway.alloy.received() {
        let text = received.text().to_lowercase();
        assert!(
            !text.contains("traceparent") && !text.contains(TRACE),
            "{text}"
        );
    }
}

#[test]
fn a_trace_begun_here_has_the_id_of_its_request_and_errors_are_marked_as_such() {
    let collector = Collector::start([]);
    let gateway = traced(&collector, "  service_name: sidecar\n").start();
    gateway.alloy.script([Behaviour::Reset, Behaviour::Reset]);
    let broken = call(&gateway, CREDENTIAL, "traceparent: 00-nonsense-01\r\n");
    assert_eq!(broken.status, 502);
    let refused = gateway.send("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(refused.status, 404);
    drop(
        gateway
            .process
            .wait_for(|line| line["request.id"] == id(&refused)),
    );
    let mut came = Vec::new();
    while came.len() < 4 {
        let posted = collector.posted();
        came = posted
            .iter()
            .flat_map(|posted| spans(&posted.body))
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let of = |answer: &Response| {
        let trace = id(answer).replace('-', "");
        let mut servers = came.iter().filter(is(2));
        servers.find(|span| span.trace_id == trace).unwrap().clone()
    };
    let span = of(&broken);
    assert!(span.is_error && span.parent.is_empty());
    assert_eq!(span.attribute("error.type"), Some("upstream-reset"));
    let attempt = came.iter().find(is(3)).unwrap();
    assert!(attempt.is_error);
    assert_eq!(attempt.attribute("error.type"), Some("reset"));
    let span = of(&refused);
    assert_eq!(span.name, "GET");
    assert!(!span.is_error, "a 404 is the caller's error");
    assert_eq!(span.attribute("error.type"), Some("no-such-route"));
    assert_eq!(
        (span.attribute("http.route"), span.attribute("url.path")),
        (None, None)
    );
    let resource = attributes(&all(&all(&collector.posted()[0].body, 1)[0], 1)[0], 1);
    assert_eq!(resource[0].1, "sidecar");
}

#[test]
fn an_attempt_names_the_upstream_that_it_went_to_also_after_a_reload() {
    let collector = Collector::start([]);
    let gateway = traced(&collector, "").start();
    let mut came = 0;
    let mut server_of = |answer: &Response| {
        came += 1;
        let posted = &collector.wait_for(came)[came - 1];
        let spans = spans(&posted.body);
        let attempt = spans.iter().find(is(3)).unwrap().clone();
        assert_eq!(attempt.trace_id, id(answer).replace('-', ""));
        attempt.attribute("server.address").unwrap().to_owned()
    };
    assert_eq!(server_of(&call(&gateway, "c1", "")), "localhost");
    // Whether the certificate is good for that name does not matter here.
    gateway.edit_config(|text| text.replace("url: https://localhost:", "url: https://127.0.0.1:"));
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(server_of(&call(&gateway, "c2", "")), "127.0.0.1");
}

#[test]
fn what_is_not_sampled_is_not_sent_and_its_caller_still_finds_it_in_the_log() {
    let collector = Collector::start([]);
    let gateway = traced(&collector, "  sampling: 0.0\n").start();
    let own = call(&gateway, "c1", "");
    let not = call(
        &gateway,
        "c2",
        &format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n"),
    );
    let yes = call(
        &gateway,
        "c3",
        &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"),
    );
    // A stranger does not decide what is sent: nobody knows whether he is one of many.
    let line = format!("DELETE /users/{USER}/credentials/c4 HTTP/1.1");
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let stranger = gateway.send(request(&line, "agw_stranger", &parent));
    assert_eq!(stranger.status, 401);
    let line_of = |answer: &Response| {
        gateway
            .process
            .wait_for(|line| line["request.id"] == id(answer))
    };
    assert_eq!(line_of(&stranger)["trace_id"], TRACE);
    assert!(line_of(&stranger)["span_id"].is_null());
    assert!(line_of(&own)["trace_id"].is_null());
    assert_eq!(line_of(&not)["trace_id"], TRACE);
    assert!(line_of(&not)["span_id"].is_null());
    assert!(line_of(&yes)["span_id"].is_string());
    let posted = collector.wait_for(1);
    let servers: Vec<_> = posted
        .iter()
        .flat_map(|posted| spans(&posted.body))
        .collect();
    let ids: Vec<_> = servers
        .iter()
        .filter_map(|span| span.attribute("request.id"))
        .collect();
    assert_eq!(ids, [id(&yes)]);
}

#[test]
fn without_otlp_nothing_is_traced() {
    let gateway = Gateway::start();
    let answer = call(
        &gateway,
        "c1",
        &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"),
    );
    let line = gateway
        .process
        .wait_for(|line| line["request.id"] == id(&answer));
    assert!(line["trace_id"].is_null() && line["span_id"].is_null());
}

#[test]
fn a_collector_that_fails_for_a_while_gets_the_same_spans_again_and_honours_are_done_to_its_wait() {
    let later = |status| Reply::Status(status, "Retry-After: 1\r\n", Vec::new());
    let collector = Collector::start([later(503), Reply::Close, later(429)]);
    let gateway = traced(&collector, "").start();
    let answer = call(&gateway, "c1", "");
    assert_eq!(answer.status, 200);
    let posted = collector.wait_for(4);
    for again in &posted[1..] {
        assert_eq!(again.body, posted[0].body);
    }
    let warnings = |gateway: &Gateway| {
        gateway
            .process
            .output()
            .matches("spans cannot be delivered")
            .count()
    };
    gateway
        .process
        .wait_for(|line| line["message"] == "spans are delivered to otlp.endpoint again");
    assert_eq!(warnings(&gateway), 1, "an outage is told once");
    assert_eq!(collector.posted().len(), 4);
}

#[test]
fn what_a_collector_refuses_or_rejects_is_given_up_and_told() {
    // partial_success { rejected_spans: 1, error_message: "too old" }
    let partial = b"\x0a\x0b\x08\x01\x12\x07too old".to_vec();
    let replies = [
        Reply::Status(400, "", Vec::new()),
        Reply::Status(200, "", partial),
    ];
    let collector = Collector::start(replies);
    let gateway = traced(&collector, "").start();
    let first = call(&gateway, "c1", "");
    let told = gateway.process.wait_for(|line| !line["why"].is_null());
    assert_eq!(told["why"], "status 400");
    let second = call(&gateway, "c2", "");
    let told = gateway.process.wait_for(|line| !line["rejected"].is_null());
    assert_eq!(
        (&told["rejected"], &told["why"]),
        (&1.into(), &"too old".into())
    );
    let posted = collector.posted();
    assert_eq!(posted.len(), 2, "what was refused is not sent again");
    let metrics = gateway.admin("/metrics").text();
    for (reason, spans) in [("queue_full", 0), ("undelivered", 2), ("rejected", 1)] {
        let line =
            format!("alloy_gateway_trace_spans_dropped_total{{reason=\"{reason}\"}} {spans}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(
        metrics.contains("alloy_gateway_trace_spans_exported_total 1\n"),
        "{metrics}"
    );
    for (posted, answer) in posted.iter().zip([&first, &second]) {
        let spans = spans(&posted.body);
        assert_eq!(spans[0].attribute("request.id"), Some(id(answer)));
    }
}

#[test]
fn a_collector_that_never_answers_costs_spans_and_no_call() {
    let collector = Collector::start([const { Reply::Silence }; 8]);
    let gateway = traced(&collector, "  timeout: 50ms\n").start();
    assert_eq!(call(&gateway, "c0", "").status, 200);
    collector.wait_for(1);
    let mut connection = gateway.connect();
    for n in 1..200 {
        let line = format!("DELETE /users/{USER}/credentials/c{n} HTTP/1.1");
        let answer = connection
            .send(request(&line, gateway.token(), ""))
            .receive();
        assert_eq!(answer.status, 200);
    }
    let told = gateway.process.wait_for(|line| !line["why"].is_null());
    assert_eq!(told["why"], "no answer within 50ms");
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_and_counted_and_every_call_is_answered() {
    let collector = Collector::start([Reply::Silence]);
    let gateway = traced(&collector, "  timeout: 60s\n").log("warn,alloy_gateway::cli=info");
    let gateway = gateway.start();
    gateway.send("GET /0 HTTP/1.1\r\nHost: x\r\n\r\n");
    // From now on nothing leaves the queue, which holds 2048 calls.
    collector.wait_for(1);
    let (room, more) = (2048, 52);
    let mut connection = gateway.connect();
    for _ in 0..(room + more) / 50 {
        connection.send("GET /0 HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50));
        for _ in 0..50 {
            assert_eq!(connection.receive().status, 404);
        }
    }
    let metrics = gateway.admin("/metrics").text();
    let line = format!("alloy_gateway_trace_spans_dropped_total{{reason=\"queue_full\"}} {more}\n");
    assert!(metrics.contains(&line), "{line}{metrics}");
    assert_eq!(call(&gateway, "c1", "").status, 200);
}

#[test]
fn spans_go_over_tls_to_a_collector_that_the_named_authority_vouches_for_and_to_no_other() {
    let mut gateway = Setup::default().workers(1).start();
    assert!(gateway.stop().success());
    // The simulated Alloy is the collector too: its authority is a private one.
    gateway.alloy.always(Behaviour::answer(200, "", ""));
    let endpoint = gateway.alloy.url();
    let trusted = format!("otlp:\n  endpoint: {endpoint}\n  trust: {{ file: ca.pem }}\n");
    gateway.edit_config(|text| text + &trusted);
    gateway.start_again();
    assert_eq!(call(&gateway, "c1", "").status, 200);
    assert!(gateway.stop().success());
    let posts = |gateway: &Gateway| {
        let received = gateway.alloy.received();
        let is_post = |text: &String| text.starts_with("POST /v1/traces HTTP/1.1\r\n");
        let texts = received.iter().map(|received| received.text());
        texts.filter(is_post).count()
    };
    assert_eq!(posts(&gateway), 1);
    gateway.edit_config(|text| {
        text.replace(&trusted, &trusted.replace("{ file: ca.pem }", "bundled"))
    });
    gateway.start_again();
    assert_eq!(call(&gateway, "c2", "").status, 200);
    let told = gateway.process.wait_for(|line| !line["why"].is_null());
    assert!(
        told["why"].as_str().unwrap().contains("certificate"),
        "{told}"
    );
    assert!(gateway.stop().success());
    assert_eq!(posts(&gateway), 1, "spans went to a stranger");
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let collector = Collector::start([]);
    let mut gateway = traced(&collector, "").start();
    let answer = call(&gateway, "c1", "");
    assert!(gateway.stop().success());
    let posted = collector.posted();
    let spans: Vec<_> = posted
        .iter()
        .flat_map(|posted| spans(&posted.body))
        .collect();
    assert!(
        spans
            .iter()
            .any(|span| span.attribute("request.id") == Some(id(&answer)))
    );
}

#[test]
fn the_fields_for_the_collector_are_secrets() {
    let collector = Collector::start([]);
    let secret = "Bearer very-secret-collector-token";
    let more = "  headers: { authorization: { file: otlp-token }, x-scope: { env: SCOPE } }\n";
    let gateway = traced(&collector, more)
        .log("trace")
        .file("otlp-token", format!("{secret}\n"))
        .env("SCOPE", "tenant-7")
        .start();
    call(&gateway, "c1", "");
    let head = &collector.wait_for(1)[0].head;
    assert!(
        head.contains(&format!("authorization: {secret}\r\n")),
        "{head}"
    );
    assert!(head.contains("x-scope: tenant-7\r\n"), "{head}");
    let (_, shown) = gateway.admin_socket("GET", "/config");
    assert!(shown.contains("otlp-token"), "{shown}");
    let output = gateway.process.output() + &shown + &gateway.admin("/status.json").text();
    assert!(!output.contains("very-secret"), "{output}");
}

/// The bytes as the official schema and its own library read them.
#[test]
fn the_official_schema_reads_the_spans() {
    let collector = Collector::start([]);
    let gateway = traced(&collector, "").start();
    gateway
        .alloy
        .script([Behaviour::answer(503, "", "{}"), Behaviour::Contract]);
    let answer = call(
        &gateway,
        "c1",
        &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"),
    );
    let body = gateway.path("spans");
    std::fs::write(&body, &collector.wait_for(1)[0].body).unwrap();
    let python = std::env::var("OTLP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_spans.py");
    let output = Command::new(python).arg(script).arg(&body).output();
    let output = output
        .ok()
        .filter(|output| output.status.code() != Some(77));
    let Some(output) = output else {
        // The CI script installs it.
        assert!(
            std::env::var_os("CI").is_none(),
            "opentelemetry-proto is missing"
        );
        return;
    };
    let said = String::from_utf8(output.stdout).unwrap();
    let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{trouble}");
    let expected = [
        "resource service.name=alloy-gateway".to_owned(),
        format!(
            "SPAN_KIND_SERVER STATUS_CODE_UNSET trace={TRACE} parent={PARENT} http.response.status_code=200"
        ),
        format!("request.id={}", id(&answer)),
        format!("SPAN_KIND_CLIENT STATUS_CODE_ERROR trace={TRACE}"),
        format!("SPAN_KIND_CLIENT STATUS_CODE_UNSET trace={TRACE}"),
        "nothing unknown".to_owned(),
    ];
    for line in expected {
        assert!(said.contains(&line), "{line} is not in\n{said}");
    }
}
