//! A trail that ends before what the database has of it: restored from an older backup,
//! or cut.

use std::{fs, path::PathBuf};

use super::{assert_collected, assert_verifies, chain_of, lines, said, shipping, wait_until_whole};
use crate::support::{Gateway, USER, postgres::Postgres};

/// Deletes, one after another.
#[track_caller]
fn delete_all(gateway: &Gateway, credentials: std::ops::Range<u32>) {
    for n in credentials {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
}

/// The one segment of the trail.
fn segment(gateway: &Gateway) -> PathBuf {
    let entries = fs::read_dir(gateway.audit()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut segments = paths.filter(|path| path.extension().is_some_and(|it| it == "jsonl"));
    let segment = segments.next().unwrap();
    assert_eq!(segments.next(), None);
    segment
}

/// Leaves so many lines of it.
fn cut(gateway: &Gateway, lines: usize) {
    let segment = segment(gateway);
    let text = fs::read_to_string(&segment).unwrap();
    let left: Vec<_> = text.split_inclusive('\n').take(lines).collect();
    assert!(left.len() * 2 < text.lines().count());
    fs::write(&segment, left.concat()).unwrap();
}

#[test]
fn a_trail_that_ends_before_what_the_database_has_is_told_and_nothing_is_overwritten() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    delete_all(&gateway, 0..20);
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_collected(&postgres, &gateway);
    let chain = chain_of(&gateway);
    let before = lines(&postgres, &chain);
    // Within the calls: what is left ends long before the number that the database has,
    // and what a start writes does not come near it.
    cut(&gateway, 6);
    gateway.start_again();
    let told = gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("it was set back or copied")
    });
    assert_eq!(told["level"], "error", "{told}");
    assert_eq!(told["behind"], 6, "{told}");
    let is_short = gateway.trail().len() < before.len();
    assert!(is_short, "or it is not this that was looked at");
    let diverged = "audit_ship_errors_total{reason=\"diverged\"}";
    assert_eq!(gateway.scrape().get(diverged), 1.0);
    wait_until_whole(&gateway);
    // Calls are taken as always, beyond the number that the database had.
    delete_all(&gateway, 100..120);
    wait_until_whole(&gateway);
    let local = gateway.trail().len();
    assert!(local > before.len());
    // Told once, also by what comes after: it is a chain of its own now.
    assert_eq!(gateway.stop().code(), Some(0));
    gateway.start_again();
    delete_all(&gateway, 120..122);
    wait_until_whole(&gateway);
    assert_eq!(gateway.scrape().get(diverged), 0.0);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_eq!(lines(&postgres, &chain), before, "as it was");
    let forks = postgres.sql(&format!(
        "SELECT id::text FROM alloy_gateway.chain WHERE origin = '{chain}' AND id <> '{chain}'"
    ));
    assert_eq!(forks.len(), 1);
    let fork: String = forks[0].get(0);
    let here = gateway.trail_text();
    let here: Vec<_> = here.lines().skip(6).collect();
    assert_eq!(lines(&postgres, &fork), here, "what differs, and all of it");
    assert_verifies(&postgres);
    assert!(said(&postgres.audit("verify", &[])).contains("was set back or copied"));
}
