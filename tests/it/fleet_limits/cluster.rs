//! Limits that a fleet shares through a real cluster, of which nodes are killed and
//! paused, and slots move.

use std::{
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::fleet::resp::Reply;

use super::{
    Answered, Fleet, KEY_BUCKET, LIMITS, PER, RATES, ceilings, look_at, most_in, needs_redis,
    passed, seen, until,
};
use crate::support::{
    Gateway, Setup, or_skipped,
    store::{self, Cluster, FakeStore},
};

const CLUSTER_OF_FIVE: &str = "cluster: true }, timeout: 50ms, replicas: 5 }";

fn pause(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

/// What holds whatever happens to the cluster meanwhile.
#[track_caller]
fn assert_kept(what: &str, calls: &[Answered]) {
    look_at(what, calls);
    let passed = passed(calls);
    let (most, ceiling) = (most_in(PER, &passed), ceilings().in_part.in_any_span);
    println!("{what}: at most {most} in {PER:?}, the ceiling is {ceiling}");
    assert!(most as u64 <= ceiling, "{what}: {most} of {ceiling}");
    // Good calls keep flowing.
    let longest = passed.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        longest < Some(Duration::from_millis(1500)),
        "{what}: {longest:?}"
    );
}

/// By itself, and from then on the store decides.
#[track_caller]
fn assert_comes_back(fleet: &Fleet) {
    fleet.wait_until_shared();
    until("the store decides again", || {
        let before = fleet.by_store("allowed");
        let calls = fleet.load(&RATES, Duration::from_secs(1), || {});
        let share = fleet.by_store("allowed") - before;
        share >= passed(&calls).len() as f64 && share > 0.0
    });
}

/// The store decides all calls of a load, and the limit is kept as one bucket keeps it; on
/// a machine so busy that the store was not always in time, most calls of one of some loads.
#[track_caller]
fn assert_shares(what: &str, fleet: &Fleet, span: Duration) {
    let errors = || -> f64 {
        let scrapes = fleet.0.iter().map(Gateway::scrape);
        scrapes
            .map(|it| it.sum("rate_limit_backend_errors_total"))
            .sum()
    };
    for _ in 0..5 {
        let (before, errors_before) = (fleet.by_store("allowed"), errors());
        let calls = fleet.load(&RATES, span, || {});
        look_at(what, &calls);
        let passed = passed(&calls);
        let by_store = (fleet.by_store("allowed") - before) as usize;
        if errors() == errors_before {
            assert_eq!(by_store, passed.len());
            assert!(most_in(PER, &passed) as u64 <= seen(ceilings().with_store.in_any_span));
        }
        if by_store * 2 > passed.len() {
            return;
        }
        println!("the store decided {by_store} of {}", passed.len());
    }
    panic!("the store never decides most calls");
}

fn are_degraded(fleet: &Fleet) -> bool {
    let mut gateways = fleet.0.iter();
    gateways.all(|gateway| gateway.scrape().get("rate_limit_backend_degraded") == 1.0)
}

fn counted(fleet: &Fleet, reason: &str) -> f64 {
    let series = format!("rate_limit_backend_errors_total{{reason=\"{reason}\"}}");
    let counts = fleet.0.iter().map(|it| it.scrape().get(&series));
    counts.sum()
}

/// Whoever looks at nothing but its nodes sees a cluster in good order.
#[test]
fn a_key_that_no_node_has_is_told_and_counted_for_as_long_as_that_is_so() {
    needs_redis!();
    let cluster = Cluster::start();
    let master = cluster.master_of(KEY_BUCKET);
    let slot = cluster.slot_of(KEY_BUCKET);
    let fleet = Fleet::start(
        1,
        &cluster.url(),
        LIMITS,
        "cluster: true }, timeout: 1s, replicas: 1 }",
    );
    for node in &cluster.nodes[..3] {
        node.ask(&["CLUSTER", "DELSLOTS", &slot]);
    }
    // Asked, and looked for: from then on nobody is asked.
    fleet.load(&[20.0], Duration::from_secs(3), || {});
    let before = fleet.by_store("allowed");
    fleet.load(&[20.0], Duration::from_secs(2), || {
        pause(1.0);
        assert!(are_degraded(&fleet));
    });
    assert_eq!(fleet.by_store("allowed"), before);
    assert!(are_degraded(&fleet));
    assert!(counted(&fleet, "connect") >= 1.0);
    let added = cluster.nodes[master].ask(&["CLUSTER", "ADDSLOTS", &slot]);
    assert_eq!(added.text(), Some("OK"), "{added:?}");
    // Until it is known where the slot is.
    until("the store decides again", || {
        fleet.load(&[20.0], Duration::from_secs(1), || {});
        fleet.by_store("allowed") > before
    });
    assert_comes_back(&fleet);
}

#[test]
fn a_cluster_shares_and_survives_the_loss_of_the_master() {
    needs_redis!();
    let mut cluster = Cluster::start();
    let master = cluster.master_of(KEY_BUCKET);
    cluster.add_replica_of(master);
    let fleet = Fleet::start(5, &cluster.url(), LIMITS, CLUSTER_OF_FIVE);
    assert_shares("a cluster", &fleet, Duration::from_secs(3));
    let calls = fleet.load(&RATES, Duration::from_secs(6), || {
        thread::sleep(Duration::from_secs(1));
        cluster.nodes[master].kill();
    });
    look_at("a cluster that loses the master", &calls);
    let most = most_in(PER, &passed(&calls)) as u64;
    println!(
        "at most {most} in {PER:?}, the ceiling is {}",
        ceilings().in_part.in_any_span
    );
    assert!(most <= ceilings().in_part.in_any_span);
    let bucket_is_back = || {
        let slots = cluster.nodes[3].ask(&["GET", KEY_BUCKET]);
        matches!(slots, Reply::Text(_) | Reply::Nothing)
    };
    until("the replica is the master", bucket_is_back);
    fleet.wait_until_shared();
    let before = fleet.by_store("allowed");
    fleet.load(&RATES, Duration::from_secs(1), || {});
    assert!(fleet.by_store("allowed") > before);
}

#[test]
fn while_the_node_of_a_cluster_that_decides_is_paused_each_takes_its_share_and_says_so() {
    needs_redis!();
    let cluster = Cluster::start();
    let fleet = Fleet::start(5, &cluster.url(), LIMITS, CLUSTER_OF_FIVE);
    let master = cluster.master_of(KEY_BUCKET);
    let mut was_degraded = [false; 2];
    let calls = fleet.load(&RATES, Duration::from_secs(9), || {
        pause(1.0);
        cluster.nodes[master].pause();
        pause(1.5);
        was_degraded[0] = are_degraded(&fleet);
        // The others have given it up by then.
        pause(2.5);
        was_degraded[1] = are_degraded(&fleet);
        cluster.nodes[master].go_on();
        pause(2.0);
    });
    assert_kept("a cluster with a node that is paused", &calls);
    assert_eq!(was_degraded, [true; 2]);
    assert!(counted(&fleet, "timeout") >= 5.0);
    assert_comes_back(&fleet);
}

#[test]
fn a_master_that_wakes_after_its_replica_took_over_decides_nothing_any_more() {
    needs_redis!();
    let cluster = Cluster::start();
    let master = cluster.master_of(KEY_BUCKET);
    cluster.add_replica_of(master);
    let fleet = Fleet::start(5, &cluster.url(), LIMITS, CLUSTER_OF_FIVE);
    let mut calls = fleet.load(&RATES, Duration::from_secs(2), || {
        pause(1.0);
        cluster.nodes[master].pause();
    });
    let before = fleet.by_store("allowed");
    let mut has_replica_decided = false;
    // An election that fails is tried again only some seconds later.
    let end = Instant::now() + Duration::from_secs(20);
    while !has_replica_decided && Instant::now() < end {
        calls.extend(fleet.load(&RATES, Duration::from_secs(1), || {}));
        has_replica_decided = fleet.by_store("allowed") > before;
    }
    calls.extend(fleet.load(&RATES, Duration::from_secs(6), || {
        cluster.nodes[master].go_on();
    }));
    assert_kept("a master that is paused and replaced", &calls);
    assert!(has_replica_decided);
    until("it follows the one that replaced it", || {
        let info = cluster.nodes[master].ask(&["INFO", "replication"]);
        info.text().unwrap().contains("role:slave")
    });
    assert_comes_back(&fleet);
}

#[test]
fn while_a_slot_moves_its_calls_are_decided_one_by_one_by_the_share_and_then_by_its_new_node() {
    needs_redis!();
    let cluster = Cluster::start();
    let fleet = Fleet::start(5, &cluster.url(), LIMITS, CLUSTER_OF_FIVE);
    let (mut moved, mut opened) = ((0, 0), [0; 2]);
    let calls = fleet.load(&RATES, Duration::from_secs(8), || {
        pause(1.0);
        moved = cluster.begin_to_move(KEY_BUCKET);
        opened[0] = cluster.connections();
        pause(3.0);
        opened[1] = cluster.connections();
        cluster.end_move(KEY_BUCKET, moved);
        pause(2.0);
    });
    assert_kept("a cluster with a slot that moves", &calls);
    // What it says meanwhile is ASK, to each call: none of them ends the asking.
    let told = counted(&fleet, "moved");
    println!("told to ask another node: {told}");
    assert!(told >= 200.0, "{told}");
    // Nor has any of them the map read again, which a connection is opened for.
    assert!(opened[1] < opened[0] + 120, "{opened:?}");
    assert_comes_back(&fleet);
    let bucket = cluster.nodes[moved.1].ask(&["EXISTS", KEY_BUCKET]);
    assert_eq!(bucket.number(), Some(1), "{bucket:?}");
    assert_eq!(cluster.master_of(KEY_BUCKET), moved.1);
}

#[test]
fn a_cluster_that_is_down_as_a_whole_is_told_until_it_is_up_again() {
    needs_redis!();
    let cluster = Cluster::start_all_or_nothing();
    let fleet = Fleet::start(2, &cluster.url(), LIMITS, "cluster: true }, replicas: 2 }");
    // Every node lives, and answers CLUSTERDOWN: one slot, which nobody asks for, is missing.
    let other = (cluster.master_of(KEY_BUCKET) + 1) % 3;
    let slot = cluster.a_slot_of(other);
    for node in &cluster.nodes[..3] {
        node.ask(&["CLUSTER", "DELSLOTS", &slot]);
    }
    until("it is told", || {
        fleet.load(&[20.0; 2], Duration::from_millis(200), || {});
        are_degraded(&fleet)
    });
    let calls = fleet.load(&[20.0; 2], Duration::from_secs(3), || {});
    look_at("a cluster that is down", &calls);
    assert!(are_degraded(&fleet), "and all the time");
    for gateway in &fleet.0 {
        let told = gateway.process.wait_for(|line| line["reason"] == "error");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains(": CLUSTERDOWN "), "{told}");
    }
    cluster.nodes[other].ask(&["CLUSTER", "ADDSLOTS", &slot]);
    until("it is up again", || {
        fleet.load(&[20.0; 2], Duration::from_millis(200), || {});
        !are_degraded(&fleet)
    });
    fleet.wait_until_shared();
}

#[test]
fn a_cluster_within_tls_shares_and_its_nodes_are_known_by_their_certificates() {
    needs_redis!();
    let directory = tempfile::tempdir().unwrap();
    store::certificate(directory.path());
    let mut cluster = Cluster::start_tls(directory.path());
    let master = cluster.master_of(KEY_BUCKET);
    cluster.add_replica_of(master);
    let trust = directory.path().join("store-ca.pem");
    let more = format!(
        "trust: {{ file: {} }}, cluster: true }}, timeout: 50ms, replicas: 5 }}",
        trust.display()
    );
    let fleet = Fleet::start(5, &cluster.tls_url(), LIMITS, &more);
    assert_shares("a cluster within TLS", &fleet, Duration::from_secs(2));
    let calls = fleet.load(&RATES, Duration::from_secs(6), || {
        pause(1.0);
        cluster.nodes[master].kill();
    });
    assert_kept("a cluster within TLS that loses the master", &calls);
    assert_comes_back(&fleet);
}

/// One before a seed on loopback that names `node` as the only node of its cluster.
fn before_a_map_that_names(node: &FakeStore, host: &str, more: &str) -> (FakeStore, Gateway) {
    let seed = FakeStore::of_cluster(host, Some(node.port));
    let gateway = Setup::default()
        .workers(1)
        .file("redis-url", format!("redis://gate:pass-9@127.0.0.1:{}", seed.port))
        .lines(&format!("limits_store: {{ redis: {{ url: {{ file: redis-url }}, cluster: true{more} }}, replicas: 1 }}\n"))
        .start();
    (seed, gateway)
}

#[test]
fn a_map_that_names_a_plaintext_node_elsewhere_is_told_and_no_password_goes_there() {
    // An address of this machine that does not say that it is: what is sent there is seen.
    let elsewhere = "0.0.0.0";
    let node = FakeStore::of_cluster(elsewhere, None);
    let (seed, gateway) = before_a_map_that_names(&node, elsewhere, "");
    let told = gateway
        .process
        .wait_for(|line| line["reason"] == "connect" && line["detail"].is_string());
    let detail = told["detail"].as_str().unwrap();
    for part in [
        &format!("{elsewhere}:{}: ", node.port),
        "plaintext",
        "rediss://",
        "limits_store.redis.allow_plaintext: true",
    ] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    // The map is asked for again and again, and each time the node is tried.
    until("it was tried more than once", || {
        let series = "rate_limit_backend_errors_total{reason=\"connect\"}";
        gateway.scrape().get(series) >= 3.0
    });
    assert!(seed.seen().contains("pass-9"));
    assert_eq!(node.seen(), "");
    assert!(!gateway.process.output().contains("pass-9"));
    // Who allows it has it.
    let allowed = ", allow_plaintext: true";
    let (_seed, _gateway) = before_a_map_that_names(&node, elsewhere, allowed);
    until("it is logged in to", || node.seen().contains("pass-9"));
}
