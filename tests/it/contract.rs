//! What odd callers send, and what of it reaches the upstream: nothing, or
//! exactly the canonical request.

use bytes::Bytes;
use http_body_util::Full;

use crate::support::{
    CREDENTIAL, Gateway, KEY, Response, Setup, USER, assert_refusal,
    client::{delete, request},
    h2,
};

/// The one request that may arrive, by the text of the design: built new, with
/// our own fields and nothing else.
fn canonical(gateway: &Gateway, credential: &str, via: &str, answer: &Response) -> Vec<String> {
    let url = gateway.alloy.url();
    let host = url.split("://").nth(1).unwrap();
    let id = answer.field("x-request-id").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = vec![
        format!("host: {host}"),
        format!("authorization: bearer {KEY}"),
        "x-api-version: 2025-09".to_owned(),
        "accept: application/json".to_owned(),
        format!("user-agent: alloy-gateway/{version}"),
        format!("via: {via} alloy-gateway"),
        format!("x-request-id: {id}"),
    ];
    lines.sort();
    lines.insert(
        0,
        format!("DELETE /users/{USER}/credentials/{credential} HTTP/1.1"),
    );
    lines
}

/// The last request that arrived, its fields sorted.
fn last_arrived(gateway: &Gateway) -> Vec<String> {
    let received = gateway.alloy.received();
    let text = received.last().expect("a request").text();
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    assert_eq!(body, "", "a body arrived");
    let mut lines: Vec<String> = head.split("\r\n").map(ToOwned::to_owned).collect();
    for line in lines.iter_mut().skip(1) {
        let (name, value) = line.split_once(':').unwrap();
        *line = format!("{}:{value}", name.to_ascii_lowercase());
    }
    lines[1..].sort();
    lines
}

#[track_caller]
fn assert_deleted_as_canonical(gateway: &Gateway, credential: &str, response: &Response) {
    assert_eq!(response.status, 200, "{response:?} {}", response.text());
    assert_eq!(
        last_arrived(gateway),
        canonical(gateway, credential, "1.1", response)
    );
}

#[test]
fn a_plain_call_arrives_as_the_canonical_request_and_its_answer_passes_back() {
    let gateway = Gateway::start();
    let response = gateway.delete(USER, CREDENTIAL);
    assert_deleted_as_canonical(&gateway, CREDENTIAL, &response);
    assert_eq!(response.json(), serde_json::json!({ "success": true }));
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert_eq!(response.field("x-alloy-gateway-source"), Some("upstream"));
    assert_eq!(response.field("x-alloy-gateway-sent"), Some("yes"));
    assert_eq!(gateway.alloy.received().len(), 1);
}

#[test]
fn no_field_of_a_caller_reaches_the_upstream() {
    let gateway = Gateway::start();
    let odd = [
        "X-Secret: of-the-caller\r\n",
        "X-HTTP-Method-Override: GET\r\nX-Method-Override: POST\r\n",
        "Connection: authorization, x-api-version, close\r\n",
        "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nConnection: X-Api-Version\r\nTE: trailers\r\n",
        "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-Ip: 1.2.3.4\r\nX-Original-Url: /users/x\r\n",
        "X_Api_Version: 1999-01\r\nAuthorization_: Bearer x\r\n",
        "Cookie: a=b\r\nCookie: c=d\r\nOrigin: https://evil.example\r\nReferer: https://evil.example\r\n",
        "Proxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\nVia: 1.0 fred\r\nMax-Forwards: 0\r\n",
        "User-Agent: curl/8\r\nAccept: text/html\r\nAccept-Encoding: gzip\r\nRange: bytes=0-0\r\nIf-Match: \"x\"\r\n",
        "X-Request-Id: of-the-caller\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        "x-api-version: 2025-09\r\n",
        "Expect: 100-continue\r\nContent-Length: 0\r\n",
    ];
    for (n, fields) in odd.into_iter().enumerate() {
        let credential = format!("c{n}");
        let line = format!("DELETE /users/{USER}/credentials/{credential} HTTP/1.1");
        let response = gateway.send(request(&line, gateway.token(), fields));
        assert_deleted_as_canonical(&gateway, &credential, &response);
    }
    assert_eq!(gateway.alloy.received().len(), odd.len());
}

#[test]
fn bodies_are_read_and_dropped_however_they_are_framed() {
    let gateway = Gateway::start();
    let bodies = [
        "Content-Length: 2\r\n\r\n{}",
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;extension=x\r\n{}\r\n0\r\nTrailer-Field: x\r\n\r\n",
        "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    ];
    for (n, body) in bodies.into_iter().enumerate() {
        let credential = format!("c{n}");
        let mut connection = gateway.connect();
        let head = format!(
            "DELETE /users/{USER}/credentials/{credential} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{body}",
            gateway.token()
        );
        let response = connection.send(head).receive();
        assert_deleted_as_canonical(&gateway, &credential, &response);
        // And the connection is still in step.
        let again = connection
            .send(delete(USER, &format!("c{}", 100 + n), gateway.token()))
            .receive();
        assert_eq!(again.status, 200);
    }
}

#[test]
fn absolute_form_is_accepted_and_nothing_is_routed_by_it() {
    let gateway = Gateway::start();
    let line = format!("DELETE http://evil.example:81/users/{USER}/credentials/c1 HTTP/1.1");
    let response = gateway.send(request(&line, gateway.token(), ""));
    assert_deleted_as_canonical(&gateway, "c1", &response);
}

#[test]
fn http_1_0_is_served_and_closed() {
    let gateway = Gateway::start();
    let line = format!("DELETE /users/{USER}/credentials/c1 HTTP/1.0");
    let mut connection = gateway.connect();
    let response = connection
        .send(request(
            &line,
            gateway.token(),
            "Connection: keep-alive\r\n",
        ))
        .receive();
    assert_eq!(response.status, 200);
    assert_eq!(
        last_arrived(&gateway),
        canonical(&gateway, "c1", "1.0", &response)
    );
    assert!(connection.is_closed());
}

#[test]
fn http_2_with_prior_knowledge_is_served() {
    let gateway = Gateway::start();
    let request = h2::delete(USER, "c1", gateway.token())
        .header("x-secret", "of-the-caller")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap();
    let response = h2::send(gateway.data, request);
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        last_arrived(&gateway),
        canonical(&gateway, "c1", "2.0", &response)
    );
}

#[test]
fn a_path_that_is_not_exactly_a_call_is_refused_and_nothing_arrives() {
    let gateway = Gateway::start();
    let long = "a".repeat(129);
    let invalid = [
        format!("/users/../credentials/{CREDENTIAL}"),
        format!("/users/./credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/.."),
        format!("/users/%2e%2e/credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/%2e"),
        format!("/users/{USER}%2fx/credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/a%20b"),
        format!("/users/{USER}/credentials/a%00b"),
        format!("/users//credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/"),
        format!("/users/{USER};v=1/credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/{CREDENTIAL};x"),
        format!("/users/{USER}/credentials/{CREDENTIAL},c1"),
        format!("/users/{USER}/credentials/{CREDENTIAL}:x"),
        format!("/users/{USER}/credentials/*"),
        format!("/users/{USER}/credentials/{long}"),
        format!("/users/{long}/credentials/{CREDENTIAL}"),
    ];
    for path in &invalid {
        let response = gateway.send(request(
            &format!("DELETE {path} HTTP/1.1"),
            gateway.token(),
            "",
        ));
        assert_refusal(&response, 400, "invalid-path", "no");
    }
    let elsewhere = [
        "/".to_owned(),
        "*".to_owned(),
        "//".to_owned(),
        format!("//users/{USER}/credentials/{CREDENTIAL}"),
        format!("/users/{USER}//credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/{CREDENTIAL}/"),
        format!("/users/{USER}/credentials/{CREDENTIAL}/x"),
        format!("/users/{USER}/credentials"),
        format!("/Users/{USER}/credentials/{CREDENTIAL}"),
        format!("/users/{USER}/Credentials/{CREDENTIAL}"),
        format!("/x/../users/{USER}/credentials/{CREDENTIAL}"),
        format!("/users/{USER}/credentials/../credentials/{CREDENTIAL}"),
        format!("/users%2f{USER}/credentials/{CREDENTIAL}"),
        format!("/%75sers/{USER}/credentials/{CREDENTIAL}"),
        format!("/users/{USER}\\credentials\\{CREDENTIAL}"),
        "/users".to_owned(),
        "/metrics".to_owned(),
    ];
    for path in &elsewhere {
        for method in ["DELETE", "GET"] {
            if path == "*" && method == "GET" {
                continue;
            }
            let response = gateway.send(request(
                &format!("{method} {path} HTTP/1.1"),
                gateway.token(),
                "",
            ));
            // What is no request target at all may be refused before it is routed.
            if response.status != 400 {
                assert_refusal(&response, 404, "no-such-route", "no");
            }
        }
    }
    for query in ["?", "?x=1", "?x=/users"] {
        let line = format!("DELETE /users/{USER}/credentials/{CREDENTIAL}{query} HTTP/1.1");
        let response = gateway.send(request(&line, gateway.token(), ""));
        assert_refusal(&response, 400, "unexpected-query", "no");
    }
    assert_eq!(gateway.alloy.received().len(), 0);
}

#[test]
fn ids_of_128_bytes_of_the_whole_alphabet_arrive_as_they_are() {
    let gateway = Gateway::start();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-";
    let id: String = alphabet.chars().cycle().take(128).collect();
    for id in [id.as_str(), "a", "...", "~", "-"] {
        let response = gateway.delete(id, id);
        // The simulated Alloy has no such user, and says so.
        assert_eq!(response.status, 404, "{response:?}");
        assert_eq!(response.field("x-alloy-gateway-source"), Some("upstream"));
        assert_eq!(
            last_arrived(&gateway)[0],
            format!("DELETE /users/{id}/credentials/{id} HTTP/1.1")
        );
    }
}

#[test]
fn object_ids_are_24_hex_digits_if_the_config_says_so() {
    let gateway = Setup::default().upstream("ids: object_id").start();
    assert_eq!(gateway.delete(USER, CREDENTIAL).status, 200);
    let shorter = &CREDENTIAL[1..];
    let longer = format!("{CREDENTIAL}0");
    for id in ["c1", shorter, &longer, "63252d14cc29df15cc481a7g"] {
        assert_refusal(&gateway.delete(USER, id), 400, "invalid-path", "no");
        assert_refusal(&gateway.delete(id, CREDENTIAL), 400, "invalid-path", "no");
    }
    assert_eq!(gateway.alloy.received().len(), 1);
}

#[test]
fn another_method_is_refused_on_the_path_of_a_call() {
    let gateway = Gateway::start();
    for method in [
        "GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "delete", "DELETEX", "M-SEARCH",
    ] {
        let line = format!("{method} /users/{USER}/credentials/{CREDENTIAL} HTTP/1.1");
        let mut connection = gateway.connect();
        connection.send(request(&line, gateway.token(), ""));
        if method == "HEAD" {
            assert_eq!(connection.head().unwrap().status, 405);
        } else {
            assert_refusal(&connection.receive(), 405, "method-not-allowed", "no");
        }
    }
    assert_eq!(gateway.alloy.received().len(), 0);
}

#[test]
fn another_api_version_is_refused_since_its_semantics_would_differ() {
    let gateway = Gateway::start();
    let line = format!("DELETE /users/{USER}/credentials/{CREDENTIAL} HTTP/1.1");
    for fields in [
        "x-api-version: 2024-01\r\n",
        "X-API-VERSION: \r\n",
        "x-api-version: 2025-09\r\nx-api-version: 2024-01\r\n",
        "x-api-version: 2025-09, 2024-01\r\n",
    ] {
        let response = gateway.send(request(&line, gateway.token(), fields));
        assert_refusal(&response, 400, "api-version-mismatch", "no");
    }
    assert_eq!(gateway.alloy.received().len(), 0);
}

#[test]
fn a_body_cut_short_means_that_nothing_is_sent() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    let line = format!("DELETE /users/{USER}/credentials/{CREDENTIAL} HTTP/1.1");
    connection
        .send(request(&line, gateway.token(), "Content-Length: 10\r\n"))
        .send("{}");
    drop(connection);
    // A later call on the same gateway is the only one that arrives.
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_eq!(gateway.alloy.received().len(), 1);
    assert!(gateway.trail().iter().all(|record| record["credential"] != CREDENTIAL || record["event"] != "request.intent"));
}

#[test]
fn a_callers_own_request_id_is_echoed_as_correlation_id_and_recorded() {
    let gateway = Gateway::start();
    let line = format!("DELETE /users/{USER}/credentials/{CREDENTIAL} HTTP/1.1");
    let response = gateway.send(request(
        &line,
        gateway.token(),
        "X-Request-Id: job-17_a.b\r\n",
    ));
    assert_eq!(response.field("x-correlation-id"), Some("job-17_a.b"));
    assert_ne!(response.field("x-request-id"), Some("job-17_a.b"));
    let intent = gateway.record("intent", |record| record["event"] == "request.intent");
    assert_eq!(intent["caller_request_id"], "job-17_a.b");
    let response = gateway.send(request(&line, gateway.token(), "X-Request-Id: bad id\r\n"));
    assert_eq!(response.field("x-correlation-id"), None);
}
