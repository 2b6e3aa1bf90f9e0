//! What can be wrong with the store, and what it counts.

use std::fmt;

use crate::closed_list::closed_list;

closed_list! {
    /// Why the store did not decide, for metrics.
    pub enum Trouble {
        /// It can't be reached: name, network or TLS.
        Connect => "connect",
        /// It does not let this gateway in.
        Auth => "auth",
        /// No answer within `limits_store.timeout`.
        Timeout => "timeout",
        /// The connection broke.
        Closed => "closed",
        /// It answered with an error, or with something that is no answer.
        Error => "error",
        /// Another node of the cluster has the key now; the map is being read anew.
        Moved => "moved",
        /// As many calls wait for it as may.
        Busy => "busy",
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "it cannot be reached",
            Self::Auth => "it does not let this gateway in",
            Self::Timeout => "it does not answer in time",
            Self::Closed => "the connection broke",
            Self::Error => "it answers with an error",
            Self::Moved => "another node of the cluster has the key now",
            Self::Busy => "too many calls wait for it",
        })
    }
}

closed_list! {
    /// What the store counts over a fleet, for metrics.
    pub enum Counted {
        /// The gateways that live.
        Gateways => "gateways",
        /// The credentials that they delete.
        Deletions => "deletions",
    }
}

/// Why something does not work, and what is for people who may see the config.
pub type Why = (Trouble, String);
