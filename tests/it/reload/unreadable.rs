//! What cannot be read, and loses no revocation.

use std::{fs, thread, time::Duration};

use alloy_gateway::token::NewToken;
use serde_json::Value;

use super::{wait_until, with_token};
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
