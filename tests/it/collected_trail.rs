//! The collected trail, in a real PostgreSQL: what the database holds is what the trails
//! on disk hold, whoever is killed meanwhile, and that can be seen from it alone.

mod access;
mod guesses;
mod held_up;
mod killed;
mod removed;
mod set_back;
mod tampering;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{CREDENTIAL, Gateway, Setup, USER, gateway::audit_verb, postgres::Postgres};

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn shipping(postgres: &Postgres, name: &str) -> Setup {
    Setup::default()
        .audit(&format!(
            "ship: {{ gateway: {name}, postgres: {{ url: {{ file: postgres-url }} }} }}"
        ))
        .file("postgres-url", postgres.url("gateway"))
}

/// Waits until the database has everything.
#[track_caller]
fn wait_until_whole(gateway: &Gateway) {
    let end = Instant::now() + PATIENCE;
    loop {
        let scrape = gateway.scrape();
        let is_up = scrape.get("audit_ship_up") == 1.0;
        if is_up && scrape.get("audit_ship_lag_records") == 0.0 {
            return;
        }
        assert!(
            Instant::now() < end,
            "{}\n{}",
            gateway.admin("/status.json").text(),
            gateway.process.output()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until records could not be collected, for this reason.
#[track_caller]
fn wait_for_error(gateway: &Gateway, reason: &str) {
    let errors = format!("audit_ship_errors_total{{reason=\"{reason}\"}}");
    let end = Instant::now() + PATIENCE;
    while gateway.scrape().get(&errors) == 0.0 {
        assert!(Instant::now() < end, "{}", gateway.process.output());
        thread::sleep(Duration::from_millis(50));
    }
}

/// The id that the trail carries.
fn chain_of(gateway: &Gateway) -> String {
    let trail = gateway.trail();
    let opened = trail
        .iter()
        .rfind(|record| record["event"] == "trail.opened");
    opened.unwrap()["chain"].as_str().unwrap().to_owned()
}

/// The lines that the database has of a chain, in order.
fn lines(postgres: &Postgres, chain: &str) -> Vec<String> {
    let rows = postgres.sql(&format!(
        "SELECT line FROM alloy_gateway.record WHERE chain = '{chain}' ORDER BY seq"
    ));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every record of the trail is in the database once, byte for byte, and nothing else.
#[track_caller]
fn assert_collected(postgres: &Postgres, gateway: &Gateway) {
    let (there, here) = (lines(postgres, &chain_of(gateway)), gateway.trail_text());
    let here: Vec<_> = here.lines().collect();
    let first = here
        .iter()
        .zip(&there)
        .position(|(here, there)| here != there);
    assert_eq!(first, None, "the first line that differs");
    assert_eq!(here.len(), there.len());
}

#[track_caller]
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn assert_verifies(postgres: &Postgres) {
    let verified = postgres.audit("verify", &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}

#[test]
fn what_the_database_holds_is_the_trail_byte_for_byte() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    assert_eq!(gateway.delete(USER, CREDENTIAL).status, 200);
    assert_eq!(gateway.delete(USER, "gone").status, 404);
    assert_eq!(
        gateway.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status,
        404
    );
    wait_until_whole(&gateway);
    // The next start goes on where the database stands.
    assert_eq!(gateway.stop().code(), Some(0));
    assert_collected(&postgres, &gateway);
    gateway.start_again();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    wait_until_whole(&gateway);
    assert_collected(&postgres, &gateway);
    assert_verifies(&postgres);
    // What is beside the lines is there to be asked.
    let rows = postgres.sql(&format!(
        "SELECT c.gateway, r.tenant, r.token, r.user_id, o.outcome, o.status::int FROM alloy_gateway.record r \
         JOIN alloy_gateway.chain c ON c.id = r.chain JOIN alloy_gateway.record o USING (chain, request_id) \
         WHERE r.credential_id = '{CREDENTIAL}' AND o.event = 'request.outcome'"
    ));
    let text = |at| rows[0].get::<_, String>(at);
    let found = [text(0), text(1), text(2), text(3), text(4)];
    assert_eq!(found, ["billing-1", "billing", "first", USER, "deleted"]);
    assert_eq!(rows[0].get::<_, i32>(5), 200);
    assert_eq!(rows.len(), 1);
    let status: Value = serde_json::from_str(&gateway.admin("/status.json").text()).unwrap();
    assert_eq!(status["trail"]["ship"]["up"], true);
    assert_eq!(status["trail"]["ship"]["lag_records"], 0);
}

#[test]
fn the_database_answers_as_the_directory_does() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    let answers: Vec<_> = (0..5)
        .map(|n| gateway.delete(USER, &format!("c{n}")))
        .collect();
    assert_eq!(gateway.delete(USER, "gone").status, 404);
    assert_eq!(
        gateway
            .send("DELETE /users/u/credentials/c HTTP/1.1\r\nHost: x\r\n\r\n")
            .status,
        401
    );
    gateway.record("the refusal", |record| record["event"] == "request.refused");
    // What was written and not acknowledged yet is sent once the trail is sealed.
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    let id = answers[3].field("x-request-id").unwrap();
    let questions: [&[&str]; 9] = [
        &[],
        &["--credential", "c2"],
        &["--user", USER],
        &["--user", "nobody"],
        &["--tenant", "billing", "--outcome", "deleted"],
        &["--outcome", "refused"],
        &["--outcome", "open"],
        &["--request-id", id],
        &["--since", "1h", "--token", "first"],
    ];
    for question in questions {
        let question = [question, &["-o", "json"]].concat();
        let here = audit_verb(gateway.audit(), "query", &question);
        let there = postgres.audit("query", &question);
        let rows = |output: &Output| -> BTreeSet<String> {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let rows = text.lines().map(|line| {
                let mut row: Value = serde_json::from_str(line).unwrap();
                let row_of = row.as_object_mut().unwrap();
                let gateway = row_of.remove("gateway");
                assert!(gateway.is_none_or(|it| it == "billing-1"));
                row.to_string()
            });
            rows.collect()
        };
        assert_eq!(rows(&here), rows(&there), "{question:?}");
        assert_eq!(there.status.code(), Some(0), "{}", said(&there));
    }
    let other = postgres.audit("query", &["--gateway", "another"]);
    assert!(
        said(&other).contains("nothing of that kind"),
        "{}",
        said(&other)
    );
}

#[test]
fn the_config_that_tells_the_database_tells_the_key_of_its_trails() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1")
        .audit("mac_key: { file: mac-key }")
        .file("mac-key", "0123456789abcdef0123456789abcdef\n")
        .start();
    assert_eq!(gateway.delete(USER, CREDENTIAL).status, 200);
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    // A gateway may not read what it wrote; an auditor's config names another role.
    for verb in ["verify", "query"] {
        let refused = gateway.verb("audit", &[verb, "--collected"]);
        let words = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{words}");
        let right = "this role may not read what was collected: name an auditor's URL with --from: permission denied for table record";
        assert!(words.contains(right), "{words}");
    }
    fs::write(gateway.path("postgres-url"), postgres.url("owner")).unwrap();
    let verified = gateway.verb("audit", &["verify", "--collected"]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert!(said(&verified).contains("intact"), "{}", said(&verified));
    let asked = gateway.verb("audit", &["query", "--collected"]);
    assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
    assert!(!said(&asked).contains("not verified"), "{}", said(&asked));
    // Who names the database alone has to name the key, too; and another key is another.
    let without = postgres.audit("verify", &[]);
    assert_eq!(without.status.code(), Some(3), "{}", said(&without));
    let other = gateway.path("other-key");
    fs::write(&other, "another key of thirty-two bytes!").unwrap();
    let args = [
        "verify",
        "--collected",
        "--mac-key",
        other.to_str().unwrap(),
    ];
    let verified = gateway.verb("audit", &args);
    assert_eq!(verified.status.code(), Some(3), "{}", said(&verified));
}

#[test]
fn a_gateway_that_falls_silent_is_named_and_one_that_was_stopped_is_not() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut stopped = shipping(&postgres, "stopped").start();
    wait_until_whole(&stopped);
    assert_eq!(stopped.stop().code(), Some(0));
    let mut killed = shipping(&postgres, "killed").start();
    wait_until_whole(&killed);
    killed.kill();
    postgres.sql("UPDATE alloy_gateway.chain SET seen_at = now() - interval '1 hour'");
    let told = postgres.audit("verify", &["--silent-after", "30m"]);
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    assert!(said(&told).contains("silent: killed "), "{}", said(&told));
    assert!(!said(&told).contains("silent: stopped"), "{}", said(&told));
    let of_one = postgres.audit("verify", &["--silent-after", "30m", "--gateway", "stopped"]);
    assert_eq!(of_one.status.code(), Some(0), "{}", said(&of_one));
    assert_eq!(
        postgres
            .audit("verify", &["--silent-after", "2h"])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn retention_waits_for_a_database_that_is_down_and_no_call_does() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1")
        .audit("segment_age: 1s")
        .audit("retention: 1s")
        .start();
    wait_until_whole(&gateway);
    postgres.kill();
    let segments = || fs::read_dir(gateway.audit()).unwrap().count();
    let end = Instant::now() + PATIENCE;
    let mut credentials = 0..1000;
    while gateway.scrape().get("audit_ship_held_segments") < 3.0 {
        let credential = format!("c{}", credentials.next().unwrap());
        assert_eq!(gateway.delete(USER, &credential).status, 200);
        assert!(Instant::now() < end, "{}", gateway.process.output());
        thread::sleep(Duration::from_millis(100));
    }
    assert!(segments() > 3, "{}", segments());
    assert!(gateway.scrape().sum("audit_ship_errors_total") > 0.0);
    assert!(
        gateway
            .admin("/status.json")
            .text()
            .contains("does not get into the database")
    );
    // Before it is back: what is held may be removed at any time from then on.
    let held = segments();
    postgres.run();
    wait_until_whole(&gateway);
    while segments() >= held || gateway.scrape().get("audit_ship_held_segments") > 0.0 {
        assert!(Instant::now() < end, "{}", gateway.process.output());
        thread::sleep(Duration::from_millis(100));
    }
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    // The database has all of it, also what is not on disk any more.
    let there = lines(&postgres, &chain_of(&gateway));
    let here = gateway.trail_text();
    let here: Vec<_> = here.lines().collect();
    assert!(there.len() > here.len());
    assert_eq!(here, there[there.len() - here.len()..]);
    assert_verifies(&postgres);
}

#[test]
fn a_trail_that_was_set_back_is_collected_beside_what_it_was() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert_eq!(gateway.stop().code(), Some(0));
    let aside = tempfile::tempdir().unwrap();
    copy(gateway.audit(), aside.path());
    gateway.start_again();
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    wait_until_whole(&gateway);
    gateway.kill();
    fs::remove_dir_all(gateway.audit()).unwrap();
    fs::create_dir(gateway.audit()).unwrap();
    copy(aside.path(), gateway.audit());
    for credential in ["c3", "c4"] {
        gateway.start_again();
        assert_eq!(gateway.delete(USER, credential).status, 200);
        wait_until_whole(&gateway);
        gateway.kill();
    }
    // Both are there, once, and each verifies.
    let chains =
        postgres.sql("SELECT id::text, origin::text FROM alloy_gateway.chain ORDER BY since");
    let chains: Vec<(String, String)> = chains.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(chains.len(), 2, "{chains:?}");
    assert_eq!(chains[0].0, chains[1].1);
    for credential in ["c1", "c2", "c3", "c4"] {
        let found = postgres.sql(&format!(
            "SELECT 1 FROM alloy_gateway.record WHERE credential_id = '{credential}'"
        ));
        assert_eq!(found.len(), 1, "{credential}");
    }
    assert_verifies(&postgres);
    assert!(said(&postgres.audit("verify", &[])).contains("was set back or copied"));
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_gateway_that_collects_nothing_has_no_thread_for_it_and_writes_the_same_trail() {
    let gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let tasks = format!("/proc/{}/task", gateway.process.id());
    let names: Vec<_> = fs::read_dir(tasks)
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .collect();
    assert!(names.iter().any(|name| name.trim() == "trail"), "{names:?}");
    assert!(!names.iter().any(|name| name.trim() == "ship"), "{names:?}");
    assert!(!gateway.trail_text().contains("\"chain\""));
}
