//! Single stages of the pipeline, behind those that let a call through.

use tokio::time::Instant;

use super::*;
use crate::{
    containment::{Freeze, Scope},
    limits,
    pipeline::{
        authenticate,
        authorize::{self, Permit},
        contract, inject,
        refusal::Refusal,
    },
    snapshot::Tenant,
};

/// What `then` makes of a call that is permitted.
async fn permitted(stage: &Stage, token: &NewToken, then: impl AsyncFnOnce(Permit<'_>, &Arrival)) {
    let request = call(USER, token.reveal()).body(()).unwrap();
    let arrival = Arrival::of(&request);
    let (head, ()) = request.into_parts();
    let snapshot = &stage.snapshot;
    let call = contract::read(&head, &snapshot.upstream.settings, &snapshot.bounds);
    let call = call.unwrap();
    let now = jiff::Timestamp::now();
    let identity = authenticate::identify(&head.headers, snapshot, &arrival.peer, now).unwrap();
    then(authorize::permit(identity, &call).unwrap(), &arrival).await;
}

#[tokio::test]
async fn how_long_a_call_waited_is_known() {
    let tokens = tokens();
    let limits = "users: all, wait: 5s, limits: [ { requests: 10, per: 1s, burst: 1 } ]";
    let stage = stage_with(&tokens, "circuit_breaker: off", limits);
    permitted(&stage, &tokens[0], async |permit, _| {
        let admit = async |store| {
            let entered = limit::enter(permit).unwrap();
            let mut admitted = limit::admit(entered, store, Instant::now()).await.unwrap();
            admitted.spend();
            (admitted.waited(), admitted.asked())
        };
        // One at once, then one each tenth of a second.
        assert_eq!(admit(None).await, (Duration::ZERO, Duration::ZERO));
        let (waited, asked) = admit(None).await;
        assert!(waited >= Duration::from_millis(50));
        assert_eq!(asked, Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (waited, asked) = admit(Some(&crate::fleet::testing::gone(1))).await;
        assert_eq!(waited, Duration::ZERO);
        assert!(asked > Duration::ZERO);
    })
    .await;
}

#[tokio::test]
async fn what_a_call_took_is_spent_once_it_is_in_the_trail_and_not_before() {
    let tokens = tokens();
    let limits = "users: all, limits: [ { requests: 1, per: 1h }, { requests: 5, per: 1d } ]";
    let stage = stage_with(&tokens, "circuit_breaker: off", limits);
    permitted(&stage, &tokens[0], async |permit, arrival| {
        let admit = async || {
            let entered = limit::enter(permit).unwrap();
            limit::admit(entered, None, Instant::now()).await
        };
        for _ in 0..3 {
            drop(admit().await.unwrap());
        }
        let trail = stage.trail.for_worker();
        let counts = Shard::new(0, 1);
        let admitted = admit().await.unwrap();
        let recorded = record::intent(admitted, &trail, &counts, arrival, "").await;
        drop(recorded.unwrap());
        assert!(admit().await.is_err());
        let buckets = stage.snapshot.tenants()[0].limits.buckets();
        let left: Vec<_> = buckets.map(|bucket| bucket.level().remaining).collect();
        assert_eq!(left, [0, 4]);
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_tells_its_key_by_the_fingerprint_alone() {
    let tokens = tokens();
    let stage = stage(&tokens);
    permitted(&stage, &tokens[0], async |permit, arrival| {
        let admitted = limit::admit(limit::enter(permit).unwrap(), None, Instant::now()).await;
        let trail = stage.trail.for_worker();
        let counts = Shard::new(0, 1);
        let recorded = record::intent(admitted.unwrap(), &trail, &counts, arrival, "").await;
        let key = ApiKey::new(KEY.as_bytes()).unwrap();
        let key = UpstreamKey::new("k", &key, "bearer").unwrap();
        let target = &stage.snapshot.upstream;
        let request = inject::request(&recorded.unwrap(), &key, target, arrival);
        assert_eq!(request.id(), arrival.request_id);
        assert_eq!(request.key_fingerprint(), key.fingerprint());
        assert_eq!(format!("{request:?}"), "UpstreamRequest(redacted)");
        let bytes = String::from_utf8(request.bytes().to_vec()).unwrap();
        assert!(bytes.contains(&format!("\r\nauthorization: bearer {KEY}\r\n")));
    })
    .await;
}

#[tokio::test]
async fn what_an_earlier_run_spent_counts_for_windows_of_a_minute_and_longer() {
    use crate::audit::Replayed;
    let tokens = tokens();
    let limits = "users: all, limits: [ { requests: 5, per: 1s }, { requests: 6, per: 1m }, { requests: 6, per: 1h } ]";
    let stage = stage_with(&tokens, "circuit_breaker: off", limits);
    let mut replay = limits::Replay::new(stage.snapshot.tenants().iter().map(Tenant::limited), 1);
    assert_eq!(replay.span(), Duration::from_secs(3600));
    let now = jiff::Timestamp::now();
    let mut hear = |tenant, time| {
        replay.hear(&Replayed::Intent {
            seq: 1,
            tenant,
            credential: "c1",
            time,
        });
    };
    hear("all", now - Duration::from_secs(1800));
    hear("all", now);
    // As of now, since the clock may have been set back.
    hear("all", now + Duration::from_secs(7200));
    hear("nobody", now);
    replay.finish();
    let all = stage.snapshot.tenants();
    let all = all.iter().find(|tenant| tenant.name.as_ref() == "all");
    let left: Vec<_> = all
        .unwrap()
        .limits
        .buckets()
        .map(|bucket| bucket.level().remaining)
        .collect();
    // What was spent half an hour ago is back.
    assert_eq!(left, [5, 4, 4]);
}

#[tokio::test]
async fn a_freeze_while_the_intent_is_written_keeps_the_call_from_being_sent() {
    let tokens = tokens();
    let stage = stage(&tokens);
    let freeze = async {
        let tenant = stage.snapshot.tenants()[0].name.clone();
        let freeze = Freeze::new("operator", None, "a test");
        let containment = stage.snapshot.containment();
        containment.freeze(Scope::Tenant(&tenant), freeze, |_| ());
    };
    // The call first: it has handed over its intent, and waits for the disk.
    let (response, ()) = tokio::join!(biased; stage.answer(call(USER, tokens[0].reveal())), freeze);
    assert_eq!(response.status(), 403);
    assert_eq!(field(&response, "x-alloy-gateway-sent"), Some("no"));
    assert_eq!(json(response).await["code"], "tenant-frozen");
    assert_eq!(stage.alloy.received().len(), 0);
    let records = stage.records();
    let [.., intent, outcome] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(intent["event"], "request.intent");
    assert_eq!(outcome["outcome"], "failed");
    assert_eq!(outcome["code"], "tenant-frozen");
}

async fn admit(permit: Permit<'_>) -> Result<limit::Admitted<'_>, Refusal> {
    limit::admit(limit::enter(permit).unwrap(), None, Instant::now()).await
}

#[tokio::test]
async fn a_dry_run_leaves_the_probe_of_an_open_breaker_to_calls_that_are_sent() {
    let tokens = tokens();
    let breaker = "circuit_breaker: { failures: 1, open_for: 100ms }";
    let stage = stage_with(&tokens, breaker, "users: all");
    stage.alloy.script([Behaviour::answer(503, "", "{}")]);
    let send = || stage.answer(call(USER, tokens[0].reveal()));
    assert_eq!(send().await.status(), 503);
    permitted(&stage, &tokens[3], async |dry, _| {
        // Refused while no call may pass, as any other would be.
        assert!(matches!(admit(dry).await, Err(Refusal::CircuitOpen { .. })));
        let trying = loop {
            match admit(dry).await {
                Ok(trying) => break trying,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!(!trying.is_probe());
        permitted(&stage, &tokens[0], async |sent, _| {
            let probe = admit(sent).await.unwrap();
            assert!(probe.is_probe());
            assert!(matches!(admit(dry).await, Err(Refusal::CircuitOpen { .. })));
        })
        .await;
        assert_eq!(send().await.status(), 200);
        drop(trying);
    })
    .await;
}
