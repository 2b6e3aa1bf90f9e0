//! `log` and `otlp`.

use http::{HeaderName, header};

use super::{check::Check, secret, upstream};
use crate::{
    config::{
        problem::FieldPath,
        ranges, raw,
        settings::{Otlp, SecretSource, UpstreamUrl},
        suggest::quote,
    },
    logging::{Access, Format, Level, Settings},
};

/// What is logged, and how.
pub fn log(check: &mut Check, raw: raw::Log) -> Settings {
    let at = |name: &'static str| FieldPath::root().key("log").key(name);
    let formats = [
        ("auto", None),
        ("json", Some(Format::Json)),
        ("text", Some(Format::Text)),
    ];
    let access = [
        ("all", Access::All),
        ("failures", Access::Failures),
        ("off", Access::Off),
    ];
    Settings {
        level: level(check, at("level"), raw.level),
        format: check.choice(at("format"), raw.format, &formats, None),
        access: check.choice(at("access"), raw.access, &access, Access::All),
    }
}

fn level(check: &mut Check, at: FieldPath, found: Option<String>) -> Level {
    let Some(found) = found else {
        return Level::default();
    };
    found.parse().unwrap_or_else(|why| {
        check.problem(at, format!("found {}, {why}", quote(&found)));
        Level::default()
    })
}

/// Fields of a request that are not for the config to say.
const OWN_FIELDS: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

/// Where spans go.
pub fn otlp(check: &mut Check, raw: raw::Otlp, allow_inline: bool) -> Otlp {
    let at = |name: &'static str| FieldPath::root().key("otlp").key(name);
    let allow_plaintext = raw.allow_plaintext == Some(true);
    let (url, prefix) = endpoint(check, &at("endpoint"), raw.endpoint, allow_plaintext);
    let mut sampling = raw.sampling.unwrap_or(1.0);
    let allowed = ranges::OTLP_SAMPLING;
    if !allowed.contains(&sampling) {
        check.problem(
            at("sampling"),
            format!("found {sampling}, expected a share from {allowed}"),
        );
        sampling = 1.0;
    }
    let headers = raw.headers.map_or_else(Vec::new, |pairs| pairs.0);
    let headers = headers.into_iter().filter_map(|(name, raw)| {
        let at = at("headers").key(name.clone());
        let raw = check.required(at.clone(), raw)?;
        field(check, &at, &name, raw, allow_inline)
    });
    let headers = headers.collect();
    Otlp {
        url,
        prefix,
        sampling,
        headers,
        timeout: check.span(at("timeout"), raw.timeout, "10s", ranges::OTLP_TIMEOUT),
        service_name: upstream::word(check, at("service_name"), raw.service_name, "alloy-gateway"),
        trust: upstream::trust(check, &at("trust"), raw.trust),
    }
}

fn field(
    check: &mut Check,
    at: &FieldPath,
    name: &str,
    raw: raw::Secret,
    allow_inline: bool,
) -> Option<(HeaderName, SecretSource)> {
    let source = secret::source(check, at, raw, allow_inline);
    match name.parse() {
        Ok(name) if !OWN_FIELDS.contains(&name) => Some((name, source)),
        Ok(_) => {
            check.problem(at.clone(), "is set by the gateway itself");
            None
        }
        Err(_) => {
            check.problem(at.clone(), "is not the name of a header field");
            None
        }
    }
}

/// The origin, and what stands before `/v1/traces`.
fn endpoint(
    check: &mut Check,
    at: &FieldPath,
    found: Option<String>,
    allow_plaintext: bool,
) -> (UpstreamUrl, String) {
    let nowhere = || UpstreamUrl {
        tls: true,
        host: String::new(),
        port: 443,
    };
    let Some(found) = check.required(at.clone(), found) else {
        return (nowhere(), String::new());
    };
    let path_at = found
        .find("://")
        .and_then(|scheme| found.get(scheme + 3..)?.find('/').map(|at| scheme + 3 + at));
    let (origin, path) = found.split_at(path_at.unwrap_or(found.len()));
    let path = path.trim_end_matches('/');
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._~-".contains(&b);
    if !path.bytes().all(is_plain) {
        check.problem(
            at.clone(),
            "has a path with other characters than A-Z a-z 0-9 / . _ ~ -",
        );
    } else if path.ends_with("/v1/traces") {
        check.problem(at.clone(), "leave /v1/traces out: it is added");
    }
    match upstream::parse_url(origin) {
        Ok(url) => {
            if !url.tls && !allow_plaintext && !upstream::is_loopback(&url.host) {
                check.problem(
                    at.clone(),
                    "spans and headers would travel readable: use https://, or put allow_plaintext: true beside it",
                );
            }
            (url, path.to_owned())
        }
        Err(message) => {
            check.problem(at.clone(), message);
            (nowhere(), String::new())
        }
    }
}
