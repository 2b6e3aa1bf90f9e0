//! What systemd hands over and is told, with a stand-in that speaks its protocols.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use alloy_gateway::simulated_alloy::Behaviour;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Connection, Gateway, Setup, USER, assert_refusal, binary, delete, gateway::Process,
};

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the stand-in is told, datagram by datagram.
struct Told(mpsc::Receiver<String>);

impl Told {
    /// Reads all the time: a socket holds some ten datagrams, and whoever sends more waits.
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (sender, told) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Self(told)
    }

    fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).unwrap()
    }

    /// The next that is no sign of life.
    fn next_change(&self) -> String {
        loop {
            let told = self.next();
            if told != "WATCHDOG=1\n" {
                return told;
            }
        }
    }
}

#[test]
fn systemd_is_told_of_start_reload_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let told = Told::listen(&path);
    let mut gateway = Setup::default()
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000")
        .start();
    let ready = told.next_change();
    assert!(
        ready.starts_with("READY=1\nSTATUS=1 tenant(s), config "),
        "{ready}"
    );
    assert_eq!(told.next(), "WATCHDOG=1\n");
    gateway.edit_config(|text| text + "nonsense: 1\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 400);
    assert_eq!(told.next_change(), "RELOADING=1\n");
    let ready = told.next_change();
    assert!(
        ready.starts_with("READY=1\n") && ready.contains("the config on disk is invalid"),
        "{ready}"
    );
    gateway.process.signal(Signal::TERM);
    assert_eq!(told.next_change(), "STOPPING=1\nSTATUS=draining\n");
    assert!(gateway.process.wait().success());
}

#[test]
fn a_config_that_is_loaded_while_it_stops_does_not_take_the_end_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let told = Told::listen(&path);
    let mut gateway = Setup::default()
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .start();
    assert!(told.next().starts_with("READY=1\n"));
    // So long as this call is under way, it does not end.
    gateway
        .alloy
        .script([Behaviour::Stall(Duration::from_secs(60))]);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    // So long a list that the config is being loaded for a while.
    let users = directory.path().join("users");
    let list: String = (0..500_000).map(|n| format!("user-{n}\n")).collect();
    fs::write(&users, list).unwrap();
    gateway.edit_config(|text| {
        text.replace(
            "users: all",
            &format!("users: {{ file: {} }}", users.display()),
        )
    });
    gateway.process.signal(Signal::HUP);
    assert_eq!(told.next(), "RELOADING=1\n");
    gateway.process.signal(Signal::TERM);
    assert_eq!(told.next(), "STOPPING=1\nSTATUS=draining\n");
    assert!(!gateway.process.output().contains("config loaded"));
    gateway
        .process
        .wait_for(|line| line["message"] == "config loaded" && line["by"] == "SIGHUP");
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.wait().code(), Some(1));
    // Behind everything that it said.
    let mark = UnixDatagram::unbound().unwrap();
    mark.send_to(b"the end", &path).unwrap();
    assert_eq!(told.next(), "the end");
}

/// A gateway that is handed `socket` under the name `callers`.
fn serve(config: &Path, socket: &TcpListener) -> Process {
    let mut command = Command::new("sh");
    let handing = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=callers exec \"$0\" serve -c \"$1\"";
    command
        .args(["-c", handing])
        .arg(binary())
        .arg(config)
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    Process::run(command)
}

/// A gateway's config that takes its callers from a socket of that name.
fn config_of(gateway: &Gateway, name: &str) {
    gateway.edit_config(|text| {
        text.replace(
            "  - address: 127.0.0.1:0\nadmin",
            &format!("  - systemd: {name}\nadmin"),
        )
    });
}

#[test]
fn calls_come_in_over_a_socket_that_was_handed_over_and_none_is_lost_in_a_restart() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    config_of(&gateway, "callers");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    let mut process = serve(&gateway.config_path(), &socket);
    process.wait_for(|line| line["message"] == "ready");
    let (stop, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            let token = gateway.token().to_owned();
            thread::spawn(move || {
                for n in 0..200 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let call = delete(USER, &format!("c{}", caller * 200 + n), &token);
                    let ask = || Connection::open(address).send(&call).receive();
                    let mut response = ask();
                    if response.status == 503 {
                        assert_refusal(&response, 503, "draining", "no");
                        response = ask();
                    }
                    assert_eq!(response.status, 200, "{}", response.text());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let wait_for_calls = |more: u32| {
        let until = calls.load(Ordering::Relaxed) + more;
        while calls.load(Ordering::Relaxed) < until && !callers.iter().all(|c| c.is_finished()) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    for _ in 0..3 {
        wait_for_calls(20);
        process.signal(Signal::TERM);
        assert!(process.wait().success(), "{}", process.output());
        process = serve(&gateway.config_path(), &socket);
        process.wait_for(|line| line["message"] == "ready");
    }
    wait_for_calls(20);
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) >= 80);
    process.signal(Signal::TERM);
    process.wait();
    let report = gateway.verify();
    assert!(report.is_intact(), "{report}");
    assert_eq!((report.open, report.outcomes.in_doubt), (0, 0), "{report}");
}

#[test]
fn a_socket_that_was_not_handed_over_ends_the_start_and_the_message_names_those_that_were() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    config_of(&gateway, "others");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut process = serve(&gateway.config_path(), &socket);
    assert_eq!(process.wait().code(), Some(1));
    assert!(
        process
            .output()
            .contains("cannot listen on systemd:others: systemd handed over no socket of that name, only callers"),
        "{}",
        process.output()
    );
    let mut process = Process::spawn(&gateway.config_path(), "info");
    assert_eq!(process.wait().code(), Some(1));
    assert!(
        process
            .output()
            .contains("systemd handed over no socket: start it through its .socket unit"),
        "{}",
        process.output()
    );
}

#[test]
fn a_socket_that_the_config_does_not_name_is_told_and_closed() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let process = serve(&gateway.config_path(), &socket);
    drop(socket);
    process.listening("admin");
    let is_told = |line: &Value| {
        let said = line["message"].as_str().unwrap_or_default();
        said.contains("a socket that listen does not name") && line["level"] == "warn"
    };
    let told = process.wait_for(is_told);
    assert_eq!(
        (&told["name"], &told["address"]),
        (&"callers".into(), &address.to_string().into())
    );
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_handed_over_address_that_is_not_loopback_needs_tls_or_allow_plaintext() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    config_of(&gateway, "callers");
    let trail_before = gateway.trail_text();
    // Any address but loopback will do; the call itself comes over loopback.
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut process = serve(&gateway.config_path(), &socket);
    assert_eq!(process.wait().code(), Some(1));
    assert!(
        process.output().contains("allow_plaintext: true"),
        "{}",
        process.output()
    );
    assert_eq!(
        gateway.trail_text(),
        trail_before,
        "it is tried before the trail is touched"
    );
    config_of(&gateway, "callers");
    gateway.edit_config(|text| {
        text.replace(
            "  - systemd: callers\n",
            "  - systemd: callers\n    allow_plaintext: true\n",
        )
    });
    let process = serve(&gateway.config_path(), &socket);
    process.wait_for(|line| line["message"] == "ready");
    let port = socket.local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    fs::metadata(gateway.config_path()).unwrap();
}
