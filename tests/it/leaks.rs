//! All paths driven at trace level with all outputs captured: no key and no
//! token in any of them.

use std::{fmt::Write as _, process::Command};

use alloy_gateway::{simulated_alloy::Behaviour, token::NewToken};
use http_body_util::Full;

use crate::support::{
    CREDENTIAL, Gateway, KEY, Setup, USER, binary,
    client::{delete, request},
    h2,
};

/// Base64 of `bytes` at each of the three alignments, by RFC 4648 §4: what
/// stands in a longer text if the secret does.
fn base64_forms(bytes: &[u8]) -> Vec<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..3)
        .map(|skip| {
            // Whole groups only: their encoding does not depend on what is around.
            let whole = &bytes[skip..];
            let whole = &whole[..whole.len() / 3 * 3];
            whole
                .chunks(3)
                .flat_map(|group| {
                    let number = u32::from_be_bytes([0, group[0], group[1], group[2]]);
                    [18, 12, 6, 0].map(|shift| {
                        char::from(ALPHABET[usize::try_from((number >> shift) & 63).unwrap()])
                    })
                })
                .collect()
        })
        .collect()
}

fn percent_forms(text: &str) -> Vec<String> {
    let escape = |is_plain: fn(u8) -> bool| {
        text.bytes().fold(String::new(), |mut out, byte| {
            if is_plain(byte) {
                out.push(char::from(byte));
            } else {
                write!(out, "%{byte:02X}").unwrap();
            }
            out
        })
    };
    vec![
        escape(|_| false),
        escape(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    ]
}

#[track_caller]
fn assert_silent(what: &str, output: &str, secrets: &[&str]) {
    for secret in secrets {
        let forms = [
            vec![(*secret).to_owned()],
            base64_forms(secret.as_bytes()),
            percent_forms(secret),
        ]
        .concat();
        for form in forms {
            let at = output.to_lowercase().find(&form.to_lowercase());
            let around =
                at.map(|at| output.get(at.saturating_sub(200)..(at + 20).min(output.len())));
            assert!(at.is_none(), "{what} holds a secret: {around:?}");
        }
    }
}

/// Requests that go every way there is; what callers got.
fn drive(gateway: &Gateway, stranger: &str) -> String {
    let token = gateway.token_of("billing");
    let call = format!("DELETE /users/{USER}/credentials/{CREDENTIAL} HTTP/1.1");
    let mut answers = Vec::new();
    for behaviour in [
        Behaviour::Contract,
        Behaviour::Echo,
        Behaviour::Reset,
        Behaviour::HardReset,
        Behaviour::answer(401, "", KEY),
        Behaviour::answer(302, &format!("Location: https://x/?key={KEY}\r\n"), ""),
        Behaviour::BytesThenClose(format!("nonsense {KEY}\r\n").into_bytes()),
        Behaviour::answer(500, "", "{}"),
    ] {
        gateway.alloy.script([behaviour]);
        answers.push(gateway.send(delete(USER, "c1", token)));
    }
    for bytes in [
        request(&format!("{call}x"), token, ""),
        request(&call.replace("DELETE", "GET"), token, ""),
        request(
            &format!("DELETE /users/{token}/credentials/{token} HTTP/1.1"),
            stranger,
            "",
        ),
        request(&format!("DELETE /{token}?key={KEY} HTTP/1.1"), token, ""),
        request(&call, stranger, ""),
        request(&call, &format!("{token}x"), ""),
        request(&call, gateway.token_of("dry"), ""),
        request(&call, gateway.token_of("suspended"), ""),
        request(
            &call,
            token,
            &format!("X-Key: {KEY}\r\nCookie: {token}\r\nX-Api-Version: {KEY}\r\n"),
        ),
        request(
            &call,
            token,
            &format!("Content-Length: 1\r\nTransfer-Encoding: chunked\r\nX-Key: {token}\r\n"),
        ),
    ] {
        answers.extend(gateway.connect().send(bytes).try_receive());
    }
    for token in [token, stranger] {
        let call = h2::delete(USER, CREDENTIAL, token).body(Full::default());
        answers.push(h2::send(gateway.data, call.unwrap()));
    }
    for path in [
        "/livez",
        "/readyz",
        "/readyz?verbose",
        "/metrics",
        "/status",
        "/version",
        "/config",
        "/status.json",
        "/nothing",
    ] {
        answers.push(gateway.admin(path));
    }
    format!(
        "{answers:?} {}",
        answers
            .iter()
            .map(super::support::Response::text)
            .collect::<String>()
    )
}

#[test]
fn no_output_of_any_path_holds_a_key_or_a_token() {
    let mut gateway = Setup::default()
        .log("trace")
        .upstream("circuit_breaker: off")
        .tenant("billing", &["users: all"])
        .tenant("dry", &["users: all", "mode: dry_run"])
        .tenant("suspended", &["users: all", "mode: suspended"])
        .start();
    let stranger = NewToken::generate().unwrap();
    let answers = drive(&gateway, stranger.reveal());
    let socket = read_socket(&gateway);
    let show = Command::new(binary())
        .args(["config", "show", "-c"])
        .arg(gateway.config_path())
        .output()
        .unwrap();
    assert!(show.status.success());
    assert!(gateway.stop().success());
    let secrets = [
        KEY,
        gateway.token_of("billing"),
        gateway.token_of("dry"),
        gateway.token_of("suspended"),
        stranger.reveal(),
    ];
    let logs = gateway.process.output();
    // The libraries in use say nothing below debug; what they may say is let through.
    assert!(logs.contains("\"level\":\"debug\""), "{logs}");
    assert!(gateway.trail().len() > 20);
    assert_silent("an answer", &answers, &secrets);
    assert_silent("the log", &logs, &secrets);
    assert_silent("the trail", &gateway.trail_text(), &secrets);
    assert_silent(
        "config show",
        &String::from_utf8_lossy(&show.stdout),
        &secrets,
    );
    assert!(
        socket.contains("production.runalloy.com") || socket.contains("localhost"),
        "{socket}"
    );
    assert_silent("/config", &socket, &secrets);
}

/// `/config` over the admin socket.
fn read_socket(gateway: &Gateway) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(gateway.path("admin.sock")).unwrap();
    stream
        .write_all(b"GET /config HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_config_is_not_readable_over_tcp() {
    let gateway = Gateway::start();
    assert_ne!(gateway.admin("/config").status, 200);
}
