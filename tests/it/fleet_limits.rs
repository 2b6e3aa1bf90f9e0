//! Limits that a fleet shares through a real Redis, whatever happens to it.

mod cluster;

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{
    config::settings::Window,
    fleet::resp::Reply,
    gcra::{Bucket, Shape, share::Ceilings, take_all},
};

use crate::support::{
    Connection, Gateway, Setup, USER, binary, delete,
    gateway::Process,
    or_skipped,
    store::{self, Redis, SlowWay},
};

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The names of Setup's key and tenant.
const KEY_BUCKET: &str = "alloy-gateway:{production}:key:2000";

/// One call of a fleet: when it was answered, how long that took, and its status.
#[derive(Debug, Clone, Copy)]
struct Answered {
    at: Instant,
    took: Duration,
    status: u16,
}

struct Fleet(Vec<Gateway>);

impl Fleet {
    /// So many gateways before one store, with limits on their key.
    fn start(gateways: usize, url: &str, limits: &'static str, store: &str) -> Self {
        let start = |_| {
            let lines = format!("limits_store: {{ redis: {{ url: {{ file: redis-url }}, {store}\n");
            Setup::default()
                .key_limits(limits)
                .audit("durability: relaxed")
                .workers(1)
                .file("redis-url", url)
                .lines(&lines)
                .start()
        };
        let fleet = Self((0..gateways).map(start).collect());
        fleet.wait_until_shared();
        fleet
    }

    #[track_caller]
    fn wait_until_shared(&self) {
        for gateway in &self.0 {
            until("limits are shared", || {
                gateway.scrape().get("rate_limit_backend_degraded") == 0.0
            });
        }
    }

    /// Calls of each gateway at its own rate (a second), all at once, for `span`,
    /// while `meanwhile` goes on. In the order of their answers.
    fn load(&self, rates: &[f64], span: Duration, meanwhile: impl FnOnce()) -> Vec<Answered> {
        let end = Instant::now() + span;
        let mut all: Vec<_> = thread::scope(|scope| {
            let callers: Vec<_> = self
                .0
                .iter()
                .zip(rates)
                .map(|(gateway, rate)| scope.spawn(move || call_until(gateway, *rate, end)))
                .collect();
            meanwhile();
            callers
                .into_iter()
                .flat_map(|caller| caller.join().unwrap())
                .collect()
        });
        all.sort_by_key(|call| call.at);
        all
    }

    fn by_store(&self, decision: &str) -> f64 {
        let series = format!(
            "rate_limit_decisions_total{{tenant=\"billing\",limit=\"key\",decision=\"{decision}\",backend=\"redis\"}}"
        );
        self.0.iter().map(|it| it.scrape().get(&series)).sum()
    }
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn call_until(gateway: &Gateway, per_second: f64, end: Instant) -> Vec<Answered> {
    let mut connection = gateway.connect();
    let begun = Instant::now();
    let mut calls = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        let credential = format!("c{}", calls.len() % 1000);
        let response = connection
            .send(delete(USER, &credential, gateway.token()))
            .receive();
        calls.push(Answered {
            at: Instant::now(),
            took: sent.elapsed(),
            status: response.status,
        });
        let due = begun + Duration::from_secs_f64(calls.len() as f64 / per_second);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    calls
}

fn passed(calls: &[Answered]) -> Vec<Instant> {
    let passed = calls.iter().filter(|call| call.status != 429);
    passed.map(|call| call.at).collect()
}

/// The most calls that passed in any span so long.
fn most_in(span: Duration, passed: &[Instant]) -> usize {
    let from = |first: Instant| {
        let span = first..first + span;
        passed.iter().filter(|at| span.contains(*at)).count()
    };
    passed.iter().map(|first| from(*first)).max().unwrap_or(0)
}

/// Every answer is the upstream's or a limit's, and how long they took.
#[track_caller]
fn look_at(what: &str, calls: &[Answered]) {
    let odd = calls
        .iter()
        .find(|call| !matches!(call.status, 200 | 404 | 429));
    assert!(odd.is_none(), "{what}: {odd:?}");
    let mut took: Vec<_> = calls.iter().map(|call| call.took).collect();
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!(
        "{what}: {} calls, {} passed, p50 {:?}, p99 {:?}, max {:?}",
        calls.len(),
        passed(calls).len(),
        at(50),
        at(99),
        at(100)
    );
    // Ten times what a call may wait for the store: it can't have waited for each try.
    // Not the slowest ones: whole machines are paused, too.
    assert!(at(80) < Duration::from_millis(500), "{what}: {:?}", at(80));
}

fn window(requests: u32, per: Duration, burst: u32) -> Window {
    Window {
        requests: requests.try_into().unwrap(),
        per,
        burst: burst.try_into().unwrap(),
    }
}

/// 200 in two seconds, 40 at once; five gateways.
const LIMITS: &str = "[ { requests: 200, per: 2s, burst: 40 } ]";
const PER: Duration = Duration::from_secs(2);
const STORE_OF_FIVE: &str = "}, timeout: 50ms, replicas: 5 }";
/// Uneven, and together three times what the limit lets pass.
const RATES: [f64; 5] = [200.0, 60.0, 30.0, 10.0, 2.0];

/// Answers come a little later than what they tell was decided, some later than
/// others: a span of answers can hold a few more than any span of decisions.
fn seen(ceiling: u64) -> u64 {
    ceiling + ceiling / 40
}

fn ceilings() -> Ceilings {
    Ceilings::of(&window(200, PER, 40), 5)
}

macro_rules! needs_redis {
    () => {
        if or_skipped(store::is_installed(), "redis-server").is_none() {
            return;
        }
    };
}
use needs_redis;

/// What one gateway cannot send must not be missing to the others.
#[test]
fn a_gateway_whose_trail_cannot_be_written_spends_nothing_of_the_fleet() {
    needs_redis!();
    let redis = Redis::start();
    let fleet = Fleet::start(
        2,
        &redis.url(),
        "[ { requests: 3, per: 1h } ]",
        "}, timeout: 1s, replicas: 2 }",
    );
    let [broken, sound] = &fleet.0[..] else {
        panic!("{} gateways", fleet.0.len())
    };
    fs::rename(broken.audit(), broken.path("elsewhere")).unwrap();
    // The first finds it out.
    assert_eq!(broken.delete(USER, "c0").status, 503);
    until("the trail is known to be away", || {
        broken.admin("/readyz").status == 503
    });
    for n in 0..10 {
        assert_eq!(broken.delete(USER, &format!("refused-{n}")).status, 503);
    }
    // One unit was counted for the call that found it out, unless the writer had already.
    let spent = fleet.by_store("allowed") as usize;
    assert!(spent <= 1, "{spent}");
    let statuses = [0, 1, 2, 3].map(|n| sound.delete(USER, &format!("c{n}")).status);
    let expected = [0, 1, 2, 3].map(|n| if n < 3 - spent { 200 } else { 429 });
    assert_eq!(statuses, expected);
}

#[test]
fn five_gateways_under_uneven_load_admit_what_one_bucket_admits() {
    needs_redis!();
    let redis = Redis::start();
    // Long enough for a busy machine: what is compared is what the store decides.
    let store = "}, timeout: 1s, replicas: 5 }";
    // So low that there is much to refuse, however busy the machine is.
    let limits = "[ { requests: 100, per: 2s, burst: 40 } ]";
    let shape = window(100, PER, 40);
    let fleet = Fleet::start(5, &redis.url(), limits, store);
    let begun = Instant::now();
    let calls = fleet.load(&RATES, Duration::from_secs(8), || {});
    look_at("one store", &calls);
    // One bucket, asked at the same times.
    let mut bucket = [Bucket {
        shape: Shape::of(&shape),
        full_at_ns: 0,
    }];
    let at = |call: &Answered| u64::try_from((call.at - begun).as_nanos()).unwrap();
    let of_one = calls
        .iter()
        .filter(|call| take_all(&mut bucket, at(call)).is_ok());
    let (of_one, of_fleet) = (of_one.count(), passed(&calls).len());
    println!("one bucket admits {of_one}, the fleet was admitted {of_fleet}");
    assert!(of_one < calls.len(), "nothing was to be refused");
    // With a bucket each it would be up to five times as many.
    assert!(
        of_fleet.abs_diff(of_one) * 20 <= of_one,
        "{of_fleet} of {of_one}"
    );
    let ceiling = Ceilings::of(&shape, 5).with_store.in_any_span;
    assert!(most_in(PER, &passed(&calls)) as u64 <= seen(ceiling));
    assert_eq!(fleet.by_store("allowed") as usize, of_fleet);
    // What the store is sure to refuse is not asked: the local filter knows it.
    let refused = calls.len() - of_fleet;
    assert!(fleet.by_store("refused") < refused as f64 * 0.9);
}

#[test]
fn while_the_store_is_paused_or_gone_or_empty_the_fleet_stays_below_its_ceiling_and_comes_back() {
    needs_redis!();
    let mut redis = Redis::start();
    let fleet = Fleet::start(5, &redis.url(), LIMITS, STORE_OF_FIVE);
    let pause = |seconds: f64| thread::sleep(Duration::from_secs_f64(seconds));
    let calls = fleet.load(&RATES, Duration::from_secs(12), || {
        pause(2.0);
        redis.pause();
        pause(3.0);
        redis.go_on();
        pause(2.0);
        redis.kill();
        pause(2.0);
        redis.start_again();
        pause(1.0);
        // All that it knew, the scripts and the counts.
        redis.ask(&["FLUSHALL"]);
        redis.ask(&["SCRIPT", "FLUSH"]);
    });
    look_at("a store that is paused, killed, emptied", &calls);
    let most = most_in(PER, &passed(&calls)) as u64;
    let ceiling = ceilings().in_part.in_any_span;
    println!("at most {most} in {PER:?}, the ceiling is {ceiling}");
    assert!(most <= ceiling, "{most} of {ceiling}");
    assert!(ceiling <= 2 * ceilings().with_store.in_any_span);
    // Good calls keep flowing.
    let passed = passed(&calls);
    let longest = passed.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest < Some(Duration::from_secs(2)), "{longest:?}");
    fleet.wait_until_shared();
    let before = fleet.by_store("allowed");
    fleet.load(&RATES, Duration::from_secs(1), || {});
    assert!(fleet.by_store("allowed") > before);
    for gateway in &fleet.0 {
        let scrape = gateway.scrape();
        for reason in ["timeout", "closed", "connect"] {
            let series = format!("rate_limit_backend_errors_total{{reason=\"{reason}\"}}");
            assert!(scrape.find(&series).is_some());
        }
        assert!(scrape.sum("rate_limit_backend_errors_total") >= 2.0);
        // Once for each change, however many calls there were.
        let output = gateway.process.output();
        let told = output.matches("the limits store does not decide").count();
        assert!((2..12).contains(&told), "{told} times: {output}");
    }
}

#[test]
fn a_store_that_is_killed_leaves_each_gateway_its_fair_share_and_no_more() {
    needs_redis!();
    let mut redis = Redis::start();
    let fleet = Fleet::start(5, &redis.url(), LIMITS, STORE_OF_FIVE);
    redis.kill();
    for gateway in &fleet.0 {
        until("it notices", || {
            gateway.scrape().get("rate_limit_backend_degraded") == 1.0
        });
        let status = gateway.admin("/status.json").text();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["limits_store"]["degraded"], true, "{status}");
        assert!(status["concerns"].to_string().contains("fair share"));
        assert!(gateway.admin("/status").text().contains("fair share"));
    }
    let calls = fleet.load(&[60.0; 5], Duration::from_secs(5), || {});
    look_at("no store", &calls);
    let passed = passed(&calls);
    let (most, ceiling) = (
        most_in(PER, &passed) as u64,
        ceilings().without_store.in_any_span,
    );
    println!("at most {most} in {PER:?}, the ceiling is {ceiling}");
    assert!(most <= seen(ceiling), "{most} of {ceiling}");
    // And no less: all of them ask for more than their share.
    assert!(passed.len() > 450, "{}", passed.len());
    let refused = fleet.0[0].delete(USER, "c1");
    let levels =
        |response: &crate::support::Response| response.field("ratelimit").unwrap().to_owned();
    if refused.status == 429 {
        assert!(levels(&refused).contains("r=0"), "{refused:?}");
    }
}

#[test]
fn a_store_that_is_too_slow_is_asked_no_more_until_it_is_fast_again() {
    needs_redis!();
    let redis = Redis::start();
    let way = SlowWay::to(redis.port());
    let fleet = Fleet::start(2, &way.url(), LIMITS, "}, timeout: 50ms, replicas: 2 }");
    way.slow_down(Duration::from_millis(100));
    let calls = fleet.load(&[50.0, 20.0], Duration::from_secs(3), || {});
    look_at("a slow store", &calls);
    // Those that were under way when it became slow waited, the others did not.
    let waited = calls
        .iter()
        .filter(|call| call.took > Duration::from_millis(45));
    let (waited, all) = (waited.count(), calls.len());
    assert!(waited * 4 < all, "{waited} of {all} waited");
    assert!(
        fleet
            .0
            .iter()
            .all(|it| it.scrape().get("rate_limit_backend_degraded") == 1.0)
    );
    way.slow_down(Duration::ZERO);
    fleet.wait_until_shared();
}

#[test]
fn the_script_decides_as_the_rule_does() {
    needs_redis!();
    let redis = Redis::start();
    let script = include_str!("../../src/fleet/limits.lua").replace(
        "redis.call('TIME')",
        "{ARGV[#ARGV - 1] + 1767225600, ARGV[#ARGV] + 0}",
    );
    assert!(!script.contains("'TIME'"));
    let shapes = [(100_000_000, 5), (333_333_000, 7), (150_000_000, 30)]
        .map(|(unit_ns, burst)| Shape { unit_ns, burst });
    let mut buckets = shapes.map(|shape| Bucket {
        shape,
        full_at_ns: 0,
    });
    let mut now_us = 5_000_000_000_u64;
    let (mut random, mut taken) = (1_u64, 0);
    for turn in 0..2000_u64 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        now_us += (random >> 33) % 120_000;
        // Set back now and then, by up to 4 s: beyond what some of them hold, or all.
        if turn % 50 == 49 {
            now_us -= turn * 2000;
        }
        let rule = take_all(&mut buckets, now_us * 1000);
        let mut parts = vec!["EVAL".to_owned(), script.clone(), "3".to_owned()];
        parts.extend(["{k}a", "{k}b", "{k}c"].map(str::to_owned));
        for shape in shapes {
            let unit = format!("{}", shape.unit_ns / 1000);
            parts.extend([unit, shape.burst.to_string(), "0".to_owned()]);
        }
        parts.extend([
            (now_us / 1_000_000).to_string(),
            (now_us % 1_000_000).to_string(),
        ]);
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let answer = redis.ask(&parts);
        let numbers: Vec<_> = answer
            .list()
            .iter()
            .map(|it| it.number().unwrap())
            .collect();
        match rule {
            Ok(()) => {
                taken += 1;
                assert_eq!(numbers[0], 0, "{answer:?}");
            }
            Err(refused) => {
                assert_eq!(numbers[0], refused.bucket as i64 + 1, "{answer:?}");
                assert_eq!(numbers[1], refused.wait.as_micros() as i64, "{answer:?}");
            }
        }
        for (bucket, spent) in buckets.iter().zip(&numbers[2..]) {
            let known = bucket
                .full_at_ns
                .saturating_sub(now_us * 1000)
                .div_ceil(1000);
            assert_eq!(*spent, known as i64, "{answer:?}");
        }
    }
    assert!((200..1800).contains(&taken), "{taken}");
}

#[test]
fn the_store_is_told_no_ids_tokens_or_secrets_and_keeps_nothing_for_ever() {
    needs_redis!();
    let redis = Redis::start();
    let mut monitor = Command::new("redis-cli");
    monitor
        .args(["-p", &redis.port().to_string(), "monitor"])
        .stdin(Stdio::null());
    let monitor = Process::run(monitor);
    until("it listens", || monitor.output().contains("OK"));
    let fleet = Fleet::start(2, &redis.url(), LIMITS, "}, replicas: 2 }");
    fleet.load(&[20.0, 20.0], Duration::from_secs(1), || {});
    until("a call is seen", || monitor.output().contains(KEY_BUCKET));
    let seen = monitor.output().to_lowercase();
    for gateway in &fleet.0 {
        let token = gateway.token().to_lowercase();
        for secret in [USER, &token, crate::support::KEY, "/users/", "credential"] {
            assert!(!seen.contains(&secret.to_lowercase()), "{secret} in {seen}");
        }
    }
    let names = redis.ask(&["KEYS", "*"]);
    assert!(names.list().len() >= 3, "{names:?}");
    for name in names.list() {
        let ttl = redis.ask(&["PTTL", name.text().unwrap()]);
        assert!(ttl.number() > Some(0), "{name:?}: {ttl:?}");
    }
    let keys = names
        .list()
        .iter()
        .filter_map(Reply::text)
        .collect::<Vec<_>>();
    assert!(keys.contains(&KEY_BUCKET), "{keys:?}");
}

#[test]
fn a_store_that_forgot_the_script_is_shown_it_again() {
    needs_redis!();
    let redis = Redis::start();
    let fleet = Fleet::start(1, &redis.url(), LIMITS, "}, timeout: 1s, replicas: 1 }");
    assert_eq!(fleet.0[0].delete(USER, "c1").status, 200);
    redis.ask(&["SCRIPT", "FLUSH"]);
    let response = fleet.0[0].delete(USER, "c2");
    assert_eq!(response.status, 200);
    assert!(fleet.by_store("allowed") == 2.0);
    let scrape = fleet.0[0].scrape();
    assert!(scrape.sum("rate_limit_backend_errors_total") == 0.0);
}

/// What can be written to and decides nothing is no store of limits.
#[test]
fn a_store_whose_script_fails_is_degraded_all_the_time_and_told_once() {
    needs_redis!();
    let rights = [
        // The script may not be run on anything.
        "~* +@all -time",
        // Nor may it, on what calls ask for.
        "~alloy-gateway:probe ~alloy-gateway:live +@all",
    ];
    for rights in rights {
        let redis = Redis::start();
        let user = ["ACL", "SETUSER", "limited", "on", ">s3cret"];
        let user: Vec<_> = user.into_iter().chain(rights.split(' ')).collect();
        assert_eq!(redis.ask(&user).text(), Some("OK"));
        let gateway = Setup::default()
            .key_limits("[ { requests: 900, per: 1s } ]")
            .workers(1)
            .file(
                "redis-url",
                format!("redis://limited:s3cret@127.0.0.1:{}", redis.port()),
            )
            .lines(
                "limits_store: { redis: { url: { file: redis-url } }, timeout: 1s, replicas: 1 }\n",
            )
            .start();
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            // With calls, if it takes one to find out.
            assert_ne!(gateway.delete(USER, "c1").status, 429);
            message.contains("the limits store does not decide")
        });
        let end = Instant::now() + Duration::from_secs(4);
        let mut shared = 0;
        while Instant::now() < end {
            assert_ne!(gateway.delete(USER, "c1").status, 429);
            let degraded = gateway.scrape().get("rate_limit_backend_degraded");
            shared += usize::from(degraded == 0.0);
            thread::sleep(Duration::from_millis(20));
        }
        let output = gateway.process.output();
        let told = output.matches("the limits store does not decide").count();
        // One flaw is enough for one call, and a try in between.
        assert!(
            told <= 2 && shared <= 20,
            "{rights}: {told}, {shared}: {output}"
        );
        // With the rights, it comes back with the calls.
        redis.ask(&["ACL", "SETUSER", "limited", "~*", "+@all"]);
        until("limits are shared", || {
            assert_ne!(gateway.delete(USER, "c1").status, 429);
            gateway.scrape().get("rate_limit_backend_degraded") == 0.0
        });
    }
}

#[test]
fn what_stands_in_the_place_of_a_bucket_and_is_none_is_a_bucket_that_is_not_there() {
    needs_redis!();
    let redis = Redis::start();
    let fleet = Fleet::start(1, &redis.url(), LIMITS, "}, timeout: 1s, replicas: 1 }");
    for (count, odd) in (1..).zip(["garbage", "", "nan", "-nan", "inf", "-inf", "0x1p9999"]) {
        redis.ask(&["SET", KEY_BUCKET, odd]);
        assert_ne!(fleet.0[0].delete(USER, "c1").status, 429, "{odd}");
        assert_eq!(fleet.by_store("allowed"), f64::from(count), "{odd}");
        let full_at = redis.ask(&["GET", KEY_BUCKET]);
        let full_at: f64 = full_at.text().unwrap().parse().unwrap();
        assert!(full_at.is_finite(), "{odd}: {full_at}");
        assert!(redis.ask(&["PTTL", KEY_BUCKET]).number() > Some(0), "{odd}");
    }
    let scrape = fleet.0[0].scrape();
    assert_eq!(scrape.sum("rate_limit_backend_errors_total"), 0.0);
    assert_eq!(scrape.get("rate_limit_backend_degraded"), 0.0);
}

#[test]
fn all_windows_of_tenant_and_key_are_taken_or_none_and_the_one_that_refuses_is_named() {
    needs_redis!();
    let redis = Redis::start();
    let start = || {
        Setup::default()
            .key_limits("[ { requests: 5, per: 1h } ]")
            .tenant(
                "one",
                &[
                    "users: all",
                    "limits: [ { requests: 3, per: 60s }, { requests: 40, per: 1d } ]",
                ],
            )
            .tenant("other", &["users: all"])
            .file("redis-url", redis.url())
            .lines(
                "limits_store: { redis: { url: { file: redis-url } }, timeout: 1s, replicas: 2 }\n",
            )
            .start()
    };
    let fleet = Fleet(vec![start(), start()]);
    fleet.wait_until_shared();
    let call = |gateway: usize, tenant: &str| {
        let gateway = &fleet.0[gateway];
        gateway.send(delete(USER, "c1", gateway.token_of(tenant)))
    };
    // Three of the one tenant, wherever they are asked.
    for gateway in [0, 1, 0] {
        assert_ne!(call(gateway, "one").status, 429);
    }
    let refused = call(1, "one");
    assert_eq!(refused.status, 429);
    let text = refused.text();
    assert!(
        text.contains("\"limit\":\"tenant\"") && text.contains("tenant-60s"),
        "{text}"
    );
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((15..=20).contains(&wait), "{wait}");
    // Of the key's five there are two: the refused call took none.
    for gateway in [0, 1] {
        assert_ne!(call(gateway, "other").status, 429);
    }
    let refused = call(0, "other");
    assert_eq!(refused.status, 429);
    let text = refused.text();
    assert!(
        text.contains("\"limit\":\"key\"") && text.contains("key-3600s"),
        "{text}"
    );
    // The level that is told is the fleet's.
    let levels = refused.field("ratelimit").unwrap();
    assert!(levels.contains("\"key-3600s\";r=0"), "{levels}");
    let day = redis.ask(&["GET", "alloy-gateway:{production}:tenant:one:86400000"]);
    assert!(matches!(day, Reply::Text(_)), "{day:?}");
}

#[test]
fn a_store_that_lost_its_counts_goes_on_with_what_the_next_gateway_knows() {
    needs_redis!();
    let redis = Redis::start();
    let limits = "[ { requests: 5, per: 1h } ]";
    let store = "}, timeout: 1s, replicas: 2 }";
    let fleet = Fleet::start(2, &redis.url(), limits, store);
    let call = |gateway: usize| fleet.0[gateway].delete(USER, "c1").status;
    // The second of them knows of all four, the first of three.
    for gateway in [0, 0, 0, 1] {
        assert_ne!(call(gateway), 429);
    }
    redis.ask(&["FLUSHALL"]);
    assert_ne!(call(1), 429);
    assert_eq!([call(1), call(0), call(0)], [429; 3]);
}

#[test]
fn after_the_clock_of_the_store_was_set_back_a_retry_passes_when_it_was_told_to() {
    needs_redis!();
    let redis = Redis::start();
    let gateway = Setup::default()
        .key_limits("[ { requests: 3, per: 3s } ]")
        .tenant(
            "one",
            &["users: all", "limits: [ { requests: 4, per: 8s } ]"],
        )
        .file("redis-url", redis.url())
        .lines("limits_store: { redis: { url: { file: redis-url } }, timeout: 1s, replicas: 1 }\n")
        .start();
    let fleet = Fleet(vec![gateway]);
    fleet.wait_until_shared();
    let call = || fleet.0[0].send(delete(USER, "c1", fleet.0[0].token_of("one")));
    assert_ne!(call().status, 429);
    // What was written by a clock an hour ahead is what one set back by an hour finds.
    let buckets =
        ["key:3000", "tenant:one:8000"].map(|it| format!("alloy-gateway:{{production}}:{it}"));
    for bucket in &buckets {
        let full_at = redis.ask(&["GET", bucket]);
        let full_at: f64 = full_at.text().unwrap().parse().unwrap();
        let ahead = format!("{:.3}", full_at + 3_600e6);
        redis.ask(&["SET", bucket, &ahead, "PX", "3602000"]);
    }
    let refused = call();
    assert_eq!(refused.status, 429, "{refused:?}");
    // As if both were empty: a unit of the slower one takes two seconds.
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    // And they expire as empty ones do.
    for (bucket, most) in buckets.iter().zip([5_000, 10_000]) {
        let ttl = redis.ask(&["PTTL", bucket]).number().unwrap();
        assert!((1..=most).contains(&ttl), "{bucket}: {ttl}");
    }
    thread::sleep(Duration::from_secs(wait));
    let retried = call();
    assert_ne!(retried.status, 429, "{retried:?}");
}

#[test]
fn more_gateways_than_the_config_says_are_told_and_take_smaller_shares() {
    needs_redis!();
    let mut redis = Redis::start();
    // Nothing of it comes back during the test.
    let limits = "[ { requests: 40, per: 1h } ]";
    let fleet = Fleet::start(3, &redis.url(), limits, "}, replicas: 2 }");
    for gateway in &fleet.0 {
        until("three are counted", || {
            gateway.scrape().get("rate_limit_gateways_live") == 3.0
        });
        assert_eq!(gateway.scrape().get("rate_limit_gateways_configured"), 2.0);
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("more gateways live") && line["live"] == 3
        });
        let status = gateway.admin("/status.json").text();
        assert!(status.contains("3 gateways share the limits"), "{status}");
    }
    redis.kill();
    until("it notices", || {
        fleet.0[0].scrape().get("rate_limit_backend_degraded") == 1.0
    });
    // A third of the 40, not half.
    let statuses = (0..25).map(|n| fleet.0[0].delete(USER, &format!("c{n}")).status);
    assert_eq!(statuses.filter(|status| *status != 429).count(), 13);
}

#[test]
fn a_gateway_that_stops_is_not_counted_any_more() {
    needs_redis!();
    let redis = Redis::start();
    let mut fleet = Fleet::start(2, &redis.url(), LIMITS, "}, replicas: 2 }");
    until("both are counted", || {
        redis.ask(&["ZCARD", "alloy-gateway:live"]).number() == Some(2)
    });
    assert!(fleet.0[0].stop().success());
    assert_eq!(
        redis.ask(&["ZCARD", "alloy-gateway:live"]).number(),
        Some(1)
    );
}

#[test]
fn tls_and_a_user_with_the_rights_of_the_documentation_are_enough_and_fewer_are_told() {
    needs_redis!();
    // As docs/fleet.md has it, for a user that also hears of freezes.
    let rights = include_str!("../../docs/fleet.md")
        .lines()
        .find_map(|line| line.strip_prefix("user gate on >PASSWORD "))
        .unwrap();
    let without = |right: &str| {
        let fewer = rights.replace(&format!(" +{right}"), "");
        assert_ne!(rights, fewer);
        fewer
    };
    let (fewer, fewest) = (without("hgetall"), without("zscore"));
    let directory = tempfile::tempdir().unwrap();
    store::certificate(directory.path());
    let at = |name: &str| directory.path().join(name).display().to_string();
    let acl = format!(
        "user default off\nuser gate on >pass-word/9 {rights}\nuser lesser on >pass-word/9 {fewer}\nuser least on >pass-word/9 {fewest}\n"
    );
    fs::write(directory.path().join("users.acl"), acl).unwrap();
    let users = ["--aclfile", &at("users.acl")];
    let (_redis, tls_port) = Redis::with_tls(directory.path(), &users);
    let start = |user: &str, password: &str| {
        let trust = at("store-ca.pem");
        Setup::default()
            .key_limits(LIMITS)
            .file("redis-url", format!("rediss://{user}:{password}@127.0.0.1:{tls_port}"))
            .lines(&format!("limits_store: {{ redis: {{ url: {{ file: redis-url }}, trust: {{ file: {trust} }} }}, timeout: 1s, replicas: 1 }}\n"))
            .start()
    };
    let fleet = Fleet(vec![start("gate", "pass-word%2F9")]);
    fleet.wait_until_shared();
    assert_eq!(fleet.0[0].delete(USER, "c1").status, 200);
    assert_eq!(fleet.by_store("allowed"), 1.0);
    until("the freezes of the fleet are seen", || {
        fleet.0[0].scrape().get("freezes_seen_timestamp_seconds") > 0.0
    });
    let lesser = start("lesser", "pass-word%2F9");
    let told = lesser.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("the freezes of the fleet are neither heard nor told")
    });
    assert!(
        told["detail"].as_str().unwrap().contains("hgetall"),
        "{told}"
    );
    let status = lesser.admin("/status").text();
    assert!(status.contains("What the fleet freezes is neither heard nor told"));
    let status = lesser.admin("/status.json").json();
    assert_eq!(
        status["limits_store"]["freezes_unknown_because"], "error",
        "{status}"
    );
    assert_eq!(lesser.scrape().get("rate_limit_backend_degraded"), 0.0);
    let least = start("least", "pass-word%2F9");
    least.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("this gateway is not counted in the fleet")
    });
    assert_eq!(least.scrape().get("rate_limit_backend_degraded"), 0.0);
    let stranger = start("gate", "another-secret");
    let told = stranger.process.wait_for(|line| line["reason"] == "auth");
    assert!(told["message"].as_str().unwrap().contains("does not let"));
    // Its fair share is all of it: there is one gateway.
    assert_eq!(stranger.delete(USER, "c1").status, 200);
    let output = stranger.process.output() + &stranger.admin("/status").text();
    assert!(!output.contains("another-secret"), "{output}");
}

/// A user of the store, with all that it may do.
fn may(redis: &Redis, rights: &str) {
    let user = ["ACL", "SETUSER", "gate"].into_iter();
    let user: Vec<_> = user.chain(rights.split(' ')).collect();
    assert_eq!(redis.ask(&user).text(), Some("OK"));
}

/// Of a fleet of one.
fn gate(redis: &Redis) -> Setup {
    Setup::default()
        .key_limits(LIMITS)
        .workers(1)
        .file(
            "redis-url",
            format!("redis://gate:s3cret@127.0.0.1:{}", redis.port()),
        )
        .lines("limits_store: { redis: { url: { file: redis-url } }, timeout: 1s, replicas: 1 }\n")
}

/// The first reason is seldom the one that keeps it away.
#[test]
fn why_the_store_stays_away_is_told_as_often_as_it_changes_and_each_reason_once() {
    needs_redis!();
    let redis = Redis::start();
    may(&redis, "on >s3cret ~* +@all");
    let fleet = Fleet(vec![gate(&redis).start()]);
    fleet.wait_until_shared();
    let gateway = &fleet.0[0];
    let store = || gateway.admin_socket("GET", "/status.json").1;
    let told_of = |reason: &str, detail: &str| {
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("the limits store")
                && line["reason"] == reason
                && line["detail"].as_str().unwrap().contains(detail)
        });
        until("it is in the status", || store().contains(detail));
    };
    for _ in 0..3 {
        may(&redis, "resetpass >another");
        redis.ask(&["CLIENT", "KILL", "USER", "gate"]);
        told_of("auth", "WRONGPASS");
        may(&redis, "resetpass >s3cret -evalsha -eval");
        told_of("auth", "NOPERM");
    }
    let status = gateway.admin("/status.json").text();
    assert!(!status.contains("NOPERM"), "not for anybody: {status}");
    assert!(gateway.admin_socket("GET", "/status").1.contains("NOPERM"));
    let output = gateway.process.output();
    assert_eq!(output.matches("WRONGPASS").count(), 1, "{output}");
    assert_eq!(output.matches("NOPERM").count(), 1, "{output}");
    may(&redis, "+@all");
    fleet.wait_until_shared();
    let output = gateway.process.output();
    assert_eq!(
        output
            .matches("limits are shared through the store")
            .count(),
        2,
        "{output}"
    );
}

/// A user that may do all that limits need, and not what budgets do.
#[test]
fn what_the_store_does_not_count_over_the_fleet_is_told_everywhere() {
    needs_redis!();
    let all =
        "on >s3cret +@all resetkeys ~alloy-gateway:{* ~alloy-gateway:probe ~alloy-gateway:freezes";
    let uncounted = |gateway: &Gateway, what: &str| {
        gateway
            .scrape()
            .get(&format!("fleet_uncounted{{what=\"{what}\"}}"))
    };
    let (gateways, deletions) = ("~alloy-gateway:live", "~alloy-gateway:deleted:*");
    let full = format!("{all} {gateways} {deletions}");
    let gateway_is_not = "this gateway is not counted in the fleet";
    let deleted_is_not = "what this gateway deletes is not counted in the fleet";
    let is_of_rights = |text: &str| {
        let words = [
            "NOPERM",
            "ACL failure in script",
            "user executing the script",
        ];
        words.iter().any(|words| text.contains(words))
    };
    for (what, fewer, message) in [
        ("gateways", format!("{all} {deletions}"), gateway_is_not),
        ("deletions", format!("{all} {gateways}"), deleted_is_not),
        // A right to what the script does: Redis words it differently, by its version.
        ("gateways", format!("{full} -zscore"), gateway_is_not),
    ] {
        let redis = Redis::start();
        may(&redis, &full);
        let connections = || {
            let clients = redis.ask(&["CLIENT", "LIST"]);
            let clients = clients.text().unwrap().lines();
            let of_gate = clients.filter(|client| client.contains(" user=gate "));
            let ids = of_gate.filter_map(|client| client.split(' ').next());
            ids.map(str::to_owned).collect::<Vec<_>>()
        };
        let budget = "freeze_after: { deletions: 100, per: 1h }";
        let fleet = Fleet(vec![
            gate(&redis)
                .tenant("billing", &["users: all", budget])
                .start(),
        ]);
        fleet.wait_until_shared();
        let gateway = &fleet.0[0];
        let live = || gateway.scrape().get("rate_limit_gateways_live");
        until("it is counted", || live() == 1.0);
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        may(&redis, &fewer);
        assert_eq!(gateway.delete(USER, "c2").status, 200);
        let told = gateway.process.wait_for(|line| {
            line["message"]
                .as_str()
                .unwrap_or_default()
                .starts_with(message)
        });
        let detail = told["detail"].as_str().unwrap();
        assert!(is_of_rights(detail), "{told}");
        assert_eq!(uncounted(gateway, what), 1.0);
        assert_eq!(live(), if what == "gateways" { 0.0 } else { 1.0 });
        assert_eq!(gateway.scrape().get("rate_limit_backend_degraded"), 0.0);
        let status = gateway.admin("/status.json").text();
        assert!(status.contains("counted over the fleet"), "{status}");
        assert!(!is_of_rights(&status), "not for anybody: {status}");
        let status = gateway.admin_socket("GET", "/status.json").1;
        assert!(is_of_rights(&status), "{status}");
        // Nothing else suffers from it, and no connection ends.
        let before = connections();
        assert!(!before.is_empty());
        thread::sleep(Duration::from_secs(3));
        assert_eq!(connections(), before);
        let output = gateway.process.output();
        assert_eq!(output.matches(message).count(), 1, "{output}");
        assert!(!output.contains("neither heard nor told"), "{output}");
        may(&redis, &full);
        until("it is counted again", || {
            uncounted(gateway, what) == 0.0 && live() == 1.0
        });
        let name = "alloy-gateway:deleted:billing";
        until("so is what waited", || {
            redis.ask(&["ZCARD", name]).number() == Some(2)
        });
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("counted in the fleet again")
        });
    }
}

#[test]
fn check_prints_the_ceiling_of_the_fleet_and_warns_where_it_is_above_the_limit() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 50, per: 60s } ]")
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 1, per: 1d } ]"],
        )
        .file("redis-url", "redis://127.0.0.1:1")
        .lines("limits_store: { redis: { url: { file: redis-url } }, replicas: 3 }\n")
        .start();
    let checked = Command::new(binary())
        .arg("check")
        .arg(gateway.config_path())
        .output()
        .unwrap();
    let text = String::from_utf8(checked.stdout).unwrap();
    for line in [
        "key production, all gateways together:",
        "through the store: at most 100 in any 1m, 50 at once",
        "without it, 3 gateway(s): at most 96 in any 1m, 48 at once",
        "while only some see it, or it comes and goes: at most 196 in any 1m, 98 at once",
        "without it, 3 gateway(s): at most 3 in any 1d, 3 at once",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let warned = String::from_utf8(checked.stderr).unwrap();
    assert!(warned.contains("tenants[0].limits: while the limits store is away, 3 gateways can come to 3 calls in 1d and 3 at once, above the 2 and 1 of the limit"), "{warned}");
    assert!(!warned.contains("keys.production.limits"), "{warned}");
}

#[test]
fn a_gateway_starts_and_serves_without_its_store() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 30, per: 1h } ]")
        .file("redis-url", "redis://127.0.0.1:1")
        .lines("limits_store: { redis: { url: { file: redis-url } }, replicas: 10 }\n")
        .start();
    let mut connection: Connection = gateway.connect();
    let mut statuses = Vec::new();
    for n in 0..5 {
        let call = delete(USER, &format!("c{n}"), gateway.token());
        statuses.push(connection.send(call).receive().status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let scrape = gateway.scrape();
    assert_eq!(scrape.get("rate_limit_backend_degraded"), 1.0);
    assert!(scrape.get("rate_limit_backend_errors_total{reason=\"connect\"}") >= 1.0);
}
