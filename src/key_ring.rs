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
    /// What the upstream said last of the key in use is that it refuses it.
    is_refused: AtomicBool,
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
    /// Begins where `previous` is, see [`follow`](Self::follow).
    pub fn new(first: UpstreamKey, next: Option<UpstreamKey>, previous: Option<&Self>) -> Self {
        // To move on to the same key would be to send a call that was refused once more.
        let next = next.filter(|next| next.fingerprint() != first.fingerprint());
        let ring = Self {
            first: Arc::new(first),
            next: next.map(Arc::new),
            has_moved: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
            not_found: previous.map_or_else(NotFound::default, |previous| {
                NotFound::after(&previous.not_found)
            }),
        };
        if let Some(previous) = previous {
            ring.follow(previous);
        }
        ring
    }

    /// Whether it has these keys. A config that names them again goes on with this very
    /// ring: calls that began before it still have their say.
    pub fn holds(&self, first: &UpstreamKey, next: Option<&UpstreamKey>) -> bool {
        let next = next.filter(|next| next.fingerprint() != first.fingerprint());
        let is_next_same = match (self.next.as_deref(), next) {
            (Some(held), Some(next)) => held.is_same(next),
            (None, None) => true,
            _ => false,
        };
        self.first.is_same(first) && is_next_same
    }

    /// Goes on with the key that `previous` has come to, if that is the next one and the
    /// first is the same: a reload does not go back to a key that the upstream refused,
    /// and whoever changed the first one wants it to be tried.
    pub fn follow(&self, previous: &Self) {
        let next = self.next.as_ref();
        let is_next_in_use = next.is_some_and(|next| previous.is_in_use(next.fingerprint()));
        let has_moved = is_next_in_use && self.begins_with(previous.first.fingerprint());
        self.has_moved.store(has_moved, Ordering::Release);
        // Nothing is known yet of another key.
        let is_same = previous.is_in_use(self.current().fingerprint());
        let is_refused = is_same && previous.is_refused();
        self.is_refused.store(is_refused, Ordering::Relaxed);
        self.refusals.store(previous.refusals(), Ordering::Relaxed);
    }

    /// The key of `secret`.
    pub fn first(&self) -> &UpstreamKey {
        &self.first
    }

    /// The key of `next`, if it is another one.
    pub fn next(&self) -> Option<&UpstreamKey> {
        self.next.as_deref()
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

    /// Whether the next key is in use.
    pub fn has_moved(&self) -> bool {
        self.next.is_some() && self.has_moved.load(Ordering::Acquire)
    }

    /// The key that follows `refused`, in use from then on; `None` if there is none.
    pub fn move_on(&self, refused: &UpstreamKey) -> Option<Moved> {
        let next = self.next.as_ref()?;
        if !self.begins_with(refused.fingerprint()) {
            return None;
        }
        let is_new = !self.has_moved.swap(true, Ordering::AcqRel);
        if is_new {
            self.is_refused.store(false, Ordering::Relaxed);
        }
        Some(Moved {
            key: Arc::clone(next),
            is_new,
        })
    }

    /// Counts an answer of the upstream to the key of this name with that fingerprint;
    /// says so if the share of 404s has become unusual, or usual again.
    pub fn answered(&self, fingerprint: &str, status: u16) -> Option<Share> {
        // A failure of the upstream says nothing of the key.
        let is_taken = status != 401 && status < 500;
        if is_taken && self.is_refused() && self.is_in_use(fingerprint) {
            self.is_refused.store(false, Ordering::Relaxed);
        }
        self.not_found.count(status)
    }

    /// Whether the upstream refuses the key in use: its last answer but failures was a
    /// 401. Another key begins anew.
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    fn is_in_use(&self, fingerprint: &str) -> bool {
        self.current().fingerprint() == fingerprint
    }

    fn begins_with(&self, fingerprint: &str) -> bool {
        self.first.fingerprint() == fingerprint
    }

    /// Whether the share of 404s is unusual.
    pub fn has_unusual_404s(&self) -> bool {
        self.not_found.is_unusual()
    }

    /// Counts that the upstream refused the key of this name with that fingerprint.
    pub fn refused(&self, fingerprint: &str) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        if self.is_in_use(fingerprint) {
            self.is_refused.store(true, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ApiKey;

    fn key(text: &str) -> UpstreamKey {
        let key = ApiKey::new(text.as_bytes()).unwrap();
        UpstreamKey::new("production", &key, "bearer").unwrap()
    }

    #[test]
    fn a_refused_key_is_refused_until_the_upstream_takes_it_or_another_is_in_use() {
        let (old, new) = (key("an-old-key"), key("a-new-key"));
        let (old_print, new_print) = (old.fingerprint().to_owned(), new.fingerprint().to_owned());
        let ring = KeyRing::new(key("an-old-key"), None, None);
        assert!(!ring.is_refused());
        ring.refused(&old_print);
        ring.answered(&old_print, 401);
        ring.answered(&old_print, 503);
        assert!(ring.is_refused());
        ring.answered(&old_print, 404);
        assert!(!ring.is_refused());
        ring.refused(&old_print);
        // A reload with the same key knows no better; one with another begins anew.
        let next = Some(key("a-new-key"));
        let again = KeyRing::new(old, next, Some(&ring));
        assert!(again.is_refused());
        assert!(!KeyRing::new(new, None, Some(&ring)).is_refused());
        let moved = again.move_on(&key("an-old-key")).unwrap();
        assert!(moved.is_new && !again.is_refused());
        // A late word of the key before says nothing of this one.
        again.refused(&old_print);
        assert!(!again.is_refused());
        again.refused(&new_print);
        again.answered(&old_print, 200);
        assert!(again.is_refused());
        assert_eq!(again.refusals(), 4);
    }

    #[test]
    fn a_move_outlasts_a_reload_as_long_as_both_keys_stay_as_they_are() {
        let ring = |first: &str, next: &str, previous: Option<&KeyRing>| {
            KeyRing::new(key(first), Some(key(next)), previous)
        };
        let starts_with = |ring: &KeyRing, text: &str| ring.is_in_use(key(text).fingerprint());
        let moved = ring("an-old-key", "a-new-key", None);
        assert!(moved.move_on(&key("an-old-key")).unwrap().is_new);
        let alike = ring("an-old-key", "a-new-key", Some(&moved));
        assert!(starts_with(&alike, "a-new-key"));
        let other_first = ring("a-third-key", "a-new-key", Some(&alike));
        assert!(starts_with(&other_first, "a-third-key"));
        let other_next = ring("an-old-key", "a-third-key", Some(&alike));
        assert!(starts_with(&other_next, "an-old-key"));
        // The end of a rotation: nothing is left to move on to.
        let done = ring("a-new-key", "a-new-key", Some(&alike));
        assert!(starts_with(&done, "a-new-key"));
        assert!(done.move_on(&key("a-new-key")).is_none());
    }

    #[test]
    fn what_comes_of_a_key_while_another_config_is_built_is_taken_over() {
        let ring = |previous: Option<&KeyRing>| {
            KeyRing::new(key("an-old-key"), Some(key("a-new-key")), previous)
        };
        let before = ring(None);
        let built = ring(Some(&before));
        assert!(before.move_on(&key("an-old-key")).unwrap().is_new);
        before.refused(key("a-new-key").fingerprint());
        assert!(!built.has_moved() && !built.is_refused());
        built.follow(&before);
        assert!(built.has_moved() && built.is_refused());
        assert_eq!(built.refusals(), 1);
    }
}
