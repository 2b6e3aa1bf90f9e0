//! Work beside the workers, which must cost the calls nothing but spare time.

use std::{
    cell::Cell,
    panic,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{self, SHA256_OUTPUT_LEN};
use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::gettid,
};

/// Less than a worker's 0, so that a call that comes goes first; more than the
/// least, so that a config is loaded on a busy machine too, where this still gets
/// about a tenth of a processor.
const NICE: i32 = 10;
/// How long such work goes on before it makes room.
const STRETCH_MAX: Duration = Duration::from_micros(250);
/// How much room it makes: no more, since there is no end of it on a busy machine.
const ROOM: Duration = Duration::from_micros(200);
/// What is done sooner makes no room at all: most configs are loaded in this time.
const AT_ONCE: Duration = Duration::from_millis(3);
/// Bytes that are hashed without a look at the clock.
const HASHED_AT_ONCE: usize = 64 << 10;

thread_local! {
    /// Since when this thread has been busy, if it stands behind the workers.
    static BUSY_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets this thread, and those that it starts, stand behind the workers. Linux
/// counts priorities by thread. There is no way back without a capability.
pub fn stand_behind() {
    let thread = Some(gettid());
    if getpriority_process(thread).is_ok_and(|nice| nice < NICE) {
        // Where the system forbids it, a reload only costs calls more.
        let _ = setpriority_process(thread, NICE);
    }
    BUSY_SINCE.set(Some(Instant::now() + AT_ONCE));
}

/// To be called again and again by work that may take long: sleeps a moment now and
/// then, if this thread stands behind the workers. The system lets whoever runs finish
/// its turn, of some milliseconds, before one that comes with a call, however little its
/// own turn counts; who sleeps is in nobody's way.
pub fn make_room() {
    let Some(since) = BUSY_SINCE.get() else {
        return;
    };
    if since.elapsed() >= STRETCH_MAX {
        thread::sleep(ROOM);
        BUSY_SINCE.set(Some(Instant::now()));
    }
}

/// The SHA-256 of what may be long, as [`make_room`] asks.
pub fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in bytes.chunks(HASHED_AT_ONCE) {
        make_room();
        context.update(part);
    }
    let mut sum = [0; SHA256_OUTPUT_LEN];
    // Both have the length of a SHA-256.
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

/// Takes something long apart, as [`make_room`] asks.
pub fn drop_all<T>(all: impl IntoIterator<Item = T>) {
    for one in all {
        make_room();
        drop(one);
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
    fn only_long_work_that_stands_behind_makes_room() {
        let slept = |busy_for: Duration| {
            let begun = Instant::now();
            while begun.elapsed() < busy_for {}
            let before = BUSY_SINCE.get();
            make_room();
            BUSY_SINCE.get() != before
        };
        let long = AT_ONCE + 2 * STRETCH_MAX;
        assert!(!slept(long), "in nobody's way");
        assert!(run(|| slept(long)));
        assert!(!run(|| {
            // What is done sooner is told by the clock alone: this thread is busy yet to be.
            BUSY_SINCE.set(Some(Instant::now() + Duration::from_secs(60)));
            slept(Duration::ZERO)
        }));
    }

    #[test]
    fn a_sum_in_parts_is_that_of_the_whole() {
        for length in [0, 1, HASHED_AT_ONCE, HASHED_AT_ONCE + 1] {
            let bytes = vec![7; length];
            let whole = digest::digest(&digest::SHA256, &bytes);
            assert_eq!(sha256(&bytes), whole.as_ref());
        }
    }

    #[test]
    fn a_bug_in_the_work_is_not_swallowed() {
        let caught = panic::catch_unwind(|| run(|| panic!("a bug")));
        assert!(caught.is_err());
    }
}
