//! Limits: exact under concurrency, honest about the wait.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Gateway, Response, Setup, USER, client::delete};

/// `callers` calls at once, each over a connection of its own.
fn at_once(gateway: &Gateway, callers: usize) -> Vec<Response> {
    at_once_and(gateway, callers, |_| {})
}

/// The same, and what is to be done at each answer.
fn at_once_and(
    gateway: &Gateway,
    callers: usize,
    answered: impl Fn(&Response) + Sync,
) -> Vec<Response> {
    let barrier = Barrier::new(callers);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..callers)
            .map(|n| {
                let (barrier, answered) = (&barrier, &answered);
                scope.spawn(move || {
                    let mut connection = gateway.connect();
                    barrier.wait();
                    let response = connection
                        .send(delete(USER, &format!("c{n}"), gateway.token()))
                        .receive();
                    answered(&response);
                    response
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
            &["users: all", "limits: [ { requests: 1, per: 6s } ]"],
        )
        .start();
    let start = Instant::now();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let mut wait = 0;
    for n in 0..30 {
        let response = gateway.delete(USER, "c2");
        assert_eq!(response.status, 429);
        wait = response.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=6).contains(&wait), "{wait} after {n}");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_secs(wait));
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    assert!(
        start.elapsed() >= Duration::from_millis(5900),
        "it passed too early"
    );
}

#[test]
fn policy_and_level_stand_on_every_answer_that_got_as_far_as_the_limits() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 50, per: 600s } ]")
        .tenant(
            "billing",
            &[
                "users: all",
                "limits: [ { requests: 10, per: 60s, burst: 20 } ]",
            ],
        )
        .start();
    let response = gateway.delete(USER, "c1");
    // q is the burst, w how long an empty bucket takes to fill (rounded up).
    assert_eq!(
        response.field("ratelimit-policy"),
        Some("\"tenant-60s\";q=20;w=120, \"key-600s\";q=50;w=600")
    );
    let level = response.field("ratelimit").unwrap();
    assert!(level.contains("\"tenant-60s\";r=19"), "{level}");
    assert!(level.contains("\"key-600s\";r=49"), "{level}");
    let unauthenticated = gateway.send(delete(USER, "c1", "agw_x"));
    assert_eq!(unauthenticated.field("ratelimit"), None);
}

#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it never was so");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn with_wait_calls_queue_in_order_and_the_queue_is_bounded() {
    let with = |limit: &str| {
        let lines = ["users: all", limit, "wait: 60s", "wait_queue: 4"];
        Setup::default()
            .tenant("billing", &lines)
            .workers(1)
            .start()
    };
    // Four calls, each in the line, or through it, before the next one is sent.
    let four_more = |gateway: &Gateway| -> Vec<_> {
        let before = gateway.alloy.received().len();
        let begin = |n| {
            let mut connection = gateway.connect();
            connection.send(delete(USER, &format!("c{}", 100 + n), gateway.token()));
            until(|| {
                let waiting = gateway.scrape().get("rate_limit_queue_depth") as usize;
                waiting + gateway.alloy.received().len() - before > n
            });
            connection
        };
        (0..4).map(begin).collect()
    };
    // One at once, four wait their turn, three find the queue full.
    let gateway = with("limits: [ { requests: 1, per: 50s } ]");
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let _waiting = four_more(&gateway);
    for _ in 0..3 {
        assert_eq!(gateway.delete(USER, "c2").status, 429);
    }
    assert_eq!(gateway.alloy.received().len(), 1);
    // One after another: who came first goes first.
    let gateway = with("limits: [ { requests: 2, per: 1s, burst: 1 } ]");
    let start = Instant::now();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    for connection in &mut four_more(&gateway) {
        assert_eq!(connection.receive().status, 200);
    }
    assert!(
        start.elapsed() >= Duration::from_millis(1900),
        "nobody waited"
    );
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
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script(vec![Behaviour::Held(held); 2]);
    // The two are under way until all others are refused.
    let refused = AtomicUsize::new(0);
    let responses = at_once_and(&gateway, 10, |response| {
        if response.status != 200 && refused.fetch_add(1, Ordering::Relaxed) == 7 {
            release.send(true).unwrap();
        }
    });
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
