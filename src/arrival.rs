//! Who calls, and one request as it came in: everything about it but what it asks for.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderName, HeaderValue, Method, Request, Version};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{ids::RequestId, token::looks_like_token};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A peer on a Unix socket, known by its user id.
    Unix {
        /// The user id that the kernel vouches for.
        uid: u32,
    },
}

impl Peer {
    /// Whom its connections and failures are counted for.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Tcp(address) => Origin::Network(network(address.ip())),
            Self::Unix { uid } => Origin::User(*uid),
        }
    }
}

/// The IPv4 address, or the network that an IPv6 peer has for itself.
fn network(address: IpAddr) -> IpAddr {
    // A dual-stack listener writes IPv4 addresses as IPv6.
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whom connections and failures are counted for: all ports of an IPv4 address or of an
/// IPv6 /64, all processes of a user. One IPv6 peer owns a whole /64 as a rule
/// (RFC 6177), so single addresses would count nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IPv4 address as such, of an IPv6 address its /64.
    Network(IpAddr),
    /// A user of this machine.
    User(u32),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid } => write!(f, "unix:uid={uid}"),
        }
    }
}

/// Who is at the other end of a connection, put into words once for all its requests.
#[derive(Debug, Clone)]
pub struct Caller {
    peer: Peer,
    text: Arc<str>,
}

impl Caller {
    /// Of a connection that has just been opened.
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            text: peer.to_string().into(),
        }
    }
}

/// What of a connection's bytes must be refused, once it is found; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Malformed(Arc<OnceLock<&'static str>>);

impl Malformed {
    /// What it is, if anything was found.
    pub fn get(&self) -> Option<&'static str> {
        self.0.get().copied()
    }

    /// It was found; what was found first counts.
    pub fn set(&self, what: &'static str) {
        // Nothing behind it is looked at.
        let _ = self.0.set(what);
    }
}

/// One request as it came in.
#[derive(Debug)]
pub struct Arrival {
    /// Our own id of it.
    pub request_id: RequestId,
    /// The caller's id, if it sent a valid one.
    pub caller_request_id: Option<HeaderValue>,
    /// Who sent it.
    pub peer: Peer,
    /// Its method, `_OTHER` if it is none that is common (OpenTelemetry).
    pub method: &'static str,
    /// The HTTP version it came in.
    pub version: Version,
    /// When its head was in, as the system's clock has it.
    pub at: Timestamp,
    /// When its head was in.
    pub started: Instant,
    peer_text: Arc<str>,
    malformed: Malformed,
    committed: AtomicBool,
}

impl Arrival {
    /// Notes a request whose head is in. `malformed` is what the connection sees
    /// in the raw bytes and the HTTP library hides.
    pub fn new<B>(caller: &Caller, request: &Request<B>, malformed: Malformed) -> Self {
        let at = Timestamp::now();
        Self {
            request_id: RequestId::at(at),
            at,
            caller_request_id: request
                .headers()
                .get(X_REQUEST_ID)
                .filter(|id| is_request_id(id.as_bytes()))
                // A copy: else it would hold hyper's buffer, 8 KiB a call.
                .and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()),
            peer: caller.peer,
            peer_text: Arc::clone(&caller.text),
            method: known(request.method()),
            version: request.version(),
            started: Instant::now(),
            malformed,
            committed: AtomicBool::new(false),
        }
    }

    /// The caller's id as text.
    pub fn caller_request_id(&self) -> Option<&str> {
        self.caller_request_id.as_ref()?.to_str().ok()
    }

    /// Who sent it, in words.
    pub fn peer_text(&self) -> &str {
        &self.peer_text
    }

    /// Why the raw message can't be trusted, if so: its trailer may come long after
    /// its head.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed.get()
    }

    /// The HTTP version as OpenTelemetry spells it.
    pub fn protocol_version(&self) -> &'static str {
        match self.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        }
    }

    /// The value of `via` for the upstream: the version received and our
    /// pseudonym (RFC 9110 §7.6.3).
    pub fn via(&self) -> &'static str {
        match self.version {
            Version::HTTP_2 => "2.0 alloy-gateway",
            Version::HTTP_10 => "1.0 alloy-gateway",
            _ => "1.1 alloy-gateway",
        }
    }

    /// From here on the work must not be cut when the caller leaves.
    pub fn commit(&self) {
        self.committed.store(true, Ordering::Release);
    }

    /// Nothing was sent and nothing will be, or a bug has cut the work.
    pub fn conclude(&self) {
        self.committed.store(false, Ordering::Release);
    }

    /// Whether the call may have been sent: from its intent on.
    pub fn is_committed(&self) -> bool {
        self.committed.load(Ordering::Acquire)
    }
}

/// The name of a method that is common: callers can invent others without end.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// 1 to 128 of `A-Z a-z 0-9 . _ -`, and not of a token's form.
fn is_request_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        // A token in the wrong field must not end up in the trail.
        && !std::str::from_utf8(id).is_ok_and(looks_like_token)
}

#[cfg(test)]
impl Arrival {
    /// A request that came in well, from an address of documentation.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let peer = Peer::Tcp(SocketAddr::from(([192, 0, 2, 1], 1000)));
        Self::new(&Caller::new(peer), request, Malformed::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::NewToken;

    #[test]
    fn a_callers_id_does_not_hold_the_memory_of_its_head() {
        let head = bytes::Bytes::from(b"a-1".to_vec());
        let id = HeaderValue::from_maybe_shared(head.clone()).unwrap();
        let request = Request::delete("/").header("x-request-id", id);
        let arrival = Arrival::of(&request.body(()).unwrap());
        assert_eq!(arrival.caller_request_id(), Some("a-1"));
        assert!(
            head.is_unique(),
            "the request is gone, and only the test has the head"
        );
    }

    #[test]
    fn a_callers_own_id_is_taken_unless_it_is_a_token() {
        let taken = |id: &str| {
            let request = Request::delete("/").header("x-request-id", id);
            let arrival = Arrival::of(&request.body(()).unwrap());
            arrival.caller_request_id().map(ToOwned::to_owned)
        };
        let longest = "a".repeat(128);
        for id in ["A-1_b.2", longest.as_str()] {
            assert_eq!(taken(id).as_deref(), Some(id));
        }
        let token = NewToken::generate().unwrap();
        let within = format!("Bearer-{}", token.reveal());
        for id in ["", "a b", "a/b", &"a".repeat(129), token.reveal(), &within] {
            assert_eq!(taken(id), None, "{id}");
        }
    }
}
