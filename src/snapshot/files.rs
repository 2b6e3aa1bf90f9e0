//! Which files a snapshot is made of.

use std::path::PathBuf;

use crate::{
    background,
    config::settings::{SecretSource, Settings, Trust, Users},
};

/// The files that settings name and a snapshot is made of.
pub fn named_files(settings: &Settings) -> Vec<PathBuf> {
    let secrets = settings.keys.iter();
    let secrets = secrets.flat_map(|key| std::iter::once(&key.secret).chain(&key.next));
    let secrets = secrets.filter_map(|source| match source {
        SecretSource::File(path) => Some(path),
        _ => None,
    });
    let users = settings
        .tenants
        .iter()
        .inspect(|_| background::give_way())
        .filter_map(|tenant| match &tenant.users {
            Users::File(path) => Some(path),
            _ => None,
        });
    let trust = match &settings.upstream.trust {
        Trust::File(path) => Some(path),
        _ => None,
    };
    let tls = settings
        .listen
        .iter()
        .filter_map(|listen| listen.tls.as_ref());
    let tls = tls.flat_map(|tls| {
        [
            Some(&tls.certificate),
            Some(&tls.key),
            tls.client_ca.as_ref(),
        ]
    });
    let mut files: Vec<_> = secrets
        .chain(users)
        .chain(trust)
        .chain(tls.flatten())
        .cloned()
        .collect();
    files.sort();
    files.dedup();
    files
}
