//! A database that answers late, or never: what was asked of it ends there, too, so that
//! no gateway fills it with connections that wait.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, assert_collected, shipping, wait_for_error, wait_until_whole};
use crate::support::{USER, postgres::Postgres};

/// The connections of gateways that wait for something within a statement.
fn waiting(postgres: &Postgres) -> Vec<i32> {
    let rows = postgres.sql(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'gateway' AND state = 'active' AND wait_event_type IN ('Lock', 'Timeout')",
    );
    rows.iter().map(|row| row.get(0)).collect()
}

/// Ends whoever holds the lock, also where the test fails.
struct LetGo<'a>(&'a Postgres);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner' AND wait_event = 'PgSleep'");
    }
}

#[track_caller]
fn until<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// `ALTER TABLE`, `VACUUM FULL`, or a transaction that somebody forgot to end.
#[test]
fn a_lock_on_the_tables_is_waited_for_over_one_connection_at_a_time() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let locked = "BEGIN; LOCK TABLE alloy_gateway.chain, alloy_gateway.record, alloy_gateway.schema_version IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
            postgres.try_sql("owner", locked)
        });
        let letting_go = LetGo(&postgres);
        until("the lock is held", || {
            let held = postgres.sql(
                "SELECT 1 FROM pg_stat_activity WHERE usename = 'owner' AND wait_event = 'PgSleep'",
            );
            (!held.is_empty()).then_some(())
        });
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        // The first one waits to write, and whatever comes next to look at the tables.
        let mut pids = Vec::new();
        for _ in 0..2 {
            let pid = until("another connection waits", || {
                waiting(&postgres).into_iter().find(|it| !pids.contains(it))
            });
            pids.push(pid);
            until("it waits no more", || {
                (!waiting(&postgres).contains(&pid)).then_some(())
            });
        }
        wait_for_error(&gateway, "timeout");
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            line["reason"] == "timeout" && message.contains("lock")
        });
        drop(letting_go);
        assert!(holder.join().unwrap().is_err());
    });
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_collected(&postgres, &gateway);
}

/// As of a table whose index somebody dropped.
#[test]
fn a_question_that_takes_too_long_is_not_worked_on_for_nobody() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    // Each row that it looks at.
    postgres.sql(
        "\
CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN true; END $$;
CREATE POLICY slow ON alloy_gateway.chain USING (slow());
ALTER TABLE alloy_gateway.chain ENABLE ROW LEVEL SECURITY",
    );
    gateway.start_again();
    let pid = until("it waits", || waiting(&postgres).pop());
    until("it waits no more", || {
        (!waiting(&postgres).contains(&pid)).then_some(())
    });
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["reason"] == "timeout" && message.contains("statement timeout")
    });
    postgres.sql("ALTER TABLE alloy_gateway.chain DISABLE ROW LEVEL SECURITY");
    wait_until_whole(&gateway);
}

/// It may wait for a standby, and must not be told as done before.
#[test]
fn a_commit_that_takes_long_is_left_to_end_and_nothing_piles_up_behind_it() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    postgres.sql(
        "\
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER sleepy AFTER INSERT ON alloy_gateway.record DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep()",
    );
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let first = until("it commits", || waiting(&postgres).pop());
    for _ in 0..2 {
        let behind = until("another connection waits behind it", || {
            waiting(&postgres).into_iter().find(|it| *it != first)
        });
        until("it waits no more", || {
            let waiting = waiting(&postgres);
            assert!(
                waiting.contains(&first) && waiting.len() <= 2,
                "{waiting:?}"
            );
            (!waiting.contains(&behind)).then_some(())
        });
    }
    postgres.sql(&format!("SELECT pg_terminate_backend({first})"));
    postgres.sql("DROP TRIGGER sleepy ON alloy_gateway.record");
    wait_until_whole(&gateway);
    assert_collected(&postgres, &gateway);
}
