//! Why connections end without an answer, in words that metrics and trail share.

use std::{error::Error, io};

use crate::closed_list::closed_list;

closed_list! {
    /// Why a connection ended without an answer.
    pub enum ConnectionEnd {
        /// Its peer has as many as it may.
        PerPeer => "connections-per-peer",
        /// The TLS handshake failed.
        TlsHandshake => "tls-handshake",
        /// Nothing was to be done for too long.
        IdleTimeout => "idle-timeout",
        /// The peer left while a request of it was worked on, or later. What came of that stands
        /// in records of its own, if it got as far as an intent.
        CallerLeft => "caller-left",
        /// A head, or the handshake before it, took too long.
        HeaderTimeout => "header-timeout",
        /// The peer left while it was not yet clear which protocol it speaks.
        CutHead => "cut-head",
        /// More head than hyper takes; what is above our own bounds alone is answered.
        HeadTooLarge => "head-too-large",
        /// hyper can't parse it.
        NotHttp => "not-http",
        /// The peer left within a head.
        CutShort => "cut-short",
        /// The peer floods us with frames, or empty lines, that cost it nothing.
        Flood => "flood",
        /// A time-out of hyper's.
        Timeout => "timeout",
        /// Whatever else hyper calls an error.
        ConnectionError => "connection-error",
        /// No connection ends so, but its series belongs to the metrics that are promised.
        Other => "other",
    }
}

impl ConnectionEnd {
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

/// Whether the peer is gone: it ended the connection, or the system says so. What TLS makes
/// of bytes that are none is an error of input and output, too, and no departure.
fn is_departure(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    error.is_incomplete_message()
        || cause.is_some_and(|cause: &io::Error| {
            matches!(
                cause.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::UnexpectedEof
            )
        })
}
