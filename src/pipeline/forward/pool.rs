//! One worker's connections to the upstream, last in, first out.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::{
    driver::Driver,
    look_up::{LookUps, dial},
    wire::Wire,
};
use crate::{config::snapshot::Target, pipeline::room::Room};

/// The largest head of an upstream answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most fields in the head of an upstream answer: as many as hyper parses
/// without allocating.
const HEAD_FIELDS_MAX: usize = 100;

/// An open connection. Dropped, it is closed at once: nothing half-read is reused.
#[derive(Debug)]
pub struct Connection {
    /// Where requests go in.
    pub sender: SendRequest<Empty<Bytes>>,
    /// What moves them; nothing does but whoever uses the connection.
    pub driver: Driver,
    /// The memory of the last answer's fields.
    pub room: Room,
    target: Arc<Target>,
    written: Arc<AtomicU64>,
    written_before: u64,
    born: Instant,
    idle_since: Instant,
}

impl Connection {
    /// How many bytes of plain HTTP were handed to the transport so far.
    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Notes that a request is about to be written.
    pub fn mark_written(&mut self) {
        self.written_before = self.written();
    }

    /// Whether nothing was written since [`mark_written`](Self::mark_written).
    pub fn is_unwritten(&self) -> bool {
        self.written() == self.written_before
    }

    /// Whether it is young enough to be used.
    fn is_fresh(&self, now: Instant) -> bool {
        let bounds = &self.target.settings;
        now.duration_since(self.born) < bounds.connection_max_age
            && now.duration_since(self.idle_since) < bounds.idle_timeout
    }

    /// Whether the upstream has it open, as far as can be seen.
    fn is_open(&mut self) -> bool {
        self.driver.is_alive() && !self.sender.is_closed()
    }
}

/// Why there is no connection; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or the look-up failed.
    #[error("look-up failed: {0}")]
    Dns(String),
    /// No address took the connection.
    #[error("connect failed: {0}")]
    Tcp(String),
    /// The handshake failed, the certificate included.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Look-up, TCP and TLS took longer than `connect_timeout`, or than the call may.
    #[error("no connection within the time allowed")]
    Timeout,
}

/// The unused connections of one worker, and its way to new ones.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Connection>>,
    look_ups: LookUps,
}

impl Pool {
    /// The connection used last, if one is fresh and open and belongs to `target`.
    pub fn take(&self, target: &Arc<Target>, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut connection = idle.pop()?;
            if Arc::ptr_eq(&connection.target, target)
                && connection.is_fresh(now)
                && connection.is_open()
            {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn put_back(&self, mut connection: Connection, now: Instant) {
        connection.idle_since = now;
        let room = connection.target.settings.idle_connections;
        // Whether it is still open is seen when it is taken.
        let is_of_use = connection.is_fresh(now) && !connection.sender.is_closed();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if is_of_use && idle.len() < room {
            idle.push(connection);
        }
    }

    /// Closes what stood unused for too long, or was closed by the upstream.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|connection| connection.is_fresh(now) && connection.is_open());
    }

    /// Opens a connection by `deadline`, and within `connect_timeout`.
    ///
    /// # Errors
    ///
    /// See `ConnectError`.
    pub async fn connect(
        &self,
        target: &Arc<Target>,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        let own: Duration = target.settings.connect_timeout;
        let deadline = deadline.min(Instant::now() + own);
        let opening = async {
            let addresses = self.look_ups.addresses(target).await?;
            open(target, &addresses, deadline).await
        };
        timeout_at(deadline, opening)
            .await
            .unwrap_or(Err(ConnectError::Timeout))
    }
}

async fn open(
    target: &Arc<Target>,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<Connection, ConnectError> {
    let tcp = dial(addresses, deadline).await?;
    // A DELETE is one small write: waiting for more would only cost time.
    let _ = tcp.set_nodelay(true);
    match &target.tls {
        Some(tls) => {
            let stream = tls
                .connect(&target.settings.url.host, tcp)
                .await
                .map_err(|error| ConnectError::Tls(error.to_string()))?;
            speak_http(target, stream).await
        }
        None => speak_http(target, tcp).await,
    }
}

async fn speak_http<S>(target: &Arc<Target>, stream: S) -> Result<Connection, ConnectError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (stream, written) = Wire::new(stream);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .http09_responses(false)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError::Tcp(error.to_string()))?;
    let driver = Driver::new(async move {
        // What went wrong reaches the call through its own future.
        let _ = connection.await;
    });
    let now = Instant::now();
    Ok(Connection {
        sender,
        driver,
        room: Room::default(),
        target: Arc::clone(target),
        written,
        written_before: 0,
        born: now,
        idle_since: now,
    })
}
