//! TLS 1.2 and 1.3. The only module that names rustls, so that a change of version
//! is a change of one module.

mod pem;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::{
    ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
    server::{ParsedCertificate, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub use self::pem::{Validity, validities};
use crate::{config::settings::Trust, named_file};

/// The longest file of certificate authorities that is read: the system's own
/// bundle has some 220 KiB.
pub const ROOTS_BYTES_MAX: u64 = 4 << 20;
/// What is spoken inside.
const HTTP_1_1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";
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
/// A connection from a client.
pub type ServerStream<S = TcpStream> = server::TlsStream<S>;

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

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// Why a server can't speak TLS, and which of its files is to blame.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The chain.
    #[error("the certificate: {0}")]
    Certificate(String),
    /// The private key.
    #[error("the key: {0}")]
    Key(String),
    /// The authorities of clients.
    #[error("the authorities of clients: {0}")]
    ClientCa(String),
    /// The library refuses the settings: a bug.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// How a server of ours speaks TLS; cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    chain: Option<Validity>,
    client_ca: Option<Validity>,
}

impl ServerTls {
    /// Of the chain, the certificate that ends first.
    pub fn chain(&self) -> Option<Validity> {
        self.chain
    }

    /// Of the authorities of clients, the one that is valid longest.
    pub fn client_ca(&self) -> Option<Validity> {
        self.client_ca
    }

    /// A server side with a certificate chain and its key, both PEM.
    ///
    /// # Errors
    ///
    /// If one of them can't be read as such, or they don't belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ServerTlsError> {
        Self::new(chain, key, None, &[HTTP_1_1])
    }

    /// The side that callers connect to: HTTP/2 or HTTP/1.1, and with `client_ca`
    /// (PEM) only clients with a certificate of one of these authorities. No
    /// early data: it could be replayed.
    ///
    /// # Errors
    ///
    /// If one of them can't be read as such, or they don't belong together.
    pub fn for_callers(
        chain: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
    ) -> Result<Self, ServerTlsError> {
        Self::new(chain, key, client_ca, &[H2, HTTP_1_1])
    }

    fn new(
        chain: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
        alpn: &[&[u8]],
    ) -> Result<Self, ServerTlsError> {
        let certified = certified(chain, key)?;
        let setup = |error: &dyn std::fmt::Display| ServerTlsError::Setup(error.to_string());
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| setup(&error))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let roots = pem::authorities(authorities).map_err(ServerTlsError::ClientCa)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|error| setup(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let resolver = SingleCertAndKey::from(certified);
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            chain: pem::first_to_end(chain),
            client_ca: client_ca.and_then(pem::last_to_end),
        })
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    ///
    /// If the client speaks no TLS that is accepted.
    pub async fn accept<S>(&self, stream: S) -> io::Result<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.acceptor.accept(stream).await
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

/// A chain and the key of its first certificate.
fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, ServerTlsError> {
    let chain = pem::certificates(chain).map_err(ServerTlsError::Certificate)?;
    if let Some(first) = chain.first() {
        let parsed = ParsedCertificate::try_from(first);
        parsed.map_err(|error| ServerTlsError::Certificate(pem::bad_certificate(1, &error)))?;
    }
    let key = pem::private_key(key).map_err(ServerTlsError::Key)?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| ServerTlsError::Key(format!("cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Of a key that does not tell its public part it can't be said.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            let why = "is for another certificate than the one beside it";
            Err(ServerTlsError::Key(why.to_owned()))
        }
        Err(error) => Err(ServerTlsError::Setup(error.to_string())),
    }
}

/// Named explicitly: the library's process-wide default could be another's choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio::net::TcpListener;

    use super::*;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A server with a certificate for `name` that expires in `year`.
    fn server(authority: &Authority, name: &str, year: i32) -> ServerTls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        ServerTls::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn trusting(pem: &str) -> Result<ClientTls, TrustError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, pem).unwrap();
        client_config(&Trust::File(path))
    }

    /// Shakes hands as a client of `localhost`, over real sockets.
    async fn shake_hands(client: &ClientTls, server: ServerTls) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            server.accept(tcp).await.map(|_| ())
        });
        let tcp = TcpStream::connect(address).await.unwrap();
        let connected = client.connect("localhost", tcp).await;
        let stream = connected?;
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(b"http/1.1".as_slice())
        );
        serving.await.unwrap()
    }

    #[tokio::test]
    async fn a_certificate_for_the_name_from_a_trusted_authority_is_accepted() {
        let authority = authority("ours");
        let client = trusting(&authority.pem).unwrap();
        shake_hands(&client, server(&authority, "localhost", 2100))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn every_other_certificate_is_refused_and_the_error_says_why() {
        let ours = authority("ours");
        let client = trusting(&ours.pem).unwrap();
        let cases = [
            (server(&ours, "other.example", 2100), "NotValidForName"),
            (server(&ours, "localhost", 2021), "xpired"),
            (
                server(&authority("theirs"), "localhost", 2100),
                "UnknownIssuer",
            ),
        ];
        for (server, expected) in cases {
            let error = shake_hands(&client, server).await.unwrap_err().to_string();
            let squeezed = error.replace(' ', "").to_lowercase();
            assert!(squeezed.contains(&expected.to_lowercase()), "{error}");
        }
    }

    #[test]
    fn the_bundled_roots_are_there_and_the_systems_are_or_their_absence_is_told() {
        assert!(client_config(&Trust::Bundled).is_ok());
        let system = client_config(&Trust::System);
        assert!(
            matches!(system, Ok(_) | Err(TrustError::NoSystemRoots(_))),
            "{system:?}"
        );
    }

    #[test]
    fn a_file_without_certificates_is_refused_with_its_reason() {
        let error = trusting("no certificate").unwrap_err().to_string();
        assert!(error.contains("there is no certificate in it"), "{error}");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = trusting(broken).unwrap_err().to_string();
        assert!(error.contains("certificate 1"), "{error}");
        let missing = client_config(&Trust::File("missing/ca.pem".into()))
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("missing/ca.pem") && missing.contains("No such file"),
            "{missing}"
        );
    }
}
