//! What the binary tells of itself: reference, man pages, completions, help; and
//! the way to the upstream.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use crate::support::{Gateway, Setup, binary};

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("ALLOY_GATEWAY_CONFIG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_reference_of_the_config_is_printed_as_committed_and_names_every_key() {
    let output = run(&["config", "reference"]);
    let committed = include_str!("../../docs/configuration.md");
    assert!(
        text(&output.stdout) == committed,
        "write it anew: alloy-gateway config reference > docs/configuration.md"
    );
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../config/schema.json")).unwrap();
    let shapes = schema["$defs"].as_object().unwrap().values();
    for shape in shapes.chain([&schema]) {
        let Some(keys) = shape["properties"].as_object() else {
            continue;
        };
        for name in keys.keys() {
            assert!(
                committed.contains(&format!("| `{name}` |")),
                "{name} is not told of"
            );
        }
    }
    // Every link leads to a section of the page.
    for link in committed.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        let leads = committed.lines().any(|line| {
            let title = line.strip_prefix("## ").unwrap_or_default();
            let title: String = title.chars().filter(|c| *c != '.').collect();
            title.to_lowercase() == anchor
        });
        assert!(leads, "#{anchor} leads nowhere");
    }
}

#[test]
fn completions_man_pages_and_the_version_come_from_the_binary() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef alloy-gateway"),
        ("fish", "complete -c alloy-gateway"),
    ] {
        let script = text(&run(&["completions", shell]).stdout);
        assert!(script.contains(sign), "{shell}: {script}");
        assert!(script.contains("healthcheck"), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
    for verb in ["schema", "reference", "show"] {
        let help = text(&run(&["config", "--help"]).stdout);
        assert!(help.contains(&format!("  {verb} ")), "{help}");
    }
    let page = text(&run(&["man"]).stdout);
    assert!(page.contains(".TH alloy-gateway 1"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    let output = run(&["man", "--directory", directory.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let pages: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["alloy-gateway-serve.1", "alloy-gateway-audit-query.1"] {
        assert!(pages.iter().any(|it| it == page), "{page} in {pages:?}");
    }
    let version: serde_json::Value =
        serde_json::from_slice(&run(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn help_shows_the_names_of_variables_and_not_what_is_in_them() {
    let output = command(&["serve", "--help"])
        .env("ALLOY_GATEWAY_CONFIG", "/somewhere/private")
        .output()
        .unwrap();
    let help = text(&output.stdout);
    assert!(
        help.contains("ALLOY_GATEWAY_CONFIG") && !help.contains("private"),
        "{help}"
    );
}

#[test]
fn an_empty_variable_is_named_unless_the_command_line_names_the_config() {
    let with_empty = |args: &[&str]| {
        let mut command = command(args);
        command.env("ALLOY_GATEWAY_CONFIG", "").output().unwrap()
    };
    for args in [&["check"][..], &["serve"], &["audit", "query"]] {
        let output = with_empty(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        let expected = "error: the variable ALLOY_GATEWAY_CONFIG is empty: let it name the config file, or unset it";
        assert!(said.starts_with(expected), "{args:?}: {said}");
    }
    let said = text(&with_empty(&["check", "--config", "/does/not/exist"]).stderr);
    assert!(
        said.contains("/does/not/exist") && !said.contains("ALLOY_GATEWAY"),
        "{said}"
    );
    let output = with_empty(&["check", "--config", ""]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--config") && !said.contains("ALLOY_GATEWAY"),
        "{said}"
    );
}

#[test]
fn color_is_for_terminals_unless_it_is_asked_for() {
    // Its config has no limits at all, which is worth a warning.
    let gateway = Gateway::start();
    let warned = |args: &[&str], no_color: &str| {
        let output = command(args)
            .arg(gateway.config_path())
            .env("NO_COLOR", no_color)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert!(said.contains("warning:"), "{said}");
        said.contains("\x1b[")
    };
    assert!(!warned(&["check"], ""));
    assert!(warned(&["check", "--color", "always"], "1"));
    assert!(!warned(&["check", "--color", "never"], ""));
}

#[test]
fn a_probe_connects_to_the_upstream_and_sends_nothing() {
    // A machine that has much to do must not make it miss the default of 2 s.
    let gateway = Setup::default().upstream("connect_timeout: 60s").start();
    let config = gateway.config_path();
    let config = config.to_str().unwrap();
    let output = run(&["check", "--probe", config]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        said.contains("TLSv1_3") && said.contains("its certificate is good"),
        "{said}"
    );
    assert!(gateway.alloy.received().is_empty());
    // Another authority: reached, and not trusted.
    let stranger = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    fs::write(gateway.path("ca.pem"), stranger.cert.pem()).unwrap();
    let output = run(&["check", "--probe", config]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("UnknownIssuer"),
        "{}",
        text(&output.stderr)
    );
}
