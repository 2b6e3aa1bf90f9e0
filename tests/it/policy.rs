//! `policy explain`: what would happen to a call, told from the config alone and
//! held against what the gateway then does.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{FOREIGN_USER, Gateway, Setup, USER, binary, client::delete};

fn explain(gateway: &Gateway, args: &[&str]) -> Output {
    Command::new(binary())
        .args(["policy", "explain", "-c"])
        .arg(gateway.config_path())
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(gateway: &Gateway, args: &[&str]) -> Value {
    let output = explain(gateway, &[args, &["-o", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_explained_is_what_the_gateway_does() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("users.txt");
    std::fs::write(&list, format!("{USER}\n")).unwrap();
    let gateway = Setup::default()
        .tenant("all", &["users: all"])
        .tenant("suspended", &["users: all", "mode: suspended"])
        .tenant("listed", &[&format!("users: [ {USER} ]")])
        .tenant(
            "filed",
            &[&format!("users: {{ file: {} }}", list.display())],
        )
        .tenant("dry", &["users: all", "mode: dry_run"])
        .start();
    let cases = [
        ("all", USER, "c1"),
        ("all", "..", "c1"),
        ("all", USER, "a%2fb"),
        ("suspended", USER, "c2"),
        ("suspended", "a;b", "c2"),
        ("listed", USER, "c3"),
        ("listed", FOREIGN_USER, "c3"),
        ("filed", USER, "c4"),
        ("filed", FOREIGN_USER, "c4"),
        ("dry", USER, "c5"),
    ];
    for (tenant, user, credential) in cases {
        let args = ["--token-id", "first", "--tenant", tenant, "--user", user];
        let told = json(
            &gateway,
            &[&args[..], &["--credential", credential]].concat(),
        );
        let answer = gateway.send(delete(user, credential, gateway.token_of(tenant)));
        let what = format!("{tenant} {user} {credential}: {told}");
        assert_eq!(told["answer"]["sent"], answer.status == 200, "{what}");
        if answer.status != 200 {
            assert_eq!(told["answer"]["status"], answer.status, "{what}");
            assert_eq!(told["answer"]["code"], answer.json()["code"], "{what}");
        }
    }
}

#[test]
fn it_says_why_in_words_with_the_ceilings_and_without_a_secret() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 50, per: 60s } ]")
        .tenant(
            "billing",
            &[
                &format!("users: [ {USER} ]"),
                "limits: [ { requests: 10, per: 1s, burst: 20 } ]",
                "freeze_after: { deletions: 200, per: 1h }",
            ],
        )
        .start();
    let output = explain(&gateway, &["--token-id", "first", "--user", USER]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    for part in [
        "tenant      billing",
        "token       first: valid, does not expire",
        "allowed (on the list of 1 in the config)",
        "key         production",
        "tenant-1s: at most 30 in any 1s, 20 at once",
        "key-60s: at most 100 in any 1m, 50 at once; shared by all tenants of the key",
        "frozen      after 200 different credentials within 1h",
        "answer      sent to localhost:",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(!said.contains(crate::support::KEY), "{said}");
    let said = text(&explain(&gateway, &["--token-id", "first", "--user", "a b"]).stdout);
    assert!(
        said.contains("expected 1 to 128 of A-Z a-z 0-9 . _ ~ -"),
        "{said}"
    );
    assert!(said.contains("400 invalid-path"), "{said}");
}

#[test]
fn a_fleets_limits_are_told_with_what_all_gateways_can_come_to() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 50, per: 60s } ]")
        .file("redis-url", "redis://127.0.0.1:1")
        .lines("limits_store: { redis: { url: { file: redis-url } }, replicas: 3 }\n")
        .start();
    let output = explain(&gateway, &["--token-id", "first", "--user", USER]);
    let said = text(&output.stdout);
    // As `check` says of the same limit.
    let limit = "key-60s: at most 100 in any 1m, 50 at once; shared by all tenants of the key; over all gateways, and at most 196 while only some see the store";
    assert!(said.contains(limit), "{said}");
    let told = json(&gateway, &["--token-id", "first", "--user", USER]);
    assert_eq!(told["limits"][0]["ceiling"], 100);
    assert_eq!(told["limits"][0]["ceiling_while_some_see_the_store"], 196);
}

#[test]
fn a_token_that_is_not_valid_now_is_told_of_with_its_time() {
    let sum = "aa".repeat(32);
    let old =
        format!("tokens: [ {{ id: old, sha256: \"{sum}\", expires: 2020-01-01T00:00:00Z }} ]");
    let sum = "bb".repeat(32);
    let new =
        format!("tokens: [ {{ id: new, sha256: \"{sum}\", not_before: 2120-01-01T00:00:00Z }} ]");
    let gateway = Setup::default()
        .tenant("a", &["users: all", &old])
        .tenant("b", &["users: all", &new])
        .start();
    for (id, why) in [
        ("old", "expired at 2020-01-01T00:00:00Z"),
        ("new", "not valid before 2120-01-01T00:00:00Z"),
    ] {
        let told = json(&gateway, &["--token-id", id, "--user", USER]);
        assert_eq!(told["token"]["because"], why);
        assert_eq!(told["answer"]["status"], 401);
        assert_eq!(told["answer"]["code"], "unauthenticated");
    }
}

#[test]
fn an_id_of_several_tokens_or_of_none_is_an_error_that_names_the_way_on() {
    let gateway = Setup::default()
        .tenant("billing", &["users: all"])
        .tenant("crm", &["users: all"])
        .start();
    for (args, said) in [
        (
            &["--token-id", "first"][..],
            "several tenants have a token of this id: billing, crm",
        ),
        (
            &["--token-id", "frist"],
            "no token has the id \"frist\", did you mean first?",
        ),
        (
            &["--token-id", "first", "--tenant", "biling"],
            "there is no tenant \"biling\", did you mean billing?",
        ),
    ] {
        let output = explain(&gateway, &[args, &["--user", USER]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(said),
            "{}",
            text(&output.stderr)
        );
    }
    let told = json(
        &gateway,
        &["--token-id", "first", "--tenant", "crm", "--user", USER],
    );
    assert_eq!(told["tenant"], "crm");
}
