mod ranges;

use std::path::Path;

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"version: 1
listen:
  - address: 127.0.0.1:8080
keys:
  production:
    secret: { file: key }
tenants:
  - name: billing
    key: production
    users: all
    tokens:
      - { id: first, sha256: "3b7e9c1f5a2d8046e1c3b5a7990812f4d6e8fa0c2b4d6f8091a3c5e7f9b1d3a5" }
"#;

/// Problems of a text, one a line.
fn problems(text: &str) -> String {
    parse("c.yaml", text, Path::new(""), |_| Vec::new())
        .map_or_else(|problems| problems.to_string(), |_| String::new())
}

/// The good config with one line put in another's place.
fn with(line: &str, other: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replace(line, other)
}

#[test]
fn what_the_config_leaves_out_has_the_documented_defaults() {
    let (settings, _) = parse("c.yaml", GOOD, Path::new("/etc/x"), |_| Vec::new()).unwrap();
    let shown = show(&settings);
    for expected in [
        "url: https://production.runalloy.com",
        "api_version: 2025-09",
        "auth_scheme: bearer",
        "ids: opaque",
        "trust: system",
        "connect_timeout: 2s",
        "request_timeout: 30s",
        "retries: 2",
        "failures: 10",
        "open_for: 5s",
        "address: 127.0.0.1:9465",
        "directory: /var/lib/alloy-gateway/audit",
        "durability: strict",
        "outcome_wait: 2s",
        "workers: auto",
        "connections: 4096",
        "connections_per_peer: 4096",
        "requests_in_flight: 1024",
        "header_timeout: 5s",
        "body_timeout: 10s",
        "idle_timeout: 1m",
        "drain_timeout: 35s",
        "headers: 64",
        "header_bytes: 16384",
        "body_bytes: 65536",
        "in_flight: 256",
        "mode: enforce",
        "wait: 0s",
        "file: /etc/x/key",
    ] {
        assert!(shown.contains(expected), "{expected} in\n{shown}");
    }
}

/// One that leaves nothing out, and is taken only because it allows what it needs.
const OPEN: &str = r#"version: 1
listen:
  - { address: "0.0.0.0:8080", allow_plaintext: true }
  - { unix: { path: gateway.sock, group: apps } }
  - { systemd: apps.socket, allow_plaintext: true }
  - { address: "0.0.0.0:8443", tls: { certificate: { file: crt }, key: { file: key }, client_ca: { file: ca } } }
admin:
  address: 0.0.0.0:9465
  hosts: [gateway.example]
  socket: admin.sock
  token: { id: ops, sha256: "0b7e9c1f5a2d8046e1c3b5a7990812f4d6e8fa0c2b4d6f8091a3c5e7f9b1d3a5" }
  allow_plaintext: true
upstream: { url: "http://alloy.example:8000", allow_plaintext: true, circuit_breaker: off }
keys:
  production: { secret: { value: an-inline-secret }, next: { env: NEXT }, limits: [ { requests: 5, per: 1m } ] }
tenants:
  - name: billing
    key: production
    users: [ana]
    mode: dry_run
    freeze_after: { deletions: 2, per: 1h }
    tokens:
      - { id: first, sha256: "3b7e9c1f5a2d8046e1c3b5a7990812f4d6e8fa0c2b4d6f8091a3c5e7f9b1d3a5", expires: 2127-02-01T00:00:00Z }
audit:
  retention: 90d
  mac_key: { credential: mac-key }
  ship: { gateway: billing-1, postgres: { url: { env: URL }, allow_plaintext: true } }
limits_store: { redis: { url: { env: REDIS }, allow_plaintext: true }, replicas: 3 }
log: { level: debug, format: json, access: failures }
otlp: { endpoint: "http://collector.example:4318/x", headers: { authorization: { env: OTLP } }, allow_plaintext: true }
workers: 2
allow_inline_secrets: true
"#;

#[test]
fn a_shown_config_has_the_same_effect() {
    let full = include_str!("../../config/full.yaml");
    let only_secret = OPEN.replace("{ value: an-inline-secret }", "{ file: key }");
    for (inline, text) in [(false, full), (true, OPEN), (false, &only_secret)] {
        let read = |text: &str| match parse("c.yaml", text, Path::new(""), |_| Vec::new()) {
            Ok((settings, _)) => settings,
            Err(problems) => panic!("{problems}\n{text}"),
        };
        let settings = read(text);
        let shown = show(&settings);
        // Only what is left out of the digests has to be put back.
        let digests = text.split('"').filter(|part| part.len() == 64);
        let whole = digests.fold(shown.clone(), |shown, digest| {
            shown.replace(&format!("{}… (redacted)", &digest[..12]), digest)
        });
        let again = read(&whole);
        assert_eq!(format!("{again:?}"), format!("{settings:?}"));
        assert_eq!(show(&again), shown);
        assert_eq!(shown.contains("allow_inline_secrets: true"), inline);
    }
}

#[test]
fn each_problem_has_its_place_its_field_and_what_would_be_right() {
    let cases = [
        (
            with("version: 1", "version: 2"),
            "c.yaml:1:10: version: found 2, this program reads version 1",
        ),
        (with("version: 1\n", ""), "version: is missing"),
        (
            with("listen:", "listne:"),
            "c.yaml:2:1: listne: unknown key, did you mean listen?",
        ),
        (
            with("    key: production", "    key: prodution"),
            "c.yaml:9:10: tenants[0].key: found \"prodution\", which is none of keys: production, did you mean production?",
        ),
        (
            with("127.0.0.1:8080", "0.0.0.0:8080"),
            "c.yaml:3:14: listen[0].address: callers elsewhere would send their tokens readable",
        ),
        (
            with("127.0.0.1:8080", "here"),
            "listen[0].address: found \"here\", expected an IP address with a port",
        ),
        (with("    users: all\n", ""), "tenants[0].users: is missing"),
        (
            with("users: all", "users: everybody"),
            "tenants[0].users: found \"everybody\", expected all, a list of user ids, or { file: PATH }\n",
        ),
        (
            with("users: all", "users: al"),
            "tenants[0].users: found \"al\", expected all, a list of user ids, or { file: PATH }, did you mean all?",
        ),
        (with("users: all", "users: ALL"), ", did you mean all?"),
        (
            with("users: all", "users: all, ana"),
            "found \"all, ana\", expected all, a list of user ids, or { file: PATH }, did you mean a list, in [ ]?",
        ),
        (
            with("users: all", "users: users.txt"),
            "found \"users.txt\", expected all, a list of user ids, or { file: PATH }, did you mean { file: users.txt }?",
        ),
        (
            with("users: all", "users: 7"),
            "tenants[0].users: found 7, expected all, a list of user ids, or { file: PATH }",
        ),
        (
            with("users: all", "users: [ ok, a/b ]"),
            "c.yaml:10:18: tenants[0].users[1]: found \"a/b\", expected a user id",
        ),
        (
            with("{ file: key }", "{ file: key, env: X }"),
            "keys.production.secret: expected exactly one of file, env, credential",
        ),
        (
            with("{ file: key }", "the-key-itself"),
            "c.yaml:6:13: keys.production.secret: found a text, expected a map with file, env or credential",
        ),
        (
            with("{ file: key }", "{ value: the-key-itself }"),
            "needs allow_inline_secrets: true",
        ),
        (
            with(
                "    users: all",
                "    users: all\n    limits: [ { requests: 0, per: 1s } ]",
            ),
            "tenants[0].limits[0].requests: found 0, expected a whole number from 1 to 1000000 (a limit of zero admits nothing",
        ),
        (
            with(
                "    users: all",
                "    users: all\n    limits: [ { requests: 1, per: 1s }, { requests: 2, per: 1000ms } ]",
            ),
            "tenants[0].limits[1].per: another limit of this list has the same span",
        ),
        (
            with(
                "    users: all",
                "    users: all\n    limits: [ { requests: 1, per: 366d, burst: 1000 } ]",
            ),
            "tenants[0].limits[0].per: is too long for this burst",
        ),
        (
            with("    users: all", "    users: all\n    wait: 5"),
            "tenants[0].wait: found \"5\", expected a number with a unit",
        ),
        (
            with("    users: all", "    users: all\n    mode: dryrun"),
            "tenants[0].mode: found \"dryrun\", expected enforce or dry_run or suspended, did you mean dry_run?",
        ),
        (
            with(
                "keys:\n  production:\n    secret: { file: key }",
                "keys: {}",
            ),
            "tenants[0].key: found \"production\", and there are no keys",
        ),
        (
            with("address: 127.0.0.1:8080", "unix: { path: s, mode: \"66\" }"),
            "listen[0].unix.mode: found \"66\", expected three octal digits, as in 660 or 0660",
        ),
        (with("id: first", "id: \"\""), "tokens[0].id"),
        (
            with("3b7e9c1f", "zz7e9c1f"),
            "tenants[0].tokens[0].sha256: expected 64 hex digits",
        ),
        (
            with(
                "f9b1d3a5\" }",
                "f9b1d3a5\", not_before: 2027-01-01T00:00:00Z, expires: 2026-01-01T00:00:00Z }",
            ),
            "expires: is not after not_before",
        ),
        (
            format!("{GOOD}upstream: {{ url: \"http://example.com\" }}\n"),
            "upstream.url: the key would travel readable",
        ),
        (
            format!("{GOOD}upstream: {{ trust: sytem }}\n"),
            "expected system, bundled or { file: PATH }, did you mean system?",
        ),
        (
            format!("{GOOD}bounds: {{ header_bytes: 1KiB }}\n"),
            "bounds.header_bytes: is out of bounds, expected 8KiB to 256KiB",
        ),
        (
            format!("{GOOD}admin: {{ socket: off }}\n"),
            "c.yaml:13:18: admin.socket: found \"off\", expected a path: leave it out for none",
        ),
        (
            format!("{GOOD}audit: {{ directory: off }}\n"),
            "c.yaml:13:21: audit.directory: found \"off\", expected a path (./off, if that is one)",
        ),
        (
            format!("{GOOD}audit: {{ retention: 30 }}\n"),
            "audit.retention: found \"30\", expected a number with a unit: ms, s, m, h or d, as in 250ms or 5s; or forever\n",
        ),
        (
            format!("{GOOD}audit: {{ retention: 1ms }}\n"),
            "audit.retention: found \"1ms\", expected 1s to 36600d; or forever\n",
        ),
        (
            format!("{GOOD}workers: 0\n"),
            "workers: expected auto, or a whole number from 1 to 256",
        ),
        (
            with(
                "    users: all",
                "    users: all\n    limits: [ { requests: -5, per: 1s } ]",
            ),
            "tenants[0].limits[0].requests: found a negative number, expected a whole number from 1 to 1000000\n",
        ),
        (
            with(
                "    secret: { file: key }",
                "    secret: { file: key }\n    limits: [ { requests: 1.5, per: 1s } ]",
            ),
            "keys.production.limits[0].requests: found a fraction, expected a whole number from 1 to 1000000\n",
        ),
        (
            format!("{GOOD}bounds: {{ body_bytes: -1 }}\n"),
            "bounds.body_bytes: found a negative number, expected a whole number from ",
        ),
        (
            format!("{GOOD}bounds: {{ connections: -1 }}\n"),
            "bounds.connections: found a negative number, expected a whole number from 1 to 1000000\n",
        ),
        (
            with(
                "    users: all",
                "    users: all\n    limits: [ { requests: \"50\", per: 1s } ]",
            ),
            "tenants[0].limits[0].requests: found a text, since it is in quotes, expected a whole number",
        ),
        (
            format!("{GOOD}bounds: {{ connections: 017 }}\n"),
            "bounds.connections: found a text, since no number begins with 0, expected a whole number",
        ),
        (
            with("name: billing", "name: \"bil\u{1}ling\""),
            "c.yaml:8:15: not YAML: a control character stands here",
        ),
        (
            format!("# é\r\n{}", with("name: billing", "name: \"ü\u{1}\"")),
            "c.yaml:9:13: not YAML: a control character stands here",
        ),
        (
            with("    users: all", "    users: all\n    1: x"),
            "c.yaml:11:5: tenants[0].1: unknown key; allowed here: name,",
        ),
        (
            format!("{GOOD}true: 1\n"),
            "c.yaml:13:1: true: unknown key; allowed here: version,",
        ),
        (
            with("{ file: key }", "{{ .Values.key }}"),
            "c.yaml:6:13: keys.production.secret: a key must be a text, and a map stands there: was a template, {{ … }}, not filled in?",
        ),
        (
            with("    users: all", "    users: all\n    {{ v }}: 1"),
            "c.yaml:8:5: tenants[0]: a key must be a text, and a map stands there: was a template",
        ),
        (
            format!("{GOOD}{{{{ v }}}}: 1\n"),
            "c.yaml: line 13: a key must be a text, and a map stands there: was a template",
        ),
        (
            with("    users: all", "    users: all\n    ? [ a ]\n    : 1"),
            "c.yaml:8:5: tenants[0]: a key must be a text, and a list stands there\n",
        ),
        (
            with(
                "127.0.0.1:8080",
                "127.0.0.1:8080\n  - { address: \"0.0.0.0:8080\", allow_plaintext: true }",
            ),
            "c.yaml:4:16: listen[1].address: 0.0.0.0:8080 and 127.0.0.1:8080, where another listener is, overlap",
        ),
        (
            with(
                "127.0.0.1:8080",
                "\"[::1]:8080\"\n  - { address: \"[::]:8080\", allow_plaintext: true }",
            ),
            "c.yaml:4:16: listen[1].address: [::]:8080 and [::1]:8080, where another listener is, overlap",
        ),
        (
            with("127.0.0.1:8080", "0.0.0.0:9465\n    allow_plaintext: true"),
            "admin.address: 127.0.0.1:9465 and 0.0.0.0:9465, where another listener is, overlap",
        ),
        (
            with("127.0.0.1:8080", "127.0.0.1:8080\n    allow_plaintext: yes"),
            "listen[0].allow_plaintext: found a text (YAML 1.2 says true), expected true or false",
        ),
        (
            with("users: all", "users: @all"),
            "not YAML: found character that cannot start any token (lines are indented with spaces, never with tabs; a text that begins with @, ` or % is put into quotes)",
        ),
        (
            with("{ file: key }", "{ env: \"0123-a key, by mistake\" }"),
            "keys.production.secret.env: expected the name of an environment variable: letters, digits and _ . -",
        ),
        (
            format!("{GOOD}admin: {{ address: \"127.0.0.1:8080\" }}\n"),
            "admin.address: callers are listened to there",
        ),
        (
            format!("{GOOD}version: 1\n"),
            "c.yaml:13:1: version: stands twice; the first is in line 1",
        ),
        (
            with("    users: all", "    users: all\n    users: all"),
            "c.yaml:11:5: tenants[0].users: stands twice; the first is in line 10",
        ),
        (
            format!("\u{feff}{}", with("version: 1", "version: 2")),
            "c.yaml:1:10: version: found 2",
        ),
        (
            with(
                "    users: all",
                "    users: all\n    limits: [ { requests: 99999999999999999999999, per: 1s } ]",
            ),
            "c.yaml:11:27: tenants[0].limits[0].requests: is too large a number for any range",
        ),
        (
            format!("{GOOD}upstream: {{ circuit_breaker: false }}\n"),
            "c.yaml:13:30: upstream.circuit_breaker: found \"false\", expected { failures: 10, open_for: 5s }, or off",
        ),
        (
            with("users: all", "users: !all x"),
            "c.yaml:10:12: tenants[0].users: found a YAML tag (!), which is not supported",
        ),
        (
            with("    users: all", "    users: all\n    <<: { wait: 1s }"),
            "c.yaml:11:5: tenants[0].(unusual key): merge keys are not supported",
        ),
        (
            format!("{GOOD}---\nversion: 1\n"),
            "c.yaml:13:1: a second document begins here (---)",
        ),
        (
            format!("{GOOD}otlp: {{ endpoint: \"collector:4317\" }}\n"),
            "expected https://HOST or https://HOST:PORT (http:// to a loopback host, or with allow_plaintext: true beside it)",
        ),
        (
            with("name: billing", "name:billing"),
            "c.yaml:9:8: not YAML: mapping values are not allowed in this context (a key needs a space behind its colon; see the line before, too)",
        ),
        (
            with("key: production\n    users", "key:production\n    users"),
            "not YAML: could not find expected ':' (a key needs a space behind its colon",
        ),
        (
            with("name: billing", "name: \"billing"),
            "not YAML: did not find expected key (is a quote left open above, or a bracket?)",
        ),
        (
            with("name: billing", "name: 'billing"),
            "not YAML: found unexpected end of stream (is a quote left open above",
        ),
        (
            with("{ file: key }", "{ file: \"key }"),
            "not YAML: did not find expected ',' or '}' (is a quote left open above",
        ),
        (
            with("    users: all", "   users: all"),
            "not YAML: did not find expected '-' indicator (what belongs together is indented alike)",
        ),
        (
            with("{ file: key }", "{ file:key }"),
            "c.yaml:6:15: keys.production.secret.(unusual key): unknown key, a space is missing behind the colon; allowed here: file,",
        ),
        ("- 1\n".to_owned(), "c.yaml: found a list, expected a map"),
    ];
    for (text, expected) in cases {
        let found = problems(&text);
        assert!(
            found.contains(expected),
            "expected {expected}\nfound    {found}"
        );
    }
}

#[test]
fn a_key_that_is_no_text_hides_no_other_problem() {
    let text = with("{ file: key }", "{{ .Values.key }}").replace("users: all", "usres: all");
    let text = format!("{text}{{{{ v }}}}: 1\nnonsense: 1\n");
    let found = problems(&text);
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(lines.len(), 5, "{found}");
    for (at, field) in [
        ("c.yaml: line 13:", "a key must be a text"),
        (
            "c.yaml:6:13:",
            "keys.production.secret: a key must be a text",
        ),
        ("c.yaml:8:5:", "tenants[0].users: is missing"),
        (
            "c.yaml:10:5:",
            "tenants[0].usres: unknown key, did you mean users?",
        ),
        ("c.yaml:14:1:", "nonsense: unknown key"),
    ] {
        let is_told = |line: &&str| line.starts_with(at) && line.contains(field);
        assert!(lines.iter().any(is_told), "{at} {field} in {found}");
    }
}

#[test]
fn listeners_that_do_not_overlap_may_have_one_port() {
    for other in ["127.0.0.2:8080", "[::1]:8080", "0.0.0.0:8081"] {
        let more = format!("127.0.0.1:8080\n  - {{ address: \"{other}\", allow_plaintext: true }}");
        assert_eq!(problems(&with("127.0.0.1:8080", &more)), "");
    }
}

/// With `net.ipv6.bindv6only=1` each is bound, and how a machine is set nobody knows here.
#[test]
fn every_address_of_ipv6_overlaps_none_of_ipv4() {
    for ipv4 in ["127.0.0.1", "0.0.0.0"] {
        let both = format!(
            "{ipv4}:8080\n    allow_plaintext: true\n  - {{ address: \"[::]:8080\", allow_plaintext: true }}"
        );
        assert_eq!(problems(&with("127.0.0.1:8080", &both)), "");
        let admin = format!("admin: {{ address: \"{ipv4}:8080\" }}\n");
        let every = "\"[::]:8080\"\n    allow_plaintext: true";
        let found = problems(&(with("127.0.0.1:8080", every) + &admin));
        assert_eq!(found, "");
    }
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("version: 1", "version: 3")
        .replace("127.0.0.1:8080", "nowhere")
        .replace("users: all", "usres: all")
        .replace("id: first", "id: a b");
    let found = problems(&text);
    let places: Vec<_> = found
        .lines()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    let expected = [
        "version",
        "listen[0].address",
        "tenants[0].users",
        "tenants[0].usres",
        "tenants[0].tokens[0].id",
    ];
    assert_eq!(places, expected, "{found}");
}

#[test]
fn two_tenants_with_one_token_are_refused_and_both_are_named() {
    let second = GOOD
        .split("tenants:\n")
        .nth(1)
        .unwrap()
        .replace("billing", "support");
    let found = problems(&format!("{GOOD}{second}"));
    assert!(
        found.contains("tenants[1].tokens[0].sha256: the same token as tenants[0].tokens[0]"),
        "{found}"
    );
    assert!(!found.contains("3b7e9c1f"), "{found}");
}

#[test]
fn an_admin_token_is_no_callers_and_does_not_travel_readable() {
    let admin = |lines: &str| with("keys:\n", &format!("admin:\n{lines}keys:\n"));
    let tenants = "3b7e9c1f5a2d8046e1c3b5a7990812f4d6e8fa0c2b4d6f8091a3c5e7f9b1d3a5";
    let own = tenants.replace("3b", "4c");
    let token = |sha256: &str| format!("  token: {{ id: ops, sha256: \"{sha256}\" }}\n");
    assert_eq!(problems(&admin(&token(&own))), "");
    assert!(
        problems(&admin(&token(tenants)))
            .contains("admin.token.sha256: is the token of a tenant too")
    );
    let anywhere = token(&own) + "  address: 0.0.0.0:9465\n";
    assert!(problems(&admin(&anywhere)).contains("admin.token: would travel readable"));
    assert_eq!(
        problems(&admin(&(anywhere + "  allow_plaintext: true\n"))),
        ""
    );
    let off = token(&own) + "  address: off\n";
    assert!(problems(&admin(&off)).contains("admin.token: allows changes over admin.address"));
}

#[test]
fn a_host_of_the_admin_listener_is_a_plain_name() {
    let hosts = |list: &str| with("keys:\n", &format!("admin:\n  hosts: {list}\nkeys:\n"));
    assert_eq!(problems(&hosts("[a, Gateway_1.apps.svc, 3.a-b]")), "");
    for bad in [
        "a:9465", "http://a", "*.a", "a..b", "a.", "-a", "10.0.0.1", "a b",
    ] {
        let found = problems(&hosts(&format!("[good, \"{bad}\"]")));
        let expected = format!(
            "c.yaml:5:17: admin.hosts[1]: found \"{bad}\", expected a host name without scheme, port or wildcard"
        );
        assert!(found.starts_with(&expected), "{found}");
    }
    assert!(problems(&hosts("[~]")).contains("admin.hosts[0]: is empty"));
}

#[test]
fn what_is_wrong_in_log_and_otlp_is_told_with_its_place_what_was_found_and_what_is_allowed() {
    let sections = r#"log:
  level: loud
  format: xml
  access: some
  levl: info
otlp:
  endpoint: ftp://x
  sampling: 1.5
  timeout: 5m
  service_name: "a b"
  trust: nobody
  headers: { host: { env: A }, "b c": { env: B }, x: { value: sk-live-1 } }
  endpont: x
keys:
"#;
    let found = problems(&with("keys:\n", sections));
    for expected in [
        "c.yaml:5:10: log.level: found \"loud\", expected a level (error, warn, info, debug, trace, off)",
        "c.yaml:6:11: log.format: found \"xml\", expected auto or json or text",
        "c.yaml:7:11: log.access: found \"some\", expected all or failures or off",
        "c.yaml:8:3: log.levl: unknown key, did you mean level?; allowed here: level, format, access",
        "c.yaml:10:13: otlp.endpoint: found \"ftp://x\", expected https://HOST or https://HOST:PORT",
        "c.yaml:11:13: otlp.sampling: found 1.5, expected a share from 0.0 to 1.0",
        "c.yaml:12:12: otlp.timeout: found \"5m\", expected 10ms to 1m",
        "c.yaml:13:17: otlp.service_name: found \"a b\", expected 1 to 64 visible ASCII characters",
        "c.yaml:14:10: otlp.trust: found \"nobody\", expected system, bundled or { file: PATH }",
        "c.yaml:15:20: otlp.headers.host: is set by the gateway itself",
        "c.yaml:15:39: otlp.headers.(unusual key): is not the name of a header field",
        "c.yaml:15:63: otlp.headers.x.value: a secret in the config needs allow_inline_secrets: true",
        "c.yaml:16:3: otlp.endpont: unknown key, did you mean endpoint?",
    ] {
        let mut lines = found.lines();
        assert!(
            lines.any(|line| line.starts_with(expected)),
            "{expected}\n{found}"
        );
    }
    assert_eq!(found.lines().count(), 13, "{found}");
    assert!(!found.contains("sk-live"), "{found}");
}

#[test]
fn an_endpoint_of_otlp_is_an_origin_that_nothing_readable_leaves_the_machine_for() {
    let of = |lines: &str| problems(&with("keys:\n", &format!("otlp:\n{lines}keys:\n")));
    for good in [
        "http://127.0.0.1:4318",
        "https://c/base",
        "http://c\n  allow_plaintext: true",
    ] {
        assert_eq!(of(&format!("  endpoint: {good}\n")), "");
    }
    for (bad, expected) in [
        ("http://c", "spans and headers would travel readable"),
        ("https://c/v1/traces", "leave /v1/traces out"),
        ("https://c/a?b", "has a path with other characters than"),
    ] {
        let found = of(&format!("  endpoint: {bad}\n"));
        assert!(
            found.starts_with(&format!("c.yaml:5:13: otlp.endpoint: {expected}")),
            "{found}"
        );
    }
    assert_eq!(
        of("  sampling: 0.5\n").lines().next(),
        Some("c.yaml:5:3: otlp.endpoint: is missing")
    );
}

#[test]
fn the_committed_schema_is_fresh() {
    let committed = include_str!("../../config/schema.json");
    assert!(
        committed == schema(),
        "write it anew: alloy-gateway config schema > config/schema.json"
    );
}

/// What did not fit was there: nothing is missing, and nothing stands beside it.
#[test]
fn of_what_is_one_of_several_a_misfit_is_told_alone() {
    let unix = problems(&with("address: 127.0.0.1:8080", "unix: x.sock"));
    assert_eq!(
        unix,
        "c.yaml:3:11: listen[0].unix: found a text, expected a map with a path\n"
    );
    let secret = problems(&with("{ file: key }", "{ file: [key] }"));
    assert_eq!(
        secret,
        "c.yaml:6:21: keys.production.secret.file: found a list, expected a text\n"
    );
    let both = with(
        "address: 127.0.0.1:8080",
        "unix: x.sock\n    address: 127.0.0.1:8080",
    );
    assert!(problems(&both).starts_with("c.yaml:3:11: listen[0].unix: found a text"));
}

#[test]
fn a_shown_config_holds_no_inline_secret() {
    let text = format!(
        "allow_inline_secrets: true\n{}",
        with("{ file: key }", "{ value: sk-live-0123456789 }")
    );
    let (settings, warnings) = parse("c.yaml", &text, Path::new(""), |_| Vec::new()).unwrap();
    assert!(!show(&settings).contains("sk-live"), "{}", show(&settings));
    assert!(!format!("{settings:?}").contains("sk-live"));
    assert!(
        warnings
            .iter()
            .any(|warning| warning.message.contains("the secret stands in the config"))
    );
}

#[test]
fn a_hundred_warnings_about_tenants_are_told_and_all_others() {
    let warnings = |tenants: u64| {
        let tenants = (0..tenants).map(|n| {
            format!(
                "  - {{ name: t{n}, key: k, users: all, tokens: [ {{ id: a, sha256: \"{n:064x}\" }} ] }}\n"
            )
        });
        let text = format!(
            "version: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\naudit: {{ directory: audit }}\n\
             bounds: {{ drain_timeout: 1s }}\n\
             keys: {{ k: {{ secret: {{ file: key }} }} }}\ntenants:\n{}",
            tenants.collect::<String>()
        );
        let (_, warnings) = parse("c.yaml", &text, Path::new(""), |_| Vec::new()).unwrap();
        let warnings = warnings.into_iter();
        let told = warnings.map(|it| format!("{}: {}", it.path, it.message));
        told.collect::<Vec<_>>()
    };
    let few = warnings(100);
    assert_eq!(few.len(), 101);
    assert!(
        few[99].starts_with("tenants[99]: has no limits"),
        "{}",
        few[99]
    );
    assert!(
        few[100].starts_with("bounds.drain_timeout: "),
        "{}",
        few[100]
    );
    let many = warnings(102);
    assert_eq!(many[..101], few);
    let rest = ["tenants: 2 further warning(s) about tenants are not told"];
    assert_eq!(many[101..], rest);
}

#[test]
fn deep_nesting_is_refused_before_the_parser_sees_it() {
    for text in [
        "[".repeat(1 << 20),
        "- ".repeat(1 << 20),
        "{a: ".repeat(1 << 20),
        format!("{}a: 1", " ".repeat(1000)),
    ] {
        let refused = nests_sanely(&text).unwrap_err();
        assert!(
            refused.starts_with("line 1: nested too deeply"),
            "{refused}"
        );
    }
    nests_sanely(GOOD).unwrap();
    nests_sanely("# [[[[\na: \"[[[\" # {{{\nb: it's [ok]\n").unwrap();
}

#[test]
fn an_anchor_is_defined_once() {
    for text in [
        "a: &u [x]\nb: *u\nc: &u [y]\n",
        "a: [ &u x, {b: &u y} ]\n",
        "- &u\n-\n  &u\n",
    ] {
        let refused = names_anchors_once(text).unwrap_err();
        assert!(
            refused.contains("an anchor (&) that line 1 defines"),
            "{refused}"
        );
    }
    names_anchors_once("# &u\na: &u [x]\nb: &v *u\nc: R&D and Q&D, a & b & c\n").unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,400}") {
        let _ = problems(&text);
    }

    /// A secret that somebody puts into any place of a config is never repeated.
    #[test]
    fn a_secret_in_a_wrong_place_is_never_repeated(at in 0..GOOD.len(), cut in 0_usize..30, quoted: bool) {
        let secret = "sk_live_51HqXbKJf8aPq0Vt2mNw";
        let planted = if quoted { format!("\"{secret}\"") } else { secret.to_owned() };
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{planted}{}", &GOOD[..at], &GOOD[end..]);
        prop_assert!(!problems(&text).contains(secret), "{}", problems(&text));
    }
}

#[test]
fn where_the_trail_is_collected_is_named_wholly_or_not_at_all() {
    let said = |ship: &str| problems(&format!("{GOOD}audit:\n  ship: {ship}\n"));
    assert!(said("{}").contains("audit.ship.postgres: is missing"));
    assert!(said("{ postgres: {} }").contains("audit.ship.postgres.url: is missing"));
    let odd = said("{ gateway: a b, postgres: { url: { file: url, env: URL } } }");
    assert!(odd.contains("audit.ship.gateway: found"), "{odd}");
    assert!(
        odd.contains("exactly one of file, env, credential"),
        "{odd}"
    );
    let good = "{ postgres: { url: { env: URL } } }";
    assert_eq!(said(good), "");
    let text = format!("{GOOD}audit:\n  ship: {good}\n");
    let (settings, _) = parse("c.yaml", &text, Path::new(""), |_| Vec::new()).unwrap();
    let shown = show(&settings);
    for expected in ["env: URL", "trust: system", "allow_plaintext: false"] {
        assert!(shown.contains(expected), "{expected} in\n{shown}");
    }
}
