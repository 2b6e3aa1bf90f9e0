//! Real Redis servers on loopback, and what can happen to them.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::fleet::resp::{self, Reply};
use bytes::BytesMut;
use rustix::process::Signal;
use tempfile::TempDir;

use super::gateway::Process;

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server, which forgets everything when it ends.
pub struct Redis {
    process: Process,
    port: u16,
    args: Vec<String>,
    directory: TempDir,
}

/// Whether the machine has one.
pub fn is_installed() -> Option<()> {
    let found = Command::new("redis-server").arg("--version").output();
    found.ok().filter(|it| it.status.success()).map(drop)
}

fn free_port() -> u16 {
    // Below 55536: a node of a cluster listens 10000 above as well.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments.
    pub fn with(args: &[&str]) -> Self {
        Self::somewhere(|_| args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    /// One that speaks TLS as well, with the certificate that [`certificate`] put into
    /// `directory`, and on which port.
    pub fn with_tls(directory: &Path, more: &[&str]) -> (Self, u16) {
        let mut tls_port = 0;
        let redis = Self::somewhere(|_| {
            tls_port = free_port();
            let more = more.iter().map(|arg| (*arg).to_owned());
            tls_args(tls_port, directory)
                .into_iter()
                .chain(more)
                .collect()
        });
        (redis, tls_port)
    }

    /// With the arguments for a port, on that port: on another if somebody took it, or one that
    /// is in the arguments, in the meantime.
    fn somewhere(mut args: impl FnMut(u16) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (process, port, args) = started(directory.path(), || {
            let port = free_port();
            (port, args(port))
        });
        Self {
            process,
            port,
            args,
            directory,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command and waits for its answer.
    pub fn ask(&self, parts: &[&str]) -> Reply {
        ask(self.port, parts)
    }

    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }

    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Starts it again, empty, on the same port, as soon as nobody else has that.
    pub fn start_again(&mut self) {
        let again = || (self.port, self.args.clone());
        self.process = started(self.directory.path(), again).0;
    }
}

/// A server on the first port, with its arguments, of which nobody else has any.
fn started(
    directory: &Path,
    mut place: impl FnMut() -> (u16, Vec<String>),
) -> (Process, u16, Vec<String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (port, args) = place();
        match run(port, directory, &args) {
            Ok(process) => return (process, port, args),
            Err(output) => assert!(
                is_taken(&output) && Instant::now() < end,
                "no redis: {output}"
            ),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a server ended since somebody else had one of its ports.
fn is_taken(output: &str) -> bool {
    output.contains("Address already in use")
}

/// A server that says it is ready, or else what it said when it ended. That somebody
/// listens on its port says nothing: it could be another test's.
fn run(port: u16, directory: &Path, args: &[String]) -> Result<Process, String> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .args(args)
        .stdin(Stdio::null());
    let mut process = Process::run(command);
    let end = Instant::now() + PATIENCE;
    while !process.output().contains("Ready to accept connections") {
        if process.has_ended() {
            process.wait();
            return Err(process.output());
        }
        assert!(Instant::now() < end, "no redis: {}", process.output());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(process)
}

/// Sends one command to the server on this port.
pub fn ask(port: u16, parts: &[&str]) -> Reply {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
    let mut out = BytesMut::new();
    resp::command(&mut out, &parts);
    stream.write_all(&out).unwrap();
    let (mut input, mut buffer) = (resp::Reader::default(), [0; 4096]);
    loop {
        if let Some(reply) = input.take().unwrap() {
            return reply;
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the store hung up");
        input.add(&buffer[..read]);
    }
}

/// Three masters, and a replica of the one that has the slot of a key.
pub struct Cluster {
    pub nodes: Vec<Redis>,
    /// Where the nodes speak TLS, if they do.
    tls_ports: Vec<u16>,
}

impl Cluster {
    pub fn start() -> Self {
        let mut cluster = Self::of(&["--cluster-require-full-coverage", "no"], None);
        cluster.join();
        cluster
    }

    /// One that answers nothing while a part of it is missing, as is the default.
    pub fn start_all_or_nothing() -> Self {
        let mut cluster = Self::of(&[], None);
        cluster.join();
        cluster
    }

    /// One whose nodes speak TLS, with each other too, with the certificate that
    /// [`certificate`] put into `directory`. They can be asked without it as well.
    pub fn start_tls(directory: &Path) -> Self {
        let mut cluster = Self::of(&["--cluster-require-full-coverage", "no"], Some(directory));
        cluster.join();
        cluster
    }

    fn of(more: &[&str], tls: Option<&Path>) -> Self {
        let (mut nodes, mut tls_ports) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let mut tls_port = 0;
            nodes.push(Redis::somewhere(|port| {
                let bus = (port + 10_000).to_string();
                let mut args = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
                args.extend(["--cluster-node-timeout", "500"]);
                args.extend(["--cluster-replica-validity-factor", "0"]);
                args.extend(more);
                tls_port = free_port();
                let of_tls = tls.map_or_else(Vec::new, |directory| tls_args(tls_port, directory));
                if tls.is_some() {
                    args.extend(["--tls-cluster", "yes", "--tls-replication", "yes"]);
                }
                args.extend(of_tls.iter().map(String::as_str));
                args.into_iter().map(str::to_owned).collect()
            }));
            tls_ports.push(tls_port);
        }
        Self { nodes, tls_ports }
    }

    fn join(&mut self) {
        let cluster = self;
        let place = |node: &Redis| format!("127.0.0.1:{}", node.port());
        let masters = cluster.nodes[..3].iter().map(place);
        // Nodes that do not find each other are waited for without an end.
        let created = Command::new("timeout")
            .args(["30", "redis-cli", "--cluster", "create"])
            .args(masters)
            .args(["--cluster-yes"])
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
        cluster.wait_until("it is ready", || {
            cluster.nodes[..3].iter().all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.text().unwrap().contains("cluster_state:ok")
            })
        });
    }

    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_ports[0])
    }

    /// Begins to move the slot of `key` to another master, with what is in it: who asks
    /// the one that has it is sent there, for this once. Returns both.
    pub fn begin_to_move(&self, key: &str) -> (usize, usize) {
        let from = self.master_of(key);
        let to = (from + 1) % 3;
        let slot = self.slot_of(key);
        let (from_id, to_id) = (self.id(from), self.id(to));
        let done = |node: usize, command: &[&str]| {
            let reply = self.nodes[node].ask(command);
            assert!(matches!(reply, Reply::Text(_)), "{command:?}: {reply:?}");
        };
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id];
        done(to, &importing);
        done(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let port = self.nodes[to].port().to_string();
        let names = self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        for name in names.list() {
            let name = name.text().unwrap();
            done(from, &["MIGRATE", "127.0.0.1", &port, name, "0", "5000"]);
        }
        (from, to)
    }

    /// How many connections its nodes have taken since their start.
    pub fn connections(&self) -> u64 {
        let of = |node: &Redis| -> u64 {
            let info = node.ask(&["INFO", "stats"]);
            let mut lines = info.text().unwrap().lines();
            let taken = lines.find_map(|line| line.strip_prefix("total_connections_received:"));
            taken.unwrap().parse().unwrap()
        };
        self.nodes.iter().map(of).sum()
    }

    /// Ends it: the slot is the other's.
    pub fn end_move(&self, key: &str, (from, to): (usize, usize)) {
        let (slot, id) = (self.slot_of(key), self.id(to));
        for node in [to, from] {
            let reply = self.nodes[node].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
            assert!(matches!(reply, Reply::Text(_)), "{reply:?}");
        }
    }

    /// A slot that this node has.
    pub fn a_slot_of(&self, node: usize) -> String {
        let port = i64::from(self.nodes[node].port());
        let slots = self.nodes[node].ask(&["CLUSTER", "SLOTS"]);
        let mut ranges = slots.list().iter().map(Reply::list);
        let range = ranges.find(|range| range[2].list()[1].number() == Some(port));
        range.unwrap()[0].number().unwrap().to_string()
    }

    pub fn slot_of(&self, key: &str) -> String {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]);
        slot.number().unwrap().to_string()
    }

    fn id(&self, node: usize) -> String {
        let id = self.nodes[node].ask(&["CLUSTER", "MYID"]);
        id.text().unwrap().to_owned()
    }

    /// The place among the nodes of the one that has `key`.
    pub fn master_of(&self, key: &str) -> usize {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).number();
        let slots = self.nodes[0].ask(&["CLUSTER", "SLOTS"]);
        let range = slots.list().iter().find(|range| {
            let bounds = range.list();
            bounds[0].number() <= slot && slot <= bounds[1].number()
        });
        let port = range.unwrap().list()[2].list()[1].number().unwrap();
        let mut nodes = self.nodes.iter();
        nodes
            .position(|node| i64::from(node.port()) == port)
            .unwrap()
    }

    /// Makes the fourth node a replica of `master`, and waits until it follows.
    pub fn add_replica_of(&self, master: usize) {
        let id = self.id(master);
        let port = self.nodes[0].port().to_string();
        let replica = &self.nodes[3];
        replica.ask(&["CLUSTER", "MEET", "127.0.0.1", &port]);
        self.wait_until("it knows its master", || {
            matches!(replica.ask(&["CLUSTER", "REPLICATE", &id]), Reply::Text(_))
        });
        self.wait_until("it follows", || {
            let info = replica.ask(&["INFO", "replication"]);
            info.text().unwrap().contains("master_link_status:up")
        });
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "never: {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn tls_args(port: u16, directory: &Path) -> Vec<String> {
    let at = |name: &str| directory.join(name).display().to_string();
    let port = port.to_string();
    let args = [
        ["--tls-port", &port],
        ["--tls-cert-file", &at("store.crt")],
        ["--tls-key-file", &at("store.key")],
        ["--tls-ca-cert-file", &at("store-ca.pem")],
        ["--tls-auth-clients", "no"],
    ];
    args.concat().into_iter().map(str::to_owned).collect()
}

/// One that says OK to everything, and to `CLUSTER SLOTS` that a node has all of them.
pub struct FakeStore {
    pub port: u16,
    seen: Arc<Mutex<String>>,
}

impl FakeStore {
    /// The node is at this host and port; without a port it is this one.
    pub fn of_cluster(host: &str, port: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<String>>::default();
        let (length, port) = (host.len(), port.unwrap_or(own));
        let map = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n${length}\r\n{host}\r\n:{port}\r\n");
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for caller in listener.incoming() {
                let Ok(caller) = caller else { return };
                let (map, seen) = (map.clone(), Arc::clone(&shared));
                thread::spawn(move || answer(caller, &map, &seen));
            }
        });
        Self { port: own, seen }
    }

    /// All words of all commands that it was sent.
    pub fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(mut caller: TcpStream, map: &str, seen: &Mutex<String>) {
    let (mut input, mut buffer) = (resp::Reader::default(), [0; 4096]);
    while let Ok(read @ 1..) = caller.read(&mut buffer) {
        input.add(&buffer[..read]);
        // A command is a list of texts, as an answer can be.
        while let Ok(Some(command)) = input.take() {
            let words: Vec<_> = command.list().iter().filter_map(Reply::text).collect();
            let words = words.join(" ");
            let reply = match words.as_str() {
                "CLUSTER SLOTS" => map,
                _ => "+OK\r\n",
            };
            seen.lock().unwrap().push_str(&(words + "\n"));
            if caller.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// A way to a server that can be made slow.
pub struct SlowWay {
    pub address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl SlowWay {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let delay_ms = Arc::<AtomicU64>::default();
        let delay = Arc::clone(&delay_ms);
        thread::spawn(move || {
            for caller in listener.incoming() {
                let Ok(caller) = caller else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let _ = (caller.set_nodelay(true), server.set_nodelay(true));
                let back = (server.try_clone().unwrap(), caller.try_clone().unwrap());
                let (there, again) = (Arc::clone(&delay), Arc::clone(&delay));
                thread::spawn(move || carry(caller, server, &there));
                thread::spawn(move || carry(back.0, back.1, &again));
            }
        });
        Self { address, delay_ms }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Bytes take so much longer in each direction from now on.
    pub fn slow_down(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap();
        self.delay_ms.store(ms, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay_ms: &AtomicU64) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        thread::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed)));
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

/// A certificate for 127.0.0.1, its key and its authority, in a directory.
pub fn certificate(directory: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut of_ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes a certificate that has its issuer's name for its own issuer.
    of_ca
        .distinguished_name
        .push(rcgen::DnType::CommonName, "authority");
    of_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = of_ca.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(of_ca, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    for (name, text) in [
        ("store-ca.pem", ca.pem()),
        ("store.crt", certificate.pem()),
        ("store.key", own.serialize_pem()),
    ] {
        fs::write(directory.join(name), text).unwrap();
    }
}
