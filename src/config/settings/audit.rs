//! The trail, and where it is collected.

use std::{path::PathBuf, time::Duration};

use super::{SecretSource, Trust};
use crate::closed_list::closed_list;

/// The trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where its segments are.
    pub directory: PathBuf,
    /// Whether records are synced before anything follows from them.
    pub durability: Durability,
    /// How long a call waits for its intent to be durable before it is refused.
    pub intent_wait: Duration,
    /// How long an answer waits for its outcome to be durable.
    pub outcome_wait: Duration,
    /// A segment that has so many bytes is sealed, and the next one begun.
    pub segment_size: u64,
    /// A segment that is so old is sealed, and the next one begun.
    pub segment_age: Duration,
    /// Sealed segments whose records are all older are removed; `None` keeps them.
    pub retention: Option<Duration>,
    /// How often the head is stated.
    pub checkpoint: Checkpoint,
    /// The key that makes the hash an HMAC.
    pub mac_key: Option<SecretSource>,
    /// Where it is collected; `None` if it stays here.
    pub ship: Option<Ship>,
}

/// Where the trails of many gateways are collected: a database that speaks
/// PostgreSQL's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ship {
    /// What people call this gateway; `None` for the name of its host.
    pub gateway: Option<String>,
    /// Where the database's URL is read from, for each connection anew.
    pub url: SecretSource,
    /// Which roots vouch for the database's certificate.
    pub trust: Trust,
    /// Whether a host that is not loopback may be spoken to in plaintext.
    pub allow_plaintext: bool,
}

/// How often the trail states its head, to be noted outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// After so many records.
    pub records: u32,
    /// After so long, if there was any record.
    pub every: Duration,
}

closed_list! {
    /// Whether records are synced before anything follows from them, as config, trail
    /// and status name it.
    pub enum Durability {
        /// Synced before sending and before answering.
        Strict => "strict",
        /// Written, not synced: survives the process, not the machine.
        Relaxed => "relaxed",
    }
}
