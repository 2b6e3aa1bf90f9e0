//! One worker's connections to the upstream, last in, first out.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    connect_error::ConnectError,
    connection::{Connection, Stream},
    look_up::{LookUps, dial},
};
use crate::{one_write::Together, snapshot::Target};

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
            if Arc::ptr_eq(connection.target(), target)
                && connection.is_fresh(now)
                && connection.is_open()
            {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end, or that nothing was written to.
    pub fn put_back(&self, mut connection: Connection, now: Instant) {
        connection.rest(now);
        let room = connection.target().settings.idle_connections;
        // Whether it is still open is seen when it is taken.
        let is_fresh = connection.is_fresh(now);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if is_fresh && idle.len() < room {
            idle.push(connection);
        }
    }

    /// Closes the connections to `target` that were unused at `time` and still are. One
    /// of their age turned out dead: those that the upstream forgot together with it
    /// would each cost a call whose end nobody knows.
    pub fn distrust(&self, target: &Arc<Target>, time: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| {
            !Arc::ptr_eq(connection.target(), target) || !connection.is_unused_since(time)
        });
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
    let stream = match &target.tls {
        Some(tls) => {
            // TLS hands over its one record as a list.
            let shaken = tls.connect(&target.settings.url.host, Together(tcp)).await;
            let stream = shaken.map_err(|error| ConnectError::Tls(error.to_string()))?;
            Stream::Tls(Box::new(stream))
        }
        None => Stream::Plain(tcp),
    };
    Ok(Connection::new(stream, target))
}
