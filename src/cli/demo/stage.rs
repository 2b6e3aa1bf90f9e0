//! The stage: a directory, a config, a simulated Alloy and the real gateway.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    admin::Admin,
    load::{self, Ready},
    reload::{AtStart, Reloader},
    server::{Drain, Gateway, Inherited},
    simulated_alloy::{self, SimulatedAlloy},
    token::NewToken,
};

/// The key of the demo. The simulated Alloy knows no other.
pub const KEY: &str = "demo-key-that-no-caller-ever-sees";

/// Everything the demo needs; [`strike`](Stage::strike) takes it down.
#[derive(Debug)]
pub struct Stage {
    alloy: SimulatedAlloy,
    gateway: Gateway,
    base: SocketAddr,
    admin: Option<SocketAddr>,
    billing: NewToken,
    support: NewToken,
    _admin: Option<AdminThread>,
    /// Last, since the others write into it.
    directory: Directory,
}

/// A directory that only this user can enter; it goes with this.
#[derive(Debug)]
struct Directory(PathBuf);

type AdminThread = tokio::sync::oneshot::Sender<()>;

impl Stage {
    /// Sets everything up. A story takes free ports, so that it never collides;
    /// the demo for people takes the usual ones if they are free.
    pub fn set(for_story: bool) -> anyhow::Result<Self> {
        let directory = Directory::new()?;
        let alloy = SimulatedAlloy::start(simulated_alloy::Options {
            tls: true,
            api_key: KEY.to_owned(),
            api_version: "2025-09".to_owned(),
            users: users(),
        })?;
        let token = || {
            NewToken::generate().map_err(|_| anyhow::anyhow!("the system gives no random numbers"))
        };
        let (billing, support) = (token()?, token()?);
        fs::write(directory.0.join("alloy-ca.pem"), alloy.ca_pem())?;
        secret_file(&directory.0.join("alloy-api-key"), KEY)?;
        let listen = if for_story || !is_free(8080) { 0 } else { 8080 };
        let text = config_text(&alloy.url(), listen, &billing, &support);
        let path = directory.0.join("config.yaml");
        fs::write(&path, text)?;
        let loaded = load::file(&path).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let ready = Ready::read(&loaded).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let trail = ready.open_trail(&loaded)?;
        let gateway = Gateway::start(
            &loaded.settings,
            ready.snapshot,
            trail,
            &mut Inherited::default(),
        )?;
        let Some(base) = gateway.address() else {
            bail!("the gateway listens nowhere");
        };
        let at_start = AtStart::new(None, None);
        let reloader = Reloader::new(Arc::clone(gateway.shared()), &loaded, at_start);
        let (admin, ends) = serve_admin(Admin::new(Arc::clone(gateway.shared()), reloader))?;
        Ok(Self {
            alloy,
            gateway,
            base,
            admin: Some(admin),
            billing,
            support,
            _admin: Some(ends),
            directory,
        })
    }

    /// Where callers connect to.
    pub fn address(&self) -> SocketAddr {
        self.base
    }

    /// What callers put before the path.
    pub fn base(&self) -> String {
        format!("http://{}", self.base)
    }

    /// Where probes and scrapers ask.
    pub fn admin(&self) -> String {
        self.admin
            .map_or_else(String::new, |admin| format!("http://{admin}"))
    }

    /// The simulated Alloy.
    pub fn alloy(&self) -> &SimulatedAlloy {
        &self.alloy
    }

    /// Where the simulated Alloy is.
    pub fn alloy_url(&self) -> String {
        self.alloy.url()
    }

    /// The config that was written for the demo.
    pub fn config_path(&self) -> PathBuf {
        self.directory.0.join("config.yaml")
    }

    /// Where the trail is.
    pub fn trail_directory(&self) -> PathBuf {
        self.directory.0.join("audit")
    }

    /// The token of a tenant that may touch every user.
    pub fn billing(&self) -> &str {
        self.billing.reveal()
    }

    /// The token of a tenant that may touch one user.
    pub fn support(&self) -> &str {
        self.support.reveal()
    }

    /// Stops the gateway in order and removes the directory.
    pub async fn strike(self) {
        self.gateway
            .stop(
                Drain {
                    delay: Duration::ZERO,
                    timeout: Duration::from_secs(5),
                },
                std::future::pending::<()>,
            )
            .await;
    }
}

fn users() -> BTreeMap<String, Vec<String>> {
    let of = |credentials: &[&str]| credentials.iter().map(ToString::to_string).collect();
    let many: Vec<_> = (1..=20).map(|n| format!("c{n}")).collect();
    BTreeMap::from([
        ("ana".to_owned(), of(&["slack", "github", "jira"])),
        ("bob".to_owned(), many),
    ])
}

fn config_text(alloy: &str, port: u16, billing: &NewToken, support: &NewToken) -> String {
    format!(
        "\
# Written for this demo. Your own begins as a copy of config/example.yaml.
version: 1
listen:
  - address: 127.0.0.1:{port}
admin:
  address: 127.0.0.1:0
upstream:
  url: {alloy}
  trust: {{ file: alloy-ca.pem }}
  request_timeout: 5s
keys:
  demo:
    secret: {{ file: alloy-api-key }}
    limits: [ {{ requests: 600, per: 60s }} ]
tenants:
  - name: billing
    key: demo
    users: all
    tokens:
      - {{ id: demo, sha256: \"{}\" }}
  - name: support
    key: demo
    users: [ bob ]
    tokens:
      - {{ id: demo, sha256: \"{}\" }}
    limits: [ {{ requests: 5, per: 10s }} ]
audit:
  directory: audit
",
        billing.digest().to_hex(),
        support.digest().to_hex(),
    )
}

impl Directory {
    fn new() -> anyhow::Result<Self> {
        let name = format!("alloy-gateway-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It lies in the system's temporary directory: nothing is lost if it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn secret_file(path: &Path, secret: &str) -> anyhow::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(secret.as_bytes())?;
    Ok(())
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The admin listener on a thread of its own; ends when the sender is dropped.
fn serve_admin(admin: Arc<Admin>) -> anyhow::Result<(SocketAddr, AdminThread)> {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let (ends, ended) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(socket) else {
                    return;
                };
                tokio::select! {
                    () = admin.serve_tcp(listener) => {}
                    _ = ended => {}
                }
            });
        })?;
    Ok((address, ends))
}
