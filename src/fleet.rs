//! What many sidecars have in common through a store: limits that they share, freezes
//! of a tenant that all of them heed, and deletions that are counted over all of them.
//!
//! Each worker has its own way to the store ([`Client`]): calls are asked over one
//! connection, in one round trip each, and never wait for one to be opened. Why not
//! a library: a call would then go through a queue and a timer of its own, a
//! cluster's retries would outlast the time that a call has, and TLS would be set
//! up in a second place. What is needed of the protocol is one file ([`resp`]).
//!
//! # The way of a call
//!
//! - To the store: `nodes` knows whom to ask, in a cluster by `slots`, and `script` writes
//!   the windows of the call's limits and reads what was decided. `link` is the connection
//!   over which all calls of a worker are asked; `link_health` says whether it is good and
//!   when it is tried again, `connect` opens it, to the place that `address` reads of a URL.
//! - Without it: no call waits for a store that does not answer. the limits
//!   go by the fair share of this gateway ([`gcra::share`](crate::gcra::share)) then, by the
//!   same rule as the store's. By how many that is divided is known of `live`: each gateway says there
//!   now and then that it lives.
//! - What is told of it: `board` has what logs, metrics and `/status` say of the store, in the words
//!   of `trouble`.
//!
//! # The way of a freeze
//!
//! No call waits here, so it goes over a connection of its own ([`Role::Beside`]), the one
//! of `live`.
//!
//! - A freeze, or its end, is an entry of a `table` that every gateway reads some times a
//!   second. What an entry says, and whose freeze stands, is the business of who
//!   reads it.
//! - A deletion is counted by `distinct`, under the store's clock: so many different
//!   credentials were deleted within the span of a budget. The gateway that finds it spent
//!   freezes the tenant, and the others read that of the table.
//! - Whether the last looks went well stands on the `board`, too.

// The store, and the connections to it.
mod address;
mod connect;
mod link;
pub mod link_health;
pub mod resp;

// The way of a call: whom to ask, and what.
mod nodes;
mod script;
mod slots;

// The way of a freeze, and what else no call waits for.
pub mod distinct;
mod live;
mod table;

// What is told of it.
mod board;
mod trouble;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

pub use self::{
    address::{Address, Login, Url},
    board::Board,
    connect::Role,
    live::Life,
    nodes::Client,
    script::{Answer, Ask, Window},
    table::Table,
    trouble::{Counted, Trouble, Why},
};
use crate::{config::is_loopback, tls::ClientTls};

/// How long an answer may take that no call waits for.
const BESIDE_PATIENCE: Duration = Duration::from_secs(1);

/// How the store is reached.
#[derive(Debug)]
pub struct Way {
    /// What the URL says.
    pub url: Url,
    /// How TLS is spoken; `None` for plaintext.
    pub tls: Option<ClientTls>,
    /// Whether plaintext may leave this host.
    pub allow_plaintext: bool,
    /// Whether it is a cluster.
    pub is_cluster: bool,
    /// How long a call waits for it.
    pub timeout: Duration,
    /// What stands before the name of everything in it.
    pub prefix: String,
}

impl Way {
    /// Whether nothing readable leaves this host on the way to one: a cluster names
    /// hosts that the config does not.
    fn may_lead_to(&self, host: &str) -> bool {
        self.tls.is_some() || self.allow_plaintext || is_loopback(host)
    }
}

/// The store, as the whole process sees it.
#[derive(Debug)]
pub struct Store {
    way: Way,
    board: Board,
    replicas: AtomicU32,
    /// This gateway's name among those that live; another with each start.
    id: String,
}

impl Store {
    /// A store that nothing is connected to yet.
    pub fn new(way: Way, replicas: u32) -> Arc<Self> {
        Arc::new(Self {
            way,
            board: Board::default(),
            replicas: AtomicU32::new(replicas),
            id: uuid::Uuid::now_v7().to_string(),
        })
    }

    /// Whether both are reached by the same URL, as the same user.
    pub fn has_url_of(&self, other: &Self) -> bool {
        self.way.url == other.way.url
    }

    /// Whether both trust the authorities of the same file, as far as it holds the same,
    /// or neither those of a file.
    pub fn has_authorities_of(&self, other: &Self) -> bool {
        match (&self.way.tls, &other.way.tls) {
            (Some(one), Some(other)) => one.has_authorities_of(other),
            _ => true,
        }
    }

    /// How it stands.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// What stands before the name of everything in it.
    pub fn prefix(&self) -> &str {
        &self.way.prefix
    }

    /// How many gateways the config says there are.
    pub fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// The config says something else now.
    pub fn set_replicas(&self, replicas: u32) {
        self.replicas.store(replicas, Ordering::Relaxed);
    }

    /// By how many a limit is divided while the store does not decide: more gateways
    /// than the config says take no more than all of them may.
    pub fn divisor(&self) -> u32 {
        self.replicas().max(self.board.lived()).max(1)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The way to a store that nobody can connect to, within a runtime.
    pub(crate) fn gone(replicas: u32) -> Client {
        let way = Way {
            // tcpmux: nobody listens there.
            url: Url::parse("redis://127.0.0.1:1").unwrap(),
            tls: None,
            allow_plaintext: false,
            is_cluster: false,
            timeout: Duration::from_millis(50),
            prefix: "gone".to_owned(),
        };
        Client::start(&Store::new(way, replicas), Role::Calls)
    }
}
