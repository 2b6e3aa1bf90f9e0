//! Certificates and keys of PEM files, and what is wrong with them in words: what the
//! library says names its own types, and prints bytes as numbers.

use std::time::Duration;

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

/// When a certificate is valid, in time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: Duration,
    /// Not after.
    pub until: Duration,
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
            _ if encrypted.iter().any(has) => {
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

/// When each certificate of a chain is valid.
pub fn validities(chain: &[u8]) -> Vec<Validity> {
    let chain = certificates(chain).unwrap_or_default();
    chain.iter().filter_map(validity).collect()
}

/// Of some certificates the one that ends first: a chain is good no longer.
pub(super) fn first_to_end(chain: &[u8]) -> Option<Validity> {
    let validities = validities(chain).into_iter();
    validities.min_by_key(|validity| validity.until)
}

/// Of some certificates the one that ends last: authorities are trusted side by side
/// while one follows another.
pub(super) fn last_to_end(authorities: &[u8]) -> Option<Validity> {
    let validities = validities(authorities).into_iter();
    validities.max_by_key(|validity| validity.until)
}

/// The library tells the dates only of a certificate that it refuses for them. It looks
/// at them before anything else, so nothing need be trusted for that.
fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let refused_at = |time: Duration| {
        let refused = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &RootCertStore::empty(),
            &[],
            UnixTime::since_unix_epoch(time),
            provider().signature_verification_algorithms.all,
        );
        match refused {
            Err(Error::InvalidCertificate(why)) => Some(why),
            _ => None,
        }
    };
    let seconds = |time: UnixTime| Duration::from_secs(time.as_secs());
    let from = match refused_at(Duration::ZERO) {
        Some(CertificateError::NotValidYetContext { not_before, .. }) => seconds(not_before),
        _ => Duration::ZERO,
    };
    match refused_at(Duration::from_secs(u64::MAX))? {
        CertificateError::ExpiredContext { not_after, .. } => Some(Validity {
            from,
            until: seconds(not_after),
        }),
        _ => None,
    }
}
