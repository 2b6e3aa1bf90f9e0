//! What the command line says of arguments that are something else than they should be:
//! what they are, and never a secret.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    thread,
};

use alloy_gateway::token::NewToken;

use crate::command_line::{Config, run, text};

#[test]
fn a_token_in_the_command_line_is_refused_and_not_repeated() {
    let config = Config::new(|text| text);
    let path = config.path();
    let new = NewToken::generate().unwrap();
    let whole = new.reveal();
    // One with a typo in it is mostly a token, too.
    let typo = &whole[..whole.len() - 1];
    for token in [whole, typo] {
        let cases: [&[&str]; 4] = [
            &["token", "inspect", token, "-c", &path],
            &["token", "hash", token],
            &["token", "new", token],
            &["healthcheck", "--address", token],
        ];
        for args in cases {
            let output = run(args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(!said.contains(&token[4..20]), "{args:?}: {said}");
            assert!(
                said.contains("from standard input") && said.contains("its id"),
                "{args:?}: {said}"
            );
        }
    }
    // Also where it would do as what is asked for.
    let equals = format!("--token={whole}");
    let within = format!("who found {whole} told us");
    for args in [
        &["check", whole][..],
        &["freeze", whole, "--reason", "x"],
        &["freeze", "billing", "--reason", &within],
        &["audit", "query", &equals],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!text(&output.stderr).contains(&whole[4..20]), "{output:?}");
    }
    let output = run(&["token", "inspect", "somebody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'somebody'"), "{output:?}");
}

#[test]
fn a_token_for_its_id_is_told_as_one() {
    let config = Config::new(|text| text);
    let args = ["--token-id", "agw_x", "--user", "u", "-c", &config.path()];
    let output = run(&[&["policy", "explain"], &args[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("that is a token") && said.contains("give its id"),
        "{said}"
    );
    assert!(!said.contains("agw_x"), "{said}");
}

/// Answers one request on a port with these bytes; where.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer);
    });
    address
}

#[test]
fn a_healthcheck_of_something_else_asks_whether_it_is_the_admin_address() {
    for (answer, what) in [
        (
            &b"HTTP/1.1 501 Unsupported\r\nContent-Type: text/html\r\n\r\n<html>\x1b[2J\r\n<p>"[..],
            "GET /livez answered 501: is ",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\n<html>\x1b[2J\r\n<p>",
            "GET /livez answered 200: is ",
        ),
        (b"\x15\x03\x03\x00\x02\x02\xff", "is no gateway"),
        (b"SSH-2.0-OpenSSH\r\n", "is no gateway"),
    ] {
        let output = run(&["healthcheck", "--address", &answering(answer)]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains(what), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            !said.contains('\x1b') && !said.contains("in time"),
            "{said}"
        );
    }
    let long = Vec::leak([b"HTTP/1.1 404 No\r\n\r\n", &[b'x'; 5000][..]].concat());
    let output = run(&["healthcheck", "--address", &answering(long)]);
    assert!(output.stdout.len() < 400, "{output:?}");
}

#[test]
fn what_is_no_socket_is_not_called_one_that_a_gateway_left() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, "").unwrap();
    let left = directory.path().join("admin.sock");
    drop(UnixListener::bind(&left).unwrap());
    for (path, what) in [
        (file.as_path(), "is no socket: name what"),
        (directory.path(), "is no socket: name what"),
        (&left, "it ended and left its socket"),
    ] {
        let socket = path.to_str().unwrap();
        let output = run(&["freeze", "--all", "--reason", "x", "--socket", socket]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn a_socket_of_something_else_writes_nothing_to_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for answer in [&b"HTTP/1.1 404 No\r\n\r\n\x1b[2Jno\xff"[..], b"\x15\xff"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
        }
    });
    let args = ["freeze", "--all", "--reason", "x", "--socket"];
    let args = [&args[..], &[path.to_str().unwrap()]].concat();
    let first = text(&run(&args).stderr);
    assert!(first.contains("\\u{1b}[2Jno"), "{first}");
    assert!(!first.contains('\x1b'), "{first}");
    let second = text(&run(&args).stderr);
    assert!(second.contains("is no gateway"), "{second}");
}

/// Of two configs one would be left out in silence.
#[test]
fn a_config_is_named_once_on_the_command_line() {
    let config = Config::new(|text| text);
    let path = config.path();
    for verb in [&["check"][..], &["serve"], &["config", "show"]] {
        let output = run(&[verb, &["-c", "/nonexistent", &path]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb:?}: {said}");
        let expected = "error: FILE and --config both name the config: name one of them";
        assert!(said.starts_with(expected), "{verb:?}: {said}");
    }
    // What stands in the environment is for where nothing is named.
    let output = std::process::Command::new(crate::support::binary())
        .args(["check", &path])
        .env("ALLOY_GATEWAY_CONFIG", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
