//! What another place has of the trail, as far as the trail itself cares: the id
//! under which it is collected, and what retention may therefore remove.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use uuid::Uuid;

use crate::ids::random;

/// What the database of `audit.ship` has of this trail. The shipper tells it, the
/// trail's writer asks before it removes a segment.
#[derive(Debug, Default)]
pub struct Collected {
    chain: OnceLock<Uuid>,
    until: AtomicU64,
    held: AtomicU64,
}

impl Collected {
    /// The id of the trail's chain. It stands in the first record of each segment, so
    /// that it goes wherever the trail goes, and needs no name of a machine.
    pub fn chain(&self) -> Option<Uuid> {
        self.chain.get().copied()
    }

    /// The writer found it in the trail, or gave one.
    pub(super) fn set_chain(&self, chain: Uuid) {
        // It is opened once.
        let _ = self.chain.set(chain);
    }

    /// The records up to this number are there.
    pub fn set_until(&self, seq: u64) {
        self.until.store(seq, Ordering::Release);
    }

    /// The number of the last record that is known to be there; 0 until the database
    /// was asked.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// So many segments are old enough to be removed, and are not there yet.
    pub(super) fn hold(&self, segments: usize) {
        self.held.store(segments as u64, Ordering::Relaxed);
    }

    /// How many segments stay only since they are not there yet.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// A new id, of 122 random bits.
pub fn new_chain() -> Uuid {
    uuid::Builder::from_random_bytes(random()).into_uuid()
}
