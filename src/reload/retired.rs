//! Snapshots that were replaced, until nobody uses them any more.

use std::sync::{Arc, Mutex, PoisonError};

/// Snapshots that are not in effect any more. A call that is under way may hold
/// one, and whoever lets go of it last takes it apart, which takes tens of
/// milliseconds with very many tenants: so it is held here until nobody else does.
#[derive(Debug)]
pub struct Retired<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Retired<T> {
    /// Keeps one that was just replaced.
    pub fn add(&self, retired: Arc<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(retired);
    }

    /// Those that nobody else holds, to be taken apart. Nobody can get hold of one
    /// anew, so there are never more than calls under way hold, one that a config is
    /// being read against, and those of the last second.
    pub fn free(&self) -> Vec<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |retired: &mut Arc<T>| Arc::strong_count(retired) == 1;
        let free = kept.extract_if(.., is_free);
        free.filter_map(Arc::into_inner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_still_holds_is_not_taken_apart_before_the_call_lets_go_of_it() {
        let retired = Retired::default();
        let (held, free) = (Arc::new(1), Arc::new(2));
        let (of_held, of_free) = (Arc::downgrade(&held), Arc::downgrade(&free));
        retired.add(Arc::clone(&held));
        retired.add(free);
        drop(retired.free());
        assert!(of_free.upgrade().is_none());
        drop(held);
        assert!(of_held.upgrade().is_some(), "the call took it apart");
        drop(retired.free());
        assert!(of_held.upgrade().is_none());
    }
}
