//! What is shipped beside the binary speaks of metrics, pages and keys that exist.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::support::binary;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

#[test]
fn every_alert_points_to_its_entry_of_the_runbook_and_every_alert_has_one() {
    let alerts: Value = serde_yaml::from_str(&text("deploy/prometheus/alerts.yaml")).unwrap();
    let anchors: Vec<_> = text("docs/runbook.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| format!("docs/runbook.md#{}", title.to_lowercase().replace(' ', "-")))
        .collect();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 10);
    for rule in rules {
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        assert!(
            anchors.iter().any(|anchor| anchor == runbook),
            "{runbook} in {anchors:?}"
        );
        // The entry is found by the alert's name, too.
        let words = runbook.split('#').nth(1).unwrap().replace('-', "");
        let alert = rule["alert"].as_str().unwrap().to_lowercase();
        assert_eq!(alert, format!("alloygateway{words}"));
    }
}

#[test]
fn the_rules_for_the_operator_are_the_alerts() {
    let wrapped = text("deploy/kubernetes/prometheusrule.yaml");
    let wrapped: Value = serde_yaml::from_str(&wrapped).unwrap();
    let alerts: Value = serde_yaml::from_str(&text("deploy/prometheus/alerts.yaml")).unwrap();
    assert_eq!(
        wrapped["spec"], alerts,
        "the head of deploy/kubernetes/prometheusrule.yaml says how it is written anew"
    );
}

#[test]
fn what_the_image_is_built_from_is_let_through_to_the_build() {
    let ignored = text("deploy/container/Dockerfile.dockerignore");
    let lets_through = |name: &str| ignored.lines().any(|line| line == format!("!{name}"));
    for name in [
        ".cargo",
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "tests",
        "benches",
    ] {
        assert!(path(name).exists() && lets_through(name), "{name}");
    }
    // Keys that lie around in a working tree must not get into a layer.
    assert!(ignored.lines().any(|line| line == "*"));
    let manifest = text("Cargo.toml");
    let toolchain = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    let least: u32 = toolchain
        .trim_matches('"')
        .split('.')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let dockerfile = text("deploy/container/Dockerfile");
    let image = dockerfile.split("FROM rust:1.").nth(1).unwrap();
    let image: u32 = image.split('-').next().unwrap().parse().unwrap();
    assert!(image >= least, "the image's Rust is too old");
}

#[test]
fn the_pods_are_found_by_their_label_and_the_port_by_its_name() {
    let monitor: Value = serde_yaml::from_str(&text("deploy/kubernetes/podmonitor.yaml")).unwrap();
    let sidecar: Value =
        serde_yaml::from_str(&text("deploy/kubernetes/component/sidecar.yaml")).unwrap();
    let template = &sidecar["spec"]["template"];
    assert_eq!(
        monitor["spec"]["selector"]["matchLabels"],
        template["metadata"]["labels"]
    );
    assert_eq!(
        monitor["spec"]["podMetricsEndpoints"][0]["port"],
        template["spec"]["initContainers"][0]["ports"][0]["name"]
    );
}

#[test]
fn the_example_config_of_the_cluster_is_valid_and_its_files_are_mounted() {
    for other in [
        "deploy/compose/config/config.yaml",
        "deploy/systemd/config.yaml",
    ] {
        let shown = Command::new(binary())
            .args(["config", "show", "-c"])
            .arg(path(other))
            .output()
            .unwrap();
        assert!(shown.status.success(), "{other}: {shown:?}");
    }
    let config = path("deploy/kubernetes/example/config.yaml");
    let shown = Command::new(binary())
        .args(["config", "show", "-c"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let sidecar: Value =
        serde_yaml::from_str(&text("deploy/kubernetes/component/sidecar.yaml")).unwrap();
    let container = &sidecar["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(container["restartPolicy"], "Always", "no native sidecar");
    let mounts: Vec<_> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap().to_owned())
        .collect();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for file in [
        "/run/secrets/alloy-gateway/alloy-api-key",
        "/var/lib/alloy-gateway/audit",
        "/run/alloy-gateway/admin.sock",
    ] {
        assert!(shown.contains(file), "{file} in {shown}");
        assert!(
            mounts.iter().any(|mount| file.starts_with(mount.as_str())),
            "{file} is on no mount"
        );
    }
    assert!(
        container["securityContext"]["readOnlyRootFilesystem"]
            .as_bool()
            .unwrap()
    );
    let grace = sidecar["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    assert!(grace > 35, "below the default drain_timeout");
}

#[test]
fn the_unit_gives_the_drain_time_and_does_not_restart_what_cannot_work() {
    let unit = text("deploy/systemd/alloy-gateway.service");
    let value = |name: &str| {
        let mut lines = unit.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap()
            .to_owned()
    };
    assert!(value("TimeoutStopSec").parse::<u32>().unwrap() > 35);
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("RestartPreventExitStatus"), "2 78");
}

/// A disk that fills up or a port that is taken is over some time: the unit must not have
/// given up by then.
#[test]
fn the_unit_goes_on_trying_and_not_in_a_rush() {
    let unit = text("deploy/systemd/alloy-gateway.service");
    let (of_unit, of_service) = unit.split_once("\n[Service]\n").unwrap();
    let has = |section: &str, line: &str| section.lines().any(|it| it == line);
    assert!(has(of_unit, "StartLimitIntervalSec=0"), "{of_unit}");
    assert!(has(of_service, "RestartSec=5s"), "{of_service}");
}
