//! TLS 1.2 and 1.3. The only module that names rustls, so that a change of version
//! is a change of one module.

mod client;
mod pem;
mod server;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use self::{
    client::{
        ClientStream, ClientTls, ROOTS_BYTES_MAX, TrustError, beneath_if_drained, client_config,
        database_config, describe,
    },
    pem::{Validity, validities},
    server::{ServerStream, ServerTls, ServerTlsError},
};

/// What is spoken inside.
const HTTP_1_1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// Named explicitly: the library's process-wide default could be another's choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::settings::Trust;

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
