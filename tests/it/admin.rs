//! Who may change a running gateway, and what is written down of it.

pub mod guesses;

use alloy_gateway::token::NewToken;

use crate::support::{Connection, Gateway, KEY, Response, Setup, USER, assert_refusal, delete};

/// A gateway with an admin token, which came with a reload.
fn with_token(gateway: &Gateway) -> NewToken {
    let token = NewToken::generate().unwrap();
    let digest = token.digest().to_hex();
    let line = format!("  socket: admin.sock\n  token: {{ id: ops, sha256: \"{digest}\" }}\n");
    gateway.edit_config(|text| text.replace("  socket: admin.sock\n", &line));
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert!(status == 200 && said.starts_with("loaded"), "{said}");
    token
}

fn ask(gateway: &Gateway, method: &str, path: &str, authorization: &[&str]) -> Response {
    let fields: String = authorization
        .iter()
        .map(|value| format!("Authorization: {value}\r\n"))
        .collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\n{fields}Content-Length: 0\r\n\r\n",
        gateway.admin
    );
    Connection::open(gateway.admin).send(request).receive()
}

#[test]
fn the_admin_token_allows_over_tcp_what_the_socket_allows_and_is_named_in_the_trail() {
    let gateway = Gateway::start();
    // As HTTP has it: the scheme in any case, and spaces around the value.
    let bearer = format!(" bearer   {} \t", with_token(&gateway).reveal());
    let config = ask(&gateway, "GET", "/config", &[&bearer]);
    assert_eq!(config.status, 200);
    assert!(config.text().contains("id: ops"), "{}", config.text());
    assert!(
        config.text().contains("(redacted)") && !config.text().contains("agw_"),
        "{}",
        config.text()
    );
    for (path, event) in [("/-/reload", "admin.reload"), ("/-/drain", "admin.drain")] {
        assert_eq!(ask(&gateway, "POST", path, &[&bearer]).status, 200);
        let record = gateway.record(event, |record| {
            record["event"] == event && record["by"] == "token:ops"
        });
        assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    assert_refusal(&gateway.delete(USER, "c1"), 503, "draining", "no");
}

#[test]
fn without_the_admin_token_nothing_is_changed_or_shown_and_guesses_are_bounded_and_recorded() {
    let gateway = Setup::default()
        .bound("failed_auth: { requests: 5, per: 1h }")
        .start();
    let good = format!("Bearer {}", with_token(&gateway).reveal());
    let caller = format!("Bearer {}", gateway.token());
    let stranger = format!("Bearer {}", NewToken::generate().unwrap().reveal());
    for (method, path) in [("POST", "/-/drain"), ("GET", "/config")] {
        let response = ask(&gateway, method, path, &[]);
        assert_eq!(response.status, 401, "{}", response.text());
        assert!(
            response
                .field("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
        // A tenant's token is none; two fields are none, even if one is good.
        assert_eq!(ask(&gateway, method, path, &[&caller]).status, 401);
        assert_eq!(ask(&gateway, method, path, &[&good, &good]).status, 401);
    }
    let answers: Vec<_> = (0..6)
        .map(|_| ask(&gateway, "POST", "/-/drain", &[&stranger]).status)
        .collect();
    assert_eq!(answers, [401, 401, 401, 429, 429, 429]);
    let record = gateway.record("the guess", |record| record["event"] == "admin.refused");
    assert_eq!(record["path"], "/-/drain");
    assert!(record["by"].is_null(), "{record}");
    // Who holds the good one is not shut out by who does not.
    assert_eq!(ask(&gateway, "POST", "/-/reload", &[&good]).status, 200);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let all = gateway.trail_text() + &gateway.process.output();
    for token in [&good, &caller, &stranger] {
        assert!(!all.contains(&token[11..]), "a token is in trail or log");
    }
}

/// Somebody may put the key itself where its name belongs.
#[test]
fn what_is_no_name_of_a_key_is_told_nowhere() {
    let gateway = Gateway::start();
    let good = format!("Bearer {}", with_token(&gateway).reveal());
    let token = NewToken::generate().unwrap();
    let token = token.reveal();
    let stranger = format!("Bearer {}", NewToken::generate().unwrap().reveal());
    let rotate = |name: &str| format!("/-/rotate-key/{name}");
    let names = [KEY, token, "a/b", ""];
    for name in names.into_iter().chain(["production"]) {
        assert_eq!(
            ask(&gateway, "POST", &rotate(name), &[&stranger]).status,
            401
        );
    }
    for name in names {
        let answer = ask(&gateway, "POST", &rotate(name), &[&good]);
        assert_eq!(answer.status, 404);
        assert!(!answer.text().contains(KEY) && !answer.text().contains(token));
    }
    let level = format!("info,{token}=debug");
    for (path, body) in [
        ("/log-level", level.as_str()),
        (
            "/-/freeze",
            &format!("{{\"tenant\":\"{token}\",\"reason\":\"x\"}}"),
        ),
        (
            "/-/thaw",
            &format!("{{\"tenant\":\"{token}\",\"reason\":\"x\"}}"),
        ),
    ] {
        let method = if path == "/log-level" { "PUT" } else { "POST" };
        let (status, said) = gateway.admin_socket_with(method, path, body);
        assert!((400..=404).contains(&status), "{path}: {status} {said}");
        assert!(!said.contains(token), "{said}");
    }
    let of_name = rotate("production");
    gateway.record("the guess", |record| record["path"] == of_name);
    let trail = gateway.trail();
    let refused = trail.iter().filter(|it| it["event"] == "admin.refused");
    let paths: Vec<_> = refused.map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [&[&*rotate("{name}"); 4][..], &[&of_name]].concat());
    let all = gateway.trail_text() + &gateway.process.output().to_lowercase();
    for secret in [KEY, token] {
        for text in [secret, &secret.to_lowercase()] {
            assert!(!all.contains(text), "{text}");
        }
    }
}

#[test]
fn a_guess_is_recorded_and_counted_though_failures_on_the_data_port_used_up_what_is_allowed() {
    let gateway = Setup::default()
        .bound("failed_auth: { requests: 2, per: 1h }")
        .start();
    with_token(&gateway);
    for expected in [401, 401, 429] {
        assert_eq!(gateway.send(delete(USER, "c1", "agw_x")).status, expected);
    }
    let stranger = format!("Bearer {}", NewToken::generate().unwrap().reveal());
    for _ in 0..3 {
        let guess = ask(&gateway, "POST", "/-/drain", &[&stranger]);
        assert_eq!(guess.status, 429);
        assert!(guess.field("retry-after").is_some());
    }
    let record = gateway.record("the guess", |record| record["event"] == "admin.refused");
    assert_eq!(record["path"], "/-/drain");
    assert_eq!(gateway.scrape().get("admin_tokens_refused_total"), 3.0);
}

#[test]
fn a_method_that_a_path_does_not_take_is_405_and_an_unknown_path_404_before_any_token() {
    let gateway = Gateway::start();
    let read = [
        "/livez",
        "/healthz",
        "/readyz",
        "/metrics",
        "/version",
        "/status",
        "/status.json",
        "/config",
    ];
    let change = [
        "/-/reload",
        "/-/drain",
        "/-/freeze",
        "/-/thaw",
        "/-/rotate-key/production",
    ];
    let cases = read
        .map(|path| (path, ["POST", "PUT", "DELETE"], "GET, HEAD"))
        .into_iter()
        .chain(change.map(|path| (path, ["GET", "HEAD", "PUT"], "POST")))
        .chain([("/log-level", ["POST", "DELETE", "PATCH"], "GET, HEAD, PUT")]);
    let assert_all = |has_token: bool| {
        for (path, methods, allowed) in cases.clone() {
            for method in methods {
                let head = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
                    gateway.admin
                );
                let answer = Connection::open(gateway.admin).send(head).head().unwrap();
                let found = (answer.status, answer.field("allow"));
                assert_eq!(
                    found,
                    (405, Some(allowed)),
                    "{method} {path}, token: {has_token}"
                );
            }
        }
        for method in ["GET", "POST", "PUT", "OPTIONS"] {
            for path in ["/", "/-/", "/-/reload/", "/livezz", "/-/rotate-key"] {
                let answer = ask(&gateway, method, path, &[]);
                assert_eq!(answer.status, 404, "{method} {path}");
                // It says what there is.
                let said = answer.text();
                let words: Vec<_> = said.split([' ', ',', '\n']).collect();
                for (path, ..) in cases.clone() {
                    let path = path.replace("production", "NAME");
                    assert!(words.contains(&path.as_str()), "{path}: {said}");
                }
            }
        }
    };
    assert_all(false);
    with_token(&gateway);
    assert_all(true);
    assert_eq!(gateway.admin_socket("POST", "/livez").0, 405);
    assert_eq!(gateway.admin_socket("GET", "/-/drain").0, 405);
    assert_eq!(gateway.admin("/readyz").status, 200);
}

#[test]
fn what_is_wrong_with_a_config_is_shown_on_status_to_the_admin_token_and_to_no_guess() {
    let gateway = Setup::default()
        .bound("failed_auth: { requests: 2, per: 1h }")
        .start();
    let good = format!("Bearer {}", with_token(&gateway).reveal());
    let stranger = format!("Bearer {}", NewToken::generate().unwrap().reveal());
    gateway.edit_config(|text| text + "nonsense: 1\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 400);
    for path in ["/status", "/status.json"] {
        let shown = |authorization: &[&str]| {
            let response = ask(&gateway, "GET", path, authorization);
            (response.status, response.text().contains("unknown key"))
        };
        assert_eq!(shown(&[]), (200, false));
        assert_eq!(shown(&[&good]), (200, true));
        // A guess is one, wherever it is made.
        assert_eq!(shown(&[&stranger]), (401, false));
    }
    assert_eq!(ask(&gateway, "GET", "/status", &[&stranger]).status, 429);
}

#[test]
fn a_removed_admin_token_is_refused_by_the_next_request_on_an_open_connection() {
    let gateway = Gateway::start();
    let token = with_token(&gateway);
    let request = format!(
        "GET /config HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        gateway.admin,
        token.reveal()
    );
    let mut open = Connection::open(gateway.admin);
    assert_eq!(open.send(&request).receive().status, 200);
    gateway.edit_config(|text| {
        let line = text.lines().find(|line| line.contains("id: ops")).unwrap();
        text.replace(&format!("{line}\n"), "")
    });
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    assert_eq!(open.send(&request).receive().status, 403);
}

#[test]
fn readyz_tells_each_reason_if_asked() {
    let gateway = Gateway::start();
    let ready = gateway.admin("/readyz?verbose");
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (
            200,
            "[+] config loaded\n[+] workers alive\n[+] trail writable\n[+] not draining\nok\n"
        )
    );
    gateway.admin_socket("POST", "/-/drain");
    let drained = gateway.admin("/readyz?verbose");
    assert_eq!(drained.status, 503);
    assert!(
        drained
            .text()
            .ends_with("[-] not draining: it is\nnot ready: draining\n"),
        "{}",
        drained.text()
    );
}

#[test]
fn a_call_cannot_be_made_with_the_admin_token() {
    let gateway = Gateway::start();
    let token = with_token(&gateway);
    let response = gateway.send(delete(USER, "c1", token.reveal()));
    assert_refusal(&response, 401, "unauthenticated", "no");
}

#[test]
fn a_name_that_the_config_does_not_know_is_not_let_in_and_a_reload_makes_it_known() {
    let gateway = Gateway::start();
    let status_for = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = Connection::open(gateway.admin).send(request).receive();
        if answer.status == 421 {
            assert!(answer.text().contains("admin.hosts"), "{}", answer.text());
        }
        answer.status
    };
    for local in ["127.0.0.1", "[::1]:9465", "LocalHost:80"] {
        assert_eq!(status_for(local), 200, "{local}");
    }
    let names = ["gateway.apps.svc:9465", "Gateway.Apps.SVC"];
    for name in names {
        assert_eq!(status_for(name), 421, "{name}");
    }
    let hosts = "  socket: admin.sock\n  hosts: [gateway.Apps.svc]\n";
    gateway.edit_config(|text| text.replace("  socket: admin.sock\n", hosts));
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert!(status == 200 && said.starts_with("loaded"), "{said}");
    for name in names {
        assert_eq!(status_for(name), 200, "{name}");
    }
    for other in [
        "apps.svc",
        "x.gateway.apps.svc",
        "gateway.apps.svc.evil.example",
    ] {
        assert_eq!(status_for(other), 421, "{other}");
    }
}

#[test]
fn who_opens_connections_and_never_reads_does_not_keep_the_probe_out() {
    let gateway = Gateway::start();
    let many = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin).repeat(200);
    let unread: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(gateway.admin).unwrap();
            let timeout = Some(std::time::Duration::from_secs(1));
            stream.set_write_timeout(timeout).unwrap();
            // It may be closed before all is written.
            let _ = std::io::Write::write_all(&mut stream, many.as_bytes());
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(gateway.admin("/livez").status, 200);
    }
    drop(unread);
}
