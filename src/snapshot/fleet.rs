//! What `limits_store` names: a URL that may hold a password, and roots.

use std::sync::Arc;

use super::{secrets::read, trust::bad_trust};
use crate::{
    config::{
        is_loopback,
        problem::{FieldPath, Problem},
        settings::LimitsStore,
    },
    fleet::{Store, Url, Way},
    tls,
};

/// Reads everything that the way to the store needs; nothing is connected yet.
pub fn store(settings: &LimitsStore, problems: &mut Vec<Problem>) -> Option<Arc<Store>> {
    let at = |name: &'static str| {
        let redis = FieldPath::root().key("limits_store").key("redis");
        redis.key(name)
    };
    let url = read(&settings.url).and_then(|(field, raw)| {
        let text = std::str::from_utf8(raw.trim_ascii_end());
        let url = text.map_err(|_| "is not UTF-8").and_then(Url::parse);
        let url = url.and_then(|url| match url {
            url if settings.is_cluster && url.database > 0 => {
                Err("names a database, and a cluster has only database 0")
            }
            url if !url.tls && !settings.allow_plaintext && !is_loopback(&url.address.host) => {
                Err("names a plaintext store on another host, to which password and counts would travel readable: use rediss://, or put allow_plaintext: true beside url")
            }
            url => Ok(url),
        });
        url.map_err(|why| (field, why.to_owned()))
    });
    let url = match url {
        Ok(url) => url,
        Err((field, message)) => {
            problems.push(Problem::new(at("url").key(field), message));
            return None;
        }
    };
    let tls = match url.tls {
        true => match tls::client_config(&settings.trust) {
            Ok(tls) => Some(tls),
            Err(error) => {
                problems.push(bad_trust(at("trust"), &settings.trust, &error));
                return None;
            }
        },
        false => None,
    };
    let way = Way {
        url,
        tls,
        allow_plaintext: settings.allow_plaintext,
        is_cluster: settings.is_cluster,
        timeout: settings.timeout,
        prefix: settings.prefix.clone(),
    };
    Some(Store::new(way, settings.replicas))
}
