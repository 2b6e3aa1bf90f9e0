//! Every metric that a dashboard, a rule or a page of the docs names exists in what
//! the real binary exports, and every one that is exported stands in the docs.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::Setup;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of everything that a gateway exports, a token's expiry included.
fn exported() -> BTreeSet<String> {
    let expiring = "tokens: [ { id: t, sha256: \"00000000000000000000000000000000000000000000000000000000000000aa\", expires: 2126-01-01T00:00:00Z } ]";
    let gateway = Setup::default()
        .tenant("billing", &["users: all", expiring])
        .start();
    let scrape = gateway.whole_scrape();
    scrape.names().into_iter().map(ToOwned::to_owned).collect()
}

/// The names of metrics in a text, those of a family without its samples' suffixes
/// included.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("alloy_gateway_") || word.starts_with("process_"))
        .collect()
}

#[track_caller]
fn assert_exist(what: &str, text: &str, exported: &BTreeSet<String>, at_least: usize) {
    let names = named(text);
    assert!(names.len() >= at_least, "{what} names only {names:?}");
    for name in names {
        let samples = ["", "_bucket"].map(|suffix| format!("{name}{suffix}"));
        assert!(
            samples.iter().any(|sample| exported.contains(sample)),
            "{what} names {name}, which is not exported"
        );
    }
}

#[test]
fn every_metric_that_rules_dashboards_and_docs_name_is_exported() {
    let exported = exported();
    assert_exist(
        "alerts.yaml",
        &text("deploy/prometheus/alerts.yaml"),
        &exported,
        10,
    );
    let tests = text("deploy/prometheus/alerts_test.yaml");
    assert_exist("alerts_test.yaml", &tests, &exported, 10);
    assert_exist(
        "dashboard.json",
        &text("deploy/grafana/dashboard.json"),
        &exported,
        40,
    );
    assert_exist("docs/metrics.md", &text("docs/metrics.md"), &exported, 50);
    let others: Vec<PathBuf> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    for path in others {
        let page = fs::read_to_string(&path).unwrap();
        // A pattern, such as alloy_gateway_audit_*, is no name.
        let page = page.replace("alloy_gateway_`", "").replace("process_`", "");
        assert_exist(&path.display().to_string(), &page, &exported, 0);
    }
}

#[test]
fn every_metric_that_is_exported_stands_in_the_docs() {
    let docs = text("docs/metrics.md");
    let named = named(&docs);
    for name in exported() {
        let family = ["_bucket", "_count", "_sum"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|family| named.contains(family));
        assert!(
            family.is_some() || named.contains(&*name),
            "{name} does not stand in docs/metrics.md"
        );
    }
}

/// The runbook's entry with this title.
fn entry(title: &str) -> String {
    let runbook = text("docs/runbook.md");
    let (_, entry) = runbook.split_once(&format!("\n## {title}\n")).unwrap();
    entry.split("\n## ").next().unwrap().to_owned()
}

#[test]
fn every_reason_that_is_counted_stands_in_the_runbook_where_it_sends_people() {
    let scrape = Setup::default().start().whole_scrape();
    for (start, label, title, at_least) in [
        ("requests_total{", "code", "Error budget burn", 10),
        (
            "rate_limit_backend_errors_total{",
            "reason",
            "Rate backend degraded",
            7,
        ),
        (
            "audit_ship_errors_total{",
            "reason",
            "Collected trail behind",
            8,
        ),
        ("audit_unwritable{", "cause", "Audit write failing", 9),
    ] {
        let entry = entry(title);
        let all = scrape.series().map(|(series, _)| series);
        let series: Vec<_> = all
            .filter(|series| series.starts_with(&format!("alloy_gateway_{start}")))
            .filter(|series| label != "code" || series.contains("status=\"5"))
            .collect();
        assert!(series.len() >= at_least, "{title}: only {series:?}");
        for series in series {
            let value = series.split(&format!("{label}=\"")).nth(1).unwrap();
            let word = match value.split('"').next().unwrap() {
                "" => "| empty |".to_owned(),
                value => format!("`{value}`"),
            };
            assert!(entry.contains(&word), "{word} is missing in {title}");
        }
    }
}

/// Every label's name that the docs give is one that is exported, and the other way round.
#[test]
fn the_labels_in_the_docs_are_the_exported_ones() {
    let expiring = "tokens: [ { id: t, sha256: \"00000000000000000000000000000000000000000000000000000000000000aa\", expires: 2126-01-01T00:00:00Z } ]";
    let gateway = Setup::default()
        .tenant("billing", &["users: all", expiring])
        .start();
    let scrape = gateway.whole_scrape();
    let docs = text("docs/metrics.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut checked = 0;
    for row in rows.filter(|row| named(row).len() == 1 && row.contains(": ")) {
        let name = row.split('`').next().unwrap();
        let cells: Vec<_> = row.split('|').collect();
        let said: BTreeSet<_> = cells[1].split('`').skip(1).step_by(2).collect();
        let start = [format!("{name}{{"), format!("{name}_bucket{{")];
        let found = scrape
            .series()
            .find(|(series, _)| start.iter().any(|start| series.starts_with(start)));
        let labels = found.map_or("", |(series, _)| series.split_once('{').unwrap().1);
        let exported: BTreeSet<_> = labels
            .split("\",")
            .filter_map(|label| label.split_once('=').map(|(name, _)| name))
            .filter(|name| *name != "le")
            .collect();
        assert_eq!(said, exported, "labels of {name}");
        checked += 1;
    }
    assert!(checked >= 50, "only {checked} rows");
}

/// What promtool takes as a rule, Prometheus takes as a query.
#[test]
fn every_query_of_the_dashboard_is_one() {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboard.json")).unwrap();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let mut queries = 0;
    let panels = dashboard["panels"].as_array().unwrap();
    let rows = panels.iter().filter(|panel| panel["type"] == "row").count();
    assert_eq!(rows, 6);
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "two panels with one id"
        );
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            assert!(
                query.contains("$namespace") || query.contains("$tenant"),
                "{query} is of all instances"
            );
            let query = query.replace("$__rate_interval", "5m");
            queries += 1;
            let _ = writeln!(
                rules,
                "      - {{ record: \"dashboard:q{queries}\", expr: {} }}",
                Value::from(query)
            );
        }
    }
    assert!(queries > 50, "only {queries} queries");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["datasource", "namespace", "instance", "tenant"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    fs::write(&path, rules).unwrap();
    let Ok(checked) = Command::new("promtool")
        .args(["check", "rules"])
        .arg(&path)
        .output()
    else {
        return;
    };
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}
