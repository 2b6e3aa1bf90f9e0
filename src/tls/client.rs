//! The gateway as a client.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client};

use super::{HTTP_1_1, Validity, pem, provider};
use crate::{config::settings::Trust, named_file};

/// The longest file of certificate authorities that is read: the system's own
/// bundle has some 220 KiB.
pub const ROOTS_BYTES_MAX: u64 = 4 << 20;
const POSTGRESQL: &[u8] = b"postgresql";

/// How the gateway speaks TLS as a client; cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    trust: Option<Validity>,
    /// The SHA-256 of the file that the authorities were read from.
    file: Option<[u8; SHA256_OUTPUT_LEN]>,
}

/// A connection to a server.
pub type ClientStream<S = TcpStream> = client::TlsStream<S>;

/// Why there are no roots to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read, or has something else in it.
    #[error("cannot take certificate authorities from {}: {why}", .file.display())]
    File {
        /// The file of the config.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system has none.
    #[error(
        "the system's store of certificate authorities is empty or unreadable{0}; install ca-certificates, or set trust: bundled"
    )]
    NoSystemRoots(String),
    /// The library refuses the settings: a bug.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// A client side that trusts these roots and no others. Certificate and name are
/// always verified; no client certificate, no early data.
///
/// # Errors
///
/// If there are no roots to trust.
pub fn client_config(trust: &Trust) -> Result<ClientTls, TrustError> {
    client(trust, HTTP_1_1)
}

/// The same for a database that speaks PostgreSQL's protocol.
///
/// # Errors
///
/// If there are no roots to trust.
pub fn database_config(trust: &Trust) -> Result<ClientTls, TrustError> {
    client(trust, POSTGRESQL)
}

fn client(trust: &Trust, alpn: &[u8]) -> Result<ClientTls, TrustError> {
    let Roots { roots, trust, file } = match trust {
        Trust::System => Roots::of_others(system_roots()?),
        Trust::Bundled => {
            let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
            Roots::of_others(RootCertStore { roots })
        }
        Trust::File(path) => file_roots(path).map_err(|why| TrustError::File {
            file: path.clone(),
            why,
        })?,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TrustError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    // A DELETE must not travel in data that an attacker can replay.
    config.enable_early_data = false;
    // A full handshake costs a round trip: tickets of one host are worth it.
    config.resumption = Resumption::in_memory_sessions(64);
    Ok(ClientTls {
        connector: TlsConnector::from(Arc::new(config)),
        trust,
        file,
    })
}

/// Whom to trust, and what is known of the file that says so.
struct Roots {
    roots: RootCertStore,
    trust: Option<Validity>,
    file: Option<[u8; SHA256_OUTPUT_LEN]>,
}

impl Roots {
    /// Of no file of the config.
    fn of_others(roots: RootCertStore) -> Self {
        Self {
            roots,
            trust: None,
            file: None,
        }
    }
}

impl ClientTls {
    /// Of the authorities of a file, the one that is valid longest: it takes the place of
    /// the others. The store of a system, and the bundled one, are somebody else's care.
    pub fn trust(&self) -> Option<Validity> {
        self.trust
    }

    /// Whether the authorities of both were read from files with the same content, or of
    /// neither from one.
    pub fn has_authorities_of(&self, other: &Self) -> bool {
        self.file == other.file
    }

    /// Shakes hands as a client of `host`, a name or an IP literal.
    ///
    /// # Errors
    ///
    /// With a text for operators: what is wrong with the peer or its certificate.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// What a connection goes over, if whatever comes next has to come that way: nothing that
/// is decrypted already waits to be read, and the server has not said its last.
pub fn beneath_if_drained<S>(stream: &ClientStream<S>) -> Option<&S> {
    let (beneath, session) = stream.get_ref();
    session.wants_read().then_some(beneath)
}

/// What was agreed on, in a line for people.
pub fn describe(stream: &ClientStream) -> String {
    let (_, session) = stream.get_ref();
    let version = session.protocol_version().and_then(|it| it.as_str());
    let suite = session.negotiated_cipher_suite();
    let suite = suite.and_then(|it| it.suite().as_str());
    format!(
        "{} {}, its certificate is good",
        version.unwrap_or("TLS"),
        suite.unwrap_or("(unknown suite)")
    )
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One odd certificate in a store of hundreds is not a reason to trust none.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(" ({error})"));
        return Err(TrustError::NoSystemRoots(why));
    }
    Ok(roots)
}

fn file_roots(path: &Path) -> Result<Roots, String> {
    let pem = named_file::read(path, ROOTS_BYTES_MAX).map_err(|error| error.to_string())?;
    if pem.len() as u64 > ROOTS_BYTES_MAX {
        return Err(format!("it is longer than {ROOTS_BYTES_MAX} bytes"));
    }
    Ok(Roots {
        roots: pem::authorities(&pem)?,
        trust: pem::last_to_end(&pem),
        file: digest(&SHA256, &pem).as_ref().try_into().ok(),
    })
}
