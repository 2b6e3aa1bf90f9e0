//! The data listeners.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// One data listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it listens.
    pub address: ListenAddress,
    /// How it speaks TLS; `None` for plaintext.
    pub tls: Option<ListenTls>,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address. Port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix {
        /// Where it stands.
        path: PathBuf,
        /// Who may connect: its permission bits.
        mode: u32,
        /// The group that it belongs to, by name or number.
        group: Option<String>,
    },
    /// A socket that systemd opened and hands over.
    Systemd {
        /// Its name there.
        name: String,
        /// Whether it may be plaintext on an address that is not loopback.
        allow_plaintext: bool,
    },
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Systemd { name, .. } => write!(f, "systemd:{name}"),
        }
    }
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}
