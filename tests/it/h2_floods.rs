//! Floods of HTTP/2 frames that cost a peer nothing: each ends in GOAWAY.

use std::time::Duration;

use alloy_gateway::simulated_alloy::Behaviour;

use crate::support::{
    Setup, USER,
    raw_h2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
        NO_ERROR, PADDED, PING, PRIORITY, PROTOCOL_ERROR, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE,
        block, call,
    },
};

#[test]
fn floods_end_in_goaway_enhance_your_calm_and_others_are_served_meanwhile() {
    let gateway = Setup::default().bound("connections: 64").start();
    let bearer = format!("Bearer {}", gateway.token());
    let path = format!("/users/{USER}/credentials/c1");
    let bad = block(&call(&path, "Bearer bad"));
    type Flood<'a> = Box<dyn Fn(&mut Raw, u32) -> bool + 'a>;
    let open = block(&call(&path, &bearer));
    let data = |raw: &mut Raw, n: u32, flags: u8, payload: &[u8]| {
        (n > 0 || raw.send(HEADERS, END_HEADERS, 1, &open)) && raw.send(DATA, flags, 1, payload)
    };
    let floods: [(&str, Flood<'_>); 16] = [
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
            Box::new(|raw, n| data(raw, n, 0, &[])),
        ),
        (
            "data that is padding only, RFC 9113 §6.1",
            Box::new(|raw, n| data(raw, n, PADDED, &[0])),
        ),
        (
            "data byte by byte, RFC 9113 §10.5",
            Box::new(|raw, n| data(raw, n, 0, b"a")),
        ),
        (
            "frames of an unknown type, RFC 9113 §5.5",
            Box::new(|raw, _| raw.send(0xfa, 0, 0, &[])),
        ),
        (
            "answers to pings that were not sent, RFC 9113 §6.7",
            Box::new(|raw, _| raw.send(PING, ACK, 0, &[7; 8])),
        ),
        (
            "goaways, RFC 9113 §6.8",
            Box::new(|raw, _| raw.send(GOAWAY, 0, 0, &[0; 8])),
        ),
        (
            "data on a stream that is over, RFC 9113 §5.1",
            Box::new(|raw, n| {
                (n > 0 || raw.headers(1, &call(&path, "Bearer bad")))
                    && raw.send(DATA, END_STREAM, 1, &[])
            }),
        ),
        (
            "heads on a stream that is over, RFC 9113 §5.1",
            Box::new(|raw, _| raw.headers(1, &call(&path, "Bearer bad"))),
        ),
        (
            "large settings, CVE-2020-11080",
            Box::new(|raw, _| raw.send(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0].repeat(2000))),
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
        // A window update of nothing, and what comes on a stream that is over, are
        // errors of the connection in h2; who says goodbye may be told goodbye.
        let also = match name.split(' ').next() {
            Some("made" | "data" | "heads") => PROTOCOL_ERROR,
            Some("goaways,") => NO_ERROR,
            _ => ENHANCE_YOUR_CALM,
        };
        let allowed = [ENHANCE_YOUR_CALM, also];
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

/// A client whose calls time out cancels each of them: that is no rapid reset, and must not
/// cost a call its answer that goes on over the same connection.
#[test]
fn calls_that_time_out_one_after_another_do_not_end_the_connection_of_those_that_go_on() {
    const ROUNDS: u32 = 6;
    const AT_ONCE: u32 = 30;
    let gateway = Setup::default()
        .upstream("circuit_breaker: off")
        .tenant("hasty", &["users: all", "in_flight: 1000"])
        .start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.always(Behaviour::Held(held));
    let bearer = format!("Bearer {}", gateway.token_of("hasty"));
    let mut raw = Raw::open(gateway.data);
    assert!(raw.headers(1, &call(&format!("/users/{USER}/credentials/c1"), &bearer)));
    for round in 0..ROUNDS {
        let streams = (0..AT_ONCE).map(|n| 2 * (round * AT_ONCE + n) + 3);
        for stream in streams.clone() {
            let path = format!("/users/{USER}/credentials/c{stream}");
            assert!(raw.headers(stream, &call(&path, &bearer)), "{round}");
        }
        let sent = usize::try_from((round + 1) * AT_ONCE + 1).unwrap();
        let came = gateway.alloy.wait_for(sent, Duration::from_secs(20));
        assert!(came, "{round}: {:?}", gateway.trail().last());
        std::thread::sleep(Duration::from_millis(250));
        for stream in streams {
            assert!(raw.send(RST_STREAM, 0, stream, &[0, 0, 0, 8]), "{round}");
        }
    }
    release.send(true).unwrap();
    assert_eq!(raw.fate(1), Some(200));
}

/// RFC 9113 §6.9: without a window no answer can be written; a PING each moment is
/// no request.
#[test]
fn a_peer_that_never_opens_its_window_ends_as_an_idle_one_however_much_it_pings() {
    let gateway = Setup::default().bound("idle_timeout: 1s").start();
    let mut raw = Raw::open(gateway.data);
    let window_of_none = [0, 4, 0, 0, 0, 0];
    assert!(raw.send(SETTINGS, 0, 0, &window_of_none));
    for stream in 0..100 {
        assert!(raw.headers(2 * stream + 1, &call("/nowhere", "Bearer bad")));
    }
    let pings_max = 100;
    let pings = (0..pings_max).take_while(|_| {
        std::thread::sleep(Duration::from_millis(200));
        raw.send(PING, 0, 0, &[0; 8])
    });
    let pings = pings.count();
    assert!(pings < pings_max, "it is still open after {pings} pings");
    assert_eq!(gateway.delete(USER, "gone").status, 404);
}
