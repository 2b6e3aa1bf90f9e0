//! What `check` says of what a config names: all of it, where it stands, and nothing
//! else than a start would say.

use std::{fs, os::unix::net::UnixListener};

use crate::{
    command_line::{Config, assert_ends, run, text},
    support::Setup,
};

#[test]
fn every_problem_of_the_file_and_of_all_that_it_names_is_told_at_once() {
    let config = Config::new(|text| {
        let text = text.replace("version: 1", "version: 2");
        text.replace("directory: audit", "directory: api-key")
            + "otlp:\n  endpoint: http://127.0.0.1:4318\n  headers: { x: { file: missing } }\n"
    });
    let said = text(&run(&["check", &config.path()]).stderr);
    for field in ["version: ", "audit.directory: ", "otlp.headers.x.file: "] {
        assert!(said.contains(field), "{field} in {said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
}

/// The config with this socket for callers.
fn with_unix(unix: &str) -> Config {
    Config::new(|text| {
        let listener = format!("  - address: 127.0.0.1:0\n  - unix: {unix}\n");
        text.replace("  - address: 127.0.0.1:0\n", &listener)
    })
}

#[test]
fn a_socket_that_could_not_be_bound_is_told_with_its_place() {
    let long = "x".repeat(108);
    for (path, why) in [
        (long.as_str(), "at most 107 fit"),
        ("api-key", "is no socket"),
        ("api-key/s", "is no directory"),
    ] {
        let config = with_unix(&format!("{{ path: {path} }}"));
        assert_ends(&config, 78, "yaml:4:19: listen[1].unix.path: ");
        assert_ends(&config, 78, why);
        let config = Config::new(|text| {
            text.replace("address: off", &format!("address: off\n  socket: {path}"))
        });
        assert_ends(&config, 78, "yaml:6:11: admin.socket: ");
        assert_ends(&config, 78, why);
    }
    let config = with_unix("{ path: s, group: nosuchgroup }");
    assert_ends(
        &config,
        78,
        "yaml:4:29: listen[1].unix.group: there is no group \"nosuchgroup\"",
    );
}

#[test]
fn a_socket_whose_directory_is_missing_is_worth_a_warning() {
    // What starts the gateway may make it, as systemd does.
    let config = with_unix("{ path: missing/s }");
    let output = run(&["check", &config.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("yaml:4:19: listen[1].unix.path: there is no directory "),
        "{said}"
    );
}

#[test]
fn a_socket_that_stands_already_is_none_of_checks_business() {
    let config = with_unix("{ path: s, group: root }");
    let _left = UnixListener::bind(config.directory().join("s")).unwrap();
    let output = run(&["check", &config.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_reload_tells_of_a_socket_that_the_next_start_could_not_bind_and_not_of_its_own() {
    let gateway = Setup::default()
        .listen("unix: { path: gateway.sock }")
        .start();
    let reload = || gateway.admin_socket("POST", "/-/reload");
    assert_eq!(reload().0, 200);
    // Whatever became of what is bound: it must not hold up what is revoked.
    fs::remove_file(gateway.path("gateway.sock")).unwrap();
    fs::write(gateway.path("gateway.sock"), "").unwrap();
    assert_eq!(reload().0, 200);
    gateway.edit_config(|text| text.replace("path: gateway.sock", "path: missing/gateway.sock"));
    let (status, said) = reload();
    assert_ne!(status, 200, "{said}");
    assert!(
        said.contains("listen[1].unix.path: there is no directory "),
        "{said}"
    );
}
