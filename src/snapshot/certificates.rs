//! Until when the certificates of a config are good: their dates were read with them.

use std::time::Duration;

use jiff::Timestamp;

use super::Snapshot;
use crate::tls::Validity;

/// How long before its end a certificate that nobody has renewed is pointed out.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// The chain that a listener shows.
    Listen,
    /// The authorities of a listener's clients.
    ClientCa,
    /// The authorities of the upstream, where they are a file.
    UpstreamTrust,
}

impl Use {
    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::ClientCa => "client_ca",
            Self::UpstreamTrust => "upstream_trust",
        }
    }
}

/// What a file of certificates is for, and when it is good: of a chain as long as all of
/// it is, of authorities as long as one is.
#[derive(Debug, Clone, Copy)]
pub struct Certificate {
    /// What it is for.
    pub usage: Use,
    /// The number of the listener that it belongs to, if it does to one.
    pub listener: Option<usize>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
}

impl Certificate {
    fn new(usage: Use, listener: Option<usize>, validity: Validity) -> Self {
        Self {
            usage,
            listener,
            from: timestamp(validity.from),
            until: timestamp(validity.until),
        }
    }

    /// Whether it is not good any more.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.until < now
    }

    /// Whether it should have been renewed by now, or has expired.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let lifetime = self.until.duration_since(self.from);
        let lifetime = Duration::try_from(lifetime).unwrap_or_default();
        let left = Duration::try_from(self.until.duration_since(now));
        left.is_err() || left.is_ok_and(|left| left <= soon(EXPIRES_SOON, lifetime))
    }
}

/// How long before its end a certificate is worth a word. Those that live shorter are
/// renewed when a third of their life is left (cert-manager), so that is no news.
pub fn soon(most: Duration, lifetime: Duration) -> Duration {
    most.min(lifetime / 3)
}

/// Of a time since 1970.
pub fn timestamp(since: Duration) -> Timestamp {
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

impl Snapshot {
    /// All certificates that calls depend on and a file holds, those of listeners first.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate> {
        let listeners = self.listen.iter().enumerate();
        let listeners = listeners.flat_map(|(at, listener)| {
            let tls = listener.tls.as_ref();
            let of = |usage, validity: Option<Validity>| {
                validity.map(|validity| Certificate::new(usage, Some(at), validity))
            };
            [
                of(Use::Listen, tls.and_then(|tls| tls.chain())),
                of(Use::ClientCa, tls.and_then(|tls| tls.client_ca())),
            ]
        });
        let trust = self.upstream.tls.as_ref().and_then(|tls| tls.trust());
        let trust = trust.map(|validity| Certificate::new(Use::UpstreamTrust, None, validity));
        listeners.flatten().chain(trust)
    }
}
