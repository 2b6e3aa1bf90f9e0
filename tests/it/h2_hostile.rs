//! HTTP/2 as only an attacker speaks it, frame by frame.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{Gateway, Setup, USER};

/// Frame types and flags of RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 0x0b;
const PROTOCOL_ERROR: u32 = 1;

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Raw(TcpStream);

impl Raw {
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let mut raw = Self(stream);
        raw.send(SETTINGS, 0, 0, &[]);
        raw
    }

    /// Sends a frame; whether the other side still took it.
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let [_, l2, l1, l0] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![l2, l1, l0, kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).is_ok()
    }

    fn headers(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
    }

    /// The next frame; `None` when the connection is at its end.
    fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads to the end; the error of the GOAWAY, if there was one.
    fn goaway(&mut self) -> Option<u32> {
        let mut error = None;
        let end = Instant::now() + Duration::from_secs(20);
        while let Some(frame) = self.receive() {
            assert!(Instant::now() < end, "the connection never ended");
            if frame.kind == GOAWAY {
                let code: [u8; 4] = frame.payload[4..8].try_into().unwrap();
                error = Some(u32::from_be_bytes(code));
            }
        }
        error
    }

    /// What becomes of a stream: its status, or that it was reset or the connection ended.
    fn fate(&mut self, stream: u32) -> Option<u16> {
        while let Some(frame) = self.receive() {
            match frame.kind {
                HEADERS if frame.stream == stream => return Some(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return None,
                GOAWAY => return None,
                _ => {}
            }
        }
        None
    }
}

/// Literal fields without indexing, new names, no Huffman coding (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer with a 7-bit prefix (RFC 7541 §5.1).
            if text.len() < 127 {
                block.push(u8::try_from(text.len()).unwrap());
            } else {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The status of an answer: indexed (RFC 7541 appendix A), or with a literal value.
fn status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // Literal with the indexed name `:status`, three digits, Huffman coded or not.
        0x08 | 0x48 if block[1] == 3 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        // Huffman: digits are 5 or 6 bits (RFC 7541 appendix B).
        0x08 | 0x48 => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
        other => panic!("status begins with {other:#x}"),
    }
}

fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let take = |from: usize, len: usize| {
        let bits = bits.get(from..from + len)?;
        Some(
            bits.iter()
                .fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit)),
        )
    };
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let five = take(at, 5).unwrap();
        let digit = if five <= 2 {
            at += 5;
            five
        } else {
            let six = take(at, 6).unwrap();
            at += 6;
            six - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    number
}

fn call<'a>(path: &'a str, bearer: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "DELETE"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("authorization", bearer),
    ]
}

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

#[test]
fn floods_end_in_goaway_enhance_your_calm_and_others_are_served_meanwhile() {
    let gateway = Setup::default().bound("connections: 64").start();
    let bearer = format!("Bearer {}", gateway.token());
    let path = format!("/users/{USER}/credentials/c1");
    let bad = block(&call(&path, "Bearer bad"));
    type Flood<'a> = Box<dyn Fn(&mut Raw, u32) -> bool + 'a>;
    let floods: [(&str, Flood<'_>); 8] = [
        (
            "pings, CVE-2019-9512",
            Box::new(|raw, _| raw.send(PING, 0, 0, &[0; 8])),
        ),
        (
            "settings, CVE-2019-9515",
            Box::new(|raw, _| raw.send(SETTINGS, 0, 0, &[])),
        ),
        (
            "priorities, CVE-2019-9513",
            Box::new(|raw, n| raw.send(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        ),
        (
            "window updates",
            Box::new(|raw, _| raw.send(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
        (
            "empty data, CVE-2019-9518",
            Box::new(|raw, n| {
                let open = block(&call(&path, &bearer));
                (n > 0 || raw.send(HEADERS, END_HEADERS, 1, &open)) && raw.send(DATA, 0, 1, &[])
            }),
        ),
        (
            "rapid reset, CVE-2023-44487",
            Box::new(|raw, n| {
                raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bad)
                    && raw.send(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])
            }),
        ),
        (
            "made you reset, CVE-2025-8671",
            Box::new(|raw, n| {
                // A window update of nothing is the stream's error: the server resets it.
                raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bad)
                    && raw.send(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])
            }),
        ),
        (
            "continuations, CVE-2024-27316",
            Box::new(|raw, n| {
                let kind = if n == 0 { HEADERS } else { CONTINUATION };
                raw.send(kind, 0, 1, &block(&[("x-a", &"b".repeat(100))]))
            }),
        ),
    ];
    let count = floods.len();
    for (name, flood) in floods {
        let mut raw = Raw::open(gateway.data);
        let sent = (0..100_000).take_while(|n| flood(&mut raw, *n)).count();
        assert!(sent < 100_000, "{name}: all was taken");
        // Our own unread bytes may turn the farewell into a reset.
        let error = raw.goaway();
        // A window update of nothing is an error of the connection in h2.
        let allowed = [
            ENHANCE_YOUR_CALM,
            if name.starts_with("made") {
                PROTOCOL_ERROR
            } else {
                ENHANCE_YOUR_CALM
            },
        ];
        assert!(
            error.is_none_or(|error| allowed.contains(&error)),
            "{name}: {error:?}"
        );
        let good = gateway.delete(USER, "gone").status;
        assert_eq!(good, 404, "{name}: the next caller is not served by Alloy");
    }
    let ended = gateway
        .trail()
        .iter()
        .filter(|record| record["event"] == "connection.refused")
        .count();
    assert!(ended >= count - 1, "{ended} of {count} are in the trail");
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
    let gateway = Gateway::start();
    let bearer = format!("Bearer {}", gateway.token());
    let mut raw = Raw::open(gateway.data);
    let paths: Vec<_> = (0..100)
        .map(|n| format!("/users/{USER}/credentials/c{n}"))
        .collect();
    for (n, path) in (0_u32..).zip(&paths) {
        raw.headers(2 * n + 1, &call(path, &bearer));
    }
    let mut answered = 0;
    while answered < 100 {
        let frame = raw.receive().expect("an answer for each stream");
        if frame.kind == HEADERS {
            assert_eq!(status(&frame.payload), 200);
            answered += 1;
        }
        assert_ne!(frame.kind, GOAWAY);
    }
    assert_eq!(gateway.alloy.received().len(), 100);
}
