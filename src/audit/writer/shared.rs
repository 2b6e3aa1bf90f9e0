//! The writer, which one thread at a time has.
//!
//! Its own thread has it when somebody tells it of records, and once a second to see to
//! the trail. With `relaxed`, a worker that has nothing else to do has it for what it
//! handed over: nothing is synced then, a write takes microseconds, and to wake another
//! thread and be woken by it would cost more than the write. A disk that hangs may hold
//! any write for ever all the same: see `holder`.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{TICK, Writer};
use crate::audit::{
    holder::Relief,
    inbox::Inbox,
    queue::{Queue, Taken},
};

/// The writer, which one thread at a time has: as `queue` says, so that nobody waits for
/// this lock.
#[derive(Debug)]
pub struct SharedWriter {
    queue: Arc<Queue>,
    /// `None` once the trail is closed, or a bug of ours broke it.
    writer: Mutex<Option<Writer>>,
}

/// How a writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything is written, and the segment sealed.
    Sealed,
    /// The disk did not take all of it.
    Unsealed,
    /// A bug of ours broke it.
    Broken,
}

impl SharedWriter {
    /// Nobody has it yet.
    pub fn new(writer: Writer) -> Self {
        Self {
            queue: Arc::clone(&writer.queue),
            writer: Mutex::new(Some(writer)),
        }
    }

    /// What its own thread does: writes until the queue is closed and all is written.
    pub fn run(&self) -> Ended {
        loop {
            let Some(taken) = self.queue.take(TICK) else {
                return Ended::Broken;
            };
            let Taken {
                mut entries,
                is_closed,
            } = taken;
            let mut writer = self.writer();
            if let Some(writer) = writer.as_mut() {
                writer.take_turn(&mut entries, is_closed);
            }
            if is_closed {
                return writer.take().map_or(Ended::Broken, Writer::close);
            }
            drop(writer);
            self.queue.done(entries, false);
        }
    }

    /// A worker writes what waits. It is not woken for its own records: it has to look
    /// into its inbox. Whether it wrote; else the writer's thread has to be told.
    pub fn write_for(&self, worker: &Arc<Inbox>, relief: &Weak<dyn Relief>) -> bool {
        let Some(mut entries) = self.queue.take_for(relief) else {
            return false;
        };
        let turn = AssertUnwindSafe(|| match self.writer().as_mut() {
            Some(writer) => writer.take_turn_of(worker, &mut entries),
            None => false,
        });
        // A bug, which the panic hook tells, must not end the worker, and its calls with it.
        if let Ok(calls) = panic::catch_unwind(turn) {
            self.queue.done(entries, calls);
        } else {
            drop(self.writer().take());
            self.queue.lose();
        }
        true
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
