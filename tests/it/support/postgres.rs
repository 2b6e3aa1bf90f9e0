//! A real PostgreSQL of the test's own: Debian's, on loopback, in a temporary directory.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, Row};

use super::or_skipped;

/// Nothing takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The password of the owner of the tables, and of the gateways.
pub const PASSWORD: &str = "a-pass/word+that?is=odd";
/// The same, as it stands in a URL.
const PASSWORD_IN_URL: &str = "a-pass%2Fword%2Bthat%3Fis%3Dodd";
/// What a gateway may do, as docs/fleet.md says it.
const GRANTS: &str = "\
GRANT USAGE ON SCHEMA alloy_gateway TO gateway;
GRANT SELECT ON alloy_gateway.schema_version TO gateway;
GRANT SELECT, INSERT, UPDATE ON alloy_gateway.chain TO gateway;
GRANT INSERT ON alloy_gateway.record TO gateway;
GRANT SELECT (chain, seq, hash) ON alloy_gateway.record TO gateway;
";

/// A server, as a process. Ends with the test.
pub struct Postgres {
    programs: PathBuf,
    directory: TempDir,
    port: u16,
    /// Whom it runs as, if not as us: it does not run as root.
    user: Option<(u32, u32)>,
    server: Option<Child>,
    options: Vec<String>,
}

impl Postgres {
    /// An empty one, if the machine has PostgreSQL; `.ci/run` installs it.
    pub fn start() -> Option<Self> {
        Self::start_with(&[], |_| {})
    }

    /// With options, and files that `prepare` makes.
    pub fn start_with(options: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let programs = or_skipped(programs(), "PostgreSQL")?;
        let directory = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().is_root().then(owner);
        let mut postgres = Self {
            programs,
            directory,
            port: free_port(),
            user,
            server: None,
            options: options.iter().map(ToString::to_string).collect(),
        };
        fs::write(postgres.directory.path().join("password"), PASSWORD).unwrap();
        prepare(postgres.directory.path());
        postgres.hand_over();
        let made = postgres
            .command("initdb")
            .args(["--username=owner", "--auth=scram-sha-256", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C", "--pwfile=password"])
            .args(["-D", "data"])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.run();
        Some(postgres)
    }

    /// The tables, and a role that may do what a gateway must.
    pub fn with_tables(self) -> Self {
        let made = self.audit("migrate", &[]);
        assert!(made.status.success(), "{made:?}");
        self.sql("CREATE ROLE gateway LOGIN PASSWORD 'a-pass/word+that?is=odd'");
        self.grant();
        self
    }

    /// Gives the gateways' role its rights on the tables.
    pub fn grant(&self) {
        self.sql(GRANTS);
    }

    /// Files belong to whom the server runs as.
    fn hand_over(&self) {
        let Some((uid, gid)) = self.user else { return };
        let root = self.directory.path();
        let inner = fs::read_dir(root).unwrap();
        let inner = inner.map(|entry| entry.unwrap().path());
        for path in inner.chain([root.to_owned()]) {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
            .current_dir(self.directory.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// Starts it, again if need be: what is left of one that was killed holds it up.
    pub fn run(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = fs::File::options()
                .create(true)
                .append(true)
                .open(self.directory.path().join("log"))
                .unwrap();
            let mut command = self.command("postgres");
            command
                .args(["-D", "data", "-h", "127.0.0.1", "-p"])
                .arg(self.port.to_string())
                .args(["-c", "unix_socket_directories="])
                .args(&self.options)
                .stdout(Stdio::null())
                .stderr(log);
            let mut server = command.spawn().unwrap();
            loop {
                if server.try_wait().unwrap().is_some() {
                    break;
                }
                if self.try_sql("owner", "SELECT 1").is_ok() {
                    self.server = Some(server);
                    return;
                }
                assert!(Instant::now() < end, "it does not start: {}", self.log());
                thread::sleep(Duration::from_millis(50));
            }
            assert!(Instant::now() < end, "it does not start: {}", self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// What a gateway, or an auditor, is given.
    pub fn url(&self, user: &str) -> String {
        self.url_with(user, PASSWORD_IN_URL, "?sslmode=disable")
    }

    pub fn url_with(&self, user: &str, password: &str, options: &str) -> String {
        let port = self.port;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/postgres{options}")
    }

    /// Runs a verb of `audit` on the database, as its owner.
    pub fn audit(&self, verb: &str, args: &[&str]) -> std::process::Output {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), self.url("owner")).unwrap();
        Command::new(super::binary())
            .args(["audit", verb, "--from"])
            .arg(file.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// As the owner of all.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Vec<Row> {
        self.try_sql("owner", statements).unwrap()
    }

    /// As somebody.
    pub fn try_sql(&self, user: &str, statements: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let (client, connection) = tokio_postgres::connect(&self.url(user), NoTls).await?;
                let serving = tokio::spawn(connection);
                let rows = ask(&client, statements).await;
                serving.abort();
                rows
            })
    }

    /// Ends it as no program can prevent.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Ends it in order, cutting off whoever is connected.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            self.signal(server.id(), Signal::INT);
            server.wait().unwrap();
        }
    }

    /// It does nothing any more, and keeps everybody waiting.
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// To the server and to each of its processes, which serve one connection each.
    fn signal_all(&self, signal: Signal) {
        let Some(server) = &self.server else { return };
        self.signal(server.id(), signal);
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split(' ').nth(2));
            if parent == Some(&server.id().to_string()) {
                self.signal(pid, signal);
            }
        }
    }

    fn signal(&self, pid: u32, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Only ever the process started here; its own processes end with it.
        self.resume();
        if let Some(mut server) = self.server.take() {
            self.signal(server.id(), Signal::QUIT);
            let _ = server.wait();
        }
    }
}

async fn ask(client: &Client, statements: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
    if statements.trim_start().starts_with("SELECT") {
        return client.query(statements, &[]).await;
    }
    client.batch_execute(statements).await?;
    Ok(Vec::new())
}

/// Where Debian has its programs: the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<_> = versions.map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    let programs = versions.pop()?.join("bin");
    programs.join("initdb").exists().then_some(programs)
}

/// The user that Debian's package makes.
fn owner() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = user.expect("a user postgres").split(':').skip(2);
    let mut next = || fields.next().unwrap().parse().unwrap();
    (next(), next())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
