//! `listen` and `admin`.

use std::net::SocketAddr;

use super::check::Check;
use crate::config::{
    problem::FieldPath,
    raw,
    settings::{Admin, Listen},
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
        let address_at = at.key("address");
        let Some(text) = check.required(address_at.clone(), entry.address) else {
            continue;
        };
        let Some(address) = address(check, &address_at, &text) else {
            continue;
        };
        if !address.ip().is_loopback() && entry.allow_plaintext != Some(true) {
            check.problem(
                address_at,
                "callers elsewhere would send their tokens readable: listen on 127.0.0.1, or put allow_plaintext: true beside it",
            );
        } else if address.port() != 0 && listen.iter().any(|known| known.address == address) {
            check.problem(address_at, "another listener has this address");
        }
        listen.push(Listen { address });
    }
    listen
}

pub fn admin(check: &mut Check, raw: raw::Admin) -> Admin {
    let at = FieldPath::root().key("admin");
    let text = raw.address.as_deref().unwrap_or(ADMIN_ADDRESS);
    let address = match text {
        "off" => None,
        text => address(check, &at.clone().key("address"), text),
    };
    Admin {
        address,
        socket: raw.socket.map(|path| check.path(at.key("socket"), &path)),
    }
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
