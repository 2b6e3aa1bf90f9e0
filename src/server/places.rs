//! The places for connections: so many in all, so many for one peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Peer;
use crate::config::settings::Bounds;

/// Counts connections over all workers and listeners.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    max: u32,
    per_peer: Mutex<HashMap<IpAddr, u32>>,
    per_peer_max: u32,
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    peer: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// All places free.
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            all: Arc::new(Semaphore::new(
                usize::try_from(bounds.connections).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            max: bounds.connections,
            per_peer: Mutex::default(),
            per_peer_max: bounds.connections_per_peer,
        }
    }

    /// Takes a place for an accepted connection; waits while all are taken.
    /// `None` if the peer has as many as it may.
    pub async fn take(self: &Arc<Self>, peer: &Peer) -> Option<Place> {
        let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
        let peer = peer.ip();
        if let Some(ip) = peer {
            let mut counts = self.per_peer.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(ip).or_insert(0);
            if *count >= self.per_peer_max {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            places: Arc::clone(self),
            peer,
            _permit: permit,
        })
    }

    /// How many places are taken.
    pub fn taken(&self) -> u32 {
        let free = u32::try_from(self.all.available_permits()).unwrap_or(u32::MAX);
        self.max.saturating_sub(free)
    }

    /// Whether a new connection would have to wait.
    pub fn is_full(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// Resolves when every connection has ended; none can begin afterwards.
    pub async fn all_free(&self) {
        // An error means that this was called before: then they are free.
        if let Ok(permits) = self.all.acquire_many(self.max).await {
            permits.forget();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(ip) = self.peer else { return };
        let mut counts = self
            .places
            .per_peer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&ip);
            }
        }
    }
}
