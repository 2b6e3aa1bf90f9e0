//! Where operators are listened to.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};

use crate::{
    admin::{self, Admin},
    config::settings,
    server::{bind_admin, try_tcp, try_unix, why_not_bound},
};

/// Where operators are listened to.
pub struct AdminListeners {
    tcp: Option<(SocketAddr, TcpListener)>,
    socket: Option<(PathBuf, UnixListener)>,
}

impl AdminListeners {
    /// Tries whether they could be bound once `to_be_made`, a directory, is there.
    pub fn try_bind(settings: &settings::Admin, to_be_made: &Path) -> anyhow::Result<()> {
        if let Some(address) = settings.address {
            try_tcp(address).map_err(|error| no_address(address, &error))?;
        }
        if let Some(path) = &settings.socket {
            try_unix(path, to_be_made).with_context(|| no_socket(path))?;
        }
        Ok(())
    }

    /// Binds them.
    pub fn bind(settings: &settings::Admin) -> anyhow::Result<Self> {
        let tcp = settings.address.map(|address| {
            let listen = || {
                let listener = TcpListener::from_std(bind_admin(address)?)?;
                Ok((listener.local_addr()?, listener))
            };
            listen().map_err(|error| no_address(address, &error))
        });
        let socket = settings.socket.as_ref().map(|path| {
            let listener = admin::bind_socket(path).with_context(|| no_socket(path))?;
            anyhow::Ok((path.clone(), listener))
        });
        Ok(Self {
            tcp: tcp.transpose()?,
            socket: socket.transpose()?,
        })
    }

    /// Takes requests from now on.
    pub fn serve(self, admin: &Arc<Admin>) {
        if let Some((address, listener)) = self.tcp {
            tracing::info!(listener = "admin", %address, "listening");
            tokio::spawn(Arc::clone(admin).serve_tcp(listener));
        }
        if let Some((path, listener)) = self.socket {
            tracing::info!(listener = "admin", path = %path.display(), "listening");
            tokio::spawn(Arc::clone(admin).serve_socket(listener));
        }
    }
}

fn no_address(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let hint = why_not_bound(error);
    anyhow::anyhow!("cannot listen on {address} (admin.address): {error}{hint}")
}

fn no_socket(path: &Path) -> String {
    format!("cannot listen on {} (admin.socket)", path.display())
}
