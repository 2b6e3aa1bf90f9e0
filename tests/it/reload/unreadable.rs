//! What cannot be read, and loses no revocation.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use alloy_gateway::token::NewToken;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use super::{status, wait_until, with_token};
use crate::support::{Gateway, Setup, USER, delete, gateway::secret};

/// Changes the config so that another token takes the place of the first tenant's.
fn revoke(gateway: &Gateway) -> NewToken {
    let token = NewToken::generate().unwrap();
    gateway.edit_config(|text| with_token(&text, &token));
    token
}

#[track_caller]
fn wait_until_refused(gateway: &Gateway, token: &str) {
    wait_until("the revocation", || {
        gateway.send(delete(USER, "c1", token)).status == 401
    });
}

/// Puts a pipe into the place of a file, which is kept beside it, in one step.
fn put_pipe(path: &Path) {
    let pipe = path.with_extension("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    fs::copy(path, path.with_extension("kept")).unwrap();
    fs::rename(pipe, path).unwrap();
}

fn put_back(path: &Path) {
    fs::rename(path.with_extension("kept"), path).unwrap();
}

#[test]
fn what_only_the_next_start_reads_is_worth_a_warning_and_holds_up_no_revocation() {
    let key = KeyPair::generate().unwrap();
    let authority = CertificateParams::default().self_signed(&key).unwrap();
    let gateway = Setup::default()
        .lines("limits_store: { redis: { url: { file: redis-url }, trust: { file: redis-ca } }, replicas: 1 }\n")
        .audit("mac_key: { file: mac-key }")
        .audit("ship: { postgres: { url: { file: postgres-url } } }")
        .file("mac-key", "0123456789abcdef0123456789abcdef")
        .file("redis-url", "rediss://127.0.0.1:1")
        .file("redis-ca", authority.pem())
        .file("postgres-url", "postgres://u:p@127.0.0.1:1/a?sslmode=disable")
        .start();
    let mut token = gateway.token().to_owned();
    for (file, field) in [
        ("mac-key", "audit.mac_key.file"),
        ("redis-url", "limits_store.redis.url.file"),
        ("redis-ca", "limits_store.redis.trust.file"),
        ("postgres-url", "audit.ship.postgres.url.file"),
    ] {
        let file = gateway.path(file);
        put_pipe(&file);
        let next = revoke(&gateway);
        wait_until_refused(&gateway, &token);
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            let said = [field, "it is no regular file", "the next start needs it"];
            line["level"] == "warn" && said.iter().all(|said| message.contains(said))
        });
        // What it holds is not known, and so is not told to be another one.
        assert_eq!(
            status(&gateway)["config"]["needs_restart"],
            serde_json::json!([])
        );
        put_back(&file);
        token = next.reveal().to_owned();
    }
}

/// systemd's credentials do not change, so nobody watches them.
#[test]
fn a_credential_that_could_not_be_read_at_first_loses_no_revocation() {
    let directory = tempfile::tempdir().unwrap();
    let credential = directory.path().join("alloy-key");
    secret(&credential, "another-key-0123456789");
    let gateway = Setup::default()
        .env("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())
        .key("next: { credential: alloy-key }")
        .start();
    let aside = directory.path().join("aside");
    fs::rename(&credential, &aside).unwrap();
    revoke(&gateway);
    let is_refusal = |line: &Value| {
        let problem = line["problem"].as_str();
        problem.is_some_and(|it| it.contains("keys.production.next.credential: cannot read"))
    };
    gateway.process.wait_for(is_refusal);
    // Longer than a file takes to settle.
    thread::sleep(Duration::from_secs(5));
    assert_ne!(gateway.delete(USER, "c1").status, 401);
    fs::rename(&aside, &credential).unwrap();
    wait_until_refused(&gateway, gateway.token());
    let told = gateway.process.output();
    let told = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    assert_eq!(told.filter(is_refusal).count(), 1, "told once");
}

/// It is read anew for each connection.
#[test]
fn a_pipe_in_the_place_of_the_databases_url_is_told_and_waited_for_by_nobody() {
    let gateway = Setup::default()
        .audit("ship: { postgres: { url: { file: postgres-url } } }")
        .file(
            "postgres-url",
            "postgres://u:p@127.0.0.1:1/a?sslmode=disable",
        )
        .start();
    let is_told = |reason: &str, what: &str| {
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            line["reason"] == reason && message.contains(what)
        });
    };
    is_told("connect", "127.0.0.1:1");
    put_pipe(&gateway.path("postgres-url"));
    is_told("config", "it is no regular file");
}
