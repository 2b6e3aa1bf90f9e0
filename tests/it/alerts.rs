//! The alerts fire from what the real binary exports: it is brought into each
//! state, and Prometheus' own rule engine gets what it said before and then.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use alloy_gateway::simulated_alloy::Behaviour;
use jiff::{SignedDuration, Timestamp};

use crate::{
    certificates,
    support::{FOREIGN_USER, Gateway, KEY, Setup, USER, metrics::Scrape, or_skipped},
};

/// The minute at which all that is to fire has fired.
const LATE: u32 = 40;

/// Which alerts fire if a gateway says `before`, and from the next minute on `then`.
/// `None` where there is no promtool; `.ci/run` installs it.
fn fires(alert: &str, before: &Scrape, then: &Scrape) -> Option<bool> {
    let directory = tempfile::tempdir().unwrap();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yaml");
    let mut test = format!(
        "rule_files: [ {} ]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n      - {{ series: 'up{{job=\"alloy-gateway\",instance=\"a\"}}', values: '1x60' }}\n",
        rules.display()
    );
    // The engine's clock begins at 0: what is a time must too.
    let now = Timestamp::now().as_second() as f64;
    let shifted = |(series, value): (&str, f64)| {
        let is_time = series.contains("_timestamp_seconds");
        (series.to_owned(), if is_time { value - now } else { value })
    };
    let before: BTreeMap<_, _> = before.series().map(shifted).collect();
    for (series, value) in then.series().map(shifted) {
        let first = before
            .get(&series)
            .map_or("_".to_owned(), ToString::to_string);
        let _ = writeln!(
            test,
            "      - {{ series: '{series}', values: '{first} {value}x60' }}"
        );
    }
    // At any time: an alert on an increase ends again.
    let fired =
        format!("count_over_time(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}[60m])");
    let expression = format!("clamp_max(sum({fired}), 1) or vector(0)");
    let _ = writeln!(
        test,
        "    promql_expr_test:\n      - expr: '{expression}'\n        eval_time: {LATE}m\n        exp_samples: [ {{ value: 1 }} ]"
    );
    let path = directory.path().join("test.yaml");
    fs::write(&path, test).unwrap();
    let ran = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&path)
        .output();
    let ran = or_skipped(ran.ok(), "promtool")?;
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    let has_judged = ran.status.success() || said.contains("got:");
    assert!(has_judged, "{said}");
    Some(ran.status.success())
}

/// It fires if the gateway came to `then`, and did not while it was as `before`.
#[track_caller]
fn assert_fires(alert: &str, before: &Scrape, then: &Scrape) {
    let (Some(healthy), Some(now)) = (fires(alert, before, before), fires(alert, before, then))
    else {
        return;
    };
    assert!(!healthy, "{alert} fires although nothing is wrong");
    assert!(now, "{alert} does not fire from\n{}", then.text());
}

#[test]
fn a_trail_that_cannot_be_written_pages() {
    let gateway = Gateway::start();
    let before = gateway.scrape();
    fs::remove_dir_all(gateway.audit()).unwrap();
    assert_eq!(gateway.delete(USER, "c1").status, 503);
    let then = gateway.scrape();
    assert_eq!(
        then.get("audit_unwritable{cause=\"directory-removed\"}"),
        1.0
    );
    assert!(then.sum("audit_errors_total") > 0.0);
    assert_fires("AlloyGatewayAuditWriteFailing", &before, &then);
}

#[test]
fn a_gateway_that_was_drained_and_forgotten_is_told() {
    let gateway = Gateway::start();
    let before = gateway.scrape();
    assert_eq!(gateway.admin_socket("POST", "/-/drain").0, 200);
    let then = gateway.scrape();
    assert_eq!(then.get("ready"), 0.0);
    assert_fires("AlloyGatewayNotReady", &before, &then);
}

#[test]
fn a_trail_that_did_not_verify_at_the_start_pages() {
    let mut gateway = Gateway::start();
    let before = gateway.scrape();
    assert_eq!(before.get("audit_verified"), 1.0);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert!(gateway.stop().success());
    let mut segments = fs::read_dir(gateway.audit()).unwrap();
    let segment = segments.find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension()
            .is_some_and(|it| it == "jsonl")
            .then_some(path)
    });
    let segment = segment.unwrap();
    let text = fs::read_to_string(&segment).unwrap();
    assert!(text.contains(USER));
    fs::write(&segment, text.replace(USER, FOREIGN_USER)).unwrap();
    gateway.start_again();
    let then = gateway.scrape();
    assert_eq!(then.get("audit_verified"), 0.0);
    let status = gateway.admin("/status.json").text();
    assert!(
        status.contains("The trail did not verify when this gateway started"),
        "{status}"
    );
    assert_fires("AlloyGatewayAuditNotVerified", &before, &then);
}

#[test]
fn a_key_that_alloy_refuses_pages() {
    let gateway = Setup::default()
        .file("api-key", "a-key-that-alloy-does-not-know")
        .start();
    let before = gateway.scrape();
    assert_eq!(gateway.delete(USER, "c1").status, 502);
    assert_fires(
        "AlloyGatewayUpstreamKeyRejected",
        &before,
        &gateway.scrape(),
    );
}

#[test]
fn a_rotation_to_the_next_key_pages_nobody_and_tells_that_the_old_one_can_go() {
    let gateway = Setup::default()
        .file("api-key", "a-key-that-alloy-does-not-know")
        .file("next-key", KEY)
        .key("next: { file: next-key }")
        .start();
    let before = gateway.scrape();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let then = gateway.scrape();
    assert_eq!(
        then.get("upstream_key_refusals_total{key=\"production\"}"),
        1.0
    );
    let pages = fires("AlloyGatewayUpstreamKeyRejected", &before, &then);
    assert_ne!(pages, Some(true));
    assert_fires("AlloyGatewayUpstreamKeyMovedOn", &before, &then);
}

#[test]
fn a_config_that_is_refused_is_told() {
    let gateway = Gateway::start();
    let before = gateway.scrape();
    gateway.edit_config(|text| text + "nonsense: 1\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 400);
    assert_fires("AlloyGatewayConfigReloadFailed", &before, &gateway.scrape());
}

#[test]
fn an_open_breaker_is_told() {
    let gateway = Setup::default()
        .upstream("circuit_breaker: { failures: 2, open_for: 600s }")
        .upstream("retries: 0")
        .start();
    let before = gateway.scrape();
    let down = Behaviour::answer(503, "", "{}");
    gateway.alloy.script([down.clone(), down]);
    for _ in 0..2 {
        assert_eq!(gateway.delete(USER, "c1").status, 503);
    }
    let then = gateway.scrape();
    assert_eq!(
        then.get("circuit_breaker_state{key=\"production\",state=\"open\"}"),
        1.0
    );
    assert_eq!(
        then.get("circuit_breaker_transitions_total{key=\"production\",to=\"open\"}"),
        1.0
    );
    assert_fires("AlloyGatewayCircuitOpen", &before, &then);
}

#[test]
fn a_token_that_is_about_to_expire_is_told() {
    let tenant = |days: i64| {
        let expires = Timestamp::now()
            .checked_add(SignedDuration::from_hours(24 * days))
            .unwrap();
        format!(
            "tokens: [ {{ id: t, sha256: \"{:064x}\", expires: {expires} }} ]",
            1
        )
    };
    let with = |days| {
        Setup::default()
            .tenant("billing", &["users: all", &tenant(days)])
            .start()
            .scrape()
    };
    assert_fires("AlloyGatewayTokenExpiresSoon", &with(15), &with(13));
}

#[test]
fn a_certificate_that_is_about_to_expire_is_told_and_one_that_is_overdue_pages() {
    const HOUR: i64 = 3600;
    let with = |before: i64, left: i64| {
        let lasting = certificates::aged(24 * HOUR, 9999 * HOUR).0;
        certificates::with(&certificates::aged(before, left), &lasting).scrape()
    };
    let year = 300 * 24 * HOUR;
    let (soon, overdue) = (
        "AlloyGatewayCertificateExpiresSoon",
        "AlloyGatewayCertificateExpired",
    );
    assert_fires(
        soon,
        &with(year, 15 * 24 * HOUR),
        &with(year, 13 * 24 * HOUR),
    );
    assert_fires(overdue, &with(year, 3 * 24 * HOUR), &with(year, 47 * HOUR));
    assert_fires(overdue, &with(year, 3 * 24 * HOUR), &with(year, -HOUR));
    // One that lives a day is renewed when a third of that is left.
    assert_fires(
        soon,
        &with(12 * HOUR, 12 * HOUR),
        &with(17 * HOUR, 7 * HOUR),
    );
    assert_fires(
        overdue,
        &with(17 * HOUR, 7 * HOUR),
        &with(21 * HOUR, 3 * HOUR),
    );
}

#[test]
fn a_key_that_finds_nothing_is_told() {
    let gateway = Gateway::start();
    let before = gateway.scrape();
    for n in 0..60 {
        assert_eq!(gateway.delete(USER, &format!("gone-{n}")).status, 404);
    }
    assert_fires("AlloyGatewayUnusual404s", &before, &gateway.scrape());
}

#[test]
fn a_call_that_is_in_doubt_is_told() {
    let gateway = Gateway::start();
    let before = gateway.scrape();
    gateway.alloy.script([Behaviour::answer(500, "", "{}")]);
    assert_eq!(gateway.delete(USER, "c1").status, 500);
    assert_fires("AlloyGatewayCallsInDoubt", &before, &gateway.scrape());
}

#[test]
fn a_tenant_that_is_frozen_pages() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &["users: all", "freeze_after: { deletions: 1, per: 1h }"],
        )
        .start();
    let before = gateway.scrape();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_fires("AlloyGatewayTenantFrozen", &before, &gateway.scrape());
}
