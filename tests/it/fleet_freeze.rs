//! Freezes of a whole fleet, through a real Redis, whatever happens to it.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::support::{
    Gateway, Response, Setup, USER,
    client::delete,
    mount::Mount,
    or_skipped,
    store::{self, Cluster, Redis},
};

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the deletions of `billing` are noted.
const DELETED: &str = "alloy-gateway:deleted:billing";

struct Fleet(Vec<Gateway>);

impl Fleet {
    /// So many gateways before one store, with two tenants.
    fn start(gateways: usize, store: &Redis, budget: &str) -> Self {
        Self::before(gateways, &store.url(), "", budget)
    }

    fn before(gateways: usize, url: &str, more: &str, budget: &str) -> Self {
        let fleet = Self((0..gateways).map(|_| member(url, more, budget)).collect());
        for gateway in &fleet.0 {
            fleet.wait_until_seen(gateway);
        }
        fleet
    }

    #[track_caller]
    fn wait_until_seen(&self, gateway: &Gateway) {
        until("the freezes of the fleet are seen", || {
            gateway.scrape().get("freezes_seen_timestamp_seconds") > 0.0
        });
    }

    #[track_caller]
    fn wait_until_all(&self, tenant: &str, frozen: bool) {
        for gateway in &self.0 {
            until(&format!("{tenant} frozen: {frozen}"), || {
                is_frozen(gateway, tenant) == frozen
            });
        }
    }

    #[track_caller]
    fn assert_all(&self, tenant: &str, frozen: bool) {
        for gateway in &self.0 {
            assert_eq!(is_frozen(gateway, tenant), frozen, "{tenant}");
        }
    }
}

/// A gateway before a store.
fn member(url: &str, more: &str, budget: &str) -> Gateway {
    setup(url, more, budget).start()
}

fn setup(url: &str, more: &str, budget: &str) -> Setup {
    let redis = format!("{{ url: {{ file: redis-url }}{more} }}");
    Setup::default()
        .tenant("billing", &["users: all", budget])
        .tenant("crm", &["users: all"])
        .workers(1)
        .file("redis-url", url)
        .lines(&format!(
            "limits_store: {{ redis: {redis}, replicas: 5 }}\n"
        ))
}

fn call(gateway: &Gateway, tenant: &str, credential: &str) -> Response {
    gateway.send(delete(USER, credential, gateway.token_of(tenant)))
}

fn is_frozen(gateway: &Gateway, tenant: &str) -> bool {
    let series = format!("tenant_frozen{{tenant=\"{tenant}\"}}");
    gateway.scrape().get(&series) == 1.0
}

/// A tenant is taken out of the config, or put back.
#[track_caller]
fn rename(gateway: &Gateway, from: &str, to: &str) {
    gateway.edit_config(|text| text.replace(from, to));
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

const NO_BUDGET: &str = "wait: 0s";

#[test]
fn what_one_gateway_freezes_and_thaws_all_do_and_each_trail_says_so() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(3, &store, "freeze_after: { deletions: 2, per: 1h }");
    assert_eq!(call(&fleet.0[1], "billing", "c0").status, 200);
    assert_eq!(call(&fleet.0[1], "billing", "c1").status, 200);
    fleet.wait_until_all("billing", true);
    fleet.assert_all("crm", false);
    for gateway in &fleet.0 {
        let frozen = gateway.record("freeze", |record| record["event"] == "tenant.frozen");
        assert!(
            frozen["by"].as_str().unwrap().starts_with("freeze_after"),
            "{frozen}"
        );
        assert_eq!(frozen["tenant"], "billing");
    }
    // Through any of them.
    let said = fleet.0[2].done("thaw", &["billing", "--reason", "a known clean-up"]);
    assert_eq!(said, "billing: thawed\n");
    fleet.wait_until_all("billing", false);
    for gateway in &fleet.0 {
        let thawed = gateway.record("thaw", |record| record["event"] == "tenant.thawed");
        assert_eq!(thawed["reason"], "a known clean-up");
        assert_eq!(call(gateway, "billing", "gone").status, 404);
    }
    let said = fleet.0[0].done("freeze", &["--all", "--reason", "a drill"]);
    assert_eq!(said, "every tenant: frozen, in the whole fleet\n");
    fleet.wait_until_all("crm", true);
    fleet.0[1].done("thaw", &["--all", "--reason", "it is over"]);
    fleet.wait_until_all("crm", false);
    // One that begins now, and one that was away, hear of it.
    fleet.0[0].done("freeze", &["crm", "--reason", "a stolen token"]);
    let late = Fleet::start(1, &store, NO_BUDGET);
    late.wait_until_all("crm", true);
    late.assert_all("billing", false);
}

#[test]
fn different_credentials_are_counted_over_the_fleet() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(3, &store, "freeze_after: { deletions: 4, per: 1h }");
    // None of them sees more than two, and the same ones twice.
    for (gateway, credentials) in fleet
        .0
        .iter()
        .zip([["c0", "c1"], ["c1", "c2"], ["c0", "c2"]])
    {
        for credential in credentials {
            assert_eq!(call(gateway, "billing", credential).status, 200);
        }
    }
    thread::sleep(Duration::from_millis(600));
    fleet.assert_all("billing", false);
    assert_eq!(call(&fleet.0[0], "billing", "c3").status, 200);
    fleet.wait_until_all("billing", true);
    // The thaw gives a new budget, over the fleet.
    fleet.0[1].done("thaw", &["billing", "--reason", "a known clean-up"]);
    fleet.wait_until_all("billing", false);
    assert_eq!(call(&fleet.0[2], "billing", "c4").status, 200);
    thread::sleep(Duration::from_millis(600));
    fleet.assert_all("billing", false);
}

#[test]
fn a_later_freeze_takes_the_place_of_one_that_stands_in_the_whole_fleet() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(3, &store, NO_BUDGET);
    fleet.0[0].done("freeze", &["billing", "--reason", "a stolen token"]);
    fleet.wait_until_all("billing", true);
    fleet.0[1].done("freeze", &["billing", "--reason", "an odd pattern"]);
    for gateway in &fleet.0 {
        until("the last one is shown", || {
            let status = gateway.admin_socket("GET", "/status").1;
            status.contains("an odd pattern") && !status.contains("a stolen token")
        });
    }
    fleet.0[2].done("thaw", &["billing", "--reason", "both are explained"]);
    fleet.wait_until_all("billing", false);
}

#[test]
fn of_two_freezes_the_later_one_stands_whichever_the_store_has() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(2, &store, NO_BUDGET);
    let entry = || {
        let entry = store.ask(&["HGET", "alloy-gateway:freezes", "tenant:billing"]);
        entry.text().unwrap().to_owned()
    };
    fleet.0[0].done("freeze", &["billing", "--reason", "a known clean-up"]);
    fleet.wait_until_all("billing", true);
    let earlier = entry();
    fleet.0[1].done("freeze", &["billing", "--reason", "a stolen token"]);
    // As if the store had been away for whoever made the later one.
    store.ask(&["HSET", "alloy-gateway:freezes", "tenant:billing", &earlier]);
    until("the later one is entered", || {
        entry().contains("a stolen token")
    });
    // Who thaws at the first gateway then knows what he thaws.
    for gateway in &fleet.0 {
        until("the later one is shown", || {
            let status = gateway.admin_socket("GET", "/status").1;
            status.contains("a stolen token") && !status.contains("a known clean-up")
        });
    }
    fleet.0[0].done("thaw", &["billing", "--reason", "it was ours"]);
    fleet.wait_until_all("billing", false);
}

#[test]
fn a_thaw_that_waits_for_a_hanging_disk_keeps_no_freeze_from_being_told_or_heard() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let Some(mount) = Mount::of("ext4", 32) else {
        return;
    };
    let store = Redis::start();
    let hangs = setup(&store.url(), "", NO_BUDGET)
        .audit_directory(&mount.at.join("audit"))
        .audit("intent_wait: 1500ms")
        .start();
    let fleet = Fleet(vec![hangs, member(&store.url(), "", NO_BUDGET)]);
    for gateway in &fleet.0 {
        fleet.wait_until_seen(gateway);
    }
    fleet.0[0].done("freeze", &["billing", "--reason", "a stolen token"]);
    fleet.wait_until_all("billing", true);
    if !mount.freeze(true) {
        eprintln!("skipped: no file system can be frozen here");
        return;
    }
    // Whatever fails, it thaws before the end of the gateway is waited for.
    let mount = mount;
    let told = |verb: &str, tenant: &str| {
        let output = fleet.0[0].verb(verb, &[tenant, "--reason", "a drill"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = told("thaw", "billing");
    assert!(said.contains("billing: not thawed yet"), "{said}");
    // What it was told is done elsewhere, and here as soon as the disk lets it.
    until("the other one thawed", || {
        !is_frozen(&fleet.0[1], "billing")
    });
    assert!(is_frozen(&fleet.0[0], "billing"));
    let said = told("freeze", "crm");
    assert!(said.contains("crm: frozen, and not in the trail"), "{said}");
    fleet.wait_until_all("crm", true);
    let entry = store.ask(&["HGET", "alloy-gateway:freezes", "tenant:crm"]);
    assert!(entry.text().unwrap().contains("\"frozen\""), "{entry:?}");
    fleet.0[1].done("freeze", &["--all", "--reason", "a drill"]);
    until("it is heard", || {
        let status = fleet.0[0].admin_socket("GET", "/status.json").1;
        !status.contains("\"all_frozen_since\":null")
    });
    mount.freeze(false);
    fleet.0[1].done("thaw", &["--all", "--reason", "it is over"]);
    fleet.wait_until_all("billing", false);
    fleet.assert_all("crm", true);
    fleet.0[0].record("thaw", |record| {
        record["event"] == "tenant.thawed" && record["tenant"] == "billing"
    });
    assert!(fleet.0[0].verify().is_intact());
}

#[test]
fn one_that_starts_knows_what_the_fleet_froze_before_its_first_call() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(1, &store, NO_BUDGET);
    fleet.0[0].done("freeze", &["billing", "--reason", "a stolen token"]);
    // With a trail that knows nothing of it.
    let mut starts = 0;
    let late = loop {
        let late = member(&store.url(), "", NO_BUDGET);
        // It waits for the store for a second, which a busy machine may not have.
        let unread = "what the fleet froze could not be read from the limits store at the start";
        if !late.process.output().contains(unread) {
            break late;
        }
        starts += 1;
        assert!(starts < 10, "{}", late.process.output());
    };
    assert_eq!(call(&late, "billing", "c0").status, 403);
    assert_eq!(call(&late, "crm", "c0").status, 200);
    late.record("freeze", |record| record["event"] == "tenant.frozen");
}

#[test]
fn a_freeze_holds_for_a_tenant_that_a_gateway_does_not_know_yet() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(2, &store, NO_BUDGET);
    rename(&fleet.0[1], "name: crm", "name: newcomer");
    fleet.0[0].done("freeze", &["crm", "--reason", "a stolen token"]);
    fleet.0[1].record("freeze", |record| record["tenant"] == "crm");
    rename(&fleet.0[1], "name: newcomer", "name: crm");
    assert!(is_frozen(&fleet.0[1], "crm"));
    assert_eq!(call(&fleet.0[1], "crm", "c0").status, 403);
    fleet.0[1].done("thaw", &["crm", "--reason", "it was ours"]);
    fleet.wait_until_all("crm", false);
}

#[test]
fn a_budget_that_is_spent_over_the_fleet_freezes_a_tenant_that_is_not_in_the_config_just_now() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let fleet = Fleet::start(2, &store, "freeze_after: { deletions: 2, per: 1h }");
    assert_eq!(call(&fleet.0[0], "billing", "c0").status, 200);
    thread::sleep(Duration::from_millis(600));
    store.pause();
    // Counted here, and over the fleet only when the store goes on.
    assert_eq!(call(&fleet.0[1], "billing", "c1").status, 200);
    rename(&fleet.0[1], "name: billing", "name: another");
    store.go_on();
    fleet.0[1].record("freeze", |record| {
        record["event"] == "tenant.frozen" && record["tenant"] == "billing"
    });
    rename(&fleet.0[1], "name: another", "name: billing");
    assert_eq!(call(&fleet.0[1], "billing", "c2").status, 403);
}

#[test]
fn a_deletion_that_waited_for_the_store_counts_from_when_it_was() {
    const WAIT: Duration = Duration::from_secs(4);
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let mut store = Redis::start();
    let fleet = Fleet::start(1, &store, "freeze_after: { deletions: 9, per: 1h }");
    store.kill();
    assert_eq!(call(&fleet.0[0], "billing", "c0").status, 200);
    let made = SystemTime::now();
    thread::sleep(WAIT);
    store.start_again();
    let noted = || store.ask(&["ZRANGE", DELETED, "0", "-1", "WITHSCORES"]);
    until("it is noted", || noted().list().len() == 2);
    let noted = noted();
    let at: u64 = noted.list()[1].text().unwrap().parse().unwrap();
    let at = UNIX_EPOCH + Duration::from_millis(at);
    // On its way to the store it is for two tries of a second at most.
    assert!(at < made + WAIT, "{at:?}, made {made:?}");
}

#[test]
fn what_is_noted_late_hides_nothing_and_what_is_none_of_ours_is_in_no_notes_way() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let script = include_str!("../../src/fleet/seen.lua");
    let note = |what: &str, ago: &str| {
        let counted = store.ask(&["EVAL", script, "1", "seen", what, "60000", ago]);
        counted.number().unwrap()
    };
    let at = |what: &str| -> u64 {
        let score = store.ask(&["ZSCORE", "seen", what]);
        score.text().unwrap().parse().unwrap()
    };
    assert_eq!(note("a", "0"), 1);
    let seen = at("a");
    assert_eq!(note("a", "30000"), 1);
    assert_eq!(at("a"), seen);
    assert_eq!(note("b", "30000"), 2);
    assert!(at("b") + 20_000 < seen);
    assert_eq!(note("b", "0"), 2);
    assert!(at("b") >= seen);
    assert_eq!(note("c", "60000"), 2, "it is too long ago");
    // What another program, or somebody's mistake, put there.
    let fleet = Fleet::start(1, &store, "freeze_after: { deletions: 1, per: 1h }");
    store.ask(&["SET", DELETED, "x"]);
    store.ask(&["SET", "alloy-gateway:live", "x"]);
    assert_eq!(call(&fleet.0[0], "billing", "c0").status, 200);
    for key in [DELETED, "alloy-gateway:live"] {
        until("it is noted", || {
            store.ask(&["TYPE", key]).text() == Some("zset")
        });
    }
    assert_eq!(store.ask(&["ZCARD", DELETED]).number(), Some(1));
}

#[test]
fn without_the_store_what_is_known_holds_and_nothing_thaws() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let mut store = Redis::start();
    let mut fleet = Fleet::start(3, &store, NO_BUDGET);
    fleet.0[0].done("freeze", &["billing", "--reason", "a stolen token"]);
    fleet.wait_until_all("billing", true);
    store.kill();
    let thaw = fleet.0[1].verb("thaw", &["billing", "--reason", "without it"]);
    assert_eq!(thaw.status.code(), Some(1));
    let said = String::from_utf8_lossy(&thaw.stderr).into_owned();
    assert!(
        said.contains("billing: not thawed, since the store does not answer"),
        "{said}"
    );
    // One of them freezes another meanwhile, and one starts from its own trail.
    let freeze = fleet.0[2].verb("freeze", &["crm", "--reason", "meanwhile"]);
    // It holds here, and gets to the others by itself: whoever asked is told so.
    assert_eq!(freeze.status.code(), Some(0), "{freeze:?}");
    let said = String::from_utf8_lossy(&freeze.stdout).into_owned();
    assert!(
        said.contains("crm: frozen here; the others are told when"),
        "{said}"
    );
    let note = String::from_utf8_lossy(&freeze.stderr).into_owned();
    assert!(
        note.contains("note: nothing has to be asked again"),
        "{note}"
    );
    assert!(is_frozen(&fleet.0[2], "crm") && !is_frozen(&fleet.0[0], "crm"));
    fleet.0[1].kill();
    fleet.0[1].start_again();
    fleet.assert_all("billing", true);
    // It comes back with nothing in it: those who know of freezes enter them again.
    store.start_again();
    fleet.wait_until_all("crm", true);
    fleet.assert_all("billing", true);
    let late = Fleet::start(1, &store, NO_BUDGET);
    late.wait_until_all("billing", true);
    late.wait_until_all("crm", true);
    fleet.0[0].done("thaw", &["billing", "--reason", "it was ours"]);
    fleet.wait_until_all("billing", false);
    late.wait_until_all("billing", false);
    fleet.assert_all("crm", true);
}

#[test]
fn one_that_was_stopped_during_a_thaw_thaws_when_it_is_back() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let store = Redis::start();
    let mut fleet = Fleet::start(2, &store, NO_BUDGET);
    fleet.0[0].done("freeze", &["billing", "--reason", "a stolen token"]);
    fleet.wait_until_all("billing", true);
    fleet.0[1].kill();
    fleet.0[0].done("thaw", &["billing", "--reason", "it was ours"]);
    fleet.0[1].start_again();
    fleet.wait_until_all("billing", false);
    // And for good.
    fleet.0[1].kill();
    fleet.0[1].start_again();
    fleet.wait_until_seen(&fleet.0[1]);
    fleet.assert_all("billing", false);
}

#[test]
fn a_cluster_of_stores_holds_freezes_and_budgets_and_a_failover_thaws_nothing() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let mut cluster = Cluster::start();
    let budget = "freeze_after: { deletions: 3, per: 1h }";
    let fleet = Fleet::before(2, &cluster.url(), ", cluster: true", budget);
    let master = cluster.master_of("alloy-gateway:freezes");
    cluster.add_replica_of(master);
    for (gateway, credential) in [(0, "c0"), (1, "c1"), (1, "c2")] {
        let call = call(&fleet.0[gateway], "billing", credential);
        assert_eq!(call.status, 200);
    }
    fleet.wait_until_all("billing", true);
    cluster.nodes[master].kill();
    until("the replica took over", || {
        let freeze = fleet.0[0].verb("freeze", &["crm", "--reason", "a drill"]);
        freeze.status.code() == Some(0)
    });
    fleet.wait_until_all("crm", true);
    fleet.assert_all("billing", true);
    fleet.0[1].done("thaw", &["billing", "--reason", "it was ours"]);
    fleet.wait_until_all("billing", false);
}

#[test]
fn an_operator_tells_the_fleet_through_the_store_alone() {
    let Some(()) = or_skipped(store::is_installed(), "redis-server") else {
        return;
    };
    let mut store = Redis::start();
    let fleet = Fleet::start(2, &store, "freeze_after: { deletions: 2, per: 1h }");
    let at = &fleet.0[0];
    let through = |name: &str, args: &[&str]| {
        let output = at.verb(name, &[args, &["--store", "--reason", "a drill"]].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    assert_eq!(
        through("freeze", &["billing"]).0,
        Some(2),
        "who asks has to be said"
    );
    let (code, said) = through("freeze", &["biling", "--by", "ops"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("there is no tenant \"biling\", did you mean billing?"),
        "{said}"
    );
    assert_eq!(through("freeze", &["--all", "--by", "ops"]).0, Some(0));
    fleet.wait_until_all("crm", true);
    for gateway in &fleet.0 {
        let frozen = gateway.record("freeze", |record| record["scope"] == "all");
        assert_eq!(frozen["by"], "ops, through the store");
    }
    assert_eq!(through("thaw", &["--all", "--by", "ops"]).0, Some(0));
    fleet.wait_until_all("crm", false);
    let (code, said) = through("thaw", &["--all", "--by", "ops"]);
    assert_eq!(
        (code, said.contains("not frozen in the store")),
        (Some(1), true),
        "{said}"
    );
    // Its end is a new budget, as anywhere.
    for credential in ["c0", "c1"] {
        assert_eq!(call(&fleet.0[1], "billing", credential).status, 200);
    }
    fleet.wait_until_all("billing", true);
    assert_eq!(through("thaw", &["billing", "--by", "ops"]).0, Some(0));
    fleet.wait_until_all("billing", false);
    assert_eq!(call(&fleet.0[0], "billing", "c2").status, 200);
    store.kill();
    let (code, said) = through("freeze", &["billing", "--by", "ops"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("the store does not answer: "), "{said}");
}

/// From the sending of the call that spends the budget to the first refusal of each of
/// the others, which call all the time.
#[test]
#[ignore = "a measurement: cargo test --release --test it -- --ignored --nocapture how_long"]
fn how_long_it_takes_until_the_slowest_of_five_gateways_refuses() {
    let store = Redis::start();
    let mut worst = Vec::new();
    for round in 0..20 {
        let fleet = Fleet::start(5, &store, "freeze_after: { deletions: 1, per: 1h }");
        let spent = thread::scope(|scope| {
            let others: Vec<_> = fleet.0[1..]
                .iter()
                .map(|gateway| {
                    scope.spawn(move || {
                        let mut connection = gateway.connect();
                        loop {
                            // Never deleted: it does not count.
                            let call = delete(USER, "gone", gateway.token_of("billing"));
                            if connection.send(call).receive().status == 403 {
                                return Instant::now();
                            }
                            thread::sleep(Duration::from_millis(1));
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(300 + 37 * round));
            let sent = Instant::now();
            assert_eq!(call(&fleet.0[0], "billing", "c0").status, 200);
            let refused = others.into_iter().map(|other| other.join().unwrap());
            refused.max().unwrap() - sent
        });
        println!("{round}: {spent:?}");
        worst.push(spent);
        fleet.0[0].done("thaw", &["billing", "--reason", "the next round"]);
        fleet.wait_until_all("billing", false);
    }
    worst.sort();
    println!(
        "median {:?}, worst {:?}",
        worst[worst.len() / 2],
        worst[worst.len() - 1]
    );
}
