//! A validated config: immutable, without serde and without I/O.
//!
//! Every value stands here with its unit resolved and its bounds checked.

mod audit;
mod limits_store;
mod listen;
mod otlp;
mod tenant;
mod upstream;

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, thread, time::Duration};

pub use self::{
    audit::{Audit, Checkpoint, Durability, Ship},
    limits_store::LimitsStore,
    listen::{Listen, ListenAddress, ListenTls},
    otlp::Otlp,
    tenant::{FreezeAfter, Mode, Tenant, TokenEntry, TokenState, Users},
    upstream::{CircuitBreaker, InlineSecret, Key, SecretSource, Trust, Upstream, UpstreamUrl},
};
pub use crate::gcra::Window;
use crate::logging;

/// Everything that one config file says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data listeners, at least one.
    pub listen: Vec<Listen>,
    /// The admin listener.
    pub admin: Admin,
    /// Alloy, and how it is spoken to.
    pub upstream: Upstream,
    /// The Alloy keys; [`Tenant::key`] points into this list.
    pub keys: Vec<Key>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The trail.
    pub audit: Audit,
    /// Where a fleet shares its limits; `None` if each gateway has its own.
    pub limits_store: Option<LimitsStore>,
    /// Logs on stderr.
    pub log: logging::Settings,
    /// Where spans go; `None` if nowhere.
    pub otlp: Option<Otlp>,
    /// How many workers serve; `None` means one per CPU the process may use.
    pub workers: Option<NonZeroUsize>,
    /// How many tenants have series of their own in the metrics.
    pub metrics_tenants: u32,
    /// What callers may take of us.
    pub bounds: Bounds,
}

impl Settings {
    /// All but the tenants, whose number has no bound.
    pub fn without_tenants(&self) -> Self {
        Self {
            listen: self.listen.clone(),
            admin: self.admin.clone(),
            upstream: self.upstream.clone(),
            keys: self.keys.clone(),
            tenants: Vec::new(),
            audit: self.audit.clone(),
            limits_store: self.limits_store.clone(),
            log: self.log.clone(),
            otlp: self.otlp.clone(),
            workers: self.workers,
            metrics_tenants: self.metrics_tenants,
            bounds: self.bounds.clone(),
        }
    }

    /// How many workers serve on this machine.
    pub fn worker_count(&self) -> usize {
        let workers = self.workers;
        let workers = workers.or_else(|| thread::available_parallelism().ok());
        workers.map_or(1, NonZeroUsize::get)
    }
}

/// The admin listener, never the data port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where the read-only endpoints listen; `None` when switched off.
    pub address: Option<SocketAddr>,
    /// Names in `Host` that are let in besides IP addresses and localhost, in lower case.
    pub hosts: Vec<String>,
    /// The Unix socket (mode 0600) for what a neighbour in the pod must not see or do.
    pub socket: Option<PathBuf>,
    /// The token that allows the same over TCP.
    pub token: Option<TokenEntry>,
}

/// What callers may take of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections, over all listeners and workers.
    pub connections: u32,
    /// Open connections of one peer address.
    pub connections_per_peer: u32,
    /// Requests being worked on, over all workers.
    pub requests_in_flight: u32,
    /// Failed authentications of one peer address; looked at only after a token failed.
    pub failed_auth: Window,
    /// By when a request head must be in.
    pub header_timeout: Duration,
    /// By when a request body must be in.
    pub body_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long new calls are refused before the listeners close.
    pub drain_delay: Duration,
    /// How long stopping may take, from then on.
    pub drain_timeout: Duration,
    /// How many header fields a request may have.
    pub headers: u32,
    /// How many bytes a request head may have.
    pub header_bytes: u32,
    /// How many decoded bytes a request body may have.
    pub body_bytes: u32,
}

/// Settings for tests, with the defaults of the config.
#[cfg(test)]
pub(crate) mod testing {
    use std::num::NonZeroU32;

    use super::*;
    use crate::ids::IdGrammar;

    /// `requests` per `per`, and as many at once.
    pub(crate) fn window(requests: u32, per: Duration) -> Window {
        let requests = NonZeroU32::new(requests).unwrap();
        Window {
            requests,
            per,
            burst: requests,
        }
    }

    /// The upstream of a config that says nothing of it.
    pub(crate) fn upstream() -> Upstream {
        Upstream {
            url: UpstreamUrl {
                tls: true,
                host: "production.runalloy.com".to_owned(),
                port: 443,
            },
            api_version: "2025-09".to_owned(),
            auth_scheme: "bearer".to_owned(),
            ids: IdGrammar::Opaque,
            trust: Trust::Bundled,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(30),
            retries: 2,
            circuit_breaker: None,
            idle_timeout: Duration::from_secs(30),
            connection_max_age: Duration::from_secs(300),
            idle_connections: 64,
        }
    }

    /// The bounds of a config that says nothing of them.
    pub(crate) fn bounds() -> Bounds {
        Bounds {
            connections: 4096,
            connections_per_peer: 4096,
            requests_in_flight: 1024,
            failed_auth: window(20, Duration::from_secs(10)),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(35),
            headers: 64,
            header_bytes: 16 << 10,
            body_bytes: 64 << 10,
        }
    }
}
