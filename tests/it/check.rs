//! What `check` says of what a config names: all of it, where it stands, and nothing
//! else than a start would say.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixListener,
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use rcgen::{CertificateParams, KeyPair};

use crate::{
    command_line::{Config, assert_ends, run, text},
    support::{Setup, binary, gateway::secret},
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

/// A config with a TLS listener, and the files that it names.
fn with_tls(certificate: &str, key: &str, more: &str) -> Config {
    let listener = format!(
        "  - address: 127.0.0.1:0\n    tls:\n      certificate: {{ file: tls.crt }}\n      key: {{ file: tls.key }}\n{more}"
    );
    let config = Config::new(|text| text.replace("  - address: 127.0.0.1:0\n", &listener));
    secret(&config.directory().join("tls.crt"), certificate);
    secret(&config.directory().join("tls.key"), key);
    config
}

/// A certificate for `localhost`, valid from and until so many days from now.
fn issued(from: i64, until: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let day = |days: i64| {
        let date = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = day(from);
    params.not_after = day(until);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// The warnings of `check` about `field`.
fn warned(config: &Config, field: &str) -> String {
    let output = run(&["check", &config.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stderr);
    let about = said.lines().filter(|line| line.contains(field));
    about.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_certificate_that_clients_refuse_now_or_soon_is_worth_a_warning() {
    for (from, until, expected) in [
        (-2, 365, ""),
        (-400, -1, "has expired"),
        (-300, 10, "in 9 day(s): clients refuse it"),
        (5, 365, "is not valid before "),
    ] {
        let (certificate, key) = issued(from, until);
        let said = warned(&with_tls(&certificate, &key, ""), "certificate");
        match expected {
            "" => assert_eq!(said, ""),
            expected => {
                assert!(
                    said.contains("yaml:5:28: listen[0].tls.certificate.file: "),
                    "{said}"
                );
                assert!(said.contains(expected), "{expected} in {said}");
            }
        }
    }
}

/// The config with a listener that has authorities of clients, which trusts the same file.
fn with_authorities(authorities: &str) -> Config {
    let (certificate, key) = issued(-2, 365);
    let tls = with_tls(&certificate, &key, "      client_ca: { file: ca.pem }\n");
    let text = fs::read_to_string(tls.path()).unwrap();
    let text = text.replace("trust: bundled", "trust: { file: ca.pem }");
    fs::write(tls.path(), text).unwrap();
    secret(&tls.directory().join("ca.pem"), authorities);
    tls
}

#[test]
fn authorities_that_have_expired_or_soon_will_are_worth_the_same_warning() {
    let (old, _) = issued(-400, -1);
    let (new, _) = issued(-2, 365);
    let (soon, _) = issued(-300, 10);
    for (authorities, expected) in [
        (new.clone(), ""),
        // One that follows another stands beside it for a while.
        (format!("{old}{new}"), ""),
        (old.clone(), "has expired on "),
        (format!("{old}{soon}"), "expires on "),
        (issued(5, 365).0, "is not valid before "),
    ] {
        let config = with_authorities(&authorities);
        let of_trust = warned(&config, "upstream.trust.file: ");
        let of_ca = warned(&config, "listen[0].tls.client_ca.file: ");
        if expected.is_empty() {
            assert_eq!((of_trust.as_str(), of_ca.as_str()), ("", ""));
            continue;
        }
        assert!(of_trust.contains(expected), "{expected} in {of_trust}");
        assert!(of_trust.contains("/ca.pem: "), "{of_trust}");
        assert!(of_trust.contains("each call is 502"), "{of_trust}");
        assert!(of_ca.contains(expected), "{expected} in {of_ca}");
        assert!(
            of_ca.contains("callers whose certificates it issued are refused"),
            "{of_ca}"
        );
        let strict = run(&["check", "--strict", &config.path()]);
        assert_eq!(strict.status.code(), Some(78), "{strict:?}");
    }
}

#[test]
fn a_private_key_that_others_can_read_is_worth_a_warning() {
    let (certificate, key) = issued(-2, 365);
    let config = with_tls(&certificate, &key, "");
    assert_eq!(warned(&config, "tls.key"), "");
    mode(&config.directory().join("tls.key"), 0o644);
    let said = warned(&config, "tls.key");
    assert!(
        said.contains("listen[0].tls.key.file: others than its owner can use this file (mode 644)"),
        "{said}"
    );
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_of_the_trail_that_others_can_write_is_worth_a_warning() {
    let config = Config::new(|text| text);
    let trail = config.directory().join("audit");
    fs::create_dir(&trail).unwrap();
    mode(&trail, 0o750);
    assert_eq!(warned(&config, "audit.directory"), "");
    for loose in [0o777, 0o770] {
        mode(&trail, loose);
        let said = warned(&config, "audit.directory");
        assert!(
            said.contains("can remove, replace or end the trail"),
            "{said}"
        );
        assert!(said.contains("a directory in it"), "{said}");
    }
}

#[test]
fn a_trail_that_this_user_could_not_keep_there_is_worth_a_warning() {
    let doubt = "audit.directory: this user cannot make or write it: ";
    for nowhere in ["/proc/nope", "/proc/nope/audit", "/sys/nope"] {
        let config =
            Config::new(|text| text.replace("directory: audit", &format!("directory: {nowhere}")));
        let said = warned(&config, "audit.directory");
        assert!(said.contains(doubt), "{nowhere}: {said}");
    }
    let config = Config::new(|text| text.replace("directory: audit", "directory: a/b/audit"));
    assert_eq!(warned(&config, "audit.directory"), "");
    let config = Config::new(|text| text.replace("directory: audit", "directory: api-key/audit"));
    let said = warned(&config, "audit.directory");
    assert!(
        said.contains(doubt) && said.contains("/api-key: not a directory"),
        "{said}"
    );
}

#[test]
fn a_trail_in_a_directory_of_another_user_is_worth_a_warning_whether_it_stands_already_or_not() {
    let another = 65_532;
    let config = Config::new(|text| text);
    mode(config.directory(), 0o755);
    if chown(config.directory().join("api-key"), Some(another), None).is_err() {
        // Only root can give files away, and be another user.
        return;
    }
    let warned = || {
        let mut check = Command::new(binary());
        let output = check.args(["check", &config.path()]).uid(another).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = text(&output.stderr);
        said.contains("audit.directory: this user cannot make or write it: ")
            && said.contains("Permission denied")
    };
    assert!(warned(), "its parent is root's");
    let trail = config.directory().join("audit");
    fs::create_dir(&trail).unwrap();
    mode(&trail, 0o700);
    assert!(warned(), "it is root's");
    chown(&trail, Some(another), None).unwrap();
    assert!(!warned(), "it is its own");
}

#[test]
fn a_secret_that_kubernetes_gives_to_the_group_of_the_process_is_fine() {
    // A Secret with fsGroup: of root, mode 0440, of a group that the process is in.
    let config = Config::new(|text| text);
    let key = config.directory().join("api-key");
    if chown(&key, Some(65_532), None).is_err() {
        // Only root can give files away.
        return;
    }
    mode(&key, 0o440);
    assert_eq!(warned(&config, "secret"), "");
    for loose in [0o444, 0o460, 0o450] {
        mode(&key, loose);
        assert!(
            warned(&config, "secret").contains("others than its owner"),
            "{loose:o}"
        );
    }
    chown(&key, None, Some(65_531)).unwrap();
    mode(&key, 0o440);
    assert!(warned(&config, "secret").contains("others than its owner"));
}

/// A certificate of version 1: without extensions, so without names.
const V1: &str = "-----BEGIN CERTIFICATE-----\nMIIBJDCBywIUBoaKVbzAWphlYbB5mBs9U5Z9BhQwCgYIKoZIzj0EAwIwFDESMBAG\nA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDA0MzUxOVoYDzIxMDkwMTE5MDQzNTE5\nWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\nAASpo+vr154uAZUj2mhNSvKUewnPY1slMBr/8xcOl9R4R3YKSAuM3xC8FqQapEeM\npyXVTUyalJLjMGVR5oMD0iDgMAoGCCqGSM49BAMCA0gAMEUCIBLECoNnWb5RQniP\ng0+A3jJDXr9iXFb00b1hJbZfHVXQAiEAiBGp3+378swCLFPwe7fpcqjXDhTqGfn3\n+WN+6CYNfqY=\n-----END CERTIFICATE-----\n";
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=\n-----END ENCRYPTED PRIVATE KEY-----\n";

#[test]
fn what_is_wrong_with_a_file_of_tls_is_told_at_its_field_with_its_path_and_in_words() {
    let (certificate, key) = issued(-2, 365);
    let (_, other) = issued(-2, 365);
    let cut = |pem: &str| pem[..pem.len() / 2].to_owned();
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (certificate, key, field, why) in [
        (&*certificate, &*other, "key", "is for another certificate"),
        (&cut(&certificate), &key, "certificate", "is cut short"),
        (&certificate, &cut(&key), "key", "is cut short"),
        (&certificate, ENCRYPTED, "key", "is encrypted: decrypt it"),
        (&certificate, old, "key", "is encrypted: decrypt it"),
        (
            &certificate,
            &certificate,
            "key",
            "there is no private key in it (PEM)",
        ),
        (
            &key,
            &key,
            "certificate",
            "there is no certificate in it (PEM)",
        ),
        (
            "\x30\x01",
            &key,
            "certificate",
            "there is no certificate in it (PEM)",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            "certificate",
            "certificate 1 cannot be read",
        ),
        (V1, &key, "certificate", "certificate 1 is of version 1"),
    ] {
        let config = with_tls(certificate, key, "");
        let path = config
            .directory()
            .join(format!("tls.{}", &field.replace("certificate", "crt")));
        let said = format!("listen[0].tls.{field}.file: {}: {why}", path.display());
        assert_ends(&config, 78, &said);
        assert_ends(&config, 78, "config.yaml:");
    }
    let with_ca = |content: &str| {
        let config = with_tls(&certificate, &key, "      client_ca: { file: ca.pem }\n");
        secret(&config.directory().join("ca.pem"), content);
        config
    };
    for (content, why) in [
        ("", "there is no certificate in it (PEM)"),
        (&cut(&certificate), "is cut short"),
    ] {
        let config = with_ca(content);
        let path = config.directory().join("ca.pem");
        let said = format!("listen[0].tls.client_ca.file: {}: {why}", path.display());
        assert_ends(&config, 78, &said);
    }
}

#[test]
fn a_file_of_roots_that_is_cut_short_is_told_in_words() {
    let config = Config::new(|text| text.replace("trust: bundled", "trust: { file: ca.pem }"));
    let (certificate, _) = issued(-2, 365);
    fs::write(
        config.directory().join("ca.pem"),
        &certificate[..certificate.len() / 2],
    )
    .unwrap();
    assert_ends(&config, 78, "upstream.trust.file: ");
    assert_ends(&config, 78, "is cut short");
}

/// The config whose tenant may touch those in `users.txt`.
fn with_user_file(content: &str) -> Config {
    let config = Config::new(|text| text.replace("users: all", "users: { file: users.txt }"));
    fs::write(config.directory().join("users.txt"), content).unwrap();
    config
}

#[test]
fn a_list_of_users_that_names_nobody_is_worth_a_warning_at_its_field() {
    for content in ["", "\n", "# nobody yet\n\n  # u1\n"] {
        let said = warned(&with_user_file(content), "tenants[0].users");
        assert!(said.contains("tenants[0].users.file: "), "{said}");
        let expected = "users.txt names nobody: each call of the tenant is 403 user-not-allowed";
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(
        warned(&with_user_file("u1 # one\n"), "tenants[0].users"),
        ""
    );
    let inline = Config::new(|text| text.replace("users: all", "users: []"));
    let said = warned(&inline, "tenants[0].users");
    let expected = "tenants[0].users: the list names nobody: each call of the tenant is 403";
    assert!(said.contains(expected), "{said}");
    let strict = run(&["check", "--strict", &inline.path()]);
    assert_eq!(strict.status.code(), Some(78), "{strict:?}");
    let suspended =
        Config::new(|text| text.replace("users: all", "users: []\n    mode: suspended"));
    assert_eq!(warned(&suspended, "tenants[0].users"), "");
}

#[test]
fn an_emptied_list_of_users_is_told_to_who_loads_it() {
    let gateway = Setup::default()
        .file("users.txt", "u1\n")
        .tenant("billing", &["users: { file: users.txt }"])
        .start();
    fs::write(gateway.path("users.txt"), "# u1\n").unwrap();
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("tenants[0].users.file: "), "{said}");
    assert!(said.contains("users.txt names nobody"), "{said}");
}

#[test]
fn check_tells_each_budget_and_warns_of_one_that_limits_do_not_let_be_spent() {
    let checked = |limits: &str, budget: &str, lines: &str| {
        let config = Config::new(|text| {
            let more = format!("users: all\n    {limits}\n    freeze_after: {budget}");
            text.replace("users: all", &more) + lines
        });
        let url = config.directory().join("redis-url");
        secret(&url, "redis://127.0.0.1:6379\n");
        let output = run(&["check", &config.path()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let strict = run(&["check", "--strict", "--format", "json", &config.path()]);
        let is_warned = text(&strict.stdout).contains("tenants[0].freeze_after.deletions");
        (text(&output.stdout), text(&output.stderr), is_warned)
    };
    let fast = "limits: [ { requests: 30, per: 1s } ]";
    let never = "{ deletions: 100000, per: 1s }";
    let (summary, warned, is_warned) = checked(fast, never, "");
    assert!(
        summary.contains("  tenant billing: frozen after 100000 different credentials within 1s\n"),
        "{summary}"
    );
    assert!(
        warned.contains("tenants[0].freeze_after.deletions: 100000 within 1s cannot be reached")
            && warned.contains("at most 316 calls end in any 1s"),
        "{warned}"
    );
    assert!(is_warned);
    // Only where it is certain: the calls under way count, and so may other gateways.
    let store = "limits_store: { redis: { url: { file: redis-url } }, replicas: 3 }\n";
    for (limits, budget, lines) in [
        (fast, "{ deletions: 316, per: 1s }", ""),
        (fast, "{ deletions: 100000, per: 1h }", ""),
        ("wait: 0s", never, ""),
        (fast, never, store),
    ] {
        let (summary, warned, is_warned) = checked(limits, budget, lines);
        assert!(!is_warned && !warned.contains("freeze_after"), "{warned}");
        let is_shared = summary.contains(", all gateways together\n");
        assert_eq!(is_shared, !lines.is_empty(), "{summary}");
    }
}

#[test]
fn a_byte_order_mark_before_a_list_of_users_is_skipped() {
    assert_eq!(warned(&with_user_file("\u{feff}u1\nu2\n"), "users"), "");
    let said = warned(&with_user_file("\u{feff}# nobody\n"), "users");
    assert!(said.contains("names nobody"), "{said}");
}

#[test]
fn a_key_that_follows_itself_is_worth_a_warning() {
    let with_next = |next: &str| {
        let config = Config::new(|text| {
            let secret = "    secret: { file: api-key }\n";
            text.replace(secret, &format!("{secret}    next: {{ file: {next} }}\n"))
        });
        secret(&config.directory().join("other"), "fedcba9876543210\n");
        warned(&config, "keys.production.next")
    };
    assert_eq!(with_next("other"), "");
    for same in ["api-key", "./api-key"] {
        let said = with_next(same);
        let expected = "yaml:11:11: keys.production.next: is the same as secret";
        assert!(said.contains(expected), "{same}: {said}");
    }
}

#[test]
fn a_key_with_quotes_or_a_name_around_it_is_worth_a_warning_that_does_not_repeat_it() {
    let with_key = |content: &str, field: &str| {
        let config = Config::new(|text| {
            let secret = "    secret: { file: api-key }\n";
            text.replace(secret, &format!("{secret}    next: {{ file: other }}\n"))
        });
        for file in ["api-key", "other"] {
            secret(&config.directory().join(file), "0123456789abcdef\n");
        }
        let file = if field == "next" { "other" } else { "api-key" };
        secret(&config.directory().join(file), content);
        warned(&config, "keys.production")
    };
    for fine in [
        "0123456789abcdef\n",
        "ABCDEFGH23456789====\n",
        "sk_live=abcdef0123\n",
        "part-\"of\"-it",
    ] {
        assert_eq!(with_key(fine, "secret"), "", "{fine}");
    }
    let (quote, name) = ("begins and ends with a quote", "begins with a name and =");
    for (content, expected) in [
        ("\"s3cr3t-of-mine\"\n", quote),
        ("'s3cr3t-of-mine'", quote),
        ("ALLOY_API_KEY=s3cr3t-of-mine\n", name),
        ("KEY=\"s3cr3t-of-mine\"\r\n", name),
    ] {
        for (field, line) in [("secret", 10), ("next", 11)] {
            let said = with_key(content, field);
            let expected = format!(": keys.production.{field}.file: {expected}");
            assert!(said.contains(&format!("yaml:{line}:")), "{said}");
            assert!(said.contains(&expected), "{expected} in {said}");
            assert!(!said.contains("s3cr3t"), "{said}");
        }
    }
}

#[test]
fn a_key_in_the_place_of_its_files_path_is_never_repeated_and_a_path_is() {
    let with_file = |path: &str| Config::new(|text| text.replace("api-key", path));
    let hidden = "keys.production.secret.file: cannot read the file that is named there (its name is not repeated";
    for key in [
        "sk_live_0123456789abcdefghijklmnop",
        "0123456789abcdefghijklmnop/xyz",
        "xyz/0123456789abcdefghijklmnop",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJzdWIiOiIxMjM0NTY3ODkw.c2lnbmF0dXJlIQ",
        // No part of it is long.
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        // Short ones.
        "sk_live_abcdefghijkl",
        "alloy_prod_0123456789",
        "a1b2c3d4e5f6abcdefgh",
        "ABCDEFGHIJKLabcdefgh",
        // Letters alone, in one piece and in many.
        "abcdefghijklmnopqrstuvwxyz",
        "abcdefgh/abcdefgh/abcdefgh/abcdefgh/abcdefgh/abcdefgh/abcdefgh/abcdefgh",
    ] {
        let config = with_file(key);
        for verb in ["check", "serve"] {
            let output = Command::new(binary())
                .args([verb, &config.path()])
                .output()
                .unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{said}");
            assert!(said.contains(hidden), "{said}");
            for part in ["0123456789", "eyJ", "wJal", "MDENG", "abcdefgh", "ABCD"] {
                assert!(!said.contains(part), "{said}");
            }
        }
    }
    for path in [
        "the-key",
        "ALLOY_API_KEY",
        "alloy-key-2026",
        "a1b2c3.pem",
        "secrets/a1b2c3",
        "secrets/key.v2",
        "/run/alloy-gateway-in-production/secrets/the-key.txt",
    ] {
        let told = format!("{path}: No such file or directory");
        assert_ends(&with_file(path), 78, &told);
    }
}

/// Whoever hands a key over through a pipe writes it once.
#[test]
fn a_key_that_comes_through_a_pipe_is_read_once() {
    let config = Config::new(|text| text);
    let pipe = config.directory().join("api-key");
    fs::remove_file(&pipe).unwrap();
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&pipe)
        .status();
    assert!(made.unwrap().success());
    let mut writing = Command::new("sh")
        .args(["-c", "exec printf 'ALLOY_API_KEY=s3cr3t-of-mine' > \"$0\""])
        .arg(&pipe)
        .spawn()
        .unwrap();
    // What waits for a second writer waits for ever.
    let output = Command::new("timeout")
        .arg("60")
        .arg(binary())
        .args(["check", &config.path()])
        .output()
        .unwrap();
    assert!(writing.wait().unwrap().success());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("begins with a name and ="), "{said}");
}

#[test]
fn a_word_for_none_is_no_path_and_no_name() {
    let changed = |from: &str, to: &str| Config::new(|text| text.replace(from, to));
    for word in ["off", "none", "No", "false", "\"null\"", "\"~\""] {
        let said = format!(
            "yaml:6:11: admin.socket: found \"{}\"",
            word.trim_matches('"')
        );
        let socket = format!("address: off\n  socket: {word}");
        assert_ends(&changed("address: off", &socket), 78, &said);
    }
    for (from, to, field) in [
        (
            "directory: audit",
            "directory: off",
            "audit.directory: found",
        ),
        (
            "address: 127",
            "unix: { path: off } # 127",
            "listen[0].unix.path: found",
        ),
        (
            "address: 127",
            "unix: { path: s, group: off } # 127",
            "unix.group: found",
        ),
        (
            "directory: audit",
            "ship: { gateway: off, postgres: { url: { env: URL } } }",
            "audit.ship.gateway: found",
        ),
    ] {
        assert_ends(
            &changed(from, to),
            78,
            &format!("{field} \"off\", expected a "),
        );
    }
    let said = warned(
        &changed("directory: audit", "directory: ./off"),
        "audit.directory",
    );
    assert_eq!(said, "");
}

#[test]
fn a_path_with_a_variable_or_a_home_directory_is_refused_and_not_made() {
    let changed = |from: &str, to: &str| Config::new(|text| text.replace(from, to));
    for (from, to, told) in [
        (
            "directory: audit",
            "directory: ${STATE_DIRECTORY}/audit",
            "audit.directory: found \"${STATE_DIRECTORY}/audit\", which is taken literally here: there are no variables in the config; expected an absolute path, or one relative to the config file",
        ),
        (
            "directory: audit",
            "directory: /var/$NAME_1/audit",
            "audit.directory: found \"/var/$NAME_1/audit\", which is taken literally",
        ),
        (
            "directory: audit",
            "directory: ~/audit",
            "audit.directory: found \"~/audit\", which is taken literally here: there are no home directories in the config; expected an absolute path",
        ),
        (
            "directory: audit",
            "directory: ~alloy/audit",
            "audit.directory: found \"~alloy/audit\", which is taken literally",
        ),
        (
            "address: off",
            "address: off\n  socket: $RUNTIME_DIRECTORY/a",
            "admin.socket: found \"$RUNTIME_DIRECTORY/a\", which is taken literally",
        ),
        (
            "address: 127",
            "unix: { path: \"${HOME}/s\" } # 127",
            "listen[0].unix.path: found \"${HOME}/s\", which is taken literally",
        ),
        (
            "users: all",
            "users: { file: $HOME/users.txt }",
            "tenants[0].users.file: found \"$HOME/users.txt\", which is taken literally",
        ),
        (
            "trust: bundled",
            "trust: { file: ~/ca.pem }",
            "upstream.trust.file: found \"~/ca.pem\", which is taken literally",
        ),
        // It may be the secret itself.
        (
            "file: api-key",
            "file: $HOME/s3cr3t",
            "keys.production.secret.file: found a text of 12 bytes with a $, which is taken literally",
        ),
        (
            "file: api-key",
            "file: ~/s3cr3t",
            "keys.production.secret.file: found a text of 8 bytes with a ~ at its beginning, which is taken literally",
        ),
        (
            "directory: audit",
            "directory: \"audit \"",
            "audit.directory: found \"audit \", which begins or ends with a space",
        ),
        (
            "directory: audit",
            "directory: \" /var/audit\"",
            "audit.directory: found \" /var/audit\", which begins or ends with a space",
        ),
    ] {
        let config = changed(from, to);
        assert_ends(&config, 78, told);
        let made: Vec<_> = fs::read_dir(config.directory()).unwrap().collect();
        assert_eq!(made.len(), 2, "{made:?}");
    }
    // A $ alone, and a ~ elsewhere, are letters of a name.
    for fine in ["a$/audit", "b~/audit", "./~c", "$1/audit", "d e/audit"] {
        let config = changed("directory: audit", &format!("directory: {fine}"));
        assert_eq!(warned(&config, "audit.directory"), "", "{fine}");
    }
}
