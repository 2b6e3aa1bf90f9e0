//! What a message may say ambiguously, case by case with its source: the upstream
//! sees nothing, or the one canonical request, once.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::support::{Connection, Gateway, USER, client::request, delete};

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// This status, then the end of the connection; nothing arrives, not even
    /// what was smuggled behind it.
    Closed(u16),
    /// Exactly one canonical request arrives, and the connection stays in step.
    Once,
    /// This status; nothing arrives of it.
    Refused(u16),
}

use Class::{Closed, Once, Refused};

/// A case: what it is, where it comes from, the message (`{C}`: the request line
/// and authorisation, `{H}`: a Host line), what must come of it.
type Case = (&'static str, &'static str, &'static str, Class);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Framing: RFC 9112 §6.3, RFC 9110 §8.6.
    ("CL.TE", "RFC 9112 §6.1; Linhart et al. 2005", "{C}{H}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE.CL", "RFC 9112 §6.1; Kettle 2019", "{C}{H}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", Closed(400)),
    ("CL 0 with TE", "RFC 9112 §6.1", "{C}{H}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("CL with TE in odd case", "RFC 9112 §6.1", "{C}{H}CONTENT-LENGTH: 5\r\ntransfer-ENCODING: cHuNkEd\r\n\r\n0\r\n\r\n", Closed(400)),
    ("two TE", "RFC 9112 §6.1", "{C}{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE chunked, chunked", "RFC 9112 §6.1", "{C}{H}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE identity", "RFC 9112 §7, removed from RFC 2616", "{C}{H}Transfer-Encoding: identity\r\n\r\n", Closed(400)),
    ("TE gzip, chunked", "RFC 9112 §6.1", "{C}{H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE chunked, gzip", "RFC 9112 §6.3 rule 4", "{C}{H}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE xchunked", "Kettle 2019", "{C}{H}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE \"chunked\"", "Kettle 2019", "{C}{H}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE with vertical tab", "Kettle 2019", "{C}{H}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE chunked;q=1", "RFC 9112 §7", "{C}{H}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Closed(400)),
    ("TE empty", "RFC 9112 §6.1", "{C}{H}Transfer-Encoding:\r\n\r\n", Closed(400)),
    ("TE in HTTP/1.0", "RFC 9112 §6.1", "{C1.0}{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("two differing CL", "RFC 9112 §6.3 rule 5", "{C}{H}Content-Length: 0\r\nContent-Length: 7\r\n\r\n", Closed(400)),
    ("CL list differing", "RFC 9110 §8.6", "{C}{H}Content-Length: 0, 7\r\n\r\n", Closed(400)),
    ("CL signed", "RFC 9110 §8.6", "{C}{H}Content-Length: +0\r\n\r\n", Closed(400)),
    ("CL negative", "RFC 9110 §8.6", "{C}{H}Content-Length: -1\r\n\r\n", Closed(400)),
    ("CL hexadecimal", "RFC 9110 §8.6", "{C}{H}Content-Length: 0x0\r\n\r\n", Closed(400)),
    ("CL with space inside", "RFC 9110 §8.6", "{C}{H}Content-Length: 0 0\r\n\r\n", Closed(400)),
    ("CL beyond 64 bits", "RFC 9110 §8.6", "{C}{H}Content-Length: 18446744073709551616\r\n\r\n", Closed(400)),
    ("CL empty", "RFC 9110 §8.6", "{C}{H}Content-Length:\r\n\r\n", Closed(400)),
    // Field lines: RFC 9112 §5, RFC 9110 §5.
    ("space before colon", "RFC 9112 §5.1", "{C}{H}Content-Length : 0\r\n\r\n", Closed(400)),
    ("tab before colon", "RFC 9112 §5.1", "{C}{H}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("space before the first name", "RFC 9112 §2.2", "{C} {H}\r\n", Closed(400)),
    ("obs-fold", "RFC 9112 §5.2", "{C}{H}X-A: b\r\n c\r\n\r\n", Closed(400)),
    ("obs-fold of TE", "RFC 9112 §5.2; Kettle 2019", "{C}{H}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("NUL in a value", "RFC 9110 §5.5", "{C}{H}X-A: b\0c\r\n\r\n", Closed(400)),
    ("CR in a value", "RFC 9110 §5.5", "{C}{H}X-A: b\rc\r\n\r\n", Closed(400)),
    ("control byte in a value", "RFC 9110 §5.5", "{C}{H}X-A: b\x01c\r\n\r\n", Closed(400)),
    ("DEL in a value", "RFC 9110 §5.5", "{C}{H}X-A: b\x7fc\r\n\r\n", Closed(400)),
    ("NUL in a name", "RFC 9110 §5.1", "{C}{H}X\0A: b\r\n\r\n", Closed(400)),
    ("empty name", "RFC 9110 §5.1", "{C}{H}: b\r\n\r\n", Closed(400)),
    ("name with brackets", "RFC 9110 §5.1", "{C}{H}X(A): b\r\n\r\n", Closed(400)),
    ("line without colon", "RFC 9112 §5", "{C}{H}nonsense\r\n\r\n", Closed(400)),
    ("bare CR as line end", "RFC 9112 §2.2", "{C}{H}X-A: b\rX-B: c\r\n\r\n", Closed(400)),
    ("bare LF as line end", "RFC 9112 §2.2: may be accepted", "{C}{H}X-A: b\nX-B: c\r\n\r\n", Once),
    ("name with underscore", "nginx, underscores_in_headers", "{C}{H}Content_Length: 7\r\n\r\n", Once),
    ("tabs and spaces around a value", "RFC 9110 §5.5", "{C}{H}Content-Length: \t 0 \t\r\n\r\n", Once),
    ("bytes above 127 in a value", "RFC 9110 §5.5, obs-text", "{C}{H}X-A: \u{e9}\r\n\r\n", Once),
    ("an empty value", "RFC 9110 §5.5", "{C}{H}X-A:\r\n\r\n", Once),
    // Bodies: RFC 9112 §7.
    ("chunk extension", "RFC 9112 §7.1.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\n{}\r\n0\r\n\r\n", Once),
    ("trailer field", "RFC 9112 §7.1.2", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: a\r\n\r\n", Once),
    ("trailer that would be framing", "RFC 9110 §6.5.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n", Once),
    ("trailer that would be authorisation", "RFC 9110 §6.5.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer x\r\n\r\n", Once),
    ("chunk size in capitals", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", Once),
    ("chunk size with zeros before", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0002\r\n{}\r\n0\r\n\r\n", Once),
    ("chunk size negative", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n", Closed(400)),
    ("chunk size 0x", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", Closed(400)),
    ("chunk size beyond 64 bits", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", Closed(400)),
    ("chunk without line end", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n", Closed(400)),
    ("chunk size empty", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n", Closed(400)),
    ("LF as the end of a trailer section", "RFC 9112 §7.1.2; TERM.EXT 2025", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\n", Closed(400)),
    ("LF before a trailer that looks like a head", "RFC 9112 §7.1.2; TERM.EXT 2025", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\nPOST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", Closed(400)),
    ("LF as the end of a trailer field", "RFC 9112 §7.1.2; TERM.EXT 2025", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\n\r\n\r\n", Closed(400)),
    ("CR alone in a trailer", "RFC 9112 §2.2", "{C}{H}Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\rX-B: c\r\n\r\n", Closed(400)),
    ("LF as the end of a chunk size", "RFC 9112 §7.1", "{C}{H}Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", Closed(400)),
    ("LF as the end of a chunk", "RFC 9112 §7.1; TE.TERM 2025", "{C}{H}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n", Closed(400)),
    ("LF within a chunk extension", "CVE-2024-27982, TERM.EXT 2025", "{C}{H}Transfer-Encoding: chunked\r\n\r\n2;\n{}\r\n0\r\n\r\n", Closed(400)),
    // Host: RFC 9112 §3.2.
    ("Host missing", "RFC 9112 §3.2", "{C}\r\n", Closed(400)),
    ("Host twice", "RFC 9112 §3.2", "{C}{H}{H}\r\n", Closed(400)),
    ("Host twice, differing", "RFC 9112 §3.2", "{C}{H}Host: other\r\n\r\n", Closed(400)),
    ("Host invalid", "RFC 9112 §3.2", "{C}Host: a b\r\n\r\n", Closed(400)),
    ("Host with user", "RFC 9110 §7.2", "{C}Host: user@gateway\r\n\r\n", Closed(400)),
    ("Host with path", "RFC 9110 §7.2", "{C}Host: gateway/x\r\n\r\n", Closed(400)),
    ("Host other than the target's", "RFC 9112 §3.2.2: the target wins", "{A}Host: other.example\r\n\r\n", Once),
    ("Host empty", "RFC 9112 §3.2: allowed without authority", "{C}Host:\r\n\r\n", Once),
    ("Host missing in HTTP/1.0", "RFC 9112 §3.2", "{C1.0}Connection: keep-alive\r\n\r\n", Once),
    // Targets and methods: RFC 9112 §3.
    ("absolute-form", "RFC 9112 §3.2.2", "{A}{H}\r\n", Once),
    ("authority-form", "RFC 9112 §3.2.3", "DELETE gateway:80 HTTP/1.1\r\n{T}{H}\r\n", Refused(404)),
    ("CONNECT", "RFC 9110 §9.3.6", "CONNECT gateway:80 HTTP/1.1\r\n{T}{H}\r\n", Refused(405)),
    ("CONNECT on the path", "RFC 9110 §9.3.6", "CONNECT {P} HTTP/1.1\r\n{T}{H}\r\n", Refused(405)),
    ("fragment in the target", "RFC 9112 §3.2", "DELETE {P}#x HTTP/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("space in the target", "RFC 9112 §3", "DELETE {P} x HTTP/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("two spaces in the request line", "RFC 9112 §3", "DELETE  {P} HTTP/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("tab in the request line", "RFC 9112 §3", "DELETE\t{P} HTTP/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("control byte in the target", "RFC 9112 §3.2", "DELETE {P}\x01 HTTP/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("NUL in the method", "RFC 9110 §9.1", "DEL\0ETE {P} HTTP/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("HTTP/1.2", "RFC 9112 §2.3", "DELETE {P} HTTP/1.2\r\n{T}{H}\r\n", Closed(400)),
    ("HTTP/2.0 in text", "RFC 9112 §2.3", "DELETE {P} HTTP/2.0\r\n{T}{H}\r\n", Closed(400)),
    ("HTTP/0.9", "RFC 9112 §2.3", "DELETE {P}\r\n", Closed(400)),
    ("lower-case version", "RFC 9112 §2.3", "DELETE {P} http/1.1\r\n{T}{H}\r\n", Closed(400)),
    ("empty lines first", "RFC 9112 §2.2: at least one is to be ignored", "\r\n\r\n{C}{H}\r\n", Once),
    ("an empty line that is an LF alone", "RFC 9112 §2.2: may be accepted", "\n{C}{H}\r\n", Once),
    ("an empty line behind", "RFC 9112 §2.2", "{C}{H}\r\n\r\n", Once),
    ("an empty line behind a body", "RFC 9112 §2.2", "{C}{H}Content-Length: 4\r\n\r\n\r\n\r\n\r\n", Once),
    ("CR alone before the request", "RFC 9112 §2.2", "\r{C}{H}\r\n", Closed(400)),
    ("CR alone after an empty line", "RFC 9112 §2.2", "\r\n\r{C}{H}\r\n", Closed(400)),
    ("two CR before an LF", "RFC 9112 §2.2", "\r\r\n{C}{H}\r\n", Closed(400)),
    // What may change the protocol or the time: RFC 9110 §7.8, §10.1.1.
    ("Upgrade: h2c", "RFC 7540 §3.2; h2c smuggling 2020", "{C}{H}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", Once),
    ("Upgrade: websocket", "RFC 9110 §7.8", "{C}{H}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Once),
    ("Expect unknown", "RFC 9110 §10.1.1: may be ignored", "{C}{H}Expect: something\r\n\r\n", Once),
    ("Expect: 100-continue without a body", "RFC 9110 §10.1.1", "{C}{H}Expect: 100-continue\r\n\r\n", Once),
    ("Early-Data: 1", "RFC 8470 §5.1: only of use to an origin with 0-RTT", "{C}{H}Early-Data: 1\r\n\r\n", Once),
    ("Connection: naming end-to-end fields", "RFC 9110 §7.6.1; hop-by-hop abuse 2019", "{C}{H}Connection: authorization, host, x-request-id\r\n\r\n", Once),
    ("method override", "common framework extension", "{C}{H}X-HTTP-Method-Override: GET\r\n\r\n", Once),
    ("path override", "X-Original-URL, X-Rewrite-URL of IIS and Symfony", "{C}{H}X-Original-URL: /users/x\r\nX-Rewrite-URL: /users/y\r\n\r\n", Once),
    ("two Authorization", "RFC 9110 §5.3: not a list", "{C}{H}Authorization: Bearer other\r\n\r\n", Refused(401)),
    ("Authorization list", "RFC 9110 §11.6.2", "DELETE {P} HTTP/1.1\r\nAuthorization: Bearer {K}, Bearer {K}\r\n{H}\r\n", Refused(401)),
];

fn spell(case: &str, credential: &str, token: &str) -> String {
    let path = format!("/users/{USER}/credentials/{credential}");
    let authorization = format!("Authorization: Bearer {token}\r\n");
    case.replace(
        "{C1.0}",
        &format!("DELETE {path} HTTP/1.0\r\n{authorization}"),
    )
    .replace("{C}", &format!("DELETE {path} HTTP/1.1\r\n{authorization}"))
    .replace(
        "{A}",
        &format!("DELETE http://evil.example{path} HTTP/1.1\r\n{authorization}"),
    )
    .replace("{H}", "Host: gateway\r\n")
    .replace("{T}", &authorization)
    .replace("{P}", &path)
    .replace("{K}", token)
}

/// The targets of all that arrived.
fn arrived(gateway: &Gateway) -> Vec<String> {
    let received = gateway.alloy.received();
    let lines = received.iter().map(|request| {
        let text = request.text();
        text.lines().next().unwrap_or_default().to_owned()
    });
    lines.collect()
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With nothing behind it.
    Alone,
    /// With another request behind it.
    Followed,
    /// The same, and all behind its head only once the gateway has the head.
    Split,
}

impl Way {
    const ALL: [Self; 3] = [Self::Alone, Self::Followed, Self::Split];
}

/// Where a message's head ends, if something comes behind it.
fn end_of_head(message: &str) -> Option<usize> {
    let begin = message.len() - message.trim_start().len();
    let end = begin + message.get(begin..)?.find("\r\n\r\n")? + 4;
    (end < message.len()).then_some(end)
}

fn send(gateway: &Gateway, connection: &mut Connection, way: Way, message: &str, behind: &str) {
    let head = match way {
        Way::Split => end_of_head(message).unwrap_or(message.len()),
        Way::Alone | Way::Followed => 0,
    };
    let (head, rest) = message.split_at(head);
    if !head.is_empty() {
        connection.send(head);
        // Until it waits for the body, or has answered without it.
        let status = || gateway.admin("/status.json").json();
        while status()["requests_in_flight"] == 0 && !connection.has_more() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    connection.send(rest.to_owned() + behind);
}

#[test]
fn of_an_ambiguous_message_the_upstream_sees_nothing_or_the_one_request() {
    let gateway = Gateway::start();
    let mut expected = Vec::new();
    for (n, (name, source, message, class)) in CASES.iter().enumerate() {
        for way in Way::ALL {
            if way == Way::Split && end_of_head(message).is_none() {
                continue;
            }
            let id = 6 * n + 2 * way as usize;
            let credential = format!("c{id}");
            let message = spell(message, &credential, gateway.token());
            // What an attacker would hide behind it.
            let after = format!("c{}", id + 1);
            let behind = match way {
                Way::Alone => String::new(),
                Way::Followed | Way::Split => delete(USER, &after, gateway.token()),
            };
            let mut connection = Connection::open(gateway.data);
            let what = format!("{name} ({source}), {way:?}: {message:?}");
            send(&gateway, &mut connection, way, &message, &behind);
            let answer = connection.try_receive();
            let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
            let line = |id: &str| format!("DELETE /users/{USER}/credentials/{id} HTTP/1.1");
            match class {
                Closed(status) => {
                    assert_eq!(answer.status, *status, "{what}: {}", answer.text());
                    assert!(connection.is_closed(), "{what} left the connection open");
                }
                Once => {
                    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                    expected.push(line(&credential));
                    // HTTP/1.0 ends with its answer.
                    if way != Way::Alone && !message.contains("HTTP/1.0") {
                        assert_eq!(connection.receive().status, 200, "{what}: out of step");
                        expected.push(line(&after));
                    }
                }
                Refused(status) => {
                    assert_eq!(answer.status, *status, "{what}: {}", answer.text());
                    if way != Way::Alone {
                        assert_eq!(connection.receive().status, 200, "{what}: out of step");
                        expected.push(line(&after));
                    }
                }
            }
            assert_eq!(arrived(&gateway), expected, "{what}");
        }
    }
    // Who was answered was not turned away besides.
    gateway.last_record_of(&gateway.send(request("GET / HTTP/1.1", gateway.token(), "")));
    let is_cut_short = |record: &&Value| record["reason"] == "cut-short";
    let trail = gateway.trail();
    assert_eq!(trail.iter().find(is_cut_short), None);
}

/// However the bytes of empty lines are cut.
#[test]
fn empty_lines_before_a_request_are_ignored_and_a_cr_alone_is_refused() {
    let gateway = Gateway::start();
    let mut credentials = (0..).map(|n| format!("c{n}"));
    let mut call = || delete(USER, &credentials.next().unwrap(), gateway.token());
    let good: &[&[&str]] = &[
        &["\r\n"],
        &["\r", "\n"],
        &["\n", "\r", "\n\r", "\n"],
        &["\r\n\r", "\n"],
    ];
    let bad: &[&[&str]] = &[&["\r"], &["\r\n\r"], &["\r", "\n\r"], &["\r", "\r\n"]];
    let send = |parts: &[&str], call: String| {
        let mut connection = gateway.connect();
        for part in parts {
            connection.send(part);
            // So that it is read by itself.
            thread::sleep(Duration::from_millis(20));
        }
        connection.send(call);
        connection
    };
    for parts in good {
        let mut connection = send(parts, call());
        assert_eq!(connection.receive().status, 200, "{parts:?}");
        // And between requests.
        for part in *parts {
            connection.send(part);
        }
        let answer = connection.send(call()).receive();
        assert_eq!(answer.status, 200, "{parts:?}");
    }
    let arrived_before = arrived(&gateway).len();
    for parts in bad {
        let mut connection = send(parts, call());
        assert_eq!(connection.receive().status, 400, "{parts:?}");
        assert!(connection.is_closed(), "{parts:?}");
    }
    assert_eq!(arrived(&gateway).len(), arrived_before);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_each_arrives_once() {
    let gateway = Gateway::start();
    let all: String = (0..20)
        .map(|n| delete(USER, &format!("c{n}"), gateway.token()))
        .collect();
    let mut connection = gateway.connect();
    connection.send(all);
    for _ in 0..20 {
        assert_eq!(connection.receive().status, 200);
    }
    let expected: Vec<_> = (0..20)
        .map(|n| format!("DELETE /users/{USER}/credentials/c{n} HTTP/1.1"))
        .collect();
    assert_eq!(arrived(&gateway), expected);
}
