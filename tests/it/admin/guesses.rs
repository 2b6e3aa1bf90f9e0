//! Guesses at the admin token, so many that most are counted together, and where they are
//! told: a guess is no call, a connection is an attempt at one.

use std::{
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::token::NewToken;
use serde_json::Value;

use super::{ask, with_token};
use crate::support::{Connection, Gateway, USER, delete, gateway::audit_verb};

/// Of each kind 200 have a record of their own at once, and then one each 500 ms.
const GUESSES: u64 = 600;
const CONNECTIONS: u64 = 300;

/// What `audit verify` counts after a [`flood`].
pub const VERIFIED: &str =
    ", 1 refusals, 300 refused connections, 600 guesses at the admin token, ";

/// Has one call refused, then connections, and then guesses at the admin token; returns
/// once all of them are in the trail.
pub fn flood(gateway: &Gateway) {
    with_token(gateway);
    assert_eq!(gateway.send(delete(USER, "c1", "agw_x")).status, 401);
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(gateway.data);
        assert_eq!(connection.send("no request\r\n\r\n").receive().status, 400);
    }
    let stranger = format!("Bearer {}", NewToken::generate().unwrap().reveal());
    for _ in 0..GUESSES {
        let status = ask(gateway, "POST", "/-/drain", &[&stranger]).status;
        assert!(status == 401 || status == 429, "{status}");
    }
    for (event, code, count) in [
        ("admin.refused", "admin-refused", GUESSES),
        ("connection.refused", "connection-refused", CONNECTIONS),
    ] {
        let end = Instant::now() + Duration::from_secs(60);
        // Those of a second are counted together, and written at its end.
        while counted(&gateway.trail(), event, code) < count {
            assert!(Instant::now() < end, "{code}: {}", gateway.trail_text());
            thread::sleep(Duration::from_millis(50));
        }
        gateway.record(code, |record| record["code"] == code);
    }
}

/// How many records tell, by themselves and together.
fn counted<'a>(records: impl IntoIterator<Item = &'a Value>, event: &str, code: &str) -> u64 {
    let count = |record: &Value| match record["event"].as_str() {
        Some("refusals.coalesced") if record["code"] == code => record["count"].as_u64().unwrap(),
        Some(found) if found == event => 1,
        _ => 0,
    };
    records.into_iter().map(count).sum()
}

fn parsed(lines: &str) -> Vec<Value> {
    let read = |line| serde_json::from_str(line).unwrap();
    lines.lines().map(read).collect()
}

/// After a [`flood`], whoever answers: `rows` are what is printed with these arguments.
#[track_caller]
pub fn assert_only_attempts_at_calls_are_rows(rows: impl Fn(&[&str]) -> String) {
    let attempts = 1 + CONNECTIONS;
    let (table, json, ocsf) = (rows(&[]), rows(&["-o", "json"]), rows(&["-o", "ocsf"]));
    for text in [&table, &json, &ocsf] {
        assert!(!text.contains("admin-refused"), "{text}");
    }
    let of_row = |row: &str| {
        let (_, count) = row.split_once(") x").unwrap_or_default();
        let count = count.split(' ').next().unwrap_or_default();
        count.parse().unwrap_or(1_u64)
    };
    assert_eq!(table.lines().skip(1).map(of_row).sum::<u64>(), attempts);
    for text in [&json, &ocsf] {
        let rows = parsed(text);
        let counts = rows.iter().map(|row| row["count"].as_u64().unwrap_or(1));
        assert_eq!(counts.sum::<u64>(), attempts, "{text}");
    }
}

#[test]
fn guesses_at_the_admin_token_are_events_and_no_calls_however_many_there_are() {
    let gateway = Gateway::start();
    flood(&gateway);
    let said = |verb: &str, args: &[&str]| {
        let output = audit_verb(gateway.audit(), verb, args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let events = said("events", &["-o", "json"]);
    assert!(!events.contains("connection-refused"), "{events}");
    let events = parsed(&events);
    assert_eq!(counted(&events, "admin.refused", "admin-refused"), GUESSES);
    let table = said("events", &[]);
    let of_row = |row: &str| {
        let (_, count) = row.split_once("  code=admin-refused  count=")?;
        count.split(' ').next()?.parse::<u64>().ok()
    };
    let single = table
        .lines()
        .filter(|row| row.contains("  admin.refused  "));
    let together = table.lines().filter_map(of_row).sum::<u64>();
    assert_eq!(single.count() as u64 + together, GUESSES, "{table}");
    assert_only_attempts_at_calls_are_rows(|args| said("query", args));
    assert_only_attempts_at_calls_are_rows(|args| said("tail", &[&["-n", "1000"], args].concat()));
    let verified = said("verify", &[]);
    assert!(verified.contains(VERIFIED), "{verified}");
}
