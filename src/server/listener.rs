//! TCP listeners: one socket per worker on each address.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted; the system may cap it lower.
const BACKLOG: i32 = 1024;

/// An address with a listening socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens: the port is known even if the config said 0.
    pub address: SocketAddr,
    /// One socket per worker, sharing the port.
    pub sockets: Vec<TcpListener>,
}

/// Binds `address` once for each of `workers`.
///
/// # Errors
///
/// If the port is in use, by a program that shares ports too, or not allowed.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    // SO_REUSEPORT would let us join a port that another program of the same
    // user holds, and get half of its callers: so first bind without it.
    let alone = socket(address, false)?;
    let address = alone.local_addr()?.as_socket().unwrap_or(address);
    drop(alone);
    let sockets = (0..workers)
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()?;
    Ok(Bound { address, sockets })
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
    use super::*;

    #[test]
    fn every_worker_gets_a_socket_on_one_port() {
        let bound = bind(([127, 0, 0, 1], 0).into(), 3).unwrap();
        assert_eq!(bound.sockets.len(), 3);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().unwrap(), bound.address);
        }
    }

    #[test]
    fn a_port_that_someone_else_shares_is_in_use() {
        let first = bind(([127, 0, 0, 1], 0).into(), 2).unwrap();
        let error = bind(first.address, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
