//! All limits of a tenant together, and the queue of those who wait.

use std::num::NonZeroU32;

use tokio::time::advance;

use super::*;
use crate::config::settings::{CircuitBreaker, testing::window};

const SECOND: Duration = Duration::from_secs(1);

fn limits(tenant: &[(u32, Duration)], key: &[(u32, Duration)]) -> Limits {
    let bucket = |scope| {
        move |(n, per): &(u32, Duration)| Arc::new(Bucket::new(Rule::new(scope, window(*n, *per))))
    };
    Limits::new(
        tenant.iter().map(bucket("tenant")),
        key.iter().map(bucket("key")),
        Arc::default(),
        Arc::new(Breaker::new(None)),
        &mut Rules::default(),
    )
}

/// Without a store.
fn alone(limits: &Limits) -> Asking<'_> {
    Asking {
        limits,
        tenant: "t",
        key: "k",
        store: None,
        is_sent: true,
    }
}

fn refused(limits: &Limits) -> (LimitedBy, Option<String>, Duration) {
    match limits.try_pass().unwrap_err() {
        Refused::RateLimited {
            by,
            policy,
            retry_after,
            ..
        } => (by, policy, retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_spends_nothing_of_any_window() {
    let limits = limits(&[(2, SECOND), (3, 3600 * SECOND)], &[(5, 60 * SECOND)]);
    for _ in 0..2 {
        limits.try_pass().unwrap().worked();
    }
    for _ in 0..50 {
        assert_eq!(refused(&limits).0, LimitedBy::Tenant);
    }
    advance(SECOND).await;
    limits.try_pass().unwrap().worked();
    // The hour is spent now; asking again must not empty the second.
    for _ in 0..50 {
        let (_, policy, wait) = refused(&limits);
        assert_eq!(policy.as_deref(), Some("tenant-3600s"));
        assert_eq!(wait, Duration::from_secs(1200) - SECOND);
    }
    let (_, levels) = limits.headers(Instant::now()).unwrap();
    assert_eq!(
        levels,
        "\"tenant-1s\";r=1, \"key-60s\";r=2, \"tenant-3600s\";r=0;t=1199"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_the_stated_time_passes() {
    let limits = limits(&[(2, SECOND), (4, 100 * SECOND)], &[(3, 60 * SECOND)]);
    for _ in 0..2 {
        limits.try_pass().unwrap().worked();
    }
    for _ in 0..20 {
        let (_, _, wait) = refused(&limits);
        advance(Duration::from_secs(seconds_up(wait))).await;
        limits.try_pass().unwrap().worked();
        while let Ok(pass) = limits.try_pass() {
            pass.worked();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_is_shared_and_named() {
    let shared = Arc::new(Bucket::new(Rule::new("key", window(3, SECOND))));
    let tenant = || {
        Limits::new(
            [],
            [Arc::clone(&shared)],
            Arc::default(),
            Arc::new(Breaker::new(None)),
            &mut Rules::default(),
        )
    };
    let (one, other) = (tenant(), tenant());
    one.try_pass().unwrap().worked();
    one.try_pass().unwrap().worked();
    other.try_pass().unwrap().worked();
    let (by, policy, _) = refused(&one);
    assert_eq!((by, policy.as_deref()), (LimitedBy::Key, Some("key-1s")));
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_costs_no_budget() {
    let limits = limits(&[(1, SECOND)], &[]);
    limits.gate().close_for(5 * SECOND);
    assert_eq!(refused(&limits), (LimitedBy::Upstream, None, 5 * SECOND));
    advance(5 * SECOND).await;
    limits.try_pass().unwrap().worked();
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_what_gate_or_breaker_state_passes_the_buckets_too() {
    let opens = CircuitBreaker {
        failures: NonZeroU32::MIN,
        open_for: 5 * SECOND,
    };
    let bucket = Arc::new(Bucket::new(Rule::new("tenant", window(1, 100 * SECOND))));
    let limits = Limits::new(
        [bucket],
        [],
        Arc::default(),
        Arc::new(Breaker::new(Some(opens))),
        &mut Rules::default(),
    );
    limits.try_pass().unwrap().worked();
    limits.gate().close_for(5 * SECOND);
    assert_eq!(refused(&limits), (LimitedBy::Upstream, None, 100 * SECOND));
    advance(100 * SECOND).await;
    let open = |retry_after| Refused::CircuitOpen { retry_after };
    limits.try_pass().unwrap().failed();
    assert_eq!(limits.try_pass().unwrap_err(), open(100 * SECOND));
    let deadline = Instant::now() + 200 * SECOND;
    let told = WaitQueue::new(1).wait(alone(&limits), deadline).await;
    assert_eq!(told.unwrap_err(), open(100 * SECOND));
    advance(100 * SECOND).await;
    limits.try_pass().unwrap().worked();
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_opens_before_the_breaker_states_the_time_of_both() {
    let opens = CircuitBreaker {
        failures: NonZeroU32::MIN,
        open_for: 50 * SECOND,
    };
    let limits = Limits::new(
        [],
        [],
        Arc::default(),
        Arc::new(Breaker::new(Some(opens))),
        &mut Rules::default(),
    );
    limits.try_pass().unwrap().failed();
    limits.gate().close_for(2 * SECOND);
    assert_eq!(refused(&limits), (LimitedBy::Upstream, None, 50 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_in_the_order_they_came() {
    let limits = Arc::new(limits(&[(1, SECOND)], &[]));
    let queue = Arc::new(WaitQueue::new(8));
    limits.try_pass().unwrap().worked();
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let deadline = Instant::now() + 60 * SECOND;
    let mut waiting = Vec::new();
    for number in 0..5 {
        let (limits, served) = (Arc::clone(&limits), Arc::clone(&served));
        let joined = Arc::clone(&queue);
        waiting.push(tokio::spawn(async move {
            let (pass, _) = joined.wait(alone(&limits), deadline).await.unwrap();
            pass.worked();
            served.lock().unwrap().push(number);
        }));
        tokio::task::yield_now().await;
        assert_eq!((queue.waiting(), queue.is_empty()), (number + 1, false));
    }
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_time_and_number() {
    let limits = Arc::new(limits(&[(1, 100 * SECOND)], &[]));
    limits.try_pass().unwrap().worked();
    let queue = Arc::new(WaitQueue::new(1));
    let began = Instant::now();
    // Its turn can't come in time: it is told so at once.
    assert!(
        queue
            .wait(alone(&limits), began + 10 * SECOND)
            .await
            .is_err()
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    let waiting = tokio::spawn({
        let (limits, queue) = (Arc::clone(&limits), Arc::clone(&queue));
        async move {
            queue
                .wait(alone(&limits), began + 1000 * SECOND)
                .await
                .map(|(pass, _)| pass.worked())
        }
    });
    tokio::task::yield_now().await;
    // The queue is full.
    assert!(
        queue
            .wait(alone(&limits), began + 1000 * SECOND)
            .await
            .is_err()
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    waiting.await.unwrap().unwrap();
    assert_eq!(began.elapsed(), 100 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_comes_at_the_deadline_is_taken() {
    let limits = limits(&[(1, SECOND)], &[]);
    limits.try_pass().unwrap().worked();
    let deadline = Instant::now() + SECOND;
    let waited = WaitQueue::new(1).wait(alone(&limits), deadline).await;
    waited.unwrap().0.worked();
    assert_eq!(Instant::now(), deadline);
}

#[test]
fn a_count_never_goes_above_its_bound() {
    let count = InFlightCount::default();
    let enter = || count.enter(2);
    let (one, _two) = (enter().unwrap(), enter().unwrap());
    assert!(enter().is_none());
    drop(one);
    assert!(enter().is_some());
    assert_eq!(count.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_buckets_stand_shortest_window_first_and_the_tenants_own_can_be_told() {
    let limits = limits(&[(2, 3600 * SECOND), (3, SECOND)], &[(5, 60 * SECOND)]);
    let names = |buckets: Vec<&Arc<Bucket>>| -> Vec<String> {
        buckets.iter().map(|b| b.name().to_owned()).collect()
    };
    assert_eq!(
        names(limits.buckets().collect()),
        ["tenant-1s", "key-60s", "tenant-3600s"]
    );
    assert_eq!(
        names(limits.of_tenant().collect()),
        ["tenant-1s", "tenant-3600s"]
    );
    let all: Vec<_> = limits
        .all()
        .map(|(by, bucket)| (by, bucket.name()))
        .collect();
    assert_eq!(
        all,
        [
            (LimitedBy::Tenant, "tenant-1s"),
            (LimitedBy::Key, "key-60s"),
            (LimitedBy::Tenant, "tenant-3600s")
        ]
    );
    let queue = WaitQueue::new(7);
    assert_eq!((queue.waiting_max(), queue.is_empty()), (7, true));
}
