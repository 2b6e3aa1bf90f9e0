//! How each listener speaks TLS.

use std::path::Path;

use super::{Snapshot, secrets::read_file};
use crate::{
    config::{
        problem::{FieldPath, Problem},
        settings::{self, Listen, ListenAddress},
    },
    tls::{ServerTls, ServerTlsError},
};

/// The longest file of a certificate or its key, in bytes.
const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;

/// A listener as it was bound, and how it speaks TLS.
#[derive(Debug)]
pub struct Listener {
    address: ListenAddress,
    pub(super) tls: Option<ServerTls>,
}

/// The listeners of a config. Those that are bound stay what they are: a reload
/// can give each other certificates, but neither take TLS away from a port nor
/// hand it to another, whatever the order in the new config.
pub fn listeners(
    listen: &[Listen],
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> Vec<Listener> {
    let listen = listen.iter().enumerate();
    let named: Vec<_> = listen
        .map(|(at, listen)| Listener {
            address: listen.address.clone(),
            tls: listen
                .tls
                .as_ref()
                .and_then(|tls| listen_tls(at, tls, problems)),
        })
        .collect();
    let Some(previous) = previous else {
        return named;
    };
    let mut named = named;
    previous
        .listen
        .iter()
        .map(|bound| {
            // Several may ask for any free port: each is taken once.
            let is_it = |new: &Listener| {
                new.address == bound.address && new.tls.is_some() == bound.tls.is_some()
            };
            let renewed = named.iter().position(is_it).map(|at| named.remove(at));
            renewed.unwrap_or_else(|| Listener {
                address: bound.address.clone(),
                tls: bound.tls.clone(),
            })
        })
        .collect()
}

/// `None` if something of it can't be read, which is noted.
fn listen_tls(
    listener: usize,
    tls: &settings::ListenTls,
    problems: &mut Vec<Problem>,
) -> Option<ServerTls> {
    let at = FieldPath::root().key("listen").index(listener).key("tls");
    let mut read = |name: &'static str, path: &Path| {
        read_file(path, CERTIFICATE_BYTES_MAX)
            .map_err(|message| {
                problems.push(Problem::new(at.clone().key(name).key("file"), message));
            })
            .ok()
    };
    let certificate = read("certificate", &tls.certificate);
    let key = read("key", &tls.key);
    let client_ca = match &tls.client_ca {
        Some(path) => Some(read("client_ca", path)?),
        None => None,
    };
    ServerTls::for_callers(&certificate?, &key?, client_ca.as_deref())
        .map_err(|error| problems.push(bad_tls(at, tls, error)))
        .ok()
}

/// The problem of the file that is to blame.
fn bad_tls(at: FieldPath, tls: &settings::ListenTls, error: ServerTlsError) -> Problem {
    let (name, path, why) = match error {
        ServerTlsError::Certificate(why) => ("certificate", Some(&tls.certificate), why),
        ServerTlsError::Key(why) => ("key", Some(&tls.key), why),
        ServerTlsError::ClientCa(why) => ("client_ca", tls.client_ca.as_ref(), why),
        ServerTlsError::Setup(_) => return Problem::new(at, error.to_string()),
    };
    let path = path.map_or_else(String::new, |path| path.display().to_string());
    Problem::new(at.key(name).key("file"), format!("{path}: {why}"))
}
