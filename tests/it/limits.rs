//! Limits: exact under concurrency, honest about the wait.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Gateway, Response, Setup, USER, client::delete};

/// `callers` calls at once, each over a connection of its own.
fn at_once(gateway: &Gateway, callers: usize) -> Vec<Response> {
    let barrier = Barrier::new(callers);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..callers)
            .map(|n| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut connection = gateway.connect();
                    barrier.wait();
                    connection
                        .send(delete(USER, &format!("c{n}"), gateway.token()))
                        .receive()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

fn count(responses: &[Response], status: u16) -> usize {
    responses
        .iter()
        .filter(|response| response.status == status)
        .count()
}

#[test]
fn of_64_callers_at_once_exactly_the_limit_passes() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 17, per: 1h } ]"],
        )
        .start();
    let responses = at_once(&gateway, 64);
    assert_eq!((count(&responses, 200), count(&responses, 429)), (17, 47));
    assert_eq!(gateway.alloy.received().len(), 17);
}

#[test]
fn of_64_callers_at_once_exactly_the_smallest_of_several_windows_passes() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 9, per: 1h } ]")
        .tenant(
            "billing",
            &[
                "users: all",
                "limits: [ { requests: 30, per: 1h }, { requests: 12, per: 1d, burst: 40 } ]",
            ],
        )
        .start();
    let responses = at_once(&gateway, 64);
    assert_eq!((count(&responses, 200), count(&responses, 429)), (9, 55));
    // The refused did not spend the tenant's own windows.
    let response = gateway.delete(USER, "c900");
    let levels = response.field("ratelimit").unwrap();
    assert!(levels.contains("\"tenant-3600s\";r=21"), "{levels}");
}

#[test]
fn refused_calls_do_not_lengthen_the_wait_and_a_retry_after_it_passes() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 1, per: 2s } ]"],
        )
        .start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let start = Instant::now();
    let mut wait = 0;
    for n in 0..30 {
        let response = gateway.delete(USER, "c2");
        assert_eq!(response.status, 429);
        wait = response.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=2).contains(&wait), "{wait} after {n}");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_secs(wait));
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    assert!(
        start.elapsed() >= Duration::from_millis(1900),
        "it passed too early"
    );
}

#[test]
fn policy_and_level_stand_on_every_answer_that_got_as_far_as_the_limits() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 50, per: 60s } ]")
        .tenant(
            "billing",
            &[
                "users: all",
                "limits: [ { requests: 10, per: 1s, burst: 20 } ]",
            ],
        )
        .start();
    let response = gateway.delete(USER, "c1");
    // q is the burst, w how long an empty bucket takes to fill (rounded up).
    assert_eq!(
        response.field("ratelimit-policy"),
        Some("\"tenant-1s\";q=20;w=2, \"key-60s\";q=50;w=60")
    );
    let level = response.field("ratelimit").unwrap();
    assert!(level.contains("\"tenant-1s\";r=19"), "{level}");
    assert!(level.contains("\"key-60s\";r=49"), "{level}");
    let unauthenticated = gateway.send(delete(USER, "c1", "agw_x"));
    assert_eq!(unauthenticated.field("ratelimit"), None);
}

#[test]
fn with_wait_calls_queue_in_order_and_the_queue_is_bounded() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &[
                "users: all",
                "limits: [ { requests: 10, per: 1s, burst: 1 } ]",
                "wait: 5s",
                "wait_queue: 4",
            ],
        )
        .workers(1)
        .start();
    let start = Instant::now();
    let responses = at_once(&gateway, 8);
    // One at once, four wait their turn, three find the queue full.
    assert_eq!((count(&responses, 200), count(&responses, 429)), (5, 3));
    assert!(
        start.elapsed() >= Duration::from_millis(390),
        "nobody waited"
    );
    // One after another: who came first goes first.
    let mut connections: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for (n, connection) in connections.iter_mut().enumerate() {
        connection.send(delete(USER, &format!("c{}", 100 + n), gateway.token()));
        thread::sleep(Duration::from_millis(20));
    }
    for connection in &mut connections {
        assert_eq!(connection.receive().status, 200);
    }
    let received = gateway.alloy.received();
    let order: Vec<_> = received[received.len() - 4..]
        .iter()
        .map(|request| request.text().split([' ', '/']).nth(5).unwrap().to_owned())
        .collect();
    assert_eq!(order, ["c100", "c101", "c102", "c103"]);
}

#[test]
fn one_tenants_calls_in_flight_are_bounded_and_leave_anothers_alone() {
    use alloy_gateway::simulated_alloy::Behaviour;
    let gateway = Setup::default()
        .tenant("a-greedy", &["users: all", "in_flight: 2"])
        .tenant("b-modest", &["users: all"])
        .start();
    gateway
        .alloy
        .script(vec![Behaviour::Late(Duration::from_millis(700)); 2]);
    let responses = at_once(&gateway, 10);
    assert_eq!(
        (
            count(&responses, 200),
            count(&responses, 429) + count(&responses, 503)
        ),
        (2, 8)
    );
    let modest = gateway.send(delete(USER, "c50", gateway.token_of("b-modest")));
    assert_eq!(modest.status, 200);
}
