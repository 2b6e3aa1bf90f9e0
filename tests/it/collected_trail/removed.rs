//! Records that left the trail before the database had them.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, assert_verifies, chain_of, lines, said, shipping, wait_until_whole};
use crate::support::{Gateway, USER, postgres::Postgres};

/// How often that was told.
const REMOVED: &str = "audit_ship_errors_total{reason=\"removed\"}";
/// Segments that are old at once.
const SHORT_LIVED: &str = "  segment_age: 1s\n  retention: 1s\n";

/// The gateway goes on without a database, or with one again.
fn switch(gateway: &Gateway, from: &str, to: &str) {
    gateway.edit_config(|text| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    });
}

/// The files of the trail, the oldest first.
fn segments(gateway: &Gateway) -> Vec<String> {
    let entries = fs::read_dir(gateway.audit()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<_> = names.filter(|name| name.ends_with(".jsonl")).collect();
    segments.sort();
    segments
}

/// Calls until retention removed all of the segments that are there now.
fn outlive(gateway: &Gateway) {
    let end = Instant::now() + PATIENCE;
    let last = segments(gateway).pop().unwrap();
    for n in 10.. {
        if segments(gateway)[0] > last {
            return;
        }
        assert!(Instant::now() < end, "{}", gateway.process.output());
        let status = gateway.delete(USER, &format!("c{n}")).status;
        assert!([200, 404].contains(&status), "{status}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The chains of the database in order: id, the first record and the last.
fn chains(postgres: &Postgres) -> Vec<(String, i64, i64)> {
    let rows = postgres.sql(
        "SELECT c.id::text, min(r.seq), c.last_seq FROM alloy_gateway.chain c \
         JOIN alloy_gateway.record r ON r.chain = c.id GROUP BY c.id ORDER BY c.since",
    );
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

/// What was lost is told where it happened: the numbers, and the chain that goes on.
#[track_caller]
fn assert_told(gateway: &Gateway, from: i64, until: i64) {
    let told = gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("before the database had them") && line["from"] == from
    });
    assert_eq!(told["level"], "error", "{told}");
    assert_eq!(told["until"], until, "{told}");
}

#[test]
fn what_was_removed_before_it_was_collected_is_named_and_is_no_tampering() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_until_whole(&gateway);
    gateway.kill();
    let chain = chain_of(&gateway);
    let before = lines(&postgres, &chain);
    let ship = gateway.path("config.yaml");
    let ship = fs::read_to_string(ship).unwrap();
    let ship = ship.lines().find(|line| line.contains("ship:")).unwrap();
    // Nothing waits for a database that is not in the config.
    switch(&gateway, ship, SHORT_LIVED.trim_end());
    gateway.start_again();
    outlive(&gateway);
    outlive(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    switch(&gateway, SHORT_LIVED.trim_end(), ship);
    gateway.start_again();
    wait_until_whole(&gateway);
    assert_verifies(&postgres);
    let first = gateway.trail()[0]["seq"].as_i64().unwrap();
    let last = i64::try_from(before.len()).unwrap();
    assert!(first > last + 1, "or nothing was lost");
    assert_told(&gateway, last + 1, first - 1);
    assert_eq!(gateway.scrape().get(REMOVED), 1.0);
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    wait_until_whole(&gateway);
    gateway.kill();
    // It is the same chain from then on.
    gateway.start_again();
    assert_eq!(gateway.delete(USER, "c3").status, 200);
    wait_until_whole(&gateway);
    assert_eq!(gateway.scrape().get(REMOVED), 0.0);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_eq!(lines(&postgres, &chain), before, "as it was");
    let there = chains(&postgres);
    assert_eq!(there.len(), 2, "{there:?}");
    let (next, begin, _) = &there[1];
    assert_eq!(*begin, first);
    let here = gateway.trail_text();
    assert_eq!(lines(&postgres, next), here.lines().collect::<Vec<_>>());
    assert_verifies(&postgres);
    let missing = format!(
        "MISSING: billing-1 {next}: records {} to {} of",
        last + 1,
        first - 1
    );
    let text = said(&postgres.audit("verify", &[]));
    assert!(text.contains(&missing), "{text}");
    assert!(!text.contains("set back"), "{text}");
    // The chain that ended is one of a gateway that fell silent.
    postgres.sql(&format!(
        "UPDATE alloy_gateway.chain SET seen_at = now() - interval '1 hour' WHERE id = '{chain}'"
    ));
    let text = said(&postgres.audit("verify", &[]));
    let silent = format!("silent: billing-1 {chain} has not been heard of");
    assert!(text.contains(&silent), "{text}");
    // Whoever asks by exit code whether the database heard everything is told.
    let asked = ["--silent-after", "2h"];
    assert_eq!(postgres.audit("verify", &asked).status.code(), Some(1));
    // Until the owner of the tables took away what has been looked at.
    postgres.sql(&format!(
        "DELETE FROM alloy_gateway.record WHERE chain = '{chain}'; \
         DELETE FROM alloy_gateway.chain WHERE id = '{chain}'"
    ));
    let settled = postgres.audit("verify", &asked);
    let text = said(&settled);
    assert_eq!(settled.status.code(), Some(0), "{text}");
    assert!(
        !text.contains("MISSING") && !text.contains("set back"),
        "{text}"
    );
}

#[test]
fn a_database_that_is_set_back_further_than_the_trail_goes_begins_a_chain_anew() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1")
        .audit("segment_age: 1s")
        .audit("retention: 1s")
        .start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    // Each time another backup, and another loss.
    for times in 1..=2_u32 {
        wait_until_whole(&gateway);
        postgres.sql(
            "DROP TABLE IF EXISTS kept_record, kept_chain; \
             CREATE TABLE kept_record AS SELECT * FROM alloy_gateway.record; \
             CREATE TABLE kept_chain AS SELECT * FROM alloy_gateway.chain",
        );
        let kept = postgres.sql("SELECT max(last_seq) FROM kept_chain");
        let kept: i64 = kept[0].get(0);
        outlive(&gateway);
        // In the order in which who collects locks them.
        postgres.sql(
            "TRUNCATE alloy_gateway.chain, alloy_gateway.record; \
             INSERT INTO alloy_gateway.record SELECT * FROM kept_record; \
             INSERT INTO alloy_gateway.chain SELECT * FROM kept_chain",
        );
        let credential = format!("c{}", times + 1);
        assert_eq!(gateway.delete(USER, &credential).status, 200);
        let end = Instant::now() + PATIENCE;
        while gateway.scrape().get(REMOVED) < f64::from(times) {
            assert!(Instant::now() < end, "{}", gateway.process.output());
            thread::sleep(Duration::from_millis(50));
        }
        wait_until_whole(&gateway);
        assert_verifies(&postgres);
        let there = chains(&postgres);
        assert_eq!(there.len(), times as usize + 1, "{there:?}");
        let begin = there[times as usize].1;
        assert!(begin > kept + 1, "or nothing was lost");
        assert_told(&gateway, kept + 1, begin - 1);
    }
    assert_eq!(gateway.stop().code(), Some(0));
    assert_verifies(&postgres);
    let text = said(&postgres.audit("verify", &[]));
    assert_eq!(text.matches("MISSING:").count(), 2, "{text}");
}

#[test]
fn what_no_record_accounts_for_is_tampering_also_where_a_chain_begins_anew() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_until_whole(&gateway);
    gateway.kill();
    let config = fs::read_to_string(gateway.config_path()).unwrap();
    let ship = config.lines().find(|line| line.contains("ship:")).unwrap();
    switch(&gateway, ship, "  segment_age: 1d");
    for credential in ["c2", "c3"] {
        gateway.start_again();
        assert_eq!(gateway.delete(USER, credential).status, 200);
        gateway.kill();
    }
    // Whoever has the gateway hides what c2 was.
    let all = segments(&gateway);
    for segment in &all[..all.len() - 1] {
        fs::remove_file(gateway.audit().join(segment)).unwrap();
    }
    switch(&gateway, "  segment_age: 1d", ship);
    gateway.start_again();
    wait_until_whole(&gateway);
    assert_eq!(gateway.scrape().get(REMOVED), 1.0);
    assert_eq!(gateway.stop().code(), Some(0));
    let verified = postgres.audit("verify", &[]);
    let text = said(&verified);
    assert_eq!(verified.status.code(), Some(3), "{text}");
    assert!(text.contains("no trail.pruned accounts for them"), "{text}");
    assert!(text.contains("MISSING: billing-1"), "{text}");
}
