//! HTTP/2 as only an attacker speaks it: what is forbidden, and what is too much.

use std::time::{Duration, Instant};

use alloy_gateway::simulated_alloy::Behaviour;
use serde_json::Value;

use crate::support::{
    Gateway, Setup, USER,
    raw_h2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, RST_STREAM, Raw,
        SETTINGS, block, call, status,
    },
};

#[test]
fn what_http_2_forbids_is_refused_and_nothing_arrives() {
    let gateway = Gateway::start();
    let bearer = format!("Bearer {}", gateway.token());
    let path = format!("/users/{USER}/credentials/c1");
    let long = "a".repeat(70_000);
    let with = |extra: &[(&'static str, &'static str)]| {
        let mut fields = call(&path, &bearer);
        fields.extend(extra);
        fields
    };
    let without = |name: &str| {
        let mut fields = call(&path, &bearer);
        fields.retain(|(known, _)| *known != name);
        fields
    };
    let replaced = |name: &str, value: &'static str| {
        let mut fields = call(&path, &bearer);
        for field in &mut fields {
            if field.0 == name {
                field.1 = value;
            }
        }
        fields
    };
    let mut too_much = with(&[]);
    too_much.push(("x-long", &long));
    let late = {
        let mut fields = call(&path, &bearer);
        fields.swap(0, 4);
        fields
    };
    // Each with the section of RFC 9113 that forbids it, or of RFC 9110 or 9112.
    let cases = [
        ("connection (§8.2.2)", with(&[("connection", "close")])),
        ("keep-alive (§8.2.2)", with(&[("keep-alive", "timeout=5")])),
        (
            "proxy-connection (§8.2.2)",
            with(&[("proxy-connection", "close")]),
        ),
        (
            "transfer-encoding (§8.2.2)",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade (§8.2.2)", with(&[("upgrade", "websocket")])),
        ("te other than trailers (§8.2.2)", with(&[("te", "gzip")])),
        ("an upper-case name (§8.2.1)", with(&[("X-Upper", "a")])),
        ("a space in a name (§8.2.1)", with(&[("x upper", "a")])),
        ("a colon in a name (§8.2.1)", with(&[("x:y", "a")])),
        ("NUL in a value (§8.2.1)", with(&[("x-a", "a\0b")])),
        ("CR in a value (§8.2.1)", with(&[("x-a", "a\rb")])),
        (
            "LF in a value: request splitting (§8.2.1, §10.3)",
            with(&[("x-a", "a\r\nhost: b")]),
        ),
        ("a pseudo-field after others (§8.3)", late),
        ("an unknown pseudo-field (§8.3)", with(&[(":x", "a")])),
        (
            "a pseudo-field of answers (§8.3)",
            with(&[(":status", "200")]),
        ),
        ("two :path (§8.3.1)", with(&[(":path", "/")])),
        ("two :method (§8.3.1)", with(&[(":method", "GET")])),
        ("no :path (§8.3.1)", without(":path")),
        ("no :method (§8.3.1)", without(":method")),
        ("no :scheme (§8.3.1)", without(":scheme")),
        ("an empty :path (§8.3.1)", replaced(":path", "")),
        (
            "a :path without a slash (§8.3.1)",
            replaced(":path", "users"),
        ),
        (
            "a CR in :path (§10.3)",
            replaced(":path", "/users/a\r\nx/credentials/b"),
        ),
        (
            "a space in :path (§10.3)",
            replaced(":path", "/users/a b/credentials/c"),
        ),
        (
            "a CR in :method (§10.3)",
            replaced(":method", "DELETE / HTTP/1.1\r\nx:"),
        ),
        (
            ":protocol (RFC 8441 §4)",
            with(&[(":protocol", "websocket")]),
        ),
        (
            "a content-length that the body contradicts (§8.1.1)",
            with(&[("content-length", "5")]),
        ),
        (
            "two hosts that differ (RFC 9110 §7.2)",
            with(&[("host", "a"), ("host", "b")]),
        ),
        (
            "two authorizations (RFC 9110 §5.3)",
            with(&[("authorization", "Bearer x")]),
        ),
        ("a field section above the bound (§10.5.1)", too_much),
    ];
    for (name, fields) in cases {
        let mut raw = Raw::open(gateway.data);
        let block = block(&fields);
        let mut parts = block.chunks(16_000).peekable();
        let first = parts.next().unwrap();
        let end = |is_last: bool| if is_last { END_HEADERS } else { 0 };
        raw.send(HEADERS, END_STREAM | end(parts.peek().is_none()), 1, first);
        while let Some(part) = parts.next() {
            raw.send(CONTINUATION, end(parts.peek().is_none()), 1, part);
        }
        if let Some(status) = raw.fate(1) {
            assert!((400..500).contains(&status), "{name}: {status}");
        }
        assert_eq!(gateway.alloy.received().len(), 0, "{name}");
    }
    // The same, without what is forbidden.
    let mut raw = Raw::open(gateway.data);
    raw.headers(
        1,
        &with(&[("te", "trailers"), ("cookie", "a=b"), ("x-a", "")]),
    );
    assert_eq!(raw.fate(1), Some(200));
    assert_eq!(gateway.alloy.received().len(), 1);
}

/// RFC 9113 §8.1: only END_STREAM ends a request. A server may ask with NO_ERROR that the
/// rest of one be kept; hyper takes the same word from a client for the end of the body.
#[test]
fn a_body_that_a_reset_cuts_is_not_taken_for_whole() {
    let gateway = Gateway::start();
    let bearer = format!("Bearer {}", gateway.token());
    let ends = |flags: u8| flags | END_HEADERS;
    let trailer = block(&[("x-checksum", "1")]);
    // With the flags of DATA and of the trailers that it ends with, if there are any.
    type Body<'a> = (&'a str, Option<(&'a [u8], u8)>, Option<u8>);
    let bodies: [Body<'_>; 7] = [
        ("none", None, None),
        ("a part", Some((b"{", 0)), None),
        ("all but END_STREAM", Some((b"{}", 0)), None),
        ("nothing but no END_STREAM", Some((b"", 0)), None),
        ("whole", Some((b"{}", END_STREAM)), None),
        ("whole, with trailers", Some((b"{}", 0)), Some(END_STREAM)),
        ("trailers only", None, Some(END_STREAM)),
    ];
    let mut raw = Raw::open(gateway.data);
    let mut stream = 1;
    let mut whole = 0;
    for (name, data, trailers) in bodies {
        for length in [None, Some("2")] {
            for pause in [Duration::ZERO, Duration::from_millis(30)] {
                let ended = data.map_or(0, |(_, flags)| flags) | trailers.unwrap_or(0);
                let is_whole = ended & END_STREAM != 0;
                if is_whole && length.is_some() && data.is_none() {
                    // Contradicts its length: that is told of above.
                    continue;
                }
                let credential = format!("c{stream}");
                let path = format!("/users/{USER}/credentials/{credential}");
                let mut fields = call(&path, &bearer);
                fields.extend(length.map(|length| ("content-length", length)));
                raw.send(HEADERS, ends(0), stream, &block(&fields));
                std::thread::sleep(pause);
                if let Some((data, flags)) = data {
                    raw.send(DATA, flags, stream, data);
                }
                if let Some(flags) = trailers {
                    raw.send(HEADERS, ends(flags), stream, &trailer);
                }
                std::thread::sleep(pause);
                if is_whole {
                    assert_eq!(raw.fate(stream), Some(200), "{name}, {length:?}");
                    whole += 1;
                } else {
                    raw.send(RST_STREAM, 0, stream, &NO_ERROR.to_be_bytes());
                }
                // The connection goes on, and its next call comes after the one before.
                raw.headers(stream + 2, &call("/nowhere", &bearer));
                assert_eq!(raw.fate(stream + 2), Some(404), "{name}, {length:?}");
                stream += 4;
                let is_its_intent = |record: &Value| {
                    record["event"] == "request.intent" && record["credential"] == credential
                };
                let has_intent = gateway.trail().iter().any(is_its_intent);
                assert_eq!(has_intent, is_whole, "{name}, {length:?}");
                assert_eq!(gateway.alloy.received().len(), whole, "{name}, {length:?}");
            }
        }
    }
    assert_eq!(whole, 10);
}

/// The `http` crate cuts a fragment off before anybody sees it. What is left must be the
/// one path by which the call is judged, recorded, sent and answered.
#[test]
fn of_a_path_with_a_fragment_only_what_stands_before_it_counts() {
    let other = "0123456789abcdef01234567";
    let gateway = Setup::default()
        .tenant("narrow", &[&format!("users: [ {USER} ]")])
        .start();
    let bearer = format!("Bearer {}", gateway.token_of("narrow"));
    let ask = |path: &str| {
        let mut raw = Raw::open(gateway.data);
        raw.headers(1, &call(path, &bearer));
        raw.fate(1).expect("an answer")
    };
    // Neither another user nor a query behind the mark changes anything.
    for (n, behind) in ["", "/../x", "?a=b", "/../../../users/other", "#"]
        .iter()
        .enumerate()
    {
        let path = format!("/users/{USER}/credentials/c{n}");
        assert_eq!(ask(&format!("{path}#{behind}")), 200, "{behind}");
        let credential = format!("c{n}");
        for event in ["request.intent", "request.outcome"] {
            let of_it = |record: &Value| record["event"] == event;
            assert_eq!(gateway.trail().iter().filter(|r| of_it(r)).count(), n + 1);
        }
        let intent = gateway.record("the call", |record| record["credential"] == *credential);
        assert_eq!(intent["user"], USER);
        let sent = gateway.alloy.received();
        assert_eq!(sent.len(), n + 1);
        let sent = sent.last().unwrap().text();
        assert!(
            sent.starts_with(&format!("DELETE {path} HTTP/1.1\r\n")),
            "{sent}"
        );
        assert!(!sent.contains('#'), "{sent}");
    }
    // Nor does an allowed one behind it help.
    assert_eq!(
        ask(&format!(
            "/users/{other}/credentials/c9#/users/{USER}/credentials/c9"
        )),
        403
    );
    assert_eq!(ask(&format!("/users/{USER}#/credentials/c9")), 404);
    assert_eq!(ask("/#"), 404);
    assert_eq!(gateway.alloy.received().len(), 5);
}

/// RFC 9113 §8.1: such a request is malformed. h2 drops the pseudo-fields of a trailer before
/// anybody sees them: then none of them may count.
#[test]
fn pseudo_fields_of_a_trailer_change_nothing_of_what_is_sent() {
    let gateway = Setup::default()
        .tenant("narrow", &[&format!("users: [ {USER} ]")])
        .start();
    let bearer = format!("Bearer {}", gateway.token_of("narrow"));
    let elsewhere = "/users/0123456789abcdef01234567/credentials/other";
    let trailers = [
        vec![(":path", elsewhere)],
        vec![(":method", "POST")],
        vec![(":authority", "elsewhere"), (":scheme", "https")],
        vec![(":status", "500")],
        // All that a second call would have.
        call(elsewhere, &bearer),
    ];
    for (n, trailer) in trailers.iter().enumerate() {
        let path = format!("/users/{USER}/credentials/c{n}");
        let mut raw = Raw::open(gateway.data);
        raw.send(HEADERS, END_HEADERS, 1, &block(&call(&path, &bearer)));
        raw.send(DATA, 0, 1, b"{}");
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailer));
        assert_eq!(raw.fate(1), Some(200), "{trailer:?}");
        let sent = gateway.alloy.received();
        assert_eq!(sent.len(), n + 1, "{trailer:?}");
        let sent = sent.last().unwrap().text();
        assert!(
            sent.starts_with(&format!("DELETE {path} HTTP/1.1\r\nhost: localhost")),
            "{sent}"
        );
        for other in ["other", "elsewhere", "0123456789abcdef01234567"] {
            assert!(!sent.contains(other), "{sent}");
        }
        let is_intent = |record: &&Value| record["event"] == "request.intent";
        let trail = gateway.trail();
        let intents: Vec<_> = trail.iter().filter(is_intent).collect();
        assert_eq!(intents.len(), n + 1);
        assert_eq!(intents[n]["user"], USER);
        assert_eq!(intents[n]["credential"], format!("c{n}"));
    }
}

#[test]
fn a_header_block_that_never_ends_is_bounded_in_time() {
    let gateway = Setup::default().bound("header_timeout: 300ms").start();
    let mut raw = Raw::open(gateway.data);
    raw.send(HEADERS, 0, 1, &block(&[(":method", "DELETE")]));
    let start = Instant::now();
    raw.goaway();
    assert!(start.elapsed() < Duration::from_secs(15));
    gateway.record("the end", |record| {
        record["event"] == "connection.refused" && record["reason"] == "header-timeout"
    });
}

#[test]
fn more_streams_than_allowed_are_refused_and_each_allowed_one_is_answered() {
    /// RFC 9113 §7.
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let gateway = Gateway::start();
    let slow = Behaviour::Late(Duration::from_secs(1));
    gateway.alloy.script(vec![slow; 32]);
    let bearer = format!("Bearer {}", gateway.token());
    let mut raw = Raw::open(gateway.data);
    // The allowed number is known to a client by the settings only.
    while raw.receive().expect("the settings").kind != SETTINGS {}
    for n in 0..64 {
        let path = format!("/users/{USER}/credentials/c{n}");
        raw.headers(2 * n + 1, &call(&path, &bearer));
    }
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 64 {
        let frame = raw.receive().expect("an end of each stream");
        match frame.kind {
            HEADERS => {
                assert_eq!(status(&frame.payload), 200);
                answered += 1;
            }
            RST_STREAM => {
                assert_eq!(frame.payload, REFUSED_STREAM);
                refused += 1;
            }
            kind => assert_ne!(kind, GOAWAY),
        }
    }
    assert_eq!((answered, refused), (32, 32));
    assert_eq!(gateway.alloy.received().len(), 32);
}
