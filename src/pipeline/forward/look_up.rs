//! The addresses of the upstream: asked for anew for each new connection, and by
//! one thread of a worker at a time. A look-up can't be cut: without that bound
//! a silent name server would cost a thread for each call.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    net::{TcpStream, lookup_host},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::connect_error::ConnectError;
use crate::snapshot::Target;

type Resolved = Result<Arc<[SocketAddr]>, ConnectError>;

/// The look-up that one worker has under way, if any.
#[derive(Debug, Default)]
pub struct LookUps(Mutex<Option<LookUp>>);

#[derive(Debug)]
struct LookUp {
    target: Arc<Target>,
    task: AbortHandle,
    found: Shared<BoxFuture<'static, Resolved>>,
}

impl LookUps {
    /// The addresses of `target`: those of the look-up that is under way, or of a
    /// new one.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Dns`].
    pub async fn addresses(&self, target: &Arc<Target>) -> Resolved {
        let found = self.found(target);
        found.await
    }

    fn found(&self, target: &Arc<Target>) -> Shared<BoxFuture<'static, Resolved>> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = under_way.as_ref()
            && Arc::ptr_eq(&known.target, target)
            && !known.task.is_finished()
        {
            return known.found.clone();
        }
        let url = target.settings.url.clone();
        let task = tokio::spawn(async move {
            let addresses = lookup_host((url.host.as_str(), url.port)).await;
            addresses.map(Iterator::collect)
        });
        let abort = task.abort_handle();
        let found = async move {
            let addresses: io::Result<_> = task.await.map_err(io::Error::other).flatten();
            addresses.map_err(|error| ConnectError::Dns(error.to_string()))
        };
        let found = found.boxed().shared();
        *under_way = Some(LookUp {
            target: Arc::clone(target),
            task: abort,
            found: found.clone(),
        });
        found
    }
}

/// Tries the addresses one after another. Each has its share of the time that is
/// left: one that swallows everything must not cost the others their turn.
///
/// # Errors
///
/// What was wrong with the last one.
pub async fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Dns("the name has no address".to_owned());
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let now = Instant::now();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let share: Duration = deadline.saturating_duration_since(now) / left;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = ConnectError::Tcp(format!("{address}: {error}")),
            Err(_) => last = ConnectError::Timeout,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A listener that takes no connection any more, as a host does that drops
    /// packets: its backlog is full.
    async fn swallowing() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        let soon = Duration::from_millis(100);
        while let Ok(Ok(stream)) = tokio::time::timeout(soon, TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        (socket, waiting, address)
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_costs_the_next_ones_only_its_share() {
        let (_socket, _waiting, swallows) = swallowing().await;
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = good.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(4);
        let stream = dial(&[swallows, swallows, address], deadline)
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let none = dial(&[swallows], Instant::now() + Duration::from_millis(50)).await;
        assert_eq!(none.unwrap_err(), ConnectError::Timeout);
    }
}
