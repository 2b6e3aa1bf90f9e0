//! A server of ours.

use std::{fmt, io, sync::Arc};

use rustls::{
    Error, InconsistentKeys, ServerConfig,
    server::{ParsedCertificate, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server};

use super::{H2, HTTP_1_1, Validity, pem, provider};

/// A connection from a client.
pub type ServerStream<S = TcpStream> = server::TlsStream<S>;

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
        let setup = |error: &dyn fmt::Display| ServerTlsError::Setup(error.to_string());
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

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
