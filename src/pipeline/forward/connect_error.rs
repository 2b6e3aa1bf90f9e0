//! Why there is no connection to the upstream.

use crate::metrics::ConnectFailure;

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

impl ConnectError {
    /// What it counts as.
    pub fn counted(&self) -> ConnectFailure {
        match self {
            Self::Dns(_) => ConnectFailure::Dns,
            Self::Tcp(_) => ConnectFailure::Connect,
            Self::Tls(_) => ConnectFailure::Tls,
            Self::Timeout => ConnectFailure::Timeout,
        }
    }
}
