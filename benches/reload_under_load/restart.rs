//! A drain and the start of another process behind a Unix socket that outlives
//! both, as systemd holds it: what callers notice of it.

use std::{
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use rustix::process::Signal;

use super::{
    PACE, percentiles,
    support::{Gateway, USER, delete, gateway::Process},
};

/// How often it is restarted.
const RESTARTS: u32 = 10;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// Refused with `draining` and `sent: no`, and sent again.
    repeated: AtomicU32,
    took: Mutex<Vec<(Instant, Duration)>>,
}

/// Ten restarts under load: every call is answered with 200 at its first or second try.
pub fn restarts() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    let ok = Behaviour::answer(200, "", r#"{"success":true}"#);
    gateway.alloy.always(ok);
    gateway.edit_config(|text| {
        text.replace(
            "  - address: 127.0.0.1:0\nadmin",
            "  - systemd: callers\nadmin",
        )
    });
    let path = gateway.path("callers.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let mut process = serve(&gateway.config_path(), &socket);
    let load = Arc::new(Load::default());
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (load, path) = (Arc::clone(&load), path.clone());
            let token = gateway.token().to_owned();
            thread::spawn(move || call_on(&load, &path, &token, caller))
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let calm = Instant::now();
    thread::sleep(Duration::from_secs(5));
    let began = Instant::now();
    let mut gaps = Vec::new();
    for _ in 0..RESTARTS {
        let start = Instant::now();
        process.signal(Signal::TERM);
        assert!(process.wait().success(), "{}", process.output());
        process = serve(&gateway.config_path(), &socket);
        gaps.push(start.elapsed());
        thread::sleep(Duration::from_millis(500));
    }
    let ended = Instant::now();
    load.stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("a caller that lost no call");
    }
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    let report = gateway.verify();
    assert!(report.is_intact(), "{report}");
    assert_eq!((report.open, report.outcomes.in_doubt), (0, 0), "{report}");
    gaps.sort();
    let took = std::mem::take(&mut *load.took.lock().unwrap());
    println!("\n{RESTARTS} restarts behind a Unix socket:");
    percentiles("before", &took, |at| (calm..began).contains(&at));
    percentiles("during the restarts", &took, |at| {
        (began..ended).contains(&at)
    });
    println!(
        "from SIGTERM to ready again: {:.1?} (median), {:.1?} (most); no call lost, {} refused with sent: no and sent again",
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1],
        load.repeated.load(Ordering::Relaxed)
    );
}

/// A gateway that is handed the socket, once it is ready.
fn serve(config: &Path, socket: &UnixListener) -> Process {
    let mut command = Command::new("sh");
    let handing = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=callers exec \"$0\" serve -c \"$1\"";
    command
        .args(["-c", handing, env!("CARGO_BIN_EXE_alloy-gateway")])
        .arg(config)
        .env("ALLOY_GATEWAY_LOG", "error,alloy_gateway::cli=info")
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    let process = Process::run(command);
    process.wait_for(|line| line["message"] == "ready");
    process
}

fn call_on(load: &Load, path: &Path, token: &str, caller: u32) {
    let mut took = Vec::new();
    for n in 0_u32.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let request = delete(USER, &format!("c{caller}-{n}"), token);
        let start = Instant::now();
        let mut answer = call(path, &request);
        if answer.starts_with("HTTP/1.1 503") {
            assert!(answer.contains("\"draining\""), "{answer}");
            assert!(answer.contains("x-alloy-gateway-sent: no"), "{answer}");
            load.repeated.fetch_add(1, Ordering::Relaxed);
            answer = call(path, &request);
        }
        took.push((start, start.elapsed()));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        thread::sleep(PACE);
    }
    load.took.lock().unwrap().extend(took);
}

/// A call over a connection of its own.
fn call(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
