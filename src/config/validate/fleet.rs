//! `limits_store`.

use super::{check::Check, secret, upstream};
use crate::{
    config::{
        problem::FieldPath,
        ranges, raw,
        settings::{self, LimitsStore, SecretSource},
    },
    gcra::share::Ceilings,
};

/// What stands before every name in the store by default.
const PREFIX: &str = "alloy-gateway";

/// Where a fleet shares its limits.
pub fn store(check: &mut Check, raw: raw::LimitsStore, allow_inline: bool) -> LimitsStore {
    let at = |name: &'static str| FieldPath::root().key("limits_store").key(name);
    let redis_at = |name: &'static str| at("redis").key(name);
    let redis = check.required(at("redis"), raw.redis);
    let is_named = redis.is_some();
    let redis = redis.unwrap_or_default();
    let url = match redis.url {
        Some(url) => secret::source(check, &redis_at("url"), url, allow_inline),
        None => {
            if is_named {
                check.problem(redis_at("url"), "is missing");
            }
            SecretSource::Env(String::new())
        }
    };
    let replicas = check.required(at("replicas"), raw.replicas);
    let prefix = raw.prefix.unwrap_or_else(|| PREFIX.to_owned());
    check.name(at("prefix"), &prefix);
    LimitsStore {
        url,
        is_cluster: redis.cluster.unwrap_or(false),
        trust: upstream::trust(check, &redis_at("trust"), redis.trust),
        allow_plaintext: redis.allow_plaintext.unwrap_or(false),
        timeout: check.span(at("timeout"), raw.timeout, "50ms", ranges::STORE_TIMEOUT),
        replicas: check.count(at("replicas"), replicas, 1, ranges::STORE_REPLICAS),
        prefix,
    }
}

/// A burst with fewer units than there are gateways can't be divided: each has one.
pub fn shares_are_within_the_limits(check: &mut Check, settings: &settings::Settings) {
    let Some(store) = &settings.limits_store else {
        return;
    };
    let root = FieldPath::root;
    let keys = settings.keys.iter();
    let keys = keys.map(|key| (root().key("keys").key(key.name.clone()), &key.limits));
    let tenants = settings.tenants.iter().enumerate();
    let tenants = tenants.map(|(at, it)| (root().key("tenants").index(at), &it.limits));
    for (at, limits) in keys.chain(tenants) {
        for window in limits {
            let ceilings = Ceilings::of(window, store.replicas);
            if ceilings.is_above_the_limit() {
                let (with, without) = (ceilings.with_store, ceilings.without_store);
                let per = crate::config::show_duration(window.per);
                check.warning(
                    at.clone().key("limits"),
                    format!(
                        "while the limits store is away, {} gateways can come to {} calls in {per} and {} at once, above the {} and {} of the limit: a burst of at least {} would keep them below",
                        store.replicas,
                        without.in_any_span,
                        without.at_once,
                        with.in_any_span,
                        with.at_once,
                        store.replicas,
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{config::parse, load, snapshot};

    /// What is wrong with a config with this `limits_store`, and the warnings.
    fn found(store: &str) -> String {
        let text = format!(
            "version: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\nallow_inline_secrets: true\nlimits_store: {store}\n\
             keys: {{ k: {{ secret: {{ value: sk-0123456789 }}, limits: [ {{ requests: 9, per: 1s }} ] }} }}\n\
             tenants: [ {{ name: a, key: k, users: all, tokens: [ {{ id: t, sha256: \"{}\" }} ] }} ]\n",
            "ab".repeat(32)
        );
        match parse("c.yaml", &text, Path::new("/"), load::unreadable) {
            Err(problems) => problems.to_string(),
            Ok((settings, warnings)) => {
                let problems = snapshot::build(&settings, "", None).err();
                let all = problems.unwrap_or_default().into_iter().chain(warnings);
                let lines = all.map(|problem| problem.to_string());
                let wanted = |line: &String| !line.contains("stands in the config");
                lines.filter(wanted).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn with_url(url: &str, more: &str) -> String {
        found(&format!(
            "{{ redis: {{ url: {{ value: \"{url}\" }}{more} }}, replicas: 3 }}"
        ))
    }

    #[test]
    fn a_store_is_an_origin_that_nothing_readable_leaves_the_machine_for() {
        assert_eq!(with_url("redis://127.0.0.1:6379/2", ""), "");
        assert_eq!(with_url("rediss://u:p@store", ", trust: bundled"), "");
        assert_eq!(with_url("redis://store", ", allow_plaintext: true"), "");
        assert_eq!(with_url("redis://127.0.0.1", ", cluster: true"), "");
        for (url, more, expected) in [
            ("redis://u:pass-9@store", "", "would travel readable"),
            (
                "redis://127.0.0.1/2",
                ", cluster: true",
                "a cluster has only database 0",
            ),
            ("store:pass-9", "", "is no URL as in redis://HOST:PORT"),
        ] {
            let found = with_url(url, more);
            assert!(found.contains("limits_store.redis.url.value: "), "{found}");
            assert!(found.contains(expected), "{found}");
            assert!(!found.contains("pass-9"), "{found}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_what_was_found_and_what_is_allowed() {
        for (store, expected) in [
            ("{}", "limits_store.redis: is missing"),
            ("{}", "limits_store.replicas: is missing"),
            ("{ redis: {} }", "limits_store.redis.url: is missing"),
            (
                "{ replicas: 0 }",
                "limits_store.replicas: found 0, expected 1 to 100000",
            ),
            (
                "{ timeout: 5s }",
                "limits_store.timeout: found \"5s\", expected 5ms to 2s",
            ),
            (
                "{ timeout: 1ms }",
                "limits_store.timeout: found \"1ms\", expected 5ms to 2s",
            ),
            (
                "{ prefix: \"a{b\" }",
                "limits_store.prefix: found \"a{b\", expected a name",
            ),
            (
                "{ redis: { clustr: true } }",
                "limits_store.redis.clustr: unknown key, did you mean cluster?",
            ),
        ] {
            let found = found(store);
            assert!(found.contains(expected), "{expected}\n{found}");
        }
    }

    #[test]
    fn a_burst_that_cannot_be_divided_is_warned_about() {
        let of = |replicas| {
            found(&format!(
                "{{ redis: {{ url: {{ value: \"redis://127.0.0.1\" }} }}, replicas: {replicas} }}"
            ))
        };
        assert_eq!(of(9), "");
        assert!(
            of(10)
                .contains("keys.k.limits: while the limits store is away, 10 gateways can come to")
        );
    }
}
