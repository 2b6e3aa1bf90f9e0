//! Who gets in: the database to us, and we to the database.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, assert_collected, said, shipping, wait_until_whole};
use crate::{
    command_line::{Config, run},
    support::{
        Setup, USER, binary,
        gateway::secret,
        postgres::{PASSWORD, Postgres},
    },
};

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
    let printed = Command::new(binary())
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
    // Counted first, and told after that.
    newer.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("are of version 2, this program knows 1")
    });
    let refused = postgres.audit("migrate", &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(newer.delete(USER, "c1").status, 200);
}

/// What says of which version they are may be all that is left of them.
#[test]
fn tables_that_somebody_dropped_are_named_with_what_brings_them_back() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    for table in ["record", "chain"] {
        let gateway = shipping(&postgres, "billing-1").start();
        wait_until_whole(&gateway);
        postgres.sql(&format!("DROP TABLE alloy_gateway.{table}"));
        let missing = format!("alloy_gateway.{table} is missing");
        for verb in ["migrate", "verify", "query"] {
            let ended = postgres.audit(verb, &[]);
            let told = said(&ended);
            assert_eq!(ended.status.code(), Some(1), "{verb}: {told}");
            assert!(told.contains(&missing), "{verb}: {told}");
            assert!(told.contains("DROP SCHEMA alloy_gateway CASCADE"), "{told}");
        }
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            line["reason"] == "schema" && message.contains(&missing)
        });
        // As the runbook has it.
        postgres.sql("DROP SCHEMA alloy_gateway CASCADE");
        let made = postgres.audit("migrate", &[]);
        assert!(made.status.success(), "{}", said(&made));
        postgres.grant();
        wait_until_whole(&gateway);
        assert_collected(&postgres, &gateway);
    }
}

/// An init container tries again, or does not, by the exit code.
#[test]
fn what_keeps_the_tables_from_being_made_is_told_apart_by_exit_codes() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut postgres = postgres.with_tables();
    let url = tempfile::NamedTempFile::new().unwrap();
    let migrate = |args: &[&str]| {
        let made = run(&[&["audit", "migrate"], args].concat());
        (made.status.code(), said(&made))
    };
    let from = ["--from", url.path().to_str().unwrap()];
    // The environment: the same may do in a while, or for another role.
    postgres.sql("DROP SCHEMA alloy_gateway CASCADE");
    fs::write(url.path(), postgres.url("gateway")).unwrap();
    let (code, told) = migrate(&from);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("permission denied"), "{told}");
    fs::write(url.path(), postgres.url("owner")).unwrap();
    postgres.kill();
    let (code, told) = migrate(&from);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("Connection refused"), "{told}");
    // How it was called.
    for args in [&[] as &[&str], &["--print", "--collected"]] {
        let (code, told) = migrate(args);
        assert_eq!(code, Some(2), "{args:?}: {told}");
        assert!(
            told.contains("--from <FILE>") || told.contains("--print"),
            "{told}"
        );
    }
    // The config, and what it names.
    let ship = "\n  ship: { postgres: { url: { file: postgres-url } } }\n";
    let good = Config::new(|text| text.trim_end().to_owned() + ship);
    let broken = Config::new(|text| text + "surprise: 1\n");
    for (config, message) in [(&good, "postgres-url"), (&broken, "surprise")] {
        for verb in ["migrate", "verify", "query"] {
            let ended = run(&["audit", verb, "--collected", "-c", &config.path()]);
            let told = said(&ended);
            assert_eq!(ended.status.code(), Some(78), "{verb}: {told}");
            assert!(told.contains(message), "{verb}: {told}");
        }
    }
    secret(
        &good.directory().join("postgres-url"),
        &postgres.url("owner"),
    );
    let (code, told) = migrate(&["--collected", "-c", &good.path()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("Connection refused"), "{told}");
}

/// One text that it has no characters for would end the collecting for good.
#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    postgres.sql("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let narrow = |user: &str| postgres.url(user).replace("/postgres?", "/narrow?");
    let url = tempfile::NamedTempFile::new().unwrap();
    fs::write(url.path(), narrow("owner")).unwrap();
    let migrated = run(&["audit", "migrate", "--from", url.path().to_str().unwrap()]);
    let told = said(&migrated);
    assert_eq!(migrated.status.code(), Some(1), "{told}");
    assert!(told.contains("LATIN1") && told.contains("UTF8"), "{told}");
    let gateway = Setup::default()
        .audit("ship: { postgres: { url: { file: postgres-url } } }")
        .file("postgres-url", narrow("gateway"))
        .start();
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["reason"] == "schema" && message.contains("LATIN1")
    });
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
    gateway.process.wait_for(|line| {
        let told = line.to_string();
        told.contains("password authentication failed")
    });
    let errors = "audit_ship_errors_total{reason=\"connect\"}";
    assert!(gateway.scrape().get(errors) >= 1.0);
    // It is read anew each time: the right one is found without a restart.
    secret(&gateway.path("postgres-url"), &postgres.url("gateway"));
    wait_until_whole(&gateway);
    postgres.kill();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let broken = gateway.path("broken");
    secret(&broken, "postgres://gateway:wrong-s3cret?x@127.0.0.1/x");
    let cli = Command::new(binary())
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
        secret(&directory.join("tls.key"), &made.1);
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
    // Counted first, and told after that.
    stranger
        .process
        .wait_for(|line| line.to_string().contains("UnknownIssuer"));
    let errors = "audit_ship_errors_total{reason=\"connect\"}";
    assert!(stranger.scrape().get(errors) >= 1.0);
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
