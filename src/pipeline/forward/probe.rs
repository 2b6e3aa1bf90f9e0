//! Connecting to the upstream for its own sake: nothing is sent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::{connect_error::ConnectError, look_up::dial};
use crate::snapshot::Target;

/// What was found on the way to the upstream.
#[derive(Debug)]
pub struct Reached {
    /// What its name resolves to.
    pub addresses: Vec<SocketAddr>,
    /// The one that took the connection.
    pub address: SocketAddr,
    /// Version and cipher suite, its certificate being good; `None` for plaintext.
    pub tls: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Looks the upstream up, connects and shakes hands, within `connect_timeout`.
///
/// # Errors
///
/// See `ConnectError`.
pub async fn probe(target: &Arc<Target>) -> Result<Reached, ConnectError> {
    let within = target.settings.connect_timeout;
    timeout(within, reach(target))
        .await
        .unwrap_or(Err(ConnectError::Timeout))
}

async fn reach(target: &Arc<Target>) -> Result<Reached, ConnectError> {
    let start = Instant::now();
    let url = &target.settings.url;
    let found = lookup_host((url.host.as_str(), url.port)).await;
    let found = found.map_err(|error| ConnectError::Dns(error.to_string()))?;
    let addresses: Vec<_> = found.collect();
    let stream = dial(&addresses, start + target.settings.connect_timeout).await?;
    let address = stream.peer_addr();
    let address = address.map_err(|error| ConnectError::Tcp(error.to_string()))?;
    let tls = match &target.tls {
        None => None,
        Some(tls) => {
            let shaken = tls.connect(&url.host, stream).await;
            let stream = shaken.map_err(|error| ConnectError::Tls(error.to_string()))?;
            Some(crate::tls::describe(&stream))
        }
    };
    Ok(Reached {
        address,
        addresses,
        tls,
        took: start.elapsed(),
    })
}
