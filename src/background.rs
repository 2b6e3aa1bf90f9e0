//! Work beside the workers, which must cost the calls nothing but spare time.

use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, ScopedJoinHandle},
};

use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::gettid,
};

/// Less than a worker's 0, so that a call that comes goes first; more than the
/// least, so that a config is loaded on a busy machine too, where this still gets
/// about a tenth of a processor.
const NICE: i32 = 10;

/// Lets this thread, and those that it starts, stand behind the workers. Linux
/// counts priorities by thread. There is no way back without a capability.
pub fn stand_behind() {
    let thread = Some(gettid());
    if getpriority_process(thread).is_ok_and(|nice| nice < NICE) {
        // Where the system forbids it, a reload only costs calls more.
        let _ = setpriority_process(thread, NICE);
    }
}

/// Runs `work` in a thread that stands behind the workers, and waits for it. A
/// config with very many tenants keeps a processor busy for a second and longer.
pub fn run<T: Send>(work: impl Fn() -> T + Sync) -> T {
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new().name("config-load".to_owned());
        let spawned = thread.spawn_scoped(scope, || {
            stand_behind();
            work()
        });
        match spawned.map(ScopedJoinHandle::join) {
            Ok(Ok(done)) => Some(done),
            Ok(Err(bug)) => panic::resume_unwind(bug),
            // The system gives no thread.
            Err(_) => None,
        }
    });
    done.unwrap_or_else(work)
}

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

    /// Takes apart, on this thread, those that no call holds. Nobody can get hold of
    /// one anew, so there are never more than calls under way hold, and those of the
    /// last second.
    pub fn clear(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |retired: &mut Arc<T>| Arc::strong_count(retired) == 1;
        let free: Vec<_> = kept.extract_if(.., is_free).collect();
        drop(kept);
        drop(free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        getpriority_process(Some(gettid())).unwrap()
    }

    #[test]
    fn the_work_stands_behind_and_whoever_waits_for_it_does_not() {
        let before = nice();
        let (within, thread) = run(|| (nice(), gettid()));
        assert_eq!(within, NICE.max(before));
        assert_ne!(thread, gettid());
        assert_eq!(nice(), before);
    }

    #[test]
    fn what_a_call_still_holds_is_not_taken_apart_before_the_call_lets_go_of_it() {
        let retired = Retired::default();
        let (held, free) = (Arc::new(1), Arc::new(2));
        let (of_held, of_free) = (Arc::downgrade(&held), Arc::downgrade(&free));
        retired.add(Arc::clone(&held));
        retired.add(free);
        retired.clear();
        assert!(of_free.upgrade().is_none());
        drop(held);
        assert!(of_held.upgrade().is_some(), "the call took it apart");
        retired.clear();
        assert!(of_held.upgrade().is_none());
    }

    #[test]
    fn a_bug_in_the_work_is_not_swallowed() {
        let caught = panic::catch_unwind(|| run(|| panic!("a bug")));
        assert!(caught.is_err());
    }
}
