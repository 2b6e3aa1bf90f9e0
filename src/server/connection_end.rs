//! Why connections end without an answer, in words that metrics and trail share.

use std::{error::Error, io};

/// Why a connection ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// Its peer has as many as it may.
    PerPeer,
    /// The TLS handshake failed.
    TlsHandshake,
    /// Nothing was to be done for too long.
    IdleTimeout,
    /// The peer left while a request of it was worked on, or later. What came of that stands
    /// in records of its own.
    CallerLeft,
    /// A head, or the handshake before it, took too long.
    HeaderTimeout,
    /// The peer left while it was not yet clear which protocol it speaks.
    CutHead,
    /// More head than hyper takes; what is above our own bounds alone is answered.
    HeadTooLarge,
    /// hyper can't parse it.
    NotHttp,
    /// The peer left within a head.
    CutShort,
    /// The peer floods us with frames, or empty lines, that cost it nothing.
    Flood,
    /// A time-out of hyper's.
    Timeout,
    /// Whatever else hyper calls an error.
    ConnectionError,
    /// No connection ends so, but its series belongs to the metrics that are promised.
    Other,
}

impl ConnectionEnd {
    /// All of them, each at its own index.
    pub const ALL: [Self; 13] = [
        Self::PerPeer,
        Self::TlsHandshake,
        Self::IdleTimeout,
        Self::CallerLeft,
        Self::HeaderTimeout,
        Self::CutHead,
        Self::HeadTooLarge,
        Self::NotHttp,
        Self::CutShort,
        Self::Flood,
        Self::Timeout,
        Self::ConnectionError,
        Self::Other,
    ];

    /// Its name in metrics and trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerPeer => "connections-per-peer",
            Self::TlsHandshake => "tls-handshake",
            Self::IdleTimeout => "idle-timeout",
            Self::CallerLeft => "caller-left",
            Self::HeaderTimeout => "header-timeout",
            Self::CutHead => "cut-head",
            Self::HeadTooLarge => "head-too-large",
            Self::NotHttp => "not-http",
            Self::CutShort => "cut-short",
            Self::Flood => "flood",
            Self::Timeout => "timeout",
            Self::ConnectionError => "connection-error",
            Self::Other => "other",
        }
    }

    /// What hyper says of it. `was_served`: a request was worked on, and it is not the next
    /// one that is not whole.
    pub fn of(error: &hyper::Error, was_served: bool) -> Self {
        if error.is_parse_too_large() {
            Self::HeadTooLarge
        } else if error.is_parse() {
            Self::NotHttp
        } else if was_served && is_departure(error) {
            Self::CallerLeft
        } else if error.is_incomplete_message() {
            Self::CutShort
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::ConnectionError
        }
    }

    /// Whether the peer was turned away. A connection that was idle was not, nor was a peer
    /// that left by itself: that is counted alone, and does not stand in the trail.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::IdleTimeout | Self::CallerLeft)
    }
}

/// Whether the peer is gone: it ended the connection, or the system says so.
fn is_departure(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.source().is_some_and(|cause| cause.is::<io::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_counted_at_its_own_index() {
        for (index, end) in ConnectionEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index, "{}", end.as_str());
        }
    }
}
