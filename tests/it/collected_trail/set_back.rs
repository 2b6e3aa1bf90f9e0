//! A trail that ends before what the database has of it: restored from an older backup,
//! or cut.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::{
    PATIENCE, assert_collected, assert_verifies, chain_of, copy, lines, said, shipping,
    wait_until_whole,
};
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

/// The gateway's role reads records of the trail at this pace; it writes them as before.
fn read_at_pace(postgres: &Postgres, seconds_each: f64) {
    // Whoever is under way holds the table.
    postgres
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway'");
    postgres.sql(&format!(
        "ALTER TABLE alloy_gateway.record ENABLE ROW LEVEL SECURITY; \
         DROP POLICY IF EXISTS writes ON alloy_gateway.record; \
         DROP POLICY IF EXISTS reads ON alloy_gateway.record; \
         CREATE POLICY writes ON alloy_gateway.record FOR INSERT TO gateway WITH CHECK (true); \
         CREATE POLICY reads ON alloy_gateway.record FOR SELECT TO gateway USING (pg_sleep({seconds_each}) IS NOT NULL)"
    ));
}

/// Record by record the database would take longer for all of it than for any one answer
/// it has time.
#[test]
fn where_a_long_trail_and_a_slow_database_part_is_found_with_few_questions() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1")
        .audit("segment_size: 64KiB")
        .start();
    delete_all(&gateway, 0..700);
    assert_eq!(gateway.stop().code(), Some(0));
    let aside = tempfile::tempdir().unwrap();
    copy(gateway.audit(), aside.path());
    let in_common = gateway.trail().len();
    assert!(in_common > 1400, "{in_common}");
    gateway.start_again();
    delete_all(&gateway, 700..702);
    wait_until_whole(&gateway);
    let chain = chain_of(&gateway);
    gateway.kill();
    fs::remove_dir_all(gateway.audit()).unwrap();
    fs::create_dir(gateway.audit()).unwrap();
    copy(aside.path(), gateway.audit());
    // A search that hangs holds up no end.
    read_at_pace(&postgres, 600.0);
    gateway.start_again();
    let end = Instant::now() + PATIENCE;
    let asleep =
        "SELECT 1 FROM pg_stat_activity WHERE usename = 'gateway' AND wait_event = 'PgSleep'";
    while postgres.sql(asleep).is_empty() {
        assert!(Instant::now() < end, "{}", gateway.process.output());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(gateway.stop().code(), Some(0));
    let in_common_still = gateway.trail_text();
    read_at_pace(&postgres, 0.025);
    gateway.start_again();
    wait_until_whole(&gateway);
    let told = gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("it was set back or copied")
    });
    assert_eq!(told["behind"], in_common, "{told}");
    delete_all(&gateway, 702..704);
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    let forks = postgres.sql(&format!(
        "SELECT id::text FROM alloy_gateway.chain WHERE origin = '{chain}' AND id <> '{chain}'"
    ));
    assert_eq!(forks.len(), 1);
    let here = gateway.trail_text();
    assert!(here.starts_with(&in_common_still));
    let here: Vec<_> = here.lines().skip(in_common).collect();
    assert_eq!(lines(&postgres, &forks[0].get::<_, String>(0)), here);
    assert_verifies(&postgres);
}
