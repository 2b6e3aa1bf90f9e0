//! What the verbs of `audit` make of their arguments: none is left out in silence, and
//! what makes no sense is told as usage.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    thread,
};

use crate::{
    command_line::{Config, run, text},
    support::{Gateway, USER, binary},
    trail::forged,
};

/// A verb on a directory, with what stands in the environment.
fn beside(directory: &Path, verb: &str, args: &[&str], config: Option<&Path>) -> Output {
    let mut command = Command::new(binary());
    command.args(["audit", verb]).arg(directory).args(args);
    command.env_remove("ALLOY_GATEWAY_CONFIG");
    command.envs(config.map(|config| ("ALLOY_GATEWAY_CONFIG", config)));
    command.output().unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    text(&output.stderr)
}

#[test]
fn a_config_that_is_named_beside_a_directory_is_read_for_the_key() {
    let gateway = forged();
    let (trail, config) = (gateway.audit(), gateway.config_path());
    let named = ["-c", config.to_str().unwrap()];
    for verb in ["verify", "query", "events"] {
        let alone = assert_code(&beside(trail, verb, &[], None), 0);
        assert!(!alone.contains("was not used"), "{alone}");
        assert_code(&beside(trail, verb, &named, None), 3);
        // One that is not there, or not right, is told instead of left out.
        let said = assert_code(&beside(trail, verb, &["-c", "missing.yaml"], None), 78);
        assert!(said.contains("missing.yaml: cannot be read"), "{said}");
        let said = assert_code(&run(&["audit", verb, "-c", "missing.yaml"]), 78);
        assert!(said.contains("no directory is named"), "{said}");
    }
    fs::remove_file(gateway.path("mac-key")).unwrap();
    let said = assert_code(&beside(trail, "verify", &named, None), 78);
    assert!(said.contains("audit.mac_key.file: cannot read"), "{said}");
    // It verifies nothing, and reads no key: of two trails it can follow one.
    assert_code(&beside(trail, "tail", &named, None), 2);
    assert_code(&beside(trail, "tail", &["--mac-key", "x"], None), 2);
    assert_code(&beside(trail, "tail", &[], None), 0);
}

/// A trail that was copied elsewhere is read without any config; whoever thinks that
/// theirs was read is told.
#[test]
fn a_config_of_the_environment_beside_a_directory_is_not_used_and_that_is_said() {
    let gateway = forged();
    let (trail, config) = (gateway.audit(), gateway.config_path());
    let key = gateway.path("mac-key");
    let key = ["--mac-key", key.to_str().unwrap()];
    let note = format!(
        "the trail's key that {} names was not used",
        config.display()
    );
    let said = assert_code(&beside(trail, "verify", &[], Some(&config)), 0);
    assert!(said.contains(&note), "{said}");
    let said = assert_code(&beside(trail, "verify", &key, Some(&config)), 3);
    assert!(!said.contains(&note), "{said}");
    let missing = gateway.path("missing.yaml");
    let said = assert_code(&beside(trail, "verify", &[], Some(&missing)), 0);
    assert!(!said.contains("missing.yaml"), "{said}");
    // Nor where it names no key.
    let plain = Config::new(|text| text);
    let plain = plain.directory().join("config.yaml");
    let said = assert_code(&beside(trail, "verify", &[], Some(&plain)), 0);
    assert!(!said.contains("was not used"), "{said}");
}

#[test]
fn what_would_have_no_effect_is_a_usage_error_that_says_what_would_be_right() {
    let mut gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, "c0").status, 200);
    assert!(gateway.stop().success());
    let (trail, config) = (gateway.audit(), gateway.config_path());
    let (trail, config) = (trail.to_str().unwrap(), config.to_str().unwrap());
    let key = "--keyed-from needs --mac-key, or a config with audit.mac_key";
    let cases: [(&[&str], &str); 10] = [
        (&["verify", trail, "--keyed-from", "3"], key),
        (&["query", trail, "--keyed-from", "3"], key),
        (&["events", trail, "--keyed-from", "3"], key),
        (&["verify", "-c", config, "--keyed-from", "3"], key),
        (&["verify", "--from", "url", "--keyed-from", "3"], key),
        (
            &["verify", trail, "--gateway", "a", "--silent-after", "1h"],
            "--gateway and --silent-after are of a database: add --from or --collected",
        ),
        (
            &["verify", trail, "--silent-after", "1h"],
            "--silent-after is of a database",
        ),
        (
            &["query", trail, "--gateway", "a"],
            "--gateway is of a database: add --from or --collected",
        ),
        (&["verify", trail, "--from", "url"], "DIRECTORY"),
        (&["query", trail, "--collected"], "DIRECTORY"),
    ];
    for (args, right) in cases {
        let output = run(&[&["audit"], args].concat());
        let said = assert_code(&output, 2);
        assert!(said.contains(right), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_span_that_ends_before_it_begins_is_no_answer() {
    let mut gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, "c0").status, 200);
    assert!(gateway.stop().success());
    let times = ["2026-11-23T18:00:00Z", "2026-11-23T17:00:00Z"];
    for [since, until] in [["2h", "3h"], times, [times[0], times[0]]] {
        let args = ["--since", since, "--until", until];
        let said = assert_code(&beside(gateway.audit(), "query", &args, None), 2);
        assert!(said.contains("--until lies before --since"), "{said}");
        assert!(!said.contains("nothing of that kind"), "{said}");
    }
    let args = ["--since", "3h", "--until", "2h"];
    let said = assert_code(&beside(gateway.audit(), "query", &args, None), 0);
    assert!(said.contains("nothing of that kind"), "{said}");
}

#[test]
fn migrate_says_what_it_does_to_which_database() {
    let said = assert_code(&run(&["audit", "migrate"]), 2);
    assert!(
        said.contains("--from") && said.contains("--collected"),
        "{said}"
    );
    let help = text(&run(&["audit", "migrate", "--help"]).stdout);
    assert!(
        !help.contains("Read from") && !help.contains("directory"),
        "{help}"
    );
    assert!(
        help.contains("Make the tables of the database whose URL stands in this file"),
        "{help}"
    );
}

#[test]
fn a_secret_that_was_taken_for_a_file_is_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    let url = "postgres://auditor:s3cret@127.0.0.1/audit";
    let cases: [&[&str]; 5] = [
        &["verify", url],
        &["tail", url],
        &["query", "--from", "host=127.0.0.1 password=s3cret"],
        &["verify", directory, url],
        &[
            "verify",
            directory,
            "--mac-key",
            "s3cret0123456789abcdef0123456789",
        ],
    ];
    for args in cases {
        let output = run(&[&["audit"], args].concat());
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(!said.contains("s3cret"), "{args:?}: {said}");
        assert!(said.contains("file"), "{args:?}: {said}");
    }
}

/// As a database of the same machine is set up by default; TLS is what it is asked for first.
#[test]
fn a_database_without_tls_on_this_machine_is_told_with_what_would_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"N").unwrap();
    });
    let directory = tempfile::tempdir().unwrap();
    let (url, ca) = (directory.path().join("url"), directory.path().join("ca"));
    fs::write(&url, format!("postgres://u:p@127.0.0.1:{port}/audit")).unwrap();
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&ca, authority.cert.pem()).unwrap();
    let (url, ca) = (url.to_str().unwrap(), ca.to_str().unwrap());
    let output = run(&["audit", "query", "--from", url, "--ca", ca]);
    let said = assert_code(&output, 1);
    assert!(
        said.contains("server does not support TLS; as it is on this machine, sslmode=disable in its URL will do"),
        "{said}"
    );
}
