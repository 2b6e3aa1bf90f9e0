//! Certificates and keys of PEM files, and what is wrong with them in words: what the
//! library says names its own types, and prints bytes as numbers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use rustls::{
    CertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};

use super::provider;

/// When a certificate is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// It was until then.
    Expired(Duration),
    /// It will not be from then on, which is soon.
    From(Duration),
    /// It will be from then on.
    Until(Duration),
}

/// All certificates of a text; there is at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| unreadable(&error))?;
    if found.is_empty() {
        return Err("there is no certificate in it (PEM)".to_owned());
    }
    Ok(found)
}

/// The certificates of a text, to be trusted.
pub(super) fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(text)?) {
        let added = roots.add(certificate);
        added.map_err(|error| bad_certificate(number, &error))?;
    }
    Ok(roots)
}

/// The first private key of a text.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let encrypted = [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "Proc-Type: 4,ENCRYPTED",
        ];
        let has = |mark: &&str| memmem::find(text, mark.as_bytes()).is_some();
        match error {
            _ if encrypted.iter().any(|mark| has(mark)) => {
                "is encrypted: decrypt it, as with `openssl pkey`".to_owned()
            }
            pem::Error::NoItemsFound => "there is no private key in it (PEM)".to_owned(),
            error => unreadable(&error),
        }
    })
}

/// What is wrong with one certificate of several.
pub(super) fn bad_certificate(number: usize, error: &Error) -> String {
    // What the library has no variant for.
    if format!("{error:?}").contains("UnsupportedCertVersion") {
        return format!("certificate {number} is of version 1 of X.509, expected version 3");
    }
    match error {
        Error::InvalidCertificate(CertificateError::BadEncoding) => {
            format!("certificate {number} cannot be read: it is no X.509 certificate")
        }
        error => format!("certificate {number} cannot be used: {error}"),
    }
}

fn unreadable(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "is cut short: a line that begins with -----END is missing".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => {
            "has a line that begins with -----BEGIN and does not end with five hyphens".to_owned()
        }
        pem::Error::Base64Decode(_) => {
            "has something else than base64 between its -----BEGIN and -----END".to_owned()
        }
        error => format!("is not PEM: {error}"),
    }
}

/// Those certificates of a chain that are not valid now, or from `soon` on, by their
/// number in it.
pub fn invalid(chain: &[u8], soon: Duration) -> Vec<(usize, Invalid)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let chain = certificates(chain).unwrap_or_default();
    let chain = (1..).zip(&chain);
    let found = chain.filter_map(|(number, certificate)| {
        let found = at(certificate, now).or_else(|| match at(certificate, now + soon)? {
            Invalid::Expired(end) => Some(Invalid::From(end)),
            _ => None,
        });
        Some((number, found?))
    });
    found.collect()
}

/// The library tells the dates only of a certificate that it refuses for them. It looks
/// at them before anything else, so nothing need be trusted for that.
fn at(certificate: &CertificateDer<'_>, time: Duration) -> Option<Invalid> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let refused = verify_server_cert_signed_by_trust_anchor(
        &certificate,
        &RootCertStore::empty(),
        &[],
        UnixTime::since_unix_epoch(time),
        provider().signature_verification_algorithms.all,
    );
    let seconds = |time: UnixTime| Duration::from_secs(time.as_secs());
    match refused {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(Invalid::Expired(seconds(not_after)))
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before, ..
        })) => Some(Invalid::Until(seconds(not_before))),
        _ => None,
    }
}
