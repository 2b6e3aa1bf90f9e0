//! Work beside the workers, which must cost the calls nothing but spare time.

use std::{
    cell::Cell,
    hint,
    io::{self, Read},
    panic,
    sync::{
        Arc, Mutex, TryLockError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{self, SHA256_OUTPUT_LEN};
use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::gettid,
};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Less than a worker's 0, so that a call that comes goes first; more than the
/// least, so that the work is done on a busy machine too, where this still gets
/// about a tenth of a processor.
const NICE: i32 = 10;
/// How long a thread goes on that has a processor only while nobody else wants it.
const STRETCH: Duration = Duration::from_micros(100);
/// Bytes that are read or hashed without a look at the clock.
const BYTES_AT_ONCE: usize = 64 << 10;
/// What glibc's allocator calls large, and takes from no cache of the thread, in bytes.
const LARGE_PIECE: usize = 2 << 10;

thread_local! {
    /// When this thread gave way last, if it is to.
    static GAVE_WAY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets this thread, and those that it starts, stand behind the workers. Linux
/// counts priorities by thread. There is no way back without a capability.
pub fn stand_behind() {
    let thread = Some(gettid());
    if getpriority_process(thread).is_ok_and(|nice| nice < NICE) {
        // Where the system forbids it, the work only costs calls more.
        let _ = setpriority_process(thread, NICE);
    }
}

/// Lets this thread have a processor only while nobody else wants it (`SCHED_IDLE`,
/// sched(7)). Whoever stands behind only by its `nice` still ends its turn, of some
/// milliseconds, before one that wakes for a call; this one does not, if it calls
/// [`give_way`]. There is no way back, and on a busy machine no progress to speak of.
fn take_what_is_spare() {
    // Where only this is allowed, it is better than nothing.
    stand_behind();
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Where the system forbids it, the work only costs calls more.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    GAVE_WAY.set(Some(Instant::now()));
}

/// To be called again and again by work that may be long: lets whoever waits for a
/// processor have it, if this thread is to. Linux with lazy preemption (6.12 and newer)
/// interrupts nobody for one that wakes, whatever their priorities, before the next
/// tick, which can be 4 ms away, or the next system call.
pub fn give_way() {
    let Some(last) = GAVE_WAY.get() else {
        return;
    };
    if last.elapsed() >= STRETCH {
        join_what_was_freed();
        thread::yield_now();
        GAVE_WAY.set(Some(Instant::now()));
    }
}

/// Frees what may be many, as [`give_way`] asks.
pub fn free(many: impl IntoIterator) {
    for one in many {
        give_way();
        drop(one);
    }
}

/// glibc puts small pieces of memory aside when they are freed, and joins all of them at
/// the next request for a large one: after some hundred thousand, that takes tens of
/// milliseconds without giving way. Asked for often, it takes next to nothing. (It has
/// several heaps, and joins in the one of the thread that asks: a thread that frees what
/// another took mostly gets its heap, since that goes to the next thread that begins.)
fn join_what_was_freed() {
    drop(hint::black_box(Vec::<u8>::with_capacity(LARGE_PIECE)));
}

/// Does `work` that calls [`give_way`], on a thread that else has its turn as any.
pub fn giving_way<T>(work: impl FnOnce() -> T) -> T {
    let before = GAVE_WAY.replace(Some(Instant::now()));
    let done = work();
    GAVE_WAY.set(before);
    done
}

/// Reads what may be long, as [`give_way`] asks: to its end, or to somewhat more than
/// `most` bytes. `expected` is how many it may be; a guess only costs time.
///
/// # Errors
///
/// As of reading.
pub fn read(mut from: impl Read, expected: u64, most: u64) -> io::Result<Vec<u8>> {
    // To grow a large one is to copy it, in one go. One more is read to see the end.
    let expected = usize::try_from(expected.min(most)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    while bytes.len() as u64 <= most {
        give_way();
        let mut part = from.by_ref().take(BYTES_AT_ONCE as u64);
        part.read_to_end(&mut bytes)?;
        // Not once more: at a terminal the end would have to be typed a second time.
        if part.limit() > 0 {
            break;
        }
    }
    Ok(bytes)
}

/// The SHA-256 of what may be long, as [`give_way`] asks.
pub fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in bytes.chunks(BYTES_AT_ONCE) {
        give_way();
        context.update(part);
    }
    finish(context)
}

/// The SHA-256 of what is read to its end, as [`give_way`] asks: never much of it is in
/// memory.
///
/// # Errors
///
/// As of reading.
pub fn sha256_of(mut from: impl Read) -> io::Result<[u8; SHA256_OUTPUT_LEN]> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = vec![0; BYTES_AT_ONCE];
    loop {
        give_way();
        match from.read(&mut part) {
            Ok(0) => return Ok(finish(context)),
            Ok(length) => context.update(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn finish(context: digest::Context) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = [0; SHA256_OUTPUT_LEN];
    // Both have the length of a SHA-256.
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

/// A place for work that is long and must be done: in spare time, and where there is
/// none, anyway.
#[derive(Debug, Default)]
pub struct Background {
    /// Work that found so little time that it was done elsewhere: it goes on, since
    /// nothing can stop it, and there is never more than one such.
    late: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Does `work` in spare time, and waits for it. Where that takes longer than
    /// `patience`, or can't be begun, does it here, again from its beginning: so it must
    /// be without effect but its result, and hold no lock of ours that a call may wait for.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn run<T, W>(&self, patience: Duration, work: W) -> T
    where
        T: Send + 'static,
        W: Fn() -> T + Send + Sync + 'static,
    {
        let mut late = match self.late.try_lock() {
            Ok(late) => late,
            Err(TryLockError::Poisoned(late)) => late.into_inner(),
            // Whoever waits there may wait long.
            Err(TryLockError::WouldBlock) => return work(),
        };
        if late.as_ref().is_some_and(|late| !late.is_finished()) {
            return work();
        }
        let work = Arc::new(work);
        let (done, result) = mpsc::sync_channel(1);
        let aside = Arc::clone(&work);
        let thread = thread::Builder::new().name("config-load".to_owned());
        let Ok(thread) = thread.spawn(move || {
            take_what_is_spare();
            let made = aside();
            // Whoever takes the result is the last to hold what it was made from.
            drop(aside);
            // Nobody waits any more for what comes late.
            let _ = done.send(made);
        }) else {
            return work();
        };
        match result.recv_timeout(patience) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => {
                *late = Some(thread);
                drop(result);
                work()
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(bug) => panic::resume_unwind(bug),
                Ok(()) => work(),
            },
        }
    }
}

/// Frees what may be many, behind the workers. Not in spare time only: of configs that
/// come one after the other on a busy machine, each would wait to be freed.
pub fn let_go<T: Send + 'static>(many: Vec<T>) {
    let thread = thread::Builder::new().name("config-free".to_owned());
    // If the system gives no thread, they are freed here.
    let _ = thread.spawn(move || {
        stand_behind();
        giving_way(|| free(many));
    });
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use rustix::thread::Pid;
    use thread_priority::thread_schedule_policy;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn nice(thread: Pid) -> i32 {
        getpriority_process(Some(thread)).unwrap()
    }

    fn is_spare() -> bool {
        let policy = thread_schedule_policy().unwrap();
        policy == ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle)
    }

    #[test]
    fn a_thread_that_stands_behind_leaves_the_others_where_they_are() {
        let before = nice(gettid());
        let within = thread::spawn(|| {
            stand_behind();
            nice(gettid())
        });
        assert_eq!(within.join().unwrap(), NICE.max(before));
        assert_eq!(nice(gettid()), before);
    }

    #[test]
    fn only_the_work_is_done_in_spare_time_and_not_what_waits_for_it() {
        let (before, here) = (nice(gettid()), thread::current().id());
        let (was_spare, there) =
            Background::default().run(LONG, || (is_spare(), thread::current().id()));
        assert!(was_spare && there != here);
        assert!(!is_spare());
        assert_eq!(nice(gettid()), before);
    }

    #[test]
    fn work_that_finds_no_time_is_done_anyway_and_never_more_than_one_is_late() {
        let background = Background::default();
        let here = thread::current().id();
        let (held, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        // Done here at once, and aside only when the gate is opened.
        let work = move || -> ThreadId {
            if thread::current().id() != here {
                let _ = gate.lock().unwrap().recv();
            }
            thread::current().id()
        };
        assert_eq!(background.run(Duration::from_millis(20), work), here);
        let whoever = || thread::current().id();
        assert_eq!(background.run(LONG, whoever), here);
        {
            let _another_waits = background.late.lock().unwrap();
            assert_eq!(background.run(LONG, whoever), here);
        }
        drop(held);
        let late = || background.late.lock().unwrap();
        while late().as_ref().is_some_and(|late| !late.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_ne!(background.run(LONG, whoever), here);
    }

    #[test]
    fn what_is_let_go_of_is_freed_elsewhere() {
        struct Freed(mpsc::Sender<(i32, ThreadId)>);
        impl Drop for Freed {
            fn drop(&mut self) {
                let _ = self.0.send((nice(gettid()), thread::current().id()));
            }
        }
        let (freed, told) = mpsc::channel();
        let_go(vec![Freed(freed)]);
        let (behind, there) = told.recv().unwrap();
        assert_eq!(behind, NICE.max(nice(gettid())));
        assert_ne!(there, thread::current().id());
    }

    #[test]
    fn what_the_result_was_made_from_is_held_by_nobody_once_it_is_there() {
        let basis = Arc::new(());
        let held = Arc::clone(&basis);
        let seen = Background::default().run(LONG, move || Arc::strong_count(&held));
        assert!(seen >= 2);
        assert!(Arc::into_inner(basis).is_some());
    }

    #[test]
    fn only_what_runs_in_spare_time_gives_way_and_not_all_the_time() {
        let gives_way = |after: Duration| {
            let begun = Instant::now();
            while begun.elapsed() < after {}
            let before = GAVE_WAY.get();
            give_way();
            GAVE_WAY.get() != before
        };
        assert!(!gives_way(2 * STRETCH), "in nobody's way");
        assert!(giving_way(|| gives_way(2 * STRETCH)));
        assert!(!gives_way(2 * STRETCH), "done with it");
        let aside = Background::default().run(LONG, move || {
            let long = gives_way(2 * STRETCH);
            // Told by the clock alone: this thread gave way in the future.
            GAVE_WAY.set(Some(Instant::now() + LONG));
            (long, gives_way(Duration::ZERO))
        });
        assert_eq!(aside, (true, false));
    }

    #[test]
    fn a_sum_in_parts_is_that_of_the_whole() {
        for length in [0, 1, BYTES_AT_ONCE, BYTES_AT_ONCE + 1] {
            let bytes = vec![7; length];
            let whole = digest::digest(&digest::SHA256, &bytes);
            assert_eq!(sha256(&bytes), whole.as_ref());
            assert_eq!(sha256_of(&*bytes).unwrap(), whole.as_ref());
        }
    }

    #[test]
    fn what_is_read_in_parts_is_the_whole_and_no_more_than_is_needed_to_see_that_it_is_long() {
        for length in [0, 1, BYTES_AT_ONCE, 3 * BYTES_AT_ONCE + 1] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
            for expected in [0, length as u64, u64::MAX] {
                assert_eq!(read(&*bytes, expected, 1 << 20).unwrap(), bytes);
            }
            assert_eq!(read(&*bytes, 0, length as u64).unwrap(), bytes);
        }
        let long = vec![0; 9 * BYTES_AT_ONCE];
        let read = read(&*long, 0, 10).unwrap().len();
        assert!((11..=BYTES_AT_ONCE).contains(&read), "{read}");
    }

    #[test]
    fn nothing_is_asked_for_beyond_the_end() {
        struct EndsOnce(Vec<u8>);
        impl Read for EndsOnce {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let taken = self.0.split_off(self.0.len().saturating_sub(into.len()));
                into[..taken.len()].copy_from_slice(&taken);
                match taken.len() {
                    0 => self.0 = b"asked again".to_vec(),
                    _ => return Ok(taken.len()),
                }
                Ok(0)
            }
        }
        assert_eq!(
            read(EndsOnce(b"a config".to_vec()), 0, 99).unwrap(),
            b"a config"
        );
    }

    #[test]
    fn a_bug_in_the_work_is_not_swallowed() {
        let caught = panic::catch_unwind(|| {
            Background::default().run(LONG, || panic!("a bug"));
        });
        assert!(caught.is_err());
    }
}
