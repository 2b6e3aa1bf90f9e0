//! Names that are looked up slowly, or not at all.

use std::{
    fs,
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Gateway, Setup, USER, assert_refusal, delete};

fn threads(gateway: &Gateway) -> usize {
    let path = format!("/proc/{}/task", gateway.process.id());
    fs::read_dir(path).unwrap().count()
}

/// A name server that takes questions and never answers, at port 53 of a loopback
/// address of its own. `None` where one may not have it: then nothing is shown.
fn silent_name_server() -> Option<(UdpSocket, String)> {
    let can_unshare = Command::new("unshare").args(["-m", "true"]).status();
    let address = format!("127.53.{}.1", std::process::id() % 250);
    let socket = UdpSocket::bind((address.as_str(), 53)).ok()?;
    if !can_unshare.is_ok_and(|status| status.success()) {
        println!("not shown: no mount namespace here");
        return None;
    }
    Some((socket, address))
}

#[test]
fn a_look_up_that_never_ends_costs_calls_their_connect_timeout_and_one_thread() {
    let Some((_server, address)) = silent_name_server() else {
        return;
    };
    let mut gateway = Setup::default()
        .workers(1)
        .upstream_url("https://slow.example")
        .upstream("connect_timeout: 200ms")
        .upstream("retries: 0")
        .upstream("circuit_breaker: off")
        .name_server(&address)
        .start();
    let before = threads(&gateway);
    let token = gateway.token().to_owned();
    for round in 0..4 {
        let mut calls: Vec<_> = (0..20)
            .map(|n| {
                let mut connection = gateway.connect();
                connection.send(delete(USER, &format!("c{round}{n}"), &token));
                connection
            })
            .collect();
        for connection in &mut calls {
            assert_refusal(&connection.receive(), 502, "upstream-unreachable", "no");
        }
    }
    let record = gateway.last_record_of(&gateway.delete(USER, "c1"));
    assert_eq!(
        (&record["outcome"], &record["sent"]),
        (&"failed".into(), &"no".into()),
        "{record}"
    );
    let more = threads(&gateway) - before;
    assert!(more <= 1, "{more} threads wait for the name server");
    // And stopping does not wait for it.
    let start = Instant::now();
    assert!(gateway.stop().success());
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}
