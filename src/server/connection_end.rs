//! Why connections end without an answer, in words that metrics and trail share.

/// Why a connection ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// Its peer has as many as it may.
    PerPeer,
    /// The TLS handshake failed.
    TlsHandshake,
    /// Nothing was to be done for too long.
    IdleTimeout,
    /// A head, or the handshake before it, took too long.
    HeaderTimeout,
    /// The peer left while it was not yet clear which protocol it speaks.
    CutHead,
    /// More head than hyper takes; what is above our own bounds alone is answered.
    HeadTooLarge,
    /// hyper can't parse it.
    NotHttp,
    /// The peer left within a message.
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
    pub const ALL: [Self; 12] = [
        Self::PerPeer,
        Self::TlsHandshake,
        Self::IdleTimeout,
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

    /// What hyper says of it.
    pub fn of(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::HeadTooLarge
        } else if error.is_parse() {
            Self::NotHttp
        } else if error.is_incomplete_message() {
            Self::CutShort
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::ConnectionError
        }
    }

    /// Whether the peer was turned away. A connection that was idle was not: it is counted
    /// alone, and does not stand in the trail.
    pub fn is_refusal(self) -> bool {
        self != Self::IdleTimeout
    }
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
