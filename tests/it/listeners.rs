//! Where callers may connect: Unix sockets and TLS, beside plain TCP.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::support::{Gateway, Setup, USER, gateway::secret};

/// A call that closes its connection.
fn call(gateway: &Gateway, credential: &str) -> String {
    format!(
        "DELETE /users/{USER}/credentials/{credential} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        gateway.token()
    )
}

fn exchange(stream: &mut (impl Read + Write), request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => Ok(answer),
        // What came is whole even if the other side did not say good-bye.
        Err(_) if !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_its_callers_are_recorded_by_uid() {
    let gateway = Setup::default()
        .listen("unix: { path: gateway.sock, mode: \"0600\" }")
        .start();
    let path = gateway.path("gateway.sock");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for n in 0..10 {
        let mut stream = UnixStream::connect(&path).unwrap();
        let answer = exchange(&mut stream, &call(&gateway, &format!("c{n}"))).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let uid = fs::metadata(&path).unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&uid);
    gateway.record("the peer", |record| {
        record["event"] == "request.intent" && record["peer"] == format!("unix:uid={uid}")
    });
    // The TCP listener beside it serves too.
    assert_eq!(gateway.delete(USER, "c20").status, 200);
}

/// An authority, and certificates from it.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(ca, key),
        }
    }

    /// A certificate and its key, PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }
}

struct Client {
    trusts: String,
    certificate: Option<(String, String)>,
    alpn: &'static [&'static str],
    versions: &'static [&'static rustls::SupportedProtocolVersion],
}

impl Client {
    fn trusting(authority: &Authority) -> Self {
        Self {
            trusts: authority.pem.clone(),
            certificate: None,
            alpn: &["http/1.1"],
            versions: rustls::DEFAULT_VERSIONS,
        }
    }

    fn connect(&self, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.trusts.as_bytes()).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let name = ServerName::try_from("gateway.example").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        StreamOwned::new(tls, tcp)
    }
}

/// A gateway with a TLS listener, and the listener's address.
fn with_tls(authority: &Authority, client_ca: Option<&Authority>) -> (Gateway, SocketAddr) {
    let (certificate, key) = authority.issue("gateway.example");
    let mut tls = "certificate: { file: tls.crt }, key: { file: tls.key }".to_owned();
    let mut setup = Setup::default()
        .file("tls.crt", certificate)
        .file("tls.key", key);
    if let Some(client_ca) = client_ca {
        setup = setup.file("clients.pem", client_ca.pem.clone());
        tls += ", client_ca: { file: clients.pem }";
    }
    let gateway = setup
        .listen(&format!("{{ address: 127.0.0.1:0, tls: {{ {tls} }} }}"))
        .start();
    let plain = gateway.data.to_string();
    let line = gateway.process.wait_for(|line| {
        line["message"] == "listening"
            && line["listener"] == "data"
            && line["address"] != plain.as_str()
    });
    let address = line["address"].as_str().unwrap().parse().unwrap();
    (gateway, address)
}

#[test]
fn a_handshake_that_never_ends_does_not_hold_up_the_stop() {
    let (mut gateway, address) = with_tls(&Authority::new(), None);
    gateway.edit_config(|text| {
        text + "bounds: { header_timeout: 10m, idle_timeout: 10m, drain_timeout: 10m }\n"
    });
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    let mut begun = TcpStream::connect(address).unwrap();
    begun.write_all(b"\x16\x03\x01").unwrap();
    let _silent = TcpStream::connect(address).unwrap();
    // Whoever is answered after them shows that they were accepted, too.
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let start = Instant::now();
    assert!(gateway.stop().success());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn tls_1_2_and_1_3_are_spoken_with_http_1_1() {
    let authority = Authority::new();
    let (gateway, address) = with_tls(&authority, None);
    for (n, version) in [&rustls::version::TLS12, &rustls::version::TLS13]
        .into_iter()
        .enumerate()
    {
        let versions: &'static [_] = vec![version].leak();
        let client = Client {
            versions,
            ..Client::trusting(&authority)
        };
        let answer = exchange(
            &mut client.connect(address),
            &call(&gateway, &format!("c{n}")),
        )
        .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn alpn_offers_h2_and_refuses_what_is_neither() {
    let authority = Authority::new();
    let (_gateway, address) = with_tls(&authority, None);
    let client = Client {
        alpn: &["h2", "http/1.1"],
        ..Client::trusting(&authority)
    };
    let mut stream = client.connect(address);
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(frame[3], 4, "SETTINGS comes first (RFC 9113 §3.4)");
    let client = Client {
        alpn: &["ftp"],
        ..Client::trusting(&authority)
    };
    let error = exchange(&mut client.connect(address), "x").unwrap_err();
    // RFC 7301 §3.2.
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
}

#[test]
fn with_client_ca_a_certificate_is_needed_in_addition_to_the_token() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (gateway, address) = with_tls(&authority, Some(&clients));
    for (certificate, is_let_in) in [
        (None, false),
        (Some(strangers.issue("app")), false),
        (Some(clients.issue("app")), true),
    ] {
        let client = Client {
            certificate,
            ..Client::trusting(&authority)
        };
        let answer = exchange(&mut client.connect(address), &call(&gateway, "c1"));
        assert_eq!(
            answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")),
            is_let_in
        );
    }
    assert_eq!(gateway.alloy.received().len(), 1);
    gateway.record("the refusal", |record| {
        record["event"] == "connection.refused" && record["reason"] == "tls-handshake"
    });
    // A good certificate is no token.
    let client = Client {
        certificate: Some(clients.issue("app")),
        ..Client::trusting(&authority)
    };
    let without = call(&gateway, "c1").replace("Authorization", "X-Nothing");
    let answer = exchange(&mut client.connect(address), &without).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn a_renewed_certificate_is_used_for_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let (gateway, address) = with_tls(&old, None);
    let mut kept = Client::trusting(&old).connect(address);
    let keep_alive = call(&gateway, "c1").replace("Connection: close\r\n", "");
    kept.write_all(keep_alive.as_bytes()).unwrap();
    let mut byte = [0; 12];
    kept.read_exact(&mut byte).unwrap();
    let (certificate, key) = new.issue("gateway.example");
    secret(&gateway.path("tls.crt"), &certificate);
    secret(&gateway.path("tls.key"), &key);
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
    let answer = exchange(
        &mut Client::trusting(&new).connect(address),
        &call(&gateway, "c2"),
    )
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // A connection that was open stays.
    let answer = exchange(&mut kept, &call(&gateway, "c3")).unwrap();
    assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
    // And one that does not fit is refused whole.
    secret(&gateway.path("tls.key"), &old.issue("x").1);
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert!(
        status == 400 && said.contains("listen[1].tls"),
        "{status} {said}"
    );
    let answer = exchange(
        &mut Client::trusting(&new).connect(address),
        &call(&gateway, "c4"),
    )
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn listeners_in_another_order_keep_their_own_tls() {
    let authority = Authority::new();
    let (gateway, address) = with_tls(&authority, None);
    gateway.edit_config(|text| {
        let start = text.find("  - address:").unwrap();
        let end = text.find("admin:").unwrap();
        let mut lines: Vec<_> = text[start..end].lines().collect();
        lines.reverse();
        format!("{}{}\n{}", &text[..start], lines.join("\n"), &text[end..])
    });
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(
        (status, said.lines().next()),
        (
            200,
            Some("loaded; only after a restart: listen; 1 warning:")
        )
    );
    let answer = exchange(
        &mut Client::trusting(&authority).connect(address),
        &call(&gateway, "c1"),
    )
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    // Nor can a reload take TLS away from a port.
    gateway.edit_config(|text| text.replace("tls:", "allow_plaintext: true } #"));
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{said}");
    let answer = exchange(
        &mut Client::trusting(&authority).connect(address),
        &call(&gateway, "c3"),
    )
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
