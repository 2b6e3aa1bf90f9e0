//! The real gateway for fuzz targets, before an upstream of their own.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};

use alloy_gateway::{
    audit::{Options, Trail},
    load,
    server::{Gateway, Inherited},
    snapshot,
};

/// The Alloy key.
pub const KEY: &str = "fuzz-key-0123456789";
/// Stands in the seeds; its digest is in the config.
const TOKEN_SHA_256: &str = include_str!("seeds/token.sha256");

/// Starts it with one tenant, before `upstream`, with `more` keys of `upstream:` and
/// lines of the config. It must be kept.
pub fn start(upstream: &str, more_of_upstream: &str, more: &str) -> (Gateway, SocketAddr) {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let key = directory.join("key");
    fs::write(&key, KEY).expect("the directory is ours");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let path = directory.join("config.yaml");
    let text = format!(
        "version: 1\nworkers: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\nadmin: {{ address: off }}\n\
         upstream: {{ url: \"{upstream}\", circuit_breaker: off{more_of_upstream} }}\n\
         keys: {{ k: {{ secret: {{ file: key }} }} }}\n\
         audit: {{ directory: audit, durability: relaxed, segment_size: 1MiB, retention: 1s, segment_age: 10s }}\n\
         tenants: [ {{ name: t, key: k, users: all, tokens: [ {{ id: a, sha256: \"{}\" }} ] }} ]\n{more}",
        TOKEN_SHA_256.trim(),
    );
    fs::write(&path, text).expect("the directory is ours");
    let loaded = load::file(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let snapshot = snapshot::build(&loaded.settings, &loaded.digest, None)
        .expect("a good config")
        .with_lasting();
    let options = Options {
        settings: loaded.settings.audit.clone(),
        mac_key: None,
        usage: Duration::ZERO,
        collected: None,
    };
    let trail = Trail::open(options, &mut |_| {}).expect("a trail");
    let gateway = Gateway::start(&loaded.settings, snapshot, trail, &mut Inherited::default())
        .expect("a free port");
    let address = gateway.address().expect("a TCP listener");
    (gateway, address)
}
