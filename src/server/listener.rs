//! Listeners: one TCP socket per worker on each address, or one Unix socket for all.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::{
    inherited::Inherited,
    listening::{Backlog, Listening, ListeningSocket},
};
use crate::{
    config::settings::{Listen, ListenAddress},
    snapshot::group_id,
};

/// How many connections may wait to be accepted; the system may cap it lower.
const BACKLOG: i32 = 1024;

/// What the system may hold of answers that a caller does not read, and of requests
/// that we did not read yet, in bytes a connection (Linux takes twice as much, for its
/// own needs). Left alone it grows to several MiB each (`tcp_wmem`, `tcp_rmem`), which
/// counts against the memory of a container, and lets a caller who never reads have
/// thousands of answers made.
pub const SEND_BUFFER_BYTES: usize = 128 << 10;
const RECEIVE_BUFFER_BYTES: usize = 128 << 10;

/// An address with a listening socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens: the port is known even if the config said 0.
    pub address: ListenAddress,
    /// One socket per worker.
    pub sockets: Vec<Listening>,
}

/// Binds the address of `listen` for each of `workers`, or takes the socket that
/// systemd bound.
///
/// # Errors
///
/// If it is in use, by a program that shares ports too, or not allowed.
pub fn bind(listen: &Listen, workers: usize, inherited: &mut Inherited) -> io::Result<Bound> {
    match &listen.address {
        ListenAddress::Tcp(address) => {
            let (address, sockets) = bind_tcp(*address, workers)?;
            Ok(Bound {
                address: ListenAddress::Tcp(address),
                sockets: sockets
                    .into_iter()
                    .map(|socket| ours(ListeningSocket::Tcp(socket)))
                    .collect(),
            })
        }
        ListenAddress::Unix { path, mode, group } => {
            let socket = bind_unix(path, *mode, group.as_deref())?;
            let sockets =
                (0..workers).map(|_| Ok(ours(ListeningSocket::Unix(socket.try_clone()?))));
            Ok(Bound {
                address: listen.address.clone(),
                sockets: sockets.collect::<io::Result<_>>()?,
            })
        }
        ListenAddress::Systemd {
            name,
            allow_plaintext,
        } => {
            let handed = inherited.take(name)?;
            handed.is_private_enough(listen.tls.is_some() || *allow_plaintext)?;
            if let ListeningSocket::Tcp(socket) = &handed.socket {
                bound_buffers(SockRef::from(socket))?;
            }
            let sockets = (0..workers).map(|_| handed.try_clone());
            Ok(Bound {
                address: listen.address.clone(),
                sockets: sockets.collect::<io::Result<_>>()?,
            })
        }
    }
}

/// Tries whether [`bind`] could do so once `to_be_made`, a directory, is there; changes nothing.
///
/// # Errors
///
/// As of binding, as far as that can be seen before.
pub fn try_bind(listen: &Listen, inherited: &Inherited, to_be_made: &Path) -> io::Result<()> {
    match &listen.address {
        ListenAddress::Tcp(address) => try_tcp(*address),
        ListenAddress::Unix { path, .. } => try_unix(path, to_be_made),
        ListenAddress::Systemd {
            name,
            allow_plaintext,
        } => {
            let (_, handed) = inherited.find(name)?;
            handed.is_private_enough(listen.tls.is_some() || *allow_plaintext)
        }
    }
}

/// Tries whether a TCP address is free, also of programs that share ports. Nobody can connect
/// meanwhile: nothing listens.
///
/// # Errors
///
/// If it is taken, or is none of this machine.
pub fn try_tcp(address: SocketAddr) -> io::Result<()> {
    socket(address, false).map(drop)
}

/// Tries whether a Unix socket can stand there once `to_be_made`, a directory, is there.
///
/// # Errors
///
/// If another process answers there, something else is in the way, or its directory is
/// missing or not ours to write.
pub fn try_unix(path: &Path, to_be_made: &Path) -> io::Result<()> {
    was_left(path)?;
    match path.parent() {
        Some(here) if here.as_os_str().is_empty() => try_directory(Path::new(".")),
        // It is made with those around it.
        Some(directory) if to_be_made.starts_with(directory) && !directory.exists() => Ok(()),
        Some(directory) => try_directory(directory),
        None => Ok(()),
    }
}

/// Tries whether files can be made in a directory, and makes none.
fn try_directory(directory: &Path) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    match accessat(CWD, directory, access, AtFlags::EACCESS) {
        Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::ROFS)) => {
            Err(error.into())
        }
        // Whoever can't ask (an older kernel, a sandbox) finds out when it binds.
        _ => Ok(()),
    }
}

/// Whether a dead process left a socket there.
///
/// # Errors
///
/// If something else is in the way.
fn was_left(path: &Path) -> io::Result<bool> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(false);
    };
    let in_use = |what| Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    if !found.file_type().is_socket() {
        return in_use("a file that is no socket is in the way");
    }
    if UnixStream::connect(path).is_ok() {
        return in_use("another process answers there");
    }
    Ok(true)
}

fn ours(socket: ListeningSocket) -> Listening {
    Listening {
        socket,
        backlog: Backlog::Ours,
    }
}

impl Listening {
    fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            ListeningSocket::Tcp(socket) => ListeningSocket::Tcp(socket.try_clone()?),
            ListeningSocket::Unix(socket) => ListeningSocket::Unix(socket.try_clone()?),
        };
        let backlog = self.backlog;
        Ok(Self { socket, backlog })
    }

    /// The rule of `listen.address`, for an address that the config does not know.
    fn is_private_enough(&self, may_be_open: bool) -> io::Result<()> {
        let ListeningSocket::Tcp(socket) = &self.socket else {
            return Ok(());
        };
        let address = socket.local_addr()?;
        if address.ip().is_loopback() || may_be_open {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "callers elsewhere would send their tokens readable to {address}: put tls: or allow_plaintext: true beside it"
            ),
        ))
    }
}

/// Binds a Unix socket with these permissions: nobody can connect before they hold. A
/// socket that a dead process left is replaced; one that answers is not, nor is any
/// other kind of file.
///
/// # Errors
///
/// If the path is taken or not writable, or there is no such group.
pub fn bind_unix(path: &Path, mode: u32, group: Option<&str>) -> io::Result<UnixListener> {
    if was_left(path)? {
        fs::remove_file(path)?;
    }
    let group = group.map(group_id).transpose();
    let group = group.map_err(|why| io::Error::new(io::ErrorKind::NotFound, why))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    // Last: until then the umask decides who may connect, and all of them are refused.
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // SO_REUSEPORT would let us join a port that another program of the same
    // user holds, and get half of its callers: so first bind without it.
    let alone = socket(address, false)?;
    let address = alone.local_addr()?.as_socket().unwrap_or(address);
    drop(alone);
    let sockets = (0..workers)
        .map(|_| {
            let socket = socket(address, true)?;
            bound_buffers(SockRef::from(&socket))?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()?;
    Ok((address, sockets))
}

/// Binds a TCP address for operators, with the same bounds on what the system holds for
/// each connection.
///
/// # Errors
///
/// If the address is taken, or is none of this machine.
pub fn bind_admin(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, false)?;
    bound_buffers(SockRef::from(&socket))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds what the system holds for each connection of a listener (`tcp(7)`:
/// connections inherit it).
fn bound_buffers(listener: SockRef<'_>) -> io::Result<()> {
    listener.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    listener.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the last run's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

    #[test]
    fn every_worker_gets_a_socket_on_one_port() {
        let (address, sockets) = bind_tcp(ANY.into(), 3).unwrap();
        assert_eq!(sockets.len(), 3);
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn a_port_that_someone_else_shares_is_in_use() {
        let (address, _sockets) = bind_tcp(ANY.into(), 2).unwrap();
        let error = bind_tcp(address, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_replaces_only_a_dead_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = bind_unix(&path, 0o620, None).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        let error = bind_unix(&path, 0o620, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let _second = bind_unix(&path, 0o600, Some("root")).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(bind_unix(&directory.path().join("file"), 0o600, None).is_err());
        let trying = |name: &str| {
            let to_be_made = directory.path().join("a/trail");
            try_unix(&directory.path().join(name), &to_be_made)
        };
        for free in ["x", "a/x", "a/trail/x"] {
            assert!(trying(free).is_ok(), "{free}");
        }
        for not_free in ["file/x", "missing/x", "a/trail/more/x"] {
            assert!(trying(not_free).is_err(), "{not_free}");
        }
        assert!(bind_unix(&directory.path().join("x"), 0o600, Some("no-such-group")).is_err());
    }

    #[test]
    fn nobody_can_connect_to_a_unix_socket_before_its_mode_holds() {
        const ROUNDS: usize = 1000;
        let directory = tempfile::tempdir().unwrap();
        let path = |round: usize| directory.path().join(round.to_string());
        let now = AtomicUsize::new(0);
        // Else a round that fails would leave the other thread looking for ever.
        struct Ends<'a>(&'a AtomicUsize);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(ROUNDS, Ordering::Release);
            }
        }
        thread::scope(|scope| {
            let early = scope.spawn(|| {
                let mut early = 0;
                loop {
                    let round = now.load(Ordering::Acquire);
                    if round == ROUNDS {
                        return early;
                    }
                    // A mode that is not right yet after we were let in was not right then.
                    if UnixStream::connect(path(round)).is_ok() {
                        let mode = fs::metadata(path(round)).unwrap().permissions().mode();
                        early += usize::from(mode & 0o777 != 0o600);
                    }
                }
            });
            let ends = Ends(&now);
            for round in 0..ROUNDS {
                drop(bind_unix(&path(round), 0o600, None).unwrap());
                now.store(round + 1, Ordering::Release);
            }
            drop(ends);
            assert_eq!(early.join().unwrap(), 0);
        });
    }
}
