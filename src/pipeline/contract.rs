//! Raw request → [`Call`]: the one operation there is, matched on the raw bytes.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts,
    uri::Authority,
};

use super::refusal::Refusal;
use crate::{
    config::settings::{Bounds, Upstream},
    ids::{CredentialId, UserId},
};

/// [`ROUTE`] where only a literal will do.
macro_rules! route_text {
    () => {
        "/users/{userId}/credentials/{credentialId}"
    };
}
pub(super) use route_text;

/// The path of the one operation, for log and traces.
pub const ROUTE: &str = route_text!();
/// The one operation, as the contract has it.
pub const OPERATION: &str = concat!("DELETE ", route_text!());

const X_API_VERSION: HeaderName = HeaderName::from_static("x-api-version");

/// Proof that a request is `DELETE /users/{userId}/credentials/{credentialId}`
/// and nothing else.
#[derive(Debug)]
pub struct Call {
    user: UserId,
    credential: CredentialId,
}

impl Call {
    /// The user the credential belongs to.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The credential to delete.
    pub fn credential(&self) -> &CredentialId {
        &self.credential
    }
}

/// Holds a request against the contract.
///
/// # Errors
///
/// The refusal of the first rule that the request breaks: framing, size, path,
/// method, query, version.
pub fn read(head: &Parts, upstream: &Upstream, bounds: &Bounds) -> Result<Call, Refusal> {
    let fields = Fields::of(&head.headers, &upstream.api_version);
    fields.framing(head.version)?;
    let target = head.uri.path().len() + head.uri.query().map_or(0, str::len);
    let bytes = u32::try_from(target.saturating_add(fields.bytes)).unwrap_or(u32::MAX);
    let count = u32::try_from(head.headers.len()).unwrap_or(u32::MAX);
    if count > bounds.headers || bytes > bounds.header_bytes {
        return Err(Refusal::HeadersTooLarge);
    }
    let route = route(&head.uri);
    if head.method == Method::CONNECT {
        return Err(Refusal::MethodNotAllowed);
    }
    let (user, credential) = route.ok_or(Refusal::NoSuchRoute)?;
    let (Some(user), Some(credential)) = (
        UserId::parse(user, upstream.ids),
        CredentialId::parse(credential, upstream.ids),
    ) else {
        return Err(Refusal::InvalidPath);
    };
    if head.method != Method::DELETE {
        return Err(Refusal::MethodNotAllowed);
    }
    if head.uri.query().is_some() {
        return Err(Refusal::UnexpectedQuery);
    }
    if fields.has_other_version {
        return Err(Refusal::ApiVersionMismatch);
    }
    Ok(Call { user, credential })
}

/// The ids of `/users/*/credentials/*`, whatever they look like.
fn route(target: &Uri) -> Option<(&str, &str)> {
    let (user, rest) = target.path().strip_prefix("/users/")?.split_once('/')?;
    let credential = rest.strip_prefix("credentials/")?;
    (!credential.contains('/')).then_some((user, credential))
}

/// What matters of a head's fields, from one look at each.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    has_several_hosts: bool,
    coding: Option<&'a HeaderValue>,
    has_several_codings: bool,
    has_length: bool,
    has_other_version: bool,
    /// Their size as HTTP/1.1 writes them.
    bytes: usize,
}

impl<'a> Fields<'a> {
    fn of(fields: &'a HeaderMap, api_version: &str) -> Self {
        let mut seen = Self::default();
        for (name, value) in fields {
            seen.bytes += name.as_str().len() + value.len() + ": \r\n".len();
            if name == header::HOST {
                seen.has_several_hosts = seen.host.replace(value).is_some();
            } else if name == header::TRANSFER_ENCODING {
                seen.has_several_codings = seen.coding.replace(value).is_some();
            } else if name == header::CONTENT_LENGTH {
                seen.has_length = true;
            } else if name == X_API_VERSION {
                seen.has_other_version |= value.as_bytes() != api_version.as_bytes();
            }
        }
        seen
    }

    /// RFC 9112 §3.2 and §6 where hyper is more lenient than the gateway may be;
    /// what hyper hides is found by the connection's own look at the head.
    fn framing(&self, version: Version) -> Result<(), Refusal> {
        let malformed = |what| Err(Refusal::MalformedRequest(what));
        match self.host {
            None if version == Version::HTTP_11 => return malformed("no Host field"),
            Some(_) if self.has_several_hosts => return malformed("several Host fields"),
            Some(host) if !is_host(host.as_bytes()) => return malformed("an invalid Host field"),
            _ => {}
        }
        let Some(coding) = self.coding else {
            return Ok(());
        };
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || self.has_several_codings {
            return malformed("a Transfer-Encoding other than one chunked");
        }
        if self.has_length {
            return malformed("Content-Length beside Transfer-Encoding");
        }
        Ok(())
    }
}

/// A host with or without a port, or nothing (RFC 9110 §7.2).
fn is_host(host: &[u8]) -> bool {
    host.is_empty()
        || is_usual_host(host)
        || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
}

/// A name or an IPv4 address, with or without a port: told without the memory that an
/// [`Authority`] takes.
fn is_usual_host(host: &[u8]) -> bool {
    let colon = host.iter().position(|b| *b == b':');
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    let is_port = match port {
        [] => true,
        [_, digits @ ..] => {
            (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
    };
    let of_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    is_port && !name.is_empty() && name.iter().all(of_name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::settings::testing;

    const USER: &str = "689593e23e4c93cae95fd75c";
    const CREDENTIAL: &str = "63252d14cc29df15cc481a76";

    fn verdict(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<Call, Refusal> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        read(&head, &testing::upstream(), &testing::bounds())
    }

    fn delete(target: &str) -> Result<Call, Refusal> {
        verdict("DELETE", target, &[("host", "gateway")])
    }

    #[test]
    fn the_call_holds_the_ids_as_they_stood_in_the_path() {
        let call = delete(&format!("/users/{USER}/credentials/{CREDENTIAL}")).unwrap();
        assert_eq!(call.user().as_str(), USER);
        assert_eq!(call.credential().as_str(), CREDENTIAL);
        let absolute = delete("http://elsewhere:81/users/a/credentials/B~9").unwrap();
        assert_eq!(absolute.credential().as_str(), "B~9");
    }

    #[test]
    fn paths_are_matched_on_their_raw_bytes() {
        let ok = "a".repeat(128);
        let long = "a".repeat(129);
        let fits = format!("/users/{ok}/credentials/{ok}");
        let too_long = format!("/users/a/credentials/{long}");
        let table = [
            (fits.as_str(), None),
            (&too_long, Some(Refusal::InvalidPath)),
            ("/users//credentials/b", Some(Refusal::InvalidPath)),
            ("/users/a/credentials/", Some(Refusal::InvalidPath)),
            ("/users/../credentials/b", Some(Refusal::InvalidPath)),
            ("/users/a/credentials/..", Some(Refusal::InvalidPath)),
            ("/users/./credentials/b", Some(Refusal::InvalidPath)),
            ("/users/%2e%2e/credentials/b", Some(Refusal::InvalidPath)),
            ("/users/a%2fb/credentials/b", Some(Refusal::InvalidPath)),
            ("/users/a;v=1/credentials/b", Some(Refusal::InvalidPath)),
            ("/users/a/credentials/b/", Some(Refusal::NoSuchRoute)),
            ("//users/a/credentials/b", Some(Refusal::NoSuchRoute)),
            ("/users/a//credentials/b", Some(Refusal::NoSuchRoute)),
            ("/users/a/credentials", Some(Refusal::NoSuchRoute)),
            ("/Users/a/credentials/b", Some(Refusal::NoSuchRoute)),
            ("/users/a/%63redentials/b", Some(Refusal::NoSuchRoute)),
            ("/v1/users/a/credentials/b", Some(Refusal::NoSuchRoute)),
            ("/", Some(Refusal::NoSuchRoute)),
            ("*", Some(Refusal::NoSuchRoute)),
        ];
        for (path, refused) in table {
            assert_eq!(delete(path).err(), refused, "{path}");
        }
    }

    #[test]
    fn path_comes_before_method_and_method_before_query() {
        let host = [("host", "gateway")];
        let good = "/users/a/credentials/b";
        assert_eq!(
            verdict("GET", "/nowhere?x", &host).unwrap_err(),
            Refusal::NoSuchRoute
        );
        assert_eq!(
            verdict("GET", "/users//credentials/b", &host).unwrap_err(),
            Refusal::InvalidPath
        );
        for method in ["GET", "POST", "OPTIONS", "HEAD", "delete", "PURGE"] {
            let refused = verdict(method, &format!("{good}?x"), &host).unwrap_err();
            assert_eq!(refused, Refusal::MethodNotAllowed, "{method}");
        }
        assert_eq!(
            verdict("CONNECT", "gateway:80", &host).unwrap_err(),
            Refusal::MethodNotAllowed
        );
        for query in ["?", "?a=b", "?%00"] {
            assert_eq!(
                delete(&format!("{good}{query}")).unwrap_err(),
                Refusal::UnexpectedQuery
            );
        }
    }

    #[test]
    fn a_usual_host_is_one_and_needs_no_second_look() {
        for usual in ["gateway", "127.0.0.1", "a-b.example:8080", "x:0", "x:99999"] {
            assert!(is_usual_host(usual.as_bytes()), "{usual}");
        }
        let long_port = format!("x:{}", "1".repeat(6));
        for other in [
            "", ":80", "x:", "x:a", "x:1:2", "[::1]", "a b", "a@b", "a/b", &long_port,
        ] {
            assert!(!is_usual_host(other.as_bytes()), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_counts_as_a_usual_host_is_a_host(host in "[a-zA-Z0-9.:-]{1,12}") {
            if is_usual_host(host.as_bytes()) {
                proptest::prop_assert!(Authority::try_from(host.as_bytes()).is_ok());
            }
        }
    }

    #[test]
    fn another_version_is_refused_and_the_same_or_none_is_not() {
        let with = |versions: &[&str]| {
            let mut fields = vec![("host", "gateway")];
            fields.extend(versions.iter().map(|v| ("x-api-version", *v)));
            verdict("DELETE", "/users/a/credentials/b", &fields).err()
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&["2025-09"]), None);
        assert_eq!(with(&["2025-09", "2025-09"]), None);
        for other in [
            &["2025-10"][..],
            &[""],
            &["2025-09, 2025-10"],
            &["2025-09", "2024-01"],
        ] {
            assert_eq!(with(other), Some(Refusal::ApiVersionMismatch), "{other:?}");
        }
    }

    #[test]
    fn ambiguous_framing_is_malformed() {
        let malformed = |fields: &[(&str, &str)]| {
            let refusal = verdict("DELETE", "/users/a/credentials/b", fields);
            matches!(refusal, Err(Refusal::MalformedRequest(_)))
        };
        assert!(malformed(&[]));
        assert!(malformed(&[("host", "a"), ("host", "a")]));
        assert!(malformed(&[
            ("host", "a"),
            ("transfer-encoding", "gzip, chunked")
        ]));
        assert!(malformed(&[
            ("host", "a"),
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked")
        ]));
        assert!(malformed(&[
            ("host", "a"),
            ("transfer-encoding", "chunked"),
            ("content-length", "2")
        ]));
        assert!(!malformed(&[
            ("host", "a"),
            ("transfer-encoding", "Chunked")
        ]));
        assert!(!malformed(&[("host", "a"), ("content-length", "2")]));
    }

    #[test]
    fn host_is_asked_of_http_1_1_and_must_be_one_wherever_it_stands() {
        let refused = |version: Version, host: Option<&str>| {
            let mut request = Request::delete("/users/a/credentials/b").version(version);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            read(&head, &testing::upstream(), &testing::bounds()).is_err()
        };
        assert!(refused(Version::HTTP_11, None));
        assert!(!refused(Version::HTTP_10, None));
        assert!(!refused(Version::HTTP_2, None));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            for host in ["", "gateway", "gateway:80", "127.0.0.1", "[::1]:80"] {
                assert!(!refused(version, Some(host)), "{host:?}");
            }
            for host in ["a b", "user@gateway", "gateway/x", "gateway:80:81"] {
                assert!(refused(version, Some(host)), "{host:?}");
            }
        }
    }

    #[test]
    fn a_head_of_exactly_the_bounds_is_not_too_large() {
        let bounds = testing::bounds();
        let refused = |target: &str, fields: &[(String, String)]| {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            verdict("DELETE", target, &fields).err()
        };
        let host = ("host".to_owned(), "a".to_owned());
        for target in ["/users/a/credentials/b", "/users/a/credentials/b?query=c"] {
            // As HTTP/1.1 writes it; the question mark is not counted.
            let others = target.replace('?', "").len() + "host: a\r\n".len() + "x: \r\n".len();
            let room = usize::try_from(bounds.header_bytes).unwrap() - others;
            let with = |n: usize| [host.clone(), ("x".to_owned(), "y".repeat(n))];
            assert_ne!(refused(target, &with(room)), Some(Refusal::HeadersTooLarge));
            assert_eq!(
                refused(target, &with(room + 1)),
                Some(Refusal::HeadersTooLarge)
            );
        }
        let many = |n: u32| {
            let others = (1..n).map(|n| (format!("x-{n}"), String::new()));
            std::iter::once(host.clone())
                .chain(others)
                .collect::<Vec<_>>()
        };
        let target = "/users/a/credentials/b";
        assert_eq!(refused(target, &many(bounds.headers)), None);
        let too_many = refused(target, &many(bounds.headers + 1));
        assert_eq!(too_many, Some(Refusal::HeadersTooLarge));
    }

    #[test]
    fn heads_above_the_bounds_are_too_large() {
        let names: Vec<_> = (0..65).map(|n| format!("x-{n}")).collect();
        let many: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "1"))
            .chain([("host", "a")])
            .collect();
        let long = "a".repeat(17 << 10);
        for fields in [many, vec![("host", "a"), ("x", long.as_str())]] {
            let refused = verdict("DELETE", "/users/a/credentials/b", &fields).unwrap_err();
            assert_eq!(refused, Refusal::HeadersTooLarge);
        }
    }
}
