//! Warnings about files and directories that others than the gateway can use.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

use http::HeaderName;
use rustix::process::{getegid, geteuid, getgroups};

use super::secrets::keys;
use crate::config::{
    problem::{FieldPath, Problem},
    settings::{SecretSource, Settings},
};

/// Warnings about secret files that others than their owner can read.
pub fn loose_secrets(settings: &Settings) -> Vec<Problem> {
    let secrets = secrets(settings).into_iter();
    let secrets = secrets.filter_map(|(at, source)| match source {
        SecretSource::File(path) => Some((at, &**path)),
        _ => None,
    });
    let me = Me::new();
    let loose = secrets.chain(tls_keys(settings)).filter_map(|(at, path)| {
        let found = fs::metadata(path).ok()?;
        let message = format!(
            "others than its owner can use this file (mode {:03o}); chmod 600",
            found.mode() & 0o777
        );
        let is_loose = me.finds_loose(found.mode(), found.uid(), found.gid());
        is_loose.then(|| Problem::new(at.key("file"), message))
    });
    loose.collect()
}

/// A warning about a directory of the trail that others can write. What encloses it is
/// not looked at: in a pod that is often a volume of the gateway's own with mode 777.
pub fn loose_trail(settings: &Settings) -> Option<Problem> {
    let found = fs::metadata(&settings.audit.directory).ok();
    let mode = found.filter(Metadata::is_dir)?.mode();
    let at = FieldPath::root().key("audit").key("directory");
    let message = format!(
        "others than its owner can write here (mode {:03o}), so they can remove, replace or end the trail; chmod 700, or name a directory in it, which the gateway makes with mode 700",
        mode & 0o777
    );
    (mode & 0o022 != 0).then(|| Problem::new(at, message))
}

/// Every secret with the place of its field.
fn secrets(settings: &Settings) -> Vec<(FieldPath, &SecretSource)> {
    let mac_key = settings.audit.mac_key.as_ref().map(|source| {
        let at = FieldPath::root().key("audit").key("mac_key");
        (at, source)
    });
    let ship = settings.audit.ship.as_ref().map(|ship| {
        let at = FieldPath::root().key("audit").key("ship").key("postgres");
        (at.key("url"), &ship.url)
    });
    let headers = settings.otlp.iter().flat_map(|otlp| {
        let at = |name: &HeaderName| {
            let at = FieldPath::root().key("otlp").key("headers");
            at.key(name.to_string())
        };
        otlp.headers
            .iter()
            .map(move |(name, source)| (at(name), source))
    });
    let store = settings.limits_store.as_ref().map(|store| {
        let at = FieldPath::root().key("limits_store").key("redis");
        (at.key("url"), &store.url)
    });
    let others = mac_key.into_iter().chain(store);
    let keys = keys(settings).chain(others);
    keys.chain(ship).chain(headers).collect()
}

/// The private keys of the listeners.
fn tls_keys(settings: &Settings) -> impl Iterator<Item = (FieldPath, &Path)> {
    let listen = settings.listen.iter().enumerate();
    listen.filter_map(|(at, listen)| {
        let at = FieldPath::root().key("listen").index(at).key("tls");
        Some((at.key("key"), &*listen.tls.as_ref()?.key))
    })
}

/// As whom the process opens files.
struct Me {
    user: u32,
    groups: Vec<u32>,
}

impl Me {
    fn new() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter();
        let groups = std::iter::once(getegid()).chain(groups);
        Self {
            user: geteuid().as_raw(),
            groups: groups.map(|group| group.as_raw()).collect(),
        }
    }

    /// Whether others than the owner can use a file. One of another owner that only a
    /// group of this process can read is handed to the process that way, as Kubernetes
    /// does with Secrets (`fsGroup`, mode 440): nothing narrower could be read.
    fn finds_loose(&self, mode: u32, owner: u32, group: u32) -> bool {
        let is_handed = owner != self.user && self.groups.contains(&group) && mode & 0o037 == 0;
        mode & 0o077 != 0 && !is_handed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_only_the_group_of_the_process_may_read_is_not_loose_unless_it_is_its_own() {
        let me = Me {
            user: 10,
            groups: vec![20, 21],
        };
        for (mode, owner, group, is_loose) in [
            (0o600, 10, 20, false),
            (0o400, 0, 0, false),
            (0o440, 0, 21, false),
            (0o100_640, 0, 20, false),
            (0o440, 0, 22, true),
            (0o440, 10, 20, true),
            (0o444, 0, 21, true),
            (0o450, 0, 21, true),
            (0o460, 0, 21, true),
            (0o604, 0, 21, true),
        ] {
            let found = me.finds_loose(mode, owner, group);
            assert_eq!(found, is_loose, "{mode:o} of {owner}:{group}");
        }
    }
}
