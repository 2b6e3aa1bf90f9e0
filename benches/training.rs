//! Work as a gateway has it, for `deploy/build`: the compiler learns from it which code
//! is used often. Nothing is measured.
//!
//! `training DIRECTORY`: where the profiles are put. `training start`: no profile, and
//! only what each sidecar does: it starts, answers, and stands by. Sends only to loopback,
//! for some seconds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    dead_code,
    unused_imports,
    reason = "as in the suites that it shares its support with"
)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use bytes::Bytes;
use http_body_util::Full;
use support::{Connection, FOREIGN_USER, Gateway, Setup, USER, delete, h2};

/// Of each kind of trail.
const SPAN: Duration = Duration::from_secs(8);
/// Calls under way at once.
const CALLERS: usize = 32;
/// As many as a sidecar of some size has: reading a config is most of a start.
const TENANTS: usize = 1000;
/// One in so many calls of a caller is refused.
const REFUSED: usize = 50;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    // `cargo bench` starts it, too: there is nothing to learn then.
    let Some(directory) = args.next() else {
        eprintln!("usage: training DIRECTORY | start");
        return;
    };
    if directory == "start" {
        let gateway = set_up("relaxed").start();
        stand_by(gateway);
        return;
    }
    for durability in ["strict", "relaxed"] {
        // One file for each process.
        let profile = Path::new(&directory).join("%p.profraw");
        let profile = profile.to_str().expect("a directory of plain characters");
        let setup = set_up(durability).env("LLVM_PROFILE_FILE", profile);
        let mut gateway = setup.start();
        let calls = work(&gateway);
        // A profile is written at a good end.
        assert!(gateway.stop().success());
        println!("{durability}: {calls} calls");
    }
}

fn set_up(durability: &str) -> Setup {
    let tenants = (0..TENANTS).map(name);
    let users = format!("users: [ {USER} ]");
    let limits = "limits: [ { requests: 100000, per: 1s } ]";
    let setup = tenants.fold(Setup::default(), |setup, tenant| {
        setup.tenant(&tenant, &[&users, limits, "in_flight: 64"])
    });
    // Of each kind of value that a config has, one at least.
    setup
        .upstream("idle_connections: 64")
        .upstream("request_timeout: 30s")
        .lines("log: { level: warn, access: off }\n")
        .audit(&format!("durability: {durability}"))
}

fn name(tenant: usize) -> String {
    format!("tenant-{tenant}")
}

/// Some calls, and then nothing for as long as what follows a start takes.
fn stand_by(mut gateway: Gateway) {
    gateway.alloy.always(well());
    for tenant in 0..10 {
        let call = delete(USER, "c1", gateway.token_of(&name(tenant)));
        assert_eq!(gateway.send(call).status, 200);
    }
    thread::sleep(Duration::from_secs(2));
    assert!(gateway.stop().success());
}

/// What Alloy says of a deletion.
fn well() -> Behaviour {
    Behaviour::answer(200, "", r#"{"success":true}"#)
}

/// Callers with connections that they keep, and an operator who looks and reloads; how
/// many calls there were.
fn work(gateway: &Gateway) -> usize {
    gateway.alloy.always(well());
    let end = Instant::now() + SPAN;
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| scope.spawn(move || call(gateway, caller, end)))
            .collect();
        scope.spawn(|| call_over_http2(gateway, end));
        while Instant::now() < end {
            for page in ["/metrics", "/status", "/readyz"] {
                assert_eq!(gateway.admin(page).status, 200);
            }
            assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
            thread::sleep(Duration::from_secs(1));
        }
        let calls = callers.into_iter().map(|caller| caller.join());
        calls
            .map(|calls| calls.expect("every call was answered as it should be"))
            .sum()
    })
}

fn call(gateway: &Gateway, caller: usize, end: Instant) -> usize {
    let mut tenants = (0..TENANTS).skip(caller).step_by(CALLERS).cycle();
    let mut connection = Connection::open(gateway.data);
    let mut calls = 0;
    while Instant::now() < end {
        calls += 1;
        let token = gateway.token_of(&name(tenants.next().expect("no end")));
        let (user, expected) = match calls % REFUSED {
            0 => (FOREIGN_USER, 403),
            _ => (USER, 200),
        };
        let call = delete(user, &format!("c{caller}-{calls}"), token);
        let answer = connection.send(call).receive();
        assert_eq!(answer.status, expected, "{}", answer.text());
    }
    calls
}

fn call_over_http2(gateway: &Gateway, end: Instant) {
    let token = gateway.token_of(&name(0));
    let mut connection = h2::Client::open(gateway.data);
    let mut calls = 0;
    while Instant::now() < end {
        calls += 1;
        let call = h2::delete(USER, &format!("h{calls}"), token);
        let answer = connection.send(call.body(Full::new(Bytes::new())).expect("a request"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}
