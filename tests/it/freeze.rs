//! Containment: a tenant that deletes more than is plausible, or that an operator
//! stops, is frozen until an operator thaws it, whatever happens in between.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use alloy_gateway::simulated_alloy::Behaviour;
use serde_json::Value;

use crate::support::{
    FOREIGN_USER, Gateway, Response, Setup, USER, assert_refusal,
    client::delete,
    trail::{by_credential, sent},
};

/// A second tenant, which a freeze must not touch.
const OTHER: &str = "other";

fn with_budget(deletions: u32) -> Setup {
    let budget = format!("freeze_after: {{ deletions: {deletions}, per: 1h }}");
    Setup::default()
        .tenant("billing", &["users: all", &budget])
        .tenant(OTHER, &["users: all"])
}

fn delete_of(gateway: &Gateway, tenant: &str, credential: &str) -> Response {
    gateway.send(delete(USER, credential, gateway.token_of(tenant)))
}

#[track_caller]
fn assert_frozen(gateway: &Gateway, tenant: &str) {
    assert_refusal(
        &delete_of(gateway, tenant, "c999"),
        403,
        "tenant-frozen",
        "no",
    );
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn count_of(gateway: &Gateway, event: &str) -> usize {
    let trail = gateway.trail();
    trail
        .iter()
        .filter(|record| record["event"] == event)
        .count()
}

#[test]
fn the_deletion_that_spends_the_budget_is_answered_and_the_next_call_is_refused() {
    let gateway = with_budget(3).start();
    assert_eq!(
        gateway.scrape().get("tenant_frozen{tenant=\"billing\"}"),
        0.0
    );
    // The same credential twice, what is not there, and what never left count once, or not.
    let answers = ["c0", "c0", "gone-1", "gone-2", "c1", "c1"]
        .map(|credential| delete_of(&gateway, "billing", credential).status);
    assert_eq!(answers, [200, 404, 404, 404, 200, 404]);
    assert_eq!(delete_of(&gateway, "billing", "c2").status, 200);
    let refused = delete_of(&gateway, "billing", "c3");
    assert_refusal(&refused, 403, "tenant-frozen", "no");
    assert_eq!(gateway.last_record_of(&refused)["code"], "tenant-frozen");
    assert_eq!(delete_of(&gateway, OTHER, "c4").status, 200);
    let frozen = gateway.record("freeze", |record| record["event"] == "tenant.frozen");
    assert_eq!(
        [
            &frozen["scope"],
            &frozen["tenant"],
            &frozen["by"],
            &frozen["reason"]
        ],
        [
            "tenant",
            "billing",
            "freeze_after",
            "3 different credentials deleted within 1h"
        ]
    );
    // Whoever got the answer of the last deletion can rely on the freeze.
    let trail = gateway.trail();
    let last = |event: &str, field: &str, is: &str| {
        let is_it = |record: &&Value| record["event"] == event && record[field] == is;
        trail.iter().rev().find(is_it).unwrap()["seq"]
            .as_u64()
            .unwrap()
    };
    assert!(
        last("tenant.frozen", "tenant", "billing") < last("request.outcome", "outcome", "deleted")
    );
    let scrape = gateway.scrape();
    assert_eq!(scrape.get("tenant_frozen{tenant=\"billing\"}"), 1.0);
    assert_eq!(scrape.get("tenant_frozen{tenant=\"other\"}"), 0.0);
    let status = gateway.admin("/status.json").json();
    let tenants = status["tenants"].as_array().unwrap();
    let billing = tenants
        .iter()
        .find(|tenant| tenant["name"] == "billing")
        .unwrap();
    assert_eq!(billing["frozen"], true);
    assert!(billing["frozen_since"].is_string(), "{billing}");
    gateway
        .process
        .wait_for(|line| line["tenant.id"] == "billing" && line["by"] == "freeze_after");
}

#[test]
fn a_dry_run_and_a_call_that_never_left_spend_nothing_of_the_budget() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &[
                "users: all",
                "mode: dry_run",
                "freeze_after: { deletions: 1, per: 1h }",
            ],
        )
        .start();
    for credential in ["c0", "c1"] {
        assert_refusal(&gateway.delete(USER, credential), 403, "dry-run", "no");
    }
    let unreachable = Setup::default()
        .upstream_url("https://127.0.0.1:1")
        .upstream("retries: 0")
        .tenant(
            "billing",
            &["users: all", "freeze_after: { deletions: 1, per: 1h }"],
        )
        .start();
    for credential in ["c0", "c1"] {
        let response = unreachable.delete(USER, credential);
        assert_refusal(&response, 502, "upstream-unreachable", "no");
    }
}

#[test]
fn a_call_in_doubt_spends_the_budget_as_a_deletion_does() {
    let gateway = Setup::default()
        .upstream("retries: 0")
        .tenant(
            "billing",
            &["users: all", "freeze_after: { deletions: 1, per: 1h }"],
        )
        .start();
    gateway.alloy.script([Behaviour::Reset]);
    assert_refusal(
        &gateway.delete(USER, "c0"),
        502,
        "upstream-reset",
        "unknown",
    );
    assert_frozen(&gateway, "billing");
    gateway.done("thaw", &["billing", "--reason", "a known clean-up"]);
    // As a request that was carried out is answered, too (RFC 9110 §15.4.4).
    let elsewhere = Behaviour::answer(303, "Location: /users\r\n", "");
    gateway.alloy.script([elsewhere]);
    assert_refusal(&gateway.delete(USER, "c1"), 502, "upstream-protocol", "yes");
    assert_frozen(&gateway, "billing");
}

#[test]
fn frozen_comes_before_every_other_refusal_of_a_good_token() {
    let gateway = Setup::default()
        .tenant("suspended", &["users: all", "mode: suspended"])
        .tenant("narrow", &[&format!("users: [ {USER} ]")])
        .tenant("dry", &["users: all", "mode: dry_run"])
        .start();
    gateway.done("freeze", &["--all", "--reason", "a drill"]);
    for tenant in ["suspended", "narrow", "dry"] {
        let call = delete(FOREIGN_USER, "c1", gateway.token_of(tenant));
        assert_refusal(&gateway.send(call), 403, "tenant-frozen", "no");
    }
    assert_eq!(gateway.alloy.received().len(), 0);
    gateway.done("thaw", &["--all", "--reason", "it is over"]);
    let call = |tenant: &str| delete(FOREIGN_USER, "c1", gateway.token_of(tenant));
    assert_refusal(
        &gateway.send(call("suspended")),
        403,
        "tenant-suspended",
        "no",
    );
    assert_refusal(&gateway.send(call("narrow")), 403, "user-not-allowed", "no");
    assert_refusal(&gateway.send(call("dry")), 403, "dry-run", "no");
}

#[test]
fn an_operator_freezes_and_thaws_and_the_trail_says_who_and_why() {
    let gateway = with_budget(2).start();
    let said = gateway.done(
        "freeze",
        &[
            "billing",
            "--reason",
            "a stolen token",
            "--by",
            "the night shift",
        ],
    );
    assert_eq!(said, "billing: frozen\n");
    assert_frozen(&gateway, "billing");
    assert_eq!(delete_of(&gateway, OTHER, "c9").status, 200);
    // The answer came after the record.
    let trail = gateway.trail();
    let frozen = trail
        .iter()
        .find(|record| record["event"] == "tenant.frozen")
        .unwrap();
    let me = format!("unix:uid={}", rustix::process::getuid().as_raw());
    assert_eq!(
        [
            &frozen["tenant"],
            &frozen["by"],
            &frozen["on_behalf_of"],
            &frozen["reason"]
        ],
        ["billing", &me, "the night shift", "a stolen token"]
    );
    let said = gateway.done("thaw", &["billing", "--reason", "it was ours"]);
    assert_eq!(said, "billing: thawed\n");
    let trail = gateway.trail();
    let thawed = trail
        .iter()
        .find(|record| record["event"] == "tenant.thawed")
        .unwrap();
    assert_eq!(
        [&thawed["tenant"], &thawed["by"], &thawed["reason"]],
        ["billing", &me, "it was ours"]
    );
    assert!(gateway.verify().is_intact());
    // With a whole budget.
    assert_eq!(delete_of(&gateway, "billing", "c0").status, 200);
    assert_eq!(delete_of(&gateway, "billing", "c1").status, 200);
    assert_frozen(&gateway, "billing");
    gateway.done("thaw", &["billing", "--reason", "a known clean-up"]);
    assert_eq!(delete_of(&gateway, "billing", "c2").status, 200);
    assert_eq!(delete_of(&gateway, "billing", "c3").status, 200);
    assert_frozen(&gateway, "billing");
}

#[test]
fn a_freeze_and_a_thaw_survive_any_end_of_the_process() {
    let mut gateway = with_budget(2).start();
    gateway.done("freeze", &[OTHER, "--reason", "a drill"]);
    assert_eq!(delete_of(&gateway, "billing", "c0").status, 200);
    assert_eq!(delete_of(&gateway, "billing", "c1").status, 200);
    gateway.kill();
    // Twice: the second start reads what the first one wrote anew.
    for _ in 0..2 {
        gateway.start_again();
        assert_frozen(&gateway, "billing");
        assert_frozen(&gateway, OTHER);
        gateway.kill();
    }
    gateway.start_again();
    gateway.done("thaw", &["billing", "--reason", "it was ours"]);
    gateway.kill();
    gateway.start_again();
    assert_frozen(&gateway, OTHER);
    // What was deleted before the thaw does not count after it, restart or not.
    assert_eq!(delete_of(&gateway, "billing", "c2").status, 200);
    assert!(gateway.stop().success());
    gateway.start_again();
    assert_eq!(delete_of(&gateway, "billing", "c3").status, 200);
    assert_frozen(&gateway, "billing");
    assert!(gateway.verify().is_intact());
}

#[test]
fn a_budget_that_is_spent_when_the_process_is_killed_freezes_at_the_next_start() {
    let mut gateway = with_budget(2).start();
    assert_eq!(delete_of(&gateway, "billing", "c0").status, 200);
    gateway
        .alloy
        .script([Behaviour::Stall(Duration::from_secs(60))]);
    let mut cut = gateway.connect();
    cut.send(delete(USER, "c1", gateway.token_of("billing")));
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(30)));
    gateway.kill();
    assert_eq!(count_of(&gateway, "tenant.frozen"), 0);
    // It may have been deleted: nobody will know.
    gateway.start_again();
    assert_frozen(&gateway, "billing");
    gateway.record("freeze", |record| {
        record["event"] == "tenant.frozen" && record["by"] == "freeze_after"
    });
}

/// Limits have the trail read further back than the budget reaches.
#[test]
fn what_was_deleted_before_the_span_of_a_budget_freezes_nobody_at_a_start() {
    let mut gateway = Setup::default()
        .key_limits("[ { requests: 500, per: 1d } ]")
        .tenant("billing", &["users: all"])
        .start();
    for n in 0..3 {
        assert_eq!(delete_of(&gateway, "billing", &format!("c{n}")).status, 200);
    }
    assert!(gateway.stop().success());
    thread::sleep(Duration::from_millis(1100));
    gateway.edit_config(|text| {
        text.replace(
            "users: all",
            "users: all\n    freeze_after: { deletions: 2, per: 1s }",
        )
    });
    gateway.start_again();
    assert_eq!(delete_of(&gateway, "billing", "c3").status, 200);
    assert_eq!(count_of(&gateway, "tenant.frozen"), 0);
}

#[test]
fn calls_at_once_freeze_once_and_no_more_are_sent_than_were_under_way() {
    const CALLERS: usize = 32;
    let gateway = with_budget(5).start();
    thread::scope(|scope| {
        for n in 0..CALLERS {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for call in 0..10 {
                    let credential = format!("c{}", n * 10 + call);
                    let call = delete(USER, &credential, gateway.token_of("billing"));
                    connection.send(call).receive();
                }
            });
        }
    });
    assert_frozen(&gateway, "billing");
    assert_eq!(count_of(&gateway, "tenant.frozen"), 1);
    let sent = sent(&gateway).len();
    assert!((5..5 + CALLERS).contains(&sent), "{sent} were sent");
}

#[test]
fn however_often_the_process_is_killed_no_more_is_deleted_than_the_budget_and_what_was_under_way() {
    const CALLERS: usize = 3;
    const BUDGET: usize = 60;
    let mut gateway = with_budget(60).start();
    let mut begun = 0;
    let mut kills = 0;
    loop {
        // Before the kill can come.
        let connections: Vec<_> = (0..CALLERS).map(|_| gateway.connect()).collect();
        let frozen = thread::scope(|scope| {
            let callers: Vec<_> = (0..)
                .zip(connections)
                .map(|(n, mut connection)| {
                    let gateway = &gateway;
                    let first = begun + n * 10;
                    scope.spawn(move || {
                        for credential in first..first + 10 {
                            let credential = format!("c{credential}");
                            let call = delete(USER, &credential, gateway.token_of("billing"));
                            match connection.send(call).try_receive() {
                                Some(response) if response.status == 403 => return true,
                                Some(_) => {}
                                None => return false,
                            }
                        }
                        false
                    })
                })
                .collect();
            // At another moment each time: while calls are under way.
            thread::sleep(Duration::from_millis(5 + 3 * kills));
            gateway.process.signal(rustix::process::Signal::KILL);
            callers.into_iter().any(|caller| caller.join().unwrap())
        });
        begun += CALLERS * 10;
        kills += 1;
        gateway.process.wait();
        gateway.start_again();
        if frozen {
            break;
        }
        assert!(begun < 900, "it is never frozen");
    }
    assert_frozen(&gateway, "billing");
    let sent: BTreeSet<_> = sent(&gateway).into_iter().collect();
    // What was recorded and not sent when the process died is in doubt, and counts.
    let spent = by_credential(&gateway.trail()).into_values();
    let is_spent =
        |ends: &Vec<String>| ends.iter().any(|end| end == "deleted" || end == "in-doubt");
    let spent = spent.filter(is_spent).count();
    let most = BUDGET + CALLERS - 1;
    assert!(
        (BUDGET..=most).contains(&spent),
        "{spent} are spent, {kills} kills"
    );
    assert!(
        sent.len() <= spent,
        "{} were sent, {spent} are spent",
        sent.len()
    );
    assert!(gateway.verify().is_intact());
}

#[test]
fn a_tenant_stays_frozen_through_reloads_and_when_it_is_taken_out_and_put_back() {
    let gateway = with_budget(2).start();
    let with = fs::read_to_string(gateway.config_path()).unwrap();
    let begins = with.find("  - name: billing").unwrap();
    let ends = with.find("  - name: other").unwrap();
    let without = format!("{}{}", &with[..begins], &with[ends..]);
    let reload = |text: &str| {
        gateway.edit_config(|_| text.to_owned());
        assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    };
    // What it spent counts on, too.
    assert_eq!(delete_of(&gateway, "billing", "c0").status, 200);
    reload(&without);
    assert_eq!(delete_of(&gateway, "billing", "c1").status, 401);
    // Until nobody holds the config any more in which it stood.
    thread::sleep(Duration::from_millis(2500));
    reload(&with);
    assert_eq!(delete_of(&gateway, "billing", "c1").status, 200);
    assert_frozen(&gateway, "billing");
    reload(&with.replace("deletions: 2", "deletions: 50"));
    assert_frozen(&gateway, "billing");
    reload(&without);
    reload(&with);
    assert_frozen(&gateway, "billing");
    // One that is not in the config can be thawed all the same.
    reload(&without);
    gateway.done("thaw", &["billing", "--reason", "it is gone"]);
    reload(&with);
    assert_eq!(delete_of(&gateway, "billing", "c2").status, 200);
}

#[test]
fn the_freeze_of_all_holds_for_tenants_that_come_later_and_leaves_others_as_they_were() {
    let mut gateway = with_budget(2).start();
    gateway.done("freeze", &["billing", "--reason", "a stolen token"]);
    gateway.done("freeze", &["--all", "--reason", "stop everything"]);
    let frozen = gateway.trail();
    let of_all = frozen
        .iter()
        .find(|record| record["scope"] == "all")
        .unwrap();
    assert!(of_all["tenant"].is_null(), "{of_all}");
    gateway.edit_config(|text| text.replace("name: other", "name: newcomer"));
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_frozen(&gateway, OTHER);
    gateway.kill();
    gateway.start_again();
    assert_frozen(&gateway, OTHER);
    assert_frozen(&gateway, "billing");
    // A tenant's own freeze ends, and it is still frozen with all.
    let said = gateway.done("thaw", &["billing", "--reason", "it was ours"]);
    assert!(said.contains("every tenant is still frozen"), "{said}");
    assert_frozen(&gateway, "billing");
    let logged = |what: &str| {
        gateway.process.wait_for(|line| line["message"] == what);
        let log = gateway.process.output();
        assert!(!log.contains("calls are taken again\""), "{log}");
    };
    logged("thawed; calls are still refused, since every tenant is frozen (thaw --all)");
    gateway.done("freeze", &["billing", "--reason", "it was not"]);
    let said = gateway.done("thaw", &["--all", "--reason", "it is over"]);
    assert!(said.contains("to be thawed by name: billing"), "{said}");
    assert_frozen(&gateway, "billing");
    logged(
        "thawed: calls are taken again, but not those of tenants that are frozen by themselves: billing",
    );
    assert_eq!(delete_of(&gateway, OTHER, "c1").status, 200);
    let twice = gateway.verb("thaw", &["--all", "--reason", "again"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(
        text(&twice.stderr).contains("not frozen as a whole"),
        "{twice:?}"
    );
    gateway.done("thaw", &["billing", "--reason", "it is over"]);
    let log = gateway.process.output();
    assert!(log.contains("\"thawed: calls are taken again\""), "{log}");
}

#[test]
fn a_frozen_tenant_is_frozen_for_another_reason_and_one_thaw_ends_it() {
    let mut gateway = with_budget(2).start();
    for reason in ["a stolen token", "an odd pattern"] {
        let said = gateway.done("freeze", &["billing", "--reason", reason]);
        assert_eq!(said, "billing: frozen\n");
    }
    let frozen: Vec<_> = gateway
        .trail()
        .into_iter()
        .filter(|record| record["event"] == "tenant.frozen")
        .collect();
    assert_eq!(frozen.len(), 2);
    assert_ne!(frozen[0]["freeze"], frozen[1]["freeze"]);
    // The last one is shown, also after a restart.
    gateway.kill();
    gateway.start_again();
    assert_frozen(&gateway, "billing");
    let status = gateway.admin_socket("GET", "/status").1;
    assert!(status.contains("an odd pattern"), "{status}");
    assert!(!status.contains("a stolen token"), "{status}");
    gateway.done("thaw", &["billing", "--reason", "both are explained"]);
    let thawed = gateway.record("thaw", |record| record["event"] == "tenant.thawed");
    assert_eq!(thawed["freeze"], frozen[1]["freeze"]);
    assert_eq!(delete_of(&gateway, "billing", "c0").status, 200);
    // And again, as often as need be: each thaw of it is a new budget, that of all is none.
    gateway.done("freeze", &["--all", "--reason", "a drill"]);
    gateway.done("thaw", &["--all", "--reason", "it is over"]);
    assert_eq!(delete_of(&gateway, "billing", "c1").status, 200);
    assert_frozen(&gateway, "billing");
    gateway.done("thaw", &["billing", "--reason", "a known clean-up"]);
    assert_eq!(delete_of(&gateway, "billing", "c2").status, 200);
    gateway.done("freeze", &["billing", "--reason", "once more"]);
    assert_frozen(&gateway, "billing");
    assert!(gateway.verify().is_intact());
}

#[test]
fn a_call_under_way_ends_as_it_does_and_one_that_waits_for_its_turn_is_refused() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &[
                "users: all",
                "wait: 20s",
                "limits: [ { requests: 1, per: 8s } ]",
            ],
        )
        .start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    thread::scope(|scope| {
        let sent = scope.spawn(|| gateway.delete(USER, "c0"));
        assert!(gateway.alloy.wait_for(1, Duration::from_secs(30)));
        let waits = scope.spawn(|| gateway.delete(USER, "c1"));
        while gateway.scrape().get("rate_limit_queue_depth") == 0.0 {
            assert!(!waits.is_finished(), "it did not wait for its turn");
            thread::sleep(Duration::from_millis(5));
        }
        gateway.done("freeze", &["billing", "--reason", "a drill"]);
        release.send(true).unwrap();
        assert_eq!(sent.join().unwrap().status, 200);
        assert_refusal(&waits.join().unwrap(), 403, "tenant-frozen", "no");
    });
    assert_eq!(gateway.alloy.received().len(), 1);
}

#[test]
fn a_call_that_is_still_connecting_when_its_tenant_is_frozen_is_not_sent() {
    let gateway = Setup::default()
        .workers(1)
        .upstream("connect_timeout: 20s")
        .tenant("billing", &["users: all"])
        .tenant(OTHER, &["users: all"])
        .start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.hold_handshakes(held);
    thread::scope(|scope| {
        let call = scope.spawn(|| delete_of(&gateway, "billing", "c0"));
        while gateway.alloy.connections() == 0 {
            assert!(!call.is_finished(), "it did not connect");
            thread::sleep(Duration::from_millis(5));
        }
        gateway.done("freeze", &["billing", "--reason", "a drill"]);
        release.send(true).unwrap();
        let refused = call.join().unwrap();
        assert_refusal(&refused, 403, "tenant-frozen", "no");
        let record = gateway.last_record_of(&refused);
        assert_eq!(
            [&record["event"], &record["outcome"], &record["sent"]],
            ["request.outcome", "failed", "no"]
        );
        assert_eq!(record["attempt_ends"], serde_json::json!(["frozen"]));
    });
    assert_eq!(gateway.alloy.received().len(), 0);
    // What came of it serves who may.
    assert_eq!(delete_of(&gateway, OTHER, "c1").status, 200);
    assert_eq!(gateway.alloy.connections(), 1);
}

#[test]
fn a_call_is_not_sent_again_once_its_tenant_is_frozen() {
    let gateway = Setup::default().tenant("billing", &["users: all"]).start();
    // Long enough for the freeze to come between the two attempts.
    let busy = Behaviour::answer(503, "Retry-After: 3\r\n", r#"{"error":"busy"}"#);
    gateway.alloy.script([busy]);
    thread::scope(|scope| {
        let call = scope.spawn(|| gateway.delete(USER, "c0"));
        assert!(gateway.alloy.wait_for(1, Duration::from_secs(30)));
        gateway.done("freeze", &["billing", "--reason", "a drill"]);
        assert_eq!(call.join().unwrap().status, 503);
    });
    assert_eq!(gateway.alloy.received().len(), 1);
}

#[test]
fn without_a_disk_a_freeze_takes_effect_at_once_and_a_thaw_does_not() {
    let mut gateway = with_budget(5).start();
    gateway.done("freeze", &[OTHER, "--reason", "before"]);
    let aside = gateway.path("aside");
    fs::rename(gateway.audit(), &aside).unwrap();
    assert_refusal(
        &delete_of(&gateway, "billing", "c0"),
        503,
        "audit-unavailable",
        "no",
    );
    let freeze = gateway.verb("freeze", &["billing", "--reason", "meanwhile"]);
    assert_eq!(freeze.status.code(), Some(1), "{freeze:?}");
    let said = text(&freeze.stderr);
    assert!(
        said.contains("billing: frozen, and not in the trail yet")
            && said.contains("let the gateway run until `alloy-gateway audit events` shows"),
        "{said}"
    );
    assert_frozen(&gateway, "billing");
    let thaw = gateway.verb("thaw", &[OTHER, "--reason", "meanwhile"]);
    assert_eq!(thaw.status.code(), Some(1), "{thaw:?}");
    assert!(text(&thaw.stderr).contains("other: not thawed"), "{thaw:?}");
    fs::rename(&aside, gateway.audit()).unwrap();
    gateway.record("freeze", |record| record["reason"] == "meanwhile");
    assert_eq!(count_of(&gateway, "tenant.thawed"), 0);
    gateway.kill();
    gateway.start_again();
    assert_frozen(&gateway, "billing");
    assert_frozen(&gateway, OTHER);
    gateway.done("thaw", &[OTHER, "--reason", "the disk is back"]);
    assert_eq!(delete_of(&gateway, OTHER, "c0").status, 200);
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let mut gateway = with_budget(2).start();
    let no = |verb_name: &str, args: &[&str]| {
        let output = gateway.verb(verb_name, args);
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (code, said) = no("freeze", &["biling", "--reason", "x"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("there is no tenant \"biling\", did you mean billing?"),
        "{said}"
    );
    let (code, said) = no("thaw", &["billing", "--reason", "x"]);
    assert_eq!(
        (code, said.as_str()),
        (1, "alloy-gateway: billing: not frozen\n")
    );
    for wrong in [
        &["billing"][..],
        &["--reason", "x"],
        &["billing", "--all", "--reason", "x"],
    ] {
        assert_eq!(no("freeze", wrong).0, 2, "{wrong:?}");
    }
    let (_, said) = no("freeze", &["--reason", "x"]);
    assert!(said.contains("<TENANT|--all>"), "{said}");
    let (code, said) = no("freeze", &["billing", "--reason", " "]);
    assert_eq!(code, 1);
    assert!(said.contains("the trail says why"), "{said}");
    assert_eq!(count_of(&gateway, "tenant.frozen"), 0);
    let (status, said) = gateway.admin_socket_with("POST", "/-/freeze", "{\"tenat\": \"billing\"}");
    assert_eq!(status, 400, "{said}");
    assert_eq!(
        gateway.admin_socket_with("POST", "/-/freeze", "billing").0,
        400
    );
    let token = gateway.token();
    for (field, value) in [
        ("reason", token.to_owned()),
        ("by", format!("who found {token}")),
    ] {
        let mut order = serde_json::json!({ "tenant": "billing", "reason": "leaked" });
        order[field] = value.into();
        for path in ["/-/freeze", "/-/thaw"] {
            let (status, said) = gateway.admin_socket_with("POST", path, &order.to_string());
            assert_eq!(status, 400, "{said}");
            assert!(
                said.contains("a token stands in it") && !said.contains(token),
                "{said}"
            );
        }
    }
    assert!(!gateway.trail_text().contains(token));
    assert!(!gateway.process.output().contains(token));
    // Over TCP nobody may without the admin token.
    let request = format!(
        "POST /-/freeze HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        gateway.admin
    );
    let over_tcp = crate::support::Connection::open(gateway.admin)
        .send(request)
        .receive();
    assert_eq!(over_tcp.status, 403);
    gateway.kill();
    let (code, said) = no_gateway(&gateway, "freeze");
    assert_eq!(code, 1);
    assert!(said.contains("no gateway listens on"), "{said}");
    fs::remove_file(gateway.path("admin.sock")).unwrap();
    let (code, said) = no_gateway(&gateway, "freeze");
    assert_eq!(code, 1);
    assert!(said.contains("there is no socket"), "{said}");
}

fn no_gateway(gateway: &Gateway, name: &str) -> (i32, String) {
    let output = gateway.verb(name, &["billing", "--reason", "x"]);
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn how_freeze_and_thaw_end_stands_in_their_help() {
    let gateway = with_budget(2).start();
    let freeze = gateway.done("freeze", &["--help"]);
    assert!(
        freeze.contains("Exit codes: 0 it is frozen") && freeze.contains("lost with the process"),
        "{freeze}"
    );
    assert!(freeze.contains("needs --by"), "{freeze}");
    let thaw = gateway.done("thaw", &["--help"]);
    assert!(thaw.contains("Exit codes: 0 it is thawed"), "{thaw}");
}

#[test]
fn a_budget_that_makes_no_sense_is_told_with_its_place() {
    let gateway = with_budget(2).start();
    for (wrong, said) in [
        (
            "{ deletions: 0, per: 1h }",
            "freeze_after.deletions: found 0, expected 1 to 100000",
        ),
        ("{ deletions: 2 }", "freeze_after.per: is missing"),
        ("{ deletions: 2, per: 10ms }", "freeze_after.per: "),
        ("{ deletion: 2, per: 1h }", "did you mean deletions?"),
        ("2", "freeze_after: "),
    ] {
        gateway.edit_config(|text| {
            let begins = text.find("freeze_after: ").unwrap() + "freeze_after: ".len();
            let ends = begins + text[begins..].find('\n').unwrap();
            format!("{}{wrong}{}", &text[..begins], &text[ends..])
        });
        let check = gateway.verb("check", &[]);
        assert_eq!(check.status.code(), Some(78), "{wrong}");
        assert!(
            text(&check.stderr).contains(said),
            "{wrong}: {}",
            text(&check.stderr)
        );
    }
}
