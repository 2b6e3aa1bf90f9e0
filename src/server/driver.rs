//! Who drives a worker's runtime.
//!
//! One thread does. With a trail that is `relaxed` it also writes its records, outside of
//! the runtime, between two rounds of work. Should the disk hang in that, another thread
//! goes on with the same runtime, its connections and its calls: refusals are answered,
//! time-outs pass, and calls are refused with `audit-unavailable`, as if somebody else
//! wrote. There are at most two such threads a worker: whoever was held up waits to relieve
//! the other.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    thread,
};

use tokio::{
    runtime::{self, Runtime},
    task::{JoinError, JoinHandle},
};

use crate::{
    audit::{Flusher, Relief},
    logging::access,
};

/// The two threads that take turns; the first is the worker's own.
const FIRST: u64 = 0;
const SECOND: u64 = 1;
const THREADS: u64 = 2;

/// A worker's runtime, and the threads that drive it in turn.
#[derive(Debug)]
struct Driver<T> {
    name: String,
    flusher: Arc<Flusher>,
    /// All that the worker does.
    main: Mutex<JoinHandle<T>>,
    turns: Mutex<Turns<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Turns<T> {
    /// Until `main` has ended. Whose turn it is has it while he drives it, not while he
    /// writes.
    runtime: Option<Arc<Runtime>>,
    /// How often one thread relieved the other. Even: it is the first one's turn.
    number: u64,
    /// Whose turn it is writes.
    is_writing: bool,
    /// The one who was relieved has not come back yet.
    is_held: bool,
    /// Once it was needed.
    second: Option<thread::JoinHandle<()>>,
    /// That there can be none.
    is_told: bool,
    /// What became of `main`.
    ended: Option<Result<T, JoinError>>,
}

/// Why the runtime was left.
enum Left<T> {
    ToWrite,
    Ended(Result<T, JoinError>),
}

/// Runs `main` on a single-threaded runtime of its own until it ends, with `flusher` for
/// its records. What it spawned and is not done by then is cut. A second thread is called
/// `name`, too.
///
/// # Errors
///
/// If the system gives no runtime, or if `main` panics.
pub fn run<T: fmt::Debug + Send + 'static>(
    name: &str,
    flusher: Arc<Flusher>,
    main: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let before_park = Arc::clone(&flusher);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        // All records and log lines of one round of work go at once.
        .on_thread_park(move || {
            if before_park.before_park() {
                access::flush();
            }
        })
        .build()?;
    let main = Mutex::new(runtime.spawn(main));
    let driver = Arc::new(Driver {
        name: name.to_owned(),
        flusher,
        main,
        turns: Mutex::new(Turns {
            runtime: Some(Arc::new(runtime)),
            number: 0,
            is_writing: false,
            is_held: false,
            second: None,
            is_told: false,
            ended: None,
        }),
        changed: Condvar::new(),
    });
    let relief: Weak<dyn Relief> = Arc::<Driver<T>>::downgrade(&driver);
    driver.flusher.write_by(relief);
    driver.drive(FIRST);
    let ended = driver.turns().ended.take();
    match ended {
        Some(Ok(ended)) => Ok(ended),
        Some(Err(_)) | None => Err(io::Error::other("it ended by a bug, which the log tells")),
    }
}

impl<T: fmt::Debug + Send + 'static> Driver<T> {
    /// Drives the runtime whenever it is this thread's turn, until `main` ends.
    fn drive(&self, me: u64) {
        while let Some(runtime) = self.wait_for_turn(me) {
            match runtime.block_on(self.leave()) {
                Left::ToWrite => {
                    drop(runtime);
                    self.write(me);
                }
                Left::Ended(ended) => self.end(runtime, ended),
            }
        }
    }

    /// The runtime, once it is this thread's turn; `None` once `main` has ended.
    fn wait_for_turn(&self, me: u64) -> Option<Arc<Runtime>> {
        let is_mine = |turns: &Turns<T>| turns.runtime.is_some() && turns.is_of(me);
        let is_waiting = |turns: &mut Turns<T>| turns.ended.is_none() && !is_mine(turns);
        let turns = self.changed.wait_while(self.turns(), is_waiting);
        turns
            .unwrap_or_else(PoisonError::into_inner)
            .runtime
            .clone()
    }

    /// Resolves when there is something to do outside of the runtime.
    fn leave(&self) -> impl Future<Output = Left<T>> {
        poll_fn(|cx| {
            self.flusher.hand_out();
            let mut main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
            if let Poll::Ready(ended) = Pin::new(&mut *main).poll(cx) {
                return Poll::Ready(Left::Ended(ended));
            }
            self.flusher.poll_asked(cx).map(|()| Left::ToWrite)
        })
    }

    fn write(&self, me: u64) {
        access::flush();
        self.turns().is_writing = true;
        self.flusher.write();
        if !self.turns().come_back(me) {
            self.flusher.tell();
        }
    }

    /// Cuts what is left before it says that all is over: calls that are cut hand over that
    /// they are in doubt, and then the trail is closed.
    fn end(&self, runtime: Arc<Runtime>, ended: Result<T, JoinError>) {
        drop(self.turns().runtime.take());
        // The other thread has none of it: it writes, or waits. A look-up that is under way
        // can't be cut, and nobody waits for it any more.
        if let Some(runtime) = Arc::into_inner(runtime) {
            runtime.shutdown_background();
        }
        self.flusher.close();
        self.turns().ended = Some(ended);
        self.changed.notify_all();
    }

    fn turns(&self) -> MutexGuard<'_, Turns<T>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug + Send + 'static> Relief for Driver<T> {
    fn relieve(self: Arc<Self>) {
        let mut turns = self.turns();
        if !turns.are_to_change() {
            return;
        }
        if turns.second.is_none() {
            let driver = Arc::clone(&self);
            let second = thread::Builder::new().name(self.name.clone());
            match second.spawn(move || driver.drive(SECOND)) {
                Ok(second) => turns.second = Some(second),
                // It is tried again at the next look.
                Err(error) => return turns.tell_once(&error),
            }
        }
        turns.change();
        drop(turns);
        self.changed.notify_all();
    }
}

impl<T> Turns<T> {
    fn is_of(&self, thread: u64) -> bool {
        self.number % THREADS == thread
    }

    /// Whether whose turn it is can be relieved. There are two: while one is held, the
    /// other can't be, and has no need to, since nobody but the one who is held can write.
    fn are_to_change(&self) -> bool {
        self.is_writing && !self.is_held && self.runtime.is_some()
    }

    fn tell_once(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::error!(%error, "a worker hangs with the trail's disk, and the system gives no thread to go on with its calls: they wait until the disk answers");
        }
    }

    /// Whose turn it is is relieved.
    fn change(&mut self) {
        self.number += 1;
        self.is_writing = false;
        self.is_held = true;
    }

    /// One who wrote is done; whether it is still his turn.
    fn come_back(&mut self, thread: u64) -> bool {
        let is_mine = self.is_of(thread);
        match is_mine {
            true => self.is_writing = false,
            false => self.is_held = false,
        }
        is_mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else it would be the turn of one who hangs.
    #[test]
    fn while_one_is_held_the_other_is_not_relieved() {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let mut turns = Turns::<()> {
            runtime: Some(Arc::new(runtime)),
            number: 0,
            is_writing: true,
            is_held: false,
            second: None,
            is_told: false,
            ended: None,
        };
        assert!(turns.are_to_change());
        turns.change();
        assert!(turns.is_of(SECOND));
        // He tries to write, too, again and again.
        for _ in 0..3 {
            turns.is_writing = true;
            assert!(!turns.are_to_change());
            assert!(turns.come_back(SECOND));
        }
        assert!(!turns.come_back(FIRST), "it is no more his turn");
        turns.is_writing = true;
        assert!(turns.are_to_change());
        turns.change();
        assert!(turns.is_of(FIRST));
        assert!(!turns.come_back(SECOND));
    }
}
