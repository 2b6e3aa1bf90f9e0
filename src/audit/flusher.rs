//! When what a worker handed over is written, and by whom: the writer's thread is told, or
//! the worker does it itself.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::{
    holder::Relief,
    inbox::Inbox,
    queue::{BATCH_MIN, Queue},
    writer::SharedWriter,
};

/// With so few records the writer is told at once: nobody else seems to be calling.
const FEW_MAX: usize = 3;

/// Sees to it that one worker's records are written when the worker has nothing else to do.
///
/// A write costs about as much as half a call, and so does to wake the writer's thread, and
/// to be woken by it. So a worker that is about to sleep looks for more work first,
/// without sleeping, for as long as each look brings more records, and these go with the
/// same write and sync. It ends with 64 records: the first wait as long as these take.
///
/// With `relaxed`, a worker that [can be relieved](Self::write_by) writes itself: whoever
/// drives it is [asked](Self::poll_asked) to let it [`write`](Self::write), outside of its
/// runtime, with which another thread can go on should the disk hang.
#[derive(Debug)]
pub struct Flusher {
    queue: Arc<Queue>,
    /// What a worker can write with itself; `None` if it is not to.
    writer: Option<Arc<SharedWriter>>,
    relief: OnceLock<Weak<dyn Relief>>,
    inbox: OnceLock<Arc<Inbox>>,
    /// The worker is to write.
    is_asked: AtomicBool,
    asked: AtomicWaker,
    /// Records that were handed over since the writer was told last.
    handed: AtomicUsize,
    /// How many these were at the last look.
    looked_at: AtomicUsize,
    look: Notify,
}

impl Flusher {
    /// For one worker.
    pub(super) fn new(queue: Arc<Queue>, writer: Option<Arc<SharedWriter>>) -> Self {
        Self {
            queue,
            writer,
            relief: OnceLock::new(),
            inbox: OnceLock::new(),
            is_asked: AtomicBool::new(false),
            asked: AtomicWaker::new(),
            handed: AtomicUsize::new(0),
            looked_at: AtomicUsize::new(0),
            look: Notify::new(),
        }
    }

    /// Call it whenever the worker's thread is about to sleep
    /// ([`on_thread_park`](tokio::runtime::Builder::on_thread_park)). Whether it does: if
    /// not, it is to look for more work first, and its runtime has a task to run.
    pub fn before_park(&self) -> bool {
        let handed = self.handed.load(Ordering::Relaxed);
        if handed == 0 {
            return true;
        }
        let has_grown = handed > self.looked_at.load(Ordering::Relaxed);
        if has_grown && handed > FEW_MAX && handed < BATCH_MIN {
            self.looked_at.store(handed, Ordering::Relaxed);
            self.look.notify_one();
            return false;
        }
        self.flush();
        !self.writes()
    }

    /// Has what was handed over written.
    pub(super) fn flush(&self) {
        let handed = self.handed.swap(0, Ordering::Relaxed);
        self.looked_at.store(0, Ordering::Relaxed);
        match handed > 0 && self.writes() {
            true => self.ask(),
            false => self.queue.flush(),
        }
    }

    /// The worker handed over a record.
    pub(super) fn handed_over(&self) {
        let before = self.handed.fetch_add(1, Ordering::Relaxed);
        if before + 1 >= BATCH_MIN && self.writes() {
            self.flush();
        }
    }

    /// The worker's calls wait for answers in this.
    pub(super) fn answers_to(&self, inbox: &Arc<Inbox>) {
        // There is one worker.
        let _ = self.inbox.set(Arc::clone(inbox));
    }

    /// The worker writes itself from now on, if the trail is relaxed, since `relief` can
    /// go on with its calls.
    pub fn write_by(&self, relief: Weak<dyn Relief>) {
        let _ = self.relief.set(relief);
    }

    /// Whether the worker writes itself.
    pub(super) fn writes(&self) -> bool {
        self.writer.is_some() && self.relief.get().is_some()
    }

    fn ask(&self) {
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            self.asked.wake();
        }
    }

    /// Resolves when the worker is to [`write`](Self::write).
    pub fn poll_asked(&self, cx: &Context<'_>) -> Poll<()> {
        self.asked.register(cx.waker());
        match self.is_asked.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Writes what was handed over, or has it written. Blocks as the disk does: call it
    /// where somebody else can go on with the worker's calls. Its answers wait for
    /// [`hand_out`](Self::hand_out).
    pub fn write(&self) {
        let Some(((writer, inbox), relief)) =
            (self.writer.as_ref().zip(self.inbox.get())).zip(self.relief.get())
        else {
            return;
        };
        if !writer.write_for(inbox, relief) {
            self.queue.flush();
        }
    }

    /// Hands the answers to what was [written](Self::write) to the calls that wait. Call it
    /// within the worker's runtime.
    pub fn hand_out(&self) {
        if let Some(inbox) = self.inbox.get() {
            inbox.hand_out(|id, seq| self.queue.push_too_late(id, seq));
        }
    }

    /// The worker's runtime is gone, and its calls with it: an intent that is durable, and
    /// that none of them came to know of, is closed as never sent, now or once it is written.
    pub fn close(&self) {
        if let Some(inbox) = self.inbox.get() {
            inbox.close(|id, seq| self.queue.push_too_late(id, seq));
        }
    }

    /// The same as [`hand_out`](Self::hand_out) from outside of the runtime.
    pub fn tell(&self) {
        if let Some(inbox) = self.inbox.get() {
            inbox.wake();
        }
    }

    /// Runs on the worker, and never ends. It has nothing to do but to be woken: a
    /// runtime that has a task to run looks for events, and does not sleep.
    pub(super) async fn look(&self) {
        loop {
            self.look.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use tokio::{runtime, sync::oneshot};

    use super::*;
    use crate::audit::worker::{Waits, WorkerTrail};

    const LONG: Duration = Duration::from_secs(30);

    fn hand_over(flusher: &Flusher, records: usize) {
        (0..records).for_each(|_| flusher.handed_over());
    }

    fn flusher() -> Flusher {
        Flusher::new(Arc::new(Queue::new(Duration::from_secs(1))), None)
    }

    #[test]
    fn a_worker_looks_for_more_as_long_as_there_is_more() {
        let flusher = flusher();
        hand_over(&flusher, 10);
        assert!(!flusher.before_park());
        hand_over(&flusher, 1);
        assert!(!flusher.before_park());
        assert!(flusher.before_park(), "the last look brought nothing");
        hand_over(&flusher, 10);
        assert!(!flusher.before_park(), "these are other ones");
    }

    #[test]
    fn a_worker_with_little_or_much_to_tell_tells_it_at_once() {
        for records in [0, 1, FEW_MAX, BATCH_MIN, 2 * BATCH_MIN] {
            let flusher = flusher();
            hand_over(&flusher, records);
            assert!(flusher.before_park(), "{records}");
        }
    }

    /// A look that is not taken would leave the records where they are.
    #[test]
    fn a_worker_that_is_to_look_does_not_sleep() {
        let queue = Arc::new(Queue::new(LONG));
        let flusher = Arc::new(Flusher::new(Arc::clone(&queue), None));
        let (told, tells) = mpsc::channel();
        let parking = Arc::clone(&flusher);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || {
                let has_some = parking.handed.load(Ordering::Relaxed) > 0;
                if parking.before_park() && has_some {
                    let _ = told.send(());
                }
            })
            .build()
            .unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let worker = thread::spawn(move || {
            runtime.block_on(async {
                let waits = Waits {
                    intent: LONG,
                    outcome: LONG,
                };
                let _trail = WorkerTrail::new(queue, waits).flushed_by(Arc::clone(&flusher));
                hand_over(&flusher, 10);
                // Nothing else wakes it.
                let _ = ended.await;
            });
        });
        let is_told = tells.recv_timeout(LONG);
        let _ = end.send(());
        worker.join().unwrap();
        is_told.unwrap();
    }
}
