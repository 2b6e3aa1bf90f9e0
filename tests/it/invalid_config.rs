//! While the config on disk is invalid the gateway serves on, and what asks it only needs
//! to know where.

use std::{
    fs,
    process::{Command, Output},
};

use crate::{
    command_line::{Config, run, text},
    support::{Gateway, USER, assert_refusal, binary},
};

/// Ways in which a config on disk turns invalid: in what it says, in its keys, and so that
/// it is no YAML any more.
fn breakages() -> [fn(String) -> String; 6] {
    [
        |text| text.replace("version: 1", "version: 9"),
        |text| text + "nonsense: true\n",
        |text| text.replace("users: all", "usres: all"),
        |text| text + "bounds: { connections: [\n",
        |text| text.replace("    users:", "\tusers:"),
        |text| text.replace("tenants:\n", "tenants: &a\n  - &a *a\n"),
    ]
}

/// A config that names where this gateway is asked, and is broken in this way.
fn asking(gateway: &Gateway, breaks: fn(String) -> String) -> Config {
    let address = format!("address: {}", gateway.admin);
    Config::new(|text| breaks(text.replace("address: off", &address)))
}

fn healthcheck(config: &Config, args: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["healthcheck", "-c", &config.path()], args].concat());
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn a_healthcheck_needs_nothing_of_the_config_but_where_to_ask() {
    let gateway = Gateway::start();
    for (number, breaks) in breakages().into_iter().enumerate() {
        let config = asking(&gateway, breaks);
        let check = run(&["check", &config.path()]);
        assert_eq!(check.status.code(), Some(78), "{number}: {check:?}");
        let (code, said) = healthcheck(&config, &[]);
        assert_eq!((code, said.as_str()), (Some(0), "ok\n"), "{number}");
    }
    // Not UTF-8, and what else is wrong with the section itself.
    let config = asking(&gateway, |text| text);
    let content = fs::read(config.path()).unwrap();
    fs::write(config.path(), [&content[..], b"# \xff\n"].concat()).unwrap();
    assert_eq!(healthcheck(&config, &[]).0, Some(0));
    let config = asking(&gateway, |text| {
        text.replace(
            "admin:\n",
            "admin:\n  hosts: [ \"http://x\" ]\n  socket: off\n",
        )
    });
    assert_eq!(healthcheck(&config, &[]).0, Some(0));
    // What it does not know it does not guess.
    let config = Config::new(|text| text.replace("address: off", "address: nowhere"));
    let (code, said) = healthcheck(&config, &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("yaml:5:12: admin.address: found \"nowhere\", expected an IP address"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let config = Config::new(|text| text.replace("address: off", "adress: 127.0.0.1:1"));
    let (code, said) = healthcheck(&config, &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("did you mean address"), "{said}");
}

#[test]
fn a_healthcheck_asks_at_the_socket_where_no_address_is_listened_on_or_it_is_told_to() {
    let mut gateway = Gateway::start();
    let socket = gateway.path("admin.sock").display().to_string();
    let config = Config::new(|text| {
        text.replace("address: off", &format!("address: off\n  socket: {socket}"))
    });
    assert_eq!(healthcheck(&config, &["--ready"]), (Some(0), "ok\n".into()));
    let other = Config::new(|text| text);
    let named = healthcheck(&other, &["--socket", &socket]);
    assert_eq!(named, (Some(0), "ok\n".into()));
    let (code, said) = healthcheck(&other, &[]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "admin.address is off",
        "admin.socket",
        "--address",
        "--socket",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    gateway.stop();
    let (code, said) = healthcheck(&config, &[]);
    assert_eq!(code, Some(4), "{said}");
}

fn verb(gateway: &Gateway, verb: &str, args: &[&str]) -> Output {
    let args = [args, &["--reason", "INC-7"]].concat();
    gateway.verb(verb, &args)
}

#[test]
fn an_invalid_config_does_not_stop_an_emergency_stop() {
    let gateway = Gateway::start();
    let config = fs::read_to_string(gateway.config_path()).unwrap();
    let quiet = verb(&gateway, "freeze", &["--all"]);
    assert_eq!(text(&quiet.stderr), "", "{quiet:?}");
    verb(&gateway, "thaw", &["--all"]);
    for (number, breaks) in breakages().into_iter().enumerate() {
        gateway.edit_config(|_| breaks(config.clone()));
        let frozen = verb(&gateway, "freeze", &["billing"]);
        assert_eq!(frozen.status.code(), Some(0), "{number}: {frozen:?}");
        assert_refusal(&gateway.delete(USER, "c1"), 403, "tenant-frozen", "no");
        let said = text(&frozen.stderr);
        assert!(
            said.starts_with("warning: the config on disk has problems")
                && said.contains("the running gateway is not touched by them")
                && said.contains("alloy-gateway check"),
            "{number}: {said}"
        );
        let thawed = verb(&gateway, "thaw", &["billing"]);
        assert_eq!(thawed.status.code(), Some(0), "{number}: {thawed:?}");
    }
    assert_eq!(gateway.delete(USER, "c1").status, 200);
}

#[test]
fn a_socket_that_is_not_found_is_told_with_how_to_name_another() {
    let gateway = Gateway::start();
    gateway.edit_config(|text| text.replace("socket: admin.sock", "socket: other.sock"));
    let output = verb(&gateway, "freeze", &["billing"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    for part in [
        "other.sock",
        "--socket PATH",
        "takes effect only after a restart",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let socket = gateway.path("admin.sock");
    let named = Command::new(binary())
        .args(["freeze", "billing", "--reason", "INC-7", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    assert_eq!(named.status.code(), Some(0), "{named:?}");
    // What does not say where is no reason to guess.
    gateway.edit_config(|text| text.replace("socket: other.sock", "socket: off"));
    let output = verb(&gateway, "thaw", &["billing"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("admin.socket: found \"off\"") && said.contains("--socket PATH"),
        "{said}"
    );
}
