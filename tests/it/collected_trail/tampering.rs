//! Rows that somebody changes, removes or puts in.

use std::fs;

use super::{
    assert_collected, assert_verifies, chain_of, said, shipping, wait_for_error, wait_until_whole,
};
use crate::support::{Gateway, USER, postgres::Postgres};

/// What somebody may do to the rows, and what is said of it.
#[test]
fn verify_names_each_row_that_was_changed_removed_or_put_in() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    for n in 0..5 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_collected(&postgres, &gateway);
    let chain = chain_of(&gateway);
    let end = gateway.trail().len();
    let last = gateway.trail().pop().unwrap();
    let head = format!("{}:{}", last["seq"], last["hash"].as_str().unwrap());
    assert_eq!(
        postgres.audit("verify", &["--expect", &head]).status.code(),
        Some(0)
    );
    postgres.sql(
        "CREATE TABLE kept_record AS SELECT * FROM alloy_gateway.record; \
         CREATE TABLE kept_chain AS SELECT * FROM alloy_gateway.chain",
    );
    let record = "alloy_gateway.record";
    let cases = [
        (format!("DELETE FROM {record} WHERE seq = 5"), "(seq 6): record 5 should stand here".to_owned()),
        (format!("DELETE FROM {record} WHERE seq = 1"), "the records up to 1 are missing".to_owned()),
        (format!("DELETE FROM {record} WHERE seq = {end}"), format!("the last record should be {head}")),
        (format!("DELETE FROM {record}"), format!("the last record should be {head}")),
        (
            format!("UPDATE {record} SET line = replace(line, '\"credential\":\"c1\"', '\"credential\":\"c9\"')"),
            "its content is not what was hashed".to_owned(),
        ),
        (
            format!("UPDATE {record} SET credential_id = 'c9' WHERE credential_id = 'c1'"),
            "its column credential_id is not what its line says".to_owned(),
        ),
        (
            format!("UPDATE {record} SET outcome = 'failed' WHERE outcome = 'deleted'"),
            "its column outcome is not what its line says".to_owned(),
        ),
        (
            format!(
                "INSERT INTO {record} (chain, seq, time, event, hash, line) \
                 SELECT chain, seq + 1, time, event, hash, line FROM {record} WHERE seq = {end}"
            ),
            format!("record {} should stand here", end + 1),
        ),
        (
            "DELETE FROM alloy_gateway.chain".to_owned(),
            "a gateway without a row in alloy_gateway.chain".to_owned(),
        ),
        (
            "UPDATE alloy_gateway.chain SET last_seq = 3, last_hash = (SELECT hash FROM alloy_gateway.record WHERE seq = 3)".to_owned(),
            "the last record should be 3:".to_owned(),
        ),
    ];
    for (change, expected) in cases {
        postgres.sql(&change);
        let verified = postgres.audit("verify", &[]);
        let text = said(&verified);
        assert_eq!(verified.status.code(), Some(3), "{change}: {text}");
        assert!(
            text.contains("TAMPERED") && text.contains(&expected),
            "{change}: {text}"
        );
        assert!(text.contains(&chain), "{change}: {text}");
        postgres.sql(
            "TRUNCATE alloy_gateway.record, alloy_gateway.chain; \
             INSERT INTO alloy_gateway.record SELECT * FROM kept_record; \
             INSERT INTO alloy_gateway.chain SELECT * FROM kept_chain",
        );
        assert_verifies(&postgres);
    }
    // A row that answers a question is held against its hash.
    postgres.sql(&format!(
        "UPDATE {record} SET line = replace(line, '\"outcome\":\"deleted\"', '\"outcome\":\"failed\"') WHERE outcome = 'deleted'"
    ));
    let asked = postgres.audit("query", &["--credential", "c1"]);
    assert_eq!(asked.status.code(), Some(3), "{}", said(&asked));
    // Cut with the row that says where it ends: that needs a head noted elsewhere.
    postgres.sql(&format!(
        "DELETE FROM {record} WHERE seq > 3; UPDATE alloy_gateway.chain SET last_seq = 3, last_hash = (SELECT hash FROM {record} WHERE seq = 3)"
    ));
    let verified = postgres.audit("verify", &["--expect", &head]);
    assert_eq!(verified.status.code(), Some(3), "{}", said(&verified));
    assert!(said(&verified).contains("no chain holds the head"));
}

#[test]
fn another_record_under_our_number_stops_the_shipper_and_is_never_taken_for_ours() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    postgres.sql(
        "INSERT INTO alloy_gateway.record (chain, seq, time, event, hash, line) \
         SELECT chain, seq + 1, time, event, hash, line FROM alloy_gateway.record ORDER BY seq DESC LIMIT 1",
    );
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_for_error(&gateway, "conflict");
    assert!(gateway.scrape().get("audit_ship_lag_records") > 0.0);
    // Taken away, it goes on by itself.
    postgres.sql("DELETE FROM alloy_gateway.record r USING alloy_gateway.chain c WHERE c.id = r.chain AND r.seq > c.last_seq");
    wait_until_whole(&gateway);
    assert_collected(&postgres, &gateway);
    assert_verifies(&postgres);
}

/// What is changed as if nobody did, and is not: the database has no error for that.
#[test]
fn a_row_that_the_database_does_not_let_move_on_is_told_and_counted() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let chain = "alloy_gateway.chain";
    let cases = [
        (
            "refused",
            format!(
                "ALTER TABLE {chain} ENABLE ROW LEVEL SECURITY; CREATE POLICY seen ON {chain} FOR SELECT USING (true)"
            ),
            format!("DROP POLICY seen ON {chain}; ALTER TABLE {chain} DISABLE ROW LEVEL SECURITY"),
        ),
        (
            "conflict",
            format!(
                "CREATE TABLE kept AS SELECT id, origin FROM {chain}; UPDATE {chain} SET origin = gen_random_uuid()"
            ),
            format!("UPDATE {chain} c SET origin = k.origin FROM kept k WHERE k.id = c.id"),
        ),
    ];
    for (reason, change, back) in cases {
        let mut gateway = shipping(&postgres, "billing-1").start();
        wait_until_whole(&gateway);
        assert!(gateway.stop().success());
        postgres.sql(&change);
        gateway.start_again();
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        wait_for_error(&gateway, reason);
        assert_eq!(gateway.scrape().get("audit_ship_up"), 0.0);
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            line["reason"] == reason && message.contains("alloy_gateway.chain")
        });
        // Left alone, it goes on by itself.
        postgres.sql(&back);
        wait_until_whole(&gateway);
        assert_collected(&postgres, &gateway);
    }
}

#[test]
fn a_gateway_can_neither_read_nor_change_what_it_wrote() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    for statement in [
        "SELECT line FROM alloy_gateway.record",
        "UPDATE alloy_gateway.record SET line = ''",
        "DELETE FROM alloy_gateway.record",
        "DELETE FROM alloy_gateway.chain",
        "DROP TABLE alloy_gateway.record",
    ] {
        let tried = postgres.try_sql("gateway", statement).unwrap_err();
        let code = tried.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {tried}");
    }
}

/// That one trail wants its key says nothing of another, which has none.
#[test]
fn a_trail_with_a_key_hides_no_row_of_another_that_was_changed() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let keyed = shipping(&postgres, "keyed")
        .audit("mac_key: { file: mac-key }")
        .file("mac-key", "0123456789abcdef0123456789abcdef\n")
        .start();
    let plain = shipping(&postgres, "plain").start();
    for gateway in [&keyed, &plain] {
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        wait_until_whole(gateway);
    }
    let asked = postgres.audit("query", &[]);
    assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
    assert!(said(&asked).contains("not verified"), "{}", said(&asked));
    postgres.sql(&format!(
        "UPDATE alloy_gateway.record SET line = replace(line, '\"credential\":\"c1\"', '\"credential\":\"c9\"') WHERE chain = '{}'",
        chain_of(&plain)
    ));
    let asked = postgres.audit("query", &[]);
    assert_eq!(asked.status.code(), Some(3), "{}", said(&asked));
    assert!(said(&asked).contains("plain"), "{}", said(&asked));
}

/// An auditor who is shown nothing takes it that nothing happened.
#[test]
fn a_line_that_is_no_record_is_named_and_hides_no_call() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let keyed = shipping(&postgres, "keyed")
        .audit("mac_key: { file: mac-key }")
        .file("mac-key", "0123456789abcdef0123456789abcdef\n")
        .start();
    let plain = shipping(&postgres, "plain").start();
    for gateway in [&keyed, &plain] {
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        wait_until_whole(gateway);
    }
    postgres.sql("CREATE TABLE kept AS SELECT * FROM alloy_gateway.record");
    for chain in [chain_of(&keyed), chain_of(&plain)] {
        for (event, is_shown) in [("request.outcome", true), ("request.intent", false)] {
            postgres.sql(&format!(
                "UPDATE alloy_gateway.record SET line = 'x' || line WHERE event = '{event}' AND chain = '{chain}'; \
                 DELETE FROM alloy_gateway.record WHERE chain <> '{chain}'"
            ));
            let asked = postgres.audit("query", &["--credential", "c1", "-o", "json"]);
            let text = said(&asked);
            assert_eq!(asked.status.code(), Some(3), "{event}: {text}");
            assert!(
                text.contains("not a record: column 1") && text.contains(&chain),
                "{event}: {text}"
            );
            let rows = String::from_utf8_lossy(&asked.stdout);
            assert_eq!(rows.contains("\"c1\""), is_shown, "{event}: {text}");
            postgres.sql(
                "TRUNCATE alloy_gateway.record; INSERT INTO alloy_gateway.record SELECT * FROM kept",
            );
        }
    }
}

/// Any gateway may put rows in, and what it puts there every other one is shown.
#[test]
fn what_another_gateway_puts_in_fills_no_gateways_memory() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    assert!(gateway.stop().success());
    let long = "repeat('x', 50 << 20)::bytea";
    let put_in = format!(
        "INSERT INTO alloy_gateway.chain (id, origin, gateway, version, last_seq, last_hash, last_event, last_time) \
         SELECT gen_random_uuid(), origin, gateway, version, last_seq + n, {long}, last_event, now() \
         FROM alloy_gateway.chain, generate_series(1, 8) n"
    );
    postgres.try_sql("gateway", &put_in).unwrap();
    gateway.start_again();
    wait_until_whole(&gateway);
    let peak = peak_kib(&gateway);
    assert!(peak < 200 << 10, "{peak} KiB");
    // Else it may write the records of these numbers first.
    assert!(gateway.stop().success());
    let put_in = format!(
        "INSERT INTO alloy_gateway.record (chain, seq, time, event, hash, line) \
         SELECT id, last_seq + n, now(), '', {long}, '' FROM alloy_gateway.chain, generate_series(1, 2) n WHERE id = origin"
    );
    postgres.try_sql("gateway", &put_in).unwrap();
    gateway.start_again();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_for_error(&gateway, "conflict");
    let peak = peak_kib(&gateway);
    assert!(peak < 200 << 10, "{peak} KiB");
}

/// The most memory that it ever had.
fn peak_kib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak = peak.unwrap().split_whitespace().nth(1);
    peak.unwrap().parse().unwrap()
}

/// A trail on disk is read line by line, up to a length; so is what is collected of it.
#[test]
fn an_auditor_is_told_of_a_line_that_is_too_long_and_does_not_read_it() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_until_whole(&gateway);
    assert!(gateway.stop().success());
    let long = "repeat('x', 20 << 20)";
    postgres.sql(&format!(
        "DROP INDEX alloy_gateway.chain_gateway; UPDATE alloy_gateway.chain SET gateway = {long}, last_event = {long}; \
         UPDATE alloy_gateway.record SET line = {long}, token = {long}, hash = {long}::bytea WHERE event IN ('request.intent', 'request.outcome')"
    ));
    for verb in ["verify", "query"] {
        let ended = postgres.audit(verb, &[]);
        let text = said(&ended);
        let shown: String = text.chars().take(2000).collect();
        assert_eq!(ended.status.code(), Some(3), "{verb}: {shown}");
        assert!(
            text.contains("a line of more than 65536 bytes"),
            "{verb}: {shown}"
        );
        assert!(text.len() < 10_000, "{verb}: {}", text.len());
    }
}

/// One row that makes no sense must not hide what is told of the others.
#[test]
fn a_chain_that_was_heard_of_at_no_possible_time_is_named_beside_the_others() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let [one, two] = ["one", "two"].map(|name| {
        let mut gateway = shipping(&postgres, name).start();
        wait_until_whole(&gateway);
        // It says nothing more.
        gateway.kill();
        chain_of(&gateway)
    });
    for time in ["'infinity'", "'-infinity'", "now() + interval '1 day'"] {
        postgres.sql(&format!(
            "UPDATE alloy_gateway.chain SET seen_at = {time} WHERE id = '{one}'"
        ));
        let verified = postgres.audit("verify", &["--silent-after", "1h"]);
        let text = said(&verified);
        assert_eq!(verified.status.code(), Some(1), "{time}: {text}");
        assert!(
            text.contains(&format!("silent: one {one}")),
            "{time}: {text}"
        );
        assert!(text.contains(&format!("two {two}")), "{time}: {text}");
        assert!(!text.contains("silent: two"), "{time}: {text}");
        assert_eq!(postgres.audit("verify", &[]).status.code(), Some(0));
    }
}

/// The database refuses to index a text of more than some 2,700 bytes, and with it the
/// row: whoever can write the trail's directory could end the collecting for good.
#[test]
fn a_planted_record_with_a_long_text_is_collected_as_any_other() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    wait_until_whole(&gateway);
    assert!(gateway.stop().success());
    // What can be compressed is short enough again.
    let long: String = (0..800).map(|_| uuid_digits()).collect();
    let last = gateway.trail().pop().unwrap();
    let planted = format!(
        "{{\"v\":1,\"seq\":{},\"time\":\"2026-11-30T00:00:00.000000Z\",\"event\":\"request.intent\",\"credential\":\"{long}\",\"prev\":{},\"hash\":\"{}\"}}\n",
        last["seq"].as_u64().unwrap() + 1,
        last["hash"],
        "0".repeat(64)
    );
    let segment = gateway.audit().join("0000000001.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text + &planted).unwrap();
    gateway.start_again();
    wait_until_whole(&gateway);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_until_whole(&gateway);
    assert_collected(&postgres, &gateway);
    // It is no honest record, and its column is its text as far as that goes.
    let verified = said(&postgres.audit("verify", &[]));
    assert!(verified.contains("not what was hashed"), "{verified}");
}

/// Digits that nobody can guess.
fn uuid_digits() -> String {
    uuid::Uuid::now_v7().simple().to_string().split_off(16)
}
