//! The collected trail, in a real PostgreSQL: what the database holds is what the trails
//! on disk hold, whoever is killed meanwhile, and that can be seen from it alone.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::audit;
use serde_json::Value;

use crate::support::{
    CREDENTIAL, Gateway, Setup, USER,
    gateway::audit_verb,
    postgres::{PASSWORD, Postgres},
};

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
    postgres.run();
    wait_until_whole(&gateway);
    let held = segments();
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
    let end = Instant::now() + PATIENCE;
    while gateway
        .scrape()
        .get("audit_ship_errors_total{reason=\"conflict\"}")
        == 0.0
    {
        assert!(Instant::now() < end, "{}", gateway.process.output());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(gateway.scrape().get("audit_ship_lag_records") > 0.0);
    // Taken away, it goes on by itself.
    postgres.sql("DELETE FROM alloy_gateway.record r USING alloy_gateway.chain c WHERE c.id = r.chain AND r.seq > c.last_seq");
    wait_until_whole(&gateway);
    assert_collected(&postgres, &gateway);
    assert_verifies(&postgres);
}

#[test]
fn many_make_the_tables_at_once_and_newer_ones_are_left_alone() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let gateway = shipping(&postgres, "early").start();
    let made: Vec<_> = thread::scope(|scope| {
        let makers: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| postgres.audit("migrate", &[])))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    let did = made
        .iter()
        .filter(|made| said(made).contains("were of version 0"))
        .count();
    assert_eq!(did, 1, "{made:?}");
    assert!(made.iter().all(|made| made.status.success()), "{made:?}");
    let printed = Command::new(env!("CARGO_BIN_EXE_alloy-gateway"))
        .args(["audit", "migrate", "--print"])
        .output()
        .unwrap();
    postgres.sql(&format!(
        "DROP SCHEMA alloy_gateway CASCADE; {}",
        said(&printed)
    ));
    assert!(said(&postgres.audit("migrate", &[])).contains("already"));
    // A gateway that was there before the tables and its role begins by itself.
    let postgres = {
        postgres.sql("DROP SCHEMA alloy_gateway CASCADE");
        postgres.with_tables()
    };
    wait_until_whole(&gateway);
    postgres.sql("INSERT INTO alloy_gateway.schema_version VALUES (2, now(), 'the future')");
    let newer = shipping(&postgres, "late").start();
    let end = Instant::now() + PATIENCE;
    while newer
        .scrape()
        .get("audit_ship_errors_total{reason=\"schema\"}")
        == 0.0
    {
        assert!(Instant::now() < end, "{}", newer.process.output());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        newer
            .process
            .output()
            .contains("are of version 2, this program knows 1")
    );
    let refused = postgres.audit("migrate", &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(newer.delete(USER, "c1").status, 200);
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

#[test]
fn the_password_of_the_database_is_told_nowhere() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut postgres = postgres.with_tables();
    let secrets = [PASSWORD, "a-pass%2Fword", "wrong-s3cret"];
    let wrong = postgres.url_with("gateway", "wrong-s3cret", "?sslmode=disable");
    let gateway = Setup::default()
        .log("trace")
        .audit("ship: { postgres: { url: { file: postgres-url } } }")
        .file("postgres-url", wrong)
        .start();
    let end = Instant::now() + PATIENCE;
    while gateway
        .scrape()
        .get("audit_ship_errors_total{reason=\"connect\"}")
        == 0.0
    {
        assert!(Instant::now() < end, "{}", gateway.process.output());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        gateway
            .process
            .output()
            .contains("password authentication failed")
    );
    // It is read anew each time: the right one is found without a restart.
    crate::support::gateway::secret(&gateway.path("postgres-url"), &postgres.url("gateway"));
    wait_until_whole(&gateway);
    postgres.kill();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let broken = gateway.path("broken");
    crate::support::gateway::secret(&broken, "postgres://gateway:wrong-s3cret?x@127.0.0.1/x");
    let cli = Command::new(env!("CARGO_BIN_EXE_alloy-gateway"))
        .args(["audit", "verify", "--from"])
        .arg(&broken)
        .output()
        .unwrap();
    assert_eq!(cli.status.code(), Some(1));
    let config = gateway.admin_socket("GET", "/config").1;
    assert!(config.contains("postgres-url"), "{config}");
    let all = [
        gateway.process.output(),
        gateway.admin("/status").text(),
        gateway.admin("/status.json").text(),
        gateway.scrape().text().to_owned(),
        said(&cli),
        said(&postgres.audit("verify", &[])),
        config,
    ];
    for text in all {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_database_that_is_not_who_it_should_be_gets_neither_password_nor_records() {
    let authority = Authority::new("ours");
    let made = authority.certificate("127.0.0.1");
    let options = [
        "-c",
        "ssl=on",
        "-c",
        "ssl_cert_file=../tls.crt",
        "-c",
        "ssl_key_file=../tls.key",
    ];
    let Some(postgres) = Postgres::start_with(&options, |directory| {
        fs::write(directory.join("tls.crt"), &made.0).unwrap();
        crate::support::gateway::secret(&directory.join("tls.key"), &made.1);
    }) else {
        return;
    };
    let postgres = postgres.with_tables();
    let with = |pem: &str| {
        Setup::default()
            .audit("ship: { postgres: { url: { file: postgres-url }, trust: { file: database-ca.pem } } }")
            .file("postgres-url", postgres.url_with("gateway", "a-pass%2Fword%2Bthat%3Fis%3Dodd", ""))
            .file("database-ca.pem", pem)
            .start()
    };
    let stranger = with(&Authority::new("theirs").pem);
    let end = Instant::now() + PATIENCE;
    while stranger
        .scrape()
        .get("audit_ship_errors_total{reason=\"connect\"}")
        == 0.0
    {
        assert!(Instant::now() < end, "{}", stranger.process.output());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        stranger.process.output().contains("UnknownIssuer"),
        "{}",
        stranger.process.output()
    );
    let mut good = with(&authority.pem);
    wait_until_whole(&good);
    let tls = postgres.sql("SELECT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'gateway'");
    assert_eq!(tls[0].get::<_, String>(0), "TLSv1.3");
    assert_eq!(good.stop().code(), Some(0));
    assert_collected(&postgres, &good);
}

struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    /// A certificate and its key, PEM.
    fn certificate(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
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

/// The long run: `COLLECTED_TRAIL_SECONDS=300 cargo test --release --test it -- collected_trail::nothing`.
#[test]
fn nothing_is_lost_or_doubled_while_database_and_gateways_are_killed_at_random() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut postgres = postgres.with_tables();
    let seconds = std::env::var("COLLECTED_TRAIL_SECONDS");
    let seconds = seconds.map_or(20, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut gateways: Vec<_> = (0..3)
        .map(|n| {
            shipping(&postgres, &format!("gateway-{n}"))
                .workers(1)
                .audit("segment_size: 64KiB")
                .start()
        })
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut calls, mut kills, mut outages) = (0, 0, 0);
    while Instant::now() < end {
        match random.below(12) {
            0 => {
                postgres.kill();
                thread::sleep(Duration::from_millis(random.below(1500)));
                postgres.run();
                outages += 1;
            }
            1 => {
                postgres.pause();
                call(&gateways, &mut random, &mut calls);
                thread::sleep(Duration::from_millis(random.below(2000)));
                postgres.resume();
                outages += 1;
            }
            2 => {
                postgres.stop();
                call(&gateways, &mut random, &mut calls);
                postgres.run();
                outages += 1;
            }
            3 | 4 => {
                let at = usize::try_from(random.below(3)).unwrap();
                gateways[at].kill();
                gateways[at].start_again();
                kills += 1;
            }
            _ => call(&gateways, &mut random, &mut calls),
        }
    }
    assert!(
        calls > 100 && kills > 0 && outages > 0,
        "{calls} {kills} {outages}"
    );
    for gateway in &mut gateways {
        wait_until_whole(gateway);
        assert_eq!(gateway.stop().code(), Some(0));
        assert_collected(&postgres, gateway);
        let report = audit::verify(gateway.audit(), &audit::Known::default(), |_| {}).unwrap();
        assert!(report.is_intact(), "{report}");
    }
    let rows = postgres.sql("SELECT count(*) FROM alloy_gateway.record");
    let records: i64 = rows[0].get(0);
    let there: usize = gateways.iter().map(|gateway| gateway.trail().len()).sum();
    assert_eq!(records, i64::try_from(there).unwrap(), "and nothing else");
    assert_verifies(&postgres);
    println!("{calls} calls, {kills} gateways killed, {outages} outages: {records} records");
}

/// Calls of all gateways at once, none of which may fail whatever the database does.
fn call(gateways: &[Gateway], random: &mut Random, calls: &mut u64) {
    let first = random.below(900);
    thread::scope(|scope| {
        for gateway in gateways {
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for n in first..first + 20 {
                    let request = crate::support::delete(USER, &format!("c{n}"), gateway.token());
                    let status = connection.send(request).receive().status;
                    assert!(status == 200 || status == 404, "{status}");
                }
            });
        }
    });
    *calls += 60;
}

/// The same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
