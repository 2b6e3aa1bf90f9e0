//! The command line: what it prints, what it says of bad input, and its exit codes.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use alloy_gateway::token::{NewToken, Token};

use crate::support::{Gateway, binary, gateway::secret};

pub fn run(args: &[&str]) -> Output {
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

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A config in a directory of its own that is right but for what a test changes.
pub struct Config(tempfile::TempDir);

impl Config {
    pub fn new(change: impl Fn(String) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let digest = NewToken::generate().unwrap().digest().to_hex();
        let config = format!(
            "version: 1\nlisten:\n  - address: 127.0.0.1:0\nadmin:\n  address: off\n\
             upstream:\n  trust: bundled\nkeys:\n  production:\n    secret: {{ file: api-key }}\n\
             tenants:\n  - name: billing\n    key: production\n    users: all\n    \
             tokens: [ {{ id: first, sha256: \"{digest}\" }} ]\naudit:\n  directory: audit\n"
        );
        secret(&directory.path().join("api-key"), "0123456789abcdef\n");
        fs::write(directory.path().join("config.yaml"), change(config)).unwrap();
        Self(directory)
    }

    pub fn path(&self) -> String {
        self.0.path().join("config.yaml").display().to_string()
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }
}

/// The messages alone, of lines that are JSON.
fn said(stderr: &str) -> String {
    let messages = stderr.lines().map(|line| {
        let json = serde_json::from_str::<serde_json::Value>(line);
        json.map_or(line.to_owned(), |line| {
            line["message"].as_str().unwrap().to_owned()
        })
    });
    messages.collect::<Vec<_>>().join("\n")
}

/// `check` and `serve` end with this code and one clear message.
#[track_caller]
pub fn assert_ends(config: &Config, code: i32, message: &str) {
    for verb in ["check", "serve"] {
        let output = run(&[verb, "-c", &config.path()]);
        let said = said(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{verb}: {said}");
        assert!(
            said.contains(message),
            "{verb}: expected {message}\nfound {said}"
        );
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn the_example_configs_pass_check() {
    for name in ["example.yaml", "full.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        let output = run(&["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("ok (1 tenant(s)"));
    }
}

#[test]
fn the_schema_is_printed_as_committed() {
    let output = run(&["config", "schema"]);
    let committed = include_str!("../../config/schema.json");
    assert!(
        text(&output.stdout) == committed,
        "write it anew: alloy-gateway config schema > config/schema.json"
    );
    let schema: serde_json::Value = serde_json::from_str(committed).unwrap();
    assert!(schema["properties"]["upstream"].is_object());
}

#[test]
fn check_tells_its_problems_as_text_json_and_annotations() {
    let config = Config::new(|text| {
        text.replace("users: all", "users: some")
            .replace("version: 1", "version: 9")
    });
    assert_ends(
        &config,
        78,
        "config.yaml:1:10: version: found 9, this program reads version 1",
    );
    let json = run(&["check", "-c", &config.path(), "--format", "json"]);
    let problems: Vec<serde_json::Value> = text(&json.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(problems.len(), 2);
    assert_eq!(
        (&problems[0]["path"], &problems[0]["line"]),
        (&"version".into(), &1.into())
    );
    let github = text(&run(&["check", "-c", &config.path(), "--format", "github"]).stdout);
    assert!(github.starts_with("::error file="), "{github}");
    assert!(
        github.contains(",line=1,col=10::version: found 9"),
        "{github}"
    );
}

#[test]
fn warnings_are_errors_only_if_strict() {
    let config = Config::new(|text| text);
    let output = run(&["check", &config.path()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("warning: "), "{output:?}");
    let strict = run(&["check", "--strict", &config.path()]);
    assert_eq!(strict.status.code(), Some(78));
    assert!(text(&strict.stdout).contains(": not ok ("), "{strict:?}");
}

#[test]
fn what_is_wrong_in_the_file_and_in_what_it_names_is_told_at_once() {
    let config = Config::new(|text| {
        text.replace("users: all", "users: { file: missing.txt }")
            .replace("trust: bundled", "trust: bundled\n  retries: 1000")
    });
    fs::remove_file(config.directory().join("api-key")).unwrap();
    let output = run(&["check", &config.path()]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 3, "{said}");
    for field in [
        "upstream.retries: ",
        "keys.production.secret.file: cannot read",
        "tenants[0].users.file: cannot read",
    ] {
        assert!(said.contains(field), "{field} in {said}");
    }
}

#[test]
fn a_config_may_come_from_standard_input() {
    let config = Config::new(|text| text.replace("version: 1", "version: 9"));
    let good = Config::new(|text| {
        let key = format!("{{ file: {}/api-key }}", config.directory().display());
        text.replace("{ file: api-key }", &key)
    });
    let content = |config: &Config| fs::read_to_string(config.path()).unwrap();
    let output = with_stdin(&["check", "-"], &content(&good));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Places of warnings are found too, although it can't be read twice.
    assert!(text(&output.stderr).contains("warning: -:"), "{output:?}");
    let output = with_stdin(&["check", "-"], &content(&config));
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).starts_with("-:1:10: version"),
        "{output:?}"
    );
}

#[test]
fn configs_that_cannot_be_read_end_with_78_and_one_message() {
    let config = Config::new(|_| String::new());
    assert_ends(&config, 78, "is empty");
    let config = Config::new(|text| text);
    fs::write(config.path(), b"version: 1\n\xff\n").unwrap();
    assert_ends(&config, 78, "is not UTF-8 at line 2, column 1");
    fs::remove_file(config.path()).unwrap();
    assert_ends(&config, 78, "cannot be read: No such file");
    fs::create_dir(config.path()).unwrap();
    assert_ends(&config, 78, "cannot be read: Is a directory");
}

#[test]
fn large_and_deeply_nested_configs_are_refused_soon() {
    for (content, message) in [
        ("[".repeat(10 << 20), "nested too deeply"),
        ("- ".repeat(5 << 20), "nested too deeply"),
        ("{a: ".repeat(2 << 20), "nested too deeply"),
        ("x".repeat(10 << 20), "found a text, expected a map"),
        ("#".repeat(33 << 20), "is longer than 32 MiB"),
        (
            "a: &a [b, b]\nb: &b [*a, *a, *a, *a]\n".to_owned(),
            "unknown key",
        ),
    ] {
        let config = Config::new(|_| content.clone());
        let start = Instant::now();
        let output = run(&["check", &config.path()]);
        assert_eq!(output.status.code(), Some(78));
        assert!(
            text(&output.stderr).contains(message),
            "{}",
            text(&output.stderr).get(..200).unwrap_or_default()
        );
        // Quadratic time on 10 MiB would be hours.
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn secrets_that_are_missing_empty_or_loose_are_named_and_never_shown() {
    let config = Config::new(|text| text);
    let key = config.directory().join("api-key");
    secret(&key, "\n\n");
    assert_ends(&config, 78, "keys.production.secret.file: ");
    secret(&key, "with space in it");
    assert_ends(
        &config,
        78,
        "keys.production.secret.file: the secret holds a space (first at offset 4)",
    );
    assert!(!text(&run(&["check", &config.path()]).stderr).contains("with space"));
    fs::remove_file(&key).unwrap();
    assert_ends(&config, 78, "cannot read");
    let config =
        Config::new(|text| text.replace("{ file: api-key }", "{ env: ALLOY_GATEWAY_TEST_UNSET }"));
    assert_ends(
        &config,
        78,
        "the environment variable ALLOY_GATEWAY_TEST_UNSET is not set",
    );
    // What a template put there instead of a name is not repeated.
    let config = Config::new(|text| {
        text.replace("{ file: api-key }", "{ env: sk_live_4eC39HqLyjWDarjtT1 }")
    });
    assert_ends(
        &config,
        78,
        "keys.production.secret.env: the environment variable",
    );
    assert!(!text(&run(&["check", &config.path()]).stderr).contains("4eC39"));
    let config = Config::new(|text| {
        text.replace(
            "{ file: api-key }",
            "{ credential: sk_live_4eC39HqLyjWDarjtT1 }",
        )
    });
    let output = command(&["check", &config.path()])
        .env("CREDENTIALS_DIRECTORY", config.directory())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(!text(&output.stderr).contains("4eC39"), "{output:?}");
    let config = Config::new(|text| text);
    secret(
        &config.directory().join("api-key"),
        NewToken::generate().unwrap().reveal(),
    );
    assert_ends(
        &config,
        78,
        "keys.production.secret.file: found a token that callers present",
    );
    let config = Config::new(|text| text.replace("directory: audit", "directory: api-key"));
    assert_ends(&config, 78, "audit.directory: ");
    let config = Config::new(|text| text.replace("users: all", "users: { file: missing.txt }"));
    assert_ends(&config, 78, "tenants[0].users.file: cannot read");
    let config = Config::new(|text| text.replace("users: all", "users: { file: users.txt }"));
    fs::write(
        config.directory().join("users.txt"),
        "good\na/b # who?\nalso-good\nc d\n",
    )
    .unwrap();
    assert_ends(
        &config,
        78,
        "users.txt line 2, 4: expected a user id: 1 to 128 of A-Z a-z 0-9 . _ ~ -, not . or .., not beginning with agw_ and holding no token",
    );
    let config = Config::new(|text| text.replace("trust: bundled", "trust: { file: missing.pem }"));
    assert_ends(&config, 78, "upstream.trust.file: ");
}

#[test]
fn the_mistakes_of_the_issue_each_end_in_one_clear_message() {
    let config = Config::new(|text| text.replace("    key: production", "    key: prodution"));
    assert_ends(
        &config,
        78,
        "tenants[0].key: found \"prodution\", which is none of keys: production, did you mean production?",
    );
    let config = Config::new(|text| {
        text.replace(
            "users: all",
            "users: all\n    limits: [ { requests: 0, per: 1s } ]",
        )
    });
    assert_ends(&config, 78, "tenants[0].limits[0].requests: found 0");
    let config = Config::new(|text| {
        let (before, tenant) = text.split_once("  - name: billing").unwrap();
        let tenant = tenant.split_once("audit:").unwrap().0;
        format!(
            "{before}  - name: other{tenant}{}",
            &text[text.find("  - name").unwrap()..]
        )
    });
    assert_ends(
        &config,
        78,
        "tenants[1].tokens[0].sha256: the same token as tenants[0].tokens[0]",
    );
}

#[test]
fn a_used_port_ends_serve_with_1_and_says_so() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    let config = Config::new(|text| text.replace("127.0.0.1:0", &address));
    let output = run(&["serve", "-c", &config.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("cannot listen on {address}")),
        "{}",
        text(&output.stderr)
    );
    // Also one that another gateway holds, whose listeners share ports among workers.
    let gateway = Gateway::start();
    let address = gateway.data.to_string();
    let config = Config::new(|text| text.replace("127.0.0.1:0", &address));
    assert_eq!(run(&["serve", "-c", &config.path()]).status.code(), Some(1));
}

#[test]
fn a_used_admin_port_ends_serve_with_1_and_leaves_no_trail() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap();
    let config = Config::new(|text| text.replace("address: off", &format!("address: {address}")));
    let output = run(&["serve", &config.path()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("cannot listen on {address} (admin.address)"))
            && said.contains("ss -lntxp"),
        "{said}"
    );
    assert!(
        !said.contains("was not closed in order") && !said.contains("listener"),
        "{said}"
    );
    assert!(
        !config.directory().join("audit").exists(),
        "an address is tried before the trail is touched"
    );
}

#[test]
fn starts_on_a_used_port_leave_nothing_in_the_trail_however_many_there_are() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    let config = Config::new(|text| {
        let free = "  - address: 127.0.0.1:0\n";
        text.replace(free, &format!("{free}  - address: {address}\n"))
    });
    for _ in 0..3 {
        let output = run(&["serve", &config.path()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains(&format!("cannot listen on {address}: ")) && said.contains("ss -lntxp"),
            "{said}"
        );
    }
    assert!(!config.directory().join("audit").exists());
}

#[test]
fn a_socket_without_its_directory_leaves_nothing_in_the_trail_either() {
    let free = "  - address: 127.0.0.1:0\n";
    for (by, change) in [
        (
            "cannot listen on ",
            [free, "  - unix: { path: missing/s }\n"],
        ),
        (
            "(admin.socket)",
            ["address: off", "address: off\n  socket: missing/s"],
        ),
    ] {
        let [from, to] = change;
        let config = Config::new(|text| text.replace(from, to));
        let output = run(&["serve", &config.path()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains(by) && said.contains("No such file or directory"),
            "{said}"
        );
        assert!(!config.directory().join("audit").exists(), "{by}");
    }
}

#[test]
fn a_start_that_fails_behind_the_trail_leaves_it_in_order() {
    // Each can be bound alone, and both have the same name.
    let config = Config::new(|text| {
        let free = "  - address: 127.0.0.1:0\n";
        text.replace("address: off", "address: off\n  socket: here/s")
            .replace(free, &format!("{free}  - unix: {{ path: s }}\n"))
    });
    symlink(".", config.directory().join("here")).unwrap();
    let output = run(&["serve", &config.path()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("another process answers there") && !said.contains("was not closed in order"),
        "{said}"
    );
    let trail = fs::read_to_string(config.directory().join("audit/0000000001.jsonl")).unwrap();
    assert!(
        trail.lines().last().unwrap().contains("\"trail.sealed\""),
        "{trail}"
    );
}

#[test]
fn a_directory_without_a_trail_is_no_intact_trail() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    for verb in ["verify", "query", "tail", "events"] {
        let output = run(&["audit", verb, &path]);
        assert_eq!(output.status.code(), Some(1), "{verb}: {output:?}");
        assert!(
            text(&output.stderr).contains("there is no trail in"),
            "{output:?}"
        );
    }
    // One that is known to have had records was tampered with.
    let head = format!("7:{}", "0".repeat(64));
    let output = run(&["audit", "verify", &path, "--expect", &head]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn check_names_the_tenants_of_whom_nothing_is_deleted() {
    let config = Config::new(|text| text.replace("users: all", "users: all\n    mode: dry_run"));
    let output = run(&["check", &config.path()]);
    assert!(
        text(&output.stdout).contains("  tenant billing: mode dry_run, nothing is sent\n"),
        "{output:?}"
    );
}

#[test]
fn a_trail_that_cannot_be_written_ends_serve_with_1_and_says_so() {
    let config = Config::new(|text| text.replace("directory: audit", "directory: api-key/audit"));
    let output = run(&["serve", "-c", &config.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("audit.directory"),
        "{}",
        text(&output.stderr)
    );
    let config = Config::new(|text| text.replace("directory: audit", "directory: /proc/audit"));
    assert_eq!(run(&["serve", "-c", &config.path()]).status.code(), Some(1));
    let gateway = Gateway::start();
    let taken = gateway.path("audit").display().to_string();
    let config =
        Config::new(|text| text.replace("directory: audit", &format!("directory: {taken}")));
    let output = run(&["serve", "-c", &config.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("being written by another process"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn no_token_is_made_for_a_name_that_a_config_refuses() {
    for args in [
        ["--tenant", "billing", "--id", "a\"b"],
        ["--tenant", "billing", "--id", ""],
        ["--id", "2026-11", "--tenant", "bad name"],
    ] {
        let output = run(&[&["token", "new"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("expected a name: 1 to 64 of A-Z a-z 0-9 . _ -"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_new_token_is_printed_once_with_the_line_for_the_config() {
    let output = run(&["token", "new", "--tenant", "billing", "--expires", "90d"]);
    assert!(output.status.success(), "{output:?}");
    let printed = text(&output.stdout);
    let token = printed
        .split_whitespace()
        .find(|word| word.starts_with("agw_"))
        .expect("a token");
    let digest = Token::parse(token.as_bytes()).unwrap().digest().to_hex();
    assert!(printed.contains(&digest), "{printed}");
    assert_eq!(printed.matches(token).count(), 1);
    assert!(printed.contains("expires: 20"), "{printed}");

    let hash = with_stdin(&["token", "hash"], token);
    assert_eq!(text(&hash.stdout).trim(), digest);
    let config = Config::new(|text| {
        let (before, after) = text.split_once("sha256: \"").unwrap();
        format!("{before}sha256: \"{digest}{}", &after[64..])
    });
    let inspect = with_stdin(&["token", "inspect", "-c", &config.path()], token);
    assert!(inspect.status.success(), "{inspect:?}");
    assert!(
        text(&inspect.stdout).contains("tenant: billing"),
        "{inspect:?}"
    );
    assert!(!text(&inspect.stdout).contains(token));
    let other = with_stdin(
        &["token", "inspect", "-c", &Config::new(|text| text).path()],
        token,
    );
    assert_eq!(other.status.code(), Some(1));
    let bad = with_stdin(&["token", "hash"], &token[..token.len() - 1]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(!text(&bad.stderr).contains(&token[4..20]), "{bad:?}");
}

fn with_stdin(args: &[&str], input: &str) -> Output {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{input}\n").as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn usage_errors_exit_2_and_version_and_help_0() {
    assert_eq!(run(&["serve", "--nonsense"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    let version = run(&["version"]);
    assert_eq!(
        text(&version.stdout),
        format!("alloy-gateway {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn healthcheck_tells_alive_and_ready_and_gone() {
    let mut gateway = Gateway::start();
    let address = gateway.admin.to_string();
    let config = Config::new(|text| text.replace("address: off", &format!("address: {address}")));
    for args in [
        vec!["healthcheck", "-c"],
        vec!["healthcheck", "--ready", "-c"],
    ] {
        let output = command(&args).arg(config.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    gateway.stop();
    let output = command(&["healthcheck", "-c"])
        .arg(config.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

#[test]
fn the_demo_plays_its_story_and_all_of_it_holds() {
    let output = run(&["demo", "--once"]);
    let story = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{story}");
    assert!(
        story.contains("x-api-version: 2025-09") && story.contains("All of it held."),
        "{story}"
    );
    assert!(!story.contains("agw_") || !story.contains(&"agw_".repeat(2)));
}

#[test]
fn a_demo_that_nobody_can_read_leaves_nothing_behind() {
    for args in [&["demo", "--once"][..], &["demo"]] {
        let directory = tempfile::tempdir().unwrap();
        let start = |stdout: Stdio| {
            let mut demo = command(args);
            demo.env("TMPDIR", directory.path()).stdout(stdout);
            demo.stderr(Stdio::piped()).spawn().unwrap()
        };
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let output = start(full.unwrap().into()).wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("cannot write to stdout: No space left"),
            "{said}"
        );
        // A reader that went away has seen enough.
        let mut piped = start(Stdio::piped());
        drop(piped.stdout.take());
        let output = piped.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{args:?}: {left:?}");
    }
}

/// Whatever collects the log reads JSON: the line that says why there is no gateway is
/// the one it must not drop.
#[test]
fn why_serve_ends_is_told_as_the_log_is() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    let cases: [(&str, &dyn Fn(String) -> String); 3] = [
        ("version", &|text| text.replace("version: 1", "version: 2")),
        ("cannot read", &|text| {
            text.replace("file: api-key", "file: none")
        }),
        ("cannot listen on", &|text| {
            text.replace("127.0.0.1:0", &address)
        }),
    ];
    for (why, change) in cases {
        let said = text(&run(&["serve", "-c", &Config::new(change).path()]).stderr);
        let lines = said.lines().map(serde_json::from_str::<serde_json::Value>);
        let lines: Vec<_> = lines.collect::<Result<_, _>>().expect(&said);
        let told = lines.iter().find(|line| line.to_string().contains(why));
        assert_eq!(told.expect(&said)["level"], "error", "{said}");
    }
    let as_text = |text: String| {
        format!(
            "{}log: {{ format: text }}\n",
            text.replace("127.0.0.1:0", &address)
        )
    };
    let said = text(&run(&["serve", "-c", &Config::new(as_text).path()]).stderr);
    // Behind what was logged before: people look at the end.
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("alloy-gateway: cannot listen on"),
        "{said}"
    );
}

/// Whoever named a config to `serve` alone asks a running gateway next, and must learn how
/// to name it there.
#[test]
fn every_verb_that_finds_no_config_says_how_to_name_one() {
    let looked_for = Path::new("/etc/alloy-gateway/config.yaml");
    if looked_for.exists() {
        return;
    }
    let how = "cannot be read: No such file or directory (os error 2); name another one with --config FILE, or in ALLOY_GATEWAY_CONFIG";
    let verbs: [&[&str]; 13] = [
        &["serve"],
        &["check"],
        &["check", "--format", "json"],
        &["config", "show"],
        &["policy", "explain", "--token-id", "a", "--user", "u"],
        &["freeze", "billing", "--reason", "x"],
        &["thaw", "--all", "--reason", "x"],
        &["healthcheck"],
        &["audit", "query"],
        &["audit", "verify", "--collected"],
        &["audit", "tail"],
        &["audit", "events"],
        &["audit", "migrate", "--collected"],
    ];
    for args in verbs {
        let output = run(args);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{args:?}: {said}");
        assert_eq!(said.matches(how).count(), 1, "{args:?}: {said}");
    }
    let token = NewToken::generate().unwrap();
    let said = text(&with_stdin(&["token", "inspect"], token.reveal()).stderr);
    assert!(said.contains(how), "{said}");
    // To those who collect the log, too.
    let said = text(&run(&["serve"]).stderr);
    for line in said.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{said}"
        );
    }
    // One that was named is there to be mended, not to be named anew.
    let said = text(&run(&["config", "show", "-c", "/nonexistent"]).stderr);
    assert!(
        said.contains("cannot be read") && !said.contains("another"),
        "{said}"
    );
}
