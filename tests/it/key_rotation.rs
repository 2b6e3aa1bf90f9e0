//! The Alloy key changes while calls come in.

use std::{thread, time::Duration};

use alloy_gateway::{secret::ApiKey, simulated_alloy::Behaviour};

use serde_json::Value;

use crate::support::{Gateway, KEY, Setup, USER, assert_refusal, gateway::secret};

const OLD: &str = "an-old-key-0123456789";

/// A gateway whose key Alloy no longer knows, and whose next one it does.
fn with_next() -> Gateway {
    Setup::default()
        .file("api-key", OLD)
        .file("next-key", KEY)
        .key("next: { file: next-key }")
        .start()
}

fn concerns(gateway: &Gateway) -> Vec<String> {
    let status: Value = serde_json::from_str(&gateway.admin("/status.json").text()).unwrap();
    let concerns = status["concerns"].as_array().unwrap();
    let words = concerns.iter().map(|concern| concern.as_str().unwrap());
    words.map(ToOwned::to_owned).collect()
}

fn authorizations(gateway: &Gateway) -> Vec<String> {
    let received = gateway.alloy.received();
    let line = |text: String| {
        let mut lines = text.lines().map(ToOwned::to_owned);
        lines
            .find(|line| line.starts_with("authorization"))
            .unwrap()
    };
    received
        .iter()
        .map(|request| line(request.text()))
        .collect()
}

#[test]
fn an_unusual_share_of_404s_is_told_once_with_its_likely_cause_and_so_is_its_end() {
    let gateway = Gateway::start();
    let told = |text: &str| gateway.process.output().matches(text).count();
    let flag = || {
        let metrics = gateway.admin("/metrics").text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("alloy_gateway_upstream_key_unusual_404s{"));
        line.unwrap().to_owned()
    };
    assert!(flag().ends_with(" 0"), "{}", flag());
    for n in 0..60 {
        assert_eq!(gateway.delete(USER, &format!("gone-{n}")).status, 404);
    }
    let warning = gateway.process.wait_for(|line| line["key"] == "production");
    assert_eq!(warning["level"], "warn");
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.contains("key of the wrong environment"),
        "{message}"
    );
    assert_eq!(told("key of the wrong environment"), 1);
    assert!(flag().ends_with(" 1"), "{}", flag());
    let concern = concerns(&gateway).join("\n");
    let fingerprint = warning["fingerprint"].as_str().unwrap();
    assert!(concern.starts_with("More than half of the last answers to key production"));
    assert!(
        concern.contains(fingerprint) && !concern.contains('\n'),
        "{concern}"
    );
    for n in 0..20 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    gateway
        .process
        .wait_for(|line| line["level"] == "info" && line["key"] == "production");
    assert!(flag().ends_with(" 0"), "{}", flag());
    assert_eq!(concerns(&gateway), [] as [String; 0]);
}

#[test]
fn a_key_that_alloy_refuses_is_a_concern_until_another_is_in_use() {
    let gateway = Setup::default().file("api-key", OLD).start();
    assert_eq!(concerns(&gateway), [] as [String; 0]);
    assert_eq!(gateway.delete(USER, "c1").status, 502);
    let fingerprint = |key: &str| {
        let key = ApiKey::new(key.as_bytes()).unwrap();
        key.fingerprint()
    };
    let refused = format!(
        "Alloy refuses key production (fingerprint {}): nothing is deleted with it.",
        fingerprint(OLD)
    );
    assert_eq!(concerns(&gateway), std::slice::from_ref(&refused));
    // A reload that leaves the key as it is knows no better.
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(concerns(&gateway), [refused]);
    secret(&gateway.path("api-key"), KEY);
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(concerns(&gateway), [] as [String; 0]);
    let (_, config) = gateway.admin_socket("GET", "/config");
    let in_use = format!(
        "# key production in use: fingerprint {}\n",
        fingerprint(KEY)
    );
    assert!(config.contains(&in_use), "{config}");
    assert!(gateway.admin("/status").text().contains(&fingerprint(KEY)));
}

#[test]
fn a_refused_key_is_followed_by_the_next_one_within_the_same_call() {
    let gateway = with_next();
    let response = gateway.delete(USER, "c1");
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(
        authorizations(&gateway),
        [
            format!("authorization: bearer {OLD}"),
            format!("authorization: bearer {KEY}")
        ]
    );
    let outcome = gateway.last_record_of(&response);
    assert_eq!(outcome["outcome"], "deleted");
    assert_eq!(outcome["attempt_ends"], serde_json::json!(["401", "200"]));
    let rotated = gateway.record("key.rotated", |record| record["event"] == "key.rotated");
    assert_eq!(
        (&rotated["key"], &rotated["by"]),
        (&"production".into(), &"upstream-401".into())
    );
    assert_ne!(rotated["from"], rotated["to"]);
    // From then on it is the key, on every worker, and a reload does not go back.
    gateway.edit_config(|text| text + "\n# changed\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    for n in 2..10 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    assert_eq!(authorizations(&gateway).len(), 10);
    // The rotation is over when the next key is the only one.
    secret(&gateway.path("api-key"), KEY);
    gateway.edit_config(|text| text.replace("    next: { file: next-key }\n", ""));
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(gateway.delete(USER, "c20").status, 200);
}

#[test]
fn a_key_that_is_replaced_through_its_file_is_recorded_before_any_call_with_it() {
    let gateway = Setup::default().file("api-key", OLD).start();
    let rotations = || {
        let is_one = |record: &Value| record["event"] == "key.rotated";
        gateway.trail().into_iter().filter(is_one).count()
    };
    assert_eq!(gateway.delete(USER, "c1").status, 502);
    // Neither the start nor a reload that leaves the key as it is says so.
    secret(&gateway.path("next-key"), "a-key-for-later-0123");
    gateway.edit_config(|text| {
        let secret = "    secret: { file: api-key }\n";
        assert!(text.contains(secret), "{text}");
        text.replace(secret, &format!("{secret}    next: {{ file: next-key }}\n"))
    });
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    secret(&gateway.path("next-key"), "another-key-for-later-0123");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(rotations(), 0);
    secret(&gateway.path("api-key"), KEY);
    let rotated = gateway.record("key.rotated", |record| record["event"] == "key.rotated");
    assert_eq!(
        (&rotated["key"], &rotated["by"]),
        (&"production".into(), &"file".into())
    );
    let response = gateway.delete(USER, "c1");
    assert_eq!(response.status, 200, "{}", response.text());
    let outcome = gateway.last_record_of(&response);
    assert!(outcome["intent"].as_u64() > rotated["seq"].as_u64());
    secret(&gateway.path("api-key"), OLD);
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    let back = gateway.record("the way back", |record| record["from"] == rotated["to"]);
    assert_eq!(back["to"], rotated["from"]);
    assert!(back["by"].as_str().unwrap().starts_with("unix:uid="));
    assert_eq!(rotations(), 2);
}

#[test]
fn if_the_next_key_is_refused_too_the_call_fails_after_two_attempts() {
    let gateway = Setup::default()
        .file("api-key", OLD)
        .file("next-key", "another-bad-key-0123")
        .key("next: { file: next-key }")
        .start();
    let response = gateway.delete(USER, "c1");
    assert_refusal(&response, 502, "upstream-rejected-key", "yes");
    assert_eq!(gateway.alloy.received().len(), 2);
    assert_eq!(gateway.delete(USER, "c1").status, 502);
    assert_eq!(gateway.alloy.received().len(), 3);
    assert_eq!(gateway.last_record_of(&response)["outcome"], "not-deleted");
}

#[test]
fn a_changed_secret_is_tried_first_although_the_next_key_is_in_use() {
    let gateway = Setup::default()
        .file("api-key", OLD)
        .file("next-key", "another-bad-key-0123")
        .key("next: { file: next-key }")
        .start();
    let refused = gateway.delete(USER, "c1");
    assert_refusal(&refused, 502, "upstream-rejected-key", "yes");
    let moved = gateway.record("the move", |record| record["event"] == "key.rotated");
    secret(&gateway.path("api-key"), KEY);
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let back = gateway.record("the changed key", |record| record["from"] == moved["to"]);
    assert_eq!(
        (&back["event"], &back["key"]),
        (&"key.rotated".into(), &"production".into())
    );
    assert_ne!(back["to"], moved["from"]);
    assert_eq!(authorizations(&gateway).len(), 3);
    // It is the first of two again: a 401 to it moves on within the call.
    secret(&gateway.path("next-key"), KEY);
    secret(&gateway.path("api-key"), "a-third-bad-key-0123");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    assert_eq!(authorizations(&gateway).len(), 5);
}

#[test]
fn a_next_key_that_does_not_work_is_left_once_its_file_is_replaced_or_it_is_taken_out() {
    let next = "    next: { file: next-key }\n";
    let replaced = |gateway: &Gateway| secret(&gateway.path("next-key"), "a-key-for-later-0123");
    let taken_out = |gateway: &Gateway| gateway.edit_config(|text| text.replace(next, ""));
    for leave in [&replaced as &dyn Fn(&Gateway), &taken_out] {
        let gateway = Setup::default()
            .file("next-key", "a-bad-key-01234567")
            .key("next: { file: next-key }")
            .start();
        // Alloy refused the good key once, and takes it again.
        gateway.alloy.script([Behaviour::answer(401, "", "{}")]);
        for _ in 0..2 {
            let refused = gateway.delete(USER, "c1");
            assert_refusal(&refused, 502, "upstream-rejected-key", "yes");
            assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
        }
        let (status, said) = gateway.admin_socket("POST", "/-/rotate-key/production");
        assert_eq!(status, 409);
        assert!(
            said.contains("replace the file of next, or take next out"),
            "{said}"
        );
        leave(&gateway);
        assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
        assert_eq!(gateway.delete(USER, "c1").status, 200);
    }
}

#[test]
fn a_next_key_that_is_the_same_is_none_to_move_on_to() {
    let gateway = Setup::default()
        .file("api-key", OLD)
        .file("next-key", OLD)
        .key("next: { file: next-key }")
        .start();
    let refused = gateway.delete(USER, "c1");
    assert_refusal(&refused, 502, "upstream-rejected-key", "yes");
    assert_eq!(gateway.alloy.received().len(), 1);
    let rotate = gateway.admin_socket("POST", "/-/rotate-key/production");
    assert_eq!(rotate.0, 409, "{}", rotate.1);
    let is_one = |record: &Value| record["event"] == "key.rotated";
    assert!(!gateway.trail().iter().any(is_one));
}

/// That the old key was refused is no news by then: the new one is in use.
#[test]
fn how_the_call_ended_with_the_next_key_is_what_the_caller_hears() {
    let gateway = Setup::default()
        .upstream("request_timeout: 3s")
        .file("api-key", OLD)
        .file("next-key", KEY)
        .key("next: { file: next-key }")
        .start();
    gateway.alloy.script([
        Behaviour::answer(401, "", "{}"),
        Behaviour::Stall(Duration::from_secs(60)),
    ]);
    let response = gateway.delete(USER, "c1");
    assert_refusal(&response, 504, "upstream-timeout", "yes");
    let outcome = gateway.last_record_of(&response);
    assert_eq!(outcome["outcome"], "in-doubt");
    assert_eq!(
        outcome["attempt_ends"],
        serde_json::json!(["401", "timeout"])
    );
}

#[test]
fn a_401_after_a_doubt_is_no_clean_refusal_and_nothing_is_sent_again() {
    let gateway = with_next();
    gateway
        .alloy
        .script([Behaviour::Reset, Behaviour::answer(401, "", "{}")]);
    let response = gateway.delete(USER, "c1");
    assert_refusal(&response, 502, "upstream-rejected-key", "yes");
    assert_eq!(gateway.last_record_of(&response)["outcome"], "in-doubt");
    assert_eq!(gateway.alloy.received().len(), 2);
}

#[test]
fn an_operator_can_move_to_the_next_key() {
    let gateway = with_next();
    let (status, said) = gateway.admin_socket("POST", "/-/rotate-key/production");
    assert_eq!(status, 200, "{said}");
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_eq!(
        authorizations(&gateway),
        [format!("authorization: bearer {KEY}")]
    );
    assert_eq!(
        gateway.admin_socket("POST", "/-/rotate-key/production").0,
        409
    );
    assert_eq!(gateway.admin_socket("POST", "/-/rotate-key/absent").0, 404);
    let rotated = gateway.record("key.rotated", |record| record["event"] == "key.rotated");
    assert!(rotated["by"].as_str().unwrap().starts_with("unix:uid="));
}

#[test]
fn a_refusal_that_comes_after_the_move_is_told_of_the_key_that_was_refused() {
    let gateway = with_next();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let answers = thread::scope(|scope| {
        let late = scope.spawn(|| gateway.delete(USER, "c1"));
        assert!(gateway.alloy.wait_for(1, Duration::from_secs(30)));
        // Moved by another call, while this one waits for its 401.
        let other = gateway.delete(USER, "c2");
        release.send(true).unwrap();
        [other, late.join().unwrap()]
    });
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let rotated = gateway.record("key.rotated", |record| record["event"] == "key.rotated");
    // What is told of a call comes before the line of the call itself.
    for answer in &answers {
        let id = answer.field("x-request-id").unwrap();
        gateway
            .process
            .wait_for(|line| line["request.id"] == id && line["message"] == "request");
    }
    let output = gateway.process.output();
    let told = output
        .lines()
        .filter(|line| line.contains("the upstream refused the key: "))
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["fingerprint"].clone())
        .collect::<Vec<_>>();
    assert_eq!(told, [rotated["from"].clone(), rotated["from"].clone()]);
}

#[test]
fn a_refusal_that_comes_after_a_reload_moves_the_gateway_as_before_it() {
    let gateway = with_next();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let late = thread::scope(|scope| {
        let late = scope.spawn(|| gateway.delete(USER, "c1"));
        assert!(gateway.alloy.wait_for(1, Duration::from_secs(30)));
        // Another config that has the same keys.
        gateway.edit_config(|text| text + "# edited\n");
        let (status, said) = gateway.admin_socket("POST", "/-/reload");
        assert_eq!(status, 200, "{said}");
        release.send(true).unwrap();
        late.join().unwrap()
    });
    assert_eq!(late.status, 200, "{}", late.text());
    let metrics = gateway.admin("/metrics").text();
    for line in [
        "alloy_gateway_upstream_key_moved_on{key=\"production\"} 1\n",
        "alloy_gateway_upstream_key_refusals_total{key=\"production\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    assert_eq!(authorizations(&gateway).len(), 3);
    let is_one = |record: &&Value| record["event"] == "key.rotated";
    assert_eq!(gateway.trail().iter().filter(is_one).count(), 1);
}

#[test]
fn an_answer_that_holds_either_key_is_not_passed_on() {
    let gateway = with_next();
    for key in [OLD, KEY] {
        gateway.alloy.script([Behaviour::answer(
            200,
            "",
            &format!("{{\"success\":true,\"x\":\"{key}\"}}"),
        )]);
        assert_refusal(&gateway.delete(USER, "c1"), 502, "upstream-protocol", "yes");
    }
}

#[test]
fn without_retries_the_next_key_is_used_from_the_next_call_on() {
    let gateway = Setup::default()
        .file("api-key", OLD)
        .file("next-key", KEY)
        .key("next: { file: next-key }")
        .upstream("retries: 0")
        .start();
    let refused = gateway.delete(USER, "c1");
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert_eq!(refused.json()["code"], "upstream-rejected-key");
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_eq!(authorizations(&gateway).len(), 2);
    gateway.record("the move", |record| record["event"] == "key.rotated");
}
