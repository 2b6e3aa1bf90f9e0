//! Sockets that systemd opened and hands over (`sd_listen_fds(3)`).

use std::{env, io, net::TcpListener, os::unix::net::UnixListener};

use listenfd::ListenFd;

use super::listening::{Backlog, Listening, ListeningSocket};

/// What was handed over to this process, by name.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, Listening)>);

impl Inherited {
    /// Takes what the environment names, and takes it out of the environment.
    /// Call it before there is a second thread.
    ///
    /// # Errors
    ///
    /// If something was handed over that is no listening stream socket.
    pub fn from_env() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for at in 0..handed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let Some(socket) = take(&mut handed, at)? else {
                continue;
            };
            let listening = Listening {
                socket,
                backlog: Backlog::OfTheNext,
            };
            sockets.push((name, listening));
        }
        Ok(Self(sockets))
    }

    /// The socket with this name.
    ///
    /// # Errors
    ///
    /// If there is none, or more than one.
    pub fn take(&mut self, name: &str) -> io::Result<Listening> {
        let (at, _) = self.find(name)?;
        Ok(self.0.swap_remove(at).1)
    }

    /// The one with this name and its place, or why it can't be [taken](Self::take).
    pub(super) fn find(&self, name: &str) -> io::Result<(usize, &Listening)> {
        let not_found = |message| Err(io::Error::new(io::ErrorKind::NotFound, message));
        let mut places = self.0.iter().enumerate();
        let mut places = places.by_ref().filter(|(_, (known, _))| known == name);
        let found = places.next().map(|(at, (_, listening))| (at, listening));
        let is_one = places.next().is_none();
        let Some(found) = found else {
            let known: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
            return not_found(match known.as_slice() {
                [] => "systemd handed over no socket: start it through its .socket unit".to_owned(),
                known => format!(
                    "systemd handed over no socket of that name, only {}",
                    known.join(", ")
                ),
            });
        };
        if !is_one {
            return not_found(
                "systemd handed over several sockets of that name: give each a .socket unit, or a FileDescriptorName=, of its own".to_owned(),
            );
        }
        Ok(found)
    }

    /// What nobody took, by name.
    pub fn left(self) -> impl Iterator<Item = (String, ListeningSocket)> {
        let left = self.0.into_iter();
        left.map(|(name, listening)| (name, listening.socket))
    }
}

fn take(handed: &mut ListenFd, at: usize) -> io::Result<Option<ListeningSocket>> {
    let unix: io::Result<Option<UnixListener>> = handed.take_unix_listener(at);
    if let Ok(socket) = unix {
        let Some(socket) = socket else {
            return Ok(None);
        };
        socket.set_nonblocking(true)?;
        return Ok(Some(ListeningSocket::Unix(socket)));
    }
    let tcp: Option<TcpListener> = handed.take_tcp_listener(at)?;
    let Some(socket) = tcp else {
        return Ok(None);
    };
    socket.set_nonblocking(true)?;
    Ok(Some(ListeningSocket::Tcp(socket)))
}
