//! A stand-in for Alloy, written from the vendor's contract, for the demo, the
//! tests and the benchmarks; never on the serve path.
//!
//! It speaks HTTP/1.1 over real TCP and TLS on loopback, keeps the exact bytes
//! of every request, and can be scripted to misbehave.

mod behaviour;
mod credentials;
mod serve;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

pub use self::behaviour::{Behaviour, answer};
use self::{credentials::Credentials, serve::serve};
use crate::tls::ServerTls;

/// What the simulated Alloy knows.
#[derive(Clone)]
pub struct Options {
    /// Whether it speaks TLS, with a certificate for `localhost`.
    pub tls: bool,
    /// The only key that it accepts.
    pub api_key: String,
    /// The version that it speaks.
    pub api_version: String,
    /// Its users, each with the ids of its credentials.
    pub users: BTreeMap<String, Vec<String>>,
}

/// A running simulated Alloy; ends when dropped.
#[derive(Debug)]
pub struct SimulatedAlloy {
    shared: Arc<Shared>,
    address: SocketAddr,
    tls: bool,
    ca_pem: String,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its exact bytes: head and body.
    pub bytes: Vec<u8>,
    /// The connection it came over, counted from 0.
    pub connection: usize,
}

impl Received {
    /// Its bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What the thread and its owner share.
struct Shared {
    credentials: Mutex<Credentials>,
    script: Mutex<VecDeque<Behaviour>>,
    always: Mutex<Option<Behaviour>>,
    /// New connections shake hands once this says so.
    handshakes: Mutex<Option<watch::Receiver<bool>>>,
    /// Connections below this number are answered so.
    lost: Mutex<Option<(usize, Behaviour)>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

impl SimulatedAlloy {
    /// Starts on a free port of 127.0.0.1, on a thread of its own.
    ///
    /// # Errors
    ///
    /// If no port is free, or the system gives no certificate's randomness.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (ca_pem, server) = if options.tls {
            let (ca_pem, server) = certificate().map_err(io::Error::other)?;
            (ca_pem, Some(server))
        } else {
            // A config may name the file even where it is not used.
            (certificate().map_err(io::Error::other)?.0, None)
        };
        let tls = options.tls;
        let shared = Arc::new(Shared {
            credentials: Mutex::new(Credentials::new(options)),
            script: Mutex::default(),
            always: Mutex::default(),
            handshakes: Mutex::default(),
            lost: Mutex::default(),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("simulated-alloy".to_owned())
            .spawn(move || {
                runtime.block_on(serve(serving, listener, server, stopped));
            })?;
        Ok(Self {
            shared,
            address,
            tls,
            ca_pem,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it is, as the gateway's config names it.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// The authority that vouches for its certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Waits until so many requests have arrived; whether they did in time.
    pub fn wait_for(&self, requests: usize, within: Duration) -> bool {
        let end = Instant::now() + within;
        while lock(&self.shared.received).len() < requests {
            if Instant::now() > end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// How the next requests are answered, one behaviour each.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.shared.script).extend(behaviours);
    }

    /// How all requests are answered that no script is for.
    pub fn always(&self, behaviour: Behaviour) {
        *lock(&self.shared.always) = Some(behaviour);
    }

    /// Accepts new connections, and leaves their TLS handshakes for when this says so.
    pub fn hold_handshakes(&self, released: watch::Receiver<bool>) {
        *lock(&self.shared.handshakes) = Some(released);
    }

    /// How every request is answered over a connection that is open by now, whatever
    /// the script: as after a failover that lost the state of its connections.
    pub fn lose_connections(&self, behaviour: Behaviour) {
        *lock(&self.shared.lost) = Some((self.connections(), behaviour));
    }
}

impl Shared {
    fn next_behaviour(&self, connection: usize) -> Behaviour {
        if let Some((below, behaviour)) = &*lock(&self.lost)
            && connection < *below
        {
            return behaviour.clone();
        }
        let scripted = lock(&self.script).pop_front();
        scripted
            .or_else(|| lock(&self.always).clone())
            .unwrap_or(Behaviour::Contract)
    }

    fn keep(&self, bytes: Vec<u8>, connection: usize) {
        lock(&self.received).push(Received { bytes, connection });
    }
}

// Not derived: the credentials hold the key.
impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Drop for SimulatedAlloy {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It ends at once; a bug in it showed in the test already.
            let _ = thread.join();
        }
    }
}

/// An authority of its own, and a certificate for `localhost` from it.
fn certificate() -> Result<(String, ServerTls), Box<dyn std::error::Error + Send + Sync>> {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(DnType::CommonName, "Simulated Alloy CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    let server = ServerTls::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    Ok((ca_pem, server))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
