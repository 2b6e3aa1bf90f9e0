//! A socket that listens, whoever bound it.

use std::{net::TcpListener, os::unix::net::UnixListener};

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: ListeningSocket,
    /// Whose are the connections that wait on it at the end.
    pub backlog: Backlog,
}

/// The two kinds of it.
#[derive(Debug)]
pub enum ListeningSocket {
    /// Shares its port with those of other workers.
    Tcp(TcpListener),
    /// Is the same for all workers.
    Unix(UnixListener),
}

impl ListeningSocket {
    /// Where it listens, for people; empty if the system does not say.
    pub fn place(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(|address| address.to_string()),
            Self::Unix(socket) => socket.local_addr().map(|address| {
                let path = address.as_pathname();
                path.map_or_else(String::new, |path| path.display().to_string())
            }),
        }
        .unwrap_or_default()
    }
}

/// Whose are the connections that wait to be accepted when the gateway stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Ours: nobody else will answer them.
    Ours,
    /// Those of the next process that gets the socket from systemd.
    OfTheNext,
}
