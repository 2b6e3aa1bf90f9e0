//! What `/metrics` says, and that programs can read it.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use alloy_gateway::{simulated_alloy::Behaviour, token::NewToken};

use crate::support::{
    Connection, FOREIGN_USER, Gateway, Setup, USER, delete, metrics::Scrape, or_skipped,
};

/// A gateway with two tenants and most things having happened once.
fn busy() -> Gateway {
    let gateway = Setup::default()
        .upstream("circuit_breaker: { failures: 3, open_for: 60s }")
        .tenant("billing", &["users: all"])
        .tenant(
            "crm",
            &[
                &format!("users: [ {USER} ]"),
                "limits: [ { requests: 1, per: 60s } ]",
            ],
        )
        .start();
    let call = |tenant: &str, user: &str, credential: &str| {
        gateway
            .send(delete(user, credential, gateway.token_of(tenant)))
            .status
    };
    assert_eq!(call("billing", USER, "c1"), 200);
    assert_eq!(call("billing", USER, "c1"), 404);
    assert_eq!(call("crm", FOREIGN_USER, "c1"), 403);
    assert_eq!(call("crm", USER, "c2"), 200);
    assert_eq!(call("crm", USER, "c3"), 429);
    let stranger = format!("agw_{}", "a".repeat(49));
    assert_eq!(gateway.send(delete(USER, "c1", &stranger)).status, 401);
    gateway.alloy.script([
        Behaviour::answer(418, "", "{}"),
        Behaviour::Bytes(b"nonsense".to_vec()),
    ]);
    assert_eq!(call("billing", USER, "c4"), 418);
    assert_eq!(call("billing", USER, "c5"), 502);
    gateway
}

#[track_caller]
fn eventually(is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never was so");
}

#[test]
fn each_answer_is_counted_once_where_it_belongs() {
    let gateway = busy();
    let found = gateway.whole_scrape();
    for (series, count) in [
        (
            "requests_total{tenant=\"billing\",status=\"200\",code=\"\"}",
            1.0,
        ),
        (
            "requests_total{tenant=\"billing\",status=\"404\",code=\"\"}",
            1.0,
        ),
        (
            "requests_total{tenant=\"billing\",status=\"4xx\",code=\"\"}",
            1.0,
        ),
        (
            "requests_total{tenant=\"billing\",status=\"502\",code=\"upstream-protocol\"}",
            1.0,
        ),
        (
            "requests_total{tenant=\"crm\",status=\"403\",code=\"user-not-allowed\"}",
            1.0,
        ),
        (
            "requests_total{tenant=\"crm\",status=\"429\",code=\"rate-limited\"}",
            1.0,
        ),
        (
            "requests_total{tenant=\"\",status=\"401\",code=\"unauthenticated\"}",
            1.0,
        ),
        (
            "outcomes_total{tenant=\"billing\",outcome=\"deleted\"}",
            1.0,
        ),
        (
            "outcomes_total{tenant=\"billing\",outcome=\"not-deleted\"}",
            2.0,
        ),
        (
            "outcomes_total{tenant=\"billing\",outcome=\"in-doubt\"}",
            1.0,
        ),
        ("outcomes_total{tenant=\"crm\",outcome=\"deleted\"}", 1.0),
        ("outcomes_total{tenant=\"crm\",outcome=\"dry-run\"}", 0.0),
        ("auth_failures_total{reason=\"checksum\"}", 1.0),
        ("request_duration_seconds_count{code=\"\"}", 4.0),
        (
            "request_duration_seconds_count{code=\"unauthenticated\"}",
            1.0,
        ),
        ("overhead_seconds_count", 5.0),
        ("upstream_requests_total{code=\"200\"}", 2.0),
        ("upstream_requests_total{code=\"4xx\"}", 1.0),
        ("upstream_requests_total{code=\"none\"}", 1.0),
        ("upstream_errors_total{reason=\"protocol\"}", 1.0),
        ("upstream_request_duration_seconds_count", 5.0),
        (
            "rate_limit_decisions_total{tenant=\"crm\",limit=\"tenant\",decision=\"allowed\",backend=\"local\"}",
            1.0,
        ),
        (
            "rate_limit_decisions_total{tenant=\"crm\",limit=\"tenant\",decision=\"refused\",backend=\"local\"}",
            1.0,
        ),
        (
            "rate_limit_decisions_total{tenant=\"\",limit=\"unauthenticated\",decision=\"allowed\",backend=\"local\"}",
            1.0,
        ),
        ("audit_records_total{event=\"request.intent\"}", 5.0),
        ("audit_records_total{event=\"request.outcome\"}", 5.0),
        ("audit_records_total{event=\"other\"}", 0.0),
        (
            "circuit_breaker_state{key=\"production\",state=\"closed\"}",
            1.0,
        ),
        ("ready", 1.0),
        ("requests_in_flight", 0.0),
    ] {
        assert_eq!(found.get(series), count, "{series}");
    }
    assert_eq!(found.sum("requests_total"), 8.0);
    assert_eq!(found.sum("outcomes_total"), 5.0);
    assert_eq!(found.sum("request_duration_seconds_count"), 8.0);
    let overhead = found.get("overhead_seconds_sum");
    let total = found.get("request_duration_seconds_sum{code=\"\"}")
        + found.get("request_duration_seconds_sum{code=\"upstream-protocol\"}");
    let upstream = found.get("upstream_request_duration_seconds_sum");
    let rest = total - upstream;
    // Each attempt's time ends within the call's, and nothing else is upstream.
    assert!((overhead - rest).abs() < 1e-3 * 5.0, "{overhead} {rest}");
    assert!(found.get("audit_fsync_duration_seconds_count") > 0.0);
    assert!(found.get("audit_batch_size_sum") >= found.get("audit_sequence"));
    assert!(found.get("audit_disk_free_bytes") <= found.get("audit_disk_size_bytes"));
    assert!(found.names().contains("process_resident_memory_bytes"));
}

#[test]
fn connections_are_counted_by_listener_while_they_are_open() {
    let gateway = Gateway::start();
    let series = format!("{{listener=\"{}\"}}", gateway.data);
    let open = || gateway.scrape().get(&format!("connections{series}"));
    let mut connection = gateway.connect();
    let response = connection
        .send(delete(USER, "c1", gateway.token()))
        .receive();
    assert_eq!(response.status, 200);
    assert_eq!(open(), 1.0);
    drop(connection);
    eventually(|| open() == 0.0);
    let opened = format!("connections_opened_total{series}");
    assert_eq!(gateway.scrape().get(&opened), 1.0);
}

#[test]
fn a_caller_that_leaves_before_its_answer_is_counted_as_gone() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &[
                "users: all",
                "wait: 60s",
                "limits: [ { requests: 1, per: 50s } ]",
            ],
        )
        .start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c2", gateway.token()));
    eventually(|| gateway.scrape().get("rate_limit_queue_depth") == 1.0);
    drop(connection);
    let gone = "requests_total{tenant=\"\",status=\"\",code=\"client_closed\"}";
    eventually(|| gateway.scrape().get(gone) == 1.0);
    let found = gateway.scrape();
    assert_eq!(found.sum("requests_total"), 2.0);
    assert_eq!(found.get("requests_in_flight"), 0.0);
}

#[test]
fn waits_for_a_limit_are_counted_apart() {
    let gateway = Setup::default()
        .tenant(
            "billing",
            &[
                "users: all",
                "wait: 30s",
                "limits: [ { requests: 1, per: 1s } ]",
            ],
        )
        .start();
    for n in 0..3 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    let found = gateway.scrape();
    let decided = |decision: &str| {
        found.get(&format!("rate_limit_decisions_total{{tenant=\"billing\",limit=\"tenant\",decision=\"{decision}\",backend=\"local\"}}"))
    };
    assert_eq!(decided("allowed") + decided("delayed"), 3.0);
    assert!(decided("delayed") >= 1.0);
    assert_eq!(
        found.get("rate_limit_wait_seconds_count"),
        decided("delayed")
    );
    assert!(found.get("rate_limit_wait_seconds_sum") > 0.0);
    assert!(
        found.get("overhead_seconds_sum") < found.get("request_duration_seconds_sum{code=\"\"}")
    );
}

#[test]
fn counts_survive_a_reload_and_go_with_their_tenant() {
    let gateway = busy();
    let before = gateway.scrape();
    gateway.edit_config(|text| {
        let crm = text.find("  - name: crm").unwrap();
        text[..crm].to_owned()
    });
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    let after = gateway.scrape();
    for (series, value) in before.series() {
        let is_countable = series.contains("requests_total") || series.contains("decisions_total");
        if series.contains("tenant=\"crm\"") {
            assert!(!after.text().contains(series), "{series}");
        } else if is_countable {
            let now = after.series().find(|(now, _)| *now == series);
            assert_eq!(now, Some((series, value)));
        }
    }
    assert_eq!(after.get("config_reloads_total{result=\"success\"}"), 1.0);
}

#[test]
fn tenants_above_the_bound_share_a_label() {
    let mut setup = Setup::default();
    for name in ["a", "b", "c", "d"] {
        setup = setup.tenant(name, &["users: all"]);
    }
    let gateway = setup.start();
    let labels = |found: &Scrape| {
        let names = found.series().filter_map(|(series, _)| {
            let rest = series.split_once("alloy_gateway_requests_total{tenant=\"")?;
            Some(rest.1.split('"').next()?.to_owned())
        });
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let call = |tenant| {
        let response = gateway.send(delete(USER, "c1", gateway.token_of(tenant)));
        assert!([200, 404].contains(&response.status));
    };
    assert_eq!(
        labels(&gateway.scrape()),
        ["", "a", "b", "c", "d"].map(String::from).into()
    );
    call("b");
    gateway.edit_config(|text| text + "metrics: { max_tenants: 1 }\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    for tenant in ["a", "b", "c"] {
        call(tenant);
    }
    let found = gateway.scrape();
    assert_eq!(labels(&found), ["", "_other", "a"].map(String::from).into());
    let gone = |tenant| {
        found.get(&format!(
            "requests_total{{tenant=\"{tenant}\",status=\"404\",code=\"\"}}"
        ))
    };
    assert_eq!((gone("a"), gone("_other")), (1.0, 2.0));
}

#[test]
fn a_token_that_expires_soon_has_a_series_and_a_warning() {
    let digest = |n: u32| format!("{n:064x}");
    let now = jiff::Timestamp::now();
    let hours = |n: i64| {
        now.checked_add(jiff::SignedDuration::from_hours(n))
            .unwrap()
    };
    let (past, soon, later) = (hours(-1), hours(24), hours(24 * 300));
    let tokens = format!(
        "tokens: [ {{ id: old, sha256: \"{}\", expires: {past} }}, {{ id: soon, sha256: \"{}\", expires: {soon} }}, {{ id: later, sha256: \"{}\", expires: {later} }} ]",
        digest(1),
        digest(2),
        digest(3)
    );
    let gateway = Setup::default()
        .tenant("billing", &["users: all", &tokens])
        .tenant("crm", &["users: all"])
        .start();
    let found = gateway.scrape();
    let expiry = found.get("tenant_token_expiry_timestamp_seconds{tenant=\"billing\"}");
    assert!(
        (expiry - soon.as_millisecond() as f64 / 1e3).abs() < 0.01,
        "{expiry} {soon}"
    );
    assert_eq!(
        found.find("tenant_token_expiry_timestamp_seconds{tenant=\"crm\"}"),
        None
    );
    let warning = gateway.process.wait_for(|line| {
        line["message"]
            .as_str()
            .unwrap_or_default()
            .starts_with("a token expires soon")
    });
    assert_eq!(
        (&warning["tenant.id"], &warning["token.id"]),
        (&"billing".into(), &"soon".into())
    );
    assert!(!gateway.process.output().contains("\"token.id\":\"old\""));
    assert!(!gateway.process.output().contains("\"token.id\":\"later\""));
}

#[test]
fn a_tenant_whose_last_token_expires_keeps_its_series_and_is_a_concern_told_once() {
    let (billing, crm) = (NewToken::generate().unwrap(), NewToken::generate().unwrap());
    let end = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_secs(5))
        .unwrap();
    let ending = |token: &NewToken, more: &str| {
        let digest = token.digest().to_hex();
        format!("tokens: [ {{ id: old, sha256: \"{digest}\", expires: {end} }}{more} ]")
    };
    let another = format!(", {{ id: new, sha256: \"{:064x}\" }}", 7);
    let gateway = Setup::default()
        .tenant("billing", &["users: all", &ending(&billing, "")])
        .tenant("crm", &["users: all", &ending(&crm, &another)])
        .start();
    let series =
        |tenant: &str| format!("tenant_token_expiry_timestamp_seconds{{tenant=\"{tenant}\"}}");
    let ended = |line: &serde_json::Value| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("no token of the tenant is valid any more")
    };
    let told = gateway.process.wait_for(ended);
    assert_eq!(told["tenant.id"], "billing");
    let call = delete(USER, "c1", billing.reveal());
    assert_eq!(gateway.send(call).status, 401);
    let found = gateway.scrape();
    let since = found.get(&series("billing"));
    assert!((since - end.as_millisecond() as f64 / 1e3).abs() < 0.01);
    assert_eq!(found.find(&series("crm")), None);
    let status: serde_json::Value =
        serde_json::from_str(&gateway.admin("/status.json").text()).unwrap();
    let concerns = status["concerns"].as_array().unwrap();
    assert_eq!(concerns.len(), 1, "{concerns:?}");
    let concern = concerns[0].as_str().unwrap();
    assert!(concern.starts_with("No token of billing is valid since "));
    assert!(gateway.admin("/status").text().contains("no valid token"));
    // Another load of the config is no news of it.
    gateway.edit_config(|text| text + "# changed\n");
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("the tenant cannot call at all"), "{said}");
    let output = gateway.process.output();
    assert_eq!(
        output
            .matches("no token of the tenant is valid any more")
            .count(),
        1
    );
}

/// Every kind of record has a series of its own: it is named in one list, which is counted.
#[test]
fn every_event_of_the_trail_is_counted_by_its_name() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    crate::rules::collect(&root, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for call in ["::now(\"", "changed_by(\"", "self.record(\""] {
            for rest in text.split(call).skip(1) {
                let event = rest.split('"').next().unwrap();
                let file = file.display();
                assert_eq!(
                    event, "x",
                    "{file} has a name that is not in audit/event.rs"
                );
            }
        }
    }
    let names = fs::read_to_string(root.join("audit/event.rs")).unwrap();
    let (_, all) = names.split_once("pub const ALL: ").unwrap();
    let (all, _) = all.split_once("];\n").unwrap();
    let named = names.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("pub const ")?.split_once(": &str = ")?;
        Some(name)
    });
    let mut found = 0;
    for name in named {
        found += 1;
        let line = format!("\n    {name},\n");
        assert!(all.contains(&line), "{name} is not in ALL");
    }
    assert!(found > 10, "only {found} events found");
}

fn scrape_as(gateway: &Gateway, accept: &str) -> (String, String) {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n",
        gateway.admin
    );
    let response = Connection::open(gateway.admin).send(request).receive();
    let kind = response.field("content-type").unwrap().to_owned();
    (kind, response.text())
}

/// Runs a program on a text; `None` if the machine has no such program.
fn judge(program: &str, args: &[&str], text: &str) -> Option<(bool, String)> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    child.stdin.take()?.write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said.into_owned()))
}

/// `promtool` reads the older format; `.ci/run` installs it.
#[test]
fn promtool_finds_nothing_wrong() {
    let gateway = busy();
    let prometheus = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let (kind, text) = scrape_as(&gateway, prometheus);
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let judged = judge("promtool", &["check", "metrics"], &text);
    if let Some((is_good, said)) = or_skipped(judged, "promtool") {
        assert!(is_good && said.is_empty(), "{said}");
    }
    // What promtool takes without a word: a sample that no family announced.
    let mut known = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            known.insert(family.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let parts = ["_bucket", "_sum", "_count", ""];
            let mut families = parts.iter().filter_map(|part| name.strip_suffix(part));
            assert!(families.any(|family| known.contains(family)), "{line}");
        }
    }
}

/// The strictest reader of OpenMetrics there is: the reference parser in Python.
#[test]
fn the_reference_parser_of_openmetrics_finds_nothing_wrong() {
    let gateway = busy();
    let openmetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let (kind, text) = scrape_as(&gateway, openmetrics);
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(text.ends_with("\n# EOF\n"));
    let program = "import sys\n\
                   text = sys.stdin.read()\n\
                   try:\n\
                   \x20   from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                   except ImportError:\n\
                   \x20   sys.exit(0)\n\
                   print(len(list(parse(text))))\n";
    // The one that Debian's package python3-prometheus-client is for.
    let Some((is_good, said)) = judge("/usr/bin/python3", &["-c", program], &text) else {
        return;
    };
    let families = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .count();
    assert!(is_good, "{said}");
    let parsed = or_skipped((!said.is_empty()).then_some(said), "prometheus_client");
    assert!(parsed.is_none_or(|parsed| parsed.trim() == families.to_string()));
}
