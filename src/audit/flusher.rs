//! When the writer is told of what a worker handed over.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::queue::{BATCH_MIN, Queue};

/// With so few records the writer is told at once: nobody else seems to be calling.
const FEW_MAX: usize = 3;

/// Tells the writer of one worker's records when the worker has nothing else to do.
///
/// To wake the writer, and to be woken by it, costs about as much as half a call. So a
/// worker that is about to sleep looks for more work first, without sleeping, for as
/// long as each look brings more records, and these go with the same write and sync. It
/// ends with 64 records: the first wait as long as these take.
#[derive(Debug)]
pub struct Flusher {
    queue: Arc<Queue>,
    /// Records that were handed over since the writer was told last.
    handed: AtomicUsize,
    /// How many these were at the last look.
    looked_at: AtomicUsize,
    look: Notify,
}

impl Flusher {
    /// For one worker.
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
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
        true
    }

    /// Tells the writer of what was handed over.
    pub(super) fn flush(&self) {
        self.handed.store(0, Ordering::Relaxed);
        self.looked_at.store(0, Ordering::Relaxed);
        self.queue.flush();
    }

    /// The worker handed over a record.
    pub(super) fn handed_over(&self) {
        self.handed.fetch_add(1, Ordering::Relaxed);
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
        Flusher::new(Arc::new(Queue::new(Duration::from_secs(1))))
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
        let flusher = Arc::new(Flusher::new(Arc::clone(&queue)));
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
