//! `listen` and `admin`.

use std::{net::SocketAddr, path::PathBuf};

use super::{check::Check, tokens};
use crate::config::{
    problem::FieldPath,
    raw,
    settings::{Admin, Listen, ListenAddress, ListenTls},
    suggest::quote,
};

/// Where the read-only endpoints are if the config does not say.
const ADMIN_ADDRESS: &str = "127.0.0.1:9465";

pub fn data(check: &mut Check, raw: Option<Vec<Option<raw::Listen>>>) -> Vec<Listen> {
    let at = FieldPath::root().key("listen");
    let Some(raw) = check.required(at.clone(), raw) else {
        return Vec::new();
    };
    if raw.is_empty() {
        check.problem(at.clone(), "expected at least one address");
    }
    let mut listen: Vec<Listen> = Vec::new();
    for (index, entry) in raw.into_iter().enumerate() {
        let at = at.clone().index(index);
        let Some(entry) = check.entry(&at, entry) else {
            continue;
        };
        let tls = entry.tls.map(|raw| tls(check, &at.clone().key("tls"), raw));
        let is_open = tls.is_some() || entry.allow_plaintext == Some(true);
        let (address, address_at) = match (entry.address, entry.unix, entry.systemd) {
            (Some(text), None, None) => {
                let at = at.key("address");
                let Some(address) = address(check, &at, &text) else {
                    continue;
                };
                if !address.ip().is_loopback() && !is_open {
                    check.problem(
                        at.clone(),
                        "callers elsewhere would send their tokens readable: listen on 127.0.0.1, put tls: or allow_plaintext: true beside it",
                    );
                }
                (ListenAddress::Tcp(address), at)
            }
            (None, Some(raw), None) => {
                let at = at.key("unix");
                (unix(check, &at, raw), at)
            }
            (None, None, Some(name)) => {
                let at = at.key("systemd");
                check.name(at.clone(), &name);
                let allow_plaintext = entry.allow_plaintext == Some(true);
                let address = ListenAddress::Systemd {
                    name,
                    allow_plaintext,
                };
                (address, at)
            }
            (None, None, None) if check.is_misfit(&at, &["address", "unix", "systemd"]) => continue,
            _ => {
                check.problem(at, "expected exactly one of address, unix, systemd");
                continue;
            }
        };
        let is_free = matches!(&address, ListenAddress::Tcp(address) if address.port() == 0);
        let mut others = listen.iter().map(|known| &known.address);
        if is_free {
            // Another port each time.
        } else if others.clone().any(|known| is_same(known, &address)) {
            check.problem(address_at, "another listener has this address");
        } else if let Some(other) = others.find(|known| overlaps(known, &address)) {
            check.problem(address_at, overlap(&address, other));
        }
        listen.push(Listen { address, tls });
    }
    listen
}

/// What is asked of `listen` and `admin` together.
pub fn both(check: &mut Check, listen: &[Listen], admin: &Admin) {
    let is_taken =
        |admin: &ListenAddress| listen.iter().any(|known| is_same(&known.address, admin));
    let at = |key| FieldPath::root().key("admin").key(key);
    let callers = "callers are listened to there: operators need an address of their own";
    // Port 0 is another one each time.
    let address = admin.address.filter(|address| address.port() != 0);
    if let Some(address) = address.map(ListenAddress::Tcp) {
        let mut others = listen.iter().map(|known| &known.address);
        if is_taken(&address) {
            check.problem(at("address"), callers);
        } else if let Some(other) = others.find(|known| overlaps(known, &address)) {
            check.problem(at("address"), overlap(&address, other));
        }
    }
    let socket = admin.socket.as_ref().map(|path| ListenAddress::Unix {
        path: path.clone(),
        mode: 0,
        group: None,
    });
    if socket.is_some_and(|socket| is_taken(&socket)) {
        check.problem(at("socket"), callers);
    }
}

fn is_same(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => one == other,
        (ListenAddress::Unix { path: one, .. }, ListenAddress::Unix { path: other, .. }) => {
            one == other
        }
        (ListenAddress::Systemd { name: one, .. }, ListenAddress::Systemd { name: other, .. }) => {
            one == other
        }
        _ => false,
    }
}

/// Whether one of two addresses is every address of the machine, the other's too: the
/// system binds only one of them. Whether `[::]` takes IPv4 as well is for the machine to
/// say (`net.ipv6.bindv6only`), when it is bound.
fn overlaps(one: &ListenAddress, other: &ListenAddress) -> bool {
    let (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) = (one, other) else {
        return false;
    };
    let takes = |all: &SocketAddr, other: &SocketAddr| {
        all.ip().is_unspecified() && all.is_ipv4() == other.is_ipv4()
    };
    one.port() == other.port() && (takes(one, other) || takes(other, one))
}

fn overlap(address: &ListenAddress, other: &ListenAddress) -> String {
    format!(
        "{address} and {other}, where another listener is, overlap: one port is listened to once, or by single addresses of the machine"
    )
}

fn unix(check: &mut Check, at: &FieldPath, raw: raw::UnixSocket) -> ListenAddress {
    let path = check.required(at.clone().key("path"), raw.path);
    let path = check.socket(at.clone().key("path"), path.as_deref().unwrap_or("."));
    let mode = raw.mode.as_deref().unwrap_or("0660");
    let digits = mode.strip_prefix('0').unwrap_or(mode);
    let bits = u32::from_str_radix(digits, 8).ok();
    let bits = bits.filter(|_| digits.len() == 3);
    if bits.is_none() {
        check.problem(
            at.clone().key("mode"),
            format!(
                "found {}, expected three octal digits, as in 660 or 0660",
                quote(mode)
            ),
        );
    }
    check.word_for_none(&at.clone().key("group"), raw.group.as_deref(), "a group");
    ListenAddress::Unix {
        path,
        mode: bits.unwrap_or(0o600),
        group: raw.group,
    }
}

fn tls(check: &mut Check, at: &FieldPath, raw: raw::ListenTls) -> ListenTls {
    let file = |check: &mut Check, name: &'static str, raw: raw::FileOf| {
        let at = at.clone().key(name).key("file");
        let path = check.required(at.clone(), raw.file).unwrap_or_default();
        check.path(at, if path.is_empty() { "." } else { &path })
    };
    let mut needed = |name: &'static str, raw: Option<raw::FileOf>| {
        let raw = check.required(at.clone().key(name), raw);
        raw.map_or_else(PathBuf::new, |raw| file(check, name, raw))
    };
    let certificate = needed("certificate", raw.certificate);
    let key = needed("key", raw.key);
    ListenTls {
        certificate,
        key,
        client_ca: raw.client_ca.map(|raw| file(check, "client_ca", raw)),
    }
}

pub fn admin(check: &mut Check, raw: raw::Admin) -> Admin {
    let at = FieldPath::root().key("admin");
    let text = raw.address.as_deref().unwrap_or(ADMIN_ADDRESS);
    let address = match text {
        "off" => None,
        text => address(check, &at.clone().key("address"), text),
    };
    let token_at = at.clone().key("token");
    let has_token = raw.token.is_some();
    let token = raw
        .token
        .and_then(|token| tokens::of_admin(check, &token_at, token));
    let is_remote = address.is_some_and(|address| !address.ip().is_loopback());
    if has_token && address.is_none() {
        check.problem(
            token_at,
            "allows changes over admin.address, which is off: set it, or use admin.socket alone",
        );
    } else if has_token && is_remote && raw.allow_plaintext != Some(true) {
        check.problem(
            token_at,
            "would travel readable to an admin.address that is not loopback: use admin.socket, or put allow_plaintext: true beside it",
        );
    }
    let socket_at = at.clone().key("socket");
    let socket = raw.socket.filter(|path| {
        let path = Some(&**path);
        !check.word_for_none(&socket_at, path, "a path")
    });
    Admin {
        address,
        hosts: hosts(check, &at.key("hosts"), raw.hosts),
        socket: socket.map(|path| check.socket(socket_at, &path)),
        token,
    }
}

fn hosts(check: &mut Check, at: &FieldPath, raw: Option<Vec<Option<String>>>) -> Vec<String> {
    let mut names = Vec::new();
    for (index, name) in raw.unwrap_or_default().into_iter().enumerate() {
        let at = at.clone().index(index);
        let Some(name) = check.entry(&at, name) else {
            continue;
        };
        if is_host_name(&name) {
            names.push(name.to_ascii_lowercase());
        } else {
            let found = quote(&name);
            check.problem(
                at,
                format!("found {found}, expected a host name without scheme, port or wildcard, as in alloy-gateway.apps.svc; IP addresses and localhost are let in anyway"),
            );
        }
    }
    names
}

/// Labels of letters, digits, `-` and `_`, as DNS has them. The last is no number,
/// so that it is no IP address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        (1..=63).contains(&label.len())
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let mut labels = name.split('.');
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253 && labels.all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

fn address(check: &mut Check, at: &FieldPath, text: &str) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        check.problem(
            at.clone(),
            format!(
                "found {}, expected an IP address with a port, as in 127.0.0.1:8080",
                quote(text)
            ),
        );
    }
    address
}
