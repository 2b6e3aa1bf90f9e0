//! The Alloy keys of one name: the one in use, and the one that may follow it.

mod not_found;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use self::not_found::NotFound;
pub use self::not_found::Share;
use crate::secret::UpstreamKey;

/// One key of the config, with the one that may follow it (`keys.*.next`). All
/// workers and tenants that use the name share it.
pub struct KeyRing {
    first: Arc<UpstreamKey>,
    next: Option<Arc<UpstreamKey>>,
    has_moved: AtomicBool,
    refusals: AtomicU64,
    not_found: NotFound,
}

/// The key to go on with after the upstream refused another.
#[derive(Debug)]
pub struct Moved {
    /// The key to go on with.
    pub key: Arc<UpstreamKey>,
    /// Whether this was the move; else another call had moved already.
    pub is_new: bool,
}

impl KeyRing {
    /// Begins with the key that `previous` had come to, if that is the next one:
    /// a reload does not go back to a key that the upstream refused.
    pub fn new(first: UpstreamKey, next: Option<UpstreamKey>, previous: Option<&Self>) -> Self {
        let in_use = previous.map(|previous| previous.current());
        let is_next = |next: &UpstreamKey| {
            let in_use = in_use.as_ref();
            in_use.is_some_and(|in_use| in_use.fingerprint() == next.fingerprint())
        };
        Self {
            has_moved: AtomicBool::new(next.as_ref().is_some_and(is_next)),
            refusals: AtomicU64::new(previous.map_or(0, Self::refusals)),
            not_found: previous.map_or_else(NotFound::default, |previous| {
                NotFound::after(&previous.not_found)
            }),
            first: Arc::new(first),
            next: next.map(Arc::new),
        }
    }

    /// The name in the config.
    pub fn name(&self) -> &str {
        self.first.name()
    }

    /// The key in use.
    pub fn current(&self) -> &Arc<UpstreamKey> {
        match &self.next {
            Some(next) if self.has_moved.load(Ordering::Acquire) => next,
            _ => &self.first,
        }
    }

    /// The key that follows `refused`, in use from then on; `None` if there is none.
    pub fn move_on(&self, refused: &UpstreamKey) -> Option<Moved> {
        let next = self.next.as_ref()?;
        if refused.fingerprint() != self.first.fingerprint() {
            return None;
        }
        Some(Moved {
            key: Arc::clone(next),
            is_new: !self.has_moved.swap(true, Ordering::AcqRel),
        })
    }

    /// Counts an answer of the upstream to a key of this name; says so if the share
    /// of 404s has become unusual, or usual again.
    pub fn answered(&self, status: u16) -> Option<Share> {
        self.not_found.count(status)
    }

    /// Whether the share of 404s is unusual.
    pub fn has_unusual_404s(&self) -> bool {
        self.not_found.is_unusual()
    }

    /// Counts that the upstream refused a key of this name.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the upstream refused a key of this name since the start.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether `bytes` hold any of the keys, see [`UpstreamKey::is_echoed_in`].
    pub fn is_echoed_in(&self, bytes: &[u8]) -> bool {
        self.first.is_echoed_in(bytes)
            || self
                .next
                .as_ref()
                .is_some_and(|next| next.is_echoed_in(bytes))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({}, redacted)", self.name())
    }
}
