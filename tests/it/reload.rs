//! Another config while the gateway runs: whole or not at all, and no call lost.

mod unreadable;

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{simulated_alloy::Behaviour, token::NewToken};
use http_body_util::Full;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;

use crate::support::{
    CREDENTIAL, Connection, Gateway, Setup, USER, assert_refusal, binary, delete,
    gateway::{Process, audit_verb, secret},
    h2,
};

fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.admin("/status.json").text()).unwrap()
}

#[track_caller]
fn reload(gateway: &Gateway) {
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what} never came to be");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The config's line with the tokens of the first tenant, with another token.
fn with_token(text: &str, token: &NewToken) -> String {
    let digest = token.digest().to_hex();
    let line = text.lines().find(|line| line.contains("tokens:")).unwrap();
    text.replace(
        line,
        &format!("    tokens: [ {{ id: second, sha256: \"{digest}\" }} ]"),
    )
}

/// The connections to the store are those of the start; the next start needs its URL again.
#[test]
fn another_url_of_the_store_waits_for_a_restart_and_what_is_no_url_is_worth_a_warning() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 600, per: 60s, burst: 50 } ]")
        .file("redis-url", "redis://:one@127.0.0.1:1")
        .lines("limits_store: { redis: { url: { file: redis-url } }, replicas: 1 }\n")
        .audit("ship: { postgres: { url: { file: postgres-url } } }")
        .file(
            "postgres-url",
            "postgres://u:p@127.0.0.1:1/a?sslmode=disable",
        )
        .start();
    let load = |file: &str, text: &str| {
        secret(&gateway.path(file), text);
        gateway.admin_socket("POST", "/-/reload")
    };
    let waits = || status(&gateway)["config"]["needs_restart"].to_string();
    let (code, said) = load("redis-url", "redis://:one@127.0.0.1:1\n");
    assert_eq!(code, 200, "{said}");
    assert!(!waits().contains("limits_store"), "{}", waits());
    let (code, said) = load("redis-url", "redis://:two@127.0.0.1:1");
    assert_eq!(code, 200, "{said}");
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["field"] == "limits_store" && message.contains("only after a restart")
    });
    assert!(waits().contains("limits_store"), "{}", waits());
    for (file, field, good) in [
        (
            "redis-url",
            "limits_store.redis.url",
            "redis://:one@127.0.0.1:1",
        ),
        (
            "postgres-url",
            "audit.ship.postgres.url",
            "postgres://u:p@127.0.0.1:1/a?sslmode=disable",
        ),
    ] {
        let (code, said) = load(file, "s3cret://that is none");
        assert_eq!(code, 200, "{file}: {said}");
        assert!(said.contains(field) && !said.contains("s3cret"), "{said}");
        let (code, said) = load(file, good);
        assert_eq!(code, 200, "{said}");
        assert!(!said.contains(field), "{said}");
    }
}

#[test]
fn the_warnings_of_a_config_are_logged_in_the_words_of_check_and_told_to_who_loads_it() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 600, per: 60s, burst: 50 } ]")
        .start();
    let logged = |text: &str| {
        let output = gateway.process.output();
        let lines = output.lines().filter(|line| line.contains(text));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    reload(&gateway);
    let budget = "    freeze_after: { deletions: 100000, per: 1s }\n";
    gateway.edit_config(|text| {
        let line = text.lines().find(|line| line.contains("tokens:")).unwrap();
        let expired = line.replacen(" }", ", expires: 2026-01-01T00:00:00Z }", 1);
        text.replace(line, &format!("{expired}\n{}", budget.trim_end()))
    });
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
    let mut lines = said.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("loaded; ") && first.ends_with(':'),
        "{said}"
    );
    let checked = gateway.verb("check", &[]);
    let checked = String::from_utf8(checked.stderr).unwrap();
    let checked: Vec<_> = checked
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "))
        .collect();
    assert_eq!(lines.collect::<Vec<_>>(), checked);
    let expired = checked.iter().find(|line| line.contains("has passed"));
    let expired = expired.unwrap();
    assert!(expired.contains("config.yaml:"), "{expired}");
    let is_told = |line: &&str| line.contains("cannot be reached");
    assert!(checked.iter().any(is_told), "{checked:?}");
    gateway
        .process
        .wait_for(|line| line["message"] == **expired && line["level"] == "warn");
    assert_eq!(logged("has passed").len(), 1);
    // A config without the fault says nothing of it any more.
    gateway.edit_config(|text| {
        let text = text.replace(budget, "");
        text.replace(", expires: 2026-01-01T00:00:00Z", "")
    });
    assert_eq!(
        gateway.admin_socket("POST", "/-/reload"),
        (200, "loaded\n".to_owned())
    );
    assert_eq!(logged("has passed").len(), 1);
}

/// Its disk may not answer, and a revocation must not wait for that.
#[test]
fn a_reload_looks_at_the_directory_of_the_trail_only_if_the_config_names_another_one() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 600, per: 60s, burst: 50 } ]")
        .start();
    let open_to_all = || fs::Permissions::from_mode(0o777);
    fs::set_permissions(gateway.audit(), open_to_all()).unwrap();
    let checked = gateway.verb("check", &[]);
    let checked = String::from_utf8(checked.stderr).unwrap();
    assert!(
        checked.contains("audit.directory: others than"),
        "{checked}"
    );
    assert_eq!(
        gateway.admin_socket("POST", "/-/reload"),
        (200, "loaded\n".to_owned())
    );
    let other = gateway.audit().with_file_name("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, open_to_all()).unwrap();
    gateway.edit_config(|text| text.replace("  directory: audit\n", "  directory: other\n"));
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("audit.directory: others than"), "{said}");
}

#[test]
fn a_revoked_token_is_refused_by_the_next_call_on_every_open_connection() {
    let gateway = Setup::default().workers(2).start();
    let second = NewToken::generate().unwrap();
    let mut open: Vec<_> = (0..16).map(|_| gateway.connect()).collect();
    for (n, connection) in open.iter_mut().enumerate() {
        let call = delete(USER, &format!("c{n}"), gateway.token());
        assert_eq!(connection.send(call).receive().status, 200);
    }
    let mut streams = h2::Client::open(gateway.data);
    let call = |token: &str| h2::delete(USER, "c50", token).body(Full::default());
    let first = call(gateway.token()).unwrap();
    assert_eq!(streams.send(first).status, 200);
    gateway.edit_config(|text| with_token(&text, &second));
    reload(&gateway);
    let old = streams.send(call(gateway.token()).unwrap());
    assert_refusal(&old, 401, "unauthenticated", "no");
    for (n, connection) in open.iter_mut().enumerate() {
        let old = connection
            .send(delete(USER, "c99", gateway.token()))
            .receive();
        assert_refusal(&old, 401, "unauthenticated", "no");
        let new = delete(USER, &format!("c{}", 100 + n), second.reveal());
        assert_eq!(connection.send(new).receive().status, 200);
    }
    let record = gateway.record("config.loaded", |record| {
        record["event"] == "config.loaded"
            && record["by"].as_str().unwrap().starts_with("unix:uid=")
    });
    assert_eq!(record["config"], status(&gateway)["config"]["sha256"]);
}

#[test]
fn an_invalid_config_changes_nothing_and_is_told_everywhere() {
    let gateway = Gateway::start();
    let before = status(&gateway);
    gateway.edit_config(|text| text.replace("users: all", "usres: all") + "nonsense: 1\n");
    let (code, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(code, 400);
    assert!(
        said.contains("did you mean users") && said.contains("nonsense"),
        "{said}"
    );
    let now = status(&gateway);
    assert_eq!(now["config"]["sha256"], before["config"]["sha256"]);
    assert_eq!(now["config"]["last_load"]["succeeded"], false);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let metrics = gateway.admin("/metrics").text();
    for line in [
        "alloy_gateway_config_last_reload_successful 0",
        "alloy_gateway_config_reloads_total{result=\"failure\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let record = gateway.record("config.rejected", |record| {
        record["event"] == "config.rejected"
    });
    assert!(record["problems"].as_u64().unwrap() >= 2, "{record}");
    gateway.process.wait_for(|line| {
        line["problem"]
            .as_str()
            .is_some_and(|text| text.contains("usres"))
    });
}

#[test]
fn of_many_problems_of_a_refused_config_the_last_line_says_how_many_are_not_told() {
    let gateway = Gateway::start();
    gateway.edit_config(|text| {
        let keys: String = (0..30)
            .map(|n| format!("  k{n}:\n    secret: {{ file: missing }}\n"))
            .collect();
        text.replace("keys:\n", &format!("keys:\n{keys}"))
    });
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 400);
    let said = "so many more problems: 10; alloy-gateway check has them all";
    let line = gateway.process.wait_for(|line| line["message"] == said);
    assert_eq!(line["level"], "error");
}

/// The first 12 hex digits of the SHA-256 over those of some texts, a line for each.
fn digest_of(lists: &[&str]) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    let hex = |bytes: &[u8]| -> String {
        let sum = digest(&SHA256, bytes);
        sum.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let lines: String = lists
        .iter()
        .map(|list| hex(list.as_bytes()) + "\n")
        .collect();
    hex(lines.as_bytes())[..12].to_owned()
}

#[test]
fn two_lists_of_users_under_one_config_are_told_apart_in_trail_and_log() {
    let (one, two) = (format!("{USER}\n"), "u2\n");
    let mut gateway = Setup::default()
        .file("one.txt", one.clone())
        .file("two.txt", two)
        .tenant("billing", &["users: { file: one.txt }"])
        .tenant("listed", &["users: [ u1 ]"])
        .tenant("other", &["users: { file: two.txt }"])
        .start();
    let loaded = |gateway: &Gateway, by: &str| {
        gateway.record(by, |record| {
            record["event"] == "config.loaded" && record["by"] == by
        })
    };
    let first = loaded(&gateway, "start");
    assert_eq!(first["lists"], digest_of(&[&one, two]), "{first}");
    gateway
        .process
        .wait_for(|line| line["message"] == "ready" && line["config.lists"] == first["lists"]);
    // What only moves from one list to another is another, too.
    fs::write(gateway.path("one.txt"), format!("{one}{two}")).unwrap();
    fs::write(gateway.path("two.txt"), "").unwrap();
    gateway.process.signal(Signal::HUP);
    let second = loaded(&gateway, "SIGHUP");
    assert_eq!(second["lists"], digest_of(&[&(one + two), ""]), "{second}");
    assert_eq!(second["config"], first["config"]);
    gateway.process.wait_for(|line| {
        line["message"] == "config loaded" && line["config.lists"] == second["lists"]
    });
    // Every reader takes it.
    let events = audit_verb(gateway.audit(), "events", &[]);
    let events = String::from_utf8(events.stdout).unwrap();
    assert!(
        events.contains(second["lists"].as_str().unwrap()),
        "{events}"
    );
    for format in ["table", "json", "ocsf"] {
        let output = audit_verb(gateway.audit(), "query", &["-o", format]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    gateway.kill();
    gateway.start_again();
    assert!(gateway.verify().is_intact());
    // Without a file there is nothing to tell.
    gateway.edit_config(|text| {
        text.replace("users: { file: one.txt }", "users: all")
            .replace("users: { file: two.txt }", "users: all")
    });
    let (code, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(code, 200, "{said}");
    let third = gateway.record("the third", |record| {
        record["event"] == "config.loaded" && record["config"] != first["config"]
    });
    assert_eq!(third.get("lists"), None, "{third}");
}

#[test]
fn changed_files_are_seen_without_a_signal_and_half_written_ones_do_no_harm() {
    let gateway = Gateway::start();
    // A key that was rotated in its file, as a mounted secret is.
    secret(&gateway.path("key.new"), "another-key-0123456789");
    fs::rename(gateway.path("key.new"), gateway.path("api-key")).unwrap();
    wait_until("the new key", || {
        gateway.delete(USER, "c1");
        let last = gateway.alloy.received().last().unwrap().text();
        last.contains("another-key-0123456789")
    });
    // A config that is written bit by bit.
    let text = fs::read_to_string(gateway.config_path()).unwrap() + "\n# longer\n";
    for end in (0..=text.len()).step_by(text.len() / 15) {
        fs::write(gateway.config_path(), &text[..end]).unwrap();
        thread::sleep(Duration::from_millis(120));
    }
    fs::write(gateway.config_path(), &text).unwrap();
    let digest = {
        use aws_lc_rs::digest;
        let sum = digest::digest(&digest::SHA256, text.as_bytes());
        sum.as_ref()
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    wait_until("the whole config", || {
        status(&gateway)["config"]["sha256"] == digest
    });
    // Once for each time that it stood still, and never for a file that nobody changed.
    thread::sleep(Duration::from_secs(4));
    let loads = gateway.trail();
    let loads = loads.iter().filter(|record| record["by"] == "file");
    assert!(loads.count() <= 4, "{}", gateway.trail_text());
}

#[test]
fn a_mounted_set_of_files_that_is_swapped_as_kubernetes_does_is_loaded_whole() {
    let gateway = Gateway::start();
    let at = |name: &str| gateway.path(name);
    let second = NewToken::generate().unwrap();
    let old = fs::read_to_string(gateway.config_path()).unwrap();
    let new = with_token(&old, &second);
    // The mount as the kubelet lays it: files are links over a link to the set in use.
    for (set, config) in [("..set1", &old), ("..set2", &new)] {
        fs::create_dir(at(set)).unwrap();
        fs::write(at(set).join("config.yaml"), config).unwrap();
    }
    symlink("..set1", at("..data")).unwrap();
    symlink("..data/config.yaml", at("config.link")).unwrap();
    fs::rename(at("config.link"), gateway.config_path()).unwrap();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    symlink("..set2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..set1")).unwrap();
    wait_until("the revocation", || {
        gateway.delete(USER, "c2").status == 401
    });
    let response = gateway.send(delete(USER, "c3", second.reveal()));
    assert_eq!(response.status, 200);
}

#[test]
fn a_config_that_was_refused_for_a_missing_file_is_loaded_once_the_file_is_there() {
    let gateway = Gateway::start();
    gateway.edit_config(|text| text.replace("file: api-key", "file: other-key"));
    gateway.record("the refusal", |record| record["event"] == "config.rejected");
    secret(&gateway.path("other-key"), "another-key-0123456789");
    wait_until("the new key", || {
        gateway.delete(USER, "c1");
        let last = gateway.alloy.received().last().unwrap().text();
        last.contains("another-key-0123456789")
    });
    // And it is told once, not at each look.
    let refused = gateway.trail();
    let refused = refused.iter();
    let refused = refused.filter(|record| record["event"] == "config.rejected");
    assert_eq!(refused.count(), 1);
}

#[test]
fn a_tenant_that_is_taken_out_and_put_back_has_no_new_budget() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 2, per: 1d } ]"],
        )
        .tenant("other", &["users: all"])
        .start();
    let token = gateway.token_of("billing").to_owned();
    assert_eq!(gateway.send(delete(USER, "c1", &token)).status, 200);
    let whole = fs::read_to_string(gateway.config_path()).unwrap();
    let without = without_the_first(&whole, "billing", "other");
    gateway.edit_config(|_| without.clone());
    reload(&gateway);
    assert_eq!(gateway.send(delete(USER, "c2", &token)).status, 401);
    gateway.edit_config(|_| without + "\n");
    reload(&gateway);
    gateway.edit_config(|_| whole);
    reload(&gateway);
    assert_eq!(gateway.send(delete(USER, "c3", &token)).status, 200);
    assert_eq!(gateway.send(delete(USER, "c4", &token)).status, 429);
}

/// The config without this tenant, which is the first of the two that it has.
fn without_the_first(text: &str, first: &str, second: &str) -> String {
    let (head, rest) = text.split_once(&format!("  - name: {first}")).unwrap();
    let (_, tail) = rest.split_once(&format!("  - name: {second}")).unwrap();
    format!("{head}  - name: {second}{tail}")
}

#[test]
fn calls_under_way_count_against_the_bound_of_the_config_that_a_new_call_sees() {
    let gateway = Setup::default()
        .tenant("billing", &["users: all", "in_flight: 2"])
        .tenant("other", &["users: all"])
        .start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script(vec![Behaviour::Held(held); 2]);
    let token = gateway.token_of("billing").to_owned();
    let answer_to = |credential: &str| gateway.send(delete(USER, credential, &token));
    let is_refused = |credential: &str| {
        assert_refusal(&answer_to(credential), 503, "overloaded", "no");
    };
    let mut under_way: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for (n, connection) in under_way.iter_mut().enumerate() {
        connection.send(delete(USER, &format!("c{n}"), &token));
    }
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(20)));
    is_refused("c10");
    // A tenant that is put back is the one whose calls are still under way.
    let whole = fs::read_to_string(gateway.config_path()).unwrap();
    gateway.edit_config(|text| without_the_first(&text, "billing", "other"));
    reload(&gateway);
    gateway.edit_config(|_| whole);
    reload(&gateway);
    is_refused("c11");
    gateway.edit_config(|text| text.replace("in_flight: 2", "in_flight: 3"));
    reload(&gateway);
    assert_eq!(answer_to("c12").status, 200);
    gateway.edit_config(|text| text.replace("in_flight: 3", "in_flight: 1"));
    reload(&gateway);
    is_refused("c13");
    release.send(true).unwrap();
    for connection in &mut under_way {
        assert_eq!(connection.receive().status, 200);
    }
    assert_eq!(answer_to("c14").status, 200);
}

#[test]
fn tenants_with_the_same_limit_have_each_its_own_budget_and_so_has_one_that_comes_later() {
    let limit = ["users: all", "limits: [ { requests: 2, per: 1d } ]"];
    let gateway = Setup::default()
        .tenant("billing", &limit)
        .tenant("other", &limit)
        .start();
    let statuses = |tenant: &str, credentials: [&str; 3]| {
        let token = gateway.token_of(tenant);
        let status = |credential| gateway.send(delete(USER, credential, token)).status;
        credentials.map(status)
    };
    assert_eq!(statuses("billing", ["c1", "c2", "c3"]), [200, 200, 429]);
    let whole = fs::read_to_string(gateway.config_path()).unwrap();
    gateway.edit_config(|text| text.replace("name: other", "name: another"));
    reload(&gateway);
    assert_eq!(statuses("other", ["c4", "c5", "c6"]), [200, 200, 429]);
    gateway.edit_config(|_| whole);
    reload(&gateway);
    assert_eq!(statuses("other", ["c7", "c8", "c9"]), [200, 200, 429]);
    assert_eq!(statuses("billing", ["c10", "c11", "c12"]), [429; 3]);
}

#[test]
fn limits_that_did_not_change_keep_what_was_spent_over_any_number_of_reloads() {
    let gateway = Setup::default()
        .key_limits("[ { requests: 4, per: 1h } ]")
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 3, per: 1d } ]"],
        )
        .tenant("other", &["users: all"])
        .start();
    for credential in ["c1", "c2"] {
        assert_eq!(gateway.delete(USER, credential).status, 200);
    }
    for n in 0..10 {
        gateway.edit_config(|text| format!("{text}\n# {n}\n"));
        reload(&gateway);
    }
    gateway.process.signal(Signal::HUP);
    gateway.record("SIGHUP", |record| record["by"] == "SIGHUP");
    assert_eq!(gateway.delete(USER, "c3").status, 200);
    assert_eq!(gateway.delete(USER, "c4").status, 429);
    let other = gateway.token_of("other").to_owned();
    assert_eq!(gateway.send(delete(USER, "c5", &other)).status, 200);
    assert_eq!(gateway.send(delete(USER, "c6", &other)).status, 429);
}

#[test]
fn a_hundred_reloads_of_all_kinds_under_load_lose_no_call() {
    let gateway = Gateway::start();
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    let (stop, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (address, token) = (gateway.data, gateway.token().to_owned());
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let call = delete(USER, &format!("l{caller}-{n}"), &token);
                    let response = connection.send(call).receive();
                    assert_eq!(response.status, 200, "{}", response.text());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let good = fs::read_to_string(gateway.config_path()).unwrap();
    let many: String = (0..2000)
        .map(|n| format!("  - {{ name: t{n}, key: production, users: all, tokens: [ {{ id: a, sha256: \"{n:064x}\" }} ] }}\n"))
        .collect();
    for n in 0..100 {
        let text = match n % 5 {
            0 => good.clone() + &many,
            1 => good.replace("users: all", "users: nobody"),
            2 => good[..good.len() / 2].to_owned(),
            3 => good.replace("key: production", "key: absent"),
            _ => format!("{good}# {n}\n"),
        };
        gateway.edit_config(|_| text);
        let (status, _) = gateway.admin_socket("POST", "/-/reload");
        assert_eq!(
            status,
            if [1, 2, 3].contains(&(n % 5)) {
                400
            } else {
                200
            },
            "{n}"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 50);
}

#[test]
fn what_needs_a_restart_is_named() {
    let gateway = Gateway::start();
    gateway.edit_config(|text| {
        text.replace("workers: 2", "workers: 1")
            .replace("directory: audit", "directory: elsewhere")
    });
    let (code, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(
        (code, said.lines().next()),
        (
            200,
            Some("loaded; only after a restart: workers, audit; 1 warning:")
        )
    );
    assert_eq!(
        status(&gateway)["config"]["needs_restart"],
        serde_json::json!(["workers", "audit"])
    );
}

#[test]
fn another_key_of_the_trail_needs_a_restart() {
    let gateway = Setup::default()
        .file("mac-key", "0123456789abcdef0123456789abcdef")
        .audit("mac_key: { file: mac-key }")
        .start();
    reload(&gateway);
    secret(&gateway.path("mac-key"), "another89abcdef0123456789abcdef0");
    let (code, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(
        (code, said.lines().next()),
        (
            200,
            Some("loaded; only after a restart: audit.mac_key; 1 warning:")
        )
    );
}

/// They are read at the start alone: what changed in them is not in use.
#[test]
fn other_fields_and_authorities_of_the_next_start_are_named_and_what_it_could_not_read_is_told() {
    let [one, other] = ["one", "other"].map(authority);
    let gateway = Setup::default()
        .key_limits("[ { requests: 600, per: 60s, burst: 50 } ]")
        .file("redis-url", "rediss://:one@127.0.0.1:1")
        .file("redis-ca.pem", &one)
        .lines("limits_store: { redis: { url: { file: redis-url }, trust: { file: redis-ca.pem } }, replicas: 1 }\n")
        .file("otlp-token", "Bearer s3cret-one")
        .file("otlp-ca.pem", &one)
        .lines("otlp: { endpoint: \"https://127.0.0.1:1\", headers: { authorization: { file: otlp-token } }, trust: { file: otlp-ca.pem } }\n")
        .log("trace")
        .start();
    let loaded = || {
        let (code, said) = gateway.admin_socket("POST", "/-/reload");
        assert_eq!(code, 200, "{said}");
        let waits = status(&gateway)["config"]["needs_restart"].clone();
        (waits, said)
    };
    let none = serde_json::json!([]);
    assert_eq!(loaded().0, none);
    for (file, field, before, after) in [
        (
            "otlp-token",
            "otlp.headers",
            "Bearer s3cret-one\n",
            "Bearer s3cret-two",
        ),
        ("otlp-ca.pem", "otlp.trust", &*one, &*other),
        ("redis-ca.pem", "limits_store.redis.trust", &one, &other),
    ] {
        secret(&gateway.path(file), after);
        let (waits, said) = loaded();
        assert_eq!(waits, serde_json::json!([field]), "{said}");
        assert!(
            said.contains(&format!("only after a restart: {field}")),
            "{said}"
        );
        fs::remove_file(gateway.path(file)).unwrap();
        let (waits, said) = loaded();
        assert_eq!(waits, none, "what cannot be read is no other: {said}");
        assert!(said.contains(file), "{said}");
        assert!(
            said.contains("the next start needs it, and no reload"),
            "{said}"
        );
        secret(&gateway.path(file), before);
        let (waits, said) = loaded();
        assert_eq!(waits, none, "{said}");
        assert!(!said.contains(file), "{said}");
    }
    assert!(!gateway.process.output().contains("s3cret"));
}

/// The certificate of an authority, PEM.
fn authority(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn over_tcp_nothing_can_be_changed() {
    let gateway = Gateway::start();
    for path in ["/-/reload", "/-/drain"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            gateway.admin
        );
        let response = Connection::open(gateway.admin).send(request).receive();
        assert_eq!(response.status, 403, "{path}");
    }
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let (code, _) = gateway.admin_socket("POST", "/-/drain");
    assert_eq!(code, 200);
    assert_refusal(&gateway.delete(USER, "c2"), 503, "draining", "no");
    assert_eq!(gateway.admin("/readyz").status, 503);
    let record = gateway.record("admin.drain", |record| record["event"] == "admin.drain");
    assert!(record["by"].as_str().unwrap().starts_with("unix:uid="));
}

/// How the system gives processors to every thread of the gateway with this name.
fn policies_of(gateway: &Gateway, name: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.process.id())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            // proc(5): the name in parentheses is the second field, the policy the 41st.
            let (name_found, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            let policy = rest.split(' ').nth(38)?.parse().unwrap();
            name_found.starts_with(name).then_some(policy)
        })
        .collect()
}

/// sched(7).
const SCHED_IDLE: u32 = 5;

#[test]
fn a_long_config_is_loaded_in_spare_time_and_whatever_notices_it_is_not() {
    let gateway = Gateway::start();
    let many: String = (0..20_000)
        .map(|n| format!("  - {{ name: t{n}, key: production, users: all, tokens: [ {{ id: a, sha256: \"{n:064x}\" }} ] }}\n"))
        .collect();
    gateway.edit_config(|text| text + &many);
    let seen = thread::scope(|scope| {
        let reload = scope.spawn(|| reload(&gateway));
        let mut seen = Vec::new();
        while !reload.is_finished() {
            seen.extend(policies_of(&gateway, "config-load"));
        }
        reload.join().unwrap();
        seen
    });
    assert!(seen.contains(&SCHED_IDLE), "{seen:?}");
    for name in ["worker-", "config"] {
        let mut policies = policies_of(&gateway, name);
        // One is at it yet, if the poller reads the file, too.
        policies.retain(|policy| name == "worker-" || *policy != SCHED_IDLE);
        assert!(
            !policies.is_empty() && !policies.contains(&SCHED_IDLE),
            "{name}: {policies:?}"
        );
    }
}

#[test]
fn a_config_from_standard_input_is_read_once_and_what_it_names_again() {
    let mut gateway = Setup::default()
        .file("users.txt", format!("{USER}\n"))
        .tenant("billing", &["users: { file: users.txt }"])
        .start();
    gateway.edit_config(|text| {
        let line = text.lines().find(|line| line.contains("tokens:")).unwrap();
        let expiring = line.replacen(" ]", ", { id: old, sha256: \"0707070707070707070707070707070707070707070707070707070707070707\", expires: 2026-01-01T00:00:00Z } ]", 1);
        text.replace(line, &expiring)
    });
    gateway.stop();
    let mut command = Command::new(binary());
    command
        .args(["serve", "-"])
        .current_dir(gateway.path(""))
        .stdin(File::open(gateway.config_path()).unwrap());
    gateway.process = Process::run(command);
    (gateway.data, gateway.admin) = (
        gateway.process.listening("data"),
        gateway.process.listening("admin"),
    );
    let once = "the config came from standard input, which is read once: restart to change it";
    let (code, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(code, 200, "{said}");
    assert!(said.contains(&format!("-: {once}")), "{said}");
    let of_text = said.lines().find(|line| line.contains("has passed"));
    let of_text = of_text.unwrap_or_else(|| panic!("{said}"));
    let output = gateway.process.output();
    assert!(output.contains(of_text), "as at the start: {output}");
    gateway.process.signal(Signal::HUP);
    gateway.record("the hangup", |record| {
        record["event"] == "config.loaded" && record["by"] == "SIGHUP"
    });
    assert!(gateway.process.output().contains(once));
    // What it names is looked at as ever.
    fs::write(gateway.path("users.txt"), "nobody-else\n").unwrap();
    wait_until("the other list", || {
        gateway.delete(USER, CREDENTIAL).status == 403
    });
    let trail = gateway.trail();
    let refused = trail
        .iter()
        .any(|record| record["event"] == "config.rejected");
    assert!(!refused, "{}", gateway.trail_text());
}

/// Descriptors run out in a flood of connections, say; nobody touches the files again.
#[test]
fn a_revocation_that_could_not_be_read_at_first_takes_effect_once_it_can_be() {
    let gateway = Gateway::start();
    let second = NewToken::generate().unwrap();
    let open = gateway.delete(USER, "c1");
    assert_eq!(open.status, 200);
    let id = Pid::from_raw(i32::try_from(gateway.process.id()).unwrap());
    let few = Rlimit {
        current: Some(5),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(id, Resource::Nofile, few).unwrap();
    gateway.edit_config(|text| with_token(&text, &second));
    let is_unreadable = |line: &Value| {
        let problem = line["problem"].as_str();
        problem.is_some_and(|it| it.contains("Too many open files"))
    };
    gateway.process.wait_for(is_unreadable);
    // Longer than a file takes to settle.
    thread::sleep(Duration::from_secs(5));
    prlimit(id, Resource::Nofile, before).unwrap();
    wait_until("the revocation", || {
        gateway.delete(USER, "c1").status == 401
    });
    let told = gateway.process.output();
    let told = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    assert_eq!(told.filter(is_unreadable).count(), 1, "told once");
    let rejected = gateway.trail().into_iter();
    let rejected = rejected.filter(|record| record["event"] == "config.rejected");
    assert_eq!(rejected.count(), 1, "{}", gateway.trail_text());
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_holds_up_no_reload() {
    let gateway = Gateway::start();
    let pipe = |path: &Path| {
        fs::rename(path, path.with_extension("kept")).unwrap();
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let put_back = |path: &Path| fs::rename(path.with_extension("kept"), path).unwrap();
    let files = [gateway.path("api-key"), gateway.config_path()];
    for (path, credential) in files.into_iter().zip(["c1", "c2"]) {
        pipe(&path);
        let is_told = |line: &Value| {
            let problem = line["problem"].as_str().unwrap_or_default();
            let file = path.file_name().unwrap().to_str().unwrap();
            problem.contains("a pipe is read at a start alone") && problem.contains(file)
        };
        gateway.process.wait_for(is_told);
        let (status, said) = gateway.admin_socket("POST", "/-/reload");
        assert_eq!(status, 400);
        assert!(said.contains("it is no regular file"), "{said}");
        assert_eq!(gateway.delete(USER, credential).status, 200);
        put_back(&path);
        reload(&gateway);
    }
}
