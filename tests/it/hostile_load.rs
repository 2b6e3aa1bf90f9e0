//! Many hostile callers at once: the good one is served, and what they took comes back.

use std::{
    fs,
    io::Write,
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{
    Connection, Gateway, Setup, USER, binary, delete,
    gateway::Process,
    raw_h2::{HEADERS, RST_STREAM, Raw, SETTINGS, call},
};

fn descriptors(gateway: &Gateway) -> usize {
    let path = format!("/proc/{}/fd", gateway.process.id());
    fs::read_dir(path).unwrap().count()
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn generous(setup: Setup) -> Gateway {
    let gateway = setup.start();
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    gateway
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what} never came to be");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn out_of_descriptors_it_pauses_accepting_and_recovers() {
    let gateway = generous(Setup::default().workers(1));
    let mut kept = gateway.connect();
    let token = gateway.token().to_owned();
    assert_eq!(kept.send(delete(USER, "c1", &token)).receive().status, 200);
    let id = Pid::from_raw(i32::try_from(gateway.process.id()).unwrap());
    let few = Rlimit {
        current: Some(descriptors(&gateway) as u64 + 5),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(id, Resource::Nofile, few).unwrap();
    let crowd: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(gateway.data).unwrap())
        .collect();
    gateway.process.wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.starts_with("cannot accept connections for now"))
    });
    // Who is connected is still served, over the upstream connection that is there.
    for n in 0..10 {
        let response = kept.send(delete(USER, &format!("c{n}"), &token)).receive();
        assert_eq!(response.status, 200);
    }
    drop(crowd);
    wait_until("accepting", || {
        let response = gateway
            .connect()
            .send(delete(USER, "c2", &token))
            .try_receive();
        response.is_some_and(|response| response.status == 200)
    });
    prlimit(id, Resource::Nofile, before).unwrap();
    assert_eq!(gateway.delete(USER, "c3").status, 200);
}

#[test]
fn a_start_without_descriptors_says_so_and_exits_1() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    for few in 5..=20 {
        let mut command = Command::new("sh");
        let limiting = "ulimit -n $2; exec \"$0\" serve -c \"$1\"";
        command
            .args(["-c", limiting])
            .arg(binary())
            .arg(gateway.config_path())
            .arg(few.to_string());
        let mut process = Process::run(command);
        let code = process.wait().code();
        let output = process.output();
        // With the fewest not even the config can be read.
        assert!(matches!(code, Some(1 | 78)), "{few}: {code:?} {output}");
        assert!(!output.contains("panicked"), "{few}: {output}");
        assert!(
            output.contains("Too many open files") || output.contains("os error 24"),
            "{few}: {output}"
        );
    }
}

#[test]
fn it_takes_the_descriptors_it_may_have_and_says_if_they_are_too_few() {
    let gateway = Setup::default().bound("connections: 100").start();
    let limited = |soft: u32, hard: u32| {
        let mut command = Command::new("sh");
        let limiting = "ulimit -Sn $3; ulimit -Hn $2; exec \"$0\" serve -c \"$1\"";
        command
            .args(["-c", limiting])
            .arg(binary())
            .arg(gateway.config_path())
            .args([hard.to_string(), soft.to_string()])
            .env("ALLOY_GATEWAY_LOG", "info");
        Process::run(command)
    };
    let descriptors = |process: &Process| {
        let id = Pid::from_raw(i32::try_from(process.id()).unwrap());
        let any = Rlimit {
            current: Some(1200),
            maximum: Some(1200),
        };
        prlimit(id, Resource::Nofile, any).unwrap().current
    };
    gateway.edit_config(|text| {
        text.replace("directory: audit", "directory: other")
            .replace("admin.sock", "other.sock")
    });
    let enough = limited(300, 1200);
    enough.listening("data");
    assert_eq!(descriptors(&enough), Some(1200));
    assert!(!enough.output().contains("too few file descriptors"));
    drop(enough);
    let few = limited(200, 1000);
    let line = few.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("too few file descriptors")
    });
    // 100 connections, 1024 calls in flight, and 64 for all else.
    assert_eq!((&line["have"], &line["need"]), (&1000.into(), &1188.into()));
}

#[test]
fn what_callers_can_take_is_held_against_the_memory_there_is() {
    let mut gateway = Setup::default()
        .bound("connections: 256")
        .bound("requests_in_flight: 512")
        .bound("header_bytes: 16KiB")
        .start();
    assert!(gateway.stop().success());
    let checked = Command::new(binary())
        .arg("check")
        .arg(gateway.config_path())
        .output()
        .unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    // 256 connections of 32 streams of 8 KiB and 8 KiB more, 512 calls of 64 KiB, 32 buffers
    // of 256 KiB to operators, and 16 MiB.
    let line = "  memory: callers can take up to about 122 MiB (256 connections, 512 requests in flight)\n";
    assert!(checked.contains(line), "{checked}");
    let Some(group) = Cgroup::new() else {
        return;
    };
    let within = |mebibytes: u64| {
        group.limit(mebibytes << 20);
        let mut command = Command::new("sh");
        let entering = "echo $$ > \"$1\" && exec \"$0\" serve -c \"$2\"";
        command
            .args(["-c", entering])
            .arg(binary())
            .arg(group.0.join("cgroup.procs"))
            .arg(gateway.config_path())
            .env("ALLOY_GATEWAY_LOG", "info");
        Process::run(command)
    };
    let enough = within(122);
    enough.listening("data");
    assert!(!enough.output().contains("more memory than there is"));
    drop(enough);
    let short = within(121);
    let line = short.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("callers can take more memory than there is")
    });
    assert_eq!(
        (&line["have_mib"], &line["need_mib"]),
        (&121.into(), &122.into())
    );
}

/// Of each connection, as many answers as it may have streams.
#[test]
fn answers_that_a_window_never_lets_out_take_no_more_memory_than_is_told() {
    const CONNECTIONS: u64 = 40;
    /// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2): nothing may be sent.
    const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
    let gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let before = resident_kib(&gateway);
    let held: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut raw = Raw::open(gateway.data);
            raw.send(SETTINGS, 0, 0, &NO_WINDOW);
            for n in 0..100 {
                raw.headers(2 * n + 1, &call("/x", "Bearer x"));
            }
            // Heads need no window: each stream is answered, or refused.
            let mut ended = 0;
            while ended < 64 {
                let frame = raw.receive().expect("an end of each stream, or of all");
                ended += u32::from(matches!(frame.kind, HEADERS | RST_STREAM));
            }
            raw
        })
        .collect();
    let taken = resident_kib(&gateway) - before;
    // What cli/memory.rs counts for a connection: 32 streams of 8 KiB, and 8 KiB.
    assert!(taken <= CONNECTIONS * (32 * 8 + 8), "{taken} KiB");
    drop(held);
    assert_eq!(gateway.delete(USER, "c2").status, 200);
}

/// A control group of its own, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` where one may not make any: then the test shows nothing and says so.
    fn new() -> Option<Self> {
        let name = format!("alloy-gateway-test-{}", std::process::id());
        let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
        let made = roots
            .map(|root| Path::new(root).join(&name))
            .into_iter()
            .find(|group| fs::create_dir(group).is_ok())
            .map(Self)
            .filter(|group| group.file().is_some());
        if made.is_none() {
            eprintln!("skipped: no control group can be made here");
        }
        made
    }

    fn file(&self) -> Option<PathBuf> {
        let files = ["memory.max", "memory.limit_in_bytes"];
        let mut files = files.map(|file| self.0.join(file)).into_iter();
        files.find(|file| file.exists())
    }

    fn limit(&self, bytes: u64) {
        fs::write(self.file().unwrap(), bytes.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// What hostile callers do, again and again until they are told to stop.
type Hostility = fn(SocketAddr, &AtomicBool);

fn idle(address: SocketAddr, stop: &AtomicBool) {
    let crowd: Vec<_> = (0..200)
        .filter_map(|_| TcpStream::connect(address).ok())
        .collect();
    wait(stop);
    drop(crowd);
}

fn slow_heads(address: SocketAddr, stop: &AtomicBool) {
    slowly(
        address,
        stop,
        b"DELETE /users/a/credentials/b HTTP/1.1\r\nHost: x\r\nX-A: aaaaaaaaaaaaaaaaaaa",
    );
}

fn slow_bodies(address: SocketAddr, stop: &AtomicBool) {
    slowly(
        address,
        stop,
        b"DELETE /users/a/credentials/b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456",
    );
}

fn slowly(address: SocketAddr, stop: &AtomicBool, bytes: &[u8]) {
    while !stop.load(Ordering::Relaxed) {
        let mut crowd: Vec<_> = (0..50)
            .filter_map(|_| TcpStream::connect(address).ok())
            .collect();
        for byte in bytes {
            for stream in &mut crowd {
                // The gateway may have had enough of it.
                let _ = stream.write_all(&[*byte]);
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn resets(address: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.write_all(b"DELETE /users/a/credentials/b HTTP/1.1\r\nHo");
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn never_reading(address: SocketAddr, stop: &AtomicBool) {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return;
    };
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while !stop.load(Ordering::Relaxed) {
        // Answers pile up until the gateway stops reading.
        let _ = stream.write_all(&b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100));
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn bad_tokens(address: SocketAddr, stop: &AtomicBool) {
    let Ok(stream) = TcpStream::connect(address) else {
        return;
    };
    drop(stream);
    let mut connection = Connection::open(address);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let response = connection
            .send(delete(USER, "c1", &format!("agw_{n:049}")))
            .receive();
        assert!(matches!(response.status, 401 | 429));
    }
}

fn wait(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_good_caller_is_served_among_hostile_ones_and_what_they_took_comes_back() {
    let gateway = generous(
        Setup::default()
            .bound("header_timeout: 1s")
            .bound("body_timeout: 1s")
            .bound("idle_timeout: 3s"),
    );
    assert_eq!(gateway.delete(USER, "first").status, 200);
    let (fds_before, kib_before) = (descriptors(&gateway), resident_kib(&gateway));
    let stop = Arc::new(AtomicBool::new(false));
    let kinds: [Hostility; 7] = [
        idle,
        idle,
        slow_heads,
        slow_bodies,
        resets,
        never_reading,
        bad_tokens,
    ];
    let hostile: Vec<_> = kinds
        .into_iter()
        .map(|hostility| {
            let (address, stop) = (gateway.data, Arc::clone(&stop));
            thread::spawn(move || hostility(address, &stop))
        })
        .collect();
    let mut kept = gateway.connect();
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let credential = format!("good-{calls}");
        let over_kept = kept
            .send(delete(USER, &credential, gateway.token()))
            .receive();
        assert_eq!(over_kept.status, 200, "{}", over_kept.text());
        assert_eq!(gateway.delete(USER, &credential).status, 200);
        calls += 1;
    }
    assert!(calls > 20, "only {calls} calls in 4 s");
    let kib_meanwhile = resident_kib(&gateway);
    stop.store(true, Ordering::Relaxed);
    for thread in hostile {
        thread.join().unwrap();
    }
    drop(kept);
    wait_until("all descriptors are back", || {
        descriptors(&gateway) <= fds_before + 4
    });
    assert!(
        kib_meanwhile < kib_before + 64 * 1024,
        "{kib_before} to {kib_meanwhile} KiB"
    );
    assert_eq!(gateway.delete(USER, "last").status, 200);
    assert!(gateway.verify().is_intact());
}

#[test]
fn a_flood_of_one_tenant_at_a_slow_upstream_leaves_another_unharmed() {
    let gateway = Setup::default()
        .tenant("flooding", &["users: all", "in_flight: 8"])
        .tenant("quiet", &["users: all"])
        .start();
    gateway
        .alloy
        .script(vec![Behaviour::Late(Duration::from_secs(3)); 8]);
    let flooding = gateway.token_of("flooding").to_owned();
    let mut flood: Vec<_> = (0..64)
        .map(|n| {
            let mut connection = gateway.connect();
            connection.send(delete(USER, &format!("c{n}"), &flooding));
            connection
        })
        .collect();
    assert!(gateway.alloy.wait_for(8, Duration::from_secs(10)));
    let quiet = gateway.token_of("quiet").to_owned();
    for n in 100..150 {
        let response = gateway.send(delete(USER, &format!("c{n}"), &quiet));
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let statuses: Vec<_> = flood
        .iter_mut()
        .map(|connection| connection.receive().status)
        .collect();
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(200), count(503)), (8, 56), "{statuses:?}");
}
