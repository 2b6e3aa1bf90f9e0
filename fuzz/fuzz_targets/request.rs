//! Raw bytes through the real server: whatever they are, the upstream gets
//! nothing, or canonical requests.
#![no_main]

#[path = "../stage.rs"]
mod stage;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::OnceLock,
    time::Duration,
};

use alloy_gateway::{
    server::Gateway,
    simulated_alloy::{self, SimulatedAlloy},
};
use libfuzzer_sys::fuzz_target;

use stage::KEY;

struct Stage {
    alloy: SimulatedAlloy,
    address: SocketAddr,
    _gateway: Gateway,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let alloy = SimulatedAlloy::start(simulated_alloy::Options {
            tls: false,
            api_key: KEY.to_owned(),
            api_version: "2025-09".to_owned(),
            users: BTreeMap::new(),
        })
        .expect("a free port");
        let bounds =
            "bounds: { body_timeout: 100ms, header_timeout: 100ms, idle_timeout: 100ms }\n";
        let (gateway, address) = stage::start(&alloy.url(), "", bounds);
        Stage {
            alloy,
            address,
            _gateway: gateway,
        }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let stage = stage();
    let before = stage.alloy.received().len();
    let mut stream = TcpStream::connect(stage.address).expect("the gateway listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time-out");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains(KEY));
    for request in stage.alloy.received().iter().skip(before) {
        assert_canonical(&request.text());
    }
});

fn assert_canonical(text: &str) {
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    assert!(body.is_empty(), "a body: {text:?}");
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let path = line
        .strip_prefix("DELETE /users/")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let (user, credential) = path
        .and_then(|path| path.split_once("/credentials/"))
        .expect(line);
    let is_id = |id: &str| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
    };
    assert!(is_id(user) && is_id(credential), "{line}");
    let mut names: Vec<_> = lines
        .map(|line| line.split_once(": ").expect(line))
        .collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "authorization",
        "host",
        "user-agent",
        "via",
        "x-api-version",
        "x-request-id",
    ];
    assert!(names.iter().map(|(name, _)| *name).eq(expected), "{text:?}");
    let value = |at: usize| names[at].1;
    assert_eq!(
        (value(0), value(1), value(5)),
        ("application/json", &*format!("bearer {KEY}"), "2025-09")
    );
    assert!(
        [
            "1.0 alloy-gateway",
            "1.1 alloy-gateway",
            "2.0 alloy-gateway"
        ]
        .contains(&value(4))
    );
    assert!(
        value(6).len() == 36 && value(6).bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'),
        "{text:?}"
    );
}
