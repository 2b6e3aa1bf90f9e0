//! `upstream`.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use super::check::Check;
use crate::{
    config::{
        problem::FieldPath,
        ranges,
        raw::{self, OneOf},
        settings::{CircuitBreaker, Trust, Upstream, UpstreamUrl},
        suggest::{did_you_mean, quote},
    },
    ids::IdGrammar,
};

/// The vendor's only server (OpenAPI `servers`).
const URL: &str = "https://production.runalloy.com";
/// The vendor's current version (OpenAPI `components.parameters.xApiVersion`).
const API_VERSION: &str = "2025-09";
/// As the vendor spells it (OpenAPI, default of `Authorization`).
const AUTH_SCHEME: &str = "bearer";

pub fn upstream(check: &mut Check, raw: raw::Upstream) -> Upstream {
    let at = |name: &'static str| FieldPath::root().key("upstream").key(name);
    let grammars = [
        ("opaque", IdGrammar::Opaque),
        ("object_id", IdGrammar::ObjectId),
    ];
    let url = url(
        check,
        &at("url"),
        raw.url.as_deref().unwrap_or(URL),
        raw.allow_plaintext == Some(true),
    );
    let connect_timeout = check.span(
        at("connect_timeout"),
        raw.connect_timeout,
        "2s",
        ranges::UPSTREAM_CONNECT_TIMEOUT,
    );
    let request_timeout = check.span(
        at("request_timeout"),
        raw.request_timeout,
        "30s",
        ranges::UPSTREAM_REQUEST_TIMEOUT,
    );
    if connect_timeout > request_timeout {
        check.warning(
            at("connect_timeout"),
            "is longer than request_timeout, which ends the call first",
        );
    }
    Upstream {
        url,
        api_version: word(check, at("api_version"), raw.api_version, API_VERSION),
        auth_scheme: word(check, at("auth_scheme"), raw.auth_scheme, AUTH_SCHEME),
        ids: check.choice(at("ids"), raw.ids, &grammars, IdGrammar::Opaque),
        trust: trust(check, &at("trust"), raw.trust),
        connect_timeout,
        request_timeout,
        retries: check.count(at("retries"), raw.retries, 2, ranges::UPSTREAM_RETRIES),
        circuit_breaker: breaker(check, &at("circuit_breaker"), raw.circuit_breaker),
        idle_timeout: check.span(
            at("idle_timeout"),
            raw.idle_timeout,
            "30s",
            ranges::UPSTREAM_IDLE_TIMEOUT,
        ),
        connection_max_age: check.span(
            at("connection_max_age"),
            raw.connection_max_age,
            "5m",
            ranges::UPSTREAM_CONNECTION_MAX_AGE,
        ),
        idle_connections: usize::try_from(check.count(
            at("idle_connections"),
            raw.idle_connections,
            64,
            ranges::UPSTREAM_IDLE_CONNECTIONS,
        ))
        .unwrap_or(64),
    }
}

/// A value that stands in a header field: visible ASCII without spaces.
pub fn word(check: &mut Check, at: FieldPath, found: Option<String>, default: &str) -> String {
    let word = found.unwrap_or_else(|| default.to_owned());
    if word.is_empty() || word.len() > 64 || !word.bytes().all(|b| b.is_ascii_graphic()) {
        check.problem(
            at,
            format!(
                "found {}, expected 1 to 64 visible ASCII characters",
                quote(&word)
            ),
        );
        return default.to_owned();
    }
    word
}

fn url(check: &mut Check, at: &FieldPath, text: &str, allow_plaintext: bool) -> UpstreamUrl {
    match parse_url(text) {
        Ok(url) => {
            if !url.tls && !allow_plaintext && !is_loopback(&url.host) {
                check.problem(
                    at.clone(),
                    "the key would travel readable: use https://, or put allow_plaintext: true beside it",
                );
            }
            url
        }
        Err(message) => {
            check.problem(at.clone(), message);
            UpstreamUrl {
                tls: true,
                host: String::new(),
                port: 443,
            }
        }
    }
}

/// Scheme, host and port, and nothing else.
pub fn parse_url(text: &str) -> Result<UpstreamUrl, String> {
    let (tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => {
            return Err(format!(
                "found {}, expected https://HOST or https://HOST:PORT (http:// to a loopback host, or with allow_plaintext: true beside it)",
                quote(text)
            ));
        }
    };
    if rest.contains('@') {
        return Err("has a user or password, which have no place here".to_owned());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(
            "has a path or query: only scheme, host and port are wanted, the path is fixed"
                .to_owned(),
        );
    }
    let default_port = if tls { 443 } else { 80 };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or("has an IPv6 address without ]")?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| "has no IPv6 address between [ and ]")?;
            (
                host,
                port.strip_prefix(':')
                    .or(port.is_empty().then_some(""))
                    .ok_or("has something odd behind ]")?,
            )
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" if !authority.ends_with(':') => default_port,
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("has no port from 1 to 65535 behind the colon")?,
    };
    if !is_host(host) {
        return Err("has no valid host name or IP address".to_owned());
    }
    Ok(UpstreamUrl {
        tls,
        host: host.to_ascii_lowercase(),
        port,
    })
}

/// An IP literal, or a name of letters, digits and hyphens (RFC 1123 §2.1).
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(is_label))
}

pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub fn trust(check: &mut Check, at: &FieldPath, raw: Option<OneOf<raw::FileOf>>) -> Trust {
    match raw {
        None => Trust::System,
        Some(OneOf::Word(word)) if word == "system" => Trust::System,
        Some(OneOf::Word(word)) if word == "bundled" => Trust::Bundled,
        Some(OneOf::Map(raw::FileOf { file: Some(file) })) => {
            Trust::File(check.path(at.clone().key("file"), &file))
        }
        Some(other) => {
            let (found, hint) = match &other {
                OneOf::Word(word) => (
                    format!("found {}, ", quote(word)),
                    did_you_mean(word, ["system", "bundled"].into_iter()),
                ),
                _ => (String::new(), String::new()),
            };
            let expected = "expected system, bundled or { file: PATH }";
            check.problem(at.clone(), format!("{found}{expected}{hint}"));
            Trust::System
        }
    }
}

fn breaker(
    check: &mut Check,
    at: &FieldPath,
    raw: Option<OneOf<raw::CircuitBreaker>>,
) -> Option<CircuitBreaker> {
    let raw = match raw {
        None => raw::CircuitBreaker::default(),
        Some(OneOf::Word(word)) if word == "off" => return None,
        Some(OneOf::Map(raw)) => raw,
        Some(other) => {
            let found = match other {
                OneOf::Word(word) => format!("found {}, ", quote(&word)),
                _ => String::new(),
            };
            let expected = "expected { failures: 10, open_for: 5s }, or off";
            check.problem(at.clone(), format!("{found}{expected}"));
            return None;
        }
    };
    let failures = check.count(
        at.clone().key("failures"),
        raw.failures,
        10,
        ranges::BREAKER_FAILURES,
    );
    Some(CircuitBreaker {
        failures: NonZeroU32::new(failures).unwrap_or(NonZeroU32::MIN),
        open_for: check.span(
            at.clone().key("open_for"),
            raw.open_for,
            "5s",
            ranges::BREAKER_OPEN_FOR,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_scheme_host_and_port_and_nothing_else() {
        let url = |text| parse_url(text).map(|url| url.authority());
        assert_eq!(
            url("https://production.runalloy.com"),
            Ok("production.runalloy.com".to_owned())
        );
        assert_eq!(
            url("https://EXAMPLE.com:443/"),
            Ok("example.com".to_owned())
        );
        assert_eq!(
            url("http://127.0.0.1:8081"),
            Ok("127.0.0.1:8081".to_owned())
        );
        assert_eq!(url("https://[::1]:8443"), Ok("[::1]:8443".to_owned()));
        for bad in [
            "production.runalloy.com",
            "ftp://x",
            "https://",
            "https://x/users",
            "https://x?y",
            "https://x#y",
            "https://a:b@x",
            "https://x:",
            "https://x:0",
            "https://x:99999",
            "https://[::1",
            "https://[x]",
            "https://[::1]x",
            "https://a..b",
            "https://-a",
            "https://a b",
            "https://a:1:2",
            "HTTPS://x",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
