//! 100,000 tenants in one config.

use std::{fmt::Write, fs, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{binary, gateway::Process, gateway::secret};

const TENANTS: usize = 100_000;

/// Made of a counter, so that they are all different, and spread as real ones are:
/// the look-up takes a digest's first bytes for its hash.
fn digest(n: usize) -> String {
    let spread = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{spread:016x}{n:048x}")
}

/// What brought about each load after the start, as the log tells.
fn loads(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "config loaded")
        .map(|line| line["by"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_hundred_thousand_tenants_are_checked_and_served() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = String::from(
        "version: 1\nlisten:\n  - address: 127.0.0.1:0\nadmin:\n  address: 127.0.0.1:0\nworkers: 1\n\
         upstream:\n  trust: bundled\nkeys:\n  production:\n    secret: { file: api-key }\naudit:\n  directory: audit\ntenants:\n",
    );
    for n in 0..TENANTS {
        writeln!(
            config,
            "  - name: tenant-{n}\n    key: production\n    users: [ user-{n} ]\n    limits: [ {{ requests: 10, per: 1s }} ]\n    \
             tokens: [ {{ id: first, sha256: \"{}\" }} ]",
            digest(n)
        )
        .unwrap();
    }
    secret(&directory.path().join("api-key"), "0123456789abcdef");
    let path = directory.path().join("config.yaml");
    fs::write(&path, &config).unwrap();
    let check = Command::new(binary())
        .arg("check")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(
        check.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    let mut process = Process::spawn(&path, "info");
    let ready = process.wait_for(|line| line["message"] == "ready");
    assert_eq!(ready["tenants"], TENANTS);
    // Proportionate: far below what 4 KiB for each would come to.
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
    println!(
        "{} bytes a tenant resident after the start",
        kib * 1024 / TENANTS
    );
    assert!(kib < 400 << 10, "{kib} KiB");

    // Loading takes longer than the poller takes to see that the file changed. It waits
    // for its turn, and then finds nothing to do.
    fs::write(&path, config + "# change\n").unwrap();
    for n in 1..=2 {
        process.signal(Signal::HUP);
        process.wait_for(|_| loads(&process.output()).len() == n);
    }
    assert_eq!(loads(&process.output()), ["SIGHUP", "SIGHUP"]);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}
