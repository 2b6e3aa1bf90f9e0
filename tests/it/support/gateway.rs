//! The real binary, as a process of its own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::{
    audit,
    fault_point::FaultPoint,
    simulated_alloy::{Options, SimulatedAlloy},
    token::NewToken,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{CREDENTIAL, Connection, KEY, Response, USER, delete};

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary that is tried: cargo's own, or the one that `ALLOY_GATEWAY_BINARY` names, such
/// as that of `deploy/build`.
pub fn binary() -> PathBuf {
    let named = std::env::var_os("ALLOY_GATEWAY_BINARY").map(PathBuf::from);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_alloy-gateway").into())
}

/// Where a binary can be made to fail in a call; one that is shipped can't.
pub fn fault_points() -> impl Iterator<Item = FaultPoint> {
    let has_some = std::env::var_os("ALLOY_GATEWAY_BINARY").is_none();
    if !has_some {
        eprintln!("left out: what needs a binary that can be made to fail");
    }
    let points = FaultPoint::ALL
        .into_iter()
        .filter(|point| point.is_of_a_call());
    points.filter(move |_| has_some)
}

/// How a gateway is set up: the defaults, and what a test changes of them.
pub struct Setup {
    upstream_url: Option<String>,
    upstream: String,
    bounds: String,
    key_limits: &'static str,
    tenants: Vec<(String, String)>,
    log: &'static str,
    workers: u32,
    audit: String,
    audit_directory: String,
    env: Vec<(&'static str, String)>,
    files: Vec<(&'static str, String)>,
    ca: Option<String>,
    listen: String,
    key_lines: String,
    lines: String,
    name_server: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            upstream_url: None,
            upstream: String::new(),
            bounds: String::new(),
            key_limits: "[]",
            tenants: Vec::new(),
            log: "info",
            workers: 2,
            audit: String::new(),
            audit_directory: "audit".to_owned(),
            env: Vec::new(),
            files: Vec::new(),
            ca: None,
            listen: String::new(),
            key_lines: String::new(),
            name_server: None,
            lines: String::new(),
        }
    }
}

impl Setup {
    /// Another upstream than the simulated Alloy.
    pub fn upstream_url(mut self, url: impl Into<String>) -> Self {
        self.upstream_url = Some(url.into());
        self
    }

    /// A line in `upstream:`.
    pub fn upstream(mut self, line: &str) -> Self {
        let _ = writeln!(self.upstream, "  {line}");
        self
    }

    /// A line in `bounds:`.
    pub fn bound(mut self, line: &str) -> Self {
        let _ = writeln!(self.bounds, "  {line}");
        self
    }

    /// A line in `audit:`.
    pub fn audit(mut self, line: &str) -> Self {
        let _ = writeln!(self.audit, "  {line}");
        self
    }

    /// Another directory for the trail.
    pub fn audit_directory(mut self, path: &Path) -> Self {
        self.audit_directory = path.display().to_string();
        self
    }

    /// A variable of the gateway's environment.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// A secret file beside the config.
    pub fn file(mut self, name: &'static str, content: impl Into<String>) -> Self {
        self.files.push((name, content.into()));
        self
    }

    /// Trusts this authority instead of Alloy's own.
    pub fn ca(mut self, pem: &str) -> Self {
        self.ca = Some(pem.to_owned());
        self
    }

    /// Another listener, after the TCP one on loopback.
    pub fn listen(mut self, line: &str) -> Self {
        let _ = writeln!(self.listen, "  - {line}");
        self
    }

    /// Asks this name server, and nobody else, in a mount namespace of its own.
    pub fn name_server(mut self, address: &str) -> Self {
        self.name_server = Some(address.to_owned());
        self
    }

    /// A line of the key.
    pub fn key(mut self, line: &str) -> Self {
        let _ = writeln!(self.key_lines, "    {line}");
        self
    }

    /// The limits of the key.
    pub fn key_limits(mut self, limits: &'static str) -> Self {
        self.key_limits = limits;
        self
    }

    /// A tenant with lines of its own, which may hold its tokens; without one, `billing` may do everything.
    pub fn tenant(mut self, name: &str, lines: &[&str]) -> Self {
        let lines = lines
            .iter()
            .fold(String::new(), |text, line| text + "    " + line + "\n");
        self.tenants.push((name.to_owned(), lines));
        self
    }

    /// Lines at the top level of the config.
    pub fn lines(mut self, lines: &str) -> Self {
        self.lines += lines;
        self
    }

    /// What is logged.
    pub fn log(mut self, filter: &'static str) -> Self {
        self.log = filter;
        self
    }

    /// How many workers.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Starts Alloy and the gateway.
    pub fn start(self) -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        let alloy = SimulatedAlloy::start(Options {
            tls: true,
            api_key: KEY.to_owned(),
            api_version: "2025-09".to_owned(),
            users: BTreeMap::from([(USER.to_owned(), credentials())]),
        })
        .unwrap();
        let mut tenants = self.tenants;
        if tenants.is_empty() {
            tenants.push(("billing".to_owned(), "    users: all\n".to_owned()));
        }
        let tokens: BTreeMap<_, _> = tenants
            .iter()
            .map(|(name, _)| (name.clone(), NewToken::generate().unwrap()))
            .collect();
        let url = self.upstream_url.unwrap_or_else(|| alloy.url());
        let mut config = format!(
            "version: 1\nworkers: {}\nlisten:\n  - address: 127.0.0.1:0\n{}admin:\n  address: 127.0.0.1:0\n  socket: admin.sock\n\
             upstream:\n  url: {url}\n  trust: {{ file: ca.pem }}\n{}\
             keys:\n  production:\n    secret: {{ file: api-key }}\n{}    limits: {}\n\
             audit:\n  directory: {}\n{}",
            self.workers,
            self.listen,
            self.upstream,
            self.key_lines,
            self.key_limits,
            self.audit_directory,
            self.audit,
        );
        if !self.bounds.is_empty() {
            let _ = write!(config, "bounds:\n{}", self.bounds);
        }
        config += &self.lines;
        config += "tenants:\n";
        for (name, lines) in &tenants {
            let _ = write!(config, "  - name: {name}\n    key: production\n{lines}");
            if !lines.contains("tokens:") {
                let digest = tokens[name].digest().to_hex();
                let _ = writeln!(
                    config,
                    "    tokens: [ {{ id: first, sha256: \"{digest}\" }} ]"
                );
            }
        }
        let ca = self.ca.as_deref().unwrap_or(alloy.ca_pem());
        fs::write(directory.path().join("ca.pem"), ca).unwrap();
        secret(&directory.path().join("api-key"), KEY);
        for (name, content) in &self.files {
            secret(&directory.path().join(name), content);
        }
        let path = directory.path().join("config.yaml");
        fs::write(&path, config).unwrap();
        let process = match &self.name_server {
            None => Process::spawn_with(&path, self.log, &self.env),
            Some(address) => {
                let own = directory.path().join("resolv.conf");
                fs::write(&own, format!("nameserver {address}\n")).unwrap();
                let mut command = Command::new("unshare");
                command
                    .args(["-m", "sh", "-c"])
                    .arg("mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"")
                    .arg("sh")
                    .arg(own)
                    .arg(binary())
                    .args(["serve", "-c"])
                    .arg(&path)
                    .env("ALLOY_GATEWAY_LOG", self.log)
                    .stdin(Stdio::null());
                Process::run(command)
            }
        };
        Gateway {
            audit: directory.path().join(&self.audit_directory),
            data: process.listening("data"),
            admin: process.listening("admin"),
            process,
            alloy,
            tokens,
            directory,
        }
    }
}

/// Credentials enough for any test: the named one and `c0` to `c999`.
fn credentials() -> Vec<String> {
    std::iter::once(CREDENTIAL.to_owned())
        .chain((0..1000).map(|n| format!("c{n}")))
        .collect()
}

/// Runs a verb of `audit` on a trail.
pub fn audit_verb(trail: &Path, verb: &str, args: &[&str]) -> Output {
    Command::new(binary())
        .args(["audit", verb])
        .arg(trail)
        .args(args)
        .output()
        .unwrap()
}

/// Writes a file that only its owner reads.
pub fn secret(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A running gateway and its Alloy. Ends with the test.
pub struct Gateway {
    pub data: SocketAddr,
    pub admin: SocketAddr,
    pub alloy: SimulatedAlloy,
    pub process: Process,
    tokens: BTreeMap<String, NewToken>,
    audit: PathBuf,
    directory: TempDir,
}

impl Gateway {
    /// The gateway of a test that needs nothing special.
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// A tenant's token.
    pub fn token_of(&self, tenant: &str) -> &str {
        self.tokens[tenant].reveal()
    }

    /// The token of the first tenant by name.
    pub fn token(&self) -> &str {
        self.tokens.values().next().unwrap().reveal()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.data)
    }

    /// Sends bytes over a connection of their own.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().send(bytes).receive()
    }

    /// A plain call over a connection of its own.
    pub fn delete(&self, user: &str, credential: &str) -> Response {
        self.send(delete(user, credential, self.token()))
    }

    /// A read from the admin listener.
    pub fn admin(&self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin);
        Connection::open(self.admin).send(request).receive()
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("config.yaml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The trail as it is on disk now.
    pub fn trail(&self) -> Vec<Value> {
        self.trail_text()
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub fn trail_text(&self) -> String {
        let mut segments: Vec<_> = fs::read_dir(&self.audit)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "jsonl")
            })
            .collect();
        segments.sort();
        segments
            .iter()
            .map(|segment| fs::read_to_string(segment).unwrap())
            .collect()
    }

    /// What the verifier says of the trail.
    pub fn verify(&self) -> audit::Report {
        audit::verify(&self.audit, &audit::Known::default(), |_| {}).unwrap()
    }

    /// Waits for a record that `is_it`: refusals are written without being waited for.
    #[track_caller]
    pub fn record(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(record) = self.trail().into_iter().find(&is_it) {
                return record;
            }
            assert!(
                Instant::now() < end,
                "no record of {what} in\n{}",
                self.trail_text()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The record with which the request of this answer ended.
    #[track_caller]
    pub fn last_record_of(&self, response: &Response) -> Value {
        let id = response.field("x-request-id").unwrap();
        self.record(id, |record| {
            record["request_id"] == id && record["event"] != "request.intent"
        })
    }

    /// Where the trail is.
    pub fn audit(&self) -> &Path {
        &self.audit
    }

    /// Changes the text of the config, in one step as an editor does.
    pub fn edit_config(&self, change: impl FnOnce(String) -> String) {
        let path = self.config_path();
        let text = change(fs::read_to_string(&path).unwrap());
        let aside = self.path("config.new");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    /// Sends a request to the admin socket.
    pub fn admin_socket(&self, method: &str, path: &str) -> (u16, String) {
        self.admin_socket_with(method, path, "")
    }

    /// Sends a request with a body to the admin socket.
    pub fn admin_socket_with(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = std::os::unix::net::UnixStream::connect(self.path("admin.sock")).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split("\r\n\r\n").nth(1).unwrap().to_owned())
    }

    /// Runs a verb of the command line with this gateway's config.
    pub fn verb(&self, verb: &str, args: &[&str]) -> Output {
        Command::new(binary())
            .arg(verb)
            .args(args)
            .arg("-c")
            .arg(self.config_path())
            .output()
            .unwrap()
    }

    /// Runs a verb that has to succeed; what it says.
    #[track_caller]
    pub fn done(&self, verb: &str, args: &[&str]) -> String {
        let output = self.verb(verb, args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts it again after it ended; the same Alloy, config and trail.
    pub fn start_again(&mut self) {
        self.process = Process::spawn(&self.config_path(), "info");
        self.data = self.process.listening("data");
        self.admin = self.process.listening("admin");
    }

    /// Ends it as no program can prevent.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Waits for an orderly end after SIGTERM.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }
}

/// A process whose output is kept.
pub struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    pub fn spawn(config: &Path, log: &str) -> Self {
        Self::spawn_with(config, log, &[])
    }

    pub fn spawn_with(config: &Path, log: &str, env: &[(&str, String)]) -> Self {
        let mut command = Command::new(binary());
        command
            .args(["serve", "-c"])
            .arg(config)
            .env("ALLOY_GATEWAY_LOG", log)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        Self::run(command)
    }

    /// Any command whose output is to be kept.
    pub fn run(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            keep(child.stdout.take().unwrap(), &output),
            keep(child.stderr.take().unwrap(), &output),
        ];
        Self {
            child,
            output,
            readers,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far to stdout and stderr.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits until a listener of this kind listens.
    #[track_caller]
    pub fn listening(&self, listener: &str) -> SocketAddr {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.output();
            if let Some(address) = output.lines().find_map(|line| address_in(line, listener)) {
                return address;
            }
            assert!(Instant::now() < end, "it never listened:\n{output}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a log line.
    #[track_caller]
    pub fn wait_for(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.output();
            let lines = output
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            if let Some(line) = lines.into_iter().find(&is_it) {
                return line;
            }
            assert!(Instant::now() < end, "the log line never came:\n{output}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end, and for the last of the output.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + 3 * PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                for reader in self.readers.drain(..) {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(
                Instant::now() < end,
                "the process does not end:\n{}",
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only ever the process started here; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The TCP address in a line that says a listener of this kind listens, in either format.
fn address_in(line: &str, listener: &str) -> Option<SocketAddr> {
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        let text = format!(" listening listener={listener} address=");
        return line.split_once(&text)?.1.parse().ok();
    };
    let is_it = line["message"] == "listening" && line["listener"] == listener;
    line["address"].as_str().filter(|_| is_it)?.parse().ok()
}

fn keep(pipe: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            output
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
