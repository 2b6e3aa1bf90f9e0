//! The slots for connections: so many in all, so many for one peer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    arrival::{Origin, Peer},
    config::settings::Bounds,
};

/// Counts connections over all workers and listeners.
#[derive(Debug)]
pub struct Slots {
    all: Arc<Semaphore>,
    max: u32,
    per_peer: Mutex<HashMap<Origin, u32>>,
    per_peer_max: u32,
}

/// The slot of one connection; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    origin: Origin,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// All slots free.
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

    /// Takes a slot for an accepted connection; waits while all are taken.
    /// `None` if the peer has as many as it may.
    pub async fn take(self: &Arc<Self>, peer: &Peer) -> Option<Slot> {
        // No error: the semaphore is never closed.
        let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
        let origin = peer.origin();
        let mut counts = self.per_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(origin).or_insert(0);
        if *count >= self.per_peer_max {
            return None;
        }
        *count += 1;
        Some(Slot {
            slots: Arc::clone(self),
            origin,
            _permit: permit,
        })
    }

    /// How many slots are taken.
    pub fn taken(&self) -> u32 {
        let free = u32::try_from(self.all.available_permits()).unwrap_or(u32::MAX);
        self.max.saturating_sub(free)
    }

    /// Whether a new connection would have to wait.
    pub fn is_full(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// Resolves when every connection has ended. Call it at the end, and once: it keeps all
    /// slots, so that whoever asks for one afterwards waits for ever.
    pub async fn all_free(&self) {
        // No error: the semaphore is never closed.
        if let Ok(permits) = self.all.acquire_many(self.max).await {
            permits.forget();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self
            .slots
            .per_peer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::testing;

    #[tokio::test]
    async fn each_network_and_each_user_has_slots_of_its_own() {
        let bounds = Bounds {
            connections: 8,
            connections_per_peer: 1,
            ..testing::bounds()
        };
        let slots = Arc::new(Slots::new(&bounds));
        let tcp = |address: &str| Peer::Tcp(address.parse().unwrap());
        let held = slots.take(&tcp("192.0.2.1:1000")).await;
        assert!(held.is_some());
        let others = [
            (tcp("192.0.2.1:1001"), false),
            (tcp("[::ffff:192.0.2.1]:1002"), false),
            (tcp("192.0.2.2:1000"), true),
            (tcp("[2001:db8::1]:1000"), true),
            (tcp("[2001:db8::ffff:0:0:1]:1001"), false),
            (tcp("[2001:db8:0:1::1]:1000"), true),
            (Peer::Unix { uid: 1000 }, true),
            (Peer::Unix { uid: 1001 }, true),
            (Peer::Unix { uid: 1000 }, false),
        ];
        let mut all = Vec::new();
        for (peer, has_one) in others {
            let slot = slots.take(&peer).await;
            assert_eq!(slot.is_some(), has_one, "{peer}");
            all.extend(slot);
        }
        assert_eq!(slots.taken(), 6);
        drop((held, all));
        assert_eq!(slots.taken(), 0);
        assert!(slots.take(&Peer::Unix { uid: 1000 }).await.is_some());
        assert!(slots.per_peer.lock().unwrap().is_empty(), "it would grow");
    }
}
